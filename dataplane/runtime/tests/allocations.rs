//! Once warm, nothing that tasks do allocates: a global allocator that counts says so.
//!
//! Each test does its work once, for the memory that is kept, and then again a thousand times, counted.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use zsync_allocations::Counting;
use zsync_runtime::sync::{mpsc, oneshot};
use zsync_runtime::{Executor, Tasks, yield_now};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TIMES: u64 = 1000;

/// Allocations of `work`, a thousand times, after once.
fn when_warm(work: impl AsyncFn(&Rc<Tasks>) + 'static) -> u64 {
    Executor::new().unwrap().run(async move |tasks| {
        work(&tasks).await;
        let before = zsync_allocations::so_far().unwrap();
        for _ in 0..TIMES {
            work(&tasks).await;
        }
        // Asking allocates once itself.
        zsync_allocations::so_far().unwrap() - before - 1
    })
}

#[test]
fn what_does_allocate_is_counted() {
    assert_eq!(when_warm(async |_| drop(std::hint::black_box(Box::new(1)))), TIMES);
}

#[test]
fn spawning_and_joining() {
    assert_eq!(when_warm(async |tasks| assert_eq!(tasks.spawn(async { 1 }).await.unwrap(), 1)), 0);
}

#[test]
fn many_tasks_at_a_time_and_of_several_sizes() {
    let rounds = when_warm(async |tasks| {
        let long = [7_u8; 900];
        let waits = [(); 20].map(|()| {
            let short = tasks.spawn(async { yield_now().await });
            let long = tasks.spawn(async move {
                yield_now().await.unwrap();
                std::hint::black_box(long)[899]
            });
            (short, long)
        });
        for (short, long) in waits {
            short.await.unwrap().unwrap();
            assert_eq!(long.await.unwrap(), 7);
        }
    });
    assert_eq!(rounds, 0);
}

#[test]
fn waking_and_yielding() {
    assert_eq!(when_warm(async |_| yield_now().await.unwrap()), 0);
}

#[test]
fn aborting_and_cancelling_what_waits() {
    let rounds = when_warm(async |tasks| {
        let (aborted, cancelled) = (tasks.spawn(pending::<()>()), tasks.spawn(yield_now()));
        yield_now().await.unwrap();
        aborted.abort();
        cancelled.cancel();
        assert!(aborted.await.is_err());
        drop(cancelled.await);
    });
    assert_eq!(rounds, 0);
}

#[test]
fn messages_through_a_channel() {
    let rounds = when_warm({
        let (sender, receiver) = mpsc::channel::<u64>(1);
        let receiver = Rc::new(std::cell::RefCell::new(Some(receiver)));
        async move |tasks| {
            let mut inbox = receiver.take().unwrap();
            let reader = tasks.spawn(async move {
                let sum = inbox.recv().await.unwrap().unwrap() + inbox.recv().await.unwrap().unwrap();
                (sum, inbox)
            });
            sender.send(1).await.unwrap();
            sender.send(2).await.unwrap();
            let (sum, inbox) = reader.await.unwrap();
            assert_eq!(sum, 3);
            receiver.replace(Some(inbox));
        }
    });
    assert_eq!(rounds, 0);
}

#[test]
fn timers_set_and_taken_back_and_fired() {
    let rounds = when_warm(async |tasks| {
        // One that is taken back beside one that fires.
        let mut forgotten = pin!(tasks.sleep(Duration::from_secs(3600)));
        let is_pending = poll_fn(|cx| Poll::Ready(forgotten.as_mut().poll(cx).is_pending())).await;
        assert!(is_pending, "an hour is over");
        tasks.sleep(Duration::from_micros(1)).await.unwrap();
    });
    assert_eq!(rounds, 0);
}

#[test]
fn a_oneshot_is_one_allocation() {
    // What both its ends share; said here so that a second one would be seen.
    let rounds = when_warm(async |_| {
        let (sender, receiver) = oneshot::channel();
        sender.send(1).unwrap();
        assert_eq!(receiver.await.unwrap(), 1);
    });
    assert_eq!(rounds, TIMES);
}
