use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const CAPACITY: usize = 8;
type Small = Records<3>;

fn records() -> Small {
    Small::open(Region::heap(Small::bytes(CAPACITY)), CAPACITY).unwrap()
}

fn add(records: &Small, value: u64, life: u64) -> Option<u32> {
    let number = records.alloc()?;
    records.words(number).unwrap()[0].store(value, Relaxed);
    records.publish(number, life);
    Some(number)
}

#[test]
fn there_are_as_many_as_were_asked_for_and_each_comes_back() {
    let records = records();
    for round in 0..3 {
        let numbers: Vec<u32> = (0..CAPACITY).map(|n| add(&records, n as u64, 5).unwrap()).collect();
        assert_eq!((records.alloc(), records.live()), (None, CAPACITY as u32), "{round}");
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), CAPACITY);
        numbers.iter().for_each(|&number| records.free(number));
        records.free(numbers[0]);
        assert_eq!(records.live(), 0, "freeing twice changes nothing");
    }
}

#[test]
fn a_sweep_tells_of_those_whose_time_is_over_each_once_a_round() {
    let records = records();
    let lives = [10, 20, 30, 40];
    let numbers: Vec<u32> = lives.iter().map(|&life| add(&records, life, life).unwrap()).collect();
    let mut over = Vec::new();
    for _ in 0..4 {
        records.sweep(1, 20, |number| over.push(number));
    }
    assert_eq!(over, numbers[..2]);
    over.clear();
    records.set_life(numbers[0], 50);
    records.sweep(100, 45, |number| over.push(number));
    assert_eq!(over.len(), 3);
}

#[test]
fn numbers_beyond_the_last_are_no_records() {
    let records = records();
    assert!(records.words(CAPACITY as u32).is_none());
    assert_eq!(records.life(u32::MAX), 0);
    records.free(u32::MAX);
    records.publish(u32::MAX, 1);
    records.prefetch(u32::MAX);
    let bytes = Small::bytes(CAPACITY);
    assert!(Small::open(Region::heap(bytes).part(0..bytes - 1).unwrap(), CAPACITY).is_none());
}

/// A copy of the memory, as a successor finds it.
fn copy(region: &Region) -> Region {
    let copy = Region::heap(region.len());
    let words = region.len() / 8;
    let (from, to) = (region.u64s(0, words).unwrap(), copy.u64s(0, words).unwrap());
    from.iter().zip(to).for_each(|(from, to)| to.store(from.load(Relaxed), Relaxed));
    copy
}

/// What `publish` and `free` do, up to their store number `stores`: a process that is killed there.
fn killed(records: &Small, publish: bool, number: u32, stores: usize) {
    let (free, fresh) = (records.header(word::FREE).unwrap(), records.header(word::FRESH).unwrap());
    let life = &records.words(number).unwrap()[Small::LIFE];
    let top = free.load(Relaxed);
    let steps: Vec<Box<dyn Fn() + '_>> = if publish {
        vec![
            Box::new(|| life.store(5, Relaxed)),
            Box::new(|| {
                if top > 0 {
                    free.store(top - 1, Relaxed);
                } else {
                    fresh.store(u64::from(number) + 1, Relaxed);
                }
            }),
        ]
    } else {
        vec![
            Box::new(|| records.stack(top).unwrap().store(number, Relaxed)),
            Box::new(|| free.store(top + 1, Relaxed)),
            Box::new(|| life.store(0, Relaxed)),
        ]
    };
    steps.iter().take(stores).for_each(|step| step());
}

proptest! {
    /// Random additions and removals, with a kill in some of them: no record that lives is ever given out, and once all times
    /// are over all records can be had again.
    #[test]
    fn nothing_is_doubled_or_lost_by_a_kill(ops in prop::collection::vec((0u8..6, 0usize..CAPACITY, 0usize..4), 1..200)) {
        let mut records = records();
        let mut live: BTreeMap<u32, u64> = BTreeMap::new();
        for (step, (what, which, stores)) in ops.into_iter().enumerate() {
            match what {
                0..=2 => {
                    if let Some(number) = records.alloc() {
                        prop_assert!(!live.contains_key(&number), "{number} lives");
                        records.words(number).unwrap()[0].store(step as u64, Relaxed);
                        if what == 2 {
                            killed(&records, true, number, stores);
                            records = Small::open(copy(&records.region), CAPACITY).unwrap();
                        } else {
                            records.publish(number, 5);
                        }
                        // Known to be there only when publishing came to its end.
                        if what < 2 {
                            live.insert(number, step as u64);
                        }
                    }
                }
                _ => {
                    let Some((&number, _)) = live.iter().nth(which) else { continue };
                    live.remove(&number);
                    if what == 5 {
                        killed(&records, false, number, stores);
                        records = Small::open(copy(&records.region), CAPACITY).unwrap();
                    } else {
                        records.free(number);
                    }
                }
            }
            for (number, value) in &live {
                let words = records.words(*number).unwrap();
                prop_assert_eq!((words[0].load(Relaxed), words[2].load(Relaxed)), (*value, 5));
            }
        }
        // What nobody knows any more is found when its time is over, at the latest when all has been in use once.
        for _ in 0..3 {
            let mut over = Vec::new();
            records.sweep(CAPACITY as u32, 5, |number| over.push(number));
            over.into_iter().for_each(|number| records.free(number));
            while add(&records, 0, 5).is_some() {}
        }
        let mut over = Vec::new();
        records.sweep(CAPACITY as u32, 5, |number| over.push(number));
        over.into_iter().for_each(|number| records.free(number));
        let mut numbers: Vec<u32> = std::iter::from_fn(|| add(&records, 0, 9)).collect();
        numbers.sort_unstable();
        prop_assert_eq!(numbers, (0..CAPACITY as u32).collect::<Vec<_>>());
    }
}
