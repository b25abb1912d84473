//! A value that is made once, by whoever needs it first; the others wait for it.
//!
//! Keeps true: one initialiser runs at a time; one that fails, panics, is cancelled or dropped leaves its place to whoever has
//! waited longest, who tries its own; the value, once there, never changes.

use super::{Wait, Waiters};
use crate::cancel::{Cancelled, poll_cancelled};
use crate::trace::Site;
use std::cell::{self, Cell};
use std::convert::Infallible;
use std::fmt;
use std::task::Poll;

/// See the module.
pub struct OnceCell<T> {
    value: cell::OnceCell<T>,
    /// Whether an initialiser runs.
    busy: Cell<bool>,
    line: Waiters,
}

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OnceError<E> {
    /// Who waits was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The initialiser of the one who gets this failed.
    #[error("it could not be made: {0}")]
    Failed(E),
}

/// The right to make the value. Dropped, it goes to the next; or, when there is a value, all learn of it.
struct Making<'a, T>(&'a OnceCell<T>);

impl<T> Drop for Making<'_, T> {
    fn drop(&mut self) {
        self.0.busy.set(false);
        if self.0.value.get().is_some() {
            self.0.line.tell_all();
        } else {
            self.0.line.tell_one();
        }
    }
}

impl<T> Default for OnceCell<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> OnceCell<T> {
    /// No value.
    #[must_use]
    pub fn new() -> Self {
        Self { value: cell::OnceCell::new(), busy: Cell::new(false), line: Waiters::new() }
    }

    /// The value, if it has been made.
    #[must_use]
    pub fn value(&self) -> Option<&T> {
        self.value.get()
    }

    /// The value, for good, if it has been made.
    #[must_use]
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    /// Puts a value there.
    ///
    /// # Errors
    /// There is one already, or one is being made; this one comes back.
    pub fn set(&self, value: T) -> Result<(), T> {
        if self.busy.get() {
            return Err(value);
        }
        self.value.set(value)?;
        self.line.tell_all();
        Ok(())
    }

    /// The value; `make` makes it if nobody has. An initialiser that wants the same value waits for ever.
    ///
    /// # Errors
    /// It was cancelled while it waited. When it is cancelled while it makes the value, that is for `make` to see.
    #[track_caller]
    pub fn value_or_init(
        &self,
        make: impl AsyncFnOnce() -> T,
    ) -> impl Future<Output = Result<&T, Cancelled>> {
        let made = self.value_or_try_init(async || Ok::<T, Infallible>(make().await));
        async move {
            match made.await {
                Ok(value) => Ok(value),
                Err(OnceError::Cancelled) => Err(Cancelled),
                Err(OnceError::Failed(never)) => match never {},
            }
        }
    }

    /// The value; `make` makes it if nobody has.
    ///
    /// # Errors
    /// It was cancelled while it waited, or `make` failed.
    #[track_caller]
    pub fn value_or_try_init<E>(
        &self,
        make: impl AsyncFnOnce() -> Result<T, E>,
    ) -> impl Future<Output = Result<&T, OnceError<E>>> {
        let site = Site::here("who makes a value");
        async move {
            let making = {
                let mut wait = Wait::new(&self.line);
                site.poll_fn(|cx| {
                    if let Poll::Ready(Cancelled) = poll_cancelled() {
                        return Poll::Ready(Err(OnceError::Cancelled));
                    }
                    if let Some(value) = self.value.get() {
                        return Poll::Ready(Ok(Err(value)));
                    }
                    let free = !self.busy.get() && self.line.told() == 0 && self.line.is_empty();
                    if wait.take() || free || wait.poll(cx).is_ready() {
                        self.busy.set(true);
                        return Poll::Ready(Ok(Ok(Making(self))));
                    }
                    Poll::Pending
                })
                .await?
            };
            let making = match making {
                Ok(making) => making,
                Err(value) => return Ok(value),
            };
            let value = make().await.map_err(OnceError::Failed)?;
            let value = self.value.get_or_init(|| value);
            drop(making);
            Ok(value)
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceCell").field("value", &self.value.get()).field("busy", &self.busy).finish()
    }
}

#[cfg(test)]
mod tests;
