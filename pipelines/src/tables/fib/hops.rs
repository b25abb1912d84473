//! The writer's adjacencies and next hops.
//!
//! Owns: who uses which, and the words of both tables. Refuses: a set of hops that is empty, too long, of weight 0, or of
//! adjacencies that are gone. Keeps true: an adjacency or next hop lives while a route, a next hop or its caller holds it;
//! equal sets of hops share one next hop, whose members never change while it lives; the order of members comes from ports and
//! gateways, so that a FIB built anew sends the same flows the same way. A route whose hops change gets a next hop whose members
//! are those before, as far as they can [stay](super::buckets); it is shared by the routes that change alike.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;

use super::buckets::{Before, rearrange};
use super::entry::{Adjacency, PORT_LIMIT, Route, Way};
use super::error::{Capacity, FibError};
use super::layout::{FIXED, FibLayout};
use super::reader::FibTables;
use super::shares::shares;
use super::slots::{Slots, Spans, Usage};

/// Most different hops of a route, and most member slots of a next hop.
pub const HOP_LIMIT: usize = 256;

/// A (port, gateway) pair of one [`FibWriter`](super::FibWriter). Good until its holder releases it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AdjacencyId(u32);

impl AdjacencyId {
    pub(super) fn route(self) -> Route {
        Route::to_adjacency(FIXED + self.0)
    }
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// To neighbours, flows split by weight.
    Hops(Vec<(AdjacencyId, u8)>),
    /// Punt.
    Kernel,
    /// Punt: our own address.
    Local,
    /// Drop without a word.
    Blackhole,
    /// Drop; ICMP host unreachable.
    Unreachable,
    /// Drop; ICMP administratively prohibited.
    Prohibit,
}

/// The adjacencies below [`FIXED`], at their places.
const FIXED_ADJACENCIES: [(Adjacency, Option<Target>); FIXED as usize] = [
    (Adjacency::NoRoute, None),
    (Adjacency::Kernel, Some(Target::Kernel)),
    (Adjacency::Local, Some(Target::Local)),
    (Adjacency::Blackhole, Some(Target::Blackhole)),
    (Adjacency::Unreachable, Some(Target::Unreachable)),
    (Adjacency::Prohibit, Some(Target::Prohibit)),
];

#[derive(Debug)]
struct Neighbour {
    port: u16,
    gateway: IpAddr,
    /// Times that the caller got it and has not released it.
    held: u64,
    /// Routes and next hops that use it.
    used: u64,
}

type Weighed = Vec<(AdjacencyId, u8)>;

#[derive(Debug)]
struct NextHop {
    hops: Weighed,
    /// Its members, where they are not those that its hops get by themselves.
    kept: Option<Vec<AdjacencyId>>,
    first: u32,
    count: u32,
    used: u64,
}

#[derive(Debug)]
pub(super) struct Hops {
    adjacency_slots: Slots,
    neighbours: HashMap<u32, Neighbour>,
    by_gateway: HashMap<(u16, IpAddr), u32>,
    next_hop_slots: Slots,
    next_hops: HashMap<u32, NextHop>,
    by_hops: HashMap<Weighed, u32>,
    by_kept: HashMap<(Weighed, Vec<AdjacencyId>), u32>,
    /// What a next hop last became for other hops: all routes of a group change one after the other.
    latest: Option<(u32, Weighed, u32)>,
    members: Spans,
    member_limit: u32,
    /// Runs of members of retired next hops.
    retired: HashMap<u32, (u32, u32)>,
}

impl Hops {
    pub(super) fn new(layout: &FibLayout, tables: &FibTables<'_>) -> Self {
        for (word, (adjacency, _)) in tables.adjacencies.iter().zip(FIXED_ADJACENCIES) {
            word.store(adjacency.word(), Relaxed);
        }
        Self {
            adjacency_slots: Slots::new(layout.adjacencies),
            neighbours: HashMap::new(),
            by_gateway: HashMap::new(),
            next_hop_slots: Slots::new(layout.next_hops),
            next_hops: HashMap::new(),
            by_hops: HashMap::new(),
            by_kept: HashMap::new(),
            latest: None,
            members: Spans::new(layout.members),
            member_limit: layout.members,
            retired: HashMap::new(),
        }
    }

