//! The way by io_uring: one request that receives for good, and sends of which many are one call.
//!
//! Owns: the queue's ring, whose file is the socket; what has come by it and is not looked at yet; the envelopes of a call. Refuses
//! nothing but what the kernel does. Keeps true: the completion ring has room for all that can complete at once, a message for each
//! buffer and each send, and the receiver's end; a message that waits is in a buffer of its own; a call of [`Kernel::send`] returns
//! when the kernel is done with all that it was shown.
//!
//! While nothing comes, a look costs a word of memory and no call. A buffer has room for what the kernel joins (`UDP_GRO`), behind the
//! sender's name and what the kernel says beside it (`struct io_uring_recvmsg_out`, io_uring/net.c `io_recvmsg_multishot`). When all
//! buffers wait here, the kernel leaves the rest in the socket, and ends the request, which is made anew once one is free.

#![allow(unsafe_code)]

use super::held::{Held, LONGEST};
use super::message::{Envelope, Message, NAME, ROOM};
use super::run::Run;
use super::sender::{Answer, Kernel, PARTS};
use crate::device::DeviceCounters;
use crate::ring::Completion;
use crate::uring::{Shape, Uring, UringError, buffer_of, goes_on};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::io_uring::{IoringOp, IoringRecvFlags, IoringSqeFlags, io_uring_ptr, io_uring_sqe};
use rustix::net::SendFlags;
use std::collections::VecDeque;
use std::io::IoSlice;

/// What is ahead of a message in its buffer: lengths, the sender's name, room for what is beside it.
const LENGTHS: usize = 16;
const AHEAD: usize = LENGTHS + NAME + ROOM;

/// The receiver, and what ends it, among requests; sends are numbered from 0 on.
const RECEIVER: u64 = u64::MAX;
const END: u64 = RECEIVER - 1;

/// See the module.
pub struct Ringed {
    ring: Uring,
    v6: bool,
    /// The kernel has refused this thread for good.
    lost: bool,
    /// The receiver runs.
    armed: bool,
    /// Times that it ended because the kernel had no buffer left.
    starved: u64,
    /// Buffers that a message lies in: numbers, and bytes written.
    arrived: VecDeque<(u16, usize)>,
    /// The buffer that is with [`Held`].
    current: Option<u16>,
    /// What the receiver is told: which room is for the name, and for what is beside a message.
    wanted: Box<libc::msghdr>,
    envelopes: Box<[Envelope]>,
    /// Of the sends under way; none here yet.
    answers: [Option<Answer>; PARTS],
}

// SAFETY: the header's pointers are null; all else can be sent.
unsafe impl Send for Ringed {}

impl Ringed {
    /// By a ring of a socket of IPv6 (`v6`) or IPv4.
    ///
    /// # Errors
    /// The ring is not as `shape` says, or too small.
    pub fn open(ring: OwnedFd, shape: Shape, v6: bool) -> Result<Self, UringError> {
        // One buffer is with `Held`, and one at least with the kernel.
        let room = shape.submissions > PARTS as u32
            && shape.completions as usize > PARTS + shape.buffers as usize
            && shape.buffers > 1;
        let ring = Uring::open(ring, shape, AHEAD + LONGEST)?;
        if !room {
            return Err(UringError::Shape { what: "entries for a burst" });
        }
        // SAFETY: all-zero bytes are a valid `msghdr`: numbers and null pointers.
        let mut wanted: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        (wanted.msg_namelen, wanted.msg_controllen) = (NAME as libc::socklen_t, ROOM as _);
        Ok(Self {
            arrived: VecDeque::with_capacity(ring.buffers()),
            ring,
            v6,
            lost: false,
            armed: false,
            starved: 0,
            current: None,
            wanted,
            envelopes: (0..PARTS).map(|_| Envelope::new()).collect(),
            answers: [None; PARTS],
        })
    }

