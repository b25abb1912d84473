//! What the kernel has given in one message: datagrams of one sender, one behind the other, that become packets one by one.
//!
//! Owns: the bytes that it came in: 64 KiB that were made once, or one of a ring's buffers. Keeps true: each datagram becomes a packet of its own, in order, behind the headers that it would have
//! come with: Ethernet to the port's address, IP between the addresses that the kernel names, UDP. The header checksum of IPv4 is
//! right; the UDP checksum, which the kernel has verified, is right over IPv6, where there must be one, and none over IPv4.

use super::message::Message;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use zsync_packet::checksum::Sum;
use zsync_packet::header::build::{Ipv4Spec, Ipv6Spec, emit_ethernet};
use zsync_packet::header::{UdpMut, ether_type, ethernet, ipv4, ipv6, protocol, udp};

/// Bytes of the longest message: of UDP over IPv6.
pub const LONGEST: usize = 65_535;

/// See the module.
#[derive(Debug)]
pub struct Held {
    bytes: Box<[u8]>,
    /// Where in them the message begins.
    at: usize,
    message: Message,
    /// Bytes that are packets already.
    done: usize,
    /// Whether any datagram is left: one of no bytes leaves none in the buffer.
    any: bool,
    /// Of the next packet of IPv4.
    number: u16,
}

impl Held {
    /// Nothing yet. Messages come into `bytes`, or bring their own.
    pub fn new(bytes: Box<[u8]>) -> Self {
        let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let message = Message { len: 0, segment: 0, from: nobody, to: nobody.ip(), tos: 0 };
        Self { bytes, at: 0, message, done: 0, any: false, number: 0 }
    }

    /// Whether all that came is packets.
    #[inline]
    pub fn is_empty(&self) -> bool {
        !self.any
    }

    /// Where the next message goes, once all of this one is packets.
    pub fn buffer(&mut self) -> &mut [u8] {
        self.any = false;
        &mut self.bytes
    }

    /// The buffer has this message now.
    pub fn fill(&mut self, message: Message) {
        (self.message, self.at, self.done, self.any) = (message, 0, 0, true);
    }

    /// These bytes have this message, from byte `at` on. Returns those of the one before, all of which is packets.
    pub fn exchange(&mut self, message: Message, bytes: Box<[u8]>, at: usize) -> Box<[u8]> {
        (self.message, self.at, self.done, self.any) = (message, at, 0, true);
        std::mem::replace(&mut self.bytes, bytes)
    }

    /// Bytes of the next packet.
    #[inline]
    pub fn next_len(&self) -> usize {
        let ip = if self.message.from.is_ipv4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
        ethernet::HEADER_LEN + ip + udp::HEADER_LEN + self.payload().len()
    }

    /// Leaves the next datagram out.
    pub fn skip(&mut self) {
        self.done += self.payload().len();
        self.any = self.done < self.message.len;
    }

    fn payload(&self) -> &[u8] {
        let Message { len, segment, .. } = self.message;
        let end = if segment == 0 { len } else { len.min(self.done + segment) };
        self.bytes.get(self.at + self.done..self.at + end).unwrap_or(&[])
    }

    /// Writes the next packet, as if a station had sent it to `mac` and UDP `port`, into `place`, which has
    /// [`Self::next_len`] bytes. False: it has not.
    #[inline]
    pub fn write(&mut self, place: &mut [u8], mac: [u8; 6], port: u16) -> bool {
        let written = self.emit(place, mac, port).is_some();
        self.number = self.number.wrapping_add(1);
        self.skip();
        written
    }

