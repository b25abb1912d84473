use super::*;
use crate::spec::tunnel::Tunnel;
use crate::stages::fixture::{IN, MAC_IN, OUT, Seen, on_v4, on_v6, ports, run_and_make};
use proptest::prelude::*;
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec};
use zsync_packet::header::{corpus, gre, vxlan};

const VXLAN: Carrier = Carrier::Vxlan { vni: 100, port: vxlan::PORT };
const GRE: Carrier = Carrier::Gre { key: Some(7) };

fn spec(carrier: Carrier, strict: bool) -> DecapSpec {
    let tunnel =
        Tunnel { carrier, local: "192.0.2.1".parse().unwrap(), remote: "192.0.2.2".parse().unwrap() };
    DecapSpec { tunnel, to: None, strict }
}

fn outer(tos: u8, protocol: u8) -> Ipv4Spec {
    Ipv4Spec { tos, ..Ipv4Spec::new([192, 0, 2, 2].into(), [192, 0, 2, 1].into(), protocol) }
}

fn inner(tos: u8) -> Vec<u8> {
    let ip = Ipv4Spec { tos, ..Ipv4Spec::new([10, 1, 0, 2].into(), [10, 2, 0, 2].into(), 17) };
    ip.packet(&build::udp(ip.address_sum(), 4000, 53, b"question"))
}

fn send(spec: DecapSpec, packet: &[u8]) -> Seen {
    let (mut parse, mut decap) = (Parse::new(ports(), true), Decap::new(spec, ports()));
    run_and_make(&mut [&mut parse, &mut decap], IN, &[packet], 0).0.remove(0)
}

fn verdict(carrier: Carrier, packet: &[u8]) -> Verdict {
    let seen = send(spec(carrier, false), packet);
    if seen.verdict == Verdict::Next && seen.bytes == packet {
        assert_eq!(send(spec(carrier, true), packet).bytes, packet, "strict ones change nothing either");
    }
    seen.verdict
}

fn in_gre(key: Option<u32>, payload: &[u8]) -> Vec<u8> {
    let (header, len) = gre::header(ether_type::IPV4, key);
    on_v4(&outer(0, 47), &[&header[..len], payload].concat())
}

fn in_vxlan(header: [u8; 8], to: u16, frame: &[u8]) -> Vec<u8> {
    let ip = outer(0, 17);
    on_v4(&ip, &build::udp(ip.address_sum(), 50_000, to, &[&header[..], frame].concat()))
}

#[test]
fn only_what_is_of_the_tunnel_is_opened() {
    let unknown = Verdict::Drop(DropReason::TunnelUnknown);
    let others = [
        ("another key", GRE, in_gre(Some(8), &inner(0))),
        ("no key", GRE, in_gre(None, &inner(0))),
        ("another network", VXLAN, in_vxlan(vxlan::header(101), 4789, &[0; 60])),
        (
            "another end",
            Carrier::Ip,
            on_v4(&Ipv4Spec { source: [192, 0, 2, 3].into(), ..outer(0, 4) }, &inner(0)),
        ),
    ];
    for (what, carrier, packet) in &others {
        let seen = send(spec(*carrier, false), packet);
        assert_eq!((seen.verdict, &seen.bytes), (Verdict::Next, packet), "{what}");
        assert_eq!(send(spec(*carrier, true), packet).verdict, unknown, "{what}");
    }
    let foreign = [
        (
            "not to us",
            Carrier::Ip,
            on_v4(&Ipv4Spec { destination: [192, 0, 2, 9].into(), ..outer(0, 4) }, &inner(0)),
        ),
        ("another protocol", Carrier::Ip, on_v4(&outer(0, 17), &[0; 30])),
        ("another port", VXLAN, in_vxlan(vxlan::header(100), 4790, &[0; 60])),
        ("a fragment", Carrier::Ip, on_v4(&Ipv4Spec { more_fragments: true, ..outer(0, 4) }, &inner(0))),
    ];
    for (what, carrier, packet) in &foreign {
        for strict in [false, true] {
            let seen = send(spec(*carrier, strict), packet);
            assert_eq!((seen.verdict, &seen.bytes), (Verdict::Next, packet), "{what}");
        }
    }
}

