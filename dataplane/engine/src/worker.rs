//! A worker: one core's loop over its queues, packet by burst, from RX to TX.
//!
//! ```text
//!   ┌───────────────────────────── one pass, one clock read ─────────────────────────────┐
//!   │ what was kept and is due → tx → completions → rx burst (≤ 64 a queue) → pipelines   │
//!   │ → tx → packets from other workers → flush and wake-up → housekeeping, if due         │
//!   └──────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Owns: its queues' devices, its pool, its snapshot, its counters. Refuses nothing: every packet that cannot go on is
//! counted by its reason, and its frame goes home. Keeps true, at every pass boundary: no frame is in its hands but those that
//! wait in its wheel, and `rx + generated + taken over = tx + Σ drops + punted + consumed + handed over + waiting`. What waited is
//! sent before anything is received, so that nothing overtakes it. A pass makes no allocation, takes no lock, and no
//! system call but the devices' wake-ups and punts. Who runs it ([`crate::runner`]) looks at it between two passes (`beside.rs`).

mod beside;
mod housekeeping;

use crate::exchange::{Errand, Handover};
use crate::wheel::Wheel;
use zsync_io::device::Device;
use zsync_packet::burst::{BURST, Burst, Packet};
use zsync_packet::pool::Pool;
use zsync_packet::verdict::{DropReason, HERE, Verdict};
use zsync_pipelines::snapshot::{MAX_STAGES, Snapshot, StageCount};
use zsync_pipelines::stage::{Cx, Extra, Spawned};
use zsync_protocol::stats::{Counters, PortCounter, StageCounter};

pub use crate::parts::{Output, Parts, Queue};

/// A packet is handed over so often at most: to the owner of the tunnel that it comes out of, of its flow, and of the tunnel that it
/// goes into. Workers that each take the other for the owner would play ball.
const HOPS: u8 = 4;

/// Nanoseconds between two rounds of housekeeping: publishing counters costs some 200 ns, so 0.2 % of the time.
pub const HOUSEKEEPING: u64 = 100_000;

/// Most packets that may wait for their time in a worker, if it has frames for twice as many: the other half goes on
/// receiving. A second of 3 Gbit/s in packets of 1,500 bytes.
const WAITING: usize = 1 << 18;

/// Most packets whose time has come that are sent in a pass. When there are more, nothing is received: a TX ring is emptied
/// between passes, and who held so many is slow already.
const RELEASED: usize = 4 * BURST;

/// See the module.
pub struct Worker<D> {
    parts: Parts<D>,
    burst: Burst,
    extra: Extra,
    wheel: Wheel,
    snapshot: Box<Snapshot>,
    stages: [StageCount; MAX_STAGES],
    counters: Box<Counters>,
    housekeeping_at: u64,
    draining: bool,
    stopping: bool,
    told: Told,
}

/// What a worker was told that is for its tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// It goes on by another snapshot.
    pub(crate) snapshot: bool,
    /// So often it was asked what they do.
    pub(crate) tasks: u32,
}

impl<D: Device> Worker<D> {
    /// A worker that carries on from the counters that were last published, under `snapshot`.
    pub fn new(parts: Parts<D>, snapshot: Box<Snapshot>) -> Self {
        let counters = parts.stats.read().unwrap_or_default();
        let mut stages = [StageCount::default(); MAX_STAGES];
        for (count, published) in stages.iter_mut().zip(&counters.stages) {
            count.packets = published[StageCounter::Packets as usize];
            count.drops = published[StageCounter::Drops as usize];
        }
        let mut counters = Box::new(counters);
        counters.ports.iter_mut().for_each(|port| port[PortCounter::RingsLost as usize] = 0);
        // What waited in a dead predecessor's wheel: its frames are free again.
        counters.lost_in_crash += u64::try_from(counters.balance()).unwrap_or(0);
        counters.ports_in_use = parts.outputs.len();
        counters.stages_in_use = MAX_STAGES;
        let burst = Burst::new(parts.pool.arena().clone());
        let wheel = Wheel::new(WAITING.min(parts.pool.frames() as usize / 2));
        Self {
            burst,
            extra: Extra::new(),
            wheel,
            snapshot,
            stages,
            counters,
            parts,
            housekeeping_at: 0,
            draining: false,
            stopping: false,
            told: Told::default(),
        }
    }

    /// Counts frames that a dead predecessor held as reclaimed.
    pub fn note_reclaimed(&mut self, frames: u32) {
        self.counters.frames_reclaimed += u64::from(frames);
    }

