use super::*;
use crate::stages::fixture::{IN, ports, run, run_one, sample, v4, v6};
use zsync_packet::burst::Facts;
use zsync_packet::header::build::{self, Ipv4Spec};
use zsync_packet::header::{VlanTag, corpus};
use zsync_packet::verdict::PortId;

const GOOD4: ([u8; 4], [u8; 4]) = ([10, 1, 0, 2], [10, 2, 0, 2]);

fn parse(packet: &[u8]) -> Verdict {
    run_one(&mut [&mut Parse::new(ports(), false)], packet).verdict
}

fn dropped(reason: DropReason) -> Verdict {
    Verdict::Drop(reason)
}

/// `packet` with its bytes at `at` changed, and the IPv4 header checksum right again.
fn with(mut packet: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    packet[at..at + bytes.len()].copy_from_slice(bytes);
    packet[24..26].fill(0);
    let header = 14 + usize::from(packet[14] & 0xf).max(5) * 4;
    let checksum = zsync_packet::checksum::of(&packet[14..header.min(packet.len())]);
    packet[24..26].copy_from_slice(&checksum.to_be_bytes());
    packet
}

#[test]
fn what_is_not_ethernet_or_not_for_us_or_not_ip() {
    let good = v4(GOOD4.0, GOOD4.1);
    assert_eq!(parse(&[]), dropped(DropReason::EthernetTruncated));
    assert_eq!(parse(&good[..13]), dropped(DropReason::EthernetTruncated));
    let tag = VlanTag::new(5);
    let tagged =
        |tags: &[VlanTag]| build::ethernet(corpus::MACS.1, corpus::MACS.0, tags, 0x0800, &good[14..]);
    assert_eq!(parse(&tagged(&[tag])[..17]), dropped(DropReason::EthernetTruncated));
    assert_eq!(parse(&tagged(&[tag; 3])), dropped(DropReason::VlanTooDeep));
    assert_eq!(parse(&tagged(&[tag])), dropped(DropReason::VlanTagged));
    assert_eq!(parse(&tagged(&[VlanTag::provider(9), tag])), dropped(DropReason::VlanTagged));
    // A priority tag (VLAN 0) is a tag.
    assert_eq!(parse(&tagged(&[VlanTag::new(0)])), dropped(DropReason::VlanTagged));
    let mut strange = good.clone();
    strange[5] ^= 0x40;
    assert_eq!(parse(&strange), dropped(DropReason::NotForThisPort));
    assert_eq!(parse(&sample("arp reply")), dropped(DropReason::NotIp));
    let llc = build::ethernet(corpus::MACS.1, corpus::MACS.0, &[], 46, &[0x42; 46]);
    assert_eq!(parse(&llc), dropped(DropReason::NotIp));
    let unknown_port = run(&mut [&mut Parse::new(ports(), false)], PortId(9), &[&good], 0);
    assert_eq!(unknown_port[0].verdict, dropped(DropReason::NoSuchPort));
    assert_eq!(parse(&good), Verdict::Next);
}

#[test]
fn invalid_ipv4_headers_of_rfc_1812_5_2_2() {
    let good = sample("v4 udp, empty");
    assert_eq!(parse(&good), Verdict::Next);
    assert_eq!(parse(&good[..33]), dropped(DropReason::IpTruncated));
    assert_eq!(parse(&good[..good.len() - 1]), dropped(DropReason::IpTruncated), "the length says more");
    assert_eq!(parse(&with(good.clone(), 14, &[0x65])), dropped(DropReason::IpBadVersion));
    assert_eq!(parse(&with(good.clone(), 14, &[0x44])), dropped(DropReason::IpBadHeaderLength));
    assert_eq!(parse(&with(good.clone(), 16, &[0, 19])), dropped(DropReason::IpBadTotalLength));
    assert_eq!(parse(&with(good.clone(), 14, &[0x4f])), dropped(DropReason::IpBadTotalLength));
    let mut wrong = good.clone();
    wrong[25] ^= 1;
    assert_eq!(parse(&wrong), dropped(DropReason::IpBadChecksum));
    let mut wrong = sample("v4 with options, udp");
    wrong[35] ^= 1;
    assert_eq!(parse(&wrong), dropped(DropReason::IpBadChecksum), "options are under the checksum");
    // The other family under this EtherType.
    let mut crossed = sample("v6 udp");
    crossed[12..14].copy_from_slice(&ether_type::IPV4.to_be_bytes());
    assert_eq!(parse(&crossed), dropped(DropReason::IpBadVersion));
}

