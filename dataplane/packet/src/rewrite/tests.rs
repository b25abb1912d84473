//! Translated packets against the same packets built anew, whose checksums are computed over all bytes.

use core::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::checksum::Sum;
use crate::header::build::{self, Ipv4Spec, Ipv6Spec, TcpSpec};
use crate::header::{Ipv4, TcpFlags};

/// One end of a packet.
type End<A> = (A, u16);

/// What a packet is, besides its ends.
#[derive(Clone, Debug)]
struct Shape {
    protocol: u8,
    payload: Vec<u8>,
    /// UDP over IPv4 without a checksum.
    unchecked: bool,
    /// Bytes ahead of the IP header, and behind its end.
    around: (usize, usize),
    /// IPv4 options, or IPv6 extension headers of 8 bytes.
    extras: usize,
}

/// A CRC32c, bit by bit (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

/// A transport header between these ports, with its payload and its checksum.
fn transport(shape: &Shape, v6: bool, addresses: Sum, ports: (u16, u16)) -> Vec<u8> {
    let with_sum = |mut bytes: Vec<u8>, at: usize, zero_rule: bool| {
        let sum =
            addresses.with_u16(u16::from(shape.protocol)).with_u16(bytes.len() as u16) + Sum::of(&bytes);
        let checksum = if zero_rule { sum.finish_udp() } else { sum.finish() };
        bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        bytes
    };
    let head = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    match shape.protocol {
        protocol::TCP => {
            TcpSpec { sequence: 7, options: vec![1; 4], ..TcpSpec::new(ports.0, ports.1, TcpFlags::ACK) }
                .segment(addresses, &shape.payload)
        }
        protocol::UDP => {
            let mut bytes = build::udp(addresses, ports.0, ports.1, &shape.payload);
            if shape.unchecked && !v6 {
                bytes[6..8].fill(0);
            }
            bytes
        }
        protocol::UDP_LITE => with_sum([&head[..], &[0; 4], &shape.payload].concat(), 6, true),
        protocol::DCCP => with_sum([&head[..], &[4, 0, 0, 0, 0, 0, 0, 1], &shape.payload].concat(), 6, false),
        protocol::SCTP => {
            let mut bytes = [&head[..], &[1, 2, 3, 4, 0, 0, 0, 0], &shape.payload].concat();
            let crc = crc32c(&bytes).to_le_bytes();
            bytes[8..12].copy_from_slice(&crc);
            bytes
        }
        protocol::ICMP => build::icmp(icmp::ECHO_REQUEST, 0, echo(ports.0), &shape.payload),
        protocol::ICMPV6 => build::icmpv6(addresses, icmpv6::ECHO_REPLY, 0, echo(ports.0), &shape.payload),
        _ => shape.payload.clone(),
    }
}

fn echo(id: u16) -> [u8; 4] {
    let [a, b] = id.to_be_bytes();
    [a, b, 0, 9]
}

fn wrapped(shape: &Shape, ip: &[u8]) -> Vec<u8> {
    [&vec![0xee; shape.around.0][..], ip, &vec![0xdd; shape.around.1]].concat()
}

fn packet4(shape: &Shape, from: End<Ipv4Addr>, to: End<Ipv4Addr>) -> Vec<u8> {
    let spec = Ipv4Spec { options: vec![1; shape.extras * 4], ..Ipv4Spec::new(from.0, to.0, shape.protocol) };
    spec.packet(&transport(shape, false, spec.address_sum(), (from.1, to.1)))
}

fn packet6(shape: &Shape, from: End<Ipv6Addr>, to: End<Ipv6Addr>) -> Vec<u8> {
    let first = if shape.extras == 0 { shape.protocol } else { protocol::DESTINATION_OPTIONS };
    let spec = Ipv6Spec::new(from.0, to.0, first);
    let mut payload = Vec::new();
    for left in (0..shape.extras).rev() {
        let next = if left == 0 { shape.protocol } else { protocol::DESTINATION_OPTIONS };
        payload.extend(build::extension(next, 0));
    }
    payload.extend(transport(shape, true, spec.address_sum(), (from.1, to.1)));
    spec.packet(&payload)
}

