//! Calls to something that may be down: after some failures in a row it is left alone for a time, then tried with one call.
//!
//! ```text
//!            n failures in a row              the time is over: one probe
//!   closed ──────────────────────▶ open ─────────────────────────────────▶ half open
//!      ▲                            ▲              the probe fails             │  │
//!      │                            └─────────────────────────────────────────┘  │
//!      └─────────────────────────────────── the probe succeeds ──────────────────┘
//! ```
//!
//! Keeps true: half open, one call is under way at most; one that is dropped, panics, or fails because it is cancelled says nothing
//! about what it called, and leaves the probe to the next. What a call says that began before the state changed is not counted.

use crate::cancel::{Cancelled, check, is_cancelled};
use crate::{Instant, Tasks};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Why a call has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BreakerError<E> {
    /// It was cancelled before it was called.
    #[error("cancelled")]
    Cancelled,
    /// It was not called: it has failed too often.
    #[error("not called: it failed too often, and is tried again in {0:?} at the earliest")]
    Open(Duration),
    /// It was called, and failed.
    #[error("{0}")]
    Failed(E),
}

impl<E> From<Cancelled> for BreakerError<E> {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

/// Whether calls go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// They do; so many have failed since the last that did not.
    Closed {
        /// Failures in a row.
        failures: u32,
    },
    /// They do not, until then.
    Open {
        /// When one may be tried.
        until: Instant,
    },
    /// One is tried.
    HalfOpen {
        /// Whether it is under way.
        probed: bool,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Breaker {
    tasks: Rc<Tasks>,
    failures: u32,
    pause: Duration,
    state: Cell<BreakerState>,
    /// Counts changes between closed and open: what a call knows that began before is old.
    period: Cell<u64>,
}

/// The one call that is tried. Dropped without a verdict, it leaves that to another.
struct Probe<'a>(&'a Breaker);

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if self.0.state.get() == (BreakerState::HalfOpen { probed: true }) {
            self.0.state.set(BreakerState::HalfOpen { probed: false });
        }
    }
}

impl Breaker {
    /// Closed. It opens for `pause` after `failures` in a row.
    ///
    /// # Panics
    /// When that is none.
    #[must_use]
    pub fn new(tasks: &Rc<Tasks>, failures: u32, pause: Duration) -> Self {
        assert!(failures > 0, "a breaker that opens after no failure would never close");
        let state = Cell::new(BreakerState::Closed { failures: 0 });
        Self { tasks: tasks.clone(), failures, pause, state, period: Cell::new(0) }
    }

    /// Whether calls go through now.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        match self.state.get() {
            BreakerState::Open { until } if until <= self.tasks.now() => {
                BreakerState::HalfOpen { probed: false }
            }
            state => state,
        }
    }

    /// Calls, if that is not to be left alone.
    ///
    /// # Errors
    /// It was cancelled before; it is to be left alone; it failed.
    pub async fn call<T, E>(&self, call: impl AsyncFnOnce() -> Result<T, E>) -> Result<T, BreakerError<E>> {
        check()?;
        let probe = match self.state() {
            BreakerState::Closed { .. } => None,
            BreakerState::Open { until } => return Err(BreakerError::Open(until.since(self.tasks.now()))),
            BreakerState::HalfOpen { probed: true } => return Err(BreakerError::Open(Duration::ZERO)),
            BreakerState::HalfOpen { probed: false } => {
                self.state.set(BreakerState::HalfOpen { probed: true });
                Some(Probe(self))
            }
        };
        let period = self.period.get();
        let result = call().await;
        let current = period == self.period.get();
        match &result {
            Ok(_) if current => self.succeeded(),
            Err(_) if current && !is_cancelled() => self.failed(),
            _ => {}
        }
        drop(probe);
        result.map_err(BreakerError::Failed)
    }

    fn succeeded(&self) {
        if !matches!(self.state.replace(BreakerState::Closed { failures: 0 }), BreakerState::Closed { .. }) {
            self.period.set(self.period.get() + 1);
        }
    }

    fn failed(&self) {
        match self.state.get() {
            BreakerState::Closed { failures } if failures + 1 < self.failures => {
                self.state.set(BreakerState::Closed { failures: failures + 1 });
            }
            _ => {
                self.state.set(BreakerState::Open { until: self.tasks.now() + self.pause });
                self.period.set(self.period.get() + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests;