    /// Gets or makes the adjacency of `gateway` behind `port`, and holds it once more. A new one is unresolved.
    pub(super) fn hold(
        &mut self,
        tables: &FibTables<'_>,
        port: u16,
        gateway: IpAddr,
    ) -> Result<AdjacencyId, FibError> {
        if port >= PORT_LIMIT {
            return Err(FibError::Port { port });
        }
        if let Some(id) = self.find(port, gateway) {
            if let Some(neighbour) = self.neighbours.get_mut(&id.0) {
                neighbour.held += 1;
            }
            return Ok(id);
        }
        let index = self
            .adjacency_slots
            .take()
            .ok_or_else(|| full(Capacity::Adjacencies, self.adjacency_slots.usage()))?;
        self.neighbours.insert(index, Neighbour { port, gateway, held: 1, used: 0 });
        self.by_gateway.insert((port, gateway), index);
        let id = AdjacencyId(index);
        store(tables, id, Adjacency::unresolved(port));
        Ok(id)
    }

    pub(super) fn find(&self, port: u16, gateway: IpAddr) -> Option<AdjacencyId> {
        self.by_gateway.get(&(port, gateway)).copied().map(AdjacencyId)
    }

    /// Undoes one [`hold`](Self::hold); false if there is none to undo.
    pub(super) fn release(&mut self, id: AdjacencyId, stamp: u64) -> bool {
        let Some(neighbour) = self.neighbours.get_mut(&id.0).filter(|neighbour| neighbour.held > 0) else {
            return false;
        };
        neighbour.held -= 1;
        self.retire_if_idle(id, stamp);
        true
    }

