//! One family's prefixes in the shared tables: painting, making and dissolving groups and twigs.
//!
//! Owns: which groups and twigs are taken, and for each group how many prefixes end in it and how many pointers leave it.
//! Refuses: a prefix for which there are too few free groups ([`Trie::afford`]). Keeps true, after every call:
//! * an entry that is no pointer has the route of the longest prefix that covers all its addresses, and that prefix's length;
//! * a group's head has its first address, and the route of the longest prefix that covers the entry which leads to it;
//!   a twig has the latter too, beside its own prefix, and no other prefix ends below that entry;
//! * in each group there are at least two of what counts: prefixes that end in it, and pointers that leave it. So there are
//!   fewer groups than prefixes. Where twigs have run out, groups of one prefix stand in for them, and the bound is double.
//!
//! At every store in between, each address has its route of before or of after.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, Release};

use super::arrays::{Arrays, Child, Node};
use super::entry::{LEVELS, level_of, twig_pointer};
use super::error::{Capacity, FibError};
use super::rib::Prefix;
use super::slots::{Slots, Usage};
use super::twig::{self, Words};

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// Prefixes that end in the group.
    own: u32,
    /// Pointers that leave it.
    children: u32,
}

/// The groups and twigs of one family.
#[derive(Debug)]
pub(super) struct Trie {
    capacity: Capacity,
    slots: Slots,
    twigs: Slots,
    tallies: Vec<Tally>,
}

impl Trie {
    pub(super) fn new(capacity: Capacity, groups: u32, twigs: u32) -> Self {
        Self { capacity, slots: Slots::new(groups), twigs: Slots::new(twigs), tallies: Vec::new() }
    }

    pub(super) fn usage(&self) -> Usage {
        self.slots.usage()
    }

    pub(super) fn reclaim(&mut self, passed: u64) {
        self.slots.reclaim(passed, |_| {});
        self.twigs.reclaim(passed, |_| {});
    }

    /// Whether a new `prefix` finds the groups that it needs.
    pub(super) fn afford(&self, arrays: Arrays<'_>, prefix: Prefix) -> Result<(), FibError> {
        let (groups, alone) = need(arrays, prefix);
        let stands_in = u32::from(alone && self.twigs.available() == 0);
        if self.slots.available() >= groups + stands_in {
            return Ok(());
        }
        let Usage { limit, retired, .. } = self.slots.usage();
        Err(FibError::Full { capacity: self.capacity, limit, retired })
    }

    /// Paints `prefix` with `leaf`. `fresh`: it was not there before, and [`afford`](Self::afford) said yes. What that
    /// unlinks is retired with `stamp`.
    pub(super) fn insert(&mut self, arrays: Arrays<'_>, prefix: Prefix, leaf: u32, fresh: bool, stamp: u64) {
        if prefix.len == 0 {
            arrays.default.inspect(|word| word.store(leaf, Release));
            return;
        }
        let target = level_of(prefix.len);
        let mut node = Node::Root;
        while node.level() < target {
            let Some(slot) = arrays.slot(node, prefix.bits) else { return };
            let entry = slot.load(Relaxed);
            let Some(child) = arrays.child(entry) else {
                if self.plant(arrays, (slot, node), prefix, leaf, entry) {
                    return;
                }
                // No twig is left: a group of its own.
                let Some(made) = self.make(arrays, target, prefix.bits, entry) else { return };
                arrays.paint(arrays.range(made, prefix), target, prefix.len, leaf);
                self.count(node, |tally| tally.children += 1);
                node = made.hang(slot, node);
                continue;
            };
            let level = arrays.parting(child, prefix, target);
            if level <= node.level() {
                return; // Only in a table that somebody scribbled on.
            }
            node = match child {
                Child::Group(group, below) if level == below => Node::Group(group, below),
                Child::Twig(_, words) if twig::prefix_of(words) == prefix => {
                    twig::set_leaf(words, leaf);
                    return;
                }
                _ => {
                    // `afford` saw to it that there is one.
                    let miss = arrays.miss(child);
                    let Some(made) = self.make(arrays, level, prefix.bits, miss) else { return };
                    match child {
                        Child::Twig(number, words) if level == child.level() => {
                            self.spread(arrays, made, words);
                            self.twigs.retire(number, stamp);
                        }
                        _ => self.adopt(arrays, made, child),
                    }
                    made.hang(slot, node)
                }
            };
        }
        arrays.paint(arrays.range(node, prefix), target, prefix.len, leaf);
        if fresh {
            self.count(node, |tally| tally.own += 1);
        }
    }

    /// Takes a group and lays it out; no reader knows it yet.
    fn make(&mut self, arrays: Arrays<'_>, level: u32, bits: u128, leaf: u32) -> Option<Node> {
        let group = self.slots.take()?;
        arrays.lay_out(group, level, bits, leaf);
        Some(Node::Group(group, level))
    }

