//! The words of the tables and what they mean.
//!
//! Owns: the bit layouts, in one place for both halves. Keeps true: every word decodes to something; none can panic.
//!
//! ```text
//! leaf       0 │ depth:8 │ value:23        depth: length of the prefix that painted this entry
//! group      1 │ 0 │ gap:1 │ level:4 │ group:25     level: which byte the group is indexed by (1 = bits 24..32)
//! twig       1 │ 1 │ long:1 │ twig:29              gap: levels were skipped, the head must agree
//!                                                 long: its prefix is longer than 64 bits
//! value      0 │ adjacency:22   or   1 │ next hop:22        0 = no route
//! next hop   count:32 │ first member:32
//! adjacency  kind:4 │ port:12 │ MAC:48
//! ```

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

/// Bits of an address that the root is indexed by.
pub(super) const ROOT_BITS: u32 = 24;
/// Entries of a root.
pub(super) const ROOT: usize = 1 << ROOT_BITS;
/// Entries of a group.
pub(super) const GROUP: usize = 256;
/// Words ahead of an IPv6 group's entries: four of key, the route across the gap, three spare. In the same page as most of
/// the entries, since a lookup across a gap reads both.
pub(super) const HEAD: usize = 8;
/// Words of an IPv6 group. IPv4 groups have no head.
pub(super) const GROUP6: usize = HEAD + GROUP;
/// Levels below the root that 128 bits have.
pub(super) const LEVELS: u32 = 13;

/// Most groups, and most twigs, that a pointer can tell apart.
pub(super) const GROUP_LIMIT: u32 = 1 << 25;
/// Most next hops, and most adjacencies, that a value can tell apart.
pub(super) const VALUE_LIMIT: u32 = 1 << 22;
/// Ports are numbered below this.
pub const PORT_LIMIT: u16 = 1 << 12;

pub(super) const POINTER: u32 = 1 << 31;
const TWIG: u32 = 1 << 30;
const GAP: u32 = 1 << 29;
const LONG: u32 = 1 << 29;
const LEVEL: u32 = 25;
const VALUE: u32 = (1 << 23) - 1;
const NEXT_HOP: u32 = 1 << 22;
const MAC: u64 = (1 << 48) - 1;

/// What a prefix leads to; give it to [`Fib::adjacency`](super::Fib::adjacency). Valid until the pass ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Route(pub(super) u32);

/// Which table a route's index is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Adjacency(u32),
    NextHop(u32),
}

impl Route {
    /// No prefix covers the address.
    pub const NONE: Self = Self(0);

    /// Whether no prefix covers the address.
    #[inline]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether there are several ways, among which a hash decides.
    #[inline]
    pub fn is_multipath(self) -> bool {
        self.0 & NEXT_HOP != 0
    }

    #[inline]
    pub(super) fn way(self) -> Way {
        let index = self.0 & (NEXT_HOP - 1);
        if self.0 & NEXT_HOP == 0 { Way::Adjacency(index) } else { Way::NextHop(index) }
    }

    pub(super) fn to_adjacency(index: u32) -> Self {
        debug_assert!(index < VALUE_LIMIT);
        Self(index)
    }

    pub(super) fn to_next_hop(index: u32) -> Self {
        debug_assert!(index < VALUE_LIMIT);
        Self(NEXT_HOP | index)
    }

    /// The route of a leaf. A pointer, which only a corrupt table has at the end of a walk, gives some value or other.
    #[inline]
    pub(super) fn of_leaf(entry: u32) -> Self {
        Self(entry & VALUE)
    }
}

/// A leaf for `route`, painted by a prefix of `depth` bits; zero for no route.
pub(super) fn leaf(route: Route, depth: u8) -> u32 {
    if route.is_none() { 0 } else { (u32::from(depth) << 23) | route.0 }
}

/// Length of the prefix that painted a leaf.
pub(super) fn depth(leaf: u32) -> u8 {
    (leaf >> 23) as u8
}

/// A pointer from an entry of level `from` to `group`, whose index is the byte of `level`.
pub(super) fn pointer(group: u32, from: u32, level: u32) -> u32 {
    debug_assert!(group < GROUP_LIMIT && from < level && level <= LEVELS);
    POINTER | if level > from + 1 { GAP } else { 0 } | (level << LEVEL) | group
}

/// A pointer to the twig `twig`, whose prefix has `len` bits.
pub(super) fn twig_pointer(twig: u32, len: u8) -> u32 {
    debug_assert!(twig < GROUP_LIMIT);
    POINTER | TWIG | if len > 64 { LONG } else { 0 } | twig
}

/// What `entry` is, in three bits: 4 and 5 for a pointer to a group, 6 for one to a twig, 7 for one to a long twig, less for
/// a leaf.
#[inline]
pub(super) fn tag_of(entry: u32) -> u8 {
    (entry >> 29) as u8
}

