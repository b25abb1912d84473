use super::*;
use proptest::prelude::*;
use std::array::from_fn;
use std::thread;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

fn state() -> [AtomicU64; Window::WORDS] {
    from_fn(|_| AtomicU64::new(0))
}

fn writers() -> impl Strategy<Value = Writers> {
    prop_oneof![Just(Writers::One), Just(Writers::Many)]
}

proptest! {
    /// In no window, wherever it begins, more than the limit; refused only what 8/7 of a window have no room for.
    #[test]
    fn no_window_has_more_than_the_limit_and_no_more_is_refused(
        limit in 1..20_000u64,
        length in 10 * MS..100 * SECOND,
        start in 0..1u64 << 50,
        arrivals in prop::collection::vec((0..300u64, 1..1500u64), 1..500),
        writers in writers(),
    ) {
        let (window, state) = (Window::new(Limit::Bytes(limit), length, 0).unwrap(), state());
        let mut now = start;
        let mut passed: Vec<(u64, u64)> = Vec::new();
        let since = |passed: &[(u64, u64)], from: u64| {
            passed.iter().filter(|(at, _)| *at >= from).map(|(_, bytes)| bytes).sum::<u64>()
        };
        for (step, bytes) in arrivals {
            now += step * length / 1000;
            if window.take(&state, now, bytes, writers) {
                passed.push((now, bytes));
                prop_assert!(since(&passed, (now + 1).saturating_sub(length)) <= limit);
            } else {
                let longest = window.part * Window::WORDS as u64;
                prop_assert!(since(&passed, (now + 1).saturating_sub(longest)) + bytes > limit);
            }
        }
    }
}

#[test]
fn counts_packets_or_bytes_with_their_overhead() {
    assert_eq!(Window::new(Limit::Packets(5), SECOND, 24).unwrap().units(3, 300), 3);
    assert_eq!(Window::new(Limit::Bytes(5), SECOND, 24).unwrap().units(3, 300), 372);
}

#[test]
fn refuses_limits_and_windows_that_its_words_cannot_tell() {
    assert_eq!(Window::new(Limit::Bytes(1 << 40), SECOND, 0), None);
    assert_eq!(Window::new(Limit::Bytes(1), 10 * MS - 1, 0), None);
    assert_eq!(Window::new(Limit::Bytes(1), 3_601 * SECOND, 0), None);
}

#[test]
fn a_clock_that_stands_brings_nothing_and_a_jump_a_fresh_window() {
    let (window, state) = (Window::new(Limit::Packets(10), SECOND, 0).unwrap(), state());
    let flood = |now| (0..100).filter(|_| window.take(&state, now, 1, Writers::One)).count();
    assert_eq!([flood(50 * SECOND), flood(50 * SECOND)], [10, 0]);
    assert!(!window.is_idle(&state, 51 * SECOND));
    assert!(window.is_idle(&state, 53 * SECOND));
    assert_eq!(flood(90_000 * SECOND), 10);
    assert_eq!(flood(80_000 * SECOND), 10, "far back");
    assert_eq!(flood(80_000 * SECOND - SKEW / 2), 0, "back by less than clocks may differ");
}

#[test]
fn a_worker_whose_clock_is_behind_does_not_wipe_out_the_counts_of_the_others() {
    let (window, state) = (Window::new(Limit::Packets(10), 10 * MS, 0).unwrap(), state());
    let now = 50 * SECOND;
    assert_eq!((0..100).filter(|_| window.take(&state, now, 1, Writers::Many)).count(), 10);
    for behind in 0..100 {
        assert!(!window.take(&state, now - behind * MS, 1, Writers::Many), "{behind}");
    }
    assert!(!window.take(&state, now, 1, Writers::Many));
}

#[test]
fn several_workers_together_never_get_more_than_one_would() {
    // One clock, which each reads and is then late by as long as it is preempted: less than clocks may differ.
    let (clock, step) = (AtomicU64::new(10 * SECOND), 4_000);
    let (window, state) = (Window::new(Limit::Packets(1_000), SECOND, 0).unwrap(), state());
    let (clock, window, state) = (&clock, &window, &state);
    let mut passed: Vec<(u64, u64)> = thread::scope(|scope| {
        let worker = |_| {
            scope.spawn(move || {
                let take = |_| {
                    let before = clock.fetch_add(step, SeqCst);
                    let passes = window.take(state, before, 1, Writers::Many);
                    passes.then(|| (before, clock.load(SeqCst)))
                };
                (0..100_000).filter_map(take).collect::<Vec<_>>()
            })
        };
        let workers: Vec<_> = (0..4).map(worker).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    passed.sort_unstable();
    for (i, &(from, _)) in passed.iter().enumerate() {
        // Those that passed in this window for certain: neither began before it nor ended after it.
        let inside = passed[i..].iter().take_while(|(before, _)| *before < from + SECOND);
        let inside = inside.filter(|(_, after)| *after < from + SECOND).count();
        assert!(inside <= 1_000, "{inside} from {from}");
    }
    // 1.6 seconds: two windows, less what was refused to both of two at once.
    assert!(passed.len() > 1_500, "{}", passed.len());
}

#[test]
fn who_is_behind_counts_with_those_who_are_ahead() {
    let (window, state) = (Window::new(Limit::Packets(10), SECOND, 0).unwrap(), state());
    let (behind, ahead) = (50 * SECOND, 50 * SECOND + 3 * SECOND / 7);
    assert!(window.take(&state, ahead, 1, Writers::Many));
    assert_eq!((0..20).filter(|_| window.take(&state, behind, 1, Writers::Many)).count(), 9);
    // A part before the end of the window of the first: those who were behind passed in it, too.
    assert_eq!((0..20).filter(|_| window.take(&state, ahead + 6 * SECOND / 7, 1, Writers::Many)).count(), 0);
    assert!(window.take(&state, ahead + 9 * SECOND / 7, 10, Writers::Many));
}
