//! Valid headers, written: for tests, the traffic generator, and the few packets that a stage originates.
//!
//! Owns the other direction of the views: a `*Spec` names the fields, `emit` writes the header into bytes that the
//! caller owns, and the functions that return a `Vec` put a whole packet together, inside out:
//!
//! ```
//! use zsync_packet::header::{build::{self, Ipv4Spec}, ether_type, protocol, Ethernet, Ipv4, Udp};
//!
//! let ip = Ipv4Spec::new([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), protocol::UDP);
//! let datagram = build::udp(ip.address_sum(), 4000, 53, b"question");
//! let packet = build::ethernet([2; 6], [4; 6], &[], ether_type::IPV4, &ip.packet(&datagram));
//!
//! let ip = Ipv4::parse(Ethernet::parse(&packet)?.payload())?;
//! ip.verify_checksum()?;
//! let udp = Udp::parse(ip.payload())?;
//! udp.verify_checksum(ip.address_sum())?;
//! assert_eq!((udp.destination_port(), udp.payload()), (53, &b"question"[..]));
//! # Ok::<(), zsync_packet::header::HeaderError>(())
//! ```
//!
//! Lengths and checksums are computed, never given. A part that is longer than its length field can say is cut
//! short by the `Vec` functions and refused by `emit`.
#![forbid(unsafe_code)]

use core::net::{Ipv4Addr, Ipv6Addr};

use super::tcp::{TcpFlags, TcpMut};
use super::{HeaderError, IcmpMut, Icmpv6Mut, Ipv4Mut, Mac, UdpMut, VlanTag, ether_type, protocol};
use crate::checksum::Sum;

/// The fields of an IPv4 header.
#[derive(Clone, Debug)]
pub struct Ipv4Spec {
    /// Who sends it.
    pub source: Ipv4Addr,
    /// Whom it is for.
    pub destination: Ipv4Addr,
    /// What the payload is.
    pub protocol: u8,
    /// Hops left.
    pub ttl: u8,
    /// DSCP (high 6 bits) and ECN (low 2).
    pub tos: u8,
    /// Which datagram a fragment belongs to.
    pub identification: u16,
    /// Whether routers must not fragment it.
    pub dont_fragment: bool,
    /// Whether it is a fragment, and not the last.
    pub more_fragments: bool,
    /// Where the payload lies in the datagram, in bytes; rounded down to a multiple of 8.
    pub fragment_offset: u16,
    /// The options; zeros are added up to a multiple of 4, and what is over 40 bytes is left out.
    pub options: Vec<u8>,
}

impl Ipv4Spec {
    /// TTL 64, all else zero.
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) -> Self {
        Ipv4Spec {
            source,
            destination,
            protocol,
            ttl: 64,
            tos: 0,
            identification: 0,
            dont_fragment: false,
            more_fragments: false,
            fragment_offset: 0,
            options: Vec::new(),
        }
    }

    /// The addresses' part of the pseudo-header.
    pub fn address_sum(&self) -> Sum {
        Sum::addresses_v4(self.source, self.destination)
    }

    /// Header bytes, options included.
    pub fn header_len(&self) -> usize {
        20 + self.options.len().min(40).next_multiple_of(4)
    }

    /// Writes the header in front of `payload_len` bytes, which `out` holds already, and returns its length.
    ///
    /// # Errors
    /// `Truncated` when header and payload do not fit into `out`; `BadTotalLength` over 65535 bytes.
    pub fn emit(&self, out: &mut [u8], payload_len: usize) -> Result<usize, HeaderError> {
        let len = self.header_len();
        let total = u16::try_from(len + payload_len).map_err(|_| HeaderError::BadTotalLength)?;
        let (header, _) = out
            .get_mut(..usize::from(total))
            .and_then(|packet| packet.split_at_mut_checked(len))
            .ok_or(HeaderError::Truncated)?;
        let fragment = u16::from(self.dont_fragment) << 14
            | u16::from(self.more_fragments) << 13
            | self.fragment_offset >> 3;
        let mut parts = [0; 60];
        parts[0] = 0x40 | (len / 4) as u8;
        parts[1] = self.tos;
        parts[2..4].copy_from_slice(&total.to_be_bytes());
        parts[4..6].copy_from_slice(&self.identification.to_be_bytes());
        parts[6..8].copy_from_slice(&fragment.to_be_bytes());
        parts[8] = self.ttl;
        parts[9] = self.protocol;
        parts[12..16].copy_from_slice(&self.source.octets());
        parts[16..20].copy_from_slice(&self.destination.octets());
        let options = self.options.len().min(40);
        parts[20..20 + options].copy_from_slice(&self.options[..options]);
        header.copy_from_slice(&parts[..len]);
        Ipv4Mut::parse(out)?.fill_checksum();
        Ok(len)
    }

    /// A whole packet.
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let len = self.header_len();
        let payload = &payload[..payload.len().min(0xffff - len)];
        let mut bytes = [&vec![0; len], payload].concat();
        self.emit(&mut bytes, payload.len()).expect("the payload was cut to fit");
        bytes
    }
}

