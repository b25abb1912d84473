//! Answers to the byte, by their rules, and as another parser reads them. The golden packets were made by a script that
//! shares no code with this crate.

use super::*;
use crate::stage::Stage;
use crate::stages::fixture::{IN, MAC_IN, Seen, on_v4, on_v6, ports, run_and_make, sample};
use etherparse as theirs;
use proptest::prelude::*;
use zsync_packet::header::build::{self, TcpSpec};
use zsync_packet::header::{VlanTag, corpus, ether_type};

const ALL: [Answer; 8] = [
    Answer::TimeExceeded,
    Answer::NoRoute,
    Answer::HostUnreachable,
    Answer::PortUnreachable,
    Answer::Prohibited,
    Answer::TooBig { mtu: 1400 },
    Answer::BadHeader { pointer: 6 },
    Answer::Reset,
];
const OTHERWISE: DropReason = DropReason::Rejected;

/// Answers every packet, whose IP header it takes to begin at `l3`.
struct Replier {
    answer: Answer,
    from: PortFacts,
    l3: u16,
}

impl Stage for Replier {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        for i in burst.undecided() {
            burst.facts_mut(i).l3 = self.l3;
            let verdict = reply(burst, i, self.answer, &self.from, OTHERWISE, cx);
            burst.decide(i, verdict);
        }
    }
}

/// The port, as a router's: with addresses.
fn router() -> PortFacts {
    PortFacts {
        v4: Some([10, 1, 0, 1].into()),
        v6: Some("2001:db8:1::1".parse().unwrap()),
        ..ports().remove(0)
    }
}

/// The port, as an in-line filter's: without.
fn filter() -> PortFacts {
    ports().remove(0)
}

fn see(packets: &[Vec<u8>], answer: Answer, from: PortFacts, l3: u16) -> Vec<Seen> {
    let (seen, made) = run_and_make(&mut [&mut Replier { answer, from, l3 }], IN, packets, 1 << 40);
    assert_eq!(made, []);
    seen
}

