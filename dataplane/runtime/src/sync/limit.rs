//! So many calls in a span of time, and so many at once.
//!
//! A bucket holds up to `burst` tokens and is full at the beginning. It fills evenly, `count` tokens in `span`; a call takes some, and
//! waits while there are too few.
//!
//! Keeps true: in any time `t` at most `burst + count × t ÷ span` tokens are taken, without a rounding error that adds up; who waits
//! is served in the order in which it came; one that is dropped or cancelled has taken nothing.

use super::mutex::Mutex;
use crate::cancel::{Cancelled, check};
use crate::trace::Site;
use crate::{Instant, Tasks};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Why there are no tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Who waits was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// Not now.
    #[error("the limit is reached: there are enough tokens in {0:?}")]
    Busy(Duration),
    /// It would wait for ever.
    #[error("{asked} tokens are more than the bucket holds, {burst}: ask for fewer at a time")]
    TooMany {
        /// Tokens that were asked for.
        asked: u32,
        /// What the bucket holds.
        burst: u32,
    },
}

impl From<Cancelled> for LimitError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

/// See the module.
#[derive(Debug)]
pub struct Limit {
    tasks: Rc<Tasks>,
    /// A token is worth this many units of time, of which a nanosecond has `count`: so no division is ever needed to fill.
    span: u128,
    count: u128,
    burst: u32,
    /// When the bucket is full again, in units.
    full: Cell<u128>,
    line: Mutex<()>,
}

impl Limit {
    /// `count` tokens in each `span`, up to `burst` at once.
    ///
    /// # Panics
    /// When one of them is zero.
    #[must_use]
    pub fn new(tasks: &Rc<Tasks>, count: u32, span: Duration, burst: u32) -> Self {
        assert!(
            count > 0 && span > Duration::ZERO && burst > 0,
            "a limit of nothing would let nothing through"
        );
        Self {
            tasks: tasks.clone(),
            // 2⁶⁴ ns are 584 years.
            span: span.as_nanos().min(u64::MAX.into()),
            count: count.into(),
            burst,
            full: Cell::new(0),
            line: Mutex::new(()),
        }
    }

    /// When there are so many tokens, if nobody takes any before.
    fn due(&self, tokens: u32) -> Instant {
        let missing = (self.full.get() + u128::from(tokens) * self.span)
            .saturating_sub(u128::from(self.burst) * self.span);
        Instant::from_nanos(u64::try_from(missing.div_ceil(self.count)).unwrap_or(u64::MAX))
    }

    fn take(&self, tokens: u32) {
        let now = u128::from(self.tasks.now().as_nanos()) * self.count;
        self.full.set(self.full.get().max(now) + u128::from(tokens) * self.span);
    }

    fn allow(&self, tokens: u32) -> Result<(), LimitError> {
        let burst = self.burst;
        if tokens > burst { Err(LimitError::TooMany { asked: tokens, burst }) } else { Ok(()) }
    }

    /// Takes so many tokens, when they are there and after those who waited before.
    ///
    /// # Errors
    /// It was cancelled, and took none; more than the bucket holds.
    #[track_caller]
    pub fn acquire(&self, tokens: u32) -> impl Future<Output = Result<(), LimitError>> {
        Site::here("tokens of a rate").around(async move {
            check()?;
            self.allow(tokens)?;
            let turn = self.line.lock().await?;
            let due = self.due(tokens);
            if due > self.tasks.now() {
                self.tasks.sleep_until(due).await?;
                // A sleep that is over says so to who is cancelled, too.
                check()?;
            }
            self.take(tokens);
            drop(turn);
            Ok(())
        })
    }

    /// Takes so many tokens, if they are there and nobody waits.
    ///
    /// # Errors
    /// They are not; more than the bucket holds.
    pub fn try_acquire(&self, tokens: u32) -> Result<(), LimitError> {
        self.allow(tokens)?;
        let wait = self.due(tokens).since(self.tasks.now());
        // Dropped at the end: there is no await in which somebody could come.
        let turn = self.line.try_lock();
        if turn.is_none() || wait > Duration::ZERO {
            return Err(LimitError::Busy(wait));
        }
        self.take(tokens);
        Ok(())
    }

    /// Takes a token, then calls.
    ///
    /// # Errors
    /// It was cancelled before it was called.
    pub async fn call<T>(&self, call: impl AsyncFnOnce() -> T) -> Result<T, LimitError> {
        self.acquire(1).await?;
        Ok(call().await)
    }
}

#[cfg(test)]
mod tests;
