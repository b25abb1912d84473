//! ICMP for IPv4 (RFC 792).
//!
//! Owns the 8 bytes that every type has (type, code, checksum and four that depend on the type) and the rest.
//! Refuses only fewer bytes: types come and go, and a filter wants to see those that it does not know.
#![forbid(unsafe_code)]

use super::{HeaderError, be16, byte, field_mut};
use crate::checksum::{Delta, Sum};

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// The type "echo reply".
pub const ECHO_REPLY: u8 = 0;
/// The type "destination unreachable"; its code 4 asks for smaller packets.
pub const UNREACHABLE: u8 = 3;
/// The type "redirect".
pub const REDIRECT: u8 = 5;
/// The type "echo request".
pub const ECHO_REQUEST: u8 = 8;
/// The type "time exceeded".
pub const TIME_EXCEEDED: u8 = 11;
/// The type "parameter problem".
pub const PARAMETER_PROBLEM: u8 = 12;

/// A checked ICMP message.
#[derive(Clone, Copy, Debug)]
pub struct Icmp<'a> {
    fixed: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Icmp<'a> {
    /// Checks the payload of an IPv4 packet.
    ///
    /// # Errors
    /// `Truncated` under 8 bytes.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let (fixed, payload) = bytes.split_first_chunk().ok_or(HeaderError::Truncated)?;
        Ok(Icmp { fixed, payload })
    }

    /// The type.
    #[inline]
    pub fn kind(&self) -> u8 {
        byte::<0, _>(self.fixed)
    }

    /// The code, within the type.
    #[inline]
    pub fn code(&self) -> u8 {
        byte::<1, _>(self.fixed)
    }

    /// The checksum, as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        be16::<2, _>(self.fixed)
    }

    /// Whether it is an echo request or an echo reply.
    #[inline]
    pub fn is_echo(&self) -> bool {
        matches!(self.kind(), ECHO_REQUEST | ECHO_REPLY)
    }

    /// Whose echo it is; `None` for other types.
    #[inline]
    pub fn echo_id(&self) -> Option<u16> {
        self.is_echo().then(|| be16::<4, _>(self.fixed))
    }

    /// Which echo it is; `None` for other types.
    #[inline]
    pub fn echo_sequence(&self) -> Option<u16> {
        self.is_echo().then(|| be16::<6, _>(self.fixed))
    }

    /// The largest packet that fits, where "fragmentation needed" says it (RFC 1191; old routers say 0).
    #[inline]
    pub fn next_hop_mtu(&self) -> Option<u16> {
        (self.kind() == UNREACHABLE && self.code() == 4).then(|| be16::<6, _>(self.fixed))
    }

    /// The packet that an error is about, from its IP header on and cut off anywhere behind it; `None` for other
    /// types. For [`Ipv4::parse_quoted`](super::Ipv4::parse_quoted).
    #[inline]
    pub fn quoted(&self) -> Option<&'a [u8]> {
        matches!(self.kind(), UNREACHABLE | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM)
            .then_some(self.payload)
    }

    /// What follows the 8 bytes.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Checks the checksum of a whole message.
    ///
    /// # Errors
    /// `BadChecksum`.
    #[inline]
    pub fn verify_checksum(&self) -> Result<(), HeaderError> {
        if self.sum().is_valid() { Ok(()) } else { Err(HeaderError::BadChecksum) }
    }

    #[inline]
    fn sum(&self) -> Sum {
        Sum::of_fixed(self.fixed) + Sum::of(self.payload)
    }
}

/// A checked ICMP message to rewrite. Setters keep the checksum as right as it was.
#[derive(Debug)]
pub struct IcmpMut<'a> {
    fixed: &'a mut [u8; HEADER_LEN],
    payload: &'a mut [u8],
}

impl<'a> IcmpMut<'a> {
    /// As [`Icmp::parse`].
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn parse(bytes: &'a mut [u8]) -> Result<Self, HeaderError> {
        let (fixed, payload) = bytes.split_first_chunk_mut().ok_or(HeaderError::Truncated)?;
        Ok(IcmpMut { fixed, payload })
    }

