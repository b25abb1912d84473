//! From records to trees.
//!
//! A tree is grown from all records that no earlier tree has. Where the best cut does not tell some of them apart, these are
//! copied to every child if there is room, else kicked out, to be in the next tree. The last tree kicks nothing: what it cannot
//! part stays together in a leaf. A record behind one that all of a child's packets meet, and end at, is left out there.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::cut::{Cut, Region};
use super::forest::{Forest, Slot, Tree};
use super::key::PORTS;
use super::record::Record;

/// Leaves are not cut further from this many records on.
const LEAF: usize = 4;
/// Levels of a tree.
const DEPTH: usize = 24;
/// What a further tree costs, in comparisons: for what leaves the root, and for what leaves a node below it, which has already
/// been copied, and may be alone.
const TREE: f32 = 10.0;
/// See [`TREE`].
const LATE_TREE: f32 = 30.0;
/// As many records as no cut parts go to the next tree, which begins with another cut.
const CROWD: usize = 16;
/// Trees of a family.
const TREES: usize = 10;
/// Records that ask for least, against which all are held.
const GENERAL: usize = 32;
/// Copies that may be made of few records, in all.
const COPIES: usize = 1 << 15;
/// Copies that may be made of each of many.
const COPIES_EACH: usize = 8;

/// Grows the trees of `records`, which are in the order of their `rules`; `ends` says of a rule whether it is the last for who
/// meets it.
pub(crate) fn grow<const N: usize>(records: Vec<Record<N>>, rules: Vec<u32>, ends: &[bool]) -> Forest<N> {
    let ends: Vec<bool> =
        rules.iter().map(|rule| ends.get(*rule as usize).copied().unwrap_or(false)).collect();
    let any = Record::any();
    let last = records.iter().zip(&ends).position(|(record, ends)| *ends && *record == any);
    let mut left = seen(&records, &ends, last.unwrap_or(records.len()));
    let mut grower = Grower {
        records: &records,
        ends,
        slots: Vec::new(),
        lists: Vec::new(),
        kicked: Vec::new(),
        may_kick: true,
        scratch: Vec::new(),
    };
    let mut trees = Vec::new();
    let mut stuck = false;
    while !left.is_empty() {
        grower.may_kick = trees.len() + 1 < TREES && !stuck;
        let room = (left.len() * COPIES_EACH).max(COPIES);
        let root = grower.tree(&left, &Region::default(), room, 0);
        let mut kicked = std::mem::take(&mut grower.kicked);
        kicked.sort_unstable();
        kicked.dedup();
        stuck = kicked.len() == left.len();
        // The first record that is in the tree and in no later one.
        let first = left.iter().zip(&kicked).find(|(all, kicked)| all != kicked).map(|(all, _)| *all);
        if let Some(first) = first.or_else(|| left.get(kicked.len()).copied()) {
            trees.push(Tree { root, first });
        }
        left = kicked;
    }
    trees.sort_by_key(|tree| tree.first);
    let Grower { slots, lists, .. } = grower;
    Forest { records, rules, slots, lists, trees, rest: last.map(|last| last as u32) }
}

/// The numbers of the first `count` records, without those that a packet cannot come to: the same as an earlier one, or
/// covered by one of the few that ask for least.
fn seen<const N: usize>(records: &[Record<N>], ends: &[bool], count: usize) -> Vec<u32> {
    let ending = || (0..count).filter(|&number| ends.get(number).copied().unwrap_or(false));
    let mut first: HashMap<[u64; N], usize, BuildHasherDefault<Fold>> =
        HashMap::with_capacity_and_hasher(count, BuildHasherDefault::default());
    for number in ending() {
        if let Some(record) = records.get(number) {
            first.entry(record.0).or_insert(number);
        }
    }
    let mut general: Vec<(u32, usize)> =
        ending().filter_map(|number| Some((records.get(number)?.asked(), number))).collect();
    if general.len() > GENERAL {
        general.select_nth_unstable(GENERAL);
        general.truncate(GENERAL);
    }
    general.sort_unstable_by_key(|(_, number)| *number);
    let is_seen = |number: &u32| {
        let at = *number as usize;
        let Some(record) = records.get(at) else { return false };
        let same = first.get(&record.0).is_some_and(|first| *first < at);
        let mut before = general.iter().take_while(|(_, number)| *number < at);
        !same && !before.any(|(_, number)| records.get(*number).is_some_and(|other| other.covers(record)))
    };
    (0..count as u32).filter(is_seen).collect()
}

