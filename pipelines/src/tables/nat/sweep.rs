//! The rounds in which unused mappings, blocks and pairs end, a slice at a time.
//!
//! Owns how far the round is, in shared memory: a successor goes on with it, and so do several stages of one worker that share
//! the memory, because pipelines name the same one. Refuses nothing. Keeps true: a slice looks at no more than [`SLICE`]
//! entries, and nothing ends in a round before all flows were seen in it; to see some twice does no harm.

use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;

use zsync_packet::flow::FlowKey;

use super::block::ClientBlocks;
use super::endpoint::Endpoint;
use super::peers::Peers;
use super::translations::{Translations, word};
use crate::tables::flow::{FlowId, Flows};

/// Entries of a slice: with a slice every 100 µs, a round through a million flows takes 3 s.
const SLICE: u32 = 32;
/// Nanoseconds from the beginning of one round to that of the next, at least.
const PACE: u64 = 1_000_000_000;

/// What a round looks at, in this order. The numbers lie in shared memory.
mod phase {
    pub(super) const FLOWS: u64 = 0;
    pub(super) const MAPPINGS: u64 = 1;
    pub(super) const BLOCKS: u64 = 2;
    pub(super) const PEERS: u64 = 3;
}

impl Translations {
    /// A slice of a round at `now` (nanoseconds). Flows whose external address is not `ours` any more are removed, and mappings
    /// with it.
    pub fn slice(&self, flows: &Flows, now: u64, ours: impl Fn(IpAddr) -> bool) {
        let (Some(place), Some(began)) = (self.header(word::PLACE), self.header(word::BEGAN)) else { return };
        // The phase in the high half, the next entry in the low one: one store.
        let (phase, from) = (place.load(Relaxed) >> 32, place.load(Relaxed) as u32);
        let end = match phase {
            phase::FLOWS => flows.end(),
            phase::MAPPINGS => self.mappings.end(),
            phase::BLOCKS => self.blocks.as_ref().map_or(0, ClientBlocks::end),
            phase::PEERS => self.peers.as_ref().map_or(0, Peers::end),
            _ => {
                if now.saturating_sub(began.load(Relaxed)) >= PACE {
                    self.begin();
                    began.store(now, Relaxed);
                    place.store(phase::FLOWS << 32, Relaxed);
                }
                return;
            }
        };
        let to = from.saturating_add(SLICE);
        let slice = from..to.min(end);
        match phase {
            phase::FLOWS => self.hold_flows(flows, slice, &ours),
            phase::MAPPINGS => slice.for_each(|number| self.review_mapping(number, &ours)),
            phase::BLOCKS => slice.for_each(|number| self.review_block(number, now)),
            _ => slice.for_each(|number| self.review_peer(number)),
        }
        let next = if to >= end { (phase + 1) << 32 } else { phase << 32 | u64::from(to) };
        place.store(next, Relaxed);
    }

    /// What the translated ones of these flows use is held.
    fn hold_flows(&self, flows: &Flows, slice: std::ops::Range<u32>, ours: &impl Fn(IpAddr) -> bool) {
        let mut found = [(FlowKey::NONE, FlowKey::NONE); SLICE as usize];
        let mut count = 0;
        for id in slice.map(FlowId) {
            let Some(hot) = flows.hot(id).filter(|hot| hot.life() != 0 && hot.is_translated()) else {
                continue;
            };
            let Some(reply) = flows.translation(id) else { continue };
            let original = hot.key();
            let external = Endpoint::destination(&reply);
            if external != Endpoint::source(&original) && !ours(external.address()) {
                flows.remove(id);
                continue;
            }
            self.mappings.prefetch_external(&external);
            if let Some(slot) = found.get_mut(count) {
                *slot = (original, reply);
                count += 1;
            }
        }
        for (original, reply) in found.iter().take(count) {
            self.hold(original, reply);
        }
    }
}
