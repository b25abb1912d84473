//! Wakes from other threads: each executor has an inbox, and a bell for when it sleeps.
//!
//! Owns: inboxes, by the executor's number; they are kept for the next executor of that number, so a waker that outlived its
//! executor finds one. Refuses: more executors at a time than a waker's word can name. Keeps true: a wake is not lost. When an
//! inbox is full, its executor wakes all of its tasks instead; an executor that sleeps looks into its inbox after it has said
//! so and before it does, and a waker looks for that after it has put the word in: one of the two sees the other.
//!
//! Nothing is allocated by a wake, and only one that meets a sleeping executor makes a system call.

mod bell;
#[cfg(test)]
mod modelled;
#[allow(clippy::duplicate_mod)]
mod state;

pub use bell::Bell;

use crate::executor::ExecutorError;
use crate::task::{MAX_EXECUTORS, Word};
use crate::time::Instant;
use crossbeam_queue::ArrayQueue;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{self, AtomicBool};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Words that an inbox holds.
const INBOX: usize = 256;

/// An executor's end.
#[derive(Debug)]
pub struct Remote {
    inbox: ArrayQueue<u64>,
    overflow: AtomicBool,
    bell: Bell,
}

static REMOTES: [OnceLock<Box<Remote>>; MAX_EXECUTORS] = [const { OnceLock::new() }; MAX_EXECUTORS];
static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers { free: Vec::new(), next: 0 });

struct Numbers {
    free: Vec<u16>,
    next: usize,
}

/// An executor's number and inbox, while it lives; or before it does. It may be made on one thread, ahead of a sandbox say, for an
/// executor on another: see [`Executor::seated`](crate::Executor::seated).
#[derive(Debug)]
pub struct Seat {
    number: u16,
    remote: &'static Remote,
}

impl Seat {
    /// One whose bell can be heard.
    ///
    /// # Errors
    /// All 4,096 are taken, or there is no descriptor for the bell.
    pub fn new() -> Result<Self, ExecutorError> {
        let seat = Self::silent().ok_or(ExecutorError::TooMany)?;
        seat.remote.bell().descriptor().map_err(ExecutorError::Bell)?;
        Ok(seat)
    }

    /// A number, and its inbox; none when all are taken.
    pub(crate) fn silent() -> Option<Self> {
        let mut numbers = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
        let number = match numbers.free.pop() {
            Some(number) => number,
            None if numbers.next < MAX_EXECUTORS => {
                numbers.next += 1;
                (numbers.next - 1) as u16
            }
            None => return None,
        };
        let remote = REMOTES[usize::from(number)].get_or_init(|| {
            Box::new(Remote {
                inbox: ArrayQueue::new(INBOX),
                overflow: AtomicBool::new(false),
                bell: Bell::new(),
            })
        });
        Some(Self { number, remote })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Where other threads wake its tasks. After the seat is gone, it is another's, or nobody's: then who rings wakes for nothing.
    #[must_use]
    pub fn remote(&self) -> &'static Remote {
        self.remote
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        NUMBERS.lock().unwrap_or_else(PoisonError::into_inner).free.push(self.number);
    }
}

/// Wakes a task of whatever executor it is of, if that is there.
pub(crate) fn wake(word: Word) {
    if let Some(remote) = REMOTES.get(usize::from(word.executor())).and_then(OnceLock::get) {
        remote.put(word);
    }
}

impl Remote {
    fn put(&self, word: Word) {
        if self.inbox.push(word.bits()).is_err() {
            self.overflow.store(true, Release);
        }
        self.bell.ring();
    }

    /// Calls `wake` for each word that is here. True: the inbox was full, and all tasks are to be woken.
    #[inline]
    pub(crate) fn drain(&self, mut wake: impl FnMut(Word)) -> bool {
        // Its length says whether there is one with two loads; most passes have none.
        if self.inbox.is_empty() && !self.overflow.load(Acquire) {
            return false;
        }
        // Before the inbox is emptied: who finds it full from now on says so again.
        let overflow = self.overflow.swap(false, AcqRel);
        // As many as it holds: who fills it as fast as it is emptied does not keep the executor here.
        for _ in 0..INBOX {
            let Some(bits) = self.inbox.pop() else { break };
            wake(Word::of_bits(bits));
        }
        overflow
    }

    /// Whether a task was woken from elsewhere, and not polled since.
    #[inline]
    #[must_use]
    pub fn has_words(&self) -> bool {
        !self.inbox.is_empty() || self.overflow.load(Acquire)
    }

    /// Sleeps until a task is woken from another thread, or it is `until`.
    pub(crate) fn sleep(&self, until: Instant) {
        self.bell.listen();
        let mut readable = false;
        if !self.has_words()
            && let Ok(descriptor) = self.bell.descriptor()
        {
            let wait = span(until, Instant::monotonic());
            // Interrupted: its caller looks again.
            readable =
                poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], wait.as_ref()).is_ok_and(|n| n > 0);
        }
        self.bell.ignore(readable);
    }

    /// What rings when a task is woken while the executor sleeps.
    #[must_use]
    pub fn bell(&self) -> &Bell {
        &self.bell
    }
}

/// How long poll(2) may wait; none for good.
pub(crate) fn span(until: Instant, now: Instant) -> Option<Timespec> {
    let wait = until.since(now);
    let seconds = i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
    (until != Instant::NEVER).then(|| Timespec { tv_sec: seconds, tv_nsec: i64::from(wait.subsec_nanos()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_that_is_full_says_so_once() {
        let remote =
            Remote { inbox: ArrayQueue::new(INBOX), overflow: AtomicBool::new(false), bell: Bell::new() };
        for bits in 0..INBOX as u64 + 5 {
            remote.put(Word::of_bits(bits));
        }
        let mut seen = Vec::new();
        assert!(remote.drain(|word| seen.push(word.bits())));
        assert_eq!(seen, (0..INBOX as u64).collect::<Vec<_>>());
        assert!(!remote.drain(|_| panic!("it is empty")));
        assert!(!remote.has_words());
    }

    #[test]
    fn numbers_are_used_again_and_differ_at_a_time() {
        let first = Seat::silent().unwrap();
        let second = Seat::silent().unwrap();
        assert_ne!(first.number(), second.number());
    }
}
