//! ARP for Ethernet and IPv4 (RFC 826).
//!
//! Owns the 28 bytes. Refuses other hardware or protocol addresses: no port of ours has them. Read only: the
//! kernel answers ARP; a stage merely filters it.
#![forbid(unsafe_code)]

use core::net::Ipv4Addr;

use super::{HeaderError, Mac, be16, be32, ether_type, field};

/// Bytes of an ARP message for Ethernet and IPv4.
pub const LEN: usize = 28;
/// The operation "who has".
pub const REQUEST: u16 = 1;
/// The operation "is at".
pub const REPLY: u16 = 2;

/// A checked ARP message.
#[derive(Clone, Copy, Debug)]
pub struct Arp<'a>(&'a [u8; LEN]);

impl<'a> Arp<'a> {
    /// Checks the payload of an Ethernet header; padding behind the message is ignored.
    ///
    /// # Errors
    /// `Truncated` under 28 bytes; `UnsupportedAddresses` when they are not 6-byte Ethernet and 4-byte IPv4.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let fixed = bytes.first_chunk::<LEN>().ok_or(HeaderError::Truncated)?;
        // Hardware type 1 (Ethernet), protocol type IPv4, lengths 6 and 4.
        let ethernet_ipv4 = be16::<0, _>(fixed) == 1
            && be16::<2, _>(fixed) == ether_type::IPV4
            && be16::<4, _>(fixed) == 0x0604;
        if ethernet_ipv4 { Ok(Arp(fixed)) } else { Err(HeaderError::UnsupportedAddresses) }
    }

    /// [`REQUEST`], [`REPLY`], or another number.
    #[inline]
    pub fn operation(&self) -> u16 {
        be16::<6, _>(self.0)
    }

    /// Who says so.
    #[inline]
    pub fn sender_mac(&self) -> Mac {
        *field::<8, 6, _>(self.0)
    }

    /// Who says so; 0.0.0.0 in a probe (RFC 5227).
    #[inline]
    pub fn sender(&self) -> Ipv4Addr {
        be32::<14, _>(self.0).into()
    }

    /// To whom; zero in a request.
    #[inline]
    pub fn target_mac(&self) -> Mac {
        *field::<18, 6, _>(self.0)
    }

    /// Whom the message is about.
    #[inline]
    pub fn target(&self) -> Ipv4Addr {
        be32::<24, _>(self.0).into()
    }

    /// An announcement: sender and target are the same.
    #[inline]
    pub fn is_gratuitous(&self) -> bool {
        self.sender() == self.target()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::build;

    #[test]
    fn fields() {
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let mut bytes = build::arp(REQUEST, [2, 0, 0, 0, 0, 1], a, [0; 6], b);
        bytes.extend([0; 18]);
        let view = Arp::parse(&bytes).unwrap();
        assert_eq!((view.operation(), view.sender_mac(), view.sender()), (REQUEST, [2, 0, 0, 0, 0, 1], a));
        assert_eq!((view.target_mac(), view.target(), view.is_gratuitous()), ([0; 6], b, false));
        assert_eq!(Arp::parse(&bytes[..27]).unwrap_err(), HeaderError::Truncated);
        for at in 0..6 {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_eq!(Arp::parse(&other).unwrap_err(), HeaderError::UnsupportedAddresses);
        }
    }
}
