//! What the stages `encap` and `decap` are told.

use super::model::PortId;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A tunnel between two ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// What is between the outer IP header and what the tunnel carries.
    pub carrier: Carrier,
    /// Our end.
    pub local: IpAddr,
    /// The other end; of the same family.
    pub remote: IpAddr,
}

/// What is between the outer IP header and what the tunnel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Carrier {
    /// UDP and VXLAN (RFC 7348); it carries Ethernet frames.
    Vxlan {
        /// Network identifier, 24 bits.
        vni: u32,
        /// UDP port.
        port: u16,
    },
    /// GRE (RFC 2784, RFC 2890); it carries IP packets.
    Gre {
        /// Tells tunnels between the same ends apart.
        key: Option<u32>,
    },
    /// Nothing: IP in IP, of either family in either (RFC 2003, 2473, 4213).
    Ip,
}

impl Carrier {
    /// Whether the tunnel carries Ethernet frames, and not IP packets.
    #[must_use]
    pub fn carries_frames(&self) -> bool {
        matches!(self, Self::Vxlan { .. })
    }
}

/// `[encap.NAME]`: packets go into a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncapSpec {
    /// Which.
    pub tunnel: Tunnel,
    /// Hops of the outer packet: 1..=255. A `route` behind takes one off.
    pub ttl: u8,
    /// DSCP of the outer packet, 0..=63; none: the inner packet's.
    pub dscp: Option<u8>,
    /// Whether the outer UDP header has a checksum; none: over IPv6 alone (RFC 7348 §5, RFC 8200 §8.1).
    pub checksum: Option<bool>,
    /// Longest outer packet, in bytes; none: what every port can send.
    pub mtu: Option<u32>,
}

/// `[decap.NAME]`: packets come out of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecapSpec {
    /// Which.
    pub tunnel: Tunnel,
    /// The port that inner frames leave by; none: their IP packets go on to the next stage.
    pub to: Option<PortId>,
    /// Whether tunnel packets to our end that are of no tunnel known here are dropped, and not left to the next stage.
    pub strict: bool,
}
