//! Sets of prefixes, and in which of several sets an address is.
//!
//! A [`PrefixSet`] is what the configuration has: prefixes, merged to ranges that neither overlap nor touch. A `SetMap` is
//! what packets are looked up in: all ranges of all sets of one direction and family, as the addresses where membership
//! changes, in a tree of sixteen keys a node without pointers. A lookup takes one node a level: five for a million.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::spec::Prefix;

/// Keys of a node.
const FAN: usize = 16;

/// A set of prefixes of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefixSet {
    /// First and last address of each range, ascending.
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl PrefixSet {
    /// The set of all addresses in these prefixes.
    pub fn new(prefixes: impl IntoIterator<Item = Prefix>) -> Self {
        let mut set = Self::default();
        for prefix in prefixes {
            match prefix.addr() {
                IpAddr::V4(first) => {
                    let rest = u32::MAX.checked_shr(prefix.len().into()).unwrap_or(0);
                    set.v4.push((first.to_bits(), first.to_bits() | rest));
                }
                IpAddr::V6(first) => {
                    let rest = u128::MAX.checked_shr(prefix.len().into()).unwrap_or(0);
                    set.v6.push((first.to_bits(), first.to_bits() | rest));
                }
            }
        }
        merge(&mut set.v4, |last| last.checked_add(1));
        merge(&mut set.v6, |last| last.checked_add(1));
        set
    }

    /// Ranges of IPv4 and of IPv6 addresses in it.
    pub fn ranges(&self) -> (usize, usize) {
        (self.v4.len(), self.v6.len())
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => within(&self.v4, v4.to_bits()),
            IpAddr::V6(v6) => within(&self.v6, v6.to_bits()),
        }
    }
}

fn within<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= address);
    behind.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| address <= *last)
}

/// Sorts ranges, and makes one of those that overlap or touch. `next` is the address behind one.
fn merge<T: Ord + Copy>(ranges: &mut Vec<(T, T)>, next: impl Fn(T) -> Option<T>) {
    ranges.sort_unstable();
    ranges.dedup_by(|later, earlier| {
        let joined = next(earlier.1).is_none_or(|next| later.0 <= next);
        if joined {
            earlier.1 = earlier.1.max(later.1);
        }
        joined
    });
}

/// An address, or the upper half of one, as a number.
trait Number: Copy + Ord {
    const MIN: Self;
    const MAX: Self;
    fn next(self) -> Option<Self>;
}

macro_rules! number {
    ($($number:ty)+) => {
        $(impl Number for $number {
            const MIN: Self = <$number>::MIN;
            const MAX: Self = <$number>::MAX;
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
        })+
    };
}
number!(u32 u64 u128);

/// From addresses to words that change at some of them.
#[derive(Clone, Debug)]
struct Changes<T> {
    /// The addresses where the word changes, ascending, the lowest address first; above it every sixteenth of them, and so on
    /// to the last level, which is one node. Nodes are filled up with the highest address.
    levels: Vec<Vec<T>>,
    /// For each change, the number of the word from there on.
    classes: Vec<u32>,
    words: Vec<u64>,
}

impl<T: Number> Changes<T> {
    /// Of these sets, whose ranges are sorted and apart: each with its bit.
    fn new<'s>(sets: impl Iterator<Item = (u64, &'s [(T, T)])>) -> Self
    where
        T: 's,
    {
        let mut toggles: Vec<(T, u64)> = Vec::new();
        for (bit, ranges) in sets {
            for (first, last) in ranges {
                toggles.push((*first, bit));
                toggles.extend(last.next().map(|next| (next, bit)));
            }
        }
        toggles.sort_unstable_by_key(|(address, _)| *address);
        let (mut keys, mut classes, mut words) = (vec![T::MIN], vec![0], vec![0]);
        let (mut word, mut numbers) = (0, HashMap::from([(0, 0)]));
        for group in toggles.chunk_by(|a, b| a.0 == b.0) {
            let before = word;
            let mut address = T::MIN;
            for (at, bit) in group {
                word ^= bit;
                address = *at;
            }
            if word == before {
                continue;
            }
            let class = *numbers.entry(word).or_insert_with(|| {
                words.push(word);
                words.len() as u32 - 1
            });
            if address == T::MIN {
                classes = vec![class];
            } else {
                keys.push(address);
                classes.push(class);
            }
        }
        let mut levels = Vec::new();
        loop {
            keys.resize(keys.len().next_multiple_of(FAN), T::MAX);
            let above: Vec<T> = keys.iter().step_by(FAN).copied().collect();
            levels.push(keys);
            if above.len() == 1 {
                break;
            }
            keys = above;
        }
        Self { levels, classes, words }
    }

    /// The word at an address.
    #[inline]
    fn at(&self, address: T) -> u64 {
        let mut at = 0;
        for level in self.levels.iter().rev() {
            let node = level.get(at * FAN..).and_then(<[T]>::first_chunk::<FAN>);
            // The first key of a node is never above the address.
            let below = node.map_or(0, |node| node.iter().filter(|key| **key <= address).count());
            at = at * FAN + below.max(1) - 1;
        }
        // What a node is filled up with counts as the last key.
        let at = at.min(self.classes.len() - 1);
        let class = self.classes.get(at).copied().unwrap_or(0);
        self.words.get(class as usize).copied().unwrap_or(0)
    }

    fn bytes(&self) -> usize {
        self.levels.iter().map(|level| level.len() * size_of::<T>()).sum::<usize>()
            + self.classes.len() * 4
            + self.words.len() * 8
    }
}

