//! A span of memory that outlives whoever made it, and is read and written as atomics.
//!
//! Owns: the address, the length, and a share in whatever keeps the memory mapped. Everything that two processes look at
//! (the packet arena, the ledger, the counters, the FIB) lies in a region; tests and in-process engines use one from the
//! heap. Refuses: views that are misaligned or out of range (`None`, never a panic). Keeps true: the memory is valid for
//! reads and writes, and mapped, as long as any clone or sub-region lives; and all safe access is atomic, so another
//! process that writes at the same time is at worst a wrong value, never undefined behaviour.

use rustix::mm::{Advice, madvise};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// Alignment of a region from the heap, and the least that a mapping has: one page.
pub const PAGE: usize = 4096;

/// What the processor translates an address of at once, at best (x86-64): so many bytes.
const HUGE_PAGE: usize = 2 << 20;

/// A shared span of memory. Cloning shares it; see the module for what holds.
#[derive(Clone)]
pub struct Region {
    base: NonNull<u8>,
    len: usize,
    keep: Arc<dyn Any + Send + Sync>,
}

// SAFETY: a region is an address plus a reference count that is `Send + Sync`; all safe access through it is atomic.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

struct Heap {
    block: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the block belongs to this value alone, which only frees it.
unsafe impl Send for Heap {}
// SAFETY: as above; there is no access through `&Heap`.
unsafe impl Sync for Heap {}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: allocated in `Region::heap` with this very layout, and freed once.
        unsafe { dealloc(self.block.as_ptr(), self.layout) }
    }
}

impl Region {
    /// Zeroed memory of this process, `len` bytes (at least one page), aligned to a page; on huge pages if it is long enough
    /// for one and the kernel gives them to who asks (/sys/kernel/mm/transparent_hugepage/enabled).
    ///
    /// # Panics
    /// If `len` rounded up to a page overflows `isize`.
    pub fn heap(len: usize) -> Self {
        let align = if len < HUGE_PAGE { PAGE } else { HUGE_PAGE };
        // Longer than needed, so that the alignment is made here: allocators hand out fresh zeroed pages as they are,
        // untouched, but write zeros themselves when they are asked for a large alignment.
        let layout = len
            .max(1)
            .checked_next_multiple_of(PAGE)
            .and_then(|size| size.checked_add(align))
            .and_then(|size| Layout::from_size_align(size, 16).ok())
            .expect("a region's length fits the address space");
        // SAFETY: the layout's size is not zero.
        let raw = unsafe { alloc_zeroed(layout) };
        let block = NonNull::new(raw).unwrap_or_else(|| handle_alloc_error(layout));
        let skip = block.as_ptr().addr().next_multiple_of(align) - block.as_ptr().addr();
        // SAFETY: `skip` is below `align`, and the block is that much longer than the region.
        let base = unsafe { block.add(skip) };
        if align == HUGE_PAGE {
            // SAFETY: the range is of this block alone, and its contents stay what they are. Refused, it stays on small pages.
            let _ = unsafe { madvise(base.as_ptr().cast(), len, Advice::LinuxHugepage) };
        }
        Self { base, len, keep: Arc::new(Heap { block, layout }) }
    }

    /// Memory that somebody else mapped; `keep` unmaps it when the last clone is dropped.
    ///
    /// # Safety
    /// `base..base + len` is readable and writable (or only read through this region) while `keep` lives, is aligned to
    /// [`PAGE`], and nobody in this process accesses it other than atomically or through frames of one arena.
    pub unsafe fn from_raw(base: NonNull<u8>, len: usize, keep: Arc<dyn Any + Send + Sync>) -> Self {
        Self { base, len, keep }
    }

    /// Length in bytes.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "an empty region serves nobody")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// First byte; for whoever registers the memory with the kernel.
    #[inline]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The part `range` (bytes), as a region of its own that shares the memory.
    pub fn part(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len {
            return None;
        }
        // SAFETY: `range.start <= len`, so the result stays inside (or one past) the same mapping.
        let base = unsafe { self.base.add(range.start) };
        Some(Self { base, len: range.end - range.start, keep: Arc::clone(&self.keep) })
    }

    /// `count` bytes from byte `offset`.
    #[inline]
    pub fn u8s(&self, offset: usize, count: usize) -> Option<&[AtomicU8]> {
        let first = self.span(offset, count, 1)?;
        // SAFETY: in range and aligned (checked by `span`); atomics may be shared.
        Some(unsafe { std::slice::from_raw_parts(first.as_ptr().cast(), count) })
    }

    /// `count` words of 4 bytes from byte `offset`, which is a multiple of 4.
    #[inline]
    pub fn u32s(&self, offset: usize, count: usize) -> Option<&[AtomicU32]> {
        let first = self.span(offset, count, 4)?;
        // SAFETY: in range and aligned (checked by `span`); atomics may be shared.
        Some(unsafe { std::slice::from_raw_parts(first.as_ptr().cast(), count) })
    }

    /// `count` words of 8 bytes from byte `offset`, which is a multiple of 8.
    #[inline]
    pub fn u64s(&self, offset: usize, count: usize) -> Option<&[AtomicU64]> {
        let first = self.span(offset, count, 8)?;
        // SAFETY: in range and aligned (checked by `span`); atomics may be shared.
        Some(unsafe { std::slice::from_raw_parts(first.as_ptr().cast(), count) })
    }

    /// Asks the processor to fetch the cache line at byte `offset`, if that is inside; changes nothing else.
    #[inline]
    pub fn prefetch(&self, offset: usize) {
        if offset < self.len {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a prefetch of any address is a hint and cannot fault; this one is inside the region, too.
            unsafe {
                use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                _mm_prefetch::<_MM_HINT_T0>(self.base.as_ptr().add(offset).cast());
            }
        }
    }

    #[inline]
    fn span(&self, offset: usize, count: usize, size: usize) -> Option<NonNull<u8>> {
        let end = count.checked_mul(size)?.checked_add(offset)?;
        if end > self.len {
            return None;
        }
        // SAFETY: `offset <= end <= len`.
        let first = unsafe { self.base.add(offset) };
        first.as_ptr().addr().is_multiple_of(size).then_some(first)
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({} bytes at {:p})", self.len, self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn starts_zeroed_and_is_shared_by_its_parts() {
        let region = Region::heap(10_000);
        assert!(region.u8s(0, 10_000).unwrap().iter().all(|b| b.load(Relaxed) == 0));
        let part = region.part(4096..8192).unwrap();
        part.u64s(8, 1).unwrap()[0].store(7, Relaxed);
        drop(part);
        assert_eq!(region.u64s(4096 + 8, 1).unwrap()[0].load(Relaxed), 7);
    }

    #[test]
    fn a_long_one_starts_where_a_huge_page_may() {
        for len in [HUGE_PAGE, HUGE_PAGE + 1, 5 * HUGE_PAGE - 1] {
            let region = Region::heap(len);
            assert!(region.base().as_ptr().addr().is_multiple_of(HUGE_PAGE));
            assert!(region.u8s(0, len).unwrap().iter().all(|b| b.load(Relaxed) == 0));
        }
    }

    #[test]
    fn refuses_what_is_out_of_range_or_misaligned() {
        let region = Region::heap(4096);
        assert!(region.u8s(0, 4097).is_none());
        assert!(region.u32s(2, 1).is_none());
        assert!(region.u64s(4092, 1).is_none());
        assert!(region.u64s(0, usize::MAX).is_none());
        assert!(region.part(1..4098).is_none());
        assert!(region.u64s(4096, 0).is_some());
    }
}
