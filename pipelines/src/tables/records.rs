//! Records of a fixed size in shared memory, each with the time until which it lives.
//!
//! ```text
//!   header │ free numbers, as a stack │ record 0 │ record 1 │ …        a record: W words, the last one its life
//! ```
//!
//! Owns: the layout, which numbers are free, and the order of stores. Refuses: more records than there is room for. Keeps true,
//! after a kill at any instruction: a record that lives is given to nobody else, and one that does not is given out again or
//! at the latest when its time is over. So the sequence is: [`alloc`](Records::alloc), write the words,
//! [`publish`](Records::publish), then make the number known (in an [`Index`](super::index::Index)); and the other way round:
//! forget the number, then [`free`](Records::free). What was published and not made known is found by
//! [`sweep`](Records::sweep) when its time is over. Zeroed memory has no records. One writer, any readers.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use zsync_packet::region::Region;

/// Bytes of the header: a cache line.
const HEADER: usize = 64;

/// Words of the header.
mod word {
    /// Numbers on the stack.
    pub(super) const FREE: usize = 0;
    /// Numbers from this one on were never in use.
    pub(super) const FRESH: usize = 1;
    /// Where the next sweep goes on.
    pub(super) const SWEEP: usize = 2;
    /// Records that live, for whoever wants to know.
    pub(super) const LIVE: usize = 3;
}

/// Records of `W` words. See the module. Cloning shares the memory.
#[derive(Clone, Debug)]
pub struct Records<const W: usize> {
    region: Region,
    capacity: u32,
    first: usize,
}

impl<const W: usize> Records<W> {
    /// The word that says how long a record lives: nanoseconds of a monotonic clock, 0 for a record that is free.
    pub const LIFE: usize = W - 1;

    /// Bytes of memory for `capacity` records.
    pub const fn bytes(capacity: usize) -> usize {
        Self::first(capacity) + capacity * W * 8
    }

    /// Where the records begin: at a cache line.
    const fn first(capacity: usize) -> usize {
        (HEADER + capacity * 4).next_multiple_of(HEADER)
    }

    /// The records in this memory, as they were left; `None` if the memory is too short.
    pub fn open(region: Region, capacity: usize) -> Option<Self> {
        let number = u32::try_from(capacity).ok()?;
        (region.len() >= Self::bytes(capacity)).then(|| Self {
            region,
            capacity: number,
            first: Self::first(capacity),
        })
    }

    /// How many there can be.
    #[inline]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// How many live; may be off by one for each crash.
    pub fn live(&self) -> u32 {
        self.header(word::LIVE).map_or(0, |live| live.load(Relaxed) as u32)
    }

    /// Numbers from this one on were never in use.
    pub fn fresh(&self) -> u32 {
        self.header(word::FRESH).map_or(0, |fresh| (fresh.load(Relaxed) as u32).min(self.capacity))
    }

    /// The words of a record; `None` for a number that is none.
    #[inline]
    pub fn words(&self, number: u32) -> Option<&[AtomicU64; W]> {
        if number >= self.capacity {
            return None;
        }
        self.region.u64s(self.first + number as usize * W * 8, W)?.first_chunk()
    }

    /// The words of a record that lives, for whoever is not its writer. The first `same` of them belong together: whoever
    /// gives the number to another record ends its life first, so that a life of 0 is seen, or two readings differ. `None`
    /// then, too.
    pub fn steady(&self, number: u32, same: usize) -> Option<[u64; W]> {
        let words = self.words(number)?;
        let read = || std::array::from_fn::<u64, W, _>(|word| words[word].load(Acquire));
        if self.life(number) == 0 {
            return None;
        }
        let (first, second) = (read(), read());
        let is_same = first.iter().zip(&second).take(same).all(|(one, other)| one == other);
        (is_same && first[Self::LIFE] != 0).then_some(first)
    }

    /// Asks for the record's first line.
    #[inline]
    pub fn prefetch(&self, number: u32) {
        self.region.prefetch(self.first + number as usize * W * 8);
    }

