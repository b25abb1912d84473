//! Header views: what the bytes of a packet say, read and rewritten where they lie.
//!
//! Owns the layouts of Ethernet (with VLAN tags), ARP, IPv4, IPv6, UDP, TCP, ICMP, ICMPv6, VXLAN and GRE. A view is made by
//! `parse`, which checks everything that an accessor relies on and refuses the rest with a [`HeaderError`].
//!
//! **After `parse`, no accessor can panic.** A view keeps its fixed header as a reference to an array
//! (`&[u8; 20]`), and a field is read by `field::<OFFSET, WIDTH, _>`, whose range is checked against the
//! array's length when the program is compiled; what has a variable length was cut off once, by `parse`, with
//! checked splits, and is kept as a slice. So there is no bounds check left to fail, nor to pay for.
//!
//! Bytes beyond what a length field says (Ethernet padding) belong to no view. Setters keep the checksum of their
//! own header right and return a [`Delta`](crate::checksum::Delta) where a layer above covers the same bytes;
//! no setter can change a length, so what `parse` found stays true.
#![forbid(unsafe_code)]

pub mod arp;
pub mod build;
#[doc(hidden)]
pub mod corpus;
pub mod ethernet;
pub mod extension;
pub mod gre;
pub mod icmp;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod options;
pub mod ports;
pub mod tcp;
pub mod udp;
pub mod vxlan;

pub use arp::Arp;
pub use ethernet::{Ethernet, EthernetMut, Mac, VlanTag};
pub use extension::{Extension, Extensions, Upper};
pub use gre::Gre;
pub use icmp::{Icmp, IcmpMut};
pub use icmpv6::{Icmpv6, Icmpv6Mut};
pub use ipv4::{Ipv4, Ipv4Mut};
pub use ipv6::{Ipv6, Ipv6Mut};
pub use ports::{Ports, PortsMut};
pub use tcp::{Tcp, TcpFlags, TcpMut};
pub use udp::{Udp, UdpMut};
pub use vxlan::Vxlan;

/// Why bytes are not the header that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum HeaderError {
    /// The bytes end before what the header, or one of its length fields, announces.
    #[error("the packet ends before its header or its announced length does")]
    Truncated,
    /// The version is not the one that the EtherType announced.
    #[error("the IP version is not the expected one")]
    BadVersion,
    /// A header says that it is shorter than its fixed part.
    #[error("the header length is smaller than the fixed header")]
    BadHeaderLength,
    /// A total length is smaller than its header, or larger than its field can say.
    #[error("the total length does not fit the header")]
    BadTotalLength,
    /// The checksum is wrong. Only the `verify_checksum` functions say so; `parse` reads no checksum.
    #[error("the checksum is wrong")]
    BadChecksum,
    /// More VLAN tags than [`ethernet::MAX_TAGS`].
    #[error("more VLAN tags than are supported (2)")]
    TooManyTags,
    /// More IPv6 extension headers than [`extension::MAX_EXTENSIONS`].
    #[error("more IPv6 extension headers than are supported (8)")]
    TooManyExtensions,
    /// An IPv6 extension header where it must not be: hop-by-hop options not first, or a second fragment header.
    #[error("an IPv6 extension header stands where it must not")]
    BadNextHeader,
    /// An option runs past its header, or its length is wrong for its kind.
    #[error("an option has a wrong length")]
    BadOption,
    /// ARP for other addresses than Ethernet and IPv4.
    #[error("ARP for other than Ethernet and IPv4 addresses")]
    UnsupportedAddresses,
    /// A flag that must be set is not, or one is set that says what is not understood.
    #[error("a flag is missing that must be set, or one is set that is not understood")]
    BadFlags,
}

/// EtherTypes (IANA "IEEE 802 Numbers") that the views know.
pub mod ether_type {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// An Ethernet frame in GRE (transparent Ethernet bridging, RFC 1701).
    pub const TEB: u16 = 0x6558;
    /// An 802.1Q tag (the customer's).
    pub const VLAN: u16 = 0x8100;
    /// An 802.1ad tag (the provider's).
    pub const QINQ: u16 = 0x88a8;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// IP protocol numbers (IANA "Protocol Numbers") that the views know.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP.
    pub const IPIP: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// IPv6 in IP.
    pub const IPV6: u8 = 41;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Generic routing encapsulation.
    pub const GRE: u8 = 47;
    /// IPsec encapsulating security payload.
    pub const ESP: u8 = 50;
    /// IPsec authentication header.
    pub const AUTH: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// Nothing follows.
    pub const NO_NEXT_HEADER: u8 = 59;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
}

/// The `W` bytes at `AT` of a fixed header. A range outside the header does not compile.
#[inline(always)]
pub(crate) fn field<const AT: usize, const W: usize, const N: usize>(header: &[u8; N]) -> &[u8; W] {
    const { assert!(AT + W <= N, "the field lies outside its header") };
    match header.get(AT..AT + W).and_then(<[u8]>::first_chunk) {
        Some(field) => field,
        None => unreachable!("ruled out by the assertion above, when compiled"),
    }
}

/// [`field`], to write.
#[inline(always)]
pub(crate) fn field_mut<const AT: usize, const W: usize, const N: usize>(
    header: &mut [u8; N],
) -> &mut [u8; W] {
    const { assert!(AT + W <= N, "the field lies outside its header") };
    match header.get_mut(AT..AT + W).and_then(<[u8]>::first_chunk_mut) {
        Some(field) => field,
        None => unreachable!("ruled out by the assertion above, when compiled"),
    }
}

/// The byte at `AT`.
#[inline(always)]
pub(crate) fn byte<const AT: usize, const N: usize>(header: &[u8; N]) -> u8 {
    let [value] = *field::<AT, 1, N>(header);
    value
}

/// The 16-bit number at `AT`.
#[inline(always)]
pub(crate) fn be16<const AT: usize, const N: usize>(header: &[u8; N]) -> u16 {
    u16::from_be_bytes(*field::<AT, 2, N>(header))
}

/// The 32-bit number at `AT`.
#[inline(always)]
pub(crate) fn be32<const AT: usize, const N: usize>(header: &[u8; N]) -> u32 {
    u32::from_be_bytes(*field::<AT, 4, N>(header))
}
