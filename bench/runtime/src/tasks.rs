//! Tasks, channels and timers, timed by the contestant's own thread.
//!
//! Keeps true: what is measured is done in sweeps, the first of which is for what a runtime keeps from then on; a sample is
//! the shortest of the others, so that what a machine does besides is left out.

use crate::contestant::Contestant;
use crate::exercise::{ABORTED, Exercise, TIMERS};
use std::cell::Cell;
use std::future::pending;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// Sweeps of a sample at least, the first included.
const SWEEPS: u32 = 3;
/// Of whatever a sweep repeats: some milliseconds' worth for the slowest.
const COUNT: u32 = 20_000;
/// How long the alarm is set for, and how long it is waited for at most.
const ALARM: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(1);

/// What a turn gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    /// In the exercise's unit.
    pub(crate) value: f64,
    /// Of each thing that was repeated; NaN where they are not counted.
    pub(crate) allocations: f64,
}

impl Sample {
    pub(crate) fn of(value: f64) -> Self {
        Self { value, allocations: f64::NAN }
    }
}

/// Allocations of this thread so far; NaN if the program does not count them.
fn allocations() -> f64 {
    zsync_allocations::so_far().map_or(f64::NAN, |count| count as f64)
}

/// Sweeps until the turn is over. A sweep repeats something `count` times, and says how long that took.
async fn sweep(turn: Duration, count: u32, mut sweep: impl AsyncFnMut() -> Duration) -> Sample {
    let begin = Instant::now();
    let (mut least, mut fewest) = (Duration::MAX, f64::NAN);
    for number in 0.. {
        if number >= SWEEPS && begin.elapsed() > turn {
            break;
        }
        let before = allocations();
        let time = sweep().await;
        // Asking is an allocation itself.
        let allocated = allocations() - before - 1.0;
        if number > 0 {
            least = least.min(time);
            fewest = fewest.min(allocated);
        }
    }
    let each = |all: f64| all / f64::from(count);
    Sample { value: each(least.as_nanos() as f64), allocations: each(fewest) }
}

/// How long that took.
async fn timed(work: impl Future<Output = ()>) -> Duration {
    let begin = Instant::now();
    work.await;
    begin.elapsed()
}

/// Measures this for about so long; none: the contestant has no such thing.
///
/// # Panics
/// When the exercise is one of sockets.
pub(crate) async fn measure<C: Contestant>(c: C, exercise: Exercise, turn: Duration) -> Option<Sample> {
    Some(match exercise {
        Exercise::Yield(tasks) => {
            let each = COUNT * 10 / tasks;
            sweep(turn, each * tasks, async || timed(yields(&c, tasks, each)).await).await
        }
        Exercise::Spawn(tasks) => {
            let mut spawned = Vec::with_capacity(tasks as usize);
            sweep(turn, COUNT, async || timed(spawns(&c, tasks, &mut spawned)).await).await
        }
        Exercise::Message => messages(&c, turn).await,
        Exercise::Abort => return aborts(&c, turn).await,
        Exercise::Timers => timers(turn, || c.sleep(Duration::from_secs(3600))).await,
        Exercise::Alarm => alarm(&c).await,
        _ => unreachable!("{exercise:?} is not done here"),
    })
}

async fn yields<C: Contestant>(c: &C, tasks: u32, each: u32) {
    let yielding = |_| {
        c.spawn(async move {
            for _ in 0..each {
                C::yield_now().await;
            }
        })
    };
    let spawned: Vec<_> = (0..tasks).map(yielding).collect();
    for task in spawned {
        C::join(task).await;
    }
}

async fn spawns<C: Contestant>(c: &C, tasks: u32, spawned: &mut Vec<C::Task<u32>>) {
    for _ in 0..COUNT / tasks {
        spawned.extend((0..tasks).map(|number| c.spawn(async move { number })));
        for task in spawned.drain(..) {
            std::hint::black_box(C::join(task).await);
        }
    }
}

async fn messages<C: Contestant>(c: &C, turn: Duration) -> Sample {
    let (there, mut inbox) = C::channel();
    let (back, mut answers) = C::channel();
    let echo = c.spawn(async move {
        while let Some(message) = C::hear(&mut inbox).await {
            C::tell(&back, message).await;
        }
    });
    let sample = sweep(turn, 2 * COUNT, async || {
        timed(async {
            for number in 0..COUNT {
                C::tell(&there, number).await;
                assert_eq!(C::hear(&mut answers).await, Some(number));
            }
        })
        .await
    })
    .await;
    drop(there);
    C::join(echo).await;
    sample
}

async fn aborts<C: Contestant>(c: &C, turn: Duration) -> Option<Sample> {
    let can = Cell::new(true);
    let sample = sweep(turn, ABORTED as u32, async || {
        let parked: Vec<_> = (0..ABORTED).map(|_| c.spawn(pending::<()>())).collect();
        // All of them have their turn, and wait.
        C::yield_now().await;
        C::yield_now().await;
        timed(async { can.set(C::abort(parked).await) }).await
    })
    .await;
    can.get().then_some(sample)
}

async fn timers<F: Future>(turn: Duration, make: impl Fn() -> F) -> Sample {
    // Places that do not move, so that nobody has to make some while it is timed.
    let mut places: Vec<Pin<Box<Option<F>>>> = (0..TIMERS).map(|_| Box::pin(None)).collect();
    sweep(turn, TIMERS as u32, async || {
        // Nobody's waker: glommio's tasks have 32,767 at most.
        let mut cx = Context::from_waker(Waker::noop());
        let begin = Instant::now();
        for place in &mut places {
            place.as_mut().set(Some(make()));
            let pending = place.as_mut().as_pin_mut().is_some_and(|timer| timer.poll(&mut cx).is_pending());
            assert!(pending, "an hour is over");
        }
        places.iter_mut().for_each(|place| place.as_mut().set(None));
        begin.elapsed()
    })
    .await
}

async fn alarm<C: Contestant>(c: &C) -> Sample {
    let rung = Rc::new(Cell::new(false));
    let busy = c.spawn({
        let rung = rung.clone();
        async move {
            let begin = Instant::now();
            while !rung.get() && begin.elapsed() < PATIENCE {
                C::yield_now().await;
            }
        }
    });
    C::yield_now().await;
    let begin = Instant::now();
    c.sleep(ALARM).await;
    let time = begin.elapsed();
    rung.set(true);
    C::join(busy).await;
    Sample::of(time.as_secs_f64() * 1e3)
}
