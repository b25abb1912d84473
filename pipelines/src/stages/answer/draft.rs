//! How an answer is written: its headers made beside the packet, then put ahead of what it quotes, or in the packet's place.

use super::told::{LONGEST_LINK, Told, segment_v6};
use super::{Answer, LONGEST_V6};
use crate::snapshot::PortFacts;
use zsync_packet::burst::{Burst, Facts};
use zsync_packet::checksum::Sum;
use zsync_packet::header::build::{Ipv4Spec, Ipv6Spec};
use zsync_packet::header::{Ipv4, Ipv6, Tcp, TcpFlags, icmp, icmpv6, protocol};

/// Longest IPv4 packet that carries an error (RFC 1812 §4.3.2.3).
const LONGEST_V4: usize = 576;
/// Precedence 6, "internetwork control", and no type of service (RFC 1812 §4.3.2.5).
const PRECEDENCE: u8 = 6 << 5;
/// Longest header that an answer puts in place of a packet, or ahead of it: IPv6 and TCP.
const LONGEST_HEAD: usize = 60;

/// An answer before it is written.
pub(super) struct Draft {
    /// IP header and what follows it, in the first `len` bytes.
    head: [u8; LONGEST_HEAD],
    len: usize,
    /// Bytes of the packet that follow the head.
    quoted: usize,
    version: u8,
    protocol: u8,
}

impl Draft {
    pub(super) fn of(told: &Told<'_>, answer: Answer, from: &PortFacts, identification: u16) -> Option<Self> {
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
    pub(super) fn put(&self, burst: &mut Burst, i: usize, l3: usize) -> Option<()> {
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
        // Who tracks flows forgets the one that the packet would have begun, so that stays known.
        let flow = burst.facts(i).flow;
        *burst.facts_mut(i) = Facts {
            l3: l3 as u16,
            l4: l4 as u16,
            version: self.version,
            protocol: self.protocol,
            answered: true,
            flow,
            ..Facts::default()
        };
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
    // The host is not told by itself: whom it wanted to reach says it.
    let own = from.v4.filter(|own| !from.of_host || *own != ip.source());
    let source = own.unwrap_or(ip.destination());
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
    Some(Draft { head, len: HEAD, quoted: quote.len(), version: 4, protocol: protocol::ICMP })
}

fn error_v6(
    ip: &Ipv6<'_>,
    packet: &[u8],
    (kind, code, word): (u8, u8, [u8; 4]),
    from: &PortFacts,
) -> Option<Draft> {
    const HEAD: usize = 48;
    // The host is not told by itself: whom it wanted to reach says it.
    let own = from.v6.filter(|own| !from.of_host || *own != ip.source());
    let source = own.unwrap_or(ip.destination());
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
    Some(Draft { head, len: HEAD, quoted: quote.len(), version: 6, protocol: protocol::ICMPV6 })
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
    Some(Draft { head, len: 40, quoted: 0, version: 4, protocol: protocol::TCP })
}

fn reset_v6(ip: &Ipv6<'_>) -> Option<Draft> {
    let tcp = segment_v6(ip)?;
    let (source, destination) = (ip.destination(), ip.source());
    let spec = Ipv6Spec::new(source, destination, protocol::TCP);
    let mut head = [0; LONGEST_HEAD];
    head.get_mut(40..60)?
        .copy_from_slice(&reset(&tcp, Sum::pseudo_v6(source, destination, protocol::TCP, 20)));
    emit_v6(&spec, &mut head, 20)?;
    Some(Draft { head, len: 60, quoted: 0, version: 6, protocol: protocol::TCP })
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
