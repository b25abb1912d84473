//! UDP (RFC 768).
//!
//! Owns the 8 bytes and the payload cut to the length field. Refuses a length under 8 or past the bytes; zero is
//! refused too, for it means a jumbogram (RFC 2675), which no port of ours carries.
#![forbid(unsafe_code)]

use super::{HeaderError, be16, field_mut, protocol};
use crate::checksum::{Delta, Sum};

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;

/// A checked UDP datagram.
#[derive(Clone, Copy, Debug)]
pub struct Udp<'a> {
    fixed: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

#[inline]
fn payload_len(fixed: &[u8; HEADER_LEN]) -> Result<usize, HeaderError> {
    usize::from(be16::<4, _>(fixed)).checked_sub(HEADER_LEN).ok_or(HeaderError::BadTotalLength)
}

impl<'a> Udp<'a> {
    /// Checks the payload of an IP packet that is not a fragment.
    ///
    /// # Errors
    /// `Truncated`, `BadTotalLength`.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let (fixed, rest) = bytes.split_first_chunk().ok_or(HeaderError::Truncated)?;
        let payload = rest.get(..payload_len(fixed)?).ok_or(HeaderError::Truncated)?;
        Ok(Udp { fixed, payload })
    }

    /// As `parse`, for a first fragment or a quoted packet: the payload may end before the length does.
    ///
    /// # Errors
    /// As `parse`, but the header alone must be whole.
    #[inline]
    pub fn parse_partial(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let (fixed, rest) = bytes.split_first_chunk().ok_or(HeaderError::Truncated)?;
        Ok(Udp { fixed, payload: rest.get(..payload_len(fixed)?).unwrap_or(rest) })
    }

    /// The sender's port; 0 when no answer is wanted.
    #[inline]
    pub fn source_port(&self) -> u16 {
        be16::<0, _>(self.fixed)
    }

    /// The receiver's port.
    #[inline]
    pub fn destination_port(&self) -> u16 {
        be16::<2, _>(self.fixed)
    }

    /// The length as the header says it: header and payload.
    #[inline]
    pub fn length(&self) -> u16 {
        be16::<4, _>(self.fixed)
    }

    /// The checksum, as it stands; 0 says that there is none.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16::<6, _>(self.fixed)
    }

    /// What follows the header, up to the length.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Checks the checksum of a whole datagram. `addresses` is the IP view's `address_sum`. "None" passes; over
    /// IPv6 whoever cares refuses it (RFC 8200 §8.1, with the exceptions of RFC 6935).
    ///
    /// # Errors
    /// `BadChecksum`.
    #[inline]
    pub fn verify_checksum(&self, addresses: Sum) -> Result<(), HeaderError> {
        if self.checksum() == 0 || self.sum(addresses).is_valid() {
            Ok(())
        } else {
            Err(HeaderError::BadChecksum)
        }
    }

    #[inline]
    fn sum(&self, addresses: Sum) -> Sum {
        addresses.with_transport(protocol::UDP, usize::from(self.length()))
            + Sum::of_fixed(self.fixed)
            + Sum::of(self.payload)
    }
}

/// A checked UDP datagram to rewrite. Setters keep the checksum as right as it was, and "none" none.
#[derive(Debug)]
pub struct UdpMut<'a> {
    fixed: &'a mut [u8; HEADER_LEN],
    payload: &'a mut [u8],
}

impl<'a> UdpMut<'a> {
    /// As [`Udp::parse`].
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn parse(bytes: &'a mut [u8]) -> Result<Self, HeaderError> {
        let (fixed, rest) = bytes.split_first_chunk_mut().ok_or(HeaderError::Truncated)?;
        let payload = rest.get_mut(..payload_len(fixed)?).ok_or(HeaderError::Truncated)?;
        Ok(UdpMut { fixed, payload })
    }

    /// As [`Udp::parse_partial`].
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn parse_partial(bytes: &'a mut [u8]) -> Result<Self, HeaderError> {
        let (fixed, rest) = bytes.split_first_chunk_mut().ok_or(HeaderError::Truncated)?;
        let end = payload_len(fixed)?.min(rest.len());
        let payload = rest.get_mut(..end).ok_or(HeaderError::Truncated)?;
        Ok(UdpMut { fixed, payload })
    }

