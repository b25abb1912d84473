use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::Wake;
use std::time::Duration;

/// Says that it was woken, and which one.
struct Note(usize, Arc<Mutex<Vec<usize>>>);

impl Wake for Note {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push(self.0);
    }
}

fn at(micros: u64) -> Instant {
    Instant::from_nanos(micros * 1000)
}

#[derive(Clone, Debug)]
enum Step {
    Insert { after: u64 },
    Cancel { which: usize },
    Renew { which: usize },
    Advance { by: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Times of all levels, and past the wheel's end.
    let span = prop_oneof![0..300_u64, 0..20_000_000_u64, 0..200_000_000_000_u64, 0..9_000_000_000_000_u64];
    let step = prop_oneof![
        4 => span.clone().prop_map(|after| Step::Insert { after }),
        2 => (0..1000_usize).prop_map(|which| Step::Cancel { which }),
        1 => (0..1000_usize).prop_map(|which| Step::Renew { which }),
        3 => span.prop_map(|by| Step::Advance { by }),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    /// Beside a sorted list: what fires, when, and in which order.
    #[test]
    fn it_fires_what_a_sorted_list_would(steps in steps(), start in 0..u64::MAX / 1_000_000) {
        let mut now = at(start / 1000);
        let mut wheel = Wheel::new(now);
        let woken = Arc::new(Mutex::new(Vec::new()));
        // Timers that run, by tick and number; all that were never cancelled, by number.
        let mut due = BTreeMap::new();
        let mut owned: Vec<(usize, Timer, u64, bool)> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert { after } => {
                    let moment = now + Duration::from_micros(after);
                    let waker = Waker::from(Arc::new(Note(number, woken.clone())));
                    let timer = wheel.insert(moment, waker);
                    let tick = moment.as_nanos().div_ceil(1 << TICK).max((now.as_nanos() >> TICK) + 1);
                    due.insert((tick, number), ());
                    owned.push((number, timer, tick, true));
                }
                Step::Cancel { which } if !owned.is_empty() => {
                    let (number, timer, tick, _) = owned.swap_remove(which % owned.len());
                    let _ = wheel.cancel(timer);
                    due.remove(&(tick, number));
                }
                Step::Renew { which } if !owned.is_empty() => {
                    let which = which % owned.len();
                    let (number, timer, _, runs) = owned[which];
                    let waker = Waker::from(Arc::new(Note(number, woken.clone())));
                    let back = wheel.rewake(timer, waker.clone()).expect("one of the two comes back");
                    prop_assert_eq!(back.will_wake(&waker), !runs);
                }
                Step::Advance { by } => {
                    now = now + Duration::from_micros(by);
                    if let (Some(next), Some(((first, _), ()))) = (wheel.next(), due.first_key_value()) {
                        prop_assert!(next.as_nanos() <= first << TICK, "it would be slept over");
                    }
                    wheel.advance(now, Waker::wake);
                    let later = due.split_off(&((now.as_nanos() >> TICK) + 1, 0));
                    let fired = std::mem::replace(&mut due, later);
                    let ticks: BTreeMap<usize, u64> = fired.keys().map(|(tick, number)| (*number, *tick)).collect();
                    let mut woken = std::mem::take(&mut *woken.lock().unwrap());
                    let order: Vec<u64> = woken.iter().map(|number| ticks[number]).collect();
                    prop_assert!(order.is_sorted(), "not in the order of their ticks: {:?}", order);
                    woken.sort_unstable();
                    prop_assert_eq!(woken, ticks.keys().copied().collect::<Vec<_>>());
                    for one in &mut owned {
                        one.3 &= !ticks.contains_key(&one.0);
                    }
                }
                _ => {}
            }
            prop_assert_eq!(wheel.running(), due.len());
            prop_assert_eq!(wheel.next().is_some(), !due.is_empty());
        }
    }
}

#[test]
fn a_timer_is_neither_early_nor_more_than_a_tick_late() {
    static FIRED: AtomicUsize = AtomicUsize::new(0);
    struct Count;
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            FIRED.fetch_add(1, Relaxed);
        }
    }
    let start = Instant::from_nanos(123_456_789);
    let mut wheel = Wheel::new(start);
    let due = start + Duration::from_millis(10);
    wheel.insert(due, Waker::from(Arc::new(Count)));
    wheel.advance(Instant::from_nanos(due.as_nanos() - 1), Waker::wake);
    assert_eq!(FIRED.load(Relaxed), 0);
    wheel.advance(due + Duration::from_nanos(1 << TICK), Waker::wake);
    assert_eq!(FIRED.load(Relaxed), 1);
    assert_eq!(wheel.next(), None);
}

#[test]
fn a_clock_that_steps_back_fires_nothing_and_forgets_nothing() {
    let woken = Arc::new(Mutex::new(Vec::new()));
    let mut wheel = Wheel::new(at(1_000_000));
    wheel.insert(at(1_005_000), Waker::from(Arc::new(Note(1, woken.clone()))));
    wheel.advance(at(10), Waker::wake);
    assert!(woken.lock().unwrap().is_empty());
    wheel.advance(at(2_000_000_000), Waker::wake);
    assert_eq!(*woken.lock().unwrap(), [1]);
}
