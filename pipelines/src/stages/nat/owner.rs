//! Which worker's a packet is, where addresses are translated.
//!
//! The two directions of a translated flow have different addresses, so what is symmetric in them is no owner. Owns nothing.
//! Keeps true: both directions of a flow that this stage translates have the same owner, for the owner of an internal address
//! gives out its own blocks of ports. A packet that no rule is about is left to the symmetric hash of its key.

use std::net::IpAddr;

use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::verdict::PortId;

use super::rules::NatRules;
use crate::tables::nat::{Endpoint, Ports};

/// See the module.
#[derive(Clone, Debug)]
pub struct Owners {
    rules: NatRules,
    ports: Ports,
    hash_key: HashKey,
    workers: u8,
}

impl Owners {
    /// For `workers` workers that share external ports out as `ports` says, whichever worker's share it is.
    pub fn new(rules: NatRules, ports: Ports, hash_key: HashKey, workers: u8) -> Self {
        Self { rules, ports, hash_key, workers }
    }

    /// Whose a packet with this key is, that came in at `input`; `None` where no rule says. For an ICMP error, ask with the
    /// key of the packet that it quotes, reversed.
    #[inline]
    pub fn owner(&self, key: &FlowKey, input: PortId) -> Option<u8> {
        match self.rules.internal_side(key, input)? {
            Ok(address) => Some(self.of(address)),
            Err(port) => Some(self.ports.owner(port)),
        }
    }

    /// Whose a packet to an external end that this stage may have given out is; `None` for others.
    #[inline]
    pub fn outside(&self, key: &FlowKey, input: PortId) -> Option<u8> {
        self.rules.internal_side(key, input)?.err().map(|port| self.ports.owner(port))
    }

    /// Whose an internal address is.
    fn of(&self, address: IpAddr) -> u8 {
        of_host(address, &self.hash_key, self.workers)
    }
}

/// Whose the flows of a host are that is their one fixed end, of `workers` workers.
#[inline]
pub fn of_host(address: IpAddr, hash_key: &HashKey, workers: u8) -> u8 {
    let hash = Endpoint::new(address, 0, 0).hash(hash_key) >> 32;
    ((hash * u64::from(workers)) >> 32) as u8
}
