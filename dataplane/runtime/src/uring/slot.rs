//! What is under way in the ring, and the memory that the kernel looks at meanwhile.
//!
//! Keeps true: a flight's parts are in a box of their own, so they stay where they are, and are used again only when its number
//! is: after its completion has come.

use super::Uring;
use super::address::RawAddress;
use super::message::Message;
use crate::driver::{Flight, Operation};
use crate::flights::{Flights, Landed};
use io_uring::opcode;
use io_uring::squeue::Entry;
use io_uring::types::{Fd, FsyncFlags};
use rustix::fd::{AsRawFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use std::fmt;

/// What the kernel follows pointers to, beside the buffer.
struct Parts {
    address: RawAddress,
    message: Message,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parts")
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Slots {
    pub(super) flights: Flights<Uring>,
    /// By the flight's number; boxed, so that they stay where they are when there are more.
    #[allow(clippy::vec_box)]
    parts: Vec<Box<Parts>>,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self { flights: Flights::new(), parts: Vec::new() }
    }

    /// A number for a flight, and its entry for the submission ring; or why it has none.
    pub(super) fn put(&mut self, flight: Box<Flight<Uring>>) -> (u32, Result<Entry, Errno>) {
        let number = self.flights.put(flight);
        while self.parts.len() <= number as usize {
            self.parts.push(Box::new(Parts { address: RawAddress::room(), message: Message::new() }));
        }
        let Some(flight) = self.flights.flight(number) else { unreachable!("it was just put") };
        let entry = entry(flight, &mut self.parts[number as usize]);
        (number, entry.map(|entry| entry.user_data(u64::from(number))))
    }

    /// A completion has come.
    pub(super) fn land(&mut self, number: u32, result: i32) -> Landed<Uring> {
        let Some(parts) = self.parts.get_mut(number as usize) else { return Landed::nothing() };
        self.flights.land(number, |flight| settle(flight, parts, result))
    }
}

/// The entry of a flight. What it points to is the flight's buffer, which is on the heap, and the slot's parts.
fn entry(flight: &mut Flight<Uring>, parts: &mut Parts) -> Result<Entry, Errno> {
    let fd = Fd(flight.source.descriptor().as_raw_fd());
    let buffer = &mut flight.buffer;
    Ok(match flight.operation {
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
            let header = parts.message.receiving(buffer);
            opcode::RecvMsg::new(fd, header).flags(libc::MSG_CMSG_CLOEXEC as u32).build()
        }
        Operation::Send(from) => {
            let rest = &buffer[from..];
            if let Some(address) = flight.address {
                let header = parts.message.sending(rest, address, &flight.details)?;
                opcode::SendMsg::new(fd, header).flags(libc::MSG_NOSIGNAL as u32).build()
            } else {
                opcode::Send::new(fd, rest.as_ptr(), length(rest.len())).flags(libc::MSG_NOSIGNAL).build()
            }
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
    })
}

/// The kernel counts in 32 bits; the rest is another operation.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(i32::MAX as u32)
}

/// What a completion says, into its flight.
fn settle(flight: &mut Flight<Uring>, parts: &mut Parts, result: i32) {
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
                (flight.address, flight.details) = parts.message.received();
            }
        }
        _ => {}
    }
}
