//! VXLAN (RFC 7348): an Ethernet frame in a UDP datagram.
//!
//! Owns the 8 bytes between the UDP header and the inner frame. Refuses a header without the I flag, for it names no
//! network; the other flags and the reserved bytes are ignored, as RFC 7348 §5 wants it. Which UDP port carries VXLAN
//! is the configuration's to say.
#![forbid(unsafe_code)]

use super::{HeaderError, be32, byte};

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// The UDP port that IANA gave it.
pub const PORT: u16 = 4789;
/// The largest network identifier: 24 bits.
pub const MAX_VNI: u32 = 0x00ff_ffff;

/// The flag that says that the network identifier is valid.
const VALID_VNI: u8 = 0x08;

/// A checked VXLAN header and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Vxlan<'a> {
    fixed: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Vxlan<'a> {
    /// Checks the payload of a UDP datagram.
    ///
    /// # Errors
    /// `Truncated`; `BadFlags` without the I flag.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let (fixed, payload) = bytes.split_first_chunk().ok_or(HeaderError::Truncated)?;
        if byte::<0, _>(fixed) & VALID_VNI == 0 {
            return Err(HeaderError::BadFlags);
        }
        Ok(Vxlan { fixed, payload })
    }

    /// The network identifier, 0..=[`MAX_VNI`].
    #[inline]
    pub fn vni(&self) -> u32 {
        be32::<4, _>(self.fixed) >> 8
    }

    /// The inner frame, from its Ethernet header on.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// The header of network `vni`, of which the low 24 bits count.
#[inline]
pub const fn header(vni: u32) -> [u8; HEADER_LEN] {
    let [_, a, b, c] = vni.to_be_bytes();
    [VALID_VNI, 0, 0, 0, a, b, c, 0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_rfc_7348() {
        // §5, the outer UDP's payload: flags RRRRIRRR, 24 reserved bits, the identifier, 8 reserved bits.
        let bytes = [0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0, 0xaa];
        let view = Vxlan::parse(&bytes).unwrap();
        assert_eq!((view.vni(), view.payload()), (0x12_3456, &[0xaa][..]));
        assert_eq!(header(0x12_3456), bytes[..8]);
        assert_eq!(header(0xff00_0001), header(1), "more than 24 bits");
    }

    #[test]
    fn reserved_bits_are_ignored_and_the_flag_is_not() {
        let view = Vxlan::parse(&[0xff, 1, 2, 3, 0, 0, 9, 0xff]).map(|view| view.vni());
        assert_eq!(view, Ok(9));
        assert_eq!(Vxlan::parse(&[0xf7, 0, 0, 0, 0, 0, 9, 0]).unwrap_err(), HeaderError::BadFlags);
        assert_eq!(Vxlan::parse(&[0x08; 7]).unwrap_err(), HeaderError::Truncated);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(vni in 0..=MAX_VNI, inner in prop::collection::vec(any::<u8>(), 0..40)) {
            let bytes = [&header(vni)[..], &inner].concat();
            let view = Vxlan::parse(&bytes).unwrap();
            prop_assert_eq!((view.vni(), view.payload()), (vni, &inner[..]));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(view) = Vxlan::parse(&bytes) {
                prop_assert!(view.vni() <= MAX_VNI);
                prop_assert_eq!(view.payload().len(), bytes.len() - HEADER_LEN);
            }
        }
    }
}