    /// Says what becomes of the packets of an adjacency, by its port's number; false if there is no such one.
    pub(super) fn set(&self, tables: &FibTables<'_>, id: AdjacencyId, word: impl FnOnce(u16) -> u64) -> bool {
        let Some(Neighbour { port, .. }) = self.neighbours.get(&id.0) else { return false };
        store(tables, id, word(*port));
        true
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (AdjacencyId, u16, IpAddr)> {
        self.neighbours
            .iter()
            .map(|(index, neighbour)| (AdjacencyId(*index), neighbour.port, neighbour.gateway))
    }

    /// A route to `target`, used once more, in the place of the route `before`, if there was one, whose flows stay where they
    /// are as far as they can. On an error nothing is.
    pub(super) fn acquire(
        &mut self,
        tables: &FibTables<'_>,
        target: &Target,
        before: Option<Route>,
    ) -> Result<Route, FibError> {
        let Target::Hops(hops) = target else {
            let place = FIXED_ADJACENCIES.iter().position(|(_, fixed)| fixed.as_ref() == Some(target));
            return Ok(Route::to_adjacency(place.unwrap_or_default() as u32));
        };
        let hops = self.normal(hops)?;
        if let [(id, _)] = *hops {
            self.use_adjacency(id);
            return Ok(id.route());
        }
        if let Some(Way::NextHop(before)) = before.map(Route::way)
            && let Some(route) = self.acquire_after(tables, &hops, before)
        {
            return Ok(route);
        }
        if let Some(index) = self.by_hops.get(&hops).copied() {
            return Ok(self.use_next_hop(index));
        }
        let members = fresh(&hops);
        let index = self.add(tables, &hops, &members, None)?;
        self.by_hops.insert(hops, index);
        Ok(Route::to_next_hop(index))
    }

    /// [`acquire`](Self::acquire) where there was a next hop before; `None` where none of its flows can stay, or where there
    /// is no room to keep them.
    fn acquire_after(&mut self, tables: &FibTables<'_>, hops: &Weighed, before: u32) -> Option<Route> {
        if let Some((from, to_hops, to)) = &self.latest
            && (*from, to_hops) == (before, hops)
        {
            return Some(self.use_next_hop(*to));
        }
        let old = self.next_hops.get(&before)?;
        if old.hops == *hops {
            return Some(self.use_next_hop(before));
        }
        let words = tables.members.iter().skip(old.first as usize).take(old.count as usize);
        let slots: Vec<AdjacencyId> =
            words.map(|word| AdjacencyId(word.load(Relaxed).wrapping_sub(FIXED))).collect();
        let kept = rearrange(Before { slots: &slots, hops: &old.hops }, hops, &fresh(hops))?;
        let key = (hops.clone(), kept);
        let index = match self.by_kept.get(&key).copied() {
            Some(index) => {
                self.use_next_hop(index);
                index
            }
            None => {
                let index = self.add(tables, hops, &key.1, Some(key.1.clone())).ok()?;
                self.by_kept.insert(key, index);
                index
            }
        };
        self.latest = Some((before, hops.clone(), index));
        Some(Route::to_next_hop(index))
    }

    fn use_next_hop(&mut self, index: u32) -> Route {
        if let Some(next_hop) = self.next_hops.get_mut(&index) {
            next_hop.used += 1;
        }
        Route::to_next_hop(index)
    }

    /// Makes a next hop, used once. On an error nothing is.
    fn add(
        &mut self,
        tables: &FibTables<'_>,
        hops: &Weighed,
        slots: &[AdjacencyId],
        kept: Option<Vec<AdjacencyId>>,
    ) -> Result<u32, FibError> {
        let count = slots.len() as u32;
        if self.next_hop_slots.available() == 0 {
            return Err(full(Capacity::NextHops, self.next_hop_slots.usage()));
        }
        let first = self.members.take(count).ok_or_else(|| full(Capacity::Members, self.member_usage()))?;
        let index = self
            .next_hop_slots
            .take()
            .ok_or_else(|| full(Capacity::NextHops, self.next_hop_slots.usage()))?;

        for (member, id) in tables.members.iter().skip(first as usize).zip(slots) {
            member.store(FIXED + id.0, Relaxed);
        }
        if let Some(word) = tables.next_hops.get(index as usize) {
            word.store((u64::from(count) << 32) | u64::from(first), Relaxed);
        }
        for (id, _) in hops {
            self.use_adjacency(*id);
        }
        self.next_hops.insert(index, NextHop { hops: hops.clone(), kept, first, count, used: 1 });
        Ok(index)
    }

    /// One hop for each adjacency, weights added up (255 at most) and in the order of ports and gateways.
    fn normal(&self, hops: &[(AdjacencyId, u8)]) -> Result<Weighed, FibError> {
        let mut keyed = Vec::with_capacity(hops.len());
        for (id, weight) in hops.iter().copied() {
            let Neighbour { port, gateway, .. } =
                self.neighbours.get(&id.0).ok_or(FibError::Adjacency { id })?;
            if weight == 0 {
                return Err(FibError::Weight { id });
            }
            keyed.push((*port, *gateway, id, weight));
        }
        keyed.sort_unstable();
        let mut normal: Weighed = Vec::with_capacity(keyed.len());
        for (_, _, id, weight) in keyed {
            match normal.last_mut() {
                Some((last, sum)) if *last == id => *sum = sum.saturating_add(weight),
                _ => normal.push((id, weight)),
            }
        }
        match normal.len() {
            0 => Err(FibError::NoHops),
            1..=HOP_LIMIT => Ok(normal),
            hops => Err(FibError::ManyHops { hops }),
        }
    }

    /// Undoes one [`acquire`](Self::acquire), once no entry of the tables has `route` any more on its account.
    pub(super) fn discharge(&mut self, route: Route, stamp: u64) {
        match route.way() {
            Way::Adjacency(index) => {
                if let Some(index) = index.checked_sub(FIXED) {
                    self.leave_adjacency(AdjacencyId(index), stamp);
                }
            }
            Way::NextHop(index) => {
                let Some(next_hop) = self.next_hops.get_mut(&index) else { return };
                next_hop.used -= 1;
                if next_hop.used > 0 {
                    return;
                }
                let Some(gone) = self.next_hops.remove(&index) else { return };
                let NextHop { hops, kept, first, count, .. } = gone;
                let hops = match kept {
                    Some(kept) => {
                        let key = (hops, kept);
                        self.by_kept.remove(&key);
                        key.0
                    }
                    None => {
                        self.by_hops.remove(&hops);
                        hops
                    }
                };
                // Its number may come back for other hops.
                self.latest.take_if(|(from, _, to)| *from == index || *to == index);
                self.retired.insert(index, (first, count));
                self.next_hop_slots.retire(index, stamp);
                for (id, _) in hops {
                    self.leave_adjacency(id, stamp);
                }
            }
        }
    }

    fn use_adjacency(&mut self, id: AdjacencyId) {
        if let Some(neighbour) = self.neighbours.get_mut(&id.0) {
            neighbour.used += 1;
        }
    }

    fn leave_adjacency(&mut self, id: AdjacencyId, stamp: u64) {
        if let Some(neighbour) = self.neighbours.get_mut(&id.0) {
            neighbour.used -= 1;
            self.retire_if_idle(id, stamp);
        }
    }

    /// The word stays as it is: a reader may be about to load it.
    fn retire_if_idle(&mut self, id: AdjacencyId, stamp: u64) {
        let idle = |neighbour: &Neighbour| neighbour.held == 0 && neighbour.used == 0;
        if self.neighbours.get(&id.0).is_some_and(idle)
            && let Some(Neighbour { port, gateway, .. }) = self.neighbours.remove(&id.0)
        {
            self.by_gateway.remove(&(port, gateway));
            self.adjacency_slots.retire(id.0, stamp);
        }
    }

    pub(super) fn reclaim(&mut self, passed: u64) {
        self.adjacency_slots.reclaim(passed, |_| {});
        let Self { next_hop_slots, retired, members, .. } = self;
        next_hop_slots.reclaim(passed, |index| {
            if let Some((first, count)) = retired.remove(&index) {
                members.give(first, count);
            }
        });
    }

    /// The target of `route`: hops in their normal order, weight 1 for a single one.
    pub(super) fn target(&self, route: Route) -> Target {
        let hops = match route.way() {
            Way::Adjacency(index) => match index.checked_sub(FIXED) {
                Some(index) => vec![(AdjacencyId(index), 1)],
                None => {
                    let fixed = FIXED_ADJACENCIES.get(index as usize).and_then(|(_, target)| target.clone());
                    return fixed.unwrap_or(Target::Kernel);
                }
            },
            Way::NextHop(index) => {
                self.next_hops.get(&index).map(|next_hop| next_hop.hops.clone()).unwrap_or_default()
            }
        };
        Target::Hops(hops)
    }

    pub(super) fn adjacency_usage(&self) -> Usage {
        self.adjacency_slots.usage()
    }

    pub(super) fn next_hop_usage(&self) -> Usage {
        self.next_hop_slots.usage()
    }

    pub(super) fn member_usage(&self) -> Usage {
        let retired = self.retired.values().map(|(_, count)| count).sum();
        Usage {
            used: self.member_limit - self.members.available() - retired,
            retired,
            limit: self.member_limit,
        }
    }
}

/// The members of hops that follow upon nothing.
fn fresh(hops: &Weighed) -> Vec<AdjacencyId> {
    let weights: Vec<u8> = hops.iter().map(|(_, weight)| *weight).collect();
    let shares = shares(&weights);
    hops.iter().zip(&shares).flat_map(|((id, _), share)| std::iter::repeat_n(*id, *share as usize)).collect()
}

fn store(tables: &FibTables<'_>, id: AdjacencyId, value: u64) {
    if let Some(word) = tables.adjacencies.get((FIXED + id.0) as usize) {
        word.store(value, Relaxed);
    }
}

fn full(capacity: Capacity, Usage { retired, limit, .. }: Usage) -> FibError {
    FibError::Full { capacity, limit, retired }
}
