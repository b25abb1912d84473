//! The mirror on its own: events in, the FIB in memory out. After every step the FIB must also be what a mirror that hears
//! the same state afresh says, and a second sync must say nothing.

use super::event::{Address, Event, Link, Neighbour, NextHop, NextHopGroup, Origin, Standing};
use super::{Adjacency, Hop, MemoryFib, Mirror, Prefix, Route, RouteKind, Target, Via};
use std::collections::HashMap;
use std::net::IpAddr;

pub(super) fn mac(last: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, last]
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// Links 1 and 2 are ports 1 and 2, with 10.0.0.0/24 and 10.0.1.0/24 (and 2001:db8::/64, 2001:db8:1::/64) on them;
/// link 9 is somebody else's.
pub(super) struct Lab {
    pub(super) mirror: Mirror,
    pub(super) fib: MemoryFib,
}

pub(super) fn a_route(prefix: &str, hops: &[(u32, Option<&str>, u32)]) -> Route {
    let prefix: Prefix = prefix.parse().unwrap();
    let hop = |&(ifindex, gateway, weight): &(u32, Option<&str>, u32)| Hop {
        ifindex,
        gateway: gateway.map(ip),
        weight,
        dead: false,
        encapsulates: false,
    };
    let priority = if prefix.address().is_ipv6() { 1024 } else { 0 };
    let via = Via::Hops(hops.iter().map(hop).collect());
    Route {
        table: 254,
        prefix,
        tos: 0,
        source: None,
        priority,
        kind: RouteKind::Unicast,
        advertised: false,
        via,
    }
}

impl Lab {
    pub(super) fn new() -> Self {
        let mirror = Mirror::new(254, HashMap::from([(1, 1), (2, 2)]));
        let mut lab = Self { mirror, fib: MemoryFib::default() };
        for (index, name) in [(1, "p1"), (2, "p2"), (9, "other")] {
            lab.link(index, name, true);
        }
        for (index, prefix) in
            [(1, "10.0.0.0/24"), (2, "10.0.1.0/24"), (1, "2001:db8::/64"), (2, "2001:db8:1::/64")]
        {
            lab.route(prefix, &[(index, None, 1)]);
        }
        lab
    }

    pub(super) fn link(&mut self, ifindex: u32, name: &str, up: bool) {
        let flags = if up { 0x1_0001 } else { 0 };
        self.mirror.handle(Event::Link(Link {
            ifindex,
            name: name.into(),
            mtu: 1500,
            flags,
            ..Link::default()
        }));
    }

    pub(super) fn neighbour(&mut self, ifindex: u32, address: &str, mac: Option<[u8; 6]>, state: u16) {
        self.mirror.handle(Event::Neighbour(Neighbour { ifindex, ip: ip(address), mac, state }));
    }

    pub(super) fn route(&mut self, prefix: &str, hops: &[(u32, Option<&str>, u32)]) {
        self.tell(a_route(prefix, hops), Origin::First);
    }

    fn tell(&mut self, route: Route, origin: Origin) {
        self.mirror.handle(Event::Route(route, origin));
    }

    fn next_hop(&mut self, id: u32, group: NextHopGroup) {
        self.mirror.handle(Event::NextHop(NextHop { id, group }));
    }

    pub(super) fn sync(&mut self) {
        self.mirror.sync(&mut self.fib);
        let calls = self.fib.calls;
        self.mirror.sync(&mut self.fib);
        assert_eq!(self.fib.calls, calls, "a second sync had something to say");
        // All looked at again from scratch: what the marks left out would show.
        let ports = HashMap::from([(1, 1), (2, 2)]);
        self.mirror.set_ports(ports);
        self.mirror.sync(&mut self.fib);
        assert_eq!(self.fib.calls, calls, "a change was not marked");
        let named: std::collections::BTreeSet<_> =
            self.fib.entries.values().flat_map(Target::adjacencies).collect();
        assert!(named.iter().eq(self.fib.adjacencies.keys()), "adjacencies are those that entries name");
    }

