//! Messages of a UDP socket, with all that goes beside their bytes; and the system call that brings one, `recvmsg`.
//!
//! Owns an [`Envelope`]'s bytes. Refuses nothing but what the kernel does. Keeps true: a call gets pointers to memory that outlives it, with the
//! lengths of that memory, and what the kernel writes beside a message is read as bytes, within the length that it said.
//!
//! Names and ancillary data are laid out by hand, as bytes (`struct sockaddr_in` and `sockaddr_in6`, `struct cmsghdr`), so that
//! `unsafe` is needed for the calls alone. Kernel sources: net/ipv4/udp.c (`udp_sendmsg`, `udp_cmsg_recv`), net/ipv4/ip_sockglue.c,
//! net/ipv6/datagram.c.

#![allow(unsafe_code)]

use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of a `struct cmsghdr`: a length of the machine's width, a level, a type.
const HEADER: usize = size_of::<libc::cmsghdr>();
/// Bytes that ancillary data begins at a multiple of (`CMSG_ALIGN`).
const ALIGN: usize = size_of::<usize>();
/// Room for ancillary data: two addresses, two classes, a segment's length.
pub const ROOM: usize = 192;
/// Bytes of a `struct sockaddr_in6`, the longer of the two names.
pub const NAME: usize = size_of::<libc::sockaddr_in6>();

/// Where a message goes, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The address that it leaves from; unspecified: the kernel's choice.
    pub from: IpAddr,
    /// Where it goes. Of the family of `from`.
    pub to: SocketAddr,
    /// DSCP (high 6 bits) and ECN (low 2) of its packets.
    pub tos: u8,
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Bytes in the buffer.
    pub len: usize,
    /// Bytes of each datagram, of which the last may be shorter; 0: it is one datagram.
    pub segment: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// The address that it was sent to; unspecified: the kernel did not say.
    pub to: IpAddr,
    /// DSCP and ECN of the (first) datagram's packet.
    pub tos: u8,
}

/// Ancillary data.
#[repr(C, align(8))]
struct Beside {
    bytes: [u8; ROOM],
    len: usize,
}

impl Beside {
    fn new() -> Self {
        Self { bytes: [0; ROOM], len: 0 }
    }

