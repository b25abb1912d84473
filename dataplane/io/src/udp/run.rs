//! Which packets leave as one message: datagrams of one way and one length, one behind the other, of which the last may be shorter.
//!
//! Owns: the first one's way, and what has joined since. Refuses frames that a socket cannot send: no whole UDP over IP, fragments,
//! extension headers and options, a port that is not the socket's. Keeps true: the kernel cuts a run into the datagrams that it was
//! made of (net/ipv4/udp_offload.c, `__udp_gso_segment`), and takes it at all: no more segments and bytes than it may have.

use super::message::Way;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use zsync_packet::header::{Ethernet, Ipv4, Ipv6, Udp, ether_type, protocol, udp};

/// Segments of one message: `UDP_MAX_SEGMENTS` of include/linux/udp.h, before Linux 6.9 doubled it.
pub const SEGMENTS: usize = 64;
/// Bytes of one message: what a packet of IPv4 has room for.
const LONGEST: usize = 65_535 - 20 - 8;

/// A datagram to be sent, as its frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where it goes, and how.
    pub way: Way,
    /// Where in the frame its payload is.
    pub payload: Range<usize>,
}

impl Datagram {
    /// What the frame says, if it is whole UDP without tags from our `port`, to somebody, and its checksum is right if it has one: the kernel
    /// writes another, behind which nobody would see that it was not.
    #[inline]
    pub fn of(frame: &[u8], port: u16) -> Option<Self> {
        let ethernet = Ethernet::parse(frame).ok().filter(|ethernet| ethernet.outer_tag().is_none())?;
        let packet = ethernet.payload();
        let (from, to, tos, transport, addresses): (IpAddr, IpAddr, _, _, _) = match ethernet.ether_type() {
            ether_type::IPV4 => {
                let ip = Ipv4::parse(packet).ok()?;
                if ip.protocol() != protocol::UDP || ip.is_fragment() || ip.has_options() {
                    return None;
                }
                let tos = ip.dscp() << 2 | ip.ecn();
                (ip.source().into(), ip.destination().into(), tos, ip.payload(), ip.address_sum())
            }
            ether_type::IPV6 => {
                let ip = Ipv6::parse(packet).ok()?;
                if ip.next_header() != protocol::UDP {
                    return None;
                }
                let tos = ip.dscp() << 2 | ip.ecn();
                (ip.source().into(), ip.destination().into(), tos, ip.payload(), ip.address_sum())
            }
            _ => return None,
        };
        let datagram = Udp::parse(transport).ok().filter(|datagram| datagram.source_port() == port)?;
        if datagram.checksum() != 0 && datagram.verify_checksum(addresses).is_err() || is_nobody(to) {
            return None;
        }
        let at = transport.as_ptr().addr() - frame.as_ptr().addr() + udp::HEADER_LEN;
        let to = SocketAddr::new(to, datagram.destination_port());
        Some(Self { way: Way { from, to, tos }, payload: at..at + datagram.payload().len() })
    }
}

/// What the kernel would take for itself, or for IPv4 by a socket of IPv6.
fn is_nobody(to: IpAddr) -> bool {
    to.is_unspecified() || matches!(to, IpAddr::V6(to) if to.to_ipv4_mapped().is_some())
}

/// A run, while it is formed.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The way of all.
    pub way: Way,
    /// Bytes of each, but perhaps the last.
    pub segment: usize,
    /// Datagrams.
    pub count: usize,
    bytes: usize,
    /// The last one was shorter.
    ended: bool,
}

impl Run {
    /// Of one datagram.
    pub fn new(first: &Datagram) -> Self {
        let segment = first.payload.len();
        Self { way: first.way, segment, count: 1, bytes: segment, ended: false }
    }

    /// What the kernel is to be told, if it is to take several apart: bytes of each.
    #[inline]
    pub fn segment_len(&self) -> Option<u16> {
        u16::try_from(self.segment).ok().filter(|_| self.count > 1)
    }

