use super::super::pace::Rate;
use super::super::{SKEW, is_past};
use super::*;
use proptest::prelude::*;
use std::thread;

const SECOND: u64 = 1_000_000_000;

fn bits(rate: u64) -> Pace {
    Pace::new(Rate::Bits(rate), 0).unwrap()
}

fn token(rate: u64, burst: u64) -> Bucket {
    Bucket::new(bits(rate), burst, Rule::Token).unwrap()
}

/// What RFC 2697 calls a token count, kept exactly: billionths of a bit.
struct Tokens {
    rate: u64,
    burst: u128,
    there: u128,
    at: u64,
}

impl Tokens {
    fn full(rate: u64, bytes: u64, at: u64) -> Self {
        let burst = u128::from(bytes) * 8 * 1_000_000_000;
        Self { rate, burst, there: burst, at }
    }

    fn fill(&mut self, now: u64) {
        self.there += u128::from(now.saturating_sub(self.at)) * u128::from(self.rate);
        (self.there, self.at) = (self.there.min(self.burst), now.max(self.at));
    }

    fn take(&mut self, bytes: u64) {
        let cost = u128::from(bytes) * 8 * 1_000_000_000;
        self.there = self.there.checked_sub(cost).expect("the rate was exceeded");
    }
}

fn rates() -> impl Strategy<Value = u64> {
    // From 1 kbit/s to 400 Gbit/s, each order of magnitude as likely.
    (3.0..11.6f64).prop_map(|exponent| 10f64.powf(exponent) as u64)
}

/// Steps of the clock in units of what a packet takes, and packets.
fn arrivals() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let step = prop_oneof![Just(0), 1..2000u64, Just(1_000_000)];
    prop::collection::vec((step, 1..9000u64), 1..400)
}

proptest! {
    /// Against exact tokens: never more than they allow, and refused only what they would refuse within the rounding.
    #[test]
    fn a_token_bucket_is_one_of_tokens(
        rate in rates(), burst in 9000..1_000_000u64, start in any::<u64>(), arrivals in arrivals(), many in any::<bool>(),
    ) {
        let writers = if many { Writers::Many } else { Writers::One };
        let (bucket, state) = (token(rate, burst), AtomicU64::new(0));
        let mut now = start % (1 << 60);
        let mut tokens = Tokens::full(rate, burst, now);
        // A 2⁻¹⁶ ns for each packet, in billionths of a bit, is all that rounding may cost, and 16 of them what it may give.
        let mut rounding = u128::from(rate >> 16) + 1;
        tokens.burst += u128::from(rate >> 12) + 1;
        tokens.there = tokens.burst;
        for (step, bytes) in arrivals {
            now += (u128::from(step) * 8 * 1_000_000_000 / u128::from(rate)) as u64;
            tokens.fill(now);
            if bucket.take(&state, now, bytes, writers) {
                tokens.take(bytes);
                rounding += u128::from(rate >> 15) + 2;
            } else {
                let cost = u128::from(bytes) * 8 * 1_000_000_000;
                prop_assert!(tokens.there < cost + rounding, "{} {cost}", tokens.there);
            }
        }
    }

    /// At no two arrivals has more passed between them than burst + rate · t (and a packet, for the leaky bucket).
    #[test]
    fn no_interval_has_too_much(rate in rates(), burst in 0..100_000u64, leaky in any::<bool>(), arrivals in arrivals()) {
        let rule = if leaky { Rule::Leaky } else { Rule::Token };
        let (bucket, state) = (Bucket::new(bits(rate), burst, rule).unwrap(), AtomicU64::new(0));
        let mut now = 77 * SECOND;
        let mut passed = Vec::new();
        for (step, bytes) in arrivals {
            now += (u128::from(step) * 8 * 1_000_000_000 / u128::from(rate)) as u64;
            if bucket.take(&state, now, bytes, Writers::One) {
                passed.push((now, bytes));
            }
        }
        for first in 0..passed.len() {
            let mut sum = 0u128;
            for &(at, bytes) in &passed[first..] {
                sum += u128::from(bytes) * 8 * 1_000_000_000;
                let most_bytes = burst + if leaky { bytes } else { 0 };
                let brought = u128::from(at - passed[first].0) * u128::from(rate);
                // The burst is a time, rounded up by 2⁻¹² ns.
                let most = u128::from(most_bytes) * 8 * 1_000_000_000 + brought + u128::from(rate >> 12) + 2;
                prop_assert!(sum <= most);
            }
        }
    }

    /// Who keeps to the leaky bucket's rate exactly, packet by packet, always passes, whatever the burst.
    #[test]
    fn who_keeps_the_pace_of_a_leaky_bucket_passes(rate in rates(), sizes in prop::collection::vec(64..9000u64, 1..200)) {
        let (bucket, state) = (Bucket::new(bits(rate), 0, Rule::Leaky).unwrap(), AtomicU64::new(0));
        let mut now = SECOND;
        for bytes in sizes {
            prop_assert!(bucket.take(&state, now, bytes, Writers::One) || bucket.rest(&state, now) == 0);
            now += (u128::from(bytes) * 8 * 1_000_000_000).div_ceil(u128::from(rate)) as u64 + 1;
        }
    }

    /// A packet that had to wait leaves when it would have conformed; nothing waits longer than the limit.
    #[test]
    fn what_waits_conforms_when_it_leaves(rate in rates(), burst in 9000..100_000u64, arrivals in arrivals()) {
        let (shaper, state) = (token(rate, burst), AtomicU64::new(0));
        let (police, oracle) = (token(rate, burst + 1), AtomicU64::new(0));
        let limit = (u128::from(burst) * 8_000_000_000 / u128::from(rate)) as u64 + 1;
        let (mut now, mut last, mut refused) = (5 * SECOND, i64::MIN, 0);
        for (step, bytes) in arrivals {
            now += (u128::from(step) * 8 * 1_000_000_000 / u128::from(rate)) as u64;
            match shaper.wait(&state, now, bytes, limit, Writers::One) {
                Some(wait) => {
                    prop_assert!(wait <= limit as i64 + 1);
                    let leaves = now as i64 + wait;
                    prop_assert!(leaves >= last, "overtaken");
                    last = leaves;
                    let at = leaves.max(now as i64) as u64;
                    prop_assert!(police.take(&oracle, at, bytes, Writers::One), "at {at}");
                }
                None => refused += 1,
            }
        }
        prop_assert!(refused == 0 || last > 0);
    }
}

