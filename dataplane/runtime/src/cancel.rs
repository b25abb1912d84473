//! Cancellation: what is asked to come to its end, sees it at what it waits for.
//!
//! A task is cancelled by its [`Handle`](crate::Handle), by its scope, or, for a part of it, by a [`Canceller`]. From then on
//! whatever of this crate it waits for gives [`Cancelled`], at once, again and again, so that `?` carries it through nested
//! calls to the end; each of them cleans up on its way. What has to wait while it cleans up does so in a [`shield`].
//!
//! Futures that are not of this crate know nothing of it. They can be dropped ([`Handle::abort`](crate::Handle::abort),
//! [`race`](crate::race()), [`timeout`](crate::timeout())), as all futures of this crate can, at any await.

use crate::task::with_current;
use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// It was asked to come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

/// Whether what runs now has been asked to come to its end, and is not shielded.
#[must_use]
pub fn is_cancelled() -> bool {
    with_current(|tasks| tasks.cancelled().get()).unwrap_or(false)
}

/// [`Cancelled`], if what runs now has been asked to come to its end: for a loop that waits for nothing.
///
/// # Errors
/// It has.
pub fn check() -> Result<(), Cancelled> {
    if is_cancelled() { Err(Cancelled) } else { Ok(()) }
}

/// Polls with another state of cancellation, and puts back what it was.
fn with_state<T>(state: impl FnOnce(bool) -> bool, poll: impl FnOnce() -> T) -> T {
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            with_current(|tasks| tasks.cancelled().set(self.0));
        }
    }
    let before = is_cancelled();
    let _back = Back(before);
    with_current(|tasks| tasks.cancelled().set(state(before)));
    poll()
}

/// Runs to its end whether or not it is cancelled meanwhile; who comes after it sees that.
pub async fn shield<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| with_state(|_| false, || future.as_mut().poll(cx))).await
}

/// Cancels a part of a task; see [`cancellable`].
#[derive(Clone, Default)]
pub struct Canceller(Rc<Region>);

#[derive(Default)]
struct Region {
    cancelled: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Canceller {
    /// Asks the part to come to its end. Once is for good.
    pub fn cancel(&self) {
        self.0.cancelled.set(true);
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }

    /// Whether it was.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.get()
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Canceller").field(&self.is_cancelled()).finish()
    }
}

/// Runs a part of a task that `canceller` can cancel without the rest.
pub async fn cancellable<F: Future>(canceller: &Canceller, future: F) -> F::Output {
    let mut future = pin!(future);
    let region = &canceller.0;
    poll_fn(|cx| {
        let before = region.cancelled.get();
        let result = with_state(|outer| outer || before, || future.as_mut().poll(cx));
        if result.is_pending() {
            drop(region.waker.replace(Some(cx.waker().clone())));
            if region.cancelled.get() != before {
                // By what it did just now: it has not seen it.
                cx.waker().wake_by_ref();
            }
        }
        result
    })
    .await
}

/// [`Cancelled`] instead of pending, for what waits: the first thing that every wait of this crate does.
#[inline]
pub(crate) fn poll_cancelled() -> Poll<Cancelled> {
    if is_cancelled() { Poll::Ready(Cancelled) } else { Poll::Pending }
}
