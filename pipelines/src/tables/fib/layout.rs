//! Where each table of a FIB lies in its region.
//!
//! Owns: capacities, offsets, the header that tells a reader both. Refuses: capacities that the words cannot number, and a
//! region that is too short. Keeps true: a [`Map`] made from a checked layout lies inside any region of `bytes()`.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use zsync_packet::region::{PAGE, Region};

use super::entry::{GROUP, GROUP_LIMIT, GROUP6, ROOT, VALUE_LIMIT};
use super::error::{Capacity, FibError};
use super::twig::TWIG;

/// "zsyncfib", as the first word says it once the header is complete.
const MAGIC: u64 = u64::from_be_bytes(*b"zsyncfib");
/// Raised with every change of the words or of their places.
const VERSION: u64 = 2;

const DEFAULTS: usize = 128;
const ROOT4: usize = PAGE;
const ROOT6: usize = ROOT4 + ROOT * 4;
const TABLES: usize = ROOT6 + ROOT * 4;

/// Adjacencies that every FIB has: none, and one for each target that is not a hop.
pub(super) const FIXED: u32 = 6;

/// Capacities of a FIB. Memory that no route uses is never touched, so on a memfd room costs only address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FibLayout {
    /// Different /24s that have longer IPv4 routes in them. 1 KiB each.
    pub v4_groups: u32,
    /// Groups for IPv6 routes longer than /24, and as many twigs for those that are alone; twice the number of routes always
    /// suffices. 1056 bytes each, and 32 for the twig.
    pub v6_groups: u32,
    /// Different sets of two hops or more.
    pub next_hops: u32,
    /// Member slots of those sets: up to 256 each, two for two equal hops, and more than 128 once a set has lost or got one.
    pub members: u32,
    /// Different (port, gateway) pairs.
    pub adjacencies: u32,
}

impl Default for FibLayout {
    /// Any 200 k IPv6 routes; IPv4 routes without limit up to /24 and 64 k groups for longer ones (the Internet's table has
    /// 1 M routes and hardly any longer than /24). About 600 MiB of address space.
    fn default() -> Self {
        Self {
            v4_groups: 1 << 16,
            v6_groups: 400_000,
            next_hops: 1 << 14,
            members: 1 << 20,
            adjacencies: 1 << 16,
        }
    }
}

impl FibLayout {
    /// For tests and small routers: about 500 IPv6 routes. 129 MiB of address space, nearly all of it the two roots.
    pub const SMALL: Self =
        Self { v4_groups: 256, v6_groups: 1024, next_hops: 256, members: 4096, adjacencies: 1024 };

    /// Length of the region that this layout takes.
    pub fn bytes(&self) -> usize {
        Map::of(self).bytes
    }

    fn fields(&self) -> [(Capacity, u32, u32); 5] {
        [
            (Capacity::V4Groups, self.v4_groups, GROUP_LIMIT),
            (Capacity::V6Groups, self.v6_groups, GROUP_LIMIT),
            (Capacity::NextHops, self.next_hops, VALUE_LIMIT),
            (Capacity::Members, self.members, u32::MAX),
            (Capacity::Adjacencies, self.adjacencies, VALUE_LIMIT - FIXED),
        ]
    }

    fn check(&self, region: &Region) -> Result<Map, FibError> {
        for (capacity, value, limit) in self.fields() {
            if !(1..=limit).contains(&value) {
                return Err(FibError::Layout { capacity, value, limit });
            }
        }
        let map = Map::of(self);
        if region.len() < map.bytes {
            return Err(FibError::Short { need: map.bytes, have: region.len() });
        }
        Ok(map)
    }

    /// Writes the header of a new FIB, all but the word that makes it one.
    pub(super) fn describe(&self, region: &Region) -> Result<Map, FibError> {
        let map = self.check(region)?;
        let header = region.u64s(0, 7).unwrap_or_default();
        if let Some(word) = header.iter().map(|word| word.load(Acquire)).find(|word| *word != 0) {
            return Err(FibError::Used { word });
        }
        let values = [VERSION].into_iter().chain(self.fields().map(|(_, value, _)| u64::from(value)));
        for (word, value) in header.iter().skip(1).zip(values) {
            word.store(value, Relaxed);
        }
        Ok(map)
    }

    /// The last store of a FIB's creation: from here on it can be opened.
    pub(super) fn publish(region: &Region) {
        if let Some([magic]) = region.u64s(0, 1) {
            magic.store(MAGIC, Release);
        }
    }