    fn emit(&self, place: &mut [u8], mac: [u8; 6], port: u16) -> Option<()> {
        let payload = self.payload();
        let Message { from, to, tos, .. } = self.message;
        let len = udp::HEADER_LEN + payload.len();
        let [a, b, c, d, e, f] = mac;
        let station = [a, b, c, d, e, f ^ 1];
        let sum = match (from.ip(), to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let at = emit_ethernet(place, mac, station, &[], ether_type::IPV4).ok()?;
                let ip =
                    Ipv4Spec { tos, identification: self.number, ..Ipv4Spec::new(from, to, protocol::UDP) };
                ip.emit(place.get_mut(at..)?, len).ok()?;
                None
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let at = emit_ethernet(place, mac, station, &[], ether_type::IPV6).ok()?;
                let ip = Ipv6Spec { traffic_class: tos, ..Ipv6Spec::new(from, to, protocol::UDP) };
                ip.emit(place.get_mut(at..)?, len).ok()?;
                Some(Sum::addresses_v6(from, to))
            }
            _ => return None,
        };
        let at = place.len().checked_sub(len)?;
        let datagram = place.get_mut(at..)?;
        let (header, body) = datagram.split_first_chunk_mut::<{ udp::HEADER_LEN }>()?;
        header[..2].copy_from_slice(&from.port().to_be_bytes());
        header[2..4].copy_from_slice(&port.to_be_bytes());
        header[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        header[6..].fill(0);
        body.copy_from_slice(payload);
        if let Some(sum) = sum {
            UdpMut::parse(datagram).ok()?.fill_checksum(sum);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zsync_packet::header::{Ethernet, Ipv4, Ipv6, Udp};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0];

    /// All packets of a message.
    fn packets(message: Message, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut held = Held::new(vec![0; LONGEST].into());
        // The one way, and the other.
        if bytes.len().is_multiple_of(2) {
            held.buffer()[..bytes.len()].copy_from_slice(bytes);
            held.fill(message);
        } else {
            let before = held.exchange(message, [&[0xaa; 70], bytes].concat().into(), 70);
            assert_eq!(before.len(), LONGEST);
        }
        let mut packets = Vec::new();
        while !held.is_empty() {
            let mut packet = vec![0xee; held.next_len()];
            assert!(held.write(&mut packet, MAC, 51_820));
            packets.push(packet);
        }
        packets
    }

    proptest! {
        #[test]
        fn each_datagram_is_a_whole_packet(len in 0..5000_usize, segment in 0..1500_usize, tos in any::<u8>(), v6 in any::<bool>()) {
            let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let (from, to) = if v6 { ("[2001:db8::7]:9", "2001:db8::1") } else { ("192.0.2.7:9", "192.0.2.1") };
            let (from, to): (SocketAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let message = Message { len, segment, from, to, tos };
            let mut payloads = Vec::new();
            for packet in packets(message, &bytes) {
                let ethernet = Ethernet::parse(&packet).unwrap();
                prop_assert_eq!((ethernet.destination(), ethernet.is_group()), (MAC, false));
                let (said, transport) = if v6 {
                    let ip = Ipv6::parse(ethernet.payload()).unwrap();
                    let udp = Udp::parse(ip.payload()).unwrap();
                    prop_assert!(udp.checksum() != 0 && udp.verify_checksum(ip.address_sum()).is_ok());
                    prop_assert_eq!((ip.next_header(), ip.hop_limit()), (protocol::UDP, 64));
                    ((IpAddr::from(ip.source()), IpAddr::from(ip.destination()), ip.dscp() << 2 | ip.ecn()), udp)
                } else {
                    let ip = Ipv4::parse(ethernet.payload()).unwrap();
                    let udp = Udp::parse(ip.payload()).unwrap();
                    prop_assert!(ip.verify_checksum().is_ok() && udp.checksum() == 0);
                    prop_assert_eq!((ip.protocol(), ip.ttl()), (protocol::UDP, 64));
                    ((IpAddr::from(ip.source()), IpAddr::from(ip.destination()), ip.dscp() << 2 | ip.ecn()), udp)
                };
                prop_assert_eq!(said, (from.ip(), to, tos));
                prop_assert_eq!((transport.source_port(), transport.destination_port()), (9, 51_820));
                payloads.push(transport.payload().to_vec());
            }
            let expected: Vec<&[u8]> = match (len, segment) {
                (0, _) | (_, 0) => vec![&bytes[..]],
                _ => bytes.chunks(segment).collect(),
            };
            prop_assert_eq!(payloads, expected);
        }
    }

    #[test]
    fn a_packet_is_left_out_and_the_next_one_is_whole() {
        let from: SocketAddr = "192.0.2.7:9".parse().unwrap();
        let mut held = Held::new([0; 5].into());
        held.buffer()[..5].copy_from_slice(b"abcde");
        held.fill(Message { len: 5, segment: 3, from, to: from.ip(), tos: 0 });
        held.skip();
        let mut packet = vec![0; held.next_len()];
        assert!(held.write(&mut packet, MAC, 1) && held.is_empty());
        assert_eq!(packet[42..], *b"de");
        assert_eq!(held.next_len(), 42, "there is no next one");
    }
}
