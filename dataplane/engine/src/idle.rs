//! What a worker does when there is nothing to do: spin, then block until a packet, an order, a wake or the time comes.
//!
//! Owns nothing. Keeps true: a wake that comes between the worker's last look and its blocking is not lost: the sender sets down its
//! message, then rings the bell of the worker's tasks; the worker listens to that, then looks for messages; one of the two sees the other.
//!
//! It blocks in `ppoll`, which waits on the sockets only while it lasts. An epoll set stays registered with them, and then the
//! kernel calls it for each packet that has been sent (net/core/sock.c, `sock_def_write_space`): 8 % of a loaded core.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use zsync_runtime::Bell;

/// How long a worker looks in vain before it blocks: about twice what blocking and waking up costs (20–30 µs here), so a
/// wrong guess costs at most what the right one would have, doubled.
pub const SPIN: u64 = 50_000;
/// Longest time blocked, so that the heart beats: nanoseconds, 16.8 ms. Sixty wake-ups a second cost under 0.2 % of a core. A power of two: it
/// is a slot of the tasks' timing wheel, so what rests for as long (what stages do without packets) is woken with the worker and not besides.
pub const LONGEST: u64 = 1 << 24;

/// Blocks until one of the `sockets` is readable or somebody rings the bell, for `limit` ns at most, and never longer than
/// [`LONGEST`]; unless `busy` sees something to do after the bell is listened to.
pub fn park<'s>(
    bell: &Bell,
    sockets: impl Iterator<Item = BorrowedFd<'s>>,
    limit: u64,
    busy: impl FnOnce() -> bool,
) {
    bell.listen();
    let mut rung = false;
    if !busy() {
        // A seat's bell has its descriptor; without one, time ends the parking.
        let own = bell.descriptor().ok().map(|bell| PollFd::from_borrowed_fd(bell, PollFlags::IN));
        let has_own = own.is_some();
        let sockets = sockets.map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN));
        let mut awaited: Vec<PollFd<'_>> = own.into_iter().chain(sockets).collect();
        let limit = Timespec { tv_sec: 0, tv_nsec: limit.min(LONGEST) as i64 };
        let _ = poll(&mut awaited, Some(&limit));
        // It may be that of an earlier parking, whose waker wrote late.
        rung = has_own && awaited.first().is_some_and(|own| !own.revents().is_empty());
    }
    bell.ignore(rung);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter;
    use std::time::{Duration, Instant};
    use zsync_runtime::Seat;

    #[test]
    fn a_wake_ends_the_parking_and_is_used_up_by_it() {
        let seat = Seat::new().unwrap();
        let bell = seat.remote().bell();
        bell.ring();
        // Nobody was parked, so nothing was written.
        let start = Instant::now();
        park(bell, iter::empty(), u64::MAX, || false);
        assert!(start.elapsed() >= Duration::from_nanos(LONGEST / 2));
        let start = Instant::now();
        park(bell, iter::empty(), LONGEST, || {
            bell.ring();
            false
        });
        assert!(start.elapsed() < Duration::from_nanos(LONGEST));
        let start = Instant::now();
        park(bell, iter::empty(), LONGEST, || false);
        assert!(start.elapsed() >= Duration::from_nanos(LONGEST / 2), "the event was left over");
        park(bell, iter::empty(), LONGEST, || true);
    }
}
