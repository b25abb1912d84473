//! New flows in order of their age: the half-open connections, and the other weak ones.
//!
//! Two rings of places, each with a flow's number and half its hash. Flows that are strong by now, or gone, leave their places
//! behind; these are dropped as they are met. The ring of half-open connections has twice as many places as there can be of
//! them, so none falls out; the other ring has the last of the new flows only. Owns: the places. Keeps true: no more is
//! evicted on their word than the table confirms (a place whose number has another flow by now is void), so after a kill they
//! are at worst short of one.

use super::layout::{FlowSpace, word};
use super::record::{FlowId, bit};
use super::table::Flows;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Places that one new flow looks at, at most.
const LOOKS: u32 = 64;

/// One of the rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ring {
    HalfOpen,
    Weak,
}

impl Ring {
    /// The bit that its flows have.
    fn bit(self) -> u64 {
        match self {
            Self::HalfOpen => bit::HALF_OPEN,
            Self::Weak => bit::WEAK,
        }
    }

    /// The word of the header with its ends.
    fn ends(self) -> usize {
        match self {
            Self::HalfOpen => word::RING_HALF_OPEN,
            Self::Weak => word::RING_WEAK,
        }
    }

    /// Which of the places of both rings is number `place` of this one.
    fn place(self, place: u32, space: FlowSpace) -> usize {
        place as usize % space.ring() + if self == Self::Weak { space.ring() } else { 0 }
    }
}

impl Flows {
    /// The oldest flow of a ring, taken out of it; `None` when none is found.
    #[cold]
    pub(super) fn oldest(&self, ring: Ring) -> Option<FlowId> {
        for _ in 0..LOOKS {
            let (first, next) = self.ring_ends(ring);
            if first == next {
                return None;
            }
            let place = self.ring_place(ring, first).map_or(0, |place| place.load(Relaxed));
            self.set_ring_ends(ring, first.wrapping_add(1), next);
            let id = self.flow_at(ring, place);
            if id.is_some() {
                return id;
            }
        }
        None
    }

    /// Notes a new flow with these bits.
    pub(super) fn note(&self, id: FlowId, hash: u64, bits: u64) {
        let ring = match bits & bit::COUNTED {
            0 => return,
            bits if bits & bit::HALF_OPEN != 0 => Ring::HalfOpen,
            _ => Ring::Weak,
        };
        let size = self.space.ring() as u32;
        let looks = if ring == Ring::HalfOpen { LOOKS } else { 0 };
        for _ in 0..looks {
            let (first, next) = self.ring_ends(ring);
            if next.wrapping_sub(first) < size {
                break;
            }
            // Every place is taken: the first goes, or goes to the end of the queue if it is not void.
            let place = self.ring_place(ring, first).map_or(0, |place| place.load(Relaxed));
            self.set_ring_ends(ring, first.wrapping_add(1), next);
            if self.flow_at(ring, place).is_none() {
                break;
            }
            self.push(ring, place);
        }
        let (first, next) = self.ring_ends(ring);
        if next.wrapping_sub(first) >= size {
            self.set_ring_ends(ring, first.wrapping_add(1), next);
        }
        self.push(ring, u64::from(id.0) | hash >> 32 << 32);
    }

    fn push(&self, ring: Ring, place: u64) {
        let (first, next) = self.ring_ends(ring);
        if let Some(slot) = self.ring_place(ring, next) {
            slot.store(place, Relaxed);
            self.set_ring_ends(ring, first, next.wrapping_add(1));
        }
    }

    /// The flow that this place is about, if it is still what the ring is for.
    fn flow_at(&self, ring: Ring, place: u64) -> Option<FlowId> {
        let id = FlowId(place as u32);
        let hot = self.hot(id)?;
        let is_it =
            hot.life() != 0 && hot.bits() & ring.bit() != 0 && self.hash(&hot.key()) >> 32 == place >> 32;
        is_it.then_some(id)
    }

    fn ring_ends(&self, ring: Ring) -> (u32, u32) {
        let word = self.header(ring.ends());
        (word as u32, (word >> 32) as u32)
    }

    fn set_ring_ends(&self, ring: Ring, first: u32, next: u32) {
        self.set_header(ring.ends(), u64::from(first) | u64::from(next) << 32);
    }

    fn ring_place(&self, ring: Ring, place: u32) -> Option<&AtomicU64> {
        self.rings.u64s(ring.place(place, self.space) * 8, 1)?.first()
    }
}
