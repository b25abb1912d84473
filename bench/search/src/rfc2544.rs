//! Throughput as RFC 2544 §26.1 has it: the fastest rate without a lost packet, by binary search with trials of one length.
//!
//! Refuses: more precision than the resolution. [`crate::mlr`] finds the same rate in less time; this is the search that
//! others publish. RFC 2544 §24 would allow shorter trials before the last ones: here all are of full length.

use crate::run::{Attempt, Ending, Limits, Run, SearchError, Watch};
use crate::trial::{Rate, Record, Trial};
use std::fmt;
use std::time::Duration;

/// How the search goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Of each trial; RFC 2544 §24 wants at least 60 s of those that decide.
    pub duration: Duration,
    /// Where it stops: (upper − lower) / upper, at least 1e-9 and below 1.
    pub resolution: f64,
    /// Loss ratio that counts as none, 0 up to (not including) 1; RFC 2544 knows 0 only.
    pub loss_ratio: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { duration: Duration::from_secs(60), resolution: 0.005, loss_ratio: 0.0 }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Throughput {
    /// How it ended.
    pub ending: Ending,
    /// The throughput, packets per second: the greatest rate that passed, and never above what was offered.
    pub lower: Option<f64>,
    /// The least rate that failed, packets per second.
    pub upper: Option<f64>,
    /// Every trial, in order.
    pub trials: Vec<Record>,
    /// Sum of the trials' durations.
    pub spent: Duration,
    /// The stopping rule, as a sentence.
    pub rule: String,
}

impl fmt::Display for Throughput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |rate: Option<f64>| rate.map_or("unknown".to_owned(), |rate| Rate(rate).to_string());
        writeln!(f, "throughput: {} (fails at {}); {}", known(self.lower), known(self.upper), self.ending)?;
        writeln!(f, "{} trials, {:.1} s. {}", self.trials.len(), self.spent.as_secs_f64(), self.rule)
    }
}

/// Searches for the throughput, from the maximum rate on.
///
/// # Errors
/// Settings that make no sense; a trial that failed or contradicts itself.
pub fn throughput<T: Trial>(
    trial: &mut T,
    settings: Settings,
    limits: Limits,
    watch: Watch<'_>,
) -> Result<Throughput, SearchError<T::Error>> {
    let Settings { duration, resolution, loss_ratio } = settings;
    if duration.is_zero() || !(1e-9..1.0).contains(&resolution) || !(0.0..1.0).contains(&loss_ratio) {
        return Err(SearchError::Setting("needs a duration, 1e-9 <= resolution < 1, 0 <= loss ratio < 1"));
    }
    let mut run = Run::new(trial, limits, watch)?;
    // The rates asked for steer; what was offered at the lower one is reported.
    let (mut low, mut offered, mut high): (Option<f64>, _, Option<f64>) = (None, None, None);
    let ending = loop {
        let rate = match (low, high) {
            (Some(low), Some(high)) if (high - low) / high <= resolution => break Ending::Complete,
            (Some(low), Some(high)) => (low + high) / 2.0,
            (Some(low), None) => break run.above(offered.unwrap_or(low)),
            (None, Some(high)) if high <= limits.minimum => break Ending::BelowMinimum(high),
            // The minimum itself is tried once nothing above it is left.
            (None, Some(high)) if (high - limits.minimum) / high <= resolution => limits.minimum,
            (None, Some(high)) => (limits.minimum + high) / 2.0,
            (None, None) => run.ceiling,
        };
        let rate = rate.min(run.ceiling);
        if rate < limits.minimum || low.is_some_and(|low| low >= rate) {
            break run.bottleneck(offered.unwrap_or(run.ceiling));
        }
        match run.attempt(rate, duration)? {
            Attempt::Ended(ending) => break ending,
            Attempt::Short => (),
            Attempt::Measured(measured) if measured.loss_ratio() > loss_ratio => high = Some(rate),
            Attempt::Measured(measured) => (low, offered) = (Some(rate), Some(measured.reached().min(rate))),
        }
    };
    let rule = format!(
        "It stops when the bounds are within {:.3} % by trials of {:.1} s (RFC 2544 §26.1).",
        resolution * 100.0,
        duration.as_secs_f64()
    );
    Ok(Throughput { ending, lower: offered, upper: high, trials: run.records, spent: run.spent, rule })
}
