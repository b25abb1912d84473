//! The two ports that begin every TCP, UDP, UDP-Lite, SCTP and DCCP header.
//!
//! Owns these 4 bytes and no more, for who cannot have the whole header: a flow key, which is asked before anybody
//! checked the transport, and an ICMP error, which need quote no more than 8 bytes of it (RFC 792).
#![forbid(unsafe_code)]

use super::{HeaderError, be16, field_mut};
use crate::checksum::Delta;

/// The ports at the front of a transport header.
#[derive(Clone, Copy, Debug)]
pub struct Ports<'a>(&'a [u8; 4]);

impl<'a> Ports<'a> {
    /// Takes the first 4 bytes.
    ///
    /// # Errors
    /// `Truncated` when there are fewer.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        bytes.first_chunk().map(Ports).ok_or(HeaderError::Truncated)
    }

    /// The sender's port.
    #[inline]
    pub fn source(&self) -> u16 {
        be16::<0, _>(self.0)
    }

    /// The receiver's port.
    #[inline]
    pub fn destination(&self) -> u16 {
        be16::<2, _>(self.0)
    }
}

/// The ports at the front of a transport header, to rewrite. No checksum is kept: it may not be there.
#[derive(Debug)]
pub struct PortsMut<'a>(&'a mut [u8; 4]);

impl<'a> PortsMut<'a> {
    /// Takes the first 4 bytes.
    ///
    /// # Errors
    /// `Truncated` when there are fewer.
    #[inline]
    pub fn parse(bytes: &'a mut [u8]) -> Result<Self, HeaderError> {
        bytes.first_chunk_mut().map(PortsMut).ok_or(HeaderError::Truncated)
    }

    /// Sets the sender's port; returns the change, for the checksums that cover it.
    #[inline]
    pub fn set_source(&mut self, port: u16) -> Delta {
        let old = core::mem::replace(field_mut::<0, 2, _>(self.0), port.to_be_bytes());
        Delta::of(&old, &port.to_be_bytes())
    }

    /// Sets the receiver's port; returns the change, for the checksums that cover it.
    #[inline]
    pub fn set_destination(&mut self, port: u16) -> Delta {
        let old = core::mem::replace(field_mut::<2, 2, _>(self.0), port.to_be_bytes());
        Delta::of(&old, &port.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_their_change() {
        let mut bytes = [0x12, 0x34, 0x00, 0x35, 9];
        let before = crate::checksum::of(&bytes);
        let mut view = PortsMut::parse(&mut bytes).unwrap();
        let delta = view.set_source(40_000) + view.set_destination(443);
        let view = Ports::parse(&bytes).unwrap();
        assert_eq!((view.source(), view.destination()), (40_000, 443));
        assert_eq!(delta.apply(before), crate::checksum::of(&bytes));
        assert_eq!(Ports::parse(&[0; 3]).unwrap_err(), HeaderError::Truncated);
        assert_eq!(PortsMut::parse(&mut [0; 3]).unwrap_err(), HeaderError::Truncated);
    }
}
