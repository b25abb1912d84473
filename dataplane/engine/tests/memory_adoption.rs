//! A worker takes a large configuration over between two passes: nothing is lost, and it neither compiles nor frees anything.
//!
//! How long it stands for that is a measurement: `cargo nextest run -p zsync-engine --cargo-profile checked --run-ignored only
//! --no-capture how_long`.

#[allow(dead_code)]
mod memory_support;

use memory_support::{Host, NONE, RINGS, Rig, check, valid, wire};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zsync_engine::exchange::{Answer, Mailbox, Order};
use zsync_engine::worker::{Output, Worker};
use zsync_io::memory::{Config, Memory};
use zsync_packet::flow::HashKey;
use zsync_packet::frame::FrameSize;
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;
use zsync_packet::verdict::PortId;
use zsync_pipelines::compile::{Resources, compile_after};
use zsync_pipelines::snapshot::{PortFacts, Snapshot};
use zsync_pipelines::spec::parse;
use zsync_pipelines::tables::fib::{FibLayout, FibWriter};

const FRAMES: u32 = 1024;
/// A pass at which housekeeping is due, and so orders are looked at.
const DUE: u64 = 200_000;

/// A stateful router with so many rules about others' networks, in an order that depends on `turn`.
fn snapshot(rules: usize, turn: usize, epoch: u64, before: Option<&Snapshot>) -> Snapshot {
    let mut text = String::from(
        "[port.a]\nnetdev = \"eth1\"\n[port.b]\nnetdev = \"eth2\"\n[pipeline.edge]\ninput = [\"a\", \"b\"]\n\
         stages = [\"track\", \"filter.edge\", \"route\"]\n[filter.edge]\ndefault = \"accept\"\nrules = [\n",
    );
    for rule in 0..rules {
        let number = (rule + turn * 7919) % rules;
        let (a, b, c) = (number >> 16, number >> 8 & 0xff, number & 0xff);
        let _ = match rule % 2 {
            0 => writeln!(text, "{{ drop = true, from = \"172.{}.{b}.{c}/32\" }},", 16 + a),
            _ => writeln!(text, "{{ drop = true, from = \"2001:db8:{a:x}:{b:x}{c:02x}::/64\" }},"),
        };
    }
    let spec = parse(&(text + "]\n"), "adoption.toml").unwrap().spec;
    let fib = FibWriter::create(Region::heap(FibLayout::SMALL.bytes()), FibLayout::SMALL).unwrap();
    let with = Resources {
        ports: vec![PortFacts { mtu: 1500, ..PortFacts::default() }; 2],
        fibs: BTreeMap::from([(254, fib.reader())]),
        hash_key: HashKey::from_seed(1),
        workers: 1,
        states: BTreeMap::new(),
    };
    let mut snapshot = compile_after(&spec, epoch, &with, before).unwrap();
    snapshot.assign(0);
    snapshot
}

struct Bench {
    worker: Worker<Memory>,
    mailbox: Arc<Mailbox>,
    hosts: Vec<Host>,
    now: u64,
}

impl Bench {
    fn new(rules: usize) -> Self {
        let config = Config { faults: NONE, ..RINGS };
        let ports = [PortId(0), PortId(1)];
        let (queues, hosts): (Vec<_>, Vec<_>) =
            ports.into_iter().map(|port| wire(port, config, valid())).unzip();
        let pool = Pool::heap(FrameSize::K2, FRAMES, 1).unwrap().remove(0);
        let rig = Rig::new(1);
        let outputs = (0..queues.len()).map(Output::Own).collect();
        let worker = rig.worker(pool, queues, outputs, snapshot(rules, 0, 1, None));
        Self { worker, mailbox: Arc::clone(&rig.mailboxes[0]), hosts, now: 0 }
    }

    /// A pass with a burst at each port; how long it took.
    fn pass(&mut self) -> Duration {
        for host in &mut self.hosts {
            host.send(32);
            host.receive();
        }
        self.now += DUE;
        let since = Instant::now();
        self.worker.pass(self.now);
        since.elapsed()
    }

    /// Gives a snapshot to the worker, and takes the one before back; how long the pass between took, and the next one.
    fn adopt(&mut self, snapshot: Snapshot) -> (Duration, Duration, Box<Snapshot>) {
        self.mailbox.order(Order::Adopt(Box::new(snapshot))).unwrap_or_else(|_| panic!("no room"));
        let times = (self.pass(), self.pass());
        match self.mailbox.answers.pop() {
            Some(Answer::Retired(retired)) => (times.0, times.1, retired),
            other => panic!("{}", if other.is_some() { "another answer" } else { "it was not adopted" }),
        }
    }
}

#[test]
fn a_worker_hands_the_snapshot_back_that_it_had_and_loses_nothing() {
    let mut bench = Bench::new(100);
    for epoch in 2..20 {
        (0..5).for_each(|_| {
            bench.pass();
        });
        let next = snapshot(100, epoch as usize, epoch, None);
        let (_, _, retired) = bench.adopt(next);
        assert_eq!(retired.epoch, epoch - 1, "whoever gave it frees it");
    }
    assert_eq!(bench.worker.counters().snapshots, 18);
    check(&bench.worker, FRAMES);
}

#[test]
#[ignore = "a measurement"]
fn how_long_a_worker_stands_while_it_adopts_a_hundred_thousand_rules() {
    const ADOPTIONS: usize = 20;
    let mut bench = Bench::new(100_000);
    let (mut plain, mut adopting, mut after) = (Vec::new(), Vec::new(), Vec::new());
    let mut before = snapshot(100_000, 0, 2, None);
    for adoption in 0..ADOPTIONS {
        plain.extend((0..100).map(|_| bench.pass()));
        let next = snapshot(100_000, adoption, adoption as u64 + 3, Some(&before));
        let (pass, then, retired) = bench.adopt(next.clone());
        adopting.push(pass);
        after.push(then);
        // The manager's part: it takes as long as it takes.
        drop((std::mem::replace(&mut before, next), retired));
    }
    for (name, mut times) in [("no order", plain), ("adopting", adopting), ("the next one", after)] {
        times.sort_unstable();
        let (least, median, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
        println!("a pass with two bursts of 32, {name}: {median:.1?} ({least:.1?} to {most:.1?})");
    }
    assert_eq!(bench.worker.counters().snapshots, ADOPTIONS as u64);
    check(&bench.worker, FRAMES);
}
