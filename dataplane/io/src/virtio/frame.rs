//! What the kernel left behind one header of virtio, with or without Ethernet ahead of it: itself, or the packets that it stands for.
//!
//! Owns: how many bytes stand ahead of the IP header, in each piece anew, and how far it has been [cut](super::split). Pure. Refuses what
//! the header does not fit, and frames without a whole Ethernet header; nothing of such a one comes out.

use super::split::{Cut, complete};
use super::{GSO_NONE, Header, NEEDS_CHECKSUM};
use zsync_packet::header::{ether_type, ethernet};

/// Bytes of a VLAN tag.
pub const TAG: usize = 4;
/// Where it goes: behind the two addresses.
pub const TAG_AT: usize = 12;

/// What one header is ahead of, on its way out. It knows the bytes, but whoever has them brings them each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// One frame, of whatever kind; with the checksum from the first number on to be written at the second. And whether it is out.
    Frame(Option<(usize, usize)>, bool),
    /// IP, behind so many bytes.
    Ip(usize, Cut),
}

impl Whole {
    /// A frame, no piece of which may be longer than `longest`. `None`: its header does not fit it.
    #[inline]
    pub fn frame(header: Header, frame: &[u8], longest: usize) -> Option<Self> {
        if frame.len() < ethernet::HEADER_LEN {
            return None;
        }
        if header.gso == GSO_NONE {
            let start = usize::from(header.start);
            let sum =
                (header.flags & NEEDS_CHECKSUM != 0).then(|| (start, start + usize::from(header.offset)));
            let fits = sum.is_none_or(|(_, at)| at + 2 <= frame.len());
            return (fits && frame.len() <= longest).then_some(Self::Frame(sum, false));
        }
        let link = link_len(frame)?;
        let header = header.behind(link as u16)?;
        let cut = Cut::new(&header, frame.get(link..)?, longest.checked_sub(link)?).ok()?;
        Some(Self::Ip(link, cut))
    }

    /// The same of an IP packet with nothing ahead of it.
    #[inline]
    pub fn packet(header: Header, packet: &[u8], longest: usize) -> Option<Self> {
        Cut::new(&header, packet, longest).ok().map(|cut| Self::Ip(0, cut))
    }

    /// Whether it is more than one packet.
    #[inline]
    pub fn is_split(&self) -> bool {
        matches!(self, Self::Ip(_, cut) if cut.is_split())
    }

    /// Whether all came out.
    #[inline]
    pub fn is_done(&self) -> bool {
        match self {
            Self::Frame(_, done) => *done,
            Self::Ip(_, cut) => cut.is_done(),
        }
    }

    /// Writes the next packet to the front of `out`; its length. `bytes` is what this was made of. `None` when all came out, `out` is too
    /// short, or the checksum is not where the header says.
    #[inline]
    pub fn next(&mut self, bytes: &[u8], out: &mut [u8]) -> Option<usize> {
        match self {
            Self::Frame(_, true) => None,
            Self::Frame(sum, done) => {
                *done = true;
                let out = out.get_mut(..bytes.len())?;
                out.copy_from_slice(bytes);
                if let Some((start, at)) = *sum {
                    complete(out, start, at)?;
                }
                Some(bytes.len())
            }
            Self::Ip(link, cut) => {
                let (before, ip) = bytes.split_at_checked(*link)?;
                let (to, body) = out.split_at_mut_checked(*link)?;
                to.copy_from_slice(before);
                Some(*link + cut.next(ip, body)?)
            }
        }
    }
}

/// Bytes ahead of the IP header: Ethernet's, with up to two tags that the kernel has left in the frame.
fn link_len(frame: &[u8]) -> Option<usize> {
    let mut at = TAG_AT;
    loop {
        let kind = u16::from_be_bytes(*frame.get(at..)?.first_chunk()?);
        match kind {
            ether_type::VLAN | ether_type::QINQ if at < TAG_AT + 2 * TAG => at += TAG,
            _ => return Some(at + 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_without_room_for_its_checksum_is_refused() {
        let frame = [0; 60];
        let asks = |start, offset| Header { flags: NEEDS_CHECKSUM, start, offset, ..Header::default() };
        let made = |header| Whole::frame(header, &frame, 1514);
        assert_eq!(made(asks(40, 18)), Some(Whole::Frame(Some((40, 58)), false)));
        for (start, offset) in [(40, 19), (60, 0), (59, 0), (u16::MAX, u16::MAX)] {
            assert_eq!(made(asks(start, offset)), None, "{start} {offset}");
        }
        // Nothing is asked for, or the frame has no header.
        assert_eq!(made(Header { start: 99, ..Header::default() }), Some(Whole::Frame(None, false)));
        assert_eq!(Whole::frame(Header::default(), &frame[..13], 1514), None);
    }
}
