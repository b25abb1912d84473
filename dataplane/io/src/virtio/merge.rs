//! Which packets of a burst leave as one: runs of consecutive segments of one TCP flow, and of equal datagrams of one UDP flow.
//!
//! Owns: the table of runs, of a fixed size, and the header that a run leaves behind. Pure: packets are slices, and stay as they
//! are. Refuses to join what would not come apart as it was: another acknowledgement, window, flag, option, traffic class, hop limit or
//! flow label; numbers with a gap; lengths that differ; and what has a wrong checksum, for the kernel would give it a right one.
//! Keeps true: runs are in the order of their first packets, and no packet of a flow is in an earlier run than one that came before it;
//! what belongs to no flow that we can tell (fragments, other protocols) is overtaken by nothing.

use super::{GSO_ECN, GSO_TCP_V4, GSO_TCP_V6, GSO_UDP, Header, NEEDS_CHECKSUM};
use zsync_packet::burst::BURST;
use zsync_packet::checksum::{self, Sum};
use zsync_packet::header::{Ipv4, Ipv6, Tcp, TcpFlags, Udp, ipv4, ipv6, protocol, udp};

/// Most bytes of what is merged: what the length field of IPv4 can say.
const LONGEST: usize = u16::MAX as usize;
/// Most bytes of its headers: IPv6, and TCP with all options.
pub const HEADERS: usize = ipv6::HEADER_LEN + 60;
/// Behind the last packet of a run.
const END: u8 = u8::MAX;

/// What a segment may say and still stand behind another one.
const PLAIN: TcpFlags =
    TcpFlags(TcpFlags::ACK.0 | TcpFlags::PSH.0 | TcpFlags::FIN.0 | TcpFlags::ECE.0 | TcpFlags::CWR.0);
/// What only the last segment of a run says.
const LAST: TcpFlags = TcpFlags(TcpFlags::FIN.0 | TcpFlags::PSH.0);

/// What merging asks of one packet.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    flow: u32,
    is_tcp: bool,
    /// Where the transport header and the payload begin.
    transport: u8,
    payload: u8,
    /// Bytes of payload; 0 for what must go alone.
    size: u16,
    sequence: u32,
    flags: TcpFlags,
    identification: u16,
}

/// Packets that leave as one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// What the first packet is.
    part: Part,
    first: u8,
    last: u8,
    count: u8,
    /// Whether another packet may still join, and whether the first one's checksums were found right.
    open: bool,
    verified: bool,
    /// The number that the next segment must have; bytes of all packets as one; flags of the last.
    next: u32,
    bytes: u32,
    closing: TcpFlags,
}

impl Run {
    /// The place of its first packet in the burst.
    pub fn first(&self) -> usize {
        self.first.into()
    }

    /// How many packets it has.
    pub fn count(&self) -> usize {
        self.count.into()
    }

    /// Bytes of headers ahead of the payload, in each of its packets. 0 for a packet that goes alone whatever comes.
    pub fn headers(&self) -> usize {
        self.part.payload.into()
    }
}

/// The runs of one burst.
#[derive(Debug)]
pub struct Runs {
    runs: [Run; BURST],
    len: usize,
    /// Runs below this number are closed: something came that may be of any flow.
    from: usize,
    /// For each packet the next one of its run.
    chain: [u8; BURST],
    /// Whether datagrams may be merged: the kernel knows `VIRTIO_NET_HDR_GSO_UDP_L4` since Linux 6.2.
    udp: bool,
}

impl Runs {
    /// None yet.
    pub fn new(udp: bool) -> Self {
        Self { runs: [Run::default(); BURST], len: 0, from: 0, chain: [END; BURST], udp }
    }

    /// Finds the runs of these IP packets, of which the first [`BURST`] are looked at.
    pub fn find(&mut self, packets: &[&[u8]]) {
        (self.len, self.from) = (0, 0);
        for (i, packet) in packets.iter().enumerate().take(BURST) {
            let part = look(packet, self.udp);
            if self.join(i, part, packets).is_none() {
                self.begin(i, part);
            }
        }
    }

    /// The runs, in the order in which they must leave.
    pub fn iter(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().take(self.len)
    }

    /// The places of a run's packets in the burst, in order.
    pub fn members(&self, run: &Run) -> impl Iterator<Item = usize> {
        let next = |at: &u8| self.chain.get(usize::from(*at)).copied().filter(|next| *next != END);
        std::iter::successors(Some(run.first), next).take(run.count.into()).map(usize::from)
    }

