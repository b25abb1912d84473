//! Flows: how many there are, and which one the next packet is of.
//!
//! Takes no memory for a flow, and the same time for a choice among 10 million as among 10. Flow 0 is the most frequent
//! under Zipf's law. A share of the flows (see [`Share`]) is chosen from as the whole is, given that it is one of these.

use core::fmt;
use core::str::FromStr;

use crate::random::Random;
use crate::share::Share;
use crate::zipf::Zipf;

/// The most flows there can be: 10 million.
pub const MOST: u32 = 10_000_000;

/// Which flow the next packet is of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice {
    /// One after the other.
    RoundRobin,
    /// Each as likely.
    Uniform,
    /// Flow `k` (from 0) as likely as 1 / (k + 1)^s, for an s above 0 and up to 10. About 1 is usual for the Internet.
    Zipf(f64),
}

/// Why flows cannot be chosen so.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FlowError {
    /// None, or too many.
    #[error("{0} flows cannot be: 1 to 10000000 can")]
    Count(u64),
    /// A part that is not there, or has no flow.
    #[error(
        "part {part} of {of} has none of {flows} flows: parts count from 0, and there are no more than flows"
    )]
    Part {
        /// Which part.
        part: u32,
        /// How many parts there are to be.
        of: u32,
        /// How many flows they share.
        flows: u32,
    },
    /// An exponent that makes no distribution, or one flow of all.
    #[error("Zipf's exponent {0} cannot be: above 0 and up to 10 can")]
    Exponent(f64),
    /// A text that is no choice.
    #[error("`{0}` is no choice of flows: expected round-robin, uniform, or zipf:1.1")]
    Syntax(String),
}

impl Choice {
    pub(crate) fn check(self) -> Result<(), FlowError> {
        match self {
            Self::Zipf(s) if !(s > 0.0 && s <= 10.0) => Err(FlowError::Exponent(s)),
            _ => Ok(()),
        }
    }
}

impl FromStr for Choice {
    type Err = FlowError;

    fn from_str(text: &str) -> Result<Self, FlowError> {
        let choice = match text.trim() {
            "round-robin" => Self::RoundRobin,
            "uniform" => Self::Uniform,
            other => {
                let s = other.strip_prefix("zipf:").and_then(|s| s.parse().ok());
                Self::Zipf(s.ok_or_else(|| FlowError::Syntax(text.into()))?)
            }
        };
        choice.check()?;
        Ok(choice)
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundRobin => f.write_str("round-robin"),
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf(s) => write!(f, "zipf:{s}"),
        }
    }
}

/// The flows of one packet after the other.
#[derive(Clone, Debug)]
pub struct Flows {
    share: Share,
    at: u32,
    zipf: Option<Zipf>,
    uniform: bool,
    random: Random,
}

impl Flows {
    /// `count` flows, chosen from as `choice` and `seed` say.
    ///
    /// # Errors
    /// A count of 0 or over [`MOST`], an exponent that cannot be.
    pub fn new(count: u32, choice: Choice, seed: u64) -> Result<Self, FlowError> {
        Self::share(count, choice, seed, 0, 1)
    }

    /// Part `part` (from 0) of `of`: those of `count` flows whose number leaves `part` when divided by `of`.
    ///
    /// # Errors
    /// As [`Flows::new`]; a part without flows.
    pub fn share(count: u32, choice: Choice, seed: u64, part: u32, of: u32) -> Result<Self, FlowError> {
        let share = Share::new(count, choice, part, of)?;
        let zipf = match choice {
            Choice::Zipf(s) => Some(Zipf::share(share.flows(), s, part, of)),
            _ => None,
        };
        let uniform = choice == Choice::Uniform;
        Ok(Self { share, at: 0, zipf, uniform, random: Random::new(share.seed(seed), 0xf10e) })
    }

    /// How many there are, in this share.
    pub fn count(&self) -> u32 {
        self.share.flows()
    }

    /// Which share of the flows these are.
    pub fn its_share(&self) -> Share {
        self.share
    }

    /// The next packet's flow, from 0.
    #[inline]
    pub fn next_flow(&mut self) -> u32 {
        let index = self.next_index();
        self.share.flow(index)
    }

