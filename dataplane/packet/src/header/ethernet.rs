//! Ethernet II with up to two VLAN tags (IEEE 802.1Q and 802.1ad).
//!
//! Owns the 14 bytes, the tags and the EtherType behind them. Refuses a third tag: a stack that deep is either an
//! attack on parsers or a network that this engine cannot serve, and a bound keeps the parse constant. The
//! pre-standard tag types (0x9100, 0x9200) are EtherTypes like any other, not tags.
#![forbid(unsafe_code)]

use super::{HeaderError, be16, ether_type, field, field_mut};

/// A link-layer address.
pub type Mac = [u8; 6];

/// Bytes of an untagged header.
pub const HEADER_LEN: usize = 14;
/// Bytes of one VLAN tag.
pub const TAG_LEN: usize = 4;
/// How many VLAN tags a packet may have.
pub const MAX_TAGS: usize = 2;

/// One VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VlanTag {
    /// The tag protocol: [`ether_type::VLAN`] or [`ether_type::QINQ`].
    pub tpid: u16,
    /// Priority (3 bits), drop eligible (1 bit), VLAN identifier (12 bits).
    pub tci: u16,
}

impl VlanTag {
    /// An 802.1Q tag with priority 0; of `id` the low 12 bits count.
    #[inline]
    pub const fn new(id: u16) -> VlanTag {
        VlanTag { tpid: ether_type::VLAN, tci: id & 0x0fff }
    }

    /// An 802.1ad (provider) tag with priority 0; of `id` the low 12 bits count.
    #[inline]
    pub const fn provider(id: u16) -> VlanTag {
        VlanTag { tpid: ether_type::QINQ, tci: id & 0x0fff }
    }

    /// The VLAN identifier, 0..=4095. 0 is "priority only" and 4095 is reserved.
    #[inline]
    pub const fn id(self) -> u16 {
        self.tci & 0x0fff
    }

    /// The priority code point, 0..=7.
    #[inline]
    pub const fn priority(self) -> u8 {
        (self.tci >> 13) as u8
    }

    /// Whether the packet may be dropped first.
    #[inline]
    pub const fn drop_eligible(self) -> bool {
        self.tci & 0x1000 != 0
    }
}

/// Whether an EtherType announces a VLAN tag.
#[inline]
const fn is_tag(kind: u16) -> bool {
    matches!(kind, ether_type::VLAN | ether_type::QINQ)
}

/// A checked Ethernet header and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Ethernet<'a> {
    fixed: &'a [u8; HEADER_LEN],
    tags: [Option<VlanTag>; MAX_TAGS],
    ether_type: u16,
    payload: &'a [u8],
}

impl<'a> Ethernet<'a> {
    /// Checks a packet without its frame check sequence.
    ///
    /// # Errors
    /// `Truncated` when the header or a tag is cut off; `TooManyTags` for a third tag.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let (fixed, payload) = bytes.split_first_chunk().ok_or(HeaderError::Truncated)?;
        let ether_type = be16::<12, _>(fixed);
        let untagged = Ethernet { fixed, tags: [None; MAX_TAGS], ether_type, payload };
        if is_tag(ether_type) { untagged.with_tags() } else { Ok(untagged) }
    }

    /// Takes the tags that the EtherType announces off the payload.
    #[inline]
    fn with_tags(mut self) -> Result<Self, HeaderError> {
        for slot in &mut self.tags {
            let (tag, rest) = self.payload.split_first_chunk::<TAG_LEN>().ok_or(HeaderError::Truncated)?;
            *slot = Some(VlanTag { tpid: self.ether_type, tci: be16::<0, _>(tag) });
            (self.ether_type, self.payload) = (be16::<2, _>(tag), rest);
            if !is_tag(self.ether_type) {
                return Ok(self);
            }
        }
        Err(HeaderError::TooManyTags)
    }

    /// Where the packet goes.
    #[inline]
    pub fn destination(&self) -> Mac {
        *field::<0, 6, _>(self.fixed)
    }

    /// Where it comes from.
    #[inline]
    pub fn source(&self) -> Mac {
        *field::<6, 6, _>(self.fixed)
    }

    /// Whether the destination is a group (multicast or broadcast).
    #[inline]
    pub fn is_group(&self) -> bool {
        self.destination()[0] & 1 != 0
    }

    /// The type of the payload, behind all tags. Below 0x0600 it is an 802.3 length, and LLC follows.
    #[inline]
    pub fn ether_type(&self) -> u16 {
        self.ether_type
    }

    /// The tag nearest the addresses.
    #[inline]
    pub fn outer_tag(&self) -> Option<VlanTag> {
        self.tags[0]
    }

    /// The tag nearest the payload, when there are two.
    #[inline]
    pub fn inner_tag(&self) -> Option<VlanTag> {
        self.tags[1]
    }

    /// Bytes before the payload: 14, 18 or 22.
    #[inline]
    pub fn header_len(&self) -> usize {
        HEADER_LEN + TAG_LEN * self.tags.iter().flatten().count()
    }

    /// All that follows the header, padding included: only the payload knows its length.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// A checked Ethernet header to rewrite.
