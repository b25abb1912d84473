//! Addresses and ports, rewritten where they lie: what a translation does to a packet.
//!
//! Owns the knowledge of which checksum covers which field: the IPv4 header's; TCP, UDP, UDP-Lite, DCCP and ICMPv6, which
//! cover the addresses too; ICMP, which does not; the CRC of SCTP, which covers the ports alone. All are changed by the
//! difference (RFC 1624), so the payload is not read, a fragment's checksum stays that of its datagram, and a checksum
//! that was wrong stays wrong. [`translate_error`] does the same to the packet that an ICMP error quotes.
//!
//! Refuses, before it has changed anything, what no translation can carry: see [`Untranslatable`].
#![forbid(unsafe_code)]

mod quoted;

pub use quoted::translate_error;

use core::net::IpAddr;

use crate::burst::Facts;
use crate::checksum::Delta;
use crate::crc;
use crate::flow::FlowKey;
use crate::header::{Extension, Ipv6, icmp, icmpv6, protocol};

/// Why a packet cannot be translated. It is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untranslatable {
    /// It ends before the fields that would have to change.
    #[error("the packet ends before the fields that are to change")]
    Truncated,
    /// The addresses to write are of the other family, or it is no IP packet.
    #[error("the packet is not of the family of its new addresses")]
    Family,
    /// An authentication header (RFC 4302), whose value covers the addresses and whose key is not ours.
    #[error("the packet's addresses are authenticated")]
    Authenticated,
    /// A routing header with segments left: the destination is not where the packet ends, and checksums are over
    /// another (RFC 8200 §8.1).
    #[error("the packet has a routing header with segments left")]
    SourceRouted,
    /// Other ports for a fragment of SCTP: the change of its CRC depends on the length of the whole datagram.
    #[error("the ports of a fragment of SCTP cannot change")]
    Fragment,
    /// Not an ICMP error, or one whose quoted packet cannot be read.
    #[error("the packet is no ICMP error that quotes another")]
    NotAnError,
}

/// Gives the packet whose headers are where `facts` says the addresses and ports of `to`: the key of the packet as it is to
/// be. An echo gets the source port as its identifier. A later fragment (`l4` is 0) gets the addresses alone.
///
/// # Errors
/// See [`Untranslatable`]; the packet is unchanged then.
#[inline]
pub fn translate(packet: &mut [u8], facts: &Facts, to: &FlowKey) -> Result<(), Untranslatable> {
    let l4 = if facts.l4 == 0 { None } else { facts.l4.checked_sub(facts.l3).map(usize::from) };
    let ip = packet.get_mut(usize::from(facts.l3)..).ok_or(Untranslatable::Truncated)?;
    edit::<false>(ip, l4, facts.version, facts.protocol, to).map(|_| ())
}

/// Rewrites the packet that begins with `ip`, and says what that changes in the sum of its bytes. `QUOTED`: as an ICMP error
/// has it, cut off anywhere, so that a checksum may be missing.
#[inline(always)]
fn edit<const QUOTED: bool>(
    ip: &mut [u8],
    l4: Option<usize>,
    version: u8,
    protocol: u8,
    to: &FlowKey,
) -> Result<Delta, Untranslatable> {
    match (version, to.source(), to.destination()) {
        (4, IpAddr::V4(source), IpAddr::V4(destination)) => {
            if !QUOTED && protocol == protocol::AUTH {
                return Err(Untranslatable::Authenticated);
            }
            let old: [u8; 8] = *part(ip, 12)?;
            let mut new = [0; 8];
            new[..4].copy_from_slice(&source.octets());
            new[4..].copy_from_slice(&destination.octets());
            let addresses = Delta::of(&old, &new);
            let inside = match l4 {
                Some(l4) => transport::<QUOTED>(ip, l4, Layout::of(protocol, 4), addresses, to)?,
                None => Delta::NONE,
            };
            *part_mut(ip, 12)? = new;
            let header = fix(ip, 10, |checksum| addresses.apply(checksum))?;
            Ok(addresses + header + inside)
        }
        (6, IpAddr::V6(source), IpAddr::V6(destination)) => {
            let old: [u8; 32] = *part(ip, 8)?;
            if !QUOTED && l4 != Some(40) {
                check_extensions(ip)?;
            }
            let mut new = [0; 32];
            new[..16].copy_from_slice(&source.octets());
            new[16..].copy_from_slice(&destination.octets());
            let addresses = Delta::of(&old, &new);
            let inside = match l4 {
                Some(l4) => transport::<QUOTED>(ip, l4, Layout::of(protocol, 6), addresses, to)?,
                None => Delta::NONE,
            };
            *part_mut(ip, 8)? = new;
            Ok(addresses + inside)
        }
        _ => Err(Untranslatable::Family),
    }
}

