//! rtnetlink messages to [`Event`]s. Numbers are those of uapi/linux/{rtnetlink,if_link,if_addr,neighbour,nexthop}.h.
//!
//! An attribute that is not known, or is not of the expected size, is skipped. A message without what makes it one (an
//! index, an id) is no event. What is not IPv4 or IPv6 is no event either.

use super::Prefix;
use super::event::{Address, Event, Link, Neighbour, NextHop, NextHopGroup, Origin, Standing};
use super::route::{Hop, Route, RouteKind, Via};
use super::wire::{
    Message, NLM_F_APPEND, NLM_F_MULTI, NLM_F_REPLACE, attributes, i32_at, text, u8_at, u16_at, u32_at,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

pub(super) const RTM_GETLINK: u16 = 18;
pub(super) const RTM_SETLINK: u16 = 19;
pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_DELADDR: u16 = 21;
pub(super) const RTM_GETADDR: u16 = 22;
pub(super) const RTM_GETROUTE: u16 = 26;
pub(super) const RTM_NEWNEIGH: u16 = 28;
pub(super) const RTM_GETNEIGH: u16 = 30;
pub(super) const RTM_GETNEXTHOP: u16 = 106;

/// The event that a message tells, if it tells one.
pub(super) fn event(message: &Message<'_>) -> Option<Event> {
    match message.kind {
        16 => link(message.body).map(Event::Link),
        17 => link_gone(message.body),
        20 => address(message.body).map(Event::Address),
        21 => address(message.body).map(Event::AddressGone),
        24 => route(message.body).map(|route| Event::Route(route, origin(message))),
        25 => route(message.body).map(Event::RouteGone),
        28 => neighbour(message.body).map(Event::Neighbour),
        29 => neighbour(message.body).map(Event::NeighbourGone),
        104 => next_hop(message.body).map(Event::NextHop),
        105 => next_hop_id(message.body).map(Event::NextHopGone),
        _ => None,
    }
}

fn origin(message: &Message<'_>) -> Origin {
    match message.flags {
        flags if flags & NLM_F_MULTI != 0 => Origin::Dump,
        flags if flags & NLM_F_REPLACE != 0 => Origin::Replace,
        flags if flags & NLM_F_APPEND != 0 => Origin::Last,
        _ => Origin::First,
    }
}

/// `struct ifinfomsg`. A bridge tells of its ports in the same messages, with its own family; those are not about
/// the link.
pub(super) fn link(body: &[u8]) -> Option<Link> {
    if u8_at(body, 0)? != AF_UNSPEC {
        return None;
    }
    let mut link = Link { ifindex: u32_at(body, 4)?, flags: u32_at(body, 8)?, ..Link::default() };
    let mut complete = false;
    for (number, value) in attributes(body, 16) {
        match number {
            1 => link.mac = value.try_into().ok(),
            3 => link.name = text(value),
            4 => {
                complete = true;
                link.mtu = u32_at(value, 0).unwrap_or(0);
            }
            5 => link.link = u32_at(value, 0).filter(|index| *index != 0 && *index != link.ifindex),
            10 => link.master = u32_at(value, 0).filter(|index| *index != 0),
            // IFLA_LINKINFO → IFLA_INFO_KIND
            18 => link.kind = attributes(value, 0).find(|(n, _)| *n == 1).map(|(_, kind)| text(kind)),
            37 => link.link_netnsid = i32_at(value, 0),
            // IFLA_XDP → the program of whichever mode (IFLA_XDP_PROG_ID, …_DRV_, …_SKB_, …_HW_PROG_ID)
            43 => {
                let programs = attributes(value, 0).filter(|(n, _)| (4..=7).contains(n));
                link.xdp_program = programs.filter_map(|(_, id)| u32_at(id, 0)).find(|id| *id != 0);
            }
            _ => {}
        }
    }
    // Wireless events are link messages with little in them.
    complete.then_some(link)
}

fn link_gone(body: &[u8]) -> Option<Event> {
    (u8_at(body, 0)? == AF_UNSPEC).then_some(Event::LinkGone(u32_at(body, 4)?))
}

/// `struct ifaddrmsg`.
fn address(body: &[u8]) -> Option<Address> {
    let prefix_length = u8_at(body, 1)?;
    let ifindex = u32_at(body, 4)?;
    let find =
        |wanted| attributes(body, 8).find(|(number, _)| *number == wanted).and_then(|(_, ip)| address_in(ip));
    // IFA_LOCAL is this host's; IFA_ADDRESS is the far end's on a point-to-point link, else the same.
    let ip = find(2).or_else(|| find(1))?;
    // IFA_FLAGS has all of them, the header the first eight.
    let all = attributes(body, 8).find(|(number, _)| *number == 8).and_then(|(_, flags)| u32_at(flags, 0));
    let flags = all.or_else(|| u8_at(body, 2).map(u32::from))?;
    Some(Address { ifindex, ip, prefix_length, standing: standing(ip, flags, u8_at(body, 3)?) })
}

/// By `IFA_F_*` (uapi/linux/if_addr.h) and `RT_SCOPE_*` (uapi/linux/rtnetlink.h).
fn standing(ip: IpAddr, flags: u32, scope: u8) -> Standing {
    const SECONDARY: u32 = 0x01;
    const DADFAILED: u32 = 0x08;
    const DEPRECATED: u32 = 0x20;
    const TENTATIVE: u32 = 0x40;
    const LINK: u8 = 253;
    let local = matches!(ip, IpAddr::V6(ip) if ip.is_unique_local());
    match () {
        () if scope >= LINK || flags & (DADFAILED | TENTATIVE) != 0 => Standing::Unfit,
        () if flags & DEPRECATED != 0 => Standing::Deprecated,
        () if flags & SECONDARY != 0 => Standing::Second,
        () if scope > 0 || local => Standing::Site,
        () => Standing::Global,
    }
}

/// `struct rtmsg`.
fn route(body: &[u8]) -> Option<Route> {
    const RTM_F_CLONED: u32 = 0x200;
    const RTPROT_RA: u8 = 9;
    let family = u8_at(body, 0)?;
    let unspecified: IpAddr = match family {
        AF_INET => Ipv4Addr::UNSPECIFIED.into(),
        AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let flags = u32_at(body, 8)?;
    if flags & RTM_F_CLONED != 0 {
        return None;
    }
    let source_length = u8_at(body, 2)?;
    let (mut table, mut priority, mut id) = (u32::from(u8_at(body, 4)?), 0, None);
    let (mut destination, mut source) = (unspecified, unspecified);
    let mut hop = hop_in(0, 0, u8::try_from(flags & 0xff).unwrap_or(0), &[]);
    let mut several = None;
    for (number, value) in attributes(body, 12) {
        match number {
            1 => destination = address_in(value)?,
            2 => source = address_in(value)?,
            6 => priority = u32_at(value, 0)?,
            9 => several = Some(hops_in(value)),
            15 => table = u32_at(value, 0)?,
            30 => id = u32_at(value, 0),
            _ => hop_attribute(&mut hop, number, value),
        }
    }
    let via = match (id, several) {
        (Some(id), _) => Via::NextHop(id),
        (None, Some(hops)) => Via::Hops(hops),
        (None, None) if hop.ifindex == 0 => Via::Nowhere,
        (None, None) => Via::Hops(vec![hop]),
    };
    Some(Route {
        table,
        prefix: Prefix::new(destination, u8_at(body, 1)?)?,
        tos: if family == AF_INET { u8_at(body, 3)? } else { 0 },
        source: if source_length > 0 { Some(Prefix::new(source, source_length)?) } else { None },
        priority,
        kind: route_kind(u8_at(body, 7)?),
        advertised: u8_at(body, 5)? == RTPROT_RA,
        via,
    })
}

fn route_kind(number: u8) -> RouteKind {
    match number {
        1 => RouteKind::Unicast,
        2 => RouteKind::Local,
        3 => RouteKind::Broadcast,
        4 => RouteKind::Anycast,
        5 => RouteKind::Multicast,
        6 => RouteKind::Blackhole,
        7 => RouteKind::Unreachable,
        8 => RouteKind::Prohibit,
        9 => RouteKind::Throw,
        other => RouteKind::Other(other),
    }
}

/// `RTA_MULTIPATH`: `struct rtnexthop`s, each with attributes.
fn hops_in(mut bytes: &[u8]) -> Vec<Hop> {
    let next = || {
        let length = usize::from(u16_at(bytes, 0)?);
        let one = bytes.get(..length).filter(|one| one.len() >= 8)?;
        let hop = hop_in(u32_at(one, 4)?, u8_at(one, 3)?, u8_at(one, 2)?, &one[8..]);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(hop)
    };
    std::iter::from_fn(next).collect()
}

/// A hop of `weight_less_one + 1` with the `RTNH_F_*` flags and the `RTA_*` attributes given.
fn hop_in(ifindex: u32, weight_less_one: u8, flags: u8, bytes: &[u8]) -> Hop {
    const RTNH_F_DEAD: u8 = 1;
    const RTNH_F_LINKDOWN: u8 = 16;
    let mut hop = Hop {
        ifindex,
        gateway: None,
        weight: u32::from(weight_less_one) + 1,
        dead: flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN) != 0,
        encapsulates: false,
    };
    attributes(bytes, 0).for_each(|(number, value)| hop_attribute(&mut hop, number, value));
    hop
}

fn hop_attribute(hop: &mut Hop, number: u16, value: &[u8]) {
    match number {
        4 => hop.ifindex = u32_at(value, 0).unwrap_or(0),
        5 => hop.gateway = address_in(value),
        // RTA_VIA: an address after its family: IPv4 over an IPv6 gateway.
        18 => hop.gateway = value.get(2..).and_then(address_in),
        // RTA_NEWDST, RTA_ENCAP_TYPE, RTA_ENCAP
        19 | 21 | 22 => hop.encapsulates = true,
        _ => {}
    }
}

/// `struct nhmsg`.
fn next_hop(body: &[u8]) -> Option<NextHop> {
    let flags = u8::try_from(u32_at(body, 4)? & 0xff).unwrap_or(0);
    let (mut id, mut members, mut blackhole) = (None, None, false);
    let mut hop = hop_in(0, 0, flags, &[]);
    for (number, value) in attributes(body, 8) {
        match number {
            1 => id = u32_at(value, 0),
            2 => members = Some(members_in(value)),
            4 => blackhole = true,
            5 => hop.ifindex = u32_at(value, 0).unwrap_or(0),
            6 => hop.gateway = address_in(value),
            7 | 8 => hop.encapsulates = true,
            11 => return None,
            _ => {}
        }
    }
    let group = match members {
        Some(members) => NextHopGroup::Members(members),
        None if blackhole => NextHopGroup::Single(Via::Nowhere),
        None => NextHopGroup::Single(Via::Hops(vec![hop])),
    };
    Some(NextHop { id: id?, group })
}

/// `struct nexthop_grp`: an id and a weight of 16 bits, less one, in two halves.
fn members_in(value: &[u8]) -> Vec<(u32, u32)> {
    let member = |m: &[u8]| {
        let weight = u32::from(u8_at(m, 5)?) << 8 | u32::from(u8_at(m, 4)?);
        Some((u32_at(m, 0)?, weight + 1))
    };
    value.chunks_exact(8).filter_map(member).collect()
}

fn next_hop_id(body: &[u8]) -> Option<u32> {
    attributes(body, 8).find(|(number, _)| *number == 1).and_then(|(_, id)| u32_at(id, 0))
}

/// `struct ndmsg`. Proxy entries say what this host answers for, not where somebody is.
fn neighbour(body: &[u8]) -> Option<Neighbour> {
    const NTF_PROXY: u8 = 1 << 3;
    if !matches!(u8_at(body, 0)?, AF_INET | AF_INET6) || u8_at(body, 10)? & NTF_PROXY != 0 {
        return None;
    }
    let (mut ip, mut mac) = (None, None);
    for (number, value) in attributes(body, 12) {
        match number {
            1 => ip = address_in(value),
            2 => mac = value.try_into().ok(),
            _ => {}
        }
    }
    Some(Neighbour { ifindex: u32_at(body, 4)?, ip: ip?, mac, state: u16_at(body, 8)? })
}

/// An address: its family follows from its length.
fn address_in(value: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(value)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from))
        .ok()
}
