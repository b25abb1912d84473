//! Maximum receive rate: what comes back when the generator sends all it can.
//!
//! No search and no promise about loss; quick, and good for comparing two versions of one device. The name is the FD.io CSIT
//! project's, which takes 10 trials of 1 s; RFC 2285 §3.6.2 calls the like the forwarding rate at maximum offered load.

use crate::run::{Attempt, Ending, Limits, Run, SearchError, Watch};
use crate::trial::{Rate, Record, Trial};
use std::fmt;
use std::time::Duration;

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub struct Mrr {
    /// How it ended. [`Ending::Bottleneck`] when nothing was lost in any trial: the device could have taken more.
    pub ending: Ending,
    /// Received packets per second, trial by trial.
    pub received: Vec<f64>,
    /// Every trial, in order; those in which the generator fell short of the maximum count here, as the maximum is its own.
    pub trials: Vec<Record>,
    /// Sum of the trials' durations.
    pub spent: Duration,
    /// The stopping rule, as a sentence.
    pub rule: String,
}

impl Mrr {
    /// The mean of the received rates, packets per second; none without a trial.
    pub fn mean(&self) -> Option<f64> {
        (!self.received.is_empty()).then(|| self.received.iter().sum::<f64>() / self.received.len() as f64)
    }

    /// The standard deviation of the received rates (of a sample), packets per second; none below two trials.
    pub fn deviation(&self) -> Option<f64> {
        let mean = self.mean().filter(|_| self.received.len() > 1)?;
        let squares: f64 = self.received.iter().map(|rate| (rate - mean).powi(2)).sum();
        Some((squares / (self.received.len() - 1) as f64).sqrt())
    }
}

impl fmt::Display for Mrr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |rate: Option<f64>| rate.map_or("unknown".to_owned(), |rate| Rate(rate).to_string());
        let (mean, deviation) = (known(self.mean()), known(self.deviation()));
        writeln!(f, "maximum receive rate: {mean}, standard deviation {deviation}; {}", self.ending)?;
        writeln!(f, "{} trials, {:.1} s. {}", self.trials.len(), self.spent.as_secs_f64(), self.rule)
    }
}

/// Runs `count` trials of `duration` at the maximum rate.
///
/// # Errors
/// Settings that make no sense; a trial that failed or contradicts itself.
pub fn measure<T: Trial>(
    trial: &mut T,
    count: u32,
    duration: Duration,
    limits: Limits,
    watch: Watch<'_>,
) -> Result<Mrr, SearchError<T::Error>> {
    if count == 0 || duration.is_zero() {
        return Err(SearchError::Setting("needs at least one trial, and a duration"));
    }
    let mut run = Run::new(trial, limits, watch)?;
    let mut ending = Ending::Complete;
    for _ in 0..count {
        if let Attempt::Ended(early) = run.attempt(limits.maximum, duration)? {
            ending = early;
            break;
        }
    }
    let lossless = run.records.iter().all(|record| record.loss_ratio == 0.0 || record.measured.sent == 0);
    if ending == Ending::Complete && lossless {
        let reached = run.records.iter().map(|record| record.measured.reached().min(limits.maximum));
        ending = Ending::Bottleneck { reached: reached.fold(0.0, f64::max), asked: limits.maximum };
    }
    let received = run.records.iter().map(|record| record.measured.forwarding_rate()).collect();
    let rule =
        format!("It stops after {count} trials of {:.1} s at the maximum rate.", duration.as_secs_f64());
    Ok(Mrr { ending, received, trials: run.records, spent: run.spent, rule })
}
