//! Shares: which part of a stream's packets one of several generators sends.
//!
//! Flow `f` is sent by part `f` modulo the number of parts, and by no other, so that a flow's sequence needs one counter and
//! no lock. Keeps true: the parts' weights add up to 1, each is the probability that a packet of the whole is one of the
//! part's flows, and a part's packets leave at the whole's rate times its weight. The union then has the distribution of
//! the whole. Weights are exact for round-robin and uniform choice; Zipf's are rounded to 2^-32.
//!
//! So the parts are equally loaded when they have equally many flows, all as likely. Under Zipf's law they are not: the
//! part with flow 0 sends that much more.

use crate::flows::{Choice, FlowError, MOST};
use crate::random::mix;
use crate::zipf::Zipf;

/// What Zipf's weights are counted in.
const ZIPF_SCALE: u64 = 1 << 32;

/// A share of the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    part: u32,
    of: u32,
    flows: u32,
    weight: u64,
    total: u64,
}

impl Share {
    /// All packets.
    pub const WHOLE: Self = Self { part: 0, of: 1, flows: 1, weight: 1, total: 1 };

    /// Part `part` (from 0) of `of` of the packets of `flows` flows.
    ///
    /// # Errors
    /// [`FlowError`]: flows that cannot be, a part without flows.
    pub fn new(flows: u32, choice: Choice, part: u32, of: u32) -> Result<Self, FlowError> {
        choice.check()?;
        if flows == 0 || flows > MOST {
            return Err(FlowError::Count(flows.into()));
        }
        if part >= of || part >= flows {
            return Err(FlowError::Part { part, of, flows });
        }
        let own = |part: u32| (flows - part).div_ceil(of);
        let (weight, total) = match choice {
            Choice::RoundRobin | Choice::Uniform if flows.is_multiple_of(of) => (1, of.into()),
            Choice::RoundRobin | Choice::Uniform => (own(part).into(), flows.into()),
            Choice::Zipf(_) if of == 1 => (1, 1),
            Choice::Zipf(s) => {
                let parts = of.min(flows);
                let mass = |part| Zipf::share(own(part), s, part, of).mass();
                let sum: f64 = (0..parts).map(mass).sum();
                let scaled = |part| ((mass(part) / sum * ZIPF_SCALE as f64).round() as u64).max(1);
                let weight = match part {
                    0 => ZIPF_SCALE - (1..parts).map(scaled).sum::<u64>(),
                    _ => scaled(part),
                };
                (weight, ZIPF_SCALE)
            }
        };
        Ok(Self { part, of, flows: own(part), weight, total })
    }

    /// Which part, from 0.
    pub fn part(&self) -> u32 {
        self.part
    }

    /// How many parts there are.
    pub fn of(&self) -> u32 {
        self.of
    }

    /// How many flows it has.
    #[inline]
    pub fn flows(&self) -> u32 {
        self.flows
    }

    /// Which part of all packets it sends: above 0, up to 1.
    pub fn weight(&self) -> f64 {
        self.weight as f64 / self.total as f64
    }

    /// The same as a fraction.
    pub(crate) fn fraction(&self) -> (u64, u64) {
        (self.weight, self.total)
    }

    /// The number of its flow at `index` (below [`Share::flows`]).
    #[inline]
    pub fn flow(&self, index: u32) -> u32 {
        self.part + self.of * index
    }

    /// A seed of its own for what parts must not draw alike; the whole's is the one given.
    pub(crate) fn seed(&self, seed: u64) -> u64 {
        seed ^ mix(self.part.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up_and_follow_the_flows() {
        for choice in [Choice::RoundRobin, Choice::Uniform, Choice::Zipf(1.0), Choice::Zipf(10.0)] {
            for (flows, of) in [(1, 1), (3, 2), (4, 4), (1000, 7), (MOST, 64), (3, 5)] {
                let shares: Vec<Share> =
                    (0..of).map_while(|part| Share::new(flows, choice, part, of).ok()).collect();
                assert_eq!(shares.iter().map(|share| share.flows).sum::<u32>(), flows);
                let total = shares[0].total;
                assert_eq!(shares.iter().map(|share| share.weight * total / share.total).sum::<u64>(), total);
            }
        }
        let zipf = |part| Share::new(4, Choice::Zipf(1.0), part, 2).unwrap().weight();
        // 1 + 1/3 against 1/2 + 1/4.
        assert!((zipf(0) - 16.0 / 25.0).abs() < 1e-9 && (zipf(1) - 9.0 / 25.0).abs() < 1e-9);
        let uneven = |part| Share::new(3, Choice::RoundRobin, part, 2).unwrap().fraction();
        assert_eq!((uneven(0), uneven(1)), ((2, 3), (1, 3)));
        assert_eq!(Share::new(1, Choice::Uniform, 0, 1), Ok(Share::WHOLE));
    }
}
