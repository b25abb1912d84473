//! Two workers, each with one end of a wire: packets change hands, snapshots change under them, orders are answered.

#[allow(dead_code)]
mod memory_support;

use memory_support::lab::{C, D, PORTS};
use memory_support::{Host, RINGS, Rig, balanced, check, snapshot, wire};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use zsync_engine::exchange::{Answer, HANDOVERS, Mailbox, Order};
use zsync_engine::runner::Runner;
use zsync_engine::worker::{Output, Worker};
use zsync_io::memory::Memory;
use zsync_packet::flow::HashKey;
use zsync_packet::frame::FrameSize;
use zsync_packet::header::build::{self, Ipv4Spec};
use zsync_packet::header::corpus::MACS;
use zsync_packet::header::{VlanTag, ether_type, protocol};
use zsync_packet::pool::Pool;
use zsync_packet::verdict::{DropReason, PortId};
use zsync_pipelines::compile::{Resources, compile};
use zsync_pipelines::snapshot::{PortFacts, Snapshot};
use zsync_pipelines::spec::parse;
use zsync_protocol::message::Idle;
use zsync_protocol::stats::{Counters, StageCounter, WorkerState, WorkerStats};

const FRAMES: u32 = 2048;

fn packets() -> Vec<Vec<u8>> {
    (0..251u8).map(|n| vec![n; 60 + usize::from(n)]).collect()
}

/// Worker 0 has port C, worker 1 has port D, and a wire joins the two.
fn two(rig: &Rig, frames: u32) -> (Vec<Worker<Memory>>, Vec<Host>) {
    let pools = Pool::heap(FrameSize::K2, frames, 2).unwrap();
    let mut hosts = Vec::new();
    let mut workers = Vec::new();
    for (pool, port) in pools.into_iter().zip([C, D]) {
        let (queue, host) = wire(port, RINGS, packets());
        hosts.push(host);
        let mut outputs = vec![Output::Nowhere; usize::from(PORTS)];
        let other = if port == C { 1 } else { 0 };
        outputs[usize::from(C.0)] = if port == C { Output::Own(0) } else { Output::Peer(other) };
        outputs[usize::from(D.0)] = if port == D { Output::Own(0) } else { Output::Peer(other) };
        workers.push(rig.worker(pool, vec![queue], outputs, snapshot()));
    }
    (workers, hosts)
}

/// Sums over both workers: what was handed over was taken over.
fn whole(counters: &[Counters]) -> Counters {
    counters.iter().for_each(balanced);
    let sum = |term: fn(&Counters) -> u64| counters.iter().map(term).sum::<u64>();
    assert_eq!(sum(|counters| counters.handed_over), sum(|counters| counters.taken_over));
    let mut whole = Counters {
        rx_packets: sum(|counters| counters.rx_packets),
        tx_packets: sum(|counters| counters.tx_packets),
        ..Counters::default()
    };
    for (reason, drops) in whole.drops.iter_mut().enumerate() {
        *drops = counters.iter().map(|counters| counters.drops[reason]).sum();
    }
    assert_eq!(whole.balance(), 0);
    whole
}

#[test]
fn a_packet_changes_hands_and_its_frame_comes_home() {
    let rig = Rig::new(2);
    let (mut workers, mut hosts) = two(&rig, FRAMES);
    hosts.iter_mut().for_each(|host| host.kept = Some(Default::default()));
    for round in 0..2000u64 {
        for host in &mut hosts {
            host.send(1 + round as usize % 40);
            host.receive();
        }
        // Now one is faster, now the other.
        for worker in if round % 3 == 0 { [0, 0, 1] } else { [1, 0, 1] } {
            workers[worker].pass(round * 30_000);
            balanced(workers[worker].counters());
        }
    }
    hosts.iter_mut().for_each(Host::give_up);
    for round in 2000..2100 {
        workers.iter_mut().for_each(|worker| {
            worker.pass(round * 200_000);
        });
        hosts.iter_mut().for_each(|host| {
            host.receive();
        });
    }
    let counters: Vec<Counters> = workers.iter().map(|worker| worker.counters().clone()).collect();
    let sum = whole(&counters);
    assert!(sum.tx_packets > 20_000 && counters.iter().all(|counters| counters.taken_over > 1000));
    // Every frame is back where it belongs: each worker's own, all of its slice.
    workers.iter().for_each(|worker| check(worker, FRAMES / 2));
    // The bytes went along, in order.
    for host in &hosts {
        let kept = host.kept.as_ref().unwrap();
        assert!(kept.len() > 10_000 && kept.iter().all(|bytes| bytes.len() == 60 + usize::from(bytes[0])));
        let in_order = kept.iter().zip(kept.iter().skip(1)).filter(|(a, b)| b[0] == (a[0] + 1) % 251).count();
        let dropped = sum.dropped() as usize;
        assert!(in_order + dropped + 1 >= kept.len(), "{in_order} of {} with {dropped} drops", kept.len());
    }
}

