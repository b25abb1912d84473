//! Why an operation did not do what it was to do.

use rustix::io::Errno;
use std::fmt;

/// See the module. It names the operation, and what it was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    operation: &'static str,
    about: String,
    kind: ErrorKind,
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The task was cancelled. Nothing was done, or what was done could be given back.
    Cancelled,
    /// What the kernel says.
    System(Errno),
    /// The other end closed before all was there.
    Ended,
}

impl Error {
    pub(crate) fn new(operation: &'static str, about: impl fmt::Display, kind: ErrorKind) -> Self {
        Self { operation, about: about.to_string(), kind }
    }

    pub(crate) fn system(operation: &'static str, about: impl fmt::Display, error: Errno) -> Self {
        let kind = if error == Errno::CANCELED { ErrorKind::Cancelled } else { ErrorKind::System(error) };
        Self::new(operation, about, kind)
    }

    /// What was to be done.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Why it was not.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the task was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.kind == ErrorKind::Cancelled
    }

    /// Whether something has run out that may be there again soon: descriptors (EMFILE, ENFILE) or memory for buffers (ENOBUFS,
    /// ENOMEM). Nothing was done, and nothing is lost: who waits a while may try again. (A connection that could not be
    /// accepted waits on.)
    #[must_use]
    pub fn is_exhaustion(&self) -> bool {
        const RUN_OUT: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
        matches!(self.kind, ErrorKind::System(error) if RUN_OUT.contains(&error))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.operation, self.about)?;
        match self.kind {
            ErrorKind::Cancelled => f.write_str("cancelled"),
            ErrorKind::System(error) => error.fmt(f),
            ErrorKind::Ended => f.write_str("the other end closed before all was there"),
        }
    }
}

impl std::error::Error for Error {}
