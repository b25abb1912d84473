//! The capacity of the connection tracking table, by the drop of the establishment rate: the two searches of siitperf's
//! connection tracking table capacity measurement (after RFC 9693).
//!
//! Each count of connections has a search for its establishment rate. The count doubles until that rate drops (the
//! exponential search), then the interval is halved (the final binary search). Keeps true: a table that only becomes slower
//! as it fills up is not taken for full, as long as it does not become slower at once.

use super::Connections;
use super::attempt::{Attempt, Trials};
use super::rate::search;
use crate::run::{Ending, Limits, SearchError};
use crate::trial::Scaled;
use std::fmt;
use std::time::Duration;

/// How the table is filled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ByRate {
    /// Connections of the first search (C0), at least 1: they fit for certain.
    pub first: u64,
    /// The most connections that are tried, such as ports and addresses allow.
    pub most: u64,
    /// Part of the last establishment rate (beta), above 0 and below 1, below which the exponential search takes the table
    /// for full.
    pub beta: f64,
    /// The same of the final binary search (gamma).
    pub gamma: f64,
    /// Connections (E), at least 1, to which the capacity is told.
    pub error: u64,
    /// Where each search for a rate stops: (upper − lower) / upper, at least 1e-9 and below 1.
    pub resolution: f64,
}

impl ByRate {
    /// The factors that siitperf comes with: 0.2, 0.4, to 1 connection and, of the rate, 2.5 %.
    pub const fn siitperf(first: u64, most: u64) -> Self {
        Self { first, most, beta: 0.2, gamma: 0.4, error: 1, resolution: 0.025 }
    }

    fn is_sound(&self) -> bool {
        let factor = |factor: f64| factor > 0.0 && factor < 1.0;
        self.first > 0
            && self.first <= self.most
            && factor(self.beta)
            && factor(self.gamma)
            && self.error > 0
            && (1e-9..1.0).contains(&self.resolution)
    }
}

/// The establishment rate of one count of connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Connections.
    pub count: u64,
    /// Establishment rate, per second, and never above what was offered; none where the table is taken for full.
    pub rate: Option<f64>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rate {
            Some(rate) => write!(f, "{} connections at {}", self.count, Scaled(rate, "cps")),
            None => write!(f, "{} connections do not fit", self.count),
        }
    }
}

/// The capacity of the connection tracking table.
#[derive(Clone, Debug, PartialEq)]
pub struct CapacityByRate {
    /// How it ended: [`Ending::AboveMaximum`] (of connections, not of a rate) when the most that were tried fitted,
    /// [`Ending::BelowMinimum`] when the first did not.
    pub ending: Ending,
    /// The most connections that fitted.
    pub fitted: Option<u64>,
    /// The fewest that did not.
    pub failed: Option<u64>,
    /// Search by search.
    pub steps: Vec<Step>,
    /// Every trial, in order.
    pub trials: Vec<Attempt>,
    /// Sum of the durations of phase 1.
    pub spent: Duration,
    /// The stopping rule, as a sentence.
    pub rule: String,
}

impl fmt::Display for CapacityByRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fitted = self.fitted.unwrap_or(0);
        match (self.ending, self.failed) {
            (Ending::Complete, Some(failed)) => {
                write!(f, "connection table: {fitted} connections ({failed} do not fit)")?
            }
            (Ending::BelowMinimum(first), _) => {
                write!(f, "connection table: fewer than {first:.0} connections, the first that were tried")?
            }
            (Ending::AboveMaximum(_), _) => {
                write!(f, "connection table: at least {fitted} connections, the most tried")?
            }
            (ending, _) => {
                write!(f, "connection table: at least {fitted} connections; ")?;
                ending.write(f, "cps")?;
            }
        }
        writeln!(f, "; {} searches, {} trials. {}", self.steps.len(), self.trials.len(), self.rule)
    }
}

/// Searches for the number of connections that the table holds. The limits are of the first search's rates, and of all time.
///
/// # Errors
/// Settings that make no sense; a trial that failed or contradicts itself.
pub fn capacity_by_rate<C: Connections>(
    device: &mut C,
    settings: ByRate,
    limits: Limits,
    cancelled: &dyn Fn() -> bool,
) -> Result<CapacityByRate, SearchError<C::Error>> {
    let Limits { minimum, maximum, time } = limits;
    let rates = minimum > 0.0 && minimum <= maximum && maximum.is_finite();
    if !settings.is_sound() || !rates {
        return Err(SearchError::Setting(
            "needs 1 <= first <= most, 0 < beta, gamma < 1, error >= 1, 1e-9 <= resolution < 1, 0 < minimum <= maximum",
        ));
    }
    let ByRate { first, most, beta, gamma, error, resolution } = settings;
    let mut trials = Trials::new(device, time, cancelled);
    let mut steps = vec![];
    // Connections that fitted, and the rate at which they did; connections that did not.
    let (mut safe, mut failed): (Option<(u64, f64)>, Option<u64>) = (None, None);
    let ending = loop {
        let (count, range) = match (safe, failed) {
            (None, None) => (first, (minimum, maximum)),
            (None, Some(failed)) => break Ending::BelowMinimum(failed as f64),
            (Some((count, _)), None) if count >= most => break Ending::AboveMaximum(most as f64),
            (Some((count, rate)), None) => (count.saturating_mul(2).min(most), (rate * beta, rate)),
            (Some((count, _)), Some(failed)) if failed - count <= error => break Ending::Complete,
            (Some((count, rate)), Some(failed)) => (count + (failed - count) / 2, (rate * gamma, rate)),
        };
        let found = search(&mut trials, count, resolution, range)?;
        match (found.ending, found.lower) {
            (ending @ (Ending::TimeLimit(_) | Ending::Cancelled), _) => break ending,
            (_, Some(rate)) => safe = Some((count, rate)),
            (Ending::BelowMinimum(_), None) => failed = Some(count),
            (ending, None) => break ending,
        }
        steps.push(Step { count, rate: found.lower });
    };
    let rule = format!(
        "It stops when the numbers that fit and do not are {error} apart at most; a number does not fit at less than {beta} \
         (then {gamma}) of the last one's establishment rate (after RFC 9693)."
    );
    let (records, spent) = (trials.records, trials.spent);
    Ok(CapacityByRate {
        ending,
        fitted: safe.map(|(count, _)| count),
        failed,
        steps,
        trials: records,
        spent,
        rule,
    })
}
