//! The pipeline against a slow router that is written from the RFCs alone: etherparse for the headers, a linear scan for the
//! routes. They must agree on every packet: on its verdict, and on its bytes.
//!
//! The two know each other only by the routes of the lab. They cannot disagree by design but in one thing: which of equal
//! paths a flow takes is the pipeline's choice, so the model says which are allowed.

#[path = "../../tests/fuzz/entry/lab.rs"]
#[allow(dead_code)]
mod lab;

use etherparse::{EtherType, Ethernet2Header, Ipv4Header, Ipv6Header};
use lab::{A, B, Lab, Outcome, ROUTES, Way, mtu, port_mac};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec};
use zsync_packet::header::{Mac, VlanTag, ether_type};
use zsync_packet::verdict::{DropReason, PortId, Verdict};

use DropReason::*;

/// What the model says: a verdict, or one of several ways out, with the packet as it leaves.
#[derive(Debug)]
enum Expected {
    Verdict(Verdict),
    Ways(Vec<(PortId, Vec<u8>)>),
}

fn dropped(reason: DropReason) -> Expected {
    Expected::Verdict(Verdict::Drop(reason))
}

const PUNT: Expected = Expected::Verdict(Verdict::Punt);

fn model(port: PortId, packet: &[u8]) -> Expected {
    let Ok((ethernet, rest)) = Ethernet2Header::from_slice(packet) else { return dropped(EthernetTruncated) };
    match ethernet.ether_type {
        EtherType::VLAN_TAGGED_FRAME | EtherType::PROVIDER_BRIDGING => return tagged(rest, 1),
        _ => {}
    }
    let group = ethernet.destination[0] & 1 == 1;
    if !group && ethernet.destination != port_mac(port) {
        return dropped(NotForThisPort);
    }
    match ethernet.ether_type {
        EtherType::IPV4 => v4(packet, rest, group),
        EtherType::IPV6 => v6(packet, rest, group),
        _ => dropped(NotIp),
    }
}

/// Tags are counted as far as they go, to tell a packet that is cut off from one that is only not wanted.
fn tagged(rest: &[u8], tags: u8) -> Expected {
    match rest {
        [_, _, 0x81, 0, ..] | [_, _, 0x88, 0xa8, ..] if tags == 2 => dropped(VlanTooDeep),
        [_, _, 0x81, 0, rest @ ..] | [_, _, 0x88, 0xa8, rest @ ..] => tagged(rest, tags + 1),
        [_, _, _, _, ..] => dropped(VlanTagged),
        _ => dropped(EthernetTruncated),
    }
}

/// RFC 1812 §5.2.2, §5.3.1, §5.3.4, §5.3.7.
fn v4(packet: &[u8], rest: &[u8], group: bool) -> Expected {
    let [first, _, total @ ..] = rest else { return dropped(IpTruncated) };
    // (1) of §5.2.2: room for the smallest header. etherparse has the length of the header in its place.
    if rest.len() < 20 {
        return dropped(IpTruncated);
    }
    let (header, total) = (usize::from(first & 0xf) * 4, usize::from(total[0]) << 8 | usize::from(total[1]));
    match first >> 4 {
        4 if header < 20 => return dropped(IpBadHeaderLength),
        4 if total < header => return dropped(IpBadTotalLength),
        4 if rest.len() < total => return dropped(IpTruncated),
        4 => {}
        _ => return dropped(IpBadVersion),
    }
    let (ip, _) = Ipv4Header::from_slice(rest).expect("all that it checks was checked");
    if checksum(&rest[..header]) != 0 {
        return dropped(IpBadChecksum);
    }
    let (source, destination) = (Ipv4Addr::from(ip.source), Ipv4Addr::from(ip.destination));
    if source.is_unspecified() && destination.is_broadcast() {
        return PUNT;
    }
    let this_net = |address: Ipv4Addr| address.octets()[0] == 0;
    let class_e = |address: Ipv4Addr| address.octets()[0] >= 240;
    if this_net(source) || source.is_loopback() || source.is_multicast() || class_e(source) {
        return dropped(MartianSource);
    }
    if destination.is_multicast() || destination.is_broadcast() {
        return PUNT;
    }
    if this_net(destination) || destination.is_loopback() || class_e(destination) {
        return dropped(MartianDestination);
    }
    if group {
        return dropped(NotForThisPort);
    }
    if !ip.options.is_empty() || source.is_link_local() || destination.is_link_local() {
        return PUNT;
    }
    let leave = |to: PortId| {
        if ip.time_to_live <= 1 || total as u32 > mtu(to) {
            return None;
        }
        let mut aged = rest.to_vec();
        aged[8] -= 1;
        aged[10..12].fill(0);
        let right = checksum(&aged[..header]);
        aged[10..12].copy_from_slice(&right.to_be_bytes());
        Some(aged)
    };
    routed(packet, destination.into(), leave)
}

