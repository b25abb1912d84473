//! What an [`Io`](crate::Io) does its waiting by: the seam between what tasks ask for and who does it.
//!
//! A driver has two kinds of things to do. *Calls* never wait ([`Calls`]): a socket is made, an option set. *Operations* may: each is a
//! [`Flight`], which owns all that the kernel may look at until it has landed. Keeps true, of every driver: a flight lands once;
//! its buffer is the driver's until then, whoever no longer waits; and what a flight brought that nobody waits for any more
//! goes to its source's stash, where the next one who asks finds it.

use crate::calls::{Calls, Details};
use crate::sync::Waiters;
use crate::task::Tasks;
use crate::time::Instant;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Operations that are done by a call of their own between two turns, at most: then timers and completions have theirs.
pub(crate) const ALONE: u32 = 32;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A connection that came in: its descriptor and where it is from.
    Accept,
    /// Connects to the flight's address.
    Connect,
    /// Bytes of a stream into the buffer's room.
    Receive,
    /// A datagram into the buffer's room, and where it is from.
    ReceiveFrom,
    /// As [`Operation::ReceiveFrom`], with what came beside its bytes. (A call of its own, for it takes longer.)
    ReceiveMessage,
    /// The buffer from this byte on, to the flight's address if it has one, with its details.
    Send(usize),
    /// Bytes of a stream into the buffer's room, and the descriptors that were passed with them.
    ReceivePassed,
    /// Bytes of what has no positions, a pipe for one, into the buffer's room.
    ReadNext,
    /// The buffer from this byte on, to what has no positions.
    WriteNext(usize),
    /// There is something to be read.
    Readable,
    /// Bytes from the flight's other source, without passing through this process. One of the two is a pipe.
    Splice {
        /// From this one on, of a file; else what is next in a pipe.
        at: Option<u64>,
        /// At most.
        length: usize,
    },
    /// Bytes of a file from this one on, into the buffer's room.
    Read(u64),
    /// As [`Operation::Read`], into the room of the flight's buffers, one after the other.
    ReadVectored(u64),
    /// All of the flight's buffers, to the file from its byte `at` on.
    WriteVectored(u64),
    /// The buffer from its byte `from` on, to the file's byte `at`.
    Write {
        /// Of the file.
        at: u64,
        /// Of the buffer.
        from: usize,
    },
    /// What was written is on the disk; with the file's times, or its data alone.
    Sync {
        /// fdatasync(2).
        data: bool,
    },
}

impl Operation {
    /// For errors.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Connect => "connect",
            Self::Receive | Self::ReceiveFrom => "receive",
            Self::ReceiveMessage | Self::ReceivePassed => "receive",
            Self::Send(_) => "send",
            Self::Read(_) | Self::ReadNext | Self::ReadVectored(_) => "read",
            Self::Write { .. } | Self::WriteNext(_) | Self::WriteVectored(_) => "write",
            Self::Readable => "wait for",
            Self::Splice { .. } => "splice",
            Self::Sync { .. } => "sync",
        }
    }

    /// Whether it can be done when its descriptor is readable; else, when it is writable.
    pub(crate) fn waits_for_input(self) -> bool {
        self.takes() || matches!(self, Self::Readable)
    }

    /// Whether it takes something that would be lost if nobody took it from here.
    pub(crate) fn takes(self) -> bool {
        matches!(self, Self::Accept | Self::ReceiveFrom | Self::ReceiveMessage) || self.takes_bytes()
    }

    /// Whether it takes bytes, of which the next may take what this one had no room for.
    pub(crate) fn takes_bytes(self) -> bool {
        matches!(self, Self::Receive | Self::ReceivePassed | Self::ReadNext)
    }

    /// Whether descriptors that were passed come with what it takes.
    pub(crate) fn takes_passed(self) -> bool {
        matches!(self, Self::ReceivePassed | Self::ReceiveMessage)
    }

    /// Whether it is about a file, and waits for a disk if for anything.
    pub(crate) fn is_of_file(self) -> bool {
        match self {
            Self::Read(_) | Self::Write { .. } | Self::Sync { .. } => true,
            Self::ReadVectored(_) | Self::WriteVectored(_) => true,
            Self::Splice { at, .. } => at.is_some(),
            _ => false,
        }
    }
}

