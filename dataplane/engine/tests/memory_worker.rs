//! A worker over memory devices: whatever goes wrong on its wires and in its kernel, every packet is counted once and every
//! frame has one owner.

#[allow(dead_code)]
mod memory_support;

use memory_support::lab::{A, B, C, D, PORTS};
use memory_support::{Host, NONE, RINGS, Rig, check, snapshot, valid, wire};
use std::time::Instant;
use zsync_engine::exchange::{Errand, Handover};
use zsync_engine::worker::{Output, Queue, Worker};
use zsync_io::device::Device;
use zsync_io::memory::{Config, Faults, Memory, Null, pair};
use zsync_packet::burst::Packet;
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::pool::Pool;
use zsync_packet::verdict::DropReason;

const FRAMES: u32 = 1024;

/// Whether the long versions were asked for.
fn long() -> bool {
    std::env::var_os("ZSYNC_LONG").is_some_and(|value| value == "1")
}

/// A worker with a queue for each of the lab's four ports, and a host at each.
struct Bench {
    worker: Worker<Memory>,
    hosts: Vec<Host>,
    now: u64,
}

impl Bench {
    fn new(config: Config) -> Self {
        let (queues, hosts): (Vec<_>, Vec<_>) =
            [A, B, C, D].into_iter().map(|port| wire(port, config, valid())).unzip();
        let pool = Pool::heap(FrameSize::K2, FRAMES, 1).unwrap().remove(0);
        let mut outputs: Vec<Output> = (0..queues.len()).map(Output::Own).collect();
        outputs.resize(usize::from(PORTS), Output::Nowhere);
        Self { worker: Rig::new(1).worker(pool, queues, outputs, snapshot()), hosts, now: 0 }
    }

    fn set_faults(&mut self, faults: Faults) {
        self.worker.queues().iter_mut().for_each(|queue| queue.device.set_faults(faults));
        self.hosts.iter_mut().for_each(|host| host.device.set_faults(faults));
    }

    /// A pass, 20 µs after the last one.
    fn pass(&mut self) -> usize {
        self.now += 20_000;
        self.worker.pass(self.now)
    }

    /// Lets every host send so many packets; how many they were in all.
    fn round(&mut self, packets: usize) -> usize {
        let mut sent = 0;
        for host in &mut self.hosts {
            sent += host.send(packets);
            host.receive();
        }
        self.pass();
        sent
    }

    /// Until nothing moves any more.
    fn settle(&mut self) {
        self.set_faults(NONE);
        self.hosts.iter_mut().for_each(Host::give_up);
        let mut quiet = 0;
        while quiet < 4 {
            let moved = self.pass() + self.hosts.iter_mut().map(Host::receive).sum::<usize>();
            quiet = if moved == 0 { quiet + 1 } else { 0 };
        }
    }

    /// The worker's books, and its books against those of the wires.
    fn check(&mut self) {
        check(&self.worker, FRAMES);
        let counters = self.worker.counters().clone();
        let (mut received, mut sent) = (0, 0);
        for (queue, host) in self.worker.queues().iter_mut().zip(&self.hosts) {
            let (ours, theirs) = (queue.device.injected(), host.device.injected());
            received += queue.device.received();
            sent += queue.device.sent();
            let own = queue.device.counters();
            assert_eq!(own.bad_descriptors, ours.bad_descriptors());
            assert_eq!(own.double_completed, ours.double_completed());
            // What nobody could receive, for want of a frame, is on the wire still.
            let left = ours.too_long + own.rx_refused + host.device.on_the_way() as u64;
            let arrived = host.device.sent() - theirs.lost + theirs.duplicated;
            assert_eq!(queue.device.received() + left, arrived, "port {}: {own:?}", queue.port.0);
        }
        assert_eq!((counters.rx_packets, counters.tx_packets), (received, sent));
    }
}

