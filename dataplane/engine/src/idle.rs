//! What a worker does when there is nothing to do: spin, then block until a packet, an order or the time comes.
//!
//! Owns: an epoll set of the worker's sockets, and an event for other threads to wake it. Keeps true: a wake that comes
//! between the worker's last look and its blocking is not lost: the sender sets down its message, then reads `parked`; the
//! worker writes `parked`, then looks for messages; both are sequentially consistent, so one of the two sees the other.

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
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
    epoll: OwnedFd,
    shared: Arc<Shared>,
}

impl Parker {
    /// With nothing to wait for yet but wakers.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &event, EventData::new_u64(0), EventFlags::IN)?;
        Ok(Self { epoll, shared: Arc::new(Shared { event, parked: AtomicBool::new(false) }) })
    }

    /// Also wakes up when `socket` is readable.
    ///
    /// # Errors
    /// The kernel cannot wait on it.
    pub fn watch(&self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        epoll::add(&self.epoll, socket, EventData::new_u64(1), EventFlags::IN)
    }

    /// For other threads.
    pub fn waker(&self) -> Waker {
        Waker { shared: Arc::clone(&self.shared) }
    }

    /// The descriptors it holds.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.epoll.as_fd(), self.shared.event.as_fd()]
    }

    /// Blocks for [`LONGEST`] at most, unless `busy` sees something to do after the intention to block is known.
    pub fn park(&self, busy: impl FnOnce() -> bool) {
        self.shared.parked.store(true, Ordering::SeqCst);
        let mut signalled = false;
        if !busy() {
            let mut events = [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 4];
            let limit = Timespec { tv_sec: 0, tv_nsec: LONGEST as i64 };
            let count = epoll::wait(&self.epoll, &mut events, Some(&limit)).unwrap_or(0);
            // It may be the event of an earlier parking, whose waker wrote late.
            signalled = events.iter().take(count).any(|event| ({ event.data }).u64() == 0);
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
    use std::time::{Duration, Instant};

    #[test]
    fn a_wake_ends_the_parking_and_is_used_up_by_it() {
        let parker = Parker::new().unwrap();
        let waker = parker.waker();
        waker.wake();
        // Nobody was parked, so nothing was written.
        let start = Instant::now();
        parker.park(|| false);
        assert!(start.elapsed() >= Duration::from_nanos(LONGEST / 2));
        let start = Instant::now();
        parker.park(|| {
            waker.wake();
            false
        });
        assert!(start.elapsed() < Duration::from_nanos(LONGEST));
        let start = Instant::now();
        parker.park(|| false);
        assert!(start.elapsed() >= Duration::from_nanos(LONGEST / 2), "the event was left over");
        parker.park(|| true);
    }
}
