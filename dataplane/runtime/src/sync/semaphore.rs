//! So many at a time: permits that are taken, several at once if need be, and that give themselves back.
//!
//! Keeps true: the permits that are free, those that are held, and those of waiters that have been told are all there are; a
//! waiter gets all that it wants at once, and nobody who came later gets one before it, however few that one wants. So a
//! large wish is never starved, and permits may be idle while it waits.

use super::{Wait, Waiters};
use crate::cancel::{Cancelled, poll_cancelled};
use crate::trace::Site;
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::task::Poll;

struct State {
    total: u32,
    /// Below zero only between [`Semaphore::close`] and the next polls of those it sent away: each was told as if it got what it
    /// wants, and gives that back.
    free: Cell<i64>,
    closed: Cell<bool>,
    line: Waiters,
}

impl State {
    /// Takes so many, if nobody waits and they are free.
    fn take(&self, permits: u32) -> bool {
        let enough = self.line.is_empty() && i64::from(permits) <= self.free.get();
        if enough {
            self.charge(permits);
        }
        enough
    }

    fn charge(&self, permits: u32) {
        self.free.set(self.free.get() - i64::from(permits));
    }

    fn give(&self, permits: u32) {
        self.free.set(self.free.get() + i64::from(permits));
        self.hand_out();
    }

    /// Gives what is free to those who wait, as long as it is enough for the first of them.
    fn hand_out(&self) {
        while let Some(wants) = self.line.first_wants()
            && i64::from(wants) <= self.free.get()
        {
            self.charge(wants);
            self.line.tell_one();
        }
    }
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcquireError {
    /// Who waits was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// Nobody gets a permit any more.
    #[error("the semaphore is closed")]
    Closed,
    /// Not now.
    #[error("{asked} permits are not to be had without waiting: {free} are free")]
    Busy {
        /// Permits that were asked for.
        asked: u32,
        /// Permits that nobody holds; others may wait for them.
        free: u32,
    },
    /// It would wait for ever.
    #[error("{asked} permits are more than the semaphore has, {total}: ask for fewer")]
    TooMany {
        /// Permits that were asked for.
        asked: u32,
        /// All that there are.
        total: u32,
    },
}

impl From<Cancelled> for AcquireError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

/// See the module. A clone is the same semaphore.
#[derive(Clone)]
pub struct Semaphore {
    state: Rc<State>,
}

impl Semaphore {
    /// All permits are free.
    #[must_use]
    pub fn new(permits: u32) -> Self {
        let state = State {
            total: permits,
            free: Cell::new(permits.into()),
            closed: Cell::new(false),
            line: Waiters::new(),
        };
        Self { state: Rc::new(state) }
    }

    /// So many permits at once, after those who waited before.
    ///
    /// # Errors
    /// It was cancelled; the semaphore is or was closed; more than there ever are.
    #[track_caller]
    pub fn acquire(&self, permits: u32) -> impl Future<Output = Result<Permit, AcquireError>> {
        let site = Site::here("permits");
        async move {
            let state = &*self.state;
            let mut place = Place { state, wants: permits, wait: Wait::wanting(&state.line, permits) };
            site.poll_fn(|cx| {
                if let Poll::Ready(Cancelled) = poll_cancelled() {
                    return Poll::Ready(Err(AcquireError::Cancelled));
                }
                if let Err(error) = self.allow(permits) {
                    return Poll::Ready(Err(error));
                }
                if place.wait.take() || state.take(permits) || place.wait.poll(cx).is_ready() {
                    return Poll::Ready(Ok(Permit { semaphore: self.clone(), permits }));
                }
                Poll::Pending
            })
            .await
        }
    }

    /// So many permits, if they are free and nobody waits.
    ///
    /// # Errors
    /// They are not; the semaphore is closed; more than there ever are.
    pub fn try_acquire(&self, permits: u32) -> Result<Permit, AcquireError> {
        self.allow(permits)?;
        if self.state.take(permits) {
            Ok(Permit { semaphore: self.clone(), permits })
        } else {
            Err(AcquireError::Busy { asked: permits, free: self.free() })
        }
    }

    fn allow(&self, permits: u32) -> Result<(), AcquireError> {
        let total = self.state.total;
        if self.state.closed.get() {
            Err(AcquireError::Closed)
        } else if permits > total {
            Err(AcquireError::TooMany { asked: permits, total })
        } else {
            Ok(())
        }
    }

    /// Permits that nobody holds or has been promised.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.state.free.get().max(0) as u32
    }

    /// Sends away who waits, and who comes. Permits that are held stay so until they are given back.
    pub fn close(&self) {
        self.state.closed.set(true);
        while let Some(wants) = self.state.line.first_wants() {
            self.state.charge(wants);
            self.state.line.tell_one();
        }
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state.closed.get()
    }
}

/// One who waits, for so many.
struct Place<'a> {
    state: &'a State,
    wants: u32,
    wait: Wait<'a>,
}

impl Drop for Place<'_> {
    /// What it was told is for several, or only for a part of what the next one wants.
    fn drop(&mut self) {
        if self.wait.take() {
            self.state.give(self.wants);
        } else {
            self.wait.leave();
            // What was too little for this one may be enough for the next.
            self.state.hand_out();
        }
    }
}

/// Permits that are held. Dropped, they are given back.
#[must_use = "permits that are dropped are given back"]
pub struct Permit {
    semaphore: Semaphore,
    permits: u32,
}

impl Permit {
    /// How many.
    #[must_use]
    pub fn permits(&self) -> u32 {
        self.permits
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.semaphore.state.give(self.permits);
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("total", &self.state.total)
            .field("free", &self.free())
            .field("closed", &self.is_closed())
            .field("line", &self.state.line)
            .finish()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.permits).finish()
    }
}

#[cfg(test)]
mod tests;
