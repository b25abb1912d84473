//! A simulation: a clock that jumps to where something happens, a network with faults, files that a crash takes back.
//!
//! Owns: all of the world. Keeps true: the same program with the same seed does the same, to the last poll; nothing comes from
//! outside. A program that waits for what can never happen is found: the simulation panics and says how many tasks wait.
//!
//! Operations land after a delay of their own, drawn from the seed, so that tasks meet in other orders with each seed. Each pass
//! takes a microsecond, so that time goes on for a task that never waits.

mod disk;
mod net;
mod world;

use crate::calls::{Advice, Calls, Details, Half, Metadata, OpenOptions, SocketKind, SocketOption};
use crate::driver::{Begun, Driver, Flight, Operation, Source, Wait};
use crate::executor::ExecutorError;
use crate::io::Io;
use crate::task::Tasks;
use crate::time::Instant;
use rustix::fs::inotify::WatchFlags;
use rustix::io::Errno;
use rustix::process::Signal;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;
use world::World;

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
}

/// See the module.
#[derive(Debug)]
pub struct Sim {
    world: Rc<World>,
}

/// An [`Io`] in a simulation.
pub type SimIo = Io<Sim>;

impl SimIo {
    /// A world of its own, in which chance is what the seed says.
    ///
    /// # Errors
    /// Too many executors in this process.
    pub fn new(seed: u64) -> Result<Self, ExecutorError> {
        Self::over(Sim { world: World::new(seed) }, seed)
    }

    /// From now on the network has these faults.
    pub fn set_faults(&self, faults: Faults) {
        self.driver().world.state().set_faults(faults);
    }

    /// As after a power failure: what was written to files and not synced is gone.
    pub fn lose_power(&self) {
        self.driver().world.state().disk.lose_power();
    }

    /// Lets everything happen that is still to happen, once nothing runs.
    ///
    /// # Panics
    /// When called by a task.
    pub fn settle(&self) {
        self.tasks().drop_all();
        while self.driver().world.go_on() {}
    }

    /// Sockets and files that are open: for a test that nothing leaks.
    #[must_use]
    pub fn open_descriptors(&self) -> usize {
        self.driver().world.state().open()
    }
}

/// Something open in a simulation. Dropping it closes it.
pub struct SimDescriptor {
    world: Rc<World>,
    number: u32,
}

impl Drop for SimDescriptor {
    fn drop(&mut self) {
        self.world.state().close(self.number);
    }
}

impl fmt::Debug for SimDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimDescriptor").field(&self.number).finish()
    }
}

impl Sim {
    fn descriptor(&self, number: u32) -> SimDescriptor {
        SimDescriptor { world: self.world.clone(), number }
    }
}

impl Calls<SimDescriptor> for Sim {
    fn clock(&self) -> Instant {
        self.world.state().now()
    }

    fn socket(&self, kind: SocketKind, ipv6: bool) -> Result<SimDescriptor, Errno> {
        let number = self.world.state().net().make(kind, ipv6)?;
        Ok(self.descriptor(number))
    }

    fn bind_unix(&self, _: &SimDescriptor, _: &Path) -> Result<(), Errno> {
        Err(Errno::OPNOTSUPP)
    }

    fn connect_unix(&self, _: &SimDescriptor, _: &Path) -> Result<(), Errno> {
        Err(Errno::OPNOTSUPP)
    }

    fn pair(&self, kind: SocketKind) -> Result<(SimDescriptor, SimDescriptor), Errno> {
        if kind != SocketKind::UnixStream {
            return Err(Errno::OPNOTSUPP);
        }
        let (one, two) = self.world.state().net().pair();
        Ok((self.descriptor(one), self.descriptor(two)))
    }

    fn pipe(&self) -> Result<(SimDescriptor, SimDescriptor), Errno> {
        self.pair(SocketKind::UnixStream)
    }

    fn bind(&self, socket: &SimDescriptor, address: SocketAddr) -> Result<(), Errno> {
        self.world.state().net().bind(socket.number, address)
    }

    fn listen(&self, socket: &SimDescriptor, backlog: u32) -> Result<(), Errno> {
        self.world.state().net().listen(socket.number, backlog as usize)
    }

    fn local_address(&self, socket: &SimDescriptor) -> Result<SocketAddr, Errno> {
        self.world.state().net().local_address(socket.number)
    }

    fn set_option(&self, socket: &SimDescriptor, option: SocketOption) -> Result<(), Errno> {
        self.world.state().net().set_option(socket.number, option)
    }

    fn shutdown(&self, socket: &SimDescriptor, half: Half) -> Result<(), Errno> {
        self.world.state().shut_down(socket.number, half)
    }

    fn open(&self, path: &Path, options: OpenOptions) -> Result<SimDescriptor, Errno> {
        let number = self.world.state().disk.open(path, options)?;
        Ok(self.descriptor(number))
    }

    fn len(&self, file: &SimDescriptor) -> Result<u64, Errno> {
        self.world.state().disk.len(file.number)
    }

    fn truncate(&self, file: &SimDescriptor, length: u64) -> Result<(), Errno> {
        self.world.state().disk.truncate(file.number, length)
    }

    fn advise(&self, file: &SimDescriptor, _: u64, _: u64, _: Advice) -> Result<(), Errno> {
        self.len(file).map(|_| ())
    }

    fn metadata(&self, path: &Path) -> Result<Metadata, Errno> {
        self.world.state().disk.metadata(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Errno> {
        self.world.state().disk.rename(from, to)
    }

    fn remove(&self, path: &Path, directory: bool) -> Result<(), Errno> {
        self.world.state().disk.remove(path, directory)
    }

    fn make_directory(&self, path: &Path) -> Result<(), Errno> {
        self.world.state().disk.make_directory(path)
    }

    fn names(&self, directory: &Path) -> Result<Vec<OsString>, Errno> {
        self.world.state().disk.names(directory)
    }

    fn watches(&self) -> Result<SimDescriptor, Errno> {
        Err(Errno::OPNOTSUPP)
    }

    fn watch(&self, _: &SimDescriptor, _: &Path, _: WatchFlags) -> Result<i32, Errno> {
        Err(Errno::OPNOTSUPP)
    }

    fn unwatch(&self, _: &SimDescriptor, _: i32) -> Result<(), Errno> {
        Err(Errno::OPNOTSUPP)
    }

    fn signals(&self, _: &[Signal]) -> Result<SimDescriptor, Errno> {
        Err(Errno::OPNOTSUPP)
    }

    fn child(&self, _: u32) -> Result<SimDescriptor, Errno> {
        Err(Errno::OPNOTSUPP)
    }

    fn signal(&self, _: &SimDescriptor, _: Signal) -> Result<(), Errno> {
        Err(Errno::OPNOTSUPP)
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
            // What has no positions is a stream here.
            operation: match flight.operation {
                Operation::ReadNext | Operation::ReceivePassed => Operation::Receive,
                Operation::WriteNext(from) => Operation::Send(from),
                operation => operation,
            },
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
        };
        if !flight.passed.is_empty() {
            flight.result = Err(Errno::OPNOTSUPP);
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
}

/// What the world says to a request.
enum Reply {
    Done(usize),
    Failed(Errno),
    Bytes(Vec<u8>),
    Datagram(SocketAddr, Details, Vec<u8>),
    Accepted(u32, SocketAddr),
}
