//! The writing half of the FIB, for the control process.
//!
//! Owns: the region's content, and a record of the routes outside it. Refuses: what [`FibError`] lists, and then changes
//! nothing. Keeps true: see the module [`fib`](super); and there is one writer, as this value is not `Clone` and a region is
//! created in once.
//!
//! # Reclaiming
//!
//! What a change unlinks (groups, next hops, adjacencies) is retired with the current stamp. A caller with concurrent readers
//! raises the stamp from time to time ([`set_stamp`](FibWriter::set_stamp)), tells the readers, and hands the lowest stamp that
//! all of them have confirmed *between two passes* to [`reclaim`](FibWriter::reclaim): a reader that confirms stamp `n` began
//! its pass after everything with a stamp below `n` was unlinked, and holds none of it.

use std::net::IpAddr;

use zsync_packet::region::Region;

use super::arrays::Arrays;
use super::entry::{Adjacency, HEAD, Route, leaf};
use super::error::{Capacity, FibError};
use super::hops::{AdjacencyId, Hops, Target};
use super::layout::FibLayout;
use super::reader::{Fib, FibTables};
use super::rib::{Bits, Prefix, Rib};
use super::slots::Usage;
use super::trie::Trie;

/// A route, as it was asked for. Hops are in the FIB's order, equal ones merged; a single one has weight 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FibRoute {
    /// First address of the prefix.
    pub prefix: IpAddr,
    /// Length of the prefix in bits.
    pub len: u8,
    /// Where it leads.
    pub target: Target,
}

/// How full a FIB is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FibUsage {
    /// IPv4 routes.
    pub v4_routes: usize,
    /// IPv6 routes.
    pub v6_routes: usize,
    /// Of [`FibLayout::v4_groups`].
    pub v4_groups: Usage,
    /// Of [`FibLayout::v6_groups`].
    pub v6_groups: Usage,
    /// Of [`FibLayout::next_hops`].
    pub next_hops: Usage,
    /// Of [`FibLayout::members`].
    pub members: Usage,
    /// Of [`FibLayout::adjacencies`].
    pub adjacencies: Usage,
}

/// One family: the record and the tables' groups.
#[derive(Debug)]
struct Family<B> {
    rib: Rib<B>,
    trie: Trie,
}

/// The owner of a FIB.
#[derive(Debug)]
pub struct FibWriter {
    fib: Fib,
    hops: Hops,
    v4: Family<u32>,
    v6: Family<u128>,
    stamp: u64,
}

impl FibWriter {
    /// Makes an empty FIB in `region`, which is zeroed and at least [`FibLayout::bytes`] long.
    ///
    /// # Errors
    /// [`FibError::Layout`], [`FibError::Short`], [`FibError::Used`].
    pub fn create(region: Region, layout: FibLayout) -> Result<Self, FibError> {
        let map = layout.describe(&region)?;
        let fib = Fib::over(region.clone(), layout, map);
        let hops = Hops::new(&layout, &fib.tables());
        FibLayout::publish(&region);
        Ok(Self {
            fib,
            hops,
            v4: Family { rib: Rib::new(), trie: Trie::new(Capacity::V4Groups, layout.v4_groups, 0) },
            v6: Family {
                rib: Rib::new(),
                trie: Trie::new(Capacity::V6Groups, layout.v6_groups, layout.v6_groups),
            },
            stamp: 0,
        })
    }

    /// A reader of this FIB, in this process.
    pub fn reader(&self) -> Fib {
        self.fib.clone()
    }

    /// Gets or makes the adjacency of the neighbour `gateway` behind `port`, and holds it: it lives until it has been
    /// [released](Self::release) as often as it was got, and no route uses it. A new one is unresolved: its packets are punted.
    ///
    /// # Errors
    /// [`FibError::Port`], or [`FibError::Full`] of adjacencies.
    pub fn adjacency(&mut self, port: u16, gateway: IpAddr) -> Result<AdjacencyId, FibError> {
        self.hops.hold(&self.fib.tables(), port, gateway)
    }

    /// The adjacency of `gateway` behind `port`, if there is one; does not hold it.
    pub fn find_adjacency(&self, port: u16, gateway: IpAddr) -> Option<AdjacencyId> {
        self.hops.find(port, gateway)
    }

