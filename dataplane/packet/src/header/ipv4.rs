//! IPv4 (RFC 791), with its options.
//!
//! Owns the header from the version to the last option, and the payload cut to the total length. Refuses another
//! version, a header length under 20, and a total length that is smaller than the header or larger than the bytes.
//! The checksum is not part of `parse`: ask [`Ipv4::verify_checksum`]. An authentication header is a payload here
//! (protocol 51), as for every router.
#![forbid(unsafe_code)]

use core::net::Ipv4Addr;

use super::options::Options;
use super::{HeaderError, be16, byte, field, field_mut};
use crate::checksum::{Delta, Sum};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

/// Where the parts behind the fixed header lie, in bytes.
struct Layout {
    options: usize,
    payload: usize,
}

impl Layout {
    #[inline]
    fn of(fixed: &[u8; HEADER_LEN]) -> Result<Layout, HeaderError> {
        let first = byte::<0, _>(fixed);
        if first >> 4 != 4 {
            return Err(HeaderError::BadVersion);
        }
        let header = usize::from(first & 0xf) * 4;
        let options = header.checked_sub(HEADER_LEN).ok_or(HeaderError::BadHeaderLength)?;
        let total = usize::from(be16::<2, _>(fixed));
        let payload = total.checked_sub(header).ok_or(HeaderError::BadTotalLength)?;
        Ok(Layout { options, payload })
    }
}

/// The sum under the header checksum. Options are rare: without them there is no loop.
#[inline]
fn header_sum(fixed: &[u8; HEADER_LEN], options: &[u8]) -> Sum {
    let sum = Sum::of_fixed(fixed);
    if options.is_empty() { sum } else { sum + Sum::of(options) }
}

/// A checked IPv4 packet.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a> {
    fixed: &'a [u8; HEADER_LEN],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// Checks the payload of a link-layer header; padding behind the total length is left out.
    ///
    /// # Errors
    /// `Truncated`, `BadVersion`, `BadHeaderLength`, `BadTotalLength`.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let (fixed, rest) = bytes.split_first_chunk().ok_or(HeaderError::Truncated)?;
        let layout = Layout::of(fixed)?;
        let (options, rest) = rest.split_at_checked(layout.options).ok_or(HeaderError::Truncated)?;
        let payload = rest.get(..layout.payload).ok_or(HeaderError::Truncated)?;
        Ok(Ipv4 { fixed, options, payload })
    }

    /// As `parse`, for the packet that an ICMP error quotes: the payload may end before the total length does.
    ///
    /// # Errors
    /// As `parse`, but the header alone must be whole.
    #[inline]
    pub fn parse_quoted(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let (fixed, rest) = bytes.split_first_chunk().ok_or(HeaderError::Truncated)?;
        let layout = Layout::of(fixed)?;
        let (options, rest) = rest.split_at_checked(layout.options).ok_or(HeaderError::Truncated)?;
        Ok(Ipv4 { fixed, options, payload: rest.get(..layout.payload).unwrap_or(rest) })
    }

    /// Header bytes, options included: 20..=60.
    #[inline]
    pub fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// The total length as the header says it: header and payload.
    #[inline]
    pub fn total_len(&self) -> u16 {
        be16::<2, _>(self.fixed)
    }

    /// Differentiated services code point (RFC 2474), 0..=63.
    #[inline]
    pub fn dscp(&self) -> u8 {
        byte::<1, _>(self.fixed) >> 2
    }

    /// Explicit congestion notification (RFC 3168), 0..=3.
    #[inline]
    pub fn ecn(&self) -> u8 {
        byte::<1, _>(self.fixed) & 3
    }

    /// Which datagram a fragment belongs to.
    #[inline]
    pub fn identification(&self) -> u16 {
        be16::<4, _>(self.fixed)
    }

    /// Whether routers must not fragment it.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        byte::<6, _>(self.fixed) & 0x40 != 0
    }

    /// Whether it is a fragment, and not the last.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        byte::<6, _>(self.fixed) & 0x20 != 0
    }

    /// Where the payload lies in the datagram, in bytes (a multiple of 8).
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        (be16::<6, _>(self.fixed) & 0x1fff) << 3
    }

    /// Whether the datagram goes in more than one packet.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        be16::<6, _>(self.fixed) & 0x3fff != 0
    }

    /// Whether the payload begins with the transport header: all but the later fragments.
    #[inline]
    pub fn begins_transport(&self) -> bool {
        be16::<6, _>(self.fixed) & 0x1fff == 0
    }

    /// Hops left.
    #[inline]
    pub fn ttl(&self) -> u8 {
        byte::<8, _>(self.fixed)
    }

    /// What the payload is: one of [`protocol`](super::protocol).
    #[inline]
    pub fn protocol(&self) -> u8 {
        byte::<9, _>(self.fixed)
    }

    /// The header checksum, as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16::<10, _>(self.fixed)
    }

    /// Who sent it.
    #[inline]
    pub fn source(&self) -> Ipv4Addr {
        Ipv4Addr::from_octets(*field::<12, 4, _>(self.fixed))
    }

    /// Whom it is for.
    #[inline]
    pub fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::from_octets(*field::<16, 4, _>(self.fixed))
    }

    /// Whether there are options.
    #[inline]
    pub fn has_options(&self) -> bool {
        !self.options.is_empty()
    }

    /// Walks the options, whose lengths `parse` did not check.
    #[inline]
    pub fn options(&self) -> Options<'a> {
        Options::new(self.options)
    }

    /// What follows the header, up to the total length.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The addresses' part of the pseudo-header that TCP and UDP sum.
    #[inline]
    pub fn address_sum(&self) -> Sum {
        Sum::of_fixed(field::<12, 8, _>(self.fixed))
    }

    /// Checks the header checksum (RFC 1812 §5.2.2).
    ///
    /// # Errors
    /// `BadChecksum`.
    #[inline]
    pub fn verify_checksum(&self) -> Result<(), HeaderError> {
        if header_sum(self.fixed, self.options).is_valid() { Ok(()) } else { Err(HeaderError::BadChecksum) }
    }
}

