//! One message from one task to one: a result that somebody waits for.
//!
//! The two ends share one piece of memory, which is allocated for each channel.
//!
//! Keeps true: a message that was sent is received, stays for the next wait when one is cancelled, or is dropped with the receiver.

use crate::cancel::{Cancelled, poll_cancelled};
use crate::trace::Site;
use std::cell::Cell;
use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

struct Channel<T> {
    message: Cell<Option<T>>,
    /// Of the end that waits: one of them at a time has a reason to, and the other is who wakes it.
    receiver: Cell<Option<Waker>>,
    sender: Cell<Option<Waker>>,
    /// An end is gone.
    closed: Cell<bool>,
    /// The line that made it: who waits for the message has no other.
    made: &'static Location<'static>,
}

/// Why there is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// The sender was dropped without one, or it has been received.
    #[error("the sender is gone, and there is no message from it")]
    Closed,
    /// Who receives was cancelled. The message can still come.
    #[error("cancelled")]
    Cancelled,
}

/// A channel for one message.
#[track_caller]
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let channel = Rc::new(Channel {
        message: Cell::new(None),
        receiver: Cell::new(None),
        sender: Cell::new(None),
        closed: Cell::new(false),
        made: Location::caller(),
    });
    (Sender { channel: channel.clone() }, Receiver { channel })
}

/// Sends one message.
pub struct Sender<T> {
    channel: Rc<Channel<T>>,
}

/// Waits for the message: it is a future. To go on waiting after a cancelled wait, wait for `&mut receiver`.
#[must_use = "a message is received by waiting for it"]
pub struct Receiver<T> {
    channel: Rc<Channel<T>>,
}

impl<T> Sender<T> {
    /// Sends, without waiting.
    ///
    /// # Errors
    /// The receiver is gone; the message comes back.
    pub fn send(self, message: T) -> Result<(), T> {
        if self.is_closed() {
            return Err(message);
        }
        // Nobody else puts one there.
        drop(self.channel.message.replace(Some(message)));
        Ok(())
    }

    /// Whether the receiver is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.channel.closed.get()
    }

    /// Waits until the receiver is gone: nobody needs the message any more.
    ///
    /// # Errors
    /// It was cancelled.
    #[track_caller]
    pub fn closed(&mut self) -> impl Future<Output = Result<(), Cancelled>> {
        Site::here("the receiver's end").poll_fn(|cx| {
            if let Poll::Ready(cancelled) = poll_cancelled() {
                return Poll::Ready(Err(cancelled));
            }
            if self.is_closed() {
                return Poll::Ready(Ok(()));
            }
            remember(&self.channel.sender, cx);
            Poll::Pending
        })
    }
}

/// Leaves word whom to wake.
fn remember(place: &Cell<Option<Waker>>, cx: &Context<'_>) {
    let known = place.take().filter(|known| known.will_wake(cx.waker()));
    place.set(Some(known.unwrap_or_else(|| cx.waker().clone())));
}

impl<T> Receiver<T> {
    /// The message, if it is there.
    pub fn try_recv(&mut self) -> Option<T> {
        self.channel.message.take()
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, RecvError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(Cancelled) = poll_cancelled() {
            return Poll::Ready(Err(RecvError::Cancelled));
        }
        if let Some(message) = self.channel.message.take() {
            return Poll::Ready(Ok(message));
        }
        if self.channel.closed.get() {
            return Poll::Ready(Err(RecvError::Closed));
        }
        let site = Site { what: "the one message of a channel", at: self.channel.made };
        site.poll(|| {
            remember(&self.channel.receiver, cx);
            Poll::Pending
        })
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.channel.closed.set(true);
        drop(self.channel.sender.take());
        self.channel.receiver.take().into_iter().for_each(Waker::wake);
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.channel.closed.set(true);
        drop(self.channel.receiver.take());
        self.channel.sender.take().into_iter().for_each(Waker::wake);
        // What it holds may be the sender's.
        drop(self.channel.message.take());
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("closed", &self.is_closed()).finish()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("closed", &self.channel.closed).finish()
    }
}

#[cfg(test)]
mod tests;
