use super::*;
use proptest::prelude::*;

/// An exchange at `now_ns` here, of a clock there that is `ahead_ns` ahead, with the given ways.
fn exchange(now_ns: u64, ahead_ns: i64, out_ns: u64, back_ns: u64) -> Exchange {
    let heard_ns = (now_ns + out_ns).checked_add_signed(ahead_ns).unwrap();
    let (answered_ns, returned_ns) = (heard_ns + 2_000, now_ns + out_ns + 2_000 + back_ns);
    Exchange { asked_ns: now_ns, heard_ns, answered_ns, returned_ns }
}

#[test]
fn equal_ways_tell_the_offset_exactly_and_half_of_them_is_the_bound() {
    let mut exchanges = Exchanges::new(1);
    assert_eq!(exchanges.relation(), None);
    exchanges.observe(&exchange(1_000_000, -250_000, 10_000, 10_000));
    let relation = exchanges.relation().unwrap();
    assert_eq!((relation.ahead_ns, relation.drift, relation.error_ns), (-250_000, 0.0, 10_001));
    assert_eq!(relation.here_ns(760_000), 1_010_000);
}

#[test]
fn a_delayed_exchange_is_passed_over_for_the_quickest_of_its_round() {
    let mut exchanges = Exchanges::new(4);
    for (round, out) in [9_000, 5_000, 800_000, 7_000_000].into_iter().enumerate() {
        exchanges.observe(&exchange(round as u64 * 1_000_000, 40_000_000, out, 5_000));
    }
    assert_eq!(exchanges.relation().unwrap().ahead_ns, 40_000_000);
}

#[test]
fn an_exchange_that_contradicts_itself_is_refused() {
    let mut exchanges = Exchanges::new(1);
    let good = exchange(1_000_000, 0, 10_000, 10_000);
    exchanges.observe(&Exchange { returned_ns: 999_999, ..good });
    exchanges.observe(&Exchange { answered_ns: good.heard_ns - 1, ..good });
    exchanges.observe(&Exchange { answered_ns: good.heard_ns + 30_000, ..good });
    assert_eq!((exchanges.refused(), exchanges.relation()), (3, None));
}

#[test]
fn far_from_the_exchanges_the_error_grows() {
    let relation = Relation { at_ns: 1_000_000, until_ns: 2_000_000, error_ns: 5, ..Relation::SAME };
    assert_eq!([999_000, 1_000_000, 2_000_000, 2_001_000].map(|ns| relation.error_at_ns(ns)), [7, 5, 5, 7]);
    assert_eq!(Relation::SAME.error_at_ns(u64::MAX), 0);
}

#[test]
fn a_time_that_no_clock_shows_becomes_the_nearest() {
    let ahead = Relation { ahead_ns: i64::MAX, ..Relation::SAME };
    assert_eq!(ahead.here_ns(5), 0);
    assert_eq!(Relation { ahead_ns: i64::MIN, ..Relation::SAME }.here_ns(u64::MAX), u64::MAX);
}

proptest! {
    #[test]
    fn the_true_offset_of_a_drifting_clock_lies_within_the_error(
        start in -1_000_000_000_000i64..1_000_000_000_000,
        drift_ppm in -300i64..300,
        ways in prop::collection::vec((5_000u64..60_000, 5_000u64..60_000), 2..3000),
        round in 1u32..10,
    ) {
        let mut exchanges = Exchanges::new(round);
        let from = 2_000_000_000_000u64;
        let ahead = |here: u64| start + (here - from) as i64 * drift_ppm / 1_000_000;
        for (nth, &(out, back)) in ways.iter().enumerate() {
            let now = from + nth as u64 * 10_000_000;
            exchanges.observe(&exchange(now, ahead(now), out, back));
        }
        let relation = exchanges.relation().unwrap();
        // Exchanges take up to 122 µs, in which 300 ppm are 37 ns; and a nanosecond is rounded here and there.
        let slack = 40;
        for nth in 0..ways.len() as u64 {
            let here = from + nth * 10_000_000;
            let there = here.checked_add_signed(ahead(here)).unwrap();
            let off = relation.here_ns(there).abs_diff(here);
            prop_assert!(off <= relation.error_at_ns(there) + slack, "{off} at {nth} of {relation:?}");
        }
    }
}

fn pair(monotonic_ns: u64, apart_ns: i64, width_ns: u64) -> Pair {
    let realtime_ns = (monotonic_ns + 1_700_000_000_000_000_000).checked_add_signed(apart_ns).unwrap();
    Pair { monotonic_ns, realtime_ns, width_ns }
}

#[test]
fn a_step_is_named_with_its_time_and_amount_once() {
    let mut watch = Watch::new(Host::Sender, 1_000);
    for (at, apart) in [(10, 0), (20, 30), (30, -40)] {
        assert_eq!(watch.observe(&pair(at, apart, 50)), None);
    }
    let step = Step { host: Host::Sender, at_ns: 2_500_000_000, by_ns: -37_000_000 };
    assert_eq!(watch.observe(&pair(2_500_000_000, -37_000_000, 50)), Some(step));
    assert_eq!(watch.observe(&pair(3_500_000_000, -37_000_000, 50)), None);
    assert_eq!((watch.steps(), watch.count()), (&[step][..], 1));
    let text = "the sender's clock was set by -37000.0 µs, noticed at 2.500 s of its monotonic clock";
    assert_eq!(step.to_string(), text);
}

#[test]
fn many_small_steps_are_one_great_one_in_the_end() {
    let mut watch = Watch::new(Host::Sink, 1_000);
    let noticed = (0..10).filter_map(|nth| watch.observe(&pair(nth * 1_000, nth as i64 * 300, 0)));
    assert_eq!(noticed.map(|step| step.by_ns).collect::<Vec<_>>(), [1_200, 1_200]);
}

#[test]
fn a_slow_reading_is_not_taken_for_a_step() {
    let mut watch = Watch::new(Host::Sink, 1_000);
    watch.observe(&pair(1_000, 0, 40));
    assert_eq!(watch.observe(&pair(2_000, 700_000, 800_000)), None, "the thread lost its core while reading");
    assert!(watch.observe(&pair(3_000, 700_000, 40)).is_some());
}

#[test]
fn steps_beyond_those_kept_are_counted() {
    let mut watch = Watch::new(Host::Sink, 1_000);
    for nth in 0..100 {
        watch.observe(&pair(nth, nth as i64 * 5_000, 0));
    }
    assert_eq!((watch.steps().len(), watch.count()), (STEPS_KEPT, 99));
}
