//! The packet under the program. Nothing here decides; a header that is cut off is `None` or [`L3::Malformed`].
//!
//! Headers are copied to the stack by a helper of the [context](Context) and not read through packet pointers: without
//! CAP_PERFMON, which control has not, the verifier allows such pointers constant offsets only, and tags, options and
//! extension headers make them variable (kernel/bpf/verifier.c, `sanitize_ptr_alu`). It reads multi-buffer frames too.
//! For the same reason no path may read stack that it did not write, and the compiler must not make it: hence the flat
//! [`Packet`], instead of the header in the enum.

use core::{ffi::c_void, mem::MaybeUninit};

use crate::context::Context;

const ETHERNET: u32 = 14;
const VLAN_TAG: u32 = 4;
/// Tags that are looked behind: one customer's inside one provider's (802.1ad).
const MAX_TAGS: usize = 2;
/// Extension headers that are walked to find the transport header. RFC 8200 §4.1 lists six kinds, once each; the rest
/// is treated as not steered.
const MAX_EXTENSIONS: usize = 4;

/// The longer of the two network headers, IPv6's 40 bytes.
const HEADER_WORDS: usize = 5;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// A frame's headers up to the network layer's.
pub(crate) struct Packet<'c> {
    ctx: &'c Context,
    /// Is the destination MAC a group address (multicast or broadcast)?
    pub(crate) is_group_addressed: bool,
    kind: Kind,
    /// Where the network layer's header starts.
    at: u32,
    /// That header, when `kind` is `V4` or `V6`.
    header: MaybeUninit<[u64; HEADER_WORDS]>,
}

#[derive(Clone, Copy)]
enum Kind {
    V4,
    V6,
    Other,
    Malformed,
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
pub(crate) struct Ipv4<'p>(&'p Packet<'p>);

/// A checked fixed IPv6 header.
pub(crate) struct Ipv6<'p>(&'p Packet<'p>);

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

impl<'c> Packet<'c> {
    /// A packet that was not read yet; [`Self::parse`] comes next, in place, for a copy would read what was not written.
    #[inline(always)]
    pub(crate) fn new(ctx: &'c Context) -> Self {
        let header = MaybeUninit::uninit();
        Self { ctx, is_group_addressed: false, kind: Kind::Malformed, at: ETHERNET, header }
    }

    #[inline(always)]
    pub(crate) fn parse(&mut self) {
        for i in 0..HEADER_WORDS {
            // SAFETY: within the array. Volatile, or it becomes a call of memset, whose loop the verifier refuses.
            unsafe { self.header.as_mut_ptr().cast::<u64>().add(i).write_volatile(0) };
        }
        self.kind = self.parse_headers();
    }

    #[inline(always)]
    fn parse_headers(&mut self) -> Kind {
        let Some(ethernet) = self.bytes::<{ ETHERNET as usize }>(0) else { return Kind::Malformed };
        self.is_group_addressed = ethernet[0] & 1 != 0;
        let mut ethertype = u16::from_be_bytes([ethernet[12], ethernet[13]]);
        for _ in 0..MAX_TAGS {
            if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_QINQ {
                break;
            }
            let Some([_, _, high, low]) = self.bytes::<4>(self.at) else { return Kind::Malformed };
            ethertype = u16::from_be_bytes([high, low]);
            self.at += VLAN_TAG;
        }
        let (length, kind) = match ethertype {
            ETHERTYPE_IPV4 => (20, Kind::V4),
            ETHERTYPE_IPV6 => (40, Kind::V6),
            _ => return Kind::Other,
        };
        let to = self.header.as_mut_ptr().cast();
        // SAFETY: `length` is at most the header's 40.
        if !unsafe { self.load(self.at, to, length) } {
            return Kind::Malformed;
        }
        // SAFETY: just written.
        let first = unsafe { self.header.as_ptr().cast::<u8>().read() };
        match (kind, first) {
            (Kind::V4, 0x45..=0x4f) | (Kind::V6, 0x60..=0x6f) => kind,
            _ => Kind::Malformed,
        }
    }

    #[inline(always)]
    pub(crate) fn l3(&self) -> L3<'_> {
        match self.kind {
            Kind::V4 => L3::V4(Ipv4(self)),
            Kind::V6 => L3::V6(Ipv6(self)),
            Kind::Other => L3::Other,
            Kind::Malformed => L3::Malformed,
        }
    }