    /// Makes the calling thread the ring's user, at its first call.
    ///
    /// # Errors
    /// The kernel's, or that it has [refused](Self::is_lost) since.
    pub fn enable(&mut self) -> Result<(), Errno> {
        let enabled = if self.lost { Err(Errno::BADFD) } else { self.ring.enable() };
        self.lost = enabled.is_err();
        enabled
    }

    /// Whether the kernel has refused this thread for good; what the ring has brought is here all the same.
    #[inline]
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// [`Uring::enter`]; notes an error that stays.
    fn enter(&mut self, wait: u32) -> Result<u32, Errno> {
        let entered = self.ring.enter(wait);
        // These may go right at the next call: a signal, or too much at once (io_uring/io_uring.c, `io_get_sqe`, `io_cqring_wait`).
        let passes = |errno| matches!(errno, Errno::INTR | Errno::AGAIN | Errno::BUSY | Errno::NOMEM);
        self.lost |= entered.is_err_and(|errno| !passes(errno));
        entered
    }

    /// Ends the receiver: what has come by then is here, and the kernel takes no more from the socket, nor leaves itself work that it
    /// would have to see to when the ring is closed (io_uring/io_uring.c, `io_move_task_work_from_local`).
    pub fn close(&mut self) {
        if self.armed {
            let mut request = io_uring_sqe { opcode: IoringOp::AsyncCancel, ..io_uring_sqe::default() };
            request.addr_or_splice_off_in.user_data.u64_ = RECEIVER;
            request.user_data.u64_ = END;
            // SAFETY: it points to nothing.
            if unsafe { self.ring.push(request) } {
                let _ = self.enter(0);
            }
            self.sort();
        }
    }

    /// Whether the kernel has work that waits for a call.
    #[cfg(test)]
    pub fn is_due(&self) -> bool {
        self.ring.is_due()
    }

    /// Whether something has come that is not with [`Held`] yet.
    pub fn pending(&self) -> bool {
        !self.arrived.is_empty() || self.ring.waiting() > 0
    }

    /// Gives `held`, all of which is packets, the next message; whether there was one. With `closed` the kernel is not asked. Counted is
    /// that no buffer was left, and messages that nothing can be made of.
    pub fn receive(&mut self, held: &mut Held, closed: bool, counters: &mut DeviceCounters) -> bool {
        self.sort();
        if self.arrived.is_empty() && !closed && !self.lost {
            self.ask();
            // What ended the receiver, an error of an earlier message, is said once.
            if self.arrived.is_empty() && !self.armed && !self.lost {
                self.ask();
            }
        }
        counters.fill_starved += std::mem::take(&mut self.starved);
        while let Some((number, len)) = self.arrived.pop_front() {
            let Some(buffer) = self.ring.take(number) else { continue };
            let Some(message) = message(&buffer, len) else {
                counters.rx_refused += 1;
                self.ring.give(number, buffer);
                continue;
            };
            let before = held.exchange(message, buffer, AHEAD);
            if let Some(number) = self.current.replace(number) {
                self.ring.give(number, before);
            }
            return true;
        }
        false
    }

    /// Lets the kernel receive.
    fn ask(&mut self) {
        if self.armed {
            if self.ring.is_due() {
                // What went wrong now may go right at the next look.
                let _ = self.enter(0);
            }
        } else {
            let mut request = io_uring_sqe {
                opcode: IoringOp::Recvmsg,
                flags: IoringSqeFlags::BUFFER_SELECT,
                ..io_uring_sqe::default()
            };
            request.ioprio.recv_flags = IoringRecvFlags::MULTISHOT;
            request.addr_or_splice_off_in.addr = io_uring_ptr::new((&raw mut *self.wanted).cast());
            request.len.len = 1;
            request.user_data.u64_ = RECEIVER;
            // SAFETY: the header is the box's, which is as old as the ring; it has no other pointers.
            let pushed = unsafe { self.ring.push(request) };
            self.armed = pushed && self.enter(0) == Ok(0);
        }
        self.sort();
    }

