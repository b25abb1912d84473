//! `inspect`: what do the IP packets in bridged frames say of themselves?
//!
//! Stands on a wire, ahead of the stages that look at IP, where `parse` stands in a router. Says where headers are, what is a
//! fragment, the tag that a frame came with, and the packet's key. A wire is not the packets' router, so no destination is
//! refused and nothing goes to the kernel: multicast, neighbour discovery and frames for any station go on like others. Frames
//! that are no IP stay unknown, and later stages leave them alone. Refuses, by reason, IP packets that are cut or ill-formed, and
//! frames with more tags than are parsed: no rule could say what they are, and nothing goes round a filter. Keeps true: a
//! packet that says that it is IP is known, or dropped.

use crate::snapshot::PortFacts;
use crate::stage::{Cx, Stage};
use crate::stages::found::{Found, bad_ethernet, bad_ip};
use crate::stages::partial;
use zsync_packet::burst::Burst;
use zsync_packet::header::{Ethernet, Ipv4, Ipv6, ether_type};
use zsync_packet::verdict::{DropReason, Verdict};

/// See the module.
#[derive(Clone, Debug)]
pub struct Inspect {
    ports: Vec<PortFacts>,
}

impl Inspect {
    /// For these ports, by number.
    pub fn new(ports: Vec<PortFacts>) -> Self {
        Self { ports }
    }
}

impl Stage for Inspect {
    fn process(&mut self, burst: &mut Burst, _: &mut Cx<'_>) {
        for i in burst.undecided() {
            let known = *burst.facts(i);
            // In the pipeline that sent it here.
            if known.version != 0 {
                continue;
            }
            match examine(burst.bytes(i)) {
                Ok((found, vlan)) => {
                    if known.vlan == 0 {
                        burst.facts_mut(i).vlan = vlan;
                    }
                    let Some(found) = found else { continue };
                    let l3 = usize::from(found.l3);
                    found.tell::<true>(burst, i);
                    let port = self.ports.get(usize::from(burst.port(i).0));
                    if port.is_some_and(|port| port.complete_checksums)
                        && let Some(packet) = burst.bytes_mut(i).get_mut(l3..)
                    {
                        partial::complete(packet);
                    }
                }
                Err(reason) => burst.decide(i, Verdict::Drop(reason)),
            }
        }
    }

    fn explain(&self, burst: &Burst, i: usize, _: u64, out: &mut Vec<String>) {
        let known = burst.facts(i);
        out.push(match examine(burst.bytes(i)) {
            _ if known.version != 0 => {
                format!("known already: IPv{}, from byte {} on", known.version, known.l3)
            }
            Ok((None, _)) => "a frame that is no IP: filters have a word for all of these".to_owned(),
            Ok((Some(found), _)) => found.in_words("well-formed"),
            Err(_) => "it says that it is IP, and is ill-formed".to_owned(),
        });
    }
}

/// What is known of the IP packet in a frame, if there is one, and the frame's tag, or 0.
#[inline]
fn examine(bytes: &[u8]) -> Result<(Option<Found>, u16), DropReason> {
    let frame = Ethernet::parse(bytes).map_err(bad_ethernet)?;
    let found = match frame.ether_type() {
        ether_type::IPV4 => Some(examine_v4(frame.payload(), frame.header_len())?),
        ether_type::IPV6 => Some(examine_v6(frame.payload(), frame.header_len())?),
        _ => None,
    };
    Ok((found, frame.outer_tag().map_or(0, |tag| tag.tci)))
}

#[inline]
fn examine_v4(packet: &[u8], l3: usize) -> Result<Found, DropReason> {
    let ip = Ipv4::parse(packet).map_err(bad_ip)?;
    ip.verify_checksum().map_err(|_| DropReason::IpBadChecksum)?;
    Ok(Found::of_v4::<true>(&ip, l3))
}

