//! Child processes, by pidfd (pidfd_open(2)): waited for like anything else, and signalled without a race with whoever gets the number
//! next. In a simulation they run its programs ([`SimIo::program`](crate::SimIo::program)).

use crate::calls::{Calls, Streams};
use crate::driver::{Driver, Flight, Operation, Source};
use crate::error::Error;
use crate::io::{Io, operate};
use crate::pipe::{PipeReader, PipeWriter};
use rustix::io::Errno;
use rustix::process::Signal;
use std::panic::Location;
use std::process::{Command, ExitStatus};
use std::rc::Rc;

/// A child. Dropped, it is killed and waited for, which SIGKILL makes soon; so none is left behind, but what may not be killed, as it has become
/// another user's. It begins with the signals blocked that its parent's thread has blocked (see [`Signals`](crate::Signals)): such
/// a signal does nothing to it until it unblocks it, SIGKILL excepted. (Simulated: those are blocked that it listens to; it cannot be
/// stopped, and to try is EOPNOTSUPP.) Where SIGCHLD is ignored nobody's end can be waited for.
#[derive(Debug)]
pub struct Child<D: Driver> {
    io: Io<D>,
    process: u32,
    source: Rc<Source<D>>,
    ended: Option<ExitStatus>,
    /// Where its input is written to, if that is a pipe. Dropped, its input ends.
    pub input: Option<PipeWriter<D>>,
    /// Where its output is read from, if that is a pipe.
    pub output: Option<PipeReader<D>>,
    /// Where its errors are read from, if that is a pipe.
    pub errors: Option<PipeReader<D>>,
}

impl<D: Driver> Child<D> {
    /// Starts a program. (The calling thread waits until the kernel has it. A simulation looks at the command's program and arguments.)
    ///
    /// # Errors
    /// As fork(2), execve(2) and pidfd_open(2).
    pub fn spawn(io: &Io<D>, command: &mut Command) -> Result<Self, Error> {
        Self::spawn_with(io, command, Streams::default())
    }

    /// As [`Child::spawn`], with these of its streams as pipes.
    ///
    /// # Errors
    /// As [`Child::spawn`], and as pipe(2).
    pub fn spawn_with(io: &Io<D>, command: &mut Command, streams: Streams) -> Result<Self, Error> {
        let started = io.driver().calls().start(command, streams);
        let started =
            started.map_err(|error| Error::system("start", command.get_program().display(), error))?;
        Ok(Self {
            io: io.clone(),
            process: started.process,
            source: Source::new(started.descriptor),
            ended: None,
            input: started.input.map(|end| PipeWriter::around(io, end)),
            output: started.output.map(|end| PipeReader::around(io, end)),
            errors: started.errors.map(|end| PipeReader::around(io, end)),
        })
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process
    }

    /// How it ended, when it has. Once it has been told, it is told again.
    ///
    /// # Errors
    /// It was cancelled; or as waitid(2).
    #[track_caller]
    pub fn wait(&mut self) -> impl Future<Output = Result<ExitStatus, Error>> {
        let line = Location::caller();
        async move {
            loop {
                if self.ended.is_none() {
                    let ended = self.io.driver().calls().ended(self.source.descriptor());
                    self.ended = ended.map_err(|error| self.error("wait for", error))?;
                }
                if let Some(status) = self.ended {
                    return Ok(status);
                }
                let flight =
                    operate(&self.io, line, Flight::new(Operation::Readable, &self.source, Vec::new())).await;
                flight.result.map_err(|error| self.error("wait for", error))?;
            }
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// As pidfd_send_signal(2). ESRCH: its end was waited for.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let sent = self.io.driver().calls().signal(self.source.descriptor(), signal);
        sent.map_err(|error| self.error("signal", error))
    }

    fn error(&self, operation: &'static str, error: Errno) -> Error {
        Error::system(operation, format_args!("the child {}", self.process), error)
    }
}

impl<D: Driver> Drop for Child<D> {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.io.driver().calls().end(self.source.descriptor());
        }
    }
}
