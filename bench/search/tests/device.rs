//! Bursts, recovery, resets and connections of devices that are known.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::time::Duration;
use zsync_search::back_to_back::{self, Bursts, Settings};
use zsync_search::connections::{self, ByRate, Connections, Established, Filling};
use zsync_search::recovery;
use zsync_search::reset::reset_time;
use zsync_search::run::{Ending, Limits, SearchError};
use zsync_search::simulated::{Device, Full, Table, arrivals};

const LONG: Duration = Duration::from_secs(1_000_000);

fn never() -> bool {
    false
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, rng_seed: RngSeed::Fixed(9693), ..ProptestConfig::default() })]

    #[test]
    fn the_longest_burst_is_the_buffer_when_nothing_is_forwarded_meanwhile(buffer in 1u64..5000) {
        let mut device = Device { buffer, generator: 1e7, ..Device::new(1.0, 1) };
        let settings = Settings { rate: 1e7, throughput: 1.0, longest: 10_000, repeats: 3 };
        let found = back_to_back::measure(&mut device, settings, &never).unwrap();
        prop_assert_eq!(found.ending, Ending::Complete);
        prop_assert_eq!(&found.longest, &vec![buffer; 3]);
        prop_assert_eq!(found.implied_buffer, Some(Duration::from_nanos(100 * buffer)));
    }

    #[test]
    fn the_corrected_buffer_is_the_buffer_though_packets_are_forwarded_meanwhile(
        buffer in 20u64..2000, part in 0.05..0.8,
    ) {
        let mut device = Device { buffer, generator: 1e7, ..Device::new(1e7 * part, 1) };
        let settings = Settings { rate: 1e7, throughput: 1e7 * part, longest: 20_000, repeats: 1 };
        let found = back_to_back::measure(&mut device, settings, &never).unwrap();
        let longest = found.longest[0];
        // The search's answer is exact: one packet more is one too many.
        let passes = |device: &mut Device, packets| device.burst(packets).unwrap().received == packets;
        prop_assert!(passes(&mut device, longest) && !passes(&mut device, longest + 1));
        let corrected = found.corrected_buffer.unwrap().as_secs_f64() * 1e7;
        prop_assert!((corrected - buffer as f64).abs() <= 2.0, "{corrected} of {buffer}");
        prop_assert!(found.implied_buffer > found.corrected_buffer);
    }

    #[test]
    fn reset_times_are_exact(from in 1u64..500, lasts in 0u64..400, stray in 950u64..998) {
        let away = |from, count| (Duration::from_millis(from), Duration::from_millis(from + count));
        let seen = arrivals(1000, Duration::from_millis(1), &[away(from, lasts), away(stray, 1)]);
        let reset = reset_time(&seen, 1000, 1000.0).unwrap();
        let longest = lasts.max(1);
        prop_assert_eq!(reset.by_loss, Duration::from_millis(longest));
        prop_assert_eq!(reset.by_time, Duration::from_millis(longest + 1));
        prop_assert_eq!(reset.lost + reset.lost_elsewhere, lasts + 1);
    }

    #[test]
    fn the_table_s_capacity_is_exact(capacity in 1u64..10_000_000, first in 1u64..5000, forgets: bool) {
        let full = if forgets { Full::ForgetsOldest } else { Full::Refuses };
        let mut table = Table { capacity, rate: 1e6, full, generator: 1e9, held: 0 };
        let filling = Filling { first, most: 20_000_000, rate: 5e5, time: LONG };
        let found = connections::capacity(&mut table, filling, &never).unwrap();
        prop_assert_eq!(found.ending, Ending::Complete);
        prop_assert_eq!((found.fitted, found.failed), (Some(capacity), Some(capacity + 1)));
    }

    #[test]
    fn the_establishment_rate_is_within_its_resolution(rate in 1e3..1e7) {
        let mut table = Table { capacity: 200_000, rate, full: Full::Refuses, generator: 1e9, held: 0 };
        let limits = Limits { minimum: 100.0, maximum: 2e7, time: LONG };
        let found = connections::establishment_rate(&mut table, 100_000, 0.001, limits, &never).unwrap();
        prop_assert_eq!(found.ending, Ending::Complete);
        let (lower, upper) = (found.lower.unwrap(), found.upper.unwrap());
        prop_assert!(lower <= rate * (1.0 + 1e-5) && rate <= upper && upper - lower <= upper * 0.001, "{}", found);
    }
}

