//! A hash index in shared memory: from the hash of a key to the number of its record.
//!
//! A bucket is a cache line with eight places: eight tags of 16 bits, then eight numbers of 32. A number lies in one of two
//! buckets, so a lookup looks at sixteen places at most, whatever an attacker sends. Who asks says whether a number's record
//! has the right key: tags only spare most of these questions. From one bucket and the tag follows the other (as in Fan et al.,
//! "Cuckoo Filter", CoNEXT 2014, §3.1), so that a number can move to make room.
//!
//! Owns: the layout, and the order of stores in it. Refuses: a number for which both buckets are full (the caller evicts one of
//! the [rivals](Index::rivals), or does without). Keeps true: a place is published by the store of its tag, and cleared by it, so
//! after a kill at any instruction each number is there or is not (one that was on the move may be there twice, and goes from
//! both places at once); zeroed memory is an empty index. One writer, any readers.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use zsync_packet::region::Region;

/// Places of a bucket.
pub const PLACES: usize = 8;
/// Bytes of a bucket: a cache line.
const BUCKET: usize = 64;
/// Words of 64 bits that a bucket's tags take.
const TAGS: usize = 2;
/// Tags in such a word.
const LANES: usize = 4;
/// Of the eight places, how many are in use when the index has as many numbers as it was made for.
const FILL: usize = 6;

/// See the module. Cloning shares the memory.
#[derive(Clone, Debug)]
pub struct Index {
    region: Region,
    buckets: u32,
}

/// Both buckets of a hash are full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("both buckets of this hash are full")]
pub struct Full;

impl Index {
    /// Bytes of memory for an index of `capacity` numbers.
    pub const fn bytes(capacity: usize) -> usize {
        buckets(capacity) * BUCKET
    }

    /// The index of `capacity` numbers in this memory, as it was left; `None` if the memory is too short.
    pub fn open(region: Region, capacity: usize) -> Option<Self> {
        let buckets = u32::try_from(buckets(capacity)).ok()?;
        (region.len() >= Self::bytes(capacity)).then_some(Self { region, buckets })
    }

