//! Meters: how much may pass, and when.
//!
//! Pure: time is a parameter, in nanoseconds of a monotonic clock; a meter is a few plain numbers, and its state a few
//! words of shared memory that it is handed at each call. So a state outlives the process and the configuration, and one
//! may be shared by all workers.
//!
//! Keeps true, for every meter, whatever the order in which workers come:
//!
//! * **The rate is not exceeded**: what passes in any interval is at most the burst and what the rate brings meanwhile.
//! * **Nobody starves**: who keeps to rate and burst passes. Times are rounded up to 2⁻¹⁶ ns for each decision (nothing at
//!   most round rates), so of 400 Gbit/s in 64-byte packets, one at a time, 12 millionths are lost at most.
//! * **A clock that stands still, jumps ahead or goes back** does no more than that: standing time brings nothing, a jump
//!   ahead fills a burst at most, and after a jump back (by more than [`SKEW`]) the state is an empty bucket.
//! * **All zero is full**, so fresh memory needs no set-up, and a state that is idle is as good as one that is fresh.
//!
//! A state that one worker writes is changed by loads and stores, one that several write by compare-and-swap: see
//! [`Writers`].

#![forbid(unsafe_code)]

pub mod adaptive;
pub mod any;
pub mod bucket;
pub mod keyed;
pub mod pace;
pub mod subject;
pub mod tcm;
pub mod window;

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// How far apart the clocks of two workers may be, in nanoseconds: each reads it once a pass, and may be preempted in
/// between. What lies further ahead than a meter allows plus this is taken for a clock that went back.
pub const SKEW: u64 = 1_000_000_000;

/// What a meter says of a packet (RFC 2697 §1, RFC 2698 §1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Colour {
    /// Within the committed rate.
    #[default]
    Green,
    /// Beyond it, within what is tolerated.
    Yellow,
    /// Beyond that.
    Red,
}

/// Who writes a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// One worker alone.
    One,
    /// Several at once.
    Many,
}

impl Writers {
    /// For so many workers.
    #[must_use]
    pub fn of(workers: usize) -> Self {
        if workers > 1 { Self::Many } else { Self::One }
    }

    /// Puts what `change` makes of the word in its place, unless it makes nothing. True when it was changed.
    #[inline]
    pub(crate) fn update(self, word: &AtomicU64, mut change: impl FnMut(u64) -> Option<u64>) -> bool {
        match self {
            Self::One => match change(word.load(Relaxed)) {
                Some(new) => {
                    word.store(new, Relaxed);
                    true
                }
                None => false,
            },
            // Two words of one state are read and written in an order that matters: see the meters that have two.
            Self::Many => word.try_update(SeqCst, SeqCst, change).is_ok(),
        }
    }
}

/// A point in time, in 2⁻¹⁶ ns; wraps after 78 hours. Compared by differences, of which half is ahead.
#[inline]
pub(crate) fn point(now: u64) -> u64 {
    now << 16
}

/// How far `word`, a point in time, is ahead of `now`, a point too: 0 when it is past, or the word was never written.
#[inline]
pub(crate) fn ahead(word: u64, now: u64) -> u64 {
    let difference = word.wrapping_sub(now);
    if word == 0 || difference > i64::MAX as u64 { 0 } else { difference }
}

/// The word for the point `span` after `now`: not 0, which means "never".
#[inline]
pub(crate) fn word(now: u64, span: u64) -> u64 {
    now.wrapping_add(span).max(1)
}

/// Whether a word that is a point in time says nothing any more at `now`, a point: it was never written, or is past.
#[inline]
pub(crate) fn is_past(word: u64, now: u64) -> bool {
    ahead(word, now) == 0
}

/// Ends the state of a point in time that lies further ahead than any decision can have put it: the clock went back.
/// What `most` allows is used up then, and comes back with time.
#[cold]
pub(crate) fn heal(word: &AtomicU64, now: u64, most: u64) {
    let old = word.load(Relaxed);
    if ahead(old, now) > most.saturating_add(point(SKEW)) {
        // Whoever came first has done it.
        let _ = word.compare_exchange(old, self::word(now, most), Relaxed, Relaxed);
    }
}
