//! Curves that an outcome may carry: loss by offered rate, latency by percentile.

use serde::{Deserialize, Serialize};

/// What one thing lost at each rate that it was offered, in the order of the trials (RFC 2544 section 26.3).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LossCurve {
    /// Of whom: a name that the outcome has among its series.
    pub series: String,
    /// The trials.
    pub trials: Vec<Trial>,
}

/// One trial at one rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Packets per second that were sent.
    pub offered: f64,
    /// Packets per second that arrived.
    pub received: f64,
    /// Lost packets of those sent, from 0 to 1. It is counted, not computed from the rates, which have clocks of their own.
    pub loss: f64,
}

impl LossCurve {
    /// The trials that can be drawn: finite, loss from 0 to 1; by rising rate.
    pub fn sound(&self) -> Vec<Trial> {
        let sound = |t: &Trial| t.offered.is_finite() && t.offered >= 0.0 && (0.0..=1.0).contains(&t.loss);
        let mut trials: Vec<Trial> = self.trials.iter().copied().filter(sound).collect();
        trials.sort_by(|a, b| a.offered.total_cmp(&b.offered));
        trials
    }
}

/// How long packets took, by percentile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyCurve {
    /// Of whom: a name that the outcome has among its series.
    pub series: String,
    /// Packets per second that were sent meanwhile. Latencies at different rates do not compare.
    #[serde(default)]
    pub offered: Option<f64>,
    /// How many packets were timed.
    #[serde(default)]
    pub packets: Option<u64>,
    /// The points.
    pub points: Vec<Percentile>,
}

/// One point: that part of the packets took no longer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentile {
    /// From 0 to 1; 1 is the slowest packet.
    pub quantile: f64,
    /// Nanoseconds.
    pub nanoseconds: f64,
}

impl LatencyCurve {
    /// The same, of a series of that name.
    pub fn of(self, series: &str) -> Self {
        Self { series: series.to_owned(), ..self }
    }

    /// The points that can be drawn: quantile from 0 to 1, a time above nothing; by rising quantile.
    pub fn sound(&self) -> Vec<Percentile> {
        let sound = |p: &Percentile| {
            (0.0..=1.0).contains(&p.quantile) && p.nanoseconds.is_finite() && p.nanoseconds > 0.0
        };
        let mut points: Vec<Percentile> = self.points.iter().copied().filter(sound).collect();
        points.sort_by(|a, b| a.quantile.total_cmp(&b.quantile));
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_drawn_is_left_out_and_the_rest_is_in_order() {
        let trial = |offered, loss| Trial { offered, received: 0.0, loss };
        let trials = vec![
            trial(2e6, 0.5),
            trial(1e6, 0.0),
            trial(f64::NAN, 0.0),
            trial(3e6, 1.5),
            trial(3e6, f64::NAN),
        ];
        let curve = LossCurve { trials, ..LossCurve::default() };
        assert_eq!(curve.sound(), [trial(1e6, 0.0), trial(2e6, 0.5)]);

        let point = |quantile, nanoseconds| Percentile { quantile, nanoseconds };
        let points =
            vec![point(1.0, 9.0), point(0.5, 2.0), point(1.1, 3.0), point(0.9, 0.0), point(0.9, f64::NAN)];
        let curve = LatencyCurve { points, ..LatencyCurve::default() };
        assert_eq!(curve.sound(), [point(0.5, 2.0), point(1.0, 9.0)]);
    }
}
