//! `parse`: is this an IP packet that a router may touch, and where do its headers start?
//!
//! Stands ahead of every stage that works on IP. Refuses what RFC 1812 §5.2.2 and RFC 8200 §3 call invalid, martian
//! addresses (RFC 1812 §5.3.7, RFC 4291 §2.5), frames for other stations, and unicast IP in a link-layer broadcast; gives the
//! kernel what only an end system or the kernel's own machinery deals with: multicast, broadcast, link-local, IPv4 options.
//! Keeps true: a packet that it leaves undecided is a whole, valid unicast IP packet, and its facts say where.
//!
//! For stages that look at the transport it is *deep*: it walks IPv6 extension headers, says what is a fragment, and sets
//! the packet's key. Then packets with IPv4 options are not the kernel's at once, or they would go round the filter: `route`
//! gives them to it. A packet that was parsed before, in the pipeline that sent it here, keeps what is known of it.

use crate::snapshot::PortFacts;
use crate::stage::{Cx, Stage};
use crate::stages::found::{Found, bad_ethernet, bad_ip};
use crate::stages::partial;
use std::net::Ipv6Addr;
use zsync_packet::burst::{Burst, Fragment};
use zsync_packet::flow::FlowKey;
use zsync_packet::header::{Ethernet, Ipv4, Ipv6, ether_type};
use zsync_packet::verdict::{DropReason, PortId, Verdict};

mod plain;

/// See the module.
#[derive(Clone, Debug)]
pub struct Parse {
    ports: Vec<PortFacts>,
    deep: bool,
}

impl Parse {
    /// For these ports, by number; with `deep`, for stages that look at the transport.
    pub fn new(ports: Vec<PortFacts>, deep: bool) -> Self {
        Self { ports, deep }
    }
}

impl Parse {
    #[inline]
    fn parse<const DEEP: bool>(&self, burst: &mut Burst) {
        let common = burst.common_port();
        let facts = |port: PortId| self.ports.get(usize::from(port.0));
        // Nearly always all came in by one port.
        let common = common.and_then(facts);
        for i in burst.undecided() {
            if burst.facts(i).version != 0 {
                // Deep after not deep would be needed if a pipeline without such stages sent packets to one with them; the
                // compiler parses deep in all of them then.
                continue;
            }
            let Some(port) = common.or_else(|| facts(burst.port(i))) else {
                burst.decide(i, Verdict::Drop(DropReason::NoSuchPort));
                continue;
            };
            let bytes = burst.bytes(i);
            let found = match plain::find::<DEEP>(bytes, port.mac) {
                Some(plain) => plain,
                None => match examine::<DEEP>(bytes, port) {
                    Ok(found) => found,
                    Err(refusal) => {
                        refuse(burst, i, refusal, port);
                        continue;
                    }
                },
            };
            let l3 = usize::from(found.l3);
            found.tell::<DEEP>(burst, i);
            if port.complete_checksums
                && let Some(packet) = burst.bytes_mut(i).get_mut(l3..)
            {
                partial::complete(packet);
            }
        }
    }
}

impl Stage for Parse {
    #[inline]
    fn process(&mut self, burst: &mut Burst, _: &mut Cx<'_>) {
        if self.deep { self.parse::<true>(burst) } else { self.parse::<false>(burst) }
    }

    fn explain(&self, burst: &Burst, i: usize, _: u64, out: &mut Vec<String>) {
        self.say(burst, i, out);
    }
}

#[cold]
fn refuse(burst: &mut Burst, i: usize, Refusal { verdict, l3 }: Refusal, port: &PortFacts) {
    burst.facts_mut(i).l3 = l3;
    burst.decide(i, verdict);
    if verdict == Verdict::Punt && port.complete_checksums {
        // The kernel would take a partial checksum for a wrong one as well.
        if let Some(packet) = burst.bytes_mut(i).get_mut(usize::from(l3)..) {
            partial::complete(packet);
        }
    }
}

