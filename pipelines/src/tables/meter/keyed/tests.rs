use super::super::bucket::{Bucket, Rule};
use super::super::pace::{Pace, Rate};
use super::super::{Writers, ahead, is_past, point, word};
use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::thread;

const MS: u64 = 1_000_000;

/// States of one word that is a point in time.
struct Points;

impl State for Points {
    fn is_idle(&self, state: &[AtomicU64], now: u64) -> bool {
        state.iter().all(|word| self.is_past(word.load(Relaxed), now))
    }

    fn is_past(&self, word: u64, now: u64) -> bool {
        is_past(word, point(now))
    }

    fn fold(&self, second: &[AtomicU64], first: &[AtomicU64], now: u64) {
        for (second, first) in second.iter().zip(first) {
            let debt = ahead(second.swap(0, SeqCst), point(now));
            Writers::Many.update(first, |old| Some(word(point(now), ahead(old, point(now)) + debt)));
        }
    }
}

fn table(capacity: usize) -> Keyed {
    Keyed::open(Region::heap(Keyed::bytes(capacity, 1)), capacity, 1).unwrap()
}

/// 1 kB a millisecond, ten of them at once.
fn bucket() -> Bucket {
    Bucket::new(Pace::new(Rate::Bits(8_000_000), 0).unwrap(), 10_000, Rule::Token).unwrap()
}

/// As a hash spreads keys.
fn spread(key: u64) -> u64 {
    (key + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

fn own<'a>(table: &KeyedView<'a>, hash: u64, now: u64) -> Option<&'a AtomicU64> {
    match table.slot(hash, now, &Points) {
        Slot::Own([word]) => Some(word),
        Slot::Own(_) => panic!("one word was asked for"),
        Slot::Crowd => None,
    }
}

#[test]
fn a_key_finds_its_state_again_and_so_does_a_successor() {
    let table = table(1024);
    for key in 0..300 {
        own(&table.view(), spread(key), MS)
            .unwrap()
            .store(word(point(MS), point(1000 * MS) + key * 2), Relaxed);
    }
    let heir = Keyed::open(table.region.clone(), 1024, 1).unwrap();
    for key in 0..300 {
        let state = own(&heir.view(), spread(key), MS).unwrap().load(Relaxed);
        assert_eq!(state, word(point(MS), point(1000 * MS) + key * 2));
    }
    assert_eq!(heir.view().active(MS, &Points), 300);
    assert_eq!(heir.view().active(2000 * MS, &Points), 0);
}

#[test]
fn a_flood_of_sources_takes_no_active_meter_and_gets_the_rest_of_the_table_and_one_more() {
    let (table, bucket) = (table(64), bucket());
    let view = table.view();
    let mut now = 50 * MS;
    // Sources that are beyond their rate all the time.
    let old: Vec<u64> = (0..32)
        .map(spread)
        .filter(|&hash| {
            own(&view, hash, now).is_some_and(|state| bucket.take(state, now, 10_000, Writers::Many))
        })
        .collect();
    assert!(old.len() > 25);
    for round in 0..20_000u64 {
        now += MS / 100;
        for &hash in &old {
            let state = own(&view, hash, now).expect("an active meter keeps its slot");
            bucket.take(state, now, 500, Writers::Many);
        }
        // Each sends one packet, and never comes again.
        if let Some(state) = own(&view, spread(1_000 + round), now) {
            assert!(
                bucket.take(state, now, 10_000, Writers::Many),
                "a slot that was given on is a full bucket"
            );
        }
    }
    let used = view.active(now, &Points);
    assert!((old.len()..=64).contains(&used));
    // Nobody was reset: each has had its burst at the start and its rate since, and no more is there.
    for &hash in &old {
        assert!(!bucket.take(own(&view, hash, now).unwrap(), now, 1_100, Writers::Many));
    }
}

#[test]
fn a_slot_is_given_on_only_when_it_was_idle_for_a_while() {
    let table = table(8);
    let view = table.view();
    for key in 0..8 {
        own(&view, spread(key), MS).unwrap().store(word(point(MS), 0), Relaxed);
    }
    assert!(own(&view, spread(9), MS).is_none());
    assert!(own(&view, spread(9), MS + GRACE - 1).is_none());
    assert!(own(&view, spread(9), MS + GRACE).is_some());
}

