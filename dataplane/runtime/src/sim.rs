//! A simulation: a clock that jumps to where something happens, a network with faults, files that a crash takes back.
//!
//! Owns: all of the world. Keeps true: the same program with the same seed does the same, to the last poll; nothing comes from
//! outside. A program that waits for what can never happen is found: the simulation panics and says how many tasks wait.
//!
//! Operations land after a delay of their own, drawn from the seed, so that tasks meet in other orders with each seed. Each pass
//! takes a microsecond, so that time goes on for a task that never waits.

mod calls;
mod disk;
mod net;
mod notices;
mod processes;
mod programs;
mod state;
mod watches;
mod world;

use crate::calls::Details;
use crate::driver::{Begun, Driver, Flight, Operation, Source, Wait};
use crate::executor::ExecutorError;
use crate::io::Io;
use crate::task::Tasks;
use crate::time::Instant;
pub use programs::SimProcess;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::fmt;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;
use world::World;

/// The number of a descriptor says by its remainder what it is of: a socket (0), a file, or something else.
const KINDS: u32 = 3;
const FILE: u32 = 1;
const OTHER: u32 = 2;

/// What goes wrong in a network.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Of a million datagrams, so many are lost.
    pub loss: u32,
    /// Of a million datagrams, so many come twice.
    pub duplication: u32,
    /// Datagrams and bytes take between nothing and so much longer; datagrams overtake each other then.
    pub jitter: Duration,
    /// Nothing goes through, until there is no partition any more: datagrams are lost, bytes wait.
    pub partition: bool,
    /// Of a million datagrams, so many are not sent, as there is no memory for them: ENOBUFS.
    pub exhaustion: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Sim {
    world: Rc<World>,
    /// Which process this is.
    process: u32,
}

/// An [`Io`] in a simulation.
pub type SimIo = Io<Sim>;

impl SimIo {
    /// A world of its own, in which chance is what the seed says.
    ///
    /// # Errors
    /// Too many executors in this process.
    pub fn new(seed: u64) -> Result<Self, ExecutorError> {
        let io = Self::over(Sim { world: World::new(seed), process: processes::FIRST }, seed)?;
        io.driver().world.runs_on(io.tasks());
        Ok(io)
    }

    /// From now on the network has these faults.
    pub fn set_faults(&self, faults: Faults) {
        self.driver().world.state().set_faults(faults);
    }

    /// As after a power failure: what was written to files and not synced is gone.
    pub fn lose_power(&self) {
        self.driver().world.state().disk.lose_power();
    }

    /// From now on so many things can be open at a time, of all processes together; what is one too many is EMFILE.
    pub fn limit_descriptors(&self, most: usize) {
        self.driver().world.limit_descriptors(most);
    }

    /// The clock goes forward by so much at once, as a machine's does that was asleep.
    pub fn step_clock(&self, by: Duration) {
        self.driver().world.state().step_clock(by);
    }

    /// Lets everything happen that is still to happen, once nothing runs.
    ///
    /// # Panics
    /// When called by a task.
    pub fn settle(&self) {
        self.tasks().drop_all();
        while self.driver().world.go_on() {}
    }

    /// What is open, sockets and files and all else, and connections that nobody has accepted: for a test that nothing leaks.
    #[must_use]
    pub fn open_descriptors(&self) -> usize {
        self.driver().world.state().open()
    }
}

/// Something open in a simulation. Dropping it closes it.
pub struct SimDescriptor {
    /// What is under way in a world has descriptors, and is gone with it.
    world: Weak<World>,
    number: u32,
}

impl Drop for SimDescriptor {
    fn drop(&mut self) {
        if let Some(world) = self.world.upgrade() {
            world.close(self.number);
        }
    }
}

impl fmt::Debug for SimDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimDescriptor").field(&self.number).finish()
    }
}

impl Sim {
    fn descriptor(&self, number: u32) -> SimDescriptor {
        self.world.opened();
        SimDescriptor { world: Rc::downgrade(&self.world), number }
    }
}

impl Driver for Sim {
    type Descriptor = SimDescriptor;
    type Calls = Self;
    const SUSPENDS: bool = true;
    const SIMULATED: bool = true;

    fn calls(&self) -> &Self {
        self
    }

    fn sleep(&self, _: &Tasks, _: Instant) {}

    fn begin(&self, _: &Tasks, mut flight: Box<Flight<Self>>) -> Begun<Self> {
        let socket = flight.source.descriptor().number;
        let request = Request {
            operation: flight.operation,
            bytes: match flight.operation {
                Operation::Send(from) | Operation::WriteNext(from) | Operation::Write { from, .. } => {
                    flight.buffer[from..].to_vec()
                }
                Operation::WriteVectored(_) => flight.buffers.concat(),
                _ => Vec::new(),
            },
            room: flight.buffer.capacity() + flight.buffers.iter().map(Vec::capacity).sum::<usize>(),
            address: flight.address,
            details: flight.details,
            passed: std::mem::take(&mut flight.passed),
        };
        // As the kernel: before it looks whether there is a connection.
        if request.operation == Operation::Accept
            && let Err(error) = self.world.has_room(1)
        {
            flight.result = Err(error);
            return Begun::Landed(flight);
        }
        let number = self.world.flights().put(flight);
        self.world.state().begin(number, socket, request);
        Begun::Flies(number)
    }

    fn poll_landed(&self, number: u32, waker: &Waker) -> Poll<Box<Flight<Self>>> {
        let (landed, spare) = self.world.flights().poll(number, waker);
        drop(spare);
        landed
    }

    fn cancel(&self, number: u32) {
        self.world.state().cancel(number);
    }

    fn forget(&self, number: u32) {
        let forgotten = self.world.flights().forget(number);
        match forgotten {
            Ok(landed) => self.world.done(landed),
            Err(waker) => {
                drop(waker);
                self.cancel(number);
            }
        }
    }

    fn call_back(&self, source: &Rc<Source<Self>>) {
        self.world.call_back(source);
    }

    fn turn(&self, tasks: &Tasks, wait: Wait) {
        self.world.advance(tasks, wait);
    }
}

/// What is asked of the world.
struct Request {
    operation: Operation,
    /// What is sent or written.
    bytes: Vec<u8>,
    /// How many bytes may come.
    room: usize,
    address: Option<SocketAddr>,
    details: Details,
    passed: Vec<OwnedFd>,
}

/// What the world says to a request.
enum Reply {
    Done(usize),
    Failed(Errno),
    Bytes(Vec<u8>),
    Datagram(SocketAddr, Details, Vec<u8>),
    /// Bytes, and the descriptors that were passed with them.
    Message(Vec<u8>, Vec<OwnedFd>),
    Accepted(u32, Option<SocketAddr>),
}
