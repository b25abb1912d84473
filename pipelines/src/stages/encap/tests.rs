use super::*;
use crate::spec::tunnel::{DecapSpec, Tunnel};
use crate::stages::decap::Decap;
use crate::stages::fixture::{IN, MAC_IN, MTU_OUT, OUT, Seen, on_v4, on_v6, ports, run_and_make, sample};
use crate::stages::parse::Parse;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use zsync_packet::header::{Ipv4, Udp, VlanTag, build, corpus};

const V4: (&str, &str) = ("192.0.2.1", "192.0.2.2");
const V6: (&str, &str) = ("2001:db8:f::1", "2001:db8:f::2");
const VXLAN: Carrier = Carrier::Vxlan { vni: 100, port: vxlan::PORT };

fn tunnel(carrier: Carrier, ends: (&str, &str)) -> Tunnel {
    Tunnel { carrier, local: ends.0.parse().unwrap(), remote: ends.1.parse().unwrap() }
}

fn spec(carrier: Carrier, ends: (&str, &str)) -> EncapSpec {
    EncapSpec { tunnel: tunnel(carrier, ends), ttl: 64, dscp: None, checksum: None, mtu: None }
}

fn stage(spec: EncapSpec) -> Encap {
    Encap::new(spec, ports(), HashKey::from_seed(1))
}

/// Sends one packet in; a tunnel of IP packets gets it parsed.
fn send(spec: EncapSpec, packet: &[u8]) -> Seen {
    let frames = spec.tunnel.carrier.carries_frames();
    let (mut parse, mut encap) = (Parse::new(ports(), true), stage(spec));
    let mut stages: Vec<&mut dyn Stage> = vec![&mut parse, &mut encap];
    if frames {
        stages.remove(0);
    }
    let (mut seen, made) = run_and_make(&mut stages, IN, &[packet], 0);
    assert!(made.is_empty());
    seen.remove(0)
}

/// Sends the packet out again at the other end.
fn receive(carrier: Carrier, ends: (&str, &str), packet: &[u8], to: Option<u16>) -> Seen {
    let far = DecapSpec {
        tunnel: tunnel(carrier, (ends.1, ends.0)),
        to: to.map(crate::spec::PortId),
        strict: false,
    };
    let mut packet = packet.to_vec();
    packet[..6].copy_from_slice(&MAC_IN);
    let (mut parse, mut decap) = (Parse::new(ports(), true), Decap::new(far, ports()));
    run_and_make(&mut [&mut parse, &mut decap], IN, &[packet], 0).0.remove(0)
}

fn udp4(tos: u8, payload: usize) -> Vec<u8> {
    let ip = Ipv4Spec { tos, ..Ipv4Spec::new([10, 1, 0, 2].into(), [10, 2, 0, 2].into(), 17) };
    on_v4(&ip, &build::udp(ip.address_sum(), 4000, 53, &vec![7; payload]))
}

