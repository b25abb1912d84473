//! What the searches find of devices whose capacity is known.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::cell::{Cell, RefCell};
use std::time::Duration;
use zsync_search::latency;
use zsync_search::mlr::{self, Goal, MlrResult};
use zsync_search::mrr;
use zsync_search::rfc2544::{self, Settings};
use zsync_search::run::{Ending, Limits, SearchError, Watch};
use zsync_search::simulated::{Device, Loss};
use zsync_search::trial::{Measured, Record, Trial};

const LONG: Duration = Duration::from_secs(1_000_000);

fn limits(capacity: f64) -> Limits {
    Limits { minimum: capacity / 50.0, maximum: capacity * 4.0, time: LONG }
}

fn ndr_and_pdr(device: &mut Device, limits: Limits) -> MlrResult {
    mlr::search(device, &[Goal::ndr(), Goal::pdr()], limits, Watch::NONE).unwrap()
}

fn capacities() -> impl Strategy<Value = f64> {
    // 1 kpps to 150 Mpps, each power of ten as likely.
    (3.0..8.176).prop_map(|power: f64| 10f64.powf(power))
}

fn losses() -> impl Strategy<Value = Loss> {
    prop_oneof![
        Just(Loss::None),
        (0.0005..0.004).prop_map(Loss::Floor),
        (0.3..0.95, 0.02..0.2).prop_map(|(knee, most)| Loss::Growing { knee, most }),
        (0.3..0.95, 0.001..0.004).prop_map(|(knee, most)| Loss::Growing { knee, most }),
    ]
}

