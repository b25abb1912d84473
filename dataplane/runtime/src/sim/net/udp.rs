//! A socket of datagrams: its options, and what has come to it.
//!
//! Keeps true: what came is taken in its order; a buffer with a segment is sent as the datagrams it is, each for itself; what is joined
//! again is of one sender, to one address, of one traffic class (net/ipv4/af_inet.c, inet_gro_receive), and of one length, but for a last one
//! that is shorter (net/ipv4/udp_offload.c, udp_gro_receive_segment).

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

/// What datagrams that are joined have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Flow {
    from: SocketAddr,
    to: SocketAddr,
    class: u8,
}

/// See the module.
#[derive(Default)]
pub(super) struct Udp {
    inbox: VecDeque<(Flow, Vec<u8>)>,
    /// Whether it shares its address with others that do.
    pub(super) shares: bool,
    broadcasts: bool,
    keeps_multicast_away: bool,
    class: u8,
    tells_class: bool,
    tells_local: bool,
    joins: bool,
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
            SocketOption::ReceiveSegments(on) => self.joins = on,
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
        if self.inbox.len() < INBOX {
            self.inbox.push_back((Flow { from, to, class }, bytes));
        }
    }

    /// The one that came first; with those behind it that are joined to it, if they are.
    pub(super) fn take(&mut self) -> Option<Reply> {
        let (flow, mut bytes) = self.inbox.pop_front()?;
        let segment = bytes.len();
        let mut joined = 1;
        while self.joins
            && segment > 0
            && bytes.len() == joined * segment
            && joined < SEGMENTS
            && let Some((_, next)) = self.inbox.front().filter(|next| next.0 == flow)
            && (1..=segment).contains(&next.len())
            && bytes.len() + next.len() <= LONGEST
        {
            bytes.extend_from_slice(next);
            self.inbox.pop_front();
            joined += 1;
        }
        let details = Details {
            local: self.tells_local.then_some(flow.to.ip()),
            interface: if self.tells_local { LOOPBACK } else { 0 },
            traffic_class: self.tells_class.then_some(flow.class),
            // (None is longer than 65,507 bytes.)
            segment: u16::try_from(segment).ok().filter(|_| joined > 1),
        };
        Some(Reply::Datagram(flow.from, details, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As many bytes as a length says, which say who sent them and in which order.
    fn come(udp: &mut Udp, datagrams: &[(u16, usize)]) -> Vec<(SocketAddr, Vec<u8>)> {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let datagrams = datagrams.iter().enumerate().map(|(number, (port, length))| {
            (SocketAddr::from((Ipv4Addr::LOCALHOST, *port)), vec![number as u8; *length])
        });
        let datagrams: Vec<_> = datagrams.collect();
        datagrams.iter().for_each(|(from, bytes)| udp.arrive(*from, to, 0, bytes.clone()));
        datagrams
    }

    proptest! {
        #[test]
        fn what_is_joined_comes_apart_as_it_came(
            datagrams in prop::collection::vec((1..3_u16, prop_oneof![0..3_usize, 700..702_usize]), 0..200),
            joins: bool,
        ) {
            let mut udp = Udp { joins, ..Udp::default() };
            let came = come(&mut udp, &datagrams);
            let (mut apart, mut messages) = (Vec::new(), 0);
            while let Some(Reply::Datagram(from, details, bytes)) = udp.take() {
                messages += 1;
                prop_assert!(bytes.len() <= LONGEST);
                match details.segment.map(usize::from) {
                    Some(segment) => {
                        let parts: Vec<_> = bytes.chunks(segment).collect();
                        prop_assert!((2..=SEGMENTS).contains(&parts.len()));
                        apart.extend(parts.into_iter().map(|part| (from, part.to_vec())));
                    }
                    None => apart.push((from, bytes)),
                }
            }
            prop_assert!(joins || messages == came.len());
            prop_assert_eq!(apart, came);
        }
    }

    #[test]
    fn a_shorter_one_ends_what_is_joined_and_another_sender_does() {
        let mut udp = Udp { joins: true, ..Udp::default() };
        come(&mut udp, &[(1, 9), (1, 9), (1, 4), (1, 4), (2, 4), (2, 5), (2, 0)]);
        let taken = std::iter::from_fn(|| match udp.take() {
            Some(Reply::Datagram(_, details, bytes)) => Some((bytes.len(), details.segment)),
            _ => None,
        });
        assert_eq!(taken.collect::<Vec<_>>(), [(22, Some(9)), (4, None), (4, None), (5, None), (0, None)]);
    }

    /// Whether or not the socket asks where they went and of which class they are.
    #[test]
    fn another_destination_or_class_ends_what_is_joined() {
        let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        for tells in [false, true] {
            let mut udp = Udp { joins: true, tells_local: tells, tells_class: tells, ..Udp::default() };
            for (to, class) in
                [([127, 0, 0, 1], 0), ([127, 0, 0, 1], 0), ([127, 0, 0, 2], 0), ([127, 0, 0, 2], 8)]
            {
                udp.arrive(from, SocketAddr::from((to, 9)), class, vec![1; 5]);
            }
            let taken = std::iter::from_fn(|| match udp.take() {
                Some(Reply::Datagram(_, details, bytes)) => Some((bytes.len(), details.local.is_some())),
                _ => None,
            });
            assert_eq!(taken.collect::<Vec<_>>(), [(10, tells), (5, tells), (5, tells)]);
        }
    }
}
