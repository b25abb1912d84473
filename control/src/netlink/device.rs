//! Setting up a device that is ours: its MTU, its addresses, that it is up, whether it asks for neighbours. Asked over a socket of its own, which blocks.

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
const IFF_NOARP: u32 = 1 << 7;
const IFF_PROMISC: u32 = 1 << 8;

/// Gives a device this MTU, in bytes, and brings it up.
///
/// # Errors
/// The kernel's refusal.
pub fn bring_up(ifindex: u32, mtu: u32) -> Result<(), SocketError> {
    let body = link(ifindex, IFF_UP, IFF_UP);
    let request = |flags| Request::new(RTM_SETLINK, flags, &body).attribute(IFLA_MTU, &mtu.to_ne_bytes());
    Socket::asking()?.ask_one(RTM_SETLINK, request, |_| {})
}

/// Makes a device promiscuous, or not any more: the one flag beside the kernel's count of those who ask by a socket
/// (`__dev_change_flags`, net/core/dev.c).
///
/// # Errors
/// The kernel's refusal.
pub fn make_promiscuous(ifindex: u32, promiscuous: bool) -> Result<(), SocketError> {
    change(ifindex, IFF_PROMISC, promiscuous)
}

/// Has the kernel ask for neighbours on a device, by ARP and neighbour discovery, or `not`: then it sends everything to the device's own
/// address (`arp_constructor`, net/ipv4/arp.c; `ndisc_constructor`, net/ipv6/ndisc.c).
///
/// # Errors
/// The kernel's refusal.
pub fn ask_neighbours(ifindex: u32, not: bool) -> Result<(), SocketError> {
    change(ifindex, IFF_NOARP, not)
}

fn change(ifindex: u32, flag: u32, on: bool) -> Result<(), SocketError> {
    let body = link(ifindex, if on { flag } else { 0 }, flag);
    Socket::asking()?.ask_one(RTM_SETLINK, |flags| Request::new(RTM_SETLINK, flags, &body), |_| {})
}

/// `struct ifinfomsg` (uapi/linux/rtnetlink.h) that sets these flags, of those that are to `change`.
fn link(ifindex: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut body = [0; 16];
    body[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    body[8..12].copy_from_slice(&flags.to_ne_bytes());
    body[12..16].copy_from_slice(&change.to_ne_bytes());
    body
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