/// RFC 1071 §4.1, word by word. etherparse's own leaves the reserved flag out, which no rule lets a router clear or refuse.
fn checksum(header: &[u8]) -> u16 {
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    // Folding may carry once more.
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// RFC 8200 §3, RFC 4291 §2.
fn v6(packet: &[u8], rest: &[u8], group: bool) -> Expected {
    if rest.len() < 40 {
        return dropped(IpTruncated);
    }
    if rest[0] >> 4 != 6 {
        return dropped(IpBadVersion);
    }
    let (ip, _) = Ipv6Header::from_slice(rest).expect("all that it checks was checked");
    if rest.len() - 40 < usize::from(ip.payload_length) {
        return dropped(IpTruncated);
    }
    let (source, destination) = (Ipv6Addr::from(ip.source), Ipv6Addr::from(ip.destination));
    let mapped = |address: Ipv6Addr| address.segments()[..6] == [0, 0, 0, 0, 0, 0xffff];
    let link_local = |address: Ipv6Addr| address.segments()[0] & 0xffc0 == 0xfe80;
    if source.is_multicast() || source.is_loopback() || mapped(source) {
        return dropped(MartianSource);
    }
    let scope = destination.is_multicast().then_some(destination.segments()[0] & 0xf);
    if destination.is_unspecified()
        || destination.is_loopback()
        || mapped(destination)
        || scope < Some(2) && scope.is_some()
    {
        return dropped(MartianDestination);
    }
    if scope.is_some() {
        return PUNT;
    }
    if source.is_unspecified() {
        return dropped(MartianSource);
    }
    if group {
        return dropped(NotForThisPort);
    }
    if link_local(source) || link_local(destination) {
        return PUNT;
    }
    let leave = |to: PortId| {
        let mut bytes = rest.to_vec();
        bytes[7] = ip.hop_limit.checked_sub(1).filter(|left| *left > 0)?;
        (40 + u32::from(ip.payload_length) <= mtu(to)).then_some(bytes)
    };
    routed(packet, destination.into(), leave)
}

/// The longest prefix that covers the destination, and what it says; `leave` is the IP packet as it leaves a port, or nothing
/// where the sender gets an answer.
fn routed(packet: &[u8], to: IpAddr, leave: impl Fn(PortId) -> Option<Vec<u8>>) -> Expected {
    let covers = |prefix: &str, len: u8| match (prefix.parse().expect("an address"), to) {
        (IpAddr::V4(prefix), IpAddr::V4(to)) => {
            (prefix.to_bits() ^ to.to_bits()).leading_zeros() >= u32::from(len)
        }
        (IpAddr::V6(prefix), IpAddr::V6(to)) => {
            (prefix.to_bits() ^ to.to_bits()).leading_zeros() >= u32::from(len)
        }
        _ => false,
    };
    let route = ROUTES.iter().filter(|(prefix, len, _)| covers(prefix, *len)).max_by_key(|(_, len, _)| *len);
    let hops: &[(u16, Mac)] = match route.map(|(.., way)| way) {
        Some(Way::Hops(hops)) => hops,
        Some(Way::Blackhole) => return dropped(Blackhole),
        // The allowance for answers is never used up here: see the unit tests for when it is.
        Some(Way::Unresolved | Way::Local | Way::Unreachable | Way::Prohibit) | None => return PUNT,
    };
    let mut ways = Vec::new();
    for &(port, mac) in hops {
        let port = PortId(port);
        match leave(port) {
            Some(ip) => ways.push((port, [&mac[..], &port_mac(port), &packet[12..14], &ip].concat())),
            // One of the hops may be too narrow, another not.
            None => ways.push((port, packet.to_vec())),
        }
    }
    Expected::Ways(ways)
}

/// Whether they agree; the two words in which the packet is counted.
fn compare(port: PortId, input: &[u8], outcome: &Outcome) -> Result<&'static str, TestCaseError> {
    let expected = model(port, input);
    match (&expected, outcome.verdict) {
        (Expected::Verdict(expected), verdict) => {
            prop_assert_eq!(*expected, verdict, "{:02x?}", input);
            prop_assert_eq!(&outcome.bytes, input);
            Ok(match verdict {
                Verdict::Punt => "punted",
                Verdict::Drop(reason) => reason.label(),
                _ => "other",
            })
        }
        (Expected::Ways(ways), Verdict::Transmit(to)) => {
            prop_assert!(
                ways.contains(&(to, outcome.bytes.clone())) && outcome.bytes != input,
                "{:?} {:02x?}",
                to,
                input
            );
            Ok("forwarded")
        }
        (Expected::Ways(ways), verdict) => {
            prop_assert_eq!(verdict, Verdict::Punt, "{:02x?}", input);
            prop_assert!(
                ways.iter().any(|(_, bytes)| bytes == input) && outcome.bytes == input,
                "{:02x?}",
                input
            );
            Ok("answered")
        }
    }
}

