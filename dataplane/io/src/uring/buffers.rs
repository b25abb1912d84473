//! Buffers that the kernel receives into, of its own choice: a ring of them, whose first it takes for whatever comes next.
//!
//! Owns: the buffers that the kernel has, each a box that was made here once; the others are with whoever took them. Refuses: numbers
//! that the kernel was not given (`None`). Keeps true: a box is the kernel's or somebody's here, never both; an entry is written
//! before the producer index that covers it. Layout: include/uapi/linux/io_uring.h, `struct io_uring_buf_ring`.

use super::{Shape, UringError};
use crate::mapping::map;
use crate::ring::Memory;
use rustix::fd::AsFd;
use rustix::io_uring::{io_uring_buf, io_uring_ptr};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// Where a ring maps its buffer ring of group 0 (`IORING_OFF_PBUF_RING`).
const AT: u64 = 0x8000_0000;
/// Where the producer index lies: in the first entry, whose own two bytes mean nothing there.
const PRODUCER: usize = 14;

const _: () = assert!(size_of::<io_uring_buf>() == 16);

/// A ring of buffers, and those that the kernel has. See the module.
pub(super) struct Buffers {
    memory: Arc<dyn Memory>,
    mask: u16,
    next: u16,
    /// By number: those that the kernel has.
    given: Vec<Option<NonNull<[u8]>>>,
}

// SAFETY: the pointers are of boxes that nobody else here has.
unsafe impl Send for Buffers {}

impl Buffers {
    /// Maps the buffer ring of `ring`, and gives it as many buffers of `len` bytes as it has entries.
    ///
    /// # Errors
    /// The ring is not as `shape` says.
    pub(super) fn open(ring: impl AsFd, shape: Shape, len: usize) -> Result<Self, UringError> {
        let what = "buffers";
        let fits = shape.buffers.is_power_of_two() && shape.buffers <= 1 << 15;
        let mask = u16::try_from(shape.buffers.wrapping_sub(1)).ok().filter(|_| fits);
        let mask = mask.ok_or(UringError::Shape { what })?;
        let bytes = shape.buffers as usize * size_of::<io_uring_buf>();
        let memory = map(ring.as_fd(), bytes, AT).map_err(|errno| UringError::Map { what, errno })?;
        let mut buffers = Self { memory, mask, next: 0, given: vec![None; shape.buffers as usize] };
        (0..=mask).for_each(|number| buffers.give(number, vec![0; len].into()));
        Ok(buffers)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.given.len()
    }

    /// Gives the kernel a buffer, as number `number`, which is free.
    #[inline]
    pub(super) fn give(&mut self, number: u16, buffer: Box<[u8]>) {
        let Some(place) = self.given.get_mut(usize::from(number)).filter(|place| place.is_none()) else {
            return;
        };
        let len = buffer.len() as u32;
        let buffer = NonNull::from(Box::leak(buffer));
        *place = Some(buffer);
        let at = usize::from(self.next & self.mask) * size_of::<io_uring_buf>();
        // SAFETY: masked, it is one of the entries that `open` mapped. The kernel does not look at it before the index covers it, and
        // the last two bytes, which are the index in the first entry, are left alone.
        unsafe {
            let entry = self.memory.base().add(at).cast::<io_uring_buf>().as_ptr();
            (&raw mut (*entry).addr).write(io_uring_ptr::new(buffer.as_ptr().cast()));
            (&raw mut (*entry).len).write(len);
            (&raw mut (*entry).bid).write(number);
        }
        self.next = self.next.wrapping_add(1);
        // SAFETY: inside of the first entry, and aligned; atomics may be shared with the kernel.
        let producer = unsafe { self.memory.base().add(PRODUCER).cast::<AtomicU16>().as_ref() };
        producer.store(self.next, Ordering::Release);
    }

    /// Takes the buffer with this number, of which the kernel has said that it is filled.
    #[inline]
    pub(super) fn take(&mut self, number: u16) -> Option<Box<[u8]>> {
        let buffer = self.given.get_mut(usize::from(number))?.take()?;
        // SAFETY: leaked by `give`, and taken once. The kernel is done with a buffer of which it has said so.
        Some(unsafe { Box::from_raw(buffer.as_ptr()) })
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        for buffer in self.given.drain(..).flatten() {
            // SAFETY: as in `take`. The kernel writes only within `Uring::enter`, and nobody is there: whoever drops the ring has it alone, and
            // its descriptor was the only one.
            drop(unsafe { Box::from_raw(buffer.as_ptr()) });
        }
    }
}
