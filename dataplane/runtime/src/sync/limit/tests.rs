use super::{Limit, LimitError};
use crate::sync::harness::{at_every_await, run};
use crate::{Instant, Tasks, yield_now};
use proptest::prelude::*;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

#[test]
fn a_burst_goes_through_and_then_so_many_in_a_span() {
    run(async |tasks| {
        let limit = Limit::new(&tasks, 100, Duration::from_secs(1), 5);
        let begin = tasks.now();
        for number in 0..25_u64 {
            assert_eq!(limit.call(async || number).await, Ok(number));
            let passed = tasks.now().since(begin);
            let least = Duration::from_millis(10) * (number + 1).saturating_sub(5) as u32;
            assert!(passed >= least && passed <= least + Duration::from_millis(2), "{number}: {passed:?}");
        }
    });
}

#[test]
fn what_is_not_to_be_had_is_said() {
    run(async |tasks| {
        let limit = Limit::new(&tasks, 1, Duration::from_millis(10), 2);
        let error = LimitError::TooMany { asked: 3, burst: 2 };
        assert_eq!((limit.try_acquire(3), limit.acquire(3).await), (Err(error), Err(error)));
        limit.try_acquire(2).unwrap();
        assert_eq!(limit.try_acquire(1), Err(LimitError::Busy(Duration::from_millis(10))));
        tasks.sleep(Duration::from_millis(10)).await.unwrap();
        limit.try_acquire(1).unwrap();
    });
}

#[test]
fn an_interrupted_wait_takes_no_token_and_the_others_keep_their_order() {
    at_every_await(2, async |tasks, interruption| {
        let limit = Rc::new(Limit::new(&tasks, 1, Duration::from_millis(10), 1));
        limit.acquire(1).await.unwrap();
        let begin = tasks.now();
        let order = Rc::new(RefCell::new(Vec::new()));
        let caller = |number| {
            let (limit, order) = (limit.clone(), order.clone());
            async move {
                limit.acquire(1).await?;
                order.borrow_mut().push(number);
                Ok::<_, LimitError>(())
            }
        };
        let first = tasks.spawn(caller(1));
        yield_now().await.unwrap();
        let victim = caller(2);
        let victim = tasks.spawn(async move { interruption.of(victim).await.is_some() });
        yield_now().await.unwrap();
        let last = tasks.spawn(caller(3));
        first.await.unwrap().unwrap();
        last.await.unwrap().unwrap();
        let through = victim.await.unwrap();
        let (expected, waits): (&[i32], u64) = if through { (&[1, 2, 3], 30) } else { (&[1, 3], 20) };
        assert_eq!(*order.borrow(), expected);
        let passed = tasks.now().since(begin);
        // Woken when its time had come, and dropped then, it has kept the last one back for a step.
        assert!(
            passed >= Duration::from_millis(waits) && passed <= Duration::from_millis(waits + 12),
            "{passed:?}"
        );
        through
    });
}

proptest! {
    #[test]
    fn never_more_than_the_bucket_and_what_flows_in(
        count in 1..50_u32,
        span in 1..10_000_000_u64,
        burst in 1..20_u32,
        steps in prop::collection::vec((0..2_000_000_u64, 1..20_u32), 1..200),
    ) {
        let tasks = Tasks::new(Instant::from_nanos(77)).unwrap();
        let limit = Limit::new(&tasks, count, Duration::from_nanos(span), burst);
        // The model: the bucket's tokens, as multiples of 1 ÷ span.
        let full = u128::from(burst) * u128::from(span);
        let mut bucket = full;
        let mut now = 77;
        for (wait, tokens) in steps {
            now += wait;
            tasks.pass(Instant::from_nanos(now), 1);
            bucket = full.min(bucket + u128::from(wait) * u128::from(count));
            let cost = u128::from(tokens) * u128::from(span);
            let taken = limit.try_acquire(tokens);
            prop_assert_eq!(taken.is_ok(), tokens <= burst && cost <= bucket);
            match taken {
                Ok(()) => bucket -= cost,
                Err(LimitError::Busy(wait)) => {
                    prop_assert_eq!(wait.as_nanos(), (cost - bucket).div_ceil(count.into()));
                }
                Err(error) => prop_assert_eq!(error, LimitError::TooMany { asked: tokens, burst }),
            }
        }
    }
}
