//! The extension headers of IPv6 (RFC 8200 §4).
//!
//! Owns the walk along hop-by-hop options, routing, fragment, authentication and destination options headers. Any
//! other number is an upper layer, ESP and unknown ones too. The walk takes at most [`MAX_EXTENSIONS`] headers.
//!
//! It refuses hop-by-hop options that are not first (RFC 8200 §4.1), and a second fragment header, which would hide
//! the transport from a filter while a host puts it together. It ends at a later fragment, whose bytes are the
//! middle of something.
#![forbid(unsafe_code)]

use super::{HeaderError, be16, be32, byte, protocol};

/// How many extension headers the walk follows.
///
/// RFC 8200 §4.1 recommends an order that has seven of them; a packet with more than eight is no honest one.
pub const MAX_EXTENSIONS: u8 = 8;

/// What lies behind the extension headers.
#[derive(Clone, Copy, Debug)]
pub struct Upper<'a> {
    protocol: u8,
    payload: &'a [u8],
    fragment: Option<&'a [u8; 8]>,
}

impl<'a> Upper<'a> {
    /// Follows `walk` to its end.
    ///
    /// # Errors
    /// The error that ended it.
    #[inline]
    pub(crate) fn behind(mut walk: Extensions<'a>) -> Result<Self, HeaderError> {
        let mut fragment = None;
        for extension in walk.by_ref() {
            let extension = extension?;
            if extension.kind == protocol::FRAGMENT {
                fragment = extension.bytes.first_chunk();
            }
        }
        Ok(Upper { protocol: walk.next_header, payload: walk.rest, fragment })
    }

    /// What the payload is: one of [`protocol`]. For a later fragment, what the datagram's fragmented part begins
    /// with, which may be an extension header.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The upper layer's bytes.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether the datagram goes in more than one packet. An atomic fragment (RFC 6946) does not.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment_field() & 0xfff9 != 0
    }

    /// Whether the payload begins with the transport header: all but the later fragments.
    #[inline]
    pub fn begins_transport(&self) -> bool {
        self.fragment_offset() == 0
    }

    /// Where the payload lies in the datagram's fragmented part, in bytes (a multiple of 8).
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        self.fragment_field() & 0xfff8
    }

    /// Whether it is a fragment, and not the last.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.fragment_field() & 1 != 0
    }

    /// Which datagram a fragment belongs to; `None` without a fragment header.
    #[inline]
    pub fn identification(&self) -> Option<u32> {
        self.fragment.map(be32::<4, _>)
    }

    /// What the fragmented part of the datagram begins with: the same in all of its fragments. `None` without a
    /// fragment header.
    #[inline]
    pub fn fragmented_protocol(&self) -> Option<u8> {
        self.fragment.map(byte::<0, _>)
    }

    #[inline]
    fn fragment_field(&self) -> u16 {
        self.fragment.map_or(0, be16::<2, _>)
    }
}

/// One extension header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// Which: one of [`protocol`].
    pub kind: u8,
    /// All of it; at least 8 bytes.
    pub bytes: &'a [u8],
}

/// The walk along the extension headers. An error ends it.
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    next_header: u8,
    rest: &'a [u8],
    seen: u8,
    fragmented: bool,
    done: bool,
}

impl<'a> Extensions<'a> {
    /// Walks `bytes`, the payload of a packet whose fixed header names `next_header`.
    #[inline]
    pub(crate) fn new(next_header: u8, bytes: &'a [u8]) -> Self {
        Extensions { next_header, rest: bytes, seen: 0, fragmented: false, done: false }
    }

