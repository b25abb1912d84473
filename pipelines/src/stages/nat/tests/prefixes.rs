//! Pairs of prefixes: with flows, and without.

use super::packets::{error, packet, udp};
use super::*;

fn pairs() -> NatSpec {
    let pair = |internal: &str, external: &str| PairOfPrefixes {
        internal: prefix(internal),
        external: prefix(external),
        output: None,
    };
    NatSpec {
        fixed: vec![pair("10.0.8.0/24", "198.51.100.0/24"), pair("fd00:8::8/128", "2001:db8:8::8/128")],
        prefix: vec![pair("fd01:203:405::/48", "2001:db8:1::/48")],
        ..NatSpec::default()
    }
}

const PAIRS: [(&str, &str, &str); 3] = [
    ("10.0.8.9", "198.51.100.9", "192.0.2.7"),
    ("fd00:8::8", "2001:db8:8::8", "2001:db8:7::7"),
    ("fd01:203:405:1::1234", "2001:db8:1:d550::1234", "2001:db8:7::7"),
];

/// Both ways, and errors both ways.
fn both_ways(edge: &mut Edge) {
    for (inside, outside, server) in PAIRS {
        for kind in [protocol::TCP, protocol::UDP, protocol::ICMP, protocol::ESP] {
            let port = if kind == protocol::ICMP { 4000 } else { 443 };
            let (a, b, far) = (at(inside, 4000), at(outside, 4000), at(server, port));
            let (sent, left) = (packet(kind, a, far), packet(kind, b, far));
            edge.becomes(LAN, &sent, &left);
            edge.becomes(WAN, &packet(kind, far, b), &packet(kind, far, a));
            if kind != protocol::ESP {
                edge.becomes(WAN, &error(server, &left), &error(server, &sent));
                let (came, led) = (packet(kind, far, b), packet(kind, far, a));
                edge.becomes(LAN, &error(inside, &led), &error(outside, &came));
            }
        }
        // A flow that begins outside.
        let far = at(server, 9);
        edge.becomes(WAN, &udp(far, at(outside, 53)), &udp(far, at(inside, 53)));
        edge.becomes(LAN, &udp(at(inside, 53), far), &udp(at(outside, 53), far));
    }
}

#[test]
fn pairs_stand_for_each_other_with_flows() {
    let mut spec = pairs();
    spec.masquerade = masquerade().masquerade;
    let mut edge = Edge::new(spec);
    both_ways(&mut edge);
    assert_eq!(edge.mappings(), 0);
    // Others share.
    let server = at("192.0.2.7", 53);
    edge.becomes(LAN, &udp(at("10.0.9.9", 4000), server), &udp(at("203.0.113.1", 4000), server));
}

/// Leaves packets as they are: the stage is alone.
struct Untracked<'a>(&'a mut Nat);

impl Stage for Untracked<'_> {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        self.0.process(burst, cx);
    }
}

#[test]
fn pairs_need_no_flows() {
    let mut edge = Edge::new(pairs());
    let (mut parse, mut nat) = (edge.parse.clone(), edge.nat.clone());
    nat.flows = None;
    for (inside, outside, server) in PAIRS {
        for kind in [protocol::TCP, protocol::UDP, protocol::ESP] {
            let (a, b, far) = (at(inside, 4000), at(outside, 4000), at(server, 443));
            let mut one = |port, packet: &[u8]| {
                run(&mut [&mut parse, &mut Untracked(&mut nat)], port, &[packet], 0).remove(0).bytes
            };
            let (sent, left) = (packet(kind, a, far), packet(kind, b, far));
            assert_eq!(one(LAN, &sent), left);
            assert_eq!(one(WAN, &packet(kind, far, b)), packet(kind, far, a));
            if kind != protocol::ESP {
                assert_eq!(one(WAN, &error(server, &left)), error(server, &sent));
                assert_eq!(
                    one(LAN, &error(inside, &packet(kind, far, a))),
                    error(outside, &packet(kind, far, b))
                );
            }
        }
    }
    both_ways(&mut edge);
}

#[test]
fn addresses_without_a_counterpart_are_refused_and_neighbours_meet_as_they_are() {
    let mut edge = Edge::new(pairs());
    let far = at("2001:db8:7::7", 53);
    edge.drops(LAN, &udp(at("fd01:203:405:ffff::1", 1), far), DropReason::NatPrefix);
    edge.drops(WAN, &udp(far, at("2001:db8:1:ffff::1", 1)), DropReason::NatPrefix);
    edge.drops(LAN, &udp(at("198.51.100.9", 1), at("192.0.2.7", 1)), DropReason::MartianSource);
    let among = udp(at("10.0.8.9", 1), at("10.0.8.10", 2));
    edge.becomes(LAN, &among, &among);
    // By the other's external address: the answers must come back here.
    edge.becomes(
        LAN,
        &udp(at("10.0.8.9", 1), at("198.51.100.10", 2)),
        &udp(at("198.51.100.9", 1), at("10.0.8.10", 2)),
    );
}

#[test]
fn fragments_keep_their_ports_and_their_datagram_its_checksum() {
    use zsync_packet::header::build::{self, Ipv4Spec};
    use zsync_packet::header::{Ipv4, Udp};
    let mut edge = Edge::new(pairs());
    let spec = Ipv4Spec::new([10, 0, 8, 9].into(), [192, 0, 2, 7].into(), protocol::UDP);
    let datagram = build::udp(spec.address_sum(), 4000, 53, &[0x5a; 40]);
    let mut whole = Vec::new();
    for (offset, more, part) in [(0, true, &datagram[..24]), (24, false, &datagram[24..])] {
        let part = Ipv4Spec { fragment_offset: offset, more_fragments: more, ..spec.clone() }.packet(part);
        let on_wire = build::ethernet(MAC_IN, [2; 6], &[], zsync_packet::header::ether_type::IPV4, &part);
        let seen = edge.one(LAN, &on_wire);
        assert_eq!(seen.verdict, Verdict::Next);
        whole.extend_from_slice(Ipv4::parse(&seen.bytes[14..]).unwrap().payload());
    }
    let outside = Ipv4Spec::new([198, 51, 100, 9].into(), [192, 0, 2, 7].into(), protocol::UDP);
    let udp = Udp::parse(&whole).unwrap();
    assert_eq!((udp.source_port(), udp.verify_checksum(outside.address_sum())), (4000, Ok(())));
    // A shared address has ports to tell flows by, and these have none.
    let mut shared = Edge::new(masquerade());
    let first = Ipv4Spec { more_fragments: true, ..spec }.packet(&datagram[..24]);
    let on_wire = build::ethernet(MAC_IN, [2; 6], &[], zsync_packet::header::ether_type::IPV4, &first);
    shared.drops(LAN, &on_wire, DropReason::NatUntranslatable);
}