/// Addresses at the edges of routes and of what is martian, in front of random ends.
fn v4_address() -> impl Strategy<Value = Ipv4Addr> {
    let heads = [
        "10.1.0.2",
        "10.2.0.1",
        "10.2.0.2",
        "10.2.3.5",
        "10.2.3.130",
        "10.2.9.1",
        "10.66.1.1",
        "10.67.1.1",
        "10.68.1.1",
        "172.16.0.1",
        "172.32.0.1",
        "0.0.0.0",
        "127.0.0.1",
        "169.254.0.1",
        "224.0.0.1",
        "239.9.9.9",
        "240.0.0.1",
        "255.255.255.255",
        "8.8.8.8",
    ];
    let near = (prop::sample::select(heads.to_vec()), 0u32..4, any::<u8>()).prop_map(|(head, kind, end)| {
        let bits = head.parse::<Ipv4Addr>().unwrap().to_bits();
        Ipv4Addr::from_bits(if kind == 0 {
            bits ^ 1 << (end % 32)
        } else if kind == 1 {
            bits & !0xff | u32::from(end)
        } else {
            bits
        })
    });
    prop_oneof![9 => near, 1 => any::<u32>().prop_map(Ipv4Addr::from_bits)]
}

fn v6_address() -> impl Strategy<Value = Ipv6Addr> {
    let heads = [
        "2001:db8:1::2",
        "2001:db8:2::1",
        "2001:db8:2::2",
        "2001:db8:3::1",
        "2001:db8:3:8000::1",
        "2001:db8:9::1",
        "2001:db8:66::1",
        "2001:db8:67::1",
        "2001:db8:68::1",
        "3000::1",
        "3fff::",
        "2a00::1",
        "::",
        "::1",
        "::2",
        "::ffff:10.2.0.2",
        "fe80::1",
        "fec0::1",
        "ff00::1",
        "ff01::1",
        "ff02::1",
        "ff0e::1",
    ];
    let near = (prop::sample::select(heads.to_vec()), 0u32..3, any::<u8>()).prop_map(|(head, kind, bit)| {
        let bits = head.parse::<Ipv6Addr>().unwrap().to_bits();
        Ipv6Addr::from_bits(if kind == 0 { bits ^ 1 << (bit % 128) } else { bits })
    });
    prop_oneof![9 => near, 1 => any::<u128>().prop_map(Ipv6Addr::from_bits)]
}

fn ip_packet() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let hops = prop_oneof![6 => 2..=255u8, 1 => 0..3u8];
    let len = prop_oneof![8 => 0..90usize, 1 => 1355..1365usize, 1 => 1375..1385usize, 1 => 1455..1485usize];
    let four = (
        v4_address(),
        v4_address(),
        hops.clone(),
        any::<(u8, bool, bool)>(),
        prop::option::weighted(0.1, 1..41usize),
        len.clone(),
    )
        .prop_map(
            |(source, destination, ttl, (protocol, dont_fragment, more_fragments), options, len)| {
                let spec = Ipv4Spec {
                    ttl,
                    dont_fragment,
                    more_fragments,
                    options: vec![1; options.unwrap_or(0)],
                    ..Ipv4Spec::new(source, destination, protocol)
                };
                (ether_type::IPV4, spec.packet(&vec![0x11; len]))
            },
        );
    let six = (v6_address(), v6_address(), hops, any::<(u8, u32)>(), len).prop_map(
        |(source, destination, hop_limit, (next_header, flow_label), len)| {
            let spec = Ipv6Spec { hop_limit, flow_label, ..Ipv6Spec::new(source, destination, next_header) };
            (ether_type::IPV6, spec.packet(&vec![0x11; len]))
        },
    );
    prop_oneof![four, six]
}

