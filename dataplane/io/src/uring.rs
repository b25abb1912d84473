//! io_uring: one queue's ring, by which a thread asks the kernel for much by one call.
//!
//! Owns: the mapping of a ring that somebody else (the control process) made, disabled, for one file; which requests wait for the next
//! call. Refuses: to be used by another thread than the one that enabled it (the kernel does: `EEXIST`). Keeps true: the kernel
//! looks at requests, and works on them, only within [`Uring::enter`] (`IORING_SETUP_DEFER_TASKRUN`, io_uring/io_uring.c
//! `io_run_local_work`): between two calls it writes nowhere, and for a thread that has died nothing at all, nor while it dies
//! (`io_uring_cancel_generic` looks only at requests for other rings then, `inflight_tracked`). A thread that is killed in a call
//! has what that call brought, a message for each buffer at most, and takes it along.
//!
//! Buffers to receive into are boxes that it owns while the kernel has them (`buffers.rs`). What operations a ring allows, and of what file, its maker has said.

#![allow(unsafe_code)]

mod buffers;

use crate::mapping::map;
use crate::ring::{Completion, Consumer, Memory, Producer, RingOffsets};
use buffers::Buffers;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::io_uring::{
    IORING_OFF_SQ_RING, IORING_OFF_SQES, IoringCqeFlags, IoringEnterFlags, IoringRegisterOp, IoringSqFlags,
    IoringSqeFlags, io_uring_enter, io_uring_register, io_uring_sqe,
};
use std::ptr::null;
use std::sync::Arc;

const _: () = assert!(size_of::<io_uring_sqe>() == 64);

/// Where the parts of a ring lie, as its maker was told by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Entries of the submission ring.
    pub submissions: u32,
    /// Entries of the completion ring.
    pub completions: u32,
    /// Entries of the ring of buffers.
    pub buffers: u32,
    /// Byte offsets of the submission ring: consumer index, producer index, flags, entries.
    pub submission: [u32; 4],
    /// The same of the completion ring.
    pub completion: [u32; 4],
}

/// Why a ring cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UringError {
    /// It cannot be mapped.
    #[error("mapping {what} of an io_uring: {errno}")]
    Map {
        /// Which part.
        what: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Its parts do not lie in its memory.
    #[error("an io_uring's {what} do not lie where the control process said")]
    Shape {
        /// Which part.
        what: &'static str,
    },
}

/// A ring. See the module.
pub struct Uring {
    ring: OwnedFd,
    submissions: Producer<u32>,
    completions: Consumer<Completion>,
    requests: Arc<dyn Memory>,
    /// Entries of `requests`, less one.
    mask: u32,
    enabled: bool,
    buffers: Buffers,
}

impl Uring {
    /// Maps a ring that is like `shape`, and gives it a buffer of `buffer` bytes for each entry of its ring of buffers.
    ///
    /// # Errors
    /// It is not.
    pub fn open(ring: OwnedFd, shape: Shape, buffer: usize) -> Result<Self, UringError> {
        let place = |[consumer, producer, flags, entries]: [u32; 4]| RingOffsets {
            producer: producer as usize,
            consumer: consumer as usize,
            flags: flags as usize,
            entries: entries as usize,
        };
        let (from, to) = (place(shape.submission), place(shape.completion));
        let end = |at: usize, count: u32, bytes: usize| at.saturating_add(count as usize * bytes);
        let len = end(from.entries, shape.submissions, 4).max(end(to.entries, shape.completions, 16));
        let failed = |what| move |errno| UringError::Map { what, errno };
        let memory = map(ring.as_fd(), len, IORING_OFF_SQ_RING).map_err(failed("the rings"))?;
        let len = shape.submissions as usize * size_of::<io_uring_sqe>();
        let requests = map(ring.as_fd(), len, IORING_OFF_SQES).map_err(failed("the requests"))?;
        let wrong = |what| UringError::Shape { what };
        let mut submissions =
            Producer::new(Arc::clone(&memory), from, shape.submissions).ok_or(wrong("submission entries"))?;
        // Entry n always stands for request n.
        (0..shape.submissions).for_each(|n| submissions.write(n, n));
        let completions = Consumer::new(memory, to, shape.completions).ok_or(wrong("completion entries"))?;
        let (buffers, mask) = (Buffers::open(&ring, shape, buffer)?, shape.submissions - 1);
        Ok(Self { ring, submissions, completions, requests, mask, enabled: false, buffers })
    }

