//! One rate and one burst: token bucket, leaky bucket, and when a shaped packet leaves. One word of state.
//!
//! The word is the point in time at which the bucket will be full again (empty, for the leaky one, which is the same seen
//! from below): the "theoretical arrival time" of the GCRA (ITU-T I.371, Annex A). A word that is past is a full bucket, so
//! idle states need not be touched, and one compare-and-swap decides for any number of workers.

use super::pace::{LONGEST, Pace};
use super::{Writers, ahead, heal, point, word};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// When a packet conforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// All of it fits in the burst: what passes in a time t is at most burst + rate · t. A packet longer than the burst
    /// never passes.
    Token,
    /// The bucket is not over its brim before it comes, whatever its size: at most burst + rate · t and one packet more.
    /// With a burst of 0, packets pass one by one, each after the time that the last one took.
    Leaky,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    pace: Pace,
    burst: u64,
    rule: Rule,
}

impl Bucket {
    /// Words of its state.
    pub const WORDS: usize = 1;

    /// A bucket that fills at `pace` and holds `burst` bytes, or packets. None when that much takes more than
    /// [`LONGEST`] to come.
    #[must_use]
    pub fn new(pace: Pace, burst: u64, rule: Rule) -> Option<Self> {
        let burst = pace.burst(burst);
        (burst < LONGEST).then_some(Self { pace, burst, rule })
    }

    /// What it fills at.
    #[must_use]
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// The bucket that gives what this one would have given `ns` nanoseconds ago: its burst is so much shorter. None when it
    /// is not that long.
    #[must_use]
    pub fn earlier(self, ns: u64) -> Option<Self> {
        Some(Self { burst: self.burst.checked_sub(point(ns))?, ..self })
    }

    /// Takes `units` at `now` (ns) if they conform.
    #[inline]
    pub fn take(&self, state: &AtomicU64, now: u64, units: u64, writers: Writers) -> bool {
        let taken = self.take_by(self.rule, state, now, units, writers);
        if !taken {
            self.heal(state, now);
        }
        taken
    }

    /// Takes all `units` of several packets if each of them conforms, one after the other. False also when that is not
    /// certain: then they are to be taken one by one. What others wait for is left as it is.
    #[inline]
    pub fn take_all(&self, state: &AtomicU64, now: u64, units: u64, writers: Writers) -> bool {
        self.take_by(Rule::Token, state, now, units, writers)
    }

    #[inline]
    fn take_by(&self, rule: Rule, state: &AtomicU64, now: u64, units: u64, writers: Writers) -> bool {
        let (now, span) = (point(now), self.pace.span(units));
        writers.update(state, |old| {
            let ahead = ahead(old, now);
            let brim = match rule {
                Rule::Token => ahead + span,
                Rule::Leaky => ahead,
            };
            (brim <= self.burst).then(|| word(now, ahead + span))
        })
    }

    #[cold]
    fn heal(&self, state: &AtomicU64, now: u64) {
        let now = point(now);
        let most = match self.rule {
            Rule::Token => self.burst,
            // The longest packet that there is may be on top.
            Rule::Leaky => self.burst + self.pace.span(1 << 16),
        };
        heal(state, now, most);
    }

    /// Takes `units` whatever comes, and says how long after `now` (ns) they conform, unless that is more than `limit` ns
    /// (then nothing is taken: so a packet longer than burst and limit together never passes). What conforms already may have done so for long: the answer is below 0.
    #[inline]
    pub fn wait(&self, state: &AtomicU64, now: u64, units: u64, limit: u64, writers: Writers) -> Option<i64> {
        let (now, span) = (point(now), self.pace.span(units));
        let most = self.burst + (limit.min(LONGEST >> 16) << 16);
        let mut wait = 0;
        let taken = writers.update(state, |old| {
            let ahead = ahead(old, now) + span;
            // Up, so that nothing leaves too soon: below 2^47, since both are below 2^61.
            wait = (ahead as i64 - self.burst as i64 + 0xffff) >> 16;
            (ahead <= most).then(|| word(now, ahead))
        });
        if !taken {
            heal(state, now, most);
        }
        taken.then_some(wait)
    }

    /// Nanoseconds from `now` until the state is as if it had never been used.
    #[must_use]
    pub fn rest(&self, state: &AtomicU64, now: u64) -> u64 {
        ahead(state.load(Relaxed), point(now)) >> 16
    }
}

impl std::fmt::Display for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rule = match self.rule {
            Rule::Token => "token",
            Rule::Leaky => "leaky",
        };
        let (burst, units) = (self.pace.within(self.burst), self.pace.units_name());
        write!(f, "a {rule} bucket of {}, burst {burst} {units}", self.pace)
    }
}

#[cfg(test)]
mod tests;
