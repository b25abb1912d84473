//! Packets that every parser must survive: valid ones of each shape, and what becomes of them.
//!
//! Owns the samples, which our own builders write, and two ways to damage them: every truncation, and every flip of
//! one bit in the first 64 bytes. Used by the tests of every crate that reads packets; no part of the API.
#![forbid(unsafe_code)]

use core::net::{Ipv4Addr, Ipv6Addr};

use super::build::{self, Ipv4Spec, Ipv6Spec, TcpSpec};
use super::{Mac, TcpFlags, VlanTag, arp, ether_type, icmp, icmpv6, protocol};

/// A valid packet, from its Ethernet header on.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What it is, in a few words.
    pub name: &'static str,
    /// The packet.
    pub bytes: Vec<u8>,
}

/// The addresses of the samples.
pub const MACS: (Mac, Mac) = ([0x02, 0, 0, 0, 0, 0x0a], [0x02, 0, 0, 0, 0, 0x0b]);
/// Source and destination of the IPv4 samples.
pub const V4: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 2, 0, 2));
/// Source and destination of the IPv6 samples.
pub const V6: (Ipv6Addr, Ipv6Addr) =
    (Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2), Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2));

/// The options of a SYN as Linux sends it.
const SYN_OPTIONS: [u8; 20] = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0x30, 0x39, 0, 0, 0, 0, 1, 3, 3, 7];

fn on_ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    build::ethernet(MACS.1, MACS.0, &[], ether_type, payload)
}

fn v4(protocol: u8) -> Ipv4Spec {
    Ipv4Spec { identification: 0x4242, ..Ipv4Spec::new(V4.0, V4.1, protocol) }
}

fn v6(next_header: u8) -> Ipv6Spec {
    Ipv6Spec { flow_label: 0x12345, ..Ipv6Spec::new(V6.0, V6.1, next_header) }
}

fn udp4(payload: &[u8]) -> Vec<u8> {
    build::udp(v4(protocol::UDP).address_sum(), 40_000, 53, payload)
}

fn udp6(payload: &[u8]) -> Vec<u8> {
    build::udp(v6(protocol::UDP).address_sum(), 40_000, 53, payload)
}

fn tcp(flags: TcpFlags, options: &[u8]) -> TcpSpec {
    TcpSpec {
        sequence: 0x1111_2222,
        acknowledgement: 0x3333_4444,
        options: options.to_vec(),
        ..TcpSpec::new(50_000, 443, flags)
    }
}

/// The valid packets.
pub fn valid() -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut add = |name, bytes| samples.push(Sample { name, bytes });

    let question = build::arp(arp::REQUEST, MACS.0, V4.0, [0; 6], V4.1);
    add("arp request", build::padded(build::ethernet([0xff; 6], MACS.0, &[], ether_type::ARP, &question)));
    let answer = build::arp(arp::REPLY, MACS.1, V4.1, MACS.0, V4.0);
    add("arp reply", build::padded(on_ethernet(ether_type::ARP, &answer)));

    ipv4(&mut add);
    tagged(&mut add);
    ipv6(&mut add);
    extensions(&mut add);
    samples
}

