//! One packet as the kernel left it, cut into the packets that it stands for: segments of TCP, datagrams of UDP, or itself.
//!
//! Owns: what the [header](super::Header) promises of a packet, checked against the packet, and how far it has been cut. Pure:
//! no device, no frames. Refuses (see [`SplitError`]) what the two do not agree on; nothing of such a packet comes out. Keeps
//! true: what comes out is what the kernel's own segmentation makes of it (`inet_gso_segment`, `tcp_gso_segment`,
//! `__udp_gso_segment`), each with its checksums filled in.

use super::{DATA_VALID, GSO_ECN, GSO_NONE, GSO_TCP_V4, GSO_TCP_V6, GSO_UDP, Header, NEEDS_CHECKSUM};
use zsync_packet::checksum::{self, Sum};
use zsync_packet::crc;
use zsync_packet::header::{Ipv4, Ipv6, Tcp, TcpFlags, TcpMut, Udp, UdpMut, ipv6, protocol, udp};

/// Where the checksum lies in SCTP's header, and in no other one's whose checksum the kernel leaves to a NIC: TCP has it at 16, UDP, UDP-Lite
/// and DCCP at 6, GRE at 4, ICMPv6 at 2. The header of virtio does not say which sum is meant (`virtio_net_hdr_from_skb`).
const SCTP_CHECKSUM: usize = 8;

/// Why a packet and its header do not fit each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// No IP, or headers that are cut off or do not say how long the packet is.
    #[error("the packet's own headers are not whole")]
    Packet,
    /// Other than TCP over the IP that it names, or UDP; or a fragment.
    #[error("the packet is not of the kind that is to be cut")]
    Kind,
    /// Pieces of no bytes, or of more than a frame or the port's MTU has room for.
    #[error("the pieces have a length that none can have")]
    Size,
    /// The checksum lies elsewhere, or its field has no pseudo-header's sum.
    #[error("the checksum is not where it must be")]
    Checksum,
}

/// A packet that is being cut. It knows the bytes, but whoever has them brings them each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    len: usize,
    made: Made,
    done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    /// One packet, with the sum from the first number on to be written at the second.
    Whole(Option<(usize, usize)>),
    Pieces(Pieces),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pieces {
    is_v6: bool,
    is_tcp: bool,
    /// The addresses' part of the pseudo-header.
    addresses: Sum,
    /// Where the transport header and the payload begin.
    transport: usize,
    payload: usize,
    /// Bytes of payload in a piece, how many pieces came out already, and how much payload in them.
    size: usize,
    count: u16,
    taken: usize,
}

impl Cut {
    /// Checks `header` against `packet`, no piece of which may be longer than `longest`.
    ///
    /// # Errors
    /// They do not fit each other.
    pub fn new(header: &Header, packet: &[u8], longest: usize) -> Result<Self, SplitError> {
        let len = packet.len();
        if !matches!(packet.first().map(|first| first >> 4), Some(4 | 6)) || usize::from(header.headers) > len
        {
            return Err(SplitError::Packet);
        }
        let made = match header.gso {
            GSO_NONE if len > longest => return Err(SplitError::Size),
            GSO_NONE if header.flags & NEEDS_CHECKSUM != 0 => {
                let start = usize::from(header.start);
                let at = start + usize::from(header.offset);
                if at + 2 > len {
                    return Err(SplitError::Checksum);
                }
                Made::Whole(Some((start, at)))
            }
            GSO_NONE => Made::Whole(None),
            _ => Made::Pieces(Pieces::new(header, packet, longest)?),
        };
        Ok(Self { len, made, done: false })
    }

    /// Whether it is more than one packet.
    pub fn is_split(&self) -> bool {
        matches!(&self.made, Made::Pieces(pieces) if pieces.size < self.len - pieces.payload)
    }