#[derive(Debug)]
pub struct EthernetMut<'a> {
    fixed: &'a mut [u8; HEADER_LEN],
    rest: &'a mut [u8],
    header_len: usize,
}

impl<'a> EthernetMut<'a> {
    /// As [`Ethernet::parse`].
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn parse(bytes: &'a mut [u8]) -> Result<Self, HeaderError> {
        let header_len = bytes.len() - Ethernet::parse(bytes)?.payload().len();
        let (fixed, rest) = bytes.split_first_chunk_mut().ok_or(HeaderError::Truncated)?;
        Ok(EthernetMut { fixed, rest, header_len })
    }

    /// Sets where the packet goes.
    #[inline]
    pub fn set_destination(&mut self, mac: Mac) {
        *field_mut::<0, 6, _>(self.fixed) = mac;
    }

    /// Sets where it comes from.
    #[inline]
    pub fn set_source(&mut self, mac: Mac) {
        *field_mut::<6, 6, _>(self.fixed) = mac;
    }

    /// Sets the identifier of the outer tag and keeps its priority; without a tag nothing happens and it is
    /// `false`. Of `id` the low 12 bits count.
    #[inline]
    pub fn set_outer_vlan(&mut self, id: u16) -> bool {
        if self.header_len == HEADER_LEN {
            return false;
        }
        let Some(tci) = self.rest.first_chunk_mut::<2>() else { return false };
        *tci = (u16::from_be_bytes(*tci) & 0xf000 | id & 0x0fff).to_be_bytes();
        true
    }

    /// What follows the header and its tags, to rewrite.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.rest.get_mut(self.header_len - HEADER_LEN..).unwrap_or_default()
    }
}

/// Puts `tag` in front of the others. `bytes` begins with [`TAG_LEN`] unused bytes, then the packet; afterwards the
/// packet begins at 0.
///
/// # Errors
/// `Truncated` when there is no room for a tag and a header. How many tags the packet has already is not asked.
#[inline]
pub fn push_tag(bytes: &mut [u8], tag: VlanTag) -> Result<(), HeaderError> {
    let header = bytes.first_chunk_mut::<{ HEADER_LEN + TAG_LEN }>().ok_or(HeaderError::Truncated)?;
    let addresses = *field::<4, 12, _>(header);
    *field_mut::<0, 12, _>(header) = addresses;
    *field_mut::<12, 2, _>(header) = tag.tpid.to_be_bytes();
    *field_mut::<14, 2, _>(header) = tag.tci.to_be_bytes();
    Ok(())
}