/// The fault whose turn it is by bit.
fn combination(bits: u32, rate: u32) -> Faults {
    let on = |bit: u32| if bits >> bit & 1 == 1 { rate } else { 0 };
    Faults {
        seed: 0,
        tx_full: on(0),
        short_read: on(1),
        loss: on(2),
        duplicate: on(3),
        reorder: on(4),
        corrupt: on(5),
        truncate: on(6),
        foreign_completion: on(7),
        unsent_completion: on(8),
        repeated_completion: on(9),
        foreign_descriptor: on(10),
        repeated_descriptor: on(11),
        too_long: on(12),
    }
}

#[test]
fn every_combination_of_faults() {
    let mut bench = Bench::new(RINGS);
    let mut packets = 0;
    for bits in 0..1 << 13 {
        bench.set_faults(combination(bits, 100_000));
        while packets < (bits as usize + 1) * 128 {
            packets += bench.round(17);
        }
        // Now and then: with nothing on its way, the books of all sides must agree.
        if bits % 64 == 63 {
            bench.settle();
            bench.check();
        }
        assert_eq!(bench.worker.counters().balance(), 0, "faults {bits:#b}");
    }
    assert!(packets > 1_000_000);
    let counters = bench.worker.counters();
    assert!(counters.rx_packets > 900_000 && counters.tx_packets > 100_000 && counters.punted > 0);
    assert!(counters.frames_double_completed > 1000, "{}", counters.frames_double_completed);
    let dropped = |reason: DropReason| counters.drops[reason as usize];
    for reason in [DropReason::TxRingFull, DropReason::IpTruncated, DropReason::IpBadChecksum] {
        assert!(dropped(reason) > 0, "{reason:?}");
    }
}

#[test]
fn everything_goes_wrong_at_once() {
    for rate in [1, 1000, 300_000, 900_000] {
        let mut bench = Bench::new(RINGS);
        bench.set_faults(Faults::all(0, rate));
        for round in 0..3000 {
            bench.round(1 + round % 64);
        }
        bench.settle();
        bench.check();
    }
}

/// Rings of one entry; fill rings that want more frames than there are: slow, and exact.
#[test]
fn the_smallest_rings_and_the_smallest_pool() {
    for (ring, fill) in [(1, 1), (2, 1), (1, 400), (3, 2)] {
        let mut bench = Bench::new(Config { fill, rx: ring, tx: ring, completion: ring, faults: NONE });
        for _ in 0..500 {
            bench.round(5);
        }
        bench.settle();
        bench.check();
        assert!(bench.worker.counters().rx_packets > 100, "{ring} {fill}");
        assert_eq!(bench.worker.counters().pool_empty > 0, 4 * fill > FRAMES);
    }
}

/// Sixty-four packets that go round between two ends of one wire: what one queue sends the other receives and patches back.
fn circle(faults: Faults) -> (Worker<Memory>, u32) {
    let (c, d) = pair([C, D], Config { faults, ..Config::default() });
    let mut pool = Pool::heap(FrameSize::K2, FRAMES, 1).unwrap().remove(0);
    let rig = Rig::new(1);
    for packet in 0..64u8 {
        let mut frame = pool.alloc().unwrap();
        pool.arena().bytes_mut(&mut frame, HEADROOM as u16, 60).fill(packet);
        pool.hand_over(&frame, 0);
        let packet = Packet { frame, start: HEADROOM as u16, len: 60, port: C };
        rig.mailboxes[0].handovers.push(Handover { packet, errand: Errand::Leave(C) }).unwrap();
    }
    let queues = vec![Queue::new(c, C), Queue::new(d, D)];
    let nowhere = Output::Nowhere;
    let outputs = vec![nowhere, nowhere, Output::Own(0), Output::Own(1), nowhere];
    (rig.worker(pool, queues, outputs, snapshot()), 64)
}

