//! Where items come from: a channel, an iterator, the clock.

use super::{Next, Stream};
use crate::cancel::poll_cancelled;
use crate::sync::mpsc;
use crate::{Instant, Sleep, Tasks};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

impl<T> Stream for mpsc::Receiver<T> {
    type Item = T;

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Next<T> {
        self.poll_recv(cx)
    }
}

/// Items of an iterator; see [`from_iter`].
#[derive(Clone, Debug)]
pub struct Iter<I>(Option<I>);

/// The items of an iterator, which need not be waited for.
pub fn from_iter<I: IntoIterator>(items: I) -> Iter<I::IntoIter> {
    Iter(Some(items.into_iter()))
}

impl<I: Iterator> Stream for Iter<I> {
    type Item = I::Item;

    fn poll_next(&mut self, _: &mut Context<'_>) -> Next<I::Item> {
        if let Poll::Ready(cancelled) = poll_cancelled() {
            return Poll::Ready(Err(cancelled));
        }
        let item = self.0.as_mut().and_then(Iterator::next);
        if item.is_none() {
            // Iterators may begin again after their end; a stream does not.
            self.0 = None;
        }
        Poll::Ready(Ok(item))
    }
}

/// What becomes of moments that passed while nobody waited for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// They are left out: the next one is the first that is still to come, and the rhythm stays.
    Skip,
    /// They follow at once, one after the other.
    Burst,
}

/// Moments of the clock; see [`interval`].
#[derive(Debug)]
pub struct Interval {
    tasks: Rc<Tasks>,
    sleep: Sleep,
    period: Duration,
    missed: Missed,
}

/// A moment every `period`, without end; the first one is a period from now. Each item is when it was due, which may be earlier
/// than it is seen.
///
/// # Panics
/// When the period is zero.
#[must_use]
#[track_caller]
pub fn interval(tasks: &Rc<Tasks>, period: Duration, missed: Missed) -> Interval {
    assert!(period > Duration::ZERO, "an interval of no length would never let anything else run");
    Interval { tasks: tasks.clone(), sleep: tasks.sleep(period), period, missed }
}

impl Stream for Interval {
    type Item = Instant;

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Next<Instant> {
        if let Poll::Ready(cancelled) = poll_cancelled() {
            return Poll::Ready(Err(cancelled));
        }
        if let Err(cancelled) = ready!(Pin::new(&mut self.sleep).poll(cx)) {
            return Poll::Ready(Err(cancelled));
        }
        let due = self.sleep.due();
        let late = self.tasks.now().since(due).as_nanos();
        let periods = match self.missed {
            Missed::Burst => 0,
            Missed::Skip => late / self.period.as_nanos(),
        };
        let skipped = u64::try_from(periods * self.period.as_nanos()).unwrap_or(u64::MAX);
        self.sleep.reset(due + Duration::from_nanos(skipped) + self.period);
        Poll::Ready(Ok(Some(due)))
    }
}
