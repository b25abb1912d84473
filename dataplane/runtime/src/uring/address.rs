//! Addresses as the kernel reads and writes them.

use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// An address of either family, with room for both.
#[derive(Clone, Copy)]
pub(super) struct RawAddress {
    storage: libc::sockaddr_storage,
    pub(super) length: libc::socklen_t,
}

impl RawAddress {
    /// Room for any.
    pub(super) fn room() -> Self {
        // SAFETY: all zeros is a value of it: family AF_UNSPEC.
        let storage = unsafe { zeroed() };
        Self { storage, length: size_of::<libc::sockaddr_storage>() as libc::socklen_t }
    }

    /// Where a socket is connected to says it all.
    pub(super) fn none() -> Self {
        Self { length: 0, ..Self::room() }
    }

    pub(super) fn new(address: SocketAddr) -> Self {
        let mut raw = Self::room();
        match address {
            SocketAddr::V4(address) => {
                let sockaddr = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                    sin_zero: [0; 8],
                };
                // SAFETY: a sockaddr_storage is as long and as aligned as any of them.
                unsafe { (&raw mut raw.storage).cast::<libc::sockaddr_in>().write(sockaddr) };
                raw.length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            SocketAddr::V6(address) => {
                let sockaddr = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: address.scope_id(),
                };
                // SAFETY: as above.
                unsafe { (&raw mut raw.storage).cast::<libc::sockaddr_in6>().write(sockaddr) };
                raw.length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
        raw
    }

    /// What the kernel wrote; none of another family.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        let pointer = &raw const self.storage;
        match i32::from(self.storage.ss_family) {
            libc::AF_INET if self.length as usize >= size_of::<libc::sockaddr_in>() => {
                // SAFETY: it is one of this family, and any bytes are a value of it.
                let raw = unsafe { pointer.cast::<libc::sockaddr_in>().read() };
                let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into())
            }
            libc::AF_INET6 if self.length as usize >= size_of::<libc::sockaddr_in6>() => {
                // SAFETY: as above.
                let raw = unsafe { pointer.cast::<libc::sockaddr_in6>().read() };
                let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
                let port = u16::from_be(raw.sin6_port);
                Some(SocketAddrV6::new(ip, port, raw.sin6_flowinfo, raw.sin6_scope_id).into())
            }
            _ => None,
        }
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        (&raw mut self.storage).cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_the_same_again() {
        for address in ["1.2.3.4:5", "[2001:db8::1]:65535", "[fe80::1%3]:80", "0.0.0.0:0"] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(RawAddress::new(address).address(), Some(address));
        }
        assert_eq!(RawAddress::room().address(), None);
    }
}
