//! The trees of one family, and the search in them.
//!
//! A slot is a node or a leaf, in one word, so that a level costs one load. The packets of a burst go down a level together:
//! their loads overlap. A tree whose best record is behind what a packet has found already is not entered.

use zsync_packet::burst::BURST;

use super::key::{Key, Keys};
use super::record::Record;

/// A node: by which bits of which word, and where its children are. Or a leaf: which part of the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u64);

const NODE: u64 = 1 << 63;

/// Most records of a leaf: 28 bits.
pub(crate) const MAX_LEAF: usize = (1 << 28) - 1;

impl Slot {
    /// A leaf of no records.
    pub(crate) const EMPTY: Self = Self(0);

    /// Cuts by `bits` (at most 16) bits of `word` from bit `shift` on; `children` is the number of the first child's slot.
    pub(crate) fn node(word: usize, shift: u32, bits: u32, children: u32) -> Self {
        let mask = (1u64 << bits) - 1;
        Self(
            NODE | (word as u64 & 7) << 54
                | u64::from(shift & 63) << 48
                | (mask & 0xffff) << 32
                | u64::from(children),
        )
    }

    /// `count` numbers of records, from number `offset` of the lists on.
    pub(crate) fn leaf(offset: u32, count: usize) -> Self {
        Self((count.min(MAX_LEAF) as u64) << 32 | u64::from(offset))
    }

    #[inline(always)]
    fn is_node(self) -> bool {
        self.0 & NODE != 0
    }

    /// The child that a key takes.
    #[inline(always)]
    fn child(self, key: &Key) -> usize {
        let word = key[(self.0 >> 54 & 7) as usize];
        let index = word >> (self.0 >> 48 & 63) & (self.0 >> 32 & 0xffff);
        (self.0 as u32 as u64 + index) as usize
    }

    #[inline(always)]
    fn list(self) -> std::ops::Range<usize> {
        let offset = self.0 as u32 as usize;
        offset..offset + (self.0 >> 32) as usize
    }
}

/// A tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    pub(crate) root: Slot,
    /// The lowest number of its records.
    pub(crate) first: u32,
}

/// No record.
pub(crate) const NONE: u32 = u32::MAX;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Forest<const N: usize> {
    /// In the order of their rules.
    pub(crate) records: Vec<Record<N>>,
    /// The rule of each record.
    pub(crate) rules: Vec<u32>,
    pub(crate) slots: Vec<Slot>,
    /// Numbers of records: those of a leaf ascend.
    pub(crate) lists: Vec<u32>,
    /// By their lowest record.
    pub(crate) trees: Vec<Tree>,
    /// The first record that every packet meets, and is the last for it; it is in no tree.
    pub(crate) rest: Option<u32>,
}

impl<const N: usize> Forest<N> {
    /// For each of `packets`, the first record from number `from` on that its key meets, in `found` (by packet number).
    pub(crate) fn search(&self, keys: &Keys, packets: &[u8], from: &[u32; BURST], found: &mut [u32; BURST]) {
        let rest = self.rest.unwrap_or(NONE);
        for &packet in packets {
            if let Some(found) = found.get_mut(usize::from(packet)) {
                *found = rest;
            }
        }
        let mut way = [(0u8, Slot::EMPTY); BURST];
        for tree in &self.trees {
            let mut entered = 0;
            for &packet in packets {
                way[entered & (BURST - 1)] = (packet, tree.root);
                let better = found[usize::from(packet) & (BURST - 1)] > tree.first;
                entered += usize::from(better);
            }
            let way = way.get_mut(..entered).unwrap_or_default();
            self.descend(keys, way);
            for &(packet, leaf) in way.iter() {
                let packet = usize::from(packet) & (BURST - 1);
                found[packet] = self.scan(leaf, &keys.0[packet], from[packet], found[packet]);
            }
        }
    }

    /// Takes every packet from its slot to a leaf.
    #[inline(always)]
    fn descend(&self, keys: &Keys, way: &mut [(u8, Slot)]) {
        loop {
            let mut on = false;
            for (packet, slot) in way.iter_mut() {
                let key = &keys.0[usize::from(*packet) & (BURST - 1)];
                if slot.is_node() {
                    *slot = self.slots.get(slot.child(key)).copied().unwrap_or(Slot::EMPTY);
                    on |= slot.is_node();
                }
            }
            if !on {
                return;
            }
        }
    }

    /// The first record of a leaf from `from` on and before `best` that the key meets, else `best`.
    #[inline(always)]
    fn scan(&self, leaf: Slot, key: &Key, from: u32, best: u32) -> u32 {
        for &number in self.lists.get(leaf.list()).unwrap_or(&[]) {
            if number >= best {
                break;
            }
            if let Some(record) = self.records.get(number as usize)
                && record.meets(key)
                && number >= from
            {
                return number;
            }
        }
        best
    }

    /// The numbers of records, at most `limit` of them a tree, that may be met by the key; those that are not there are not met.
    pub(crate) fn candidates(&self, key: &Key, limit: usize) -> impl Iterator<Item = u32> {
        let key = *key;
        let in_trees = self.trees.iter().flat_map(move |tree| {
            let mut slot = tree.root;
            while slot.is_node() {
                slot = self.slots.get(slot.child(&key)).copied().unwrap_or(Slot::EMPTY);
            }
            self.lists.get(slot.list()).unwrap_or(&[]).iter().take(limit).copied()
        });
        in_trees.chain(self.rest)
    }

    /// The length of the longest leaf.
    pub(crate) fn longest(&self) -> usize {
        let roots = self.trees.iter().map(|tree| &tree.root);
        self.slots
            .iter()
            .chain(roots)
            .filter(|slot| !slot.is_node())
            .map(|slot| slot.list().len())
            .max()
            .unwrap_or(0)
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.records.len() * size_of::<Record<N>>()
            + self.rules.len() * 4
            + self.slots.len() * size_of::<Slot>()
            + self.lists.len() * 4
            + self.trees.len() * size_of::<Tree>()
    }
}
