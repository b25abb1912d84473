//! Packets as they were when they came, for stages behind one that translates addresses.
//!
//! Who sent a packet knows it by the addresses that it had then, and so must the answer speak of them, and go to them
//! (RFC 5508 §4). Owns nothing: a flow's two keys say what was changed. Refuses packets of whose flow no more is known. What
//! is translated without a flow, between prefixes, keeps its addresses.

use crate::tables::flow::{FlowId, Flows, Shards};
use zsync_packet::burst::{Burst, FlowState, Fragment};
use zsync_packet::rewrite;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Arrived {
    shards: Option<Shards>,
    flows: Option<Flows>,
}

impl Arrived {
    /// For packets whose flows are in these tables.
    pub fn new(shards: Shards) -> Self {
        Self { shards: Some(shards), flows: None }
    }

    /// From now on the packets are those of this worker.
    pub fn assign(&mut self, worker: usize) {
        self.flows = self.shards.as_ref().and_then(|shards| shards.worker(worker));
    }

    /// Gives packet `i` the addresses and ports that it came with. False, and nothing happens, when that cannot be done: it
    /// must not be answered then.
    pub fn restore(&self, burst: &mut Burst, i: usize) -> bool {
        let (facts, key) = (*burst.facts(i), *burst.key(i));
        let Some((flows, id)) = self.flows.as_ref().zip(FlowId::from_fact(facts.flow)) else { return true };
        let Some(reply) = flows.translation(id) else { return true };
        let original = flows.original(id);
        let (came, leaves) =
            if facts.reply { (reply, original.reversed()) } else { (original, reply.reversed()) };
        // An error about the flow gets no answer, and may go to the kernel as it is; another may stand ahead of the translation.
        if facts.state == FlowState::Related || key == came {
            return true;
        }
        // Without its ports, a first fragment's would be lost.
        let has_ports =
            facts.fragment != Fragment::First || (came.source_port(), came.destination_port()) != (0, 0);
        if key != leaves || !has_ports || rewrite::translate(burst.bytes_mut(i), &facts, &came).is_err() {
            return false;
        }
        burst.set_key(i, came);
        true
    }
}