/// A checked IPv4 packet to rewrite. Every setter keeps the header checksum as right (or as wrong) as it was.
#[derive(Debug)]
pub struct Ipv4Mut<'a> {
    fixed: &'a mut [u8; HEADER_LEN],
    options: &'a mut [u8],
    payload: &'a mut [u8],
}

impl<'a> Ipv4Mut<'a> {
    /// As [`Ipv4::parse`].
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn parse(bytes: &'a mut [u8]) -> Result<Self, HeaderError> {
        let (fixed, rest) = bytes.split_first_chunk_mut().ok_or(HeaderError::Truncated)?;
        let layout = Layout::of(fixed)?;
        let (options, rest) = rest.split_at_mut_checked(layout.options).ok_or(HeaderError::Truncated)?;
        let payload = rest.get_mut(..layout.payload).ok_or(HeaderError::Truncated)?;
        Ok(Ipv4Mut { fixed, options, payload })
    }

    /// As [`Ipv4::parse_quoted`].
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn parse_quoted(bytes: &'a mut [u8]) -> Result<Self, HeaderError> {
        let (fixed, rest) = bytes.split_first_chunk_mut().ok_or(HeaderError::Truncated)?;
        let layout = Layout::of(fixed)?;
        let (options, rest) = rest.split_at_mut_checked(layout.options).ok_or(HeaderError::Truncated)?;
        let end = layout.payload.min(rest.len());
        let payload = rest.get_mut(..end).ok_or(HeaderError::Truncated)?;
        Ok(Ipv4Mut { fixed, options, payload })
    }

