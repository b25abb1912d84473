//! The header that a tunnel puts ahead of a packet: IP in IP, or IP in UDP.
//!
//! Owns the bytes of RFC 2003, RFC 2473 and RFC 4213, and of GUE's variant 1 (draft-ietf-intarea-gue-09 §2.2: the UDP payload is the packet
//! itself, told by its version; as Linux's FOU takes it, net/ipv4/fou_core.c `gue_udp_recv`). Traffic class and congestion
//! marks are the inner packet's (RFC 6040 §4.1, normal mode), and so is "don't fragment". Refuses what has no room ahead of it.
//! Keeps true: all checksums are right, and padding behind the packet is not carried along.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zsync_packet::burst::{Burst, Fragment};
use zsync_packet::checksum::{self, Sum};
use zsync_packet::flow::FlowKey;
use zsync_packet::header::{ether_type, ipv4, ipv6, protocol, udp};
use zsync_packet::verdict::DropReason;

use crate::spec::Prefix;

/// Time to live of an outer header: what RFC 1700 recommends and Linux has (`IPDEFTTL`).
const TTL: u8 = 64;
/// First of the source ports of GUE: the dynamic ones (RFC 6335 §6), as RFC 7348 §5 has it for VXLAN.
const FIRST_PORT: u16 = 49_152;

/// A tunnel to one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outer {
    /// The sender: the bits behind the prefix are the flow's.
    pub source: Prefix,
    /// The backend, of the same family.
    pub destination: IpAddr,
    /// The port that takes GUE; `None`: IP in IP.
    pub gue: Option<u16>,
}

impl Outer {
    /// Bytes that it adds.
    pub fn overhead(&self) -> usize {
        let ip = if self.destination.is_ipv4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
        ip + if self.gue.is_some() { udp::HEADER_LEN } else { 0 }
    }

    /// Puts the header ahead of packet `i`, whose IP header starts at its `l3`, is of `version` and says that the packet has
    /// `len` bytes. `hash` is the flow's; `identification` tells outer packets apart that may be fragmented.
    pub fn wrap(
        &self,
        burst: &mut Burst,
        i: usize,
        hash: u32,
        identification: u16,
    ) -> Result<(), DropReason> {
        let facts = *burst.facts(i);
        let l3 = usize::from(facts.l3);
        let inner = Inner::of(burst.bytes(i).get(l3..).unwrap_or(&[])).ok_or(DropReason::IpTruncated)?;
        if !burst.set_len(i, l3 + inner.len) {
            return Err(DropReason::IpTruncated);
        }
        let overhead = self.overhead();
        let bytes = burst.prepend(i, overhead).ok_or(DropReason::NoHeadroom)?;
        // The Ethernet header, to the new front.
        bytes.copy_within(overhead..overhead + l3, 0);
        let (v4, source) = (self.destination.is_ipv4(), spread(self.source, hash));
        let ether = if v4 { ether_type::IPV4 } else { ether_type::IPV6 };
        let (link, packet) = bytes.split_at_mut_checked(l3).ok_or(DropReason::EthernetTruncated)?;
        *link.last_chunk_mut().ok_or(DropReason::EthernetTruncated)? = ether.to_be_bytes();
        let next = match self.gue {
            Some(_) => protocol::UDP,
            None if inner.version == 4 => protocol::IPIP,
            None => protocol::IPV6,
        };
        match (source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let head = packet.first_chunk_mut().ok_or(DropReason::IpTruncated)?;
                *head = inner.head_v4(source, destination, next, overhead, identification);
            }
            (source, destination) => {
                let head = packet.first_chunk_mut().ok_or(DropReason::IpTruncated)?;
                *head = inner.head_v6(mapped(source), mapped(destination), next, overhead, hash);
            }
        }
        let l4 = overhead - if self.gue.is_some() { udp::HEADER_LEN } else { 0 };
        let ports = match self.gue {
            Some(port) => (FIRST_PORT | hash as u16 >> 2, port),
            None => (0, 0),
        };
        if self.gue.is_some() {
            let udp = packet.get_mut(l4..).ok_or(DropReason::IpTruncated)?;
            let len = (udp::HEADER_LEN + inner.len) as u16;
            let head: &mut [u8; udp::HEADER_LEN] = udp.first_chunk_mut().ok_or(DropReason::IpTruncated)?;
            let [[a, b], [c, d], [e, f]] = [ports.0, ports.1, len].map(u16::to_be_bytes);
            *head = [a, b, c, d, e, f, 0, 0];
            // Over IPv4 none is needed: what is inside has its own. Over IPv6 hosts refuse packets without (RFC 8200 §8.1).
            if !v4 {
                let pseudo =
                    Sum::pseudo_v6(mapped(source), mapped(self.destination), protocol::UDP, u32::from(len));
                let sum = (pseudo + Sum::of(udp)).finish_udp();
                if let Some(field) = udp.get_mut(6..8) {
                    field.copy_from_slice(&sum.to_be_bytes());
                }
            }
        }
        let facts = burst.facts_mut(i);
        facts.version = if v4 { 4 } else { 6 };
        (facts.l4, facts.protocol, facts.fragment) = ((l3 + l4) as u16, next, Fragment::Whole);
        (facts.flow, facts.reply, facts.hash) = (0, false, hash);
        let key = match (source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                FlowKey::v4((source, ports.0), (destination, ports.1), next)
            }
            (source, destination) => {
                FlowKey::v6((mapped(source), ports.0), (mapped(destination), ports.1), next)
            }
        };
        burst.set_key(i, key);
        Ok(())
    }
}