    fn at(&mut self, text: &str) -> Option<Target> {
        self.sync();
        self.fib.entries.get(&prefix(text)).cloned()
    }
}

fn hops(list: &[(u16, &str, u8)]) -> Option<Target> {
    Some(Target::Hops(
        list.iter().map(|&(port, gateway, w)| (Adjacency { port, gateway: ip(gateway) }, w)).collect(),
    ))
}

fn single(ifindex: u32, gateway: &str) -> NextHopGroup {
    let hop = Hop { ifindex, gateway: Some(ip(gateway)), weight: 1, dead: false, encapsulates: false };
    NextHopGroup::Single(Via::Hops(vec![hop]))
}

#[test]
fn the_lowest_metric_wins_and_the_next_takes_over() {
    let mut lab = Lab::new();
    lab.tell(Route { priority: 20, ..a_route("10.9.0.0/16", &[(1, Some("10.0.0.2"), 1)]) }, Origin::First);
    assert_eq!(lab.at("10.9.0.0/16"), hops(&[(1, "10.0.0.2", 1)]));
    let better = Route { priority: 10, ..a_route("10.9.0.0/16", &[(2, Some("10.0.1.2"), 1)]) };
    lab.tell(better.clone(), Origin::First);
    assert_eq!(lab.at("10.9.0.0/16"), hops(&[(2, "10.0.1.2", 1)]));
    assert!(!lab.mirror.handle(Event::RouteGone(better)).reread);
    assert_eq!(lab.at("10.9.0.0/16"), hops(&[(1, "10.0.0.2", 1)]));
    lab.tell(Route { tos: 16, ..a_route("10.9.0.0/16", &[(1, Some("10.0.0.3"), 1)]) }, Origin::First);
    assert_eq!(lab.at("10.9.0.0/16"), Some(Target::Kernel));
}

#[test]
fn equals_of_ipv4_stand_in_the_kernels_order() {
    let mut lab = Lab::new();
    let [a, b, c] =
        ["10.0.0.2", "10.0.0.3", "10.0.0.4"].map(|gw| a_route("10.9.0.0/16", &[(1, Some(gw), 1)]));
    lab.tell(b.clone(), Origin::First);
    lab.tell(c.clone(), Origin::Last);
    assert_eq!(lab.at("10.9.0.0/16"), hops(&[(1, "10.0.0.3", 1)]));
    lab.tell(a.clone(), Origin::First);
    assert_eq!(lab.at("10.9.0.0/16"), hops(&[(1, "10.0.0.2", 1)]));
    // What is told twice is there once.
    lab.tell(a.clone(), Origin::First);
    lab.mirror.handle(Event::RouteGone(a));
    assert_eq!(lab.at("10.9.0.0/16"), hops(&[(1, "10.0.0.3", 1)]));
    lab.tell(a_route("10.9.0.0/16", &[(2, Some("10.0.1.9"), 1)]), Origin::Replace);
    assert_eq!(lab.at("10.9.0.0/16"), hops(&[(2, "10.0.1.9", 1)]));
    lab.mirror.handle(Event::RouteGone(a_route("10.9.0.0/16", &[(2, Some("10.0.1.9"), 1)])));
    lab.mirror.handle(Event::RouteGone(c));
    assert_eq!(lab.at("10.9.0.0/16"), None);
    // One that is not as we know it means that something was missed.
    lab.tell(b, Origin::First);
    assert!(lab.mirror.handle(Event::RouteGone(a_route("10.9.0.0/16", &[(9, None, 1)]))).reread);
}

