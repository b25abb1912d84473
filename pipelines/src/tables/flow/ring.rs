//! The half-open connections in order of their age.
//!
//! A ring of places, each with a flow's number and half its hash. Flows that are open by now, or gone, leave their places
//! behind; these are dropped as they are met. Owns: the places. Keeps true: no more is evicted on its word than the table
//! confirms (a place whose number has another flow by now is void), so after a kill it is at worst short of one.

use super::layout::word;
use super::record::{FlowId, bit};
use super::table::Flows;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Places that one new connection looks at, at most.
const LOOKS: u32 = 64;

impl Flows {
    /// Evicts the oldest half-open connection; false when none is found.
    #[cold]
    pub(super) fn evict_half_open(&self) -> bool {
        for _ in 0..LOOKS {
            let (first, next) = self.ring_ends();
            if first == next {
                return false;
            }
            let place = self.ring_place(first).map_or(0, |place| place.load(Relaxed));
            self.set_ring_ends(first.wrapping_add(1), next);
            if let Some(id) = self.half_open_at(place) {
                self.remove(id);
                self.count(word::EVICTED_HALF_OPEN);
                return true;
            }
        }
        false
    }

    /// Notes a new half-open connection.
    pub(super) fn note_half_open(&self, id: FlowId, hash: u64) {
        let size = self.space.ring() as u32;
        for _ in 0..LOOKS {
            let (first, next) = self.ring_ends();
            if next.wrapping_sub(first) < size {
                break;
            }
            // Every place is taken: the first goes, or goes to the end of the queue if it is not void.
            let place = self.ring_place(first).map_or(0, |place| place.load(Relaxed));
            self.set_ring_ends(first.wrapping_add(1), next);
            if self.half_open_at(place).is_none() {
                break;
            }
            self.push(place);
        }
        let (first, next) = self.ring_ends();
        if next.wrapping_sub(first) >= size {
            self.set_ring_ends(first.wrapping_add(1), next);
        }
        self.push(u64::from(id.0) | hash >> 32 << 32);
    }

    fn push(&self, place: u64) {
        let (first, next) = self.ring_ends();
        if let Some(slot) = self.ring_place(next) {
            slot.store(place, Relaxed);
            self.set_ring_ends(first, next.wrapping_add(1));
        }
    }

    /// The half-open connection that this place is about, if it is still there.
    fn half_open_at(&self, place: u64) -> Option<FlowId> {
        let id = FlowId(place as u32);
        let hot = self.hot(id)?;
        let is_it =
            hot.life() != 0 && hot.bits() & bit::HALF_OPEN != 0 && self.hash(&hot.key()) >> 32 == place >> 32;
        is_it.then_some(id)
    }

    fn ring_ends(&self) -> (u32, u32) {
        let word = self.header(word::RING);
        (word as u32, (word >> 32) as u32)
    }

    fn set_ring_ends(&self, first: u32, next: u32) {
        self.set_header(word::RING, u64::from(first) | u64::from(next) << 32);
    }

    fn ring_place(&self, place: u32) -> Option<&AtomicU64> {
        self.ring.u64s(place as usize % self.space.ring() * 8, 1)?.first()
    }
}
