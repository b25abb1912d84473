//! The packet under XDP, read with a bounds check at each step, as the verifier wants it.
//!
//! Nothing here decides; a header that is cut off is `None` or [`L3::Malformed`].

use aya_ebpf::programs::XdpContext;

const ETHERNET: usize = 14;
const VLAN_TAG: usize = 4;
/// Tags that are looked behind: one customer's inside one provider's (802.1ad).
const MAX_TAGS: usize = 2;
/// Extension headers that are walked to find the transport header. RFC 8200 §4.1 lists six kinds, once each; the rest
/// is treated as not steered.
const MAX_EXTENSIONS: usize = 4;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// The bytes between `data` and `data_end`.
pub(crate) struct Packet {
    data: usize,
    end: usize,
}

/// What lies behind the Ethernet header and its tags.
pub(crate) enum L3<'p> {
    V4(Ipv4<'p>),
    V6(Ipv6<'p>),
    /// Another EtherType.
    Other,
    /// An IP header that is cut off, or of the wrong version, or shorter than it may be.
    Malformed,
}

/// A checked IPv4 header, without its options.
pub(crate) struct Ipv4<'p> {
    header: &'p [u8; 20],
    at: usize,
}

/// A checked fixed IPv6 header.
pub(crate) struct Ipv6<'p> {
    header: &'p [u8; 40],
    at: usize,
}

/// What decides when ports are steered.
pub(crate) enum Transport {
    /// A protocol and its destination port (network byte order).
    Port(u8, [u8; 2]),
    /// Any fragment, the first too: only whole datagrams can be told apart by port, and a datagram must not be split
    /// between two receivers.
    Fragment,
    /// A protocol without ports, or behind more extension headers than are walked.
    NoPort,
    /// Cut off.
    Malformed,
}

impl Packet {
    #[inline(always)]
    pub(crate) fn new(ctx: &XdpContext) -> Self {
        Self { data: ctx.data(), end: ctx.data_end() }
    }

    /// Bytes of the (linear part of the) frame.
    #[inline(always)]
    pub(crate) fn len(&self) -> u64 {
        (self.end - self.data) as u64
    }

    /// `N` bytes at `offset`, when they are there.
    #[inline(always)]
    fn bytes<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        let start = self.data + offset;
        if start + N > self.end {
            return None;
        }
        // SAFETY: `data..end` is the packet, valid while the program runs (the verifier proves this very check), and
        // arrays of bytes have no alignment. `offset` is below 2^16, so the sum cannot wrap.
        Some(unsafe { &*(start as *const [u8; N]) })
    }

    /// Is the destination MAC a group address (multicast or broadcast)?
    #[inline(always)]
    pub(crate) fn is_group_addressed(&self) -> bool {
        matches!(self.bytes::<1>(0), Some([first]) if first & 1 != 0)
    }

    #[inline(always)]
    pub(crate) fn l3(&self) -> L3<'_> {
        let Some(ethernet) = self.bytes::<ETHERNET>(0) else { return L3::Malformed };
        let mut ethertype = u16::from_be_bytes([ethernet[12], ethernet[13]]);
        let mut at = ETHERNET;
        for _ in 0..MAX_TAGS {
            if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_QINQ {
                break;
            }
            let Some(tag) = self.bytes::<VLAN_TAG>(at) else { return L3::Malformed };
            ethertype = u16::from_be_bytes([tag[2], tag[3]]);
            at += VLAN_TAG;
        }
        match ethertype {
            ETHERTYPE_IPV4 => match self.bytes::<20>(at) {
                Some(header) if header[0] >> 4 == 4 && header[0] & 0xf >= 5 => L3::V4(Ipv4 { header, at }),
                _ => L3::Malformed,
            },
            ETHERTYPE_IPV6 => match self.bytes::<40>(at) {
                Some(header) if header[0] >> 4 == 6 => L3::V6(Ipv6 { header, at }),
                _ => L3::Malformed,
            },
            _ => L3::Other,
        }
    }

    #[inline(always)]
    fn port(&self, protocol: u8, at: usize) -> Transport {
        match protocol {
            // TCP, UDP, DCCP, SCTP, UDP-Lite: the destination port is the second 16 bits of each.
            6 | 17 | 33 | 132 | 136 => match self.bytes::<4>(at) {
                Some(&[_, _, high, low]) => Transport::Port(protocol, [high, low]),
                None => Transport::Malformed,
            },
            _ => Transport::NoPort,
        }
    }
}

impl Ipv4<'_> {
    #[inline(always)]
    pub(crate) fn source(&self) -> [u8; 4] {
        let h = self.header;
        [h[12], h[13], h[14], h[15]]
    }

    #[inline(always)]
    pub(crate) fn destination(&self) -> [u8; 4] {
        let h = self.header;
        [h[16], h[17], h[18], h[19]]
    }

    /// 224.0.0.0/4 or 255.255.255.255.
    #[inline(always)]
    pub(crate) fn is_multicast(&self) -> bool {
        let destination = self.destination();
        destination[0] & 0xf0 == 0xe0 || destination == [255; 4]
    }

    #[inline(always)]
    pub(crate) fn transport(&self, packet: &Packet) -> Transport {
        let h = self.header;
        // More fragments, or an offset (RFC 791 §3.1).
        if u16::from_be_bytes([h[6], h[7]]) & 0x3fff != 0 {
            return Transport::Fragment;
        }
        packet.port(h[9], self.at + usize::from(h[0] & 0xf) * 4)
    }
}

impl Ipv6<'_> {
    #[inline(always)]
    fn address(&self, at: usize) -> [u8; 16] {
        let mut address = [0; 16];
        address.copy_from_slice(&self.header[at..at + 16]);
        address
    }

    #[inline(always)]
    pub(crate) fn source(&self) -> [u8; 16] {
        self.address(8)
    }

    #[inline(always)]
    pub(crate) fn destination(&self) -> [u8; 16] {
        self.address(24)
    }

    /// ff00::/8.
    #[inline(always)]
    pub(crate) fn is_multicast(&self) -> bool {
        self.header[24] == 0xff
    }

    /// fe80::/10, as the destination.
    #[inline(always)]
    pub(crate) fn is_link_local(&self) -> bool {
        self.header[24] == 0xfe && self.header[25] & 0xc0 == 0x80
    }

    /// Neighbour discovery (RFC 4861: ICMPv6 133 to 137, never behind an extension header, §6.1 and §7.1 with RFC 6980).
    /// Multicast listener discovery needs no look: it always goes to a multicast address (RFC 3810 §5).
    #[inline(always)]
    pub(crate) fn is_neighbour_discovery(&self, packet: &Packet) -> bool {
        self.header[6] == 58 && matches!(packet.bytes::<1>(self.at + 40), Some([133..=137]))
    }

    #[inline(always)]
    pub(crate) fn transport(&self, packet: &Packet) -> Transport {
        let mut next = self.header[6];
        let mut at = self.at + 40;
        for _ in 0..MAX_EXTENSIONS {
            match next {
                HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                    let Some(&[following, length]) = packet.bytes::<2>(at) else {
                        return Transport::Malformed;
                    };
                    next = following;
                    at += (usize::from(length) + 1) * 8;
                }
                FRAGMENT => return Transport::Fragment,
                _ => break,
            }
        }
        packet.port(next, at)
    }
}
