//! Whose sender may be told what.

use super::Answer;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zsync_packet::checksum::Sum;
use zsync_packet::header::{Icmp, Icmpv6, Ipv4, Ipv6, Tcp, TcpFlags, ethernet, icmpv6, ipv6, protocol};

/// Longest Ethernet header: two tags.
pub(super) const LONGEST_LINK: usize = ethernet::HEADER_LEN + ethernet::MAX_TAGS * ethernet::TAG_LEN;

/// A packet whose sender may be told something.
pub(super) enum Told<'a> {
    V4 { ip: Ipv4<'a>, packet: &'a [u8] },
    V6 { ip: Ipv6<'a>, packet: &'a [u8] },
}

impl<'a> Told<'a> {
    /// The packet from `l3` on, unless its sender must not get this answer.
    pub(super) fn of(bytes: &'a [u8], l3: usize, answer: Answer) -> Option<Self> {
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

    pub(super) fn sender(&self) -> IpAddr {
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

/// The segment in an IPv6 packet, if that is one and whole.
pub(super) fn segment_v6<'a>(ip: &Ipv6<'a>) -> Option<Tcp<'a>> {
    let upper = ip.upper().ok().filter(|upper| upper.protocol() == protocol::TCP && !upper.is_fragment())?;
    Tcp::parse(upper.payload()).ok()
}