#[inline]
fn examine_v6(packet: &[u8], l3: usize) -> Result<Found, DropReason> {
    let ip = Ipv6::parse(packet).map_err(bad_ip)?;
    let found = Found::of_v6(&ip, l3)?;
    // They would have the key of an IPv4 packet (RFC 6890 §2.2.3: neither source, nor destination, nor forwarded).
    if ip.source().to_ipv4_mapped().is_some() {
        return Err(DropReason::MartianSource);
    }
    if ip.destination().to_ipv4_mapped().is_some() {
        return Err(DropReason::MartianDestination);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::fixture::{MAC_OUT, ports, run_one, sample, v4, v6};
    use crate::stages::parse::Parse;
    use zsync_packet::burst::Facts;
    use zsync_packet::flow::FlowKey;
    use zsync_packet::header::build::{self, Ipv4Spec};
    use zsync_packet::header::{VlanTag, corpus};

    fn inspect(packet: &[u8]) -> crate::stages::fixture::Seen {
        run_one(&mut [&mut Inspect::new(ports())], packet)
    }

    #[test]
    fn a_packet_that_a_router_forwards_is_known_as_the_router_knows_it() {
        let mut known = 0;
        for corpus::Sample { bytes, name, .. } in corpus::valid() {
            let routed = run_one(&mut [&mut Parse::new(ports(), true)], &bytes);
            if routed.verdict == Verdict::Next {
                assert_eq!(inspect(&bytes), routed, "{name}");
                known += 1;
            }
        }
        assert!(known >= 4, "{known} packets of the corpus are forwarded");
    }

    #[test]
    fn what_only_a_router_refuses_goes_on_and_is_known() {
        for packet in [
            v4([0, 0, 0, 0], [255, 255, 255, 255]),
            v4([10, 0, 0, 1], [224, 0, 0, 5]),
            v4([169, 254, 0, 1], [10, 0, 0, 1]),
            v4([127, 0, 0, 1], [10, 0, 0, 1]),
            v6("fe80::1", "ff02::1:ff00:1"),
            v6("::", "ff02::1"),
        ] {
            let mut other_station = packet.clone();
            other_station[..6].copy_from_slice(&MAC_OUT);
            for packet in [packet, other_station] {
                let seen = inspect(&packet);
                assert_eq!(seen.verdict, Verdict::Next);
                assert_eq!(seen.key.version(), seen.facts.version);
                assert_eq!(seen.bytes, packet);
            }
        }
    }

    #[test]
    fn a_tag_is_known_and_the_packet_behind_it() {
        let ip = Ipv4Spec::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 253).packet(&[]);
        let tags = [VlanTag::provider(9), VlanTag::new(7)];
        let seen = inspect(&build::ethernet(MAC_OUT, corpus::MACS.0, &tags, ether_type::IPV4, &ip));
        assert_eq!((seen.facts.vlan, seen.facts.l3, seen.facts.l4), (9, 22, 42));
        let arp = inspect(&build::ethernet(MAC_OUT, corpus::MACS.0, &tags[1..], 0x0806, &[0; 28]));
        assert_eq!((arp.verdict, arp.facts.vlan, arp.facts.version), (Verdict::Next, 7, 0));
    }

    #[test]
    fn frames_that_are_no_ip_are_left_alone() {
        for ether_type in [0x0806, 0x88cc, 0x8847, 0x0027] {
            let frame = build::ethernet([0xff; 6], corpus::MACS.0, &[], ether_type, &[0; 46]);
            let seen = inspect(&frame);
            assert_eq!(
                (seen.verdict, seen.facts, seen.key),
                (Verdict::Next, Facts::default(), FlowKey::NONE)
            );
            assert_eq!(seen.bytes, frame);
        }
    }

    #[test]
    fn what_nobody_can_read_does_not_go_round_the_filter() {
        let mut wrong_sum = v4([10, 0, 0, 1], [10, 0, 0, 2]);
        wrong_sum[24] ^= 1;
        let deep = [VlanTag::new(1), VlanTag::new(2), VlanTag::new(3)];
        let ip = Ipv4Spec::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 253).packet(&[]);
        for (packet, reason) in [
            (wrong_sum, DropReason::IpBadChecksum),
            (build::ethernet(MAC_OUT, corpus::MACS.0, &deep, ether_type::IPV4, &ip), DropReason::VlanTooDeep),
            (v6("::ffff:10.0.0.1", "2001:db8::1"), DropReason::MartianSource),
            (v6("2001:db8::1", "::ffff:10.0.0.1"), DropReason::MartianDestination),
            (v6("2001:db8::1", "2001:db8::2")[..50].to_vec(), DropReason::IpTruncated),
            (sample("v4 udp")[..13].to_vec(), DropReason::EthernetTruncated),
        ] {
            assert_eq!(inspect(&packet).verdict, Verdict::Drop(reason));
        }
    }
}
