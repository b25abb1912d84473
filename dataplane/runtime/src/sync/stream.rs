//! Items one after the other, each of which may have to be waited for.
//!
//! A stream is polled where it is, without a future in between: whatever it has begun is in the stream, not in the wait. So a wait
//! that is dropped or cancelled loses no item, whatever the stream is made of, and the next one goes on where that stopped.
//!
//! Keeps true: cancellation is seen by the source before it takes anything; an end is for good; nothing is allocated for an item but
//! what holds several of them ([`Stream::chunks`]).

mod buffered;
mod combine;
mod sources;

pub use buffered::Buffered;
pub use combine::{Chunks, Filter, Map, Merge, Take};
pub use sources::{Interval, Iter, Missed, from_iter, interval};

use crate::cancel::Cancelled;
use std::future::poll_fn;
use std::task::{Context, Poll};

/// What a poll of a stream gives: an item, or none at the end.
pub type Next<T> = Poll<Result<Option<T>, Cancelled>>;

/// See the module.
pub trait Stream {
    /// What it gives.
    type Item;

    /// The next item, if it is there; else the task is woken when it may be.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Next<Self::Item>;

    /// Waits for the next item; none at the end: `while let Some(item) = items.next().await? { … }`.
    ///
    /// # Errors
    /// It was cancelled; no item is lost by that.
    fn next(&mut self) -> impl Future<Output = Result<Option<Self::Item>, Cancelled>> {
        poll_fn(|cx| self.poll_next(cx))
    }

    /// What `map` makes of each item.
    fn map<T, F: FnMut(Self::Item) -> T>(self, map: F) -> Map<Self, F>
    where
        Self: Sized,
    {
        Map::new(self, map)
    }

    /// The items of which `keep` says so.
    fn filter<F: FnMut(&Self::Item) -> bool>(self, keep: F) -> Filter<Self, F>
    where
        Self: Sized,
    {
        Filter::new(self, keep)
    }

    /// The results of items that are futures, up to `count` of them under way at once, in the order of the items.
    ///
    /// # Panics
    /// When `count` is 0.
    fn buffered(self, count: usize) -> Buffered<Self>
    where
        Self: Sized,
        Self::Item: Future,
    {
        Buffered::new(self, count)
    }

    /// The items of two streams, as they come; when both have some, in turns.
    fn merge<S: Stream<Item = Self::Item>>(self, other: S) -> Merge<Self, S>
    where
        Self: Sized,
    {
        Merge::new(self, other)
    }

    /// The first `count` items; what comes after them is left in the source.
    fn take(self, count: usize) -> Take<Self>
    where
        Self: Sized,
    {
        Take::new(self, count)
    }

    /// `count` items at a time; the last ones may be fewer.
    ///
    /// # Panics
    /// When `count` is 0.
    fn chunks(self, count: usize) -> Chunks<Self>
    where
        Self: Sized,
    {
        Chunks::new(self, count)
    }
}

impl<S: Stream> Stream for &mut S {
    type Item = S::Item;

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Next<S::Item> {
        (**self).poll_next(cx)
    }
}

#[cfg(test)]
mod tests;
