//! Variation: how unevenly packets arrive, from their times on the way. A constant error of the clocks cancels out.
//!
//! Owns: of each flow, the last packet's time on the way and the smoothed jitter of RFC 3550 (section 6.4.1), which takes
//! packets in the order of arrival; of all flows, the IP packet delay variation of RFC 3393 between packets with
//! neighbouring sequences that arrived one after the other. Refuses: copies, and packets too old to tell.

use crate::latency::{LIMIT_NS, histogram};
use hdrhistogram::{CreationError, Histogram};

/// The last packet of a flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transit {
    last_ns: i64,
    jitter_ns: f32,
    any: bool,
    /// Whether the last packet is the flow's highest sequence, so that the next one is its neighbour.
    highest: bool,
}

impl Transit {
    pub(crate) const NONE: Self = Self { last_ns: 0, jitter_ns: 0.0, any: false, highest: false };

    pub(crate) const fn jitter_ns(&self) -> f32 {
        self.jitter_ns
    }
}

/// Delay variation over all flows.
#[derive(Debug)]
pub struct Variation {
    magnitudes: Histogram<u64>,
    longer: u64,
    shorter: u64,
    saturated: u64,
}

impl Variation {
    pub(crate) fn new() -> Result<Self, CreationError> {
        Ok(Self { magnitudes: histogram()?, longer: 0, shorter: 0, saturated: 0 })
    }

    /// A flow's packet took `transit_ns`; `next`: it follows the highest sequence before it; `highest`: it is the highest.
    pub(crate) fn arrived(&mut self, flow: &mut Transit, transit_ns: i64, next: bool, highest: bool) {
        if flow.any {
            let by = transit_ns.saturating_sub(flow.last_ns);
            flow.jitter_ns += (by.unsigned_abs() as f32 - flow.jitter_ns) / 16.0;
            if next && flow.highest {
                self.vary(by);
            }
        }
        *flow = Transit { last_ns: transit_ns, any: true, highest, ..*flow };
    }

    fn vary(&mut self, by_ns: i64) {
        self.longer += u64::from(by_ns > 0);
        self.shorter += u64::from(by_ns < 0);
        self.saturated += u64::from(by_ns.unsigned_abs() > LIMIT_NS);
        self.magnitudes.saturating_record(by_ns.unsigned_abs().min(LIMIT_NS));
    }

    /// Pairs of packets that were compared.
    pub fn pairs(&self) -> u64 {
        self.magnitudes.len()
    }

    /// Pairs whose second packet took longer than the first.
    pub const fn longer(&self) -> u64 {
        self.longer
    }

    /// Pairs whose second packet took less time than the first.
    pub const fn shorter(&self) -> u64 {
        self.shorter
    }

    /// Pairs that differ by more than [`LIMIT_NS`], counted as that much.
    pub const fn saturated(&self) -> u64 {
        self.saturated
    }

    /// The variation, in nanoseconds and without its sign, that `quantile` (0 to 1) of the pairs do not exceed.
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        self.magnitudes.value_at_quantile(quantile).min(LIMIT_NS)
    }

    /// Adds another core's.
    pub(crate) fn merge(&mut self, other: &Self) {
        // Both have the same bounds, so this cannot fail.
        let _ = self.magnitudes.add(&other.magnitudes);
        self.longer += other.longer;
        self.shorter += other.shorter;
        self.saturated += other.saturated;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_the_smoothed_mean_of_rfc_3550() {
        let (mut variation, mut flow) = (Variation::new().unwrap(), Transit::NONE);
        for transit in [1_000, 1_160, 1_160, 840] {
            variation.arrived(&mut flow, transit, true, true);
        }
        // J: 0, 160/16 = 10, 10 - 10/16 = 9.375, 9.375 + (320 - 9.375)/16 = 28.789.
        assert_eq!(flow.jitter_ns(), 28.789_063);
        assert_eq!((variation.pairs(), variation.longer(), variation.shorter()), (3, 1, 1));
    }

    #[test]
    fn a_constant_error_of_the_clocks_changes_nothing() {
        let of = |error: i64| {
            let (mut variation, mut flow) = (Variation::new().unwrap(), Transit::NONE);
            for transit in [50_000, 90_000, 20_000] {
                variation.arrived(&mut flow, transit + error, true, true);
            }
            (flow.jitter_ns(), variation.quantile_ns(0.5), variation.quantile_ns(1.0))
        };
        assert_eq!(of(0), of(-1_000_000_000));
    }

    #[test]
    fn only_neighbours_in_sequence_and_in_arrival_are_compared() {
        let (mut variation, mut flow) = (Variation::new().unwrap(), Transit::NONE);
        variation.arrived(&mut flow, 100, true, true);
        variation.arrived(&mut flow, 200, false, true);
        assert_eq!(variation.pairs(), 0, "one between them is missing");
        variation.arrived(&mut flow, 900, false, false);
        variation.arrived(&mut flow, 300, true, true);
        assert_eq!(variation.pairs(), 0, "the late one came between them");
        variation.arrived(&mut flow, 350, true, true);
        assert_eq!((variation.pairs(), variation.quantile_ns(1.0)), (1, 50));
    }
}
