//! Every parser and every accessor, over every packet of the corpus and over random bytes: none panics, and what
//! a view calls its payload lies in the packet that it was made from.

use proptest::prelude::*;
use zsync_packet::checksum::{self, Delta, Sum};
use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::header::{
    Arp, Ethernet, EthernetMut, Gre, HeaderError, Icmp, IcmpMut, Icmpv6, Icmpv6Mut, Ipv4, Ipv4Mut, Ipv6,
    Ipv6Mut, Ports, PortsMut, Tcp, TcpMut, Udp, UdpMut, Vxlan, corpus, ethernet,
};

/// Asserts that `part` lies in `whole`.
fn inside(whole: &[u8], part: &[u8]) {
    assert!(part.is_empty() || whole.as_ptr_range().contains(&part.as_ptr()));
    assert!(part.is_empty() || whole.as_ptr_range().end >= part.as_ptr_range().end);
}

/// Reads all that there is to read, whatever `bytes` are; returns how many views there were.
fn read_all(bytes: &[u8]) -> usize {
    let mut views = 0;
    if let Ok(v) = Ethernet::parse(bytes) {
        let tags =
            [v.outer_tag(), v.inner_tag()].map(|t| t.map(|t| (t.id(), t.priority(), t.drop_eligible())));
        let _ = (v.destination(), v.source(), v.is_group(), v.ether_type(), tags);
        inside(bytes, v.payload());
        assert_eq!(v.header_len() + v.payload().len(), bytes.len());
        views += 1;
    }
    if let Ok(v) = Arp::parse(bytes) {
        let _ = (v.operation(), v.sender_mac(), v.sender(), v.target_mac(), v.target(), v.is_gratuitous());
        views += 1;
    }
    for v in [Ipv4::parse(bytes), Ipv4::parse_quoted(bytes)].into_iter().flatten() {
        let _ =
            (v.dscp(), v.ecn(), v.identification(), v.dont_fragment(), v.more_fragments(), v.is_fragment());
        let _ =
            (v.fragment_offset(), v.begins_transport(), v.ttl(), v.protocol(), v.checksum(), v.has_options());
        let _ = (v.source(), v.destination(), v.verify_checksum(), v.address_sum(), v.total_len());
        for option in v.options().flatten() {
            inside(bytes, option.data);
        }
        inside(bytes, v.payload());
        assert!(v.header_len() + v.payload().len() <= usize::from(v.total_len()));
        views += 1;
    }
    for v in [Ipv6::parse(bytes), Ipv6::parse_quoted(bytes)].into_iter().flatten() {
        let _ = (v.dscp(), v.ecn(), v.flow_label(), v.payload_len(), v.next_header(), v.hop_limit());
        let _ = (v.source(), v.destination(), v.address_sum());
        inside(bytes, v.payload());
        let walked: Vec<_> = v.extensions().collect();
        assert!(walked.len() <= 9, "eight headers and an error");
        for extension in walked.iter().flatten() {
            inside(v.payload(), extension.bytes);
        }
        if let Ok(upper) = v.upper() {
            let _ =
                (upper.protocol(), upper.is_fragment(), upper.begins_transport(), upper.fragment_offset());
            let _ = (upper.more_fragments(), upper.identification(), upper.fragmented_protocol());
            inside(v.payload(), upper.payload());
        }
        views += 1;
    }
    for v in [Udp::parse(bytes), Udp::parse_partial(bytes)].into_iter().flatten() {
        let _ =
            (v.source_port(), v.destination_port(), v.length(), v.checksum(), v.verify_checksum(Sum::ZERO));
        inside(bytes, v.payload());
        views += 1;
    }
    if let Ok(v) = Gre::parse(bytes) {
        let _ = (v.protocol(), v.key(), v.sequence(), v.verify_checksum());
        inside(bytes, v.payload());
        assert_eq!(v.header_len() + v.payload().len(), bytes.len());
        views += 1;
    }
    if let Ok(v) = Vxlan::parse(bytes) {
        assert!(v.vni() <= 0xff_ffff);
        inside(bytes, v.payload());
        views += 1;
    }
    if let Ok(v) = Tcp::parse(bytes) {
        let _ =
            (v.source_port(), v.destination_port(), v.sequence(), v.acknowledgement(), v.flags(), v.window());
        let _ = (v.checksum(), v.urgent(), v.header_len(), v.sequence_len(), v.verify_checksum(Sum::ZERO));
        assert!(v.options().count() <= 40);
        inside(bytes, v.payload());
        views += 1;
    }
    if let Ok(v) = Icmp::parse(bytes) {
        let _ =
            (v.kind(), v.code(), v.checksum(), v.is_echo(), v.echo_id(), v.echo_sequence(), v.next_hop_mtu());
        let _ = (v.verify_checksum(), v.quoted());
        inside(bytes, v.payload());
        views += 1;
    }
    if let Ok(v) = Icmpv6::parse(bytes) {
        let _ = (v.kind(), v.code(), v.checksum(), v.is_echo(), v.echo_id(), v.echo_sequence(), v.mtu());
        let _ =
            (v.verify_checksum(Sum::ZERO), v.quoted(), v.target(), v.is_error(), v.is_neighbour_discovery());
        inside(bytes, v.payload());
        views += 1;
    }
    if let Ok(v) = Ports::parse(bytes) {
        let _ = (v.source(), v.destination());
        views += 1;
    }
    if let Ok(key) = FlowKey::of(bytes) {
        let _ = (key.reversed().hash(&HashKey::from_seed(1)), format!("{key:?}"));
        views += 1;
    }
    let _ = checksum::of(bytes);
    views
}

