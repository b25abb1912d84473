//! The reading half of the FIB, for workers.
//!
//! Owns: a share in the region, and the places of its tables. Refuses: memory whose header is not that of a FIB of this build
//! ([`Fib::open`]). Keeps true: a lookup allocates, locks and panics never, takes at most 15 steps, and only ever loads, so
//! that the memory may be mapped read-only. (For that reason loads are relaxed and followed by a fence: only relaxed loads are
//! promised to work on memory that cannot be written. A burst pays one fence for each level.)

use std::net::IpAddr;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};

use zsync_packet::region::Region;

use super::entry::{
    Adjacency, GROUP, GROUP6, HEAD, LEVELS, POINTER, ROOT_BITS, Route, Way, agrees, depth, has_gap, is_group,
    is_long, is_twig, key_of, level_at, miss_of, number_of, tag_of,
};
use super::error::FibError;
use super::layout::{FibLayout, Map};
use super::twig::{self, Words};

/// Addresses that a burst lookup has in flight at once.
const BURST: usize = 64;
/// Fewer IPv6 addresses than this are looked up one after the other: to find who waits for what costs more than the waiting
/// (`zsync-bench run lookups`, warm caches).
const FEW: usize = 8;

/// A FIB to look up in. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Fib {
    region: Region,
    layout: FibLayout,
    map: Map,
}

impl Fib {
    /// Takes up the FIB that a [`FibWriter`](super::FibWriter) made in `region`.
    ///
    /// # Errors
    /// There is none, it is of another version, or the region is shorter than its header says.
    pub fn open(region: Region) -> Result<Self, FibError> {
        let (layout, map) = FibLayout::recognise(&region)?;
        Ok(Self { region, layout, map })
    }

    pub(super) fn over(region: Region, layout: FibLayout, map: Map) -> Self {
        Self { region, layout, map }
    }

    /// Capacities, as the header has them.
    pub fn layout(&self) -> FibLayout {
        self.layout
    }

    /// The tables as slices: take them once a burst, where single lookups are too many to take them each time.
    #[inline]
    pub fn tables(&self) -> FibTables<'_> {
        // The map was checked against the region, so no view is refused; were one, its table would have no routes.
        let u32s = |(at, count)| self.region.u32s(at, count).unwrap_or_default();
        let u64s = |(at, count)| self.region.u64s(at, count).unwrap_or_default();
        FibTables {
            defaults: u32s(Map::DEFAULTS),
            root4: u32s(Map::ROOT4),
            root6: u32s(Map::ROOT6),
            groups4: u32s(self.map.groups4),
            groups6: u32s(self.map.groups6).as_chunks().0,
            twigs: u64s(self.map.twigs).as_chunks().0,
            next_hops: u64s(self.map.next_hops),
            members: u32s(self.map.members),
            adjacencies: u64s(self.map.adjacencies),
        }
    }

    /// See [`FibTables::route4`].
    #[inline]
    pub fn route4(&self, dst: u32) -> Route {
        self.tables().route4(dst)
    }

    /// See [`FibTables::route6`].
    #[inline]
    pub fn route6(&self, dst: &[u8; 16]) -> Route {
        self.tables().route6(dst)
    }

    /// See [`FibTables::routes4`].
    #[inline]
    pub fn routes4(&self, dst: &[u32], routes: &mut [Route]) {
        self.tables().routes4(dst, routes);
    }

    /// See [`FibTables::routes6`].
    #[inline]
    pub fn routes6(&self, dst: &[[u8; 16]], routes: &mut [Route]) {
        self.tables().routes6(dst, routes);
    }

    /// See [`FibTables::adjacency`].
    #[inline]
    pub fn adjacency(&self, route: Route, hash: u32) -> Adjacency {
        self.tables().adjacency(route, hash)
    }
}

/// The tables of a [`Fib`], as slices.
#[derive(Clone, Copy)]
pub struct FibTables<'a> {
    pub(super) defaults: &'a [AtomicU32],
    pub(super) root4: &'a [AtomicU32],
    pub(super) root6: &'a [AtomicU32],
    pub(super) groups4: &'a [AtomicU32],
    pub(super) groups6: &'a [[AtomicU32; GROUP6]],
    pub(super) twigs: &'a [Words],
    pub(super) next_hops: &'a [AtomicU64],
    pub(super) members: &'a [AtomicU32],
    pub(super) adjacencies: &'a [AtomicU64],
}

#[inline]
fn word(table: &[AtomicU32], index: usize) -> u32 {
    table.get(index).map_or(0, |word| word.load(Relaxed))
}

#[inline]
fn wide(table: &[AtomicU64], index: usize) -> u64 {
    table.get(index).map_or(0, |word| word.load(Relaxed))
}

