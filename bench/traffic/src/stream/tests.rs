use std::net::IpAddr;

use etherparse::{LaxPacketHeaders, NetHeaders, TransportHeader};
use proptest::prelude::*;
use zsync_packet::header::{TcpFlags, VlanTag};

use super::*;
use crate::template::{Ip, Transport, Tunnel};

mod share;

fn content() -> Content {
    let ip = Ip::new("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    let transport = Transport::Udp { source: 1000, destination: 2000, checksum: true };
    let layers = Layers { source: [2; 6], destination: [4; 6], tags: vec![], tunnel: None, ip, transport };
    Content { layers, sweeps: vec![], sizes: Sizes::Fixed(64), flows: 1, choice: Choice::RoundRobin, run: 7 }
}

fn ip() -> impl Strategy<Value = Ip> {
    let v4 = any::<([u8; 4], [u8; 4])>().prop_map(|(s, d)| (IpAddr::from(s), IpAddr::from(d)));
    let v6 = any::<([u8; 16], [u8; 16])>().prop_map(|(s, d)| (IpAddr::from(s), IpAddr::from(d)));
    (prop_oneof![v4, v6], 1u8.., 0u8..64, 0u32..1 << 20).prop_map(
        |((source, destination), ttl, dscp, label)| {
            let flow_label = if source.is_ipv6() { label } else { 0 };
            Ip { source, destination, ttl, dscp, flow_label }
        },
    )
}

fn layers() -> impl Strategy<Value = Layers> {
    let transport = prop_oneof![
        any::<(u16, u16, bool)>().prop_map(|(source, destination, checksum)| {
            // Not VXLAN's, which readers would take for a tunnel.
            Transport::Udp { source, destination: destination & 0x0fff, checksum }
        }),
        any::<(u16, u16, u8)>().prop_map(|(source, destination, flags)| Transport::Tcp {
            source,
            destination,
            flags: TcpFlags(flags)
        }),
        any::<u16>().prop_map(|id| Transport::Echo { id }),
    ];
    let tunnel = prop_oneof![
        (0u32..1 << 24, any::<u16>()).prop_map(|(vni, source_port)| Tunnel::Vxlan { vni, source_port }),
        any::<Option<u32>>().prop_map(|key| Tunnel::Gre { key }),
        Just(Tunnel::IpIp),
    ];
    let tags = prop_oneof![
        Just(vec![]),
        (0u16..4095).prop_map(|id| vec![VlanTag::new(id)]),
        (0u16..4095).prop_map(|id| vec![VlanTag::provider(id), VlanTag::new(id ^ 1)]),
    ];
    (any::<([u8; 6], [u8; 6])>(), tags, prop::option::of((ip(), tunnel)), ip(), transport).prop_map(
        |((source, destination), tags, tunnel, ip, transport)| Layers {
            source,
            destination,
            tags,
            tunnel,
            ip,
            transport,
        },
    )
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![Just(Choice::RoundRobin), Just(Choice::Uniform), (0.1f64..3.0).prop_map(Choice::Zipf)]
}

/// Content whose every field varies.
fn contents() -> impl Strategy<Value = Content> {
    (
        layers(),
        (crate::template::MOST_HEADERS + 22) as u16..300,
        0u16..1400,
        1u32..50,
        choice(),
        any::<(u32, u8)>(),
    )
        .prop_map(|(layers, from, more, flows, choice, (run, kinds))| {
            let template = Template::new(&layers).unwrap();
            let sweeps = template
                .fields()
                .enumerate()
                .map(|(at, field)| {
                    let place = template.place(field).unwrap();
                    let most = (u128::MAX >> (128 - place.bits)).min(u64::MAX.into());
                    (
                        field,
                        match (usize::from(kinds) + at) % 4 {
                            0 => Values::Step { start: 1, step: 1, count: 50 },
                            1 => Values::Random(1, most),
                            2 => Values::List((1..=50).rev().collect()),
                            _ => Values::Fixed(most),
                        },
                    )
                })
                .collect();
            Content { layers, sweeps, sizes: Sizes::Range(from, from + more), flows, choice, run }
        })
}

/// What etherparse finds from an IP header (of `kind`) on; it must be the whole of `bytes`.
fn check_ip(kind: u16, bytes: &[u8], layers: &Layers, inner: bool) {
    let found = LaxPacketHeaders::from_ether_type(etherparse::EtherType(kind), bytes);
    assert!(found.stop_err.is_none(), "{:?}", found.stop_err);
    let protocol = match found.net.as_ref().unwrap() {
        NetHeaders::Ipv4(ip, _) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert_eq!(usize::from(ip.total_len), bytes.len());
            ip.protocol.0
        }
        NetHeaders::Ipv6(ip, _) => {
            assert_eq!(usize::from(ip.payload_length) + 40, bytes.len());
            ip.next_header.0
        }
        other => panic!("{other:?}"),
    };
    let rest = match found.net.as_ref().unwrap() {
        NetHeaders::Ipv4(..) => &bytes[20..],
        _ => &bytes[40..],
    };
    if layers.tunnel.is_some() && !inner {
        return match protocol {
            4 => check_ip(0x0800, rest, layers, true),
            41 => check_ip(0x86dd, rest, layers, true),
            47 => {
                let at = if rest[0] == 0x20 { 8 } else { 4 };
                check_ip(u16::from_be_bytes([rest[2], rest[3]]), &rest[at..], layers, true);
            }
            17 => {
                assert_eq!(usize::from(u16::from_be_bytes([rest[4], rest[5]])), rest.len());
                assert_eq!((&rest[2..4], &rest[6..8], rest[8]), (&[0x12, 0xb5][..], &[0, 0][..], 8));
                check_ip(u16::from_be_bytes([rest[28], rest[29]]), &rest[30..], layers, true);
            }
            other => panic!("protocol {other}"),
        };
    }
    let payload = found.payload.slice();
    match (found.net.unwrap(), found.transport.unwrap()) {
        (NetHeaders::Ipv4(ip, _), TransportHeader::Udp(udp)) => {
            assert_eq!(usize::from(udp.length), rest.len());
            let full = udp.calc_checksum_ipv4(&ip, payload).unwrap();
            let has = matches!(layers.transport, Transport::Udp { checksum: true, .. });
            assert_eq!(udp.checksum, if has { full } else { 0 });
        }
        (NetHeaders::Ipv6(ip, _), TransportHeader::Udp(udp)) => {
            assert_eq!(usize::from(udp.length), rest.len());
            assert_eq!(udp.checksum, udp.calc_checksum_ipv6(&ip, payload).unwrap());
        }
        (NetHeaders::Ipv4(ip, _), TransportHeader::Tcp(tcp)) => {
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(&ip, payload).unwrap());
        }
        (NetHeaders::Ipv6(ip, _), TransportHeader::Tcp(tcp)) => {
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv6(&ip, payload).unwrap());
        }
        (NetHeaders::Ipv4(..), TransportHeader::Icmpv4(icmp)) => {
            assert_eq!(icmp.checksum, icmp.icmp_type.calc_checksum(payload));
        }
        (NetHeaders::Ipv6(ip, _), TransportHeader::Icmpv6(icmp)) => {
            let full = icmp.icmp_type.calc_checksum(ip.source, ip.destination, payload).unwrap();
            assert_eq!(icmp.checksum, full);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_smallest_packet_carries_a_short_probe_and_sequences_count_per_flow() {
    let sweeps = vec![(Field::SourcePort, Values::Step { start: 1, step: 1, count: 2 })];
    let mut stream = Stream::new(&Content { flows: 2, sweeps, ..content() }, 1).unwrap();
    let mut packet = [0; 60];
    for n in 0..6 {
        assert_eq!(stream.write(8080, 8000, &mut packet), Ok(60));
        let probe = Probe {
            run: 7,
            flow: n % 2,
            sequence: u64::from(n / 2),
            intended: 8000,
            departed: 8080,
            short: true,
        };
        assert_eq!(classify(&packet, 9000), Class::Probe(probe));
        assert_eq!(packet[35], 1 + (n % 2) as u8);
    }
    assert_eq!([0, 1, 2].map(|flow| stream.written(flow)), [Some(3), Some(3), None]);
}

#[test]
fn a_frame_that_is_too_short_costs_no_packet() {
    let mut stream = Stream::new(&content(), 1).unwrap();
    let error = NoRoom { need: 60, room: 59 };
    assert_eq!(stream.write(0, 0, &mut [0; 59]), Err(error));
    assert_eq!((stream.written(0), stream.next_len()), (Some(0), 60));
    assert_eq!(stream.write(0, 0, &mut [0; 2048]), Ok(60));
}

#[test]
fn streams_that_cannot_be_are_refused() {
    let refused = |content: Content| Stream::new(&content, 0).unwrap_err();
    let two = Content { flows: 2, ..content() };
    assert_eq!(refused(two), StreamError::Alike { told: 1, flows: 2 });
    let mut tcp = content();
    tcp.layers.transport = Transport::Tcp { source: 1, destination: 2, flags: TcpFlags::ACK };
    assert_eq!(refused(tcp), TemplateError::Short { size: 64, least: 76 }.into());
    let missing = vec![(Field::FlowLabel, Values::Fixed(1))];
    assert_eq!(
        refused(Content { sweeps: missing, ..content() }),
        SweepError::Missing(Field::FlowLabel).into()
    );
    assert_eq!(refused(Content { flows: 0, ..content() }), FlowError::Count(0).into());
    assert_eq!(refused(Content { sizes: Sizes::Fixed(9), ..content() }), SizeError::Bounds(9).into());
}

#[test]
fn ten_million_flows_have_the_headers_of_their_number() {
    let sweeps = vec![
        (Field::SourcePort, Values::Step { start: 0, step: 1, count: 10_000 }),
        (Field::Destination, Values::Step { start: 0x0a00_0000, step: 1, count: 1000 }),
    ];
    let content = Content { flows: crate::flows::MOST, choice: Choice::Zipf(1.0), sweeps, ..content() };
    let mut stream = Stream::new(&content, 5).unwrap();
    assert_eq!(stream.written(crate::flows::MOST - 1), Some(0));
    let mut packet = [0; 60];
    for _ in 0..100_000 {
        stream.write(0, 0, &mut packet).unwrap();
        let Class::Probe(probe) = classify(&packet, 0) else { panic!("no probe") };
        let port = u16::from_be_bytes([packet[34], packet[35]]);
        let host = u32::from_be_bytes([packet[30], packet[31], packet[32], packet[33]]);
        assert_eq!((u32::from(port), host), (probe.flow % 10_000, 0x0a00_0000 + probe.flow / 10_000));
    }
}

proptest! {
    #[test]
    fn every_packet_parses_in_etherparse_with_all_checksums_right(content in contents(), seed: u64, now in 0u64..1 << 60) {
        let mut stream = Stream::new(&content, seed).unwrap();
        let mut same = Stream::new(&content, seed).unwrap();
        let mut expected = vec![0; content.flows as usize];
        let (mut packet, mut again) = (vec![0xaa; 2048], vec![0x55; 2048]);
        for _ in 0..10 {
            let len = stream.next_len();
            prop_assert_eq!(stream.write(now + 5, now, &mut packet), Ok(len));
            prop_assert_eq!(same.write(now + 5, now, &mut again), Ok(len));
            let packet = &packet[..len];
            prop_assert_eq!(packet, &again[..len], "the same seed gives the same packets");
            let at = 14 + 4 * content.layers.tags.len();
            let found = LaxPacketHeaders::from_ethernet(packet).unwrap();
            prop_assert_eq!(found.link_exts.len(), content.layers.tags.len());
            check_ip(u16::from_be_bytes([packet[at - 2], packet[at - 1]]), &packet[at..], &content.layers, false);
            let Class::Probe(probe) = classify(packet, now + 100) else {
                return Err(TestCaseError::fail(format!("{:?}", classify(packet, now + 100))));
            };
            let sequence = &mut expected[probe.flow as usize];
            prop_assert_eq!((probe.sequence, probe.is_of(content.run)), (*sequence, true));
            *sequence += 1;
        }
    }

    /// Behind the IP header every flipped bit shows, save in the magic.
    #[test]
    fn a_flipped_bit_behind_the_ip_header_shows(v6: bool, size in 90u16..300, bit in 0usize..2400) {
        let mut content = content();
        if v6 {
            content.layers.ip = Ip::new("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        }
        content.sizes = Sizes::Fixed(size);
        let mut stream = Stream::new(&content, 0).unwrap();
        let mut packet = vec![0; in_memory(size)];
        stream.write(0, 0, &mut packet).unwrap();
        let from = if v6 { 54 } else { 34 };
        let at = from + bit / 8 % (packet.len() - from);
        packet[at] ^= 1 << (bit % 8);
        let class = classify(&packet, 0);
        if (from + 8..from + 10).contains(&at) || (from + 4..from + 6).contains(&at) {
            prop_assert!(!matches!(class, Class::Probe(_)));
        } else {
            prop_assert!(matches!(class, Class::Corrupt(_)), "{at}: {class:?}");
        }
    }

    #[test]
    fn any_bytes_are_classified_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), content in contents(), cut in 0usize..300, at in 0usize..300) {
        prop_assert!(!matches!(classify(&bytes, 0), Class::Probe(_)));
        let mut packet = vec![0; 2048];
        let len = Stream::new(&content, 0).unwrap().write(0, 0, &mut packet).unwrap();
        packet.truncate(len.min(cut));
        if let Some(byte) = packet.get_mut(at) {
            *byte ^= 0x5a;
        }
        classify(&packet, 0);
    }
}
