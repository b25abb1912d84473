//! The whole pipeline, as configured, over packets of every shape and what damage makes of them: none panics, every packet is
//! decided, all frames come home, and what is forwarded is a valid packet that differs only where a router may change it.

#[path = "../../tests/fuzz/entry/lab.rs"]
#[allow(dead_code)]
mod lab;
#[path = "../../tests/fuzz/entry/pipeline.rs"]
#[allow(dead_code)]
mod pipeline;

use etherparse::{LaxPacketHeaders, NetSlice, SlicedPacket};
use lab::{A, B, C, D, E, Lab, Outcome};
use std::collections::BTreeMap;
use zsync_packet::header::corpus;
use zsync_packet::verdict::{DropReason, PortId, Verdict};

/// What etherparse thinks of a packet that was forwarded.
fn agrees(output: &[u8]) {
    // Lax where a router is: what lies behind the IP header is the receiver's business.
    let headers = LaxPacketHeaders::from_ethernet(output).expect("an Ethernet header");
    let net = headers.net.expect("an IP header");
    if let Some((ip, _)) = net.ipv4_ref() {
        // Its checksum is not etherparse's to judge: it has no place for the reserved flag, which a router leaves alone.
        let header = &output[14..14 + ip.header_len()];
        let sum = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        assert!(ip.time_to_live > 0 && usize::from(ip.total_len) + 14 <= output.len());
    } else {
        let (ip, _) = net.ipv6_ref().expect("IPv6, then");
        assert!(ip.hop_limit > 0 && usize::from(ip.payload_length) + 54 <= output.len());
    }
}

/// Runs packets in bursts that mix them, and checks each; how often each verdict came.
fn run(port: PortId, packets: &[Vec<u8>]) -> BTreeMap<String, usize> {
    let mut lab = Lab::new();
    let mut verdicts = BTreeMap::new();
    for (input, outcome) in packets.iter().zip(lab.process(port, packets)) {
        pipeline::check(port, input, &outcome);
        if matches!(outcome.verdict, Verdict::Transmit(_)) && (port == A || port == B) {
            agrees(&outcome.bytes);
        }
        *verdicts.entry(format!("{:?}", outcome.verdict)).or_insert(0) += 1;
    }
    verdicts
}

/// So that neighbours in a burst are strangers: steps of a prime that does not divide the length.
fn shuffled(packets: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let packets: Vec<Vec<u8>> = packets.into_iter().collect();
    (0..packets.len()).map(|i| packets[i * 7919 % packets.len()].clone()).collect()
}

#[test]
fn the_whole_corpus_at_every_port() {
    let packets = shuffled(corpus::all());
    assert!(packets.len() > 20_000 && !packets.len().is_multiple_of(7919));
    for port in [A, B, C, D, E] {
        let verdicts = run(port, &packets);
        assert_eq!(verdicts.values().sum::<usize>(), packets.len());
        // The corpus is addressed to A, so there it must reach every corner of `parse`.
        if port == A {
            for reason in [
                DropReason::EthernetTruncated,
                DropReason::VlanTooDeep,
                DropReason::NotForThisPort,
                DropReason::NotIp,
                DropReason::IpTruncated,
                DropReason::IpBadVersion,
                DropReason::IpBadHeaderLength,
                DropReason::IpBadTotalLength,
                DropReason::IpBadChecksum,
                DropReason::MartianSource,
                DropReason::VlanTagged,
            ] {
                let label = format!("{:?}", Verdict::Drop(reason));
                // VLAN tags that are too deep are a flip of the inner tag's EtherType.
                assert!(
                    verdicts.contains_key(&label) || reason == DropReason::VlanTooDeep,
                    "{label}: {verdicts:?}"
                );
            }
            assert!(verdicts["Punt"] > 100 && verdicts["Transmit(PortId(1))"] > 1000, "{verdicts:?}");
        }
    }
}

/// The damage of [`corpus::all`] hits IPv4 headers mostly in their checksum. Here it is made right again, so that the damage
/// is seen.
#[test]
fn damaged_ipv4_headers_with_a_right_checksum() {
    let repaired = corpus::all().filter_map(|mut packet| {
        if packet.get(12..14)? != [8, 0] {
            return None;
        }
        let len = usize::from(packet.get(14)? & 0xf).max(5) * 4;
        packet.get_mut(24..26)?.fill(0);
        let checksum = zsync_packet::checksum::of(packet.get(14..14 + len)?);
        packet[24..26].copy_from_slice(&checksum.to_be_bytes());
        Some(packet)
    });
    let verdicts = run(A, &shuffled(repaired));
    assert!(!verdicts.contains_key("Drop(IpBadChecksum)"), "{verdicts:?}");
    for label in ["Drop(IpBadTotalLength)", "Drop(Blackhole)", "Punt", "Transmit(PortId(0))"] {
        assert!(verdicts.contains_key(label), "{label}: {verdicts:?}");
    }
}

#[test]
fn valid_packets_of_the_corpus_go_where_they_should() {
    let mut lab = Lab::new();
    for sample in corpus::valid() {
        let Outcome { verdict, bytes, .. } = lab.process(A, &[&sample.bytes]).remove(0);
        let parsed = SlicedPacket::from_ethernet(&sample.bytes);
        let net = parsed.as_ref().ok().and_then(|parsed| parsed.net.as_ref());
        let options = matches!(net, Some(NetSlice::Ipv4(ip)) if !ip.header().options().is_empty());
        let expected = match sample.name {
            name if name.starts_with("arp") => Verdict::Drop(DropReason::NotIp),
            name if name.contains("vlan") || name.contains("qinq") => Verdict::Drop(DropReason::VlanTagged),
            "v6 neighbour solicitation" | "v6 neighbour advertisement" => Verdict::Punt,
            _ if options => Verdict::Punt,
            // IPv4's are cut into parts; of IPv6's, the kernel tells. Port B takes 1400 bytes.
            "v6 udp, 1514 bytes" => Verdict::Punt,
            _ => Verdict::Transmit(B),
        };
        assert_eq!(verdict, expected, "{}", sample.name);
        assert_eq!(lab.made.len(), usize::from(sample.name == "v4 udp, 1514 bytes"), "{}", sample.name);
        assert_eq!(bytes == sample.bytes, verdict != Verdict::Transmit(B), "{}", sample.name);
    }
}

#[test]
fn the_stages_count_what_the_verdicts_say() {
    let packets = shuffled(corpus::all());
    let mut lab = Lab::new();
    let outcomes = lab.process(A, &packets);
    let dropped = outcomes.iter().filter(|outcome| matches!(outcome.verdict, Verdict::Drop(_))).count();
    let (parse, route) = (lab.counts[0], lab.counts[1]);
    assert_eq!(parse.packets, packets.len() as u64);
    assert_eq!(parse.drops + route.drops, dropped as u64);
    let punted_by_parse = parse.packets - parse.drops - route.packets;
    assert!(punted_by_parse > 0 && route.packets > 0);
}
