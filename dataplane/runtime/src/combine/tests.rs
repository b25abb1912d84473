use super::{Backoff, Either, Elapsed, all, any, both, either, race, retry, timeout};
use crate::cancel::Cancelled;
use crate::task::Tasks;
use crate::time::Instant;
use crate::{Handle, yield_now};
use proptest::prelude::*;
use std::cell::RefCell;
use std::future::{pending, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Runs to the end in time of the test's own, in steps of 1 ms; how much passed.
fn run<T: 'static>(main: impl AsyncFnOnce(Rc<Tasks>) -> T + 'static) -> (T, Duration) {
    let tasks = Tasks::new(Instant::ZERO).unwrap();
    let inner = tasks.clone();
    let mut handle: Handle<T> = tasks.spawn(async move { main(inner).await });
    let mut now = Instant::ZERO;
    while !handle.is_finished() {
        while tasks.pass(now, 64).more {}
        now = now + Duration::from_millis(1);
    }
    let Poll::Ready(Ok(result)) = Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it ended well")
    };
    tasks.close();
    (result, now.since(Instant::ZERO))
}

#[test]
fn the_first_of_several_wins_and_the_others_are_dropped() {
    struct Said(Rc<RefCell<Vec<usize>>>, usize);
    impl Drop for Said {
        fn drop(&mut self) {
            self.0.borrow_mut().push(self.1);
        }
    }
    run(async |tasks| {
        let dropped: Rc<RefCell<Vec<usize>>> = Rc::default();
        let waits = [30, 10, 20].into_iter().enumerate().map(|(number, millis)| {
            let said = Said(dropped.clone(), number);
            let sleep = tasks.sleep(Duration::from_millis(millis));
            async move {
                let said = said;
                sleep.await.unwrap();
                said.1
            }
        });
        assert_eq!(race(waits).await, (1, 1));
        assert_eq!(dropped.take(), [1, 0, 2]);
        let slow = pending::<()>();
        assert_eq!(either(slow, async { 5 }).await, Either::Second(5));
    });
}

#[test]
fn none_is_favoured() {
    run(async |_| {
        let mut wins = [0; 4];
        for _ in 0..400 {
            wins[race((0..4).map(|_| async {})).await.0] += 1;
            yield_now().await.unwrap();
        }
        assert_eq!(wins, [100; 4]);
        let mut first = 0;
        for _ in 0..100 {
            first += usize::from(either(async {}, async {}).await == Either::First(()));
        }
        assert_eq!(first, 50);
    });
}

#[test]
fn all_gives_every_result_in_its_place() {
    let (results, passed) = run(async |tasks| {
        all([3, 1, 2].map(|number| {
            let sleep = tasks.sleep(Duration::from_millis(number));
            async move {
                sleep.await.unwrap();
                number
            }
        }))
        .await
    });
    assert_eq!(results, [3, 1, 2]);
    assert!(passed < Duration::from_millis(7), "one after the other: {passed:?}");
    assert!(run(async |_| all(Vec::<std::future::Ready<()>>::new()).await).0.is_empty());
}

#[test]
fn both_are_waited_for() {
    let (results, passed) = run(async |tasks| {
        let slow = tasks.sleep(Duration::from_millis(5));
        both(slow, async { 7 }).await
    });
    assert_eq!(results, (Ok(()), 7));
    assert!(passed >= Duration::from_millis(5), "{passed:?}");
}

#[test]
fn any_gives_the_first_success_or_all_errors() {
    let (result, _) = run(async |tasks| {
        any([(1, Err("a")), (3, Ok(3)), (2, Err("b"))].map(|(millis, result)| {
            let sleep = tasks.sleep(Duration::from_millis(millis));
            async move {
                sleep.await.unwrap();
                result
            }
        }))
        .await
    });
    assert_eq!(result, Ok(3));
    let (result, _) = run(async |_| any([ready(Err::<(), _>(1)), ready(Err(2))]).await);
    assert_eq!(result, Err(vec![1, 2]));
}

#[test]
fn a_timeout_drops_what_is_late_and_lets_a_cancelled_future_clean_up() {
    let ((late, early, cleaned), passed) = run(async |tasks| {
        let late = timeout(&tasks, Duration::from_millis(5), pending::<()>()).await;
        let early = timeout(&tasks, Duration::from_millis(5), async { 1 }).await;
        let inner = tasks.clone();
        let task = tasks.spawn(async move {
            let clean = async {
                let seen = inner.sleep(Duration::from_secs(1)).await;
                (seen, crate::shield(inner.sleep(Duration::from_millis(2))).await)
            };
            timeout(&inner, Duration::from_millis(50), clean).await
        });
        yield_now().await.unwrap();
        task.cancel();
        (late, early, task.await.unwrap())
    });
    assert_eq!(late, Err(Elapsed(Duration::from_millis(5))));
    assert_eq!(early, Ok(1));
    assert_eq!(cleaned, Ok((Err(Cancelled), Ok(()))));
    assert!(passed < Duration::from_millis(15), "{passed:?}");
}

#[test]
fn a_retry_waits_longer_each_time_and_gives_the_last_error() {
    let backoff =
        Backoff { first: Duration::from_millis(10), longest: Duration::from_millis(30), attempts: 4 };
    let (result, passed) =
        run(async move |tasks| retry(&tasks, backoff, async |number| Err::<(), _>(number)).await);
    assert_eq!(result, Err(3));
    // 10 + 20 + 30, each by half at least.
    assert!(passed >= Duration::from_millis(30) && passed <= Duration::from_millis(65), "{passed:?}");
    let (result, _) = run(async move |tasks| {
        retry(&tasks, backoff, async |number| if number == 2 { Ok(number) } else { Err(()) }).await
    });
    assert_eq!(result, Ok(2));
}

proptest! {
    #[test]
    fn a_wait_is_between_half_and_all_of_what_doubling_says(
        first in 0..u64::MAX, longest in 0..u64::MAX, failures in 1..200_u32, random: u64,
    ) {
        let backoff = Backoff {
            first: Duration::from_nanos(first), longest: Duration::from_nanos(longest), attempts: 1,
        };
        let whole = u128::from(first).checked_shl(failures - 1).filter(|_| failures < 64).unwrap_or(u128::MAX);
        let whole = if first == 0 { 0 } else { whole.min(longest.into()) };
        let wait = backoff.wait(failures, random).as_nanos();
        // Doubling ends at 2³² times the first.
        prop_assert!(wait <= whole.min(longest.into()));
        if failures < 32 {
            prop_assert!(wait >= whole / 2);
        }
    }
}