fn facts(shape: &Shape, v6: bool) -> Facts {
    let l3 = shape.around.0 as u16;
    let header = if v6 { 40 + 8 * shape.extras } else { 20 + 4 * shape.extras };
    Facts {
        l3,
        l4: l3 + header as u16,
        version: if v6 { 6 } else { 4 },
        protocol: shape.protocol,
        ..Facts::default()
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    let protocols = prop::sample::select(vec![
        protocol::TCP,
        protocol::UDP,
        protocol::UDP_LITE,
        protocol::DCCP,
        protocol::SCTP,
        protocol::ICMP,
        protocol::ICMPV6,
        protocol::ESP,
    ]);
    (protocols, prop::collection::vec(any::<u8>(), 0..70), any::<bool>(), (0usize..4, 0usize..9), 0usize..4)
        .prop_map(|(protocol, payload, unchecked, around, extras)| Shape {
            protocol,
            payload,
            unchecked,
            around: (around.0 * 2, around.1),
            extras,
        })
}

/// Where the two zeros of a sum and its carries come often.
fn word() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), Just(0xffff), Just(1), any::<u16>()]
}

fn end4() -> impl Strategy<Value = End<Ipv4Addr>> {
    (any::<u32>().prop_map(Ipv4Addr::from_bits), word())
}

fn end6() -> impl Strategy<Value = End<Ipv6Addr>> {
    (prop::collection::vec(word(), 8), word()).prop_map(|(words, port)| {
        let words: [u16; 8] = words.try_into().unwrap_or_default();
        (Ipv6Addr::from(words), port)
    })
}

/// An echo has one identifier.
fn fit<A>(shape: &Shape, ends: (End<A>, End<A>)) -> (End<A>, End<A>) {
    let (a, (b, port)) = ends;
    let same = matches!(shape.protocol, protocol::ICMP | protocol::ICMPV6);
    let port = if same { a.1 } else { port };
    (a, (b, port))
}