    /// Until when a record lives; 0 when it is free.
    #[inline]
    pub fn life(&self, number: u32) -> u64 {
        self.words(number).map_or(0, |words| words[Self::LIFE].load(Acquire))
    }

    /// Lets a record live until `life` (not 0).
    #[inline]
    pub fn set_life(&self, number: u32, life: u64) {
        if let Some(words) = self.words(number) {
            words[Self::LIFE].store(life.max(1), Relaxed);
        }
    }

    /// The number of a free record, to be written and [published](Self::publish); until then it is free, and the next call
    /// gives the same one. `None` when all are in use.
    pub fn alloc(&self) -> Option<u32> {
        let (free, fresh) = (self.header(word::FREE)?, self.header(word::FRESH)?);
        loop {
            let top = free.load(Relaxed).min(u64::from(self.capacity));
            if top > 0 {
                let number = self.stack(top - 1)?.load(Relaxed);
                if self.words(number).is_some_and(|words| words[Self::LIFE].load(Relaxed) == 0) {
                    return Some(number);
                }
                // It lives: a predecessor died between two stores. It comes back when its time is over.
                free.store(top - 1, Relaxed);
                continue;
            }
            let number = fresh.load(Relaxed);
            if number >= u64::from(self.capacity) {
                return None;
            }
            if self.life(number as u32) == 0 {
                return Some(number as u32);
            }
            fresh.store(number + 1, Relaxed);
        }
    }

    /// Lets the record that [`alloc`](Self::alloc) gave last live until `life` (not 0), all its words being written.
    pub fn publish(&self, number: u32, life: u64) {
        let (Some(words), Some(free), Some(fresh)) =
            (self.words(number), self.header(word::FREE), self.header(word::FRESH))
        else {
            return;
        };
        words[Self::LIFE].store(life.max(1), Release);
        let top = free.load(Relaxed);
        if top > 0 {
            free.store(top - 1, Relaxed);
        } else {
            fresh.store(u64::from(number) + 1, Relaxed);
        }
        self.count(1);
    }

    /// Frees a record that nobody knows any more.
    pub fn free(&self, number: u32) {
        let (Some(words), Some(free)) = (self.words(number), self.header(word::FREE)) else { return };
        if words[Self::LIFE].load(Relaxed) == 0 {
            return;
        }
        let top = free.load(Relaxed);
        let Some(slot) = self.stack(top) else {
            // A kill has left numbers on the stack twice; they go as they are met. Until then a sweep finds this one again.
            words[Self::LIFE].store(1, Relaxed);
            return;
        };
        slot.store(number, Relaxed);
        free.store(top + 1, Relaxed);
        words[Self::LIFE].store(0, Release);
        self.count(-1);
    }

    /// Looks at the next `budget` records, and tells of each that does not live beyond `now`; who is told forgets its number
    /// and frees it, or gives it more time.
    pub fn sweep(&self, budget: u32, now: u64, mut over: impl FnMut(u32)) {
        let Some(place) = self.header(word::SWEEP) else { return };
        let fresh = self.fresh();
        let mut next = place.load(Relaxed) as u32;
        for _ in 0..budget.min(fresh) {
            if next >= fresh {
                next = 0;
            }
            let life = self.life(next);
            if life != 0 && life <= now {
                over(next);
            }
            next += 1;
        }
        place.store(u64::from(next), Relaxed);
    }

    fn count(&self, change: i64) {
        if let Some(live) = self.header(word::LIVE) {
            live.store(live.load(Relaxed).saturating_add_signed(change), Relaxed);
        }
    }

    #[inline]
    fn header(&self, word: usize) -> Option<&AtomicU64> {
        self.region.u64s(word * 8, 1)?.first()
    }

    #[inline]
    fn stack(&self, place: u64) -> Option<&AtomicU32> {
        if place >= u64::from(self.capacity) {
            return None;
        }
        self.region.u32s(HEADER + place as usize * 4, 1)?.first()
    }
}

#[cfg(test)]
mod tests;
