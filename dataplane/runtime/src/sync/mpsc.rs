//! Messages from many tasks to one, so many under way at most.

use super::{Wait, Waiters};
use crate::cancel::{Cancelled, poll_cancelled};
use crate::trace::Site;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

struct Channel<T> {
    queue: RefCell<VecDeque<T>>,
    capacity: usize,
    senders: Waiters,
    count: Cell<usize>,
    /// Of the receiver's last wait.
    receiver: Cell<Option<Waker>>,
    /// Whether it waits.
    waits: Cell<bool>,
    closed: Cell<bool>,
}

/// A channel for `capacity` messages.
///
/// # Panics
/// When that is none.
#[must_use]
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a channel without room would never carry a message");
    let channel = Rc::new(Channel {
        queue: RefCell::new(VecDeque::with_capacity(capacity.min(64))),
        capacity,
        senders: Waiters::new(),
        count: Cell::new(1),
        receiver: Cell::new(None),
        waits: Cell::new(false),
        closed: Cell::new(false),
    });
    (Sender { channel: channel.clone() }, Receiver { channel })
}

/// Why a message was not sent; it comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendError<T> {
    /// The receiver is gone.
    Closed(T),
    /// No room now.
    Full(T),
    /// Who sends was cancelled.
    Cancelled(T),
}

impl<T> SendError<T> {
    /// The message.
    pub fn into_message(self) -> T {
        match self {
            Self::Closed(message) | Self::Full(message) | Self::Cancelled(message) => message,
        }
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed(_) => "the receiver is gone",
            Self::Full(_) => "the channel is full",
            Self::Cancelled(_) => "cancelled",
        })
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl<T> std::error::Error for SendError<T> {}

/// Sends; there may be many.
pub struct Sender<T> {
    channel: Rc<Channel<T>>,
}

/// Receives.
pub struct Receiver<T> {
    channel: Rc<Channel<T>>,
}

impl<T> Channel<T> {
    fn put(&self, message: T) {
        self.queue.borrow_mut().push_back(message);
        self.wake_receiver();
    }

    fn wake_receiver(&self) {
        if self.waits.replace(false)
            && let Some(receiver) = self.receiver.take()
        {
            receiver.wake_by_ref();
            // It most likely waits with the same one the next time.
            drop(self.receiver.replace(Some(receiver)));
        }
    }

    /// Room that nobody has been promised.
    fn has_room(&self) -> bool {
        self.queue.borrow().len() + (self.senders.told() as usize) < self.capacity
    }
}

impl<T> Sender<T> {
    /// Sends when there is room, after those who waited before.
    ///
    /// # Errors
    /// The receiver is gone, or it was cancelled; the message comes back.
    #[track_caller]
    pub fn send(&self, message: T) -> impl Future<Output = Result<(), SendError<T>>> {
        let site = Site::here("room in a channel");
        async move {
            let channel = &*self.channel;
            let mut wait = Wait::new(&channel.senders);
            let mut message = Some(message);
            site.poll_fn(|cx| {
                let mut result = |error: Option<fn(T) -> SendError<T>>| {
                    let message = message.take().expect("polled after it was ready");
                    match error {
                        Some(error) => Err(error(message)),
                        None => {
                            channel.put(message);
                            Ok(())
                        }
                    }
                };
                if channel.closed.get() {
                    return Poll::Ready(result(Some(SendError::Closed)));
                }
                if poll_cancelled().is_ready() {
                    return Poll::Ready(result(Some(SendError::Cancelled)));
                }
                let mine = wait.take() || channel.senders.is_empty() && channel.has_room();
                if mine || wait.poll(cx).is_ready() {
                    return Poll::Ready(result(None));
                }
                Poll::Pending
            })
            .await
        }
    }

    /// Sends if there is room now, and nobody waits for it.
    ///
    /// # Errors
    /// There is none, or the receiver is gone; the message comes back.
    pub fn try_send(&self, message: T) -> Result<(), SendError<T>> {
        if self.channel.closed.get() {
            return Err(SendError::Closed(message));
        }
        if !self.channel.senders.is_empty() || !self.channel.has_room() {
            return Err(SendError::Full(message));
        }
        self.channel.put(message);
        Ok(())
    }

    /// Whether the receiver is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.channel.closed.get()
    }
}

impl<T> Receiver<T> {
    /// The next message; none when there is none and no sender is left.
    ///
    /// # Errors
    /// It was cancelled; no message is lost by that.
    #[track_caller]
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<T>, Cancelled>> {
        Site::here("a message").poll_fn(|cx| self.poll_recv(cx))
    }

    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, Cancelled>> {
        let channel = &*self.channel;
        if let Poll::Ready(cancelled) = poll_cancelled() {
            return Poll::Ready(Err(cancelled));
        }
        let message = channel.queue.borrow_mut().pop_front();
        if message.is_some() {
            channel.senders.tell_one();
            return Poll::Ready(Ok(message));
        }
        if channel.count.get() == 0 {
            return Poll::Ready(Ok(None));
        }
        let known = channel.receiver.take().filter(|known| known.will_wake(cx.waker()));
        channel.receiver.set(Some(known.unwrap_or_else(|| cx.waker().clone())));
        channel.waits.set(true);
        Poll::Pending
    }

    /// The next message, if it is there.
    pub fn try_recv(&mut self) -> Option<T> {
        let message = self.channel.queue.borrow_mut().pop_front();
        if message.is_some() {
            self.channel.senders.tell_one();
        }
        message
    }

    /// Messages that are there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.channel.queue.borrow().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.channel.count.set(self.channel.count.get() + 1);
        Self { channel: self.channel.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.channel.count.set(self.channel.count.get() - 1);
        if self.channel.count.get() == 0 {
            self.channel.wake_receiver();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.channel.closed.set(true);
        self.channel.senders.tell_all();
        // What it has may hold a sender.
        let left = self.channel.queue.take();
        drop(left);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("senders", &self.channel.senders).finish()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("messages", &self.len()).finish()
    }
}