/// What of a transport header changes.
#[derive(Clone, Copy)]
enum Layout {
    /// Two ports at its start, and at this offset a checksum that covers addresses and ports; `true` where a computed zero
    /// goes as `ffff`, for zero says "none" (UDP) or nothing at all (UDP-Lite, RFC 3828 §3.1).
    Ports(usize, bool),
    /// Two ports, and a CRC without the addresses.
    Sctp,
    /// The identifier of an echo; a checksum without the addresses.
    Icmp,
    /// The identifier of an echo; a checksum with the addresses.
    Icmpv6,
    /// Nothing.
    Opaque,
}

impl Layout {
    #[inline]
    fn of(protocol: u8, version: u8) -> Self {
        match (protocol, version) {
            (protocol::TCP, _) => Self::Ports(16, false),
            (protocol::UDP | protocol::UDP_LITE, _) => Self::Ports(6, true),
            // RFC 4340 §5.1.
            (protocol::DCCP, _) => Self::Ports(6, false),
            (protocol::SCTP, _) => Self::Sctp,
            (protocol::ICMP, 4) => Self::Icmp,
            (protocol::ICMPV6, 6) => Self::Icmpv6,
            _ => Self::Opaque,
        }
    }
}

/// Rewrites the transport header at `l4`, and says what that changes in the sum of its bytes.
#[inline(always)]
fn transport<const QUOTED: bool>(
    ip: &mut [u8],
    l4: usize,
    layout: Layout,
    addresses: Delta,
    to: &FlowKey,
) -> Result<Delta, Untranslatable> {
    match layout {
        Layout::Ports(at, zero_is_none) => {
            let old: [u8; 4] = *part(ip, l4)?;
            let new = ports(to);
            let change = Delta::of(&old, &new);
            let fixed = fix(ip, l4 + at, |checksum| match zero_is_none {
                true => (addresses + change).apply_udp(checksum),
                false => (addresses + change).apply(checksum),
            });
            let fixed = or_cut_off::<QUOTED>(fixed)?;
            *part_mut(ip, l4)? = new;
            Ok(change + fixed)
        }
        Layout::Sctp => {
            let old: [u8; 4] = *part(ip, l4)?;
            let new = ports(to);
            if old == new {
                return Ok(Delta::NONE);
            }
            let fixed = if QUOTED {
                // What is quoted is seldom whole, and nobody checks its CRC.
                Delta::NONE
            } else {
                sctp(ip, l4, old, new)?
            };
            *part_mut(ip, l4)? = new;
            Ok(Delta::of(&old, &new) + fixed)
        }
        Layout::Icmp => {
            let [kind, _] = *part(ip, l4)?;
            if !matches!(kind, icmp::ECHO_REQUEST | icmp::ECHO_REPLY) {
                return Ok(Delta::NONE);
            }
            echo(ip, l4, to.source_port(), Delta::NONE)
        }
        Layout::Icmpv6 => {
            let [kind, _] = *part(ip, l4)?;
            if matches!(kind, icmpv6::ECHO_REQUEST | icmpv6::ECHO_REPLY) {
                return echo(ip, l4, to.source_port(), addresses);
            }
            or_cut_off::<QUOTED>(fix(ip, l4 + 2, |checksum| addresses.apply(checksum)))
        }
        Layout::Opaque => Ok(Delta::NONE),
    }
}

