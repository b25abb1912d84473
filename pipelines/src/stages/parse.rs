//! `parse`: is this an IP packet that a router may touch, and where do its headers start?
//!
//! Stands ahead of every stage that works on IP. Refuses what RFC 1812 §5.2.2 and RFC 8200 §3 call invalid, martian
//! addresses (RFC 1812 §5.3.7, RFC 4291 §2.5), and frames for other stations; gives the kernel what only an end system or
//! the kernel's own machinery deals with: multicast, broadcast, link-local, IPv4 options. Keeps true: a packet that it
//! leaves undecided is a whole, valid unicast IP packet, and its facts say where.

use crate::snapshot::PortFacts;
use crate::stage::{Cx, Stage};
use crate::stages::partial;
use zsync_packet::burst::{Burst, Facts};
use zsync_packet::header::{Ethernet, HeaderError, Ipv4, Ipv6, ether_type};
use zsync_packet::verdict::{DropReason, Verdict};

/// See the module.
#[derive(Clone, Debug)]
pub struct Parse {
    ports: Vec<PortFacts>,
}

impl Parse {
    /// For these ports, by number.
    pub fn new(ports: Vec<PortFacts>) -> Self {
        Self { ports }
    }
}

impl Stage for Parse {
    #[inline]
    fn process(&mut self, burst: &mut Burst, _: &Cx) {
        for i in burst.undecided() {
            let Some(port) = self.ports.get(usize::from(burst.port(i).0)) else {
                burst.decide(i, Verdict::Drop(DropReason::NoSuchPort));
                continue;
            };
            match examine(burst.bytes(i), port) {
                Ok(facts) => {
                    *burst.facts_mut(i) = facts;
                    if port.complete_checksums
                        && let Some(packet) = burst.bytes_mut(i).get_mut(usize::from(facts.l3)..)
                    {
                        partial::complete(packet);
                    }
                }
                Err(Refusal { verdict, l3 }) => {
                    burst.facts_mut(i).l3 = l3;
                    burst.decide(i, verdict);
                    if verdict == Verdict::Punt && port.complete_checksums {
                        // The kernel would take a partial checksum for a wrong one as well.
                        if let Some(packet) = burst.bytes_mut(i).get_mut(usize::from(l3)..) {
                            partial::complete(packet);
                        }
                    }
                }
            }
        }
    }
}

struct Refusal {
    verdict: Verdict,
    /// Where the IP header starts, for whoever gives the packet to the kernel.
    l3: u16,
}

fn drop(reason: DropReason) -> Refusal {
    Refusal { verdict: Verdict::Drop(reason), l3: 0 }
}

fn punt(l3: usize) -> Refusal {
    Refusal { verdict: Verdict::Punt, l3: l3 as u16 }
}

#[inline]
fn examine(bytes: &[u8], port: &PortFacts) -> Result<Facts, Refusal> {
    let frame = Ethernet::parse(bytes).map_err(|error| {
        drop(match error {
            HeaderError::TooManyTags => DropReason::VlanTooDeep,
            _ => DropReason::EthernetTruncated,
        })
    })?;
    let l3 = frame.header_len();
    if frame.outer_tag().is_some() {
        return Err(drop(DropReason::VlanTagged));
    }
    if frame.destination() != port.mac && !frame.is_group() {
        return Err(drop(DropReason::NotForThisPort));
    }
    let facts = match frame.ether_type() {
        ether_type::IPV4 => examine_v4(frame.payload(), l3),
        ether_type::IPV6 => examine_v6(frame.payload(), l3),
        _ => Err(drop(DropReason::NotIp)),
    }?;
    // Valid, but for a group: the kernel's, whatever the IP address says (RFC 1812 §5.3.4).
    if frame.is_group() {
        return Err(punt(l3));
    }
    Ok(facts)
}

#[inline]
fn examine_v4(packet: &[u8], l3: usize) -> Result<Facts, Refusal> {
    let ip = Ipv4::parse(packet).map_err(|error| {
        drop(match error {
            HeaderError::BadVersion => DropReason::IpBadVersion,
            HeaderError::BadHeaderLength => DropReason::IpBadHeaderLength,
            HeaderError::BadTotalLength => DropReason::IpBadTotalLength,
            _ => DropReason::IpTruncated,
        })
    })?;
    if ip.verify_checksum().is_err() {
        return Err(drop(DropReason::IpBadChecksum));
    }
    let [source, ..] = ip.source().octets();
    let destination = ip.destination().octets();
    if source == 0 || source == 127 || source >= 224 {
        return Err(drop(DropReason::MartianSource));
    }
    match destination {
        [0 | 127, ..] => return Err(drop(DropReason::MartianDestination)),
        [255, 255, 255, 255] => return Err(punt(l3)),
        [240..=255, ..] => return Err(drop(DropReason::MartianDestination)),
        [224..=239, ..] => return Err(punt(l3)),
        _ => {}
    }
    if ip.has_options() {
        return Err(punt(l3));
    }
    let l4 = if ip.fragment_offset() == 0 { l3 + ip.header_len() } else { 0 };
    Ok(Facts { l3: l3 as u16, l4: l4 as u16, version: 4, protocol: ip.protocol(), hash: 0 })
}

#[inline]
fn examine_v6(packet: &[u8], l3: usize) -> Result<Facts, Refusal> {
    let ip = Ipv6::parse(packet).map_err(|error| {
        drop(match error {
            HeaderError::BadVersion => DropReason::IpBadVersion,
            _ => DropReason::IpTruncated,
        })
    })?;
    let (source, destination) = (ip.source(), ip.destination());
    if source.is_multicast() || source.is_loopback() || source.is_unspecified() {
        return Err(drop(DropReason::MartianSource));
    }
    if destination.is_loopback() || destination.is_unspecified() {
        return Err(drop(DropReason::MartianDestination));
    }
    // Never forwarded off their link (RFC 4291 §2.5.6): neighbour discovery and the like are the kernel's.
    if destination.is_multicast()
        || destination.is_unicast_link_local()
        || source.is_unicast_link_local()
    {
        return Err(punt(l3));
    }
    // A router does not look behind the fixed header, except for hop-by-hop options, which it may skip (RFC 8200 §4.3).
    Ok(Facts { l3: l3 as u16, l4: 0, version: 6, protocol: ip.next_header(), hash: 0 })
}
