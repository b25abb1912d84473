//! A packet turned, where it lies, into what its sender is told of it: an ICMP error or a TCP reset.
//!
//! Owns the rules of RFC 792, 1122 §3.2.2, 1812 §4.3.2, 4443 §2.4 and 9293 §3.5.2. Refuses what none may be sent for: ICMP
//! errors and ICMP of unknown kinds, resets for resets, later fragments, whatever went to or came from a group or nobody. So
//! **answers to answers do not go on**. Keeps true: an answer is no longer than 576 bytes (IPv4) or 1280 (IPv6), all its checksums are right,
//! and it leaves by the port that the packet came in by, for the station that sent it: no route is asked, which somebody
//! who forges addresses could choose. How many leave a second, [`Limits`] says.
//!
//! The quoted packet is as it lies there, so a stage asks for the answer before it changes the packet.

mod limits;

pub use limits::Limits;

use crate::snapshot::PortFacts;
use crate::stage::Cx;
use limits::Class;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zsync_packet::burst::{Burst, Facts};
use zsync_packet::checksum::Sum;
use zsync_packet::flow::FlowKey;
use zsync_packet::header::build::{Ipv4Spec, Ipv6Spec};
use zsync_packet::header::{Icmp, Icmpv6, Ipv4, Ipv6, Tcp, TcpFlags, ethernet, icmp, icmpv6, ipv6, protocol};
use zsync_packet::verdict::{DropReason, Verdict};

/// What the sender of a packet is told. The numbers are ICMP's type and code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Its time to live, or hop limit, was used up here: 11/0; ICMPv6 3/0.
    TimeExceeded,
    /// There is no route to its destination: 3/0; ICMPv6 1/0.
    NoRoute,
    /// Its destination cannot be reached: 3/1; ICMPv6 1/3.
    HostUnreachable,
    /// Nobody listens there: 3/3; ICMPv6 1/4.
    PortUnreachable,
    /// Somebody forbade it: 3/13; ICMPv6 1/1.
    Prohibited,
    /// It is longer than what fits further on, and may not be taken apart: 3/4; ICMPv6 2/0.
    TooBig {
        /// The longest IP packet that fits, in bytes; never said to be under 1280 for IPv6 (RFC 8200 §5).
        mtu: u32,
    },
    /// A field of its header is wrong: 12/0; ICMPv6 4/0.
    BadHeader {
        /// Where, in bytes from the IP header's first.
        pointer: u8,
    },
    /// Its connection is refused: a TCP reset. Nothing but TCP gets one.
    Reset,
}

/// Longest IPv4 packet that carries an error (RFC 1812 §4.3.2.3).
const LONGEST_V4: usize = 576;
/// Longest IPv6 packet that carries an error: what every link takes (RFC 4443 §2.4(c)).
const LONGEST_V6: usize = 1280;
/// Precedence 6, "internetwork control", and no type of service (RFC 1812 §4.3.2.5).
const PRECEDENCE: u8 = 6 << 5;
/// Longest header that an answer puts in place of a packet, or ahead of it: IPv6 and TCP.
const LONGEST_HEAD: usize = 60;
/// Longest Ethernet header: two tags.
const LONGEST_LINK: usize = ethernet::HEADER_LEN + ethernet::MAX_TAGS * ethernet::TAG_LEN;

/// Turns packet `i` into its answer, and says what is to become of it: [`Verdict::Transmit`] by the port that it came in by,
/// or [`Verdict::Drop`] for `otherwise` when it may have no answer, or too many were sent lately.
///
/// An ICMP error comes from the address of `from`, the port that the packet came in by; where that has none of its family,
/// from the packet's destination, as an in-line filter answers. A reset always comes from the destination. `from` also bounds
/// an IPv4 error by its MTU.
#[cold]
pub fn reply(
    burst: &mut Burst,
    i: usize,
    answer: Answer,
    from: &PortFacts,
    otherwise: DropReason,
    cx: &mut Cx<'_>,
) -> Verdict {
    let port = burst.port(i);
    let l3 = usize::from(burst.facts(i).l3);
    let Some(told) = Told::of(burst.bytes(i), l3, answer) else { return Verdict::Drop(otherwise) };
    let now = cx.now;
    let identification = match cx.limits() {
        Some(limits) => match limits.take(now, answer.class(), told.sender()) {
            Some(identification) => identification,
            None => return Verdict::Drop(otherwise),
        },
        None => 0,
    };
    let Some(draft) = Draft::of(&told, answer, from, identification) else { return Verdict::Drop(otherwise) };
    match draft.put(burst, i, l3) {
        Some(()) => Verdict::Transmit(port),
        None => Verdict::Drop(DropReason::NoHeadroom),
    }
}