    /// Undoes one [`adjacency`](Self::adjacency); false if there is none to undo.
    pub fn release(&mut self, id: AdjacencyId) -> bool {
        self.hops.release(id, self.stamp)
    }

    /// The neighbour has this address, from now on, for all routes through it; false if there is no such adjacency.
    pub fn resolve(&mut self, id: AdjacencyId, mac: [u8; 6]) -> bool {
        self.hops.set(&self.fib.tables(), id, |port| Adjacency::Forward { port, mac }.word())
    }

    /// The neighbour's address is not known any more: packets are punted. False if there is no such adjacency.
    pub fn unresolve(&mut self, id: AdjacencyId) -> bool {
        self.hops.set(&self.fib.tables(), id, Adjacency::unresolved)
    }

    /// The port's link has no neighbours: packets leave by it as they are. False if there is no such adjacency.
    pub fn link(&mut self, id: AdjacencyId) -> bool {
        self.hops.set(&self.fib.tables(), id, |port| Adjacency::Link { port }.word())
    }

    /// The host takes its own packets by the port. False if there is no such adjacency.
    pub fn deliver(&mut self, id: AdjacencyId) -> bool {
        self.hops.set(&self.fib.tables(), id, |port| Adjacency::Deliver { port }.word())
    }

    /// All adjacencies with port, gateway and what becomes of their packets; in no order.
    pub fn adjacencies(&self) -> impl Iterator<Item = (AdjacencyId, u16, IpAddr, Adjacency)> {
        let tables = self.fib.tables();
        self.hops.iter().map(move |(id, port, gateway)| (id, port, gateway, tables.adjacency(id.route(), 0)))
    }

    /// Adds the route of `prefix`/`len`, or changes it. When its hops change, the flows over those that stay, stay: what a lost hop
    /// leaves goes to the others by weight, and a new one takes no more than its share.
    ///
    /// # Errors
    /// [`FibError::Length`] or [`FibError::HostBits`] for the prefix; [`FibError::NoHops`], [`FibError::ManyHops`],
    /// [`FibError::Weight`] or [`FibError::Adjacency`] for the target; [`FibError::Full`]. Nothing has changed then.
    pub fn insert(&mut self, prefix: IpAddr, len: u8, target: Target) -> Result<(), FibError> {
        let Self { fib, hops, v4, v6, stamp } = self;
        let tables = fib.tables();
        match prefix {
            IpAddr::V4(_) => {
                v4.insert(arrays4(&tables), hops, &tables, v4.prefix(prefix, len)?, &target, *stamp)
            }
            IpAddr::V6(_) => {
                v6.insert(arrays6(&tables), hops, &tables, v6.prefix(prefix, len)?, &target, *stamp)
            }
        }
    }

    /// Takes away the route of `prefix`/`len`; false if there is none.
    pub fn remove(&mut self, prefix: IpAddr, len: u8) -> bool {
        let Self { fib, hops, v4, v6, stamp } = self;
        let tables = fib.tables();
        let removed = match prefix {
            IpAddr::V4(_) => {
                v4.prefix(prefix, len).ok().and_then(|prefix| v4.remove(arrays4(&tables), prefix, *stamp))
            }
            IpAddr::V6(_) => {
                v6.prefix(prefix, len).ok().and_then(|prefix| v6.remove(arrays6(&tables), prefix, *stamp))
            }
        };
        removed.inspect(|route| hops.discharge(*route, *stamp)).is_some()
    }

    /// The target of exactly `prefix`/`len`.
    pub fn get(&self, prefix: IpAddr, len: u8) -> Option<Target> {
        let route = match prefix {
            IpAddr::V4(_) => self.v4.rib.find(self.v4.prefix(prefix, len).ok()?),
            IpAddr::V6(_) => self.v6.rib.find(self.v6.prefix(prefix, len).ok()?),
        };
        route.map(|route| self.hops.target(route))
    }

    /// The route of the longest prefix that covers `address`, from the record (which the tables must agree with).
    pub fn lookup(&self, address: IpAddr) -> Option<FibRoute> {
        match address {
            IpAddr::V4(_) => self.v4.lookup(address, &self.hops),
            IpAddr::V6(_) => self.v6.lookup(address, &self.hops),
        }
    }

