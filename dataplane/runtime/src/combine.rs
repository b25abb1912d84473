//! Several futures as one: the first, all, the first that succeeds, the one in time, and the same one again.
//!
//! Keeps true: what is not wanted any more is dropped before the result is there, in the order in which it was given; none is
//! favoured: who is polled first goes round. All of them are polled whenever one of them is woken, so this is for a few;
//! many are tasks of a [`scope`](crate::scope()).

use crate::cancel::Cancelled;
use crate::task::{Tasks, with_current};
use crate::time::Instant;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Which of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first.
    First(A),
    /// The second.
    Second(B),
}

/// Where to begin this time, of `count`.
fn turn(count: usize) -> usize {
    with_current(Tasks::next_turn).unwrap_or(0) % count.max(1)
}

/// The result of whichever is ready first; the other is dropped.
pub async fn either<A: Future, B: Future>(first: A, second: B) -> Either<A::Output, B::Output> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|cx| {
        let mut one = |cx: &mut Context<'_>| first.as_mut().poll(cx).map(Either::First);
        let mut two = |cx: &mut Context<'_>| second.as_mut().poll(cx).map(Either::Second);
        let begins = turn(2) == 0;
        let ready = if begins { one(cx) } else { two(cx) };
        match ready {
            Poll::Pending if begins => two(cx),
            Poll::Pending => one(cx),
            ready => ready,
        }
    })
    .await
}

/// The results of both.
pub async fn both<A: Future, B: Future>(first: A, second: B) -> (A::Output, B::Output) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut one, mut two) = (None, None);
    poll_fn(|cx| {
        if one.is_none()
            && let Poll::Ready(result) = first.as_mut().poll(cx)
        {
            one = Some(result);
        }
        if two.is_none()
            && let Poll::Ready(result) = second.as_mut().poll(cx)
        {
            two = Some(result);
        }
        match (one.take(), two.take()) {
            (Some(one), Some(two)) => Poll::Ready((one, two)),
            (first, second) => {
                (one, two) = (first, second);
                Poll::Pending
            }
        }
    })
    .await
}

/// Futures that are polled together, each at a place that does not move.
fn pinned<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<Option<Pin<Box<F>>>> {
    futures.into_iter().map(|future| Some(Box::pin(future))).collect()
}

/// The result of whichever is ready first, and its number; the others are dropped. Of none: never.
pub async fn race<F: Future>(futures: impl IntoIterator<Item = F>) -> (usize, F::Output) {
    let mut futures = pinned(futures);
    poll_fn(|cx| {
        let count = futures.len();
        let begin = turn(count);
        for number in (begin..count).chain(0..begin) {
            if let Some(future) = &mut futures[number]
                && let Poll::Ready(result) = future.as_mut().poll(cx)
            {
                return Poll::Ready((number, result));
            }
        }
        Poll::Pending
    })
    .await
}

/// The results of all, in their order.
pub async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut futures = pinned(futures);
    let mut results: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        let mut pending = false;
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if let Some(waits) = future {
                match waits.as_mut().poll(cx) {
                    Poll::Ready(ready) => {
                        *result = Some(ready);
                        *future = None;
                    }
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    results.into_iter().flatten().collect()
}

/// The first that succeeds, and the others are dropped; or the errors of all, in their order.
///
/// # Errors
/// None of them succeeds. Of none, no error.
pub async fn any<T, E>(
    futures: impl IntoIterator<Item = impl Future<Output = Result<T, E>>>,
) -> Result<T, Vec<E>> {
    let mut futures = pinned(futures);
    let mut errors: Vec<Option<E>> = futures.iter().map(|_| None).collect();
    let succeeded = poll_fn(|cx| {
        let count = futures.len();
        let begin = turn(count);
        for number in (begin..count).chain(0..begin) {
            let Some(future) = &mut futures[number] else { continue };
            match future.as_mut().poll(cx) {
                Poll::Ready(Ok(result)) => return Poll::Ready(Some(result)),
                Poll::Ready(Err(error)) => {
                    errors[number] = Some(error);
                    futures[number] = None;
                }
                Poll::Pending => {}
            }
        }
        if errors.iter().all(Option::is_some) { Poll::Ready(None) } else { Poll::Pending }
    })
    .await;
    succeeded.ok_or_else(|| errors.into_iter().flatten().collect())
}

/// It was not done in time, and was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not done within {0:?}")]
pub struct Elapsed(pub Duration);

/// What a future gives, if it does within `span` from the beginning of this pass. When the task is cancelled, that is the
/// future's to see, and to clean up after, as long as it is in time.
///
/// # Errors
/// It did not.
pub async fn timeout<F: Future>(tasks: &Rc<Tasks>, span: Duration, future: F) -> Result<F::Output, Elapsed> {
    in_time(tasks, tasks.now() + span, span, future).await
}

/// As [`timeout`], with the end of the span.
pub(crate) async fn in_time<F: Future>(
    tasks: &Rc<Tasks>,
    due: Instant,
    span: Duration,
    future: F,
) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut sleep = pin!(tasks.sleep_until(due));
    poll_fn(|cx| {
        let outer = tasks.deadline().get();
        tasks.deadline().set(outer.min(due));
        let result = future.as_mut().poll(cx);
        tasks.deadline().set(outer);
        if let Poll::Ready(result) = result {
            return Poll::Ready(Ok(result));
        }
        match sleep.as_mut().poll_shielded(cx) {
            Poll::Ready(()) => Poll::Ready(Err(Elapsed(span))),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// How long to wait before something is tried again.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// At most, however often it fails: each wait is twice the one before.
    pub longest: Duration,
    /// How often it is tried, the first time included; 0 counts as 1.
    pub attempts: u32,
}

impl Backoff {
    /// The wait after so many failures, from 1 on; `random` is what makes two that failed together not try together: the
    /// wait lies between half and all of what the doubling says.
    #[must_use]
    pub fn wait(&self, failures: u32, random: u64) -> Duration {
        let doubled =
            self.first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        let whole = u64::try_from(doubled.min(self.longest).as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(whole / 2 + random % (whole - whole / 2 + 1))
    }
}

/// Tries until it succeeds, as often as `backoff` says.
///
/// # Errors
/// The error of the last attempt. When it is cancelled while it waits, that is the last.
pub async fn retry<T, E>(
    tasks: &Rc<Tasks>,
    backoff: Backoff,
    mut attempt: impl AsyncFnMut(u32) -> Result<T, E>,
) -> Result<T, E> {
    let mut failures = 0;
    loop {
        let error = match attempt(failures).await {
            Ok(result) => return Ok(result),
            Err(error) => error,
        };
        failures += 1;
        if failures >= backoff.attempts {
            return Err(error);
        }
        if let Err(Cancelled) = tasks.sleep(backoff.wait(failures, tasks.random())).await {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests;
