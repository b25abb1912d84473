//! Connections of a stateful device, such as a NAT (RFC 9693): the maximum connection establishment rate, and the capacity of
//! the connection tracking table.
//!
//! Keeps true: a connection counts once it was established and, after all of them were, still passes packets the other way.
//! A table that forgets old connections for new ones is not larger for it.

use crate::run::{Ending, Limits, SearchError};
use crate::trial::{Scaled, TOLERANCE};
use std::fmt;
use std::time::Duration;

/// What opens connections through a device.
pub trait Connections {
    /// Why it could not.
    type Error;

    /// Empties the device's table (RFC 9693: each trial starts with an empty one).
    ///
    /// # Errors
    /// The table could not be emptied.
    fn clear(&mut self) -> Result<(), Self::Error>;

    /// Opens `count` connections, each another one, at `rate` per second: phase 1.
    ///
    /// # Errors
    /// The trial could not be run.
    fn establish(&mut self, count: u64, rate: f64) -> Result<Established, Self::Error>;

    /// Sends one packet the other way over each of the `count` connections: phase 2. Returns how many came through.
    ///
    /// # Errors
    /// The trial could not be run.
    fn validate(&mut self, count: u64) -> Result<u64, Self::Error>;
}

/// What phase 1 came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Established {
    /// Connections per second that the generator reached.
    pub offered: f64,
    /// Connections that it tried to open.
    pub tried: u64,
    /// Connections that came through.
    pub established: u64,
    /// How long it took.
    pub duration: Duration,
}

/// One trial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attempt {
    /// Connections asked for.
    pub count: u64,
    /// Connections per second asked for.
    pub rate: f64,
    /// Phase 1.
    pub phase1: Established,
    /// Connections that phase 2 found.
    pub valid: u64,
}

impl Attempt {
    /// Whether every connection was opened and is still there.
    pub fn passed(&self) -> bool {
        self.phase1.established == self.count && self.valid == self.count
    }

    /// Connections per second that the generator reached, by its word and by its count.
    pub fn reached(&self) -> f64 {
        let Established { offered, tried, duration, .. } = self.phase1;
        offered.min((tried + 1) as f64 / duration.as_secs_f64())
    }

    /// Whether the generator fell short, so that this trial says nothing of the device.
    pub fn short(&self) -> bool {
        self.phase1.tried < self.count || self.reached() < self.rate * (1.0 - TOLERANCE)
    }
}

/// The maximum connection establishment rate.
#[derive(Clone, Debug, PartialEq)]
pub struct EstablishmentRate {
    /// How it ended.
    pub ending: Ending,
    /// Greatest rate at which all connections were opened, per second; never above what was offered.
    pub lower: Option<f64>,
    /// Least rate at which some failed, per second.
    pub upper: Option<f64>,
    /// Every trial, in order.
    pub trials: Vec<Attempt>,
    /// Sum of the durations of phase 1.
    pub spent: Duration,
    /// The stopping rule, as a sentence.
    pub rule: String,
}

impl fmt::Display for EstablishmentRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known =
            |rate: Option<f64>| rate.map_or("unknown".to_owned(), |rate| Scaled(rate, "cps").to_string());
        write!(f, "connection establishment rate: {} (fails at {}); ", known(self.lower), known(self.upper))?;
        self.ending.write(f, "cps")?;
        writeln!(f, "; {} trials. {}", self.trials.len(), self.rule)
    }
}

/// The capacity of the connection tracking table.
#[derive(Clone, Debug, PartialEq)]
pub struct Capacity {
    /// How it ended: [`Ending::AboveMaximum`] (of connections, not of a rate) when the most that were tried fitted.
    pub ending: Ending,
    /// The most connections that fitted; exact when `ending` is [`Ending::Complete`].
    pub fitted: Option<u64>,
    /// The fewest that did not.
    pub failed: Option<u64>,
    /// Every trial, in order.
    pub trials: Vec<Attempt>,
    /// Sum of the durations of phase 1.
    pub spent: Duration,
    /// The stopping rule, as a sentence.
    pub rule: String,
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fitted = self.fitted.unwrap_or(0);
        match self.ending {
            Ending::Complete => write!(f, "connection table: {fitted} connections")?,
            Ending::AboveMaximum(_) => {
                write!(f, "connection table: at least {fitted} connections, the most tried")?
            }
            ending => {
                write!(f, "connection table: at least {fitted} connections; ")?;
                ending.write(f, "cps")?;
            }
        }
        writeln!(f, "; {} trials. {}", self.trials.len(), self.rule)
    }
}

struct Trials<'a, C> {
    device: &'a mut C,
    cancelled: &'a dyn Fn() -> bool,
    time: Duration,
    records: Vec<Attempt>,
    spent: Duration,
}

impl<C: Connections> Trials<'_, C> {
    /// One trial with an empty table, or why there was none.
    fn attempt(&mut self, count: u64, rate: f64) -> Result<Result<Attempt, Ending>, SearchError<C::Error>> {
        if (self.cancelled)() {
            return Ok(Err(Ending::Cancelled));
        }
        if self.spent.as_secs_f64() + count as f64 / rate > self.time.as_secs_f64() {
            return Ok(Err(Ending::TimeLimit(self.time)));
        }
        let error = |error| SearchError::Trial { rate, error };
        self.device.clear().map_err(error)?;
        let phase1 = self.device.establish(count, rate).map_err(error)?;
        let valid = self.device.validate(count).map_err(error)?;
        let more = phase1.established.max(valid);
        if more > phase1.tried {
            return Err(SearchError::MoreReceived { sent: phase1.tried, received: more });
        }
        if phase1.duration.is_zero() || !phase1.offered.is_finite() {
            return Err(SearchError::Senseless);
        }
        let attempt = Attempt { count, rate, phase1, valid };
        self.spent += phase1.duration;
        self.records.push(attempt);
        if attempt.phase1.offered > rate * (1.0 + TOLERANCE) {
            return Err(SearchError::Overdriven { asked: rate, offered: attempt.phase1.offered });
        }
        Ok(Ok(attempt))
    }
}

