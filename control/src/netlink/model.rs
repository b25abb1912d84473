//! What the kernel has, as last told, and the differences that the FIB still has to hear. No I/O.
//!
//! Invariant: `installed` is what the sink was told, entry by entry; whatever may differ from what the tables now say is in
//! `dirty` or `dirty_neighbours`. So [`Mirror::sync`] costs what changed, and says nothing twice.

use super::event::{Address, Event, Link, Neighbour, NextHop, NextHopGroup, Standing};
use super::install::Installed;
use super::route::{PrefixRoutes, Via};
use super::sink::{Adjacency, PortId, Target};
use super::table::Table;
use super::{Hop, Origin, Prefix, Route};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The table of the addresses of this host (`RT_TABLE_LOCAL`), always asked first.
pub(super) const LOCAL_TABLE: u32 = 255;

/// What an event did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Effects {
    /// A link came, went or changed.
    pub links: bool,
    /// An address of this host came or went.
    pub addresses: bool,
    /// The kernel drops routes and next-hop objects along with this without telling: the tables must be read again.
    pub reread: bool,
}

/// The state of the kernel, as far as forwarding goes, and what the FIB has been told of it.
#[derive(Debug)]
pub struct Mirror {
    table: u32,
    ports: HashMap<u32, PortId>,
    pub(super) indices: HashMap<PortId, u32>,
    epoch: u32,
    links: BTreeMap<u32, (Link, u32)>,
    /// By link, address and prefix length: how good a source, in which order they came, and the resync that last saw it.
    addresses: BTreeMap<(u32, IpAddr, u8), (Standing, u64, u32)>,
    next_address: u64,
    next_hops: HashMap<u32, (NextHop, u32)>,
    pub(super) local: Table,
    pub(super) main: Table,
    /// The prefixes with a route over a next-hop object, by its id.
    users: HashMap<u32, HashSet<Prefix>>,
    neighbours: BTreeMap<(IpAddr, u32), (Neighbour, u32)>,
    pub(super) dirty: BTreeSet<Prefix>,
    pub(super) dirty_neighbours: BTreeSet<Adjacency>,
    pub(super) installed: BTreeMap<Prefix, Target>,
    pub(super) adjacencies: BTreeMap<Adjacency, Installed>,
    /// Prefixes that the FIB refused: tried again after a resync, or when asked to.
    pub(super) refused: BTreeSet<Prefix>,
}

impl Mirror {
    /// An empty mirror of routing table `table` (254: main) in front of which stands the local table, for these ports
    /// by interface index.
    pub fn new(table: u32, ports: HashMap<u32, PortId>) -> Self {
        let mut mirror = Self {
            table,
            ports: HashMap::new(),
            indices: HashMap::new(),
            epoch: 0,
            links: BTreeMap::new(),
            addresses: BTreeMap::new(),
            next_address: 0,
            next_hops: HashMap::new(),
            local: Table::default(),
            main: Table::default(),
            users: HashMap::new(),
            neighbours: BTreeMap::new(),
            dirty: BTreeSet::new(),
            dirty_neighbours: BTreeSet::new(),
            installed: BTreeMap::new(),
            adjacencies: BTreeMap::new(),
            refused: BTreeSet::new(),
        };
        mirror.set_ports(ports);
        mirror.dirty.extend(super::target::KERNEL_ONLY);
        mirror
    }

    /// From now on these links are ports of ours. What that changes is written by the next [`sync`](Self::sync).
    pub fn set_ports(&mut self, ports: HashMap<u32, PortId>) {
        self.indices = ports.iter().map(|(&ifindex, &port)| (port, ifindex)).collect();
        self.ports = ports;
        self.dirty
            .extend(self.local.routes.keys().chain(self.main.routes.keys()).chain(self.installed.keys()));
        self.dirty.extend(self.neighbours.keys().map(|(ip, _)| Prefix::host(*ip)));
        self.dirty_neighbours.extend(self.adjacencies.keys());
    }

