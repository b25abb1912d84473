//! Wakers without memory: a waker is a word that names a task, and copying one costs nothing.
//!
//! ```text
//!   63        52 51                    24 23                     0
//!   ┌───────────┬────────────────────────┬────────────────────────┐
//!   │ executor  │ generation of the slot │ slot of the task       │
//!   └───────────┴────────────────────────┴────────────────────────┘
//! ```
//!
//! Keeps true: nothing is read through the word. On the thread of its executor, the executor's own table says whether a task of
//! that slot and generation is alive; anywhere else the word goes to the executor's [`crate::remote`] inbox. So a waker may
//! outlive its task and its executor, and be woken from any thread, for nothing. A slot's generation comes round after 2²⁸
//! tasks, and an executor's number when it is used again: a waker that old may wake another task, which [`std::future::Future`]
//! allows for (a task is polled once too often).

use super::Tasks;
use crate::remote;
use std::cell::Cell;
use std::ptr;
use std::task::{RawWaker, RawWakerVTable, Waker};

const SLOT_BITS: u32 = 24;
const GENERATION_BITS: u32 = 28;
/// Tasks of one executor.
pub(crate) const MAX_TASKS: usize = 1 << SLOT_BITS;
/// Executors of one process at a time.
pub(crate) const MAX_EXECUTORS: usize = 1 << (64 - SLOT_BITS - GENERATION_BITS);

/// Names a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(u64);

impl Word {
    pub(super) fn new(executor: u16, generation: u32, slot: u32) -> Self {
        debug_assert!(usize::from(executor) < MAX_EXECUTORS && (slot as usize) < MAX_TASKS);
        let generation = u64::from(generation) & ((1 << GENERATION_BITS) - 1);
        Self(u64::from(executor) << (SLOT_BITS + GENERATION_BITS) | generation << SLOT_BITS | u64::from(slot))
    }

    /// As a number that [`Word::of_bits`] takes back.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn of_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) fn executor(self) -> u16 {
        (self.0 >> (SLOT_BITS + GENERATION_BITS)) as u16
    }

    pub(super) fn slot(self) -> usize {
        (self.0 & (MAX_TASKS as u64 - 1)) as usize
    }

    /// The word of the slot's next task.
    pub(super) fn after(self) -> Self {
        const GENERATION: u64 = ((1 << GENERATION_BITS) - 1) << SLOT_BITS;
        Self(self.0 ^ (self.0 ^ self.0.wrapping_add(1 << SLOT_BITS)) & GENERATION)
    }

    /// A waker of this task.
    #[inline]
    pub(super) fn waker(self) -> Waker {
        // SAFETY: the table keeps RawWaker's contract: its functions read nothing through the word, may be called on any
        // thread and at any time, and neither copying nor dropping has anything to count.
        unsafe { Waker::from_raw(raw(self.0)) }
    }

    #[inline]
    fn wake(self) {
        // SAFETY: `Entered` keeps the executor alive while it is here, and leaves on the same thread.
        match unsafe { CURRENT.get().as_ref() } {
            Some(tasks) if tasks.number() == self.executor() => tasks.wake(self),
            _ => remote::wake(self),
        }
    }
}

thread_local! {
    /// The executor that runs on this thread, while it does.
    static CURRENT: Cell<*const Tasks> = const { Cell::new(ptr::null()) };
}

/// While it lives, an executor is this thread's.
pub(super) struct Entered<'a> {
    _tasks: &'a Tasks,
    before: *const Tasks,
}

impl<'a> Entered<'a> {
    pub(super) fn new(tasks: &'a Tasks) -> Self {
        Self { _tasks: tasks, before: CURRENT.replace(tasks) }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

/// What `read` finds out of the executor of this thread; none when none runs.
#[inline]
pub(crate) fn with_current<T>(read: impl FnOnce(&Tasks) -> T) -> Option<T> {
    let tasks = CURRENT.get();
    // SAFETY: as in [`Word::wake`].
    unsafe { tasks.as_ref() }.map(read)
}

fn raw(bits: u64) -> RawWaker {
    static VTABLE: RawWakerVTable = RawWakerVTable::new(
        |data| RawWaker::new(data, &VTABLE),
        |data| Word(data.addr() as u64).wake(),
        |data| Word(data.addr() as u64).wake(),
        |_| (),
    );
    RawWaker::new(ptr::without_provenance(bits as usize), &VTABLE)
}

// A word is a pointer's width.
const _: () = assert!(usize::BITS == 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_names_executor_slot_and_generation() {
        let word = Word::new(4095, u32::MAX, 0xff_ffff);
        assert_eq!((word.executor(), word.slot()), (4095, 0xff_ffff));
        assert_eq!(
            word.after(),
            Word::new(4095, 0, 0xff_ffff),
            "a generation comes round and stays in its bits"
        );
        assert_ne!(Word::new(1, 1, 1).after(), Word::new(1, 1, 1));
        assert_eq!(Word::of_bits(word.bits()), word);
    }

    #[test]
    fn wakers_of_one_task_are_the_same() {
        let waker = Word::new(7, 1, 2).waker();
        assert!(waker.will_wake(&waker.clone()));
        assert!(!waker.will_wake(&Word::new(7, 2, 2).waker()));
        // Its executor never was.
        waker.wake();
    }
}
