//! Worlds in time of their own, and waits that are interrupted at each place where they can be.

use crate::{Canceller, Handle, Instant, Tasks, cancellable};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Milliseconds after which a world that has not come to its end never will.
const LONGEST: u32 = 100_000;

/// Runs to the end, in steps of 1 ms. Who waits for ever is found by that.
pub(crate) fn run<T: 'static>(main: impl AsyncFnOnce(Rc<Tasks>) -> T + 'static) -> T {
    let tasks = Tasks::new(Instant::ZERO).unwrap();
    let inner = tasks.clone();
    let mut handle: Handle<T> = tasks.spawn(async move { main(inner).await });
    let mut now = Instant::ZERO;
    for _ in 0..LONGEST {
        while tasks.pass(now, 64).more {}
        if handle.is_finished() {
            break;
        }
        now = now + Duration::from_millis(1);
    }
    assert!(handle.is_finished(), "it waits for what never comes");
    let Poll::Ready(Ok(result)) = Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it did not end well")
    };
    drop(handle);
    assert_eq!(tasks.alive(), 0, "somebody still waits");
    tasks.close();
    result
}

/// Polls by hand, with a waker that wakes nobody.
pub(crate) fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// What happens to a wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interruption {
    /// After so many polls that found nothing.
    polls: u32,
    /// Not at once, but when it is woken the next time: when it has been given something.
    woken: bool,
    /// Cancelled; else dropped.
    cancelled: bool,
}

impl Interruption {
    /// What `future` gives; none if it was interrupted before that, in which way it may be by being cancelled.
    pub(crate) async fn of<F: Future>(self, future: F) -> Option<F::Output> {
        let canceller = Canceller::default();
        let result = {
            let mut future = Box::pin(cancellable(&canceller, future));
            let mut polls = 0;
            let mut interrupted = false;
            poll_fn(|cx| {
                if interrupted || polls == self.polls && self.polls == 0 && !self.woken {
                    return Poll::Ready(self.interrupt(&canceller, &mut future, cx));
                }
                if let Poll::Ready(result) = future.as_mut().poll(cx) {
                    return Poll::Ready(Some(result));
                }
                polls += 1;
                if polls >= self.polls {
                    if !self.woken {
                        return Poll::Ready(self.interrupt(&canceller, &mut future, cx));
                    }
                    interrupted = true;
                }
                Poll::Pending
            })
            .await
        };
        if canceller.is_cancelled() { None } else { result }
    }

    fn interrupt<F: Future>(
        self,
        canceller: &Canceller,
        future: &mut Pin<Box<F>>,
        cx: &mut Context<'_>,
    ) -> Option<F::Output> {
        if self.cancelled {
            canceller.cancel();
            assert!(future.as_mut().poll(cx).is_ready(), "it was cancelled, and waits on");
        }
        None
    }
}

/// Runs a world for each way in which one wait of it can be interrupted: after each number of polls until there are no more,
/// parked and woken, dropped and cancelled. `world` says whether its wait came through; it asserts everything else.
pub(crate) fn at_every_await(
    least: u32,
    world: impl AsyncFn(Rc<Tasks>, Interruption) -> bool + Copy + 'static,
) {
    for (woken, cancelled) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut polls = 0;
        loop {
            let interruption = Interruption { polls, woken, cancelled };
            if run(async move |tasks| world(tasks, interruption).await) {
                break;
            }
            polls += 1;
            assert!(polls < 1000, "it never comes through");
        }
        assert!(polls >= least, "{polls} awaits, of {least}");
    }
}
