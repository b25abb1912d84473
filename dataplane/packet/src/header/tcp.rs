//! TCP (RFC 9293), with its options.
//!
//! Owns the header up to the last option; the payload is the rest, for TCP has no length of its own. Refuses a data
//! offset under 5 or past the bytes. The lengths of options are checked by the walk, not by `parse`.
#![forbid(unsafe_code)]

use super::options::Options;
use super::{HeaderError, be16, be32, byte, field_mut, protocol};
use crate::checksum::{Delta, Sum};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

/// The control bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: TcpFlags = TcpFlags(0x01);
    /// Opens a connection.
    pub const SYN: TcpFlags = TcpFlags(0x02);
    /// Resets it.
    pub const RST: TcpFlags = TcpFlags(0x04);
    /// Push.
    pub const PSH: TcpFlags = TcpFlags(0x08);
    /// The acknowledgement number counts.
    pub const ACK: TcpFlags = TcpFlags(0x10);
    /// The urgent pointer counts.
    pub const URG: TcpFlags = TcpFlags(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: TcpFlags = TcpFlags(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: TcpFlags = TcpFlags(0x80);

    /// Whether all of `flags` are set.
    #[inline]
    pub const fn contains(self, flags: TcpFlags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Whether any of `flags` is set.
    #[inline]
    pub const fn intersects(self, flags: TcpFlags) -> bool {
        self.0 & flags.0 != 0
    }

    /// These and those.
    #[inline]
    pub const fn union(self, other: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 | other.0)
    }
}

/// One option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpOption<'a> {
    /// The largest segment that the sender takes (kind 2), in bytes.
    MaxSegmentSize(u16),
    /// The shift of its window (kind 3, RFC 7323).
    WindowScale(u8),
    /// Selective acknowledgements may be sent (kind 4, RFC 2018).
    SackPermitted,
    /// Selective acknowledgements (kind 5): 1 to 4 blocks of two sequence numbers each.
    Sack(&'a [u8]),
    /// Timestamps (kind 8, RFC 7323).
    Timestamps {
        /// The sender's clock.
        value: u32,
        /// The clock that it heard last.
        echo: u32,
    },
    /// Any other.
    Other {
        /// Its kind.
        kind: u8,
        /// What follows its kind and length.
        data: &'a [u8],
    },
}

/// A checked TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    fixed: &'a [u8; HEADER_LEN],
    options: &'a [u8],
    payload: &'a [u8],
}

#[inline]
fn options_len(fixed: &[u8; HEADER_LEN]) -> Result<usize, HeaderError> {
    let header = usize::from(byte::<12, _>(fixed) >> 4) * 4;
    header.checked_sub(HEADER_LEN).ok_or(HeaderError::BadHeaderLength)
}

