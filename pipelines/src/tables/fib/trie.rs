//! One family's prefixes in the shared tables: painting, making and dissolving groups.
//!
//! Owns: which groups are taken, and for each how many prefixes end in it and how many pointers leave it. Refuses: a prefix
//! for which there are too few free groups ([`Trie::afford`]). Keeps true, after every call:
//! * an entry that is no pointer has the route of the longest prefix that covers all its addresses, and that prefix's length;
//! * a group's head has its first address, and the route of the longest prefix that covers the entry which leads to it;
//! * in each group a prefix ends, or at least two pointers leave it: so there are fewer than two groups a prefix.
//!
//! At every store in between, each address has its route of before or of after.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, Release};

use super::entry::{
    GROUP, HEAD, LEVELS, POINTER, ROOT_BITS, depth, group_index, group_of, key_of, level_of, miss_of,
    pointer, root_index,
};
use super::error::{Capacity, FibError};
use super::rib::Prefix;
use super::slots::{Slots, Usage};

/// One family's tables in the region.
#[derive(Clone, Copy)]
pub(super) struct Arrays<'a> {
    pub(super) default: Option<&'a AtomicU32>,
    pub(super) root: &'a [AtomicU32],
    pub(super) groups: &'a [AtomicU32],
    /// Words ahead of a group's entries: [`HEAD`], or none for IPv4, where there is one level and so no gap.
    pub(super) head: usize,
}

/// A place in the trie: the root, or a group and its level.
#[derive(Clone, Copy)]
enum Node {
    Root,
    Group(u32, u32),
}

impl Node {
    fn level(self) -> u32 {
        match self {
            Self::Root => 0,
            Self::Group(_, level) => level,
        }
    }
}