impl FibTables<'_> {
    /// The route of `address`, and the length of the prefix that it is the route of: for people, off the packet path.
    pub fn explain(&self, address: IpAddr) -> (Route, u8) {
        let (leaf, default) = match address {
            IpAddr::V4(address) => (self.leaf4(address.to_bits()), word(self.defaults, 0)),
            IpAddr::V6(address) => (self.leaf6(&address.octets()), word(self.defaults, 1)),
        };
        fence(Acquire);
        if Route::of_leaf(leaf).is_none() {
            (Route::of_leaf(default), 0)
        } else {
            (Route::of_leaf(leaf), depth(leaf))
        }
    }

    /// The route of the longest prefix that covers `dst` (the address as a number: 10.0.0.1 is `0x0a00_0001`).
    #[inline]
    pub fn route4(&self, dst: u32) -> Route {
        let entry = self.leaf4(dst);
        let route = settle(entry, || word(self.defaults, 0));
        fence(Acquire);
        route
    }

    #[inline]
    fn leaf4(&self, dst: u32) -> u32 {
        let mut entry = word(self.root4, (dst >> 8) as usize);
        if entry & POINTER != 0 {
            fence(Acquire);
            entry = self.below4(entry, dst);
        }
        entry
    }

    /// The route of the longest prefix that covers `dst` (network byte order).
    #[inline]
    pub fn route6(&self, dst: &[u8; 16]) -> Route {
        let entry = self.leaf6(dst);
        let route = settle(entry, || word(self.defaults, 1));
        fence(Acquire);
        route
    }

    #[inline]
    fn leaf6(&self, dst: &[u8; 16]) -> u32 {
        let mut entry = word(self.root6, root_index(dst));
        for _ in 0..LEVELS {
            if !is_group(entry) {
                break;
            }
            fence(Acquire);
            entry = self.below6(entry, dst);
        }
        if is_twig(entry) {
            fence(Acquire);
            let end = if is_long(entry) { twig::end_of_long } else { twig::end_of };
            entry = self.twig(entry).map_or(0, |words| end(words, dst));
        }
        entry
    }

    /// [`route4`](Self::route4) for each of `dst`, into the same places of `routes`; the cache misses of one level overlap.
    /// Stops at the shorter of the two.
    #[inline]
    pub fn routes4(&self, dst: &[u32], routes: &mut [Route]) {
        for (route, dst) in routes.iter_mut().zip(dst) {
            route.0 = word(self.root4, (dst >> 8) as usize);
        }
        let default = word(self.defaults, 0);
        fence(Acquire);
        for (route, dst) in routes.iter_mut().zip(dst) {
            let entry = if route.0 & POINTER == 0 { route.0 } else { self.below4(route.0, *dst) };
            *route = settle(entry, || default);
        }
        fence(Acquire);
    }

    /// [`route6`](Self::route6) for each of `dst`, into the same places of `routes`; the cache misses of one level overlap.
    /// Stops at the shorter of the two.
    #[inline]
    pub fn routes6(&self, dst: &[[u8; 16]], routes: &mut [Route]) {
        if dst.len() < FEW {
            routes.iter_mut().zip(dst).for_each(|(route, dst)| *route = self.route6(dst));
            return;
        }
        for (dst, routes) in dst.chunks(BURST).zip(routes.chunks_mut(BURST)) {
            self.burst6(dst, routes);
        }
    }

    #[inline]
    fn burst6(&self, dst: &[[u8; 16]], routes: &mut [Route]) {
        let (routes, _) = routes.split_at_mut(routes.len().min(dst.len()));
        // Each step for all that need it, so that what they load is on its way at once. Who needs it is a bit for each
        // place, found without a branch, as nothing foretells it.
        for (route, dst) in routes.iter_mut().zip(dst) {
            route.0 = word(self.root6, root_index(dst));
        }
        let [mut groups, mut twigs, mut long] = pointers(routes);
        let default = word(self.defaults, 1);
        for _ in 0..LEVELS {
            if groups == 0 {
                break;
            }
            fence(Acquire);
            let here = std::mem::take(&mut groups);
            for i in places(here) {
                let (Some(route), Some(dst)) = (routes.get_mut(i), dst.get(i)) else { break };
                route.0 = self.below6(route.0, dst);
                groups |= u64::from(is_group(route.0)) << i;
                twigs |= u64::from(is_twig(route.0)) << i;
                long |= u64::from(is_long(route.0)) << i;
            }
        }
        fence(Acquire);
        for i in places(twigs & !long) {
            let (Some(route), Some(dst)) = (routes.get_mut(i), dst.get(i)) else { break };
            route.0 = self.twig(route.0).map_or(0, |words| twig::end_of(words, dst));
        }
        for i in places(long) {
            let (Some(route), Some(dst)) = (routes.get_mut(i), dst.get(i)) else { break };
            route.0 = self.twig(route.0).map_or(0, |words| twig::end_of_long(words, dst));
        }
        for route in routes {
            *route = settle(route.0, || default);
        }
        fence(Acquire);
    }

    /// Where `route` leads a packet whose flow hashes to `hash`: of several hops, each takes its weight's share of the hashes.
    /// All packets of a flow take the same hop as long as the route has that hop and gets no new ones.
    #[inline]
    pub fn adjacency(&self, route: Route, hash: u32) -> Adjacency {
        Adjacency::of_word(self.adjacency_word(route, hash))
    }

    /// The port and the neighbour that a packet with this route goes to; `None` where it is not forwarded.
    #[inline(always)]
    pub fn neighbour(&self, route: Route, hash: u32) -> Option<(u16, [u8; 6])> {
        Adjacency::neighbour_of_word(self.adjacency_word(route, hash))
    }

    /// The port that a packet with this route leaves by, also when its neighbour is not resolved yet; `None` when it does not
    /// leave, or only the kernel knows.
    #[inline]
    pub fn output(&self, route: Route, hash: u32) -> Option<u16> {
        Adjacency::output_of_word(self.adjacency_word(route, hash))
    }

    #[inline]
    fn adjacency_word(&self, route: Route, hash: u32) -> u64 {
        let index = match route.way() {
            Way::Adjacency(index) => index,
            Way::NextHop(index) => {
                let next_hop = wide(self.next_hops, index as usize);
                let (count, first) = (next_hop >> 32, next_hop & 0xffff_ffff);
                // Below 2^32 + 2^32, whatever the word holds.
                let slot = first + ((u64::from(hash) * count) >> 32);
                word(self.members, slot as usize)
            }
        };
        wide(self.adjacencies, index as usize)
    }

    #[inline]
    fn below4(&self, pointer: u32, dst: u32) -> u32 {
        word(self.groups4, number_of(pointer) * GROUP + (dst & 0xff) as usize)
    }

    /// The entry that `pointer`, which is one to a group, leads `dst` to.
    #[inline]
    fn below6(&self, pointer: u32, dst: &[u8; 16]) -> u32 {
        let Some((head, entries)) =
            self.groups6.get(number_of(pointer)).and_then(|group| group.split_first_chunk::<HEAD>())
        else {
            return 0;
        };
        let level = level_at(pointer);
        if has_gap(pointer) && !agrees(u128::from_be_bytes(*dst), key_of(head), level) {
            return miss_of(head).load(Relaxed);
        }
        // Level 1 goes by the first byte behind the root's three.
        let byte = dst.get(level as usize + 2).copied().unwrap_or(0);
        word(entries, usize::from(byte))
    }

    /// The twig that `pointer`, which is one to a twig, leads to.
    #[inline]
    fn twig(&self, pointer: u32) -> Option<&Words> {
        self.twigs.get(number_of(pointer))
    }
}

