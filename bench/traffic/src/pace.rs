//! Departure times: when the next packet is to leave, in nanoseconds since the start.
//!
//! The times do not depend on when they are asked for, so a generator that falls behind shows it (`now` minus the time) and
//! does not thin out its traffic. Written as text: `constant`, `poisson`, `burst:32` (back to back), `burst:32@10000000` (at
//! that rate within the burst), `ramp:2000000@60s` (from the rate to 2,000,000/s within 60 s).
//!
//! Keeps true: times never go back; constant and bursty ones are exact for ever (integers, no drift), each rounded down to
//! its nanosecond; a ramp's are exact to a few nanoseconds for a hundred days.

use core::fmt;
use core::str::FromStr;

use crate::random::Random;
use crate::share::Share;

/// The highest rate: 200 million packets/s, above what 100 Gbit/s carries (148.8 million of 64 bytes).
pub const HIGHEST: u64 = 200_000_000;
/// The most packets that [`Pace::due`] counts: a burst.
pub const BURST: usize = 64;
const SECOND: u64 = 1_000_000_000;

/// How departures lie in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As evenly as nanoseconds let them.
    Constant,
    /// With exponential gaps: packets know nothing of one another.
    Poisson,
    /// In bursts, at the rate on average.
    Burst {
        /// Packets of a burst, at least 1.
        packets: u32,
        /// The rate within a burst in packets/s; `None`: all at once.
        peak: Option<u64>,
    },
    /// The rate changes evenly up (or down) to another, and then stays.
    Ramp {
        /// The rate to end with, in packets/s.
        to: u64,
        /// How long that takes, in ns.
        over: u64,
    },
}

/// Why there is no such pace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaceError {
    /// A rate outside of what there is.
    #[error("{0} packets/s cannot be: 1 to 200000000 can")]
    Rate(u64),
    /// A burst of nothing.
    #[error("a burst must have at least 1 packet")]
    Burst,
    /// A burst that would not be over when the next one starts.
    #[error("{peak} packets/s within bursts is below the mean rate of {rate}: it must be higher")]
    Peak {
        /// The rate within bursts.
        peak: u64,
        /// The mean rate.
        rate: u64,
    },
    /// A ramp without length.
    #[error("a ramp must last, for at most 24 hours")]
    Ramp,
    /// A text that is no shape.
    #[error("`{0}` is no shape: expected constant, poisson, burst:32, burst:32@10000000 or ramp:2000000@60s")]
    Syntax(String),
}

impl FromStr for Shape {
    type Err = PaceError;

    fn from_str(text: &str) -> Result<Self, PaceError> {
        let syntax = || PaceError::Syntax(text.into());
        let number = |text: &str| text.parse::<u64>().map_err(|_| syntax());
        match text.trim().split_once(':') {
            None if text.trim() == "constant" => Ok(Self::Constant),
            None if text.trim() == "poisson" => Ok(Self::Poisson),
            Some(("burst", rest)) => {
                let (packets, peak) = rest.split_once('@').map_or((rest, None), |(n, peak)| (n, Some(peak)));
                let packets = packets.parse().map_err(|_| syntax())?;
                Ok(Self::Burst { packets, peak: peak.map(number).transpose()? })
            }
            Some(("ramp", rest)) => {
                let (to, over) = rest.split_once('@').ok_or_else(syntax)?;
                let (over, unit) = match (over.strip_suffix("ms"), over.strip_suffix('s')) {
                    (Some(over), _) => (over, SECOND / 1000),
                    (None, Some(over)) => (over, SECOND),
                    (None, None) => return Err(syntax()),
                };
                Ok(Self::Ramp {
                    to: number(to)?,
                    over: number(over)?.checked_mul(unit).ok_or(PaceError::Ramp)?,
                })
            }
            _ => Err(syntax()),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant => f.write_str("constant"),
            Self::Poisson => f.write_str("poisson"),
            Self::Burst { packets, peak: None } => write!(f, "burst:{packets}"),
            Self::Burst { packets, peak: Some(peak) } => write!(f, "burst:{packets}@{peak}"),
            Self::Ramp { to, over } if over % SECOND == 0 => write!(f, "ramp:{to}@{}s", over / SECOND),
            Self::Ramp { to, over } => write!(f, "ramp:{to}@{}ms", over / 1_000_000),
        }
    }
}

