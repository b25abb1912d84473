//! The run of a search: its limits, the trials so far, the time they took, and how it ended.
//!
//! Keeps true: no trial starts that would pass the time limit, or after the caller has cancelled; every trial that was run is
//! in the list, also those that do not count.

use crate::trial::{Measured, Record, Scaled, TOLERANCE, Trial};
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// Trials in a row in which the generator must fall short at a rate, until the best of them counts as its limit: something
/// else may have held it up once.
const SHORT_TRIALS: u32 = 2;
/// As many of trials below [`LONG`], which a moment's hold-up spoils.
const SHORT_TRIALS_IF_BRIEF: u32 = 4;
/// What held a trial of this length up for a hundredth of it was no moment.
const LONG: Duration = Duration::from_secs(5);

/// Between what a search stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Least rate that is tried, packets per second, above 0.
    pub minimum: f64,
    /// Greatest rate that is tried, packets per second: the line rate, or the generator's own.
    pub maximum: f64,
    /// Sum of trial durations that is not passed.
    pub time: Duration,
}

/// The caller's eyes and hand on a search.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Asked before each trial; true ends the search with what is known.
    pub cancelled: &'a dyn Fn() -> bool,
    /// Told of each trial, for a live line.
    pub progress: &'a dyn Fn(&Record),
}

impl Watch<'_> {
    /// Never cancels, tells nobody.
    pub const NONE: Watch<'static> = Watch { cancelled: &never, progress: &unseen };
}

fn never() -> bool {
    false
}

fn unseen(_: &Record) {}

/// Why a search has no result at all.
#[derive(Debug, Error, PartialEq)]
pub enum SearchError<E> {
    /// A setting that no search can have.
    #[error("{0}")]
    Setting(&'static str),
    /// The caller's trial failed.
    #[error("the trial at {rate} packets/s failed: {error}")]
    Trial {
        /// Packets (or connections) per second that were asked for.
        rate: f64,
        /// What the trial says.
        error: E,
    },
    /// More came back than was sent: the counters are wrong, or something else sends.
    #[error(
        "{received} came back of {sent} sent: another sender, or duplicates counted; mend the receiver's filter"
    )]
    MoreReceived {
        /// Sent.
        sent: u64,
        /// Came back.
        received: u64,
    },
    /// The generator overdrove the device, so that loss says nothing about the asked rate.
    #[error("the generator offered {offered:.1} packets/s when asked for {asked:.1}: its pacing is broken")]
    Overdriven {
        /// Packets per second that were asked for.
        asked: f64,
        /// Packets per second that were sent.
        offered: f64,
    },
    /// The trial ended early: its length is part of what was to be measured.
    #[error(
        "the trial at {rate} packets/s was to last {asked:?} and lasted {lasted:?}: the generator stopped early"
    )]
    CutShort {
        /// Packets per second that were asked for.
        rate: f64,
        /// How long it was to last.
        asked: Duration,
        /// How long it lasted.
        lasted: Duration,
    },
    /// Numbers that no trial can have: a rate that is not finite, or no duration.
    #[error("a trial without duration, or with a rate that is no number")]
    Senseless,
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ending {
    /// The stopping rule was met.
    Complete,
    /// The next trial would have passed the time limit.
    TimeLimit(Duration),
    /// The caller cancelled.
    Cancelled,
    /// The device took all that the generator could offer, or the generator offered too little to try.
    Bottleneck {
        /// Packets per second that the generator reached.
        reached: f64,
        /// Packets per second that it was asked for.
        asked: f64,
    },
    /// The device misses the goal at the minimum rate already.
    BelowMinimum(f64),
    /// The device meets the goal at the maximum rate still.
    AboveMaximum(f64),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "pps")
    }
}

impl Ending {
    /// Writes it with rates of that unit.
    pub(crate) fn write(&self, f: &mut fmt::Formatter<'_>, unit: &'static str) -> fmt::Result {
        let scaled = |rate| Scaled(rate, unit);
        match *self {
            Self::Complete => f.write_str("complete"),
            Self::TimeLimit(limit) => write!(f, "the time limit of {:.1} s was reached", limit.as_secs_f64()),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Bottleneck { reached, asked } => {
                write!(
                    f,
                    "the generator was the bottleneck: reached {} of {}",
                    scaled(reached),
                    scaled(asked)
                )
            }
            Self::BelowMinimum(rate) => {
                write!(f, "the goal is missed at the minimum rate already, {}", scaled(rate))
            }
            Self::AboveMaximum(rate) => {
                write!(f, "the goal is met at the maximum rate still, {}", scaled(rate))
            }
        }
    }
}

