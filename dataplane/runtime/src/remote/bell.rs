//! Wakes an executor that sleeps in the kernel.
//!
//! Keeps true: who rings after [`Bell::listen`] either makes [`Bell::descriptor`] readable or is seen by what the listener
//! looks at afterwards; an executor that is awake costs who rings no system call.

use super::state::State;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, read, write};
use std::sync::OnceLock;

/// See the module.
#[derive(Debug)]
pub struct Bell {
    state: State,
    descriptor: OnceLock<OwnedFd>,
}

impl Bell {
    pub(super) fn new() -> Self {
        Self { state: State::new(), descriptor: OnceLock::new() }
    }

    /// Becomes readable when it is rung; made at the first call.
    ///
    /// # Errors
    /// No descriptor can be had.
    pub fn descriptor(&self) -> Result<BorrowedFd<'_>, Errno> {
        if self.descriptor.get().is_none() {
            let made = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
            // Somebody may have been quicker; then this one goes.
            let _ = self.descriptor.set(made);
        }
        self.descriptor.get().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    /// From now on it is heard. Who calls it looks for work once more before it sleeps, and calls [`Bell::ignore`] when it
    /// is awake again.
    pub fn listen(&self) {
        self.state.listen();
    }

    /// From now on it is not heard, and what it said meanwhile is forgotten. `readable`: its descriptor was. (Who rang may
    /// write only later; then the next sleep is a short one, and finds it readable.)
    pub fn ignore(&self, readable: bool) {
        let rung = self.state.ignore();
        if (rung || readable)
            && let Some(descriptor) = self.descriptor.get()
        {
            let _ = read(descriptor, &mut [0; 8]);
        }
    }

    /// Wakes who listens.
    pub fn ring(&self) {
        if self.state.ring()
            && let Some(descriptor) = self.descriptor.get()
        {
            // Full is as good: it is readable.
            let _ = write(descriptor, &1_u64.to_ne_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    fn is_readable(bell: &Bell) -> bool {
        let descriptor = bell.descriptor().unwrap();
        let mut poll_fds = [PollFd::new(&descriptor, PollFlags::IN)];
        let none = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut poll_fds, Some(&none)).unwrap() == 1
    }

    #[test]
    fn it_is_heard_while_somebody_listens() {
        let bell = Bell::new();
        assert!(!is_readable(&bell));
        bell.ring();
        assert!(!is_readable(&bell), "nobody listens");
        bell.listen();
        assert!(!is_readable(&bell));
        bell.ring();
        bell.ring();
        assert!(is_readable(&bell));
        bell.ignore(true);
        assert!(!is_readable(&bell));
        bell.ring();
        assert!(!is_readable(&bell));
    }
}
