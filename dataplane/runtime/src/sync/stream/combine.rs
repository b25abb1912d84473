//! Streams made of streams.

use super::{Next, Stream};
use std::mem;
use std::task::{Context, Poll, ready};

/// See [`Stream::map`].
#[derive(Clone, Debug)]
pub struct Map<S, F> {
    source: S,
    map: F,
}

impl<S, F> Map<S, F> {
    pub(super) fn new(source: S, map: F) -> Self {
        Self { source, map }
    }
}

impl<S: Stream, T, F: FnMut(S::Item) -> T> Stream for Map<S, F> {
    type Item = T;

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Next<T> {
        self.source.poll_next(cx).map(|item| Ok(item?.map(&mut self.map)))
    }
}

/// See [`Stream::filter`].
#[derive(Clone, Debug)]
pub struct Filter<S, F> {
    source: S,
    keep: F,
}

impl<S, F> Filter<S, F> {
    pub(super) fn new(source: S, keep: F) -> Self {
        Self { source, keep }
    }
}

impl<S: Stream, F: FnMut(&S::Item) -> bool> Stream for Filter<S, F> {
    type Item = S::Item;

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Next<S::Item> {
        loop {
            let item = ready!(self.source.poll_next(cx))?;
            if item.as_ref().is_none_or(&mut self.keep) {
                return Poll::Ready(Ok(item));
            }
        }
    }
}

/// See [`Stream::take`].
#[derive(Clone, Debug)]
pub struct Take<S> {
    source: S,
    left: usize,
}

impl<S> Take<S> {
    pub(super) fn new(source: S, left: usize) -> Self {
        Self { source, left }
    }
}

impl<S: Stream> Stream for Take<S> {
    type Item = S::Item;

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Next<S::Item> {
        if self.left == 0 {
            return Poll::Ready(Ok(None));
        }
        let item = ready!(self.source.poll_next(cx))?;
        self.left = if item.is_some() { self.left - 1 } else { 0 };
        Poll::Ready(Ok(item))
    }
}

/// See [`Stream::chunks`].
#[derive(Clone, Debug)]
pub struct Chunks<S: Stream> {
    source: S,
    count: usize,
    items: Vec<S::Item>,
    ended: bool,
}

impl<S: Stream> Chunks<S> {
    pub(super) fn new(source: S, count: usize) -> Self {
        assert!(count > 0, "chunks of nothing would never end");
        Self { source, count, items: Vec::new(), ended: false }
    }
}

impl<S: Stream> Stream for Chunks<S> {
    type Item = Vec<S::Item>;

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Next<Vec<S::Item>> {
        while !self.ended && self.items.len() < self.count {
            // What has come stays here when this is cancelled or waits.
            match ready!(self.source.poll_next(cx))? {
                Some(item) => self.items.push(item),
                None => self.ended = true,
            }
        }
        let items = mem::take(&mut self.items);
        Poll::Ready(Ok(Some(items).filter(|items| !items.is_empty())))
    }
}

/// See [`Stream::merge`].
#[derive(Clone, Debug)]
pub struct Merge<A, B> {
    first: Option<A>,
    second: Option<B>,
    /// Whose turn it is: who gave the last item is asked last.
    second_begins: bool,
}

impl<A, B> Merge<A, B> {
    pub(super) fn new(first: A, second: B) -> Self {
        Self { first: Some(first), second: Some(second), second_begins: false }
    }
}

/// Polls a stream until its end; pending as long as there may be more, and none when there is not.
fn poll<S: Stream>(source: &mut Option<S>, cx: &mut Context<'_>) -> Next<S::Item> {
    let Some(stream) = source else { return Poll::Ready(Ok(None)) };
    let item = ready!(stream.poll_next(cx))?;
    if item.is_none() {
        *source = None;
    }
    Poll::Ready(Ok(item))
}

impl<A: Stream, B: Stream<Item = A::Item>> Stream for Merge<A, B> {
    type Item = A::Item;

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Next<A::Item> {
        let mut pending = false;
        for second in [self.second_begins, !self.second_begins] {
            let next = if second { poll(&mut self.second, cx) } else { poll(&mut self.first, cx) };
            match next {
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(item) => {
                    self.second_begins = !second;
                    return Poll::Ready(item);
                }
                Poll::Pending => pending = true,
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(Ok(None)) }
    }
}
