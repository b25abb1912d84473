//! `track`: which connection a packet belongs to, and whether it may.
//!
//! ```text
//!   hash all ─► ask for their places in the index ─► ask for the likely flows' records ─► ask for their translations
//!            ─► judge one after the other
//! ```
//!
//! Tells later stages, in the packet's facts, what nf_conntrack would: new, established, related, invalid or untracked; the
//! flow, and whether the packet goes against it. Owns: nothing; the flows lie in shared memory ([`Flows`]), one table for each
//! worker. Refuses (drops), unless told otherwise, packets that belong to no connection that could be here; and always new
//! flows beyond a limit. Keeps true: packets of one burst see each other's effects, in order; a flow outlives neither its
//! timeout nor, being weak, a lack of room.
//!
//! The host's own connections are not tracked: what it sends itself does not come by here, so that of each only half would be seen.
//! What is for one of its addresses, belongs to no flow and opens none is left untracked, not called invalid; and a flow whose
//! first packet the kernel gets for itself is forgotten.
//!
//! A new flow is there at once, not when its first packet has passed all stages, as in the kernel. Who runs the pipelines
//! calls [`Stage::settle`] after them: flows whose first packet a later stage has dropped or answered are forgotten again.
//!
//! Whoever acts on a packet's flow later in the same burst asks [`Flows::is_it`] first: a packet behind it may have made an
//! end of that flow.

use crate::stage::{Chore, Cx, Stage};
use crate::tables::flow::{FlowId, Flows, Shards};
use zsync_packet::burst::{BURST, Burst, FlowState};
use zsync_packet::header::protocol;
use zsync_packet::verdict::{DropReason, Verdict};

mod icmp;
mod in_words;
mod judge;
mod own;
mod quick;
mod rules;
pub mod segment;
pub mod states;
pub mod tcp;
pub mod timeouts;
pub mod view;
pub mod window;

use judge::{Judge, Packet, Told};
pub use own::{Own, is_local};
pub use rules::Rules;

/// Records that one slice of the expiry sweep looks at: with a slice every 100 µs, a table of a million is through in three
/// seconds.
const SWEEP: u32 = 32;

/// See the module.
#[derive(Clone, Debug)]
pub struct Track {
    /// The tables of all workers, and that of this one; none before it is known which worker this is.
    shards: Option<Shards>,
    flows: Option<Flows>,
    rules: Rules,
    own: Own,
    worker: usize,
    /// The table is as a writer leaves it that is not killed.
    sound: bool,
    /// The flows that this burst began, and the packets that did; as many as counted.
    begun: [(u8, FlowId); BURST],
    count: usize,
    /// When the last burst came, in nanoseconds.
    now: u64,
}

impl Track {
    /// Tracks by these rules in the table of the worker that it is [assigned](Stage::assign) to. Until then it tracks nothing.
    pub fn new(shards: Shards, rules: Rules) -> Self {
        Self { shards: Some(shards), flows: None, ..Self::over(None, rules) }
    }

    /// Tracks by these rules in this table, of which it is the only writer, with the other stages of its worker.
    pub fn alone(flows: Flows, rules: Rules) -> Self {
        Self::over(Some(flows), rules)
    }

    fn over(flows: Option<Flows>, rules: Rules) -> Self {
        let begun = [(0, FlowId(0)); BURST];
        Self {
            shards: None,
            flows,
            rules,
            own: Own::default(),
            worker: 0,
            sound: false,
            begun,
            count: 0,
            now: 0,
        }
    }

    /// With these addresses as the host's own; else it has none.
    pub fn at(self, own: Own) -> Self {
        Self { own, ..self }
    }

    /// The table; none before it is known which worker this is.
    pub fn flows(&self) -> Option<&Flows> {
        self.flows.as_ref()
    }

    /// Finishes what a process was killed in that had the table before.
    #[cold]
    fn recover(&mut self) {
        self.sound = true;
        // Once a process: after that it is sound, whatever configuration comes.
        let first = self.shards.as_ref().is_none_or(|shards| shards.is_first(self.worker));
        if let Some(flows) = self.flows.as_ref().filter(|_| first) {
            flows.recover();
        }
    }
}

impl Stage for Track {
    fn assign(&mut self, worker: usize) {
        if let Some(shards) = &self.shards {
            (self.flows, self.worker, self.sound) = (shards.worker(worker), worker, false);
        }
    }

    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        if !self.sound {
            self.recover();
        }
        self.now = cx.now;
        let Some(flows) = &self.flows else { return };
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
                // Of others, it is hardly ever read.
                if burst.facts(i).protocol == protocol::TCP {
                    flows.prefetch_cold(id);
                }
            }
            guesses[i & (BURST - 1)] = guess;
        }
        if flows.has_translations() {
            // By now the records have come that say where the translations are.
            for id in packets.filter_map(|i| guesses[i & (BURST - 1)]) {
                flows.prefetch_translation(id);
            }
        }
        let judge = Judge { flows, rules: &self.rules, own: &self.own, now: cx.now };
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

    /// Forgets the flows that the last burst began, and whose first packet was dropped or answered since, or is the host's own
    /// matter; closes the connections one of whose ends was told that they are over. The burst still holds its packets, and all
    /// of them are decided.
    fn settle(&mut self, burst: &Burst) {
        let count = std::mem::take(&mut self.count);
        let Some(flows) = &self.flows else { return };
        for &(i, id) in self.begun.iter().take(count) {
            let i = usize::from(i);
            let (facts, key) = (burst.facts(i), burst.key(i));
            let ended = match burst.verdict(i) {
                Verdict::Drop(_) => true,
                Verdict::Punt => facts.answered || self.own.has(key.destination()),
                _ => facts.answered,
            };
            // It may have been translated meanwhile.
            let is_it = || flows.is_it(id, key) == Some(false) || flows.reply_key(id).reversed() == *key;
            if ended && facts.flow == id.fact() && is_it() {
                flows.remove(id);
            }
        }
        if matches!(burst.unanimous(), Some(Verdict::Drop(_))) {
            return;
        }
        for i in 0..burst.len() {
            let (facts, key) = (burst.facts(i), burst.key(i));
            // The answer is TCP itself: a reset.
            if !facts.answered || facts.protocol != protocol::TCP {
                continue;
            }
            let Some(id) = FlowId::from_fact(facts.flow) else { continue };
            if flows.is_it(id, key).is_some() || flows.reply_key(id).reversed() == *key {
                Judge { flows, rules: &self.rules, own: &self.own, now: self.now }.close(id);
            }
        }
    }

    fn explain(&self, burst: &Burst, i: usize, now: u64, out: &mut Vec<String>) {
        self.say(burst, i, now, out);
    }

    fn chore(&self) -> Option<Chore> {
        Some(Chore::sliced("flows to be forgotten"))
    }

    fn tend(&mut self, now: u64) -> bool {
        if !self.sound {
            self.recover();
        }
        if let Some(flows) = &self.flows {
            flows.sweep(SWEEP, now);
        }
        false
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
