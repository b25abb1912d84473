//! IPv6 (RFC 8200).
//!
//! Owns the 40 bytes and the payload cut to the payload length. [`Ipv6::parse`] does not look at extension headers:
//! a router needs none of them, and must not drop a packet for what it need not read (RFC 7045 §2.1). Who needs the
//! transport asks [`Ipv6::upper`], which walks them by the rules of [`extension`](super::extension).
//!
//! Jumbograms (RFC 2675) are not supported: a payload length of zero is an empty payload.
#![forbid(unsafe_code)]

use core::net::Ipv6Addr;

use super::extension::{Extensions, Upper};
use super::{HeaderError, be16, be32, byte, field, field_mut};
use crate::checksum::{Delta, Sum};

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;

/// A checked IPv6 packet.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<'a> {
    fixed: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Ipv6<'a> {
    /// Checks the payload of a link-layer header; padding behind the payload length is left out.
    ///
    /// # Errors
    /// `Truncated`, `BadVersion`.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let (fixed, rest) = bytes.split_first_chunk().ok_or(HeaderError::Truncated)?;
        let payload = rest.get(..payload_len(fixed)?).ok_or(HeaderError::Truncated)?;
        Ok(Ipv6 { fixed, payload })
    }

    /// As `parse`, for the packet that an ICMPv6 error quotes: the payload may end before its length does.
    ///
    /// # Errors
    /// As `parse`, but the header alone must be whole.
    #[inline]
    pub fn parse_quoted(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let (fixed, rest) = bytes.split_first_chunk().ok_or(HeaderError::Truncated)?;
        Ok(Ipv6 { fixed, payload: rest.get(..payload_len(fixed)?).unwrap_or(rest) })
    }

    /// The payload length as the header says it: extension headers and upper layer.
    #[inline]
    pub fn payload_len(&self) -> u16 {
        be16::<4, _>(self.fixed)
    }

    /// Differentiated services code point (RFC 2474), 0..=63.
    #[inline]
    pub fn dscp(&self) -> u8 {
        traffic_class(self.fixed) >> 2
    }

    /// Explicit congestion notification (RFC 3168), 0..=3.
    #[inline]
    pub fn ecn(&self) -> u8 {
        traffic_class(self.fixed) & 3
    }

    /// The flow label (RFC 6437), 20 bits.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        be32::<0, _>(self.fixed) & 0x000f_ffff
    }

    /// What follows the fixed header: an extension header or the upper layer.
    #[inline]
    pub fn next_header(&self) -> u8 {
        byte::<6, _>(self.fixed)
    }

    /// Hops left.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        byte::<7, _>(self.fixed)
    }

    /// Who sent it.
    #[inline]
    pub fn source(&self) -> Ipv6Addr {
        Ipv6Addr::from_octets(*field::<8, 16, _>(self.fixed))
    }

    /// Whom it is for (with a routing header: the next segment).
    #[inline]
    pub fn destination(&self) -> Ipv6Addr {
        Ipv6Addr::from_octets(*field::<24, 16, _>(self.fixed))
    }

    /// What follows the fixed header, up to the payload length: extension headers included.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The addresses' part of the pseudo-header that TCP, UDP and ICMPv6 sum.
    #[inline]
    pub fn address_sum(&self) -> Sum {
        Sum::of_fixed(field::<8, 32, _>(self.fixed))
    }

    /// Walks the extension headers.
    #[inline]
    pub fn extensions(&self) -> Extensions<'a> {
        Extensions::new(self.next_header(), self.payload)
    }

    /// Finds what lies behind the extension headers.
    ///
    /// # Errors
    /// `Truncated` or `BadHeaderLength` for an extension header that is cut off or too short, `BadNextHeader` for
    /// one out of place, `TooManyExtensions`.
    #[inline]
    pub fn upper(&self) -> Result<Upper<'a>, HeaderError> {
        Upper::behind(self.extensions())
    }
}

#[inline]
fn payload_len(fixed: &[u8; HEADER_LEN]) -> Result<usize, HeaderError> {
    if byte::<0, _>(fixed) >> 4 != 6 {
        return Err(HeaderError::BadVersion);
    }
    Ok(usize::from(be16::<4, _>(fixed)))
}

#[inline]
fn traffic_class(fixed: &[u8; HEADER_LEN]) -> u8 {
    (be16::<0, _>(fixed) >> 4) as u8
}

/// A checked IPv6 packet to rewrite.
#[derive(Debug)]
pub struct Ipv6Mut<'a> {
    fixed: &'a mut [u8; HEADER_LEN],
    payload: &'a mut [u8],
}

impl<'a> Ipv6Mut<'a> {
    /// As [`Ipv6::parse`].
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn parse(bytes: &'a mut [u8]) -> Result<Self, HeaderError> {
        let (fixed, rest) = bytes.split_first_chunk_mut().ok_or(HeaderError::Truncated)?;
        let payload = rest.get_mut(..payload_len(fixed)?).ok_or(HeaderError::Truncated)?;
        Ok(Ipv6Mut { fixed, payload })
    }

    /// As [`Ipv6::parse_quoted`].
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn parse_quoted(bytes: &'a mut [u8]) -> Result<Self, HeaderError> {
        let (fixed, rest) = bytes.split_first_chunk_mut().ok_or(HeaderError::Truncated)?;
        let end = payload_len(fixed)?.min(rest.len());
        let payload = rest.get_mut(..end).ok_or(HeaderError::Truncated)?;
        Ok(Ipv6Mut { fixed, payload })
    }