impl<'a> Tcp<'a> {
    /// Checks the payload of an IP packet, a first fragment too.
    ///
    /// # Errors
    /// `Truncated`, `BadHeaderLength`.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let (fixed, rest) = bytes.split_first_chunk().ok_or(HeaderError::Truncated)?;
        let (options, payload) = rest.split_at_checked(options_len(fixed)?).ok_or(HeaderError::Truncated)?;
        Ok(Tcp { fixed, options, payload })
    }

    /// The sender's port.
    #[inline]
    pub fn source_port(&self) -> u16 {
        be16::<0, _>(self.fixed)
    }

    /// The receiver's port.
    #[inline]
    pub fn destination_port(&self) -> u16 {
        be16::<2, _>(self.fixed)
    }

    /// The number of the first payload byte, or of the SYN.
    #[inline]
    pub fn sequence(&self) -> u32 {
        be32::<4, _>(self.fixed)
    }

    /// The number that the sender expects next, if [`TcpFlags::ACK`] is set.
    #[inline]
    pub fn acknowledgement(&self) -> u32 {
        be32::<8, _>(self.fixed)
    }

    /// The control bits.
    #[inline]
    pub fn flags(&self) -> TcpFlags {
        TcpFlags(byte::<13, _>(self.fixed))
    }

    /// The receive window, unscaled.
    #[inline]
    pub fn window(&self) -> u16 {
        be16::<14, _>(self.fixed)
    }

    /// The checksum, as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16::<16, _>(self.fixed)
    }

    /// Where urgent data end, if [`TcpFlags::URG`] is set.
    #[inline]
    pub fn urgent(&self) -> u16 {
        be16::<18, _>(self.fixed)
    }

    /// Header bytes, options included: 20..=60.
    #[inline]
    pub fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// What follows the header.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// How many sequence numbers the segment takes: its payload, SYN and FIN.
    #[inline]
    pub fn sequence_len(&self) -> u32 {
        let flags = self.flags();
        // The cast keeps all: a payload is under 64 KiB.
        self.payload.len() as u32
            + u32::from(flags.contains(TcpFlags::SYN))
            + u32::from(flags.contains(TcpFlags::FIN))
    }

    /// Walks the options. `BadOption` where one runs past the header, which ends the walk, or where a known kind
    /// has a wrong length.
    #[inline]
    pub fn options(&self) -> impl Iterator<Item = Result<TcpOption<'a>, HeaderError>> + use<'a> {
        Options::new(self.options).map(|option| {
            let option = option?;
            Ok(match (option.kind, option.data) {
                (2, &[a, b]) => TcpOption::MaxSegmentSize(u16::from_be_bytes([a, b])),
                (3, &[shift]) => TcpOption::WindowScale(shift),
                (4, []) => TcpOption::SackPermitted,
                (5, blocks) if matches!(blocks.len(), 8 | 16 | 24 | 32) => TcpOption::Sack(blocks),
                (8, &[a, b, c, d, e, f, g, h]) => TcpOption::Timestamps {
                    value: u32::from_be_bytes([a, b, c, d]),
                    echo: u32::from_be_bytes([e, f, g, h]),
                },
                (2..=5 | 8, _) => return Err(HeaderError::BadOption),
                (kind, data) => TcpOption::Other { kind, data },
            })
        })
    }

    /// Checks the checksum of a whole segment. `addresses` is the IP view's `address_sum`.
    ///
    /// # Errors
    /// `BadChecksum`.
    #[inline]
    pub fn verify_checksum(&self, addresses: Sum) -> Result<(), HeaderError> {
        if self.sum(addresses).is_valid() { Ok(()) } else { Err(HeaderError::BadChecksum) }
    }

    #[inline]
    fn sum(&self, addresses: Sum) -> Sum {
        addresses.with_transport(protocol::TCP, self.header_len() + self.payload.len())
            + Sum::of_fixed(self.fixed)
            + Sum::of(self.options)
            + Sum::of(self.payload)
    }
}

/// A checked TCP segment to rewrite. Setters keep the checksum as right as it was.
#[derive(Debug)]
pub struct TcpMut<'a> {
    fixed: &'a mut [u8; HEADER_LEN],
    options: &'a mut [u8],
    payload: &'a mut [u8],
}

impl<'a> TcpMut<'a> {
    /// As [`Tcp::parse`].
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn parse(bytes: &'a mut [u8]) -> Result<Self, HeaderError> {
        let (fixed, rest) = bytes.split_first_chunk_mut().ok_or(HeaderError::Truncated)?;
        let (options, payload) =
            rest.split_at_mut_checked(options_len(fixed)?).ok_or(HeaderError::Truncated)?;
        Ok(TcpMut { fixed, options, payload })
    }