/// Takes the outer tag off. Afterwards the packet begins at [`TAG_LEN`]; without a tag it is `None`, unchanged.
///
/// # Errors
/// `Truncated` when a tag is announced and cut off, or there is no header.
#[inline]
pub fn pop_tag(bytes: &mut [u8]) -> Result<Option<VlanTag>, HeaderError> {
    let fixed = bytes.first_chunk::<HEADER_LEN>().ok_or(HeaderError::Truncated)?;
    if !is_tag(be16::<12, _>(fixed)) {
        return Ok(None);
    }
    let header = bytes.first_chunk_mut::<{ HEADER_LEN + TAG_LEN }>().ok_or(HeaderError::Truncated)?;
    let tag = VlanTag { tpid: be16::<12, _>(header), tci: be16::<14, _>(header) };
    let addresses = *field::<0, 12, _>(header);
    *field_mut::<4, 12, _>(header) = addresses;
    Ok(Some(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::build;

    const A: Mac = [2, 0, 0, 0, 0, 1];
    const B: Mac = [2, 0, 0, 0, 0, 2];

    #[test]
    fn tags_are_read_outermost_first() {
        let tags = [VlanTag::provider(100), VlanTag { tpid: ether_type::VLAN, tci: 0xb005 }];
        let bytes = build::ethernet(A, B, &tags, ether_type::IPV4, b"payload");
        let view = Ethernet::parse(&bytes).unwrap();
        assert_eq!((view.destination(), view.source()), (A, B));
        assert_eq!(view.outer_tag(), Some(tags[0]));
        let inner = view.inner_tag().unwrap();
        assert_eq!((inner.id(), inner.priority(), inner.drop_eligible()), (5, 5, true));
        assert_eq!((view.ether_type(), view.header_len()), (ether_type::IPV4, 22));
        assert_eq!(view.payload(), b"payload");
    }

    #[test]
    fn a_third_tag_is_refused() {
        let bytes = build::ethernet(A, B, &[VlanTag::new(1); 3], ether_type::IPV4, &[0; 46]);
        assert_eq!(Ethernet::parse(&bytes).unwrap_err(), HeaderError::TooManyTags);
        let bytes = build::ethernet(A, B, &[VlanTag::new(1); 2], ether_type::IPV4, &[]);
        assert!(Ethernet::parse(&bytes).is_ok());
        assert_eq!(Ethernet::parse(&bytes[..20]).unwrap_err(), HeaderError::Truncated);
    }

    #[test]
    fn a_pushed_tag_comes_off_again() {
        let plain = build::ethernet(A, B, &[], ether_type::IPV6, b"payload");
        let mut bytes = [&[0; TAG_LEN], &plain[..]].concat();
        push_tag(&mut bytes, VlanTag::new(7)).unwrap();
        assert_eq!(bytes, build::ethernet(A, B, &[VlanTag::new(7)], ether_type::IPV6, b"payload"));
        assert_eq!(pop_tag(&mut bytes), Ok(Some(VlanTag::new(7))));
        assert_eq!(&bytes[TAG_LEN..], &plain);
        assert_eq!(pop_tag(&mut bytes[TAG_LEN..]), Ok(None));
        assert_eq!(pop_tag(&mut [0; 13]), Err(HeaderError::Truncated));
    }

    #[test]
    fn setters_touch_their_field_only() {
        let mut bytes = build::ethernet(A, B, &[VlanTag { tpid: 0x8100, tci: 0xe001 }], 0x0800, b"x");
        let mut view = EthernetMut::parse(&mut bytes).unwrap();
        view.set_destination(B);
        view.set_source(A);
        assert!(view.set_outer_vlan(0xffff));
        assert_eq!(view.payload_mut(), b"x");
        assert_eq!(bytes, build::ethernet(B, A, &[VlanTag { tpid: 0x8100, tci: 0xefff }], 0x0800, b"x"));
        let mut plain = build::ethernet(A, B, &[], 0x0800, b"x");
        assert!(!EthernetMut::parse(&mut plain).unwrap().set_outer_vlan(1));
    }
}