    /// Puts the books of all workers of a data plane right that carries on from a dead one's, where packets were on their way from one
    /// to another. Each of the dead published at its own time: what was handed over and never taken over is lost; what was taken over from
    /// one that did not live to say so had come to it all the same.
    pub fn settle(workers: &mut [Self]) {
        let sum = |term: fn(&Counters) -> u64| workers.iter().map(|own| term(&own.counters)).sum::<u64>();
        let (left, came) = (sum(|counters| counters.handed_over), sum(|counters| counters.taken_over));
        let Some(Self { counters, .. }) = workers.first_mut() else { return };
        let (lost, unsaid) = (left.saturating_sub(came), came.saturating_sub(left));
        counters.taken_over += lost;
        counters.lost_in_crash += lost;
        counters.rx_packets += unsaid;
        counters.handed_over += unsaid;
    }

    /// The counters, as they are now.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Its queues.
    pub fn queues(&mut self) -> &mut [Queue<D>] {
        &mut self.parts.queues
    }

    /// Its frames.
    pub fn pool(&self) -> &Pool {
        &self.parts.pool
    }

    /// One pass. Returns how many packets and completions it dealt with.
    pub fn pass(&mut self, now: u64) -> usize {
        self.counters.passes += 1;
        let mut work = self.release(now);
        let mut received = 0;
        let late = work >= RELEASED;
        for queue in 0..self.parts.queues.len() {
            work += self.parts.queues[queue].device.complete(&mut self.parts.pool);
            if !self.draining && !late {
                received += self.receive(queue, now);
            }
        }
        if !late {
            received += self.take_over(now);
        }
        for queue in &mut self.parts.queues {
            // With nothing received there will be no company for what waits.
            queue.device.flush(now, received == 0);
        }
        if now >= self.housekeeping_at {
            self.housekeep(now);
        }
        work + received
    }

    /// Sends what was kept until now. Returns how many packets: [`RELEASED`] if there may be more.
    #[inline]
    fn release(&mut self, now: u64) -> usize {
        if self.wheel.is_empty() {
            return 0;
        }
        let mut count = 0;
        while count < RELEASED
            && let Some((packet, output)) = self.wheel.release(&self.parts.pool, now)
        {
            count += 1;
            self.parts.carry_out(&mut self.counters, packet, Verdict::Transmit(output), 0, now);
            if count % BURST == 0 {
                self.transmit(now);
            }
        }
        if count % BURST != 0 {
            self.transmit(now);
        }
        count
    }

    /// A burst from one queue, through its pipelines, to where each packet goes.
    #[inline]
    fn receive(&mut self, queue: usize, now: u64) -> usize {
        let Parts { queues, pool, .. } = &mut self.parts;
        let Some(queue) = queues.get_mut(queue) else { return 0 };
        let count = queue.device.rx_burst(pool, &mut self.burst);
        if count == 0 {
            return 0;
        }
        let port = queue.port;
        let bytes = self.burst.total_bytes();
        self.counters.rx_packets += count as u64;
        self.counters.rx_bytes += bytes;
        if let Some(counters) = self.counters.ports.get_mut(usize::from(port.0)) {
            counters[PortCounter::RxPackets as usize] += count as u64;
            counters[PortCounter::RxBytes as usize] += bytes;
        }
        let mut cx = Cx::new(now, &mut self.parts.pool, &mut self.extra);
        self.snapshot.process(port, &mut self.burst, &mut cx, &mut self.stages);
        // What a stage had kept goes on with the burst.
        self.counters.generated += (self.burst.len() - count) as u64;
        self.dispatch(now, &[0; BURST]);
        self.transmit(now);
        count
    }

    /// Carries the verdicts out: every frame of the burst goes to a queue, to a worker, to the kernel, or home. `hops`: how often
    /// each packet, by its place, was handed over already.
    #[inline]
    fn dispatch(&mut self, now: u64, hops: &[u8; BURST]) {
        let Self { parts, burst, extra, counters, wheel, snapshot, .. } = self;
        let epoch = snapshot.epoch;
        // Often all go the same way.
        match burst.unanimous() {
            Some(Verdict::Transmit(port)) if !burst.is_delayed() && extra.is_empty() => {
                if let Output::Own(queue) = parts.output(port)
                    && let Some(queue) = parts.queues.get_mut(queue)
                {
                    burst.drain_into(&mut queue.leaving);
                }
            }
            Some(Verdict::Drop(reason)) => {
                counters.drops[reason as usize] += burst.len() as u64;
                burst.free_into(&mut parts.pool);
            }
            _ => {}
        }
        let mut made = extra.drain().peekable();
        let mut packets = 0;
        burst.drain_with_keys(|packet, verdict, facts, key| {
            match verdict {
                // Packets that a stage has added are behind the others, and new.
                Verdict::Worker(owner, stage)
                    if owner == HERE || hops.get(packets).is_none_or(|hops| *hops < HOPS) =>
                {
                    // An answer, which has none itself, begins anew.
                    let hops = if owner == HERE { 0 } else { hops.get(packets).map_or(1, |hops| hops + 1) };
                    let owner = if owner == HERE { parts.pool.worker() } else { owner };
                    let errand = Errand::GoOn { stage, epoch, facts: *facts, key: *key, hops };
                    parts.hand_over(counters, owner, packet, errand);
                }
                // Handed over too often, it is undecided.
                verdict => parts.send_off(wheel, counters, packet, verdict, (facts.delay, facts.l3), now),
            }
            // Next in line is what was made for it: fragments of one packet leave together, however bursts fall.
            while let Some(Spawned { packet, verdict, delay, .. }) =
                made.next_if(|made| made.behind <= packets)
            {
                counters.generated += 1;
                parts.send_off(wheel, counters, packet, verdict, (delay, 0), now);
            }
            packets += 1;
        });
        for Spawned { packet, verdict, delay, .. } in made {
            counters.generated += 1;
            parts.send_off(wheel, counters, packet, verdict, (delay, 0), now);
        }
    }

