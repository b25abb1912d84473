use super::Barrier;
use crate::sync::harness::{at_every_await, poll, run};
use crate::yield_now;
use std::cell::Cell;
use std::rc::Rc;
use std::task::Poll;

#[test]
fn nobody_goes_on_before_all_have_come_and_each_round_has_one_leader() {
    run(async |tasks| {
        let barrier = Rc::new(Barrier::new(4));
        let (arrived, leaders) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let all: Vec<_> = (0..4)
            .map(|number| {
                let (barrier, arrived, leaders) = (barrier.clone(), arrived.clone(), leaders.clone());
                tasks.spawn(async move {
                    for round in 1..=10 {
                        for _ in 0..number {
                            yield_now().await.unwrap();
                        }
                        arrived.set(arrived.get() + 1);
                        let leader = barrier.wait().await.unwrap();
                        leaders.set(leaders.get() + u32::from(leader));
                        assert!(arrived.get() >= round * 4);
                    }
                })
            })
            .collect();
        for task in all {
            task.await.unwrap();
        }
        assert_eq!((arrived.get(), leaders.get()), (40, 10));
    });
}

#[test]
fn who_leaves_does_not_count_and_a_full_round_has_happened() {
    let barrier = Barrier::new(2);
    let mut left = Box::pin(barrier.wait());
    assert!(poll(&mut left).is_pending());
    drop(left);
    assert_eq!(barrier.arrived(), 0);
    let mut first = Box::pin(barrier.wait());
    assert!(poll(&mut first).is_pending());
    assert_eq!(poll(&mut Box::pin(barrier.wait())), Poll::Ready(Ok(true)));
    // It goes without having looked; the one of the next round, to whom that passes, waits on.
    let mut next = Box::pin(barrier.wait());
    assert!(poll(&mut next).is_pending());
    drop(first);
    assert!(poll(&mut next).is_pending());
    assert_eq!(barrier.arrived(), 1);
    assert_eq!(poll(&mut Box::pin(barrier.wait())), Poll::Ready(Ok(true)));
    assert_eq!(poll(&mut next), Poll::Ready(Ok(false)));
}

#[test]
fn an_interrupted_wait_leaves_the_round_open() {
    at_every_await(1, async |tasks, interruption| {
        let barrier = Rc::new(Barrier::new(3));
        let victim = barrier.clone();
        let victim = tasks.spawn(async move { interruption.of(victim.wait()).await.is_some() });
        yield_now().await.unwrap();
        assert_eq!(barrier.arrived(), usize::from(!victim.is_finished()));
        let others: Vec<_> = (0..2)
            .map(|_| {
                let barrier = barrier.clone();
                tasks.spawn(async move { barrier.wait().await.unwrap() })
            })
            .collect();
        yield_now().await.unwrap();
        if barrier.arrived() > 0 {
            // The victim went before the round was full: somebody else comes in its place.
            assert!(barrier.wait().await.unwrap());
        }
        for other in others {
            other.await.unwrap();
        }
        assert_eq!(barrier.arrived(), 0);
        victim.await.unwrap()
    });
}
