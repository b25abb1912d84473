//! Plain system calls on the calling thread: each operation is done when it is asked for.
//!
//! Keeps true: an operation's await never suspends, so what is spawned runs at once and to its end, unless it waits for other
//! tasks; or at its turn, more than 32 levels down. An operation waits no longer than the [`timeout`](crate::timeout()) around it. A task is cancelled by others only
//! between its operations.

use crate::driver::{Begun, Driver, Flight, Source, Wait};
use crate::executor::ExecutorError;
use crate::io::Io;
use crate::remote::span;
use crate::system::{self, Kernel};
use crate::task::Tasks;
use crate::time::Instant;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// See the module.
#[derive(Debug)]
pub struct Blocking(());

/// An [`Io`] by plain system calls.
pub type BlockingIo = Io<Blocking>;

impl BlockingIo {
    /// On the calling thread.
    ///
    /// # Errors
    /// Too many executors in this process, or no descriptor for this one's bell.
    pub fn new() -> Result<Self, ExecutorError> {
        let io = Self::over(Blocking(()), Instant::monotonic().as_nanos())?;
        io.tasks().remote().bell().descriptor().map_err(ExecutorError::Bell)?;
        Ok(io)
    }
}

/// Waits until a descriptor is ready, or the deadline is over: false.
fn ready(descriptor: BorrowedFd<'_>, flags: PollFlags, deadline: Instant) -> bool {
    loop {
        let now = Instant::monotonic();
        if now >= deadline {
            return false;
        }
        // An error is the operation's to see.
        match poll(&mut [PollFd::new(&descriptor, flags)], span(deadline, now).as_ref()) {
            Ok(0) | Err(Errno::INTR) => {}
            _ => return true,
        }
    }
}

impl Driver for Blocking {
    type Descriptor = OwnedFd;
    type Calls = Kernel;
    const SUSPENDS: bool = false;

    fn calls(&self) -> &Kernel {
        &Kernel
    }

    fn sleep(&self, tasks: &Tasks, until: Instant) {
        let end = until.min(tasks.deadline().get());
        loop {
            let now = Instant::monotonic();
            tasks.set_now(now);
            if now >= end {
                return;
            }
            // Interrupted: once more.
            let _ = poll(&mut [], span(end, now).as_ref());
        }
    }

    fn begin(&self, tasks: &Tasks, mut flight: Box<Flight<Self>>) -> Begun<Self> {
        let deadline = tasks.deadline().get();
        let flags = if flight.operation.waits_for_input() { PollFlags::IN } else { PollFlags::OUT };
        let mut again = false;
        let begun = loop {
            match system::attempt(&mut flight, again) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !ready(flight.source.descriptor().as_fd(), flags, deadline) {
                        break Begun::Late(flight);
                    }
                    again = true;
                }
                result => {
                    flight.result = result;
                    break Begun::Landed(flight);
                }
            }
        };
        tasks.set_now(Instant::monotonic());
        begun
    }

    fn poll_landed(&self, number: u32, _: &Waker) -> Poll<Box<Flight<Self>>> {
        unreachable!("no operation is ever under way, nor is {number}")
    }

    fn cancel(&self, _: u32) {}

    fn forget(&self, _: u32) {}

    fn call_back(&self, _: &Rc<Source<Self>>) {}

    fn turn(&self, tasks: &Tasks, wait: Wait) {
        if let Wait::Until(until) = wait {
            tasks.remote().sleep(until);
        }
    }
}
