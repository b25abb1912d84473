//! What is under way in the ring, and the memory that the kernel looks at meanwhile.
//!
//! Keeps true: a slot's parts are in a box of their own, so they stay where they are; a slot is free again only after its
//! completion has come and its flight was taken.

use super::Uring;
use super::address::RawAddress;
use crate::driver::{Flight, Operation};
use io_uring::opcode;
use io_uring::squeue::Entry;
use io_uring::types::{Fd, FsyncFlags};
use rustix::fd::{AsRawFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use std::fmt;
use std::mem::{replace, zeroed};
use std::task::{Poll, Waker};

/// What the kernel follows pointers to, beside the buffer.
struct Parts {
    address: RawAddress,
    header: libc::msghdr,
    vector: libc::iovec,
}

enum State {
    Free,
    /// The kernel has it.
    Flies {
        flight: Box<Flight<Uring>>,
        waker: Option<Waker>,
    },
    /// The kernel has it, and nobody waits for it.
    Orphan(Box<Flight<Uring>>),
    Landed(Box<Flight<Uring>>),
}

struct Slot {
    state: State,
    parts: Box<Parts>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    flying: usize,
}

/// What a completion, or forgetting, leaves to do when the slots are not borrowed any more.
#[derive(Default)]
pub(super) struct Landed {
    waker: Option<Waker>,
    orphan: Option<Box<Flight<Uring>>>,
}

impl Landed {
    pub(super) fn done(self) {
        if let Some(orphan) = self.orphan {
            orphan.land_orphan();
        }
        if let Some(waker) = self.waker {
            waker.wake();
        }
    }
}

impl Slots {
    /// Whether the kernel has any.
    pub(super) fn fly(&self) -> bool {
        self.flying > 0
    }

    /// A number for a flight, and its entry for the submission ring.
    pub(super) fn put(&mut self, flight: Box<Flight<Uring>>) -> (u32, Entry) {
        let number = self.free.pop().unwrap_or_else(|| {
            // SAFETY: all zeros is a value of a msghdr and of an iovec: nothing.
            let (header, vector) = unsafe { (zeroed(), zeroed()) };
            let parts = Box::new(Parts { address: RawAddress::room(), header, vector });
            self.slots.push(Slot { state: State::Free, parts });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[number as usize];
        slot.state = State::Flies { flight, waker: None };
        self.flying += 1;
        let State::Flies { flight, .. } = &mut slot.state else { unreachable!() };
        (number, entry(flight, &mut slot.parts).user_data(u64::from(number)))
    }

    /// One that the kernel was never given.
    pub(super) fn take_back(&mut self, number: u32) -> Box<Flight<Uring>> {
        self.flying -= 1;
        match self.release(number) {
            State::Flies { flight, .. } => flight,
            _ => unreachable!("it was just put"),
        }
    }

    fn release(&mut self, number: u32) -> State {
        self.free.push(number);
        replace(&mut self.slots[number as usize].state, State::Free)
    }

    /// A completion has come.
    pub(super) fn land(&mut self, number: u32, result: i32) -> Landed {
        let Some(slot) = self.slots.get_mut(number as usize) else { return Landed::default() };
        match replace(&mut slot.state, State::Free) {
            State::Flies { mut flight, waker } => {
                settle(&mut flight, &slot.parts, result);
                slot.state = State::Landed(flight);
                self.flying -= 1;
                Landed { waker, orphan: None }
            }
            State::Orphan(mut flight) => {
                settle(&mut flight, &slot.parts, result);
                self.flying -= 1;
                self.free.push(number);
                Landed { waker: None, orphan: Some(flight) }
            }
            // The kernel completes an entry once; whatever this is, it is none of ours.
            other => {
                slot.state = other;
                Landed::default()
            }
        }
    }

    /// The flight, if it has landed; else it waits with this waker, and an old one comes back, to be dropped outside.
    pub(super) fn poll(&mut self, number: u32, waker: &Waker) -> (Poll<Box<Flight<Uring>>>, Option<Waker>) {
        match &mut self.slots[number as usize].state {
            State::Flies { waker: known, .. } => {
                let same = known.as_ref().is_some_and(|known| known.will_wake(waker));
                (Poll::Pending, if same { None } else { known.replace(waker.clone()) })
            }
            State::Landed(_) => match self.release(number) {
                State::Landed(flight) => (Poll::Ready(flight), None),
                _ => unreachable!("it has landed"),
            },
            _ => unreachable!("its owner polls it"),
        }
    }

    /// Its owner is gone. With its waker, to be dropped outside, when it is still under way.
    pub(super) fn forget(&mut self, number: u32) -> Result<Landed, Option<Waker>> {
        match self.release(number) {
            State::Flies { flight, waker } => {
                self.free.pop();
                flight.orphan();
                self.slots[number as usize].state = State::Orphan(flight);
                Err(waker)
            }
            State::Landed(flight) => {
                flight.orphan();
                Ok(Landed { waker: None, orphan: Some(flight) })
            }
            _ => unreachable!("its owner forgets it"),
        }
    }
}

/// The entry of a flight. What it points to is the flight's buffer, which is on the heap, and the slot's parts.
fn entry(flight: &mut Flight<Uring>, parts: &mut Parts) -> Entry {
    let fd = Fd(flight.source.descriptor().as_raw_fd());
    let buffer = &mut flight.buffer;
    match flight.operation {
        Operation::Accept => {
            parts.address = RawAddress::room();
            opcode::Accept::new(fd, parts.address.as_mut_ptr(), &raw mut parts.address.length)
                .flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
                .build()
        }
        Operation::Connect => {
            parts.address = flight.address.map_or_else(RawAddress::room, RawAddress::new);
            opcode::Connect::new(fd, parts.address.as_mut_ptr(), parts.address.length).build()
        }
        Operation::Receive => {
            buffer.clear();
            opcode::Recv::new(fd, buffer.as_mut_ptr(), length(buffer.capacity())).build()
        }
        Operation::ReceiveFrom => {
            buffer.clear();
            parts.address = RawAddress::room();
            let vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.capacity() };
            opcode::RecvMsg::new(fd, header(parts, vector)).build()
        }
        Operation::Send(from) => {
            let rest = &buffer[from..];
            let Some(address) = flight.address else {
                return opcode::Send::new(fd, rest.as_ptr(), length(rest.len()))
                    .flags(libc::MSG_NOSIGNAL)
                    .build();
            };
            parts.address = RawAddress::new(address);
            let vector = libc::iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: rest.len() };
            opcode::SendMsg::new(fd, header(parts, vector)).flags(libc::MSG_NOSIGNAL as u32).build()
        }
        Operation::Read(at) => {
            buffer.clear();
            opcode::Read::new(fd, buffer.as_mut_ptr(), length(buffer.capacity())).offset(at).build()
        }
        Operation::Write { at, from } => {
            let rest = &buffer[from..];
            opcode::Write::new(fd, rest.as_ptr(), length(rest.len())).offset(at).build()
        }
        Operation::Sync { data } => {
            let flags = if data { FsyncFlags::DATASYNC } else { FsyncFlags::empty() };
            opcode::Fsync::new(fd).flags(flags).build()
        }
    }
}

/// A message header in the slot's parts, with one vector.
fn header(parts: &mut Parts, vector: libc::iovec) -> *mut libc::msghdr {
    parts.vector = vector;
    parts.header.msg_name = parts.address.as_mut_ptr().cast();
    parts.header.msg_namelen = parts.address.length;
    parts.header.msg_iov = &raw mut parts.vector;
    parts.header.msg_iovlen = 1;
    &raw mut parts.header
}

/// The kernel counts in 32 bits; the rest is another operation.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(i32::MAX as u32)
}

/// What a completion says, into its flight.
fn settle(flight: &mut Flight<Uring>, parts: &Parts, result: i32) {
    if result < 0 {
        flight.result = Err(Errno::from_raw_os_error(-result));
        return;
    }
    flight.result = Ok(result as usize);
    match flight.operation {
        Operation::Accept => {
            // SAFETY: the kernel has just opened it, for us.
            flight.accepted = Some(unsafe { OwnedFd::from_raw_fd(result) });
            flight.address = parts.address.address();
            flight.result = Ok(0);
        }
        Operation::Receive | Operation::ReceiveFrom | Operation::Read(_) => {
            let length = (result as usize).min(flight.buffer.capacity());
            // SAFETY: the kernel has written so many bytes at its beginning, and it has room for them.
            unsafe { flight.buffer.set_len(length) };
            if flight.operation == Operation::ReceiveFrom {
                let mut from = parts.address;
                from.length = parts.header.msg_namelen;
                flight.address = from.address();
            }
        }
        _ => {}
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").field("slots", &self.slots.len()).field("flying", &self.flying).finish()
    }
}
