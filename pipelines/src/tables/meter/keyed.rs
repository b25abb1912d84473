//! Meters by key: a bounded table of states, in shared memory that all workers write.
//!
//! A bucket is eight slots: a cache line of their keys, then their states. A key is the secret, keyed 64-bit hash of
//! whatever is metered (a source prefix, a flow); two that hash alike share a meter, which n keys do with a chance of n²/2⁶⁵.
//! It has one bucket, so a look-up is two cache lines at known places.
//!
//! **Eviction costs nobody anything.** A state that is idle says what a fresh one says (a full bucket), so its slot may go
//! to another key, and no reset is needed. A slot whose state is *not* idle is never taken: whatever number of sources
//! an attacker invents, an active source keeps its meter, its debts included. A key that finds no slot shares one
//! meter, the crowd's, with all others that found none: together they get what one of them may have. So the table lets
//! through at most (slots + 1) times the rate, and an attack with many sources squeezes those that were quiet before it.
//!
//! **Several writers.** A slot is taken by a compare-and-swap of its key. Two workers that meet a new key at once, or that
//! meet an idle key while its slot goes to another, may keep two states for one burst of packets: whoever sees both
//! adds the second one's debt to the first ([`KeyedView::slot`]), so what passed too early is paid back. A slot must have been
//! idle for [`GRACE`] before it is taken, so that only a worker that was preempted so long can meet the second case.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use zsync_packet::region::Region;

/// Slots of a bucket: their keys fill a cache line.
const SLOTS: usize = 8;
/// The longest state, in words.
const MOST_WORDS: usize = 8;
/// How long a state must have been idle before another key may have its slot, in nanoseconds.
pub const GRACE: u64 = 10_000_000;

/// What the states are: when they are idle, and how a second one is added.
pub trait State {
    /// Whether the state says at `now` (ns) what fresh memory says.
    fn is_idle(&self, state: &[AtomicU64], now: u64) -> bool;
    /// Whether one of its words alone says nothing any more at `now`, so that it may be made 0.
    fn is_past(&self, word: u64, now: u64) -> bool;
    /// Adds the debts of a second state of the same key to the first, and leaves the second fresh.
    fn fold(&self, second: &[AtomicU64], first: &[AtomicU64], now: u64);
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Keyed {
    region: Region,
    buckets: usize,
    words: usize,
}

/// What became of a look-up.
#[derive(Clone, Copy, Debug)]
pub enum Slot<'a> {
    /// The key's own state.
    Own(&'a [AtomicU64]),
    /// All slots that it could have are in use.
    Crowd,
}

impl Keyed {
    /// Memory for `capacity` states of `words` words each, in bytes.
    #[must_use]
    pub const fn bytes(capacity: usize, words: usize) -> usize {
        buckets(capacity) * bucket_words(words) * 8
    }

    /// A table in fresh memory, or what another left there with the same numbers. None when the memory is too short or the
    /// states too long (8 words).
    #[must_use]
    pub fn open(region: Region, capacity: usize, words: usize) -> Option<Self> {
        let buckets = buckets(capacity);
        let fits = (1..=MOST_WORDS).contains(&words) && words.is_power_of_two();
        (fits && region.u64s(0, buckets * bucket_words(words)).is_some()).then_some(Self {
            region,
            buckets,
            words,
        })
    }

    /// Its memory, looked up once for a burst.
    #[inline]
    #[must_use]
    pub fn view(&self) -> KeyedView<'_> {
        let count = self.buckets * bucket_words(self.words);
        KeyedView { words: self.region.u64s(0, count).unwrap_or(&[]), table: self }
    }

    /// The first word of the key's bucket.
    #[inline]
    fn bucket(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.buckets as u128) >> 64) as usize * bucket_words(self.words)
    }
}

/// A table's words.
#[derive(Clone, Copy, Debug)]
pub struct KeyedView<'a> {
    words: &'a [AtomicU64],
    table: &'a Keyed,
}

