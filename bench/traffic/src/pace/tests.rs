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
    for text in ["constant", "poisson", "burst:32", "burst:32@10000000", "ramp:2000000@60s", "ramp:5@15ms"] {
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
