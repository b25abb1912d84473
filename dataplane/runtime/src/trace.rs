//! Where a task waits, found out by polling it once more while somebody takes notes.
//!
//! Owns: the notes of this thread. Keeps true: as long as nobody asks, a wait costs one look at a word; what is ready leaves
//! no note, so the notes are what a task waits for now, each below what it is a part of.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::panic::Location;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

/// Threads that take notes now.
static ASKED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static NOTES: RefCell<Option<Notes>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct Notes {
    frames: Vec<Frame>,
    depth: usize,
}

/// A line of the program.
pub(crate) type At = &'static Location<'static>;

/// What is waited for, and where in the program.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// In words, or in those of the program.
    pub what: &'static str,
    /// The line that waits.
    pub at: &'static Location<'static>,
}

impl Site {
    /// The caller's caller, which waits for this.
    #[track_caller]
    #[inline]
    pub(crate) fn here(what: &'static str) -> Self {
        Self { what, at: Location::caller() }
    }

    /// Polls; what is pending then is noted, if anybody asks.
    #[inline]
    pub(crate) fn poll<T>(self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        if ASKED.load(Relaxed) == 0 { poll() } else { self.noted(poll) }
    }

    #[cold]
    fn noted<T>(self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        let place = with_notes(|notes| {
            notes.frames.push(Frame { depth: notes.depth, site: self });
            notes.depth += 1;
            notes.frames.len() - 1
        });
        let result = poll();
        with_notes(|notes| {
            let Some(place) = place else { return };
            notes.depth = notes.depth.saturating_sub(1);
            if result.is_ready() {
                notes.frames.truncate(place);
            }
        });
        result
    }

    /// As [`std::future::poll_fn`].
    #[inline]
    pub(crate) fn poll_fn<T>(
        self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> impl Future<Output = T> {
        poll_fn(move |cx| self.poll(|| poll(cx)))
    }

    /// A future that waits for this while it is pending, whatever it waits for in turn.
    pub(crate) async fn around<F: Future>(self, future: F) -> F::Output {
        let mut future = pin!(future);
        self.poll_fn(|cx| future.as_mut().poll(cx)).await
    }
}

/// `file:line`, and what for.
impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.what, self.at.file(), self.at.line())
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A wait, or a part of a program that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// How many others it is a part of.
    pub depth: usize,
    /// What and where.
    pub site: Site,
}

fn with_notes<T>(then: impl FnOnce(&mut Notes) -> T) -> Option<T> {
    NOTES.with_borrow_mut(|notes| notes.as_mut().map(then))
}

/// Notes what is pending in `poll`.
pub(crate) fn notes(poll: impl FnOnce()) -> Vec<Frame> {
    /// Also after a panic.
    struct Asked(Option<Notes>);
    impl Drop for Asked {
        fn drop(&mut self) {
            NOTES.set(self.0.take());
            ASKED.fetch_sub(1, Relaxed);
        }
    }
    ASKED.fetch_add(1, Relaxed);
    let _asked = Asked(NOTES.replace(Some(Notes::default())));
    poll();
    with_notes(|notes| std::mem::take(&mut notes.frames)).unwrap_or_default()
}

/// A part of a program that has a name of its own in dumps; see [`trace!`](crate::trace!).
#[track_caller]
pub fn traced<F: Future>(name: &'static str, future: F) -> impl Future<Output = F::Output> {
    Site::here(name).around(future)
}

/// Waits for a future, which has a line of its own in dumps ([`Tasks::dump`](crate::Tasks::dump)): its text, or the name ahead of it.
///
/// ```
/// # use zsync_runtime::{Executor, trace, yield_now};
/// # let executor = Executor::new().unwrap();
/// async fn fetch(name: &str) -> usize {
///     yield_now().await.unwrap();
///     name.len()
/// }
/// # executor.run(async |tasks| {
/// assert_eq!(trace!(fetch("a.example")) + trace!("again", fetch("b.example")), 18);
/// # });
/// ```
#[macro_export]
macro_rules! trace {
    ($name:literal, $future:expr) => {
        $crate::traced($name, $future).await
    };
    ($future:expr) => {
        $crate::traced(stringify!($future), $future).await
    };
}