    /// The same segment, to read.
    #[inline]
    pub fn view(&self) -> Tcp<'_> {
        Tcp { fixed: self.fixed, options: self.options, payload: self.payload }
    }

    /// The payload, to rewrite. The checksum does not follow.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.payload
    }

    /// Sets the sender's port.
    #[inline]
    pub fn set_source_port(&mut self, port: u16) {
        self.replace::<0, 2>(port.to_be_bytes());
    }

    /// Sets the receiver's port.
    #[inline]
    pub fn set_destination_port(&mut self, port: u16) {
        self.replace::<2, 2>(port.to_be_bytes());
    }

    /// Sets the sequence number.
    #[inline]
    pub fn set_sequence(&mut self, number: u32) {
        self.replace::<4, 4>(number.to_be_bytes());
    }

    /// Sets the acknowledgement number.
    #[inline]
    pub fn set_acknowledgement(&mut self, number: u32) {
        self.replace::<8, 4>(number.to_be_bytes());
    }

    /// Sets the receive window.
    #[inline]
    pub fn set_window(&mut self, window: u16) {
        self.replace::<14, 2>(window.to_be_bytes());
    }

    /// Lowers the maximum segment size of a SYN to `limit` bytes, where the path's MTU is smaller than the ends
    /// know; whether something changed. A segment without SYN or without the option is left alone.
    #[inline]
    pub fn clamp_max_segment_size(&mut self, limit: u16) -> bool {
        if !self.view().flags().contains(TcpFlags::SYN) {
            return false;
        }
        let found = Options::new(self.options).flatten().find(|o| o.kind == 2 && o.data.len() == 2);
        let Some(offset) = found.map(|option| option.offset + 2) else { return false };
        let Some(value) = self.options.get_mut(offset..).and_then(<[u8]>::first_chunk_mut::<2>) else {
            return false;
        };
        if u16::from_be_bytes(*value) <= limit {
            return false;
        }
        let old = core::mem::replace(value, limit.to_be_bytes());
        let delta = Delta::of(&old, &limit.to_be_bytes());
        self.adjust_checksum(if offset % 2 == 0 { delta } else { delta.at_odd_offset() });
        true
    }

    /// Takes a change of what the checksum covers outside the header: the addresses, or the payload.
    #[inline]
    pub fn adjust_checksum(&mut self, delta: Delta) {
        let checksum = field_mut::<16, 2, _>(self.fixed);
        *checksum = delta.apply(u16::from_be_bytes(*checksum)).to_be_bytes();
    }

    /// Computes the checksum of a whole segment anew. `addresses` is the IP view's `address_sum`.
    #[inline]
    pub fn fill_checksum(&mut self, addresses: Sum) {
        *field_mut::<16, 2, _>(self.fixed) = [0, 0];
        let checksum = self.view().sum(addresses).finish();
        *field_mut::<16, 2, _>(self.fixed) = checksum.to_be_bytes();
    }

    #[inline]
    fn replace<const AT: usize, const W: usize>(&mut self, new: [u8; W]) {
        let old = core::mem::replace(field_mut::<AT, W, _>(self.fixed), new);
        self.adjust_checksum(Delta::of(&old, &new));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::header::build::TcpSpec;

    fn spec() -> TcpSpec {
        TcpSpec { sequence: 1, acknowledgement: 2, window: 3, ..TcpSpec::new(443, 50_000, TcpFlags::SYN) }
    }

    #[test]
    fn fields_and_refusals() {
        let mut bytes = spec().segment(Sum::ZERO, b"payload");
        let view = Tcp::parse(&bytes).unwrap();
        assert_eq!((view.source_port(), view.destination_port()), (443, 50_000));
        assert_eq!((view.sequence(), view.acknowledgement(), view.window(), view.urgent()), (1, 2, 3, 0));
        assert_eq!((view.flags(), view.payload(), view.sequence_len()), (TcpFlags::SYN, &b"payload"[..], 8));
        assert_eq!(view.verify_checksum(Sum::ZERO), Ok(()));
        assert_eq!(view.verify_checksum(Sum::ZERO.with_u16(1)), Err(HeaderError::BadChecksum));
        assert_eq!(Tcp::parse(&bytes[..19]).unwrap_err(), HeaderError::Truncated);
        bytes[12] = 0x40;
        assert_eq!(Tcp::parse(&bytes).unwrap_err(), HeaderError::BadHeaderLength);
        bytes[12] = 0x70;
        assert_eq!(Tcp::parse(&bytes).unwrap_err(), HeaderError::Truncated);
    }

    #[test]
    fn options() {
        // What Linux sends with a SYN, and one unknown.
        let options = vec![2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7, 254, 3, 9];
        let bytes = TcpSpec { options, ..spec() }.segment(Sum::ZERO, b"x");
        let view = Tcp::parse(&bytes).unwrap();
        let seen: Result<Vec<_>, _> = view.options().collect();
        let expected = [
            TcpOption::MaxSegmentSize(1460),
            TcpOption::SackPermitted,
            TcpOption::Timestamps { value: 1, echo: 2 },
            TcpOption::WindowScale(7),
            TcpOption::Other { kind: 254, data: &[9] },
        ];
        assert_eq!(seen.unwrap(), expected);
        for bad in [vec![2, 3, 1, 0], vec![5, 4, 0, 0], vec![2, 4, 5, 180, 1, 1, 1, 2], vec![3, 0, 0, 0]] {
            let bytes = TcpSpec { options: bad.clone(), ..spec() }.segment(Sum::ZERO, &[]);
            let last = Tcp::parse(&bytes).unwrap().options().last();
            assert!(Tcp::parse(&bytes).unwrap().options().any(|o| o.is_err()), "{bad:?} {last:?}");
        }
    }

    #[test]
    fn segment_size_is_lowered_and_never_raised() {
        for lead in 0..4 {
            let options = |mss: u16| {
                let [a, b] = mss.to_be_bytes();
                [&vec![1; lead][..], &[2, 4, a, b]].concat()
            };
            let mut bytes = TcpSpec { options: options(1460), ..spec() }.segment(Sum::ZERO, &[]);
            assert!(TcpMut::parse(&mut bytes).unwrap().clamp_max_segment_size(1380));
            assert_eq!(bytes, TcpSpec { options: options(1380), ..spec() }.segment(Sum::ZERO, &[]));
            assert!(!TcpMut::parse(&mut bytes).unwrap().clamp_max_segment_size(1400));
        }
        let mut bytes = spec().segment(Sum::ZERO, &[]);
        assert!(!TcpMut::parse(&mut bytes).unwrap().clamp_max_segment_size(1));
        let ack = TcpSpec { flags: TcpFlags::ACK, options: vec![2, 4, 5, 180], ..spec() };
        let mut bytes = ack.segment(Sum::ZERO, &[]);
        assert!(!TcpMut::parse(&mut bytes).unwrap().clamp_max_segment_size(1));
    }

    proptest! {
        /// What NAT does: the checksum is the one a new segment has.
        #[test]
        fn rewritten_is_rebuilt(
            old: [u8; 16], new: [u8; 16], numbers: (u16, u16, u32, u32, u16),
            payload in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut bytes = spec().segment(Sum::of(&old), &payload);
            let mut view = TcpMut::parse(&mut bytes).unwrap();
            view.adjust_checksum(Delta::of(&old, &new));
            let (source_port, destination_port, sequence, acknowledgement, window) = numbers;
            view.set_source_port(source_port);
            view.set_destination_port(destination_port);
            view.set_sequence(sequence);
            view.set_acknowledgement(acknowledgement);
            view.set_window(window);
            let end = TcpSpec { source_port, destination_port, sequence, acknowledgement, window, ..spec() };
            prop_assert_eq!(&bytes, &end.segment(Sum::of(&new), &payload));
            TcpMut::parse(&mut bytes).unwrap().fill_checksum(Sum::of(&new));
            prop_assert_eq!(bytes, end.segment(Sum::of(&new), &payload));
        }
    }
}