    /// Adds an item. There is room for all that one message has.
    fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        let at = self.len;
        let len = HEADER + data.len();
        let Some(place) = self.bytes.get_mut(at..at + len.next_multiple_of(ALIGN)) else { return };
        let (header, rest) = place.split_at_mut(HEADER);
        header[..ALIGN].copy_from_slice(&len.to_ne_bytes());
        header[HEADER - 8..HEADER - 4].copy_from_slice(&level.to_ne_bytes());
        header[HEADER - 4..].copy_from_slice(&kind.to_ne_bytes());
        rest[..data.len()].copy_from_slice(data);
        self.len += len.next_multiple_of(ALIGN);
    }

    fn written(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

/// The items of ancillary data: level, type, data.
fn items(mut rest: &[u8]) -> impl Iterator<Item = (i32, i32, &[u8])> {
    std::iter::from_fn(move || {
        let header = rest.get(..HEADER)?;
        let len = usize::from_ne_bytes(*header.first_chunk()?);
        let level = i32::from_ne_bytes(*header.get(HEADER - 8..)?.first_chunk()?);
        let kind = i32::from_ne_bytes(*header.get(HEADER - 4..)?.first_chunk()?);
        let data = rest.get(HEADER..len)?;
        rest = rest.get(len.next_multiple_of(ALIGN)..).unwrap_or(&[]);
        Some((level, kind, data))
    })
}

/// A socket's name as the kernel has it, and its length. A socket of IPv6 knows addresses of IPv4 as mapped ones (RFC 4291 §2.5.5.2).
fn name_of(socket: SocketAddr, v6: bool) -> ([u8; NAME], usize) {
    let mut name = [0; NAME];
    name[2..4].copy_from_slice(&socket.port().to_be_bytes());
    let (family, len) = match socket.ip() {
        IpAddr::V4(address) if !v6 => {
            name[4..8].copy_from_slice(&address.octets());
            (libc::AF_INET, size_of::<libc::sockaddr_in>())
        }
        address => {
            let address = match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            name[8..24].copy_from_slice(&address.octets());
            (libc::AF_INET6, NAME)
        }
    };
    name[..2].copy_from_slice(&(family as libc::sa_family_t).to_ne_bytes());
    (name, len)
}

/// The socket of a name that the kernel wrote.
fn named(name: &[u8; NAME]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes([name[2], name[3]]);
    let address = match i32::from(libc::sa_family_t::from_ne_bytes([name[0], name[1]])) {
        libc::AF_INET => v4_at(name, 4)?,
        libc::AF_INET6 => v6_at(name, 8)?,
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

fn v4_at(bytes: &[u8], at: usize) -> Option<IpAddr> {
    Some(Ipv4Addr::from(*bytes.get(at..)?.first_chunk::<4>()?).into())
}

/// An address of IPv6, or the one of IPv4 that it stands for.
fn v6_at(bytes: &[u8], at: usize) -> Option<IpAddr> {
    Some(Ipv6Addr::from(*bytes.get(at..)?.first_chunk::<16>()?).to_canonical())
}

/// A message was taken that nothing can be made of: its sender's name is none of IP.
pub const REFUSED: Errno = Errno::PROTO;

/// Takes a message from the socket, without waiting.
///
/// # Errors
/// `EAGAIN`: there is none. [`REFUSED`]. Any other: what an earlier message met, or a signal; the next call may bring one.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Message, Errno> {
    let (mut name, mut beside) = ([0; NAME], Beside::new());
    let mut parts = [IoSliceMut::new(buffer)];
    // SAFETY: all-zero bytes are a valid `msghdr`: numbers and null pointers.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = name.as_mut_ptr().cast();
    header.msg_namelen = NAME as libc::socklen_t;
    header.msg_iov = parts.as_mut_ptr().cast();
    header.msg_iovlen = 1;
    header.msg_control = beside.bytes.as_mut_ptr().cast();
    header.msg_controllen = ROOM as _;
    // SAFETY: name, parts (an `IoSliceMut` is an `iovec`) and ancillary data are local or borrowed for longer than the call, for
    // writing, and their lengths are said.
    let result = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let len = usize::try_from(result).map_err(|_| last())?;
    beside.len = (header.msg_controllen as usize).min(ROOM);
    Message::of(len, &name, beside.written()).ok_or(REFUSED)
}

impl Message {
    /// A message of `len` bytes, from what the kernel wrote beside it: its sender's name, and ancillary data.
    pub fn of(len: usize, name: &[u8; NAME], beside: &[u8]) -> Option<Self> {
        let from = named(name)?;
        let mut to = unspecified(from.ip());
        let (mut tos, mut segment) = (0, 0);
        for (level, kind, data) in items(beside) {
            match (level, kind) {
                // struct in_pktinfo: index, address of ours, address in the header.
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => to = v4_at(data, 8).unwrap_or(to),
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => to = v6_at(data, 0).unwrap_or(to),
                (libc::IPPROTO_IP, libc::IP_TOS) => tos = data.first().copied().unwrap_or(0),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => tos = number(data) as u8,
                (libc::SOL_UDP, libc::UDP_GRO) => segment = usize::try_from(number(data)).unwrap_or(0),
                _ => {}
            }
        }
        Some(Self { len, segment, from, to, tos })
    }
}

fn number(data: &[u8]) -> i32 {
    data.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes))
}

/// The unspecified address of the family of `address`.
pub fn unspecified(address: IpAddr) -> IpAddr {
    if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// A message that is to leave, as the kernel reads it.
pub struct Envelope {
    name: [u8; NAME],
    beside: Beside,
    header: libc::msghdr,
}

// SAFETY: the header's pointers lead into the envelope itself and to what `seal` was given, and are followed by the kernel alone, for
// who calls it with both of them at hand.
unsafe impl Send for Envelope {}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Envelope").field("beside", &self.beside.written()).finish_non_exhaustive()
    }
}

