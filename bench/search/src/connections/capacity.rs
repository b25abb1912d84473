//! The capacity of the connection tracking table, filled at one rate.
//!
//! Departs from the methodology on purpose: it judges by the connections that are left and not by a drop of the establishment
//! rate, so that it needs one trial for each count instead of a search. A table that takes connections at less than that rate
//! as it fills up seems too small; [`super::capacity_by_rate`] knows better, in more time.

use super::Connections;
use super::attempt::{Attempt, Trials};
use crate::run::{Ending, SearchError};
use crate::trial::Scaled;
use std::fmt;
use std::time::Duration;

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
            Ending::BelowMinimum(_) => f.write_str("connection table: not one connection fitted")?,
            ending => {
                write!(f, "connection table: at least {fitted} connections; ")?;
                ending.write(f, "cps")?;
            }
        }
        writeln!(f, "; {} trials. {}", self.trials.len(), self.rule)
    }
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
    let mut trials = Trials::new(device, time, cancelled);
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
    let rule =
        format!("It stops when n connections fit and n + 1 do not, opened at {rate} (after RFC 9693).");
    Ok(Capacity { ending, fitted, failed, trials: trials.records, spent: trials.spent, rule })
}
