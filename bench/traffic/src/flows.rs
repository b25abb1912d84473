//! Flows: how many there are, and which one the next packet is of.
//!
//! Takes no memory for a flow, and the same time for a choice among 10 million as among 10. Flow 0 is the most frequent
//! under Zipf's law.

use core::fmt;
use core::str::FromStr;

use crate::random::Random;

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
    /// An exponent that makes no distribution, or one flow of all.
    #[error("Zipf's exponent {0} cannot be: above 0 and up to 10 can")]
    Exponent(f64),
    /// A text that is no choice.
    #[error("`{0}` is no choice of flows: expected round-robin, uniform, or zipf:1.1")]
    Syntax(String),
}

impl Choice {
    fn check(self) -> Result<(), FlowError> {
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
    count: u32,
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
        choice.check()?;
        if count == 0 || count > MOST {
            return Err(FlowError::Count(count.into()));
        }
        let zipf = match choice {
            Choice::Zipf(s) => Some(Zipf::new(count, s)),
            _ => None,
        };
        let uniform = choice == Choice::Uniform;
        Ok(Self { count, at: 0, zipf, uniform, random: Random::new(seed, 0xf10e) })
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The next packet's flow, from 0.
    #[inline]
    pub fn next_flow(&mut self) -> u32 {
        if let Some(zipf) = &self.zipf {
            return zipf.sample(&mut self.random);
        }
        if self.uniform {
            return self.random.below(self.count.into()) as u32;
        }
        let flow = self.at;
        self.at = if flow + 1 == self.count { 0 } else { flow + 1 };
        flow
    }
}

/// Zipf's law by rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone
/// discrete distributions", 1996): exact, and less than 1.2 tries a sample whatever the count.
#[derive(Clone, Debug)]
struct Zipf {
    count: f64,
    s: f64,
    /// The integral's values at the ends, between which tries fall.
    low: f64,
    high: f64,
    /// How far above its number a try may lie and be taken without computing more.
    sure: f64,
}

impl Zipf {
    fn new(count: u32, s: f64) -> Self {
        let mut zipf = Self { count: count.into(), s, low: 0.0, high: 0.0, sure: 0.0 };
        zipf.low = zipf.integral(1.5) - 1.0;
        zipf.high = zipf.integral(zipf.count + 0.5);
        zipf.sure = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    #[inline]
    fn sample(&self, random: &mut Random) -> u32 {
        loop {
            let u = self.high + random.unit() * (self.low - self.high);
            let x = self.inverse(u);
            let k = (x + 0.5).floor().clamp(1.0, self.count);
            if k - x <= self.sure || u >= self.integral(k + 0.5) - self.density(k) {
                return k as u32 - 1;
            }
        }
    }

    fn density(&self, x: f64) -> f64 {
        (-self.s * x.ln()).exp()
    }

    /// The density's integral from 1 to x: (x^(1-s) - 1) / (1-s), and ln x where s is 1.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        let t = (1.0 - self.s) * log;
        // Close to s = 1 the quotient loses its digits; two terms of the series are exact to 2^-53 there.
        log * if t.abs() > 1e-8 { t.exp_m1() / t } else { 1.0 + t / 2.0 }
    }

    fn inverse(&self, u: f64) -> f64 {
        let t = (u * (1.0 - self.s)).max(-1.0);
        (u * if t.abs() > 1e-8 { t.ln_1p() / t } else { 1.0 - t / 2.0 }).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pearson's statistic of `samples` draws against the law; flows that expect under 10 are put together.
    fn chi_square(count: u32, choice: Choice, samples: u32) -> (f64, f64) {
        let weight = |k: u32| match choice {
            Choice::Zipf(s) => f64::from(k + 1).powf(-s),
            _ => 1.0,
        };
        let total: f64 = (0..count).map(weight).sum();
        let mut flows = Flows::new(count, choice, 42).unwrap();
        let mut seen = vec![0u32; count as usize];
        for _ in 0..samples {
            seen[flows.next_flow() as usize] += 1;
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
            let (statistic, freedom) = chi_square(count, choice, 300_000);
            // Mean `freedom`, variance twice that: five standard deviations, and some for few cells.
            let bound = freedom + 5.0 * (2.0 * freedom).sqrt() + 10.0;
            assert!(statistic < bound, "{count} {choice}: {statistic} of {freedom}");
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
        assert!(size_of::<Flows>() <= 128);
        let mut one = Flows::new(1, Choice::Zipf(1.0), 3).unwrap();
        assert!((0..1000).all(|_| one.next_flow() == 0));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(Flows::new(0, Choice::Uniform, 0).unwrap_err(), FlowError::Count(0));
        assert_eq!(Flows::new(MOST + 1, Choice::Uniform, 0).unwrap_err(), FlowError::Count(10_000_001));
        assert!(matches!(Flows::new(9, Choice::Zipf(f64::NAN), 0), Err(FlowError::Exponent(_))));
        assert_eq!("zipf:0".parse::<Choice>(), Err(FlowError::Exponent(0.0)));
        assert!(matches!("zipf".parse::<Choice>(), Err(FlowError::Syntax(_))));
        for text in ["round-robin", "uniform", "zipf:1.1"] {
            assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
        }
    }
}