#[test]
fn ecmp_takes_ours_only_whole_and_alive() {
    let mut lab = Lab::new();
    let both = [(1, Some("10.0.0.2"), 1), (2, Some("10.0.1.2"), 3)];
    lab.route("10.9.0.0/16", &both);
    assert_eq!(lab.at("10.9.0.0/16"), hops(&[(1, "10.0.0.2", 1), (2, "10.0.1.2", 3)]));
    lab.link(2, "p2", false);
    assert_eq!(lab.at("10.9.0.0/16"), hops(&[(1, "10.0.0.2", 1)]));
    lab.link(1, "p1", false);
    assert_eq!(lab.at("10.9.0.0/16"), Some(Target::Kernel));
    lab.link(1, "p1", true);
    lab.link(2, "p2", true);
    assert_eq!(lab.at("10.9.0.0/16"), hops(&[(1, "10.0.0.2", 1), (2, "10.0.1.2", 3)]));
    let mut dead = a_route("10.9.0.0/16", &both);
    if let Via::Hops(hops) = &mut dead.via {
        hops[0].dead = true;
    }
    lab.tell(dead, Origin::Replace);
    assert_eq!(lab.at("10.9.0.0/16"), hops(&[(2, "10.0.1.2", 3)]));
    lab.tell(a_route("10.9.0.0/16", &[both[0], (9, Some("10.5.0.1"), 1)]), Origin::Replace);
    assert_eq!(lab.at("10.9.0.0/16"), Some(Target::Kernel));
    lab.tell(
        a_route("10.9.0.0/16", &[(1, Some("10.0.0.2"), 300), (1, Some("10.0.0.3"), 150)]),
        Origin::Replace,
    );
    assert_eq!(lab.at("10.9.0.0/16"), hops(&[(1, "10.0.0.2", 255), (1, "10.0.0.3", 127)]));
}

#[test]
fn ipv6_equals_with_gateways_are_one_route_however_told() {
    let mut lab = Lab::new();
    let p = "2001:db8:9::/48";
    let (a, b, c) = ((1, Some("fe80::1"), 1), (2, Some("fe80::1"), 1), (1, Some("fe80::3"), 1));
    lab.route(p, &[a]);
    lab.tell(a_route(p, &[b]), Origin::Last);
    assert_eq!(lab.at(p), hops(&[(1, "fe80::1", 1), (2, "fe80::1", 1)]));
    lab.tell(a_route(p, &[a, b, c]), Origin::Last);
    assert_eq!(lab.at(p), hops(&[(1, "fe80::1", 1), (1, "fe80::3", 1), (2, "fe80::1", 1)]));
    lab.mirror.handle(Event::RouteGone(a_route(p, &[a])));
    assert_eq!(lab.at(p), hops(&[(1, "fe80::3", 1), (2, "fe80::1", 1)]));
    lab.tell(a_route(p, &[a]), Origin::Replace);
    assert_eq!(lab.at(p), hops(&[(1, "fe80::1", 1)]));
    lab.tell(Route { advertised: true, ..a_route(p, &[c]) }, Origin::Last);
    assert_eq!(lab.at(p), Some(Target::Kernel));
}

#[test]
fn next_hop_objects_and_groups_are_followed() {
    let mut lab = Lab::new();
    lab.next_hop(1, single(1, "10.0.0.2"));
    lab.next_hop(2, single(2, "2001:db8:1::2"));
    lab.next_hop(10, NextHopGroup::Members(vec![(1, 1), (2, 4)]));
    let over = |id| Route { via: Via::NextHop(id), ..a_route("10.9.0.0/16", &[]) };
    lab.tell(over(10), Origin::First);
    assert_eq!(lab.at("10.9.0.0/16"), hops(&[(1, "10.0.0.2", 1), (2, "2001:db8:1::2", 4)]));
    // A member changes under the route.
    lab.next_hop(1, single(1, "10.0.0.7"));
    assert_eq!(lab.at("10.9.0.0/16"), hops(&[(1, "10.0.0.7", 1), (2, "2001:db8:1::2", 4)]));
    lab.next_hop(10, NextHopGroup::Members(vec![(2, 1)]));
    assert_eq!(lab.at("10.9.0.0/16"), hops(&[(2, "2001:db8:1::2", 1)]));
    lab.link(2, "p2", false);
    assert_eq!(lab.at("10.9.0.0/16"), Some(Target::Kernel));
    lab.next_hop(3, NextHopGroup::Single(Via::Nowhere));
    lab.tell(over(3), Origin::Replace);
    assert_eq!(lab.at("10.9.0.0/16"), Some(Target::Blackhole));
    // The object goes: the kernel drops the routes unsaid, and we must ask.
    assert!(lab.mirror.handle(Event::NextHopGone(3)).reread);
    assert_eq!(lab.at("10.9.0.0/16"), Some(Target::Kernel));
    lab.mirror.handle(Event::RouteGone(over(3)));
    assert_eq!(lab.at("10.9.0.0/16"), None);
}