/// The answer to a packet, if it gets one. One that gets none stays as it was.
fn answered(packet: &[u8], answer: Answer, from: PortFacts) -> Option<Vec<u8>> {
    let seen = see(&[packet.to_vec()], answer, from, 14).remove(0);
    match seen.verdict {
        Verdict::Transmit(IN) => Some(seen.bytes),
        verdict => {
            assert_eq!((verdict, seen.bytes), (Verdict::Drop(OTHERWISE), packet.to_vec()));
            None
        }
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// The frame that brings an IP packet.
fn brought(ip: &[u8]) -> Vec<u8> {
    let kind = if ip[0] >> 4 == 4 { ether_type::IPV4 } else { ether_type::IPV6 };
    build::ethernet(MAC_IN, corpus::MACS.0, &[], kind, ip)
}

/// The frame that takes one back.
fn taken_back(ip: &[u8]) -> Vec<u8> {
    let kind = if ip[0] >> 4 == 4 { ether_type::IPV4 } else { ether_type::IPV6 };
    build::ethernet(corpus::MACS.0, MAC_IN, &[], kind, ip)
}

#[test]
fn golden_answers() {
    for (answer, packet, expected) in [
        (
            Answer::TimeExceeded,
            "45000020123400000111938c0a0100020a0200090fa00035000c000070696e67",
            "45c0003c00010000400165fc0a0100010a0100020b00064e00000000\
             45000020123400000111938c0a0100020a0200090fa00035000c000070696e67",
        ),
        (
            Answer::TooBig { mtu: 1400 },
            "60000000000c110520010db800010000000000000000000220010db8000200000000000000000009\
             0fa00035000c000070696e67",
            "60000000003c3a4020010db800010000000000000000000120010db8000100000000000000000002\
             0200e15600000578\
             60000000000c110520010db800010000000000000000000220010db8000200000000000000000009\
             0fa00035000c000070696e67",
        ),
        (
            Answer::Reset,
            "4500002800070000400666bc0a0100020a0200099c4001bb01020304000000005002faf0fee20000",
            "4500002800004000400626c30a0200090a01000201bb9c40000000000102030550140000f9c00000",
        ),
        (
            Answer::Reset,
            "600000000018064020010db800010000000000000000000220010db8000200000000000000000009\
             9c4001bb010203040a0b0c0d501801f4c178000064617461",
            "600000000014064020010db800020000000000000000000920010db8000100000000000000000002\
             01bb9c400a0b0c0d0000000050040000a04d0000",
        ),
    ] {
        let padded = [brought(&hex(packet)), vec![0xee; 20]].concat();
        assert_eq!(answered(&padded, answer, router()), Some(taken_back(&hex(expected))), "{answer:?}");
    }
}

#[test]
fn types_and_codes() {
    let question = |v4: bool| if v4 { sample("v4 udp") } else { sample("v6 udp") };
    for (answer, v4, v6) in [
        (Answer::TimeExceeded, [11, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]),
        (Answer::NoRoute, [3, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]),
        (Answer::HostUnreachable, [3, 1, 0, 0, 0, 0], [1, 3, 0, 0, 0, 0]),
        (Answer::PortUnreachable, [3, 3, 0, 0, 0, 0], [1, 4, 0, 0, 0, 0]),
        (Answer::Prohibited, [3, 13, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0]),
        (Answer::TooBig { mtu: 1000 }, [3, 4, 0, 0, 3, 0xe8], [2, 0, 0, 0, 5, 0]),
        (Answer::TooBig { mtu: 70_000 }, [3, 4, 0, 0, 0xff, 0xff], [2, 0, 0, 1, 0x11, 0x70]),
        (Answer::BadHeader { pointer: 8 }, [12, 0, 8, 0, 0, 0], [4, 0, 0, 0, 0, 8]),
    ] {
        for (is_v4, at, expected) in [(true, 34, v4), (false, 54, v6)] {
            let bytes = answered(&question(is_v4), answer, router()).unwrap();
            let message = &bytes[at..at + 8];
            assert_eq!([&message[..2], &message[4..]].concat(), expected, "{answer:?}");
        }
    }
    for name in ["v4 udp", "v6 udp"] {
        assert_eq!(answered(&sample(name), Answer::Reset, router()), None, "only TCP is reset");
    }
}

#[test]
fn a_port_without_an_address_answers_from_the_destination() {
    for (name, from) in [("v4 udp", 26..30), ("v6 udp", 22..38)] {
        let packet = sample(name);
        let to = if name == "v4 udp" { 30..34 } else { 38..54 };
        let bytes = answered(&packet, Answer::PortUnreachable, filter()).unwrap();
        assert_eq!((&bytes[from.clone()], &bytes[to.clone()]), (&packet[to], &packet[from]));
    }
}

#[test]
fn tags_go_back_as_they_came() {
    let ip = Ipv4Spec::new([10, 1, 0, 2].into(), [10, 2, 0, 9].into(), 253).packet(b"x");
    let tags = [VlanTag::provider(7), VlanTag::new(9)];
    for n in 0..=2u16 {
        let tags = &tags[..usize::from(n)];
        let packet = build::ethernet(MAC_IN, corpus::MACS.0, tags, ether_type::IPV4, &ip);
        let seen = see(&[packet], Answer::Prohibited, router(), 14 + 4 * n).remove(0);
        assert_eq!(seen.verdict, Verdict::Transmit(IN));
        let quoted = build::icmp(3, 13, [0; 4], &ip);
        let spec = Ipv4Spec {
            tos: 0xc0,
            identification: 1,
            ..Ipv4Spec::new([10, 1, 0, 1].into(), [10, 1, 0, 2].into(), 1)
        };
        let expected = build::ethernet(corpus::MACS.0, MAC_IN, tags, ether_type::IPV4, &spec.packet(&quoted));
        assert_eq!(seen.bytes, expected);
        assert_eq!((seen.facts.l3, seen.facts.l4, seen.facts.protocol), (14 + 4 * n, 34 + 4 * n, 1));
    }
}

#[test]
fn long_packets_are_quoted_as_far_as_the_rules_allow() {
    let v4 = on_v4(&Ipv4Spec::new([10, 1, 0, 2].into(), [10, 2, 0, 9].into(), 253), &[7; 1400]);
    assert_eq!(answered(&v4, Answer::Prohibited, router()).unwrap().len(), 14 + 576);
    let narrow = PortFacts { mtu: 296, ..router() };
    assert_eq!(answered(&v4, Answer::Prohibited, narrow).unwrap().len(), 14 + 296);
    let (from, to) = ("2001:db8:1::2".parse().unwrap(), "2001:db8:2::9".parse().unwrap());
    let v6 = on_v6(&Ipv6Spec::new(from, to, 253), &[7; 1400]);
    assert_eq!(answered(&v6, Answer::Prohibited, router()).unwrap().len(), 14 + 1280);
}

#[test]
fn what_gets_no_error() {
    let v4 = |source: [u8; 4], destination: [u8; 4], protocol| {
        Ipv4Spec::new(source.into(), destination.into(), protocol)
    };
    let (here, there) = ([10, 1, 0, 2], [10, 2, 0, 9]);
    let mut none = Vec::new();
    for source in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 5], [240, 0, 0, 1], [255; 4], [10, 1, 0, 1]] {
        none.push(on_v4(&v4(source, there, 253), b"a bad source"));
    }
    for destination in [[224, 0, 0, 5], [255; 4], [127, 0, 0, 1], [0; 4]] {
        none.push(on_v4(&v4(here, destination, 253), b"a bad destination"));
    }
    none.push(on_v4(&Ipv4Spec { fragment_offset: 8, ..v4(here, there, 17) }, b"a later fragment"));
    for kind in (0..=255).filter(|kind| !matches!(kind, 0 | 8 | 13..=18)) {
        none.push(on_v4(&v4(here, there, 1), &build::icmp(kind, 0, [0; 4], b"an error, or who knows")));
    }
    none.push(on_v4(&v4(here, there, 1), b"short"));
    let v6 = |source: &str, destination: &str, next: u8| {
        Ipv6Spec::new(source.parse().unwrap(), destination.parse().unwrap(), next)
    };
    let (here, there) = ("2001:db8:1::2", "2001:db8:2::9");
    for source in ["::", "::1", "ff02::1", "::ffff:10.0.0.1", "2001:db8:1::1"] {
        none.push(on_v6(&v6(source, there, 253), b"a bad source"));
    }
    for destination in ["::", "::1", "ff02::1", "::ffff:10.0.0.1"] {
        none.push(on_v6(&v6(here, destination, 253), b"a bad destination"));
    }
    for kind in (0..128).chain([137]) {
        let spec = v6(here, there, 58);
        let message = build::icmpv6(spec.address_sum(), kind, 0, [0; 4], b"an error");
        none.push(on_v6(&spec, &message));
        // The same behind options, and a later part of it.
        none.push(on_v6(&v6(here, there, 60), &[&[58, 0, 1, 4, 0, 0, 0, 0], &message[..]].concat()));
        none.push(on_v6(&v6(here, there, 44), &[&[58, 0, 0, 8, 0, 0, 0, 1], &message[..]].concat()));
    }
    none.push(on_v6(&v6(here, there, 60), &[58, 9, 0, 0]));
    for mut packet in [sample("v4 udp"), sample("v6 udp")] {
        packet[0] |= 1;
        none.push(packet.clone());
        packet[0] &= !1;
        packet[6] |= 1;
        none.push(packet);
    }
    none.push(sample("arp request"));
    for packet in &none {
        for answer in ALL {
            assert_eq!(answered(packet, answer, router()), None, "{answer:?} to {packet:02x?}");
        }
    }
    // What looks like these, and is none.
    let spec = v6(here, there, 58);
    let echo = build::icmpv6(spec.address_sum(), 128, 0, [0; 4], b"");
    for packet in [
        on_v6(&spec, &echo),
        on_v6(&v6(here, there, 44), &[17, 0, 0, 8, 0, 0, 0, 1, 1, 2, 3]),
        sample("v4 udp"),
        on_v4(
            &Ipv4Spec {
                more_fragments: true,
                ..Ipv4Spec::new([10, 1, 0, 2].into(), [10, 2, 0, 9].into(), 17)
            },
            &[0; 8],
        ),
    ] {
        assert!(answered(&packet, Answer::TimeExceeded, router()).is_some());
    }
}

