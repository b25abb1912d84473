//! Readiness for sockets, and threads for what would hold up the executor's: files.
//!
//! Owns: an epoll instance, and a few threads that take work from each other. Keeps true: an operation of a socket is tried when it is
//! begun, and again when its descriptor is ready, in the order in which they were begun; a file's is done by one of the
//! threads. The executor's thread waits for nothing but epoll.

mod readiness;
mod threads;

use crate::driver::{ALONE, Begun, Driver, Flight, Operation, Source, Wait};
use crate::executor::ExecutorError;
use crate::flights::{Flights, Landed};
use crate::io::Io;
use crate::system::{self, Kernel};
use crate::task::Tasks;
use crate::time::Instant;
use readiness::Readiness;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use threads::{Job, Threads};

/// See the module.
#[derive(Debug)]
pub struct Pool {
    flights: RefCell<Flights<Pool>>,
    readiness: RefCell<Readiness>,
    threads: Threads,
    /// Operations that were tried at once since the last turn; see [`ALONE`].
    alone: Cell<u32>,
}

/// An [`Io`] by readiness, with threads for what blocks.
pub type PoolIo = Io<Pool>;

impl PoolIo {
    /// On the calling thread, with a few others for files. They start with the first of these operations.
    ///
    /// # Errors
    /// Too many executors in this process, or no descriptor for the bell or for epoll.
    pub fn new() -> Result<Self, ExecutorError> {
        let readiness = Readiness::new().map_err(ExecutorError::Bell)?;
        let driver = Pool {
            flights: RefCell::new(Flights::new()),
            readiness: RefCell::new(readiness),
            threads: Threads::new(),
            alone: Cell::new(0),
        };
        let io = Self::over(driver, Instant::monotonic().as_nanos())?;
        let remote = io.tasks().remote();
        let bell = remote.bell().descriptor().map_err(ExecutorError::Bell)?;
        io.driver().readiness.borrow_mut().watch_bell(bell).map_err(ExecutorError::Bell)?;
        io.driver().threads.answer_to(remote);
        Ok(io)
    }
}

impl Pool {
    /// Tries again what waits for a descriptor that is ready.
    fn try_ready(&self, ready: u64) {
        for input in [true, false] {
            loop {
                let next = self.readiness.borrow().first(ready, input);
                let Some(number) = next else { break };
                let mut result = Err(Errno::AGAIN);
                if let Some(flight) = self.flights.borrow_mut().flight(number) {
                    result = system::attempt(flight, true);
                }
                match result {
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break,
                    result => {
                        self.readiness.borrow_mut().remove(number);
                        self.land(number, |flight| flight.result = result);
                    }
                }
            }
        }
        let _ = self.readiness.borrow_mut().watch(ready);
    }

    fn land(&self, number: u32, settle: impl FnOnce(&mut Flight<Self>)) {
        let landed = self.flights.borrow_mut().land(number, settle);
        self.done(landed);
    }

    fn done(&self, landed: Landed<Self>) {
        if let Some(source) = landed.done() {
            self.call_back(&source);
        }
    }
}

impl Driver for Pool {
    type Descriptor = Arc<OwnedFd>;
    type Calls = Kernel;
    const SUSPENDS: bool = true;

    fn calls(&self) -> &Kernel {
        &Kernel
    }

    fn sleep(&self, _: &Tasks, _: Instant) {}

    fn begin(&self, _: &Tasks, mut flight: Box<Flight<Self>>) -> Begun<Self> {
        if flight.operation.is_of_file() {
            let (operation, file) = (flight.operation, flight.source.descriptor().clone());
            let other = flight.other.as_ref().map(|other| other.descriptor().clone());
            let (buffer, buffers) = (std::mem::take(&mut flight.buffer), std::mem::take(&mut flight.buffers));
            let number = self.flights.borrow_mut().put(flight);
            self.threads.submit(Job { number, operation, file, other, buffer, buffers });
            return Begun::Flies(number);
        }
        let input = flight.operation.waits_for_input();
        self.alone.set(self.alone.get() + 1);
        // Those before it are first, and so is the rest of the world now and then.
        let waits = self.alone.get() > ALONE
            || self.readiness.borrow().is_waited_for(flight.source.descriptor(), input);
        let result = if waits && flight.operation != Operation::Connect {
            Err(Errno::AGAIN)
        } else {
            system::attempt(&mut flight, false)
        };
        match result {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => {
                flight.result = result;
                return Begun::Landed(flight);
            }
        }
        let descriptor = flight.source.descriptor().clone();
        let number = self.flights.borrow_mut().put(flight);
        let added = self.readiness.borrow_mut().add(number, &descriptor, input);
        match added {
            Ok(()) => Begun::Flies(number),
            Err(error) => {
                let mut flight = self.flights.borrow_mut().take_back(number);
                flight.result = Err(error);
                Begun::Landed(flight)
            }
        }
    }

    fn poll_landed(&self, number: u32, waker: &Waker) -> Poll<Box<Flight<Self>>> {
        let (landed, spare) = self.flights.borrow_mut().poll(number, waker);
        drop(spare);
        landed
    }

    fn cancel(&self, number: u32) {
        // A file's is done soon, and lands then.
        if self.readiness.borrow_mut().remove(number) {
            self.land(number, |flight| flight.result = Err(Errno::CANCELED));
        }
    }

    fn forget(&self, number: u32) {
        let forgotten = self.flights.borrow_mut().forget(number);
        match forgotten {
            Ok(landed) => self.done(landed),
            Err(waker) => {
                drop(waker);
                self.cancel(number);
            }
        }
    }

    fn call_back(&self, source: &Rc<Source<Self>>) {
        let taker = self.flights.borrow().taker(source);
        if let Some(taker) = taker {
            self.cancel(taker);
        }
    }

    fn turn(&self, tasks: &Tasks, wait: Wait) {
        self.alone.set(0);
        let remote = tasks.remote();
        let until = match wait {
            Wait::No => None,
            Wait::Until(until) => {
                remote.bell().listen();
                (!remote.has_words() && !self.threads.has_done()).then_some(until)
            }
        };
        let (ready, rung) = self.readiness.borrow_mut().wait(until);
        if wait != Wait::No {
            remote.bell().ignore(rung);
        }
        ready.into_iter().for_each(|ready| self.try_ready(ready));
        while let Some(done) = self.threads.take_done() {
            self.land(done.number, |flight| {
                (flight.buffer, flight.buffers) = (done.buffer, done.buffers);
                flight.result = done.result;
            });
        }
    }
}