    /// `N` bytes at `offset`, when they are there.
    #[inline(always)]
    fn bytes<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: there are `N` bytes to write to, and they are read only when they were.
        unsafe { self.load(offset, bytes.as_mut_ptr().cast(), N as u32).then(|| bytes.assume_init()) }
    }

    /// Copies `length` bytes at `offset` to `to`, and says whether they were there.
    ///
    /// # Safety
    /// `to` is valid for writes of `length` bytes.
    #[inline(always)]
    unsafe fn load(&self, offset: u32, to: *mut c_void, length: u32) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.ctx.load(offset, to, length) }
    }

    #[inline(always)]
    fn port(&self, protocol: u8, at: u32) -> Transport {
        match protocol {
            // TCP, UDP, DCCP, SCTP, UDP-Lite: the destination port is the second 16 bits of each.
            6 | 17 | 33 | 132 | 136 => match self.bytes::<4>(at) {
                Some([_, _, high, low]) => Transport::Port(protocol, [high, low]),
                None => Transport::Malformed,
            },
            _ => Transport::NoPort,
        }
    }
}

impl Ipv4<'_> {
    #[inline(always)]
    fn header(&self) -> &[u8; 20] {
        // SAFETY: `parse` wrote all of it; the array is larger, and aligned better.
        unsafe { &*self.0.header.as_ptr().cast() }
    }

    #[inline(always)]
    pub(crate) fn source(&self) -> [u8; 4] {
        let h = self.header();
        [h[12], h[13], h[14], h[15]]
    }

    #[inline(always)]
    pub(crate) fn destination(&self) -> [u8; 4] {
        let h = self.header();
        [h[16], h[17], h[18], h[19]]
    }

    /// 224.0.0.0/4 or 255.255.255.255.
    #[inline(always)]
    pub(crate) fn is_multicast(&self) -> bool {
        let destination = self.destination();
        destination[0] & 0xf0 == 0xe0 || destination == [255; 4]
    }

    #[inline(always)]
    pub(crate) fn transport(&self) -> Transport {
        let h = self.header();
        // More fragments, or an offset (RFC 791 §3.1).
        if u16::from_be_bytes([h[6], h[7]]) & 0x3fff != 0 {
            return Transport::Fragment;
        }
        self.0.port(h[9], self.0.at + u32::from(h[0] & 0xf) * 4)
    }
}

impl Ipv6<'_> {
    #[inline(always)]
    fn header(&self) -> &[u8; 40] {
        // SAFETY: `parse` wrote all of it; the array is as large, and aligned better.
        unsafe { &*self.0.header.as_ptr().cast() }
    }

    #[inline(always)]
    fn address(&self, at: usize) -> [u8; 16] {
        let mut address = [0; 16];
        address.copy_from_slice(&self.header()[at..at + 16]);
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
        self.header()[24] == 0xff
    }

    /// fe80::/10, as the destination.
    #[inline(always)]
    pub(crate) fn is_link_local(&self) -> bool {
        self.header()[24] == 0xfe && self.header()[25] & 0xc0 == 0x80
    }

    /// Neighbour discovery (RFC 4861: ICMPv6 133 to 137, never behind an extension header, §6.1 and §7.1 with RFC 6980).
    /// Multicast listener discovery needs no look: it always goes to a multicast address (RFC 3810 §5).
    #[inline(always)]
    pub(crate) fn is_neighbour_discovery(&self) -> bool {
        self.header()[6] == 58 && matches!(self.0.bytes::<1>(self.0.at + 40), Some([133..=137]))
    }

    #[inline(always)]
    pub(crate) fn transport(&self) -> Transport {
        let mut next = self.header()[6];
        let mut at = self.0.at + 40;
        for _ in 0..MAX_EXTENSIONS {
            match next {
                HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                    let Some([following, length]) = self.0.bytes::<2>(at) else {
                        return Transport::Malformed;
                    };
                    next = following;
                    at += (u32::from(length) + 1) * 8;
                }
                FRAGMENT => return Transport::Fragment,
                _ => break,
            }
        }
        self.0.port(next, at)
    }
}
