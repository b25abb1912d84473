//! The latest value: who looks sees it, who waits learns that it has changed. Values in between may be passed over.
//!
//! Keeps true: after the last change, every receiver's [`Receiver::changed`] returns once more, unless the receiver has seen that
//! value; a wait that is dropped or cancelled has seen nothing.

use super::{Wait, Waiters};
use crate::cancel::{Cancelled, poll_cancelled};
use crate::trace::Site;
use std::cell::{Cell, Ref, RefCell};
use std::fmt;
use std::rc::Rc;
use std::task::Poll;

struct Channel<T> {
    value: RefCell<T>,
    version: Cell<u64>,
    senders: Cell<usize>,
    line: Waiters,
}

/// A value, and who is told of its changes. The receiver has seen this first one.
#[must_use]
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let channel = Rc::new(Channel {
        value: RefCell::new(value),
        version: Cell::new(0),
        senders: Cell::new(1),
        line: Waiters::new(),
    });
    (Sender { channel: channel.clone() }, Receiver { channel, seen: 0 })
}

/// Changes the value; there may be many.
pub struct Sender<T> {
    channel: Rc<Channel<T>>,
}

/// Sees the value; a clone has seen as much.
#[derive(Clone)]
pub struct Receiver<T> {
    channel: Rc<Channel<T>>,
    seen: u64,
}

impl<T> Sender<T> {
    /// Another value; the one before comes back.
    ///
    /// # Panics
    /// While somebody looks at the value, as [`Sender::modify`].
    pub fn send(&self, value: T) -> T {
        let before = self.channel.value.replace(value);
        self.channel.announce();
        before
    }

    /// Changes the value in place, and says so to all.
    ///
    /// # Panics
    /// While somebody looks at the value: what [`Sender::borrow`] or [`Receiver::borrow`] gave is not to be kept over an await.
    pub fn modify<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.channel.value.borrow_mut());
        self.channel.announce();
        result
    }

    /// Changes the value in place, and says so to all if `change` says that it did.
    ///
    /// # Panics
    /// While somebody looks at the value, as [`Sender::modify`].
    pub fn modify_if(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let changed = change(&mut self.channel.value.borrow_mut());
        if changed {
            self.channel.announce();
        }
        changed
    }

    /// The value.
    #[must_use]
    pub fn borrow(&self) -> Ref<'_, T> {
        self.channel.value.borrow()
    }

    /// A receiver that has seen the value of now.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver { seen: self.channel.version.get(), channel: self.channel.clone() }
    }
}

impl<T> Channel<T> {
    fn announce(&self) {
        self.version.set(self.version.get() + 1);
        self.line.tell_all();
    }
}

impl<T> Receiver<T> {
    /// Waits until there is a value that this has not seen, and counts it as seen: `while values.changed().await? { … }`.
    /// False when there is none and no sender is left.
    ///
    /// # Errors
    /// It was cancelled; what is new stays so.
    #[track_caller]
    pub fn changed(&mut self) -> impl Future<Output = Result<bool, Cancelled>> {
        let site = Site::here("a new value");
        async move {
            let Self { channel, seen } = self;
            let mut wait = Wait::new(&channel.line);
            site.poll_fn(|cx| {
                loop {
                    // What was told to all need not be passed on.
                    wait.take();
                    if let Poll::Ready(cancelled) = poll_cancelled() {
                        return Poll::Ready(Err(cancelled));
                    }
                    let version = channel.version.get();
                    if *seen != version {
                        *seen = version;
                        return Poll::Ready(Ok(true));
                    }
                    if channel.senders.get() == 0 {
                        return Poll::Ready(Ok(false));
                    }
                    if wait.poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            })
            .await
        }
    }

    /// Waits until the value is as `wanted`, now or after a change. False when no sender is left and it is not.
    ///
    /// # Errors
    /// It was cancelled.
    #[track_caller]
    pub fn wait_for(
        &mut self,
        mut wanted: impl FnMut(&T) -> bool,
    ) -> impl Future<Output = Result<bool, Cancelled>> {
        Site::here("a value that is wanted").around(async move {
            loop {
                if wanted(&self.borrow_and_see()) {
                    return Ok(true);
                }
                if !self.changed().await? {
                    return Ok(false);
                }
            }
        })
    }

    /// Whether there is a value that this has not seen.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.seen != self.channel.version.get()
    }

    /// The value; it does not count as seen.
    #[must_use]
    pub fn borrow(&self) -> Ref<'_, T> {
        self.channel.value.borrow()
    }

    /// The value, which counts as seen.
    #[must_use]
    pub fn borrow_and_see(&mut self) -> Ref<'_, T> {
        self.seen = self.channel.version.get();
        self.channel.value.borrow()
    }

    /// Whether no sender is left.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.channel.senders.get() == 0
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.channel.senders.set(self.channel.senders.get() + 1);
        Self { channel: self.channel.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.channel.senders.set(self.channel.senders.get() - 1);
        if self.channel.senders.get() == 0 {
            self.channel.line.tell_all();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("value", &self.channel.value).finish()
    }
}

impl<T: fmt::Debug> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("value", &self.channel.value)
            .field("changed", &self.has_changed())
            .finish()
    }
}

#[cfg(test)]
mod tests;