/// A packet to a port, mostly right, with now and then something wrong.
fn packet() -> impl Strategy<Value = (PortId, Vec<u8>)> {
    let tags = prop_oneof![12 => Just(0usize), 1 => 1..4usize];
    let mac = prop_oneof![16 => Just(0u8), 1 => Just(1), 1 => Just(2), 1 => Just(3)];
    let cut = prop::option::weighted(0.15, any::<prop::sample::Index>());
    let flip = prop::option::weighted(0.25, (0usize..64 * 8, any::<bool>()));
    let padding = prop_oneof![3 => Just(0usize), 1 => 1..50usize];
    let kind = prop::option::weighted(
        0.05,
        prop_oneof![Just(ether_type::ARP), Just(ether_type::IPV4), Just(ether_type::IPV6), any::<u16>()],
    );
    (any::<bool>(), ip_packet(), tags, mac, kind, (cut, flip, padding)).prop_map(
        |(at_b, (ether_type, ip), tags, mac, kind, (cut, flip, padding))| {
            let port = if at_b { B } else { A };
            let to =
                [port_mac(port), [0xff; 6], [0x33, 0x33, 0, 0, 0, 1], [2, 9, 9, 9, 9, 9]][usize::from(mac)];
            let mut bytes =
                build::ethernet(to, [4; 6], &vec![VlanTag::new(3); tags], kind.unwrap_or(ether_type), &ip);
            bytes.resize(bytes.len() + padding, 0xee);
            if let Some((bit, repair)) = flip
                && bit / 8 < bytes.len()
            {
                bytes[bit / 8] ^= 0x80 >> (bit % 8);
                if repair && tags == 0 && ether_type == ether_type::IPV4 {
                    let end = 14 + usize::from(bytes[14] & 0xf).max(5) * 4;
                    bytes[24..26].fill(0);
                    let checksum = zsync_packet::checksum::of(&bytes[14..end.min(bytes.len())]);
                    bytes[24..26].copy_from_slice(&checksum.to_be_bytes());
                }
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            (port, bytes)
        },
    )
}

thread_local! {
    static LAB: RefCell<Lab> = RefCell::new(Lab::new());
    static SEEN: RefCell<BTreeMap<&'static str, u32>> = const { RefCell::new(BTreeMap::new()) };
}

#[test]
fn the_pipeline_does_what_the_model_does() {
    let config = ProptestConfig { cases: 4000, ..ProptestConfig::default() };
    proptest!(config, |(packets in prop::collection::vec(packet(), 1..100))| {
        for port in [A, B] {
            let here: Vec<&[u8]> = packets.iter().filter(|(at, _)| *at == port).map(|(_, bytes)| &bytes[..]).collect();
            let outcomes = LAB.with_borrow_mut(|lab| lab.process(port, &here));
            for (input, outcome) in here.iter().zip(outcomes) {
                let what = compare(port, input, &outcome)?;
                SEEN.with_borrow_mut(|seen| *seen.entry(what).or_default() += 1);
            }
        }
    });
    // A test of agreement is worth what it made them agree on.
    let seen = SEEN.take();
    for what in
        ["forwarded", "answered", "punted"].into_iter().chain(PARSED.iter().map(|reason| reason.label()))
    {
        assert!(seen.get(what).is_some_and(|times| *times >= 10), "{what}: {seen:?}");
    }
}

/// The reasons that the packets of this test meet.
const PARSED: [DropReason; 13] = [
    EthernetTruncated,
    VlanTooDeep,
    VlanTagged,
    NotForThisPort,
    NotIp,
    IpTruncated,
    IpBadVersion,
    IpBadHeaderLength,
    IpBadTotalLength,
    IpBadChecksum,
    MartianSource,
    MartianDestination,
    Blackhole,
];
