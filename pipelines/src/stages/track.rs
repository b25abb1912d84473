//! `track`: which connection a packet belongs to, and whether it may.
//!
//! ```text
//!   hash all ─► ask for their places in the index ─► ask for the likely flows' records ─► judge one after the other
//! ```
//!
//! Tells later stages, in the packet's facts, what nf_conntrack would: new, established, related, invalid or untracked; the
//! flow, and whether the packet goes against it. Owns: nothing; the flows lie in shared memory ([`Flows`]), one table for each
//! worker. Refuses (drops), unless told otherwise, packets that belong to no connection that could be here; and always new
//! flows beyond a limit. Keeps true: packets of one burst see each other's effects, in order; a flow outlives neither its
//! timeout nor, being weak, a lack of room.
//!
//! A new flow is there at once, not when its first packet has passed all stages, as in the kernel. Who runs the pipelines
//! calls [`Track::settle`] after them: flows whose first packet a later stage has dropped are forgotten again.
//!
//! Whoever acts on a packet's flow later in the same burst asks [`Flows::is_it`] first: a packet behind it may have made an
//! end of that flow.

use crate::stage::{Cx, Stage};
use crate::tables::flow::{FlowId, Flows};
use zsync_packet::burst::{BURST, Burst, FlowState};
use zsync_packet::verdict::{DropReason, Verdict};

mod icmp;
mod judge;
mod rules;
pub mod segment;
pub mod states;
pub mod tcp;
pub mod timeouts;
pub mod window;

use judge::{Judge, Packet, Told};
pub use rules::Rules;

/// Records that one slice of the expiry sweep looks at: with a slice every 100 µs, a table of a million is through in three
/// seconds.
const SWEEP: u32 = 32;

/// See the module.
#[derive(Clone, Debug)]
pub struct Track {
    flows: Flows,
    rules: Rules,
    /// The table is as a writer has left it that was not killed.
    recovered: bool,
    /// The flows that this burst began, and the packets that did; as many as counted.
    begun: [(u8, FlowId); BURST],
    count: usize,
}

impl Track {
    /// Tracks by these rules in this table, of which it is the only writer, with the other stages of its worker.
    pub fn new(flows: Flows, rules: Rules) -> Self {
        Self { flows, rules, recovered: false, begun: [(0, FlowId(0)); BURST], count: 0 }
    }

    /// The table.
    pub fn flows(&self) -> &Flows {
        &self.flows
    }

    /// Forgets the flows that the last burst began, and whose first packet was dropped since. The burst still holds its
    /// packets, and all of them are decided.
    pub fn settle(&mut self, burst: &Burst) {
        let count = std::mem::take(&mut self.count);
        for &(i, id) in self.begun.iter().take(count) {
            let i = usize::from(i);
            let fresh = matches!(burst.verdict(i), Verdict::Drop(_)) && burst.facts(i).flow == id.fact();
            if fresh && self.flows.is_it(id, burst.key(i)) == Some(false) {
                self.flows.remove(id);
            }
        }
    }

    fn recover(&mut self) {
        if !self.recovered {
            self.flows.recover();
            self.recovered = true;
        }
    }
}

impl Stage for Track {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        self.recover();
        self.count = 0;
        let flows = &self.flows;
        let mut hashes = [0; BURST];
        let mut guesses = [None; BURST];
        // A packet that another pipeline's tracking has seen is not held against itself.
        let mut mask = 0u64;
        for i in burst.undecided() {
            let facts = burst.facts(i);
            if facts.version == 0 || facts.state != FlowState::Untracked {
                continue;
            }
            let hash = flows.hash(burst.key(i));
            flows.prefetch(hash);
            hashes[i & (BURST - 1)] = hash;
            mask |= 1 << i;
        }
        let packets = zsync_packet::burst::Bits(mask);
        for i in packets {
            let guess = flows.guess(hashes[i & (BURST - 1)]);
            if let Some(id) = guess {
                flows.prefetch_flow(id);
                flows.prefetch_cold(id);
            }
            guesses[i & (BURST - 1)] = guess;
        }
        let judge = Judge { flows, rules: &self.rules, now: cx.now };
        for i in packets {
            let (hash, guess) = (hashes[i & (BURST - 1)], guesses[i & (BURST - 1)]);
            let facts = *burst.facts(i);
            let packet = Packet { bytes: burst.bytes(i), facts, key: burst.key(i), hash, guess };
            let told = judge.packet(&packet);
            let facts = burst.facts_mut(i);
            facts.hash = (hash >> 32) as u32;
            match told {
                Told::Of { id, reply, state, mark } => {
                    (facts.flow, facts.reply, facts.state) = (id.fact(), reply, state);
                    if mark != 0 {
                        facts.mark = mark;
                    }
                }
                Told::Begun { id } => {
                    (facts.flow, facts.reply, facts.state) = (id.fact(), false, FlowState::New);
                    if let Some(slot) = self.begun.get_mut(self.count) {
                        *slot = (i as u8, id);
                        self.count += 1;
                    }
                }
                Told::Untracked => {}
                Told::Invalid(reason) => {
                    facts.state = FlowState::Invalid;
                    if self.rules.drop_invalid {
                        burst.decide(i, Verdict::Drop(reason));
                    }
                }
                Told::Refused(reason) => {
                    facts.state = FlowState::New;
                    burst.decide(i, Verdict::Drop(reason));
                }
            }
        }
    }

    fn tend(&mut self, now: u64) {
        self.recover();
        self.flows.sweep(SWEEP, now);
    }
}

/// The reason to drop for what the table refuses.
fn refusal(error: crate::tables::flow::Refused) -> DropReason {
    use crate::tables::flow::Refused;
    match error {
        Refused::Source => DropReason::SourceLimit,
        Refused::HalfOpen => DropReason::SynLimit,
        Refused::Full | Refused::Taken | Refused::NoFlow => DropReason::FlowTableFull,
    }
}

#[cfg(test)]
mod tests;