    /// Hangs a twig of `prefix` in the place of the leaf `miss`; false if there is none left.
    fn plant(
        &mut self,
        arrays: Arrays<'_>,
        (slot, node): (&AtomicU32, Node),
        prefix: Prefix,
        leaf: u32,
        miss: u32,
    ) -> bool {
        let Some(number) = self.twigs.take() else { return false };
        let Some(words) = arrays.twigs.get(number as usize) else { return false };
        twig::write(words, prefix, leaf, miss);
        self.count(node, |tally| tally.children += 1);
        slot.store(twig_pointer(number, prefix.len), Release);
        true
    }

    /// Paints the prefix of a twig in `made`, the group that takes its place.
    fn spread(&mut self, arrays: Arrays<'_>, made: Node, words: &Words) {
        let prefix = twig::prefix_of(words);
        arrays.paint(arrays.range(made, prefix), made.level(), prefix.len, twig::leaf_of(words));
        self.count(made, |tally| tally.own += 1);
    }

    /// Hangs `child` under `parent`, which no reader knows yet.
    fn adopt(&mut self, arrays: Arrays<'_>, parent: Node, child: Child<'_>) {
        if let Some(slot) = arrays.key(child).and_then(|key| arrays.slot(parent, key)) {
            slot.store(child.pointer(parent.level()), Relaxed);
            self.count(parent, |tally| tally.children += 1);
        }
    }

    /// Takes `prefix` away: what it painted gets `cover`, the leaf of the next shorter prefix. Groups and twigs that nobody
    /// needs any more are unlinked, and retired with `stamp`.
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
            match arrays.child(slot.load(Relaxed)) {
                Some(Child::Group(group, below)) if below > node.level() => {
                    path.push((slot, node, group, below));
                    node = Node::Group(group, below);
                }
                Some(Child::Twig(number, words)) if twig::prefix_of(words) == prefix => {
                    slot.store(cover, Release);
                    self.twigs.retire(number, stamp);
                    self.count(node, |tally| tally.children = tally.children.saturating_sub(1));
                    return self.prune(arrays, path, stamp);
                }
                _ => return,
            }
        }
        arrays.paint(arrays.range(node, prefix), target, prefix.len, cover);
        self.count(node, |tally| tally.own = tally.own.saturating_sub(1));
        self.prune(arrays, path, stamp);
    }

    /// Dissolves the groups at the end of `path` in which less than two things are left: each with the entry that leads to
    /// it, that entry's node, and its level.
    fn prune(&mut self, arrays: Arrays<'_>, mut path: Vec<(&AtomicU32, Node, u32, u32)>, stamp: u64) {
        while let Some((slot, parent, group, level)) = path.pop() {
            let node = Node::Group(group, level);
            let tally = self.count(node, |_| {});
            match (tally.own, tally.children) {
                (0, 0) => {
                    // All leaves are alike here: no prefix ends in this group, so each covers all of it or none.
                    let leaf = arrays.entries(group).first().map_or(0, |entry| entry.load(Relaxed));
                    slot.store(leaf, Release);
                    self.count(parent, |tally| tally.children = tally.children.saturating_sub(1));
                }
                (0, 1) => {
                    let mut entries = arrays.entries(group).iter().map(|entry| entry.load(Relaxed));
                    let Some(only) = entries.find_map(|entry| arrays.child(entry)) else { return };
                    slot.store(only.pointer(parent.level()), Release);
                }
                (1, 0) => {
                    let Some((prefix, leaf, miss)) = arrays.lonely(group, level) else { return };
                    let Some(number) = self.twigs.take() else { return };
                    let Some(words) = arrays.twigs.get(number as usize) else { return };
                    twig::write(words, prefix, leaf, miss);
                    slot.store(twig_pointer(number, prefix.len), Release);
                }
                _ => return,
            }
            self.count(node, |tally| *tally = Tally::default());
            self.slots.retire(group, stamp);
            if tally.own + tally.children > 0 {
                return;
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

/// How many groups a new `prefix` takes, none or one to part or end in, and whether it will be alone below an entry.
fn need(arrays: Arrays<'_>, prefix: Prefix) -> (u32, bool) {
    let target = level_of(prefix.len);
    let mut node = Node::Root;
    while node.level() < target {
        let Some(slot) = arrays.slot(node, prefix.bits) else { return (0, false) };
        let Some(child) = arrays.child(slot.load(Relaxed)) else { return (0, true) };
        let level = arrays.parting(child, prefix, target);
        match child {
            Child::Group(group, below) if level == below && below > node.level() => {
                node = Node::Group(group, below);
            }
            Child::Group(_, below) if level == below => return (0, false),
            _ => return (1, level < target),
        }
    }
    (0, false)
}
