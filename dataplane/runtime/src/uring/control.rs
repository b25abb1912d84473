//! Control messages (cmsg(3)): what goes beside the bytes of a message, as the kernel reads and writes it.
//!
//! Owns: the bytes. Refuses: what does not fit in, and reading past what the kernel says it wrote. Keeps true: each message begins
//! where its header is aligned.

use crate::calls::Details;
use rustix::fd::{AsRawFd, OwnedFd, RawFd};
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of a header: its length (with the header), level and kind.
const HEADER: usize = size_of::<libc::cmsghdr>();
/// Room for all of [`Details`] of either family, twice: a socket of IPv6 may be told those of both.
const ROOM: usize = 256;
/// Descriptors that may go along at a time.
pub(crate) const PASSED: usize = 16;

/// See the module.
#[repr(C, align(8))]
pub(super) struct Control {
    bytes: [u8; ROOM],
    pub(super) length: usize,
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(size_of::<usize>())
}

impl Control {
    /// Nothing.
    pub(super) fn new() -> Self {
        Self { bytes: [0; ROOM], length: 0 }
    }

    /// Nothing again. What lies behind its length is read by nobody.
    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    /// All of its room is the kernel's to write to.
    pub(super) fn open(&mut self) {
        self.length = ROOM;
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        self.bytes.as_mut_ptr().cast()
    }

    /// Adds a message; false when there is no room for it.
    fn put(&mut self, level: i32, kind: i32, data: &[u8]) -> bool {
        let end = self.length + HEADER + data.len();
        let Some(room) = self.bytes.get_mut(self.length..aligned(end)) else { return false };
        room[..HEADER - 8].copy_from_slice(&(HEADER + data.len()).to_ne_bytes());
        room[HEADER - 8..HEADER - 4].copy_from_slice(&level.to_ne_bytes());
        room[HEADER - 4..HEADER].copy_from_slice(&kind.to_ne_bytes());
        room[HEADER..HEADER + data.len()].copy_from_slice(data);
        self.length = aligned(end);
        true
    }

    /// What is there: level, kind, data.
    fn messages(&self) -> impl Iterator<Item = (i32, i32, &[u8])> {
        let mut rest = &self.bytes[..self.length.min(ROOM)];
        std::iter::from_fn(move || {
            let header = rest.get(..HEADER)?;
            let length = usize::from_ne_bytes(header[..HEADER - 8].try_into().ok()?);
            let [level, kind] = [HEADER - 8, HEADER - 4].map(|at| number(&header[at..]).unwrap_or_default());
            let data = rest.get(HEADER..length)?;
            rest = rest.get(aligned(length)..).unwrap_or(&[]);
            Some((level, kind, data))
        })
    }

    /// Says how a datagram is to be sent; of which family `ipv6` says.
    pub(super) fn put_details(&mut self, details: &Details, ipv6: bool) -> bool {
        let mut fits = true;
        if details.local.is_some() || details.interface != 0 {
            let interface = details.interface.to_ne_bytes();
            // struct in6_pktinfo: address, interface. struct in_pktinfo: interface, source, a destination that is not read.
            fits &= match (ipv6, details.local) {
                (true, local) => {
                    let local = match local {
                        Some(IpAddr::V6(local)) => local,
                        Some(IpAddr::V4(local)) => local.to_ipv6_mapped(),
                        None => Ipv6Addr::UNSPECIFIED,
                    };
                    let info = [&local.octets()[..], &interface].concat();
                    self.put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info)
                }
                // The kernel would take its first bytes for one of its own.
                (false, Some(IpAddr::V6(_))) => false,
                (false, local) => {
                    let local =
                        if let Some(IpAddr::V4(local)) = local { local } else { Ipv4Addr::UNSPECIFIED };
                    let info = [interface, local.octets(), [0; 4]].concat();
                    self.put(libc::IPPROTO_IP, libc::IP_PKTINFO, &info)
                }
            };
        }
        if let Some(class) = details.traffic_class {
            let (level, kind) =
                if ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) } else { (libc::IPPROTO_IP, libc::IP_TOS) };
            fits &= self.put(level, kind, &i32::from(class).to_ne_bytes());
        }
        if let Some(segment) = details.segment {
            fits &= self.put(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        fits
    }

    /// Descriptors that go along.
    pub(super) fn put_passed(&mut self, passed: &[OwnedFd]) -> bool {
        let numbers: Vec<u8> = passed.iter().flat_map(|fd| fd.as_raw_fd().to_ne_bytes()).collect();
        let fits = passed.len() <= PASSED;
        passed.is_empty() || fits && self.put(libc::SOL_SOCKET, libc::SCM_RIGHTS, &numbers)
    }

    /// The numbers of those that came along.
    pub(super) fn passed(&self) -> impl Iterator<Item = RawFd> {
        let rights =
            |message: &(i32, i32, &[u8])| (message.0, message.1) == (libc::SOL_SOCKET, libc::SCM_RIGHTS);
        let data =
            self.messages().filter(rights).flat_map(|(_, _, data)| data.chunks_exact(size_of::<RawFd>()));
        data.filter_map(number)
    }

    /// What the kernel says of a datagram.
    pub(super) fn details(&self) -> Details {
        let mut details = Details::default();
        for (level, kind, data) in self.messages() {
            match (level, kind) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    // The last address is that of the packet; the one before is what would answer it.
                    if let (Some(interface), Some(local)) = (number(data), data.get(8..12)) {
                        details.interface = interface as u32;
                        details.local = local.try_into().ok().map(|local: [u8; 4]| local.into());
                    }
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    if let Some((local, interface)) = data.split_first_chunk::<16>() {
                        details.local = Some(Ipv6Addr::from(*local).to_canonical());
                        details.interface = number(interface).unwrap_or_default() as u32;
                    }
                }
                // One byte, of IPv4.
                (libc::IPPROTO_IP, libc::IP_TOS) => details.traffic_class = data.first().copied(),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    details.traffic_class = number(data).map(|class| class as u8);
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    details.segment = number(data).and_then(|segment| u16::try_from(segment).ok());
                }
                _ => {}
            }
        }
        details
    }
}

/// The number that data begins with.
fn number(data: &[u8]) -> Option<i32> {
    data.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn messages_are_the_same_again(
            messages in prop::collection::vec((any::<i32>(), any::<i32>(), prop::collection::vec(any::<u8>(), 0..60)), 0..6)
        ) {
            let mut control = Control::new();
            let put: Vec<_> = messages.iter().filter(|(level, kind, data)| control.put(*level, *kind, data)).collect();
            let read: Vec<_> = control.messages().collect();
            prop_assert_eq!(put.len(), read.len());
            for ((level, kind, data), read) in put.into_iter().zip(read) {
                prop_assert_eq!((*level, *kind, &data[..]), read);
            }
        }

        #[test]
        fn whatever_the_bytes_are_reading_them_ends(bytes in prop::collection::vec(any::<u8>(), ROOM), length in 0..2 * ROOM) {
            let control = Control { bytes: bytes.try_into().unwrap(), length };
            prop_assert!(control.messages().count() <= ROOM / HEADER);
            control.details();
        }
    }

    #[test]
    fn a_length_of_nothing_ends_it() {
        let mut control = Control::new();
        control.open();
        assert_eq!(control.messages().count(), 0);
    }
}