/// Whether `entry` points to a group.
#[inline]
pub(super) fn is_group(entry: u32) -> bool {
    entry & (POINTER | TWIG) == POINTER
}

/// Whether `entry` points to a twig.
#[inline]
pub(super) fn is_twig(entry: u32) -> bool {
    entry >= POINTER | TWIG
}

/// Whether `entry` points to a long twig.
#[inline]
pub(super) fn is_long(entry: u32) -> bool {
    entry >= POINTER | TWIG | LONG
}

/// Whether levels were skipped between this pointer's entry and its group.
#[inline]
pub(super) fn has_gap(pointer: u32) -> bool {
    pointer & GAP != 0
}

/// The number of the group or twig that `pointer` leads to.
#[inline]
pub(super) fn number_of(pointer: u32) -> usize {
    (pointer & (GROUP_LIMIT - 1)) as usize
}

/// The level of the group that `pointer` leads to: below 16, not always one that exists.
#[inline]
pub(super) fn level_at(pointer: u32) -> u32 {
    (pointer >> LEVEL) & 15
}

/// Level of the group that holds prefixes of `len` bits; 0 is the root.
pub(super) fn level_of(len: u8) -> u32 {
    u32::from(len).saturating_sub(17) / 8
}

/// Where in its root `bits` (an address, its first bit on top) lies.
#[inline]
pub(super) fn root_index(bits: u128) -> usize {
    (bits >> (128 - ROOT_BITS)) as usize
}

/// Where in a group of `level` `bits` lies; below [`GROUP`] whatever the level.
pub(super) fn group_index(bits: u128, level: u32) -> usize {
    ((bits >> group_shift(level)) & 0xff) as usize
}

/// How far up the byte of `level` lies.
pub(super) fn group_shift(level: u32) -> u32 {
    (128 - ROOT_BITS).saturating_sub(8 * level)
}

/// Whether `bits` agrees with `key` in all bits above those that `level` is indexed by.
#[inline]
pub(super) fn agrees(bits: u128, key: u128, level: u32) -> bool {
    (bits ^ key) >> (128 - ROOT_BITS + 8).saturating_sub(8 * level) == 0
}

/// A group's first address, from its head.
#[inline]
pub(super) fn key_of(head: &[AtomicU32; HEAD]) -> u128 {
    let [a, b, c, d, ..] = head;
    let [a, b, c, d] = [a, b, c, d].map(|word| u128::from(word.load(Relaxed)));
    (a << 96) | (b << 64) | (c << 32) | d
}

/// The word of a group's head that has the route of addresses in the gap.
#[inline]
pub(super) fn miss_of(head: &[AtomicU32; HEAD]) -> &AtomicU32 {
    let [_, _, _, _, miss, ..] = head;
    miss
}

/// What is done with a packet that took a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Adjacency {
    /// Nothing covers the destination: ICMP network unreachable.
    #[default]
    NoRoute,
    /// Out of `port`, to the neighbour `mac`.
    Forward {
        /// The output port, below [`PORT_LIMIT`].
        port: u16,
        /// The destination address of the frame.
        mac: [u8; 6],
    },
    /// Punt: an unresolved neighbour, or whatever else the kernel must do.
    Kernel,
    /// Punt: one of our own addresses.
    Local,
    /// As it is out of `port`, by which the host takes it: one of our own addresses.
    Deliver {
        /// The output port, below [`PORT_LIMIT`].
        port: u16,
    },
    /// Out of `port`, on whose link there are no neighbours to tell apart.
    Link {
        /// The output port, below [`PORT_LIMIT`].
        port: u16,
    },
    /// Drop without a word.
    Blackhole,
    /// Drop; ICMP host unreachable.
    Unreachable,
    /// Drop; ICMP administratively prohibited.
    Prohibit,
}

impl Adjacency {
    /// The word of the table. The port is cut to 12 bits.
    pub(super) fn word(self) -> u64 {
        match self {
            Self::NoRoute => 0,
            Self::Forward { port, mac: [a, b, c, d, e, f] } => {
                (1 << 60)
                    | (u64::from(port % PORT_LIMIT) << 48)
                    | u64::from_be_bytes([0, 0, a, b, c, d, e, f])
            }
            Self::Kernel => 2 << 60,
            Self::Local => 3 << 60,
            Self::Blackhole => 4 << 60,
            Self::Unreachable => 5 << 60,
            Self::Prohibit => 6 << 60,
            Self::Deliver { port } => (7 << 60) | (u64::from(port % PORT_LIMIT) << 48),
            Self::Link { port } => (8 << 60) | (u64::from(port % PORT_LIMIT) << 48),
        }
    }

    /// The word of a neighbour of `port` that is not resolved: [`Self::Kernel`], and the port.
    pub(super) fn unresolved(port: u16) -> u64 {
        Self::Kernel.word() | u64::from(port % PORT_LIMIT) << 48 | 1
    }