/// No bound above what was offered in a trial, and every bound backed by trials of that rate.
fn is_backed(result: &MlrResult) {
    let offered = |record: &Record| record.measured.reached().min(record.measured.asked);
    let most = result.trials.iter().filter(|record| !record.short).map(offered).fold(0.0, f64::max);
    for goal in &result.goals {
        assert!(goal.lower.is_none_or(|lower| lower <= most), "{goal}");
        let passed = |r: &Record| Some(offered(r)) == goal.lower && r.loss_ratio <= goal.goal.loss_ratio;
        assert!(goal.lower.is_none() || result.trials.iter().any(passed), "{goal}");
        if let (Some(lower), Some(upper)) = (goal.lower, goal.upper) {
            assert!(lower < upper, "{goal}");
        }
    }
    let spent: Duration = result.trials.iter().map(|record| record.measured.duration).sum();
    assert_eq!(spent, result.spent);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, rng_seed: RngSeed::Fixed(2544), ..ProptestConfig::default() })]

    #[test]
    fn ndr_and_pdr_are_found_within_one_percent(
        capacity in capacities(), loss in losses(), seed: u64, depth in 0.0..0.02,
    ) {
        let mut device = Device { loss, buffer: (capacity * depth) as u64, ..Device::new(capacity, seed) };
        // High enough that the least floor loses some packets in a full-length trial at the minimum.
        let minimum = capacity / 5.0;
        let result = ndr_and_pdr(&mut device, Limits { minimum, ..limits(capacity) });
        is_backed(&result);
        for goal in &result.goals {
            match device.rate_at_loss(goal.goal.loss_ratio) {
                Some(truth) => {
                    let lower = goal.lower.unwrap();
                    prop_assert!(goal.is_regular(), "{}", result);
                    // Less than one packet of a trial cannot be seen lost.
                    let packet = 1.0 / (truth * goal.goal.last.as_secs_f64());
                    let unseen = device.rate_at_loss(goal.goal.loss_ratio + packet).unwrap();
                    prop_assert!(lower > truth * 0.99 && lower < unseen * 1.01, "{} of {truth}", result);
                    prop_assert!(goal.conditional_throughput.unwrap() <= lower);
                    prop_assert!(goal.conditional_throughput.unwrap() >= lower * 0.995);
                }
                None => {
                    let named = matches!(goal.ending, Ending::BelowMinimum(rate) if rate == minimum);
                    prop_assert!(named, "{}", result);
                    prop_assert!(goal.to_string().contains("irregular, the goal is missed at the minimum"));
                }
            }
        }
        if let (Some(ndr), Some(pdr)) = (result.goals[0].lower, result.goals[1].lower) {
            prop_assert!(pdr >= ndr);
        }
    }

    #[test]
    fn a_generator_that_is_not_exact_costs_no_more_than_its_inexactness(
        capacity in capacities(), seed: u64, jitter in 0.0..0.009,
    ) {
        let mut device = Device { jitter, ..Device::new(capacity, seed) };
        let result = ndr_and_pdr(&mut device, limits(capacity));
        is_backed(&result);
        for goal in &result.goals {
            let truth = device.rate_at_loss(goal.goal.loss_ratio).unwrap();
            prop_assert!(goal.is_regular(), "{}", result);
            // What is reported was sent, so it is never too much; and it is too little by width and jitter at most.
            let (lower, packet) = (goal.lower.unwrap(), 1.0 / (truth * 29.0));
            prop_assert!(lower <= truth * (1.0 + 2.0 * packet), "{} of {truth}", result);
            prop_assert!(lower > truth * (0.994 - 2.0 * jitter), "{} of {truth}", result);
            // The width is kept by the loads, as RFC 9971 has it, though less than the lower one was sent.
            let (load, upper) = (goal.lower_load.unwrap(), goal.upper.unwrap());
            prop_assert!(lower <= load && load < upper && upper - load <= upper * goal.goal.width, "{}", result);
        }
        let settings = Settings { duration: Goal::ndr().last, ..Settings::default() };
        let plain = rfc2544::throughput(&mut device, settings, limits(capacity), Watch::NONE).unwrap();
        let lower = plain.lower.unwrap() / capacity;
        prop_assert!(lower <= 1.0 + 1e-4 && lower > 0.994 - 2.0 * jitter, "{} of {capacity}", plain);
    }

    #[test]
    fn random_bursts_of_loss_and_a_drifting_capacity_leave_the_pdr_within_reach(
        capacity in capacities(), seed: u64, drifts: bool,
    ) {
        let loss = match drifts {
            true => Loss::Drift { amplitude: 0.003, period: Duration::from_secs(47) },
            false => Loss::Random { per_second: 0.02, packets: (capacity * 0.001) as u64 },
        };
        let mut device = Device { loss, ..Device::new(capacity, seed) };
        // Trials of a second, most of which must be without (too much) loss: one event does not decide a load.
        let last = Duration::from_secs(1);
        let goal = |goal: Goal| Goal { last, sum: last * 11, exceed_ratio: 0.5, ..goal };
        let goals = [goal(Goal::ndr()), goal(Goal::pdr())];
        let result = mlr::search(&mut device, &goals, limits(capacity), Watch::NONE).unwrap();
        is_backed(&result);
        for goal in &result.goals {
            let truth = device.rate_at_loss(goal.goal.loss_ratio).unwrap();
            prop_assert!(goal.is_regular(), "{}", result);
            prop_assert!((goal.lower.unwrap() / truth - 1.0).abs() < 0.01, "{} of {truth}", result);
        }
        prop_assert!(result.goals[1].lower >= result.goals[0].lower);
    }

    #[test]
    fn a_generator_below_the_capacity_is_reported_and_one_above_it_is_not(
        capacity in capacities(), part in prop_oneof![0.1..0.97, 1.03..3.0],
        seed: u64, hiccup_every in prop_oneof![Just(0u32), 2u32..9],
    ) {
        let generator = capacity * part;
        let mut device = Device { generator, hiccup_every, ..Device::new(capacity, seed) };
        let result = ndr_and_pdr(&mut device, limits(capacity));
        is_backed(&result);
        for goal in &result.goals {
            let lower = goal.lower.unwrap();
            prop_assert!(lower <= generator);
            if part > 1.0 {
                prop_assert!(goal.is_regular(), "{}", result);
                prop_assert!((lower / capacity - 1.0).abs() < 0.012, "{}", result);
            } else {
                let named = matches!(goal.ending, Ending::Bottleneck { reached, asked }
                    if reached == generator && asked == capacity * 4.0);
                prop_assert!(named, "{}", result);
            }
        }
    }

    #[test]
    fn the_binary_search_finds_the_capacity_and_mlr_finds_it_sooner(
        capacity in capacities(), seed: u64, knee in 0.3..0.99,
    ) {
        let loss = Loss::Growing { knee, most: 0.5 };
        let device = Device { loss, ..Device::new(capacity, seed) };
        let settings = Settings { duration: Goal::ndr().last, ..Settings::default() };
        let plain = rfc2544::throughput(&mut device.clone(), settings, limits(capacity), Watch::NONE).unwrap();
        let truth = device.rate_at_loss(0.0).unwrap();
        prop_assert_eq!(plain.ending, Ending::Complete);
        prop_assert!((plain.lower.unwrap() / truth - 1.0).abs() < 0.01, "{} of {truth}", plain);
        let mlr = mlr::search(&mut device.clone(), &[Goal::ndr()], limits(capacity), Watch::NONE).unwrap();
        prop_assert!(mlr.spent < plain.spent, "{} {}", mlr, plain);
        // Two goals in one search, against two searches.
        let lossy = Settings { loss_ratio: 0.005, ..settings };
        let second = rfc2544::throughput(&mut device.clone(), lossy, limits(capacity), Watch::NONE).unwrap();
        let both = ndr_and_pdr(&mut device.clone(), limits(capacity));
        // Below that rate, trials which are long enough to tell a loss ratio of 0.5 % are nearly full-length ones.
        prop_assert!(capacity < 1e4 || both.spent < plain.spent + second.spent, "{}", both);
    }
}