#[test]
fn what_is_cut_or_wrong_is_refused() {
    let malformed = Verdict::Drop(DropReason::TunnelMalformed);
    let mut wrong = in_vxlan(vxlan::header(100), 4789, &[0; 60]);
    wrong[80] ^= 1;
    let mut checksum =
        on_v4(&outer(0, 47), &[&[0xa0, 0, 8, 0, 0, 1, 0, 0, 0, 0, 0, 7][..], &inner(0)].concat());
    assert_eq!(verdict(GRE, &checksum), malformed);
    let sum = zsync_packet::checksum::of(&[&checksum[34..38], &[0; 4], &checksum[42..]].concat());
    checksum[38..40].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(verdict(GRE, &checksum), Verdict::Next);
    for (what, carrier, packet) in [
        ("VXLAN without its flag", VXLAN, in_vxlan([0, 0, 0, 0, 0, 0, 100, 0], 4789, &[0; 60])),
        ("a frame without a header", VXLAN, in_vxlan(vxlan::header(100), 4789, &[0; 13])),
        ("nothing in VXLAN", VXLAN, in_vxlan(vxlan::header(100), 4789, &[])),
        ("a wrong UDP checksum", VXLAN, wrong),
        ("GRE of PPTP", GRE, on_v4(&outer(0, 47), &[0x20, 1, 8, 0, 0, 0, 0, 7])),
        ("GRE cut", GRE, on_v4(&outer(0, 47), &[0x20, 0, 8])),
        ("nothing in GRE", GRE, in_gre(Some(7), &[])),
        ("an inner packet cut", GRE, in_gre(Some(7), &inner(0)[..30])),
        ("no packet", Carrier::Ip, on_v4(&outer(0, 4), &[0x55; 40])),
        ("nothing in IP", Carrier::Ip, on_v4(&outer(0, 41), &[])),
    ] {
        assert_eq!(verdict(carrier, &packet), malformed, "{what}");
    }
}

#[test]
fn the_inner_packet_is_parsed_like_any_other() {
    let martian = Ipv4Spec::new([127, 0, 0, 1].into(), [10, 2, 0, 2].into(), 17).packet(&[0; 8]);
    assert_eq!(verdict(GRE, &in_gre(Some(7), &martian)), Verdict::Drop(DropReason::MartianSource));
    let mut wrong = inner(0);
    wrong[10] ^= 1;
    assert_eq!(verdict(GRE, &in_gre(Some(7), &wrong)), Verdict::Drop(DropReason::IpBadChecksum));
    // Its own fragments are fragments.
    let part = Ipv4Spec {
        more_fragments: true,
        fragment_offset: 800,
        ..Ipv4Spec::new([10, 1, 0, 2].into(), [10, 2, 0, 2].into(), 17)
    };
    let seen = send(spec(GRE, false), &in_gre(Some(7), &part.packet(&[0; 80])));
    assert_eq!((seen.verdict, seen.facts.fragment), (Verdict::Next, Fragment::Later));
}

