//! What a worker does besides packets: orders, their answers, its counters, its end.
//!
//! Owns nothing that is not the [worker's](super). Keeps true: an order is carried out between two bursts, so that the frames that are counted are in
//! nobody's hands; what was received before an order to drain or to stop is dealt with.

use super::{HOUSEKEEPING, Worker};
use crate::exchange::{Answer, Order};
use zsync_io::device::Device;
use zsync_packet::burst::BURST;
use zsync_packet::verdict::Verdict;
use zsync_protocol::stats::{PortCounter, StageCounter};

/// Bursts that a device may hold when it is closed: a ring's buffers, full of datagrams that were joined. (Some devices have more for as
/// long as they are asked.)
const HELD: usize = 64;

impl<D: Device> Worker<D> {
    /// What need not be done for every burst.
    #[cold]
    pub(super) fn housekeep(&mut self, now: u64) {
        self.housekeeping_at = now + HOUSEKEEPING;
        self.parts.pool.collect_returns();
        while let Some(order) = self.parts.mailbox.orders.pop() {
            match order {
                Order::Adopt(snapshot) => {
                    let epoch = snapshot.epoch;
                    let retired = std::mem::replace(&mut self.snapshot, snapshot);
                    self.counters.snapshots += 1;
                    self.parts.stats.set_epoch(epoch);
                    self.told.snapshot = true;
                    self.answer(Answer::Retired(retired));
                }
                Order::Audit => {
                    let answer = self.audit();
                    self.answer(answer);
                }
                Order::Tasks => self.told.tasks += 1,
                Order::Drain => self.drain(now),
                Order::Stop => self.stop(now),
            }
        }
        self.publish(now);
    }

    pub(crate) fn answer(&self, answer: Answer) {
        // There is room for the answers to four times as many orders as wait at most; if the manager has died, nobody waits.
        let _ = self.parts.mailbox.answers.push(answer);
    }

    /// Counts the ledger against what the worker has. At a pass boundary, so nothing is in its hands.
    pub fn audit(&self) -> Answer {
        let (mut rx, mut completion) = (0, 0);
        for queue in &self.parts.queues {
            let arrived = queue.device.arrived();
            rx += arrived.rx;
            completion += arrived.completion;
        }
        let in_hand = self.parts.queues.iter().map(|q| q.leaving.len()).sum::<usize>() + self.burst.len();
        let audit = self.parts.pool.audit(in_hand as u32, self.wheel.len() as u32);
        Answer::Audited { audit, rx, completion }
    }

    /// Deals with what has been received, and receives no more. Then nothing new goes to other workers either.
    fn drain(&mut self, now: u64) {
        for queue in 0..self.parts.queues.len() {
            // As many as are there now: more may come for as long as we look.
            let waiting = self.parts.queues[queue].device.arrived().rx as usize;
            for _ in 0..waiting.div_ceil(BURST) {
                self.receive(queue, now);
            }
            // What a device has taken from the kernel would go with it.
            self.parts.queues[queue].device.close();
            let mut rounds = 0..HELD;
            while self.parts.queues[queue].device.pending() && rounds.next().is_some() {
                self.receive(queue, now);
            }
        }
        self.draining = true;
        self.answer(Answer::Drained);
    }

    /// Sends what waits for its time, at once: for a worker that ends.
    pub fn send_waiting(&mut self, now: u64) {
        let mut count = 0;
        while let Some((packet, output)) = self.wheel.flush(&self.parts.pool) {
            self.parts.carry_out(&mut self.counters, packet, Verdict::Transmit(output), 0, now);
            count += 1;
            if count % BURST == 0 {
                self.transmit(now);
            }
        }
        self.transmit(now);
    }

    /// Ends: what is waiting to leave leaves, what waits for its time too, since no successor would know of it.
    fn stop(&mut self, now: u64) {
        while self.take_over(now) > 0 {}
        self.send_waiting(now);
        for queue in &mut self.parts.queues {
            // A full ring takes several wake-ups; one that the kernel does not take from is left to the successor.
            for _ in 0..64 {
                queue.device.flush(now, true);
                queue.device.complete(&mut self.parts.pool);
                if !queue.device.unflushed() {
                    break;
                }
            }
        }
        self.stopping = true;
        self.answer(Answer::Stopped);
    }

    /// Shows the world the counters and a heartbeat.
    pub(super) fn publish(&mut self, now: u64) {
        for (counter, count) in self.counters.stages.iter_mut().zip(&self.stages) {
            counter[StageCounter::Packets as usize] = count.packets;
            counter[StageCounter::Drops as usize] = count.drops;
        }
        for queue in &mut self.parts.queues {
            let (now, was) = (*queue.device.counters(), queue.counted);
            queue.counted = now;
            self.counters.frames_double_completed += now.double_completed - was.double_completed;
            self.counters.pool_empty += now.fill_starved - was.fill_starved;
            if let Some(counters) = self.counters.ports.get_mut(usize::from(queue.port.0)) {
                counters[PortCounter::FillStarved as usize] += now.fill_starved - was.fill_starved;
                counters[PortCounter::BadDescriptors as usize] += now.bad_descriptors - was.bad_descriptors;
                counters[PortCounter::Kicks as usize] += now.kicks - was.kicks;
                counters[PortCounter::RxRefused as usize] += now.rx_refused - was.rx_refused;
                counters[PortCounter::Split as usize] += now.split - was.split;
                counters[PortCounter::Merged as usize] += now.merged - was.merged;
                counters[PortCounter::RingsLost as usize] += now.rings_lost - was.rings_lost;
            }
        }
        self.parts.stats.publish(&self.counters);
        self.parts.stats.beat(now, self.counters.passes);
    }
}