    /// The payloads of a run of several packets, which are among `packets`: without what a frame has behind its packet.
    pub fn payloads<'a>(&self, run: &Run, packets: &[&'a [u8]]) -> impl Iterator<Item = &'a [u8]> {
        let (start, size) = (run.headers(), usize::from(run.part.size));
        let mut rest = (run.bytes as usize).saturating_sub(start);
        self.members(run).filter_map(move |i| {
            let len = size.min(rest);
            rest -= len;
            packets.get(i)?.get(start..start + len)
        })
    }

    fn begin(&mut self, i: usize, part: Option<Part>) {
        let (Some(slot), Some(chain)) = (self.runs.get_mut(self.len), self.chain.get_mut(i)) else { return };
        *chain = END;
        let place = i as u8;
        let run = Run { first: place, last: place, count: 1, ..Run::default() };
        *slot = match part {
            Some(part) => Run {
                part,
                open: part.size > 0 && !part.flags.intersects(LAST),
                next: part.sequence.wrapping_add(u32::from(part.size)),
                bytes: u32::from(part.payload) + u32::from(part.size),
                closing: part.flags,
                ..run
            },
            None => run,
        };
        self.len += 1;
        if part.is_none() {
            self.from = self.len;
        }
    }

    /// Adds packet `i` to the latest run of its flow, if it goes on where that ends.
    #[inline]
    fn join(&mut self, i: usize, part: Option<Part>, packets: &[&[u8]]) -> Option<()> {
        let part = part?;
        let runs = self.runs.get_mut(self.from..self.len)?;
        let run = runs.iter_mut().rev().find(|run| run.part.flow == part.flow)?;
        let (head, packet) = (packets.get(usize::from(run.first))?, packets.get(i)?);
        if part.size == 0 || !run.continues(head, &part, packet) {
            return None;
        }
        // Only now: a packet that has no company needs no sum.
        if !run.verified {
            run.verified = is_right(head, &run.part);
            run.open = run.verified;
        }
        if !run.open || !is_right(packet, &part) {
            return None;
        }
        *self.chain.get_mut(usize::from(run.last))? = i as u8;
        *self.chain.get_mut(i)? = END;
        run.last = i as u8;
        run.count += 1;
        run.next = run.next.wrapping_add(part.size.into());
        run.bytes += u32::from(part.size);
        run.closing = part.flags;
        run.open = part.size == run.part.size && !part.flags.intersects(LAST);
        Some(())
    }
}

impl Run {
    /// Writes the headers of a run of several packets, the first of which is `head`, for the device and for the kernel; the second
    /// one's length in `out`. `None` for a run of one packet.
    pub fn write_headers(&self, head: &[u8], out: &mut [u8; HEADERS]) -> Option<(Header, usize)> {
        let Part { is_tcp, transport, payload, .. } = self.part;
        let (transport, headers, total) = (usize::from(transport), self.headers(), self.bytes as usize);
        let out = out.get_mut(..headers).filter(|_| self.count > 1)?;
        out.copy_from_slice(head.get(..headers)?);
        let (ip, upper) = out.split_at_mut_checked(transport)?;
        let segment = (total - transport) as u16;
        let number = if is_tcp { protocol::TCP } else { protocol::UDP };
        let (addresses, is_v6) = match ip.first().map(|first| first >> 4) {
            Some(4) => {
                ip.get_mut(2..4)?.copy_from_slice(&(total as u16).to_be_bytes());
                ip.get_mut(10..12)?.fill(0);
                let sum = checksum::of(ip).to_be_bytes();
                ip.get_mut(10..12)?.copy_from_slice(&sum);
                (Sum::of(ip.get(12..20)?), false)
            }
            _ => {
                let length = (total - ipv6::HEADER_LEN) as u16;
                ip.get_mut(4..6)?.copy_from_slice(&length.to_be_bytes());
                (Sum::of(ip.get(8..40)?), true)
            }
        };
        // The sum of the pseudo-header, to which the kernel adds the rest.
        let partial = !addresses.with_u16(number.into()).with_u16(segment).finish();
        let (gso, offset) = match (is_tcp, is_v6) {
            (true, false) => (GSO_TCP_V4, 16),
            (true, true) => (GSO_TCP_V6, 16),
            (false, _) => (GSO_UDP, 6),
        };
        let mut ecn = 0;
        if is_tcp {
            *upper.get_mut(13)? |= self.closing.0 & LAST.0;
            ecn = if self.part.flags.contains(TcpFlags::CWR) { GSO_ECN } else { 0 };
        } else {
            upper.get_mut(4..6)?.copy_from_slice(&segment.to_be_bytes());
        }
        upper.get_mut(offset..offset + 2)?.copy_from_slice(&partial.to_be_bytes());
        let header = Header {
            flags: NEEDS_CHECKSUM,
            gso: gso | ecn,
            headers: u16::from(payload),
            size: self.part.size,
            start: transport as u16,
            offset: offset as u16,
        };
        Some((header, headers))
    }