    /// Whether all came out.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Writes the next packet to the front of `out`; its length. `packet` is the one that this was made of. `None` when all came
    /// out, or `out` is too short.
    #[inline]
    pub fn next(&mut self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        if self.done || packet.len() != self.len {
            return None;
        }
        match &mut self.made {
            Made::Whole(sum) => {
                self.done = true;
                let out = out.get_mut(..packet.len())?;
                out.copy_from_slice(packet);
                if let Some((start, at)) = *sum {
                    complete(out, start, at)?;
                }
                Some(packet.len())
            }
            Made::Pieces(pieces) => {
                let len = pieces.next(packet, out);
                self.done = len.is_none() || pieces.payload + pieces.taken >= packet.len();
                len
            }
        }
    }
}

impl Pieces {
    fn new(header: &Header, packet: &[u8], longest: usize) -> Result<Self, SplitError> {
        let is_v6 = packet.first().is_some_and(|first| first >> 4 == 6);
        let (protocol, segment, addresses) = upper(packet, is_v6)?;
        let transport = packet.len() - segment.len();
        let (is_tcp, headers, field, at) = match (header.gso & !GSO_ECN, is_v6, protocol) {
            (GSO_TCP_V4, false, protocol::TCP) | (GSO_TCP_V6, true, protocol::TCP) => {
                let tcp = Tcp::parse(segment).map_err(|_| SplitError::Packet)?;
                if tcp.flags().intersects(TcpFlags::SYN.union(TcpFlags::RST)) {
                    return Err(SplitError::Kind);
                }
                (true, tcp.header_len(), tcp.checksum(), 16)
            }
            (GSO_UDP, _, protocol::UDP) if header.gso == GSO_UDP => {
                let udp = Udp::parse(segment).map_err(|_| SplitError::Packet)?;
                if usize::from(udp.length()) != segment.len() {
                    return Err(SplitError::Packet);
                }
                (false, udp::HEADER_LEN, udp.checksum(), 6)
            }
            _ => return Err(SplitError::Kind),
        };
        let (size, payload) = (usize::from(header.size), transport + headers);
        let body = packet.len() - payload;
        if size == 0 || body == 0 || payload + size.min(body) > longest {
            return Err(SplitError::Size);
        }
        let pseudo = match is_v6 {
            // The length's upper half is zero: the packet has at most 65,575 bytes.
            _ if header.flags & NEEDS_CHECKSUM == 0 => None,
            _ => Some(addresses.with_u16(protocol.into()).with_u16(segment.len() as u16)),
        };
        let is_right = match pseudo {
            // The field and its complement add up to what is always valid.
            Some(sum) => {
                usize::from(header.start) == transport
                    && header.offset == at
                    && sum.with_u16(!field).is_valid()
            }
            None => header.flags & DATA_VALID != 0,
        };
        if !is_right {
            return Err(SplitError::Checksum);
        }
        Ok(Self { is_v6, is_tcp, addresses, transport, payload, size, count: 0, taken: 0 })
    }

    #[inline]
    fn next(&mut self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        let headers = packet.get(..self.payload)?;
        let rest = packet.get(self.payload + self.taken..)?;
        let body = rest.get(..self.size.min(rest.len()))?;
        let (len, is_last) = (headers.len() + body.len(), body.len() == rest.len());
        let out = out.get_mut(..len)?;
        let (head, tail) = out.split_at_mut_checked(headers.len())?;
        head.copy_from_slice(headers);
        tail.copy_from_slice(body);
        let (ip, segment) = out.split_at_mut_checked(self.transport)?;
        self.write_ip(ip, segment.len())?;
        if self.is_tcp {
            let (fixed, _) = segment.split_first_chunk_mut::<20>()?;
            let [_, _, _, _, a, b, c, d, .., _, flags, _, _, _, _, _, _] = fixed;
            // RFC 9293 §3.4: numbers wrap.
            let number = u32::from_be_bytes([*a, *b, *c, *d]).wrapping_add(self.taken as u32);
            [*a, *b, *c, *d] = number.to_be_bytes();
            // RFC 3168 §6.1.2: the first packet says it.
            if self.count > 0 {
                *flags &= !TcpFlags::CWR.0;
            }
            if !is_last {
                *flags &= !TcpFlags::FIN.union(TcpFlags::PSH).0;
            }
            TcpMut::parse(segment).ok()?.fill_checksum(self.addresses);
        } else {
            let length = (segment.len() as u16).to_be_bytes();
            segment.get_mut(4..6)?.copy_from_slice(&length);
            UdpMut::parse(segment).ok()?.fill_checksum(self.addresses);
        }
        self.taken += body.len();
        self.count = self.count.wrapping_add(1);
        Some(len)
    }

