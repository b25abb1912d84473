//! `owner`: packets of a flow that another worker owns go to that worker.
//!
//! Stands ahead of the first stage that keeps something of flows, when there are several workers. Both directions of a flow,
//! its fragments, and ICMP errors about it, have the same owner: where addresses are translated, the owner of the internal
//! address; else the pair of addresses decides. (Not the ports: fragments have none.) Owns nothing. Keeps true: the owner
//! that it names finds itself to be the owner, so no packet is sent twice.

use super::nat::Owners;
use crate::stage::{Cx, Stage};
use zsync_packet::burst::Burst;
use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::verdict::{PortId, Verdict};

/// See the module.
#[derive(Clone, Debug)]
pub struct Owner {
    worker: u8,
    workers: u8,
    hash_key: HashKey,
    translated: Vec<Owners>,
}

impl Owner {
    /// For `workers` workers.
    pub fn new(workers: u8, hash_key: HashKey) -> Self {
        Self { worker: 0, workers, hash_key, translated: Vec::new() }
    }

    /// Asks the stages that translate addresses first.
    pub fn translated(&mut self, translated: Vec<Owners>) {
        self.translated = translated;
    }

    /// Who owns the flow of `key`, whose packet came in at `port`.
    fn of(&self, key: &FlowKey, port: PortId) -> u8 {
        let translated = self.translated.iter().find_map(|owners| owners.owner(key, port));
        translated.unwrap_or_else(|| {
            let pair = key.addresses_alone();
            let half = pair.symmetric_hash(&self.hash_key) >> 32;
            ((half * u64::from(self.workers)) >> 32) as u8
        })
    }
}

impl Stage for Owner {
    fn process(&mut self, burst: &mut Burst, _: &mut Cx<'_>) {
        for i in burst.undecided() {
            let owner = match super::nat::quoted(burst.bytes(i), burst.facts(i)) {
                // Of the packet that an ICMP error quotes, as its answers are.
                Some(quoted) => self.of(&quoted.reversed(), burst.port(i)),
                None => self.of(burst.key(i), burst.port(i)),
            };
            if owner != self.worker {
                burst.decide(i, Verdict::Worker(owner));
            }
        }
    }

    fn assign(&mut self, worker: usize) {
        self.worker = worker as u8;
    }

    fn explain(&self, burst: &Burst, i: usize, _now: u64, out: &mut Vec<String>) {
        out.push(format!("worker {} owns the flow", self.of(burst.key(i), burst.port(i))));
    }
}