#[test]
fn congestion_on_the_way_reaches_the_inner_packet() {
    for (inside, outside, expected) in
        [(2, 3, Some(3)), (2, 2, Some(2)), (2, 1, Some(1)), (0, 1, Some(0)), (0, 3, None)]
    {
        let packet = on_v4(&outer(outside, 4), &inner(inside | 0xb8));
        let seen = send(spec(Carrier::Ip, false), &packet);
        match expected {
            Some(ecn) => {
                assert_eq!(seen.verdict, Verdict::Next);
                assert_eq!(seen.bytes[14..], inner(ecn | 0xb8), "checksum and all");
            }
            None => assert_eq!(seen.verdict, Verdict::Drop(DropReason::TunnelMalformed)),
        }
        let frame = build::ethernet([2; 6], [4; 6], &[], ether_type::IPV4, &inner(inside));
        let ip = outer(outside, 17);
        let payload = [&vxlan::header(100)[..], &frame].concat();
        let packet = on_v4(&ip, &build::udp(ip.address_sum(), 50_000, 4789, &payload));
        let bridged = DecapSpec { to: Some(crate::spec::PortId(1)), ..spec(VXLAN, false) };
        let seen = send(bridged, &packet);
        match expected {
            Some(ecn) => {
                assert_eq!(seen.verdict, Verdict::Transmit(OUT));
                assert_eq!(seen.bytes, build::ethernet([2; 6], [4; 6], &[], ether_type::IPV4, &inner(ecn)));
            }
            None => assert_eq!(seen.verdict, Verdict::Drop(DropReason::TunnelMalformed)),
        }
    }
}

#[test]
fn ipv6_ends_with_and_without_a_udp_checksum() {
    let tunnel = Tunnel {
        carrier: VXLAN,
        local: "2001:db8:f::1".parse().unwrap(),
        remote: "2001:db8:f::2".parse().unwrap(),
    };
    let to = DecapSpec { tunnel, to: Some(crate::spec::PortId(1)), strict: true };
    let ip = Ipv6Spec::new("2001:db8:f::2".parse().unwrap(), "2001:db8:f::1".parse().unwrap(), 17);
    let frame = build::ethernet([2; 6], [4; 6], &[], ether_type::ARP, &[0; 46]);
    let mut udp = build::udp(ip.address_sum(), 50_000, 4789, &[&vxlan::header(100)[..], &frame].concat());
    let seen = send(to.clone(), &on_v6(&ip, &udp));
    assert_eq!((seen.verdict, &seen.bytes), (Verdict::Transmit(OUT), &frame));
    udp[6..8].fill(0);
    assert_eq!(send(to.clone(), &on_v6(&ip, &udp)).verdict, Verdict::Transmit(OUT));
    udp[6..8].copy_from_slice(&[1, 2]);
    assert_eq!(send(to, &on_v6(&ip, &udp)).verdict, Verdict::Drop(DropReason::TunnelMalformed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is in the tunnel: no panic, and what goes on is inside of what came in.
    #[test]
    fn anything_may_be_inside(
        inside in prop::collection::vec(any::<u8>(), 0..120), number in prop::sample::select(vec![4u8, 41, 47, 17]),
    ) {
        for carrier in [VXLAN, GRE, Carrier::Ip] {
            for packet in [on_v4(&outer(3, number), &inside), in_vxlan(vxlan::header(100), 4789, &inside)] {
                let seen = send(spec(carrier, true), &packet);
                prop_assert!(seen.bytes.len() <= packet.len());
            }
        }
    }

    #[test]
    fn the_corpus_may_be_inside(which: prop::sample::Index, len: prop::sample::Index) {
        let samples = corpus::valid();
        let frame = &which.get(&samples).bytes;
        let frame = &frame[..len.index(frame.len()) + 1];
        let bridged = DecapSpec { to: Some(crate::spec::PortId(1)), ..spec(VXLAN, true) };
        let seen = send(bridged, &in_vxlan(vxlan::header(100), 4789, frame));
        if seen.verdict == Verdict::Transmit(OUT) {
            prop_assert_eq!(&seen.bytes[..], frame);
        } else {
            prop_assert!(frame.len() < 14);
        }
        let ip = frame.get(14..).unwrap_or(&[]);
        let seen = send(spec(Carrier::Ip, true), &on_v4(&outer(0, 4), ip));
        if seen.verdict == Verdict::Next {
            prop_assert_eq!(&seen.bytes[..6], &MAC_IN[..]);
            prop_assert!(ip.starts_with(&seen.bytes[14..]));
        }
    }
}
