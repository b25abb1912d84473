//! What a stage is.
//!
//! A stage looks at the undecided packets of a burst and decides about some or all of them. It has no I/O and no clock of
//! its own: bytes and a time in, verdicts and bytes out, so the same packets give the same answer on every device.
//!
//! To add one: a file in [`crate::stages`] that implements [`Stage`], a variant of [`crate::snapshot::AnyStage`], and its
//! line in [`crate::compile`].

use zsync_packet::burst::Burst;

/// What a stage is told besides the packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cx {
    /// Nanoseconds of a monotonic clock, read once a pass.
    pub now: u64,
}

/// An element of a pipeline.
pub trait Stage {
    /// Decides about undecided packets of the burst ([`Burst::undecided`]), or leaves them to the next stage.
    fn process(&mut self, burst: &mut Burst, cx: &Cx);
}

/// How often something may happen: `rate` times a second, with as many at once. Time that goes back counts as standing.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    interval: u64,
    rate: u64,
    /// When the allowance was, or will be, all used up: the "theoretical arrival time" of GCRA.
    used_up: u64,
}

impl Allowance {
    /// `rate` a second, of which all may come at once. A rate of 0 allows nothing.
    pub fn per_second(rate: u32) -> Self {
        let interval = if rate == 0 { 0 } else { 1_000_000_000 / u64::from(rate) };
        Self { interval, rate: u64::from(rate), used_up: 0 }
    }

    /// Whether it may happen at `now` (nanoseconds); if so, it is counted.
    #[inline]
    pub fn take(&mut self, now: u64) -> bool {
        if self.rate == 0 {
            return false;
        }
        // One second's worth may be used ahead of time.
        let full = self.interval * (self.rate - 1);
        if self.used_up > now.saturating_add(full) {
            return false;
        }
        self.used_up = self.used_up.max(now) + self.interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_is_its_rate_in_any_second_and_its_burst_at_once() {
        let mut allowance = Allowance::per_second(10);
        let now = 5_000_000_000;
        assert_eq!((0..100).filter(|_| allowance.take(now)).count(), 10);
        assert!(!allowance.take(now + 99_000_000));
        assert!(allowance.take(now + 100_000_000));
        assert!(!allowance.take(now), "time went back");
        assert_eq!((0..100).filter(|_| allowance.take(now + 10_000_000_000)).count(), 10);
        assert!(!Allowance::per_second(0).take(now));
    }
}