/// Writes all that there is to write. After each, the packet parses as before: no setter undoes a check.
fn write_all(bytes: &[u8]) {
    let mut copy = bytes.to_vec();
    let reset = |copy: &mut Vec<u8>| {
        copy.clear();
        copy.extend_from_slice(bytes);
    };
    if let Ok(mut v) = EthernetMut::parse(&mut copy) {
        v.set_destination([1; 6]);
        v.set_source([2; 6]);
        v.set_outer_vlan(0xffff);
        v.payload_mut().reverse();
    }
    reset(&mut copy);
    let popped = ethernet::pop_tag(&mut copy);
    let _ = (popped, ethernet::push_tag(&mut copy, ethernet::VlanTag::new(1)));

    for partial in [false, true] {
        reset(&mut copy);
        let view = if partial { Ipv4Mut::parse_quoted(&mut copy) } else { Ipv4Mut::parse(&mut copy) };
        if let Ok(mut v) = view {
            let (checked, payload) = (v.view().verify_checksum().is_ok(), v.view().payload().len());
            let _ = v.decrement_ttl();
            v.set_ttl(9);
            v.set_dscp(0xff);
            v.set_ecn(0xff);
            let _ = v.set_source([9; 4].into()) + v.set_destination([8; 4].into());
            assert_eq!(v.view().verify_checksum().is_ok(), checked);
            v.fill_checksum();
            assert_eq!((v.view().verify_checksum(), v.view().payload().len()), (Ok(()), payload));
            v.payload_mut().reverse();
            v.into_payload().fill(0);
            assert!(Ipv4::parse_quoted(&copy).is_ok());
        }
    }
    for partial in [false, true] {
        reset(&mut copy);
        let view = if partial { Ipv6Mut::parse_quoted(&mut copy) } else { Ipv6Mut::parse(&mut copy) };
        if let Ok(mut v) = view {
            let _ = v.decrement_hop_limit();
            v.set_hop_limit(9);
            v.set_dscp(0xff);
            v.set_ecn(0xff);
            v.set_flow_label(u32::MAX);
            let _ = v.set_source([9; 16].into()) + v.set_destination([8; 16].into());
            assert_eq!((v.view().dscp(), v.view().ecn(), v.view().flow_label()), (63, 3, 0xf_ffff));
            if let Ok(upper) = v.view().upper().map(|upper| (upper.protocol(), upper.payload().len())) {
                let (protocol, payload) = v.upper_mut().expect("the walk is the same");
                assert_eq!((protocol, payload.len()), upper);
                payload.fill(0);
            }
            v.payload_mut().reverse();
            assert!(Ipv6::parse_quoted(&copy).is_ok());
        }
    }
    for partial in [false, true] {
        reset(&mut copy);
        let view = if partial { UdpMut::parse_partial(&mut copy) } else { UdpMut::parse(&mut copy) };
        if let Ok(mut v) = view {
            v.set_source_port(1);
            v.set_destination_port(2);
            v.adjust_checksum(Delta::of_u16(1, 2));
            v.fill_checksum(Sum::ZERO);
            v.payload_mut().reverse();
        }
    }
    reset(&mut copy);
    if let Ok(mut v) = TcpMut::parse(&mut copy) {
        v.set_source_port(1);
        v.set_destination_port(2);
        v.set_sequence(3);
        v.set_acknowledgement(4);
        v.set_window(5);
        v.fill_checksum(Sum::ZERO);
        v.clamp_max_segment_size(500);
        assert_eq!(v.view().verify_checksum(Sum::ZERO), Ok(()));
        v.adjust_checksum(Delta::of_u16(1, 2));
        v.payload_mut().reverse();
    }
    reset(&mut copy);
    if let Ok(mut v) = IcmpMut::parse(&mut copy) {
        v.fill_checksum();
        v.set_echo_id(7);
        assert_eq!(v.view().verify_checksum(), Ok(()));
        v.payload_mut().reverse();
        v.adjust_checksum(Delta::of_u16(1, 2));
    }
    reset(&mut copy);
    if let Ok(mut v) = Icmpv6Mut::parse(&mut copy) {
        v.fill_checksum(Sum::ZERO);
        v.set_echo_id(7);
        assert_eq!(v.view().verify_checksum(Sum::ZERO), Ok(()));
        v.payload_mut().reverse();
        v.adjust_checksum(Delta::of_u16(1, 2));
    }
    reset(&mut copy);
    if let Ok(mut v) = PortsMut::parse(&mut copy) {
        let _ = v.set_source(1) + v.set_destination(2);
    }
}