impl Answer {
    /// The stations that forward ask to be told sizes, and clients wait for resets: neither may be starved by other errors.
    fn class(self) -> Class {
        match self {
            Self::TooBig { .. } => Class::Size,
            Self::Reset => Class::Reset,
            _ => Class::Error,
        }
    }

    /// Type and code, and the word behind the checksum; `None` for a reset.
    fn icmp(self) -> Option<(u8, u8, [u8; 4])> {
        Some(match self {
            Self::TimeExceeded => (icmp::TIME_EXCEEDED, 0, [0; 4]),
            Self::NoRoute => (icmp::UNREACHABLE, 0, [0; 4]),
            Self::HostUnreachable => (icmp::UNREACHABLE, 1, [0; 4]),
            Self::PortUnreachable => (icmp::UNREACHABLE, 3, [0; 4]),
            Self::Prohibited => (icmp::UNREACHABLE, 13, [0; 4]),
            Self::TooBig { mtu } => {
                let [a, b] = u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes();
                (icmp::UNREACHABLE, 4, [0, 0, a, b])
            }
            Self::BadHeader { pointer } => (icmp::PARAMETER_PROBLEM, 0, [pointer, 0, 0, 0]),
            Self::Reset => return None,
        })
    }

    /// As [`Self::icmp`], for ICMPv6.
    fn icmpv6(self) -> Option<(u8, u8, [u8; 4])> {
        Some(match self {
            Self::TimeExceeded => (icmpv6::TIME_EXCEEDED, 0, [0; 4]),
            Self::NoRoute => (icmpv6::UNREACHABLE, 0, [0; 4]),
            Self::HostUnreachable => (icmpv6::UNREACHABLE, 3, [0; 4]),
            Self::PortUnreachable => (icmpv6::UNREACHABLE, 4, [0; 4]),
            Self::Prohibited => (icmpv6::UNREACHABLE, 1, [0; 4]),
            Self::TooBig { mtu } => (icmpv6::PACKET_TOO_BIG, 0, mtu.max(LONGEST_V6 as u32).to_be_bytes()),
            Self::BadHeader { pointer } => (icmpv6::PARAMETER_PROBLEM, 0, [0, 0, 0, pointer]),
            Self::Reset => return None,
        })
    }
}

/// A packet whose sender may be told something.
enum Told<'a> {
    V4 { ip: Ipv4<'a>, packet: &'a [u8] },
    V6 { ip: Ipv6<'a>, packet: &'a [u8] },
}

impl<'a> Told<'a> {
    /// The packet from `l3` on, unless its sender must not get this answer.
    fn of(bytes: &'a [u8], l3: usize, answer: Answer) -> Option<Self> {
        let (link, packet) = bytes.split_at_checked(l3)?;
        // An Ethernet header, tags and all, between stations: what went to a group is answered by nobody (RFC 1122 §3.2.2).
        if !(ethernet::HEADER_LEN..=LONGEST_LINK).contains(&l3)
            || link.first()? & 1 != 0
            || link.get(6)? & 1 != 0
        {
            return None;
        }
        match packet.first()? >> 4 {
            4 => {
                let ip = Ipv4::parse(packet).ok()?;
                let packet = packet.get(..usize::from(ip.total_len()))?;
                (may_tell_v4(&ip) && (answer != Answer::Reset || may_reset_v4(&ip)))
                    .then_some(Self::V4 { ip, packet })
            }
            6 => {
                let ip = Ipv6::parse(packet).ok()?;
                let packet = packet.get(..ipv6::HEADER_LEN + usize::from(ip.payload_len()))?;
                (may_tell_v6(&ip) && (answer != Answer::Reset || may_reset_v6(&ip)))
                    .then_some(Self::V6 { ip, packet })
            }
            _ => None,
        }
    }

