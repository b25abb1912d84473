//! The maximum connection establishment rate: the fastest at which all connections of a trial are opened.

use super::Connections;
use super::attempt::{Attempt, Trials};
use crate::run::{Ending, Limits, SearchError};
use crate::trial::{Scaled, TOLERANCE};
use std::fmt;
use std::time::Duration;

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
    let mut trials = Trials::new(device, time, cancelled);
    let Found { ending, lower, upper } = search(&mut trials, count, resolution, (minimum, maximum))?;
    let rule = format!(
        "It stops when the bounds are within {:.3} %, with {count} connections in each trial (after RFC 9693).",
        resolution * 100.0
    );
    Ok(EstablishmentRate { ending, lower, upper, trials: trials.records, spent: trials.spent, rule })
}

/// What one search came to.
pub struct Found {
    pub ending: Ending,
    /// Greatest rate that passed, as it was offered.
    pub lower: Option<f64>,
    /// Least rate that failed.
    pub upper: Option<f64>,
}

/// Searches between two rates, from the upper one on.
pub fn search<C: Connections>(
    trials: &mut Trials<'_, C>,
    count: u64,
    resolution: f64,
    (minimum, maximum): (f64, f64),
) -> Result<Found, SearchError<C::Error>> {
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
    Ok(Found { ending, lower: offered, upper: high })
}