    /// The next packet's flow as its place in this share, from 0; [`Share::flow`] is its number.
    #[inline]
    pub fn next_index(&mut self) -> u32 {
        if let Some(zipf) = &self.zipf {
            return zipf.sample(&mut self.random);
        }
        let count = self.share.flows();
        if self.uniform {
            return self.random.below(count.into()) as u32;
        }
        let index = self.at;
        self.at = if index + 1 == count { 0 } else { index + 1 };
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pearson's statistic of `samples` draws against the law, made by `of` shares as often as their weights say; flows
    /// that expect under 10 are put together.
    fn chi_square(count: u32, choice: Choice, samples: u32, of: u32) -> (f64, f64) {
        let weight = |k: u32| match choice {
            Choice::Zipf(s) => f64::from(k + 1).powf(-s),
            _ => 1.0,
        };
        let total: f64 = (0..count).map(weight).sum();
        let mut seen = vec![0u32; count as usize];
        for part in 0..of {
            let mut flows = Flows::share(count, choice, 42, part, of).unwrap();
            let own = (flows.its_share().weight() * f64::from(samples)).round() as u32;
            for _ in 0..own {
                let flow = flows.next_flow();
                assert_eq!(flow % of, part);
                seen[flow as usize] += 1;
            }
        }
        let (mut statistic, mut cells) = (0.0, 0.0);
        let (mut expected, mut observed) = (0.0, 0.0);
        for k in 0..count {
            expected += weight(k) / total * f64::from(samples);
            observed += f64::from(seen[k as usize]);
            if expected >= 10.0 || k + 1 == count {
                statistic += (observed - expected) * (observed - expected) / expected;
                cells += 1.0;
                (expected, observed) = (0.0, 0.0);
            }
        }
        (statistic, cells - 1.0)
    }

    #[test]
    fn zipf_and_uniform_pass_a_chi_square_test_against_the_analytic_distribution() {
        for (count, choice) in [
            (2, Choice::Zipf(1.0)),
            (100, Choice::Zipf(0.5)),
            (100, Choice::Zipf(1.0)),
            (1000, Choice::Zipf(1.2)),
            (1000, Choice::Zipf(1.000_000_001)),
            (100, Choice::Zipf(3.0)),
            (100_000, Choice::Zipf(0.9)),
            (500, Choice::Uniform),
        ] {
            for of in [1, 2, 3, 8].into_iter().filter(|of| *of <= count) {
                let (statistic, freedom) = chi_square(count, choice, 300_000, of);
                // Mean `freedom`, variance twice that: five standard deviations, and some for few cells.
                let bound = freedom + 5.0 * (2.0 * freedom).sqrt() + 10.0;
                assert!(statistic < bound, "{count} {choice} in {of}: {statistic} of {freedom}");
            }
        }
    }

    #[test]
    fn the_chi_square_test_sees_a_wrong_exponent() {
        let mut wrong = Flows::new(100, Choice::Zipf(1.05), 1).unwrap();
        let total: f64 = (1..=100).map(|k| 1.0 / f64::from(k)).sum();
        let mut seen = [0u32; 100];
        (0..300_000).for_each(|_| seen[wrong.next_flow() as usize] += 1);
        let statistic: f64 = (0..100)
            .map(|k| {
                let expected = 300_000.0 / f64::from(k + 1) / total;
                (f64::from(seen[k as usize]) - expected).powi(2) / expected
            })
            .sum();
        assert!(statistic > 99.0 + 5.0 * 198f64.sqrt() + 10.0, "{statistic}");
    }

    #[test]
    fn round_robin_takes_each_in_turn() {
        let mut flows = Flows::new(3, Choice::RoundRobin, 0).unwrap();
        assert_eq!([(); 7].map(|()| flows.next_flow()), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn ten_million_flows_are_all_in_bounds_and_take_no_memory() {
        for choice in [Choice::Zipf(0.1), Choice::Zipf(1.0), Choice::Zipf(10.0), Choice::Uniform] {
            let mut flows = Flows::new(MOST, choice, 3).unwrap();
            assert!((0..100_000).all(|_| flows.next_flow() < MOST));
        }
        assert!(size_of::<Flows>() <= 160);
        let mut one = Flows::new(1, Choice::Zipf(1.0), 3).unwrap();
        assert!((0..1000).all(|_| one.next_flow() == 0));
        for part in [0, 1, 63] {
            for s in [0.1, 1.0, 10.0] {
                let mut flows = Flows::share(MOST, Choice::Zipf(s), 3, part, 64).unwrap();
                let mut flow = || flows.next_flow();
                assert!((0..10_000).all(|_| {
                    let flow = flow();
                    flow < MOST && flow % 64 == part
                }));
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(Flows::new(0, Choice::Uniform, 0).unwrap_err(), FlowError::Count(0));
        assert_eq!(Flows::new(MOST + 1, Choice::Uniform, 0).unwrap_err(), FlowError::Count(10_000_001));
        let part = |part, of| Flows::share(3, Choice::Uniform, 0, part, of).unwrap_err();
        assert_eq!(part(3, 4), FlowError::Part { part: 3, of: 4, flows: 3 });
        assert_eq!(part(2, 2), FlowError::Part { part: 2, of: 2, flows: 3 });
        assert_eq!(part(0, 0), FlowError::Part { part: 0, of: 0, flows: 3 });
        assert!(matches!(Flows::new(9, Choice::Zipf(f64::NAN), 0), Err(FlowError::Exponent(_))));
        assert_eq!("zipf:0".parse::<Choice>(), Err(FlowError::Exponent(0.0)));
        assert!(matches!("zipf".parse::<Choice>(), Err(FlowError::Syntax(_))));
        for text in ["round-robin", "uniform", "zipf:1.1"] {
            assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
        }
    }
}
