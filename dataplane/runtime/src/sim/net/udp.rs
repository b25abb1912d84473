//! A socket of datagrams: its options, and what has come to it.
//!
//! Keeps true: what came is taken in its order; a buffer with a segment is sent as the datagrams it is, each for itself.

use super::Arrival;
use crate::calls::{Details, SocketOption};
use crate::sim::{Reply, Request};
use rustix::io::Errno;
use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Datagrams that wait at a socket; what comes then is lost.
const INBOX: usize = 256;
/// Bytes of a datagram, whatever is ahead of them.
const LONGEST: usize = 65_507;
/// Datagrams of one buffer (UDP_MAX_SEGMENTS was 64 until Linux 6.9, include/linux/udp.h).
const SEGMENTS: usize = 64;
/// Groups of a socket (net.ipv4.igmp_max_memberships).
const GROUPS: usize = 20;
/// The only interface there is.
const LOOPBACK: u32 = 1;

/// See the module.
#[derive(Default)]
pub(super) struct Udp {
    inbox: VecDeque<(SocketAddr, Details, Vec<u8>)>,
    /// Whether it shares its address with others that do.
    pub(super) shares: bool,
    broadcasts: bool,
    keeps_multicast_away: bool,
    class: u8,
    tells_class: bool,
    tells_local: bool,
    groups: BTreeSet<(IpAddr, u32)>,
}

/// An address of all: everybody's, and that of the loopback network.
pub(super) fn is_broadcast(ip: IpAddr) -> bool {
    ip == Ipv4Addr::BROADCAST || ip == Ipv4Addr::new(127, 255, 255, 255)
}

impl Udp {
    /// What means nothing here is taken, too.
    pub(super) fn set(&mut self, option: SocketOption) -> Result<(), Errno> {
        match option {
            SocketOption::ReuseAddress(on) => self.shares = on,
            SocketOption::Broadcast(on) => self.broadcasts = on,
            SocketOption::MulticastLoop(on) => self.keeps_multicast_away = !on,
            SocketOption::TrafficClass(class) => self.class = class,
            SocketOption::ReceiveTrafficClass(on) => self.tells_class = on,
            SocketOption::ReceivePacketInfo(on) => self.tells_local = on,
            SocketOption::Join(group, _) | SocketOption::Leave(group, _) if !group.is_multicast() => {
                return Err(Errno::INVAL);
            }
            SocketOption::Join(_, interface) if interface > LOOPBACK => return Err(Errno::NODEV),
            SocketOption::Join(..) if self.groups.len() == GROUPS => return Err(Errno::NOBUFS),
            SocketOption::Join(group, interface) if !self.groups.insert((group, interface)) => {
                return Err(Errno::ADDRINUSE);
            }
            SocketOption::Leave(group, interface) if !self.groups.remove(&(group, interface)) => {
                return Err(Errno::ADDRNOTAVAIL);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether what is sent to this address, of many, is for the one who is bound to `local`.
    pub(super) fn hears(&self, local: SocketAddr, to: SocketAddr) -> bool {
        let here = local.ip() == to.ip() || local.ip().is_unspecified() && local.is_ipv4() == to.is_ipv4();
        let joined = !to.ip().is_multicast() || self.groups.iter().any(|(group, _)| *group == to.ip());
        here && joined && local.port() == to.port()
    }

    /// The datagrams that are sent.
    pub(super) fn send(&self, local: SocketAddr, request: &Request) -> Result<Vec<Arrival>, Errno> {
        let Request { bytes, details, .. } = request;
        let to = request.address.ok_or(Errno::DESTADDRREQ)?;
        if local.is_ipv4() != to.is_ipv4()
            || details.local.is_some_and(|local| local.is_ipv4() != to.is_ipv4())
            || details.segment == Some(0)
        {
            return Err(Errno::INVAL);
        }
        if is_broadcast(to.ip()) && !self.broadcasts {
            return Err(Errno::ACCESS);
        }
        let segment = details.segment.map_or(LONGEST, usize::from);
        if bytes.len() > LONGEST {
            return Err(Errno::MSGSIZE);
        }
        if bytes.len().div_ceil(segment) > SEGMENTS {
            return Err(Errno::INVAL);
        }
        if to.ip().is_multicast() && self.keeps_multicast_away {
            return Ok(Vec::new());
        }
        let any: IpAddr = if to.is_ipv6() { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
        let bound = Some(local.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_multicast());
        let from = SocketAddr::new(details.local.or(bound).unwrap_or(any), local.port());
        let class = details.traffic_class.unwrap_or(self.class);
        // One of no byte is one, too.
        let parts = bytes.chunks(segment).chain(bytes.is_empty().then_some(&[][..]));
        Ok(parts.map(|bytes| Arrival::Datagram { from, to, class, bytes: bytes.to_vec() }).collect())
    }

    /// One has come.
    pub(super) fn arrive(&mut self, from: SocketAddr, to: SocketAddr, class: u8, bytes: Vec<u8>) {
        let details = Details {
            local: self.tells_local.then_some(to.ip()),
            interface: if self.tells_local { LOOPBACK } else { 0 },
            traffic_class: self.tells_class.then_some(class),
            segment: None,
        };
        if self.inbox.len() < INBOX {
            self.inbox.push_back((from, details, bytes));
        }
    }

    /// The one that came first.
    pub(super) fn take(&mut self) -> Option<Reply> {
        self.inbox.pop_front().map(|(from, details, bytes)| Reply::Datagram(from, details, bytes))
    }
}