/// Even steps of a fraction of nanoseconds, without drift: Bresenham's line.
#[derive(Clone, Debug)]
struct Steps {
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

#[derive(Clone, Debug)]
enum Course {
    Constant(Steps),
    Poisson { mean: f64, time: u64, rest: f64, random: Random },
    Burst { bursts: Steps, packets: u32, start: u64, left: u32, within: Option<Steps> },
    Ramp { from: f64, to: f64, over: f64, packets: u64, every: f64, first: f64 },
}

impl Course {
    fn step(&mut self) -> u64 {
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

/// Departure times, one after the other.
#[derive(Clone, Debug)]
pub struct Pace {
    course: Course,
    /// Times that were looked at already: `queued` of them from `head` on.
    ahead: [u64; BURST],
    head: usize,
    queued: usize,
    last: u64,
}

impl Pace {
    /// Times of `shape` at `rate` packets/s; a ramp starts with that rate. The seed counts for Poisson alone.
    ///
    /// # Errors
    /// See [`PaceError`].
    pub fn new(shape: Shape, rate: u64, seed: u64) -> Result<Self, PaceError> {
        Self::share(shape, rate, seed, Share::WHOLE)
    }

    /// Times of a share of the packets, when the whole has `rate` packets/s (and `shape`'s rates are the whole's).
    ///
    /// The shares of `n` equal parts take turns: packet `k` of part `p` leaves as packet `k·n + p` of the whole, and so do
    /// bursts; unequal parts leave as evenly, each by itself. Poisson's are independent, and their union is Poisson's.
    /// Ask for each part with the same seed.
    ///
    /// # Errors
    /// See [`PaceError`].
    pub fn share(shape: Shape, rate: u64, seed: u64, share: Share) -> Result<Self, PaceError> {
        let check = |rate| if (1..=HIGHEST).contains(&rate) { Ok(rate) } else { Err(PaceError::Rate(rate)) };
        check(rate)?;
        let course = match shape {
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
        };
        Ok(Self { course, ahead: [0; BURST], head: 0, queued: 0, last: 0 })
    }

    /// Takes the next packet's departure, in ns since the start.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "it never ends, so there is no Option")]
    pub fn next(&mut self) -> u64 {
        if self.queued == 0 {
            return self.draw();
        }
        let time = self.ahead[self.head];
        self.head = (self.head + 1) % BURST;
        self.queued -= 1;
        time
    }

    /// When the next packet is to leave; it is not taken.
    #[inline]
    pub fn peek(&mut self) -> u64 {
        if self.queued == 0 {
            self.look();
        }
        self.ahead[self.head]
    }

    /// How many packets are due at `now` (ns since the start) and not taken yet; [`BURST`] says "that many or more".
    pub fn due(&mut self, now: u64) -> usize {
        loop {
            let last = (self.head + self.queued).wrapping_sub(1) % BURST;
            if self.queued == BURST || self.queued > 0 && self.ahead[last] > now {
                break;
            }
            self.look();
        }
        (0..self.queued).take_while(|at| self.ahead[(self.head + at) % BURST] <= now).count()
    }

    fn look(&mut self) {
        self.ahead[(self.head + self.queued) % BURST] = self.draw();
        self.queued += 1;
    }

    fn draw(&mut self) -> u64 {
        self.last = self.course.step().max(self.last);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flows::Choice;

    fn pace(shape: Shape, rate: u64) -> Pace {
        Pace::new(shape, rate, 77).unwrap()
    }

    #[test]
    fn a_constant_rate_does_not_drift_in_hours() {
        // Rates that do not divide a second; the last packet is exact after 12 hours and more.
        for (rate, hours) in [(7, 100), (149, 12)] {
            let mut pace = pace(Shape::Constant, rate);
            let packets = rate * 3600 * hours;
            (0..packets).for_each(|_| assert_ne!(pace.next(), u64::MAX));
            assert_eq!(pace.next(), 3600 * hours * SECOND);
        }
        let mut fast = pace(Shape::Constant, 148_809_523);
        (0..148_809_523u64 / 8).for_each(|_| assert_ne!(fast.next(), u64::MAX));
        let exact = u128::from(148_809_523u64 / 8) * u128::from(SECOND) / 148_809_523;
        assert_eq!(u128::from(fast.next()), exact);
    }

    #[test]
    fn bursts_keep_the_mean_rate_and_the_peak() {
        let mut burst = pace(Shape::Burst { packets: 3, peak: None }, 1_000_000);
        assert_eq!([(); 7].map(|()| burst.next()), [0, 0, 0, 3000, 3000, 3000, 6000]);
        let mut burst = pace(Shape::Burst { packets: 3, peak: Some(10_000_000) }, 1_000_000);
        assert_eq!([(); 5].map(|()| burst.next()), [0, 100, 200, 3000, 3100]);
        (5..3_000_000).for_each(|_| assert_ne!(burst.next(), u64::MAX));
        assert_eq!(burst.next(), 3 * SECOND);
    }

    #[test]
    fn poisson_gaps_are_exponential_at_the_mean_rate() {
        let mut poisson = pace(Shape::Poisson, 1_000_000);
        let (mut last, mut long, mut longer, mut squares) = (0, 0, 0, 0.0);
        const N: u64 = 1_000_000;
        for _ in 0..N {
            let time = poisson.next();
            let gap = time - last;
            last = time;
            long += u64::from(gap > 1000);
            longer += u64::from(gap > 3000);
            squares += (gap * gap) as f64;
        }
        // N gaps of 1000 ns: the sum's standard deviation is 1000·√N ns; five of them.
        assert!((last as f64 - 1e9).abs() < 5e6, "{last}");
        // Gaps over the mean: 1/e of all; over three times the mean: 1/e³. Nanoseconds rounded down shift that little.
        let near = |count: u64, p: f64| (count as f64 / N as f64 - p).abs() < 0.003;
        assert!(near(long, (-1f64).exp()) && near(longer, (-3f64).exp()), "{long} {longer}");
        // Twice the squared mean, as the exponential distribution has.
        assert!((squares / N as f64 / 2e6 - 1.0).abs() < 0.02, "{squares}");
    }

    #[test]
    fn poisson_shares_are_independent_and_have_their_part_of_the_rate() {
        let times = |part| {
            let share = Share::new(3, Choice::RoundRobin, part, 2).unwrap();
            let mut pace = Pace::share(Shape::Poisson, 1_000_000, 77, share).unwrap();
            let times: Vec<u64> = (0..100_000).map(|_| pace.next()).collect();
            times
        };
        let (two, one) = (times(0), times(1));
        // 100,000 gaps of 1500 and 3000 ns: five standard deviations of their sum.
        assert!((two[99_999] as f64 - 1.5e8).abs() < 2.4e6, "{}", two[99_999]);
        assert!((one[99_999] as f64 - 3e8).abs() < 4.8e6, "{}", one[99_999]);
        assert!(two[..1000] != one[..1000]);
    }

    #[test]
    fn a_ramp_sends_the_area_under_its_rates_and_then_goes_on() {
        for (from, to) in [(1000, 9000), (9000, 1000), (5000, 5000), (1, 10_000)] {
            let mut ramp = pace(Shape::Ramp { to, over: 10 * SECOND }, from);
            let times: Vec<u64> = (0..100_000).map(|_| ramp.next()).collect();
            assert!(times.is_sorted());
            for seconds in [1u64, 4, 10, 12] {
                let (t, a, b) = (seconds.min(10) as f64, from as f64, to as f64);
                let area = a * t + (b - a) * t * t / 20.0 + b * (seconds as f64 - t);
                let count = times.partition_point(|time| *time < seconds * SECOND) as f64;
                assert!((count - area).abs() <= 1.0, "{from} to {to} at {seconds}: {count}, {area}");
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused_and_text_reads_back() {
        let new = |shape, rate| Pace::new(shape, rate, 0).map(drop);
        assert_eq!(new(Shape::Constant, 0), Err(PaceError::Rate(0)));
        assert_eq!(new(Shape::Constant, HIGHEST + 1), Err(PaceError::Rate(HIGHEST + 1)));
        assert_eq!(new(Shape::Burst { packets: 0, peak: None }, 1), Err(PaceError::Burst));
        let slow = Shape::Burst { packets: 2, peak: Some(5) };
        assert_eq!(new(slow, 6), Err(PaceError::Peak { peak: 5, rate: 6 }));
        assert_eq!(new(Shape::Ramp { to: 0, over: 1 }, 6), Err(PaceError::Rate(0)));
        assert_eq!(new(Shape::Ramp { to: 5, over: 0 }, 6), Err(PaceError::Ramp));
        for text in
            ["constant", "poisson", "burst:32", "burst:32@10000000", "ramp:2000000@60s", "ramp:5@15ms"]
        {
            assert_eq!(text.parse::<Shape>().unwrap().to_string(), text);
        }
        for text in ["", "burst", "burst:", "burst:x@1", "ramp:5", "ramp:5@5", "ramp:5@s", "even"] {
            assert!(matches!(text.parse::<Shape>(), Err(PaceError::Syntax(_))), "{text}");
        }
    }

    fn shape() -> impl Strategy<Value = Shape> {
        prop_oneof![
            Just(Shape::Constant),
            Just(Shape::Poisson),
            (1u32..200, prop::option::of(Just(HIGHEST)))
                .prop_map(|(packets, peak)| Shape::Burst { packets, peak }),
            (1..=HIGHEST, 1..SECOND).prop_map(|(to, over)| Shape::Ramp { to, over }),
        ]
    }

    proptest! {
        #[test]
        fn equal_shares_together_depart_as_the_whole(
            shape in shape().prop_filter("random", |shape| *shape != Shape::Poisson), rate in 1..=HIGHEST, of in 1u32..9,
        ) {
            const TURNS: usize = 50;
            let burst = if let Shape::Burst { packets, .. } = shape { packets as usize } else { 1 };
            let mut union = Vec::new();
            for part in 0..of {
                let share = Share::new(of, Choice::RoundRobin, part, of).unwrap();
                let mut pace = Pace::share(shape, rate, 77, share).unwrap();
                union.extend((0..TURNS * burst).map(|_| pace.next()));
            }
            union.sort_unstable();
            let mut whole = pace(shape, rate);
            let expected: Vec<u64> = (0..union.len()).map(|_| whole.next()).collect();
            if let Shape::Ramp { .. } = shape {
                // Floating point, and a nanosecond rounded down from either side.
                prop_assert!(union.iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= 1 + b / 1_000_000_000));
            } else if let Shape::Burst { peak: Some(_), .. } = shape {
                // A burst's last packet may leave after the next one's first, which the whole puts off.
                prop_assert!(union.iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= 1));
            } else {
                prop_assert_eq!(union, expected);
            }
        }

        #[test]
        fn shares_have_their_part_of_the_rate_for_ever(rate in 1..=HIGHEST, flows in 1..1000u32, of in 1u32..9, zipf: bool) {
            let choice = if zipf { Choice::Zipf(1.1) } else { Choice::Uniform };
            for part in 0..of.min(flows) {
                let share = Share::new(flows, choice, part, of).unwrap();
                let mut pace = Pace::share(Shape::Constant, rate, 1, share).unwrap();
                let first = pace.next();
                prop_assert_eq!(first, u64::from(part) * SECOND / rate);
                (0..999).for_each(|_| assert_ne!(pace.next(), u64::MAX));
                let exact = 1000.0 / share.weight() * 1e9 / rate as f64;
                prop_assert!(((pace.next() - first) as f64 - exact).abs() <= 2.0 + exact * 1e-12);
            }
        }

        #[test]
        fn constant_departures_are_multiples_of_the_exact_gap(rate in 1..=HIGHEST, packets in 1u64..3000) {
            let mut pace = pace(Shape::Constant, rate);
            for n in 0..packets {
                prop_assert_eq!(u128::from(pace.next()), u128::from(n) * u128::from(SECOND) / u128::from(rate));
            }
        }

        #[test]
        fn looking_ahead_changes_no_departure(shape in shape(), rate in 1..=HIGHEST, steps in prop::collection::vec((0u64..5000, 0usize..70), 1..40)) {
            let (mut asked, mut plain) = (pace(shape, rate), pace(shape, rate));
            let (mut now, mut last) = (0, 0);
            for (step, take) in steps {
                now += step;
                let due = asked.due(now);
                prop_assert!(due <= BURST);
                for _ in 0..take.min(due) {
                    prop_assert!(asked.peek() <= now);
                    let time = asked.next();
                    prop_assert!(time >= last);
                    prop_assert_eq!(time, plain.next());
                    last = time;
                }
                if take >= due && due < BURST {
                    prop_assert!(asked.peek() > now);
                }
            }
        }
    }
}