#[test]
fn a_burst_that_is_not_at_full_rate_counts_for_nothing() {
    let mut device = Device { buffer: 100, generator: 5e6, ..Device::new(1.0, 1) };
    let settings = Settings { rate: 1e7, throughput: 1.0, longest: 1000, repeats: 50 };
    let found = back_to_back::measure(&mut device, settings, &never).unwrap();
    assert_eq!(found.ending, Ending::Bottleneck { reached: 5e6, asked: 1e7 });
    assert_eq!((found.longest.len(), found.implied_buffer), (0, None));
    device.generator = f64::NAN;
    let found = back_to_back::measure(&mut device, settings, &never).unwrap();
    assert!(matches!(found.ending, Ending::Bottleneck { .. }) && found.longest.is_empty());
    device.generator = 1e7;
    let found = back_to_back::measure(&mut device, Settings { longest: 50, ..settings }, &never).unwrap();
    assert_eq!(found.ending, Ending::AboveMaximum(50.0));
    let found = back_to_back::measure(&mut device, settings, &|| true).unwrap();
    assert_eq!((found.ending, found.bursts.len()), (Ending::Cancelled, 0));
}

#[test]
fn recovery_is_from_the_cut_to_the_last_loss() {
    let mut device = Device { recovery: Duration::from_micros(12_345), ..Device::new(1e6, 1) };
    let found = recovery::measure(&mut device, 1e6, 5, recovery::RFC2544_DURATION).unwrap();
    assert_eq!(found.mean(), Some(Duration::from_micros(12_345)));
    assert!(found.void.is_empty());
    // Without an overload there is nothing to recover from: no zero, but no result.
    device.generator = 1.05e6;
    let found = recovery::measure(&mut device, 1e6, 5, recovery::RFC2544_DURATION).unwrap();
    assert_eq!((found.mean(), found.void.len()), (None, 5));
    assert!(found.to_string().contains("5 trials without overload (last: offered 1.0500 Mpps)"), "{found}");
}

#[test]
fn the_overload_is_no_faster_than_the_line() {
    // A device that forwards 97 % of what the line carries: 110 % of that is more than the line.
    let mut device = Device { recovery: Duration::from_millis(7), generator: 1e6, ..Device::new(0.97e6, 1) };
    let (count, duration) = (3, recovery::RFC2544_DURATION);
    let unlimited = recovery::measure(&mut device, 0.97e6, count, duration).unwrap();
    assert_eq!((unlimited.mean(), unlimited.void.len()), (None, 3));
    let found = recovery::measure_within(&mut device, 0.97e6, 1e6, count, duration).unwrap();
    assert_eq!((found.overload, found.mean()), (1e6, Some(Duration::from_millis(7))));
    let says = "system recovery from 1.0000 Mpps (throughput 970.000 kpps): 0.007000 s. ";
    assert!(found.to_string().starts_with(says), "{found}");
    assert_eq!(
        found.trials[0].to_string(),
        "1.0000 Mpps until 60.000000 s, 1803500 packets lost, the last at 60.007000 s"
    );
}

#[test]
fn the_back_to_back_report_has_what_rfc_9004_asks_for() {
    // Buffers of one search each, as noise would have them.
    struct Buffers(Vec<u64>, usize);
    impl Bursts for Buffers {
        type Error = std::convert::Infallible;
        fn burst(&mut self, packets: u64) -> Result<back_to_back::Burst, Self::Error> {
            // The first burst of a search is the longest.
            self.1 += usize::from(packets == 300_000);
            let received = packets.min(self.0[self.1 - 1]);
            Ok(back_to_back::Burst { sent: packets, received, rate: 10_000.0 })
        }
    }
    let settings = Settings { repeats: 3, ..Settings::rfc9004(10_000.0, 9_000.0) };
    assert_eq!((settings.longest, Settings::rfc9004(10_000.0, 9_000.0).repeats), (300_000, 50));
    let found = back_to_back::measure(&mut Buffers(vec![100, 200, 300], 0), settings, &never).unwrap();
    assert_eq!((found.longest.as_slice(), found.mean()), ([100, 200, 300].as_slice(), Some(200.0)));
    assert_eq!(found.deviation(), Some(100.0));
    // 200 packets at 10 000 per second; a tenth of them is in the buffer.
    assert_eq!(found.implied_buffer, Some(Duration::from_millis(20)));
    let apart = |time: Duration, nanos| time.abs_diff(Duration::from_nanos(nanos)) <= Duration::from_nanos(1);
    assert!(apart(found.corrected_buffer.unwrap(), 2_000_000));
    assert!(apart(found.buffer_at(5_000.0).unwrap(), 4_000_000));
    let says = "back-to-back: 200.0 packets, mean of 3 searches (least 100, most 300, standard deviation 100.0); \
                buffer 2000.000 us (implied 20000.000 us); complete; ";
    assert!(found.to_string().starts_with(says), "{found}");
    assert!(
        found.to_string().contains("a step of 1 packet, from 300000 on), 3 times (RFC 9004 §6)"),
        "{found}"
    );
    assert_eq!((found.buffer_at(0.0), found.buffer_at(f64::NAN)), (None, None));
}

