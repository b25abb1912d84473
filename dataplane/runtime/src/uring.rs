//! io_uring: operations are handed to the kernel, and land when it says so.
//!
//! Owns: the ring, and all that is under way in it. Keeps true: what the kernel may read or write (buffer, address, message
//! header) is in a slot ([`Slots`]) that does not move and is not freed before its completion has come, whoever no longer waits, and
//! also when the ring goes: its drop cancels what is under way and waits for it.
//!
//! What is unsafe in this module: pushing an entry whose pointers the kernel follows later, and taking a descriptor that a
//! completion brought. Both lean on the invariant above. So are the calls with messages ([`message`]), which all drivers over the
//! kernel make, because they are made of the same parts.

mod address;
mod control;
mod lacking;
pub(crate) mod message;
mod slot;

pub(crate) use control::PASSED;

use crate::driver::{ALONE, Begun, Driver, Flight, Operation, Source, Wait};
use crate::executor::ExecutorError;
use crate::flights::Landed;
use crate::io::Io;
use crate::remote::{Remote, span};
use crate::system::{self, Kernel};
use crate::task::Tasks;
use crate::time::Instant;
use io_uring::register::Probe;
use io_uring::squeue::Entry;
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};
use lacking::Lacking;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use slot::Slots;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Entries of the submission ring: more than one pass of tasks begins, so that it is full at most once a pass.
const ENTRIES: u32 = 256;
/// Completions of these are nobody's flight.
const BELL: u64 = u64::MAX;
const CANCEL: u64 = u64::MAX - 1;

/// Why there is no ring.
#[derive(Debug, thiserror::Error)]
pub enum UringError {
    /// The kernel gives none: too old, forbidden (kernel.io_uring_disabled), or out of memory.
    #[error("no io_uring can be had (is kernel.io_uring_disabled 0, and the kernel 6.1 or later?): {0}")]
    Ring(io::Error),
    /// The executor around it.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
}

/// See the module.
pub struct Uring {
    ring: RefCell<IoUring>,
    slots: RefCell<Slots>,
    /// Whether the bell's descriptor is watched.
    watched: Cell<bool>,
    /// Calls since the last turn; see [`ALONE`].
    alone: Cell<u32>,
}

/// An [`Io`] by io_uring.
pub type UringIo = Io<Uring>;

impl UringIo {
    /// On the calling thread, which is the only one that may use it.
    ///
    /// # Errors
    /// No ring, too many executors, no descriptor for the bell.
    pub fn new() -> Result<Self, UringError> {
        Self::without(&[])
    }

    /// As [`UringIo::new`], and these of [`Uring::OPERATIONS`] are done as if the kernel lacked them: to test that, or to go around
    /// what is wrong with one.
    ///
    /// # Errors
    /// As [`UringIo::new`].
    pub fn without(operations: &[&str]) -> Result<Self, UringError> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all().setup_cqsize(ENTRIES * 4);
        let ring = builder.build(ENTRIES).map_err(UringError::Ring)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe).map_err(UringError::Ring)?;
        let slots = Slots::new(Lacking::new(&probe, operations));
        let driver = Uring {
            ring: RefCell::new(ring),
            slots: RefCell::new(slots),
            watched: Cell::new(false),
            alone: Cell::new(0),
        };
        let io = Self::over(driver, Instant::monotonic().as_nanos())?;
        io.tasks().remote().bell().descriptor().map_err(ExecutorError::Bell)?;
        Ok(io)
    }
}

impl Uring {
    /// The ring's operations that are used where the kernel has them, by their names (IORING_OP_RECV is `recv`). Beside them it has
    /// to have POLL_ADD and ASYNC_CANCEL.
    pub const OPERATIONS: [&'static str; 12] = lacking::NAMES;

    /// Those of them that it does without: their descriptors are polled in the ring, and then the system call is made; what is
    /// about a file holds the calling thread up.
    #[must_use]
    pub fn fallen_back(&self) -> Vec<&'static str> {
        self.slots.borrow().lacking.names().collect()
    }

    /// Puts an entry into the submission ring, which is emptied first when it is full.
    fn push(&self, entry: &Entry) -> Result<(), Errno> {
        let mut ring = self.ring.borrow_mut();
        loop {
            // SAFETY: what the entry points to stays until its completion: see the module.
            if unsafe { ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            match ring.submit() {
                Ok(_) => {}
                // Completions must be taken first.
                Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                    drop(ring);
                    self.reap();
                    ring = self.ring.borrow_mut();
                }
                Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            }
        }
    }

    /// Takes all completions that are there; those who wait are woken. True: the bell's descriptor was readable.
    fn reap(&self) -> bool {
        let mut readable = false;
        loop {
            // One at a time: waking, and dropping what an orphan brought, may run anybody's code.
            let Some(completion) = self.ring.borrow_mut().completion().next() else { return readable };
            match completion.user_data() {
                CANCEL => {}
                BELL => {
                    self.watched.set(false);
                    readable = true;
                }
                number => {
                    let landed = self.slots.borrow_mut().land(number as u32, completion.result());
                    match landed {
                        Ok(landed) => self.done(landed),
                        Err(entry) => self.push_again(number as u32, &entry),
                    }
                }
            }
        }
    }

    /// Pushes what has to wait once more; lands it if it cannot.
    fn push_again(&self, number: u32, entry: &Entry) {
        if let Err(error) = self.push(entry) {
            let landed = self.slots.borrow_mut().flights.land(number, |flight| flight.result = Err(error));
            self.done(landed);
        }
    }

    fn done(&self, landed: Landed<Self>) {
        if let Some(source) = landed.done() {
            self.call_back(&source);
        }
    }