    /// Takes in what the kernel said.
    pub fn handle(&mut self, event: Event) -> Effects {
        let mut effects = Effects::default();
        match event {
            Event::Link(link) => self.handle_link(link, &mut effects),
            Event::LinkGone(ifindex) => {
                if self.links.remove(&ifindex).is_some() {
                    (effects.links, effects.reread) = (true, true);
                    self.mark_link(ifindex);
                }
            }
            Event::Address(Address { ifindex, ip, prefix_length, standing }) => {
                let key = (ifindex, ip, prefix_length);
                let old = self.addresses.get(&key).map(|(old, order, _)| (*old, *order));
                let order = old.map_or(self.next_address, |(_, order)| order);
                self.next_address += u64::from(old.is_none());
                self.addresses.insert(key, (standing, order, self.epoch));
                effects.addresses = old.map(|(old, _)| old) != Some(standing);
            }
            Event::AddressGone(address) => {
                let key = (address.ifindex, address.ip, address.prefix_length);
                effects.addresses = self.addresses.remove(&key).is_some();
                // IPv4 routes that prefer this source go with it, unsaid (fib_sync_down_addr, net/ipv4/fib_semantics.c).
                effects.reread = effects.addresses && address.ip.is_ipv4();
            }
            Event::Route(route, origin) => self.handle_route(route, origin),
            Event::RouteGone(route) => effects.reread = !self.drop_route(&route),
            Event::NextHop(next_hop) => {
                let id = next_hop.id;
                let old = self.next_hops.insert(id, (next_hop, self.epoch));
                if old.map(|(old, _)| old) != self.next_hops.get(&id).map(|(new, _)| new.clone()) {
                    self.mark_next_hop(id);
                }
            }
            Event::NextHopGone(id) => {
                if self.next_hops.remove(&id).is_some() {
                    // Its routes go with it, unsaid (remove_nexthop, net/ipv4/nexthop.c).
                    effects.reread = true;
                    self.mark_next_hop(id);
                }
            }
            Event::Neighbour(neighbour) => {
                let key = (neighbour.ip, neighbour.ifindex);
                let old = self.neighbours.insert(key, (neighbour, self.epoch));
                if old.and_then(|(old, _)| old.usable()) != neighbour.usable() {
                    self.mark_neighbour(key);
                }
            }
            Event::NeighbourGone(neighbour) => {
                let key = (neighbour.ip, neighbour.ifindex);
                if self.neighbours.remove(&key).is_some() {
                    self.mark_neighbour(key);
                }
            }
        }
        effects
    }

    fn handle_link(&mut self, link: Link, effects: &mut Effects) {
        let (ifindex, running, up) = (link.ifindex, link.is_running(), link.is_up());
        let old = self.links.insert(ifindex, (link, self.epoch)).map(|(old, _)| old);
        let new = self.links.get(&ifindex).map(|(new, _)| new);
        effects.links = old.as_ref() != new;
        if old.as_ref().map(Link::is_running) != Some(running) {
            self.mark_link(ifindex);
        }
        // Going down flushes IPv4 routes and next-hop objects, coming up or a carrier revives hops, all of it unsaid
        // (fib_sync_down_dev, fib_sync_up; nexthop_flush_dev).
        effects.reread = old.is_some_and(|old| (old.is_up(), old.is_running()) != (up, running));
    }

    fn handle_route(&mut self, route: Route, origin: Origin) {
        let (epoch, prefix, number, id) = (self.epoch, route.prefix, route.table, via_id(&route));
        let Some(table) = self.table_of(&route) else { return };
        table.entry(prefix).add(route, origin, epoch);
        if let Some(id) = id {
            self.users.entry(id).or_default().insert(prefix);
        }
        self.mark_route(prefix, number);
    }

