use super::mpsc::{SendError, channel};
use crate::{Executor, yield_now};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

fn poll<F: Future>(future: &mut std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn messages_of_many_come_in_order_and_none_is_lost() {
    Executor::new().unwrap().run(async |tasks| {
        let (sender, mut receiver) = channel(3);
        for number in 0..10 {
            let sender = sender.clone();
            drop(tasks.spawn(async move {
                for message in 0..100 {
                    sender.send((number, message)).await.unwrap();
                }
            }));
        }
        drop(sender);
        let mut next = [0; 10];
        while let Some((number, message)) = receiver.recv().await.unwrap() {
            assert!(receiver.len() <= 3);
            assert_eq!(message, next[number]);
            next[number] += 1;
        }
        assert_eq!(next, [100; 10]);
    });
}

#[test]
fn who_waits_to_send_is_served_first_and_leaves_its_place_to_the_next() {
    let (sender, mut receiver) = channel(1);
    sender.try_send(0).unwrap();
    let mut first = Box::pin(sender.send(1));
    let mut second = pin!(sender.send(2));
    assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert!(poll(&mut second).is_pending());
    assert_eq!(receiver.try_recv(), Some(0));
    // The room is the first one's, although it has not run yet.
    assert!(matches!(sender.try_send(9), Err(SendError::Full(9))));
    drop(first);
    assert!(matches!(sender.try_send(9), Err(SendError::Full(9))));
    assert_eq!(poll(&mut second), Poll::Ready(Ok(())));
    assert_eq!(receiver.try_recv(), Some(2));
}

#[test]
fn a_receive_that_is_dropped_or_cancelled_loses_nothing() {
    Executor::new().unwrap().run(async |tasks| {
        let (sender, mut receiver) = channel(2);
        {
            let mut dropped = pin!(receiver.recv());
            assert!(poll(&mut dropped).is_pending());
            sender.try_send(1).unwrap();
        }
        let cancelled = tasks.spawn(async move {
            while !crate::is_cancelled() {
                let _ = yield_now().await;
            }
            (receiver.recv().await, receiver)
        });
        cancelled.cancel();
        let (result, mut receiver) = cancelled.await.unwrap();
        assert!(result.is_err());
        assert_eq!(receiver.recv().await.unwrap(), Some(1));
    });
}

#[test]
fn both_ends_see_that_the_other_is_gone() {
    let (sender, receiver) = channel(1);
    sender.try_send(Rc::new(1)).unwrap();
    let mut waits = pin!(sender.send(Rc::new(2)));
    assert!(poll(&mut waits).is_pending());
    drop(receiver);
    let Poll::Ready(Err(SendError::Closed(back))) = poll(&mut waits) else { panic!("the receiver is gone") };
    assert_eq!(Rc::strong_count(&back), 1);
    let (sender, mut receiver) = channel::<u8>(1);
    let mut waits = pin!(receiver.recv());
    assert!(poll(&mut waits).is_pending());
    drop(sender);
    assert_eq!(poll(&mut waits), Poll::Ready(Ok(None)));
}