impl<'a> KeyedView<'a> {
    /// Brings what a look-up of this hash will read into the cache.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let at = self.table.bucket(hash) * 8;
        self.table.region.prefetch(at);
        self.table.region.prefetch(at + 64);
    }

    /// The state of the key with this hash: its own, or an idle one that it takes.
    #[inline]
    pub fn slot(&self, hash: u64, now: u64, state: &impl State) -> Slot<'a> {
        let key = hash.max(1);
        let at = self.table.bucket(hash);
        let Some(keys) = self.words.get(at..).and_then(|words| words.first_chunk::<SLOTS>()) else {
            return Slot::Crowd;
        };
        let mut found = 0u32;
        for (i, word) in keys.iter().enumerate() {
            found |= u32::from(word.load(Relaxed) == key) << i;
        }
        if found.is_power_of_two() {
            return self.state(at, found.trailing_zeros() as usize);
        }
        self.settle(at, keys, key, now, state)
    }

    /// The state of the key with this hash, if it has one: for people.
    #[must_use]
    pub fn find(&self, hash: u64) -> Option<&'a [AtomicU64]> {
        let at = self.table.bucket(hash);
        let keys = self.words.get(at..at + SLOTS)?;
        let slot = keys.iter().position(|word| word.load(Relaxed) == hash.max(1))?;
        match self.state(at, slot) {
            Slot::Own(words) => Some(words),
            Slot::Crowd => None,
        }
    }

    #[inline]
    fn state(&self, bucket: usize, slot: usize) -> Slot<'a> {
        let at = bucket + SLOTS + slot * self.table.words;
        self.words.get(at..at + self.table.words).map_or(Slot::Crowd, Slot::Own)
    }

    /// The key has no slot, or two.
    #[cold]
    fn settle(
        &self,
        at: usize,
        keys: &[AtomicU64; SLOTS],
        key: u64,
        now: u64,
        state: &impl State,
    ) -> Slot<'a> {
        let own = |slot| match self.state(at, slot) {
            Slot::Own(words) => Some(words),
            Slot::Crowd => None,
        };
        if !keys.iter().any(|word| word.load(SeqCst) == key) {
            let before = now.saturating_sub(GRACE);
            let idle = |slot: &usize| own(*slot).is_some_and(|words| state.is_idle(words, before));
            let taken = (0..SLOTS).filter(idle).any(|slot| {
                let old = keys[slot].load(SeqCst);
                old != key && keys[slot].compare_exchange(old, key, SeqCst, SeqCst).is_ok()
            });
            if !taken {
                return Slot::Crowd;
            }
        }
        // All workers choose the first.
        let mut slots = (0..SLOTS).filter(|&slot| keys[slot].load(SeqCst) == key);
        let Some(first) = slots.next() else { return Slot::Crowd };
        for second in slots {
            if let (Some(second), Some(first)) = (own(second), own(first)) {
                state.fold(second, first, now);
            }
            // What another worker adds to it in this moment waits for the slot's next key.
            let _ = keys[second].compare_exchange(key, 0, SeqCst, SeqCst);
        }
        self.state(at, first)
    }

    /// Makes the words of `count` buckets from bucket `from` on 0 that say nothing any more, so that no point in time grows
    /// so old that it seems to be ahead. Returns where to go on.
    pub fn sweep(&self, from: usize, count: usize, now: u64, state: &impl State) -> usize {
        let before = now.saturating_sub(GRACE);
        let size = bucket_words(self.table.words);
        for bucket in from..(from + count).min(self.table.buckets) {
            let states = self.words.get(bucket * size + SLOTS..(bucket + 1) * size).unwrap_or(&[]);
            for word in states {
                let old = word.load(Relaxed);
                if old != 0 && state.is_past(old, before) {
                    // Unless somebody has just used it.
                    let _ = word.compare_exchange(old, 0, Relaxed, Relaxed);
                }
            }
        }
        if from + count >= self.table.buckets { 0 } else { from + count }
    }

    /// Keys whose states are not idle at `now`.
    #[must_use]
    pub fn active(&self, now: u64, state: &impl State) -> usize {
        let size = bucket_words(self.table.words);
        let buckets = self.words.chunks_exact(size);
        let states = buckets.flat_map(|bucket| bucket[SLOTS..].chunks_exact(self.table.words));
        states.filter(|words| !state.is_idle(words, now)).count()
    }
}

const fn buckets(capacity: usize) -> usize {
    let buckets = capacity.div_ceil(SLOTS);
    if buckets == 0 { 1 } else { buckets }
}

/// Whole cache lines.
const fn bucket_words(words: usize) -> usize {
    SLOTS + SLOTS * words
}

#[cfg(test)]
mod tests;
