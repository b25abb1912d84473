//! A route as the kernel tells it, and the list of routes that one prefix has in one table.
//!
//! Invariant of [`PrefixRoutes`]: the routes of one metric stand in the kernel's order, the one it would take first in
//! front.

use super::{Origin, Prefix};
use std::net::IpAddr;

/// `rtm_type` (uapi/linux/rtnetlink.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteKind {
    /// Over the hops.
    Unicast,
    /// An address of this host.
    Local,
    /// A broadcast address of a link of this host.
    Broadcast,
    /// An address that several hosts answer for, this one too.
    Anycast,
    /// A multicast group.
    Multicast,
    /// Drop without a word.
    Blackhole,
    /// Drop, with an ICMP error.
    Unreachable,
    /// Drop, with an ICMP error that says forbidden.
    Prohibit,
    /// Not in this table: the rules go on.
    Throw,
    /// A kind that we do not know: the kernel decides.
    Other(u8),
}

/// One way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop {
    /// The link that the packet leaves by.
    pub ifindex: u32,
    /// The gateway, of either family; `None` when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// 1..=65536.
    pub weight: u32,
    /// The kernel holds it for dead or without carrier (`RTNH_F_DEAD`, `RTNH_F_LINKDOWN`).
    pub dead: bool,
    /// It puts the packet into a tunnel (lwtunnel, MPLS): only the kernel can.
    pub encapsulates: bool,
}

impl Hop {
    /// Whether both name the same way out, whatever its state.
    pub fn same_way(&self, other: &Self) -> bool {
        (self.ifindex, self.gateway, self.encapsulates) == (other.ifindex, other.gateway, other.encapsulates)
    }
}

/// Where a route leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Via {
    /// Over these hops.
    Hops(Vec<Hop>),
    /// Over the next-hop object of this id.
    NextHop(u32),
    /// Nowhere (a blackhole).
    Nowhere,
}

/// A route, as the kernel tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// The table that it is in; 254 main, 255 local.
    pub table: u32,
    /// Its destination.
    pub prefix: Prefix,
    /// The type of service that it is for; 0: any.
    pub tos: u8,
    /// The sources that it is for (IPv6 subtrees); `None`: any.
    pub source: Option<Prefix>,
    /// Its metric: the lowest wins.
    pub priority: u32,
    /// What it does.
    pub kind: RouteKind,
    /// Learned from a router advertisement (`RTPROT_RA`): the kernel chooses among those by rules of its own.
    pub advertised: bool,
    /// Where it leads.
    pub via: Via,
}

impl Route {
    /// Whether it matches on more than the destination.
    pub fn is_selective(&self) -> bool {
        self.tos != 0 || self.source.is_some()
    }

    /// Whether it has hops and all have a gateway: what IPv6 joins to one multipath route
    /// (`rt6_qualify_for_ecmp`, net/ipv6/route.c).
    fn gatewayed(&self) -> bool {
        matches!(&self.via, Via::Hops(hops) if !hops.is_empty() && hops.iter().all(|h| h.gateway.is_some()))
    }

    fn rivals(&self, other: &Self) -> bool {
        (self.priority, self.tos, self.source) == (other.priority, other.tos, other.source)
    }

    fn same_way(&self, other: &Self) -> bool {
        self.kind == other.kind
            && match (&self.via, &other.via) {
                (Via::Hops(a), Via::Hops(b)) => {
                    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same_way(b))
                }
                (a, b) => a == b,
            }
    }
}

/// The routes that one prefix has in one table, each with the resync that last saw it.
#[derive(Clone, Default, Debug)]
pub(super) struct PrefixRoutes {
    routes: Vec<(Route, u32)>,
}

impl PrefixRoutes {
    pub(super) fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().map(|(route, _)| route)
    }

    /// Those of the lowest metric, in the kernel's order.
    pub(super) fn best(&self) -> impl Iterator<Item = &Route> {
        let metric = self.iter().map(|route| route.priority).min();
        self.iter().filter(move |route| Some(route.priority) == metric)
    }

    /// Takes `route` in. An equal one that is there is the same one: messages are repeated.
    pub(super) fn add(&mut self, route: Route, origin: Origin, epoch: u32) {
        let v6 = route.prefix.address().is_ipv6();
        let first_rival = self.routes.iter().position(|(r, _)| r.rivals(&route));
        // IPv6 tells a multipath route as a whole each time that a hop joins; the parts that were told before are in it.
        if v6 && route.gatewayed() {
            let Via::Hops(hops) = &route.via else { return };
            self.routes.retain(|(r, _)| {
                let part = r.rivals(&route)
                    && r.gatewayed()
                    && matches!(&r.via, Via::Hops(old) if old.iter().all(|o| hops.iter().any(|h| h.same_way(o))));
                let replaced = origin == Origin::Replace && r.rivals(&route) && r.gatewayed();
                !(part || replaced)
            });
            let at = first_rival.unwrap_or(self.routes.len()).min(self.routes.len());
            self.routes.insert(at, (route, epoch));
            return;
        }
        let same = self.routes.iter().position(|(r, _)| r.rivals(&route) && r.same_way(&route));
        match (origin, same) {
            // A dump lists in order: what it saw goes behind what it saw before.
            (Origin::Dump, Some(at)) => {
                self.routes.remove(at);
                self.routes.push((route, epoch));
            }
            (_, Some(at)) => self.routes[at] = (route, epoch),
            (Origin::Replace, None) if first_rival.is_some() => {
                self.routes[first_rival.unwrap_or(0)] = (route, epoch);
            }
            (Origin::First, None) => {
                self.routes.insert(first_rival.unwrap_or(self.routes.len()), (route, epoch))
            }
            _ => self.routes.push((route, epoch)),
        }
    }

    /// Takes `route` out, or its hops out of the IPv6 multipath route that has them. False when nothing matched well
    /// enough to be sure: then only reading the table again tells.
    pub(super) fn take(&mut self, route: &Route) -> bool {
        if let Some(at) = self.routes.iter().position(|(r, _)| r.rivals(route) && r.same_way(route)) {
            self.routes.remove(at);
            return true;
        }
        if let (true, Via::Hops(gone)) = (route.prefix.address().is_ipv6(), &route.via) {
            let mut hit = false;
            self.routes.retain_mut(|(r, _)| {
                if !r.rivals(route) || r.kind != route.kind {
                    return true;
                }
                let Via::Hops(hops) = &mut r.via else { return true };
                let before = hops.len();
                hops.retain(|h| !gone.iter().any(|g| g.same_way(h)));
                hit |= hops.len() != before;
                !hops.is_empty()
            });
            return hit;
        }
        // Not as we had it: if there is a rival, something was missed.
        !self.routes.iter().any(|(r, _)| r.rivals(route))
    }

    /// Drops what the resync `epoch` did not see; whether there was any.
    pub(super) fn drop_older(&mut self, epoch: u32) -> bool {
        let before = self.routes.len();
        self.routes.retain(|(_, seen)| *seen == epoch);
        self.routes.len() != before
    }
}
