//! What is under way in the ring, and the memory that the kernel looks at meanwhile.
//!
//! Keeps true: a flight's parts are in a box of their own, so they stay where they are, and are used again only when its number
//! is: after its completion has come.

use super::Uring;
use super::address::RawAddress;
use super::lacking::Lacking;
use super::message::Message;
use crate::driver::{Flight, Operation};
use crate::flights::{Flights, Landed};
use crate::system;
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
    vectors: Vec<libc::iovec>,
    /// It is asked to end.
    cancelled: bool,
}

impl Parts {
    fn new() -> Self {
        Self { address: RawAddress::room(), message: Message::new(), vectors: Vec::new(), cancelled: false }
    }
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
    pub(super) lacking: Lacking,
    /// By the flight's number; boxed, so that they stay where they are when there are more.
    #[allow(clippy::vec_box)]
    parts: Vec<Box<Parts>>,
}

impl Slots {
    pub(super) fn new(lacking: Lacking) -> Self {
        Self { flights: Flights::new(), lacking, parts: Vec::new() }
    }

    /// A number for a flight, and its entry for the submission ring; or why it has none.
    pub(super) fn put(&mut self, flight: Box<Flight<Uring>>) -> (u32, Result<Entry, Errno>) {
        let number = self.flights.put(flight);
        while self.parts.len() <= number as usize {
            self.parts.push(Box::new(Parts::new()));
        }
        let Some(flight) = self.flights.flight(number) else { unreachable!("it was just put") };
        let parts = &mut self.parts[number as usize];
        parts.cancelled = false;
        let entry = if self.lacking.polls(flight) { Ok(polled(flight)) } else { entry(flight, parts) };
        (number, entry.map(|entry| entry.user_data(u64::from(number))))
    }

    /// A completion has come. What has only become ready is tried now; if it must wait again, that is an entry.
    pub(super) fn land(&mut self, number: u32, result: i32) -> Result<Landed<Uring>, Entry> {
        let (Some(parts), Some(flight)) = (self.parts.get_mut(number as usize), self.flights.flight(number))
        else {
            return Ok(Landed::nothing());
        };
        if !self.lacking.polls(flight) {
            return Ok(self.flights.land(number, |flight| settle(flight, parts, result)));
        }
        let result =
            if result < 0 { Err(Errno::from_raw_os_error(-result)) } else { system::attempt(flight, true) };
        let result = match result {
            Err(Errno::AGAIN | Errno::INTR) if parts.cancelled => Err(Errno::CANCELED),
            Err(Errno::AGAIN | Errno::INTR) => return Err(polled(flight).user_data(u64::from(number))),
            result => result,
        };
        Ok(self.flights.land(number, |flight| flight.result = result))
    }

    /// It is asked to end: it does not wait once more.
    pub(super) fn cancel(&mut self, number: u32) {
        if let Some(parts) = self.parts.get_mut(number as usize) {
            parts.cancelled = true;
        }
    }
}

/// The entry of a flight. What it points to is the flight's buffer, which is on the heap, and the slot's parts.
fn entry(flight: &mut Flight<Uring>, parts: &mut Parts) -> Result<Entry, Errno> {
    let fd = Fd(flight.source.descriptor().as_raw_fd());
    let plain = flight.is_plain();
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
        Operation::ReceiveFrom | Operation::ReceiveMessage | Operation::ReceivePassed => {
            let header = parts.message.receiving(buffer, flight.operation != Operation::ReceiveFrom);
            opcode::RecvMsg::new(fd, header).flags(libc::MSG_CMSG_CLOEXEC as u32).build()
        }
        Operation::Send(from) => {
            let rest = &buffer[from..];
            if plain {
                opcode::Send::new(fd, rest.as_ptr(), length(rest.len())).flags(libc::MSG_NOSIGNAL).build()
            } else {
                let header = parts.message.sending(rest, flight.address, &flight.details, &flight.passed)?;
                opcode::SendMsg::new(fd, header).flags(libc::MSG_NOSIGNAL as u32).build()
            }
        }
        Operation::Splice { at: Some(at), length: most } => {
            let from = flight.other.as_ref().ok_or(Errno::INVAL)?.descriptor();
            let (from, at) = (Fd(from.as_raw_fd()), i64::try_from(at).map_err(|_| Errno::OVERFLOW)?);
            opcode::Splice::new(from, at, fd, -1, length(most)).build()
        }
        Operation::ReadVectored(at) => {
            parts.vectors.clear();
            for buffer in &mut flight.buffers {
                buffer.clear();
                let (iov_base, iov_len) = (buffer.as_mut_ptr().cast(), buffer.capacity());
                parts.vectors.push(libc::iovec { iov_base, iov_len });
            }
            opcode::Readv::new(fd, parts.vectors.as_ptr(), length(parts.vectors.len())).offset(at).build()
        }
        Operation::WriteVectored(at) => {
            parts.vectors.clear();
            for buffer in &flight.buffers {
                let (iov_base, iov_len) = (buffer.as_ptr().cast_mut().cast(), buffer.len());
                parts.vectors.push(libc::iovec { iov_base, iov_len });
            }
            opcode::Writev::new(fd, parts.vectors.as_ptr(), length(parts.vectors.len())).offset(at).build()
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
        Operation::ReadNext
        | Operation::WriteNext(_)
        | Operation::Readable
        | Operation::Splice { at: None, .. } => polled(flight),
    })
}

/// Tells when the operation can be tried.
fn polled(flight: &Flight<Uring>) -> Entry {
    let events = if flight.operation.waits_for_input() { libc::POLLIN } else { libc::POLLOUT };
    opcode::PollAdd::new(Fd(flight.source.descriptor().as_raw_fd()), events as u32).build()
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
        Operation::ReceiveFrom | Operation::ReceiveMessage | Operation::ReceivePassed => {
            filled(&mut flight.buffer, result);
            let received = parts.message.received();
            (flight.address, flight.details, flight.passed) =
                (received.from, received.details, received.passed);
        }
        Operation::Receive | Operation::Read(_) => filled(&mut flight.buffer, result),
        Operation::ReadVectored(_) => {
            // One after the other.
            let mut rest = result;
            for buffer in &mut flight.buffers {
                filled(buffer, rest);
                rest -= buffer.len() as i32;
            }
        }
        _ => {}
    }
}

/// The kernel has written so many bytes at its beginning, as far as there was room.
fn filled(buffer: &mut Vec<u8>, bytes: i32) {
    let length = (bytes.max(0) as usize).min(buffer.capacity());
    // SAFETY: see above; a completion says nothing else.
    unsafe { buffer.set_len(length) };
}
