use super::{Missed, Stream, from_iter, interval};
use crate::sync::harness::{at_every_await, run};
use crate::sync::mpsc;
use crate::{Cancelled, Canceller, Instant, Tasks, cancellable, yield_now};
use proptest::prelude::*;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

async fn collect<S: Stream>(mut stream: S) -> Vec<S::Item> {
    let mut items = Vec::new();
    while let Some(item) = stream.next().await.unwrap() {
        items.push(item);
    }
    items
}

#[test]
fn items_are_mapped_kept_taken_and_gathered() {
    run(async |_| {
        let stream = from_iter(0..).map(|number| number * 3).filter(|number| number % 2 == 0).take(5);
        assert_eq!(collect(stream.chunks(2)).await, [vec![0, 6], vec![12, 18], vec![24]]);
        let mut source = from_iter(0..4);
        assert_eq!(collect((&mut source).take(2)).await, [0, 1]);
        assert_eq!(collect(source).await, [2, 3]);
        assert!(collect(from_iter(0..0).chunks(3)).await.is_empty());
    });
}

#[test]
fn a_merge_takes_turns_and_ends_with_the_last() {
    run(async |tasks| {
        let merged = collect(from_iter([0; 3]).merge(from_iter([1; 5]))).await;
        assert_eq!(merged, [0, 1, 0, 1, 0, 1, 1, 1]);
        // One that never ends does not keep the other back.
        let (sender, receiver) = mpsc::channel(1);
        let all = tasks.spawn(collect(receiver.merge(from_iter(0..3)).take(4)));
        yield_now().await.unwrap();
        sender.send(9).await.unwrap();
        assert_eq!(all.await.unwrap(), [0, 1, 2, 9]);
    });
}

#[test]
fn so_many_run_at_once_and_results_are_in_order() {
    run(async |tasks| {
        let (running, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (inner, highest) = (running.clone(), most.clone());
        let sleeper = tasks.clone();
        let work = from_iter(0..20_u64).map(move |number| {
            let (running, most, tasks) = (inner.clone(), highest.clone(), sleeper.clone());
            async move {
                running.set(running.get() + 1);
                most.set(most.get().max(running.get()));
                tasks.sleep(Duration::from_millis(number * 7 % 5)).await.unwrap();
                running.set(running.get() - 1);
                number
            }
        });
        assert_eq!(collect(work.buffered(3)).await, (0..20).collect::<Vec<_>>());
        assert_eq!((running.get(), most.get()), (0, 3));
        // More room than there are.
        let few = from_iter(0..2).map(async |number| number);
        assert_eq!(collect(few.buffered(10)).await, [0, 1]);
    });
}

#[test]
fn a_cancelled_stream_takes_nothing() {
    run(async |tasks| {
        let canceller = Canceller::default();
        canceller.cancel();
        let mut numbers = from_iter(0..3);
        let mut moments = interval(&tasks, Duration::from_millis(1), Missed::Burst);
        tasks.sleep(Duration::from_millis(2)).await.unwrap();
        assert_eq!(cancellable(&canceller, numbers.next()).await, Err(Cancelled));
        assert_eq!(cancellable(&canceller, moments.next()).await, Err(Cancelled));
        assert_eq!(collect(numbers).await, [0, 1, 2]);
        assert_eq!(moments.next().await, Ok(Some(Instant::from_nanos(1_000_000))));
    });
}

#[test]
fn an_interrupted_wait_loses_no_item() {
    at_every_await(4, async |tasks, interruption| {
        let (sender, receiver) = mpsc::channel(2);
        let (second, others) = mpsc::channel(2);
        let work = async |number: u32| {
            // Cancelled, it comes to its end the sooner.
            let _ = yield_now().await;
            number
        };
        let stream = receiver.merge(others).map(work).buffered(2).chunks(3);
        let collected = tasks.spawn(async move {
            let mut stream = stream;
            let mut items: Vec<u32> = Vec::new();
            let through = interruption.of(async {
                while let Some(chunk) = stream.next().await? {
                    items.extend(chunk);
                }
                Ok::<_, Cancelled>(())
            });
            let through = through.await.is_some();
            while let Some(chunk) = stream.next().await.unwrap() {
                items.extend(chunk);
            }
            (items, through)
        });
        for number in 0..10 {
            let to = if number % 3 == 0 { &second } else { &sender };
            to.send(number).await.unwrap();
            yield_now().await.unwrap();
        }
        drop((sender, second));
        let (mut items, through) = collected.await.unwrap();
        items.sort_unstable();
        assert_eq!(items, (0..10).collect::<Vec<_>>());
        through
    });
}

/// When an interval's first items were due, and seen, in milliseconds, by one who is away for 3.5 periods after the first.
async fn seen(tasks: &Rc<Tasks>, missed: Missed) -> Vec<(u64, u64)> {
    let begin = tasks.now();
    let millis = |moment: Instant| moment.since(begin).as_millis() as u64;
    let mut moments = interval(tasks, Duration::from_millis(10), missed);
    let mut seen = Vec::new();
    for number in 0..5 {
        let due = moments.next().await.unwrap().unwrap();
        seen.push((millis(due), millis(tasks.now())));
        if number == 0 {
            tasks.sleep(Duration::from_millis(35)).await.unwrap();
        }
    }
    seen
}

#[test]
fn missed_moments_are_left_out_or_follow_at_once() {
    run(async |tasks| {
        let skip = seen(&tasks, Missed::Skip).await;
        assert_eq!(skip.iter().map(|seen| seen.0).collect::<Vec<_>>(), [10, 20, 50, 60, 70]);
        assert!(skip[1].1 >= 45 && skip[2].1 >= 50);
        let burst = seen(&tasks, Missed::Burst).await;
        assert_eq!(burst.iter().map(|seen| seen.0).collect::<Vec<_>>(), [10, 20, 30, 40, 50]);
        assert_eq!(burst[1].1, burst[3].1);
        assert!(burst[4].1 >= 50);
    });
}

proptest! {
    #[test]
    fn results_are_in_order_however_they_come(
        count in 1..6_usize,
        items in prop::collection::vec((0..9_u32, 0..4_u32), 0..40),
    ) {
        let expected = items.clone();
        let results = run(async move |tasks| {
            let (sender, receiver) = mpsc::channel(8);
            let work = async |(turns, pause): (u32, u32)| {
                for _ in 0..turns {
                    yield_now().await.unwrap();
                }
                (turns, pause)
            };
            let all = tasks.spawn(collect(receiver.map(work).buffered(count)));
            for (turns, pause) in items {
                sender.send((turns, pause)).await.unwrap();
                for _ in 0..pause {
                    yield_now().await.unwrap();
                }
            }
            drop(sender);
            all.await.unwrap()
        });
        prop_assert_eq!(results, expected);
    }
}