/// Where operations are about: a descriptor, and what was taken from it that nobody has yet.
pub struct Source<D: Driver> {
    descriptor: D::Descriptor,
    stash: RefCell<VecDeque<Kept<D>>>,
    /// Flights that take something, and whose owners are gone.
    orphans: Cell<u32>,
    landed: Waiters,
}

/// What a flight brought that nobody waited for. (Not the flight: that keeps its source open.)
pub(crate) struct Kept<D: Driver> {
    pub(crate) operation: Operation,
    pub(crate) buffer: Vec<u8>,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) accepted: Option<D::Descriptor>,
    pub(crate) details: Details,
    pub(crate) passed: Vec<OwnedFd>,
    pub(crate) result: Result<usize, Errno>,
}

impl<D: Driver> Source<D> {
    pub(crate) fn new(descriptor: D::Descriptor) -> Rc<Self> {
        Rc::new(Self { descriptor, stash: RefCell::default(), orphans: Cell::new(0), landed: Waiters::new() })
    }

    /// What the driver knows it by.
    pub fn descriptor(&self) -> &D::Descriptor {
        &self.descriptor
    }

    pub(crate) fn stash(&self) -> &RefCell<VecDeque<Kept<D>>> {
        &self.stash
    }

    /// Whether a flight that nobody waits for may still bring something; who comes after it waits for that.
    pub(crate) fn has_orphans(&self) -> bool {
        self.orphans.get() > 0
    }

    pub(crate) fn landed(&self) -> &Waiters {
        &self.landed
    }
}

impl<D: Driver> fmt::Debug for Source<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stash = self.stash.borrow().len();
        f.debug_struct("Source")
            .field("descriptor", &self.descriptor)
            .field("stash", &stash)
            .finish_non_exhaustive()
    }
}

/// An operation on its way.
pub struct Flight<D: Driver> {
    /// What is to be done.
    pub operation: Operation,
    /// Where. It stays open as long as the flight lasts.
    pub source: Rc<Source<D>>,
    /// What is sent or written; or whose capacity is filled.
    pub buffer: Vec<u8>,
    /// Where to, or where from.
    pub address: Option<SocketAddr>,
    /// The descriptor that an accept brought.
    pub accepted: Option<D::Descriptor>,
    /// What goes or came with a datagram.
    pub details: Details,
    /// Descriptors that go or came with bytes.
    pub passed: Vec<OwnedFd>,
    /// What an operation with several buffers is about.
    pub buffers: Vec<Vec<u8>>,
    /// Where a splice takes from.
    pub other: Option<Rc<Source<D>>>,
    /// Bytes, or why not; set when it has landed.
    pub result: Result<usize, Errno>,
}

impl<D: Driver> Flight<D> {
    pub(crate) fn new(operation: Operation, source: &Rc<Source<D>>, buffer: Vec<u8>) -> Box<Self> {
        let source = source.clone();
        Box::new(Self {
            operation,
            source,
            buffer,
            address: None,
            accepted: None,
            details: Details::default(),
            passed: Vec::new(),
            buffers: Vec::new(),
            other: None,
            result: Ok(0),
        })
    }

    /// Whether a send has nothing but bytes.
    pub(crate) fn is_plain(&self) -> bool {
        self.address.is_none() && self.passed.is_empty()
    }

    /// Its owner is gone, and it is not back yet. For drivers, once, before [`Flight::land_orphan`].
    pub fn orphan(&self) {
        if self.operation.takes() {
            self.source.orphans.set(self.source.orphans.get() + 1);
        }
    }