    /// The port that a word leads out of, if it is known: of a neighbour, resolved or not.
    #[inline]
    pub(super) fn output_of_word(word: u64) -> Option<u16> {
        let known = matches!(word >> 60, 1 | 7 | 8) || (word >> 60 == 2 && word & 1 == 1);
        known.then_some((word >> 48) as u16 % PORT_LIMIT)
    }

    /// The port and the address of [`Self::Forward`].
    #[inline]
    pub(super) fn neighbour_of_word(word: u64) -> Option<(u16, [u8; 6])> {
        let [_, _, mac @ ..] = (word & MAC).to_be_bytes();
        (word >> 60 == 1).then_some(((word >> 48) as u16 % PORT_LIMIT, mac))
    }

    /// Reads a word of the table; an unknown kind is no route.
    #[inline]
    pub(super) fn of_word(word: u64) -> Self {
        match word >> 60 {
            1 => match Self::neighbour_of_word(word) {
                Some((port, mac)) => Self::Forward { port, mac },
                None => Self::NoRoute,
            },
            2 => Self::Kernel,
            3 => Self::Local,
            4 => Self::Blackhole,
            5 => Self::Unreachable,
            6 => Self::Prohibit,
            7 => Self::Deliver { port: (word >> 48) as u16 % PORT_LIMIT },
            8 => Self::Link { port: (word >> 48) as u16 % PORT_LIMIT },
            _ => Self::NoRoute,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        let all = [
            Adjacency::NoRoute,
            Adjacency::Forward { port: 4095, mac: [0xff, 1, 2, 3, 4, 0xfe] },
            Adjacency::Forward { port: 0, mac: [0; 6] },
            Adjacency::Kernel,
            Adjacency::Local,
            Adjacency::Blackhole,
            Adjacency::Unreachable,
            Adjacency::Prohibit,
            Adjacency::Deliver { port: 4095 },
            Adjacency::Link { port: 7 },
        ];
        for adjacency in all {
            assert_eq!(Adjacency::of_word(adjacency.word()), adjacency);
        }
        assert_eq!(Adjacency::of_word(u64::MAX), Adjacency::NoRoute);
        assert_eq!(Adjacency::of_word(Adjacency::unresolved(4095)), Adjacency::Kernel);
        let outputs = [Adjacency::unresolved(7), all[1].word(), all[3].word(), all[4].word(), 0];
        assert_eq!(outputs.map(Adjacency::output_of_word), [Some(7), Some(4095), None, None, None]);
        for route in [Route::to_adjacency(VALUE_LIMIT - 1), Route::to_next_hop(0), Route::to_next_hop(77)] {
            for len in [1, 24, 128] {
                let entry = leaf(route, len);
                assert_eq!((Route::of_leaf(entry), depth(entry)), (route, len));
                assert!(!is_group(entry) && !is_twig(entry));
            }
        }
        for (from, level) in [(0, 1), (0, 2), (11, 13), (12, 13)] {
            let entry = pointer(GROUP_LIMIT - 1, from, level);
            assert!(is_group(entry) && !is_twig(entry));
            assert_eq!((number_of(entry), level_at(entry)), (GROUP_LIMIT as usize - 1, level));
            assert_eq!(has_gap(entry), level > from + 1);
        }
        for (len, tag) in [(25, 6), (64, 6), (65, 7), (128, 7)] {
            let entry = twig_pointer(GROUP_LIMIT - 1, len);
            assert!(is_twig(entry) && !is_group(entry));
            assert_eq!((is_long(entry), tag_of(entry)), (tag == 7, tag));
            assert_eq!(number_of(entry), GROUP_LIMIT as usize - 1);
        }
    }

    #[test]
    fn levels_begin_where_the_last_ends() {
        for (len, level) in
            [(0, 0), (24, 0), (25, 1), (32, 1), (33, 2), (48, 3), (49, 4), (64, 5), (121, 13), (128, 13)]
        {
            assert_eq!(level_of(len), level, "/{len}");
        }
        let bits = 0x2001_0db8_0102_0304_0506_0708_090a_0b0c_u128;
        assert_eq!(root_index(bits), 0x20_010d);
        assert_eq!((group_index(bits, 1), group_index(bits, 2), group_index(bits, 13)), (0xb8, 1, 0x0c));
        assert!(agrees(bits, 0x2001_0d00 << 96, 1) && !agrees(bits, 0x2001_0d00 << 96, 2));
        assert!(agrees(bits, bits ^ 0xff, 13) && !agrees(bits, bits ^ 0x100, 13));
        for level in [0, 14, 15] {
            assert!(group_index(bits, level) < GROUP, "a level that does not exist must not panic");
            agrees(bits, 0, level);
        }
    }
}