    fn sender(&self) -> IpAddr {
        match self {
            Self::V4 { ip, .. } => ip.source().into(),
            Self::V6 { ip, .. } => ip.source().into(),
        }
    }
}

/// RFC 1122 §3.2.2, RFC 1812 §4.3.2.7.
fn may_tell_v4(ip: &Ipv4<'_>) -> bool {
    let is_station = |address: Ipv4Addr| !matches!(address.octets(), [0 | 127 | 224..=255, ..]);
    is_station(ip.source())
        && is_station(ip.destination())
        && ip.begins_transport()
        // Kinds that are neither a question nor an answer to one may be errors that we do not know.
        && (ip.protocol() != protocol::ICMP
            || Icmp::parse(ip.payload()).is_ok_and(|message| matches!(message.kind(), 0 | 8 | 13..=18)))
}

/// RFC 4443 §2.4(e).
fn may_tell_v6(ip: &Ipv6<'_>) -> bool {
    let is_station = |address: Ipv6Addr| {
        !address.is_multicast()
            && !address.is_unspecified()
            && !address.is_loopback()
            && address.to_ipv4_mapped().is_none()
    };
    if !is_station(ip.source()) || !is_station(ip.destination()) {
        return false;
    }
    // What cannot be walked may hide an error.
    let Ok(upper) = ip.upper() else { return false };
    match upper.protocol() {
        protocol::ICMPV6 if upper.begins_transport() => Icmpv6::parse(upper.payload())
            .is_ok_and(|message| !message.is_error() && message.kind() != icmpv6::REDIRECT),
        // A later part of an error, perhaps behind more extension headers.
        protocol::ICMPV6
        | protocol::HOP_BY_HOP
        | protocol::ROUTING
        | protocol::AUTH
        | protocol::DESTINATION_OPTIONS => false,
        _ => true,
    }
}

/// A whole TCP segment, undamaged, that is no reset. Of a part, the length is not known, which a reset acknowledges.
fn may_reset_v4(ip: &Ipv4<'_>) -> bool {
    ip.protocol() == protocol::TCP
        && !ip.is_fragment()
        && Tcp::parse(ip.payload()).is_ok_and(|tcp| may_reset(&tcp, ip.address_sum()))
}

/// As [`may_reset_v4`].
fn may_reset_v6(ip: &Ipv6<'_>) -> bool {
    segment_v6(ip).is_some_and(|tcp| may_reset(&tcp, ip.address_sum()))
}

fn may_reset(tcp: &Tcp<'_>, addresses: Sum) -> bool {
    !tcp.flags().contains(TcpFlags::RST) && tcp.verify_checksum(addresses).is_ok()
}

fn segment_v6<'a>(ip: &Ipv6<'a>) -> Option<Tcp<'a>> {
    let upper = ip.upper().ok().filter(|upper| upper.protocol() == protocol::TCP && !upper.is_fragment())?;
    Tcp::parse(upper.payload()).ok()
}

/// An answer before it is written.
struct Draft {
    /// IP header and what follows it, in the first `len` bytes.
    head: [u8; LONGEST_HEAD],
    len: usize,
    /// Bytes of the packet that follow the head.
    quoted: usize,
    version: u8,
    protocol: u8,
    key: FlowKey,
}

impl Draft {
    fn of(told: &Told<'_>, answer: Answer, from: &PortFacts, identification: u16) -> Option<Self> {
        match told {
            Told::V4 { ip, packet } => match answer.icmp() {
                Some(message) => error_v4(ip, packet, message, from, identification),
                None => reset_v4(ip),
            },
            Told::V6 { ip, packet } => match answer.icmpv6() {
                Some(message) => error_v6(ip, packet, message, from),
                None => reset_v6(ip),
            },
        }
    }

