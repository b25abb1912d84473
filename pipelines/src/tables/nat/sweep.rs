//! The rounds in which unused mappings, blocks and pairs end, a slice at a time.
//!
//! Owns how far the round is: a successor begins another, which is right, for nothing ends in a round that has not seen all
//! flows. Refuses nothing. Keeps true: a slice looks at no more than [`SLICE`] entries.

use std::net::IpAddr;

use zsync_packet::flow::FlowKey;

use super::block::ClientBlocks;
use super::endpoint::Endpoint;
use super::peers::Peers;
use super::translations::Translations;
use crate::tables::flow::{FlowId, Flows};

/// Entries of a slice: with a slice every 100 µs, a round through a million flows takes 3 s, and 2 µs of each slice.
const SLICE: u32 = 32;
/// Nanoseconds from the beginning of one round to that of the next, at least.
const PACE: u64 = 1_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Flows,
    Mappings,
    Blocks,
    Peers,
    Done,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Sweep {
    phase: Phase,
    next: u32,
    began: u64,
}

impl Sweep {
    /// At the beginning of the round that [`Translations::open`] began.
    pub fn new(now: u64) -> Self {
        Self { phase: Phase::Flows, next: 0, began: now }
    }

    /// A slice at `now` (nanoseconds). Flows whose external address is not `ours` any more are removed, and mappings with it.
    pub fn slice(&mut self, nat: &mut Translations, flows: &Flows, now: u64, ours: impl Fn(IpAddr) -> bool) {
        let (from, to) = (self.next, self.next.saturating_add(SLICE));
        let end = match self.phase {
            Phase::Flows => flows.end(),
            Phase::Mappings => nat.mappings.end(),
            Phase::Blocks => nat.blocks.as_ref().map_or(0, ClientBlocks::end),
            Phase::Peers => nat.peers.as_ref().map_or(0, Peers::end),
            Phase::Done => {
                if now.saturating_sub(self.began) >= PACE {
                    nat.begin();
                    *self = Self::new(now);
                }
                return;
            }
        };
        let slice = from..to.min(end);
        match self.phase {
            Phase::Flows => hold(nat, flows, slice, &ours),
            Phase::Mappings => slice.for_each(|number| nat.review_mapping(number, &ours)),
            Phase::Blocks => slice.for_each(|number| nat.review_block(number, now)),
            Phase::Peers => slice.for_each(|number| nat.review_peer(number)),
            Phase::Done => {}
        }
        self.next = to;
        if to >= end {
            self.next = 0;
            self.phase = match self.phase {
                Phase::Flows => Phase::Mappings,
                Phase::Mappings => Phase::Blocks,
                Phase::Blocks => Phase::Peers,
                Phase::Peers | Phase::Done => Phase::Done,
            };
        }
    }
}

/// What the translated ones of these flows use is held.
fn hold(nat: &Translations, flows: &Flows, slice: std::ops::Range<u32>, ours: &impl Fn(IpAddr) -> bool) {
    let mut found = [(FlowKey::NONE, FlowKey::NONE); SLICE as usize];
    let mut count = 0;
    for id in slice.map(FlowId) {
        let Some(hot) = flows.hot(id).filter(|hot| hot.life() != 0 && hot.is_translated()) else { continue };
        let Some(reply) = flows.translation(id) else { continue };
        let original = hot.key();
        let external = Endpoint::destination(&reply);
        if external != Endpoint::source(&original) && !ours(external.address()) {
            flows.remove(id);
            continue;
        }
        nat.mappings.prefetch_external(&external);
        if let Some(slot) = found.get_mut(count) {
            *slot = (original, reply);
            count += 1;
        }
    }
    for (original, reply) in found.iter().take(count) {
        nat.hold(original, reply);
    }
}
