//! Generic routing encapsulation: GRE (RFC 2784) with key and sequence number (RFC 2890).
//!
//! Owns the 4 to 16 bytes between the IP header and what the tunnel carries. Refuses another version (PPTP's is 1), the
//! routing that RFC 1701 had, and flags that no RFC gave a meaning (RFC 2784 §2.3: bits 1 to 5 that are not understood
//! mean that the packet must be dropped). A sequence number is stepped over: nothing here puts packets in order.
#![forbid(unsafe_code)]

use super::{HeaderError, be16, field_mut};
use crate::checksum::Sum;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 4;
/// Bytes of a header with checksum, key and sequence number.
pub const MAX_HEADER_LEN: usize = 16;

const CHECKSUM: u16 = 0x8000;
const KEY: u16 = 0x2000;
const SEQUENCE: u16 = 0x1000;
/// Routing, strict source route and the first two bits of the recursion count of RFC 1701.
const REFUSED: u16 = 0x4c00;
const VERSION: u16 = 0x0007;

/// A checked GRE header and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Gre<'a> {
    bytes: &'a [u8],
    protocol: u16,
    checksum: bool,
    key: Option<u32>,
    sequence: Option<u32>,
    payload: &'a [u8],
}

impl<'a> Gre<'a> {
    /// Checks the payload of an IP packet that is not a fragment.
    ///
    /// # Errors
    /// `Truncated`; `BadVersion` for a version that is not 0; `BadFlags` for a flag that is not supported.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let (fixed, mut rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(HeaderError::Truncated)?;
        let flags = be16::<0, _>(fixed);
        if flags & VERSION != 0 {
            return Err(HeaderError::BadVersion);
        }
        if flags & REFUSED != 0 {
            return Err(HeaderError::BadFlags);
        }
        let mut option = |flag: u16| -> Result<Option<u32>, HeaderError> {
            if flags & flag == 0 {
                return Ok(None);
            }
            let (word, behind) = rest.split_first_chunk::<4>().ok_or(HeaderError::Truncated)?;
            rest = behind;
            Ok(Some(u32::from_be_bytes(*word)))
        };
        let checksum = option(CHECKSUM)?.is_some();
        let key = option(KEY)?;
        let sequence = option(SEQUENCE)?;
        Ok(Gre { bytes, protocol: be16::<2, _>(fixed), checksum, key, sequence, payload: rest })
    }

    /// What the payload is: an EtherType; 0x6558 for an Ethernet frame (RFC 1701).
    #[inline]
    pub fn protocol(&self) -> u16 {
        self.protocol
    }

    /// Which of several tunnels between the same two ends; `None` without a key.
    #[inline]
    pub fn key(&self) -> Option<u32> {
        self.key
    }

    /// The number of the packet; `None` without one.
    #[inline]
    pub fn sequence(&self) -> Option<u32> {
        self.sequence
    }

    /// Bytes before the payload: 4, 8, 12 or 16.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.bytes.len() - self.payload.len()
    }

    /// What the tunnel carries.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Checks the checksum, which covers header and payload; a header without one passes.
    ///
    /// # Errors
    /// `BadChecksum`.
    #[inline]
    pub fn verify_checksum(&self) -> Result<(), HeaderError> {
        if !self.checksum || Sum::of(self.bytes).is_valid() { Ok(()) } else { Err(HeaderError::BadChecksum) }
    }
}

/// A header without checksum and sequence number, and how many of its bytes there are: 4, or 8 with a key.
#[inline]
pub fn header(protocol: u16, key: Option<u32>) -> ([u8; 8], usize) {
    let flags = if key.is_some() { KEY } else { 0 };
    let mut bytes = [0; 8];
    *field_mut::<0, 2, _>(&mut bytes) = flags.to_be_bytes();
    *field_mut::<2, 2, _>(&mut bytes) = protocol.to_be_bytes();
    *field_mut::<4, 4, _>(&mut bytes) = key.unwrap_or(0).to_be_bytes();
    (bytes, if key.is_some() { 8 } else { HEADER_LEN })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checksum;
    use crate::header::ether_type;

    #[test]
    fn the_shortest_header_and_one_with_a_key() {
        let bytes = [0, 0, 0x08, 0x00, 0x45];
        let view = Gre::parse(&bytes).unwrap();
        assert_eq!((view.protocol(), view.key(), view.sequence()), (ether_type::IPV4, None, None));
        assert_eq!((view.header_len(), view.payload()), (4, &[0x45][..]));
        assert_eq!(header(ether_type::IPV4, None), ([0, 0, 8, 0, 0, 0, 0, 0], 4));
        assert_eq!(header(ether_type::IPV6, Some(0x0102_0304)), ([0x20, 0, 0x86, 0xdd, 1, 2, 3, 4], 8));
    }

    #[test]
    fn all_options_in_the_order_of_rfc_2890() {
        let mut bytes = vec![0xb0, 0, 0x65, 0x58, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9, 0xaa];
        let sum = checksum::of(&bytes);
        bytes[4..6].copy_from_slice(&sum.to_be_bytes());
        let view = Gre::parse(&bytes).unwrap();
        assert_eq!((view.protocol(), view.key(), view.sequence()), (ether_type::TEB, Some(7), Some(9)));
        assert_eq!((view.header_len(), view.payload(), view.verify_checksum()), (16, &[0xaa][..], Ok(())));
        bytes[16] ^= 1;
        assert_eq!(Gre::parse(&bytes).unwrap().verify_checksum(), Err(HeaderError::BadChecksum));
        for short in 0..16 {
            assert_eq!(Gre::parse(&bytes[..short]).unwrap_err(), HeaderError::Truncated, "{short}");
        }
    }

    #[test]
    fn what_rfc_2784_has_dropped_is_refused() {
        for (flags, error) in [
            (0x4000, HeaderError::BadFlags),
            (0x0800, HeaderError::BadFlags),
            (0x0400, HeaderError::BadFlags),
            (0x2001, HeaderError::BadVersion),
            (0x0007, HeaderError::BadVersion),
        ] {
            let bytes = [&u16::to_be_bytes(flags)[..], &[0; 20]].concat();
            assert_eq!(Gre::parse(&bytes).unwrap_err(), error, "{flags:#06x}");
        }
        // Bits 6 to 12 are ignored on receipt (RFC 2784 section 2.4).
        assert!(Gre::parse(&[0x03, 0xf8, 8, 0]).is_ok());
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            protocol: u16, key: Option<u32>, inner in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let (bytes, len) = header(protocol, key);
            let bytes = [&bytes[..len], &inner].concat();
            let view = Gre::parse(&bytes).unwrap();
            prop_assert_eq!((view.protocol(), view.key(), view.payload()), (protocol, key, &inner[..]));
            prop_assert_eq!(view.verify_checksum(), Ok(()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            if let Ok(view) = Gre::parse(&bytes) {
                prop_assert!(matches!(view.header_len(), 4 | 8 | 12 | 16));
                let _ = view.verify_checksum();
            }
        }
    }
}