    /// Writes it in place of the packet, or ahead of what it quotes. `None`, and nothing is changed, when there is no room.
    fn put(&self, burst: &mut Burst, i: usize, l3: usize) -> Option<()> {
        let head = self.head.get(..self.len)?;
        let mut link = [0; LONGEST_LINK];
        let link = link.get_mut(..l3)?;
        link.copy_from_slice(burst.bytes(i).get(..l3)?);
        let (stations, _) = link.split_first_chunk_mut::<12>()?;
        stations.rotate_left(6);
        // What replaces the packet is no longer than it was: its TCP header alone has 20 bytes.
        let bytes = if self.quoted > 0 { burst.prepend(i, self.len)? } else { burst.bytes_mut(i) };
        bytes.get_mut(..l3)?.copy_from_slice(link);
        bytes.get_mut(l3..l3 + self.len)?.copy_from_slice(head);
        burst.set_len(i, l3 + self.len + self.quoted);
        let l4 = l3 + self.len - if self.protocol == protocol::TCP { 20 } else { icmp::HEADER_LEN };
        *burst.facts_mut(i) = Facts {
            l3: l3 as u16,
            l4: l4 as u16,
            version: self.version,
            protocol: self.protocol,
            ..Facts::default()
        };
        burst.set_key(i, self.key);
        Some(())
    }
}

fn error_v4(
    ip: &Ipv4<'_>,
    packet: &[u8],
    (kind, code, word): (u8, u8, [u8; 4]),
    from: &PortFacts,
    identification: u16,
) -> Option<Draft> {
    const HEAD: usize = 28;
    // No link that carries IPv4 takes less than 68 bytes (RFC 791 §3.2).
    let longest = LONGEST_V4.min(from.mtu.max(68) as usize);
    let source = from.v4.unwrap_or(ip.destination());
    if source == ip.source() {
        return None;
    }
    let quote = packet.get(..packet.len().min(longest - HEAD))?;
    let spec =
        Ipv4Spec { tos: PRECEDENCE, identification, ..Ipv4Spec::new(source, ip.source(), protocol::ICMP) };
    let mut head = [0; LONGEST_HEAD];
    let message = message(kind, code, word, Sum::ZERO, quote);
    head.get_mut(20..HEAD)?.copy_from_slice(&message);
    emit_v4(&spec, &mut head, icmp::HEADER_LEN + quote.len())?;
    let key = FlowKey::v4((source, 0), (ip.source(), 0), protocol::ICMP);
    Some(Draft { head, len: HEAD, quoted: quote.len(), version: 4, protocol: protocol::ICMP, key })
}

fn error_v6(
    ip: &Ipv6<'_>,
    packet: &[u8],
    (kind, code, word): (u8, u8, [u8; 4]),
    from: &PortFacts,
) -> Option<Draft> {
    const HEAD: usize = 48;
    let source = from.v6.unwrap_or(ip.destination());
    if source == ip.source() {
        return None;
    }
    let quote = packet.get(..packet.len().min(LONGEST_V6 - HEAD))?;
    let spec = Ipv6Spec::new(source, ip.source(), protocol::ICMPV6);
    let len = icmpv6::HEADER_LEN + quote.len();
    let pseudo = Sum::pseudo_v6(source, ip.source(), protocol::ICMPV6, len as u32);
    let mut head = [0; LONGEST_HEAD];
    let message = message(kind, code, word, pseudo, quote);
    head.get_mut(40..HEAD)?.copy_from_slice(&message);
    emit_v6(&spec, &mut head, len)?;
    let key = FlowKey::v6((source, 0), (ip.source(), 0), protocol::ICMPV6);
    Some(Draft { head, len: HEAD, quoted: quote.len(), version: 6, protocol: protocol::ICMPV6, key })
}

/// The 8 bytes of a message ahead of what it quotes.
fn message(kind: u8, code: u8, [a, b, c, d]: [u8; 4], pseudo: Sum, quote: &[u8]) -> [u8; 8] {
    let [hi, lo] =
        (pseudo + Sum::of(&[kind, code, 0, 0, a, b, c, d]) + Sum::of(quote)).finish().to_be_bytes();
    [kind, code, hi, lo, a, b, c, d]
}