impl Envelope {
    /// An empty one.
    pub fn new() -> Self {
        // SAFETY: all-zero bytes are a valid `msghdr`: numbers and null pointers.
        Self { name: [0; NAME], beside: Beside::new(), header: unsafe { std::mem::zeroed() } }
    }

    /// Makes it a message of these parts, one behind the other: one datagram, or with `segment` datagrams of so many bytes, of which
    /// the last may be shorter. `v6`: the socket is of IPv6. What it returns leads into the envelope and to the parts, for as long
    /// as both stay where they are.
    pub fn seal(
        &mut self,
        v6: bool,
        way: &Way,
        parts: &[IoSlice<'_>],
        segment: Option<u16>,
    ) -> *const libc::msghdr {
        let Self { name, beside, header } = self;
        let name_len;
        (*name, name_len) = name_of(way.to, v6);
        beside.len = 0;
        match way.from {
            from if from.is_unspecified() => {}
            IpAddr::V4(from) => {
                let mut info = [0; size_of::<libc::in_pktinfo>()];
                info[4..8].copy_from_slice(&from.octets());
                beside.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            IpAddr::V6(from) => {
                let mut info = [0; size_of::<libc::in6_pktinfo>()];
                info[..16].copy_from_slice(&from.octets());
                beside.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
        }
        let (level, kind) = match way.to {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        };
        beside.push(level, kind, &i32::from(way.tos).to_ne_bytes());
        if let Some(segment) = segment {
            beside.push(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        header.msg_name = name.as_mut_ptr().cast();
        header.msg_namelen = name_len as libc::socklen_t;
        header.msg_iov = parts.as_ptr().cast_mut().cast();
        header.msg_iovlen = parts.len() as _;
        header.msg_control = beside.bytes.as_mut_ptr().cast();
        header.msg_controllen = beside.len as _;
        header
    }
}

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_beside_a_message_is_what_the_macros_of_libc_would_put_there() {
        let mut beside = Beside::new();
        beside.push(libc::IPPROTO_IP, libc::IP_TOS, &7_i32.to_ne_bytes());
        beside.push(libc::SOL_UDP, libc::UDP_SEGMENT, &1200_u16.to_ne_bytes());
        // SAFETY: the macros only compute.
        let lens =
            unsafe { [libc::CMSG_LEN(4), libc::CMSG_SPACE(4), libc::CMSG_LEN(2), libc::CMSG_SPACE(2)] };
        assert_eq!(beside.len, (lens[1] + lens[3]) as usize);
        let len = |at: usize| usize::from_ne_bytes(*beside.bytes[at..].first_chunk().unwrap());
        assert_eq!([len(0), len(lens[1] as usize)], [lens[0] as usize, lens[2] as usize]);
        let items: Vec<_> =
            items(beside.written()).map(|(level, kind, data)| (level, kind, data.len())).collect();
        let expected = [(libc::IPPROTO_IP, libc::IP_TOS, 4), (libc::SOL_UDP, libc::UDP_SEGMENT, 2)];
        assert_eq!(items, expected);
    }

    #[test]
    fn lengths_that_lie_end_the_items() {
        for len in [0, 1, HEADER - 1, ROOM + 1, usize::MAX - 3, usize::MAX] {
            let mut beside = Beside::new();
            beside.push(1, 2, &[3; 8]);
            beside.push(1, 2, &[3; 8]);
            beside.bytes[..ALIGN].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(items(beside.written()).count(), 0, "{len}");
        }
    }

    #[test]
    fn names_come_back_and_mapped_ones_as_what_they_stand_for() {
        for (text, v6) in [("192.0.2.1:7", false), ("192.0.2.1:7", true), ("[2001:db8::1]:65535", true)] {
            let socket: SocketAddr = text.parse().unwrap();
            let (name, len) = name_of(socket, v6);
            assert_eq!((named(&name), len), (Some(socket), if v6 { 28 } else { 16 }));
        }
        assert_eq!(named(&[0xff; NAME]), None);
    }
}
