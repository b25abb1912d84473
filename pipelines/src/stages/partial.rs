//! Partial checksums: what a local stack leaves to a NIC that is not there.
//!
//! A packet that a host sends into a veth has not crossed a wire, so its stack has not computed the TCP or UDP checksum: the
//! field holds the folded sum of the pseudo-header, and `skb->ip_summed == CHECKSUM_PARTIAL` says that the rest is to be
//! done (include/linux/skbuff.h). XDP does not see that mark. The value gives it away: it is the pseudo-header's sum, which
//! a finished checksum equals once in 65,536 packets; to complete it once more gives what was there.
//!
//! Only for ports whose peer is a local stack (`complete_checksums`); a NIC's packets are none of this stage's business.

use zsync_packet::checksum::Sum;
use zsync_packet::header::{Ipv4, Ipv6, protocol};

/// Completes the checksum of the IP packet in `packet` (from its first byte on) if it is a partial one.
pub fn complete(packet: &mut [u8]) {
    let Some(place) = Place::of(packet) else { return };
    let (end, field) = (place.end, place.field);
    let Some(transport) = packet.get_mut(place.transport..end) else { return };
    let Some(&stored) = transport.get(field..).and_then(|rest| rest.first_chunk::<2>()) else { return };
    // No sum of addresses and a protocol comes to 0: that is UDP without a checksum (RFC 768).
    if stored == [0, 0] {
        return;
    }
    let pseudo = !place.pseudo.finish();
    if u16::from_be_bytes(stored) != pseudo {
        return;
    }
    // With the field at zero, what is left to add is the pseudo-header and the payload.
    transport[field..field + 2].fill(0);
    let sum = place.pseudo + Sum::of(transport);
    let checksum = if place.udp { sum.finish_udp() } else { sum.finish() };
    transport[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// Where the checksum of a packet is, and what else it covers.
struct Place {
    transport: usize,
    end: usize,
    field: usize,
    udp: bool,
    pseudo: Sum,
}

impl Place {
    fn of(packet: &[u8]) -> Option<Self> {
        let (protocol, transport, len, addresses) = match packet.first()? >> 4 {
            4 => {
                let ip = Ipv4::parse(packet).ok()?;
                if ip.is_fragment() {
                    return None;
                }
                (ip.protocol(), ip.header_len(), ip.payload().len(), ip.address_sum())
            }
            6 => {
                let ip = Ipv6::parse(packet).ok()?;
                let upper = ip.upper().ok()?;
                if upper.is_fragment() {
                    return None;
                }
                let len = upper.payload().len();
                let transport = packet.len().min(40 + ip.payload().len()) - len;
                (upper.protocol(), transport, len, ip.address_sum())
            }
            _ => return None,
        };
        let (field, udp) = match protocol {
            protocol::TCP => (16, false),
            protocol::UDP => (6, true),
            _ => return None,
        };
        let pseudo = addresses.with_u16(u16::from(protocol)).with_u16(u16::try_from(len).ok()?);
        Some(Self { transport, end: transport + len, field, udp, pseudo })
    }
}

#[cfg(test)]
mod tests;