struct Grower<'r, const N: usize> {
    records: &'r [Record<N>],
    ends: Vec<bool>,
    slots: Vec<Slot>,
    lists: Vec<u32>,
    kicked: Vec<u32>,
    may_kick: bool,
    scratch: Vec<u32>,
}

impl<const N: usize> Grower<'_, N> {
    fn tree(&mut self, numbers: &[u32], region: &Region, room: usize, depth: usize) -> Slot {
        if numbers.len() <= LEAF || depth >= DEPTH {
            return self.leaf(numbers);
        }
        let kick = self.may_kick.then_some(if depth == 0 { TREE } else { LATE_TREE });
        let choice = region.choose(self.records, numbers, room, kick, &mut self.scratch);
        let Some(choice) = choice else {
            if self.may_kick && numbers.len() > CROWD {
                self.kicked.extend_from_slice(numbers);
                return Slot::EMPTY;
            }
            return self.leaf(numbers);
        };
        let cut = choice.cut;
        let Parts { starts, members } = self.part(numbers, region, cut, choice.kick);
        let size = 1usize << cut.bits;
        let base = self.slots.len();
        self.slots.resize(base + size, Slot::EMPTY);
        // Children with the same members are the same subtree; behind a cut by ports only if they are leaves, for what is
        // left out below depends on the range.
        let mut known: HashMap<&[u32], Slot, BuildHasherDefault<Fold>> = HashMap::default();
        for child in 0..size {
            let range = starts[child] as usize..starts[child + 1] as usize;
            let members = members.get(range).unwrap_or(&[]);
            if members.is_empty() {
                continue;
            }
            let shared = members.len() <= LEAF || cut.word != PORTS;
            let slot = match known.get(members) {
                Some(slot) if shared => *slot,
                _ => {
                    // Each child may copy in proportion to what it has.
                    let share = room as u64 * members.len() as u64 / u64::from(starts[size].max(1));
                    self.tree(members, &region.child(cut, child), share as usize, depth + 1)
                }
            };
            known.insert(members, slot);
            if let Some(place) = self.slots.get_mut(base + child) {
                *place = slot;
            }
        }
        Slot::node(cut.word, cut.shift, cut.bits, base as u32)
    }

    fn leaf(&mut self, numbers: &[u32]) -> Slot {
        let offset = self.lists.len() as u32;
        self.lists.extend_from_slice(numbers);
        Slot::leaf(offset, numbers.len())
    }

    /// The members of each child, in order.
    fn part(&mut self, numbers: &[u32], region: &Region, cut: Cut, kick: bool) -> Parts {
        let size = 1usize << cut.bits;
        let mut starts = vec![0u32; size + 2];
        // From where on a child is done: the place of the first record that all its packets meet.
        let mut done = vec![false; size];
        let mut pairs: Vec<(u32, u32)> = Vec::with_capacity(numbers.len());
        for &number in numbers {
            let Some(record) = self.records.get(number as usize) else { continue };
            let children = region.children(record, cut);
            if kick && children.count() > 1 && children.count() as usize * 4 > size {
                self.kicked.push(number);
                continue;
            }
            let ends = self.ends.get(number as usize).copied().unwrap_or(false);
            // Whether it asks for nothing but what is known here and the bits of the cut; then each child decides.
            let mut wider = *region;
            wider.mask[cut.word] |= ((1u64 << cut.bits) - 1) << cut.shift;
            let may_cover = ends && (cut.word == PORTS || wider.is_covered(record));
            children.each(|child| {
                if done[child] {
                    return;
                }
                pairs.push((child as u32, number));
                starts[child + 1] += 1;
                if may_cover && region.child(cut, child).is_covered(record) {
                    done[child] = true;
                }
            });
        }
        for child in 0..size {
            starts[child + 1] += starts[child];
        }
        let mut next: Vec<u32> = starts[..size].to_vec();
        let mut members = vec![0u32; pairs.len()];
        for (child, number) in pairs {
            let at = &mut next[child as usize];
            members[*at as usize] = number;
            *at += 1;
        }
        Parts { starts, members }
    }
}

struct Parts {
    /// Where the members of each child begin; those of the last end where the one behind it begins.
    starts: Vec<u32>,
    members: Vec<u32>,
}

/// A quick hash of words, for maps that live while a tree grows. Who writes rules that collide only makes his own wait.
#[derive(Default)]
struct Fold(u64);

impl Fold {
    fn word(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x2545_f491_4f6c_dd1d) * 0x9e37_79b9_7f4a_7c15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| self.word(u64::from(*byte)));
    }

    fn write_u32(&mut self, word: u32) {
        self.word(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.word(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.word(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