#[test]
fn martian_ipv4_addresses() {
    for source in [[0, 0, 0, 0], [0, 1, 2, 3], [127, 0, 0, 1], [224, 0, 0, 1], [240, 0, 0, 1], [255; 4]] {
        assert_eq!(parse(&v4(source, GOOD4.1)), dropped(DropReason::MartianSource), "{source:?}");
    }
    for destination in [[0, 0, 0, 0], [0, 9, 9, 9], [127, 1, 2, 3], [240, 0, 0, 1], [255, 255, 255, 254]] {
        assert_eq!(
            parse(&v4(GOOD4.0, destination)),
            dropped(DropReason::MartianDestination),
            "{destination:?}"
        );
    }
    assert_eq!(parse(&v4([0, 1, 2, 3], [255; 4])), dropped(DropReason::MartianSource));
    for source in [[1, 0, 0, 1], [126, 255, 255, 255], [128, 0, 0, 1], [223, 255, 255, 255]] {
        assert_eq!(parse(&v4(source, GOOD4.1)), Verdict::Next, "{source:?}");
        assert_eq!(parse(&v4(GOOD4.0, source)), Verdict::Next, "{source:?}");
    }
}

#[test]
fn the_kernels_share_of_ipv4() {
    for destination in [[224, 0, 0, 5], [239, 255, 255, 255], [255; 4], [169, 254, 1, 1]] {
        let seen = run_one(&mut [&mut Parse::new(ports(), false)], &v4(GOOD4.0, destination));
        assert_eq!((seen.verdict, seen.facts.l3), (Verdict::Punt, 14), "{destination:?}");
    }
    assert_eq!(parse(&v4([169, 254, 1, 1], GOOD4.1)), Verdict::Punt);
    assert_eq!(parse(&v4([0; 4], [255; 4])), Verdict::Punt, "a host without an address asks for one");
    for name in ["v4 with options, udp", "v4 with 40 bytes of options, tcp"] {
        assert_eq!(parse(&sample(name)), Verdict::Punt);
    }
}

#[test]
fn a_link_layer_group_carries_only_ip_groups() {
    let to = |mac: [u8; 6], mut packet: Vec<u8>| {
        packet[..6].copy_from_slice(&mac);
        packet
    };
    let alert =
        Ipv4Spec { options: vec![0x94, 4, 0, 0], ..Ipv4Spec::new(GOOD4.0.into(), GOOD4.1.into(), 253) };
    for mac in [[0xff; 6], [0x01, 0, 0x5e, 0, 0, 5], [0x33, 0x33, 0, 0, 0, 1]] {
        for one in [
            v4(GOOD4.0, GOOD4.1),
            v4([169, 254, 0, 1], GOOD4.1),
            crate::stages::fixture::on_v4(&alert, &[]),
            v6("2001:db8::1", "2001:db8::2"),
            v6("fe80::1", "fe80::2"),
        ] {
            assert_eq!(parse(&to(mac, one)), dropped(DropReason::NotForThisPort));
        }
        for all in [v4(GOOD4.0, [224, 0, 0, 5]), v4(GOOD4.0, [255; 4]), v6("fe80::1", "ff02::1")] {
            assert_eq!(parse(&to(mac, all)), Verdict::Punt);
        }
    }
}

#[test]
fn ipv6_headers_and_addresses() {
    const ONE: &str = "2001:db8::1";
    let good = v6(ONE, "2001:db8::2");
    assert_eq!(parse(&good), Verdict::Next);
    assert_eq!(parse(&good[..53]), dropped(DropReason::IpTruncated));
    let udp = sample("v6 udp");
    assert_eq!(parse(&udp[..udp.len() - 1]), dropped(DropReason::IpTruncated));
    let mut version = good.clone();
    version[14] = 0x45;
    assert_eq!(parse(&version), dropped(DropReason::IpBadVersion));
    for source in ["::", "::1", "ff02::1", "ff0e::1", "::ffff:10.0.0.1"] {
        assert_eq!(parse(&v6(source, ONE)), dropped(DropReason::MartianSource), "{source}");
    }
    for destination in ["::", "::1", "ff00::1", "ff01::1", "ff11::2", "::ffff:10.0.0.1"] {
        assert_eq!(parse(&v6(ONE, destination)), dropped(DropReason::MartianDestination), "{destination}");
    }
    for (source, destination) in [
        (ONE, "ff02::1"),
        (ONE, "ff0e::1"),
        (ONE, "fe80::1"),
        ("fe80::1", ONE),
        ("febf::1", ONE),
        // Is somebody using this address already?
        ("::", "ff02::1:ff00:1"),
    ] {
        let seen = run_one(&mut [&mut Parse::new(ports(), false)], &v6(source, destination));
        assert_eq!((seen.verdict, seen.facts.l3), (Verdict::Punt, 14), "{source} to {destination}");
    }
    for other in ["fec0::1", "fc00::1", "2000::", "64:ff9b::1"] {
        assert_eq!(parse(&v6(ONE, other)), Verdict::Next, "{other}");
    }
}

