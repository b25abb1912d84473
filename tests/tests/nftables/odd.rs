//! Datagrams with something wrong, or something rare, each in a conversation of its own.

use std::net::IpAddr;

use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec};
use zsync_packet::header::protocol;

use super::{Pair, Writer};

/// All kinds.
pub(super) const ALL: [fn(&mut Writer); 11] = [
    wrong_checksum,
    cut_transport,
    wrong_udp_length,
    wrong_tcp_offset,
    used_up,
    extensions,
    authenticated,
    options,
    incomplete,
    overlapping,
    sctp,
];

fn datagram(writer: &mut Writer, pair: &Pair) -> Vec<u8> {
    let payload = writer.payload(100);
    build::udp(pair.sum(), pair.ports[0], pair.ports[1], &payload)
}

fn wrong_checksum(writer: &mut Writer) {
    let pair = writer.pair();
    let mut segment = writer.any_segment(&pair, 0x02);
    segment[17] ^= 0x55;
    writer.tell("wrong checksum", &pair, protocol::TCP, &segment);
    let mut udp = datagram(writer, &pair);
    udp[7] ^= 0x55;
    writer.tell("wrong checksum", &pair, protocol::UDP, &udp);
}

fn cut_transport(writer: &mut Writer) {
    let pair = writer.pair();
    let number = writer.random.of(&[protocol::TCP, protocol::UDP, pair.icmp()]);
    let whole = match number {
        protocol::TCP => writer.any_segment(&pair, 0x02),
        protocol::UDP => datagram(writer, &pair),
        _ => pair.message(8, 0, [0; 4], &[]),
    };
    let cut = writer.random.below(8) as usize;
    writer.tell("cut transport header", &pair, number, &whole[..cut]);
}

fn wrong_udp_length(writer: &mut Writer) {
    let pair = writer.pair();
    let mut udp = datagram(writer, &pair);
    let length = writer.random.of(&[7, udp.len() as u16 + 1, 0]);
    udp[4..6].copy_from_slice(&length.to_be_bytes());
    writer.tell("wrong UDP length", &pair, protocol::UDP, &udp);
}

fn wrong_tcp_offset(writer: &mut Writer) {
    let pair = writer.pair();
    let mut segment = writer.any_segment(&pair, 0x02);
    segment[12] = writer.random.of(&[0, 4, 15]) << 4;
    writer.tell("wrong TCP offset", &pair, protocol::TCP, &segment);
}

/// No hop left.
fn used_up(writer: &mut Writer) {
    let pair = writer.pair();
    let (udp, left) = (datagram(writer, &pair), writer.random.below(2) as u8);
    let packet = match pair.ends {
        [IpAddr::V4(a), IpAddr::V4(b)] => {
            Ipv4Spec { ttl: left, ..writer.v4(a, b, protocol::UDP) }.packet(&udp)
        }
        [IpAddr::V6(a), IpAddr::V6(b)] => {
            Ipv6Spec { hop_limit: left, ..writer.v6(a, b, protocol::UDP) }.packet(&udp)
        }
        _ => unreachable!("ends are of one family"),
    };
    writer.say("no hop left", &pair, vec![packet]);
}

/// Ends in IPv6.
fn pair_v6(writer: &mut Writer) -> Pair {
    loop {
        let pair = writer.pair();
        if !pair.is_v4() {
            return pair;
        }
    }
}

fn extensions(writer: &mut Writer) {
    let pair = pair_v6(writer);
    let (number, inner) = match writer.random.below(2) {
        0 => (protocol::UDP, datagram(writer, &pair)),
        _ => (protocol::TCP, writer.any_segment(&pair, 0x02)),
    };
    let (mut next, mut packet) = (number, inner);
    for _ in 0..1 + writer.random.below(3) {
        // Longer ones are refused as hop-by-hop options by the kernel: no padding is that long.
        packet = [build::extension(next, 0), packet].concat();
        next = protocol::DESTINATION_OPTIONS;
    }
    if writer.random.once_in(2) {
        packet = [build::extension(next, 0), packet].concat();
        next = protocol::HOP_BY_HOP;
    }
    writer.tell("extension headers", &pair, next, &packet);
}

fn authenticated(writer: &mut Writer) {
    let pair = writer.pair();
    let udp = datagram(writer, &pair);
    let packet = [build::auth(protocol::UDP, 12), udp].concat();
    writer.tell("authentication header", &pair, protocol::AUTH, &packet);
}

fn options(writer: &mut Writer) {
    let pair = writer.pair();
    let udp = datagram(writer, &pair);
    if let [IpAddr::V4(a), IpAddr::V4(b)] = pair.ends {
        let packet = Ipv4Spec { options: vec![1, 1, 1, 0], ..writer.v4(a, b, protocol::UDP) }.packet(&udp);
        writer.say("options of IPv4", &pair, vec![packet]);
    }
}

fn incomplete(writer: &mut Writer) {
    let pair = writer.pair();
    let payload: Vec<u8> = (0..600).map(|byte| byte as u8).collect();
    let udp = build::udp(pair.sum(), pair.ports[0], pair.ports[1], &payload);
    let mut parts = writer.parts(&pair, protocol::UDP, &udp);
    let missing = writer.random.below(parts.len() as u64) as usize;
    parts.remove(missing);
    writer.say(if missing == 0 { "first fragment missing" } else { "later fragment missing" }, &pair, parts);
}

fn overlapping(writer: &mut Writer) {
    let pair = writer.pair();
    let payload: Vec<u8> = (0..600).map(|byte| byte as u8).collect();
    let udp = build::udp(pair.sum(), pair.ports[0], pair.ports[1], &payload);
    let mut parts = writer.parts(&pair, protocol::UDP, &udp);
    // The first again, as long as the payload goes, so that it covers what the second has.
    let number = writer.number();
    let again = match pair.ends {
        [IpAddr::V4(a), IpAddr::V4(b)] => {
            let spec =
                Ipv4Spec { dont_fragment: false, more_fragments: true, ..writer.v4(a, b, protocol::UDP) };
            spec.packet(&udp[..400])
        }
        [IpAddr::V6(a), IpAddr::V6(b)] => {
            let header = build::fragment(protocol::UDP, 0, true, number);
            writer.v6(a, b, protocol::FRAGMENT).packet(&[&header[..], &udp[..400]].concat())
        }
        _ => unreachable!("ends are of one family"),
    };
    parts.insert(1, again);
    writer.say("overlapping fragments", &pair, parts);
}

/// An association of SCTP, begun, or some chunk of one (RFC 9260 §3).
fn sctp(writer: &mut Writer) {
    let pair = writer.pair();
    let chunk = writer.random.of(&[1, 0, 3, 10]);
    let mut packet = [pair.ports[0].to_be_bytes(), pair.ports[1].to_be_bytes()].concat();
    let tag: u32 = if chunk == 1 { 0 } else { 77 };
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend([chunk, 0, 0, 20]);
    packet.extend([0, 0, 0, 77, 0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1]);
    let checksum = castagnoli(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&checksum);
    writer.tell(if chunk == 1 { "sctp init" } else { "sctp chunk" }, &pair, protocol::SCTP, &packet);
}

/// The checksum of SCTP (RFC 9260 §6.8), bit by bit.
fn castagnoli(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 != 0 { 0x82f6_3b78 } else { 0 })
    })
}
