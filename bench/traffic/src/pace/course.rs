//! Courses: the times of a shape, computed one after the other.

use super::{HIGHEST, PaceError, SECOND, Shape};
use crate::random::Random;
use crate::share::Share;

/// Even steps of a fraction of nanoseconds, without drift: Bresenham's line.
#[derive(Clone, Debug)]
pub(super) struct Steps {
    whole: u64,
    part: u64,
    rate: u64,
    time: u64,
    rest: u64,
}

impl Steps {
    /// Steps of `seconds` divided by `rate` for the whole; a share's are longer, and begin in its turn.
    fn new(seconds: u64, rate: u64, share: Share) -> Self {
        let (weight, total) = share.fraction();
        let span = u128::from(seconds) * u128::from(SECOND);
        // Below 2^60: a rate is below 2^28, and a share's weight up to 2^32.
        let rate = rate * weight;
        let cut = |span: u128| {
            let whole = span / u128::from(rate);
            (u64::try_from(whole).unwrap_or(u64::MAX), (span % u128::from(rate)) as u64)
        };
        let (whole, part) = cut(span * u128::from(total));
        let (time, rest) = cut(span * u128::from(weight) * u128::from(share.part()));
        Self { whole, part, rate, time, rest }
    }

    /// The time, which then goes on by one step.
    #[inline]
    fn step(&mut self) -> u64 {
        let time = self.time;
        self.time = self.time.saturating_add(self.whole);
        self.rest += self.part;
        if self.rest >= self.rate {
            self.rest -= self.rate;
            self.time = self.time.saturating_add(1);
        }
        time
    }
}

/// The times of a shape, without an end.
#[derive(Clone, Debug)]
pub(super) enum Course {
    Constant(Steps),
    Poisson { mean: f64, time: u64, rest: f64, random: Random },
    Burst { bursts: Steps, packets: u32, start: u64, left: u32, within: Option<Steps> },
    Ramp { from: f64, to: f64, over: f64, packets: u64, every: f64, first: f64 },
}

impl Course {
    /// See [`super::Pace::share`].
    pub(super) fn new(shape: Shape, rate: u64, seed: u64, share: Share) -> Result<Self, PaceError> {
        let check = |rate| if (1..=HIGHEST).contains(&rate) { Ok(rate) } else { Err(PaceError::Rate(rate)) };
        check(rate)?;
        Ok(match shape {
            Shape::Constant => Course::Constant(Steps::new(1, rate, share)),
            Shape::Poisson => {
                let mean = SECOND as f64 / (rate as f64 * share.weight());
                Course::Poisson { mean, time: 0, rest: 0.0, random: Random::new(share.seed(seed), 0x9ace) }
            }
            Shape::Burst { packets: 0, .. } => return Err(PaceError::Burst),
            Shape::Burst { packets, peak } => {
                if let Some(peak) = peak {
                    check(peak)?;
                    if peak < rate {
                        return Err(PaceError::Peak { peak, rate });
                    }
                }
                let within = peak.map(|peak| Steps::new(1, peak, Share::WHOLE));
                let bursts = Steps::new(packets.into(), rate, share);
                Course::Burst { bursts, packets, start: 0, left: 0, within }
            }
            Shape::Ramp { over, .. } if over == 0 || over > 86_400 * SECOND => return Err(PaceError::Ramp),
            Shape::Ramp { to, over } => {
                let to = check(to)? as f64;
                let over = over as f64 / SECOND as f64;
                let (every, first) = (1.0 / share.weight(), share.part().into());
                Course::Ramp { from: rate as f64, to, over, packets: 0, every, first }
            }
        })
    }

    /// The next time; it can be before the last one only where bursts overlap.
    pub(super) fn step(&mut self) -> u64 {
        match self {
            Self::Constant(steps) => steps.step(),
            Self::Poisson { mean, time, rest, random } => {
                *rest += -random.unit().ln() * *mean;
                // The rest under a nanosecond is carried on, so that the rate is right.
                let whole = *rest as u64;
                *rest -= whole as f64;
                *time += whole;
                *time
            }
            Self::Burst { bursts, packets, start, left, within } => {
                if *left == 0 {
                    *start = bursts.step();
                    *left = *packets;
                    if let Some(steps) = within {
                        (steps.time, steps.rest) = (0, 0);
                    }
                }
                *left -= 1;
                *start + within.as_mut().map_or(0, Steps::step)
            }
            Self::Ramp { from, to, over, packets, every, first } => {
                let n = *packets as f64 * *every + *first;
                *packets += 1;
                let ramped = (*from + *to) / 2.0 * *over;
                let seconds = if n < ramped {
                    // from·t + (to - from)·t²/(2·over) = n, solved so that nothing cancels out.
                    let root = (*from * *from + 2.0 * (*to - *from) * n / *over).max(0.0).sqrt();
                    2.0 * n / (*from + root)
                } else {
                    *over + (n - ramped) / *to
                };
                (seconds * SECOND as f64) as u64
            }
        }
    }
}