    /// Whether `packet` is what comes behind this run, which begins with `head`; but for the checksums.
    #[inline]
    fn continues(&self, head: &[u8], part: &Part, packet: &[u8]) -> bool {
        let Self { part: first, open: true, .. } = self else { return false };
        let fits = part.size <= first.size
            && (part.is_tcp, part.transport, part.payload) == (first.is_tcp, first.transport, first.payload)
            && self.bytes as usize + usize::from(part.size) <= LONGEST;
        let same = |range: std::ops::Range<usize>| head.get(range.clone()) == packet.get(range);
        // All but lengths, sums, IPv4's number and what differs from segment to segment.
        let ip = match part.transport {
            20 => {
                part.identification == first.identification.wrapping_add(self.count.into())
                    && same(0..2)
                    && same(6..10)
                    && same(12..20)
            }
            _ => same(0..4) && same(6..40),
        };
        let at = usize::from(part.transport);
        let upper = match part.is_tcp {
            true => {
                part.sequence == self.next
                    && part.flags.0 & !LAST.0 == first.flags.0 & !(LAST.0 | TcpFlags::CWR.0)
                    && same(at..at + 4)
                    && same(at + 8..at + 13)
                    && same(at + 14..at + 16)
                    && same(at + 18..usize::from(part.payload))
            }
            false => same(at..at + 4),
        };
        fits && ip && upper
    }
}

/// What `packet` is; `None` for what may be of any flow. IPv4 options and IPv6 extension headers are left to go alone, as the
/// kernel does (`inet_gro_receive`).
#[inline]
fn look(packet: &[u8], udp: bool) -> Option<Part> {
    let (protocol, upper, transport, identification) = match packet.first()? >> 4 {
        4 => {
            let ip = Ipv4::parse(packet).ok().filter(|ip| !ip.is_fragment() && !ip.has_options())?;
            (ip.protocol(), ip.payload(), ipv4::HEADER_LEN, ip.identification())
        }
        _ => {
            let ip = Ipv6::parse(packet).ok()?;
            (ip.next_header(), ip.payload(), ipv6::HEADER_LEN, 0)
        }
    };
    let part = |headers: usize, size: usize| Part {
        flow: flow(packet, transport, upper, protocol),
        transport: transport as u8,
        payload: (transport + headers) as u8,
        size: size as u16,
        identification,
        ..Part::default()
    };
    match protocol {
        protocol::TCP => {
            let tcp = Tcp::parse(upper).ok()?;
            let flags = tcp.flags();
            let is_plain = flags.contains(TcpFlags::ACK) && flags.0 & !PLAIN.0 == 0;
            let size = if is_plain { tcp.payload().len() } else { 0 };
            Some(Part { is_tcp: true, sequence: tcp.sequence(), flags, ..part(tcp.header_len(), size) })
        }
        protocol::UDP => {
            let datagram = Udp::parse(upper).ok()?;
            // One without a checksum would get one.
            let is_whole = usize::from(datagram.length()) == upper.len() && datagram.checksum() != 0;
            let size = if udp && is_whole { datagram.payload().len() } else { 0 };
            Some(part(udp::HEADER_LEN, size))
        }
        _ => None,
    }
}

/// A number that all packets of a flow have. That others may have it too costs a run, and breaks none.
#[inline]
fn flow(packet: &[u8], transport: usize, upper: &[u8], protocol: u8) -> u32 {
    let addresses =
        packet.get(if transport == ipv4::HEADER_LEN { 12..20 } else { 8..40 }).unwrap_or_default();
    let ports = upper.first_chunk().map_or(0, |ports| u32::from_ne_bytes(*ports)) ^ u32::from(protocol) << 7;
    let (words, _) = addresses.as_chunks::<4>();
    // Fibonacci hashing: 2^32 divided by the golden ratio.
    let mix = |hash: u32, word: &[u8; 4]| {
        (hash ^ u32::from_ne_bytes(*word)).wrapping_mul(0x9e37_79b9).rotate_left(15)
    };
    words.iter().fold(ports, mix)
}

/// Whether all checksums that merging would replace are right.
#[inline]
fn is_right(packet: &[u8], part: &Part) -> bool {
    let Some((ip, _)) = packet.split_at_checked(part.transport.into()) else { return false };
    let (addresses, header) = match ip.len() {
        ipv4::HEADER_LEN => (ip.get(12..20), Sum::of(ip).is_valid()),
        _ => (ip.get(8..40), true),
    };
    let addresses = Sum::of(addresses.unwrap_or_default());
    let end = usize::from(part.payload) + usize::from(part.size);
    let Some(segment) = packet.get(part.transport.into()..end) else { return false };
    header
        && match part.is_tcp {
            true => Tcp::parse(segment).is_ok_and(|tcp| tcp.verify_checksum(addresses).is_ok()),
            false => Udp::parse(segment).is_ok_and(|udp| udp.verify_checksum(addresses).is_ok()),
        }
}

const _: () = assert!(HEADERS <= u8::MAX as usize && BURST < END as usize);

#[cfg(test)]
mod tests;