    /// The same datagram, to read.
    #[inline]
    pub fn view(&self) -> Udp<'_> {
        Udp { fixed: self.fixed, payload: self.payload }
    }

    /// The payload, to rewrite. The checksum does not follow.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.payload
    }

    /// Sets the sender's port.
    #[inline]
    pub fn set_source_port(&mut self, port: u16) {
        let old = core::mem::replace(field_mut::<0, 2, _>(self.fixed), port.to_be_bytes());
        self.adjust_checksum(Delta::of(&old, &port.to_be_bytes()));
    }

    /// Sets the receiver's port.
    #[inline]
    pub fn set_destination_port(&mut self, port: u16) {
        let old = core::mem::replace(field_mut::<2, 2, _>(self.fixed), port.to_be_bytes());
        self.adjust_checksum(Delta::of(&old, &port.to_be_bytes()));
    }

    /// Takes a change of what the checksum covers outside the header: the addresses, or the payload.
    #[inline]
    pub fn adjust_checksum(&mut self, delta: Delta) {
        let checksum = field_mut::<6, 2, _>(self.fixed);
        *checksum = delta.apply_udp(u16::from_be_bytes(*checksum)).to_be_bytes();
    }

    /// Computes the checksum of a whole datagram anew. `addresses` is the IP view's `address_sum`.
    #[inline]
    pub fn fill_checksum(&mut self, addresses: Sum) {
        *field_mut::<6, 2, _>(self.fixed) = [0, 0];
        let checksum = self.view().sum(addresses).finish_udp();
        *field_mut::<6, 2, _>(self.fixed) = checksum.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::header::build;

    #[test]
    fn fields_and_refusals() {
        let mut bytes = build::udp(Sum::ZERO, 53, 4242, b"payload");
        bytes.push(0xee);
        let view = Udp::parse(&bytes).unwrap();
        assert_eq!((view.source_port(), view.destination_port(), view.length()), (53, 4242, 15));
        assert_eq!(view.payload(), b"payload");
        assert_eq!(Udp::parse(&bytes[..14]).unwrap_err(), HeaderError::Truncated);
        assert_eq!(Udp::parse_partial(&bytes[..14]).unwrap().payload(), b"payloa");
        assert_eq!(Udp::parse(&bytes[..7]).unwrap_err(), HeaderError::Truncated);
        for short in [0, 7] {
            bytes[5] = short;
            assert_eq!(Udp::parse(&bytes).unwrap_err(), HeaderError::BadTotalLength);
        }
    }

    #[test]
    fn no_checksum_stays_none() {
        let mut bytes = build::udp(Sum::ZERO, 53, 4242, b"payload");
        bytes[6..8].fill(0);
        let mut view = UdpMut::parse(&mut bytes).unwrap();
        view.set_source_port(1);
        view.adjust_checksum(Delta::of_u16(1, 2));
        assert_eq!(view.view().checksum(), 0);
        assert_eq!(view.view().verify_checksum(Sum::ZERO), Ok(()));
    }

    proptest! {
        /// What NAT does: address and port change, and the checksum is the one a new datagram has.
        #[test]
        fn rewritten_is_rebuilt(
            old: [u8; 4], new: [u8; 4], to: [u8; 4], ports: (u16, u16, u16),
            payload in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let addresses = |from: [u8; 4]| Sum::addresses_v4(from.into(), Ipv4Addr::from(to));
            let mut bytes = build::udp(addresses(old), ports.0, ports.1, &payload);
            let mut view = UdpMut::parse(&mut bytes).unwrap();
            view.adjust_checksum(Delta::of(&old, &new));
            view.set_source_port(ports.2);
            view.set_destination_port(ports.0);
            prop_assert_eq!(view.view().verify_checksum(addresses(new)), Ok(()));
            prop_assert_eq!(&bytes, &build::udp(addresses(new), ports.2, ports.0, &payload));
        }

        #[test]
        fn a_flipped_bit_is_seen(payload in prop::collection::vec(any::<u8>(), 1..40), bit in 0usize..320) {
            let mut bytes = build::udp(Sum::ZERO, 7, 9, &payload);
            let at = 8 + bit / 8 % payload.len();
            bytes[at] ^= 1 << (bit % 8);
            let verdict = Udp::parse(&bytes).unwrap().verify_checksum(Sum::ZERO);
            prop_assert_eq!(verdict, Err(HeaderError::BadChecksum));
        }
    }
}