#[test]
fn hosts_on_our_links_are_reached_once_resolved() {
    let mut lab = Lab::new();
    assert_eq!(lab.at("10.0.0.0/24"), Some(Target::OnLink(1)));
    lab.neighbour(1, "10.0.0.5", None, Neighbour::INCOMPLETE);
    assert_eq!(lab.at("10.0.0.5"), None);
    for state in [
        Neighbour::REACHABLE,
        Neighbour::STALE,
        Neighbour::DELAY,
        Neighbour::PROBE,
        Neighbour::PERMANENT,
        Neighbour::NOARP,
    ] {
        lab.neighbour(1, "10.0.0.5", Some(mac(5)), state);
        assert_eq!(lab.at("10.0.0.5"), hops(&[(1, "10.0.0.5", 1)]));
        lab.neighbour(1, "10.0.0.5", Some(mac(5)), Neighbour::FAILED);
        assert_eq!(lab.at("10.0.0.5"), None);
    }
    // On the wrong link, or outside every link's prefix, or link-local: not a host of that link to us.
    lab.neighbour(2, "10.0.0.5", Some(mac(5)), Neighbour::REACHABLE);
    lab.neighbour(1, "10.7.0.5", Some(mac(5)), Neighbour::REACHABLE);
    lab.route("fe80::/64", &[(1, None, 1)]);
    lab.neighbour(1, "fe80::5", Some(mac(5)), Neighbour::REACHABLE);
    assert_eq!((lab.at("10.0.0.5"), lab.at("10.7.0.5"), lab.at("fe80::5")), (None, None, None));
    lab.neighbour(1, "10.0.0.5", Some(mac(5)), Neighbour::REACHABLE);
    lab.neighbour(1, "2001:db8::5", Some(mac(5)), Neighbour::REACHABLE);
    assert_eq!(lab.at("2001:db8::5"), hops(&[(1, "2001:db8::5", 1)]));
    // A longer route to elsewhere hides the host; when it goes, the host is back.
    let longer = a_route("10.0.0.4/30", &[(2, Some("10.0.1.2"), 1)]);
    lab.tell(longer.clone(), Origin::First);
    assert_eq!(lab.at("10.0.0.5"), None);
    lab.mirror.handle(Event::RouteGone(longer));
    assert_eq!(lab.at("10.0.0.5"), hops(&[(1, "10.0.0.5", 1)]));
    lab.link(1, "p1", false);
    assert_eq!(lab.at("10.0.0.5"), None);
}

#[test]
fn a_gateways_mac_is_told_and_taken_back() {
    let mut lab = Lab::new();
    lab.route("10.9.0.0/16", &[(1, Some("fe80::2"), 1)]);
    lab.route("2001:db8:9::/48", &[(1, Some("fe80::2"), 1)]);
    lab.sync();
    let adjacency = Adjacency { port: 1, gateway: ip("fe80::2") };
    assert_eq!(lab.fib.adjacencies[&adjacency], None);
    // The same link-local address on the other port is somebody else.
    lab.neighbour(2, "fe80::2", Some(mac(9)), Neighbour::REACHABLE);
    lab.sync();
    assert_eq!(lab.fib.adjacencies[&adjacency], None);
    lab.neighbour(1, "fe80::2", Some(mac(2)), Neighbour::REACHABLE);
    lab.sync();
    assert_eq!(lab.fib.adjacencies[&adjacency], Some(mac(2)));
    lab.neighbour(1, "fe80::2", Some(mac(3)), Neighbour::STALE);
    lab.sync();
    assert_eq!(lab.fib.adjacencies[&adjacency], Some(mac(3)));
    let gone = Neighbour { ifindex: 1, ip: ip("fe80::2"), mac: None, state: 0 };
    lab.mirror.handle(Event::NeighbourGone(gone));
    lab.sync();
    assert_eq!(lab.fib.adjacencies[&adjacency], None);
    lab.mirror.handle(Event::RouteGone(a_route("10.9.0.0/16", &[(1, Some("fe80::2"), 1)])));
    lab.mirror.handle(Event::RouteGone(a_route("2001:db8:9::/48", &[(1, Some("fe80::2"), 1)])));
    lab.sync();
    assert!(lab.fib.adjacencies.is_empty());
}

