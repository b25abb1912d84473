//! Things that are dear to make and are used by one at a time: connections, open files.
//!
//! Keeps true: those that are lent, idle, being tested or opened are together the limit at most; who waits is served in the order in which it came; one that is lent was healthy when it was
//! handed out; what fails its test, or is under test when that is dropped, is dropped too.
//!
//! The one that was used last is lent first, so those that are not needed expire. That is looked at whenever one is taken or comes
//! back; where neither happens for long, a task calls [`Pool::expire`] now and then.

use super::semaphore::{AcquireError, Permit, Semaphore};
use crate::cancel::{Cancelled, check};
use crate::combine::timeout;
use crate::trace::Site;
use crate::{Instant, Tasks};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Duration;

/// How a pool's things are made and tested.
pub trait Factory {
    /// What is lent.
    type Item;
    /// Why one cannot be made.
    type Error;

    /// Makes one.
    fn open(&self) -> impl Future<Output = Result<Self::Item, Self::Error>>;

    /// Whether an idle one can still be used.
    fn is_healthy(&self, item: &mut Self::Item) -> impl Future<Output = bool>;
}

/// A pool's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// How many there are at a time; 1 at least.
    pub items: u32,
    /// How long one is kept that nobody uses.
    pub idle: Duration,
    /// How long a checkout may take, waiting, testing and opening included.
    pub wait: Duration,
}

/// Why nothing is lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError<E> {
    /// Who waits was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The pool is closed.
    #[error("the pool is closed")]
    Closed,
    /// It took too long.
    #[error(
        "none of the pool's {items} was to be had within {wait:?}: allow more, or hold them for less time"
    )]
    TimedOut {
        /// The limit.
        items: u32,
        /// How long it waited.
        wait: Duration,
    },
    /// A new one could not be made.
    #[error("a new one could not be opened: {0}")]
    Open(E),
}

impl<E> From<Cancelled> for PoolError<E> {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

struct Idle<T> {
    item: T,
    since: Instant,
}

struct State<F: Factory> {
    tasks: Rc<Tasks>,
    factory: F,
    limits: PoolLimits,
    permits: Semaphore,
    /// The one that came back last is last.
    idle: RefCell<VecDeque<Idle<F::Item>>>,
}

impl<F: Factory> State<F> {
    /// Drops those that have been idle for too long.
    fn expire(&self) -> usize {
        let now = self.tasks.now();
        let mut expired = 0;
        loop {
            let oldest = {
                let mut idle = self.idle.borrow_mut();
                let old = idle.front().is_some_and(|oldest| now.since(oldest.since) >= self.limits.idle);
                if old { idle.pop_front() } else { None }
            };
            // Dropped here: that may run anybody's code.
            let Some(oldest) = oldest else { return expired };
            drop(oldest);
            expired += 1;
        }
    }

    async fn ready(&self) -> Result<F::Item, PoolError<F::Error>> {
        self.expire();
        loop {
            let last = self.idle.borrow_mut().pop_back();
            let Some(Idle { mut item, .. }) = last else { break };
            if self.factory.is_healthy(&mut item).await {
                return Ok(item);
            }
            check()?;
        }
        self.factory.open().await.map_err(PoolError::Open)
    }
}

/// See the module. A clone is the same pool.
pub struct Pool<F: Factory> {
    state: Rc<State<F>>,
}

impl<F: Factory> Pool<F> {
    /// With nothing in it.
    ///
    /// # Panics
    /// When the limit is 0.
    #[must_use]
    pub fn new(tasks: &Rc<Tasks>, factory: F, limits: PoolLimits) -> Self {
        assert!(limits.items > 0, "a pool of nothing would never lend anything");
        let permits = Semaphore::new(limits.items);
        let idle = RefCell::default();
        Self { state: Rc::new(State { tasks: tasks.clone(), factory, limits, permits, idle }) }
    }

    /// An idle one that is healthy, or a new one, after those who waited before.
    ///
    /// # Errors
    /// It was cancelled, or it took too long, or the pool is closed, or a new one cannot be made.
    #[track_caller]
    pub fn checkout(&self) -> impl Future<Output = Result<Lent<F>, PoolError<F::Error>>> {
        Site::here("an item of a pool").around(async move {
            let state = &self.state;
            let PoolLimits { items, wait, .. } = state.limits;
            let lent = timeout(&state.tasks, wait, async {
                let permit = state.permits.acquire(1).await.map_err(|error| match error {
                    AcquireError::Cancelled => PoolError::Cancelled,
                    // One is never more than there are, and it waits while none is free.
                    AcquireError::Closed | AcquireError::Busy { .. } | AcquireError::TooMany { .. } => {
                        PoolError::Closed
                    }
                })?;
                let item = state.ready().await?;
                Ok(Lent { item: Some(item), state: state.clone(), _permit: permit })
            });
            lent.await.unwrap_or(Err(PoolError::TimedOut { items, wait }))
        })
    }

    /// Drops those that have been idle for too long; how many.
    pub fn expire(&self) -> usize {
        self.state.expire()
    }

    /// How many are idle.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.state.idle.borrow().len()
    }

    /// How many are lent, or are being opened or tested.
    #[must_use]
    pub fn busy(&self) -> u32 {
        self.state.limits.items - self.state.permits.free()
    }

    /// Lends no more, and drops what is idle. What is lent is dropped when it comes back.
    pub fn close(&self) {
        self.state.permits.close();
        let idle = self.state.idle.take();
        drop(idle);
    }
}

impl<F: Factory> Clone for Pool<F> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone() }
    }
}

/// One that is lent. Dropped, it goes back.
#[must_use = "what is dropped goes back at once"]
pub struct Lent<F: Factory> {
    item: Option<F::Item>,
    state: Rc<State<F>>,
    // Last: the next one finds what has come back.
    _permit: Permit,
}

impl<F: Factory> Lent<F> {
    /// It is of no more use, and does not go back; its place is free again once this is dropped.
    pub fn discard(mut self) {
        drop(self.item.take());
    }
}

impl<F: Factory> Deref for Lent<F> {
    type Target = F::Item;

    fn deref(&self) -> &F::Item {
        self.item.as_ref().expect("it is only taken at the end")
    }
}

impl<F: Factory> DerefMut for Lent<F> {
    fn deref_mut(&mut self) -> &mut F::Item {
        self.item.as_mut().expect("it is only taken at the end")
    }
}

impl<F: Factory> Drop for Lent<F> {
    fn drop(&mut self) {
        let state = &self.state;
        if let Some(item) = self.item.take().filter(|_| !state.permits.is_closed()) {
            state.idle.borrow_mut().push_back(Idle { item, since: state.tasks.now() });
        }
        state.expire();
    }
}

impl<F: Factory> fmt::Debug for Pool<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("limits", &self.state.limits)
            .field("idle", &self.idle())
            .field("busy", &self.busy())
            .finish()
    }
}

impl<F: Factory<Item: fmt::Debug>> fmt::Debug for Lent<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lent").field(&self.item).finish()
    }
}

#[cfg(test)]
mod tests;
