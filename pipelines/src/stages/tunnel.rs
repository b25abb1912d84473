//! What goes from an inner IP header to the outer one, and back: the congestion bits (RFC 6040) and the code point (RFC 2983).
//!
//! Owns nothing. Keeps true: no congestion mark that the outer packet met is lost, and none is made up.

use zsync_packet::header::{Ethernet, Ipv4, Ipv4Mut, Ipv6, Ipv6Mut, ether_type};

/// Not capable of congestion marks.
const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
/// Congestion experienced.
const CE: u8 = 3;

/// The congestion bits of a packet that comes out of a tunnel (RFC 6040 §4.2, figure 4). `None`: it met congestion that its
/// sender could not be told of by a mark, so it must be dropped.
#[inline]
pub fn ecn_out(inner: u8, outer: u8) -> Option<u8> {
    match (inner & 3, outer & 3) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some(NOT_ECT),
        (_, CE) | (CE, _) => Some(CE),
        (_, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

/// What of an inner IP packet the outer one needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// DSCP (high 6 bits) and ECN (low 2).
    pub tos: u8,
    /// Hops left.
    pub ttl: u8,
    /// Bytes of the packet, without padding.
    pub len: usize,
    /// Whether nobody may take it apart: IPv6, and IPv4 that says so.
    pub whole: bool,
}

impl Inner {
    /// Of an IP packet of either family; `None` when it is none.
    #[inline]
    pub fn of(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => {
                let ip = Ipv4::parse(packet).ok()?;
                let tos = ip.dscp() << 2 | ip.ecn();
                Some(Self { tos, ttl: ip.ttl(), len: usize::from(ip.total_len()), whole: ip.dont_fragment() })
            }
            6 => {
                let ip = Ipv6::parse(packet).ok()?;
                let (tos, len) = (ip.dscp() << 2 | ip.ecn(), 40 + usize::from(ip.payload_len()));
                Some(Self { tos, ttl: ip.hop_limit(), len, whole: true })
            }
            _ => None,
        }
    }

    /// As [`Self::of`], of a packet that was found valid before, and is so still as far as its length goes.
    #[inline]
    pub fn of_valid(packet: &[u8]) -> Option<Self> {
        let header = packet.first_chunk::<20>()?;
        let number = |at: usize| usize::from(u16::from_be_bytes([header[at], header[at + 1]]));
        let inner = if header[0] >> 4 == 4 {
            Self { tos: header[1], ttl: header[8], len: number(2), whole: header[6] & 0x40 != 0 }
        } else {
            Self { tos: header[0] << 4 | header[1] >> 4, ttl: header[7], len: 40 + number(4), whole: true }
        };
        (inner.len >= 20 && inner.len <= packet.len()).then_some(inner)
    }
}

/// Where the IP packet of a frame starts, behind up to two tags; `None` when there is none.
#[inline]
pub fn ip_of_frame(frame: &[u8]) -> Option<usize> {
    let ethernet = Ethernet::parse(frame).ok()?;
    matches!(ethernet.ether_type(), ether_type::IPV4 | ether_type::IPV6).then(|| ethernet.header_len())
}

/// Sets the congestion bits of an IP packet, and its checksum with them.
#[inline]
pub fn set_ecn(packet: &mut [u8], ecn: u8) {
    match packet.first().map(|first| first >> 4) {
        Some(4) => {
            if let Ok(mut ip) = Ipv4Mut::parse(packet) {
                ip.set_ecn(ecn);
            }
        }
        _ => {
            if let Ok(mut ip) = Ipv6Mut::parse(packet) {
                ip.set_ecn(ecn);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zsync_packet::header::build::{Ipv4Spec, Ipv6Spec};
    use zsync_packet::header::corpus;

    #[test]
    fn figure_4_of_rfc_6040() {
        // Rows: inner Not-ECT, ECT(0), ECT(1), CE. Columns: outer the same. ECT(0) is 2 and ECT(1) is 1.
        let order = [0, 2, 1, 3];
        let expected = [
            [Some(0), Some(0), Some(0), None],
            [Some(2), Some(2), Some(1), Some(3)],
            [Some(1), Some(1), Some(1), Some(3)],
            [Some(3), Some(3), Some(3), Some(3)],
        ];
        for (inner, row) in order.into_iter().zip(expected) {
            for (outer, out) in order.into_iter().zip(row) {
                assert_eq!(ecn_out(inner, outer), out, "inner {inner}, outer {outer}");
            }
        }
    }

    #[test]
    fn the_bits_are_set_and_the_checksum_follows() {
        let v4 = Ipv4Spec { tos: 0xb8, ..Ipv4Spec::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 17) };
        let mut packet = v4.packet(b"x");
        set_ecn(&mut packet, 3);
        assert_eq!(packet, Ipv4Spec { tos: 0xbb, ..v4 }.packet(b"x"));
        let v6 = Ipv6Spec::new("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap(), 17);
        let mut packet = v6.packet(b"x");
        set_ecn(&mut packet, 1);
        assert_eq!(packet, Ipv6Spec { traffic_class: 1, ..v6 }.packet(b"x"));
        assert_eq!(Inner::of(&packet), Some(Inner { tos: 1, ttl: 64, len: 41, whole: true }));
        assert_eq!(Inner::of(&[0x55; 60]), None);
    }
    #[test]
    fn of_a_valid_packet_the_shorter_way_says_the_same() {
        let packets = corpus::valid();
        let inner = packets.iter().filter_map(|packet| packet.bytes.get(ip_of_frame(&packet.bytes)?..));
        let mut seen = 0;
        for packet in inner.filter(|packet| Inner::of(packet).is_some()) {
            assert_eq!(Inner::of_valid(packet), Inner::of(packet), "{packet:02x?}");
            assert_eq!(Inner::of_valid(&packet[..packet.len().min(19)]), None);
            seen += 1;
        }
        assert!(seen > 30, "{seen}");
        // What lies about its length is not believed.
        let mut packet = Ipv4Spec::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 17).packet(b"x");
        packet[3] += 1;
        assert_eq!(Inner::of_valid(&packet), None);
    }
}