/// Searches for the rate at which `count` connections can be opened, to `resolution` = (upper − lower) / upper. The count
/// must fit the table.
///
/// # Errors
/// Settings that make no sense; a trial that failed or contradicts itself.
pub fn establishment_rate<C: Connections>(
    device: &mut C,
    count: u64,
    resolution: f64,
    limits: Limits,
    cancelled: &dyn Fn() -> bool,
) -> Result<EstablishmentRate, SearchError<C::Error>> {
    let Limits { minimum, maximum, time } = limits;
    let rates = minimum > 0.0 && minimum <= maximum && maximum.is_finite();
    if count == 0 || !rates || !(1e-9..1.0).contains(&resolution) {
        return Err(SearchError::Setting(
            "needs connections, 0 < minimum <= maximum, 1e-9 <= resolution < 1",
        ));
    }
    let mut trials = Trials { device, cancelled, time, records: vec![], spent: Duration::ZERO };
    let (mut low, mut offered, mut high): (Option<f64>, Option<f64>, Option<f64>) = (None, None, None);
    let mut ceiling = maximum;
    let ending = loop {
        let rate = match (low, high) {
            (Some(low), Some(high)) if (high - low) / high <= resolution => break Ending::Complete,
            (Some(low), Some(high)) => (low + high) / 2.0,
            (Some(low), None) if ceiling >= maximum => break Ending::AboveMaximum(offered.unwrap_or(low)),
            (None, Some(high)) if high <= minimum => break Ending::BelowMinimum(high),
            (None, Some(high)) if (high - minimum) / high <= resolution => minimum,
            (None, Some(high)) => (minimum + high) / 2.0,
            (_, None) => ceiling,
        };
        let rate = rate.min(ceiling);
        if rate < minimum || low.is_some_and(|low| low >= rate) {
            break Ending::Bottleneck { reached: offered.unwrap_or(ceiling), asked: maximum };
        }
        match trials.attempt(count, rate)? {
            Err(ending) => break ending,
            Ok(attempt) if attempt.short() => {
                ceiling = ceiling.min(attempt.reached().min(rate * (1.0 - TOLERANCE)))
            }
            Ok(attempt) if attempt.passed() => {
                (low, offered) = (Some(rate), Some(attempt.reached().min(rate)));
            }
            Ok(_) => high = Some(rate),
        }
    };
    let rule = format!(
        "It stops when the bounds are within {:.3} %, with {count} connections in each trial (RFC 9693).",
        resolution * 100.0
    );
    Ok(EstablishmentRate {
        ending,
        lower: offered,
        upper: high,
        trials: trials.records,
        spent: trials.spent,
        rule,
    })
}

/// How the table is filled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Filling {
    /// Connections of the first trial, at least 1; the count doubles until one fails.
    pub first: u64,
    /// The most connections that are tried, such as ports and addresses allow.
    pub most: u64,
    /// Connections per second: well below the establishment rate, as a full table is a slower one.
    pub rate: f64,
    /// Sum of durations that is not passed.
    pub time: Duration,
}

/// Searches for the exact number of connections that the table holds: doubling first, then halving the interval.
///
/// # Errors
/// Settings that make no sense; a trial that failed or contradicts itself.
pub fn capacity<C: Connections>(
    device: &mut C,
    filling: Filling,
    cancelled: &dyn Fn() -> bool,
) -> Result<Capacity, SearchError<C::Error>> {
    let Filling { first, most, rate, time } = filling;
    if first == 0 || first > most || !(rate > 0.0 && rate.is_finite()) {
        return Err(SearchError::Setting("needs 1 <= first <= most, and a rate"));
    }
    let mut trials = Trials { device, cancelled, time, records: vec![], spent: Duration::ZERO };
    let (mut fitted, mut failed): (Option<u64>, Option<u64>) = (None, None);
    let ending = loop {
        let count = match (fitted, failed) {
            (None, None) => first,
            (Some(fitted), None) if fitted >= most => break Ending::AboveMaximum(most as f64),
            (Some(fitted), None) => fitted.saturating_mul(2).min(most),
            (fitted, Some(failed)) => {
                let low = fitted.unwrap_or(0);
                if failed - low <= 1 {
                    break if low > 0 { Ending::Complete } else { Ending::BelowMinimum(failed as f64) };
                }
                low + (failed - low) / 2
            }
        };
        match trials.attempt(count, rate)? {
            Err(ending) => break ending,
            Ok(attempt) if attempt.short() => {
                break Ending::Bottleneck { reached: attempt.reached(), asked: rate };
            }
            Ok(attempt) if attempt.passed() => fitted = Some(count),
            Ok(_) => failed = Some(count),
        }
    };
    let rate = Scaled(rate, "cps");
    let rule = format!("It stops when n connections fit and n + 1 do not, opened at {rate} (RFC 9693).");
    Ok(Capacity { ending, fitted, failed, trials: trials.records, spent: trials.spent, rule })
}