#[test]
fn a_generator_of_one_million_packets_is_named_as_the_bottleneck() {
    let device = Device { generator: 1e6, ..Device::new(20e6, 1) };
    let limits = Limits { minimum: 1e4, maximum: 14.88e6, time: LONG };
    let mlr = ndr_and_pdr(&mut device.clone(), limits);
    let says = "irregular, the generator was the bottleneck: reached 1.0000 Mpps of 14.8800 Mpps";
    assert!(mlr.to_string().contains(says), "{mlr}");
    assert_eq!(mlr.goals[0].lower, Some(1e6));
    let plain = rfc2544::throughput(&mut device.clone(), Settings::default(), limits, Watch::NONE).unwrap();
    assert_eq!(plain.ending, Ending::Bottleneck { reached: 1e6, asked: 14.88e6 });
    assert_eq!(plain.lower, Some(1e6));
    assert!(plain.trials[1].short && !plain.trials[2].short, "{plain}");
    let mrr = mrr::measure(&mut device.clone(), 10, Duration::from_secs(1), limits, Watch::NONE).unwrap();
    assert_eq!(mrr.ending, Ending::Bottleneck { reached: 1e6, asked: 14.88e6 });
    assert_eq!(mrr.mean(), Some(1e6));
}

#[test]
fn a_generator_that_cannot_reach_the_minimum_gives_no_bound() {
    let device = Device { generator: 500.0, ..Device::new(20e6, 1) };
    let limits = Limits { minimum: 1e4, maximum: 14.88e6, time: LONG };
    for goal in ndr_and_pdr(&mut device.clone(), limits).goals {
        assert_eq!((goal.lower, goal.upper), (None, None), "{goal}");
        assert!(matches!(goal.ending, Ending::Bottleneck { reached: 500.0, .. }), "{goal}");
    }
    let plain = rfc2544::throughput(&mut device.clone(), Settings::default(), limits, Watch::NONE).unwrap();
    assert_eq!(plain.lower, None);
    assert!(matches!(plain.ending, Ending::Bottleneck { reached: 500.0, .. }), "{plain}");
}

#[test]
fn a_device_faster_than_the_maximum_is_said_to_be_so() {
    let limits = Limits { minimum: 1e3, maximum: 1e6, time: LONG };
    for goal in ndr_and_pdr(&mut Device::new(2e6, 3), limits).goals {
        assert_eq!(goal.ending, Ending::AboveMaximum(1e6));
        assert_eq!((goal.lower, goal.upper, goal.conditional_throughput), (Some(1e6), None, Some(1e6)));
    }
    let plain =
        rfc2544::throughput(&mut Device::new(2e6, 3), Settings::default(), limits, Watch::NONE).unwrap();
    assert_eq!(plain.ending, Ending::AboveMaximum(1e6));
    let slow =
        rfc2544::throughput(&mut Device::new(10.0, 3), Settings::default(), limits, Watch::NONE).unwrap();
    assert_eq!((slow.ending, slow.lower), (Ending::BelowMinimum(1e3), None));
}

#[test]
fn the_time_limit_is_kept_and_what_is_known_is_told() {
    let all = ndr_and_pdr(&mut Device::new(1e6, 4), limits(1e6));
    for seconds in [0, 1, 2, 10, 40, 70] {
        let time = Duration::from_secs(seconds);
        let result = ndr_and_pdr(&mut Device::new(1e6, 4), Limits { time, ..limits(1e6) });
        is_backed(&result);
        assert!(result.spent <= time && result.trials.len() < all.trials.len());
        assert_eq!(result.goals[1].ending, Ending::TimeLimit(time), "{result}");
        assert_eq!(result.trials[..], all.trials[..result.trials.len()]);
    }
    let time = Duration::from_secs(200);
    let part = rfc2544::throughput(
        &mut Device::new(1e6, 4),
        Settings::default(),
        Limits { time, ..limits(1e6) },
        Watch::NONE,
    );
    let part = part.unwrap();
    assert_eq!((part.ending, part.trials.len()), (Ending::TimeLimit(time), 3));
    assert!(part.upper.unwrap() > 1e6 && part.to_string().contains("time limit of 200.0 s"));
}

#[test]
fn cancelling_gives_what_is_known_and_progress_sees_every_trial() {
    let (seen, left) = (RefCell::new(vec![]), Cell::new(5));
    let cancelled = || left.replace(left.get() - 1) == 0;
    let progress = |record: &Record| seen.borrow_mut().push(*record);
    let watch = Watch { cancelled: &cancelled, progress: &progress };
    let goals = [Goal::ndr()];
    let result = mlr::search(&mut Device::new(1e6, 5), &goals, limits(1e6), watch).unwrap();
    assert_eq!(result.goals[0].ending, Ending::Cancelled);
    assert_eq!(result.trials, *seen.borrow());
    assert_eq!(result.trials.len(), 5);
    assert!(result.goals[0].to_string().contains("irregular, cancelled"));
}