fn ipv4(add: &mut impl FnMut(&'static str, Vec<u8>)) {
    let on_v4 = |packet: Vec<u8>| on_ethernet(ether_type::IPV4, &packet);
    let syn = tcp(TcpFlags::SYN, &SYN_OPTIONS);
    let sum = v4(protocol::TCP).address_sum();

    add("v4 udp", on_v4(v4(protocol::UDP).packet(&udp4(b"a datagram of a few words"))));
    add("v4 udp, padded to 60", build::padded(on_v4(v4(protocol::UDP).packet(&udp4(b"x")))));
    add("v4 udp, empty", on_v4(v4(protocol::UDP).packet(&udp4(&[]))));
    add("v4 udp, 1514 bytes", on_v4(v4(protocol::UDP).packet(&udp4(&[0xa5; 1472]))));
    let mut unchecked = udp4(b"no checksum");
    unchecked[6..8].fill(0);
    add("v4 udp without checksum", on_v4(v4(protocol::UDP).packet(&unchecked)));
    add("v4 tcp syn with options", on_v4(v4(protocol::TCP).packet(&syn.segment(sum, &[]))));
    let ack = tcp(TcpFlags::ACK.union(TcpFlags::PSH), &[]);
    add("v4 tcp data", on_v4(v4(protocol::TCP).packet(&ack.segment(sum, b"GET / HTTP/1.1\r\n\r\n"))));
    let sack = tcp(TcpFlags::ACK, &[1, 1, 5, 18, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 1, 1, 0, 0, 1, 9]);
    add("v4 tcp with sack", on_v4(v4(protocol::TCP).packet(&sack.segment(sum, &[]))));
    let echo = build::icmp(icmp::ECHO_REQUEST, 0, [0x12, 0x34, 0, 1], &[0x61; 32]);
    add("v4 icmp echo", on_v4(v4(protocol::ICMP).packet(&echo)));
    let lost = v4(protocol::UDP).packet(&udp4(b"the packet that was too big"));
    let too_big = build::icmp(icmp::UNREACHABLE, 4, [0, 0, 0x05, 0xdc], &lost[..28]);
    add("v4 icmp fragmentation needed", on_v4(v4(protocol::ICMP).packet(&too_big)));
    let stamp = build::icmp(13, 0, [0, 1, 0, 1], &[0; 12]);
    add("v4 icmp timestamp", on_v4(v4(protocol::ICMP).packet(&stamp)));

    // Router alert and record route; then the largest header that there is.
    let options = Ipv4Spec { options: vec![0x94, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0], ..v4(protocol::UDP) };
    add("v4 with options, udp", on_v4(options.packet(&udp4(b"options"))));
    let options = Ipv4Spec { options: vec![1; 40], ..v4(protocol::TCP) };
    add("v4 with 40 bytes of options, tcp", on_v4(options.packet(&syn.segment(sum, &[]))));
    let options = Ipv4Spec { options: vec![0x44, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0], ..v4(protocol::ICMP) };
    add("v4 with a timestamp option, icmp", on_v4(options.packet(&echo)));

    let datagram = udp4(&[0x5a; 88]);
    let part = |offset: u16, more, bytes: &[u8]| {
        Ipv4Spec { fragment_offset: offset, more_fragments: more, ..v4(protocol::UDP) }.packet(bytes)
    };
    add("v4 fragment, first", on_v4(part(0, true, &datagram[..32])));
    add("v4 fragment, middle", on_v4(part(32, true, &datagram[32..64])));
    add("v4 fragment, last", on_v4(part(64, false, &datagram[64..])));

    add("v4 in v4", on_v4(v4(protocol::IPIP).packet(&lost)));
    add("v6 in v4", on_v4(v4(protocol::IPV6).packet(&v6(protocol::UDP).packet(&udp6(b"inside")))));
    let signed = [&build::auth(protocol::UDP, 12)[..], &udp4(b"signed")].concat();
    add("v4 authentication header", on_v4(v4(protocol::AUTH).packet(&signed)));
    add("v4 esp", on_v4(v4(protocol::ESP).packet(&[0x77; 40])));
}

fn tagged(add: &mut impl FnMut(&'static str, Vec<u8>)) {
    let inner4 = v4(protocol::UDP).packet(&udp4(b"tagged"));
    let inner6 = v6(protocol::UDP).packet(&udp6(b"tagged"));
    let on = |tags: &[VlanTag], kind, packet: &[u8]| build::ethernet(MACS.1, MACS.0, tags, kind, packet);
    let both = [VlanTag::provider(200), VlanTag { tpid: ether_type::VLAN, tci: 0xa064 }];
    add("vlan, v4 udp", on(&[VlanTag::new(100)], ether_type::IPV4, &inner4));
    add("vlan, v6 udp", on(&[VlanTag::new(100)], ether_type::IPV6, &inner6));
    add("qinq, v4 udp", on(&both, ether_type::IPV4, &inner4));
    add("qinq, v6 udp", on(&both, ether_type::IPV6, &inner6));
}

fn ipv6(add: &mut impl FnMut(&'static str, Vec<u8>)) {
    let on_v6 = |packet: Vec<u8>| on_ethernet(ether_type::IPV6, &packet);
    let sum = v6(0).address_sum();

    add("v6 udp", on_v6(v6(protocol::UDP).packet(&udp6(b"a datagram of a few words"))));
    add("v6 udp, 1514 bytes", on_v6(v6(protocol::UDP).packet(&udp6(&[0xa5; 1452]))));
    let syn = tcp(TcpFlags::SYN, &SYN_OPTIONS);
    add("v6 tcp syn with options", on_v6(v6(protocol::TCP).packet(&syn.segment(sum, &[]))));
    let echo = build::icmpv6(sum, icmpv6::ECHO_REQUEST, 0, [0x12, 0x34, 0, 1], &[0x61; 32]);
    add("v6 icmp echo", on_v6(v6(protocol::ICMPV6).packet(&echo)));
    let lost = v6(protocol::UDP).packet(&udp6(b"the packet that was too big"));
    let too_big = build::icmpv6(sum, icmpv6::PACKET_TOO_BIG, 0, 1280u32.to_be_bytes(), &lost);
    add("v6 icmp packet too big", on_v6(v6(protocol::ICMPV6).packet(&too_big)));

    let local = |host| Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host);
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0xb);
    let ask = Ipv6Spec { hop_limit: 255, ..Ipv6Spec::new(local(0xa), group, protocol::ICMPV6) };
    let body = [&local(0xb).octets()[..], &[1, 1], &MACS.0].concat();
    let message = build::icmpv6(ask.address_sum(), icmpv6::NEIGHBOUR_SOLICITATION, 0, [0; 4], &body);
    add("v6 neighbour solicitation", on_v6(ask.packet(&message)));
    let tell = Ipv6Spec { hop_limit: 255, ..Ipv6Spec::new(local(0xb), local(0xa), protocol::ICMPV6) };
    let body = [&local(0xb).octets()[..], &[2, 1], &MACS.1].concat();
    let message =
        build::icmpv6(tell.address_sum(), icmpv6::NEIGHBOUR_ADVERTISEMENT, 0, [0x60, 0, 0, 0], &body);
    add("v6 neighbour advertisement", on_v6(tell.packet(&message)));
    add("v4 in v6", on_v6(v6(protocol::IPIP).packet(&v4(protocol::UDP).packet(&udp4(b"inside")))));
    add("v6, no next header", on_v6(v6(protocol::NO_NEXT_HEADER).packet(&[])));
}

fn extensions(add: &mut impl FnMut(&'static str, Vec<u8>)) {
    let chain = |first: u8, headers: &[&[u8]], upper: &[u8]| {
        let payload = [&headers.concat(), upper].concat();
        on_ethernet(ether_type::IPV6, &v6(first).packet(&payload))
    };
    let udp = udp6(b"behind extension headers");
    let options = build::extension(protocol::UDP, 1);
    add("v6 hop-by-hop options", chain(protocol::HOP_BY_HOP, &[&options], &udp));
    add("v6 destination options", chain(protocol::DESTINATION_OPTIONS, &[&options], &udp));
    // A segment routing header (RFC 8754) whose only segment is done.
    let mut routing = vec![protocol::UDP, 2, 4, 0, 0, 0, 0, 0];
    routing.extend(V6.1.octets());
    add("v6 routing header", chain(protocol::ROUTING, &[&routing], &udp));
    add("v6 authentication header", chain(protocol::AUTH, &[&build::auth(protocol::UDP, 12)], &udp));
    let part = |offset, more, bytes: &[u8]| {
        chain(protocol::FRAGMENT, &[&build::fragment(protocol::UDP, offset, more, 0x99)], bytes)
    };
    add("v6 atomic fragment", part(0, false, &udp));
    add("v6 fragment, first", part(0, true, &udp[..16]));
    add("v6 fragment, middle", part(16, true, &udp[16..24]));
    add("v6 fragment, last", part(24, false, &udp[24..]));
    let five: [&[u8]; 5] = [
        &build::extension(protocol::DESTINATION_OPTIONS, 0),
        &build::extension(protocol::ROUTING, 0),
        &[&[protocol::AUTH][..], &routing[1..]].concat(),
        &build::auth(protocol::DESTINATION_OPTIONS, 0),
        &build::extension(protocol::UDP, 0),
    ];
    add("v6, five extension headers", chain(protocol::HOP_BY_HOP, &five, &udp));
}

/// Every truncation of a packet, from nothing to all but the last byte.
pub fn truncations(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    (0..bytes.len()).map(|len| &bytes[..len])
}

/// Every flip of one bit in the first 64 bytes of a packet.
pub fn bit_flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..bytes.len().min(64) * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 0x80 >> (bit % 8);
        flipped
    })
}

/// The valid packets and all that becomes of them, about 40,000.
pub fn all() -> impl Iterator<Item = Vec<u8>> {
    valid().into_iter().flat_map(|Sample { bytes, .. }| {
        let short: Vec<Vec<u8>> = truncations(&bytes).map(<[u8]>::to_vec).collect();
        let flipped: Vec<Vec<u8>> = bit_flips(&bytes).collect();
        [bytes].into_iter().chain(short).chain(flipped)
    })
}