/// Where in the root an IPv6 address lies.
#[inline]
fn root_index(dst: &[u8; 16]) -> usize {
    let [a, b, c, d, ..] = *dst;
    (u32::from_be_bytes([a, b, c, d]) >> (32 - ROOT_BITS)) as usize
}

/// A bit for each place of a burst that points to a group, to a twig, and to a long one.
#[inline]
fn pointers(routes: &[Route]) -> [u64; 3] {
    let mut tags = [0u8; BURST];
    for (tag, route) in tags.iter_mut().zip(routes) {
        *tag = tag_of(route.0);
    }
    let [mut pointers, mut twigs, mut long] = [0; 3];
    for (tags, place) in tags.as_chunks().0.iter().zip((0..routes.len()).step_by(8)) {
        let third = u64::from_le_bytes(*tags);
        let (first, second) = (third >> 2, third >> 1);
        pointers |= lowest_bits(first) << place;
        twigs |= lowest_bits(first & second) << place;
        long |= lowest_bits(first & second & third) << place;
    }
    [pointers & !twigs, twigs, long]
}

/// The lowest bit of each of eight bytes, the first byte's lowest.
#[inline]
fn lowest_bits(bytes: u64) -> u64 {
    // Each bit that counts goes to its own bit of the top byte, and nothing is carried there.
    (bytes & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// The places whose bits are set, in order.
#[inline]
fn places(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(place)
    })
}

/// The route of the leaf at the end of a walk, or the default route.
#[inline]
fn settle(leaf: u32, default: impl FnOnce() -> u32) -> Route {
    let route = Route::of_leaf(leaf);
    if route.is_none() { Route::of_leaf(default()) } else { route }
}