fn udp6(payload: usize) -> Vec<u8> {
    let ip = Ipv6Spec::new("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap(), 17);
    on_v6(&ip, &build::udp(ip.address_sum(), 4000, 53, &vec![7; payload]))
}

/// The packet's inner hops, one fewer.
fn aged(mut packet: Vec<u8>) -> Vec<u8> {
    age(&mut packet[14..]);
    packet
}

#[test]
fn vxlan_as_etherparse_reads_it() {
    let frame = udp4(0xba, 100);
    let seen = send(spec(VXLAN, V4), &frame);
    assert_eq!(seen.verdict, Verdict::Next);
    let read = SlicedPacket::from_ethernet(&seen.bytes).unwrap();
    let Some(NetSlice::Ipv4(ip)) = read.net else { panic!("no IPv4") };
    let header = ip.header();
    assert_eq!(header.source_addr().to_string(), V4.0);
    assert_eq!(header.destination_addr().to_string(), V4.1);
    assert_eq!((header.dcp().value(), header.ecn().value(), header.ttl()), (0x2e, 2, 64));
    assert!(header.dont_fragment());
    assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
    let Some(TransportSlice::Udp(udp)) = read.transport else { panic!("no UDP") };
    assert_eq!((udp.destination_port(), udp.checksum()), (4789, 0));
    assert!(udp.source_port() >= 49_152);
    assert_eq!(udp.payload(), [&[8, 0, 0, 0, 0, 0, 100, 0], &frame[..]].concat());
    // And the facts and the key are those of the outer packet.
    let (facts, key) = (seen.facts, seen.key);
    assert_eq!((facts.l3, facts.l4, facts.version, facts.protocol), (14, 34, 4, 17));
    assert_eq!(key, FlowKey::of(&seen.bytes[14..]).unwrap());
}

#[test]
fn every_carrier_over_both_families_gives_back_what_went_in() {
    for ends in [V4, V6] {
        for carrier in [Carrier::Gre { key: None }, Carrier::Gre { key: Some(77) }, Carrier::Ip] {
            for packet in [udp4(0, 100), udp6(100)] {
                // Padding stays behind.
                let padded = [&packet[..], &[0xee; 20]].concat();
                let seen = send(spec(carrier, ends), &padded);
                assert_eq!(seen.verdict, Verdict::Next, "{carrier:?} {ends:?}");
                assert_eq!(seen.key, FlowKey::of(&seen.bytes[14..]).unwrap());
                assert_eq!(usize::from(seen.facts.l4), if ends == V4 { 34 } else { 54 });
                let back = receive(carrier, ends, &seen.bytes, None);
                assert_eq!(back.verdict, Verdict::Next, "{carrier:?} {ends:?}");
                assert_eq!(back.bytes[12..], aged(packet.clone())[12..]);
                assert_eq!(back.key, FlowKey::of(&packet[14..]).unwrap());
                assert_eq!((back.facts.l3, usize::from(back.facts.protocol)), (14, 17));
            }
        }
        for packet in [udp4(0, 60), udp6(60), sample("arp reply")] {
            let seen = send(spec(VXLAN, ends), &packet);
            assert_eq!(seen.verdict, Verdict::Next);
            let back = receive(VXLAN, ends, &seen.bytes, Some(1));
            assert_eq!((back.verdict, back.bytes), (Verdict::Transmit(OUT), packet));
        }
        // Without a port that it is bridged to, its IP packets go on.
        let seen = send(spec(VXLAN, ends), &udp6(60));
        let back = receive(VXLAN, ends, &seen.bytes, None);
        assert_eq!((back.verdict, back.facts.version, back.bytes), (Verdict::Next, 6, udp6(60)));
    }
}

#[test]
fn udp_has_a_checksum_over_ipv6_unless_told_otherwise() {
    let checksum = |ends: (&str, &str), wanted| {
        let seen = send(EncapSpec { checksum: wanted, ..spec(VXLAN, ends) }, &udp4(0, 33));
        let header = if ends == V4 { 20 } else { 40 };
        let udp = Udp::parse(&seen.bytes[14 + header..]).unwrap();
        let sum = match ends {
            V4 => Sum::addresses_v4(V4.0.parse().unwrap(), V4.1.parse().unwrap()),
            _ => Sum::addresses_v6(V6.0.parse().unwrap(), V6.1.parse().unwrap()),
        };
        udp.verify_checksum(sum).unwrap();
        udp.checksum() != 0
    };
    assert_eq!(
        [checksum(V4, None), checksum(V4, Some(true)), checksum(V4, Some(false))],
        [false, true, false]
    );
    assert_eq!(
        [checksum(V6, None), checksum(V6, Some(true)), checksum(V6, Some(false))],
        [true, true, false]
    );
}

#[test]
fn flows_spread_over_outer_ports_and_one_flow_keeps_its_own() {
    let port = |frame: &[u8]| {
        let seen = send(spec(VXLAN, V4), frame);
        u16::from_be_bytes([seen.bytes[34], seen.bytes[35]])
    };
    let flow = |from: u16, payload: &[u8]| {
        let ip = Ipv4Spec::new([10, 1, 0, 2].into(), [10, 2, 0, 2].into(), 17);
        on_v4(&ip, &build::udp(ip.address_sum(), from, 53, payload))
    };
    assert_eq!(port(&flow(1, b"one")), port(&flow(1, b"another")));
    let ports: std::collections::BTreeSet<u16> = (0..64).map(|from| port(&flow(from, b"x"))).collect();
    assert!(ports.len() > 60 && ports.iter().all(|port| *port >= FIRST_PORT), "{ports:?}");
}

#[test]
fn dont_fragment_and_the_identification_follow_the_inner_packet() {
    let mut stage = stage(spec(Carrier::Ip, V4));
    let inner = |dont_fragment| {
        let ip = Ipv4Spec { dont_fragment, ..Ipv4Spec::new([10, 1, 0, 2].into(), [10, 2, 0, 2].into(), 17) };
        on_v4(&ip, &[0; 64])
    };
    let packets = [inner(false), inner(false), inner(true), udp6(9)];
    let mut parse = Parse::new(ports(), true);
    let (seen, _) = run_and_make(&mut [&mut parse, &mut stage], IN, &packets, 0);
    let outer: Vec<(bool, u16)> = seen
        .iter()
        .map(|seen| Ipv4::parse(&seen.bytes[14..]).unwrap())
        .map(|ip| (ip.dont_fragment(), ip.identification()))
        .collect();
    assert_eq!(outer, [(false, 1), (false, 2), (true, 0), (true, 0)]);
}

#[test]
fn the_code_point_can_be_fixed_and_congestion_is_not_hidden() {
    for (dscp, expected) in [(None, 0xbb), (Some(8), 0x23)] {
        for carrier in [VXLAN, Carrier::Ip] {
            let seen = send(EncapSpec { dscp, ttl: 9, ..spec(carrier, V4) }, &udp4(0xbb, 10));
            assert_eq!((seen.bytes[15], seen.bytes[22]), (expected, 9));
        }
    }
}

#[test]
fn what_is_too_long_is_told_how_long_it_may_be() {
    // The shortest of the ports' MTUs counts.
    let whole = |payload| {
        let ip =
            Ipv4Spec { dont_fragment: true, ..Ipv4Spec::new([10, 1, 0, 2].into(), [10, 2, 0, 2].into(), 17) };
        on_v4(&ip, &vec![0; payload])
    };
    let fits = MTU_OUT as usize - 20 - 4;
    let gre = || spec(Carrier::Gre { key: None }, V4);
    assert_eq!(send(gre(), &whole(fits - 20)).verdict, Verdict::Next);
    let seen = send(gre(), &whole(fits - 19));
    assert_eq!(seen.verdict, Verdict::Transmit(IN));
    let ip = Ipv4::parse(&seen.bytes[14..]).unwrap();
    let icmp = zsync_packet::header::Icmp::parse(ip.payload()).unwrap();
    assert_eq!((icmp.kind(), icmp.code(), icmp.next_hop_mtu()), (3, 4, Some(fits as u16)));
    // Who lets routers take it apart has it taken apart outside, by the route.
    assert_eq!(send(gre(), &udp4(0, fits)).verdict, Verdict::Next);
    assert_eq!(send(spec(Carrier::Ip, V6), &udp4(0, fits)).verdict, Verdict::Transmit(IN));
    // A bridged frame has its Ethernet header with it.
    let fits = MTU_OUT as usize - 20 - 8 - 8 - 14;
    assert_eq!(send(spec(VXLAN, V4), &whole(fits - 20)).verdict, Verdict::Next);
    let seen = send(spec(VXLAN, V4), &whole(fits - 19));
    assert_eq!(seen.verdict, Verdict::Transmit(IN));
    let ip = Ipv4::parse(&seen.bytes[14..]).unwrap();
    let icmp = zsync_packet::header::Icmp::parse(ip.payload()).unwrap();
    assert_eq!(icmp.next_hop_mtu(), Some(fits as u16));
    let mut arp = sample("arp reply");
    arp.resize(1500, 0);
    assert_eq!(send(spec(VXLAN, V4), &arp).verdict, Verdict::Drop(DropReason::TooBig));
}

#[test]
fn a_tunnel_of_packets_is_a_hop_and_one_of_frames_is_not() {
    let last = |ttl| {
        on_v4(&Ipv4Spec { ttl, ..Ipv4Spec::new([10, 1, 0, 2].into(), [10, 2, 0, 2].into(), 17) }, &[0; 8])
    };
    assert_eq!(send(spec(Carrier::Ip, V4), &last(1)).verdict, Verdict::Transmit(IN), "time exceeded");
    let seen = send(spec(Carrier::Ip, V4), &last(2));
    assert_eq!(Ipv4::parse(&seen.bytes[34..]).unwrap().ttl(), 1);
    let seen = send(spec(VXLAN, V4), &last(1));
    assert_eq!(seen.bytes[50..], last(1));
}

#[test]
fn frames_that_are_not_ip_and_tagged_ones_are_carried_too() {
    let tagged =
        build::ethernet([0xff; 6], MAC_IN, &[VlanTag::new(5)], ether_type::IPV4, &udp4(0x03, 9)[14..]);
    let deep = build::ethernet([0xff; 6], MAC_IN, &[VlanTag::new(5); 3], ether_type::IPV4, &udp4(3, 9)[14..]);
    assert_eq!(send(spec(VXLAN, V4), &tagged).bytes[15], 3, "congestion, behind the tag");
    for frame in [tagged, deep, sample("arp reply"), vec![1, 2, 3]] {
        let seen = send(spec(VXLAN, V4), &frame);
        assert_eq!((seen.verdict, &seen.bytes[50..]), (Verdict::Next, &frame[..]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever bytes come in: no panic, and what goes out is a packet whose headers are right.
    #[test]
    fn any_frame_goes_in_and_comes_out(frame in prop::collection::vec(any::<u8>(), 14..200), v6: bool) {
        let ends = if v6 { V6 } else { V4 };
        let seen = send(spec(VXLAN, ends), &frame);
        if seen.verdict == Verdict::Next {
            let back = receive(VXLAN, ends, &seen.bytes, Some(1));
            prop_assert_eq!((back.verdict, back.bytes), (Verdict::Transmit(OUT), frame));
        }
    }

    /// Every packet of the corpus, into every tunnel, whole or not.
    #[test]
    fn any_packet_is_carried_or_refused(which: prop::sample::Index, len: prop::sample::Index, carrier in 0..3) {
        let samples = corpus::valid();
        let mut packet = which.get(&samples).bytes.clone();
        packet.truncate(len.index(packet.len()) + 1);
        let carrier = [Carrier::Gre { key: Some(1) }, Carrier::Ip, VXLAN][carrier as usize];
        let seen = send(spec(carrier, V4), &packet);
        if seen.verdict == Verdict::Next {
            prop_assert!(Ipv4::parse(&seen.bytes[14..]).unwrap().verify_checksum().is_ok());
        }
    }
}