    /// Reads and checks the header of an existing FIB.
    pub(super) fn recognise(region: &Region) -> Result<(Self, Map), FibError> {
        let Some([magic, version, rest @ ..]) = region.u64s(0, 7) else {
            return Err(FibError::Short { need: TABLES, have: region.len() });
        };
        let word = magic.load(Relaxed);
        std::sync::atomic::fence(Acquire);
        if word != MAGIC {
            return Err(FibError::Foreign { word });
        }
        let found = version.load(Relaxed);
        if found != VERSION {
            return Err(FibError::Version { found, expected: VERSION });
        }
        // What does not fit 32 bits becomes 0, which no capacity may be.
        let mut values = rest.iter().map(|word| u32::try_from(word.load(Relaxed)).unwrap_or(0));
        let mut next = || values.next().unwrap_or(0);
        let layout = Self {
            v4_groups: next(),
            v6_groups: next(),
            next_hops: next(),
            members: next(),
            adjacencies: next(),
        };
        let map = layout.check(region)?;
        Ok((layout, map))
    }
}

/// Byte offset and number of words of a table.
type Place = (usize, usize);

/// Places of all tables. The roots come first, so that theirs are constants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Map {
    pub(super) groups4: Place,
    pub(super) groups6: Place,
    pub(super) twigs: Place,
    pub(super) next_hops: Place,
    pub(super) adjacencies: Place,
    pub(super) members: Place,
    bytes: usize,
}

impl Map {
    /// Two words: the default routes of IPv4 and IPv6.
    pub(super) const DEFAULTS: Place = (DEFAULTS, 2);
    pub(super) const ROOT4: Place = (ROOT4, ROOT);
    pub(super) const ROOT6: Place = (ROOT6, ROOT);

    fn of(layout: &FibLayout) -> Self {
        let mut bytes = TABLES;
        let mut place = |count: usize, size: usize| {
            let at = bytes;
            bytes = (bytes + count * size).next_multiple_of(64);
            (at, count)
        };
        let groups4 = place(layout.v4_groups as usize * GROUP, 4);
        let groups6 = place(layout.v6_groups as usize * GROUP6, 4);
        let twigs = place(layout.v6_groups as usize * TWIG, 8);
        let next_hops = place(layout.next_hops as usize, 8);
        let adjacencies = place(layout.adjacencies as usize + FIXED as usize, 8);
        let members = place(layout.members as usize, 4);
        Self { groups4, groups6, twigs, next_hops, adjacencies, members, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_checked() {
        let layout = FibLayout::SMALL;
        let region = Region::heap(layout.bytes());
        assert_eq!(FibLayout::recognise(&region).unwrap_err(), FibError::Foreign { word: 0 });
        layout.describe(&region).unwrap();
        assert!(FibLayout::recognise(&region).is_err(), "not published yet");
        FibLayout::publish(&region);
        assert_eq!(FibLayout::recognise(&region).unwrap().0, layout);
        assert!(matches!(layout.describe(&region), Err(FibError::Used { .. })));

        let words = region.u64s(0, 7).unwrap();
        let short = region.part(0..layout.bytes() - 1).unwrap();
        assert!(matches!(FibLayout::recognise(&short), Err(FibError::Short { .. })));
        for bad in [0, 1 << 33, u64::from(GROUP_LIMIT) + 1] {
            let old = words[2].swap(bad, Relaxed);
            assert!(matches!(FibLayout::recognise(&region), Err(FibError::Layout { .. })), "{bad}");
            words[2].store(old, Relaxed);
        }
        words[1].store(VERSION + 1, Relaxed);
        assert!(matches!(FibLayout::recognise(&region), Err(FibError::Version { .. })));
    }

    #[test]
    fn tables_do_not_overlap() {
        let map = Map::of(&FibLayout::default());
        let places = [
            (Map::DEFAULTS, 4),
            (Map::ROOT4, 4),
            (Map::ROOT6, 4),
            (map.groups4, 4),
            (map.groups6, 4),
            (map.twigs, 8),
            (map.next_hops, 8),
            (map.adjacencies, 8),
            (map.members, 4),
        ];
        for pair in places.windows(2) {
            let [((at, count), size), ((next, _), _)] = pair else { unreachable!() };
            assert!(at + count * size <= *next);
        }
        assert!(map.members.0 + map.members.1 * 4 <= map.bytes);
    }
}
