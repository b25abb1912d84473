//! A place where so many tasks wait for each other, again and again.
//!
//! Keeps true: of each round exactly one is the leader, the one who came last; who leaves before its round is full does not count
//! for it; a round that was full has happened, also for who is cancelled before it sees that.

use super::{Wait, Waiters};
use crate::cancel::{Cancelled, poll_cancelled};
use crate::trace::Site;
use std::cell::Cell;
use std::task::Poll;

/// See the module.
#[derive(Debug)]
pub struct Barrier {
    size: usize,
    arrived: Cell<usize>,
    round: Cell<u64>,
    line: Waiters,
}

impl Barrier {
    /// For so many tasks.
    ///
    /// # Panics
    /// When that is none.
    #[must_use]
    pub fn new(size: usize) -> Self {
        assert!(size > 0, "nobody would ever come to a barrier for no task");
        Self { size, arrived: Cell::new(0), round: Cell::new(0), line: Waiters::new() }
    }

    /// Waits until all have come. True for one of them, the leader.
    ///
    /// # Errors
    /// It was cancelled; the others wait for another one, if they still wait.
    #[track_caller]
    pub fn wait(&self) -> impl Future<Output = Result<bool, Cancelled>> {
        let site = Site::here("others at a barrier");
        async move {
            let mut place: Option<Place<'_>> = None;
            site.poll_fn(|cx| {
                if let Poll::Ready(cancelled) = poll_cancelled() {
                    return Poll::Ready(Err(cancelled));
                }
                let Some(place) = &mut place else {
                    let arrived = self.arrived.get() + 1;
                    if arrived == self.size {
                        self.arrived.set(0);
                        self.round.set(self.round.get().wrapping_add(1));
                        self.line.tell_all();
                        return Poll::Ready(Ok(true));
                    }
                    self.arrived.set(arrived);
                    let wait = Wait::new(&self.line);
                    let _waits =
                        place.insert(Place { barrier: self, round: self.round.get(), wait }).wait.poll(cx);
                    return Poll::Pending;
                };
                // What it was told may have been passed on by one of the round before.
                place.wait.take();
                if place.round != self.round.get() {
                    return Poll::Ready(Ok(false));
                }
                // Not told: it was just asked.
                let _waits = place.wait.poll(cx);
                Poll::Pending
            })
            .await
        }
    }

    /// How many a round is for.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// How many have come to this round.
    #[must_use]
    pub fn arrived(&self) -> usize {
        self.arrived.get()
    }
}

/// One who has come to a round.
struct Place<'a> {
    barrier: &'a Barrier,
    round: u64,
    wait: Wait<'a>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.round == self.barrier.round.get() {
            self.barrier.arrived.set(self.barrier.arrived.get() - 1);
        }
    }
}

#[cfg(test)]
mod tests;
