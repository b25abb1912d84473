//! Setting up a device that is ours: its MTU, its addresses, that it is up. Asked over a socket of its own, which blocks.

use super::decode::{RTM_DELADDR, RTM_NEWADDR, RTM_SETLINK};
use super::socket::{Socket, SocketError};
use super::wire::{NLM_F_CREATE, NLM_F_REPLACE, Request};
use std::net::IpAddr;

/// `IFLA_MTU` (uapi/linux/if_link.h), `IFA_*` (uapi/linux/if_addr.h), `IFF_UP` (uapi/linux/if.h).
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 2;
const IFF_UP: u32 = 1;

/// Gives a device this MTU, in bytes, and brings it up.
///
/// # Errors
/// The kernel's refusal.
pub fn bring_up(ifindex: u32, mtu: u32) -> Result<(), SocketError> {
    let mut body = [0; 16];
    body[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    body[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
    body[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
    let request = |flags| Request::new(RTM_SETLINK, flags, &body).attribute(IFLA_MTU, &mtu.to_ne_bytes());
    Socket::asking()?.ask_one(RTM_SETLINK, request, |_| {})
}

/// Gives the host an address on a device, whose network of `length` bits is reached by it; nothing changes where it has it already.
///
/// # Errors
/// The kernel's refusal.
pub fn add_address(ifindex: u32, address: IpAddr, length: u8) -> Result<(), SocketError> {
    let request =
        |flags| address_request(RTM_NEWADDR, flags | NLM_F_CREATE | NLM_F_REPLACE, ifindex, address, length);
    Socket::asking()?.ask_one(RTM_NEWADDR, request, |_| {})
}

/// Takes it away.
///
/// # Errors
/// The kernel's refusal: there was none, for one.
pub fn remove_address(ifindex: u32, address: IpAddr, length: u8) -> Result<(), SocketError> {
    let request = |flags| address_request(RTM_DELADDR, flags, ifindex, address, length);
    Socket::asking()?.ask_one(RTM_DELADDR, request, |_| {})
}

fn address_request(kind: u16, flags: u16, ifindex: u32, address: IpAddr, length: u8) -> Request {
    // AF_INET and AF_INET6.
    let family = if address.is_ipv4() { 2 } else { 10 };
    let mut body = [family, length, 0, 0, 0, 0, 0, 0];
    body[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    let request = Request::new(kind, flags, &body);
    match address {
        IpAddr::V4(address) => {
            request.attribute(IFA_LOCAL, &address.octets()).attribute(IFA_ADDRESS, &address.octets())
        }
        // Nobody on the link could have it, too.
        IpAddr::V6(address) => {
            request.attribute(IFA_ADDRESS, &address.octets()).attribute(IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes())
        }
    }
}