#[test]
fn a_generator_too_weak_for_the_table_is_named() {
    let mut table = Table { capacity: 200_000, rate: 1e6, full: Full::Refuses, generator: 4e5, held: 0 };
    let limits = Limits { minimum: 100.0, maximum: 2e6, time: LONG };
    let found = connections::establishment_rate(&mut table, 100_000, 0.001, limits, &never).unwrap();
    assert!(matches!(found.ending, Ending::Bottleneck { reached, asked: 2e6 } if reached <= 4e5), "{found}");
    assert!(found.lower.unwrap() <= 4e5 && found.to_string().contains("kcps of 2.0000 Mcps"), "{found}");
    let filling = Filling { first: 1000, most: 1_000_000, rate: 5e5, time: LONG };
    let found = connections::capacity(&mut table, filling, &never).unwrap();
    assert_eq!(found.ending, Ending::Bottleneck { reached: 4e5, asked: 5e5 });
    assert_eq!(found.fitted, None);
}

/// A table that takes connections ever more slowly: when full, at a quarter of its first rate.
#[derive(Clone, Copy)]
struct Slowing {
    capacity: u64,
    rate: f64,
    held: u64,
}

impl Connections for Slowing {
    type Error = std::convert::Infallible;

    fn clear(&mut self) -> Result<(), Self::Error> {
        self.held = 0;
        Ok(())
    }

    fn establish(&mut self, count: u64, rate: f64) -> Result<Established, Self::Error> {
        let full = count.min(self.capacity) as f64 / self.capacity as f64;
        let keeps_up = rate <= self.rate / (1.0 + 3.0 * full);
        let established = if keeps_up { count.min(self.capacity) } else { 0 };
        self.held = established;
        let duration = Duration::from_secs_f64(count as f64 / rate);
        Ok(Established { offered: rate, tried: count, established, duration })
    }

    fn validate(&mut self, count: u64) -> Result<u64, Self::Error> {
        Ok(count.min(self.held))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, rng_seed: RngSeed::Fixed(9693), ..ProptestConfig::default() })]

    #[test]
    fn a_table_that_becomes_slower_is_not_taken_for_full(capacity in 2000u64..5_000_000, rate in 1e4..1e7) {
        let table = Slowing { capacity, rate, held: 0 };
        let limits = Limits { minimum: 100.0, maximum: 2e7, time: LONG };
        let settings = ByRate::siitperf(1000, 20_000_000);
        let found = connections::capacity_by_rate(&mut table.clone(), settings, limits, &never).unwrap();
        prop_assert_eq!(found.ending, Ending::Complete, "{}", found);
        prop_assert_eq!((found.fitted, found.failed), (Some(capacity), Some(capacity + 1)));
        // The rate at the capacity is what the model says; at one rate for all counts, the table seems smaller.
        let last = found.steps.iter().rev().find(|step| step.count == capacity).and_then(|step| step.rate).unwrap();
        prop_assert!(last <= rate / 4.0 && last > rate / 4.0 * 0.95, "{last} of {rate}");
        let filling = Filling { first: 1000, most: 20_000_000, rate: rate / 3.9, time: LONG };
        let short = connections::capacity(&mut table.clone(), filling, &never).unwrap();
        prop_assert!(short.fitted < Some(capacity), "{}", short);
        let coarse = ByRate { error: 500, ..settings };
        let found = connections::capacity_by_rate(&mut table.clone(), coarse, limits, &never).unwrap();
        let (fitted, failed) = (found.fitted.unwrap(), found.failed.unwrap());
        prop_assert!(fitted <= capacity && capacity < failed && failed - fitted <= 500, "{}", found);
    }

    #[test]
    fn both_searches_find_the_same_capacity_of_a_table_of_one_rate(capacity in 1000u64..1_000_000, forgets: bool) {
        let full = if forgets { Full::ForgetsOldest } else { Full::Refuses };
        let mut table = Table { capacity, rate: 1e6, full, generator: 1e9, held: 0 };
        let limits = Limits { minimum: 100.0, maximum: 2e7, time: LONG };
        let settings = ByRate::siitperf(1000, 20_000_000);
        let found = connections::capacity_by_rate(&mut table, settings, limits, &never).unwrap();
        prop_assert_eq!((found.fitted, found.failed), (Some(capacity), Some(capacity + 1)), "{}", found);
    }
}