    /// Watches the bell's descriptor, if nothing does.
    fn watch(&self, remote: &Remote) {
        if self.watched.get() {
            return;
        }
        if let Ok(descriptor) = remote.bell().descriptor() {
            let poll =
                opcode::PollAdd::new(Fd(descriptor.as_raw_fd()), libc::POLLIN as u32).build().user_data(BELL);
            self.watched.set(self.push(&poll).is_ok());
        }
    }

    /// Whether the kernel has nothing of ours to do, but for watching the bell.
    fn is_idle(&self) -> bool {
        self.ring.borrow_mut().submission().is_empty() && self.slots.borrow().flights.flying() == 0
    }

    /// Whether a socket's operation is the only thing to do: then the ring would be entered for it alone, and a call costs less.
    fn is_alone(&self, tasks: &Tasks, operation: Operation) -> bool {
        let receives =
            matches!(operation, Operation::Receive | Operation::ReceiveFrom | Operation::ReceiveMessage);
        (receives || matches!(operation, Operation::Send(_)))
            && self.alone.get() < ALONE
            && !tasks.has_ready()
            && self.ring.borrow_mut().submission().is_empty()
    }

    /// Hands over what was pushed, lets the kernel finish what it has put off, and waits until `until` for a completion.
    fn enter(&self, until: Option<Instant>) {
        let mut ring = self.ring.borrow_mut();
        let pushed = ring.submission().len() as u32;
        let entered = match until.map(|until| span(until, Instant::monotonic())) {
            None => {
                // SAFETY: GETEVENTS takes no argument. (With DEFER_TASKRUN, completions come about in here.)
                unsafe { ring.submitter().enter::<libc::sigset_t>(pushed, 0, GETEVENTS, None) }.map(|_| ())
            }
            Some(None) => ring.submitter().submit_and_wait(1).map(|_| ()),
            Some(Some(wait)) => {
                let wait = Timespec::new().sec(wait.tv_sec as u64).nsec(wait.tv_nsec as u32);
                ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&wait)).map(|_| ())
            }
        };
        // Interrupted, over, or no room for more completions: in each case its caller reaps and comes again.
        drop(entered);
    }
}

/// IORING_ENTER_GETEVENTS.
const GETEVENTS: u32 = 1;

impl Driver for Uring {
    type Descriptor = OwnedFd;
    type Calls = Kernel;
    const SUSPENDS: bool = true;

    fn calls(&self) -> &Kernel {
        &Kernel
    }

    fn sleep(&self, _: &Tasks, _: Instant) {}

    fn begin(&self, tasks: &Tasks, mut flight: Box<Flight<Self>>) -> Begun<Self> {
        let alone = self.is_alone(tasks, flight.operation);
        self.alone.set(self.alone.get() + u32::from(alone));
        // Without the ring, to connect begins with a call, and a file's is one.
        let first = flight.operation == Operation::Connect || flight.operation.is_of_file();
        if alone || first && self.slots.borrow().lacking.polls(&flight) {
            let result = loop {
                match system::attempt(&mut flight, false) {
                    Err(Errno::INTR) => {}
                    result => break result,
                }
            };
            // It would wait: the ring can.
            if result != Err(Errno::AGAIN) {
                flight.result = result;
                return Begun::Landed(flight);
            }
        }
        let (number, entry) = self.slots.borrow_mut().put(flight);
        match entry.and_then(|entry| self.push(&entry)) {
            Ok(()) => Begun::Flies(number),
            Err(error) => {
                let mut flight = self.slots.borrow_mut().flights.take_back(number);
                flight.result = Err(error);
                Begun::Landed(flight)
            }
        }
    }

    fn poll_landed(&self, number: u32, waker: &Waker) -> Poll<Box<Flight<Self>>> {
        let (landed, spare) = self.slots.borrow_mut().flights.poll(number, waker);
        drop(spare);
        landed
    }

    fn cancel(&self, number: u32) {
        self.slots.borrow_mut().cancel(number);
        // Without room for the cancellation the operation goes on until it is done.
        let _ = self.push(&opcode::AsyncCancel::new(u64::from(number)).build().user_data(CANCEL));
    }

    fn forget(&self, number: u32) {
        let forgotten = self.slots.borrow_mut().flights.forget(number);
        match forgotten {
            Ok(landed) => self.done(landed),
            Err(waker) => {
                drop(waker);
                self.cancel(number);
            }
        }
    }

    fn call_back(&self, source: &Rc<Source<Self>>) {
        let taker = self.slots.borrow().flights.taker(source);
        if let Some(taker) = taker {
            self.cancel(taker);
        }
    }

    fn turn(&self, tasks: &Tasks, wait: Wait) {
        self.alone.set(0);
        let remote = tasks.remote();
        match wait {
            // Nothing is under way, so nothing can land; a word from another thread is seen without the kernel.
            Wait::No if self.is_idle() => return,
            Wait::No => self.enter(None),
            Wait::Until(until) => {
                remote.bell().listen();
                self.watch(remote);
                self.enter((!remote.has_words()).then_some(until));
            }
        }
        let readable = self.reap();
        if wait != Wait::No {
            remote.bell().ignore(readable);
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // Whatever is still under way looks at memory that is ours.
        while self.slots.borrow().flights.flying() > 0 {
            let _ = self.ring.borrow().submitter().register_sync_cancel(None, CancelBuilder::any());
            self.enter(Some(Instant::monotonic() + std::time::Duration::from_millis(10)));
            self.reap();
        }
    }
}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uring").field("slots", &self.slots.borrow()).finish_non_exhaustive()
    }
}
