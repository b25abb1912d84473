//! What connection tracking reads of a TCP segment.
//!
//! Owns nothing: a view of the packet's bytes. Refuses segments that are cut, and flags that no TCP sends. Keeps true: option
//! bytes lie within the header that the data offset says.

use zsync_packet::header::TcpFlags;

/// What the flags RST, SYN, FIN and ACK make of a segment, as `get_conntrack_index` of nf_conntrack_proto_tcp.c has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// SYN alone.
    Syn = 0,
    /// SYN and ACK.
    SynAck = 1,
    /// FIN, with ACK.
    Fin = 2,
    /// ACK alone.
    Ack = 3,
    /// RST.
    Rst = 4,
    /// None of these.
    None = 5,
}

impl Kind {
    /// Every kind, in order of its number.
    pub const ALL: [Self; 6] = [Self::Syn, Self::SynAck, Self::Fin, Self::Ack, Self::Rst, Self::None];

    /// The kind with this number; [`Kind::None`] for numbers that none has.
    #[inline]
    pub fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Syn,
            1 => Self::SynAck,
            2 => Self::Fin,
            3 => Self::Ack,
            4 => Self::Rst,
            _ => Self::None,
        }
    }

    /// The kind of a segment with these flags.
    #[inline]
    pub fn of(flags: TcpFlags) -> Self {
        const KINDS: [Kind; 32] = {
            let mut kinds = [Kind::None; 32];
            let mut flags = 0;
            while flags < 32 {
                kinds[flags] = match flags as u8 {
                    f if f & TcpFlags::RST.0 != 0 => Kind::Rst,
                    f if f & TcpFlags::SYN.0 != 0 && f & TcpFlags::ACK.0 != 0 => Kind::SynAck,
                    f if f & TcpFlags::SYN.0 != 0 => Kind::Syn,
                    f if f & TcpFlags::FIN.0 != 0 => Kind::Fin,
                    f if f & TcpFlags::ACK.0 != 0 => Kind::Ack,
                    _ => Kind::None,
                };
                flags += 1;
            }
            kinds
        };
        KINDS[usize::from(flags.0 & 31)]
    }
}

/// The combinations of flags that TCP sends, PSH, ECE and CWR aside (`tcp_valid_flags` of nf_conntrack_proto_tcp.c): bit *f*
/// is set when the flags *f* (FIN 1, SYN 2, RST 4, ACK 16, URG 32) may come together.
const VALID_FLAGS: u64 = {
    const SYN: u8 = TcpFlags::SYN.0;
    const RST: u8 = TcpFlags::RST.0;
    const FIN: u8 = TcpFlags::FIN.0;
    const ACK: u8 = TcpFlags::ACK.0;
    const URG: u8 = TcpFlags::URG.0;
    1 << SYN
        | 1 << (SYN | URG)
        | 1 << (SYN | ACK)
        | 1 << RST
        | 1 << (RST | ACK)
        | 1 << (FIN | ACK)
        | 1 << (FIN | ACK | URG)
        | 1 << ACK
        | 1 << (ACK | URG)
};

/// Why bytes are no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadSegment {
    /// The header is cut, or its length is below 20 bytes.
    Truncated,
    /// These flags never come together.
    Flags,
}

/// A segment.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Of its first byte.
    pub sequence: u32,
    /// The next byte that the sender expects; only meant with the flag ACK.
    pub acknowledgement: u32,
    /// Its flags.
    pub flags: TcpFlags,
    /// As it stands in the header, unscaled.
    pub window: u16,
    /// Sequence number behind its last byte, SYN and FIN counted.
    pub end: u32,
    /// Its options.
    pub options: &'a [u8],
}

impl<'a> Segment<'a> {
    /// The segment of an IP packet: `bytes` begin with the TCP header and end with the IP packet.
    ///
    /// # Errors
    /// The header is cut, or the flags are of no TCP.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadSegment> {
        let fixed: &[u8; 20] = bytes.first_chunk().ok_or(BadSegment::Truncated)?;
        let [_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, w0, w1, ..] = *fixed;
        let header = usize::from(offset >> 4) * 4;
        let options = bytes.get(20..header).ok_or(BadSegment::Truncated)?;
        let flags = TcpFlags(flags);
        let telling = flags.0 & 0b0011_0111;
        if VALID_FLAGS >> telling & 1 == 0 {
            return Err(BadSegment::Flags);
        }
        let sequence = u32::from_be_bytes([s0, s1, s2, s3]);
        // SYN and FIN are bits 1 and 0, and never set together.
        let extra = u32::from(flags.0 & 3 != 0);
        Ok(Self {
            sequence,
            acknowledgement: u32::from_be_bytes([a0, a1, a2, a3]),
            flags,
            window: u16::from_be_bytes([w0, w1]),
            // A payload is under 64 KiB.
            end: sequence.wrapping_add((bytes.len() - header) as u32).wrapping_add(extra),
            options,
        })
    }

    /// What its flags make of it.
    #[inline]
    pub fn kind(&self) -> Kind {
        Kind::of(self.flags)
    }

    /// Whether all of `flags` are set.
    #[inline]
    pub fn has(&self, flags: TcpFlags) -> bool {
        self.flags.contains(flags)
    }

    /// The highest sequence number that it acknowledges: the right edge of its last SACK block beyond `acknowledgement`
    /// (RFC 2018 §3), else that itself.
    #[inline]
    pub fn selective(&self, acknowledgement: u32) -> u32 {
        // Nearly all segments have a timestamp alone: two NOPs, kind 8, length 10 (RFC 7323, appendix A).
        if self.options.is_empty() || (self.options.len() == 12 && self.options.starts_with(&[1, 1, 8, 10])) {
            return acknowledgement;
        }
        self.highest_block(acknowledgement)
    }

    #[cold]
    fn highest_block(&self, acknowledgement: u32) -> u32 {
        let mut highest = acknowledgement;
        for (kind, data) in Options(self.options) {
            if kind == 5 && !data.is_empty() && data.len().is_multiple_of(8) {
                for block in data.as_chunks::<8>().0 {
                    let [_, _, _, _, right @ ..] = *block;
                    let right = u32::from_be_bytes(right);
                    if (right.wrapping_sub(highest) as i32) > 0 {
                        highest = right;
                    }
                }
                break;
            }
        }
        highest
    }

    /// What the options of a SYN agree on: the window's shift, where it has one (RFC 7323 §2.3: 14 at most), and whether
    /// selective acknowledgements may be sent.
    pub fn agreement(&self) -> (Option<u8>, bool) {
        let (mut scale, mut selective) = (None, false);
        for option in Options(self.options) {
            match option {
                (3, [shift]) => scale = Some((*shift).min(14)),
                (4, []) => selective = true,
                _ => {}
            }
        }
        (scale, selective)
    }
}