#[test]
fn packets_go_round_without_end_and_none_is_lost() {
    let packets = if long() { 100_000_000 } else { 20_000_000 };
    let (mut worker, circling) = circle(NONE);
    let start = Instant::now();
    let mut now = 0;
    while worker.counters().rx_packets < packets {
        now += 1000;
        worker.pass(now);
    }
    let took = start.elapsed();
    check(&worker, FRAMES);
    let counters = worker.counters();
    assert_eq!(counters.taken_over, u64::from(circling));
    // Sent as often as received, and once more at the start; none was dropped.
    assert_eq!((counters.tx_packets, counters.dropped()), (counters.rx_packets + 64, 0));
    eprintln!(
        "memory: {packets} packets, {:.1} ns each",
        took.as_nanos() as f64 / counters.rx_packets as f64
    );
}

/// The promise: the ledger is exact after 10⁸ packets. With devices that hold nothing, since theirs is not the question.
#[test]
fn a_hundred_million_packets_and_an_exact_ledger() {
    const PACKETS: u64 = 100_000_000;
    let mut pool = Pool::heap(FrameSize::K2, FRAMES, 1).unwrap().remove(0);
    let c = Null::printed(C, &mut pool, &[0x5a; 60]).unwrap().limited(PACKETS / 2);
    let d = Null::printed(D, &mut pool, &[0x5a; 60]).unwrap().limited(PACKETS / 2);
    let nowhere = Output::Nowhere;
    let outputs = vec![nowhere, nowhere, Output::Own(0), Output::Own(1), nowhere];
    let queues = vec![Queue::new(c, C), Queue::new(d, D)];
    run_null("patch", pool, queues, outputs, PACKETS, PACKETS);
}

#[test]
fn routed_packets_over_devices_that_hold_nothing() {
    let packets = if long() { 100_000_000 } else { 5_000_000 };
    let pool = Pool::heap(FrameSize::K2, FRAMES, 1).unwrap().remove(0);
    // No ARP, nothing for the kernel, nothing that is too long for port B.
    let forwarded = ["v4 udp", "v4 tcp data", "v6 udp", "v6 tcp syn with options", "v4 fragment, last"];
    let samples = zsync_packet::header::corpus::valid().into_iter();
    let traffic: Vec<Box<[u8]>> = samples
        .filter(|sample| forwarded.contains(&sample.name))
        .map(|sample| sample.bytes.into_boxed_slice())
        .collect();
    assert_eq!(traffic.len(), forwarded.len());
    let a = Null::copied(A, traffic).limited(packets);
    let b = Null::copied(B, []).limited(0);
    let outputs = vec![Output::Own(0), Output::Own(1)];
    run_null("route", pool, vec![Queue::new(a, A), Queue::new(b, B)], outputs, packets, packets);
}

fn run_null(
    what: &str,
    pool: Pool,
    queues: Vec<Queue<Null>>,
    outputs: Vec<Output>,
    packets: u64,
    forwarded: u64,
) {
    let rig = Rig::new(1);
    let mut worker = rig.worker(pool, queues, outputs, snapshot());
    let start = Instant::now();
    let mut now = 0;
    while !worker.queues().iter().all(|queue| queue.device.finished()) {
        now += 1000;
        worker.pass(now);
    }
    let took = start.elapsed();
    check(&worker, FRAMES);
    assert_eq!((worker.counters().rx_packets, worker.counters().tx_packets), (packets, forwarded));
    let sent: u64 = worker.queues().iter().map(|queue| queue.device.sent()).sum();
    assert_eq!(sent, forwarded);
    eprintln!("{what}: {packets} packets, {:.1} ns each", took.as_nanos() as f64 / packets as f64);
}

#[test]
fn packets_that_go_round_while_everything_goes_wrong() {
    // Duplicates, or the circle would be empty soon; losses, or it would be full.
    for seed in 0..20 {
        let faults = Faults { loss: 20_000, duplicate: 30_000, corrupt: 0, ..Faults::all(seed, 20_000) };
        let (mut worker, _) = circle(faults);
        for pass in 0..2000 {
            worker.pass(pass * 30_000);
        }
        check(&worker, FRAMES);
        assert!(worker.counters().rx_packets > 1000, "{}", worker.counters().rx_packets);
    }
}
