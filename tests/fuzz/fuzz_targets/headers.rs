//! Arbitrary bytes to every header view, as the layers of a packet and each on its own: no panic, and a rewrite keeps a right
//! checksum right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zsync_packet::checksum::Sum;
use zsync_packet::flow::FlowKey;
use zsync_packet::header::{
    Arp, Ethernet, EthernetMut, Icmp, IcmpMut, Icmpv6, Icmpv6Mut, Ipv4, Ipv4Mut, Ipv6, Ipv6Mut, PortsMut,
    Tcp, TcpMut, Udp, UdpMut, protocol,
};

fuzz_target!(|input: &[u8]| {
    if let Ok(frame) = Ethernet::parse(input) {
        assert_eq!(frame.header_len() + frame.payload().len(), input.len());
        network(frame.payload());
        let mut copy = input.to_vec();
        if let Ok(mut frame) = EthernetMut::parse(&mut copy) {
            frame.set_destination([2; 6]);
            frame.set_source([4; 6]);
            frame.set_outer_vlan(7);
            rewrite(frame.payload_mut());
        }
        assert_eq!(Ethernet::parse(&copy).map(|frame| frame.header_len()), Ok(frame.header_len()));
    }
    network(input);
    let mut copy = input.to_vec();
    rewrite(&mut copy);
    for number in [protocol::TCP, protocol::UDP, protocol::ICMP, protocol::ICMPV6] {
        transport(number, input, Sum::ZERO);
        rewrite_transport(number, &mut copy);
    }
});

fn network(bytes: &[u8]) {
    if let Ok(arp) = Arp::parse(bytes) {
        let _ = (arp.operation(), arp.sender(), arp.target(), arp.sender_mac(), arp.target_mac());
        arp.is_gratuitous();
    }
    let _ = FlowKey::of(bytes).map(|key| assert_eq!(key.reversed().reversed(), key));
    for ip in [Ipv4::parse(bytes), Ipv4::parse_quoted(bytes)].into_iter().flatten() {
        assert!(ip.header_len() + ip.payload().len() <= usize::from(ip.total_len()));
        assert!(ip.options().count() <= 41);
        transport(ip.protocol(), ip.payload(), ip.address_sum());
    }
    for ip in [Ipv6::parse(bytes), Ipv6::parse_quoted(bytes)].into_iter().flatten() {
        assert!(ip.payload().len() <= usize::from(ip.payload_len()));
        assert!(ip.extensions().count() <= 9);
        if let Ok(upper) = ip.upper() {
            transport(upper.protocol(), upper.payload(), ip.address_sum());
        }
    }
}

fn transport(number: u8, bytes: &[u8], addresses: Sum) {
    match number {
        protocol::TCP => {
            if let Ok(tcp) = Tcp::parse(bytes) {
                assert_eq!(tcp.header_len() + tcp.payload().len(), bytes.len());
                assert!(tcp.options().count() <= 41);
                let _ = (tcp.verify_checksum(addresses), tcp.sequence_len());
            }
        }
        protocol::UDP => {
            for udp in [Udp::parse(bytes), Udp::parse_partial(bytes)].into_iter().flatten() {
                assert!(udp.payload().len() + 8 <= bytes.len());
                let _ = udp.verify_checksum(addresses);
            }
        }
        protocol::ICMP => {
            if let Ok(icmp) = Icmp::parse(bytes) {
                let _ = (icmp.echo_id(), icmp.echo_sequence(), icmp.next_hop_mtu(), icmp.verify_checksum());
                icmp.quoted().map(Ipv4::parse_quoted);
            }
        }
        protocol::ICMPV6 => {
            if let Ok(icmp) = Icmpv6::parse(bytes) {
                let _ = (icmp.echo_id(), icmp.echo_sequence(), icmp.mtu(), icmp.target());
                let _ = icmp.verify_checksum(addresses);
                icmp.quoted().map(Ipv6::parse_quoted);
            }
        }
        _ => {}
    }
}

fn rewrite(bytes: &mut [u8]) {
    if let Ok(mut ip) = Ipv4Mut::parse(bytes) {
        let right = ip.view().verify_checksum().is_ok();
        ip.set_ttl(9);
        ip.decrement_ttl();
        ip.set_dscp(46);
        ip.set_ecn(1);
        let _ = ip.set_source([192, 0, 2, 1].into()) + ip.set_destination([192, 0, 2, 2].into());
        assert_eq!(ip.view().verify_checksum().is_ok(), right);
        let number = ip.view().protocol();
        rewrite_transport(number, ip.payload_mut());
    }
    if let Ok(mut ip) = Ipv6Mut::parse(bytes) {
        ip.set_hop_limit(9);
        ip.decrement_hop_limit();
        ip.set_dscp(46);
        ip.set_ecn(1);
        ip.set_flow_label(0x12345);
        let address = "2001:db8::1".parse().expect("an address");
        let _ = ip.set_source(address) + ip.set_destination(address);
        if let Ok((number, payload)) = ip.upper_mut() {
            rewrite_transport(number, payload);
        }
    }
}

fn rewrite_transport(number: u8, bytes: &mut [u8]) {
    match number {
        protocol::TCP => {
            if let Ok(mut tcp) = TcpMut::parse(bytes) {
                tcp.fill_checksum(Sum::ZERO);
                tcp.set_source_port(1);
                tcp.set_destination_port(2);
                tcp.set_sequence(3);
                tcp.set_acknowledgement(4);
                tcp.set_window(5);
                tcp.clamp_max_segment_size(1000);
                assert!(tcp.view().verify_checksum(Sum::ZERO).is_ok());
            }
        }
        protocol::UDP => {
            if let Ok(mut udp) = UdpMut::parse(bytes) {
                udp.fill_checksum(Sum::ZERO);
                udp.set_source_port(1);
                udp.set_destination_port(2);
                assert!(udp.view().verify_checksum(Sum::ZERO).is_ok());
            }
        }
        protocol::ICMP => {
            if let Ok(mut icmp) = IcmpMut::parse(bytes) {
                icmp.fill_checksum();
                icmp.set_echo_id(1);
                assert!(icmp.view().verify_checksum().is_ok());
            }
        }
        protocol::ICMPV6 => {
            if let Ok(mut icmp) = Icmpv6Mut::parse(bytes) {
                icmp.fill_checksum(Sum::ZERO);
                icmp.set_echo_id(1);
                assert!(icmp.view().verify_checksum(Sum::ZERO).is_ok());
            }
        }
        _ => {
            if let Ok(mut ports) = PortsMut::parse(bytes) {
                let _ = ports.set_source(1) + ports.set_destination(2);
            }
        }
    }
}
