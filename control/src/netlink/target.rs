//! What the FIB should say of a prefix, from what the kernel's tables say.
//!
//! Invariant: an answer other than [`Target::Kernel`] and [`Target::OnLink`] is what the kernel itself would do with every packet
//! to that prefix.

use super::event::{Link, NextHopGroup};
use super::model::Mirror;
use super::route::{PrefixRoutes, Via};
use super::sink::{Adjacency, Target};
use super::{Hop, Prefix, Route, RouteKind};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Multicast and limited broadcast: the kernel's in any case, and whatever is routed below them.
pub(super) const KERNEL_ONLY: [Prefix; 3] = [
    Prefix::literal(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4),
    Prefix::literal(IpAddr::V4(Ipv4Addr::BROADCAST), 32),
    Prefix::literal(IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
];

/// What a route's hops come to.
enum Ways {
    /// These, all through gateways on running ports of ours.
    Ours(Vec<Hop>),
    /// The destination is on the link of this port of ours.
    OnLink(u32),
    Blackhole,
    /// Not for us to send.
    Foreign,
}

impl Mirror {
    /// What the FIB should say of exactly this prefix; `None`: nothing.
    pub(super) fn target(&self, prefix: Prefix) -> Option<Target> {
        if KERNEL_ONLY.contains(&prefix) {
            return Some(Target::Kernel);
        }
        if KERNEL_ONLY
            .iter()
            .any(|around| around.contains(prefix.address()) && around.length() < prefix.length())
        {
            return None;
        }
        // The kernel asks the local table first and takes any match there, however short.
        match self.local.covering(prefix, prefix.length()) {
            Some((around, routes)) if around == prefix => return self.decide(routes),
            Some(_) => return None,
            None => {}
        }
        match self.main.routes.get(&prefix) {
            Some(routes) => self.decide(routes),
            None if prefix.is_host() => self.host(prefix),
            None => None,
        }
    }

    /// A host on a link of ours that the kernel has resolved: forwarded to directly. The rest of the link's prefix is
    /// left to the kernel, which resolves and delivers the first packets.
    fn host(&self, prefix: Prefix) -> Option<Target> {
        let ip = prefix.address();
        if is_link_local(ip) {
            return None;
        }
        let (_, routes) = self.main.covering(prefix, prefix.length())?;
        let route = alone(routes)?;
        let Ways::OnLink(ifindex) = self.ways(route) else { return None };
        let running = self.link(ifindex).is_some_and(|link| link.is_running());
        let resolved = self.neighbour(ip, ifindex).is_some_and(|neighbour| neighbour.usable().is_some());
        let port = self.port(ifindex).filter(|_| running && resolved)?;
        Some(Target::Hops(vec![(Adjacency { port, gateway: ip }, 1)]))
    }

    fn decide(&self, routes: &PrefixRoutes) -> Option<Target> {
        if routes.iter().any(Route::is_selective) {
            return Some(Target::Kernel);
        }
        let first = routes.best().next()?;
        let several = routes.best().nth(1).is_some();
        // IPv4 takes the first of several equals. So does IPv6 for routes without a gateway, whereas those with one are one
        // multipath route, however they were told.
        if first.prefix.address().is_ipv4() || !several {
            return Some(self.decide_one(first));
        }
        if routes.best().any(|route| route.advertised) {
            return Some(Target::Kernel);
        }
        let mut hops = Vec::new();
        for route in routes.best() {
            match self.ways(route) {
                Ways::Ours(ways) if route.kind == RouteKind::Unicast => hops.extend(ways),
                _ => {
                    let target = self.decide_one(first);
                    let agreed = routes.best().all(|route| self.decide_one(route) == target);
                    return Some(if agreed { target } else { Target::Kernel });
                }
            }
        }
        Some(self.over(hops))
    }

    fn decide_one(&self, route: &Route) -> Target {
        match route.kind {
            RouteKind::Local | RouteKind::Anycast => {
                let bare = self.way_in(route).filter(|ifindex| self.bare(*ifindex));
                bare.and_then(|ifindex| self.port(ifindex)).map_or(Target::Local, Target::Deliver)
            }
            RouteKind::Blackhole => Target::Blackhole,
            RouteKind::Unreachable => Target::Unreachable,
            RouteKind::Prohibit => Target::Prohibit,
            // A throw sends the packet on to the rules, which only the kernel knows.
            RouteKind::Broadcast | RouteKind::Multicast | RouteKind::Throw | RouteKind::Other(_) => {
                Target::Kernel
            }
            RouteKind::Unicast => match self.ways(route) {
                Ways::Ours(hops) => self.over(hops),
                Ways::Blackhole => Target::Blackhole,
                Ways::OnLink(ifindex) => self.port(ifindex).map_or(Target::Kernel, Target::OnLink),
                Ways::Foreign => Target::Kernel,
            },
        }
    }

    /// The device of a local address.
    fn way_in(&self, route: &Route) -> Option<u32> {
        let Via::Hops(hops) = &route.via else { return None };
        hops.first().map(|hop| hop.ifindex)
    }

    /// Whether a link has no neighbours to tell apart.
    pub(super) fn bare(&self, ifindex: u32) -> bool {
        self.link(ifindex).is_some_and(Link::is_bare)
    }

    fn ways(&self, route: &Route) -> Ways {
        let mut hops = match &route.via {
            Via::Hops(hops) => hops.clone(),
            Via::Nowhere => return Ways::Blackhole,
            Via::NextHop(id) => match self.next_hop(*id) {
                Some(NextHopGroup::Single(Via::Hops(hops))) => hops.clone(),
                Some(NextHopGroup::Single(Via::Nowhere)) => return Ways::Blackhole,
                Some(NextHopGroup::Members(members)) => match self.members(members) {
                    Some(hops) => hops,
                    None => return Ways::Foreign,
                },
                Some(NextHopGroup::Single(Via::NextHop(_))) | None => return Ways::Foreign,
            },
        };
        // Whoever is at the other end of a bare link gets all its packets, also those for hosts on it.
        for hop in hops.iter_mut().filter(|hop| hop.gateway.is_none() && self.bare(hop.ifindex)) {
            let v4 = route.prefix.address().is_ipv4();
            let nobody = if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            hop.gateway = Some(nobody);
        }
        if let [Hop { gateway: None, encapsulates: false, ifindex, .. }] = hops.as_slice()
            && route.kind == RouteKind::Unicast
            && self.port(*ifindex).is_some()
        {
            return Ways::OnLink(*ifindex);
        }
        hops.retain(|hop| !hop.dead && self.link(hop.ifindex).is_some_and(|link| link.is_running()));
        let ours = |hop: &Hop| self.port(hop.ifindex).is_some() && hop.gateway.is_some() && !hop.encapsulates;
        if hops.is_empty() || !hops.iter().all(ours) {
            return Ways::Foreign;
        }
        Ways::Ours(hops)
    }

    /// The hops of a group; `None` when a member is a blackhole. One that is missing is gone: the kernel takes it out of the
    /// group with it, and tells the group anew after it.
    fn members(&self, members: &[(u32, u32)]) -> Option<Vec<Hop>> {
        let mut hops = Vec::with_capacity(members.len());
        for &(id, weight) in members {
            match self.next_hop(id) {
                Some(NextHopGroup::Single(Via::Hops(single))) => {
                    hops.extend(single.iter().map(|hop| Hop { weight, ..*hop }));
                }
                Some(_) => return None,
                None => {}
            }
        }
        Some(hops)
    }

    /// Weighs the hops; the same way named twice has the sum.
    fn over(&self, hops: Vec<Hop>) -> Target {
        let mut weights = BTreeMap::<Adjacency, u64>::new();
        for hop in hops {
            let (Some(port), Some(gateway)) = (self.port(hop.ifindex), hop.gateway) else {
                return Target::Kernel;
            };
            *weights.entry(Adjacency { port, gateway }).or_default() += u64::from(hop.weight.max(1));
        }
        let Some(&largest) = weights.values().max() else { return Target::Kernel };
        // The kernel's weights go to 65,536, the FIB's to 255: larger ones keep their proportion, and at least 1.
        let scaled = |weight: u64| {
            let weight = if largest > 255 { weight.saturating_mul(255) / largest } else { weight };
            u8::try_from(weight.clamp(1, 255)).unwrap_or(255)
        };
        Target::Hops(weights.into_iter().map(|(adjacency, weight)| (adjacency, scaled(weight))).collect())
    }
}

/// The route, when there is just one that can win.
fn alone(routes: &PrefixRoutes) -> Option<&Route> {
    let mut best = routes.best();
    let first = best.next()?;
    let clear = best.next().is_none() && !routes.iter().any(Route::is_selective);
    (clear && first.kind == RouteKind::Unicast).then_some(first)
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
