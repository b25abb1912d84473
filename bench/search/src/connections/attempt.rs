//! One trial, and the run of trials: an empty table, phase 1, phase 2.

use super::{Connections, Established};
use crate::run::{Ending, SearchError};
use crate::trial::{Scaled, TOLERANCE};
use std::fmt;
use std::time::Duration;

/// Trials in a row in which the generator must fall short for that to be its limit.
const SHORT_TRIALS: u32 = 3;

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

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, rate, phase1, valid } = *self;
        write!(f, "{count} connections at {}: {phase1}, {valid} valid", Scaled(rate, "cps"))?;
        f.write_str(if self.short() { " (the generator fell short: not counted)" } else { "" })
    }
}

/// Trials under way.
pub struct Trials<'a, C> {
    device: &'a mut C,
    cancelled: &'a dyn Fn() -> bool,
    time: Duration,
    pub records: Vec<Attempt>,
    pub spent: Duration,
}

impl<'a, C: Connections> Trials<'a, C> {
    pub fn new(device: &'a mut C, time: Duration, cancelled: &'a dyn Fn() -> bool) -> Self {
        Self { device, cancelled, time, records: vec![], spent: Duration::ZERO }
    }

    /// A trial with an empty table, or why there was none. One in which the generator fell short is repeated: something else
    /// may have held it up. The best of them is told.
    pub fn attempt(
        &mut self,
        count: u64,
        rate: f64,
    ) -> Result<Result<Attempt, Ending>, SearchError<C::Error>> {
        let mut best: Option<Attempt> = None;
        for _ in 0..SHORT_TRIALS {
            let attempt = match self.once(count, rate)? {
                Ok(attempt) => attempt,
                Err(ending) => return Ok(Err(ending)),
            };
            if best.is_none_or(|best| best.reached() < attempt.reached()) {
                best = Some(attempt);
            }
            if !attempt.short() {
                return Ok(Ok(attempt));
            }
        }
        Ok(best.ok_or(Ending::Cancelled))
    }

    fn once(&mut self, count: u64, rate: f64) -> Result<Result<Attempt, Ending>, SearchError<C::Error>> {
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