/// The fields of an IPv6 header.
#[derive(Clone, Debug)]
pub struct Ipv6Spec {
    /// Who sends it.
    pub source: Ipv6Addr,
    /// Whom it is for.
    pub destination: Ipv6Addr,
    /// What follows.
    pub next_header: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// DSCP (high 6 bits) and ECN (low 2).
    pub traffic_class: u8,
    /// The low 20 bits count.
    pub flow_label: u32,
}

impl Ipv6Spec {
    /// Hop limit 64, all else zero.
    pub fn new(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8) -> Self {
        Ipv6Spec { source, destination, next_header, hop_limit: 64, traffic_class: 0, flow_label: 0 }
    }

    /// The addresses' part of the pseudo-header.
    pub fn address_sum(&self) -> Sum {
        Sum::addresses_v6(self.source, self.destination)
    }

    /// Writes the header in front of `payload_len` bytes, which `out` holds already, and returns its length, 40.
    ///
    /// # Errors
    /// `Truncated` when header and payload do not fit into `out`; `BadTotalLength` for a payload over 65535 bytes.
    pub fn emit(&self, out: &mut [u8], payload_len: usize) -> Result<usize, HeaderError> {
        let payload = u16::try_from(payload_len).map_err(|_| HeaderError::BadTotalLength)?;
        if out.len() < 40 + payload_len {
            return Err(HeaderError::Truncated);
        }
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0x000f_ffff;
        out[..4].copy_from_slice(&first.to_be_bytes());
        out[4..6].copy_from_slice(&payload.to_be_bytes());
        out[6] = self.next_header;
        out[7] = self.hop_limit;
        out[8..24].copy_from_slice(&self.source.octets());
        out[24..40].copy_from_slice(&self.destination.octets());
        Ok(40)
    }

    /// A whole packet.
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let payload = &payload[..payload.len().min(0xffff)];
        let mut bytes = [&[0; 40], payload].concat();
        self.emit(&mut bytes, payload.len()).expect("the payload was cut to fit");
        bytes
    }
}

/// The fields of a TCP header.
#[derive(Clone, Debug)]
pub struct TcpSpec {
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// The number of the first payload byte.
    pub sequence: u32,
    /// The number expected next.
    pub acknowledgement: u32,
    /// The control bits.
    pub flags: TcpFlags,
    /// The receive window.
    pub window: u16,
    /// The options; zeros are added up to a multiple of 4, and what is over 40 bytes is left out.
    pub options: Vec<u8>,
}

impl TcpSpec {
    /// The largest window, all else zero.
    pub fn new(source_port: u16, destination_port: u16, flags: TcpFlags) -> Self {
        TcpSpec {
            source_port,
            destination_port,
            sequence: 0,
            acknowledgement: 0,
            flags,
            window: 0xffff,
            options: Vec::new(),
        }
    }

    /// A whole segment; `addresses` is the IP spec's `address_sum`.
    pub fn segment(&self, addresses: Sum, payload: &[u8]) -> Vec<u8> {
        let options = self.options.len().min(40);
        let mut bytes = Vec::with_capacity(60 + payload.len());
        bytes.extend(self.source_port.to_be_bytes());
        bytes.extend(self.destination_port.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledgement.to_be_bytes());
        bytes.push(((5 + options.div_ceil(4)) << 4) as u8);
        bytes.push(self.flags.0);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.options[..options]);
        bytes.resize(20 + options.next_multiple_of(4), 0);
        bytes.extend(payload);
        TcpMut::parse(&mut bytes).expect("its header was just written").fill_checksum(addresses);
        bytes
    }
}