/// The layers of a packet as they lie behind each other, for parsers of the inner ones.
fn layers(packet: &[u8]) -> Vec<&[u8]> {
    let mut found = vec![packet];
    let Ok(link) = Ethernet::parse(packet) else { return found };
    found.push(link.payload());
    if let Ok(ip) = Ipv4::parse(link.payload()) {
        found.push(ip.payload());
    }
    if let Ok(ip) = Ipv6::parse(link.payload()) {
        found.push(ip.payload());
        found.extend(ip.upper().map(|upper| upper.payload()));
    }
    found
}

#[test]
fn the_corpus_is_valid() {
    let samples = corpus::valid();
    assert!(samples.len() >= 40, "{} samples", samples.len());
    for sample in &samples {
        let link = Ethernet::parse(&sample.bytes).expect(sample.name);
        let whole = |ok: Result<(), HeaderError>| assert_eq!(ok, Ok(()), "{}", sample.name);
        match link.ether_type() {
            0x0806 => assert!(Arp::parse(link.payload()).is_ok(), "{}", sample.name),
            0x0800 => {
                let ip = Ipv4::parse(link.payload()).expect(sample.name);
                whole(ip.verify_checksum());
                assert!(ip.options().all(|option| option.is_ok()), "{}", sample.name);
                match ip.protocol() {
                    _ if ip.is_fragment() => {}
                    17 => whole(Udp::parse(ip.payload()).unwrap().verify_checksum(ip.address_sum())),
                    6 => whole(Tcp::parse(ip.payload()).unwrap().verify_checksum(ip.address_sum())),
                    1 => whole(Icmp::parse(ip.payload()).unwrap().verify_checksum()),
                    _ => {}
                }
            }
            0x86dd => {
                let ip = Ipv6::parse(link.payload()).expect(sample.name);
                let upper = ip.upper().expect(sample.name);
                let (payload, sum) = (upper.payload(), ip.address_sum());
                match upper.protocol() {
                    _ if upper.is_fragment() => {}
                    17 => whole(Udp::parse(payload).unwrap().verify_checksum(sum)),
                    6 => whole(Tcp::parse(payload).unwrap().verify_checksum(sum)),
                    58 => whole(Icmpv6::parse(payload).unwrap().verify_checksum(sum)),
                    _ => {}
                }
            }
            other => panic!("{}: EtherType {other:#06x}", sample.name),
        }
    }
    let names: std::collections::HashSet<_> = samples.iter().map(|sample| sample.name).collect();
    assert_eq!(names.len(), samples.len(), "names are unique");
}