    /// All routes, IPv4 first, shorter prefixes first, else in no order.
    pub fn iter(&self) -> impl Iterator<Item = FibRoute> {
        self.v4.iter(&self.hops).chain(self.v6.iter(&self.hops))
    }

    /// How full everything is.
    pub fn usage(&self) -> FibUsage {
        FibUsage {
            v4_routes: self.v4.rib.len(),
            v6_routes: self.v6.rib.len(),
            v4_groups: self.v4.trie.usage(),
            v6_groups: self.v6.trie.usage(),
            next_hops: self.hops.next_hop_usage(),
            members: self.hops.member_usage(),
            adjacencies: self.hops.adjacency_usage(),
        }
    }

    /// What is unlinked from now on gets this stamp. A lower one than the present is ignored.
    pub fn set_stamp(&mut self, stamp: u64) {
        self.stamp = self.stamp.max(stamp);
    }

    /// Frees what was unlinked before the stamp was `passed`: every reader has confirmed `passed` between two passes.
    /// With no readers, `u64::MAX`.
    pub fn reclaim(&mut self, passed: u64) {
        self.v4.trie.reclaim(passed);
        self.v6.trie.reclaim(passed);
        self.hops.reclaim(passed);
    }
}

fn arrays4<'a>(tables: &FibTables<'a>) -> Arrays<'a> {
    let default = tables.defaults.first();
    Arrays { default, root: tables.root4, groups: tables.groups4, head: 0, twigs: &[] }
}

fn arrays6<'a>(tables: &FibTables<'a>) -> Arrays<'a> {
    let groups = tables.groups6.as_flattened();
    let default = tables.defaults.get(1);
    Arrays { default, root: tables.root6, groups, head: HEAD, twigs: tables.twigs }
}

/// The address from the top of 128 bits.
fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).widen(),
        IpAddr::V6(address) => address.into(),
    }
}

impl<B: Bits> Family<B> {
    fn prefix(&self, address: IpAddr, len: u8) -> Result<Prefix, FibError> {
        if len > B::LEN {
            return Err(FibError::Length { prefix: address, len, limit: B::LEN });
        }
        let bits = bits_of(address);
        let prefix = Prefix::of(bits, len);
        if prefix.bits != bits {
            return Err(FibError::HostBits { prefix: address, len, meant: B::narrow(prefix.bits).address() });
        }
        Ok(prefix)
    }

    fn insert(
        &mut self,
        arrays: Arrays<'_>,
        hops: &mut Hops,
        tables: &FibTables<'_>,
        prefix: Prefix,
        target: &Target,
        stamp: u64,
    ) -> Result<(), FibError> {
        let known = self.rib.find(prefix);
        if known.is_none() {
            self.trie.afford(arrays, prefix)?;
        }
        let route = hops.acquire(tables, target, known)?;
        // Nothing can fail from here on.
        self.rib.set(prefix, route);
        if known != Some(route) {
            self.trie.insert(arrays, prefix, leaf(route, prefix.len), known.is_none(), stamp);
        }
        if let Some(old) = known {
            hops.discharge(old, stamp);
        }
        Ok(())
    }

    fn remove(&mut self, arrays: Arrays<'_>, prefix: Prefix, stamp: u64) -> Option<Route> {
        let route = self.rib.remove(prefix)?;
        // The default route is not in the tables; where it is what covers, they say "no route".
        let cover = self.rib.cover(prefix.bits, prefix.len).filter(|(cover, _)| cover.len > 0);
        let cover = cover.map_or(0, |(cover, route)| leaf(route, cover.len));
        self.trie.remove(arrays, prefix, cover, stamp);
        Some(route)
    }

    fn lookup(&self, address: IpAddr, hops: &Hops) -> Option<FibRoute> {
        let (prefix, route) = self.rib.cover(bits_of(address), B::LEN)?;
        Some(Self::show(prefix, route, hops))
    }

    fn iter(&self, hops: &Hops) -> impl Iterator<Item = FibRoute> {
        self.rib.iter().map(|(prefix, route)| Self::show(prefix, route, hops))
    }

    fn show(prefix: Prefix, route: Route, hops: &Hops) -> FibRoute {
        FibRoute { prefix: B::narrow(prefix.bits).address(), len: prefix.len, target: hops.target(route) }
    }
}