    /// It is back, and its owner is gone: what it brought is kept for the next. Then its source: see [`Driver::call_back`].
    #[must_use = "who waits for what was kept has to be called back"]
    pub fn land_orphan(self) -> Option<Rc<Source<D>>> {
        if !self.operation.takes() {
            return None;
        }
        let Self { operation, source, buffer, address, accepted, details, passed, result, .. } = self;
        source.orphans.set(source.orphans.get() - 1);
        let is_kept = match result {
            Ok(_) => true,
            // That a stream was reset is said once: who reads next must not take it for its end.
            Err(error) => {
                operation.takes_bytes() && ![Errno::CANCELED, Errno::INTR, Errno::AGAIN].contains(&error)
            }
        };
        if is_kept {
            source.stash.borrow_mut().push_back(Kept {
                operation,
                buffer,
                address,
                accepted,
                details,
                passed,
                result,
            });
        }
        source.landed.tell_all();
        is_kept.then_some(source)
    }

    /// What it brought, to be kept; its room is as large as before.
    pub(crate) fn give_up(&mut self) -> Kept<D> {
        let room = Vec::with_capacity(self.buffer.capacity());
        Kept {
            operation: self.operation,
            buffer: std::mem::replace(&mut self.buffer, room),
            address: self.address.take(),
            accepted: self.accepted.take(),
            details: std::mem::take(&mut self.details),
            passed: std::mem::take(&mut self.passed),
            result: self.result,
        }
    }
}

impl<D: Driver> fmt::Debug for Flight<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, source, address, result, .. } = self;
        f.debug_struct("Flight")
            .field("operation", operation)
            .field("source", source)
            .field("address", address)
            .field("result", result)
            .finish_non_exhaustive()
    }
}

/// What became of a flight that was begun.
#[derive(Debug)]
pub enum Begun<D: Driver> {
    /// It is back already.
    Landed(Box<Flight<D>>),
    /// It is under way; [`Driver::poll_landed`] knows it by this.
    Flies(u32),
    /// The time that the caller has for it ([`Tasks`]' deadline) was over before it could be done; nothing was done.
    Late(Box<Flight<D>>),
}

/// How long a turn may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until then, or until something happens.
    Until(Instant),
}

/// Who does what tasks wait for; see the module.
pub trait Driver: Sized + fmt::Debug + 'static {
    /// Names something open; closes it when it is dropped.
    type Descriptor: fmt::Debug + 'static;

    /// Whether an operation may be under way while others run. If not, each is done, by waiting for it, when it is begun, and
    /// a task that is spawned runs at once, as far as it can.
    const SUSPENDS: bool;

    /// Whether the world is made up.
    const SIMULATED: bool = false;

    /// What makes the calls that never wait.
    type Calls: Calls<Self::Descriptor>;

    /// See [`Driver::Calls`].
    fn calls(&self) -> &Self::Calls;

    /// Sleeps until then, if this driver does so within a task.
    fn sleep(&self, tasks: &Tasks, until: Instant);

    /// Sends a flight off.
    fn begin(&self, tasks: &Tasks, flight: Box<Flight<Self>>) -> Begun<Self>;

    /// The flight, when it has landed; else `waker` is woken when it has.
    fn poll_landed(&self, number: u32, waker: &Waker) -> Poll<Box<Flight<Self>>>;

    /// Asks for it to end. It lands in any case, with what it did or with [`Errno::CANCELED`].
    fn cancel(&self, number: u32);

    /// Nobody waits for it any more: it is asked to end, and [`Flight::land_orphan`] when it is back.
    fn forget(&self, number: u32);

    /// There is something in the source's stash. A flight that would take such is asked to end, if one is under way: its owner begins
    /// anew, and finds it. Else nobody waits, or it is found in time.
    fn call_back(&self, source: &Rc<Source<Self>>);

    /// Hands over what was begun, wakes who waits for what has landed, and sleeps when it may and there is nothing.
    fn turn(&self, tasks: &Tasks, wait: Wait);
}