/// What the outer header takes over from the packet.
struct Inner {
    version: u8,
    /// As its header says.
    len: usize,
    traffic_class: u8,
    dont_fragment: bool,
}

impl Inner {
    fn of(packet: &[u8]) -> Option<Self> {
        let head: &[u8; ipv4::HEADER_LEN] = packet.first_chunk()?;
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let inner = match head[0] >> 4 {
            4 => Self {
                version: 4,
                len: usize::from(word(2)),
                traffic_class: head[1],
                dont_fragment: head[6] & 0x40 != 0,
            },
            6 => Self {
                version: 6,
                len: ipv6::HEADER_LEN + usize::from(word(4)),
                traffic_class: (word(0) >> 4) as u8,
                dont_fragment: true,
            },
            _ => return None,
        };
        (inner.len <= packet.len()).then_some(inner)
    }

    fn head_v4(
        &self,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        next: u8,
        overhead: usize,
        identification: u16,
    ) -> [u8; ipv4::HEADER_LEN] {
        let mut head = [0; ipv4::HEADER_LEN];
        // A frame holds less than 4,096 bytes, headers and all.
        let len = (self.len + overhead) as u16;
        (head[0], head[1], head[8], head[9]) = (0x45, self.traffic_class, TTL, next);
        head[2..4].copy_from_slice(&len.to_be_bytes());
        head[4..6].copy_from_slice(&identification.to_be_bytes());
        head[6] = if self.dont_fragment { 0x40 } else { 0 };
        head[12..16].copy_from_slice(&source.octets());
        head[16..20].copy_from_slice(&destination.octets());
        let sum = checksum::of(&head);
        head[10..12].copy_from_slice(&sum.to_be_bytes());
        head
    }

    fn head_v6(
        &self,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        next: u8,
        overhead: usize,
        hash: u32,
    ) -> [u8; ipv6::HEADER_LEN] {
        let mut head = [0; ipv6::HEADER_LEN];
        let len = (self.len + overhead - ipv6::HEADER_LEN) as u16;
        // The flow label is the flow's too (RFC 6438).
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | hash >> 12;
        head[..4].copy_from_slice(&first.to_be_bytes());
        head[4..6].copy_from_slice(&len.to_be_bytes());
        (head[6], head[7]) = (next, TTL);
        head[8..24].copy_from_slice(&source.octets());
        head[24..].copy_from_slice(&destination.octets());
        head
    }
}

/// An address of the prefix, by the flow.
fn spread(prefix: Prefix, hash: u32) -> IpAddr {
    match prefix.addr() {
        IpAddr::V4(address) => {
            let host = u32::MAX.checked_shr(prefix.len().into()).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() | hash & host).into()
        }
        IpAddr::V6(address) => {
            let host = u128::MAX.checked_shr(prefix.len().into()).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() | u128::from(hash) & host).into()
        }
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}
