//! The writer's own record of the routes, by prefix.
//!
//! Owns: one hash map for each prefix length, of one address family. Keeps true: it is what was asked for, whatever lies in
//! the shared memory. Hashes are keyed by chance, as prefixes come from neighbours over BGP.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use super::entry::Route;

/// A prefix of either family: its bits from the top of 128, no others set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    pub(super) bits: u128,
    pub(super) len: u8,
}

impl Prefix {
    /// The prefix of `len` bits that `bits` begins with.
    pub(super) fn of(bits: u128, len: u8) -> Self {
        let mask = u128::MAX.checked_shl(128u32.saturating_sub(u32::from(len))).unwrap_or(0);
        Self { bits: bits & mask, len }
    }
}

/// An address of one family, as a map's key.
pub(super) trait Bits: Copy + Eq + Hash {
    /// Bits of an address.
    const LEN: u8;
    /// Takes the top of 128 bits.
    fn narrow(bits: u128) -> Self;
    /// Back to the top of 128 bits.
    fn widen(self) -> u128;
    fn address(self) -> IpAddr;
}

impl Bits for u32 {
    const LEN: u8 = 32;

    fn narrow(bits: u128) -> Self {
        (bits >> 96) as u32
    }

    fn widen(self) -> u128 {
        u128::from(self) << 96
    }

    fn address(self) -> IpAddr {
        IpAddr::V4(self.into())
    }
}

impl Bits for u128 {
    const LEN: u8 = 128;

    fn narrow(bits: u128) -> Self {
        bits
    }

    fn widen(self) -> u128 {
        self
    }

    fn address(self) -> IpAddr {
        IpAddr::V6(self.into())
    }
}

/// The routes of one family.
#[derive(Debug)]
pub(super) struct Rib<B> {
    /// By length, 0 first.
    lengths: Vec<HashMap<B, Route>>,
}

impl<B: Bits> Rib<B> {
    pub(super) fn new() -> Self {
        Self { lengths: (0..=B::LEN).map(|_| HashMap::new()).collect() }
    }

    pub(super) fn find(&self, prefix: Prefix) -> Option<Route> {
        self.lengths.get(usize::from(prefix.len))?.get(&B::narrow(prefix.bits)).copied()
    }

    pub(super) fn set(&mut self, prefix: Prefix, route: Route) {
        if let Some(routes) = self.lengths.get_mut(usize::from(prefix.len)) {
            routes.insert(B::narrow(prefix.bits), route);
        }
    }

    pub(super) fn remove(&mut self, prefix: Prefix) -> Option<Route> {
        self.lengths.get_mut(usize::from(prefix.len))?.remove(&B::narrow(prefix.bits))
    }

    /// The longest prefix of at most `len` bits that covers `bits`.
    pub(super) fn cover(&self, bits: u128, len: u8) -> Option<(Prefix, Route)> {
        (0..=len)
            .rev()
            .filter(|len| !self.lengths.get(usize::from(*len)).is_none_or(HashMap::is_empty))
            .find_map(|len| {
                let prefix = Prefix::of(bits, len);
                Some((prefix, self.find(prefix)?))
            })
    }

    /// All routes, the shortest prefixes first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Prefix, Route)> {
        (0..).zip(&self.lengths).flat_map(|(len, routes)| {
            routes.iter().map(move |(bits, route)| (Prefix { bits: bits.widen(), len }, *route))
        })
    }

    pub(super) fn len(&self) -> usize {
        self.lengths.iter().map(HashMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cover_is_the_longest_within_the_length() {
        let mut rib = Rib::<u32>::new();
        let bits = 0x0a01_0203_u32.widen();
        for len in [0, 8, 24, 32] {
            rib.set(Prefix::of(bits, len), Route(u32::from(len) + 1));
        }
        for (len, found) in [(32, 32), (31, 24), (24, 24), (23, 8), (7, 0), (0, 0)] {
            assert_eq!(rib.cover(bits, len).map(|(prefix, _)| prefix.len), Some(found), "/{len}");
        }
        assert_eq!(rib.cover(0x0a01_0303_u32.widen(), 32).map(|(prefix, _)| prefix.len), Some(8));
        rib.remove(Prefix::of(bits, 0));
        assert_eq!(rib.cover(0, 32), None);
        assert_eq!((rib.len(), rib.iter().count()), (3, 3));
    }
}