impl Parse {
    fn say(&self, burst: &Burst, i: usize, out: &mut Vec<String>) {
        let known = burst.facts(i);
        if known.version != 0 {
            return out.push(format!("known already: IPv{}, from byte {} on", known.version, known.l3));
        }
        let Some(port) = self.ports.get(usize::from(burst.port(i).0)) else {
            return out.push("it came in at no port of this configuration".to_owned());
        };
        match Ethernet::parse(burst.bytes(i)) {
            Ok(frame) if frame.destination() == port.mac => out.push("to the port's MAC address".to_owned()),
            Ok(frame) if frame.is_group() => out.push("to a group of stations".to_owned()),
            Ok(_) => out.push("to another station's MAC address than the port's".to_owned()),
            Err(_) => {}
        }
        let bytes = burst.bytes(i);
        let found = if self.deep { examine::<true>(bytes, port) } else { examine::<false>(bytes, port) };
        out.push(match found {
            Ok(found) => found.in_words("valid"),
            Err(Refusal { verdict: Verdict::Punt, .. }) => {
                "for an end system or the kernel: multicast, broadcast, link-local or with IPv4 options"
                    .to_owned()
            }
            Err(_) => "not a packet that a router may forward".to_owned(),
        });
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

/// Looks at any packet, and says of what is wrong what it is.
#[inline(never)]
fn examine<const DEEP: bool>(bytes: &[u8], port: &PortFacts) -> Result<Found, Refusal> {
    let frame = Ethernet::parse(bytes).map_err(|error| drop(bad_ethernet(error)))?;
    let l3 = frame.header_len();
    if frame.outer_tag().is_some() {
        return Err(drop(DropReason::VlanTagged));
    }
    if frame.destination() != port.mac && !frame.is_group() {
        return Err(drop(DropReason::NotForThisPort));
    }
    match frame.ether_type() {
        ether_type::IPV4 => examine_v4::<DEEP>(frame.payload(), l3, frame.is_group()),
        ether_type::IPV6 => examine_v6::<DEEP>(frame.payload(), l3, frame.is_group()),
        _ => Err(drop(DropReason::NotIp)),
    }
}

/// A link-layer broadcast or multicast of a packet for one station is not forwarded (RFC 1812 §5.3.4). Nor is it punted: the
/// kernel gets a punted packet without its Ethernet header, would take it for one sent to this station, and forward it.
#[inline]
fn refuse_group(group: bool) -> Result<(), Refusal> {
    if group { Err(drop(DropReason::NotForThisPort)) } else { Ok(()) }
}

#[inline]
fn examine_v4<const DEEP: bool>(packet: &[u8], l3: usize, group: bool) -> Result<Found, Refusal> {
    let ip = Ipv4::parse(packet).map_err(|error| drop(bad_ip(error)))?;
    if ip.verify_checksum().is_err() {
        return Err(drop(DropReason::IpBadChecksum));
    }
    let (source, destination) = (ip.source().octets(), ip.destination().octets());
    match (source, destination) {
        // A host that does not know its address yet asks its link for one (RFC 1812 §4.2.2.11).
        ([0, 0, 0, 0], [255, 255, 255, 255]) => return Err(punt(l3)),
        ([0 | 127 | 224..=255, ..], _) => return Err(drop(DropReason::MartianSource)),
        (_, [0 | 127, ..]) => return Err(drop(DropReason::MartianDestination)),
        (_, [224..=239, ..] | [255, 255, 255, 255]) => return Err(punt(l3)),
        (_, [240..=255, ..]) => return Err(drop(DropReason::MartianDestination)),
        _ => {}
    }
    refuse_group(group)?;
    // Link-local addresses are never forwarded (RFC 3927 §2.7): if a route says otherwise, that is between it and the kernel.
    if (ip.has_options() && !DEEP) || is_link_local(source) || is_link_local(destination) {
        return Err(punt(l3));
    }
    Ok(Found::of_v4::<DEEP>(&ip, l3))
}

#[inline]
fn is_link_local(address: [u8; 4]) -> bool {
    matches!(address, [169, 254, ..])
}

#[inline]
fn examine_v6<const DEEP: bool>(packet: &[u8], l3: usize, group: bool) -> Result<Found, Refusal> {
    let ip = Ipv6::parse(packet).map_err(|error| drop(bad_ip(error)))?;
    let (source, destination) = (ip.source(), ip.destination());
    // IPv4-mapped addresses are for programs, not for wires (RFC 6890 §2.2.3: neither source, nor destination, nor forwarded).
    if source.is_multicast() || source.is_loopback() || source.to_ipv4_mapped().is_some() {
        return Err(drop(DropReason::MartianSource));
    }
    if destination.is_loopback()
        || destination.is_unspecified()
        || destination.to_ipv4_mapped().is_some()
        || is_confined_group(destination)
    {
        return Err(drop(DropReason::MartianDestination));
    }
    // From the unspecified address too: who looks for an address of its own has none yet (RFC 4862 §5.4.2).
    if destination.is_multicast() {
        return Err(punt(l3));
    }
    if source.is_unspecified() {
        return Err(drop(DropReason::MartianSource));
    }
    refuse_group(group)?;
    // Never forwarded off their link (RFC 4291 §2.5.6): neighbour discovery and the like are the kernel's.
    if destination.is_unicast_link_local() || source.is_unicast_link_local() {
        return Err(punt(l3));
    }
    if !DEEP {
        // A router does not look behind the fixed header, except for hop-by-hop options, which it may skip (RFC 8200 §4.3).
        let (l3, protocol, key) = (l3 as u16, ip.next_header(), FlowKey::NONE);
        return Ok(Found { l3, l4: 0, version: 6, protocol, fragment: Fragment::Whole, key });
    }
    Found::of_v6(&ip, l3).map_err(drop)
}

/// A multicast group that never leaves its host: of scope 0 (reserved) or 1 (interface-local; RFC 4291 §2.7).
#[inline]
fn is_confined_group(address: Ipv6Addr) -> bool {
    matches!(address.octets(), [0xff, scope, ..] if scope & 0xf <= 1)
}

#[cfg(test)]
mod tests;
