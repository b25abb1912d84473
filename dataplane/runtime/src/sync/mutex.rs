//! A value that one task at a time uses, also while it waits for something.
//!
//! What is used without waiting in between needs none: a `RefCell` does, on one thread.
//!
//! Keeps true: a value that is let go is promised to whoever has waited longest before anybody else can have it. A task that
//! panics, or is aborted, lets go of it; what state it left the value in is not known to this.

use super::{Wait, Waiters};
use crate::cancel::{Cancelled, poll_cancelled};
use crate::trace::Site;
use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll};

/// See the module.
pub struct Mutex<T> {
    value: RefCell<T>,
    lock: Lock,
}

/// Whose turn it is.
struct Lock {
    held: Cell<bool>,
    line: Waiters,
}

impl Lock {
    /// Takes it, if nobody has it or has been promised it.
    fn take(&self) -> bool {
        let free = !self.held.get() && self.line.told() == 0 && self.line.is_empty();
        free && !self.held.replace(true)
    }
}

/// It is held. Dropped, it is let go.
struct Held<'a>(&'a Lock);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.set(false);
        self.0.line.tell_one();
    }
}

/// The value, until this is dropped.
#[must_use = "what is dropped at once protects nothing"]
pub struct Guard<'a, T> {
    // First: the value is let go before the lock is.
    value: RefMut<'a, T>,
    _held: Held<'a>,
    mutex: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    /// Nobody holds it.
    #[must_use]
    pub fn new(value: T) -> Self {
        let lock = Lock { held: Cell::new(false), line: Waiters::new() };
        Self { value: RefCell::new(value), lock }
    }

    /// Waits for the value, after those who waited before. Who holds it already waits for ever.
    ///
    /// # Errors
    /// It was cancelled.
    #[track_caller]
    pub fn lock(&self) -> impl Future<Output = Result<Guard<'_, T>, Cancelled>> {
        let mut turn = Turn::new(self);
        Site::here("a mutex").poll_fn(move |cx| turn.poll(cx))
    }

    /// The value, if nobody holds it or waits for it.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        self.lock.take().then(|| self.guard())
    }

    /// Whether somebody holds it.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.lock.held.get()
    }

    /// The value, which nobody else can have now.
    pub fn value_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// The value, for good.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// The lock was just taken.
    fn guard(&self) -> Guard<'_, T> {
        Guard { _held: Held(&self.lock), value: self.value.borrow_mut(), mutex: self }
    }
}

/// One who waits for the value.
pub(super) struct Turn<'a, T> {
    mutex: &'a Mutex<T>,
    wait: Wait<'a>,
}

impl<'a, T> Turn<'a, T> {
    pub(super) fn new(mutex: &'a Mutex<T>) -> Self {
        Self { mutex, wait: Wait::new(&mutex.lock.line) }
    }

    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<Guard<'a, T>, Cancelled>> {
        if let Poll::Ready(cancelled) = poll_cancelled() {
            return Poll::Ready(Err(cancelled));
        }
        let lock = &self.mutex.lock;
        if self.wait.take() {
            lock.held.set(true);
        } else if !lock.take() {
            // It was not told, so it waits.
            let _waits = self.wait.poll(cx);
            return Poll::Pending;
        }
        Poll::Ready(Ok(self.mutex.guard()))
    }
}

impl<'a, T> Guard<'a, T> {
    /// Whose value it is.
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("value", &self.value).field("line", &self.lock.line).finish()
    }
}

impl<T: fmt::Debug> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guard").field(&*self.value).finish()
    }
}

#[cfg(test)]
mod tests;