/// Equal, but for the two zeros of an echo's checksum.
fn same(left: &[u8], right: &[u8], checksum: usize, shape: &Shape) -> bool {
    if left == right || shape.protocol != protocol::ICMP {
        return left == right;
    }
    let flat = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        if bytes[checksum..checksum + 2] == [0xff, 0xff] {
            bytes[checksum..checksum + 2].fill(0);
        }
        bytes
    };
    flat(left) == flat(right)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn translated_is_built_anew_v4(
        shape in shape(), from in end4(), to in end4(), new_from in end4(), new_to in end4(),
    ) {
        let ((from, to), (new_from, new_to)) = (fit(&shape, (from, to)), fit(&shape, (new_from, new_to)));
        let shape = Shape { protocol: if shape.protocol == protocol::ICMPV6 { 253 } else { shape.protocol }, ..shape };
        let facts = facts(&shape, false);
        let mut bytes = wrapped(&shape, &packet4(&shape, from, to));
        translate(&mut bytes, &facts, &FlowKey::v4(new_from, new_to, shape.protocol)).unwrap();
        let expected = wrapped(&shape, &packet4(&shape, new_from, new_to));
        prop_assert!(same(&bytes, &expected, usize::from(facts.l4) + 2, &shape), "{:x?}\n{:x?}", bytes, expected);
        // There and back again.
        translate(&mut bytes, &facts, &FlowKey::v4(from, to, shape.protocol)).unwrap();
        let first = wrapped(&shape, &packet4(&shape, from, to));
        prop_assert!(same(&bytes, &first, usize::from(facts.l4) + 2, &shape));
    }

    #[test]
    fn translated_is_built_anew_v6(
        shape in shape(), from in end6(), to in end6(), new_from in end6(), new_to in end6(),
    ) {
        let ((from, to), (new_from, new_to)) = (fit(&shape, (from, to)), fit(&shape, (new_from, new_to)));
        let shape = Shape { protocol: if shape.protocol == protocol::ICMP { 253 } else { shape.protocol }, ..shape };
        // A pseudo-header of nothing but zeros is no packet's.
        prop_assume!(!new_from.0.is_unspecified() && !from.0.is_unspecified());
        let facts = facts(&shape, true);
        let mut bytes = wrapped(&shape, &packet6(&shape, from, to));
        translate(&mut bytes, &facts, &FlowKey::v6(new_from, new_to, shape.protocol)).unwrap();
        let expected = wrapped(&shape, &packet6(&shape, new_from, new_to));
        prop_assert_eq!(bytes, expected);
    }

    #[test]
    fn errors_quote_what_was_sent_v4(
        shape in shape(), from in end4(), to in end4(), new_from in end4(), new_to in end4(),
        reporter in any::<u32>(), cut in (4usize..60).prop_map(|words| words * 2), kind in prop::sample::select(vec![3u8, 11, 12, 5]),
    ) {
        let ((from, to), (new_from, new_to)) = (fit(&shape, (from, to)), fit(&shape, (new_from, new_to)));
        let shape = Shape { protocol: if shape.protocol == protocol::ICMPV6 { 253 } else { shape.protocol }, ..shape };
        let carrier = Shape { protocol: protocol::ICMP, ..shape.clone() };
        let error = |inner: Vec<u8>, from: Ipv4Addr, to: Ipv4Addr| {
            let len = inner.len().min(20 + 4 * shape.extras + cut);
            let spec = Ipv4Spec { options: vec![1; shape.extras * 4], ..Ipv4Spec::new(from, to, protocol::ICMP) };
            wrapped(&shape, &spec.packet(&build::icmp(kind, 4, [0, 0, 5, 0], &inner[..len])))
        };
        let reporter = Ipv4Addr::from_bits(reporter);
        let mut bytes = error(packet4(&shape, from, to), reporter, from.0);
        let to_key = FlowKey::v4(new_from, new_to, shape.protocol);
        translate_error(&mut bytes, &facts(&carrier, false), &to_key).unwrap();
        let reporter = if to.0 == new_to.0 { reporter } else { new_to.0 };
        let expected = error(packet4(&shape, new_from, new_to), reporter, new_from.0);
        if shape.protocol != protocol::SCTP {
            // An echo's other zero goes into the error's checksum as well: both must add up, no more.
            if shape.protocol == protocol::ICMP {
                let at = usize::from(facts(&carrier, false).l4);
                let end = bytes.len() - shape.around.1;
                prop_assert!(Sum::of(&bytes[at..end]).is_valid());
            } else {
                prop_assert_eq!(&bytes, &expected);
            }
        }
        let view = Ipv4::parse(&bytes[shape.around.0..]).unwrap();
        prop_assert!(view.verify_checksum().is_ok());
        prop_assert!(crate::header::Icmp::parse(view.payload()).unwrap().verify_checksum().is_ok());
    }

    #[test]
    fn errors_quote_what_was_sent_v6(
        shape in shape(), from in end6(), to in end6(), new_from in end6(), new_to in end6(),
        reporter in end6(), cut in (4usize..60).prop_map(|words| words * 2), kind in 1u8..5,
    ) {
        let ((from, to), (new_from, new_to)) = (fit(&shape, (from, to)), fit(&shape, (new_from, new_to)));
        let shape = Shape { protocol: if shape.protocol == protocol::ICMP { 253 } else { shape.protocol }, ..shape };
        prop_assume!(!new_from.0.is_unspecified() && !from.0.is_unspecified());
        let carrier = Shape { protocol: protocol::ICMPV6, extras: 0, ..shape.clone() };
        let error = |inner: Vec<u8>, from: Ipv6Addr, to: Ipv6Addr| {
            let len = inner.len().min(40 + 8 * shape.extras + cut);
            let spec = Ipv6Spec::new(from, to, protocol::ICMPV6);
            let message = build::icmpv6(spec.address_sum(), kind, 0, [0, 0, 5, 0], &inner[..len]);
            wrapped(&shape, &spec.packet(&message))
        };
        let mut bytes = error(packet6(&shape, from, to), reporter.0, from.0);
        let to_key = FlowKey::v6(new_from, new_to, shape.protocol);
        translate_error(&mut bytes, &facts(&carrier, true), &to_key).unwrap();
        let reporter = if to.0 == new_to.0 { reporter.0 } else { new_to.0 };
        let expected = error(packet6(&shape, new_from, new_to), reporter, new_from.0);
        if shape.protocol != protocol::SCTP {
            prop_assert_eq!(&bytes, &expected);
        }
        let view = Ipv6::parse(&bytes[shape.around.0..]).unwrap();
        let message = crate::header::Icmpv6::parse(view.payload()).unwrap();
        prop_assert!(message.verify_checksum(view.address_sum()).is_ok());
    }

    #[test]
    fn any_bytes_are_survived(
        mut bytes in prop::collection::vec(any::<u8>(), 0..120), l3 in 0u16..30, l4 in 0u16..90,
        version in prop::sample::select(vec![0u8, 4, 6]), protocol in any::<u8>(),
    ) {
        if let Some(first) = bytes.get_mut(usize::from(l3)) {
            *first = version << 4 | *first & 7;
        }
        let facts = Facts { l3, l4, version, protocol, ..Facts::default() };
        for key in [
            FlowKey::v4(([1; 4].into(), 2), ([3; 4].into(), 4), protocol),
            FlowKey::v6(([1; 16].into(), 2), ([3; 16].into(), 4), protocol),
        ] {
            let before = bytes.clone();
            if translate(&mut bytes, &facts, &key).is_err() {
                prop_assert_eq!(&bytes, &before);
            }
            let before = bytes.clone();
            if translate_error(&mut bytes, &facts, &key).is_err() {
                prop_assert_eq!(&bytes, &before);
            }
        }
    }
}

