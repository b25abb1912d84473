//! A worker that lets packets wait: they leave at their time and in their order, on the ledger all the while, and a worker that
//! ends or dies leaves none behind.

#[allow(dead_code)]
mod memory_support;

use memory_support::{Host, RINGS, Rig, wire};
use zsync_engine::exchange::{Answer, Order};
use zsync_engine::worker::{Output, Worker};
use zsync_io::memory::{Config, Memory};
use zsync_packet::flow::HashKey;
use zsync_packet::frame::FrameSize;
use zsync_packet::pool::{Audit, Pool};
use zsync_packet::verdict::{DropReason, PortId};
use zsync_pipelines::compile::{Resources, compile};
use zsync_pipelines::snapshot::{PortFacts, Snapshot};
use zsync_pipelines::spec::parse;

const FRAMES: u32 = 4096;
const MS: u64 = 1_000_000;
/// Bytes of a packet: a millisecond at the shaped rate.
const LEN: usize = 1000;

const CONFIG: &str = r#"
[port.a]
netdev = "a"
[port.b]
netdev = "b"
[pipeline.p]
input = ["a", "b"]
stages = ["shape.s", "patch.w"]
[shape.s]
rate = "8Mbit"
burst = "4KiB"
limit = "LIMIT"
[patch.w]
pairs = [["a", "b"]]
"#;

fn snapshot(limit: &str) -> Snapshot {
    let spec = parse(&CONFIG.replace("LIMIT", limit), "test").unwrap().spec;
    let with = Resources {
        ports: vec![PortFacts::default(); 2],
        fibs: [].into(),
        hash_key: HashKey::from_seed(1),
        workers: 1,
        states: [].into(),
    };
    compile(&spec, 1, &with).unwrap()
}

struct Bench {
    rig: Rig,
    worker: Worker<Memory>,
    from: Host,
    to: Host,
    now: u64,
}

impl Bench {
    fn new(limit: &str) -> Self {
        // Packets that say their number.
        let packets = (0..1000u16).map(|n| [&n.to_be_bytes()[..], &[0; LEN - 2]].concat()).collect();
        let rings = Config { fill: 512, rx: 512, tx: 512, completion: 512, ..RINGS };
        let (a, from) = wire(PortId(0), rings, packets);
        let (b, mut to) = wire(PortId(1), rings, vec![vec![0; 60]]);
        to.kept = Some([].into());
        let rig = Rig::new(1);
        let pool = Pool::heap(FrameSize::K2, FRAMES, 1).unwrap().remove(0);
        let worker = rig.worker(pool, vec![a, b], vec![Output::Own(0), Output::Own(1)], snapshot(limit));
        Self { rig, worker, from, to, now: 50_000 * MS }
    }

    /// Sends so many packets at once.
    fn send(&mut self, mut packets: usize) {
        while packets > 0 {
            let sent = self.from.send(packets.min(64));
            self.from.receive();
            packets -= sent;
            self.pass(0);
        }
        // Until they are all in the worker.
        (0..8).for_each(|_| self.pass(0));
    }

    fn pass(&mut self, step: u64) {
        self.now += step;
        self.worker.pass(self.now);
        self.from.receive();
        while self.to.receive() > 0 {}
        let audit = self.audit();
        assert_eq!((audit.leaked, audit.burst, audit.misplaced), (0, 0, 0), "{audit:?}");
        assert_eq!(audit.total(), FRAMES);
        assert_eq!(self.worker.counters().balance(), i128::from(audit.held));
    }

    fn audit(&self) -> Audit {
        let Answer::Audited { audit, .. } = self.worker.audit() else { panic!("another answer") };
        audit
    }

    /// The numbers of the packets that have come out so far.
    fn out(&self) -> Vec<u16> {
        let numbers = self.to.kept.iter().flatten().map(|packet| u16::from_be_bytes([packet[0], packet[1]]));
        numbers.collect()
    }