#[test]
fn sweeping_changes_nothing_but_points_that_are_past() {
    let table = table(64);
    let view = table.view();
    let now = 10_000 * MS;
    let (past, ahead) = (word(point(now), 0u64.wrapping_sub(point(100 * MS))), word(point(now), point(MS)));
    for key in 0..40 {
        let Some(state) = own(&view, spread(key), now) else { continue };
        state.store(if key % 2 == 0 { past } else { ahead }, Relaxed);
    }
    let active = view.active(now, &Points);
    let mut at = 0;
    for _ in 0..3 {
        at = view.sweep(at, 3, now, &Points);
    }
    assert_eq!(at, 0, "the round is done");
    assert_eq!(view.active(now, &Points), active);
    for key in 0..40 {
        let Some(state) = own(&view, spread(key), now) else { continue };
        assert!([0, ahead].contains(&state.load(Relaxed)));
    }
}

#[test]
fn two_states_of_a_key_become_one_with_the_debts_of_both() {
    let (table, now) = (table(8), 100 * MS);
    let view = table.view();
    let hash = spread(1);
    let state = own(&view, hash, now).unwrap();
    state.store(word(point(now), point(3 * MS)), Relaxed);
    // As if another worker had taken the fifth slot in the same moment.
    view.words[5].store(hash, Relaxed);
    view.words[SLOTS + 5].store(word(point(now), point(4 * MS)), Relaxed);
    let merged = own(&view, hash, now).unwrap();
    assert_eq!(ahead(merged.load(Relaxed), point(now)) >> 16, 7 * MS);
    assert_eq!(view.words[5].load(Relaxed), 0);
    assert_eq!(view.active(now, &Points), 1);
}

#[test]
fn refuses_memory_that_is_too_short_and_states_that_are_too_long() {
    assert!(Keyed::open(Region::heap(Keyed::bytes(64, 1)), 65, 1).is_none());
    assert!(Keyed::open(Region::heap(1 << 20), 64, 16).is_none());
    assert!(Keyed::open(Region::heap(1 << 20), 64, 3).is_none());
    assert_eq!(Keyed::bytes(0, 1), 128);
}

proptest! {
    /// Whatever comes in which order: a key's meter decides as one of its own would, unless it is the crowd's.
    #[test]
    fn a_keys_meter_is_its_own(arrivals in prop::collection::vec((0..60u64, 0..3 * MS, 1..9000u64), 1..600)) {
        let (table, bucket) = (table(32), bucket());
        let view = table.view();
        let mut oracle: HashMap<u64, AtomicU64> = HashMap::new();
        let mut now = 1_000 * MS;
        for (key, step, bytes) in arrivals {
            now += step;
            let expected = oracle.entry(key).or_default();
            if let Some(state) = own(&view, spread(key), now) {
                let took = bucket.take(state, now, bytes, Writers::Many);
                prop_assert_eq!(took, bucket.take(expected, now, bytes, Writers::One), "key {}", key);
            }
        }
    }
}

#[test]
fn several_workers_that_meet_the_same_keys_share_their_meters() {
    const KEYS: u64 = 256;
    let (table, bucket) = (table(4096), bucket());
    let (table, bucket) = (&table, &bucket);
    let passed: Vec<u64> = thread::scope(|scope| {
        let worker = |first: u64| {
            scope.spawn(move || {
                let (view, mut passed) = (table.view(), vec![0u64; KEYS as usize]);
                for round in 0..200u64 {
                    for key in 0..KEYS {
                        let key = (key + first * KEYS / 4) % KEYS;
                        let now = 1_000 * MS + round * MS / 2;
                        let state = own(&view, spread(key), now).unwrap();
                        if bucket.take(state, now, 1_000, Writers::Many) {
                            passed[key as usize] += 1_000;
                        }
                    }
                }
                passed
            })
        };
        let workers: Vec<_> = (0..4).map(worker).collect();
        let mut sums = vec![0; KEYS as usize];
        for worker in workers {
            sums.iter_mut().zip(worker.join().unwrap()).for_each(|(sum, passed)| *sum += passed);
        }
        sums
    });
    // 99.5 ms at 1 kB each and the burst, and one packet of each of three workers that met a key at once.
    for (key, &passed) in passed.iter().enumerate() {
        assert!((90_000..=112_500).contains(&passed), "key {key}: {passed}");
    }
    assert_eq!(table.view().active(1_000 * MS + 99 * MS, &Points), KEYS as usize);
}