#[test]
fn nothing_in_the_corpus_panics() {
    let (mut packets, mut views) = (0, 0);
    for packet in corpus::all() {
        packets += 1;
        for layer in layers(&packet) {
            views += read_all(layer);
            write_all(layer);
        }
    }
    assert!(packets > 25_000 && views > packets, "{packets} packets, {views} views");
}

/// What IPv4 and IPv6 promise about the checksum of the header and of the transport, after what NAT does.
#[test]
fn nat_over_the_corpus() {
    let mut translated = 0;
    for sample in corpus::valid() {
        let mut bytes = sample.bytes;
        let link = EthernetMut::parse(&mut bytes);
        let mut link = link.expect(sample.name);
        let (new4, new6) = ([203, 0, 113, 77], [0xfd; 16]);
        if let Ok(mut ip) = Ipv4Mut::parse(link.payload_mut()) {
            let delta = ip.set_source(new4.into());
            let (protocol, whole) = (ip.view().protocol(), !ip.view().is_fragment());
            let sum = ip.view().address_sum();
            match (protocol, TcpMut::parse(ip.payload_mut())) {
                (6, Ok(mut tcp)) if whole => {
                    tcp.adjust_checksum(delta);
                    tcp.set_source_port(1);
                    assert_eq!(tcp.view().verify_checksum(sum), Ok(()), "{}", sample.name);
                    translated += 1;
                }
                _ => {}
            }
            assert_eq!(ip.view().verify_checksum(), Ok(()), "{}", sample.name);
        }
        if let Ok(mut ip) = Ipv6Mut::parse(link.payload_mut()) {
            let delta = ip.set_destination(new6.into());
            let (sum, whole) =
                (ip.view().address_sum(), ip.view().upper().is_ok_and(|upper| !upper.is_fragment()));
            if let Ok((17, payload)) = ip.upper_mut()
                && whole
            {
                let mut udp = UdpMut::parse(payload).expect(sample.name);
                udp.adjust_checksum(delta);
                udp.set_destination_port(2);
                assert_eq!(udp.view().verify_checksum(sum), Ok(()), "{}", sample.name);
                translated += 1;
            }
        }
    }
    assert!(translated >= 10, "{translated}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn nothing_random_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..140), first: u8) {
        // Half of them get far enough to have insides.
        if let Some(byte) = bytes.first_mut() {
            *byte = match first % 4 { 0 => 0x45, 1 => 0x60, 2 => 0x46, _ => *byte };
        }
        if let Some(length) = bytes.get_mut(2..6) && first % 8 < 4 {
            length.copy_from_slice(&[0, 60, 0, 60]);
        }
        for layer in layers(&bytes) {
            read_all(layer);
            write_all(layer);
        }
    }
}