    /// Whether the next datagram joins; if so, it has.
    #[inline]
    pub fn takes(&mut self, next: &Datagram) -> bool {
        let len = next.payload.len();
        // An empty one would be lost in a message of several.
        let fits = (1..=self.segment).contains(&len)
            && self.count < SEGMENTS
            && self.bytes + len <= LONGEST
            && !self.ended
            && next.way == self.way;
        if fits {
            (self.count, self.bytes, self.ended) = (self.count + 1, self.bytes + len, len < self.segment);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zsync_packet::header::build::{ethernet, udp_packet};

    fn frame(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let kind = if from.is_ipv4() { ether_type::IPV4 } else { ether_type::IPV6 };
        ethernet([2; 6], [4; 6], &[], kind, &udp_packet(from, to, payload).unwrap())
    }

    #[test]
    fn a_frame_says_the_way_and_where_its_payload_is() {
        for (from, to) in [("192.0.2.1:7", "192.0.2.2:9"), ("[2001:db8::1]:7", "[2001:db8::2]:9")] {
            let mut bytes = frame(from, to, b"payload");
            let tos = 0xb9;
            match bytes[14] >> 4 {
                4 => bytes[15] = tos,
                _ => (bytes[14], bytes[15]) = (6 << 4 | tos >> 4, tos << 4),
            }
            let datagram = Datagram::of(&bytes, 7).unwrap();
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            assert_eq!(datagram.way, Way { from: from.ip(), to, tos });
            assert_eq!(bytes[datagram.payload], *b"payload");
            assert_eq!(Datagram::of(&bytes, 8), None, "another port");
            for cut in 0..bytes.len() {
                assert_eq!(Datagram::of(&bytes[..cut], 7), None, "{cut}");
            }
        }
    }

    #[test]
    fn what_no_socket_can_send_is_no_datagram() {
        let good = frame("192.0.2.1:7", "192.0.2.2:9", b"payload");
        // A protocol, fragments, another EtherType.
        for (at, byte) in [(23, 6), (20, 0x20), (21, 1), (12, 9)] {
            let mut bytes = good.clone();
            bytes[at] = byte;
            assert_eq!(Datagram::of(&bytes, 7), None, "{at}");
        }
        let mut extended = frame("[2001:db8::1]:7", "[2001:db8::2]:9", b"payload");
        extended[20] = 0;
        assert_eq!(Datagram::of(&extended, 7), None);
    }

    /// What the kernel makes of a message with a segment's length.
    fn cut(bytes: usize, segment: usize) -> Vec<usize> {
        let whole = (0..bytes / segment).map(|_| segment);
        whole.chain([bytes % segment].into_iter().filter(|rest| *rest > 0)).collect()
    }

    proptest! {
        /// Whatever is to be sent, the datagrams that leave are those, in their order, and no run could have been longer.
        #[test]
        fn runs_are_cut_into_what_they_were_made_of(
            lens in prop::collection::vec(prop_oneof![Just(0), Just(1), Just(100), Just(1452), Just(9000), 0..2000_usize], 1..200),
            ways in prop::collection::vec(0..3_u16, 200),
            same in any::<bool>(),
        ) {
            let datagrams: Vec<Datagram> = lens.iter().zip(&ways).map(|(len, way)| {
                let to = SocketAddr::from(([192, 0, 2, 1], if same { 1 } else { *way / 2 + 1 }));
                Datagram { way: Way { from: [192, 0, 2, 9].into(), to, tos: 0 }, payload: 42..42 + len }
            }).collect();
            let mut at = 0;
            while at < datagrams.len() {
                let mut run = Run::new(&datagrams[at]);
                while datagrams.get(at + run.count).is_some_and(|next| run.takes(next)) {}
                let members = &datagrams[at..at + run.count];
                let sizes: Vec<usize> = members.iter().map(|datagram| datagram.payload.len()).collect();
                let bytes: usize = sizes.iter().sum();
                prop_assert!(members.iter().all(|member| member.way == run.way));
                prop_assert!(run.count <= SEGMENTS && bytes <= LONGEST);
                if run.count > 1 {
                    prop_assert_eq!(cut(bytes, run.segment), sizes.clone());
                }
                if let Some(next) = datagrams.get(at + run.count) {
                    let longer = [&sizes[..], &[next.payload.len()]].concat();
                    let total = bytes + next.payload.len();
                    let possible = next.way == run.way && longer.len() <= SEGMENTS && total <= LONGEST
                        && run.segment > 0 && cut(total, run.segment) == longer;
                    prop_assert!(!possible, "{:?} could have joined {:?}", next, sizes);
                }
                at += run.count;
            }
        }
    }
}