    /// Makes the calling thread the ring's only user, for good. Nothing happens where that has been done.
    ///
    /// # Errors
    /// The kernel's. `EBADFD`: another thread has done it.
    pub fn enable(&mut self) -> Result<(), Errno> {
        if !self.enabled {
            // SAFETY: this registers no memory.
            unsafe { io_uring_register(&self.ring, IoringRegisterOp::RegisterEnableRings, null(), 0)? };
            self.enabled = true;
        }
        Ok(())
    }

    /// Requests that there is room for before the next [`Self::enter`].
    pub fn room(&self) -> u32 {
        self.mask + 1 - self.submissions.pending()
    }

    /// Adds a request, of the ring's file, to those of the next [`Self::enter`]; false where there is no [room](Self::room).
    ///
    /// # Safety
    /// What it points to is there for as long as the kernel may look at it: until it has been entered for messages' headers, until
    /// it is complete for all else.
    pub unsafe fn push(&mut self, mut request: io_uring_sqe) -> bool {
        if self.room() == 0 {
            return false;
        }
        request.fd = 0;
        request.flags |= IoringSqeFlags::FIXED_FILE;
        let at = (self.submissions.index_after(0) & self.mask) as usize;
        let first = self.requests.base().cast::<io_uring_sqe>();
        // SAFETY: masked, it is one of the requests that `open` mapped; the kernel looks at it only within `enter`.
        unsafe { first.add(at).write(request) };
        self.submissions.submit(1);
        true
    }

    /// Gives the kernel what was [pushed](Self::push), lets it do what it can do now, and waits until `wait` completions are there.
    /// Returns how many requests, of the last ones, it did not take: they are as if never pushed.
    ///
    /// # Errors
    /// The kernel's; it has taken nothing then.
    pub fn enter(&mut self, wait: u32) -> Result<u32, Errno> {
        let waiting = self.submissions.pending();
        // SAFETY: what the requests point to is there, as who pushed them promised.
        let result = unsafe { io_uring_enter(&self.ring, waiting, wait, IoringEnterFlags::GETEVENTS) };
        let left = self.submissions.pending();
        self.submissions.withdraw(left);
        result.map(|_| left)
    }

    /// Whether the kernel has something to do that it does within [`Self::enter`] alone.
    #[inline]
    pub fn is_due(&self) -> bool {
        let work = IoringSqFlags::TASKRUN | IoringSqFlags::CQ_OVERFLOW;
        self.submissions.flags() & work.bits() != 0
    }

    /// The next completion.
    #[inline]
    pub fn complete(&mut self) -> Option<Completion> {
        if self.completions.peek(1) == 0 {
            return None;
        }
        let completion = self.completions.read(0);
        self.completions.release(1);
        Some(completion)
    }

    /// How many buffers there are.
    pub fn buffers(&self) -> usize {
        self.buffers.count()
    }

    /// The buffer of which a completion says that it is filled; `None`: the kernel did not have it.
    #[inline]
    pub fn take(&mut self, number: u16) -> Option<Box<[u8]>> {
        self.buffers.take(number)
    }

    /// Gives the kernel a buffer again, under a number whose buffer was [taken](Self::take).
    #[inline]
    pub fn give(&mut self, number: u16, buffer: Box<[u8]>) {
        self.buffers.give(number, buffer);
    }

    /// Completions that have not been looked at.
    pub fn waiting(&self) -> u32 {
        self.completions.pending()
    }
}

impl AsFd for Uring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring")
            .field("ring", &self.ring)
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

/// The number of the buffer that a completion fills.
#[inline]
pub fn buffer_of(completion: &Completion) -> Option<u16> {
    let flags = IoringCqeFlags::from_bits_retain(completion.flags);
    flags.contains(IoringCqeFlags::BUFFER).then_some((completion.flags >> 16) as u16)
}

/// Whether the request goes on, and more completions follow.
#[inline]
pub fn goes_on(completion: &Completion) -> bool {
    IoringCqeFlags::from_bits_retain(completion.flags).contains(IoringCqeFlags::MORE)
}

#[cfg(test)]
pub(crate) mod tests;