#[test]
fn a_reset_answers_a_whole_and_undamaged_segment_that_is_none_itself() {
    let spec = Ipv4Spec::new([10, 1, 0, 2].into(), [10, 2, 0, 9].into(), 6);
    let segment = |flags| TcpSpec::new(1, 2, flags).segment(spec.address_sum(), b"data");
    let ack = segment(TcpFlags::ACK);
    assert!(answered(&on_v4(&spec, &ack), Answer::Reset, filter()).is_some());
    for flags in (0..=255).map(TcpFlags).filter(|flags| flags.contains(TcpFlags::RST)) {
        assert_eq!(answered(&on_v4(&spec, &segment(flags)), Answer::Reset, filter()), None);
    }
    let part = Ipv4Spec { more_fragments: true, ..spec.clone() };
    assert_eq!(answered(&on_v4(&part, &ack), Answer::Reset, filter()), None);
    assert_eq!(answered(&on_v4(&spec, &ack[..19]), Answer::Reset, filter()), None);
    let mut damaged = ack.clone();
    damaged[21] ^= 1;
    assert_eq!(answered(&on_v4(&spec, &damaged), Answer::Reset, filter()), None);
    // SYN and FIN count (RFC 9293 §3.4): 4 bytes and these.
    for (flags, taken) in [(TcpFlags(0), 4u32), (TcpFlags::SYN, 5), (TcpFlags(3), 6), (TcpFlags::FIN, 5)] {
        let bytes = answered(&on_v4(&spec, &segment(flags)), Answer::Reset, filter()).unwrap();
        let reset = Tcp::parse(&bytes[34..]).unwrap();
        assert_eq!((reset.sequence(), reset.acknowledgement()), (0, taken));
    }
}