/// A trial that gives what it is told to.
struct Told<F>(F);

impl<F: FnMut(f64, Duration) -> Result<Measured, &'static str>> Trial for Told<F> {
    type Error = &'static str;

    fn run(&mut self, rate: f64, duration: Duration) -> Result<Measured, &'static str> {
        self.0(rate, duration)
    }
}

#[test]
fn trials_that_fail_or_contradict_themselves_are_errors() {
    let measured = |rate: f64, duration: Duration| {
        let sent = (rate * duration.as_secs_f64()) as u64;
        Measured { asked: rate, offered: rate, sent, received: sent, duration, latency: None }
    };
    let search = |run: &mut dyn FnMut(f64, Duration) -> Result<Measured, &'static str>| {
        mlr::search(&mut Told(run), &[Goal::ndr()], limits(1e6), Watch::NONE).unwrap_err()
    };
    let error = search(&mut |_, _| Err("no link"));
    assert_eq!(error, SearchError::Trial { rate: 4e6, error: "no link" });
    let error = search(&mut |r, d| Ok(Measured { received: 5_000_000, ..measured(r, d) }));
    assert_eq!(error, SearchError::MoreReceived { sent: 4_000_000, received: 5_000_000 });
    let error = search(&mut |r, d| Ok(measured(r * 1.02, d)));
    assert!(matches!(error, SearchError::Overdriven { .. }), "{error}");
    let error = search(&mut |r, d| Ok(Measured { duration: Duration::ZERO, ..measured(r, d) }));
    assert_eq!(error, SearchError::Senseless);
    let error = search(&mut |r, d| Ok(measured(r, d / 2)));
    let (asked, lasted) = (Duration::from_secs(1), Duration::from_millis(500));
    assert_eq!(error, SearchError::CutShort { rate: 4e6, asked, lasted });
}

#[test]
fn settings_without_sense_are_refused() {
    let search = |goals: &[Goal], limits| mlr::search(&mut Device::new(1e6, 1), goals, limits, Watch::NONE);
    let bad = |result: Result<_, SearchError<_>>| matches!(result, Err(SearchError::Setting(_)));
    assert!(bad(search(&[], limits(1e6))));
    assert!(bad(search(&[Goal { loss_ratio: 1.0, ..Goal::ndr() }], limits(1e6))));
    assert!(bad(search(&[Goal { exceed_ratio: f64::NAN, ..Goal::ndr() }], limits(1e6))));
    assert!(bad(search(&[Goal { sum: Duration::from_secs(1), ..Goal::ndr() }], limits(1e6))));
    assert!(bad(search(&[Goal::ndr()], Limits { minimum: 0.0, ..limits(1e6) })));
    assert!(bad(search(&[Goal::ndr()], Limits { maximum: f64::INFINITY, ..limits(1e6) })));
}

#[test]
fn the_maximum_receive_rate_is_the_capacity_under_overload() {
    let mrr = mrr::measure(&mut Device::new(1e6, 6), 10, Duration::from_secs(1), limits(1e6), Watch::NONE);
    let mrr = mrr.unwrap();
    assert_eq!((mrr.ending, mrr.mean(), mrr.deviation()), (Ending::Complete, Some(1e6), Some(0.0)));
    assert_eq!(mrr.trials.len(), 10);
}

#[test]
fn latency_grows_with_the_load_and_is_of_the_rate_that_was_asked_for() {
    let mut device = Device { buffer: 1000, ..Device::new(1e6, 7) };
    let trials = (3, Duration::from_secs(1));
    let found =
        latency::measure(&mut device, 1e6, &latency::PARTS, trials, limits(1e6), Watch::NONE).unwrap();
    assert_eq!(found.ending, Ending::Complete);
    let medians: Vec<_> = found.at.iter().map(|at| at.median().unwrap()).collect();
    // Of an M/M/1 queue of 1 us per packet: 5 us and ln 2 times load / (1 - load) us.
    for (median, load) in medians.iter().zip(latency::PARTS) {
        let truth = 5000.0 + 1000.0 * 2f64.ln() * load / (1.0 - load);
        assert!((median - truth).abs() <= 1.0, "{median} {truth}");
    }
    let mut weak = Device { generator: 0.6e6, ..device };
    let found = latency::measure(&mut weak, 1e6, &latency::PARTS, trials, limits(1e6), Watch::NONE).unwrap();
    assert_eq!(found.ending, Ending::Bottleneck { reached: 0.6e6, asked: 0.9e6 });
    assert_eq!((found.at[1].latencies.len(), found.at[2].latencies.len()), (3, 0));
}
