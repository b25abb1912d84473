use super::{Receiver, RecvError, channel};
use crate::sync::harness::{at_every_await, poll, run};
use crate::sync::mpsc::SendError;
use crate::yield_now;
use proptest::prelude::*;
use std::rc::Rc;
use std::task::Poll;

#[test]
fn every_receiver_sees_every_message_and_then_the_end() {
    run(async |tasks| {
        let (sender, receiver) = channel(4);
        let all: Vec<_> = (0..5)
            .map(|_| {
                let mut receiver = receiver.clone();
                tasks.spawn(async move {
                    for expected in 0..50 {
                        assert_eq!(receiver.recv().await, Ok(Some(expected)));
                    }
                    assert_eq!(receiver.recv().await, Ok(None));
                })
            })
            .collect();
        drop(receiver);
        for message in 0..50 {
            assert_eq!(sender.send(message).unwrap(), 5);
            yield_now().await.unwrap();
        }
        drop(sender);
        for task in all {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_slow_receiver_learns_how_many_it_missed() {
    let (sender, mut receiver) = channel(3);
    for message in 0..10 {
        sender.send(message).unwrap();
    }
    assert_eq!(receiver.behind(), 10);
    assert_eq!(receiver.try_recv(), Err(RecvError::Missed(7)));
    assert_eq!(receiver.try_recv(), Ok(Some(7)));
    let mut twin = receiver.clone();
    let mut late = sender.subscribe();
    sender.send(10).unwrap();
    assert_eq!(late.try_recv(), Ok(Some(10)));
    assert_eq!((receiver.try_recv(), twin.try_recv()), (Ok(Some(8)), Ok(Some(8))));
}

#[test]
fn messages_that_nobody_can_receive_come_back_or_are_dropped() {
    let (sender, receiver) = channel(2);
    let message = Rc::new(());
    sender.send(message.clone()).unwrap();
    assert_eq!(Rc::strong_count(&message), 2);
    drop(receiver);
    assert_eq!(Rc::strong_count(&message), 1);
    let Err(SendError::Closed(_)) = sender.send(message) else { panic!("nobody is there") };
    // A ring that was emptied still counts right.
    let mut late = sender.subscribe();
    sender.send(Rc::new(())).unwrap();
    assert!(matches!(late.try_recv(), Ok(Some(_))));
    assert_eq!(late.behind(), 0);
}

#[test]
fn an_interrupted_receive_has_received_nothing() {
    at_every_await(1, async |tasks, interruption| {
        let (sender, receiver) = channel(8);
        let mut mine = receiver.clone();
        let victim = tasks.spawn(async move {
            let through = interruption.of(mine.recv()).await.is_some();
            (mine, through)
        });
        let mut other = receiver;
        let other = tasks.spawn(async move {
            for expected in 0..3 {
                assert_eq!(other.recv().await, Ok(Some(expected)));
            }
        });
        for message in 0..3 {
            yield_now().await.unwrap();
            sender.send(message).unwrap();
        }
        other.await.unwrap();
        let (mine, through) = victim.await.unwrap();
        assert_eq!(mine.behind(), 3 - u64::from(through));
        through
    });
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send,
    Receive(usize),
    Begin(usize),
    Clone(usize),
    Subscribe,
    Leave(usize),
}

proptest! {
    #[test]
    fn a_ring_does_what_its_model_does(
        capacity in 1..6_usize,
        steps in prop::collection::vec(prop_oneof![
            4 => Just(Step::Send),
            4 => (0..4_usize).prop_map(Step::Receive),
            1 => (0..4_usize).prop_map(Step::Begin),
            1 => (0..4_usize).prop_map(Step::Clone),
            1 => Just(Step::Subscribe),
            1 => (0..4_usize).prop_map(Step::Leave),
        ], 0..200),
    ) {
        let (sender, first) = channel(capacity);
        // The model: all messages are their numbers, and a receiver is the number of its next one.
        let mut sent = 0_u64;
        let mut receivers: Vec<(Receiver<u64>, u64)> = vec![(first, 0)];
        for step in steps {
            match step {
                Step::Send => {
                    let heard = sender.send(sent).ok();
                    prop_assert_eq!(heard, Some(receivers.len()).filter(|&count| count > 0));
                    sent += u64::from(heard.is_some());
                }
                Step::Receive(which) if which < receivers.len() => {
                    let (receiver, next) = &mut receivers[which];
                    let oldest = sent.saturating_sub(capacity as u64);
                    let expected = if *next < oldest {
                        let missed = oldest - *next;
                        *next = oldest;
                        Poll::Ready(Err(RecvError::Missed(missed)))
                    } else if *next < sent {
                        *next += 1;
                        Poll::Ready(Ok(Some(*next - 1)))
                    } else {
                        Poll::Pending
                    };
                    prop_assert_eq!(poll(&mut Box::pin(receiver.recv())), expected);
                }
                Step::Begin(which) if which < receivers.len() => drop(receivers[which].0.recv()),
                Step::Clone(which) if which < receivers.len() => {
                    let (receiver, next) = &receivers[which];
                    receivers.push((receiver.clone(), *next));
                }
                Step::Subscribe => receivers.push((sender.subscribe(), sent)),
                Step::Leave(which) if which < receivers.len() => drop(receivers.remove(which)),
                _ => {}
            }
            for (receiver, next) in &receivers {
                prop_assert_eq!(receiver.behind(), sent - next);
            }
        }
    }
}
