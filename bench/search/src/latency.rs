//! Latency at parts of a rate: at 10, 50 and 90 % of the PDR or NDR, or at the throughput itself (RFC 2544 §26.2).
//!
//! Departs from RFC 2544 on purpose: it takes one tagged packet of each trial, 60 s after the first, and the mean over the
//! trials. Here each trial has quantiles of all packets whose latency was taken, and the mean is of their medians. Which of
//! RFC 1242's two latencies it is, of bit forwarding or of storing and forwarding, is the trial's to know and the report's
//! to say.

use crate::run::{Attempt, Ending, Limits, Run, SearchError, Watch};
use crate::trial::{Latency, Rate, Record, Trial};
use std::fmt;
use std::time::Duration;

/// Parts of the PDR at which the FD.io CSIT project measures, besides a device without load.
pub const PARTS: [f64; 3] = [0.1, 0.5, 0.9];
/// RFC 2544 §26.2: at the throughput.
pub const AT_THROUGHPUT: [f64; 1] = [1.0];
/// RFC 2544 §26.2: trials of at least 120 s.
pub const RFC2544_DURATION: Duration = Duration::from_secs(120);
/// RFC 2544 §26.2: at least 20 trials, the mean of which is reported.
pub const RFC2544_TRIALS: u32 = 20;

/// Latency at one rate.
#[derive(Clone, Debug, PartialEq)]
pub struct At {
    /// Part of the rate that the parts are of.
    pub part: f64,
    /// Packets per second that were asked for.
    pub rate: f64,
    /// Trial by trial, of those in which the generator kept up and latency was measured.
    pub latencies: Vec<Latency>,
    /// The greatest loss ratio of those trials: quantiles are of the packets that came back only.
    pub loss_ratio: f64,
}

impl At {
    /// The mean of the trials' medians, nanoseconds; none without a trial.
    pub fn median(&self) -> Option<f64> {
        let count = self.latencies.len();
        (count > 0).then(|| self.latencies.iter().map(|l| l.p50 as f64).sum::<f64>() / count as f64)
    }
}

/// Latency at each rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Latencies {
    /// How it ended.
    pub ending: Ending,
    /// One for each part that was begun.
    pub at: Vec<At>,
    /// Every trial, in order.
    pub trials: Vec<Record>,
    /// Sum of the trials' durations.
    pub spent: Duration,
    /// The stopping rule, as a sentence.
    pub rule: String,
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for at in &self.at {
            write!(f, "latency at {:.0} % ({}): ", at.part * 100.0, Rate(at.rate))?;
            match at.latencies.as_slice() {
                [] => f.write_str("not measured")?,
                [one] => write!(f, "{one}")?,
                [.., last] => {
                    let median = at.median().unwrap_or_default();
                    write!(f, "mean of {} medians {median:.0} ns; last trial {last}", at.latencies.len())?;
                }
            }
            if at.loss_ratio > 0.0 {
                write!(f, "; up to {:.4} % lost", at.loss_ratio * 100.0)?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "{}. {} trials, {:.1} s. {}",
            self.ending,
            self.trials.len(),
            self.spent.as_secs_f64(),
            self.rule
        )
    }
}

/// Runs `count` trials of `duration` at each part of `rate`; the minimum of the limits does not bind here.
///
/// # Errors
/// Settings that make no sense; a trial that failed or contradicts itself.
pub fn measure<T: Trial>(
    trial: &mut T,
    rate: f64,
    parts: &[f64],
    (count, duration): (u32, Duration),
    limits: Limits,
    watch: Watch<'_>,
) -> Result<Latencies, SearchError<T::Error>> {
    let sound = |part: &f64| *part > 0.0 && part * rate <= limits.maximum;
    if count == 0 || duration.is_zero() || !(rate > 0.0 && rate.is_finite()) || !parts.iter().all(sound) {
        return Err(SearchError::Setting(
            "needs trials, a duration, a rate, and parts of it up to the maximum",
        ));
    }
    let mut run = Run::new(trial, limits, watch)?;
    let mut ending = Ending::Complete;
    let mut at = vec![];
    'parts: for &part in parts {
        at.push(At { part, rate: rate * part, latencies: vec![], loss_ratio: 0.0 });
        let Some(now) = at.last_mut() else { break };
        for _ in 0..count {
            match run.attempt(now.rate, duration)? {
                Attempt::Measured(measured) => {
                    now.loss_ratio = now.loss_ratio.max(measured.loss_ratio());
                    now.latencies.extend(measured.latency);
                }
                // A weaker load than was asked for has another latency.
                Attempt::Short => {
                    let reached = run.records.last().map_or(0.0, |record| record.measured.reached());
                    ending = Ending::Bottleneck { reached, asked: now.rate };
                }
                Attempt::Ended(early) => {
                    ending = early;
                    break 'parts;
                }
            }
        }
    }
    let seconds = duration.as_secs_f64();
    let rule = format!("It stops after {count} trials of {seconds:.1} s at each of {} rates.", parts.len());
    Ok(Latencies { ending, at, trials: run.records, spent: run.spent, rule })
}