    /// The same packet, to read.
    #[inline]
    pub fn view(&self) -> Ipv6<'_> {
        Ipv6 { fixed: self.fixed, payload: self.payload }
    }

    /// All that follows the fixed header, to rewrite.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.payload
    }

    /// What lies behind the extension headers, to rewrite, and its protocol.
    ///
    /// # Errors
    /// As [`Ipv6::upper`].
    #[inline]
    pub fn upper_mut(&mut self) -> Result<(u8, &mut [u8]), HeaderError> {
        let upper = self.view().upper()?;
        let (protocol, start) = (upper.protocol(), self.payload.len() - upper.payload().len());
        Ok((protocol, self.payload.get_mut(start..).unwrap_or_default()))
    }

    /// Takes one hop off and returns how many are left. `None`, and nothing changed, when there is none to take:
    /// the packet must not be forwarded (RFC 8200 §3).
    #[inline]
    pub fn decrement_hop_limit(&mut self) -> Option<u8> {
        let left = byte::<7, _>(self.fixed).checked_sub(1).filter(|&left| left > 0)?;
        self.set_hop_limit(left);
        Some(left)
    }

    /// Sets the hops left.
    #[inline]
    pub fn set_hop_limit(&mut self, hop_limit: u8) {
        *field_mut::<7, 1, _>(self.fixed) = [hop_limit];
    }

    /// Sets the code point; the low 6 bits count.
    #[inline]
    pub fn set_dscp(&mut self, dscp: u8) {
        let class = dscp << 2 | traffic_class(self.fixed) & 3;
        self.set_traffic_class(class);
    }

    /// Sets the congestion bits; the low 2 bits count.
    #[inline]
    pub fn set_ecn(&mut self, ecn: u8) {
        let class = traffic_class(self.fixed) & !3 | ecn & 3;
        self.set_traffic_class(class);
    }

    /// Sets the flow label; the low 20 bits count.
    #[inline]
    pub fn set_flow_label(&mut self, label: u32) {
        let word = be32::<0, _>(self.fixed) & 0xfff0_0000 | label & 0x000f_ffff;
        *field_mut::<0, 4, _>(self.fixed) = word.to_be_bytes();
    }

    /// Sets who sent it. The change goes to the checksum of the upper layer, which covers the addresses.
    #[inline]
    pub fn set_source(&mut self, address: Ipv6Addr) -> Delta {
        let old = core::mem::replace(field_mut::<8, 16, _>(self.fixed), address.octets());
        Delta::of(&old, &address.octets())
    }

    /// Sets whom it is for. The change goes to the checksum of the upper layer, which covers the addresses.
    #[inline]
    pub fn set_destination(&mut self, address: Ipv6Addr) -> Delta {
        let old = core::mem::replace(field_mut::<24, 16, _>(self.fixed), address.octets());
        Delta::of(&old, &address.octets())
    }

    #[inline]
    fn set_traffic_class(&mut self, class: u8) {
        let word = be16::<0, _>(self.fixed) & 0xf00f | u16::from(class) << 4;
        *field_mut::<0, 2, _>(self.fixed) = word.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::build::Ipv6Spec;
    use crate::header::protocol;

    fn spec(next_header: u8) -> Ipv6Spec {
        let (a, b) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        Ipv6Spec { traffic_class: 0xb9, flow_label: 0xabcde, ..Ipv6Spec::new(a, b, next_header) }
    }

    #[test]
    fn fields_and_padding() {
        let mut bytes = spec(protocol::UDP).packet(b"payload");
        bytes.extend([0xee; 6]);
        let view = Ipv6::parse(&bytes).unwrap();
        assert_eq!((view.dscp(), view.ecn(), view.flow_label()), (46, 1, 0xabcde));
        assert_eq!((view.payload_len(), view.next_header(), view.hop_limit()), (7, 17, 64));
        assert_eq!(view.payload(), b"payload");
        let upper = view.upper().unwrap();
        assert_eq!((upper.protocol(), upper.payload(), upper.identification()), (17, &b"payload"[..], None));
        assert!(!upper.is_fragment() && upper.begins_transport());
        assert_eq!(Ipv6::parse(&bytes[..46]).unwrap_err(), HeaderError::Truncated);
        assert_eq!(Ipv6::parse_quoted(&bytes[..46]).unwrap().payload(), b"payloa");
        bytes[0] = 0x45;
        assert_eq!(Ipv6::parse(&bytes).unwrap_err(), HeaderError::BadVersion);
    }

    #[test]
    fn setters_touch_their_field_only() {
        let start = spec(protocol::UDP);
        let mut bytes = start.packet(b"x");
        let mut view = Ipv6Mut::parse(&mut bytes).unwrap();
        view.set_dscp(0x3f);
        view.set_ecn(2);
        view.set_flow_label(0xfff1_2345);
        assert_eq!(view.decrement_hop_limit(), Some(63));
        let before = view.view().address_sum();
        let delta = view.set_source(start.destination) + view.set_destination("ff02::1".parse().unwrap());
        assert_eq!(delta.apply(before.finish()), view.view().address_sum().finish());
        let end = Ipv6Spec {
            source: start.destination,
            destination: "ff02::1".parse().unwrap(),
            traffic_class: 0xfe,
            flow_label: 0x12345,
            hop_limit: 63,
            ..start
        };
        assert_eq!(bytes, end.packet(b"x"));
        for hop_limit in [0, 1] {
            let mut bytes = Ipv6Spec { hop_limit, ..spec(17) }.packet(b"x");
            assert_eq!(Ipv6Mut::parse(&mut bytes).unwrap().decrement_hop_limit(), None);
        }
    }
}
