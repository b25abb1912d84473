//! An IPv4 packet taken apart into fragments that fit (RFC 791 §3.2).
//!
//! The packet itself becomes the first one, where it lies; the others are new packets. Refuses what cannot be taken apart:
//! a packet that forbids it is for the caller to see; a limit without room for a header and 8 bytes is refused here, and a part
//! of a datagram that ends beyond 65,535 bytes, whose place could not be said. Keeps
//! true: all of a packet's parts leave, or none does; put together they are the packet, save that a later part has only
//! the options whose copied flag is set (RFC 791 §3.1).

use crate::stage::Cx;
use zsync_packet::burst::{Burst, Fragment};
use zsync_packet::header::ipv4::HEADER_LEN;
use zsync_packet::header::{Ipv4, Ipv4Mut};
use zsync_packet::verdict::{DropReason, PortId, Verdict};

/// The longest options.
const OPTIONS: usize = 40;
/// No operation: what options are filled up with.
const NOP: u8 = 1;
/// More fragments follow.
const MORE: u16 = 0x2000;

/// Takes packet `i`, all of whose headers are as they are to leave by `output`, apart into IPv4 packets of at most `mtu`
/// bytes. It is left the first of them, and undecided; the others are made, and leave by `output` as well.
///
/// # Errors
/// [`DropReason::TooBig`] when `mtu` has no room for a header and 8 bytes; [`DropReason::FragmentMalformed`] when the datagram
/// would be longer than one can be; [`DropReason::NoFrame`] when there are not frames
/// enough; [`DropReason::IpTruncated`] when it is no IPv4 packet. Nothing was made then.
#[cold]
pub fn fragment(
    burst: &mut Burst,
    i: usize,
    mtu: usize,
    output: PortId,
    cx: &mut Cx<'_>,
) -> Result<(), DropReason> {
    let facts = *burst.facts(i);
    let (port, l3) = (burst.port(i), usize::from(facts.l3));
    let (link, packet) = burst.bytes(i).split_at_checked(l3).ok_or(DropReason::IpTruncated)?;
    let ip = Ipv4::parse(packet).map_err(|_| DropReason::IpTruncated)?;
    let whole = ip.header_len();
    let later = LaterHeader::of(&ip, packet);
    let room = |header: usize| mtu.checked_sub(header).map(|room| room / 8 * 8).filter(|room| *room > 0);
    let (Some(first), Some(next)) = (room(whole), room(later.len)) else { return Err(DropReason::TooBig) };
    if usize::from(ip.total_len()) <= mtu {
        return Ok(());
    }
    if ends_beyond(&ip) {
        return Err(DropReason::FragmentMalformed);
    }
    // The first part is shorter than the packet, as the packet is longer than `mtu`.
    let (first_part, mut rest) = ip.payload().split_at_checked(first).ok_or(DropReason::IpTruncated)?;
    // All parts are multiples of eight bytes but the last, which may fill what is left of its packet.
    let last = mtu - later.len;
    let count = 1 + rest.len().saturating_sub(last).div_ceil(next);
    if !cx.can_spawn(count) {
        return Err(DropReason::NoFrame);
    }
    let (base, last_has_more) = (usize::from(ip.fragment_offset()), ip.more_fragments());
    let mut place = (base + first) / 8;
    for n in 1..=count {
        let is_last = n == count;
        let (part, after) = rest.split_at(if is_last { rest.len() } else { next });
        let len = l3 + later.len + part.len();
        let made = cx.spawn(i, port, len, Verdict::Transmit(output), facts.delay, |bytes| {
            let (head, body) = bytes.split_at_mut(l3 + later.len);
            let (to_link, to_header) = head.split_at_mut(l3);
            to_link.copy_from_slice(link);
            to_header.copy_from_slice(later.bytes());
            body.copy_from_slice(part);
            finish(&mut bytes[l3..], place, !is_last || last_has_more);
        });
        if !made {
            return Err(DropReason::NoFrame);
        }
        (rest, place) = (after, place + next / 8);
    }
    let (place, len) = (base / 8, whole + first_part.len());
    if let Some(packet) = burst.bytes_mut(i).get_mut(l3..l3 + len) {
        finish(packet, place, true);
    }
    burst.set_len(i, l3 + len);
    let facts = burst.facts_mut(i);
    if facts.fragment == Fragment::Whole {
        facts.fragment = Fragment::First;
    }
    Ok(())
}

/// Whether the packet is a part of a datagram that would be longer than 65,535 bytes.
pub(super) fn ends_beyond(ip: &Ipv4<'_>) -> bool {
    ip.header_len() + usize::from(ip.fragment_offset()) + ip.payload().len() > usize::from(u16::MAX)
}

/// The header of all parts but the first.
struct LaterHeader {
    bytes: [u8; HEADER_LEN + OPTIONS],
    len: usize,
}

impl LaterHeader {
    fn of(ip: &Ipv4<'_>, packet: &[u8]) -> Self {
        let mut bytes = [NOP; HEADER_LEN + OPTIONS];
        let mut len = HEADER_LEN;
        if let (Some(to), Some(from)) = (bytes.get_mut(..HEADER_LEN), packet.get(..HEADER_LEN)) {
            to.copy_from_slice(from);
        }
        // A walk that ends at a broken option has no later ones to copy either.
        for option in ip.options().flatten().filter(|option| option.kind & 0x80 != 0) {
            let end = len + 2 + option.data.len();
            if let Some([kind, length, data @ ..]) = bytes.get_mut(len..end) {
                (*kind, *length) = (option.kind, 2 + option.data.len() as u8);
                data.copy_from_slice(option.data);
                len = end;
            }
        }
        len = len.next_multiple_of(4);
        bytes[0] = 4 << 4 | (len / 4) as u8;
        Self { bytes, len }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

/// Makes `packet` a fragment of its own length, `place` times 8 bytes into its datagram.
fn finish(packet: &mut [u8], place: usize, more: bool) {
    let len = packet.len() as u16;
    if let Some(fixed) = packet.first_chunk_mut::<HEADER_LEN>() {
        // A datagram has at most 65,535 bytes, so a place has 13 bits. The reserved bit is nobody's to clear.
        let reserved = u16::from(fixed[6] & 0x80) << 8;
        let field = place as u16 & 0x1fff | if more { MORE } else { 0 } | reserved;
        fixed[2..4].copy_from_slice(&len.to_be_bytes());
        fixed[6..8].copy_from_slice(&field.to_be_bytes());
    }
    if let Ok(mut ip) = Ipv4Mut::parse(packet) {
        ip.fill_checksum();
    }
}

#[cfg(test)]
mod tests;