    /// Asks for the lines that a lookup of `hash` will read.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let (first, second) = self.choices(hash);
        self.region.prefetch(first * BUCKET);
        self.region.prefetch(second * BUCKET);
    }

    /// The first number under `hash` of which `is_it` says so.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let (first, second) = self.choices(hash);
        let tag = tag(hash);
        for bucket in [first, second] {
            let (tags, numbers) = self.bucket(bucket)?;
            for (word, tags) in tags.iter().enumerate() {
                let mut matches = same(tags.load(Acquire), tag);
                while matches != 0 {
                    let place = word * LANES + matches.trailing_zeros() as usize / 16;
                    let number = numbers.get(place)?.load(Relaxed);
                    if is_it(number) {
                        return Some(number);
                    }
                    matches &= matches - 1;
                }
            }
        }
        None
    }

    /// Adds `number` under `hash`. That it is not there yet is the caller's to know.
    ///
    /// # Errors
    /// Both buckets are full, and so are those that what is in them could move to.
    pub fn insert(&self, hash: u64, number: u32) -> Result<(), Full> {
        let (first, second) = self.choices(hash);
        let (one, other) = (self.free(first), self.free(second));
        let bucket = if one.count_ones() >= other.count_ones() { first } else { second };
        let tag = tag(hash);
        if one | other != 0 {
            return self.put(bucket, tag, number);
        }
        for bucket in [first, second] {
            if self.make_room(bucket) {
                return self.put(bucket, tag, number);
            }
        }
        Err(Full)
    }

    /// Puts a number into the first free place of a bucket.
    fn put(&self, bucket: usize, tag: u16, number: u32) -> Result<(), Full> {
        let place = self.free(bucket).trailing_zeros() as usize;
        let (tags, numbers) = self.bucket(bucket).ok_or(Full)?;
        let (Some(word), Some(slot)) = (tags.get(place / LANES), numbers.get(place)) else {
            return Err(Full);
        };
        slot.store(number, Relaxed);
        word.store(word.load(Relaxed) | u64::from(tag) << (place % LANES * 16), Release);
        Ok(())
    }

    /// Moves one number out of a full bucket, if one can.
    #[cold]
    fn make_room(&self, bucket: usize) -> bool {
        let Some((tags, numbers)) = self.bucket(bucket) else { return false };
        for (place, number) in numbers.iter().enumerate() {
            let Some(word) = tags.get(place / LANES) else { return false };
            let (all, shift) = (word.load(Relaxed), place % LANES * 16);
            let tag = (all >> shift) as u16;
            let other = self.other(bucket, tag);
            if other != bucket && self.free(other) != 0 && self.put(other, tag, number.load(Relaxed)).is_ok()
            {
                word.store(all & !(0xffff << shift), Release);
                return true;
            }
        }
        false
    }

    /// Takes `number` out from under `hash`. False when it was not there.
    pub fn remove(&self, hash: u64, number: u32) -> bool {
        let (first, second) = self.choices(hash);
        let tag = tag(hash);
        let mut removed = false;
        for bucket in [first, second] {
            let Some((tags, numbers)) = self.bucket(bucket) else { return removed };
            for (word, tags) in tags.iter().enumerate() {
                let mut matches = same(tags.load(Relaxed), tag);
                while matches != 0 {
                    let lane = matches.trailing_zeros() as usize / 16;
                    let all = tags.load(Relaxed);
                    if (all >> (lane * 16)) as u16 == tag
                        && numbers.get(word * LANES + lane).is_some_and(|n| n.load(Relaxed) == number)
                    {
                        tags.store(all & !(0xffff << (lane * 16)), Release);
                        removed = true;
                    }
                    matches &= matches - 1;
                }
            }
        }
        removed
    }

    /// Shows all numbers, under whatever hash, that share the two buckets of `hash`: at most sixteen.
    pub fn rivals(&self, hash: u64, mut each: impl FnMut(u32)) {
        let (first, second) = self.choices(hash);
        let second = (second != first).then_some(second);
        for bucket in [Some(first), second].into_iter().flatten() {
            let Some((_, numbers)) = self.bucket(bucket) else { return };
            let free = self.free(bucket);
            let used = numbers.iter().enumerate().filter(|(place, _)| free & 1 << place == 0);
            used.for_each(|(_, number)| each(number.load(Relaxed)));
        }
    }

    /// The two buckets of a hash.
    #[inline]
    fn choices(&self, hash: u64) -> (usize, usize) {
        // The low half, scaled to the number of buckets (Lemire, "Fast random integer generation", 2019).
        let first = ((hash & 0xffff_ffff) * u64::from(self.buckets)) >> 32;
        (first as usize, self.other(first as usize, tag(hash)))
    }

    /// The other bucket of what has this tag in `bucket`: the two add up to a number that the tag alone decides, modulo the
    /// number of buckets.
    #[inline]
    fn other(&self, bucket: usize, tag: u16) -> usize {
        let sum = (u64::from(u32::from(tag).wrapping_mul(0x9e37_79b1)) * u64::from(self.buckets)) >> 32;
        let (sum, buckets) = (sum as usize, self.buckets as usize);
        if sum >= bucket { sum - bucket } else { sum + buckets - bucket }
    }

    #[inline]
    fn bucket(&self, bucket: usize) -> Option<(&[AtomicU64; TAGS], &[AtomicU32; PLACES])> {
        let tags = self.region.u64s(bucket * BUCKET, TAGS)?.first_chunk()?;
        let numbers = self.region.u32s(bucket * BUCKET + TAGS * 8, PLACES)?.first_chunk()?;
        Some((tags, numbers))
    }

    /// The free places of a bucket, as a mask.
    fn free(&self, bucket: usize) -> u32 {
        let Some((tags, _)) = self.bucket(bucket) else { return 0 };
        let mut free = 0;
        for (word, tags) in tags.iter().enumerate() {
            let tags = tags.load(Relaxed);
            for lane in 0..LANES {
                if tags >> (lane * 16) & 0xffff == 0 {
                    free |= 1 << (word * LANES + lane);
                }
            }
        }
        free
    }
}

const fn buckets(capacity: usize) -> usize {
    capacity.div_ceil(FILL) + 1
}

/// A hash's tag: never 0, which is a free place's. Of bits that both choices of a bucket depend on little.
#[inline]
fn tag(hash: u64) -> u16 {
    ((hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16).max(1)
}

/// The lanes of `tags` that are `tag`: the top bit of each. Above a lane that is, another may wrongly seem so; the number's
/// record tells.
#[inline]
fn same(tags: u64, tag: u16) -> u64 {
    const ONES: u64 = 0x0001_0001_0001_0001;
    let differences = tags ^ u64::from(tag).wrapping_mul(ONES);
    differences.wrapping_sub(ONES) & !differences & (ONES << 15)
}

#[cfg(test)]
mod tests;