#[test]
fn one_station_gets_six_answers_at_once() {
    for name in ["v4 udp", "v6 udp"] {
        let packets = vec![sample(name); 64];
        let seen = see(&packets, Answer::Prohibited, router(), 14);
        let sent = seen.iter().filter(|seen| seen.verdict == Verdict::Transmit(IN)).count();
        let kept = seen.iter().filter(|seen| seen.verdict == Verdict::Drop(OTHERWISE)).count();
        assert_eq!((sent, kept), (6, 58));
        // Sizes are told to all who need them.
        let seen = see(&packets, Answer::TooBig { mtu: 1400 }, router(), 14);
        assert!(seen.iter().all(|seen| seen.verdict == Verdict::Transmit(IN)));
    }
}

#[test]
fn answers_to_answers_do_not_arise() {
    // What two filters that reject everything would send one another, in any mixture of answers.
    for sample in corpus::valid() {
        for first in ALL {
            let Some(mut bytes) = answered(&sample.bytes, first, router()) else { continue };
            back(&mut bytes);
            for second in ALL {
                let Some(mut bytes) = answered(&bytes, second, filter()) else { continue };
                // A reset may not get through, and its sender hear of it; of that, nobody hears.
                assert_eq!((first, second == Answer::Reset), (Answer::Reset, false), "{}", sample.name);
                back(&mut bytes);
                for third in ALL {
                    assert_eq!(answered(&bytes, third, router()), None, "{}", sample.name);
                }
            }
        }
    }
}

/// The frame as the next station sends it back.
fn back(bytes: &mut [u8]) {
    bytes[..12].rotate_left(6);
}

