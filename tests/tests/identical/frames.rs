//! The frames that are sent, and capture files of them.

use std::net::{Ipv4Addr, Ipv6Addr};

use zsync_packet::checksum::Sum;
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec, TcpSpec};
use zsync_packet::header::{TcpFlags, corpus, ether_type, icmp, icmpv6, protocol};

/// Is its tag cut off? The kernel shows such a frame to nobody, tcpdump or packet sockets (net/core/skbuff.c, `skb_vlan_untag`).
pub(super) fn is_cut(frame: &[u8]) -> bool {
    frame.len() < 20 && matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8])
}

/// Frames of every shape, valid and damaged, that a veth with an MTU of 1500 takes.
pub(super) fn candidates() -> Vec<Vec<u8>> {
    let mut frames: Vec<_> = corpus::valid().into_iter().map(|sample| sample.bytes).collect();
    for length in (0..=1452).step_by(33).chain([1472]) {
        let payload: Vec<u8> = (0..length).map(|byte| (byte as u8).wrapping_mul(65)).collect();
        frames.extend(of_v4(&payload).into_iter().chain(of_v6(&payload[..length.min(1440)])));
    }
    frames.extend(refused());
    // A prime, so that truncations and flips of every place are among them.
    frames.extend(corpus::all().step_by(17));
    frames.retain(|frame| (14..=1514).contains(&frame.len()));
    frames
}

/// Whole packets that no router may send on: martian addresses, and a length that is less than the header's.
fn refused() -> Vec<Vec<u8>> {
    let frame = |kind, packet: &[u8]| build::ethernet(corpus::MACS.1, corpus::MACS.0, &[], kind, packet);
    let mut frames = Vec::new();
    for martian in [[0, 0, 0, 1], [127, 9, 9, 9], [240, 0, 0, 1]].map(Ipv4Addr::from) {
        for (from, to) in [(martian, corpus::V4.1), (corpus::V4.0, martian)] {
            frames.push(frame(ether_type::IPV4, &Ipv4Spec::new(from, to, protocol::UDP).packet(&[0; 30])));
        }
    }
    for martian in [Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST.to_ipv6_mapped()] {
        for (from, to) in [(martian, corpus::V6.1), (corpus::V6.0, martian)] {
            frames.push(frame(ether_type::IPV6, &Ipv6Spec::new(from, to, protocol::UDP).packet(&[0; 30])));
        }
    }
    let mut short = Ipv4Spec::new(corpus::V4.0, corpus::V4.1, protocol::UDP).packet(&[0; 30]);
    short[2..4].copy_from_slice(&19u16.to_be_bytes());
    frames.push(frame(ether_type::IPV4, &short));
    frames
}

/// UDP (also with a partial checksum, or in a fragment), TCP and ICMP in IPv4, with all kinds of header fields.
fn of_v4(payload: &[u8]) -> Vec<Vec<u8>> {
    let number = payload.len();
    let ip = |protocol| Ipv4Spec {
        ttl: [2, 64, 128, 255][number % 4],
        tos: (number * 7) as u8,
        identification: number as u16,
        dont_fragment: number % 2 == 1,
        ..Ipv4Spec::new(corpus::V4.0, corpus::V4.1, protocol)
    };
    let sum = ip(protocol::UDP).address_sum();
    let udp = build::udp(sum, 1000 + number as u16, 9, payload);
    let part = Ipv4Spec { dont_fragment: false, more_fragments: true, ..ip(protocol::UDP) };
    let later = Ipv4Spec { fragment_offset: 1480, more_fragments: false, ..part.clone() };
    // Only PSH keeps the server's GRO from holding a segment back, behind later packets.
    let tcp = TcpSpec::new(2000, 9, TcpFlags::ACK.union(TcpFlags::PSH));
    let tcp = tcp.segment(sum, &payload[..number.min(1460)]);
    let echo = build::icmp(icmp::ECHO_REQUEST, 0, [0, 1, 0, number as u8], payload);
    let partial = partial(udp.clone(), sum);
    let packets = [
        ip(protocol::UDP).packet(&udp),
        ip(protocol::UDP).packet(&partial),
        part.packet(&udp),
        later.packet(&udp),
        ip(protocol::TCP).packet(&tcp),
        ip(protocol::ICMP).packet(&echo),
    ];
    let frame =
        |packet: Vec<u8>| build::ethernet(corpus::MACS.1, corpus::MACS.0, &[], ether_type::IPV4, &packet);
    packets.map(|packet| build::padded(frame(packet))).to_vec()
}

/// The same in IPv6.
fn of_v6(payload: &[u8]) -> Vec<Vec<u8>> {
    let number = payload.len();
    let ip = |next_header| Ipv6Spec {
        hop_limit: [2, 64, 128, 255][number % 4],
        traffic_class: (number * 7) as u8,
        flow_label: number as u32 * 601,
        ..Ipv6Spec::new(corpus::V6.0, corpus::V6.1, next_header)
    };
    let sum = ip(protocol::UDP).address_sum();
    let udp = build::udp(sum, 1000 + number as u16, 9, payload);
    let part = [&build::fragment(protocol::UDP, 0, true, number as u32)[..], &udp].concat();
    let tcp = TcpSpec::new(2000, 9, TcpFlags::ACK.union(TcpFlags::PSH));
    let tcp = tcp.segment(sum, &payload[..number.min(1440)]);
    let echo = build::icmpv6(sum, icmpv6::ECHO_REQUEST, 0, [0, 1, 0, number as u8], payload);
    let partial = partial(udp.clone(), sum);
    let packets = [
        ip(protocol::UDP).packet(&udp),
        ip(protocol::UDP).packet(&partial),
        ip(protocol::FRAGMENT).packet(&part),
        ip(protocol::TCP).packet(&tcp),
        ip(protocol::ICMPV6).packet(&echo),
    ];
    let frame =
        |packet: Vec<u8>| build::ethernet(corpus::MACS.1, corpus::MACS.0, &[], ether_type::IPV6, &packet);
    packets.map(|packet| build::padded(frame(packet))).to_vec()
}

/// A datagram whose checksum is left to the NIC: the field holds the pseudo-header's sum.
fn partial(mut datagram: Vec<u8>, addresses: Sum) -> Vec<u8> {
    let pseudo = !(addresses + Sum::of(&[0, protocol::UDP, datagram[4], datagram[5]])).finish();
    datagram[6..8].copy_from_slice(&pseudo.to_be_bytes());
    datagram
}

/// A classic capture, little endian, microseconds.
pub(super) fn capture(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file: Vec<u8> =
        [0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 65535, 1].into_iter().flat_map(u32::to_le_bytes).collect();
    for frame in frames {
        let length = frame.len() as u32;
        file.extend([0, 0, length, length].into_iter().flat_map(u32::to_le_bytes));
        file.extend(frame);
    }
    file
}

/// The packets of a capture that a replay wrote; none if it is cut.
pub(super) fn packets(file: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = file.get(24..)?;
    let mut packets = Vec::new();
    while let Some((head, tail)) = rest.split_first_chunk::<16>() {
        let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let (packet, next) = tail.split_at_checked(length)?;
        packets.push(packet.to_vec());
        rest = next;
    }
    Some(packets)
}
