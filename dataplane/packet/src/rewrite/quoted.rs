//! ICMP errors: the packet that they quote, and the addresses around it (RFC 5508 §4, RFC 2663).
//!
//! Owns the order of the layers: the quoted transport and its checksum, the quoted IPv4 header and its checksum, the error's
//! own checksum over all of it, and the addresses that carry the error. Refuses what quotes nothing that can be read. Keeps
//! true: type and code stay as they are, and so does every length.

use core::net::IpAddr;

use super::{Untranslatable, edit, fix, part, part_mut};
use crate::burst::Facts;
use crate::checksum::Delta;
use crate::flow::FlowKey;
use crate::header::{Icmp, Icmpv6, Ipv4, Ipv6, protocol};

/// Translates an ICMP error, and the packet that it quotes, which is to have the key `to`.
///
/// The error goes to whoever sent the quoted packet: its destination becomes `to`'s source. Its source changes if the quoted
/// packet's destination does: to `to`'s destination, since who reported it is then on the side whose addresses are hidden
/// (RFC 5508 §4.2, the kernel's `nf_nat_icmp_reply_translation`).
///
/// # Errors
/// See [`Untranslatable`]; the packet is unchanged then.
pub fn translate_error(packet: &mut [u8], facts: &Facts, to: &FlowKey) -> Result<(), Untranslatable> {
    let l4 = facts.l4.checked_sub(facts.l3).filter(|_| facts.l4 != 0).ok_or(Untranslatable::NotAnError)?;
    let l4 = usize::from(l4);
    let ip = packet.get_mut(usize::from(facts.l3)..).ok_or(Untranslatable::Truncated)?;
    let quote = Quote::find(ip, l4, facts.version).ok_or(Untranslatable::NotAnError)?;
    let around = match (facts.version, to.source(), to.destination()) {
        (4, IpAddr::V4(source), IpAddr::V4(destination)) => {
            let reporter = Ipv4::parse(ip).map_err(|_| Untranslatable::Truncated)?.source();
            let hidden = quote.destination != IpAddr::V4(destination);
            Around::V4([if hidden { destination } else { reporter }.octets(), source.octets()])
        }
        (6, IpAddr::V6(source), IpAddr::V6(destination)) => {
            let reporter = Ipv6::parse(ip).map_err(|_| Untranslatable::Truncated)?.source();
            let hidden = quote.destination != IpAddr::V6(destination);
            Around::V6([if hidden { destination } else { reporter }.octets(), source.octets()])
        }
        _ => return Err(Untranslatable::Family),
    };
    let inner = ip.get_mut(quote.at..quote.end).ok_or(Untranslatable::Truncated)?;
    let inside = edit::<true>(inner, quote.l4, facts.version, quote.protocol, to)?;
    let outside = around.write(ip)?;
    // The checksum of ICMPv6 covers the addresses, that of ICMP does not. No error is all zeros, so neither's second zero
    // can come up.
    let change = if facts.version == 6 { inside + outside } else { inside };
    fix(ip, l4 + 2, |checksum| change.apply(checksum)).map(|_| ())
}

/// The quoted packet.
struct Quote {
    /// Where it starts and ends, from the start of the packet that carries it.
    at: usize,
    end: usize,
    /// Where its transport starts, from its own start; none if that is not quoted.
    l4: Option<usize>,
    protocol: u8,
    destination: IpAddr,
}

impl Quote {
    fn find(ip: &[u8], l4: usize, version: u8) -> Option<Self> {
        // Without padding: what is behind the length is no part of the sum.
        let end = match version {
            4 => usize::from(Ipv4::parse(ip).ok()?.total_len()),
            6 => 40 + usize::from(Ipv6::parse(ip).ok()?.payload_len()),
            _ => return None,
        };
        let message = ip.get(l4..end)?;
        let quoted = match version {
            4 => Icmp::parse(message).ok()?.quoted()?,
            _ => Icmpv6::parse(message).ok()?.quoted()?,
        };
        let at = end - quoted.len();
        let (start, protocol, destination) = match version {
            4 => {
                let inner = Ipv4::parse_quoted(quoted).ok()?;
                let start = inner.begins_transport().then(|| inner.header_len());
                (start, inner.protocol(), IpAddr::V4(inner.destination()))
            }
            _ => {
                let inner = Ipv6::parse_quoted(quoted).ok()?;
                let destination = IpAddr::V6(inner.destination());
                match inner.upper() {
                    Ok(upper) if upper.begins_transport() => {
                        let start = 40 + inner.payload().len() - upper.payload().len();
                        (Some(start), upper.protocol(), destination)
                    }
                    // A later fragment, or cut off within its extension headers.
                    _ => (None, protocol::NO_NEXT_HEADER, destination),
                }
            }
        };
        let start = start.filter(|&start| start < quoted.len());
        Some(Self { at, end, l4: start, protocol, destination })
    }
}

/// The addresses of the packet that carries the error.
enum Around {
    V4([[u8; 4]; 2]),
    V6([[u8; 16]; 2]),
}

impl Around {
    /// Writes them, with the header's checksum, and says what that changes in the sum of the addresses.
    fn write(&self, ip: &mut [u8]) -> Result<Delta, Untranslatable> {
        match self {
            Self::V4([source, destination]) => {
                let change = Delta::of(part(ip, 12)?, source) + Delta::of(part(ip, 16)?, destination);
                *part_mut(ip, 12)? = *source;
                *part_mut(ip, 16)? = *destination;
                let _ = fix(ip, 10, |checksum| change.apply(checksum))?;
                Ok(change)
            }
            Self::V6([source, destination]) => {
                let change = Delta::of(part(ip, 8)?, source) + Delta::of(part(ip, 24)?, destination);
                *part_mut(ip, 8)? = *source;
                *part_mut(ip, 24)? = *destination;
                Ok(change)
            }
        }
    }
}
