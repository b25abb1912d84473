//! Which counters of a session have come: each is taken once (RFC 6479, with the paper's §5.4.6).
//!
//! Owns: nothing; it works on words in memory that outlives the process. Refuses: counters that came already, or that are more
//! than [`WINDOW`] behind the highest. Keeps true, also when its writer is killed at any instruction: no counter is taken twice that was ever told to have been taken.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};

/// How far a counter may be behind the highest that has come: as many as the kernel keeps bits for.
pub const WINDOW: u64 = 8192;
/// Words of bits: one more than the window has, for it seldom begins with a word.
pub const WINDOW_WORDS: usize = WINDOW as usize / 64 + 1;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// One more than the highest counter that has come.
    pub(crate) top: &'a AtomicU64,
    pub(crate) bits: &'a [AtomicU64; WINDOW_WORDS],
}

impl Window<'_> {
    /// Whether `counter` would be taken.
    #[inline]
    pub fn would_take(&self, counter: u64) -> bool {
        let top = self.top.load(Relaxed);
        if counter >= top {
            return true;
        }
        top - counter <= WINDOW && self.word(counter / 64).load(Relaxed) >> (counter % 64) & 1 == 0
    }

    /// Takes it. False: it came already, or too late.
    #[inline]
    pub fn take(&self, counter: u64) -> bool {
        let top = self.top.load(Relaxed);
        let word = counter / 64;
        if counter >= top {
            // The highest first: were the words emptied first and their writer killed, counters that they still stand for would
            // be taken again.
            self.top.store(counter.saturating_add(1), Release);
            let reached = if top == 0 { 0 } else { (top - 1) / 64 + 1 };
            // All of them at most, each once.
            let first = reached.max(word.saturating_sub(WINDOW_WORDS as u64 - 1));
            (first..=word).for_each(|word| self.word(word).store(0, Relaxed));
        } else if top - counter > WINDOW {
            return false;
        }
        let bit = 1 << (counter % 64);
        let bits = self.word(word).load(Relaxed);
        self.word(word).store(bits | bit, Release);
        bits & bit == 0
    }

    #[inline]
    fn word(&self, number: u64) -> &AtomicU64 {
        // The remainder is below their number.
        &self.bits[(number % WINDOW_WORDS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    struct Memory(AtomicU64, [AtomicU64; WINDOW_WORDS]);

    impl Memory {
        fn new() -> Self {
            Self(AtomicU64::new(0), std::array::from_fn(|_| AtomicU64::new(0)))
        }

        fn window(&self) -> Window<'_> {
            Window { top: &self.0, bits: &self.1 }
        }
    }

    /// What a window must do, with all counters remembered.
    #[derive(Default)]
    struct Oracle {
        taken: BTreeSet<u64>,
    }

    impl Oracle {
        fn take(&mut self, counter: u64) -> bool {
            let late = self.taken.last().is_some_and(|last| counter + WINDOW < last + 1);
            !late && self.taken.insert(counter)
        }
    }

    proptest! {
        #[test]
        fn as_if_all_counters_were_remembered(
            steps in proptest::collection::vec((prop_oneof![0..3u64, 0..200u64, 8100..8300u64, 0..30_000u64], any::<bool>()), 1..400),
            start in prop_oneof![Just(0u64), Just(63), Just(1 << 40)],
        ) {
            let (memory, mut oracle, mut at) = (Memory::new(), Oracle::default(), start);
            for (step, back) in steps {
                let counter = if back { at.saturating_sub(step) } else { at + step };
                if !back { at = counter; }
                let would = memory.window().would_take(counter);
                let took = memory.window().take(counter);
                prop_assert_eq!(would, took);
                prop_assert_eq!(took, oracle.take(counter), "counter {}", counter);
            }
        }
    }

    #[test]
    fn the_edges_of_the_window() {
        let memory = Memory::new();
        let window = memory.window();
        assert!(window.take(WINDOW) && window.take(1), "8191 behind the highest");
        assert!(!window.take(0), "8192 behind");
        assert!(window.take(2) && !window.take(2));
        assert!(window.take(u64::MAX - (1 << 13)), "a leap to the last counter that there is");
        assert!(!window.take(2));
    }

    /// The highest comes first: whatever is not done after it, nothing is taken twice.
    #[test]
    fn a_kill_between_two_stores_lets_nothing_in_again() {
        let memory = Memory::new();
        (0..WINDOW + 64).for_each(|counter| assert!(memory.window().take(counter)));
        let leap = WINDOW + 500;
        memory.0.store(leap + 1, Release);
        let taken_again: Vec<_> =
            (0..WINDOW + 64).filter(|counter| memory.window().would_take(*counter)).collect();
        assert_eq!(taken_again, [], "after the leap was told, and nothing more");
    }
}
