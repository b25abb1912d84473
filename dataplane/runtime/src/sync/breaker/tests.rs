use super::{Breaker, BreakerError, BreakerState};
use crate::sync::harness::{at_every_await, run};
use crate::{Cancelled, Canceller, cancellable, yield_now};
use std::rc::Rc;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(100);

async fn fail(breaker: &Breaker) -> Result<(), BreakerError<&'static str>> {
    breaker.call(async || Err("down")).await
}

#[test]
fn it_opens_after_failures_in_a_row_and_closes_by_a_probe() {
    run(async |tasks| {
        let breaker = Breaker::new(&tasks, 3, PAUSE);
        for _ in 0..2 {
            assert_eq!(fail(&breaker).await, Err(BreakerError::Failed("down")));
        }
        assert_eq!(breaker.call(async || Ok::<_, ()>(1)).await, Ok(1));
        for failures in 1..=2 {
            assert_eq!(fail(&breaker).await, Err(BreakerError::Failed("down")));
            assert_eq!(breaker.state(), BreakerState::Closed { failures });
        }
        assert_eq!(fail(&breaker).await, Err(BreakerError::Failed("down")));
        assert_eq!(fail(&breaker).await, Err(BreakerError::Open(PAUSE)));
        tasks.sleep(PAUSE).await.unwrap();
        // The probe fails: the pause begins again.
        assert_eq!(fail(&breaker).await, Err(BreakerError::Failed("down")));
        assert_eq!(fail(&breaker).await, Err(BreakerError::Open(PAUSE)));
        tasks.sleep(PAUSE).await.unwrap();
        assert_eq!(breaker.state(), BreakerState::HalfOpen { probed: false });
        assert_eq!(breaker.call(async || Ok::<_, ()>(2)).await, Ok(2));
        assert_eq!(breaker.state(), BreakerState::Closed { failures: 0 });
    });
}

#[test]
fn half_open_lets_one_through_and_old_news_do_not_count() {
    run(async |tasks| {
        let breaker = Rc::new(Breaker::new(&tasks, 1, PAUSE));
        let slow = |span: Duration, result: Result<(), &'static str>| {
            let (breaker, tasks) = (breaker.clone(), tasks.clone());
            let inner = tasks.clone();
            tasks.spawn(async move {
                breaker
                    .call(async || {
                        inner.sleep(span).await.unwrap();
                        result
                    })
                    .await
            })
        };
        let old = slow(PAUSE / 2, Ok(()));
        let later = slow(PAUSE * 2, Err("old"));
        yield_now().await.unwrap();
        fail(&breaker).await.unwrap_err();
        old.await.unwrap().unwrap();
        assert!(matches!(breaker.state(), BreakerState::Open { .. }));
        tasks.sleep(PAUSE / 2 + Duration::from_millis(1)).await.unwrap();
        let probe = slow(Duration::from_millis(5), Ok(()));
        yield_now().await.unwrap();
        assert_eq!(fail(&breaker).await, Err(BreakerError::Open(Duration::ZERO)));
        probe.await.unwrap().unwrap();
        assert_eq!(later.await.unwrap(), Err(BreakerError::Failed("old")));
        assert_eq!(breaker.state(), BreakerState::Closed { failures: 0 });
    });
}

#[test]
fn a_cancelled_call_is_no_failure() {
    run(async |tasks| {
        let breaker = Breaker::new(&tasks, 1, PAUSE);
        let canceller = Canceller::default();
        let call = breaker.call(async || {
            canceller.cancel();
            yield_now().await
        });
        assert_eq!(cancellable(&canceller, call).await, Err(BreakerError::Failed(Cancelled)));
        assert_eq!(breaker.state(), BreakerState::Closed { failures: 0 });
        assert_eq!(cancellable(&canceller, fail(&breaker)).await, Err(BreakerError::Cancelled));
    });
}

#[test]
fn an_interrupted_probe_leaves_that_to_another() {
    at_every_await(2, async |tasks, interruption| {
        let breaker = Breaker::new(&tasks, 1, PAUSE);
        fail(&breaker).await.unwrap_err();
        tasks.sleep(PAUSE).await.unwrap();
        let probe = breaker.call(async || {
            yield_now().await?;
            yield_now().await
        });
        let through = interruption.of(probe).await.is_some();
        let expected = if through {
            BreakerState::Closed { failures: 0 }
        } else {
            BreakerState::HalfOpen { probed: false }
        };
        assert_eq!(breaker.state(), expected);
        assert_eq!(breaker.call(async || Ok::<_, ()>(())).await, Ok(()));
        assert_eq!(breaker.state(), BreakerState::Closed { failures: 0 });
        through
    });
}
