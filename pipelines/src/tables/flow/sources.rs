//! How many flows a source has: IPv4 by address, IPv6 by the first 64 bits of it.
//!
//! A count-min sketch (Cormode and Muthukrishnan, 2005) of two rows, each with as many counters as there can be flows. Owns:
//! the counters. Keeps true: it never says too little. It says too much only for a source that shares its counter in *both*
//! rows with many flows of others: where sources have at most *l* flows, by chance once in *l*² sources. It is never full,
//! whatever sources are made up.

use super::table::scaled;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::region::Region;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    region: Region,
    width: u32,
}

/// A source's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slots(u32, u32);

impl Sources {
    pub(super) fn new(region: Region, width: u32) -> Self {
        Self { region, width }
    }

    /// The counters of the source of a flow with this key.
    pub(super) fn slots(&self, key: &FlowKey, secret: &HashKey) -> Slots {
        let [hi, lo, ..] = key.words();
        // Nothing else that is hashed has these upper bits.
        let family = u64::from(key.version()) << 40 | 1 << 48;
        let lo = if key.version() == 6 { 0 } else { lo };
        let hash = FlowKey::from_words([hi, lo, 0, 0, family]).hash(secret);
        Slots(scaled(hash as u32, self.width), self.width + scaled((hash >> 32) as u32, self.width))
    }

    /// At most how many flows the source has, both counters: the smaller one counts.
    pub(super) fn both(&self, slots: Slots) -> (u32, u32) {
        let read = |slot| self.counter(slot).map_or(0, |counter| counter.load(Relaxed));
        (read(slots.0), read(slots.1))
    }

    pub(super) fn set(&self, slots: Slots, counts: (u32, u32)) {
        for (slot, count) in [(slots.0, counts.0), (slots.1, counts.1)] {
            if let Some(counter) = self.counter(slot) {
                counter.store(count, Relaxed);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn counter_for_test(&self, slot: u32) -> u32 {
        self.counter(slot).unwrap().load(Relaxed)
    }

    fn counter(&self, slot: u32) -> Option<&AtomicU32> {
        self.region.u32s(slot as usize * 4, 1)?.first()
    }
}
