//! One family's tables as the writer sees them: entries, what they lead to, and how they are painted.
//!
//! Owns: nothing, it is a view of the region. Refuses: nothing; where a table was scribbled on, a slice is empty or a child is
//! not there. Keeps true: each store on what readers know leaves every address with its route of before or of after.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, Release};

use super::entry::{
    GROUP, HEAD, POINTER, ROOT_BITS, depth, group_index, group_shift, is_group, is_twig, key_of, level_at,
    level_of, miss_of, number_of, pointer, root_index, twig_pointer,
};
use super::rib::Prefix;
use super::twig::{self, Words};

/// One family's tables in the region.
#[derive(Clone, Copy)]
pub(super) struct Arrays<'a> {
    pub(super) default: Option<&'a AtomicU32>,
    pub(super) root: &'a [AtomicU32],
    pub(super) groups: &'a [AtomicU32],
    /// Words ahead of a group's entries: [`HEAD`], or none for IPv4, where there is one level and so no gap.
    pub(super) head: usize,
    /// None for IPv4.
    pub(super) twigs: &'a [Words],
}

/// A place in the trie: the root, or a group and its level.
#[derive(Clone, Copy)]
pub(super) enum Node {
    Root,
    Group(u32, u32),
}

impl Node {
    pub(super) fn level(self) -> u32 {
        match self {
            Self::Root => 0,
            Self::Group(_, level) => level,
        }
    }

    /// Makes this new group known: below the entry `slot` of `parent`.
    pub(super) fn hang(self, slot: &AtomicU32, parent: Self) -> Self {
        if let Self::Group(group, level) = self {
            slot.store(pointer(group, parent.level(), level), Release);
        }
        self
    }
}

/// What a pointer leads to.
#[derive(Clone, Copy)]
pub(super) enum Child<'a> {
    /// Number and level.
    Group(u32, u32),
    Twig(u32, &'a Words),
}

impl Child<'_> {
    /// The level of the group that this is, or that the twig stands for.
    pub(super) fn level(self) -> u32 {
        match self {
            Self::Group(_, level) => level,
            Self::Twig(_, words) => level_of(twig::prefix_of(words).len),
        }
    }

    /// The pointer to it from an entry of level `from`.
    pub(super) fn pointer(self, from: u32) -> u32 {
        match self {
            Self::Group(group, level) => pointer(group, from, level),
            Self::Twig(number, words) => twig_pointer(number, twig::prefix_of(words).len),
        }
    }
}

