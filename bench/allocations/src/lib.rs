//! Allocations: a global allocator that counts those of each thread, so that "none per packet" is a number.
//!
//! Owns: a counter per thread. Refuses nothing: what it is asked for it asks of the system's allocator. Keeps true: a
//! program that does not use it as its global allocator is told so, instead of reading a zero that means nothing.
#![expect(
    unsafe_code,
    reason = "a global allocator is an unsafe trait; every call goes to the system's as it came"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

thread_local! {
    // Without a destructor and initialised when it is compiled: looking at it never allocates.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counted.
pub struct Counting;

fn count() {
    // A thread that is ending may have no counter any more; nobody asks for it then.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: the system's allocator keeps the contract; counting touches no memory but the thread's counter, and cannot unwind.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from the system's allocator, with this layout.
        unsafe { System.dealloc(block, layout) }
    }

    // Not left to the default, which would write zeros over fresh pages: tables lie on such pages and stay untouched.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the block came from the system's allocator, with this layout.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// The program's global allocator is not [`Counting`], so nothing is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this program's global allocator does not count: make it zsync_allocations::Counting")]
pub struct Uncounted;

/// How often this thread has allocated so far.
///
/// # Errors
/// Nothing is counted.
pub fn so_far() -> Result<u64, Uncounted> {
    let before = COUNT.get();
    drop(black_box(Box::new(0_u64)));
    if COUNT.get() > before { Ok(COUNT.get()) } else { Err(Uncounted) }
}

/// How often this thread allocates while `work` runs.
///
/// # Errors
/// Nothing is counted.
pub fn during<T>(work: impl FnOnce() -> T) -> Result<(u64, T), Uncounted> {
    let before = so_far()?;
    let value = work();
    Ok((COUNT.get() - before, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_it_as_the_global_allocator_nothing_is_said_to_be_counted() {
        assert_eq!(so_far(), Err(Uncounted));
        assert_eq!(during(|| Box::new(1)).unwrap_err(), Uncounted);
    }
}
