//! Messages from many tasks to many: each receiver sees each message.
//!
//! A ring keeps the last messages, so many at most. Who sends never waits: a receiver that is more than a ring behind is told how many
//! messages it missed, and goes on with the oldest that is left.
//!
//! Keeps true: what a receiver gets, and what it is told that it missed, are together all messages that were sent since it was
//! made, each once and in order. A message stays in the ring until it is overwritten or the last receiver is gone.

use super::mpsc::SendError;
use super::{Wait, Waiters};
use crate::cancel::{Cancelled, poll_cancelled};
use crate::trace::Site;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::task::Poll;

struct Channel<T> {
    ring: RefCell<VecDeque<T>>,
    capacity: usize,
    /// Messages that were ever sent: the number of the next one.
    sent: Cell<u64>,
    senders: Cell<usize>,
    receivers: Cell<usize>,
    line: Waiters,
}

/// A channel that keeps `capacity` messages.
///
/// # Panics
/// When that is none.
#[must_use]
pub fn channel<T: Clone>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a ring without room would lose every message");
    let channel = Rc::new(Channel {
        ring: RefCell::new(VecDeque::with_capacity(capacity.min(64))),
        capacity,
        sent: Cell::new(0),
        senders: Cell::new(1),
        receivers: Cell::new(1),
        line: Waiters::new(),
    });
    (Sender { channel: channel.clone() }, Receiver { channel, next: 0 })
}

/// Why a receive has no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// So many messages were overwritten before they were received. The next receive gives the oldest that is left.
    #[error("{0} messages were overwritten before they were received: the receiver is too slow for the ring")]
    Missed(u64),
    /// Who receives was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl From<Cancelled> for RecvError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

/// Sends; there may be many.
pub struct Sender<T> {
    channel: Rc<Channel<T>>,
}

/// Receives every message from when it was made.
pub struct Receiver<T> {
    channel: Rc<Channel<T>>,
    /// The number of the message that it gets next.
    next: u64,
}

impl<T: Clone> Sender<T> {
    /// Sends to all receivers; how many they are.
    ///
    /// # Errors
    /// There is none; the message comes back.
    pub fn send(&self, message: T) -> Result<usize, SendError<T>> {
        let channel = &*self.channel;
        if channel.receivers.get() == 0 {
            return Err(SendError::Closed(message));
        }
        let overwritten = {
            let mut ring = channel.ring.borrow_mut();
            let full = ring.len() == channel.capacity;
            let overwritten = if full { ring.pop_front() } else { None };
            ring.push_back(message);
            overwritten
        };
        channel.sent.set(channel.sent.get() + 1);
        channel.line.tell_all();
        drop(overwritten);
        Ok(channel.receivers.get())
    }

    /// A receiver of what is sent from now on.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<T> {
        let channel = self.channel.clone();
        channel.receivers.set(channel.receivers.get() + 1);
        Receiver { next: channel.sent.get(), channel }
    }
}

impl<T: Clone> Receiver<T> {
    /// The next message; none when this has had all and no sender is left. The message is cloned, and `T::clone` must not use this
    /// channel.
    ///
    /// # Errors
    /// Messages were missed, or it was cancelled; no message is lost by that.
    #[track_caller]
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<T>, RecvError>> {
        let site = Site::here("a message to all");
        async move {
            let Self { channel, next } = self;
            let mut wait = Wait::new(&channel.line);
            site.poll_fn(|cx| {
                loop {
                    // What was told to all need not be passed on.
                    wait.take();
                    if let Poll::Ready(Cancelled) = poll_cancelled() {
                        return Poll::Ready(Err(RecvError::Cancelled));
                    }
                    if let Some(result) = channel.message(next) {
                        return Poll::Ready(result.map(Some));
                    }
                    if channel.senders.get() == 0 {
                        return Poll::Ready(Ok(None));
                    }
                    if wait.poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            })
            .await
        }
    }

    /// The next message, if it is there.
    ///
    /// # Errors
    /// Messages were missed.
    pub fn try_recv(&mut self) -> Result<Option<T>, RecvError> {
        self.channel.message(&mut self.next).transpose()
    }
}

impl<T: Clone> Channel<T> {
    /// Of a receiver whose next message is this, which goes on.
    fn message(&self, next: &mut u64) -> Option<Result<T, RecvError>> {
        let ring = self.ring.borrow();
        let oldest = self.sent.get() - ring.len() as u64;
        if *next < oldest {
            let missed = oldest - *next;
            *next = oldest;
            return Some(Err(RecvError::Missed(missed)));
        }
        let message = ring.get((*next - oldest) as usize)?.clone();
        *next += 1;
        Some(Ok(message))
    }
}

impl<T> Receiver<T> {
    /// Messages that it has not received, those that it has missed included.
    #[must_use]
    pub fn behind(&self) -> u64 {
        self.channel.sent.get() - self.next
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

impl<T> Clone for Receiver<T> {
    /// One that has received as much.
    fn clone(&self) -> Self {
        self.channel.receivers.set(self.channel.receivers.get() + 1);
        Self { channel: self.channel.clone(), next: self.next }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let receivers = self.channel.receivers.get() - 1;
        self.channel.receivers.set(receivers);
        if receivers == 0 {
            // What it has may hold a sender.
            let left = self.channel.ring.take();
            drop(left);
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("receivers", &self.channel.receivers).finish()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("behind", &self.behind()).finish()
    }
}

#[cfg(test)]
mod tests;