#[test]
fn the_facts_say_where_the_headers_are() {
    let facts = |name| run_one(&mut [&mut Parse::new(ports(), false)], &sample(name)).facts;
    let expect = |l4, version, protocol, fragment| Facts {
        l3: 14,
        l4,
        version,
        protocol,
        fragment,
        ..Facts::default()
    };
    assert_eq!(facts("v4 udp"), expect(34, 4, 17, Fragment::Whole));
    assert_eq!(facts("v4 fragment, first"), expect(34, 4, 17, Fragment::First));
    assert_eq!(facts("v4 fragment, middle"), expect(0, 4, 17, Fragment::Later));
    assert_eq!(facts("v6 udp"), expect(0, 6, 17, Fragment::Whole));
    assert_eq!(facts("v6 hop-by-hop options"), expect(0, 6, 0, Fragment::Whole));
    assert_eq!(facts("arp reply"), Facts::default());
}

#[test]
fn deep_facts_say_where_the_transport_is_and_whose_flow_it_is_of() {
    for sample in corpus::valid() {
        let (plain, deep) = (
            run_one(&mut [&mut Parse::new(ports(), false)], &sample.bytes),
            run_one(&mut [&mut Parse::new(ports(), true)], &sample.bytes),
        );
        let name = sample.name;
        if deep.verdict != Verdict::Next {
            assert_eq!(deep.verdict, plain.verdict, "{name}");
            continue;
        }
        let packet = &sample.bytes[14..];
        assert_eq!(deep.key, FlowKey::of(packet).unwrap(), "{name}");
        assert_eq!((deep.facts.l3, deep.facts.version), (14, packet[0] >> 4), "{name}");
        let behind = usize::from(deep.facts.l4);
        let (begins, payload) = if deep.facts.version == 4 {
            let ip = Ipv4::parse(packet).unwrap();
            (ip.begins_transport(), ip.payload())
        } else {
            let upper = Ipv6::parse(packet).unwrap().upper().unwrap();
            (upper.begins_transport(), upper.payload())
        };
        if begins {
            assert!(sample.bytes[behind..].starts_with(payload), "{name}");
        } else {
            assert_eq!((behind, deep.facts.fragment), (0, Fragment::Later), "{name}");
        }
        let whole = ["fragmentation", "atomic"].iter().any(|word| name.contains(word));
        assert_eq!(deep.facts.fragment == Fragment::Whole, whole || !name.contains("fragment"), "{name}");
    }
    // Those with options go on, to be filtered; others are the kernel's as they were.
    assert_eq!(
        run_one(&mut [&mut Parse::new(ports(), true)], &sample("v4 with options, udp")).verdict,
        Verdict::Next
    );
}

#[test]
fn decided_packets_are_left_alone_and_none_is_changed() {
    let mut burst: Vec<Vec<u8>> = corpus::valid().into_iter().map(|sample| sample.bytes).collect();
    burst.truncate(64);
    let mut configured = crate::stages::decide::Decide::DROP;
    let seen = run(&mut [&mut configured, &mut Parse::new(ports(), false)], IN, &burst, 0);
    assert!(seen.iter().all(|seen| seen.verdict == dropped(DropReason::Configured)));
    let seen = run(&mut [&mut Parse::new(ports(), false)], IN, &burst, 0);
    seen.iter().zip(&burst).for_each(|(seen, was)| assert_eq!(seen.bytes, *was));
}

#[test]
fn checksums_are_completed_only_where_the_port_says_so() {
    // The pseudo-header's sum, as a stack leaves it.
    let partial = |mut packet: Vec<u8>| {
        let ip = Ipv4::parse(&packet[14..]).unwrap();
        let sum = ip.address_sum().with_u16(u16::from(ip.protocol())).with_u16(ip.payload().len() as u16);
        let field = if ip.protocol() == 17 { 40 } else { 50 };
        packet[field..field + 2].copy_from_slice(&(!sum.finish()).to_be_bytes());
        packet
    };
    for (name, verdict) in [("v4 udp", Verdict::Next), ("v4 tcp data", Verdict::Next)] {
        let (whole, unfinished) = (sample(name), partial(sample(name)));
        assert_ne!(whole, unfinished);
        let seen = run_one(&mut [&mut Parse::new(ports(), false)], &unfinished);
        assert_eq!((seen.verdict, &seen.bytes), (verdict, &unfinished));
        let mut completing = ports();
        completing[0].complete_checksums = true;
        let seen = run_one(&mut [&mut Parse::new(completing, false)], &unfinished);
        assert_eq!((seen.verdict, &seen.bytes), (verdict, &whole));
    }
    // Punted packets too.
    let group = Ipv4Spec::new(GOOD4.0.into(), [224, 0, 0, 9].into(), 17);
    let whole = crate::stages::fixture::on_v4(&group, &build::udp(group.address_sum(), 520, 520, b"routes"));
    let mut completing = ports();
    completing[0].complete_checksums = true;
    let seen = run_one(&mut [&mut Parse::new(completing, false)], &partial(whole.clone()));
    assert_eq!((seen.verdict, seen.bytes), (Verdict::Punt, whole));
}