#[test]
fn the_local_table_comes_first_and_hides_what_is_below() {
    let mut lab = Lab::new();
    let local = |text| Route { table: 255, kind: RouteKind::Local, ..a_route(text, &[(1, None, 1)]) };
    lab.tell(local("10.0.0.1"), Origin::First);
    lab.route("10.9.1.0/24", &[(1, Some("10.0.0.2"), 1)]);
    assert_eq!(lab.at("10.0.0.1"), Some(Target::Local));
    lab.tell(local("10.9.0.0/16"), Origin::First);
    assert_eq!((lab.at("10.9.0.0/16"), lab.at("10.9.1.0/24")), (Some(Target::Local), None));
    lab.mirror.handle(Event::RouteGone(local("10.9.0.0/16")));
    assert_eq!((lab.at("10.9.0.0/16"), lab.at("10.9.1.0/24")), (None, hops(&[(1, "10.0.0.2", 1)])));
    lab.tell(
        Route { table: 255, kind: RouteKind::Broadcast, ..a_route("10.0.0.255", &[(1, None, 1)]) },
        Origin::First,
    );
    assert_eq!(lab.at("10.0.0.255"), Some(Target::Kernel));
    lab.route("239.1.0.0/16", &[(1, Some("10.0.0.2"), 1)]);
    assert_eq!((lab.at("224.0.0.0/4"), lab.at("239.1.0.0/16")), (Some(Target::Kernel), None));
    assert_eq!((lab.at("ff00::/8"), lab.at("255.255.255.255")), (Some(Target::Kernel), Some(Target::Kernel)));
}

#[test]
fn every_kind_has_its_target_and_other_tables_none() {
    let mut lab = Lab::new();
    let kinds = [
        (RouteKind::Blackhole, Target::Blackhole),
        (RouteKind::Unreachable, Target::Unreachable),
        (RouteKind::Prohibit, Target::Prohibit),
        (RouteKind::Throw, Target::Kernel),
        (RouteKind::Multicast, Target::Kernel),
        (RouteKind::Other(77), Target::Kernel),
    ];
    for (kind, target) in kinds {
        let route = Route { kind, via: Via::Nowhere, ..a_route("10.9.0.0/16", &[]) };
        lab.tell(route.clone(), Origin::First);
        assert_eq!(lab.at("10.9.0.0/16"), Some(target));
        lab.mirror.handle(Event::RouteGone(route));
        assert_eq!(lab.at("10.9.0.0/16"), None);
    }
    lab.tell(Route { table: 100, ..a_route("10.9.0.0/16", &[(1, Some("10.0.0.2"), 1)]) }, Origin::First);
    assert_eq!(lab.at("10.9.0.0/16"), None);
    let mut tunnel = a_route("10.9.0.0/16", &[(1, Some("10.0.0.2"), 1)]);
    if let Via::Hops(hops) = &mut tunnel.via {
        hops[0].encapsulates = true;
    }
    lab.tell(tunnel, Origin::First);
    assert_eq!(lab.at("10.9.0.0/16"), Some(Target::Kernel));
}