impl<'a> Arrays<'a> {
    fn entries(&self, group: u32) -> &'a [AtomicU32] {
        let first = group as usize * (self.head + GROUP) + self.head;
        self.groups.get(first..first + GROUP).unwrap_or_default()
    }

    fn head(&self, group: u32) -> Option<&'a [AtomicU32; HEAD]> {
        let first = group as usize * (self.head + GROUP);
        self.groups.get(first..first + self.head)?.try_into().ok()
    }

    /// The entry of `node` that `bits` goes through.
    fn slot(&self, node: Node, bits: u128) -> Option<&'a AtomicU32> {
        match node {
            Node::Root => self.root.get(root_index(bits)),
            Node::Group(group, level) => self.entries(group).get(group_index(bits, level)),
        }
    }

    /// The entries of `node` that `prefix`, which ends in it, covers.
    fn range(&self, node: Node, prefix: Prefix) -> &'a [AtomicU32] {
        let (entries, first) = match node {
            Node::Root => (self.root, root_index(prefix.bits)),
            Node::Group(group, level) => (self.entries(group), group_index(prefix.bits, level)),
        };
        let count = 1usize << (ROOT_BITS + 8 * node.level()).saturating_sub(u32::from(prefix.len));
        entries.get(first..first + count).unwrap_or_default()
    }

    /// Gives `leaf` to all of `entries`, and all below them, that no prefix longer than `len` has.
    fn paint(&self, entries: &[AtomicU32], level: u32, len: u8, leaf: u32) {
        for entry in entries {
            let old = entry.load(Relaxed);
            match group_of(old) {
                None if depth(old) <= len && old != leaf => entry.store(leaf, Release),
                // Levels rise on the way down, so this ends even in a table that somebody scribbled on.
                Some((group, below)) if below > level => {
                    if let Some(miss) = self.head(group as u32).map(miss_of)
                        && depth(miss.load(Relaxed)) <= len
                    {
                        miss.store(leaf, Release);
                    }
                    self.paint(self.entries(group as u32), below, len, leaf);
                }
                _ => {}
            }
        }
    }

    /// Makes `group`, which no reader knows, one of `level` around `bits` whose addresses all go to `leaf`.
    fn lay_out(&self, group: u32, level: u32, bits: u128, leaf: u32) {
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

    /// The level at which a prefix of level `target` must leave the way to `group` of level `below`: `below` if it goes
    /// through that group, less if it ends or parts in the gap above it.
    fn parting(&self, group: u32, below: u32, prefix: Prefix, target: u32) -> u32 {
        let Some(head) = self.head(group) else { return below };
        let first_other = (key_of(head) ^ prefix.bits).leading_zeros();
        (first_other.saturating_sub(ROOT_BITS - 8) / 8).min(target).min(below)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// Prefixes that end in the group.
    own: u32,
    /// Pointers that leave it.
    children: u32,
}

/// The groups of one family.
#[derive(Debug)]
pub(super) struct Trie {
    capacity: Capacity,
    slots: Slots,
    tallies: Vec<Tally>,
}

impl Trie {
    pub(super) fn new(capacity: Capacity, limit: u32) -> Self {
        Self { capacity, slots: Slots::new(limit), tallies: Vec::new() }
    }

    pub(super) fn usage(&self) -> Usage {
        self.slots.usage()
    }

    pub(super) fn reclaim(&mut self, passed: u64) {
        self.slots.reclaim(passed, |_| {});
    }

    /// Whether a new `prefix` finds the groups that it needs.
    pub(super) fn afford(&self, arrays: Arrays<'_>, prefix: Prefix) -> Result<(), FibError> {
        if self.slots.available() >= need(arrays, prefix) {
            return Ok(());
        }
        let Usage { limit, retired, .. } = self.slots.usage();
        Err(FibError::Full { capacity: self.capacity, limit, retired })
    }

    /// Paints `prefix` with `leaf`. `fresh`: it was not there before, and [`afford`](Self::afford) said yes.
    pub(super) fn insert(&mut self, arrays: Arrays<'_>, prefix: Prefix, leaf: u32, fresh: bool) {
        if prefix.len == 0 {
            arrays.default.inspect(|word| word.store(leaf, Release));
            return;
        }
        let target = level_of(prefix.len);
        let mut node = Node::Root;
        while node.level() < target {
            let Some(slot) = arrays.slot(node, prefix.bits) else { return };
            let entry = slot.load(Relaxed);
            let (level, old) = match group_of(entry) {
                None => (target, entry),
                Some((group, below)) => {
                    let group = group as u32;
                    let level = arrays.parting(group, below, prefix, target);
                    if level <= node.level() {
                        return; // Only in a table that somebody scribbled on.
                    }
                    if level == below {
                        node = Node::Group(group, below);
                        continue;
                    }
                    (level, arrays.head(group).map_or(0, |head| miss_of(head).load(Relaxed)))
                }
            };
            // `afford` saw to it that there is one.
            let Some(group) = self.slots.take() else { return };
            let made = Node::Group(group, level);
            arrays.lay_out(group, level, prefix.bits, old);
            if let Some((below, _)) = group_of(entry) {
                self.adopt(arrays, made, below as u32, entry);
            } else {
                arrays.paint(arrays.range(made, prefix), level, prefix.len, leaf);
                self.count(node, |tally| tally.children += 1);
            }
            slot.store(pointer(group, level), Release);
            node = made;
        }
        arrays.paint(arrays.range(node, prefix), target, prefix.len, leaf);
        if fresh {
            self.count(node, |tally| tally.own += 1);
        }
    }

    /// Hangs the group `child`, to which `entry` points, under `parent`, which no reader knows yet.
    fn adopt(&mut self, arrays: Arrays<'_>, parent: Node, child: u32, entry: u32) {
        if let Some(slot) = arrays.head(child).and_then(|head| arrays.slot(parent, key_of(head))) {
            slot.store(entry, Relaxed);
            self.count(parent, |tally| tally.children += 1);
        }
    }

    /// Takes `prefix` away: what it painted gets `cover`, the leaf of the next shorter prefix. Groups that nobody needs any
    /// more are unlinked, and retired with `stamp`.
    pub(super) fn remove(&mut self, arrays: Arrays<'_>, prefix: Prefix, cover: u32, stamp: u64) {
        if prefix.len == 0 {
            arrays.default.inspect(|word| word.store(0, Release));
            return;
        }
        let target = level_of(prefix.len);
        let mut path = Vec::with_capacity(LEVELS as usize);
        let mut node = Node::Root;
        while node.level() < target {
            let Some(slot) = arrays.slot(node, prefix.bits) else { return };
            let Some((group, below)) = group_of(slot.load(Relaxed)) else { return };
            if below <= node.level() {
                return;
            }
            node = Node::Group(group as u32, below);
            path.push((slot, node, group as u32));
        }
        arrays.paint(arrays.range(node, prefix), target, prefix.len, cover);
        self.count(node, |tally| tally.own = tally.own.saturating_sub(1));

        while let Some((slot, node, group)) = path.pop() {
            let tally = self.count(node, |_| {});
            if tally.own > 0 || tally.children > 1 {
                break;
            }
            let mut entries = arrays.entries(group).iter().map(|entry| entry.load(Relaxed));
            // All leaves are alike here: no prefix ends in this group, so each covers all of it or none.
            let leaf = arrays.entries(group).first().map_or(0, |entry| entry.load(Relaxed));
            let only = entries.find(|entry| entry & POINTER != 0);
            slot.store(only.unwrap_or(leaf), Release);
            self.count(node, |tally| *tally = Tally::default());
            self.slots.retire(group, stamp);
            if only.is_some() {
                break;
            }
            if let Some((_, parent, _)) = path.last() {
                self.count(*parent, |tally| tally.children = tally.children.saturating_sub(1));
            }
        }
    }

    /// Changes the tally of `node`, and tells it. The root keeps none.
    fn count(&mut self, node: Node, change: impl FnOnce(&mut Tally)) -> Tally {
        let Node::Group(group, _) = node else { return Tally::default() };
        let group = group as usize;
        if group >= self.tallies.len() {
            if group >= self.slots.usage().limit as usize {
                return Tally::default();
            }
            self.tallies.resize(group + 1, Tally::default());
        }
        self.tallies.get_mut(group).map_or(Tally::default(), |tally| {
            change(tally);
            *tally
        })
    }
}

/// How many groups a new `prefix` takes: none, its own, or one more where it parts from what is there.
fn need(arrays: Arrays<'_>, prefix: Prefix) -> u32 {
    let target = level_of(prefix.len);
    let mut node = Node::Root;
    while node.level() < target {
        let Some(slot) = arrays.slot(node, prefix.bits) else { return 0 };
        let Some((group, below)) = group_of(slot.load(Relaxed)) else { return 1 };
        let level = arrays.parting(group as u32, below, prefix, target);
        if level != below {
            return if level == target { 1 } else { 2 };
        }
        if below <= node.level() {
            return 0;
        }
        node = Node::Group(group as u32, below);
    }
    0
}