/// A sender at exactly the rate, for so many packets; how many were refused.
fn at_the_rate(rate: u64, bytes: u64, packets: u64) -> u64 {
    let (bucket, state) = (token(rate, 64 * bytes), AtomicU64::new(0));
    let at = |n: u64| 12_345 + (u128::from(n * bytes) * 8_000_000_000).div_ceil(u128::from(rate)) as u64;
    (0..packets).filter(|&n| !bucket.take(&state, at(n), bytes, Writers::One)).count() as u64
}

#[test]
fn a_sender_at_the_rate_is_not_refused_from_a_kilobit_to_400_gigabits() {
    for rate in [1_000, 9_600, 1_000_000, 1_234_567, 10_000_000_000, 100_000_000_000, 400_000_000_000] {
        for bytes in [64, 1500, 9000] {
            assert_eq!(at_the_rate(rate, bytes, 1_000_000), 0, "{rate} {bytes}");
        }
    }
}

#[test]
fn a_flood_gets_the_rate_and_no_less() {
    for rate in [8_000, 1_000_000, 1_000_000_000, 400_000_000_000] {
        let (bucket, state) = (token(rate, 15_000), AtomicU64::new(0));
        // Ten times the rate, for a thousand packets' time.
        let at = |n: u64| (u128::from(n) * 1500 * 800_000_000 / u128::from(rate)) as u64;
        let passed = (0..100_000u64).filter(|&n| bucket.take(&state, at(n), 1500, Writers::One)).count();
        assert!((10_009..=10_010).contains(&passed), "{rate}: {passed}");
    }
}

#[test]
fn a_clock_that_stands_brings_nothing_and_a_jump_ahead_one_burst() {
    let (bucket, state) = (token(8_000_000, 10_000), AtomicU64::new(0));
    let flood = |now| (0..1000).filter(|_| bucket.take(&state, now, 1000, Writers::One)).count();
    assert_eq!([flood(SECOND), flood(SECOND), flood(SECOND)], [10, 0, 0]);
    assert_eq!(flood(SECOND + 5_000_000), 5);
    // As long as half the range of a word (39 hours): the longest that a state that is not swept may rest.
    assert_eq!(flood(100_000 * SECOND), 10);
}

