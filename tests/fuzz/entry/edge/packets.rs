//! Packets as an input changes them, and what comes of those that left: answers, and errors about them.

use super::{WAN, mac};
use zsync_packet::checksum;
use zsync_packet::header::{Ethernet, Ipv4, Ipv6, ether_type};
use zsync_packet::verdict::PortId;
use zsync_pipelines::trace::text::PacketText;

/// Takes so many bytes off, or what there is; missing ones are 0.
pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    let len = N.min(rest.len());
    let (now, behind) = rest.split_at(len);
    bytes[..len].copy_from_slice(now);
    *rest = behind;
    bytes
}

/// Changes up to seven bytes, as the input says.
pub(super) fn change(bytes: &mut Vec<u8>, rest: &mut &[u8]) {
    let [how] = take(rest);
    for _ in 0..how & 7 {
        let [low, high, value] = take(rest);
        let at = usize::from(u16::from_le_bytes([low, high])) % bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
    }
    if how & 0x80 != 0 {
        let [low, high] = take(rest);
        bytes.truncate(usize::from(u16::from_le_bytes([low, high])) % 1793);
    }
}

/// Writes what a tunnel's packets carry into their zeroed payload: a header of the carrier, and a packet to the inside.
pub(super) fn fill(bytes: &mut [u8]) {
    let inner = PacketText::parse("udp 10.8.0.5:1 -> 10.1.0.7:2 size=4").expect("a packet").frame(mac(WAN));
    let v6 = PacketText::parse("udp [fd08::5]:1 -> [fd01::7]:2 size=4").expect("a packet").frame(mac(WAN));
    let (at, number) = match bytes.get(14) {
        Some(first) if first >> 4 == 4 => (34, bytes[23]),
        _ => (54, bytes[20]),
    };
    let parts: Vec<u8> = match number {
        17 => [&[8, 0, 0, 0, 0, 0, 7, 0][..], &inner].concat(),
        47 if at == 34 => [&[0x20, 0, 8, 0, 0, 0, 0, 7][..], &inner[14..46]].concat(),
        47 => [&[0, 0, 8, 0][..], &inner[14..46]].concat(),
        4 => inner[14..46].to_vec(),
        41 => v6[14..].to_vec(),
        _ => return,
    };
    let at = if number == 17 { at + 8 } else { at };
    if let Some(place) = bytes.get_mut(at..at + parts.len()) {
        place.copy_from_slice(&parts);
    }
    // Over IPv4 a VXLAN packet may have no checksum; over IPv6 too (RFC 6935).
    if number == 17
        && let Some(sum) = bytes.get_mut(at - 2..at)
    {
        sum.fill(0);
    }
}

/// Makes the header checksums of IPv4 right, also of the packets inside.
pub(super) fn repair(bytes: &mut [u8], at: usize, depth: u8) {
    let Some(&first) = bytes.get(at) else { return };
    let (behind, number) = match first >> 4 {
        4 if first & 0xf >= 5 => {
            let end = at + usize::from(first & 0xf) * 4;
            let Some(header) = bytes.get_mut(at..end) else { return };
            header[10..12].fill(0);
            let checksum = checksum::of(header).to_be_bytes();
            header[10..12].copy_from_slice(&checksum);
            (end, header[9])
        }
        6 if bytes.len() >= at + 40 => (at + 40, bytes[at + 6]),
        _ => return,
    };
    if depth < 2 {
        match number {
            4 | 41 => repair(bytes, behind, depth + 1),
            47 => {
                let flags = bytes.get(behind).copied().unwrap_or(0);
                let len = 4 + [0x80, 0x20, 0x10].iter().filter(|flag| flags & **flag != 0).count() * 4;
                repair(bytes, behind + len, depth + 1);
            }
            17 => repair(bytes, behind + 8 + 8 + 14, depth + 1),
            _ => {}
        }
    }
}

/// The packet back, by the port that it left by: stations, addresses and ports change places. TCP acknowledges what came.
pub(super) fn answer(port: PortId, mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(to) = bytes.get_mut(..6) {
        to.copy_from_slice(&mac(port));
    }
    let (addresses, len, number) = match bytes.get(14).map(|first| first >> 4) {
        Some(4) if bytes.len() >= 34 => (26, 4, bytes[23]),
        Some(6) if bytes.len() >= 54 => (22, 16, bytes[20]),
        _ => return bytes,
    };
    let l4 = if len == 4 { 14 + usize::from(bytes[14] & 0xf) * 4 } else { 54 };
    for i in 0..len {
        bytes.swap(addresses + i, addresses + len + i);
    }
    match number {
        6 if bytes.len() >= l4 + 20 => {
            for i in 0..2 {
                bytes.swap(l4 + i, l4 + 2 + i);
            }
            let word = |bytes: &[u8], at: usize| {
                bytes.get(at..at + 4).map_or(0, |w| u32::from_be_bytes([w[0], w[1], w[2], w[3]]))
            };
            let (sequence, acknowledged) = (word(&bytes, l4 + 4), word(&bytes, l4 + 8));
            let flags = bytes[l4 + 13];
            let next = sequence.wrapping_add(u32::from(flags & 3 != 0));
            bytes[l4 + 4..l4 + 8].copy_from_slice(&acknowledged.to_be_bytes());
            bytes[l4 + 8..l4 + 12].copy_from_slice(&next.to_be_bytes());
            // A SYN is answered by SYN and ACK, all else by ACK and what else it had.
            bytes[l4 + 13] = if flags == 2 { 0x12 } else { 0x10 | flags & 1 };
        }
        17 if bytes.len() >= l4 + 4 => {
            for i in 0..2 {
                bytes.swap(l4 + i, l4 + 2 + i);
            }
        }
        1 if bytes.get(l4) == Some(&8) => bytes[l4] = 0,
        58 if bytes.get(l4) == Some(&128) => bytes[l4] = 129,
        _ => {}
    }
    bytes
}

/// An ICMP error from somewhere behind `port`, about a packet that left by it; its quote is cut off after `cut` bytes, if not 0.
pub(super) fn complaint(port: PortId, about: &[u8], (kind, code): (u8, u8), cut: u8) -> Vec<u8> {
    use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec};
    let quoted = about.get(14..).unwrap_or(&[]);
    let quoted = if cut == 0 { quoted } else { quoted.get(..usize::from(cut)).unwrap_or(quoted) };
    let quoted = quoted.get(..1200).unwrap_or(quoted);
    let (to, from) = (mac(port), [0x02, 0, 0, 0, 2, port.0 as u8]);
    let frame = Ethernet::parse(about).ok();
    match frame.map(|frame| (Ipv4::parse(frame.payload()), Ipv6::parse(frame.payload()))) {
        Some((Ok(ip), _)) => {
            let outer = Ipv4Spec::new([198, 51, 100, 99].into(), ip.source(), 1);
            let message = build::icmp(kind, code, [0, 0, 5, 0], quoted);
            build::ethernet(to, from, &[], ether_type::IPV4, &outer.packet(&message))
        }
        Some((_, Ok(ip))) => {
            let outer = Ipv6Spec::new("2001:db8::99".parse().expect("an address"), ip.source(), 58);
            let message = build::icmpv6(outer.address_sum(), kind, code, [0, 0, 5, 0], quoted);
            build::ethernet(to, from, &[], ether_type::IPV6, &outer.packet(&message))
        }
        _ => Vec::new(),
    }
}
