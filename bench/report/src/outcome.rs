//! One comparison: what was measured, what came of it, and whether it is a measurement at all.
//!
//! Owns: samples in the order of the rounds. Everything else (spreads, ratios, who is ahead) is computed from them.
//! Keeps true: a ratio is of a pair, one round of each side, and above 1 always means that zsync is better; what makes an
//! outcome worthless is found here and not left to the reader.

use crate::curve::{LatencyCurve, LossCurve};
use crate::machine::Machine;
use crate::spread::Spread;
use serde::{Deserialize, Serialize};

/// A median this near to 1 is level, even if every pair is on the same side: the two were not built alike to the last bit.
pub const LEVEL: f64 = 0.01;

/// With fewer pairs than this a spread says little, and a page says so.
pub const FEW: usize = 3;

/// The outcome of one comparison.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Outcome {
    /// Name of the benchmark, as it is called on the command line.
    pub name: String,
    /// What is measured, in a sentence.
    #[serde(default)]
    pub title: String,
    /// Unit of the samples: "packets/s", "clocks/packet", "instructions/packet", "ns".
    pub unit: String,
    /// Which way is better.
    pub direction: Direction,
    /// zsync.
    pub ours: Series,
    /// What it was measured beside, the one that was asked for first.
    #[serde(default)]
    pub peers: Vec<Series>,
    /// The command that measures it again.
    #[serde(default)]
    pub command: String,
    /// Where.
    #[serde(flatten)]
    pub machine: Machine,
    /// Commit of zsync that was measured.
    #[serde(default)]
    pub commit: String,
    /// When: a date, or date and time, as in RFC 3339.
    #[serde(default)]
    pub date: String,
    /// Latency by percentile, of some of the series.
    #[serde(default)]
    pub latency: Vec<LatencyCurve>,
    /// Loss by offered rate, of some of the series.
    #[serde(default)]
    pub loss: Vec<LossCurve>,
    /// What a reader must know to judge the figures.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Who should have been measured and was not.
    #[serde(default)]
    pub absent: Vec<Absent>,
    /// Why this is no measurement, as far as the benchmark saw; see [`Outcome::problems`].
    #[serde(default)]
    pub invalid: Vec<String>,
}

/// Whether more or less of the unit is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// As with packets per second.
    #[serde(rename = "more is better")]
    More,
    /// As with nanoseconds.
    #[serde(rename = "less is better")]
    Less,
}

/// Samples of one thing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Series {
    /// What it is: "zsync", "testpmd", "kernel forwarding".
    pub name: String,
    /// In the order of the rounds, in the outcome's unit.
    #[serde(deserialize_with = "crate::json::samples")]
    pub samples: Vec<f64>,
    /// CPU time per packet in nanoseconds: of every thread involved, the kernel's softirq included.
    #[serde(default)]
    pub cpu_ns_per_packet: Option<f64>,
    /// Greatest rate without loss, if it was searched.
    #[serde(default)]
    pub ndr: Option<Ndr>,
}

impl Series {
    /// With these samples, and nothing else known.
    pub fn new(name: impl Into<String>, samples: impl Into<Vec<f64>>) -> Self {
        Self { name: name.into(), samples: samples.into(), ..Self::default() }
    }
}

/// No-drop rate: the greatest at which no more than so much was lost (RFC 2544 section 26.1, with a limit that is said).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ndr {
    /// Packets per second.
    pub rate: f64,
    /// Loss that counts as none, from 0 to 1.
    pub loss_limit: f64,
}

impl Ndr {
    /// How much loss counts as none, in words.
    pub fn limit(&self) -> String {
        if self.loss_limit == 0.0 {
            "without loss".to_owned()
        } else {
            format!("at loss up to {:e}", self.loss_limit)
        }
    }
}

/// A peer that was not measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    /// Who.
    pub name: String,
    /// Why, and what to do about it.
    pub reason: String,
}

/// Ours against one peer, pair by pair.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// Against whom.
    pub peer: String,
    /// Of the samples.
    #[serde(flatten)]
    pub spread: Spread,
    /// Of each pair; above 1 ours is better.
    pub samples: Vec<f64>,
}

/// How ours stands against one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Better in every pair, and by more than [`LEVEL`] in the median.
    Ahead,
    /// Neither.
    Level,
    /// Worse in every pair, and by more than [`LEVEL`] in the median.
    Behind,
}

impl Standing {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ahead => "ahead",
            Self::Level => "level",
            Self::Behind => "behind",
        }
    }
}

impl Ratio {
    /// How ours stands by this ratio.
    pub fn standing(&self) -> Standing {
        if self.spread.minimum > 1.0 && self.spread.median > 1.0 + LEVEL {
            Standing::Ahead
        } else if self.spread.maximum < 1.0 && self.spread.median < 1.0 / (1.0 + LEVEL) {
            Standing::Behind
        } else {
            Standing::Level
        }
    }
}

impl Outcome {
    /// One of ours, with nothing else known.
    pub fn new(name: impl Into<String>, unit: impl Into<String>, direction: Direction, ours: Series) -> Self {
        Self {
            name: name.into(),
            title: String::new(),
            unit: unit.into(),
            direction,
            ours,
            peers: vec![],
            command: String::new(),
            machine: Machine::default(),
            commit: String::new(),
            date: String::new(),
            latency: vec![],
            loss: vec![],
            notes: vec![],
            absent: vec![],
            invalid: vec![],
        }
    }

