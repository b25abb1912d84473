//! Clocks: how two hosts' clocks relate, and whether one of them was set during a run.
//!
//! Owns: the best exchanges of a run ([`Exchanges`]), what follows from them ([`Relation`]), and the watch for steps of one
//! host's clock ([`Watch`]). Refuses: exchanges whose times contradict each other. Keeps true: an error bound, never an
//! offset alone; half of an exchange's time on the way is its bound, whichever direction took it (RFC 5905, section 8).

use std::fmt;

/// Clocks of two hosts drift no faster than this against each other: twice the 500 ppm to which Linux disciplines one
/// (`MAXFREQ` in the kernel's `include/linux/timex.h`).
pub const MAX_DRIFT: f64 = 1e-3;

/// One question from here and its answer from there, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// When it was asked, by this host's clock.
    pub asked_ns: u64,
    /// When the sender heard it, by the sender's clock.
    pub heard_ns: u64,
    /// When the sender answered, by the sender's clock.
    pub answered_ns: u64,
    /// When the answer came back, by this host's clock.
    pub returned_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    at_ns: u64,
    ahead_ns: i64,
    bound_ns: u64,
}

impl Exchange {
    /// `None`: a clock went backwards, or more time passed there than here.
    fn point(&self) -> Option<Point> {
        let here = self.returned_ns.checked_sub(self.asked_ns)?;
        let there = self.answered_ns.checked_sub(self.heard_ns)?;
        let way = here.checked_sub(there)?;
        let out = i128::from(self.heard_ns) - i128::from(self.asked_ns);
        let back = i128::from(self.answered_ns) - i128::from(self.returned_ns);
        let ahead_ns = i64::try_from((out + back).div_euclid(2)).ok()?;
        Some(Point { at_ns: self.heard_ns + there / 2, ahead_ns, bound_ns: way.div_ceil(2) + 1 })
    }
}

const POINTS: usize = 128;

/// The exchanges of a run. Of each round of them the quickest is kept, because it had the least time to be delayed.
#[derive(Debug)]
pub struct Exchanges {
    points: Vec<Point>,
    best: Option<Point>,
    in_round: u32,
    round: u32,
    refused: u64,
}

impl Exchanges {
    /// None yet; the quickest of each `round` (at least 1; 8 is usual) is kept.
    pub fn new(round: u32) -> Self {
        Self { points: Vec::with_capacity(POINTS), best: None, in_round: 0, round: round.max(1), refused: 0 }
    }

    /// Takes an exchange. When 128 rounds are kept, they are halved and rounds last twice as long.
    pub fn observe(&mut self, exchange: &Exchange) {
        let Some(point) = exchange.point() else {
            self.refused += 1;
            return;
        };
        self.best = Some(self.best.map_or(point, |best| quicker(best, point)));
        self.in_round += 1;
        if self.in_round < self.round {
            return;
        }
        if self.points.len() == POINTS {
            for pair in 0..POINTS / 2 {
                self.points[pair] = quicker(self.points[2 * pair], self.points[2 * pair + 1]);
            }
            self.points.truncate(POINTS / 2);
            self.round = self.round.saturating_mul(2);
        }
        self.points.extend(self.best.take());
        self.in_round = 0;
    }

    /// Exchanges whose times contradict each other.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// What the exchanges so far say; `None` before the first.
    ///
    /// A line through the rounds whose bound is at most twice the best one's. With one such round the drift is unknown and
    /// taken as 0, and the error grows with the distance in time.
    pub fn relation(&self) -> Option<Relation> {
        let all = || self.points.iter().chain(&self.best);
        let least = all().map(|point| point.bound_ns).min()?;
        let good = || all().filter(move |point| point.bound_ns <= least.saturating_mul(2));
        let (first, last) = (good().map(|p| p.at_ns).min()?, good().map(|p| p.at_ns).max()?);
        let origin = good().next()?;
        let from = |point: &Point| {
            let at = point.at_ns as i128 - i128::from(first);
            (at as f64, (i128::from(point.ahead_ns) - i128::from(origin.ahead_ns)) as f64)
        };
        let count = good().count() as f64;
        let (at, ahead) = good().map(from).fold((0.0, 0.0), |sum, (at, ahead)| (sum.0 + at, sum.1 + ahead));
        let (at, ahead) = (at / count, ahead / count);
        let (above, below) = good()
            .map(from)
            .fold((0.0, 0.0), |sum, (x, y)| (sum.0 + (x - at) * (y - ahead), sum.1 + (x - at) * (x - at)));
        let drift = if below > 0.0 { (above / below).clamp(-MAX_DRIFT, MAX_DRIFT) } else { 0.0 };
        let ahead_ns = origin.ahead_ns.saturating_add((ahead - drift * at).round() as i64);
        let line = Relation { at_ns: first, ahead_ns, drift, error_ns: 0, until_ns: last };
        let off = |point: &Point| line.ahead_at_ns(point.at_ns).abs_diff(point.ahead_ns) + point.bound_ns;
        Some(Relation { error_ns: good().map(off).max()?, ..line })
    }
}