    /// Looks at what is complete.
    fn sort(&mut self) {
        while let Some(completion) = self.ring.complete() {
            match completion.request {
                RECEIVER => self.came(completion),
                number => {
                    let answer = match completion.result {
                        0.. => Ok(()),
                        error => Err(Errno::from_raw_os_error(-error)),
                    };
                    if let Some(place) = usize::try_from(number).ok().and_then(|n| self.answers.get_mut(n)) {
                        *place = Some(answer);
                    }
                }
            }
        }
    }

    fn came(&mut self, completion: Completion) {
        self.armed = goes_on(&completion);
        // Any other error is what an earlier message has met; the next request may bring more.
        self.starved += u64::from(completion.result == -libc::ENOBUFS);
        if let (Some(number), Ok(len)) = (buffer_of(&completion), usize::try_from(completion.result)) {
            self.arrived.push_back((number, len));
        }
    }
}

/// The message in a buffer, of which `len` bytes are written; its bytes begin at [`AHEAD`].
fn message(buffer: &[u8], len: usize) -> Option<Message> {
    let (lengths, rest) = buffer.get(..len)?.split_first_chunk::<LENGTHS>()?;
    let (name, rest) = rest.split_first_chunk::<NAME>()?;
    let (beside, payload) = rest.split_at_checked(ROOM)?;
    // struct io_uring_recvmsg_out: bytes of the name, of what is beside, of the message; flags.
    let number = |at: usize| Some(u32::from_ne_bytes(*lengths.get(at..)?.first_chunk()?) as usize);
    let beside = beside.get(..number(4)?)?;
    // Longer than its buffer, it would be cut.
    (number(8)? == payload.len()).then(|| Message::of(payload.len(), name, beside))?
}

impl Kernel for Ringed {
    fn send(&mut self, runs: &[Run], parts: &[IoSlice<'_>], answers: &mut Vec<Answer>) -> u64 {
        let mut rest = parts;
        let mut shown = 0;
        for (run, envelope) in runs.iter().zip(&mut self.envelopes) {
            let Some((own, behind)) = rest.split_at_checked(run.count) else { break };
            rest = behind;
            let header = envelope.seal(self.v6, &run.way, own, run.segment_len());
            let mut request = io_uring_sqe { opcode: IoringOp::Sendmsg, ..io_uring_sqe::default() };
            request.addr_or_splice_off_in.addr = io_uring_ptr::new(header.cast_mut().cast());
            request.len.len = 1;
            request.op_flags.send_flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            request.user_data.u64_ = shown as u64;
            // SAFETY: envelope and parts are there until `settle` returns, which waits for all that the kernel was shown.
            if !unsafe { self.ring.push(request) } {
                break;
            }
            shown += 1;
        }
        let calls = self.settle(shown);
        // What the kernel did not look at had no room.
        let answer = |n: usize| self.answers.get_mut(n).and_then(Option::take).unwrap_or(Err(Errno::AGAIN));
        answers.extend((0..runs.len()).map(answer));
        calls
    }
}

impl Ringed {
    /// Shows the kernel the last `shown` requests, and waits for those that it takes. (A send that may not wait is complete when it
    /// is begun, so this is one call.) How many calls it was.
    fn settle(&mut self, shown: usize) -> u64 {
        let taken = self.enter(0).map_or(0, |left| shown.saturating_sub(left as usize));
        let mut calls = 1;
        loop {
            self.sort();
            if self.lost || self.answers.iter().take(taken).all(Option::is_some) {
                return calls;
            }
            // Only a signal ends this without a completion.
            let _ = self.enter(1);
            calls += 1;
        }
    }
}

impl AsFd for Ringed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl std::fmt::Debug for Ringed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { ring, lost, armed, arrived, current, .. } = self;
        f.debug_struct("Ringed")
            .field("ring", ring)
            .field("lost", lost)
            .field("armed", armed)
            .field("arrived", arrived)
            .field("current", current)
            .finish_non_exhaustive()
    }
}