    /// Whether it was certain which route was meant.
    fn drop_route(&mut self, route: &Route) -> bool {
        let prefix = route.prefix;
        let Some(table) = self.table_of(route) else { return true };
        let Some(routes) = table.routes.get_mut(&prefix) else { return true };
        let certain = routes.take(route);
        table.drop_if_empty(prefix);
        self.forget_user(via_id(route), prefix);
        self.mark_route(prefix, route.table);
        certain
    }

    fn table_of(&mut self, route: &Route) -> Option<&mut Table> {
        match route.table {
            LOCAL_TABLE => Some(&mut self.local),
            table if table == self.table => Some(&mut self.main),
            _ => None,
        }
    }

    fn forget_user(&mut self, id: Option<u32>, prefix: Prefix) {
        let Some(id) = id else { return };
        let still = [&self.local, &self.main].into_iter().filter_map(|table| table.routes.get(&prefix));
        if !still.flat_map(PrefixRoutes::iter).any(|route| via_id(route) == Some(id))
            && let Some(prefixes) = self.users.get_mut(&id)
        {
            prefixes.remove(&prefix);
            if prefixes.is_empty() {
                self.users.remove(&id);
            }
        }
    }

    /// Begins a resync: all that exists is told again, and [`end_resync`](Self::end_resync) drops what was not.
    pub fn begin_resync(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Ends a resync: what has not been told since its begin is gone. The number of things dropped.
    pub fn end_resync(&mut self) -> usize {
        let epoch = self.epoch;
        let mut gone = Vec::new();
        gone.extend(self.links.iter().filter(|(_, l)| l.1 != epoch).map(|(&i, _)| Event::LinkGone(i)));
        gone.extend(self.addresses.iter().filter(|(_, known)| known.2 != epoch).map(
            |(&(ifindex, ip, prefix_length), &(standing, ..))| {
                Event::AddressGone(Address { ifindex, ip, prefix_length, standing })
            },
        ));
        gone.extend(self.next_hops.iter().filter(|(_, n)| n.1 != epoch).map(|(&i, _)| Event::NextHopGone(i)));
        gone.extend(self.neighbours.values().filter(|n| n.1 != epoch).map(|n| Event::NeighbourGone(n.0)));
        let mut dropped = gone.len();
        for event in gone {
            self.handle(event);
        }
        for number in [LOCAL_TABLE, self.table] {
            let table = if number == LOCAL_TABLE { &mut self.local } else { &mut self.main };
            let older =
                |(prefix, routes): (&Prefix, &mut PrefixRoutes)| routes.drop_older(epoch).then_some(*prefix);
            let prefixes: Vec<Prefix> = table.routes.iter_mut().filter_map(older).collect();
            prefixes.iter().for_each(|prefix| table.drop_if_empty(*prefix));
            dropped += prefixes.len();
            prefixes.into_iter().for_each(|prefix| self.mark_route(prefix, number));
        }
        let (local, main) = (&self.local, &self.main);
        self.users.retain(|id, users| {
            users.retain(|prefix| {
                let routes = [local, main].into_iter().filter_map(|table| table.routes.get(prefix));
                routes.flat_map(PrefixRoutes::iter).any(|route| via_id(route) == Some(*id))
            });
            !users.is_empty()
        });
        self.dirty.append(&mut self.refused);
        dropped
    }

    /// The routes of `prefix` changed; hosts on the link may depend on them.
    fn mark_route(&mut self, prefix: Prefix, table: u32) {
        self.dirty.insert(prefix);
        let (first, last) = prefix.bounds();
        let hosts =
            self.neighbours.range((first, 0)..=(last, u32::MAX)).map(|((ip, _), _)| Prefix::host(*ip));
        self.dirty.extend(hosts);
        // A local route hides whatever the main table has below it.
        if table == LOCAL_TABLE {
            self.dirty.extend(self.main.routes.range(prefix.inside()).map(|(prefix, _)| *prefix));
        }
    }

    fn mark_link(&mut self, ifindex: u32) {
        let ids: Vec<u32> = self
            .next_hops
            .values()
            .filter(|(next_hop, _)| {
                matches!(&next_hop.group, NextHopGroup::Single(Via::Hops(hops)) if uses(hops, ifindex))
            })
            .map(|(next_hop, _)| next_hop.id)
            .collect();
        ids.into_iter().for_each(|id| self.mark_next_hop(id));
        let over = |routes: &PrefixRoutes| {
            routes.iter().any(|route| matches!(&route.via, Via::Hops(hops) if uses(hops, ifindex)))
        };
        let main = self.main.routes.iter().filter(|(_, routes)| over(routes)).map(|(prefix, _)| *prefix);
        self.dirty.extend(main);
        let hosts = self.neighbours.keys().filter(|(_, on)| *on == ifindex).map(|(ip, _)| Prefix::host(*ip));
        self.dirty.extend(hosts);
    }

    fn mark_next_hop(&mut self, id: u32) {
        let groups = self.next_hops.values().filter_map(|(next_hop, _)| match &next_hop.group {
            NextHopGroup::Members(members) if members.iter().any(|(member, _)| *member == id) => {
                Some(next_hop.id)
            }
            _ => None,
        });
        let prefixes: Vec<Prefix> = groups
            .chain([id])
            .filter_map(|id| self.users.get(&id))
            .flat_map(|prefixes| prefixes.iter().copied())
            .collect();
        prefixes.into_iter().for_each(|prefix| self.mark_route(prefix, self.table));
    }

    fn mark_neighbour(&mut self, (ip, ifindex): (IpAddr, u32)) {
        self.dirty.insert(Prefix::host(ip));
        if let Some(&port) = self.ports.get(&ifindex) {
            self.dirty_neighbours.insert(Adjacency { port, gateway: ip });
        }
    }

    pub(super) fn neighbour(&self, ip: IpAddr, ifindex: u32) -> Option<&Neighbour> {
        self.neighbours.get(&(ip, ifindex)).map(|(neighbour, _)| neighbour)
    }

    pub(super) fn next_hop(&self, id: u32) -> Option<&NextHopGroup> {
        self.next_hops.get(&id).map(|(next_hop, _)| &next_hop.group)
    }

    /// The port that a link is.
    pub fn port(&self, ifindex: u32) -> Option<PortId> {
        self.ports.get(&ifindex).copied()
    }

    /// All links.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values().map(|(link, _)| link)
    }

