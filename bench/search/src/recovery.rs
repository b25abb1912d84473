//! System recovery (RFC 2544 §26.5): how long a device goes on losing packets after an overload has ended.
//!
//! Keeps true: a time is one from the cut of the rate (time stamp A) to the last loss (B), so B − A; RFC 2544 names the two
//! the other way round, which would be below zero. A trial in which the device lost nothing had no overload to recover from:
//! it is no time of zero, as RFC 2544 would allow, but void.

use crate::run::SearchError;
use crate::trial::Rate;
use std::fmt;
use std::time::Duration;

/// The overload, as a part of the throughput, where the line carries as much.
pub const OVERLOAD: f64 = 1.1;
/// What the rate is cut to, as a part of the overload.
pub const CUT: f64 = 0.5;
/// RFC 2544 §26.5: at least 60 s of overload.
pub const RFC2544_DURATION: Duration = Duration::from_secs(60);

/// What overloads a device and relieves it.
pub trait Overload {
    /// Why it could not.
    type Error;

    /// Offers `overload` packets per second for `duration`, then `relief` packets per second until no packet has been lost
    /// for long enough.
    ///
    /// # Errors
    /// It could not be run.
    fn run(&mut self, overload: f64, relief: f64, duration: Duration) -> Result<Relieved, Self::Error>;
}

/// What was seen. Times are of one clock, from its own zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relieved {
    /// Packets per second that the generator reached during the overload.
    pub offered: f64,
    /// When the rate was cut (time stamp A).
    pub cut_at: Duration,
    /// When the last lost packet was sent (time stamp B), if any was lost.
    pub last_lost_at: Option<Duration>,
    /// Packets lost in all.
    pub lost: u64,
}

impl fmt::Display for Relieved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (offered, cut) = (Rate(self.offered), self.cut_at.as_secs_f64());
        write!(f, "{offered} until {cut:.6} s, {} packets lost", self.lost)?;
        self.last_lost_at.map_or(Ok(()), |last| write!(f, ", the last at {:.6} s", last.as_secs_f64()))
    }
}

/// The recovery times.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovery {
    /// Packets per second of the throughput that the overload is of.
    pub throughput: f64,
    /// Packets per second of the overload that was asked for.
    pub overload: f64,
    /// Trial by trial, B − A; zero when nothing was lost after the cut.
    pub times: Vec<Duration>,
    /// Trials that do not count, as the generator fell short of the overload or nothing was lost in it.
    pub void: Vec<Relieved>,
    /// Every trial.
    pub trials: Vec<Relieved>,
    /// The stopping rule, as a sentence.
    pub rule: String,
}

impl Recovery {
    /// The mean; none without a trial that counts.
    pub fn mean(&self) -> Option<Duration> {
        let count = u32::try_from(self.times.len()).ok().filter(|&count| count > 0)?;
        Some(self.times.iter().sum::<Duration>() / count)
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (overload, throughput) = (Rate(self.overload), Rate(self.throughput));
        write!(f, "system recovery from {overload} (throughput {throughput}): ")?;
        match self.mean() {
            Some(mean) => write!(f, "{:.6} s", mean.as_secs_f64())?,
            None => f.write_str("not measured")?,
        }
        if let Some(void) = self.void.last() {
            let count = self.void.len();
            write!(f, "; {count} trials without overload (last: offered {})", Rate(void.offered))?;
        }
        writeln!(f, ". {}", self.rule)
    }
}

/// [`measure_within`] a line without a limit.
///
/// # Errors
/// Settings that make no sense; a trial that failed.
pub fn measure<O: Overload>(
    device: &mut O,
    throughput: f64,
    count: u32,
    duration: Duration,
) -> Result<Recovery, SearchError<O::Error>> {
    measure_within(device, throughput, f64::INFINITY, count, duration)
}

/// Runs `count` trials, each of `duration` at 110 % of `throughput` or at `maximum` packets per second, the line's rate,
/// whichever is lower; then at half of that.
///
/// # Errors
/// Settings that make no sense; a trial that failed.
pub fn measure_within<O: Overload>(
    device: &mut O,
    throughput: f64,
    maximum: f64,
    count: u32,
    duration: Duration,
) -> Result<Recovery, SearchError<O::Error>> {
    let sound = throughput > 0.0 && throughput.is_finite() && maximum > 0.0;
    if count == 0 || duration.is_zero() || !sound {
        return Err(SearchError::Setting("needs trials, a duration, and a throughput and a maximum above 0"));
    }
    let overload = (throughput * OVERLOAD).min(maximum);
    let (mut times, mut void, mut trials) = (vec![], vec![], vec![]);
    for _ in 0..count {
        let seen = device
            .run(overload, overload * CUT, duration)
            .map_err(|error| SearchError::Trial { rate: overload, error })?;
        trials.push(seen);
        match seen.last_lost_at {
            Some(last) if seen.offered >= overload * (1.0 - crate::trial::TOLERANCE) => {
                times.push(last.saturating_sub(seen.cut_at));
            }
            _ => void.push(seen),
        }
    }
    let seconds = duration.as_secs_f64();
    let rule = format!("It stops after {count} trials of {seconds:.1} s of overload (RFC 2544 §26.5).");
    Ok(Recovery { throughput, overload, times, void, trials, rule })
}
