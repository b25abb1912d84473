//! Several futures of a stream at once, their results in its order.

use super::{Next, Stream};
use crate::cancel::{Cancelled, poll_cancelled};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// One under way. The place stays where it is, and is used for one future after the other.
struct Place<F: Future> {
    future: Pin<Box<Option<F>>>,
    result: Option<F::Output>,
}

/// See [`Stream::buffered`]. Each of its places is allocated once. All futures that are under way are polled whenever one of them is
/// woken, so this is for a few.
pub struct Buffered<S: Stream>
where
    S::Item: Future,
{
    source: Option<S>,
    count: usize,
    /// A ring: the oldest is at `first`.
    places: Vec<Place<S::Item>>,
    first: usize,
    /// How many places, from the oldest, are in use.
    used: usize,
}

impl<S: Stream> Buffered<S>
where
    S::Item: Future,
{
    pub(super) fn new(source: S, count: usize) -> Self {
        assert!(count > 0, "without a place no future would ever run");
        Self { source: Some(source), count, places: Vec::new(), first: 0, used: 0 }
    }

    /// Puts futures into the places that are free. What the source says when it is cancelled is said again when it is asked again.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<(), Cancelled> {
        while self.used < self.count
            && let Some(source) = &mut self.source
            && let Poll::Ready(item) = source.poll_next(cx)
        {
            match item? {
                Some(future) => self.put(future),
                None => self.source = None,
            }
        }
        Ok(())
    }

    fn put(&mut self, future: S::Item) {
        if self.places.len() < self.count && self.used == self.places.len() {
            // The ring grows only while it is not turned: it has not been full.
            self.places.rotate_left(self.first);
            self.first = 0;
            self.places.push(Place { future: Box::pin(Some(future)), result: None });
        } else {
            let place = (self.first + self.used) % self.places.len();
            self.places[place].future.set(Some(future));
        }
        self.used += 1;
    }
}

impl<S: Stream> Stream for Buffered<S>
where
    S::Item: Future,
{
    type Item = <S::Item as Future>::Output;

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Next<Self::Item> {
        // What is under way sees for itself that it is cancelled, and can come to its end; nothing new is begun.
        let filled = match poll_cancelled() {
            Poll::Ready(cancelled) => Err(cancelled),
            Poll::Pending => self.fill(cx),
        };
        for turn in 0..self.used {
            let number = (self.first + turn) % self.places.len();
            let place = &mut self.places[number];
            if let Some(future) = place.future.as_mut().as_pin_mut()
                && let Poll::Ready(result) = future.poll(cx)
            {
                place.result = Some(result);
                place.future.set(None);
            }
        }
        filled?;
        if self.used == 0 {
            return if self.source.is_none() { Poll::Ready(Ok(None)) } else { Poll::Pending };
        }
        let Some(result) = self.places[self.first].result.take() else { return Poll::Pending };
        self.first = (self.first + 1) % self.places.len();
        self.used -= 1;
        Poll::Ready(Ok(Some(result)))
    }
}

impl<S: Stream> fmt::Debug for Buffered<S>
where
    S::Item: Future,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffered").field("count", &self.count).field("used", &self.used).finish()
    }
}