    /// The link of this index.
    pub fn link(&self, ifindex: u32) -> Option<&Link> {
        self.links.get(&ifindex).map(|(link, _)| link)
    }

    /// The addresses of this host on all links, ports of ours or not, each once.
    pub fn local_addresses(&self) -> BTreeSet<IpAddr> {
        self.addresses.keys().map(|(_, ip, _)| *ip).collect()
    }

    /// The addresses that a link's packets are to come from: of each family the best, and of equals the one that was there
    /// first, so that a further one changes nothing.
    pub fn sources(&self, ifindex: u32) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        let own = self.addresses.range((ifindex, IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)..);
        let mut own: Vec<_> = own
            .take_while(|((index, ..), _)| *index == ifindex)
            .filter(|(_, (standing, ..))| *standing != Standing::Unfit)
            .map(|(&(_, ip, _), &(standing, order, _))| (standing, order, ip))
            .collect();
        own.sort_unstable();
        let v4 = own.iter().find_map(|(.., ip)| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None });
        let v6 = own.iter().find_map(|(.., ip)| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None });
        (v4, v6)
    }
}

fn via_id(route: &Route) -> Option<u32> {
    if let Via::NextHop(id) = route.via { Some(id) } else { None }
}

fn uses(hops: &[Hop], ifindex: u32) -> bool {
    hops.iter().any(|hop| hop.ifindex == ifindex)
}