/// Gives an echo its identifier.
#[inline]
fn echo(ip: &mut [u8], l4: usize, id: u16, addresses: Delta) -> Result<Delta, Untranslatable> {
    let old: [u8; 2] = *part(ip, l4 + 4)?;
    let new = id.to_be_bytes();
    let change = Delta::of(&old, &new);
    *part_mut(ip, l4 + 4)? = new;
    let fixed = fix(ip, l4 + 2, |checksum| match (addresses + change).apply(checksum) {
        // One's complement has two zeros. An ICMP message of nothing but zeros must have the other one; every other
        // message may have either, so the rest is not read to tell which it is.
        0 if new == [0, 0] && addresses == Delta::NONE => 0xffff,
        checksum => checksum,
    })?;
    Ok(change + fixed)
}

/// The change of the CRC under other ports: of a whole datagram only.
#[cold]
fn sctp(ip: &mut [u8], l4: usize, old: [u8; 4], new: [u8; 4]) -> Result<Delta, Untranslatable> {
    let end = match ip.first().map(|first| first >> 4) {
        Some(4) => {
            let [a, b, .., fragment_hi, fragment_lo]: [u8; 6] = *part(ip, 2)?;
            if u16::from_be_bytes([fragment_hi, fragment_lo]) & 0x3fff != 0 {
                return Err(Untranslatable::Fragment);
            }
            usize::from(u16::from_be_bytes([a, b]))
        }
        _ => {
            let view = Ipv6::parse(ip).map_err(|_| Untranslatable::Truncated)?;
            if view.upper().is_ok_and(|upper| upper.is_fragment()) {
                return Err(Untranslatable::Fragment);
            }
            40 + usize::from(view.payload_len())
        }
    };
    let len = end.checked_sub(l4).filter(|_| end <= ip.len()).ok_or(Untranslatable::Truncated)?;
    let was: [u8; 4] = *part(ip, l4 + 8)?;
    let change = crc::change(u32::from_le_bytes(old) ^ u32::from_le_bytes(new), len);
    let is = (u32::from_le_bytes(was) ^ change).to_le_bytes();
    *part_mut(ip, l4 + 8)? = is;
    Ok(Delta::of(&was, &is))
}

/// Refuses the extension headers that forbid a change of addresses.
#[cold]
fn check_extensions(ip: &[u8]) -> Result<(), Untranslatable> {
    let view = Ipv6::parse(ip).map_err(|_| Untranslatable::Truncated)?;
    for extension in view.extensions() {
        match extension {
            Ok(Extension { kind: protocol::AUTH, .. }) => return Err(Untranslatable::Authenticated),
            Ok(Extension { kind: protocol::ROUTING, bytes }) if bytes.get(3) != Some(&0) => {
                return Err(Untranslatable::SourceRouted);
            }
            Ok(_) => {}
            Err(_) => return Err(Untranslatable::Truncated),
        }
    }
    Ok(())
}

/// Changes the 16-bit checksum at `at`, and says what that changes in the sum of the bytes.
#[inline(always)]
fn fix(ip: &mut [u8], at: usize, new: impl FnOnce(u16) -> u16) -> Result<Delta, Untranslatable> {
    let field = part_mut(ip, at)?;
    let was = u16::from_be_bytes(*field);
    let is = new(was);
    *field = is.to_be_bytes();
    Ok(Delta::of_u16(was, is))
}

/// A quoted packet may well end before its checksum.
#[inline(always)]
fn or_cut_off<const QUOTED: bool>(fixed: Result<Delta, Untranslatable>) -> Result<Delta, Untranslatable> {
    match fixed {
        Err(Untranslatable::Truncated) if QUOTED => Ok(Delta::NONE),
        other => other,
    }
}

/// The first four bytes of a transport header between the ends of `key`.
#[inline]
fn ports(key: &FlowKey) -> [u8; 4] {
    let [[a, b], [c, d]] = [key.source_port().to_be_bytes(), key.destination_port().to_be_bytes()];
    [a, b, c, d]
}

/// The `N` bytes from byte `at`.
#[inline(always)]
fn part<const N: usize>(bytes: &[u8], at: usize) -> Result<&[u8; N], Untranslatable> {
    bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(Untranslatable::Truncated)
}

/// [`part`], to write.
#[inline(always)]
fn part_mut<const N: usize>(bytes: &mut [u8], at: usize) -> Result<&mut [u8; N], Untranslatable> {
    bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut).ok_or(Untranslatable::Truncated)
}

#[cfg(test)]
mod tests;