/// In which sets an address of either family is.
#[derive(Clone, Debug)]
pub(crate) struct SetMap {
    v4: Changes<u32>,
    v6: Sixes,
}

#[derive(Clone, Debug)]
enum Sixes {
    /// No prefix is longer than 64 bits, so the upper half says all.
    Upper(Changes<u64>),
    Whole(Changes<u128>),
}

impl SetMap {
    /// Of these sets, each with its bit.
    pub(crate) fn new(sets: &[(u64, &PrefixSet)]) -> Self {
        let v4 = Changes::new(sets.iter().map(|(bit, set)| (*bit, set.v4.as_slice())));
        let low = u128::from(u64::MAX);
        let upper = sets
            .iter()
            .flat_map(|(_, set)| &set.v6)
            .all(|(first, last)| first & low == 0 && last & low == low);
        let v6 = if upper {
            let half = |set: &PrefixSet| -> Vec<(u64, u64)> {
                set.v6.iter().map(|(first, last)| ((first >> 64) as u64, (last >> 64) as u64)).collect()
            };
            let halves: Vec<_> = sets.iter().map(|(bit, set)| (*bit, half(set))).collect();
            Sixes::Upper(Changes::new(halves.iter().map(|(bit, ranges)| (*bit, ranges.as_slice()))))
        } else {
            Sixes::Whole(Changes::new(sets.iter().map(|(bit, set)| (*bit, set.v6.as_slice()))))
        };
        Self { v4, v6 }
    }

    #[inline]
    pub(crate) fn v4(&self, address: u32) -> u64 {
        self.v4.at(address)
    }

    #[inline]
    pub(crate) fn v6(&self, hi: u64, lo: u64) -> u64 {
        match &self.v6 {
            Sixes::Upper(changes) => changes.at(hi),
            Sixes::Whole(changes) => changes.at(u128::from(hi) << 64 | u128::from(lo)),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let v6 = match &self.v6 {
            Sixes::Upper(changes) => changes.bytes(),
            Sixes::Whole(changes) => changes.bytes(),
        };
        self.v4.bytes() + v6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(prefixes: &[&str]) -> PrefixSet {
        PrefixSet::new(prefixes.iter().map(|text| text.parse::<Prefix>().unwrap()))
    }

    #[test]
    fn prefixes_that_overlap_or_touch_are_one_range() {
        let merged =
            set(&["10.1.0.0/16", "10.0.0.0/16", "10.0.3.0/24", "192.0.2.1/32", "::/0", "2001:db8::/32"]);
        assert_eq!(merged.ranges(), (2, 1));
        assert!(merged.contains("10.1.255.255".parse().unwrap()));
        assert!(!merged.contains("10.2.0.0".parse().unwrap()));
        assert_eq!(set(&["0.0.0.0/0", "255.255.255.255/32"]).ranges(), (1, 0));
    }

    #[test]
    fn an_address_is_in_the_sets_whose_ranges_hold_it() {
        let sets = [
            set(&["0.0.0.0/8", "10.0.0.0/8", "255.255.255.255/32", "2001:db8::/64"]),
            set(&["10.5.0.0/16", "11.0.0.0/8", "::/0"]),
            set(&["2001:db8::1/128", "ffff::/16"]),
        ];
        for count in 1..=3 {
            let bits: Vec<_> = sets[..count].iter().enumerate().map(|(i, set)| (1 << i, set)).collect();
            let map = SetMap::new(&bits);
            let near = [
                "0.0.0.0",
                "1.0.0.0",
                "9.255.255.255",
                "10.0.0.0",
                "10.5.0.0",
                "10.6.0.0",
                "11.0.0.0",
                "12.0.0.0",
            ];
            for address in near.into_iter().chain(["255.255.255.254", "255.255.255.255"]) {
                let address: std::net::Ipv4Addr = address.parse().unwrap();
                let word = bits
                    .iter()
                    .filter(|(_, set)| set.contains(address.into()))
                    .fold(0, |word, (bit, _)| word | bit);
                assert_eq!(map.v4(address.to_bits()), word, "{address}");
            }
            for address in [
                "::",
                "2001:db8::",
                "2001:db8::1",
                "2001:db8::2",
                "2001:db8:0:1::",
                "ffff::",
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            ] {
                let address: std::net::Ipv6Addr = address.parse().unwrap();
                let word = bits
                    .iter()
                    .filter(|(_, set)| set.contains(address.into()))
                    .fold(0, |word, (bit, _)| word | bit);
                let bits = address.to_bits();
                assert_eq!(map.v6((bits >> 64) as u64, bits as u64), word, "{address} in {count} sets");
            }
        }
    }

    #[test]
    fn a_map_of_thousands_of_ranges_answers_at_every_edge() {
        // Every other /24 of 10.0.0.0/8 and below: levels of several sizes.
        for count in [1u32, 7, 8, 9, 127, 128, 129, 5000] {
            let prefix = |i: u32| {
                Prefix::new(std::net::Ipv4Addr::from_bits(0x0a00_0000 + i * 512).into(), 24).unwrap()
            };
            let set = PrefixSet::new((0..count).map(prefix));
            let map = SetMap::new(&[(1 << 63, &set)]);
            for i in 0..count {
                let first = 0x0a00_0000 + i * 512;
                for (address, member) in
                    [(first - 1, false), (first, true), (first + 255, true), (first + 256, false)]
                {
                    assert_eq!(map.v4(address) == 1 << 63, member, "{count}: {address:#x}");
                }
            }
            assert_eq!(map.v4(u32::MAX), 0);
        }
    }
}