fn reset_v4(ip: &Ipv4<'_>) -> Option<Draft> {
    let tcp = Tcp::parse(ip.payload()).ok()?;
    let (source, destination) = (ip.destination(), ip.source());
    let spec = Ipv4Spec { dont_fragment: true, ..Ipv4Spec::new(source, destination, protocol::TCP) };
    let mut head = [0; LONGEST_HEAD];
    head.get_mut(20..40)?
        .copy_from_slice(&reset(&tcp, Sum::pseudo_v4(source, destination, protocol::TCP, 20)));
    emit_v4(&spec, &mut head, 20)?;
    let key = FlowKey::v4((source, tcp.destination_port()), (destination, tcp.source_port()), protocol::TCP);
    Some(Draft { head, len: 40, quoted: 0, version: 4, protocol: protocol::TCP, key })
}

fn reset_v6(ip: &Ipv6<'_>) -> Option<Draft> {
    let tcp = segment_v6(ip)?;
    let (source, destination) = (ip.destination(), ip.source());
    let spec = Ipv6Spec::new(source, destination, protocol::TCP);
    let mut head = [0; LONGEST_HEAD];
    head.get_mut(40..60)?
        .copy_from_slice(&reset(&tcp, Sum::pseudo_v6(source, destination, protocol::TCP, 20)));
    emit_v6(&spec, &mut head, 20)?;
    let key = FlowKey::v6((source, tcp.destination_port()), (destination, tcp.source_port()), protocol::TCP);
    Some(Draft { head, len: 60, quoted: 0, version: 6, protocol: protocol::TCP, key })
}

/// The segment that resets (RFC 9293 §3.5.2): it has the number that the other end expects, if that said one; else it
/// acknowledges all that came.
fn reset(tcp: &Tcp<'_>, pseudo: Sum) -> [u8; 20] {
    let (sequence, acknowledgement, flags) = if tcp.flags().contains(TcpFlags::ACK) {
        (tcp.acknowledgement(), 0, TcpFlags::RST)
    } else {
        (0, tcp.sequence().wrapping_add(tcp.sequence_len()), TcpFlags::RST.union(TcpFlags::ACK))
    };
    let mut segment = [0; 20];
    segment[0..2].copy_from_slice(&tcp.destination_port().to_be_bytes());
    segment[2..4].copy_from_slice(&tcp.source_port().to_be_bytes());
    segment[4..8].copy_from_slice(&sequence.to_be_bytes());
    segment[8..12].copy_from_slice(&acknowledgement.to_be_bytes());
    segment[12] = 5 << 4;
    segment[13] = flags.0;
    let checksum = (pseudo + Sum::of(&segment)).finish();
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    segment
}

/// Writes the IPv4 header of a packet of which only the first bytes lie in `head`.
fn emit_v4(spec: &Ipv4Spec, head: &mut [u8; LONGEST_HEAD], payload: usize) -> Option<()> {
    // `emit` wants the payload beside the header; a header alone has the same bytes but for its length.
    let mut fixed = [0; 20];
    spec.emit(&mut fixed, 0).ok()?;
    fixed[2..4].copy_from_slice(&u16::try_from(20 + payload).ok()?.to_be_bytes());
    fixed[10..12].fill(0);
    let checksum = Sum::of(&fixed).finish();
    fixed[10..12].copy_from_slice(&checksum.to_be_bytes());
    head.get_mut(..20)?.copy_from_slice(&fixed);
    Some(())
}

/// As [`emit_v4`].
fn emit_v6(spec: &Ipv6Spec, head: &mut [u8; LONGEST_HEAD], payload: usize) -> Option<()> {
    spec.emit(head, 0).ok()?;
    head.get_mut(4..6)?.copy_from_slice(&u16::try_from(payload).ok()?.to_be_bytes());
    Some(())
}

#[cfg(test)]
mod tests;