    /// Ours against `peer`, pair by pair; `None` when no pair has a ratio. Pairs that have none are left out, and are among
    /// the [`Outcome::problems`].
    pub fn ratio(&self, peer: &Series) -> Option<Ratio> {
        let samples: Vec<f64> = self
            .ours
            .samples
            .iter()
            .zip(&peer.samples)
            .filter(|&(&ours, &theirs)| is_sound(ours) && is_sound(theirs))
            .map(|(ours, theirs)| match self.direction {
                Direction::More => ours / theirs,
                Direction::Less => theirs / ours,
            })
            .filter(|ratio| is_sound(*ratio))
            .collect();
        Some(Ratio { peer: peer.name.clone(), spread: Spread::of(&samples)?, samples })
    }

    /// Against each peer that there is a ratio with.
    pub fn ratios(&self) -> Vec<Ratio> {
        self.peers.iter().filter_map(|peer| self.ratio(peer)).collect()
    }

    /// Why this is no measurement: what the benchmark said, and what the samples show. Empty when it is one.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.invalid.clone();
        let mut add = |problem: String| {
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        };
        let rounds = self.ours.samples.len();
        for series in self.series() {
            let Series { name, samples, .. } = series;
            if samples.is_empty() {
                add(format!("{name} has no samples"));
            } else if samples.len() != rounds && rounds != 0 {
                let theirs = samples.len();
                add(format!(
                    "{name} has {theirs} rounds and {} has {rounds}: they are no pairs",
                    self.ours.name
                ));
            }
            if let Some(round) = samples.iter().position(|&sample| !is_sound(sample)) {
                add(format!("{name} has {} {} in round {}", samples[round], self.unit, round + 1));
            }
        }
        problems
    }

    /// Ours, then the peers.
    pub fn series(&self) -> impl Iterator<Item = &Series> {
        std::iter::once(&self.ours).chain(&self.peers)
    }
}

fn is_sound(sample: f64) -> bool {
    sample.is_finite() && sample > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compared(direction: Direction, ours: &[f64], theirs: &[f64]) -> Outcome {
        let mut outcome = Outcome::new("test", "packets/s", direction, Series::new("zsync", ours));
        outcome.peers.push(Series::new("testpmd", theirs));
        outcome
    }

    #[test]
    fn a_slow_moment_of_the_machine_slows_both_and_the_ratio_does_not_see_it() {
        let ratio = &compared(Direction::More, &[8e6, 2e6, 8e6], &[4e6, 1e6, 4e6]).ratios()[0];
        assert_eq!(ratio.samples, [2.0; 3]);
        assert_eq!(ratio.standing(), Standing::Ahead);
    }

    #[test]
    fn above_one_is_better_whichever_way_is_better() {
        let ratio = &compared(Direction::Less, &[10.0, 20.0], &[40.0, 40.0]).ratios()[0];
        assert_eq!(ratio.samples, [4.0, 2.0]);
        assert_eq!(ratio.standing(), Standing::Ahead);
        let ratio = &compared(Direction::Less, &[40.0], &[10.0]).ratios()[0];
        assert_eq!((ratio.spread.median, ratio.standing()), (0.25, Standing::Behind));
    }

    #[test]
    fn one_pair_on_the_other_side_or_a_median_near_one_is_level() {
        let standing = |ours: &[f64]| compared(Direction::More, ours, &[1.0; 3]).ratios()[0].standing();
        assert_eq!(standing(&[1.2, 1.3, 0.99]), Standing::Level);
        assert_eq!(standing(&[0.8, 0.7, 1.01]), Standing::Level);
        assert_eq!(standing(&[1.001, 1.005, 1.002]), Standing::Level);
        assert_eq!(standing(&[0.999, 0.995, 0.998]), Standing::Level);
        assert_eq!(standing(&[1.02, 1.03, 1.001]), Standing::Ahead);
        assert_eq!(standing(&[0.97, 0.98, 0.99]), Standing::Behind);
    }

    #[test]
    fn what_the_samples_show_to_be_no_measurement_is_said() {
        assert_eq!(compared(Direction::More, &[1.0], &[1.0]).problems(), [""; 0]);
        let mut outcome = compared(Direction::More, &[1.0, 0.0, 1.0], &[f64::NAN, 1.0]);
        outcome.invalid.push("the generator was the limit".to_owned());
        outcome.peers.push(Series::new("VPP", []));
        let told = [
            "the generator was the limit",
            "zsync has 0 packets/s in round 2",
            "testpmd has 2 rounds and zsync has 3: they are no pairs",
            "testpmd has NaN packets/s in round 1",
            "VPP has no samples",
        ];
        assert_eq!(outcome.problems(), told);
        assert_eq!(outcome.ratios(), []);
        // A problem that was written down is not said twice.
        outcome.invalid = outcome.problems();
        assert_eq!(outcome.problems(), told);
    }

    proptest! {
        #[test]
        fn exchanging_the_sides_inverts_the_ratio(
            pairs in prop::collection::vec((1e-3..1e9, 1e-3..1e9), 1..20),
            direction in prop::sample::select(vec![Direction::More, Direction::Less]),
        ) {
            let (ours, theirs): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let there = &compared(direction, &ours, &theirs).ratios()[0];
            let back = &compared(direction, &theirs, &ours).ratios()[0];
            for (there, back) in there.samples.iter().zip(&back.samples) {
                prop_assert!((there * back - 1.0).abs() < 1e-9);
            }
            let opposite = match there.standing() {
                Standing::Ahead => Standing::Behind,
                Standing::Behind => Standing::Ahead,
                Standing::Level => Standing::Level,
            };
            prop_assert_eq!(back.standing(), opposite);
        }
    }
}