const OLD: (End<Ipv4Addr>, End<Ipv4Addr>) =
    ((Ipv4Addr::new(10, 0, 0, 5), 4000), (Ipv4Addr::new(192, 0, 2, 7), 53));

fn key(protocol: u8) -> FlowKey {
    FlowKey::v4((Ipv4Addr::new(203, 0, 113, 1), 1024), OLD.1, protocol)
}

#[test]
fn fragments_of_a_datagram_add_up_after_it() {
    let spec = |source| Ipv4Spec::new(source, OLD.1.0, protocol::UDP);
    let datagram = |source: Ipv4Addr, port| build::udp(spec(source).address_sum(), port, 53, &[0x5a; 72]);
    let before = datagram(OLD.0.0, OLD.0.1);
    let mut whole = Vec::new();
    for (offset, more) in [(0, true), (24, true), (48, false)] {
        let part = Ipv4Spec { fragment_offset: offset, more_fragments: more, ..spec(OLD.0.0) };
        let end = if more { usize::from(offset) + 24 } else { before.len() };
        let mut packet = part.packet(&before[usize::from(offset)..end]);
        let l4 = if offset == 0 { 20 } else { 0 };
        let facts = Facts { l4, version: 4, protocol: protocol::UDP, ..Facts::default() };
        translate(&mut packet, &facts, &key(protocol::UDP)).unwrap();
        let view = Ipv4::parse(&packet).unwrap();
        view.verify_checksum().unwrap();
        assert_eq!((view.source(), view.fragment_offset()), ([203, 0, 113, 1].into(), offset));
        whole.extend_from_slice(view.payload());
    }
    assert_eq!(whole, datagram([203, 0, 113, 1].into(), 1024));
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    let spec = Ipv4Spec::new(OLD.0.0, OLD.1.0, protocol::UDP);
    let mut datagram = build::udp(spec.address_sum(), OLD.0.1, OLD.1.1, b"damaged");
    datagram[6] ^= 1;
    let mut packet = spec.packet(&datagram);
    let facts = Facts { l4: 20, version: 4, protocol: protocol::UDP, ..Facts::default() };
    translate(&mut packet, &facts, &key(protocol::UDP)).unwrap();
    let view = Ipv4::parse(&packet).unwrap();
    assert!(crate::header::Udp::parse(view.payload()).unwrap().verify_checksum(view.address_sum()).is_err());
}

#[test]
fn what_no_translation_can_carry_is_refused_unchanged() {
    let to6 = FlowKey::v6(([9; 16].into(), 1), ([8; 16].into(), 2), protocol::UDP);
    let v6 = |first: u8, payload: &[u8]| Ipv6Spec::new([1; 16].into(), [2; 16].into(), first).packet(payload);
    let behind = |extension: &[u8], protocol| {
        let facts = Facts { l4: 40 + extension.len() as u16, version: 6, protocol, ..Facts::default() };
        (facts, [extension, &[0; 40]].concat())
    };
    let (auth_facts, auth) = behind(&build::auth(protocol::UDP, 12), protocol::UDP);
    let (route_facts, route) = behind(&build::extension(protocol::UDP, 2), protocol::UDP);
    let (fragment_facts, fragment) = behind(&build::fragment(protocol::SCTP, 0, true, 1), protocol::SCTP);
    let v4 = |protocol, payload: &[u8]| Ipv4Spec::new(OLD.0.0, OLD.1.0, protocol).packet(payload);
    let facts4 = |protocol| Facts { l4: 20, version: 4, protocol, ..Facts::default() };
    let sctp = Ipv4Spec { more_fragments: true, ..Ipv4Spec::new(OLD.0.0, OLD.1.0, protocol::SCTP) };
    let cases = [
        (v6(protocol::AUTH, &auth), auth_facts, to6, Untranslatable::Authenticated),
        (v6(protocol::ROUTING, &route), route_facts, to6, Untranslatable::SourceRouted),
        (v6(protocol::FRAGMENT, &fragment), fragment_facts, to6, Untranslatable::Fragment),
        (v4(protocol::AUTH, &[0; 24]), facts4(51), key(51), Untranslatable::Authenticated),
        (sctp.packet(&[0; 16]), facts4(protocol::SCTP), key(protocol::SCTP), Untranslatable::Fragment),
        (v4(protocol::TCP, &[0; 17]), facts4(6), key(6), Untranslatable::Truncated),
        (v4(protocol::UDP, &[0; 7]), facts4(17), key(17), Untranslatable::Truncated),
        (v4(protocol::UDP, &[0; 8]), facts4(17), to6, Untranslatable::Family),
    ];
    for (mut packet, facts, to, why) in cases {
        let before = packet.clone();
        assert_eq!(translate(&mut packet, &facts, &to), Err(why));
        assert_eq!(packet, before, "{why}");
    }
    let mut echo = v4(protocol::ICMP, &build::icmp(8, 0, [0; 4], &[0; 40]));
    assert_eq!(translate_error(&mut echo, &facts4(1), &key(17)), Err(Untranslatable::NotAnError));
}

