//! A limit in any window of time, by counts of its parts. [`Window::WORDS`] words of state.
//!
//! The window is cut into seven parts; a word counts what passed in one of them, and names it. What passes now may be as
//! much as the limit leaves of the last seven whole parts and the current one: so no window of that length, wherever it
//! begins, ever has more than the limit. Who never sends more than the limit in 8/7 of the window always passes.
//!
//! Time does not go back by less than the window and [`SKEW`]: whose clock is behind that much counts in the last part that
//! anybody has come to. A clock that goes back further finds a fresh state.
//!
//! **Several writers** count first and look then (sequentially consistent), and take back what was too much, or what was
//! counted in a part that others have left behind meanwhile: two that come at once may both be refused, never both be let
//! in beyond the limit.

use super::{SKEW, Writers};
use std::array::from_fn;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    limit: u64,
    /// Nanoseconds.
    part: u64,
    overhead: u32,
    packets: bool,
}

/// Bits of a word that count; the others name the part.
const COUNT: u32 = 40;
const COUNTS: u64 = (1 << COUNT) - 1;
const NAMES: u64 = (1 << (64 - COUNT)) - 1;

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Bytes, of whole packets.
    Bytes(u64),
    /// Packets.
    Packets(u64),
}

impl Window {
    /// Words of its state: the parts of the window, and the current one.
    pub const WORDS: usize = 8;
    const PARTS: u64 = Self::WORDS as u64 - 1;

    /// At most `limit` in any `length` nanoseconds; `overhead` bytes more for each packet. None for a limit beyond 2⁴⁰ − 1,
    /// or a window below 10 ms or beyond an hour.
    #[must_use]
    pub fn new(limit: Limit, length: u64, overhead: u32) -> Option<Self> {
        let (limit, packets) = match limit {
            Limit::Bytes(bytes) => (bytes, false),
            Limit::Packets(packets) => (packets, true),
        };
        let fits = limit <= COUNTS && (10_000_000..=3_600_000_000_000).contains(&length);
        fits.then(|| Self { limit, part: length.div_ceil(Self::PARTS), overhead, packets })
    }

    /// What counts of `packets` packets that have `bytes` bytes together.
    #[inline]
    #[must_use]
    pub fn units(&self, packets: u64, bytes: u64) -> u64 {
        if self.packets { packets } else { bytes + packets * u64::from(self.overhead) }
    }

    /// Takes `units` at `now` (ns) if the window has room for them.
    #[inline]
    pub fn take(&self, state: &[AtomicU64; Self::WORDS], now: u64, units: u64, writers: Writers) -> bool {
        let (part, passed) = self.look(state, part(now, self.part));
        let Some(current) = state.get((part % Self::WORDS as u64) as usize) else { return false };
        if passed.saturating_add(units) > self.limit {
            return false;
        }
        let into = name(part);
        let counted = writers.update(current, |old| {
            let counts = if old >> COUNT == into { old & COUNTS } else { 0 };
            // Somebody is a lap ahead of what we saw.
            (!self.is_ahead(old, part)).then(|| into << COUNT | (counts + units).min(COUNTS))
        });
        if writers == Writers::One {
            return counted;
        }
        let (last, passed) = self.look(state, part);
        if counted && (last == part && passed <= self.limit) {
            return true;
        }
        // Unless the word has gone on to another part meanwhile: then the count has gone with it.
        writers.update(current, |old| {
            (counted && old >> COUNT == into).then(|| old - (old & COUNTS).min(units))
        });
        false
    }

    /// Whether no count of a state matters any more at `now`.
    #[inline]
    #[must_use]
    pub fn is_idle(&self, state: &[AtomicU64; Self::WORDS], now: u64) -> bool {
        state.iter().all(|word| self.is_past(word.load(Relaxed), now))
    }

    /// Whether a count says nothing any more at `now`: it may be made 0.
    #[inline]
    #[must_use]
    pub fn is_past(&self, word: u64, now: u64) -> bool {
        !self.counts(word, part(now, self.part))
    }

    /// Adds a second count of the same place to the first: that of the later part stays, with both if they are of one part.
    pub(super) fn fold(&self, second: u64, first: &AtomicU64, now: u64) {
        if self.is_past(second, now) {
            return;
        }
        Writers::Many.update(first, |old| {
            if self.is_past(old, now) {
                return Some(second);
            }
            if old >> COUNT != second >> COUNT {
                return None;
            }
            Some(second >> COUNT << COUNT | ((old & COUNTS) + (second & COUNTS)).min(COUNTS))
        });
    }

    /// The last part that anybody has come to, if clocks may differ so much, or else this one; and what passed in it and in
    /// those before it that count.
    #[inline]
    fn look(&self, state: &[AtomicU64; Self::WORDS], part: u64) -> (u64, u64) {
        let words: [u64; Self::WORDS] = from_fn(|slot| state.get(slot).map_or(0, |word| word.load(SeqCst)));
        let ahead = words.iter().filter(|&&word| self.is_ahead(word, part));
        let last =
            part + ahead.map(|word| (word >> COUNT).wrapping_sub(name(part)) & NAMES).max().unwrap_or(0);
        let counted = words.iter().filter(|&&word| self.counts(word, last));
        (last, counted.map(|word| word & COUNTS).sum())
    }

    /// Whether a word is of this part, one of the seven before it, or one that another worker's clock has reached.
    #[inline]
    fn counts(&self, word: u64, part: u64) -> bool {
        let age = name(part).wrapping_sub(word >> COUNT) & NAMES;
        word != 0 && (age <= Self::PARTS || self.is_ahead(word, part))
    }

    /// Whether a word is of a later part, by no more than clocks differ.
    #[inline]
    fn is_ahead(&self, word: u64, part: u64) -> bool {
        let ahead = (word >> COUNT).wrapping_sub(name(part)) & NAMES;
        word != 0 && ahead != 0 && ahead <= SKEW / self.part + Self::PARTS
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = if self.packets { "packets" } else { "bytes" };
        write!(f, "at most {} {units} in any {} ms", self.limit, self.part * Self::PARTS / 1_000_000)
    }
}

/// The number of the part of this length at `now`: not 0, whose name is that of fresh memory.
#[inline]
fn part(now: u64, length: u64) -> u64 {
    now / length + 1
}

#[inline]
fn name(part: u64) -> u64 {
    part & NAMES
}

#[cfg(test)]
mod tests;
