//! Readers beside a writer, and a writer that dies.

use super::*;
use std::sync::atomic::AtomicBool;

/// Counters that are all `n`.
fn all(n: u64) -> Counters {
    let mut counters = Counters::from_scalars(&[n; DROPS]);
    counters.drops = [n; MAX_REASONS];
    counters.ports = [[n; PORT_COUNTERS]; MAX_PORTS];
    counters.stages = [[n; STAGE_COUNTERS]; MAX_STAGES];
    (counters.ports_in_use, counters.stages_in_use) = (MAX_PORTS, MAX_STAGES);
    counters
}

fn region(workers: usize) -> Region {
    let region = Region::heap(StatsLayout::bytes(workers));
    StatsLayout::format(&region, workers).unwrap();
    region
}

/// What a reader gets to see: these counters without the words that are not shared.
fn seen(mut counters: Counters) -> Counters {
    (counters.ports_in_use, counters.stages_in_use) = (0, 0);
    counters
}

#[test]
fn a_reader_sees_what_was_published_last() {
    let region = region(2);
    let mut writer = WorkerStats::open(&region, 1).unwrap();
    let reader = WorkerStats::open(&region, 1).unwrap();
    assert_eq!(reader.read().unwrap(), Counters::default());
    for n in 1..5 {
        writer.publish(&all(n));
        assert_eq!(reader.read().unwrap(), seen(all(n)));
        assert_eq!(reader.publications(), n);
    }
    assert_eq!(WorkerStats::open(&region, 0).unwrap().read().unwrap(), Counters::default());
}

#[test]
fn a_concurrent_reader_never_sees_a_torn_copy() {
    let region = region(1);
    let done = AtomicBool::new(false);
    let mut writer = WorkerStats::open(&region, 0).unwrap();
    let reader = WorkerStats::open(&region, 0).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..=20_000 {
                writer.publish(&all(n));
                // About as long as two readings, so that readers are lapped now and then and not always.
                for _ in 0..n % 2_000 {
                    std::hint::spin_loop();
                }
            }
            done.store(true, Relaxed);
        });
        let (mut last, mut readings) = (0, 0u32);
        while !done.load(Relaxed) {
            let Some(counters) = reader.read() else { continue };
            let n = counters.passes;
            assert!(counters == seen(all(n)), "torn at {n}");
            assert!(n >= last, "went back from {last} to {n}");
            (last, readings) = (n, readings + 1);
        }
        assert!(readings > 100, "only {readings} readings: nothing was tested");
    });
    assert_eq!(reader.read().unwrap(), seen(all(20_000)));
}

#[test]
fn a_successor_carries_on_from_the_last_publication() {
    let region = region(1);
    let mut dead = WorkerStats::open(&region, 0).unwrap();
    for n in 1..=7 {
        dead.publish(&all(n));
    }
    // It dies in the middle of the eighth: at every word of the stale copy in turn.
    for words in 0..=COPY {
        for word in dead.copy(8).iter().take(words) {
            word.store(u64::MAX, Relaxed);
        }
        let mut next = WorkerStats::open(&region, 0).unwrap();
        let mut counters = next.read().unwrap();
        assert_eq!(counters, seen(all(7)), "died after {words} words");
        if words == COPY {
            // It counts on, with fewer ports in use than its predecessor had: none of the old counts is lost.
            for more in 1..=4 {
                (counters.ports_in_use, counters.stages_in_use) = (1, 1);
                counters.rx_packets += 1;
                counters.ports[0][PortCounter::RxPackets as usize] += 1;
                next.publish(&counters);
                let read = next.read().unwrap();
                assert_eq!(read, seen(counters.clone()));
                assert_eq!((read.rx_packets, read.ports[63][0]), (7 + more, 7));
            }
        }
    }
}

#[test]
fn ports_that_go_out_of_use_keep_their_counts_in_both_copies() {
    let region = region(1);
    let mut stats = WorkerStats::open(&region, 0).unwrap();
    let mut counters = all(1);
    stats.publish(&counters);
    stats.publish(&counters);
    counters.ports[9][0] = 5;
    stats.publish(&counters);
    counters.ports_in_use = 3;
    for _ in 0..4 {
        stats.publish(&counters);
        assert_eq!(stats.read().unwrap().ports[9][0], 5);
    }
}

#[test]
fn a_writer_that_scribbles_does_not_hold_a_reader_for_ever() {
    let region = region(1);
    let reader = WorkerStats::open(&region, 0).unwrap();
    let (done, scribble) = (AtomicBool::new(false), WorkerStats::open(&region, 0).unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                scribble.published().fetch_add(1, Relaxed);
            }
        });
        for _ in 0..1_000 {
            let _ = reader.read();
        }
        done.store(true, Relaxed);
    });
}

#[test]
fn the_header_tells_how_the_worker_is() {
    let region = region(1);
    let stats = WorkerStats::open(&region, 0).unwrap();
    assert_eq!((stats.state(), stats.heartbeat(), stats.core()), (Some(WorkerState::Starting), 0, None));
    stats.set_thread(77, Some(0));
    stats.set_epoch(3);
    stats.set_state(WorkerState::Parked);
    stats.beat(1_000, 12);
    let reader = WorkerStats::open(&region, 0).unwrap();
    assert_eq!((reader.thread(), reader.core(), reader.epoch()), (77, Some(0), 3));
    assert_eq!((reader.state(), reader.heartbeat(), reader.passes()), (Some(WorkerState::Parked), 1_000, 12));
    reader.head(STATE).store(9, Relaxed);
    assert_eq!(reader.state(), None);
    assert_eq!(reader.read().unwrap(), Counters::default());
}

#[test]
fn memory_that_holds_something_else_is_refused() {
    assert_eq!(WorkerStats::open(&Region::heap(8), 0).unwrap_err(), StatsError::NotStats);
    assert_eq!(WorkerStats::open(&Region::heap(PAGE), 0).unwrap_err(), StatsError::NotStats);
    let short = Region::heap(StatsLayout::bytes(2) - 1);
    assert!(matches!(StatsLayout::format(&short, 2), Err(StatsError::TooShort { workers: 2, .. })));
    assert!(matches!(StatsLayout::format(&short, 0), Err(StatsError::Workers { .. })));
    let region = region(2);
    let part = region.part(0..StatsLayout::bytes(1)).unwrap();
    assert!(matches!(WorkerStats::open(&part, 0), Err(StatsError::TooShort { workers: 2, .. })));
    assert_eq!(WorkerStats::open(&region, 2).unwrap_err(), StatsError::NoWorker { worker: 2, workers: 2 });
    region.u64s(8, 1).unwrap()[0].store(VERSION + 1, Relaxed);
    let newer = WorkerStats::open(&region, 0).unwrap_err();
    assert!(matches!(newer, StatsError::Version { version, .. } if version == VERSION + 1));
}

#[test]
fn the_balance_is_what_came_and_has_not_gone() {
    let mut counters = Counters { rx_packets: 100, generated: 3, taken_over: 2, ..Counters::default() };
    assert_eq!(counters.balance(), 105);
    counters.drops[0] = 10;
    counters.drops[63] = 5;
    counters.tx_packets = 60;
    counters.punted = 10;
    counters.consumed = 9;
    counters.handed_over = 6;
    counters.lost_in_crash = 4;
    assert_eq!((counters.balance(), counters.dropped()), (1, 15));
    counters.tx_packets = u64::MAX;
    assert!(counters.balance() < 0);
}