/// Writes an Ethernet header with `tags` (outermost first) and returns its length.
///
/// # Errors
/// `Truncated` when it does not fit into `out`. The number of tags is not limited, so that a test can have too many.
pub fn emit_ethernet(
    out: &mut [u8],
    destination: Mac,
    source: Mac,
    tags: &[VlanTag],
    ether_type: u16,
) -> Result<usize, HeaderError> {
    let len = 14 + 4 * tags.len();
    let header = out.get_mut(..len).ok_or(HeaderError::Truncated)?;
    header[..6].copy_from_slice(&destination);
    header[6..12].copy_from_slice(&source);
    for (place, tag) in header[12..].chunks_exact_mut(4).zip(tags) {
        place[..2].copy_from_slice(&tag.tpid.to_be_bytes());
        place[2..].copy_from_slice(&tag.tci.to_be_bytes());
    }
    header[len - 2..].copy_from_slice(&ether_type.to_be_bytes());
    Ok(len)
}

/// A whole packet, without padding.
pub fn ethernet(destination: Mac, source: Mac, tags: &[VlanTag], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 14 + 4 * tags.len()];
    emit_ethernet(&mut bytes, destination, source, tags, ether_type).expect("its length was just computed");
    bytes.extend(payload);
    bytes
}

/// Adds zeros up to the 60 bytes that a packet has on the wire at least (without its check sequence).
pub fn padded(mut packet: Vec<u8>) -> Vec<u8> {
    packet.resize(packet.len().max(60), 0);
    packet
}

/// An ARP message for Ethernet and IPv4.
pub fn arp(operation: u16, sender_mac: Mac, sender: Ipv4Addr, target_mac: Mac, target: Ipv4Addr) -> Vec<u8> {
    let [type_hi, type_lo] = ether_type::IPV4.to_be_bytes();
    let [op_hi, op_lo] = operation.to_be_bytes();
    let mut bytes = vec![0, 1, type_hi, type_lo, 6, 4, op_hi, op_lo];
    bytes.extend(sender_mac);
    bytes.extend(sender.octets());
    bytes.extend(target_mac);
    bytes.extend(target.octets());
    bytes
}

/// A UDP datagram; `addresses` is the IP spec's `address_sum`.
pub fn udp(addresses: Sum, source_port: u16, destination_port: u16, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(0xffff - 8)];
    let mut bytes = Vec::with_capacity(8 + payload.len());
    bytes.extend(source_port.to_be_bytes());
    bytes.extend(destination_port.to_be_bytes());
    bytes.extend((8 + payload.len() as u16).to_be_bytes());
    bytes.extend([0; 2]);
    bytes.extend(payload);
    UdpMut::parse(&mut bytes).expect("its header was just written").fill_checksum(addresses);
    bytes
}

/// An ICMP message; `word` is what its type makes of the second four bytes.
pub fn icmp(kind: u8, code: u8, word: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = [&[kind, code, 0, 0], &word[..], payload].concat();
    IcmpMut::parse(&mut bytes).expect("its header was just written").fill_checksum();
    bytes
}

/// An ICMPv6 message; `addresses` is the IPv6 spec's `address_sum`.
pub fn icmpv6(addresses: Sum, kind: u8, code: u8, word: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = [&[kind, code, 0, 0], &word[..], payload].concat();
    Icmpv6Mut::parse(&mut bytes).expect("its header was just written").fill_checksum(addresses);
    bytes
}

/// An options header of IPv6 (hop-by-hop or destination) of `8 + 8 * units` bytes, filled with one PadN option
/// (RFC 8200 §4.2). As a routing header it is of type 1 with 4 (or more) segments left: valid for a walk, not for a
/// host.
pub fn extension(next_header: u8, units: u8) -> Vec<u8> {
    let mut bytes = vec![0; 8 + 8 * usize::from(units)];
    bytes[0] = next_header;
    bytes[1] = units;
    bytes[2] = 1;
    bytes[3] = (bytes.len() - 4).min(255) as u8;
    bytes
}