/// What a trial was good for.
pub(crate) enum Attempt {
    /// It measured the device.
    Measured(Measured),
    /// The generator fell short: [`Run::ceiling`] is lower now, or the trial is worth repeating.
    Short,
    /// No trial was run.
    Ended(Ending),
}

/// A search under way.
pub(crate) struct Run<'a, T> {
    trial: &'a mut T,
    watch: Watch<'a>,
    pub limits: Limits,
    pub records: Vec<Record>,
    pub spent: Duration,
    /// Greatest rate worth asking for: the maximum, or what the generator has reached.
    pub ceiling: f64,
    /// The rate at which the generator fell short last, the best that it reached then, and how often in a row.
    short: (f64, f64, u32),
    cancelled: bool,
}

impl<'a, T: Trial> Run<'a, T> {
    pub fn new(trial: &'a mut T, limits: Limits, watch: Watch<'a>) -> Result<Self, SearchError<T::Error>> {
        if !(limits.minimum > 0.0 && limits.minimum <= limits.maximum && limits.maximum.is_finite()) {
            return Err(SearchError::Setting("rates must be 0 < minimum <= maximum, and finite"));
        }
        Ok(Self {
            trial,
            watch,
            limits,
            records: vec![],
            spent: Duration::ZERO,
            ceiling: limits.maximum,
            short: (0.0, 0.0, 0),
            cancelled: false,
        })
    }

    /// One trial, if time and the caller permit.
    pub fn attempt(&mut self, rate: f64, duration: Duration) -> Result<Attempt, SearchError<T::Error>> {
        self.cancelled |= (self.watch.cancelled)();
        if self.cancelled {
            return Ok(Attempt::Ended(Ending::Cancelled));
        }
        if self.spent.saturating_add(duration) > self.limits.time {
            return Ok(Attempt::Ended(Ending::TimeLimit(self.limits.time)));
        }
        let measured = self.trial.run(rate, duration).map_err(|error| SearchError::Trial { rate, error })?;
        // The generator's word on the rate asked is not needed: it is known here.
        let measured = Measured { asked: rate, ..measured };
        if let Err(error) = check(&measured, duration) {
            self.cancelled |= (self.watch.cancelled)();
            // Whoever cancels cuts the trial short that is under way, and it says nothing.
            return if self.cancelled { Ok(Attempt::Ended(Ending::Cancelled)) } else { Err(error) };
        }
        self.spent = self.spent.saturating_add(measured.duration);
        let record = Record::from(measured);
        self.records.push(record);
        (self.watch.progress)(&record);
        if !record.short {
            self.short = (0.0, 0.0, 0);
            return Ok(Attempt::Measured(measured));
        }
        let (_, best, times) = Some(self.short).filter(|short| short.0 == rate).unwrap_or((rate, 0.0, 0));
        self.short = (rate, best.max(measured.reached()), times + 1);
        let enough = if duration < LONG { SHORT_TRIALS_IF_BRIEF } else { SHORT_TRIALS };
        if self.short.2 >= enough {
            self.ceiling = self.ceiling.min(self.short.1);
            self.short = (0.0, 0.0, 0);
        }
        Ok(Attempt::Short)
    }

    /// The end of a search whose goal is met at the ceiling: the generator's fault, where the ceiling is the generator's.
    pub fn above(&self, met: f64) -> Ending {
        if self.ceiling < self.limits.maximum {
            return self.bottleneck(met);
        }
        Ending::AboveMaximum(met)
    }

    /// The generator is to blame, having reached that.
    pub fn bottleneck(&self, reached: f64) -> Ending {
        Ending::Bottleneck { reached, asked: self.limits.maximum }
    }
}

fn check<E>(measured: &Measured, intended: Duration) -> Result<(), SearchError<E>> {
    let &Measured { asked, offered, sent, received, duration, .. } = measured;
    if duration.is_zero() || !offered.is_finite() || offered < 0.0 {
        return Err(SearchError::Senseless);
    }
    if duration < intended.mul_f64(1.0 - TOLERANCE) {
        return Err(SearchError::CutShort { rate: asked, asked: intended, lasted: duration });
    }
    if received > sent {
        return Err(SearchError::MoreReceived { sent, received });
    }
    let counted = sent.saturating_sub(1) as f64 / duration.as_secs_f64();
    if offered.max(counted) > asked * (1.0 + TOLERANCE) {
        return Err(SearchError::Overdriven { asked, offered: offered.max(counted) });
    }
    Ok(())
}
