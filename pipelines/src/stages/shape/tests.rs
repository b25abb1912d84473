use super::*;
use crate::stages::fixture::{IN, Seen, on_v4, on_v6, ports, run};
use crate::stages::parse::Parse;
use crate::tables::meter::pace::Rate;
use crate::tables::meter::subject::board;
use proptest::prelude::*;
use zsync_packet::header::build::{Ipv4Spec, Ipv6Spec};
use zsync_packet::header::{Ipv4, Ipv6};

const MS: u64 = 1_000_000;
/// A multiple of a tick.
const START: u64 = TICK * 1_000_000;

/// A byte a microsecond.
fn pace() -> Pace {
    Pace::new(Rate::Bits(8_000_000), 0).unwrap()
}

fn shape_in(state: Region, burst: u64, limit: u64, mark: Option<u64>, per: Per) -> Shape {
    Shape::new(pace(), burst, limit, mark, per, 64, state, 1, HashKey::from_seed(5)).unwrap()
}

fn shape(burst: u64, limit: u64, mark: Option<u64>, per: Per) -> Shape {
    shape_in(Region::heap(Shape::bytes(per, 64)), burst, limit, mark, per)
}

fn process<P: AsRef<[u8]>>(shape: &mut Shape, packets: &[P], now: u64) -> Vec<Seen> {
    run(&mut [&mut Parse::new(ports(), true), shape], IN, packets, now)
}

/// 1,000 bytes in all.
fn v4(source: [u8; 4], ecn: u8) -> Vec<u8> {
    let ip = Ipv4Spec { tos: ecn, ..Ipv4Spec::new(source.into(), [192, 0, 2, 1].into(), 253) };
    on_v4(&ip, &[0; 966])
}

fn v6(ecn: u8) -> Vec<u8> {
    let ip = Ipv6Spec::new("2001:db8::7".parse().unwrap(), "2001:db8::1".parse().unwrap(), 59);
    on_v6(&Ipv6Spec { traffic_class: ecn, ..ip }, &[0; 946])
}

/// The delays in ticks, rounded down; 'none' for what was dropped.
fn delays(seen: &[Seen]) -> Vec<Option<u64>> {
    let delay = |seen: &Seen| match seen.verdict {
        Verdict::Next => Some(u64::from(seen.facts.delay) / TICK),
        Verdict::Drop(DropReason::ShapeFull) => None,
        other => panic!("{other:?}"),
    };
    seen.iter().map(delay).collect()
}

#[test]
fn what_is_beyond_the_burst_waits_for_its_turn_and_what_would_wait_too_long_is_dropped() {
    let mut shape = shape(2_000, 3 * MS, None, Per::All);
    let seen = process(&mut shape, &vec![v4([10, 0, 0, 1], 0); 7], START);
    // A millisecond is 976.6 ticks.
    let expected = [Some(0), Some(0), Some(977), Some(1954), Some(2930), None, None];
    assert_eq!(delays(&seen), expected);
    assert!(seen.iter().all(|seen| (START + u64::from(seen.facts.delay)).is_multiple_of(TICK)));
    // What was dropped counts for nothing.
    assert_eq!(delays(&process(&mut shape, &[v4([10, 0, 0, 1], 0)], START + MS)), [Some(2930)]);
}

#[test]
fn a_burst_that_has_been_there_for_a_tick_goes_at_once() {
    let mut shape = shape(10_000, MS, None, Per::All);
    let packets = vec![v4([10, 0, 0, 1], 0); 5];
    assert_eq!(delays(&process(&mut shape, &packets, START)), [Some(0); 5]);
    assert_eq!(process(&mut shape, &packets[..4], START)[3].facts.delay, 0);
    // The last one that conforms does so now, not a tick ago; its tick is now.
    assert_eq!(process(&mut shape, &packets[..1], START)[0].facts.delay, 0);
    // This one conforms since 100 ns. One that did a moment before it would leave at the next tick, so it does too.
    let now = START + MS + 100;
    let seen = process(&mut shape, &packets[..1], now);
    assert_eq!(now + u64::from(seen[0].facts.delay), (START + MS).next_multiple_of(TICK));
    assert!(seen[0].facts.delay > 0);
}

