//! What a router changes in a packet that it forwards, and why it may not forward it.

use crate::snapshot::PortFacts;
use crate::stages::answer::Answer;
use crate::stages::fragment;
use zsync_packet::burst::Burst;
use zsync_packet::header::{EthernetMut, Ipv4, Ipv4Mut, Ipv6, Ipv6Mut, ethernet, ipv4, ipv6};
use zsync_packet::verdict::DropReason;

/// Why a packet is not forwarded, and what its sender is told.
pub(super) enum Refusal {
    /// An ICMP error.
    Icmp(DropReason, Answer),
    /// Nothing: the kernel forwards it, as its options say.
    Kernel,
    /// Nothing.
    Silent(DropReason),
}

impl Refusal {
    /// An `unreachable` route: no host there for IPv4 (`ip_error`, net/ipv4/route.c), no route for IPv6 (`ip6_pkt_discard`,
    /// net/ipv6/route.c).
    #[cold]
    pub(super) fn unreachable(version: u8) -> Self {
        let answer = if version == 4 { Answer::HostUnreachable } else { Answer::NoRoute };
        Self::Icmp(DropReason::Unreachable, answer)
    }
}

/// How a packet leaves.
pub(super) enum Fit {
    Whole,
    /// It is longer than the output takes, and may be taken apart (RFC 1812 §5.2.6).
    InParts,
}

/// Ages the packet and gives it its new Ethernet addresses. What is refused has not changed.
pub(super) fn any(burst: &mut Burst, i: usize, output: &PortFacts, mac: [u8; 6]) -> Result<Fit, Refusal> {
    let (version, l3) = (burst.facts(i).version, usize::from(burst.facts(i).l3));
    let bytes = burst.bytes_mut(i);
    let Some(packet) = bytes.get_mut(l3..) else { return Err(Refusal::Silent(DropReason::IpTruncated)) };
    let fit = match version {
        4 => age_v4(packet, output)?,
        _ => age_v6(packet, output)?,
    };
    let mut frame = EthernetMut::parse(bytes).map_err(|_| Refusal::Silent(DropReason::EthernetTruncated))?;
    frame.set_destination(mac);
    frame.set_source(output.mac);
    Ok(fit)
}

/// Does the same for what nearly all packets are: untagged, without IPv4 options, with time to live and room at the output.
/// What is none of these has not changed.
#[inline(always)]
pub(super) fn plain(burst: &mut Burst, i: usize, output: &PortFacts, mac: [u8; 6]) -> Option<()> {
    let (version, l3) = (burst.facts(i).version, usize::from(burst.facts(i).l3));
    let head: &mut [u8; PLAIN] = burst.bytes_mut(i).first_chunk_mut()?;
    if l3 != ethernet::HEADER_LEN {
        return None;
    }
    if version == 4 {
        if head[14] != 0x45 || head[22] <= 1 || u32::from(field(head, 16)?) > output.mtu {
            return None;
        }
        head[22] -= 1;
        // One less in the upper byte of a word is one more in the checksum's (RFC 1624 §3, equation 3).
        let sum = u32::from(field(head, 24)?) + 0x100;
        [head[24], head[25]] = ((sum + u32::from(sum >= 0xffff)) as u16).to_be_bytes();
    } else {
        if head[21] <= 1 || u32::from(field(head, 18)?) + ipv6::HEADER_LEN as u32 > output.mtu {
            return None;
        }
        head[21] -= 1;
    }
    let (to, rest) = head.split_first_chunk_mut()?;
    *to = mac;
    *rest.first_chunk_mut()? = output.mac;
    Some(())
}

#[inline(always)]
fn field(head: &[u8; PLAIN], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*head.get(at..at + 2)?.first_chunk()?))
}

/// The headers of both families that are looked at lie in so many bytes.
const PLAIN: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN;

const _: () = assert!(ethernet::HEADER_LEN == 14, "a punted packet is cut at l3, behind the Ethernet header");

#[inline]
fn age_v4(packet: &mut [u8], output: &PortFacts) -> Result<Fit, Refusal> {
    let ip = Ipv4::parse(packet).map_err(|_| Refusal::Silent(DropReason::IpTruncated))?;
    if ip.has_options() {
        return Err(Refusal::Kernel);
    }
    if ip.ttl() <= 1 {
        return Err(Refusal::Icmp(DropReason::TtlExpired, Answer::TimeExceeded));
    }
    let fits = u32::from(ip.total_len()) <= output.mtu;
    if !fits && ip.dont_fragment() {
        return Err(Refusal::Icmp(DropReason::TooBig, Answer::TooBig { mtu: output.mtu }));
    }
    if !fits && fragment::ends_beyond(&ip) {
        return Err(Refusal::Silent(DropReason::FragmentMalformed));
    }
    if let Ok(mut ip) = Ipv4Mut::parse(packet) {
        let _ = ip.decrement_ttl();
    }
    Ok(if fits { Fit::Whole } else { Fit::InParts })
}

#[inline]
fn age_v6(packet: &mut [u8], output: &PortFacts) -> Result<Fit, Refusal> {
    let ip = Ipv6::parse(packet).map_err(|_| Refusal::Silent(DropReason::IpTruncated))?;
    if ip.hop_limit() <= 1 {
        return Err(Refusal::Icmp(DropReason::TtlExpired, Answer::TimeExceeded));
    }
    if u32::from(ip.payload_len()) + 40 > output.mtu {
        return Err(Refusal::Icmp(DropReason::TooBig, Answer::TooBig { mtu: output.mtu }));
    }
    if let Ok(mut ip) = Ipv6Mut::parse(packet) {
        let _ = ip.decrement_hop_limit();
    }
    Ok(Fit::Whole)
}