/// Checks an answer with another parser, and against the packet.
fn check(packet: &[u8], bytes: &[u8]) -> Result<(), TestCaseError> {
    let ip = &packet[14..];
    let sliced =
        theirs::SlicedPacket::from_ethernet(bytes).map_err(|e| TestCaseError::fail(e.to_string()))?;
    let mut whole = 14;
    match sliced.net {
        Some(theirs::NetSlice::Ipv4(net)) => {
            let header = net.header().to_header();
            prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
            prop_assert_eq!((&header.destination[..], header.time_to_live), (&ip[12..16], 64));
            whole += usize::from(header.total_len);
            prop_assert!(whole <= 14 + 576);
            match sliced.transport {
                Some(theirs::TransportSlice::Icmpv4(icmp)) => {
                    let wanted = icmp.header().icmp_type.calc_checksum(icmp.payload());
                    prop_assert_eq!(icmp.header().checksum, wanted);
                    prop_assert!(ip.starts_with(icmp.payload()));
                    prop_assert_eq!(header.dscp.value(), 48);
                }
                Some(theirs::TransportSlice::Tcp(tcp)) => {
                    let wanted = tcp.calc_checksum_ipv4(header.source, header.destination).unwrap();
                    prop_assert_eq!(tcp.checksum(), wanted);
                    prop_assert!(tcp.rst() && tcp.payload().is_empty() && tcp.ack() != ip_acks(packet));
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        Some(theirs::NetSlice::Ipv6(net)) => {
            let header = net.header().to_header();
            prop_assert_eq!((&header.destination[..], header.hop_limit), (&ip[8..24], 64));
            whole += 40 + usize::from(header.payload_length);
            prop_assert!(whole <= 14 + 1280);
            match sliced.transport {
                Some(theirs::TransportSlice::Icmpv6(icmp)) => {
                    prop_assert!(icmp.is_checksum_valid(header.source, header.destination));
                    prop_assert!(ip.starts_with(icmp.payload()));
                }
                Some(theirs::TransportSlice::Tcp(tcp)) => {
                    let wanted = tcp.calc_checksum_ipv6(header.source, header.destination).unwrap();
                    prop_assert_eq!(tcp.checksum(), wanted);
                    prop_assert!(tcp.rst() && tcp.payload().is_empty() && tcp.ack() != ip_acks(packet));
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        other => prop_assert!(false, "{:?}", other),
    }
    prop_assert_eq!(bytes.len(), whole);
    Ok(())
}

/// Whether the segment that was answered acknowledged something, as the other parser sees it.
fn ip_acks(packet: &[u8]) -> bool {
    match theirs::SlicedPacket::from_ethernet(packet).map(|packet| packet.transport) {
        Ok(Some(theirs::TransportSlice::Tcp(tcp))) => tcp.ack(),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_get_a_sound_answer_or_none(
        which in any::<prop::sample::Index>(),
        answer in prop::sample::select(ALL.to_vec()),
        changes in prop::collection::vec((14usize..90, any::<u8>()), 0..3),
        more in 0usize..1500,
        has_address: bool,
    ) {
        let samples = corpus::valid();
        let mut packet = samples[which.index(samples.len())].bytes.clone();
        for (at, byte) in changes {
            if let Some(place) = packet.get_mut(at) {
                *place = byte;
            }
        }
        packet.extend(vec![0xa5; more]);
        packet.truncate(1700);
        if let Some(bytes) = answered(&packet, answer, if has_address { router() } else { filter() }) {
            check(&packet, &bytes)?;
        }
    }

    #[test]
    fn noise_harms_nothing(
        packet in prop::collection::vec(any::<u8>(), 1..200),
        l3 in prop_oneof![Just(14u16), 0u16..60, Just(u16::MAX)],
        answer in prop::sample::select(ALL.to_vec()),
        version in prop_oneof![Just(0x45u8), Just(0x60), any::<u8>()],
    ) {
        let mut packet = packet;
        if let Some(first) = packet.get_mut(usize::from(l3)) {
            *first = version;
        }
        let seen = see(&[packet], answer, router(), l3).remove(0);
        prop_assert!(matches!(seen.verdict, Verdict::Transmit(IN) | Verdict::Drop(OTHERWISE)));
    }
}
