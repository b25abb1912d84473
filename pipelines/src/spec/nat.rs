//! What a `nat` stage is told: who is translated into what.
//!
//! Plain values; names are resolved. What they mean for a packet is said in [`crate::stages::nat`]. Refuses rules that no packet
//! could meet, or that contradict each other: addresses of two families, prefixes of two lengths, one external address for two.

mod keys;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::address::{Prefix, Service};
use super::model::PortId;
pub(crate) use keys::{NAT, nat};

/// `[nat.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatSpec {
    /// Sources that get the address of the port that they leave by.
    pub masquerade: Vec<Masquerade>,
    /// Sources that get an address of a pool. The first that fits counts, and masquerades come after them.
    pub snat: Vec<SourceNat>,
    /// Ports of an external address that lead inside. The first that fits counts.
    pub forward: Vec<Forward>,
    /// Addresses that stand for each other, one to one.
    pub fixed: Vec<PairOfPrefixes>,
    /// IPv6 prefixes that stand for each other (NPTv6, RFC 6296).
    pub prefix: Vec<PairOfPrefixes>,
    /// Number of the kernel's routing table that says by which port a packet leaves.
    pub table: u32,
    /// Who may send to an external end that is in use.
    pub filtering: Filtering,
    /// External ports, first and last, for sources whose own is not well known.
    pub ports: (u16, u16),
    /// Ports of a block that a client gets for itself: a power of two; 0: ports are given out one by one.
    pub block: u16,
    /// Most blocks of a client: 1..=8.
    pub blocks_per_client: u8,
    /// Most mappings of one worker.
    pub mappings: u32,
}

/// `masquerade = { output = "wan" }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masquerade {
    /// The port that packets leave by.
    pub output: PortId,
    /// Sources; none: all.
    pub from: Vec<Prefix>,
}

/// `snat = [{ from = "10.0.0.0/8", to = "203.0.113.0/28" }]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceNat {
    /// Sources; none: all, and then there is an `output`.
    pub from: Vec<Prefix>,
    /// The port that packets leave by; none: any.
    pub output: Option<PortId>,
    /// The addresses to share.
    pub to: Vec<Prefix>,
}

/// `forward = [{ to = "203.0.113.1", port = "tcp/443", target = "10.0.0.5:8443" }]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The address outside; none: those of the ports that masquerade.
    pub to: Option<IpAddr>,
    /// The protocol, and the first port outside.
    pub service: Service,
    /// The last port outside.
    pub last: u16,
    /// The address inside, of the same family.
    pub target: IpAddr,
    /// The port inside that the first one outside leads to; the others follow.
    pub target_port: u16,
}

/// `static = [{ internal = "10.0.0.8", external = "203.0.113.8" }]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairOfPrefixes {
    /// The addresses inside.
    pub internal: Prefix,
    /// The addresses outside.
    pub external: Prefix,
    /// The port that packets leave by; none: any.
    pub output: Option<PortId>,
}

/// Who may send to an external end that a client uses (RFC 4787 §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filtering {
    /// Only ends that the client has sent to: what the kernel does.
    #[default]
    AddressAndPort,
    /// Only addresses that the client has sent to.
    Address,
    /// Anyone.
    Endpoint,
}

impl Default for NatSpec {
    fn default() -> Self {
        Self {
            masquerade: Vec::new(),
            snat: Vec::new(),
            forward: Vec::new(),
            fixed: Vec::new(),
            prefix: Vec::new(),
            table: 254,
            filtering: Filtering::default(),
            ports: (1024, 65535),
            block: 0,
            blocks_per_client: 4,
            mappings: 65_536,
        }
    }
}

impl NatSpec {
    /// Whether it shares addresses, or forwards ports: then it needs the flows of a `track` stage ahead of it. What only pairs
    /// prefixes needs none.
    #[must_use]
    pub fn needs_flows(&self) -> bool {
        !(self.masquerade.is_empty() && self.snat.is_empty() && self.forward.is_empty())
    }
}
