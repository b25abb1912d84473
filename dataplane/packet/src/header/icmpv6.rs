//! ICMPv6 (RFC 4443), and the neighbour discovery (RFC 4861) that a filter must recognise.
//!
//! Owns the 8 bytes that every type has (type, code, checksum and four that depend on the type) and the rest.
//! Refuses only fewer bytes. Unlike ICMP, the checksum covers the addresses.
#![forbid(unsafe_code)]

use core::net::Ipv6Addr;

use super::{HeaderError, be16, be32, byte, field_mut, protocol};
use crate::checksum::{Delta, Sum};

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// The type "destination unreachable".
pub const UNREACHABLE: u8 = 1;
/// The type "packet too big".
pub const PACKET_TOO_BIG: u8 = 2;
/// The type "time exceeded".
pub const TIME_EXCEEDED: u8 = 3;
/// The type "parameter problem".
pub const PARAMETER_PROBLEM: u8 = 4;
/// The type "echo request".
pub const ECHO_REQUEST: u8 = 128;
/// The type "echo reply".
pub const ECHO_REPLY: u8 = 129;
/// The type "router solicitation".
pub const ROUTER_SOLICITATION: u8 = 133;
/// The type "router advertisement".
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// The type "neighbour solicitation".
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
/// The type "neighbour advertisement".
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// The type "redirect".
pub const REDIRECT: u8 = 137;

/// A checked ICMPv6 message.
#[derive(Clone, Copy, Debug)]
pub struct Icmpv6<'a> {
    fixed: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Icmpv6<'a> {
    /// Checks the upper layer of an IPv6 packet.
    ///
    /// # Errors
    /// `Truncated` under 8 bytes.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let (fixed, payload) = bytes.split_first_chunk().ok_or(HeaderError::Truncated)?;
        Ok(Icmpv6 { fixed, payload })
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

    /// Whether it reports an error (types 0 to 127).
    #[inline]
    pub fn is_error(&self) -> bool {
        self.kind() < 128
    }

    /// Whether it is an echo request or an echo reply.
    #[inline]
    pub fn is_echo(&self) -> bool {
        matches!(self.kind(), ECHO_REQUEST | ECHO_REPLY)
    }

    /// Whether it belongs to neighbour discovery, which stays on its link (hop limit 255).
    #[inline]
    pub fn is_neighbour_discovery(&self) -> bool {
        matches!(self.kind(), ROUTER_SOLICITATION..=REDIRECT)
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

    /// The largest packet that fits, where "packet too big" says it.
    #[inline]
    pub fn mtu(&self) -> Option<u32> {
        (self.kind() == PACKET_TOO_BIG).then(|| be32::<4, _>(self.fixed))
    }

    /// Which neighbour a solicitation, advertisement or redirect is about; `None` for other types, and where the
    /// message is too short.
    #[inline]
    pub fn target(&self) -> Option<Ipv6Addr> {
        match self.kind() {
            NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT | REDIRECT => {
                self.payload.first_chunk().map(|octets| Ipv6Addr::from_octets(*octets))
            }
            _ => None,
        }
    }

    /// The packet that an error is about, cut off anywhere behind its header; `None` for other types. For
    /// [`Ipv6::parse_quoted`](super::Ipv6::parse_quoted).
    #[inline]
    pub fn quoted(&self) -> Option<&'a [u8]> {
        self.is_error().then_some(self.payload)
    }

    /// What follows the 8 bytes.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Checks the checksum of a whole message. `addresses` is the IPv6 view's `address_sum`.
    ///
    /// # Errors
    /// `BadChecksum`.
    #[inline]
    pub fn verify_checksum(&self, addresses: Sum) -> Result<(), HeaderError> {
        if self.sum(addresses).is_valid() { Ok(()) } else { Err(HeaderError::BadChecksum) }
    }

    #[inline]
    fn sum(&self, addresses: Sum) -> Sum {
        addresses.with_transport(protocol::ICMPV6, HEADER_LEN + self.payload.len())
            + Sum::of_fixed(self.fixed)
            + Sum::of(self.payload)
    }
}

