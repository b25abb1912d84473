use super::{RecvError, channel};
use crate::sync::harness::{Interruption, at_every_await, poll, run};
use crate::yield_now;
use std::rc::Rc;
use std::task::Poll;

#[test]
fn a_message_comes_also_when_its_sender_is_gone() {
    run(async |tasks| {
        let (sender, receiver) = channel();
        let waits = tasks.spawn(receiver);
        yield_now().await.unwrap();
        sender.send(5).unwrap();
        assert_eq!(waits.await.unwrap(), Ok(5));
    });
}

#[test]
fn both_ends_see_that_the_other_is_gone() {
    let (mut sender, receiver) = channel();
    let mut closed = Box::pin(sender.closed());
    assert!(poll(&mut closed).is_pending());
    drop(receiver);
    assert_eq!(poll(&mut closed), Poll::Ready(Ok(())));
    drop(closed);
    assert_eq!(sender.send(1), Err(1));
    let (sender, mut receiver) = channel::<u8>();
    assert!(poll(&mut receiver).is_pending());
    drop(sender);
    assert_eq!(poll(&mut receiver), Poll::Ready(Err(RecvError::Closed)));
    let (sender, receiver) = channel();
    let message = Rc::new(());
    sender.send(message.clone()).unwrap();
    drop(receiver);
    assert_eq!(Rc::strong_count(&message), 1);
}

#[test]
fn an_interrupted_wait_has_received_nothing() {
    at_every_await(1, async |tasks, interruption: Interruption| {
        let (sender, mut receiver) = channel();
        let waits = tasks.spawn(async move {
            let first = interruption.of(&mut receiver).await;
            let through = first.is_some();
            let message = match first {
                Some(message) => message,
                None => receiver.await,
            };
            (message, through)
        });
        yield_now().await.unwrap();
        sender.send("here").unwrap();
        let (message, through) = waits.await.unwrap();
        assert_eq!(message, Ok("here"));
        through
    });
}