#[test]
fn an_error_about_a_later_fragment_gets_its_addresses() {
    let quoted = |source: Ipv4Addr| {
        let spec = Ipv4Spec { fragment_offset: 64, ..Ipv4Spec::new(source, OLD.1.0, protocol::UDP) };
        spec.packet(&[0xaa; 24])
    };
    let error = |to: Ipv4Addr| {
        let message = build::icmp(icmp::TIME_EXCEEDED, 1, [0; 4], &quoted(to));
        Ipv4Spec::new([198, 51, 100, 1].into(), to, protocol::ICMP).packet(&message)
    };
    let mut packet = error([203, 0, 113, 1].into());
    let facts = Facts { l4: 20, version: 4, protocol: protocol::ICMP, ..Facts::default() };
    translate_error(&mut packet, &facts, &FlowKey::v4(OLD.0, OLD.1, protocol::UDP)).unwrap();
    assert_eq!(packet, error(OLD.0.0));
}

#[test]
fn etherparse_reads_what_was_translated() {
    use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
    let mut bytes = Vec::new();
    PacketBuilder::ipv4([10, 0, 0, 5], [192, 0, 2, 7], 64)
        .tcp(4000, 443, 1, 1024)
        .write(&mut bytes, b"odd length!")
        .unwrap();
    let facts = Facts { l4: 20, version: 4, protocol: protocol::TCP, ..Facts::default() };
    translate(&mut bytes, &facts, &FlowKey::v4(([203, 0, 113, 1].into(), 61_000), OLD.1, 6)).unwrap();
    let sliced = SlicedPacket::from_ip(&bytes).unwrap();
    let (Some(etherparse::NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) =
        (&sliced.net, &sliced.transport)
    else {
        panic!("{sliced:?}");
    };
    assert_eq!(ip.header().to_header().calc_header_checksum(), ip.header().header_checksum());
    assert_eq!((tcp.source_port(), tcp.destination_port()), (61_000, 53));
    let header = tcp.to_header();
    let full = header.calc_checksum_ipv4(&ip.header().to_header(), tcp.payload()).unwrap();
    assert_eq!(full, tcp.checksum());
}

#[test]
fn wherever_a_quotation_ends_the_error_adds_up() {
    let spec = Ipv4Spec::new(OLD.0.0, OLD.1.0, protocol::TCP);
    let quoted = spec.packet(&TcpSpec::new(4000, 53, TcpFlags::SYN).segment(spec.address_sum(), b"data"));
    for len in 24..=quoted.len() {
        let message = build::icmp(icmp::UNREACHABLE, 1, [0; 4], &quoted[..len]);
        let mut packet = Ipv4Spec::new([192, 0, 2, 1].into(), OLD.0.0, protocol::ICMP).packet(&message);
        let facts = Facts { l4: 20, version: 4, protocol: protocol::ICMP, ..Facts::default() };
        translate_error(&mut packet, &facts, &key(protocol::TCP)).unwrap();
        let view = Ipv4::parse(&packet).unwrap();
        let error = crate::header::Icmp::parse(view.payload()).unwrap();
        error.verify_checksum().unwrap();
        let inner = Ipv4::parse_quoted(error.quoted().unwrap()).unwrap();
        inner.verify_checksum().unwrap();
        assert_eq!((inner.source(), &inner.payload()[..2]), ([203, 0, 113, 1].into(), &[4, 0][..]));
    }
}