    fn drops(&self) -> u64 {
        self.worker.counters().drops[DropReason::ShapeFull as usize]
    }
}

#[test]
fn packets_leave_at_their_time_and_in_their_order() {
    let mut bench = Bench::new("2s");
    bench.send(500);
    assert_eq!(bench.out(), [0, 1, 2, 3]);
    assert_eq!((bench.audit().held, bench.drops()), (496, 0));
    let start = bench.now;
    for _ in 0..6_000 {
        bench.pass(99_991);
        let passed = (bench.now - start) / MS;
        let out = bench.out().len() as u64;
        // 4,096 bytes at once, then one packet a millisecond; up to a pass later.
        assert!((passed + 3..=passed + 5).contains(&out) || out == 500, "{out} after {passed} ms");
    }
    assert_eq!(bench.out(), (0..500).collect::<Vec<u16>>());
    assert_eq!((bench.audit().held, bench.drops()), (0, 0));
}

#[test]
fn what_comes_later_does_not_overtake_what_waits() {
    let mut bench = Bench::new("2s");
    let mut sent = 0;
    for round in 0..2_000u64 {
        // Bursts and pauses, so that the queue runs empty now and then.
        if round % 40 < 8 {
            sent += bench.from.send(1 + (round % 3) as usize);
        }
        bench.pass(333_333 + round * 7);
    }
    while bench.audit().held > 0 {
        bench.pass(MS);
    }
    let out = bench.out();
    assert!(sent > 500 && bench.drops() == 0);
    assert_eq!(out, (0..sent as u16).map(|n| n % 1000).collect::<Vec<u16>>());
}

#[test]
fn what_would_wait_longer_than_the_limit_is_dropped() {
    let mut bench = Bench::new("100ms");
    bench.send(500);
    assert_eq!(bench.audit().held, 100);
    assert_eq!(bench.drops(), 396);
    (0..200).for_each(|_| bench.pass(MS));
    assert_eq!(bench.out().len(), 104);
}

#[test]
fn a_worker_holds_no_more_than_half_of_its_frames() {
    let mut bench = Bench::new("4s");
    bench.send(3_000);
    assert_eq!(bench.audit().held, FRAMES / 2);
    assert_eq!(bench.drops(), 3_000 - u64::from(FRAMES) / 2 - 4);
    // A clock that jumps: all are due at once, and leave over some passes.
    bench.pass(60_000 * MS);
    assert!(bench.audit().held > 0);
    (0..64).for_each(|_| bench.pass(0));
    assert_eq!(bench.audit().held, 0);
    let out = bench.out();
    let expected: Vec<u16> = (0..out.len() as u16).map(|n| n % 1000).collect();
    assert_eq!(out.len(), 2052);
    assert_eq!(out, expected);
}

#[test]
fn a_worker_that_ends_sends_what_waits() {
    let mut bench = Bench::new("2s");
    bench.send(100);
    assert_eq!(bench.audit().held, 96);
    bench.rig.mailboxes[0].order(Order::Stop).unwrap();
    bench.pass(MS);
    assert_eq!(bench.audit().held, 0);
    bench.to.receive();
    assert_eq!(bench.out().len(), 100);
}

#[test]
fn packets_that_a_dead_worker_held_are_lost_and_counted() {
    let mut bench = Bench::new("2s");
    bench.send(100);
    bench.pass(MS);
    let held = u64::from(bench.audit().held);
    assert!(held > 90);
    let pool = Pool::heap(FrameSize::K2, FRAMES, 1).unwrap().remove(0);
    let heir: Worker<Memory> = bench.rig.worker(pool, Vec::new(), Vec::new(), Snapshot::empty());
    assert_eq!((heir.counters().lost_in_crash, heir.counters().balance()), (held, 0));
    // The dead one's packets are let go in order, for the wheel would complain.
    bench.rig.mailboxes[0].order(Order::Stop).unwrap();
    bench.pass(MS);
}