/// The other worker stands still: first its mailbox is full, or first the pool is empty. Neither loses a frame.
#[test]
fn a_worker_that_takes_nothing_over_costs_counted_packets_and_no_frame() {
    for (frames, full) in [(8192, true), (FRAMES, false)] {
        let rig = Rig::new(2);
        let (mut workers, mut hosts) = two(&rig, frames);
        for round in 0..200 {
            hosts[0].send(64);
            hosts[0].receive();
            workers[0].pass(round * 30_000);
        }
        hosts[0].give_up();
        let counters = workers[0].counters().clone();
        balanced(&counters);
        assert_eq!(counters.drops[DropReason::HandoverFull as usize] > 0, full);
        assert_eq!(counters.handed_over, if full { HANDOVERS as u64 } else { u64::from(frames / 2) });
        for round in 200..400 {
            workers[1].pass(round * 200_000);
            workers[0].pass(round * 200_000);
            hosts.iter_mut().for_each(|host| {
                host.receive();
            });
        }
        whole(&workers.iter().map(|worker| worker.counters().clone()).collect::<Vec<_>>());
        workers.iter().for_each(|worker| check(worker, frames / 2));
        let pool_empty = workers[0].counters().pool_empty;
        assert_eq!(pool_empty > 0, !full, "{pool_empty}");
    }
}

/// The dead published each at a time of its own: heirs' books are right all the same, and say what was lost.
#[test]
fn packets_between_two_workers_that_died_are_lost_and_counted() {
    for last in [0, 1] {
        let rig = Rig::new(2);
        let (mut workers, mut hosts) = two(&rig, FRAMES);
        let mut now = 0;
        for round in 0..20 {
            hosts[0].send(32);
            // The last rounds only one of them publishes.
            for (number, worker) in workers.iter_mut().enumerate() {
                now += if round < 10 || number == last { 200_000 } else { 1 };
                if number == last || round < 15 {
                    worker.pass(now);
                }
            }
            hosts.iter_mut().for_each(|host| _ = host.receive());
        }
        let died: Vec<Counters> =
            [0, 1].map(|number| WorkerStats::open(&rig.stats, number).unwrap().read().unwrap()).to_vec();
        let (left, came) = (died[0].handed_over, died[1].taken_over);
        assert_eq!(left > came, last == 0, "{left} left and {came} came");
        let pools = Pool::heap(FrameSize::K2, FRAMES, 2).unwrap();
        let mut heirs: Vec<Worker<Memory>> = pools
            .into_iter()
            .map(|pool| rig.worker(pool, Vec::new(), Vec::new(), Snapshot::empty()))
            .collect();
        Worker::settle(&mut heirs);
        let counters: Vec<Counters> = heirs.iter().map(|heir| heir.counters().clone()).collect();
        counters.iter().for_each(balanced);
        let sum = |term: fn(&Counters) -> u64| counters.iter().map(term).sum::<u64>();
        assert_eq!(sum(|counters| counters.handed_over), sum(|counters| counters.taken_over));
        assert_eq!(sum(|counters| counters.lost_in_crash), left.saturating_sub(came));
        let (rx, tx) = (sum(|counters| counters.rx_packets), sum(|counters| counters.tx_packets));
        assert_eq!(rx, tx + left.saturating_sub(came) + sum(Counters::dropped));
        hosts.iter_mut().for_each(Host::give_up);
        for _ in 0..40 {
            now += 200_000;
            workers.iter_mut().for_each(|worker| _ = worker.pass(now));
            hosts.iter_mut().for_each(|host| _ = host.receive());
        }
        workers.iter().for_each(|worker| check(worker, FRAMES / 2));
    }
}

const EDGE: &str = r#"
[port.a]
netdev = "a"
[port.b]
netdev = "b"
[pipeline.p]
input = ["a"]
stages = ["vlan.off", "mirror.m", "filter.f", "track", "drop"]
[vlan.off]
action = "pop"
[mirror.m]
to = "b"
[filter.f]
default = "accept"
rules = [{ accept = true, protocol = "udp", count = "seen" }]
"#;

