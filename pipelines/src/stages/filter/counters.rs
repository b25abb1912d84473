//! Named counters of packets and bytes, in the worker's shard of the stage's state.
//!
//! A shard has [`COUNTERS`] slots of three words: the name's hash, packets, bytes. A name finds its slot by its hash, wherever
//! it stands among the rules, so what was counted goes on after a reload. Keeps true: a slot is taken over only when its name
//! is not among those of the rules that run; then it begins at zero.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use zsync_packet::region::Region;

use crate::state::{State, StateSize};

/// Names that a filter may count by.
pub const COUNTERS: usize = 1024;
const WORDS: usize = 3;

/// What a filter keeps.
pub fn state_size() -> StateSize {
    StateSize { shared: 0, each: COUNTERS * WORDS * 8 }
}

/// What the workers of a filter have counted until now, for whoever looks at it from another process.
#[derive(Clone, Debug, Default)]
pub struct Counted(BTreeMap<u64, (u64, u64)>);

impl Counted {
    /// The sums over all workers' shards of this memory. Packets may be one ahead of their bytes.
    pub fn read(state: &State) -> Self {
        let mut sums: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for shard in (0..state.workers()).filter_map(|worker| state.shard(worker)) {
            for slot in 0..COUNTERS {
                let Some([owner, packets, bytes]) =
                    shard.u64s(slot * WORDS * 8, WORDS).and_then(<[AtomicU64]>::first_chunk)
                else {
                    continue;
                };
                let name = owner.load(Acquire);
                let (packets, bytes) = (packets.load(Acquire), bytes.load(Acquire));
                // Whoever takes the slot over ends the name's ownership first.
                if name != 0 && owner.load(Acquire) == name {
                    let sum = sums.entry(name).or_default();
                    *sum = (sum.0.wrapping_add(packets), sum.1.wrapping_add(bytes));
                }
            }
        }
        Self(sums)
    }

    /// Packets and bytes that were counted by a name.
    pub fn of(&self, name: &str) -> (u64, u64) {
        self.0.get(&hash(name)).copied().unwrap_or_default()
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    region: Region,
    /// Hash of each name, by its place among the rules' counters.
    names: Vec<u64>,
    /// The slot of each name; none until the first packet is about to be counted.
    slots: Vec<Option<u16>>,
}

impl Counters {
    /// In this shard, or, without one, in memory of this process. Writes nothing yet.
    pub(super) fn open(shard: Option<Region>, names: &[String]) -> Self {
        let size = COUNTERS * WORDS * 8;
        let region = shard.filter(|shard| shard.len() >= size);
        // Who counts nothing needs no memory.
        let own = || Region::heap(if names.is_empty() { 1 } else { size });
        Self {
            region: region.unwrap_or_else(own),
            names: names.iter().map(|name| hash(name)).collect(),
            slots: vec![None; names.len()],
        }
    }

    /// Counts a packet of `len` bytes by the name at this place.
    #[inline]
    pub(super) fn add(&mut self, place: u16, len: usize) {
        let Some(slot) = self.slots.get(usize::from(place)) else { return };
        let slot = match slot {
            Some(slot) => *slot,
            None => match self.claim(usize::from(place)) {
                Some(slot) => slot,
                None => return,
            },
        };
        if let Some([_, packets, bytes]) = self.words(slot) {
            // Nobody else writes here.
            packets.store(packets.load(Relaxed).wrapping_add(1), Relaxed);
            bytes.store(bytes.load(Relaxed).wrapping_add(len as u64), Relaxed);
        }
    }

    /// Packets and bytes counted by a name.
    pub(super) fn read(&self, name: &str) -> Option<(u64, u64)> {
        let wanted = hash(name);
        let known = (0..COUNTERS as u16).filter_map(|slot| self.words(slot));
        let mut found = known.filter(|words| words[0].load(Relaxed) == wanted);
        found.next().map(|[_, packets, bytes]| (packets.load(Relaxed), bytes.load(Relaxed)))
    }

    /// The slot of a name: the one that it has, else a free one, else one whose name no rule has any more.
    #[cold]
    fn claim(&mut self, place: usize) -> Option<u16> {
        let name = *self.names.get(place)?;
        let owner = |slot: u16| self.words(slot).map(|words| words[0].load(Relaxed));
        let all = 0..COUNTERS as u16;
        let slot = all
            .clone()
            .find(|slot| owner(*slot) == Some(name))
            .or_else(|| all.clone().find(|slot| owner(*slot) == Some(0)))
            .or_else(|| {
                all.clone().find(|slot| owner(*slot).is_some_and(|owner| !self.names.contains(&owner)))
            })?;
        if let Some([owner, packets, bytes]) = self.words(slot)
            && owner.load(Relaxed) != name
        {
            // A kill between these stores leaves a slot of nobody.
            owner.store(0, Release);
            packets.store(0, Release);
            bytes.store(0, Release);
            owner.store(name, Release);
        }
        if let Some(known) = self.slots.get_mut(place) {
            *known = Some(slot);
        }
        Some(slot)
    }

    #[inline]
    fn words(&self, slot: u16) -> Option<&[AtomicU64; WORDS]> {
        self.region.u64s(usize::from(slot) * WORDS * 8, WORDS)?.first_chunk()
    }
}

/// FNV-1a of 64 bits, never 0: two of a thousand names have the same with a probability of 2⁻⁴⁵.
fn hash(name: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, step).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_was_counted_goes_on_in_another_order_and_without_some() {
        let region = Region::heap(state_size().each);
        let mut first = Counters::open(Some(region.clone()), &names(&["a", "b"]));
        (0..3).for_each(|_| first.add(0, 100));
        first.add(1, 60);
        let mut second = Counters::open(Some(region.clone()), &names(&["b", "c"]));
        assert_eq!(second.read("c"), None);
        second.add(0, 40);
        second.add(1, 1);
        assert_eq!(
            (second.read("a"), second.read("b"), second.read("c")),
            (Some((3, 300)), Some((2, 100)), Some((1, 1)))
        );
        second.add(2, 1);
    }

    #[test]
    fn whoever_looks_sees_the_sums_of_all_workers() {
        let state = State::heap(state_size(), 3);
        for worker in 0..3u64 {
            let mut counters = Counters::open(state.shard(worker as usize), &names(&["a", "b"]));
            (0..=worker).for_each(|_| counters.add(0, 100));
            if worker == 1 {
                counters.add(1, 60);
            }
        }
        let counted = Counted::read(&state);
        assert_eq!((counted.of("a"), counted.of("b"), counted.of("c")), ((6, 600), (1, 60), (0, 0)));
    }

    #[test]
    fn a_full_table_gives_the_slots_of_forgotten_names_away() {
        let region = Region::heap(state_size().each);
        let old: Vec<String> = (0..COUNTERS).map(|i| format!("old-{i}")).collect();
        let mut counters = Counters::open(Some(region.clone()), &old);
        (0..COUNTERS as u16).for_each(|place| counters.add(place, 1));
        let kept = names(&["new", "old-0"]);
        let mut counters = Counters::open(Some(region), &kept);
        counters.add(0, 9);
        assert_eq!((counters.read("new"), counters.read("old-0")), (Some((1, 9)), Some((1, 1))));
    }
}