    /// The lengths of this piece; of IPv4 also its number among all of its kind, which goes on by one (`inet_gso_segment`).
    #[inline]
    fn write_ip(&self, ip: &mut [u8], segment: usize) -> Option<()> {
        if self.is_v6 {
            // The cast keeps all: `longest` was held.
            let length = (ip.len() - ipv6::HEADER_LEN + segment) as u16;
            ip.get_mut(4..6)?.copy_from_slice(&length.to_be_bytes());
            return Some(());
        }
        let length = ((ip.len() + segment) as u16).to_be_bytes();
        let [_, _, a, b, c, d, ..] = ip else { return None };
        [*a, *b] = length;
        [*c, *d] = u16::from_be_bytes([*c, *d]).wrapping_add(self.count).to_be_bytes();
        ip.get_mut(10..12)?.fill(0);
        let sum = checksum::of(ip).to_be_bytes();
        ip.get_mut(10..12)?.copy_from_slice(&sum);
        Some(())
    }
}

/// Fills the checksum at `at` in: that of the bytes from `start` on, where the field has the pseudo-header's sum; or SCTP's. `None`: it is
/// not there.
#[inline]
pub(crate) fn complete(packet: &mut [u8], start: usize, at: usize) -> Option<()> {
    if at == start + SCTP_CHECKSUM {
        return complete_sctp(packet.get_mut(start..)?);
    }
    // As the kernel (`skb_checksum_help`): never zero, which UDP reads as none.
    let sum = Sum::of(packet.get(start..)?).finish_udp();
    packet.get_mut(at..at + 2)?.copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// The same of SCTP, whose sum is another one and has no pseudo-header (`skb_crc32c_csum_help`).
#[cold]
fn complete_sctp(datagram: &mut [u8]) -> Option<()> {
    let at = SCTP_CHECKSUM..SCTP_CHECKSUM + 4;
    datagram.get_mut(at.clone())?.fill(0);
    let sum = crc::of(datagram).to_le_bytes();
    datagram.get_mut(at)?.copy_from_slice(&sum);
    Some(())
}

/// The transport protocol, its bytes up to the packet's end, and the addresses' sum.
fn upper(packet: &[u8], is_v6: bool) -> Result<(u8, &[u8], Sum), SplitError> {
    let (protocol, segment, addresses, is_fragment, len) = if is_v6 {
        let ip = Ipv6::parse(packet).map_err(|_| SplitError::Packet)?;
        let upper = ip.upper().map_err(|_| SplitError::Packet)?;
        let len = ipv6::HEADER_LEN + usize::from(ip.payload_len());
        (upper.protocol(), upper.payload(), ip.address_sum(), upper.is_fragment(), len)
    } else {
        let ip = Ipv4::parse(packet).map_err(|_| SplitError::Packet)?;
        (ip.protocol(), ip.payload(), ip.address_sum(), ip.is_fragment(), usize::from(ip.total_len()))
    };
    match (is_fragment, len == packet.len()) {
        (_, false) => Err(SplitError::Packet),
        (true, _) => Err(SplitError::Kind),
        _ => Ok((protocol, segment, addresses)),
    }
}

#[cfg(test)]
mod tests;