/// A checked ICMPv6 message to rewrite. Setters keep the checksum as right as it was.
#[derive(Debug)]
pub struct Icmpv6Mut<'a> {
    fixed: &'a mut [u8; HEADER_LEN],
    payload: &'a mut [u8],
}

impl<'a> Icmpv6Mut<'a> {
    /// As [`Icmpv6::parse`].
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn parse(bytes: &'a mut [u8]) -> Result<Self, HeaderError> {
        let (fixed, payload) = bytes.split_first_chunk_mut().ok_or(HeaderError::Truncated)?;
        Ok(Icmpv6Mut { fixed, payload })
    }

    /// The same message, to read.
    #[inline]
    pub fn view(&self) -> Icmpv6<'_> {
        Icmpv6 { fixed: self.fixed, payload: self.payload }
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

    /// Takes a change of what the checksum covers outside the header: the addresses, or the payload.
    #[inline]
    pub fn adjust_checksum(&mut self, delta: Delta) {
        let checksum = field_mut::<2, 2, _>(self.fixed);
        *checksum = delta.apply(u16::from_be_bytes(*checksum)).to_be_bytes();
    }

    /// Computes the checksum of a whole message anew. `addresses` is the IPv6 view's `address_sum`.
    #[inline]
    pub fn fill_checksum(&mut self, addresses: Sum) {
        *field_mut::<2, 2, _>(self.fixed) = [0, 0];
        let checksum = self.view().sum(addresses).finish();
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
        let bytes = build::icmpv6(Sum::ZERO, ECHO_REPLY, 0, [0x12, 0x34, 0, 7], b"abc");
        let view = Icmpv6::parse(&bytes).unwrap();
        assert_eq!((view.kind(), view.code(), view.is_error()), (ECHO_REPLY, 0, false));
        assert_eq!((view.echo_id(), view.echo_sequence()), (Some(0x1234), Some(7)));
        assert_eq!((view.payload(), view.quoted(), view.mtu()), (&b"abc"[..], None, None));
        assert_eq!(view.verify_checksum(Sum::ZERO), Ok(()));
        assert_eq!(view.verify_checksum(Sum::ZERO.with_u16(1)), Err(HeaderError::BadChecksum));
        assert_eq!(Icmpv6::parse(&bytes[..7]).unwrap_err(), HeaderError::Truncated);

        let bytes = build::icmpv6(Sum::ZERO, PACKET_TOO_BIG, 0, 1280u32.to_be_bytes(), b"quoted");
        let view = Icmpv6::parse(&bytes).unwrap();
        assert_eq!((view.mtu(), view.quoted(), view.target()), (Some(1280), Some(&b"quoted"[..]), None));

        let target: Ipv6Addr = "fe80::1".parse().unwrap();
        let bytes = build::icmpv6(Sum::ZERO, NEIGHBOUR_SOLICITATION, 0, [0; 4], &target.octets());
        let view = Icmpv6::parse(&bytes).unwrap();
        assert_eq!((view.target(), view.is_neighbour_discovery()), (Some(target), true));
        assert_eq!(Icmpv6::parse(&bytes[..23]).unwrap().target(), None);
    }

    proptest! {
        #[test]
        fn rewritten_is_rebuilt(old: [u8; 16], new: [u8; 16], ids: ([u8; 2], [u8; 2]), payload: [u8; 5]) {
            let build = |from: &[u8], id: [u8; 2]| {
                build::icmpv6(Sum::of(from), ECHO_REQUEST, 0, [id[0], id[1], 0, 1], &payload)
            };
            let mut bytes = build(&old, ids.0);
            let mut view = Icmpv6Mut::parse(&mut bytes).unwrap();
            view.adjust_checksum(Delta::of(&old, &new));
            prop_assert!(view.set_echo_id(u16::from_be_bytes(ids.1)));
            prop_assert_eq!(&bytes, &build(&new, ids.1));
            Icmpv6Mut::parse(&mut bytes).unwrap().fill_checksum(Sum::of(&new));
            prop_assert_eq!(bytes, build(&new, ids.1));
        }
    }
}
