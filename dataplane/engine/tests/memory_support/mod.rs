//! A worker, and hosts at the other ends of its wires.

#[path = "../../../../tests/fuzz/entry/lab.rs"]
#[allow(dead_code)]
pub(crate) mod lab;

use std::collections::VecDeque;
use std::sync::Arc;
use zsync_engine::exchange::{Answer, Mailbox};
use zsync_engine::punt::Punt;
use zsync_engine::worker::{Output, Parts, Queue, Worker};
use zsync_io::device::Device;
use zsync_io::memory::{Config, Faults, Memory, pair};
use zsync_packet::burst::{BURST, Burst, Packet};
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::header::corpus;
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;
use zsync_packet::verdict::PortId;
use zsync_pipelines::snapshot::Snapshot;
use zsync_protocol::stats::{Counters, StatsLayout, WorkerStats};
use zsync_runtime::Seat;

/// Rings short enough to be full now and then.
pub(crate) const RINGS: Config =
    Config { fill: 128, rx: 128, tx: 64, completion: 64, faults: Faults { seed: 0, ..NONE } };

/// Nothing goes wrong.
pub(crate) const NONE: Faults = Faults {
    seed: 0,
    tx_full: 0,
    short_read: 0,
    loss: 0,
    duplicate: 0,
    reorder: 0,
    corrupt: 0,
    truncate: 0,
    foreign_completion: 0,
    unsent_completion: 0,
    repeated_completion: 0,
    foreign_descriptor: 0,
    repeated_descriptor: 0,
    too_long: 0,
};

/// The lab's router and wire.
pub(crate) fn snapshot() -> Snapshot {
    lab::Lab::new().snapshot
}

/// The other end of a wire: sends packets of a list, one after the other, and forgets what it receives.
pub(crate) struct Host {
    pub(crate) device: Memory,
    pool: Pool,
    burst: Burst,
    out: Vec<Packet>,
    packets: Vec<Vec<u8>>,
    next: usize,
    /// What came, if it is kept.
    pub(crate) kept: Option<VecDeque<Vec<u8>>>,
}

impl Host {
    pub(crate) fn new(device: Memory, packets: Vec<Vec<u8>>) -> Self {
        let pool = Pool::heap(FrameSize::K2, 1024, 1).unwrap().remove(0);
        let burst = Burst::new(pool.arena().clone());
        Self { device, pool, burst, out: Vec::with_capacity(BURST), packets, next: 0, kept: None }
    }

    /// Sends up to so many packets; how many it could.
    pub(crate) fn send(&mut self, packets: usize) -> usize {
        while self.out.len() < packets.min(BURST)
            && let Some(mut frame) = self.pool.alloc()
        {
            let bytes = &self.packets[self.next % self.packets.len()];
            self.next += 1;
            let len = bytes.len() as u16;
            self.pool.arena().bytes_mut(&mut frame, HEADROOM as u16, len).copy_from_slice(bytes);
            self.out.push(Packet { frame, start: HEADROOM as u16, len, port: PortId(0) });
        }
        let sent = self.device.tx_burst(&mut self.pool, &mut self.out);
        self.device.flush(0, true);
        sent
    }

    /// Receives what is there; how many packets and completions it was.
    pub(crate) fn receive(&mut self) -> usize {
        let Self { device, pool, burst, kept, .. } = self;
        let completed = device.complete(pool);
        let came = device.rx_burst(pool, burst);
        burst.drain(|packet, _, _| {
            if let Some(kept) = kept {
                kept.push_back(pool.arena().bytes(&packet.frame, packet.start, packet.len).to_vec());
            }
            pool.free(packet.frame);
        });
        device.flush(0, true);
        came + completed
    }

    /// Gives up what was not sent.
    pub(crate) fn give_up(&mut self) {
        self.next -= self.out.len();
        self.out.drain(..).for_each(|packet| self.pool.free(packet.frame));
    }
}

/// What makes a worker, and what is behind it.
pub(crate) struct Rig {
    pub(crate) mailboxes: Vec<Arc<Mailbox>>,
    pub(crate) seats: Vec<Seat>,
    pub(crate) stats: Region,
}

impl Rig {
    pub(crate) fn new(workers: usize) -> Self {
        let stats = Region::heap(StatsLayout::bytes(workers));
        StatsLayout::format(&stats, workers).unwrap();
        let seats: Vec<Seat> = (0..workers).map(|_| Seat::new().unwrap()).collect();
        let mailboxes = seats.iter().map(|seat| Mailbox::new(seat.remote().bell())).collect();
        Self { mailboxes, seats, stats }
    }

    /// Worker `number` with these queues; `outputs` by port. Punted packets go to the file that takes everything.
    pub(crate) fn worker<D: Device>(
        &self,
        pool: Pool,
        queues: Vec<Queue<D>>,
        outputs: Vec<Output>,
        snapshot: Snapshot,
    ) -> Worker<D> {
        let number = usize::from(pool.worker());
        let null = std::fs::File::options().write(true).open("/dev/null").unwrap();
        let parts = Parts {
            pool,
            queues,
            outputs,
            mailbox: self.mailboxes[number].clone(),
            peers: self.mailboxes.clone(),
            stats: WorkerStats::open(&self.stats, number).unwrap(),
            punt: Some(Punt::new(Arc::new(null.into()), Arc::default())),
        };
        Worker::new(parts, Box::new(snapshot))
    }
}

/// A wire from a port of the worker to a host, whose packets are these.
pub(crate) fn wire(port: PortId, config: Config, packets: Vec<Vec<u8>>) -> (Queue<Memory>, Host) {
    let (ours, theirs) = pair([port, PortId(0)], config);
    (Queue::new(ours, port), Host::new(theirs, packets))
}

/// The valid packets of the corpus.
pub(crate) fn valid() -> Vec<Vec<u8>> {
    corpus::valid().into_iter().map(|sample| sample.bytes).collect()
}

/// The sum of the books: nothing is lost, neither packet nor frame.
pub(crate) fn check<D: Device>(worker: &Worker<D>, frames: u32) {
    balanced(worker.counters());
    let Answer::Audited { audit, rx, completion } = worker.audit() else { panic!("another answer") };
    assert_eq!((audit.leaked, audit.burst, audit.held), (0, 0, 0), "{audit:?}");
    assert_eq!(audit.pool + audit.fill + audit.tx + audit.remote, frames, "{audit:?}");
    assert!(rx <= audit.fill && completion <= audit.tx, "{audit:?} {rx} {completion}");
}

pub(crate) fn balanced(counters: &Counters) {
    assert_eq!(counters.balance(), 0, "{counters:?}");
    assert_eq!((counters.frames_leaked, counters.frames_misplaced), (0, 0));
}
