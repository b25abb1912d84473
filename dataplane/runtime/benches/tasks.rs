//! Nanoseconds of what tasks do most; run with `cargo bench -p zsync-runtime --bench tasks`.

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};
use zsync_runtime::sync::mpsc::channel;
use zsync_runtime::{Executor, Tasks, yield_now};

const COUNT: u32 = 1_000_000;

fn per(begin: Instant, count: u32) -> f64 {
    begin.elapsed().as_nanos() as f64 / f64::from(count)
}

async fn yields(tasks: Rc<Tasks>, number: u32) -> f64 {
    let begin = Instant::now();
    let rounds = COUNT / number;
    let handles: Vec<_> = (0..number)
        .map(|_| {
            tasks.spawn(async move {
                for _ in 0..rounds {
                    yield_now().await.unwrap();
                }
            })
        })
        .collect();
    for handle in handles {
        handle.await.unwrap();
    }
    per(begin, rounds * number)
}

async fn spawns(tasks: Rc<Tasks>) -> f64 {
    let begin = Instant::now();
    for number in 0..COUNT {
        black_box(tasks.spawn(async move { number }).await.unwrap());
    }
    per(begin, COUNT)
}

async fn messages(tasks: Rc<Tasks>) -> f64 {
    let (there, mut inbox) = channel(1);
    let (back, mut answers) = channel(1);
    let echo = tasks.spawn(async move {
        while let Ok(Some(message)) = inbox.recv().await {
            back.send(message).await.unwrap();
        }
    });
    let begin = Instant::now();
    for number in 0..COUNT {
        there.send(number).await.unwrap();
        assert_eq!(answers.recv().await.unwrap(), Some(number));
    }
    let figure = per(begin, 2 * COUNT);
    drop(there);
    echo.await.unwrap();
    figure
}

async fn aborts(tasks: Rc<Tasks>) -> f64 {
    let mut spent = 0.0;
    for _ in 0..COUNT / 1000 {
        let parked: Vec<_> = (0..1000).map(|_| tasks.spawn(std::future::pending::<()>())).collect();
        yield_now().await.unwrap();
        yield_now().await.unwrap();
        let begin = Instant::now();
        parked.iter().for_each(|task| task.abort());
        for task in parked {
            let _ = black_box(task.await);
        }
        spent += per(begin, COUNT);
    }
    spent
}

async fn timers(tasks: Rc<Tasks>) -> (f64, f64) {
    let mut random = 1_u64;
    let mut sleeps = Vec::with_capacity(100_000);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let begin = Instant::now();
    for _ in 0..100_000 {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let mut sleep = tasks.sleep(Duration::from_micros(1000 + (random >> 40)));
        let _ = std::pin::Pin::new(&mut sleep).poll(&mut cx);
        sleeps.push(sleep);
    }
    let insert = per(begin, 100_000);
    let begin = Instant::now();
    drop(sleeps);
    (insert, per(begin, 100_000))
}

fn main() {
    let executor = Executor::new().unwrap();
    for _ in 0..3 {
        let polls = Rc::new(Cell::new(0));
        let figures = executor.run(async move |tasks| {
            let one = yields(tasks.clone(), 1).await;
            let many = yields(tasks.clone(), 1000).await;
            let spawn = spawns(tasks.clone()).await;
            let message = messages(tasks.clone()).await;
            let abort = aborts(tasks.clone()).await;
            polls.set(polls.get() + 1);
            timers(tasks.clone()).await;
            let timers = timers(tasks).await;
            (one, many, spawn, message, abort, timers)
        });
        println!(
            "yield 1/1000 {:.1}/{:.1}  spawn+join {:.1}  message {:.1}  abort {:.1}  timer {:.1} + {:.1}",
            figures.0, figures.1, figures.2, figures.3, figures.4, figures.5.0, figures.5.1
        );
    }
}
