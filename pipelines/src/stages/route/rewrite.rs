//! What a router changes in a packet that it forwards, and why it may not forward it.

use crate::snapshot::PortFacts;
use crate::stages::answer::Answer;
use zsync_packet::burst::Burst;
use zsync_packet::header::{EthernetMut, Ipv4, Ipv4Mut, Ipv6, Ipv6Mut, ethernet};
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
#[inline]
pub(super) fn rewrite(burst: &mut Burst, i: usize, output: &PortFacts, mac: [u8; 6]) -> Result<Fit, Refusal> {
    let facts = *burst.facts(i);
    let bytes = burst.bytes_mut(i);
    let l3 = usize::from(facts.l3);
    let Some(packet) = bytes.get_mut(l3..) else { return Err(Refusal::Silent(DropReason::IpTruncated)) };
    let fit = match facts.version {
        4 => age_v4(packet, output)?,
        _ => age_v6(packet, output)?,
    };
    let mut frame = EthernetMut::parse(bytes).map_err(|_| Refusal::Silent(DropReason::EthernetTruncated))?;
    frame.set_destination(mac);
    frame.set_source(output.mac);
    Ok(fit)
}

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
