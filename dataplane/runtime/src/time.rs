//! Time as the runtime counts it: nanoseconds of a clock that does not go back, real or simulated.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment, in nanoseconds since the clock's beginning: CLOCK_MONOTONIC's, or a simulation's. It lasts for 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The clock's beginning.
    pub const ZERO: Self = Self(0);
    /// A moment that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// So many nanoseconds since the beginning.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the beginning.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time since an earlier moment; none has passed since a later one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// CLOCK_MONOTONIC's now.
    #[must_use]
    pub fn monotonic() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Self(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// What lies beyond the clock's end is [`Instant::NEVER`].
    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// As [`Instant::since`].
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_neither_go_back_nor_overflow() {
        let moment = Instant::from_nanos(5);
        assert_eq!(moment + Duration::from_nanos(3) - moment, Duration::from_nanos(3));
        assert_eq!(moment - (moment + Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(moment + Duration::MAX, Instant::NEVER);
        assert!(Instant::monotonic() <= Instant::monotonic());
    }
}