    /// The same packet, to read.
    #[inline]
    pub fn view(&self) -> Ipv4<'_> {
        Ipv4 { fixed: self.fixed, options: self.options, payload: self.payload }
    }

    /// The payload, to rewrite.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.payload
    }

    /// Gives the view up for its payload.
    #[inline]
    pub fn into_payload(self) -> &'a mut [u8] {
        self.payload
    }

    /// Takes one hop off and returns how many are left. `None`, and nothing changed, when there is none to take:
    /// the packet must not be forwarded (RFC 1812 §5.3.1).
    #[inline]
    pub fn decrement_ttl(&mut self) -> Option<u8> {
        let left = byte::<8, _>(self.fixed).checked_sub(1).filter(|&left| left > 0)?;
        self.set_ttl(left);
        Some(left)
    }

    /// Sets the hops left.
    #[inline]
    pub fn set_ttl(&mut self, ttl: u8) {
        let protocol = byte::<9, _>(self.fixed);
        let _ = self.replace::<8, 2>([ttl, protocol]);
    }

    /// Sets the code point; the low 6 bits count.
    #[inline]
    pub fn set_dscp(&mut self, dscp: u8) {
        let [first, tos] = *field::<0, 2, _>(self.fixed);
        let _ = self.replace::<0, 2>([first, dscp << 2 | tos & 3]);
    }

    /// Sets the congestion bits; the low 2 bits count.
    #[inline]
    pub fn set_ecn(&mut self, ecn: u8) {
        let [first, tos] = *field::<0, 2, _>(self.fixed);
        let _ = self.replace::<0, 2>([first, tos & !3 | ecn & 3]);
    }

    /// Sets who sent it. The change goes to the checksums of TCP and UDP, which cover the addresses too.
    #[inline]
    pub fn set_source(&mut self, address: Ipv4Addr) -> Delta {
        self.replace::<12, 4>(address.octets())
    }

    /// Sets whom it is for. The change goes to the checksums of TCP and UDP, which cover the addresses too.
    #[inline]
    pub fn set_destination(&mut self, address: Ipv4Addr) -> Delta {
        self.replace::<16, 4>(address.octets())
    }

    /// Computes the header checksum anew.
    #[inline]
    pub fn fill_checksum(&mut self) {
        *field_mut::<10, 2, _>(self.fixed) = [0, 0];
        let checksum = header_sum(self.fixed, self.options).finish();
        *field_mut::<10, 2, _>(self.fixed) = checksum.to_be_bytes();
    }

    #[inline]
    fn replace<const AT: usize, const W: usize>(&mut self, new: [u8; W]) -> Delta {
        let old = core::mem::replace(field_mut::<AT, W, _>(self.fixed), new);
        let delta = Delta::of(&old, &new);
        let checksum = field_mut::<10, 2, _>(self.fixed);
        *checksum = delta.apply(u16::from_be_bytes(*checksum)).to_be_bytes();
        delta
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::header::build::Ipv4Spec;
    use crate::header::protocol;

    fn spec() -> Ipv4Spec {
        Ipv4Spec {
            tos: 0xb9,
            identification: 0x1234,
            ttl: 64,
            ..Ipv4Spec::new([10, 0, 0, 1].into(), [192, 0, 2, 7].into(), protocol::UDP)
        }
    }

    #[test]
    fn fields_and_padding() {
        let mut bytes = spec().packet(b"payload");
        bytes.extend([0xee; 19]);
        let view = Ipv4::parse(&bytes).unwrap();
        assert_eq!((view.dscp(), view.ecn(), view.identification()), (46, 1, 0x1234));
        assert_eq!((view.ttl(), view.protocol(), view.header_len(), view.total_len()), (64, 17, 20, 27));
        assert_eq!(view.source(), Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(view.destination(), Ipv4Addr::new(192, 0, 2, 7));
        assert_eq!(view.payload(), b"payload");
        assert_eq!(view.verify_checksum(), Ok(()));
        assert!(!view.has_options() && !view.is_fragment() && view.begins_transport());
    }

    #[test]
    fn options_are_between_header_and_payload() {
        // Router alert (RFC 2113).
        let bytes = Ipv4Spec { options: vec![0x94, 4, 0, 0], ..spec() }.packet(b"x");
        let view = Ipv4::parse(&bytes).unwrap();
        let kinds: Vec<u8> = view.options().map(|o| o.unwrap().kind).collect();
        assert_eq!((view.header_len(), kinds, view.payload()), (24, vec![0x94], &b"x"[..]));
        assert_eq!(view.verify_checksum(), Ok(()));
    }

    #[test]
    fn fragments() {
        let cases = [(0, true, true, true), (1480, true, true, false), (2960, false, true, false)];
        for (offset, more, is_fragment, begins) in cases {
            let bytes = Ipv4Spec { fragment_offset: offset, more_fragments: more, ..spec() }.packet(&[0; 8]);
            let view = Ipv4::parse(&bytes).unwrap();
            assert_eq!((view.fragment_offset(), view.more_fragments()), (offset, more));
            assert_eq!((view.is_fragment(), view.begins_transport()), (is_fragment, begins));
        }
        let bytes = Ipv4Spec { dont_fragment: true, ..spec() }.packet(&[]);
        let view = Ipv4::parse(&bytes).unwrap();
        assert!(view.dont_fragment() && !view.is_fragment());
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let good = spec().packet(b"payload");
        let broken = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Ipv4::parse(&bytes).unwrap_err()
        };
        assert_eq!(broken(0, 0x65), HeaderError::BadVersion);
        assert_eq!(broken(0, 0x44), HeaderError::BadHeaderLength);
        assert_eq!(broken(0, 0x4f), HeaderError::BadTotalLength);
        assert_eq!(broken(3, 19), HeaderError::BadTotalLength);
        assert_eq!(broken(3, 28), HeaderError::Truncated);
        assert_eq!(Ipv4::parse(&good[..19]).unwrap_err(), HeaderError::Truncated);
        let mut bytes = good.clone();
        bytes[8] ^= 1;
        assert_eq!(Ipv4::parse(&bytes).unwrap().verify_checksum(), Err(HeaderError::BadChecksum));
        assert_eq!(Ipv4::parse_quoted(&good[..24]).unwrap().payload(), b"payl");
    }

    #[test]
    fn the_last_hop_is_not_taken() {
        for (ttl, left) in [(0, None), (1, None), (2, Some(1)), (255, Some(254))] {
            let mut bytes = Ipv4Spec { ttl, ..spec() }.packet(&[]);
            assert_eq!(Ipv4Mut::parse(&mut bytes).unwrap().decrement_ttl(), left);
            assert_eq!(Ipv4::parse(&bytes).unwrap().ttl(), left.unwrap_or(ttl));
        }
    }

    proptest! {
        /// Incremental updates give the bytes that a new packet with a computed checksum has.
        #[test]
        fn setters_keep_the_checksum(
            ttl in 2u8.., tos: u8, identification: u16, source: [u8; 4], destination: [u8; 4], new: [u8; 4],
        ) {
            let start = Ipv4Spec { ttl, tos, identification, ..Ipv4Spec::new(source.into(), destination.into(), 17) };
            let mut bytes = start.packet(b"x");
            let mut view = Ipv4Mut::parse(&mut bytes).unwrap();
            prop_assert_eq!(view.decrement_ttl(), Some(ttl - 1));
            let _ = view.set_source(new.into());
            let _ = view.set_destination(source.into());
            view.set_dscp(tos);
            view.set_ecn(new[0]);
            let end = Ipv4Spec {
                ttl: ttl - 1,
                tos: tos << 2 | new[0] & 3,
                source: new.into(),
                destination: source.into(),
                ..start
            };
            prop_assert_eq!(&bytes, &end.packet(b"x"));
            Ipv4Mut::parse(&mut bytes).unwrap().fill_checksum();
            prop_assert_eq!(bytes, end.packet(b"x"));
        }
    }
}