    /// The same message, to read.
    #[inline]
    pub fn view(&self) -> Icmp<'_> {
        Icmp { fixed: self.fixed, payload: self.payload }
    }

    /// What follows the 8 bytes, to rewrite: the quoted packet of an error. The change goes to
    /// [`adjust_checksum`](Self::adjust_checksum).
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.payload
    }

    /// Sets whose echo it is; another type is left alone, and it is `false`.
    #[inline]
    pub fn set_echo_id(&mut self, id: u16) -> bool {
        if !self.view().is_echo() {
            return false;
        }
        let old = core::mem::replace(field_mut::<4, 2, _>(self.fixed), id.to_be_bytes());
        self.adjust_checksum(Delta::of(&old, &id.to_be_bytes()));
        true
    }

    /// Takes a change of the payload, which has been made already.
    #[inline]
    pub fn adjust_checksum(&mut self, delta: Delta) {
        let checksum = field_mut::<2, 2, _>(self.fixed);
        let new = delta.apply(u16::from_be_bytes(*checksum));
        *checksum = new.to_be_bytes();
        // The one message whose checksum cannot be known from the change is the one that is all zero (an echo reply
        // can be), for there is no pseudo-header: its checksum is ffff, where any other's would be 0000.
        if new == 0 && self.fixed == &[0; HEADER_LEN] && self.payload.iter().all(|&b| b == 0) {
            *field_mut::<2, 2, _>(self.fixed) = [0xff, 0xff];
        }
    }

    /// Computes the checksum of a whole message anew.
    #[inline]
    pub fn fill_checksum(&mut self) {
        *field_mut::<2, 2, _>(self.fixed) = [0, 0];
        let checksum = self.view().sum().finish();
        *field_mut::<2, 2, _>(self.fixed) = checksum.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::header::build;

    #[test]
    fn fields() {
        let bytes = build::icmp(ECHO_REQUEST, 0, [0x12, 0x34, 0, 7], b"abc");
        let view = Icmp::parse(&bytes).unwrap();
        assert_eq!((view.kind(), view.code()), (ECHO_REQUEST, 0));
        assert_eq!((view.echo_id(), view.echo_sequence()), (Some(0x1234), Some(7)));
        assert_eq!((view.payload(), view.quoted(), view.next_hop_mtu()), (&b"abc"[..], None, None));
        assert_eq!(view.verify_checksum(), Ok(()));
        assert_eq!(Icmp::parse(&bytes[..7]).unwrap_err(), HeaderError::Truncated);

        let mut bytes = build::icmp(UNREACHABLE, 4, [0, 0, 0x05, 0xdc], b"quoted");
        let view = Icmp::parse(&bytes).unwrap();
        assert_eq!((view.next_hop_mtu(), view.quoted()), (Some(1500), Some(&b"quoted"[..])));
        assert_eq!((view.echo_id(), view.echo_sequence()), (None, None));
        assert!(!IcmpMut::parse(&mut bytes).unwrap().set_echo_id(1));
    }

    #[test]
    fn an_all_zero_reply_has_a_checksum_that_verifies() {
        let mut bytes = build::icmp(ECHO_REPLY, 0, [0, 9, 0, 0], &[0; 5]);
        assert!(IcmpMut::parse(&mut bytes).unwrap().set_echo_id(0));
        assert_eq!(bytes, build::icmp(ECHO_REPLY, 0, [0; 4], &[0; 5]));
        assert_eq!(Icmp::parse(&bytes).unwrap().verify_checksum(), Ok(()));
    }

    proptest! {
        #[test]
        fn rewritten_is_rebuilt(
            reply: bool, old: [u8; 2], new: [u8; 2],
            sequence in prop::sample::select(vec![[0u8, 0], [0xff, 0xff], [1, 2]]),
            payload in prop::collection::vec(any::<u8>(), 0..10),
        ) {
            let kind = if reply { ECHO_REPLY } else { ECHO_REQUEST };
            let build = |id: [u8; 2]| build::icmp(kind, 0, [id[0], id[1], sequence[0], sequence[1]], &payload);
            let mut bytes = build(old);
            let mut view = IcmpMut::parse(&mut bytes).unwrap();
            view.set_echo_id(u16::from_be_bytes(new));
            prop_assert_eq!(view.view().verify_checksum(), Ok(()));
            prop_assert_eq!(&bytes, &build(new));
            IcmpMut::parse(&mut bytes).unwrap().fill_checksum();
            prop_assert_eq!(bytes, build(new));
        }
    }
}