fn quicker(a: Point, b: Point) -> Point {
    if b.bound_ns < a.bound_ns { b } else { a }
}

/// How the sender's clock relates to this host's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relation {
    /// When the exchanges began, by the sender's clock.
    pub at_ns: u64,
    /// How far the sender's clock was ahead then.
    pub ahead_ns: i64,
    /// Nanoseconds that it gains per nanosecond of its own.
    pub drift: f64,
    /// How far this may be wrong between `at_ns` and `until_ns`.
    pub error_ns: u64,
    /// When the exchanges ended, by the sender's clock.
    pub until_ns: u64,
}

impl Relation {
    /// One clock: sender and sink are on one host, or their clocks are disciplined elsewhere.
    pub const SAME: Self = Self { at_ns: 0, ahead_ns: 0, drift: 0.0, error_ns: 0, until_ns: u64::MAX };

    fn ahead_at_ns(&self, there_ns: u64) -> i64 {
        // One clock, or two that do not drift: no floating point for each packet.
        if self.drift == 0.0 {
            return self.ahead_ns;
        }
        let gained = there_ns.wrapping_sub(self.at_ns) as i64 as f64 * self.drift;
        self.ahead_ns.saturating_add(gained.round() as i64)
    }

    /// A time of the sender's clock by this host's; one that this host's cannot show becomes its nearest.
    pub fn here_ns(&self, there_ns: u64) -> u64 {
        there_ns.saturating_add_signed(self.ahead_at_ns(there_ns).saturating_neg())
    }

    /// How far [`here_ns`](Self::here_ns) may be wrong. Outside the exchanges it grows with the time to them.
    pub fn error_at_ns(&self, there_ns: u64) -> u64 {
        let outside = self.at_ns.saturating_sub(there_ns).max(there_ns.saturating_sub(self.until_ns));
        self.error_ns.saturating_add((outside as f64 * 2.0 * MAX_DRIFT) as u64)
    }
}

/// Whose clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// The generator's.
    Sender,
    /// This one's.
    Sink,
}

/// A clock that was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whose.
    pub host: Host,
    /// When it was noticed, by that host's `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// By how much: positive where it was set forward.
    pub by_ns: i64,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host == Host::Sender { "sender" } else { "sink" };
        let (at, by) = (self.at_ns as f64 / 1e9, self.by_ns as f64 / 1e3);
        write!(f, "the {host}'s clock was set by {by:+.1} µs, noticed at {at:.3} s of its monotonic clock")
    }
}

/// Both clocks of a host, read one after the other: monotonic, real time, monotonic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The first reading of `CLOCK_MONOTONIC`.
    pub monotonic_ns: u64,
    /// `CLOCK_REALTIME`, in nanoseconds since 1970.
    pub realtime_ns: u64,
    /// How long reading took: the second monotonic reading less the first. The pair is uncertain by as much.
    pub width_ns: u64,
}

/// Steps that are kept; more are counted.
pub const STEPS_KEPT: usize = 16;

/// Watches one host's clock for steps. The kernel slews both clocks alike, so only setting one moves them apart.
#[derive(Debug)]
pub struct Watch {
    host: Host,
    threshold_ns: u64,
    base: Option<(i128, u64)>,
    steps: Vec<Step>,
    count: u64,
}

impl Watch {
    /// Watches `host` for steps of more than `threshold_ns` (1,000 is usual), beyond what reading the clocks hides.
    pub fn new(host: Host, threshold_ns: u64) -> Self {
        Self { host, threshold_ns, base: None, steps: Vec::with_capacity(STEPS_KEPT), count: 0 }
    }

    /// Takes a pair. Says whether the clock was set since the pairs before, also in many small steps.
    pub fn observe(&mut self, pair: &Pair) -> Option<Step> {
        let apart = i128::from(pair.realtime_ns) - i128::from(pair.monotonic_ns);
        let Some((base, width)) = self.base else {
            self.base = Some((apart, pair.width_ns));
            return None;
        };
        let by = apart - base;
        let hidden = u128::from(self.threshold_ns) + u128::from(pair.width_ns.max(width));
        if by.unsigned_abs() <= hidden {
            // A quicker reading tells more; its uncertainty covers the difference to the old one.
            if pair.width_ns < width && by.unsigned_abs() <= u128::from(width) {
                self.base = Some((apart, pair.width_ns));
            }
            return None;
        }
        self.base = Some((apart, pair.width_ns));
        let by_ns = by.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
        let step = Step { host: self.host, at_ns: pair.monotonic_ns, by_ns };
        self.count += 1;
        if self.steps.len() < STEPS_KEPT {
            self.steps.push(step);
        }
        Some(step)
    }

    /// The first [`STEPS_KEPT`] steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// All steps.
    pub const fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests;
