use super::Condition;
use crate::sync::harness::{at_every_await, poll, run};
use crate::sync::mutex::Mutex;
use crate::yield_now;
use std::rc::Rc;

#[test]
fn a_notice_to_one_wakes_the_first_and_a_notice_to_all_wakes_all() {
    let (mutex, condition) = (Mutex::new(()), Condition::new());
    let mut waits = Vec::new();
    for _ in 0..3 {
        let mut wait = Box::pin(condition.wait(mutex.try_lock().unwrap()));
        assert!(poll(&mut wait).is_pending());
        waits.push(wait);
    }
    assert!(condition.notify_one());
    assert!(poll(&mut waits[1]).is_pending());
    assert!(poll(&mut waits[0]).is_ready());
    condition.notify_all();
    assert!(poll(&mut waits[2]).is_ready());
    assert!(poll(&mut waits[1]).is_ready());
    assert!(!condition.notify_one());
}

#[test]
fn a_notice_is_not_missed_between_looking_and_waiting() {
    run(async |tasks| {
        let shared = Rc::new((Mutex::new(0), Condition::new()));
        let waiter = shared.clone();
        let waiter = tasks.spawn(async move {
            let guard = waiter.0.lock().await.unwrap();
            *waiter.1.wait_while(guard, |count| *count < 10).await.unwrap()
        });
        for _ in 0..10 {
            *shared.0.lock().await.unwrap() += 1;
            shared.1.notify_one();
            yield_now().await.unwrap();
        }
        assert_eq!(waiter.await.unwrap(), 10);
    });
}

#[test]
fn an_interrupted_wait_passes_its_notice_on() {
    at_every_await(2, async |tasks, interruption| {
        let shared = Rc::new((Mutex::new(0_u32), Condition::new()));
        let consume = async |shared: &(Mutex<u32>, Condition)| {
            let guard = shared.0.lock().await?;
            let mut guard = shared.1.wait_while(guard, |tokens| *tokens == 0).await?;
            *guard -= 1;
            Ok::<_, crate::Cancelled>(())
        };
        let victim = shared.clone();
        let victim = tasks.spawn(async move { interruption.of(consume(&victim)).await.is_some() });
        let others: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                tasks.spawn(async move { consume(&shared).await.unwrap() })
            })
            .collect();
        let produce = async || {
            // Held for some turns, so that who was told waits for the mutex too.
            let mut guard = shared.0.lock().await.unwrap();
            *guard += 1;
            shared.1.notify_one();
            yield_now().await.unwrap();
            drop(guard);
            yield_now().await.unwrap();
        };
        // All wait for a notice before there is one.
        yield_now().await.unwrap();
        produce().await;
        produce().await;
        for _ in 0..20 {
            yield_now().await.unwrap();
        }
        // As many as there are for certain: no notice is left with one who is gone.
        assert_eq!(*shared.0.lock().await.unwrap(), 0);
        produce().await;
        for other in others {
            other.await.unwrap();
        }
        let through = victim.await.unwrap();
        assert_eq!(*shared.0.lock().await.unwrap(), u32::from(!through));
        through
    });
}
