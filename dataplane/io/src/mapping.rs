//! Memory that a descriptor gives out: the rings of AF_XDP sockets and of io_uring.
//!
//! Owns: the mapping, until the last ring in it is dropped. Refuses nothing but what the kernel does. Keeps true: it is mapped for
//! reading and writing, shared with the kernel, and there before it is touched.

#![allow(unsafe_code)]

use crate::ring::Memory;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use std::ptr::NonNull;
use std::sync::Arc;

struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: an address and a length; what lies there is accessed by the rings, which say how.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Memory for Mapping {
    fn base(&self) -> NonNull<u8> {
        self.base
    }

    fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this address and length, and no ring is left that uses it.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Maps `len` bytes of what `fd` has at `offset`.
///
/// # Errors
/// The kernel's.
pub(crate) fn map(fd: BorrowedFd<'_>, len: usize, offset: u64) -> Result<Arc<dyn Memory>, Errno> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::SHARED | MapFlags::POPULATE;
    // SAFETY: a new mapping at an address that the kernel chooses touches no memory of ours.
    let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, protection, flags, fd, offset)? };
    let base = NonNull::new(base.cast()).ok_or(Errno::NOMEM)?;
    Ok(Arc::new(Mapping { base, len }))
}
