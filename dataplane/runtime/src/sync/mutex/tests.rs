use super::Mutex;
use crate::sync::harness::{at_every_await, poll, run};
use crate::yield_now;
use std::rc::Rc;
use std::task::Poll;

#[test]
fn one_at_a_time_in_the_order_in_which_they_came() {
    run(async |tasks| {
        let log: Rc<Mutex<Vec<u32>>> = Rc::new(Mutex::new(Vec::new()));
        let all: Vec<_> = (0..20)
            .map(|number| {
                let log = log.clone();
                tasks.spawn(async move {
                    let mut log = log.lock().await.unwrap();
                    log.push(number);
                    yield_now().await.unwrap();
                    log.push(number);
                })
            })
            .collect();
        for task in all {
            task.await.unwrap();
        }
        let expected: Vec<u32> = (0..20).flat_map(|number| [number, number]).collect();
        assert_eq!(*log.lock().await.unwrap(), expected);
    });
}

#[test]
fn what_is_let_go_is_promised_to_the_first_who_waits() {
    let mutex = Mutex::new(0);
    let guard = mutex.try_lock().unwrap();
    let mut first = Box::pin(mutex.lock());
    let mut second = Box::pin(mutex.lock());
    assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
    drop(guard);
    assert!(mutex.try_lock().is_none());
    assert!(poll(&mut second).is_pending());
    drop(first);
    assert!(mutex.try_lock().is_none());
    assert!(matches!(poll(&mut second), Poll::Ready(Ok(_))));
    drop(second);
    assert!(mutex.try_lock().is_some());
}

#[test]
fn an_interrupted_wait_leaves_its_turn_to_the_next() {
    at_every_await(2, async |tasks, interruption| {
        let mutex = Rc::new(Mutex::new(0));
        let guard = mutex.lock().await.unwrap();
        let victim = mutex.clone();
        let victim = tasks.spawn(async move {
            let locked = interruption.of(async {
                for _ in 0..2 {
                    let _guard = victim.lock().await?;
                    yield_now().await?;
                }
                Ok::<_, crate::Cancelled>(())
            });
            locked.await.is_some()
        });
        let others: Vec<_> = (0..3)
            .map(|_| {
                let mutex = mutex.clone();
                tasks.spawn(async move { *mutex.lock().await.unwrap() += 1 })
            })
            .collect();
        yield_now().await.unwrap();
        drop(guard);
        for other in others {
            other.await.unwrap();
        }
        let through = victim.await.unwrap();
        assert_eq!(*mutex.try_lock().unwrap(), 3);
        through
    });
}

#[test]
fn a_panic_lets_go() {
    run(async |tasks| {
        let mutex = Rc::new(Mutex::new(1));
        let inner = mutex.clone();
        let panics = tasks.spawn(async move {
            let _guard = inner.lock().await;
            panic!("on purpose");
        });
        assert!(panics.await.is_err());
        assert_eq!(*mutex.lock().await.unwrap(), 1);
    });
}