#[test]
fn the_search_by_rate_ends_at_its_limits() {
    let table = Slowing { capacity: 100_000, rate: 1e6, held: 0 };
    let limits = Limits { minimum: 100.0, maximum: 2e6, time: LONG };
    let search =
        |settings, limits| connections::capacity_by_rate(&mut table.clone(), settings, limits, &never);
    let found = search(ByRate::siitperf(1000, 50_000), limits).unwrap();
    assert_eq!(
        (found.ending, found.fitted, found.failed),
        (Ending::AboveMaximum(50_000.0), Some(50_000), None)
    );
    assert!(
        found.to_string().starts_with("connection table: at least 50000 connections, the most tried; "),
        "{found}"
    );
    let found = search(ByRate::siitperf(200_000, 500_000), limits).unwrap();
    assert_eq!((found.ending, found.fitted), (Ending::BelowMinimum(200_000.0), None));
    assert!(found.to_string().starts_with("connection table: fewer than 200000 connections"), "{found}");
    let time = Duration::from_millis(100);
    let found = search(ByRate::siitperf(1000, 500_000), Limits { time, ..limits }).unwrap();
    assert_eq!(found.ending, Ending::TimeLimit(time));
    assert!(found.spent <= time && found.fitted.is_some() && found.failed.is_none(), "{found}");
    let bad = |settings| matches!(search(settings, limits), Err(SearchError::Setting(_)));
    assert!(bad(ByRate::siitperf(0, 10)) && bad(ByRate { error: 0, ..ByRate::siitperf(1, 10) }));
    assert!(bad(ByRate { beta: 1.0, ..ByRate::siitperf(1, 10) }));
    assert!(bad(ByRate { gamma: f64::NAN, ..ByRate::siitperf(1, 10) }));
    let step = search(ByRate::siitperf(1000, 500_000), limits).unwrap().steps[0];
    assert!(step.to_string().starts_with("1000 connections at 9"), "{step}");
}

#[test]
fn searches_of_tables_end_at_their_limits() {
    let table = Table { capacity: 200_000, rate: 1e6, full: Full::Refuses, generator: 1e9, held: 0 };
    let filling = Filling { first: 1000, most: 100_000, rate: 5e5, time: LONG };
    let found = connections::capacity(&mut table.clone(), filling, &never).unwrap();
    assert_eq!((found.ending, found.fitted), (Ending::AboveMaximum(100_000.0), Some(100_000)));
    let time = Duration::from_millis(100);
    let found = connections::capacity(&mut table.clone(), Filling { time, ..filling }, &never).unwrap();
    assert_eq!((found.ending, found.fitted), (Ending::TimeLimit(time), Some(16_000)));
    assert!(found.spent <= time);
    let found = connections::capacity(&mut table.clone(), filling, &|| true).unwrap();
    assert_eq!((found.ending, found.fitted), (Ending::Cancelled, None));
    let none = connections::capacity(&mut Table { capacity: 0, ..table }, filling, &never).unwrap();
    assert_eq!((none.ending, none.fitted), (Ending::BelowMinimum(1.0), None));
    assert!(none.to_string().starts_with("connection table: not one connection fitted; "), "{none}");
    let says = "1 connections at 500.000 kcps: offered 500.000 kcps, 0 of 1 established, 0 valid";
    assert_eq!(none.trials.last().unwrap().to_string(), says);
    let bad = connections::capacity(&mut table.clone(), Filling { first: 0, ..filling }, &never);
    assert!(matches!(bad, Err(SearchError::Setting(_))));
}