#[test]
fn a_clock_that_goes_back_leaves_an_empty_bucket_that_fills_again() {
    let (bucket, state) = (token(8_000_000, 10_000), AtomicU64::new(0));
    let flood = |now| (0..1000).filter(|_| bucket.take(&state, now, 1000, Writers::One)).count();
    assert_eq!(flood(9_000 * SECOND), 10);
    assert_eq!(flood(8_000 * SECOND), 0, "not full again");
    assert_eq!(flood(8_000 * SECOND + 3_000_000), 3, "fills from there");
    // By less than clocks of workers may differ: it waits until then.
    assert_eq!(flood(8_000 * SECOND - SKEW / 2), 0);
    assert_eq!(flood(8_000 * SECOND + 5_000_000), 2);
}

#[test]
fn a_state_that_is_past_is_full_and_zero_is_past() {
    let (bucket, state) = (token(8_000_000, 10_000), AtomicU64::new(0));
    assert!(is_past(0, point(SECOND)));
    // A word whose bits would be 0 is not taken for one that was never written.
    assert_ne!(word(0, 0), 0);
    assert!(bucket.take(&state, SECOND, 10_000, Writers::One));
    assert!(!is_past(state.load(Relaxed), point(SECOND)));
    assert_eq!(bucket.rest(&state, SECOND), 10_000_000);
    assert!(is_past(state.load(Relaxed), point(SECOND + 10_000_001)));
}

#[test]
fn packets_taken_together_are_those_taken_one_by_one() {
    let (bucket, state) = (token(8_000_000, 10_000), AtomicU64::new(0));
    assert!(bucket.take_all(&state, SECOND, 9_000, Writers::Many));
    assert!(!bucket.take_all(&state, SECOND, 2_000, Writers::Many));
    assert!(bucket.take(&state, SECOND, 1_000, Writers::Many));
    assert!(!bucket.take(&state, SECOND, 1, Writers::Many));
    let leaky = Bucket::new(bits(8_000_000), 1_000, Rule::Leaky).unwrap();
    let state = AtomicU64::new(0);
    assert!(!leaky.take_all(&state, SECOND, 1_500, Writers::One), "not certain");
    assert!(leaky.take(&state, SECOND, 1_500, Writers::One));
}

#[test]
fn who_cannot_take_all_at_once_leaves_a_long_queue_as_it_is() {
    let (bucket, state) = (token(8_000_000, 4_000), AtomicU64::new(0));
    let wait = || bucket.wait(&state, SECOND, 1_000, 4 * SECOND, Writers::One);
    for n in 0..4_000i64 {
        assert_eq!(wait(), Some((n - 3) * 1_000_000), "{n}");
        // More than the burst is, so never.
        assert!(!bucket.take_all(&state, SECOND, 5_000, Writers::One));
    }
}

#[test]
fn a_burst_that_takes_hours_to_come_is_refused() {
    assert!(Bucket::new(bits(1_000), 1 << 20, Rule::Token).is_some());
    assert_eq!(Bucket::new(bits(1_000), 1 << 24, Rule::Token), None);
    assert!(Bucket::new(bits(400_000_000_000), 1 << 30, Rule::Token).is_some());
}

#[test]
fn several_workers_together_get_what_one_would() {
    let (bucket, state) = (token(1_000_000_000, 150_000), AtomicU64::new(0));
    let passed: u64 = thread::scope(|scope| {
        let worker = |_| {
            scope.spawn(|| {
                // Each at five times the rate, each with a clock of its own.
                (0..100_000u64)
                    .filter(|&n| bucket.take(&state, SECOND + n * 2_400, 1500, Writers::Many))
                    .count()
            })
        };
        let workers: Vec<_> = (0..4).map(worker).collect();
        workers.into_iter().map(|worker| worker.join().unwrap() as u64).sum()
    });
    // 240 ms at 125 kB/ms, and the burst: 20,100 packets. All workers saw the last of the clock, so nothing is left over
    // but what a worker that was ahead may have kept the others from for a moment.
    assert!((20_000..=20_100).contains(&passed), "{passed}");
}
