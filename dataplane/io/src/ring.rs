//! The four rings of an AF_XDP socket, and the two of an io_uring, as seen from user space.
//!
//! Each is a single-producer single-consumer ring in memory that the kernel shares (`net/xdp/xsk_queue.h`):
//!
//! ```text
//!   ring        entries        user space   kernel        frames on it are
//!   fill        UMEM address   produces     consumes      Fill
//!   RX          descriptor     consumes     produces      Fill, until taken
//!   TX          descriptor     produces     consumes      Tx
//!   completion  UMEM address   consumes     produces      Tx, until taken
//! ```
//!
//! Those of an io_uring ([`crate::uring`]) are the same thing: numbers of requests that it produces, completions that it consumes.
//!
//! Owns: the mapping, and the indices of its own side. The other side's index is read once a burst. Refuses: sizes that
//! are no power of two, mappings that are too small. Keeps true: an index is masked in one place (`Ring::slot`); an
//! entry is written before the producer index that covers it (Release), and read after it (Acquire). Indices wrap at 2³².

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// An entry of an RX or TX ring: `struct xdp_desc` of include/uapi/linux/if_xdp.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Descriptor {
    /// UMEM address of the first byte of the packet.
    pub address: u64,
    /// Bytes of the packet.
    pub len: u32,
    /// `XDP_PKT_CONTD`, `XDP_TX_METADATA`.
    pub options: u32,
}

const _: () = assert!(size_of::<Descriptor>() == 16);

/// An entry of an io_uring's completion ring: `struct io_uring_cqe` of include/uapi/linux/io_uring.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Completion {
    /// What the request said of itself.
    pub request: u64,
    /// What became of it: a length, or an error's number below zero.
    pub result: i32,
    /// `IORING_CQE_F_*`, and the number of the buffer in the upper 16 bits.
    pub flags: u32,
}

const _: () = assert!(size_of::<Completion>() == 16);

/// What entries of a ring are: plain old data, valid for any bytes.
pub trait Entry: Copy + sealed::Sealed {}
impl Entry for u32 {}
impl Entry for u64 {}
impl Entry for Descriptor {}
impl Entry for Completion {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
    impl Sealed for super::Descriptor {}
    impl Sealed for super::Completion {}
}

/// Byte offsets of a ring's parts from the start of its mapping (`XDP_MMAP_OFFSETS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingOffsets {
    /// The producer index.
    pub producer: usize,
    /// The consumer index.
    pub consumer: usize,
    /// The flags word.
    pub flags: usize,
    /// The first entry.
    pub entries: usize,
}

/// Memory that a ring lies in, unmapped when dropped.
pub(crate) trait Memory: Send + Sync {
    fn base(&self) -> NonNull<u8>;
    fn len(&self) -> usize;
}

/// The kernel wants to be woken up: `XDP_RING_NEED_WAKEUP`.
const NEED_WAKEUP: u32 = 1;

struct Ring<T: Entry> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    mask: u32,
    _memory: Arc<dyn Memory>,
    _entries: PhantomData<T>,
}

// SAFETY: the pointers lead into memory that `_memory` keeps mapped; one side of the ring belongs to this value, and what
// both sides touch is atomic, or handed over by an atomic.
unsafe impl<T: Entry> Send for Ring<T> {}

impl<T: Entry> Ring<T> {
    fn new(memory: Arc<dyn Memory>, offsets: RingOffsets, size: u32) -> Option<Self> {
        if !size.is_power_of_two() {
            return None;
        }
        let base = memory.base();
        let fits = |at: usize, bytes: usize, align: usize| {
            at.checked_add(bytes).is_some_and(|end| end <= memory.len())
                && (base.as_ptr().addr() + at).is_multiple_of(align)
        };
        let indices = [offsets.producer, offsets.consumer, offsets.flags];
        if !indices.iter().all(|&at| fits(at, 4, 4))
            || !fits(offsets.entries, size as usize * size_of::<T>(), align_of::<T>())
        {
            return None;
        }
        // SAFETY: each offset is inside of the mapping and aligned, as just checked.
        let at = |offset: usize| unsafe { base.add(offset) };
        Some(Self {
            producer: at(offsets.producer).cast(),
            consumer: at(offsets.consumer).cast(),
            flags: at(offsets.flags).cast(),
            entries: at(offsets.entries).cast(),
            mask: size - 1,
            _memory: memory,
            _entries: PhantomData,
        })
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: checked in `new`; atomics may be shared with the kernel.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as `producer`.
        unsafe { self.consumer.as_ref() }
    }

    fn flags(&self) -> u32 {
        // SAFETY: as `producer`.
        unsafe { self.flags.as_ref() }.load(Ordering::Relaxed)
    }

    fn needs_wakeup(&self) -> bool {
        self.flags() & NEED_WAKEUP != 0
    }

    /// Where the entry of an index lies: the one place where an index is masked.
    #[inline]
    fn slot(&self, index: u32) -> NonNull<T> {
        // SAFETY: masked, it is below the size, and all entries are inside of the mapping (checked in `new`).
        unsafe { self.entries.add((index & self.mask) as usize) }
    }

    #[inline]
    fn read(&self, index: u32) -> T {
        // SAFETY: in the mapping; any bytes are a valid `T`; the caller reads what the other side has published, or what
        // this side has written.
        unsafe { self.slot(index).as_ptr().read() }
    }
}

/// The producer's side: fill and TX.
pub struct Producer<T: Entry> {
    ring: Ring<T>,
    /// Index of the next entry to submit; nobody else writes it.
    next: u32,
    /// The consumer's index when last looked at.
    consumed: u32,
}