/// Kind and data of options, until the first that is cut.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match *self.0 {
                [] | [0, ..] => return None,
                [1, ref rest @ ..] => self.0 = rest,
                [kind, len, ref rest @ ..] => {
                    let (data, rest) = rest.split_at_checked(usize::from(len).checked_sub(2)?)?;
                    self.0 = rest;
                    return Some((kind, data));
                }
                [_] => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zsync_packet::checksum::Sum;
    use zsync_packet::header::build::TcpSpec;

    #[test]
    fn of_all_combinations_of_flags_nine_are_valid_whatever_psh_ece_and_cwr_say() {
        let mut bytes = TcpSpec::new(1, 2, TcpFlags(0)).segment(Sum::default(), &[]);
        let mut valid = Vec::new();
        for flags in 0..=255 {
            bytes[13] = flags;
            match Segment::parse(&bytes) {
                Ok(segment) => valid.push(segment.flags.0 & 0b0011_0111),
                Err(error) => assert_eq!(error, BadSegment::Flags),
            }
        }
        valid.sort_unstable();
        assert_eq!(valid.len(), 9 * 8);
        valid.dedup();
        assert_eq!(valid, [2, 4, 16, 17, 18, 20, 34, 48, 49]);
    }

    #[test]
    fn a_cut_header_is_refused_at_every_length() {
        let bytes = TcpSpec {
            options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            ..TcpSpec::new(1, 2, TcpFlags::ACK)
        }
        .segment(Sum::default(), b"x");
        for len in 0..32 {
            assert_eq!(Segment::parse(&bytes[..len]).err(), Some(BadSegment::Truncated), "{len}");
        }
        assert_eq!(Segment::parse(&bytes[..32]).map(|segment| segment.options.len()), Ok(12));
        let mut short = bytes.clone();
        short[12] = 0x40;
        assert_eq!(Segment::parse(&short).err(), Some(BadSegment::Truncated));
    }

    #[test]
    fn syn_and_fin_count_as_one_each() {
        for (flags, more) in
            [(TcpFlags::SYN, 1), (TcpFlags::ACK, 0), (TcpFlags(0x11), 1), (TcpFlags(0x12), 1)]
        {
            let spec = TcpSpec { sequence: u32::MAX - 1, ..TcpSpec::new(1, 2, flags) };
            let bytes = spec.segment(Sum::default(), b"abc");
            assert_eq!(Segment::parse(&bytes).map(|segment| segment.end), Ok(1 + more));
        }
    }

    #[test]
    fn options_are_read_until_one_is_cut() {
        let read = |options: &[u8]| {
            let spec = TcpSpec { options: options.to_vec(), ..TcpSpec::new(1, 2, TcpFlags::SYN) };
            let bytes = spec.segment(Sum::default(), &[]);
            Segment::parse(&bytes).map(|segment| segment.agreement())
        };
        assert_eq!(
            read(&[2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 7]),
            Ok((Some(7), true))
        );
        assert_eq!(read(&[3, 3, 200, 0, 4, 2, 0, 0]), Ok((Some(14), false)), "nothing counts behind the end");
        assert_eq!(read(&[3, 0, 4, 2]), Ok((None, false)));
        assert_eq!(read(&[1, 1, 3, 3]), Ok((None, false)), "cut");
        assert_eq!(read(&[1, 1, 1, 3]), Ok((None, false)), "cut before its length");
    }

    #[test]
    fn the_highest_block_of_a_selective_acknowledgement_counts() {
        let mut options = vec![1, 1, 5, 18];
        for edge in [100u32, 200, 300, 400] {
            options.extend(edge.to_be_bytes());
        }
        let spec = TcpSpec { options, acknowledgement: 50, ..TcpSpec::new(1, 2, TcpFlags::ACK) };
        let bytes = spec.segment(Sum::default(), &[]);
        let segment = Segment::parse(&bytes).unwrap();
        assert_eq!(segment.selective(50), 400);
        assert_eq!(segment.selective(500), 500);
        assert_eq!(segment.selective(400u32.wrapping_sub(1 << 31).wrapping_add(1)), 400);
    }
}
