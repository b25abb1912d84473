//! Layers: the headers of a packet as they are asked for.

use core::net::IpAddr;

use zsync_packet::checksum::Sum;
use zsync_packet::header::build::{Ipv4Spec, Ipv6Spec};
use zsync_packet::header::tcp::TcpFlags;
use zsync_packet::header::{Mac, VlanTag, ether_type, protocol};

use super::{TemplateError, bits};

/// An IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Who sends it.
    pub source: IpAddr,
    /// Whom it is for; of the same family.
    pub destination: IpAddr,
    /// Hops left.
    pub ttl: u8,
    /// The class of service, 0 to 63 (RFC 2474).
    pub dscp: u8,
    /// Below 2^20; IPv6 alone has it.
    pub flow_label: u32,
}

impl Ip {
    /// TTL 64, all else zero.
    pub fn new(source: IpAddr, destination: IpAddr) -> Self {
        Self { source, destination, ttl: 64, dscp: 0, flow_label: 0 }
    }

    /// Whether its fields hold what they are to.
    pub(super) fn check(&self) -> Result<(), TemplateError> {
        if self.source.is_ipv4() != self.destination.is_ipv4() {
            return Err(TemplateError::Families(self.source, self.destination));
        }
        if self.dscp > 63 {
            return Err(TemplateError::Bits { field: "DSCP", value: self.dscp.into(), most: 63 });
        }
        bits("flow label", self.flow_label, 20)
    }

    /// In bytes.
    pub(super) fn header_len(&self) -> usize {
        if self.source.is_ipv4() { 20 } else { 40 }
    }

    /// What Ethernet calls it.
    pub(super) fn ether_type(&self) -> u16 {
        if self.source.is_ipv4() { ether_type::IPV4 } else { ether_type::IPV6 }
    }

    /// What a header in front of this one calls it.
    pub(super) fn protocol(&self) -> u8 {
        if self.source.is_ipv4() { protocol::IPIP } else { protocol::IPV6 }
    }

    /// The packet around `payload`, and the addresses' sum.
    pub(super) fn packet(&self, next: u8, payload: impl FnOnce(Sum) -> Vec<u8>) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut spec = Ipv4Spec::new(source, destination, next);
                (spec.ttl, spec.tos, spec.dont_fragment) = (self.ttl, self.dscp << 2, true);
                spec.packet(&payload(spec.address_sum()))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut spec = Ipv6Spec::new(source, destination, next);
                (spec.hop_limit, spec.traffic_class, spec.flow_label) =
                    (self.ttl, self.dscp << 2, self.flow_label);
                spec.packet(&payload(spec.address_sum()))
            }
            // `check` has refused it.
            _ => Vec::new(),
        }
    }
}

/// What carries the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A datagram.
    Udp {
        /// The sender's port.
        source: u16,
        /// The receiver's port.
        destination: u16,
        /// Whether it has a checksum; over IPv6 it always does (RFC 8200 §8.1).
        checksum: bool,
    },
    /// A segment without options.
    Tcp {
        /// The sender's port.
        source: u16,
        /// The receiver's port.
        destination: u16,
        /// The control bits.
        flags: TcpFlags,
    },
    /// An echo request of the family's ICMP.
    Echo {
        /// The identifier, which tells flows apart.
        id: u16,
    },
}

/// What lies between two IP headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// UDP, VXLAN (RFC 7348) and an Ethernet header with the outer one's addresses.
    Vxlan {
        /// The network, below 2^24.
        vni: u32,
        /// The outer UDP source port.
        source_port: u16,
    },
    /// GRE (RFC 2784), with a key (RFC 2890) or none.
    Gre {
        /// The key.
        key: Option<u32>,
    },
    /// One IP header in another (RFC 2003, 2473, 4213), of any two families.
    IpIp,
}

/// All headers of a packet, from the outside in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers {
    /// The Ethernet source.
    pub source: Mac,
    /// The Ethernet destination.
    pub destination: Mac,
    /// VLAN tags, outermost first; two at most.
    pub tags: Vec<VlanTag>,
    /// The tunnel and the IP header around it.
    pub tunnel: Option<(Ip, Tunnel)>,
    /// The (inner) IP header.
    pub ip: Ip,
    /// What it carries.
    pub transport: Transport,
}
