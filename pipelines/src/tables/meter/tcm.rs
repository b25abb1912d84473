//! Three colours: srTCM (RFC 2697), one rate with two bursts, and trTCM (RFC 2698), two rates. Two words of state.
//!
//! trTCM is two buckets, each a word as in [`super::bucket`]. srTCM's second bucket fills from what the first has too much,
//! so its words are the points in time at which the first will be full (C), and at which both will be (E). While nothing
//! comes neither changes; a green packet takes both on by its span, a yellow one E alone; the second bucket lacks
//! E − max(C, now).
//!
//! **Several writers.** Each word is changed in one step, the wider allowance first: P before C, E before C. So whatever
//! other workers do between the two steps, no bucket is overdrawn; what they may see is a packet that was counted and not
//! yet judged, so that beside the limit one packet may be judged too strictly, never too mildly.

use super::pace::{LONGEST, Pace};
use super::{Colour, Writers, ahead, heal, point, word};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

/// Single rate three colour marker: at most a burst + rate · t green, and an excess burst more yellow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SrTcm {
    pace: Pace,
    committed: u64,
    excess: u64,
}

impl SrTcm {
    /// CIR, CBS and EBS of RFC 2697 §2; the bursts in bytes, or packets. None when a burst takes more than [`LONGEST`] to
    /// come, or both are 0.
    #[must_use]
    pub fn new(pace: Pace, committed: u64, excess: u64) -> Option<Self> {
        let (committed, excess) = (pace.burst(committed), pace.burst(excess));
        (committed + excess > 0 && committed < LONGEST && excess < LONGEST).then_some(Self {
            pace,
            committed,
            excess,
        })
    }

    /// What it fills at.
    #[must_use]
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// The colour of `units` at `now` (ns) that came with `colour` (green, if colours are not known: RFC 2697 §3).
    #[inline]
    pub fn take(
        &self,
        state: &[AtomicU64; 2],
        now: u64,
        units: u64,
        colour: Colour,
        writers: Writers,
    ) -> Colour {
        let [committed, both] = state;
        let (now, span) = (point(now), self.pace.span(units));
        // Without a write first: a flood beyond the rate changes nothing.
        let green = |c: u64| colour == Colour::Green && ahead(c, now) + span <= self.committed;
        let c = committed.load(SeqCst);
        let lacking = |e: u64, c: u64| e.saturating_sub(ahead(c, now));
        let yellow = |e: u64, c: u64| colour <= Colour::Yellow && lacking(e, c) + span <= self.excess;
        if !green(c) && !yellow(ahead(both.load(SeqCst), now), c) {
            heal(committed, now, self.committed);
            heal(both, now, self.committed + self.excess);
            return Colour::Red;
        }
        let mut before = 0;
        writers.update(both, |old| {
            before = ahead(old, now);
            Some(word(now, before + span))
        });
        if writers.update(committed, |c| green(c).then(|| word(now, ahead(c, now) + span))) {
            return Colour::Green;
        }
        if yellow(before, committed.load(SeqCst)) {
            return Colour::Yellow;
        }
        // Another worker was first. What was taken from E stays taken: giving it back could give back too much.
        Colour::Red
    }

    /// Takes all `units` of several green packets if each of them stays green. False also when that is not certain.
    #[inline]
    pub fn take_all(&self, state: &[AtomicU64; 2], now: u64, units: u64, writers: Writers) -> bool {
        let (at, span) = (point(now), self.pace.span(units));
        let fits = ahead(state[0].load(SeqCst), at) + span <= self.committed;
        // With other writers it may not fit any more, and nothing is given back: not to be tried close to the brim.
        let sure = match writers {
            Writers::One => fits,
            Writers::Many => fits && ahead(state[0].load(SeqCst), at) + 2 * span <= self.committed,
        };
        sure && {
            writers.update(&state[1], |old| Some(word(at, ahead(old, at) + span)));
            writers.update(&state[0], |c| {
                let ahead = ahead(c, at) + span;
                (ahead <= self.committed).then(|| word(at, ahead))
            })
        }
    }
}

/// Two rate three colour marker: green within the committed rate and burst, yellow within the peak's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrTcm {
    committed: Pace,
    committed_burst: u64,
    peak: Pace,
    peak_burst: u64,
}

impl TrTcm {
    /// CIR, CBS, PIR and PBS of RFC 2698 §2; the bursts in bytes, or packets. None when a burst takes more than
    /// [`LONGEST`] to come.
    #[must_use]
    pub fn new(committed: Pace, committed_burst: u64, peak: Pace, peak_burst: u64) -> Option<Self> {
        let (committed_burst, peak_burst) = (committed.burst(committed_burst), peak.burst(peak_burst));
        (committed_burst < LONGEST && peak_burst < LONGEST).then_some(Self {
            committed,
            committed_burst,
            peak,
            peak_burst,
        })
    }

    /// What the committed bucket fills at.
    #[must_use]
    pub fn pace(&self) -> &Pace {
        &self.committed
    }

    /// The colour of `units` at `now` (ns) that came with `colour` (green, if colours are not known: RFC 2698 §3).
    #[inline]
    pub fn take(
        &self,
        state: &[AtomicU64; 2],
        now: u64,
        units: u64,
        colour: Colour,
        writers: Writers,
    ) -> Colour {
        if colour == Colour::Red {
            return Colour::Red;
        }
        let [committed, peak] = state;
        let now = point(now);
        if !fill(peak, now, self.peak.span(units), self.peak_burst, writers) {
            return Colour::Red;
        }
        let green = colour == Colour::Green
            && fill(committed, now, self.committed.span(units), self.committed_burst, writers);
        if green { Colour::Green } else { Colour::Yellow }
    }

    /// Takes all `units` of several green packets if each of them stays green. False also when that is not certain.
    #[inline]
    pub fn take_all(&self, state: &[AtomicU64; 2], now: u64, units: u64, writers: Writers) -> bool {
        let at = point(now);
        let spans = [self.committed.span(units), self.peak.span(units)];
        let bursts = [self.committed_burst, self.peak_burst];
        // Twice, with other writers: what one of the two buckets gave is not given back if the other one refuses.
        let times = if writers == Writers::One { 1 } else { 2 };
        let sure = (0..2).all(|i| ahead(state[i].load(SeqCst), at) + times * spans[i] <= bursts[i]);
        sure && fill(&state[1], at, spans[1], bursts[1], writers)
            && fill(&state[0], at, spans[0], bursts[0], writers)
    }
}

impl std::fmt::Display for SrTcm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pace, committed, excess } = self;
        let (committed, excess) = (pace.within(*committed), pace.within(*excess));
        write!(f, "RFC 2697: {pace}, bursts of {committed} and {excess} {}", pace.units_name())
    }
}

impl std::fmt::Display for TrTcm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { committed, peak, .. } = self;
        let (burst, most) = (committed.within(self.committed_burst), peak.within(self.peak_burst));
        let units = peak.units_name();
        write!(f, "RFC 2698: {committed} with a burst of {burst}, at most {peak} with one of {most} {units}")
    }
}

#[inline]
fn fill(state: &AtomicU64, now: u64, span: u64, burst: u64, writers: Writers) -> bool {
    let filled = writers.update(state, |old| {
        let ahead = ahead(old, now) + span;
        (ahead <= burst).then(|| word(now, ahead))
    });
    if !filled {
        heal(state, now, burst);
    }
    filled
}

#[cfg(test)]
mod tests;
