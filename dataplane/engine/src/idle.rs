//! What a worker does when there is nothing to do: spin, then block until a packet, an order or the time comes.
//!
//! Owns: an event for other threads to wake the worker. Keeps true: a wake that comes
//! between the worker's last look and its blocking is not lost: the sender sets down its message, then reads `parked`; the
//! worker writes `parked`, then looks for messages; both are sequentially consistent, so one of the two sees the other.
//!
//! It blocks in `ppoll`, which waits on the sockets only while it lasts. An epoll set stays registered with them, and then the
//! kernel calls it for each packet that has been sent (net/core/sock.c, `sock_def_write_space`): 8 % of a loaded core.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How long a worker looks in vain before it blocks: about twice what blocking and waking up costs (20–30 µs here), so a
/// wrong guess costs at most what the right one would have, doubled.
pub const SPIN: u64 = 50_000;
/// Longest time blocked, so that the heart beats: nanoseconds. A hundred wake-ups a second cost under 0.2 % of a core.
pub const LONGEST: u64 = 10_000_000;

/// Wakes a worker that blocks; cheap when it does not.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    event: OwnedFd,
    parked: AtomicBool,
}

impl Waker {
    /// Makes sure that the worker looks at its mailbox soon.
    #[inline]
    pub fn wake(&self) {
        if self.shared.parked.swap(false, Ordering::SeqCst) {
            // The event's counter cannot overflow: it is written once per parking.
            let _ = rustix::io::write(&self.shared.event, &1u64.to_ne_bytes());
        }
    }
}

/// Blocks a worker.
#[derive(Debug)]
pub struct Parker {
    shared: Arc<Shared>,
}

impl Parker {
    /// One that nobody has woken yet.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn new() -> Result<Self, Errno> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { shared: Arc::new(Shared { event, parked: AtomicBool::new(false) }) })
    }

    /// For other threads.
    pub fn waker(&self) -> Waker {
        Waker { shared: Arc::clone(&self.shared) }
    }

    /// The descriptor it holds.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }

    /// Blocks until one of the `sockets` is readable or somebody wakes it, for `limit` ns at most, and never longer than
    /// [`LONGEST`]; unless `busy` sees something to do after the intention to block is known.
    pub fn park<'s>(
        &self,
        sockets: impl Iterator<Item = BorrowedFd<'s>>,
        limit: u64,
        busy: impl FnOnce() -> bool,
    ) {
        self.shared.parked.store(true, Ordering::SeqCst);
        let mut signalled = false;
        if !busy() {
            let event = PollFd::new(&self.shared.event, PollFlags::IN);
            let sockets = sockets.map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN));
            let mut awaited: Vec<PollFd<'_>> = std::iter::once(event).chain(sockets).collect();
            let limit = Timespec { tv_sec: 0, tv_nsec: limit.min(LONGEST) as i64 };
            let _ = poll(&mut awaited, Some(&limit));
            // It may be the event of an earlier parking, whose waker wrote late.
            signalled = awaited.first().is_some_and(|event| !event.revents().is_empty());
        }
        if !self.shared.parked.swap(false, Ordering::SeqCst) || signalled {
            // Somebody woke us up: take the event back, or the next parking ends at once.
            let _ = rustix::io::read(&self.shared.event, &mut [0u8; 8]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter;
    use std::time::{Duration, Instant};

    #[test]
    fn a_wake_ends_the_parking_and_is_used_up_by_it() {
        let parker = Parker::new().unwrap();
        let waker = parker.waker();
        waker.wake();
        // Nobody was parked, so nothing was written.
        let start = Instant::now();
        parker.park(iter::empty(), u64::MAX, || false);
        assert!(start.elapsed() >= Duration::from_nanos(LONGEST / 2));
        let start = Instant::now();
        parker.park(iter::empty(), LONGEST, || {
            waker.wake();
            false
        });
        assert!(start.elapsed() < Duration::from_nanos(LONGEST));
        let start = Instant::now();
        parker.park(iter::empty(), LONGEST, || false);
        assert!(start.elapsed() >= Duration::from_nanos(LONGEST / 2), "the event was left over");
        parker.park(iter::empty(), LONGEST, || true);
    }
}