    /// Gives what is leaving to the devices. What their rings have no room for, after the kernel was told, is dropped, and so is what
    /// cannot leave by them.
    #[inline]
    fn transmit(&mut self, now: u64) {
        let Parts { queues, pool, .. } = &mut self.parts;
        for queue in queues {
            if queue.leaving.is_empty() {
                continue;
            }
            let bytes = |packets: &[Packet]| packets.iter().map(|p| u64::from(p.len)).sum::<u64>();
            let offered = bytes(&queue.leaving);
            let mut sent = queue.device.tx_burst(pool, &mut queue.leaving);
            // What can never leave is not tried again.
            if queue.leaving.len() > queue.device.unfit() {
                queue.device.flush(now, true);
                queue.device.complete(pool);
                sent += queue.device.tx_burst(pool, &mut queue.leaving);
            }
            let refused = bytes(&queue.leaving);
            self.counters.tx_packets += sent as u64;
            self.counters.tx_bytes += offered - refused;
            let unfit = queue.device.unfit().min(queue.leaving.len()) as u64;
            let dropped = queue.leaving.len() as u64 - unfit;
            self.counters.drops[DropReason::DeviceRefused as usize] += unfit;
            self.counters.drops[DropReason::TxRingFull as usize] += dropped;
            if let Some(counters) = self.counters.ports.get_mut(usize::from(queue.port.0)) {
                counters[PortCounter::TxPackets as usize] += sent as u64;
                counters[PortCounter::TxBytes as usize] += offered - refused;
                counters[PortCounter::TxRingFull as usize] += dropped;
            }
            pool.free_many(queue.leaving.drain(..).map(|packet| packet.frame));
        }
    }

    /// Packets from other workers, for the queues that only this one has, and for the flows that it owns.
    #[inline]
    fn take_over(&mut self, now: u64) -> usize {
        if self.parts.mailbox.handovers.is_empty() {
            return 0;
        }
        let mut count = 0;
        let mut now_leaving = false;
        let (mut behind, mut hops) = ([None; BURST], [0; BURST]);
        while count < BURST
            && let Some(Handover { packet, errand }) = self.parts.mailbox.handovers.pop()
        {
            count += 1;
            self.counters.taken_over += 1;
            self.parts.pool.adopt(&packet.frame);
            let output = match errand {
                Errand::Leave(output) => output,
                // Where it would have gone into a tunnel, another configuration may have none.
                Errand::GoOn { epoch, facts, .. } if facts.answered && epoch != self.snapshot.epoch => {
                    self.parts.pool.free(packet.frame);
                    self.counters.drops[DropReason::Undecided as usize] += 1;
                    continue;
                }
                Errand::GoOn { stage, epoch, facts, key, hops: count } => {
                    let i = self.burst.len();
                    if let Some(hops) = hops.get_mut(i) {
                        *hops = count;
                    }
                    if let Err(packet) = self.burst.push(packet) {
                        self.parts.pool.free(packet.frame);
                        self.counters.drops[DropReason::HandoverFull as usize] += 1;
                    } else if epoch == self.snapshot.epoch
                        && let Some(behind) = behind.get_mut(i)
                    {
                        *behind = Some(stage);
                        self.burst.know(i, facts, key);
                    }
                    continue;
                }
            };
            match self.parts.output(output) {
                Output::Own(queue) if queue < self.parts.queues.len() => {
                    self.parts.queues[queue].leaving.push(packet);
                    now_leaving = true;
                }
                _ => {
                    self.parts.pool.free(packet.frame);
                    self.counters.drops[DropReason::NoSuchPort as usize] += 1;
                }
            }
        }
        if !self.burst.is_empty() {
            let came = self.burst.len();
            let mut cx = Cx::new(now, &mut self.parts.pool, &mut self.extra);
            self.snapshot.resume(&behind, &mut self.burst, &mut cx, &mut self.stages);
            self.counters.generated += (self.burst.len() - came) as u64;
            self.dispatch(now, &hops);
            now_leaving = true;
        }
        if now_leaving {
            self.transmit(now);
        }
        count
    }
}