#[test]
fn marks_before_it_drops_and_only_what_understands_marks() {
    let mut shape = shape(1_000, 4 * MS, Some(2 * MS), Per::All);
    let packets = [
        v4([10, 0, 0, 1], 2),
        v4([10, 0, 0, 1], 2),
        v4([10, 0, 0, 1], 1),
        v6(2),
        v6(0),
        v4([10, 0, 0, 1], 2),
    ];
    let seen = process(&mut shape, &packets, START);
    assert!(delays(&seen)[..5].iter().all(Option::is_some));
    assert_eq!(delays(&seen)[5], None);
    let ecn4 = |i: usize| {
        let ip = Ipv4::parse(&seen[i].bytes[14..]).unwrap();
        ip.verify_checksum().unwrap();
        ip.ecn()
    };
    let ecn6 = |i: usize| Ipv6::parse(&seen[i].bytes[14..]).unwrap().ecn();
    assert_eq!((ecn4(0), ecn4(1), ecn4(2), ecn6(3), ecn6(4)), (2, 2, 3, 3, 0));
}

#[test]
fn its_board_tells_what_became_of_the_packets() {
    let state = Region::heap(Shape::bytes(Per::All, 64));
    let mut shape = shape_in(state.clone(), 1_000, 2 * MS, Some(2 * MS), Per::All);
    process(&mut shape, &vec![v4([10, 0, 0, 1], 1); 5], START);
    let totals = board(&state).unwrap().totals();
    assert_eq!((totals.passed, totals.lost, totals.marked), (3, 2, 1));
    assert!(totals.waited.abs_diff(3 * MS) < 10);
}

#[test]
fn each_source_waits_for_itself() {
    let mut shape = shape(1_000, 10 * MS, None, Per::Source { v4: 32, v6: 128 });
    let packets = [v4([10, 0, 0, 1], 0), v4([10, 0, 0, 1], 0), v4([10, 0, 0, 2], 0), v6(0), v6(0)];
    let waits: Vec<bool> =
        process(&mut shape, &packets, START).iter().map(|seen| seen.facts.delay > 0).collect();
    assert_eq!(waits, [false, true, false, false, true]);
}

#[test]
fn a_state_outlives_the_stage() {
    let state = Region::heap(Shape::bytes(Per::All, 64));
    let mut first = shape_in(state.clone(), 1_000, 10 * MS, None, Per::All);
    process(&mut first, &vec![v4([10, 0, 0, 1], 0); 3], START);
    let mut second = shape_in(state, 1_000, 10 * MS, None, Per::All);
    assert_eq!(delays(&process(&mut second, &[v4([10, 0, 0, 1], 0)], START)), [Some(2930)]);
}

#[test]
fn a_clock_that_goes_back_keeps_nothing_longer_than_the_limit() {
    let mut shape = shape(1_000, 2 * MS, None, Per::All);
    let packets = vec![v4([10, 0, 0, 1], 0); 4];
    let hour = 3_600_000 * MS;
    process(&mut shape, &packets, 2 * hour);
    process(&mut shape, &packets, hour);
    let seen = process(&mut shape, &packets, hour + 5 * MS);
    assert!(delays(&seen).iter().flatten().all(|&delay| delay <= 2 * MS / TICK + 1));
    assert!(delays(&seen).iter().flatten().count() >= 2, "it goes on");
}

#[test]
fn refuses_a_limit_that_no_packet_can_wait() {
    let new = |limit, bytes| {
        Shape::new(pace(), 1_000, limit, None, Per::All, 0, Region::heap(bytes), 1, HashKey::from_seed(1))
            .is_some()
    };
    assert!(new(LONGEST_LIMIT, 256));
    assert!(!new(LONGEST_LIMIT + 1, 256));
    assert!(!new(MS, 255));
}

proptest! {
    /// As a wheel lets packets out, tick by tick and in the order of coming within one: no packet overtakes another, and no
    /// interval between two departures has more than burst + rate · t.
    #[test]
    fn departures_are_in_order_and_within_the_rate(
        burst in 1_000..20_000u64,
        bursts in prop::collection::vec((0..20 * MS, 1..12usize), 1..40),
        start in 0..MS,
    ) {
        let mut shape = shape(burst, 50 * MS, None, Per::All);
        let mut now = START + start;
        let mut departures = Vec::new();
        for (step, count) in bursts {
            now += step;
            for seen in process(&mut shape, &vec![v4([10, 0, 0, 1], 0); count], now) {
                if seen.verdict == Verdict::Next {
                    departures.push(now + u64::from(seen.facts.delay));
                }
            }
        }
        prop_assert!(departures.is_sorted());
        for (i, &first) in departures.iter().enumerate() {
            for (n, &last) in departures[i..].iter().enumerate() {
                // A byte a microsecond. The first may have been rounded up to its tick, so the interval may be one longer.
                let most = burst + (last - first + TICK) / 1000;
                prop_assert!((n as u64 + 1) * 1_000 <= most + 1, "{} in {}", n + 1, last - first);
            }
        }
    }
}
