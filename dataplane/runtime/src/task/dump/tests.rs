//! What is seen of tasks that wait, in each of the ways that there are, and that looking changes nothing.

use super::*;
use crate::sync::semaphore::Semaphore;
use crate::sync::{mpsc, oneshot};
use crate::task::tests::Bench;
use crate::{both, scope, trace, yield_now};
use std::cell::Cell;
use std::rc::Rc;
use std::task::Poll;

/// The lines of a dump without what it is that varies: times.
fn lines(dump: &Dump) -> Vec<String> {
    let text = dump.to_string();
    let cut = |line: &str| match line.split_once(" for ") {
        Some((head, tail)) if line.trim_start().starts_with("task ") => {
            format!("{head}{}", tail.find(", ").map_or("", |at| &tail[at..]))
        }
        _ => line.to_owned(),
    };
    text.lines().map(cut).collect()
}

fn here(line: u32) -> String {
    format!("{}:{line}", file!())
}

#[test]
fn a_dump_is_the_tree_of_tasks_with_what_each_waits_for() {
    let bench = Bench::new();
    bench.run(async |tasks| {
        let (sender, mut receiver) = mpsc::channel::<u8>(1);
        let permits = Semaphore::new(1);
        let (inner, tree) = (tasks.clone(), tasks.clone());
        let first = line!() + 1;
        let parent = tasks.spawn(async move {
            scope(&inner, async |scope| {
                drop(scope.spawn(async move { receiver.recv().await }));
                let timer = inner.clone();
                drop(scope.spawn(async move {
                    let slow = timer.sleep(Duration::from_secs(3600));
                    trace!("both of them", both(slow, permits.acquire(1))).1.map(drop)
                }));
                scope.wait().await
            })
            .await
        });
        for _ in 0..3 {
            yield_now().await.unwrap();
        }
        let dump = tree.dump();
        let expected = [
            format!("task {}: runs", dump.tasks[0].spawned.to_string().rsplit_once(':').unwrap().0),
            format!("task {}: waits", here(first)),
            format!("  - the tasks of a scope ({})", here(first + 8)),
            format!("  task {}: waits", here(first + 2)),
            format!("    - a message ({})", here(first + 2)),
            format!("  task {}: waits", here(first + 4)),
            format!("    - both of them ({})", here(first + 6)),
            // The permits are there already, and no line of a wait.
            format!("      - time to pass ({})", here(first + 5)),
        ];
        assert_eq!(lines(&dump), expected, "{dump}");
        let folded = dump.folded();
        let stack = format!(
            "{};{};both of them ({});time to pass ({}) ",
            here(first),
            here(first + 4),
            here(first + 6),
            here(first + 5)
        );
        let of_timer: Vec<_> = folded.lines().filter(|line| line.starts_with(&stack)).collect();
        assert_eq!(of_timer.len(), 1, "{folded}");
        assert!(of_timer[0][stack.len()..].parse::<u64>().unwrap() >= 1);
        assert_eq!(
            folded.lines().count(),
            4,
            "one that runs, and three things that are waited for: {folded}"
        );
        drop(sender);
        parent.cancel();
        assert!(parent.await.unwrap().is_err());
    });
}

#[test]
fn who_looks_wakes_nobody_and_what_was_waited_for_comes() {
    let bench = Bench::new();
    bench.run(async |tasks| {
        let (sender, receiver) = oneshot::channel::<u8>();
        let polls = Rc::new(Cell::new(0));
        let (counted, mut receiver) = (polls.clone(), Box::pin(receiver));
        let task = tasks.spawn(std::future::poll_fn(move |cx| {
            counted.set(counted.get() + 1);
            receiver.as_mut().poll(cx)
        }));
        yield_now().await.unwrap();
        assert_eq!(polls.get(), 1);
        for looks in 1..=3 {
            let dump = tasks.dump();
            assert_eq!((dump.tasks[1].doing, dump.tasks[1].waits.len()), (Doing::Waits, 1));
            assert_eq!(polls.get(), 1 + looks, "each look is a poll");
            yield_now().await.unwrap();
            assert_eq!(polls.get(), 1 + looks, "and no more than that");
        }
        sender.send(7).unwrap();
        let dump = tasks.dump();
        assert_eq!(
            (dump.tasks[1].doing, polls.get()),
            (Doing::Ready, 4),
            "what is ready is left to its turn"
        );
        assert_eq!(task.await.unwrap(), Ok(7));
        assert_eq!(tasks.dump().tasks.len(), 1);
    });
}

#[test]
fn one_that_ends_or_panics_while_it_is_looked_at_has_ended() {
    for panics in [false, true] {
        let bench = Bench::new();
        bench.run(async move |tasks| {
            let mut polled = false;
            // Nobody wakes it, and yet it is ready: as one may be that counts on being polled now and then.
            let task = tasks.spawn(std::future::poll_fn(move |_| {
                assert!(!(panics && polled), "as it does");
                if std::mem::replace(&mut polled, true) { Poll::Ready(1) } else { Poll::Pending }
            }));
            yield_now().await.unwrap();
            let dump = tasks.dump();
            assert_eq!((dump.tasks.len(), dump.tasks[1].waits.len()), (2, 0));
            assert_eq!(task.await.is_ok(), !panics);
        });
    }
}

#[test]
fn a_dump_may_be_made_from_outside_and_of_many() {
    let bench = Bench::new();
    let tasks = bench.tasks().clone();
    bench.run(async |tasks| {
        // Each in the scope of the one before.
        fn nest(tasks: Rc<Tasks>, depth: u32) -> std::pin::Pin<Box<dyn Future<Output = ()>>> {
            Box::pin(async move {
                scope(&tasks, async |scope| {
                    if depth > 0 {
                        drop(scope.spawn(nest(tasks.clone(), depth - 1)));
                    }
                    let _cancelled = scope.wait().await;
                    let _cancelled = tasks.sleep(Duration::from_secs(3600)).await;
                })
                .await;
            })
        }
        drop(tasks.spawn(nest(tasks.clone(), 2000)));
        for _ in 0..2100 {
            yield_now().await.unwrap();
        }
    });
    let dump = tasks.dump();
    assert_eq!(dump.tasks.len(), 2001);
    assert!(dump.tasks.iter().all(|task| task.doing == Doing::Waits && task.waits.len() == 1), "{dump}");
    assert_eq!(dump.tree().last().unwrap().0, 2000);
}