impl<'a> Arrays<'a> {
    /// What `entry` points to; nothing if it is a leaf.
    pub(super) fn child(&self, entry: u32) -> Option<Child<'a>> {
        let number = number_of(entry);
        if is_group(entry) {
            return Some(Child::Group(number as u32, level_at(entry)));
        }
        let words = self.twigs.get(number).filter(|_| is_twig(entry))?;
        Some(Child::Twig(number as u32, words))
    }

    /// First address of `child`, if it has one.
    pub(super) fn key(&self, child: Child<'_>) -> Option<u128> {
        match child {
            Child::Group(group, _) => self.head(group).map(key_of),
            Child::Twig(_, words) => Some(twig::prefix_of(words).bits),
        }
    }

    /// The leaf of the addresses that come to `child` and belong elsewhere.
    pub(super) fn miss(&self, child: Child<'_>) -> u32 {
        match child {
            Child::Group(group, _) => self.head(group).map_or(0, |head| miss_of(head).load(Relaxed)),
            Child::Twig(_, words) => twig::miss_of(words),
        }
    }

    pub(super) fn entries(&self, group: u32) -> &'a [AtomicU32] {
        let first = group as usize * (self.head + GROUP) + self.head;
        self.groups.get(first..first + GROUP).unwrap_or_default()
    }

    pub(super) fn head(&self, group: u32) -> Option<&'a [AtomicU32; HEAD]> {
        let first = group as usize * (self.head + GROUP);
        self.groups.get(first..first + self.head)?.try_into().ok()
    }

    /// The entry of `node` that `bits` goes through.
    pub(super) fn slot(&self, node: Node, bits: u128) -> Option<&'a AtomicU32> {
        match node {
            Node::Root => self.root.get(root_index(bits)),
            Node::Group(group, level) => self.entries(group).get(group_index(bits, level)),
        }
    }

    /// The entries of `node` that `prefix`, which ends in it, covers.
    pub(super) fn range(&self, node: Node, prefix: Prefix) -> &'a [AtomicU32] {
        let (entries, first) = match node {
            Node::Root => (self.root, root_index(prefix.bits)),
            Node::Group(group, level) => (self.entries(group), group_index(prefix.bits, level)),
        };
        let count = 1usize << (ROOT_BITS + 8 * node.level()).saturating_sub(u32::from(prefix.len));
        entries.get(first..first + count).unwrap_or_default()
    }

    /// Gives `leaf` to all of `entries`, and all below them, that no prefix longer than `len` has.
    pub(super) fn paint(&self, entries: &[AtomicU32], level: u32, len: u8, leaf: u32) {
        for entry in entries {
            let old = entry.load(Relaxed);
            match self.child(old) {
                None if old & POINTER == 0 && depth(old) <= len && old != leaf => entry.store(leaf, Release),
                // Levels rise on the way down, so this ends even in a table that somebody scribbled on.
                Some(Child::Group(group, below)) if below > level => {
                    if let Some(miss) = self.head(group).map(miss_of)
                        && depth(miss.load(Relaxed)) <= len
                    {
                        miss.store(leaf, Release);
                    }
                    self.paint(self.entries(group), below, len, leaf);
                }
                Some(Child::Twig(_, words)) if depth(twig::miss_of(words)) <= len => {
                    twig::set_miss(words, leaf);
                }
                _ => {}
            }
        }
    }

    /// The one prefix that ends in `group`, which nothing leaves, its leaf, and the leaf of the addresses around it.
    pub(super) fn lonely(&self, group: u32, level: u32) -> Option<(Prefix, u32, u32)> {
        let head = self.head(group)?;
        let miss = miss_of(head).load(Relaxed);
        let mut entries = (0u128..).zip(self.entries(group).iter().map(|entry| entry.load(Relaxed)));
        // A prefix that ends here covers half of a group at most.
        let (first, leaf) = entries.find(|(_, leaf)| *leaf != miss)?;
        let len = depth(leaf);
        (leaf & POINTER == 0 && level_of(len) == level && len <= 128)
            .then(|| (Prefix::of(key_of(head) | first << group_shift(level), len), leaf, miss))
    }

    /// Makes `group`, which no reader knows, one of `level` around `bits` whose addresses all go to `leaf`.
    pub(super) fn lay_out(&self, group: u32, level: u32, bits: u128, leaf: u32) {
        for entry in self.entries(group) {
            entry.store(leaf, Relaxed);
        }
        if let Some(head) = self.head(group) {
            let key = Prefix::of(bits, (ROOT_BITS + 8 * (level - 1)) as u8).bits;
            for (word, shift) in head.iter().zip([96, 64, 32, 0]) {
                word.store((key >> shift) as u32, Relaxed);
            }
            miss_of(head).store(leaf, Relaxed);
        }
    }

    /// The level at which a prefix of level `target` must leave the way to `child`: the child's own if it goes through that
    /// group, less if it ends or parts in the gap above it.
    pub(super) fn parting(&self, child: Child<'_>, prefix: Prefix, target: u32) -> u32 {
        let below = child.level();
        let Some(key) = self.key(child) else { return below };
        let first_other = (key ^ prefix.bits).leading_zeros();
        (first_other.saturating_sub(ROOT_BITS - 8) / 8).min(target).min(below)
    }
}