/// A fragment header of IPv6; `offset` in bytes, rounded down to a multiple of 8.
pub fn fragment(next_header: u8, offset: u16, more: bool, identification: u32) -> Vec<u8> {
    let mut bytes = vec![next_header, 0];
    bytes.extend((offset & 0xfff8 | u16::from(more)).to_be_bytes());
    bytes.extend(identification.to_be_bytes());
    bytes
}

/// An authentication header (RFC 4302) with an integrity value of `icv` zero bytes (a multiple of 4, at most 1008).
pub fn auth(next_header: u8, icv: usize) -> Vec<u8> {
    let mut bytes = vec![0; 12 + icv.min(1008) / 4 * 4];
    bytes[0] = next_header;
    bytes[1] = (bytes.len() / 4 - 2) as u8;
    bytes[7] = 1;
    bytes[11] = 1;
    bytes
}

/// A UDP datagram in an IP packet of the family of its addresses; `None` when they are of two.
pub fn udp_packet(
    source: core::net::SocketAddr,
    destination: core::net::SocketAddr,
    payload: &[u8],
) -> Option<Vec<u8>> {
    use core::net::IpAddr::{V4, V6};
    let ports = (source.port(), destination.port());
    match (source.ip(), destination.ip()) {
        (V4(source), V4(destination)) => {
            let ip = Ipv4Spec::new(source, destination, protocol::UDP);
            Some(ip.packet(&udp(ip.address_sum(), ports.0, ports.1, payload)))
        }
        (V6(source), V6(destination)) => {
            let ip = Ipv6Spec::new(source, destination, protocol::UDP);
            Some(ip.packet(&udp(ip.address_sum(), ports.0, ports.1, payload)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::{Ipv4, Ipv6, Udp};

    #[test]
    fn emit_refuses_what_does_not_fit() {
        let ip = Ipv4Spec::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 17);
        assert_eq!(ip.emit(&mut [0; 27], 8), Err(HeaderError::Truncated));
        assert_eq!(ip.emit(&mut [0; 28], 8), Ok(20));
        assert_eq!(ip.emit(&mut [0; 28], 65516), Err(HeaderError::BadTotalLength));
        let ip = Ipv6Spec::new("::1".parse().unwrap(), "::2".parse().unwrap(), 17);
        assert_eq!(ip.emit(&mut [0; 47], 8), Err(HeaderError::Truncated));
        assert_eq!(ip.emit(&mut [0; 48], 65536), Err(HeaderError::BadTotalLength));
        assert_eq!(emit_ethernet(&mut [0; 13], [0; 6], [0; 6], &[], 0x0800), Err(HeaderError::Truncated));
    }

    #[test]
    fn the_largest_packets() {
        let huge = vec![7; 70_000];
        let ip = Ipv4Spec { options: vec![1; 99], ..Ipv4Spec::new([1; 4].into(), [2; 4].into(), 17) };
        let bytes = ip.packet(&huge);
        assert_eq!((bytes.len(), Ipv4::parse(&bytes).unwrap().header_len()), (65535, 60));
        let ip = Ipv6Spec::new("::1".parse().unwrap(), "::2".parse().unwrap(), 17);
        assert_eq!(Ipv6::parse(&ip.packet(&huge)).unwrap().payload().len(), 65535);
        assert_eq!(Udp::parse(&udp(Sum::ZERO, 1, 2, &huge)).unwrap().length(), 65535);
        assert_eq!(auth(17, 5000).len(), 1020);
        assert_eq!(extension(17, 255).len(), 2048);
    }

    #[test]
    fn a_datagram_needs_one_family() {
        let v4 = "192.0.2.1:5".parse().unwrap();
        let v6 = "[2001:db8::1]:6".parse().unwrap();
        assert!(udp_packet(v4, v6, b"x").is_none());
        let bytes = udp_packet(v6, v6, b"x").unwrap();
        let view = Ipv6::parse(&bytes).unwrap();
        let udp = Udp::parse(view.payload()).unwrap();
        assert_eq!(udp.verify_checksum(view.address_sum()), Ok(()));
        assert_eq!(Ipv4::parse(&udp_packet(v4, v4, b"x").unwrap()).unwrap().payload().len(), 9);
    }
}