    #[inline]
    fn step(&mut self) -> Result<Extension<'a>, HeaderError> {
        let kind = self.next_header;
        if self.seen == MAX_EXTENSIONS {
            return Err(HeaderError::TooManyExtensions);
        }
        let misplaced = match kind {
            protocol::HOP_BY_HOP => self.seen != 0,
            protocol::FRAGMENT => self.fragmented,
            _ => false,
        };
        if misplaced {
            return Err(HeaderError::BadNextHeader);
        }
        let first = self.rest.first_chunk::<8>().ok_or(HeaderError::Truncated)?;
        let units = usize::from(byte::<1, _>(first));
        let len = match kind {
            protocol::FRAGMENT => 8,
            // RFC 4302 §2.2: in words, less 2; the fixed part alone has 3.
            protocol::AUTH if units == 0 => return Err(HeaderError::BadHeaderLength),
            protocol::AUTH => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(HeaderError::Truncated)?;
        self.next_header = byte::<0, _>(first);
        self.rest = rest;
        self.seen += 1;
        if kind == protocol::FRAGMENT {
            self.fragmented = true;
            // Behind a later fragment's header lies the middle of the datagram.
            self.done = be16::<2, _>(first) & 0xfff8 != 0;
        }
        Ok(Extension { kind, bytes })
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<Extension<'a>, HeaderError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let is_extension = matches!(
            self.next_header,
            protocol::HOP_BY_HOP
                | protocol::ROUTING
                | protocol::FRAGMENT
                | protocol::AUTH
                | protocol::DESTINATION_OPTIONS
        );
        if self.done || !is_extension {
            return None;
        }
        let step = self.step();
        self.done |= step.is_err();
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::build::{self, Ipv6Spec};
    use crate::header::{Ipv6, Ipv6Mut};

    fn spec(next_header: u8) -> Ipv6Spec {
        Ipv6Spec::new("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap(), next_header)
    }

    #[test]
    fn the_walk_passes_every_kind() {
        let payload = [
            &build::extension(protocol::DESTINATION_OPTIONS, 0)[..],
            &build::extension(protocol::ROUTING, 2),
            &build::extension(protocol::FRAGMENT, 1),
            &build::fragment(protocol::AUTH, 0, false, 7),
            &build::auth(protocol::UDP, 12),
            b"upper",
        ]
        .concat();
        let bytes = spec(protocol::HOP_BY_HOP).packet(&payload);
        let view = Ipv6::parse(&bytes).unwrap();
        let walked: Vec<(u8, usize)> =
            view.extensions().map(|e| e.map(|e| (e.kind, e.bytes.len())).unwrap()).collect();
        assert_eq!(walked, [(0, 8), (60, 24), (43, 16), (44, 8), (51, 24)]);
        let upper = view.upper().unwrap();
        assert_eq!((upper.protocol(), upper.payload()), (protocol::UDP, &b"upper"[..]));
        // An atomic fragment is whole.
        assert_eq!((upper.is_fragment(), upper.identification()), (false, Some(7)));
        let mut bytes = bytes.clone();
        let mut view = Ipv6Mut::parse(&mut bytes).unwrap();
        assert_eq!(view.upper_mut().unwrap(), (protocol::UDP, &mut b"upper".to_owned()[..]));
    }

    #[test]
    fn a_later_fragment_ends_the_walk() {
        let payload = [&build::fragment(protocol::ROUTING, 1232, true, 9)[..], &[0xff; 8]].concat();
        let bytes = spec(protocol::FRAGMENT).packet(&payload);
        let upper = Ipv6::parse(&bytes).unwrap().upper().unwrap();
        assert_eq!((upper.protocol(), upper.payload()), (protocol::ROUTING, &[0xff; 8][..]));
        assert_eq!((upper.fragment_offset(), upper.more_fragments()), (1232, true));
        assert!(upper.is_fragment() && !upper.begins_transport());
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let walk = |next: u8, payload: &[u8]| {
            let bytes = spec(next).packet(payload);
            Ipv6::parse(&bytes).unwrap().upper().map(|upper| upper.protocol())
        };
        let options = build::extension(protocol::DESTINATION_OPTIONS, 0);
        let last = build::extension(protocol::UDP, 0);
        assert_eq!(walk(60, &[&options.repeat(7)[..], &last].concat()), Ok(protocol::UDP));
        let nine = [&options.repeat(8)[..], &last].concat();
        assert_eq!(walk(60, &nine), Err(HeaderError::TooManyExtensions));
        let late = [&build::extension(protocol::HOP_BY_HOP, 0)[..], &last].concat();
        assert_eq!(walk(60, &late), Err(HeaderError::BadNextHeader));
        let twice =
            [build::fragment(protocol::FRAGMENT, 0, true, 1), build::fragment(17, 0, true, 1)].concat();
        assert_eq!(walk(44, &twice), Err(HeaderError::BadNextHeader));
        assert_eq!(walk(60, &last[..7]), Err(HeaderError::Truncated));
        assert_eq!(walk(60, &build::extension(17, 1)[..15]), Err(HeaderError::Truncated));
        assert_eq!(walk(0, &[]), Err(HeaderError::Truncated));
        assert_eq!(walk(51, &[17, 0, 0, 0, 0, 0, 0, 0]), Err(HeaderError::BadHeaderLength));
    }
}
