//! Which places of a table are taken.
//!
//! Owns: the numbers of a table's places ([`Slots`]) and runs of places ([`Spans`]). Refuses: more than there are. Keeps
//! true: a retired place is given out again only after readers have passed the stamp at which it was retired.

use std::collections::{BTreeMap, VecDeque};

/// How full a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Places in use.
    pub used: u32,
    /// Places that wait for readers to pass.
    pub retired: u32,
    /// Places in all.
    pub limit: u32,
}

/// The places `0..limit` of one table.
#[derive(Debug)]
pub(super) struct Slots {
    limit: u32,
    /// Places from here on were never used; their memory may not exist yet.
    fresh: u32,
    free: Vec<u32>,
    limbo: VecDeque<(u64, u32)>,
}

impl Slots {
    pub(super) fn new(limit: u32) -> Self {
        Self { limit, fresh: 0, free: Vec::new(), limbo: VecDeque::new() }
    }

    pub(super) fn available(&self) -> u32 {
        self.limit - self.fresh + self.free.len() as u32
    }

    pub(super) fn usage(&self) -> Usage {
        let retired = self.limbo.len() as u32;
        Usage { used: self.limit - self.available() - retired, retired, limit: self.limit }
    }

    /// A free place; used ones first, as their memory exists.
    pub(super) fn take(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let index = self.fresh;
            (index < self.limit).then(|| {
                self.fresh += 1;
                index
            })
        })
    }

    /// Gives `index` back, of which readers of `stamp` may still know. Stamps never fall.
    pub(super) fn retire(&mut self, index: u32, stamp: u64) {
        self.limbo.push_back((stamp, index));
    }

    /// Frees what was retired before `passed`, and tells each.
    pub(super) fn reclaim(&mut self, passed: u64, mut freed: impl FnMut(u32)) {
        while let Some((stamp, index)) = self.limbo.front().copied().filter(|(stamp, _)| *stamp < passed) {
            debug_assert!(stamp < passed);
            self.limbo.pop_front();
            self.free.push(index);
            freed(index);
        }
    }
}

/// Free runs of the places `0..limit`: start to length, never two that touch.
#[derive(Debug)]
pub(super) struct Spans(BTreeMap<u32, u32>);

impl Spans {
    pub(super) fn new(limit: u32) -> Self {
        Self(BTreeMap::from([(0, limit)]))
    }

    /// The start of `count` places in a row; the first that fit.
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        let (start, len) = self.0.iter().map(|(start, len)| (*start, *len)).find(|(_, len)| *len >= count)?;
        self.0.remove(&start);
        if len > count {
            self.0.insert(start + count, len - count);
        }
        Some(start)
    }

    /// Gives back what [`take`](Self::take) gave.
    pub(super) fn give(&mut self, start: u32, count: u32) {
        let (mut start, mut len) = (start, count);
        if let Some(next) = self.0.remove(&(start + len)) {
            len += next;
        }
        if let Some((before, held)) = self.0.range(..start).next_back().map(|(at, held)| (*at, *held)) {
            debug_assert!(before + held <= start, "given back twice");
            if before + held == start {
                (start, len) = (before, held + len);
            }
        }
        self.0.insert(start, len);
    }

    pub(super) fn available(&self) -> u32 {
        self.0.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_returns_only_after_its_stamp_has_passed() {
        let mut slots = Slots::new(2);
        let (a, b) = (slots.take().unwrap(), slots.take().unwrap());
        assert_ne!(a, b);
        assert_eq!(slots.take(), None);
        slots.retire(a, 5);
        slots.retire(b, 6);
        assert_eq!(slots.usage(), Usage { used: 0, retired: 2, limit: 2 });
        slots.reclaim(5, |_| panic!("a reader that passed 5 may have begun before the retirement"));
        assert_eq!(slots.take(), None);
        slots.reclaim(6, |index| assert_eq!(index, a));
        assert_eq!((slots.take(), slots.take()), (Some(a), None));
    }

    #[test]
    fn spans_never_overlap_and_grow_together_again() {
        let mut spans = Spans::new(100);
        let mut held: Vec<(u32, u32)> = Vec::new();
        let mut seed = 1u32;
        for _ in 0..5000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if seed & 0x8000 != 0 && !held.is_empty() {
                let (start, count) = held.swap_remove(seed as usize % held.len());
                spans.give(start, count);
            } else if let Some(start) = spans.take(1 + (seed >> 20) % 20) {
                held.push((start, 1 + (seed >> 20) % 20));
            }
            let mut places: Vec<u32> = held.iter().flat_map(|(start, count)| *start..start + count).collect();
            let total = places.len();
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), total);
            assert_eq!(spans.available() + total as u32, 100);
        }
        held.into_iter().for_each(|(start, count)| spans.give(start, count));
        assert_eq!(spans.take(100), Some(0));
    }
}