impl<T: Entry> Producer<T> {
    pub(crate) fn new(memory: Arc<dyn Memory>, offsets: RingOffsets, size: u32) -> Option<Self> {
        let ring = Ring::new(memory, offsets, size)?;
        let next = ring.producer().load(Ordering::Relaxed);
        let consumed = ring.consumer().load(Ordering::Acquire);
        Some(Self { ring, next, consumed })
    }

    /// Entries that can be submitted now, at most `want`; looks at the other side only when it has to.
    #[inline]
    pub fn reserve(&mut self, want: u32) -> u32 {
        let size = self.ring.mask + 1;
        let mut free = size.saturating_sub(self.next.wrapping_sub(self.consumed));
        if free < want {
            self.consumed = self.ring.consumer().load(Ordering::Acquire);
            free = size.saturating_sub(self.next.wrapping_sub(self.consumed));
        }
        free.min(want)
    }

    /// Writes the entry that lies `ahead` of the next one; it is not visible before [`Self::submit`].
    #[inline]
    pub fn write(&mut self, ahead: u32, entry: T) {
        // SAFETY: the slot is in the mapping, and reserved, so the other side does not read it.
        unsafe { self.ring.slot(self.next.wrapping_add(ahead)).as_ptr().write(entry) }
    }

    /// Has the lines that the next `count` entries lie in come nearer, to be written: the other side read them last.
    #[inline]
    pub fn expect(&self, count: u32) {
        let line = (64 / size_of::<T>()) as u32;
        for ahead in (0..count).step_by(line as usize) {
            to_write(self.ring.slot(self.next.wrapping_add(ahead)).as_ptr().cast());
        }
    }

    /// The producer index when `count` more entries will have been submitted.
    #[inline]
    pub fn index_after(&self, count: u32) -> u32 {
        self.next.wrapping_add(count)
    }

    /// Publishes the next `count` entries.
    #[inline]
    pub fn submit(&mut self, count: u32) {
        self.next = self.next.wrapping_add(count);
        self.ring.producer().store(self.next, Ordering::Release);
    }

    /// Entries that the other side has not taken.
    pub fn pending(&self) -> u32 {
        self.next.wrapping_sub(self.ring.consumer().load(Ordering::Acquire))
    }

    /// Takes the last `count` entries back, which the other side has not looked at and does not look at now.
    pub(crate) fn withdraw(&mut self, count: u32) {
        self.next = self.next.wrapping_sub(count);
        self.ring.producer().store(self.next, Ordering::Release);
    }

    /// The flags word, which the other side writes.
    #[inline]
    pub(crate) fn flags(&self) -> u32 {
        self.ring.flags()
    }

    /// Whether the kernel sleeps and has to be woken up.
    #[inline]
    pub fn needs_wakeup(&self) -> bool {
        self.ring.needs_wakeup()
    }

    /// The submitted entries that the other side has not taken, and then the `unsubmitted` ones behind them: for a
    /// successor of whoever wrote them.
    pub fn leftovers(&self, mark: u32) -> (Vec<T>, Vec<T>) {
        let consumed = self.ring.consumer().load(Ordering::Acquire);
        let size = self.ring.mask + 1;
        let submitted = self.next.wrapping_sub(consumed).min(size);
        let unsubmitted = match mark.wrapping_sub(self.next) {
            n if n <= size => n,
            _ => 0,
        };
        let read = |from: u32, count: u32| (0..count).map(|i| self.ring.read(from.wrapping_add(i))).collect();
        (read(consumed, submitted), read(self.next, unsubmitted))
    }
}

/// Has the line at `at` come into the first-level cache, to be written.
#[inline]
fn to_write(at: *const i8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a processor without the instruction takes it for a no-operation, and it faults at no address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_ET0 }>(at);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// The consumer's side: RX and completion.
pub struct Consumer<T: Entry> {
    ring: Ring<T>,
    /// Index of the next entry to take; nobody else writes it.
    next: u32,
    /// The producer's index when last looked at.
    produced: u32,
}

impl<T: Entry> Consumer<T> {
    pub(crate) fn new(memory: Arc<dyn Memory>, offsets: RingOffsets, size: u32) -> Option<Self> {
        let ring = Ring::new(memory, offsets, size)?;
        let next = ring.consumer().load(Ordering::Relaxed);
        Some(Self { produced: next, ring, next })
    }

    /// Entries that can be read now, at most `most`; never more than the ring has, whatever the other side writes.
    #[inline]
    pub fn peek(&mut self, most: u32) -> u32 {
        let mut there = self.produced.wrapping_sub(self.next);
        if there < most {
            self.produced = self.ring.producer().load(Ordering::Acquire);
            there = self.produced.wrapping_sub(self.next);
        }
        there.min(most).min(self.ring.mask + 1)
    }

    /// The entry `ahead` of the next one; below what [`Self::peek`] said.
    #[inline]
    pub fn read(&self, ahead: u32) -> T {
        self.ring.read(self.next.wrapping_add(ahead))
    }

    /// The index of the next entry to take.
    #[inline]
    pub fn index(&self) -> u32 {
        self.next
    }

    /// Gives `count` entries back to the other side.
    #[inline]
    pub fn release(&mut self, count: u32) {
        self.next = self.next.wrapping_add(count);
        self.ring.consumer().store(self.next, Ordering::Release);
    }

    /// Entries that wait to be taken.
    pub fn pending(&self) -> u32 {
        self.ring.producer().load(Ordering::Acquire).wrapping_sub(self.next).min(self.ring.mask + 1)
    }

    /// Whether the other side asks to be woken up.
    #[inline]
    pub fn needs_wakeup(&self) -> bool {
        self.ring.needs_wakeup()
    }
}

#[cfg(test)]
#[path = "ring/tests.rs"]
mod tests;
