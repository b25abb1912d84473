//! A worker between two passes: what who runs it asks of it, and what its tasks do with it.
//!
//! Owns nothing that is not the [worker's](super). Keeps true: what a stage has to say without having been asked is counted and sent as what a packet
//! became; a worker that drains says nothing any more.

use super::{Told, Worker};
use crate::idle::SPIN;
use rustix::fd::BorrowedFd;
use std::task::Waker;
use zsync_io::device::Device;
use zsync_packet::burst::BURST;
use zsync_pipelines::snapshot::Snapshot;
use zsync_pipelines::stage::Cx;
use zsync_protocol::stats::WorkerState;

impl<D: Device> Worker<D> {
    /// What it runs packets by.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// How often it has rested.
    pub(crate) fn rests(&self) -> u64 {
        self.counters.wakeups
    }

    /// How many packets have come to it.
    pub(crate) fn packets(&self) -> u64 {
        self.counters.rx_packets + self.counters.taken_over
    }

    pub(crate) fn set_state(&self, state: WorkerState) {
        self.parts.stats.set_state(state);
    }

    /// Whether it was ordered to stop, and has.
    #[inline]
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// A pass that had something to do took so many nanoseconds.
    #[inline]
    pub(crate) fn note_busy(&mut self, nanos: u64) {
        self.counters.busy_ns += nanos;
    }

    /// A pass had nothing to do.
    #[inline]
    pub(crate) fn note_idle(&mut self) {
        self.counters.polls_empty += 1;
    }

    /// For how many nanoseconds it may be let alone, if nothing comes.
    pub(crate) fn rest(&self, now: u64) -> u64 {
        if self.parts.queues.iter().any(|queue| queue.device.unflushed() || queue.device.pending()) {
            return 0;
        }
        // Blocking and waking up takes some time itself.
        let due = |due: u64| due.saturating_sub(now).saturating_sub(SPIN);
        self.wheel.next_time().map_or(u64::MAX, due)
    }

    /// It rests from now on.
    pub(crate) fn begin_rest(&mut self, now: u64) {
        self.publish(now);
        self.set_state(WorkerState::Parked);
    }

    /// What ends its rest when it is readable.
    pub(crate) fn waitables(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.parts.queues.iter().filter_map(|queue| queue.device.waitable())
    }

    /// Whether somebody has left it something.
    pub(crate) fn has_mail(&self) -> bool {
        !self.parts.mailbox.handovers.is_empty() || !self.parts.mailbox.orders.is_empty()
    }

    /// It has rested, from `now` on until `woken`.
    pub(crate) fn end_rest(&mut self, now: u64, woken: u64) {
        self.set_state(WorkerState::Running);
        self.counters.wakeups += 1;
        self.counters.blocked_ns += woken.saturating_sub(now);
        // Whatever woke it up, orders are looked at now.
        self.housekeeping_at = 0;
    }

    /// Lets the stage of this number wake `waker` when there is something to do.
    pub(crate) fn wake_with(&mut self, number: usize, waker: &Waker) {
        self.snapshot.wake_with(number, waker);
    }

    /// A slice of the chore of the stage of this number, and what that has to say without having been asked is sent. True: there is more, which
    /// cannot wait for longer than the chore's period.
    pub(crate) fn tend(&mut self, number: usize, now: u64) -> bool {
        if self.draining {
            return false;
        }
        let mut cx = Cx::new(now, &mut self.parts.pool, &mut self.extra);
        let more = self.snapshot.tend(number, &mut self.burst, &mut cx, &mut self.stages);
        if !self.burst.is_empty() {
            self.counters.generated += self.burst.len() as u64;
            self.dispatch(now, &[0; BURST]);
            self.transmit(now);
        }
        more
    }

    /// What it was told since this was last asked.
    #[inline]
    pub(crate) fn told(&mut self) -> Told {
        std::mem::take(&mut self.told)
    }
}