/// Packets of flows that the other worker owns go on there behind what they have been through.
#[test]
fn no_stage_sees_a_packet_twice_that_changes_hands() {
    let spec = parse(EDGE, "test").unwrap().spec;
    let port = PortFacts { mac: MACS.1, mtu: 1500, ..PortFacts::default() };
    let with = Resources {
        ports: vec![port; 2],
        fibs: [].into(),
        hash_key: HashKey::from_seed(1),
        workers: 2,
        states: [].into(),
    };
    let packets = (0..200u8).map(|n| {
        let ip = Ipv4Spec::new([10, 0, n, 1].into(), [10, 1, 0, n].into(), protocol::UDP);
        build::ethernet(
            MACS.1,
            MACS.0,
            &[VlanTag::new(7)],
            ether_type::IPV4,
            &ip.packet(&[0, 9, 0, 9, 0, 20, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        )
    });
    let rig = Rig::new(2);
    let pools = Pool::heap(FrameSize::K2, FRAMES, 2).unwrap();
    let (a, mut from) = wire(PortId(0), RINGS, packets.collect());
    let (b, mut to) = wire(PortId(1), RINGS, vec![vec![0; 60]]);
    let mut queues = vec![vec![a], vec![b]];
    let mut workers = Vec::new();
    for (n, pool) in pools.into_iter().enumerate().rev() {
        let outputs = [0, 1].map(|port| if port == n { Output::Own(0) } else { Output::Peer(port as u8) });
        let mut snapshot = compile(&spec, 1, &with).unwrap();
        snapshot.assign(n);
        workers.insert(0, rig.worker(pool, queues.remove(n), outputs.to_vec(), snapshot));
    }
    // Under another configuration the numbers of stages mean nothing: then a packet starts again.
    for (epoch, twice) in [(1, false), (2, true)] {
        let before: Vec<Counters> = workers.iter().map(|worker| worker.counters().clone()).collect();
        let mut sent = 0;
        while sent < 200 {
            sent += from.send((200 - sent).min(32));
            from.receive();
            workers[0].pass(sent as u64 * 200_000 + epoch * 1_000_000_000);
            if epoch == 2 && sent <= 32 {
                let mut next = compile(&spec, epoch, &with).unwrap();
                next.assign(1);
                rig.mailboxes[1].order(Order::Adopt(Box::new(next))).unwrap();
                workers[1].pass(sent as u64 * 200_000 + epoch * 1_000_000_000);
                assert!(matches!(rig.mailboxes[1].answers.pop(), Some(Answer::Retired(_))));
            }
        }
        for round in 0..20 {
            for worker in &mut workers {
                worker.pass((epoch + 1) * 1_000_000_000 + round * 200_000);
            }
            to.receive();
        }
        let sum = |n: usize| -> u64 {
            let seen = |counters: &Counters| counters.stages[n][StageCounter::Packets as usize];
            let now = workers.iter().map(|worker| seen(worker.counters())).sum::<u64>();
            now - before.iter().map(seen).sum::<u64>()
        };
        let labels: Vec<String> = compile(&spec, 1, &with)
            .unwrap()
            .pipelines
            .remove(0)
            .stages
            .into_iter()
            .map(|s| s.label)
            .collect();
        let counts: Vec<(&str, u64)> =
            labels.iter().enumerate().map(|(n, label)| (&label[..], sum(n))).collect();
        let handed = workers[0].counters().handed_over - before[0].handed_over;
        assert!(handed > 50, "{handed}");
        if twice {
            assert!(counts[0].1 > 200, "{counts:?}");
        } else {
            assert!(counts.iter().all(|(_, seen)| *seen == 200), "{counts:?}");
            // One copy of each.
            assert_eq!(to.device.received(), 200);
        }
        workers.iter().for_each(|worker| balanced(worker.counters()));
    }
}

/// Both workers in their own threads.
struct Running {
    mailboxes: Vec<Arc<Mailbox>>,
    stats: Vec<WorkerStats>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    fn start(rig: Rig, workers: Vec<Worker<Memory>>) -> Self {
        let start = Instant::now();
        let stats = (0..workers.len()).map(|n| WorkerStats::open(&rig.stats, n).unwrap()).collect();
        let threads = workers.into_iter().zip(rig.seats).map(|(worker, seat)| {
            thread::spawn(move || {
                let clock = || start.elapsed().as_nanos() as u64;
                Runner::new(worker, seat, clock()).run(Idle::Adaptive, clock);
            })
        });
        Self { threads: threads.collect(), mailboxes: rig.mailboxes, stats }
    }

    fn answer(&self, worker: usize) -> Answer {
        let patience = Instant::now();
        loop {
            if let Some(answer) = self.mailboxes[worker].answers.pop() {
                return answer;
            }
            assert!(patience.elapsed() < Duration::from_secs(20), "worker {worker} does not answer");
            thread::yield_now();
        }
    }

    fn ask(&self, worker: usize, order: Order) -> Answer {
        self.mailboxes[worker].order(order).unwrap();
        self.answer(worker)
    }

    /// All counters, once they say the same twice with nothing done in between.
    fn settled(&self, hosts: &mut [Host]) {
        let mut quiet = 0;
        let mut last = 0;
        while quiet < 30 {
            let moved: usize = hosts.iter_mut().map(Host::receive).sum();
            thread::sleep(Duration::from_millis(1));
            let now: u64 =
                self.stats.iter().filter_map(WorkerStats::read).map(|c| c.rx_packets + c.tx_packets).sum();
            quiet = if moved == 0 && now == last { quiet + 1 } else { 0 };
            last = now;
        }
    }
}

/// As `base`, at every second epoch with a wire that is cut: its packets have no pipeline.
fn variant(base: &Snapshot, epoch: u64) -> Box<Snapshot> {
    let mut variant = Snapshot { epoch, ..base.clone() };
    if epoch.is_multiple_of(2) {
        variant.entry = vec![None; usize::from(PORTS)];
    }
    Box::new(variant)
}

#[test]
fn snapshots_change_under_load_and_orders_are_answered() {
    let rig = Rig::new(2);
    let (workers, mut hosts) = two(&rig, FRAMES);
    let running = Running::start(rig, workers);
    let base = snapshot();
    let mut sent = 0;
    for epoch in 2..60 {
        let until = Instant::now() + Duration::from_millis(3);
        while Instant::now() < until {
            for host in &mut hosts {
                sent += host.send(32);
                host.receive();
            }
            thread::yield_now();
        }
        for worker in 0..2 {
            let order = Order::Adopt(variant(&base, epoch));
            let Answer::Retired(retired) = running.ask(worker, order) else { panic!("another answer") };
            assert_eq!(retired.epoch, epoch - 1, "the one before comes back");
            assert_eq!(running.stats[worker].epoch(), epoch);
            let Answer::Audited { audit, .. } = running.ask(worker, Order::Audit) else {
                panic!("another answer")
            };
            // While the other one works, frames on their way between the two are seen by one of them, or by neither; never
            // is one in nobody's hands.
            assert_eq!((audit.leaked, audit.burst), (0, 0), "{audit:?}");
        }
    }
    hosts.iter_mut().for_each(Host::give_up);
    running.settled(&mut hosts);

    let mut frames = 0;
    for worker in 0..2 {
        let Answer::Audited { audit, rx, .. } = running.ask(worker, Order::Audit) else {
            panic!("another answer")
        };
        assert_eq!((audit.leaked, audit.misplaced, rx), (0, 0, 0), "{audit:?}");
        frames += audit.total();
    }
    assert_eq!(frames, FRAMES);
    for worker in [1, 0] {
        assert!(matches!(running.ask(worker, Order::Stop), Answer::Stopped));
    }
    running.threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(running.stats.iter().all(|stats| stats.state() == Some(WorkerState::Stopped)));

    let counters: Vec<Counters> = running.stats.iter().map(|stats| stats.read().unwrap()).collect();
    let sum = whole(&counters);
    assert_eq!(sum.rx_packets as usize, sent, "a wire without faults loses nothing");
    let received: u64 = hosts.iter().map(|host| host.device.received()).sum();
    assert_eq!(sum.tx_packets, received);
    assert!(counters.iter().all(|counters| counters.snapshots == 58));
    let cut = sum.drops[DropReason::NoPipeline as usize];
    assert!(cut > 0 && sum.tx_packets > 0, "both snapshots saw packets: {cut}, {}", sum.tx_packets);
    // Nothing else became of them, but for rings that were full.
    let full = sum.drops[DropReason::HandoverFull as usize] + sum.drops[DropReason::TxRingFull as usize];
    assert_eq!(sum.tx_packets + cut + full, sent as u64);
}

#[test]
fn a_successor_goes_on_counting() {
    let rig = Rig::new(2);
    let (workers, mut hosts) = two(&rig, FRAMES);
    let stats = rig.stats.clone();
    let running = Running::start(rig, workers);
    hosts[0].send(30);
    running.settled(&mut hosts);
    for worker in 0..2 {
        assert!(matches!(running.ask(worker, Order::Stop), Answer::Stopped));
    }
    running.threads.into_iter().for_each(|thread| thread.join().unwrap());
    let before = WorkerStats::open(&stats, 0).unwrap().read().unwrap();
    assert_eq!((before.rx_packets, before.handed_over), (30, 30));
    let rig = Rig { stats, ..Rig::new(2) };
    let (workers, _hosts) = two(&rig, FRAMES);
    assert_eq!(workers[0].counters().rx_packets, 30);
    assert_eq!(workers[0].counters().ports[usize::from(C.0)][0], 30);
}
