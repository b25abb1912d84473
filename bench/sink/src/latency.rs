//! Latency: a histogram of times on the way.
//!
//! Owns: counts by size, with three digits, from 1 ns to [`LIMIT_NS`]; the exact least, greatest and mean. Refuses:
//! nothing silently. An arrival before its departure is an error of the clocks and counted as negative; one above the
//! limit is counted as saturated, and as the limit. Keeps true: nothing allocates after creation.
//!
//! A sink keeps two. From the *intended* departure: an open-loop sender has a schedule, and a packet that left late
//! because the sender stalled has waited since its turn, which is what a user would feel (Tene's coordinated omission).
//! From the *actual* departure: the device under test alone. Their difference is the generator's own lateness.

use hdrhistogram::{CreationError, Histogram};

/// The greatest latency that is told apart: 100 s, in nanoseconds.
pub const LIMIT_NS: u64 = 100_000_000_000;

/// A histogram as all of this crate are: about 220 KiB, of which a run touches the few buckets around its latencies.
pub(crate) fn histogram() -> Result<Histogram<u64>, CreationError> {
    // With bounds it does not resize itself.
    Histogram::new_with_bounds(1, LIMIT_NS, 3)
}

/// Latencies in nanoseconds.
#[derive(Debug)]
pub struct Latency {
    histogram: Histogram<u64>,
    min: u64,
    max: u64,
    sum: u128,
    negative: u64,
    saturated: u64,
}

impl Latency {
    /// No latencies yet.
    ///
    /// # Errors
    /// None with the bounds that this crate has; the histogram's constructor checks them.
    pub fn new() -> Result<Self, CreationError> {
        Ok(Self { histogram: histogram()?, min: u64::MAX, max: 0, sum: 0, negative: 0, saturated: 0 })
    }

    /// Records a packet that departed and arrived then, by one clock. Says whether that can be.
    pub fn record(&mut self, departed_ns: u64, arrived_ns: u64) -> bool {
        let Some(took) = arrived_ns.checked_sub(departed_ns) else {
            self.negative += 1;
            return false;
        };
        self.saturated += u64::from(took > LIMIT_NS);
        self.histogram.saturating_record(took.min(LIMIT_NS));
        self.min = self.min.min(took);
        self.max = self.max.max(took);
        self.sum += u128::from(took);
        true
    }

    /// Latencies recorded, the negative ones not among them.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Packets that arrived before they departed: the clocks disagree.
    pub const fn negative(&self) -> u64 {
        self.negative
    }

    /// Latencies above [`LIMIT_NS`].
    pub const fn saturated(&self) -> u64 {
        self.saturated
    }

    /// The latency that `quantile` (0 to 1) of the packets do not exceed, to three digits; 0 of no packets.
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        // A bucket is told by its upper end, which may lie above the greatest latency that was in it.
        self.histogram.value_at_quantile(quantile).clamp(self.min.min(self.max), self.max)
    }

    /// What a report shows.
    pub fn percentiles(&self) -> Percentiles {
        let count = self.count();
        Percentiles {
            count,
            min: self.min.min(self.max),
            mean: if count == 0 { 0.0 } else { self.sum as f64 / count as f64 },
            p50: self.quantile_ns(0.5),
            p90: self.quantile_ns(0.9),
            p99: self.quantile_ns(0.99),
            p99_9: self.quantile_ns(0.999),
            p99_99: self.quantile_ns(0.9999),
            max: self.max,
        }
    }

    /// Buckets that have something: the greatest latency of each in nanoseconds, and the packets in it.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.histogram.iter_recorded().map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value()))
    }

    /// Adds another core's.
    pub fn merge(&mut self, other: &Self) {
        // Both have the same bounds, so this cannot fail.
        let _ = self.histogram.add(&other.histogram);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum += other.sum;
        self.negative += other.negative;
        self.saturated += other.saturated;
    }
}

/// Latencies in nanoseconds; all 0 where `count` is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Percentiles {
    /// Packets.
    pub count: u64,
    /// The least, exactly.
    pub min: u64,
    /// The mean, exactly.
    pub mean: f64,
    /// Half of the packets took no longer.
    pub p50: u64,
    /// 90 % took no longer.
    pub p90: u64,
    /// 99 % took no longer.
    pub p99: u64,
    /// 99.9 % took no longer.
    pub p99_9: u64,
    /// 99.99 % took no longer; of fewer than 10,000 packets it is the greatest.
    pub p99_99: u64,
    /// The greatest, exactly.
    pub max: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_recorded_shows_as_zeros() {
        assert_eq!(Latency::new().unwrap().percentiles(), Percentiles::default());
    }

    #[test]
    fn an_arrival_before_its_departure_is_counted_and_in_no_bucket() {
        let mut latency = Latency::new().unwrap();
        assert!(!latency.record(1_001, 1_000));
        assert!(latency.record(1_000, 1_000));
        assert_eq!((latency.negative(), latency.count(), latency.quantile_ns(1.0)), (1, 1, 0));
    }

    #[test]
    fn a_latency_above_the_limit_is_counted_and_its_exact_value_is_the_greatest() {
        let mut latency = Latency::new().unwrap();
        latency.record(0, LIMIT_NS);
        assert_eq!(latency.saturated(), 0);
        latency.record(0, 2 * LIMIT_NS);
        latency.record(0, u64::MAX);
        assert_eq!((latency.saturated(), latency.count()), (2, 3));
        assert_eq!(latency.percentiles().max, u64::MAX);
    }

    #[test]
    fn a_quantile_lies_within_a_thousandth_of_the_sorted_value() {
        let mut latency = Latency::new().unwrap();
        let mut all: Vec<u64> = (1..=10_007u64).map(|n| n * n * 37 % 9_000_011 + 1).collect();
        all.iter().for_each(|&took| assert!(latency.record(5, 5 + took)));
        all.sort_unstable();
        for quantile in [0.0001, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0] {
            let exact = all[(quantile * all.len() as f64).ceil() as usize - 1];
            let told = latency.quantile_ns(quantile);
            assert!(
                told >= exact && (told - exact) as f64 <= exact as f64 / 1000.0,
                "{quantile}: {told} for {exact}"
            );
        }
    }

    #[test]
    fn two_halves_merged_are_the_whole() {
        let mut parts = [(); 3].map(|()| Latency::new().unwrap());
        for n in 0..1_000u64 {
            let took = n * 7_919 % 100_000;
            parts[2].record(50, 50 + took);
            parts[(n % 2) as usize].record(50, 50 + took);
        }
        let [mut a, b, whole] = parts;
        a.merge(&b);
        assert_eq!(a.percentiles(), whole.percentiles());
        assert!(a.buckets().eq(whole.buckets()));
    }
}