#[test]
fn a_resync_drops_exactly_what_was_not_told_again() {
    let mut lab = Lab::new();
    lab.mirror.handle(Event::Address(address(1, "10.0.0.1", Standing::Global)));
    lab.neighbour(1, "10.0.0.2", Some(mac(2)), Neighbour::REACHABLE);
    lab.neighbour(1, "10.0.0.3", Some(mac(3)), Neighbour::REACHABLE);
    lab.route("10.8.0.0/16", &[(1, Some("10.0.0.2"), 1)]);
    lab.route("10.9.0.0/16", &[(1, Some("10.0.0.2"), 1)]);
    lab.next_hop(5, single(1, "10.0.0.2"));
    lab.sync();
    lab.mirror.begin_resync();
    lab.link(1, "p1", true);
    lab.neighbour(1, "10.0.0.2", Some(mac(2)), Neighbour::REACHABLE);
    lab.tell(a_route("10.0.0.0/24", &[(1, None, 1)]), Origin::Dump);
    lab.tell(a_route("10.9.0.0/16", &[(1, Some("10.0.0.2"), 1)]), Origin::Dump);
    assert!(lab.mirror.end_resync() > 0);
    lab.sync();
    let left: Vec<_> = lab.fib.entries.keys().map(ToString::to_string).collect();
    assert_eq!(
        left,
        ["10.0.0.0/24", "10.0.0.2/32", "10.9.0.0/16", "224.0.0.0/4", "255.255.255.255/32", "ff00::/8"]
    );
    assert_eq!(lab.mirror.links().count(), 1);
    assert!(lab.mirror.local_addresses().is_empty());
}

fn address(ifindex: u32, text: &str, standing: Standing) -> Address {
    Address { ifindex, ip: ip(text), prefix_length: 24, standing }
}

#[test]
fn a_link_speaks_from_its_best_address_and_of_equals_from_the_first() {
    let mut lab = Lab::new();
    let tell = |lab: &mut Lab, text, standing| {
        let effects = lab.mirror.handle(Event::Address(address(1, text, standing)));
        (effects.addresses, lab.mirror.sources(1))
    };
    let v4 = |text: &str| Some(text.parse::<std::net::Ipv4Addr>().unwrap());
    let v6 = |text: &str| Some(text.parse::<std::net::Ipv6Addr>().unwrap());
    assert_eq!(tell(&mut lab, "10.0.0.9", Standing::Second), (true, (v4("10.0.0.9"), None)));
    assert_eq!(tell(&mut lab, "10.0.0.7", Standing::Global), (true, (v4("10.0.0.7"), None)));
    assert_eq!(tell(&mut lab, "10.0.0.1", Standing::Global), (true, (v4("10.0.0.7"), None)));
    assert_eq!(tell(&mut lab, "10.0.0.7", Standing::Global), (false, (v4("10.0.0.7"), None)));
    assert_eq!(tell(&mut lab, "2001:db8::5", Standing::Unfit), (true, (v4("10.0.0.7"), None)));
    assert_eq!(tell(&mut lab, "fd00::5", Standing::Site), (true, (v4("10.0.0.7"), v6("fd00::5"))));
    // Nobody else has it: it may be used.
    assert_eq!(tell(&mut lab, "2001:db8::5", Standing::Global), (true, (v4("10.0.0.7"), v6("2001:db8::5"))));
    assert_eq!(tell(&mut lab, "2001:db8::5", Standing::Deprecated), (true, (v4("10.0.0.7"), v6("fd00::5"))));
    assert!(lab.mirror.handle(Event::AddressGone(address(1, "10.0.0.7", Standing::Global))).addresses);
    assert_eq!(lab.mirror.sources(1).0, v4("10.0.0.1"));
    assert_eq!(lab.mirror.sources(2), (None, None));
}

#[test]
fn ports_may_change() {
    let mut lab = Lab::new();
    lab.route("10.9.0.0/16", &[(1, Some("10.0.0.2"), 1)]);
    lab.route("10.8.0.0/16", &[(9, Some("10.5.0.2"), 1)]);
    lab.sync();
    lab.mirror.set_ports(HashMap::from([(9, 4)]));
    lab.mirror.sync(&mut lab.fib);
    assert_eq!(lab.fib.entries[&prefix("10.9.0.0/16")], Target::Kernel);
    assert_eq!(Some(lab.fib.entries[&prefix("10.8.0.0/16")].clone()), hops(&[(4, "10.5.0.2", 1)]));
    assert_eq!(lab.fib.adjacencies.len(), 1);
}
