//! When packets are due.
//!
//! Keeps true: packet `n` is due `n` intervals after the first, whatever happened to those before it, so that the mean rate
//! is exact. A sender that falls behind by more than [`DEBT`] is let off what is above it: a stall is not made up for by
//! a storm, and the report's rate shows it.

/// Nanoseconds of packets that are made up for at once.
const DEBT: u64 = 20_000_000;

/// A schedule of evenly spaced packets.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Nanoseconds of a packet, in units of 2⁻³² ns: 1 pps to 2³¹ pps without a rounding that shows in a day.
    interval: u128,
    /// When packet 0 of the present schedule is due.
    start: u64,
    /// Packets that were sent since.
    sent: u64,
}

impl Pace {
    /// Packets of that rate (per second), the first one due at `start` (see [`crate::clock::now`]). `None` when the rate is
    /// not between 10⁻³ and 10⁹.
    pub fn new(rate: f64, start: u64) -> Option<Self> {
        let interval = 1e9 / rate;
        (1.0..=1e12).contains(&interval).then(|| Self {
            interval: (interval * 2f64.powi(32)).round() as u128,
            start,
            sent: 0,
        })
    }

    /// Packets to send at `now`.
    pub fn due(&mut self, now: u64) -> u64 {
        let Some(elapsed) = now.checked_sub(self.start) else { return 0 };
        let late = now.saturating_sub(self.next());
        if late > DEBT {
            // The present schedule moves back as a whole.
            self.start += late - DEBT;
            return self.due(now);
        }
        let all = ((u128::from(elapsed) + 1) << 32).div_ceil(self.interval) as u64;
        all.saturating_sub(self.sent)
    }

    /// When the next packet is due.
    pub fn next(&self) -> u64 {
        self.start + ((u128::from(self.sent) * self.interval) >> 32) as u64
    }

    /// That many were sent.
    pub fn sent(&mut self, packets: u64) {
        self.sent += packets;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn packets_are_due_one_interval_apart() {
        let mut pace = Pace::new(50_000.0, 1000).unwrap();
        assert_eq!((pace.due(999), pace.due(1000), pace.due(20_999), pace.due(21_000)), (0, 1, 1, 2));
        pace.sent(2);
        assert_eq!((pace.due(21_000), pace.next(), pace.due(41_000)), (0, 41_000, 1));
    }

    #[test]
    fn a_stall_is_made_up_for_up_to_a_limit() {
        let mut pace = Pace::new(1000.0, 0).unwrap();
        pace.sent(1);
        assert_eq!(pace.due(1_000_000 + DEBT), 21);
        assert_eq!(pace.due(1_000_000_000), 21);
        pace.sent(21);
        assert_eq!((pace.due(1_000_000_000), pace.next()), (0, 1_001_000_000));
    }

    #[test]
    fn rates_that_cannot_be_are_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e10, 1e-4] {
            assert!(Pace::new(rate, 0).is_none(), "{rate}");
        }
    }

    proptest! {
        #[test]
        fn waiting_for_the_next_packet_makes_exactly_one_due(rate in 1.0..1e6f64, packets in 1..200u64) {
            let mut pace = Pace::new(rate, 5).unwrap();
            for _ in 0..packets {
                let next = pace.next();
                // A fraction of a nanosecond may be missing; never a whole one.
                prop_assert_eq!(pace.due(next + 1), 1);
                prop_assert!(next == 0 || pace.due(next.saturating_sub(2)) == 0);
                pace.sent(1);
            }
            let exact = packets as f64 * 1e9 / rate;
            prop_assert!(((pace.next() - 5) as f64 - exact).abs() <= 1.0 + exact * 1e-9);
        }
    }
}
