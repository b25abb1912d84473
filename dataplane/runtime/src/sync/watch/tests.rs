use super::channel;
use crate::sync::harness::{at_every_await, poll, run};
use crate::yield_now;
use std::task::Poll;

#[test]
fn who_waits_sees_the_last_value_and_then_the_end() {
    run(async |tasks| {
        let (sender, receiver) = channel(0);
        let all: Vec<_> = (1..4)
            .map(|pace| {
                let mut receiver = receiver.clone();
                tasks.spawn(async move {
                    let mut last = 0;
                    while receiver.changed().await.unwrap() {
                        let value = *receiver.borrow();
                        assert!(value > last);
                        last = value;
                        for _ in 0..pace {
                            yield_now().await.unwrap();
                        }
                    }
                    last
                })
            })
            .collect();
        for value in 1..=20 {
            sender.send(value);
            yield_now().await.unwrap();
        }
        drop(sender);
        for task in all {
            assert_eq!(task.await.unwrap(), 20);
        }
    });
}

#[test]
fn only_what_is_said_to_have_changed_is_told() {
    let (sender, mut receiver) = channel(vec![1]);
    assert!(!sender.modify_if(|_| false));
    assert!(poll(&mut Box::pin(receiver.changed())).is_pending());
    assert_eq!(
        sender.modify(|values| {
            values.push(2);
            values.len()
        }),
        2
    );
    assert!(receiver.has_changed());
    assert_eq!(*receiver.borrow(), [1, 2]);
    assert_eq!(poll(&mut Box::pin(receiver.changed())), Poll::Ready(Ok(true)));
    assert_eq!(sender.send(vec![]), [1, 2]);
    assert!(receiver.borrow_and_see().is_empty());
    assert!(!receiver.has_changed());
    assert_eq!(poll(&mut Box::pin(receiver.wait_for(Vec::is_empty))), Poll::Ready(Ok(true)));
    drop(sender);
    assert_eq!(poll(&mut Box::pin(receiver.wait_for(|values| values.len() == 3))), Poll::Ready(Ok(false)));
}

#[test]
fn an_interrupted_wait_has_seen_nothing() {
    at_every_await(1, async |tasks, interruption| {
        let (sender, receiver) = channel(0);
        let (mut mine, mut other) = (receiver.clone(), receiver);
        let victim = tasks.spawn(async move {
            let through = interruption.of(mine.changed()).await.is_some();
            yield_now().await.unwrap();
            yield_now().await.unwrap();
            assert_ne!(mine.has_changed(), through);
            through
        });
        let other = tasks.spawn(async move { other.changed().await.unwrap() });
        yield_now().await.unwrap();
        sender.send(1);
        assert!(other.await.unwrap());
        victim.await.unwrap()
    });
}
