//! Work: a case, set up once and then done round by round.
//!
//! A round is prepared, which counts for nothing (packets are written anew, since stages rewrite them), and then done by
//! [`Work::measured`], which is all that is timed or counted. Stages are the ones that a configuration compiles to.
//! Keeps true: what a round does is checked at its end; a stage that dropped what it should forward has no figure.

use crate::stages::case::{Case, Kind};
use crate::traffic::{Family, Seeded, Table, udp_frame};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use zsync_engine::exchange::{Answer, Mailbox};
use zsync_engine::runner::Runner;
use zsync_engine::worker::{Output, Parts, Queue, Worker};
use zsync_io::memory::Null;
use zsync_packet::burst::{BURST, Burst, Packet};
use zsync_packet::checksum::Sum;
use zsync_packet::flow::HashKey;
use zsync_packet::frame::{Frame, FrameSize, HEADROOM};
use zsync_packet::header::{Ethernet, Ipv4, Ipv6};
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;
use zsync_packet::verdict::{DropReason, PortId, Verdict};
use zsync_pipelines::compile::{Resources, compile};
use zsync_pipelines::snapshot::{AnyStage, MAX_STAGES, PortFacts, Snapshot, StageCount};
use zsync_pipelines::spec;
use zsync_pipelines::stage::{Cx, Stage};
use zsync_pipelines::tables::fib::{Fib, Route};
use zsync_protocol::stats::{StatsLayout, WorkerStats};
use zsync_runtime::Seat;

/// Bytes of a packet: room for an IPv6 and a UDP header.
pub const PACKET: usize = 64;
/// Packets of a round with warm caches: their headers lie in the second-level cache, as a worker's do.
pub const HOT_ROUND: usize = 256;
/// Packets of a round with cold caches: few enough that the round is over before another thread wants the core.
pub const COLD_ROUND: usize = 2048;
/// Frames of a worker's pool.
const WORKER_FRAMES: u32 = 4096;
/// Nanoseconds that a worker's clock goes on by with each pass: about what one takes, so that housekeeping has its share.
const PASS: u64 = 1000;

const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const SENDER: [u8; 6] = [2, 0, 0, 9, 9, 9];
const INPUT: PortId = PortId(0);

/// See the module.
pub struct Work {
    case: Case,
    seeded: Seeded,
    table: Arc<Table>,
    doing: Doing,
}

enum Doing {
    Bursts(Box<Bursts>),
    Addresses4 { to: Vec<u32>, routes: Vec<Route> },
    Addresses6 { to: Vec<[u8; 16]>, routes: Vec<Route> },
    Frames { pool: Pool, taken: Vec<Frame> },
    Worker { runner: Box<Runner<Null>>, now: u64, before: [u64; 2] },
}

struct Bursts {
    kind: Kind,
    pool: Pool,
    bursts: Vec<Burst>,
    packets: Vec<Vec<u8>>,
    snapshot: Snapshot,
    /// The stage, and the one that must have run before it.
    stage: AnyStage,
    parse: Option<AnyStage>,
    counts: Box<[StageCount; MAX_STAGES]>,
    sum: u64,
}

impl Work {
    /// Sets it up. A lookup in a large table takes its memory: see [`crate::traffic::Table::bytes`].
    ///
    /// # Errors
    /// The table, the configuration or the pool cannot be made.
    pub fn new(case: Case) -> Result<Self> {
        let table = Table::random(case.kind.family(), case.routes(), &mut Seeded::new(1))?;
        Self::over(case, Arc::new(table))
    }

    /// The same over a table that is there already.
    ///
    /// # Errors
    /// The configuration or the pool cannot be made.
    pub fn over(case: Case, table: Arc<Table>) -> Result<Self> {
        let mut seeded = Seeded::new(2);
        let round = Self::round_of(case);
        let doing = match case.kind {
            Kind::Pool => {
                let pool = Pool::heap(FrameSize::K2, round as u32, 1)?.remove(0);
                Doing::Frames { pool, taken: Vec::with_capacity(BURST) }
            }
            Kind::Lookup(Family::V4) => {
                Doing::Addresses4 { to: vec![0; round], routes: vec![Route::NONE; round] }
            }
            Kind::Lookup(Family::V6) => {
                Doing::Addresses6 { to: vec![[0; 16]; round], routes: vec![Route::NONE; round] }
            }
            Kind::WorkerPatch | Kind::WorkerRoute(_) => {
                let runner = Box::new(worker(case, &table, &mut seeded)?);
                Doing::Worker { runner, now: 0, before: [0; 2] }
            }
            kind => {
                let pool = Pool::heap(FrameSize::K2, round as u32, 1)?.remove(0);
                let bursts =
                    (0..round.div_ceil(case.burst)).map(|_| Burst::new(pool.arena().clone())).collect();
                let snapshot = snapshot(kind, &table.fib)?;
                // The compiler puts `parse` ahead of a stage, but not ahead of every one.
                let stages = snapshot.pipelines.first().map_or(&[][..], |pipeline| &pipeline.stages);
                let parse = stages.first().filter(|_| matches!(kind, Kind::Route(_)));
                let parse = parse.map(|placed| placed.stage.clone());
                let stage = if matches!(kind, Kind::Parse(_)) { stages.first() } else { stages.last() };
                let stage = stage.context("a pipeline without a stage")?.stage.clone();
                let counts = Box::new([StageCount::default(); MAX_STAGES]);
                let packets = Vec::with_capacity(round);
                let bursts = Bursts { kind, pool, bursts, packets, snapshot, stage, parse, counts, sum: 0 };
                Doing::Bursts(Box::new(bursts))
            }
        };
        let mut work = Self { case, seeded, table, doing };
        work.redraw()?;
        Ok(work)
    }

    /// Packets of a round.
    pub fn round(&self) -> usize {
        Self::round_of(self.case)
    }

    fn round_of(case: Case) -> usize {
        if case.cold { COLD_ROUND } else { HOT_ROUND }
    }

    /// Makes a round ready.
    ///
    /// # Errors
    /// There are no destinations, or no frames.
    pub fn prepare(&mut self) -> Result<()> {
        if self.case.cold {
            self.redraw()?;
        }
        match &mut self.doing {
            Doing::Bursts(work) => work.prepare(self.case.burst),
            Doing::Worker { runner, before, .. } => {
                let worker = runner.worker();
                let counters = worker.counters();
                *before = [counters.rx_packets, counters.tx_packets];
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What it reads anyway, besides packets and tables: back in the caches after they were emptied.
    pub fn touch(&self) {
        if let Doing::Bursts(work) = &self.doing {
            for burst in &work.bursts {
                black_box((burst.common_port(), burst.total_bytes(), burst.live()));
                (0..burst.len()).for_each(|i| _ = black_box((burst.facts(i), burst.verdict(i))));
            }
        }
    }

    /// The work on a round of packets, and nothing else. Callgrind collects what is counted from this function by its name.
    #[inline(never)]
    pub fn measured(&mut self) {
        let burst = self.case.burst;
        match &mut self.doing {
            Doing::Bursts(work) => work.measured(),
            Doing::Addresses4 { to, routes } => {
                for (to, routes) in to.chunks(burst).zip(routes.chunks_mut(burst)) {
                    self.table.fib.routes4(to, routes);
                }
            }
            Doing::Addresses6 { to, routes } => {
                for (to, routes) in to.chunks(burst).zip(routes.chunks_mut(burst)) {
                    self.table.fib.routes6(to, routes);
                }
            }
            Doing::Frames { pool, taken } => {
                for _ in 0..Self::round_of(self.case).div_ceil(burst) {
                    pool.alloc_many(burst, |frame| taken.push(frame));
                    pool.free_many(taken.drain(..));
                }
            }
            Doing::Worker { runner, now, .. } => {
                for _ in 0..Self::round_of(self.case) / (2 * BURST) {
                    runner.pass(*now);
                    *now += PASS;
                }
            }
        }
    }

    /// Looks at what the round did.
    ///
    /// # Errors
    /// It is not what the case is about.
    pub fn check(&mut self) -> Result<()> {
        self.check_rounds(1)
    }

    /// The same for several rounds that were prepared once, as only a worker can do them.
    ///
    /// # Errors
    /// What was done is not what the case is about.
    pub fn check_rounds(&mut self, rounds: u64) -> Result<()> {
        let round = self.round();
        match &mut self.doing {
            Doing::Bursts(work) => work.check(round).with_context(|| self.case.to_string()),
            Doing::Addresses4 { routes, .. } | Doing::Addresses6 { routes, .. } => {
                ensure!(!routes.contains(&Route::NONE), "{}: an address without a route", self.case);
                Ok(())
            }
            Doing::Frames { pool, .. } => {
                ensure!(pool.available() == round, "{}: frames are missing", self.case);
                Ok(())
            }
            Doing::Worker { runner, before, .. } => {
                let worker = runner.worker();
                let counters = worker.counters();
                let done = [counters.rx_packets - before[0], counters.tx_packets - before[1]];
                let all = rounds * round as u64;
                ensure!(done == [all; 2], "{}: {done:?} packets of {all} went through", self.case);
                balanced(&worker)
            }
        }
    }

    /// New destinations, at random all over the table.
    fn redraw(&mut self) -> Result<()> {
        let round = self.round();
        match &mut self.doing {
            Doing::Bursts(work) => {
                work.packets.clear();
                for flow in 0..round {
                    work.packets.push(packet(self.table.destination(&mut self.seeded), 0, flow)?);
                }
            }
            Doing::Addresses4 { to, .. } => {
                for to in to {
                    let IpAddr::V4(address) = self.table.destination(&mut self.seeded) else {
                        bail!("not IPv4")
                    };
                    *to = address.to_bits();
                }
            }
            Doing::Addresses6 { to, .. } => {
                for to in to {
                    let IpAddr::V6(address) = self.table.destination(&mut self.seeded) else {
                        bail!("not IPv6")
                    };
                    *to = address.octets();
                }
            }
            Doing::Frames { .. } | Doing::Worker { .. } => {}
        }
        Ok(())
    }
}

impl Bursts {
    fn clear(&mut self) {
        // Backwards, so that every round has its packets in the same frames.
        self.bursts.iter_mut().rev().for_each(|burst| burst.free_into(&mut self.pool));
    }

    fn prepare(&mut self, size: usize) -> Result<()> {
        self.clear();
        let arena = self.pool.arena().clone();
        for (burst, packets) in self.bursts.iter_mut().zip(self.packets.chunks(size)) {
            for packet in packets {
                let mut frame = self.pool.alloc().context("fewer frames than packets")?;
                let (start, len) = (HEADROOM as u16, packet.len() as u16);
                arena.bytes_mut(&mut frame, start, len).copy_from_slice(packet);
                if let Err(packet) = burst.push(Packet { frame, start, len, port: INPUT }) {
                    self.pool.free(packet.frame);
                    bail!("a burst has no room");
                }
            }
            if let Some(parse) = &mut self.parse {
                parse.process(burst, &mut Cx::at(0));
            }
        }
        Ok(())
    }

    #[inline]
    fn measured(&mut self) {
        let mut cx = Cx::at(0);
        match self.kind {
            Kind::Pipeline(_) => {
                for burst in &mut self.bursts {
                    self.snapshot.process(INPUT, burst, &mut cx, &mut self.counts);
                }
            }
            Kind::Header(family) => {
                for burst in &self.bursts {
                    (0..burst.len()).for_each(|i| self.sum += header(family, burst.bytes(i)).unwrap_or(0));
                }
            }
            Kind::Checksum => {
                for burst in &self.bursts {
                    for i in 0..burst.len() {
                        let header = burst.bytes(i).get(14..34).unwrap_or(&[]);
                        self.sum += u64::from(Sum::of(header).is_valid());
                    }
                }
            }
            _ => self.bursts.iter_mut().for_each(|burst| self.stage.process(burst, &mut cx)),
        }
    }

    fn check(&mut self, round: usize) -> Result<()> {
        let sum = std::mem::take(&mut self.sum);
        match self.kind {
            Kind::Header(_) => ensure!(sum >= round as u64, "headers that cannot be read"),
            Kind::Checksum => ensure!(sum == round as u64, "{sum} checksums of {round} are right"),
            _ => {}
        }
        let good = |verdict| match self.kind {
            Kind::Drop => verdict == Verdict::Drop(DropReason::Configured),
            Kind::Patch | Kind::Route(_) | Kind::Pipeline(_) => matches!(verdict, Verdict::Transmit(_)),
            _ => verdict == Verdict::Next,
        };
        let verdicts = || self.bursts.iter().flat_map(|burst| (0..burst.len()).map(|i| burst.verdict(i)));
        let bad = verdicts().find(|verdict| !good(*verdict));
        ensure!(bad.is_none(), "a packet's verdict is {bad:?}");
        ensure!(verdicts().count() == round, "packets are missing");
        Ok(())
    }
}

impl Drop for Bursts {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Reads what a forwarder would of a packet's headers; at least 1.
#[inline]
fn header(family: Family, bytes: &[u8]) -> Option<u64> {
    let frame = Ethernet::parse(bytes).ok()?;
    Some(match family {
        Family::V4 => {
            let ip = Ipv4::parse(frame.payload()).ok()?;
            u64::from(ip.ttl()) + u64::from(ip.destination().to_bits())
        }
        Family::V6 => {
            let ip = Ipv6::parse(frame.payload()).ok()?;
            u64::from(ip.hop_limit()) + u64::from(ip.destination().segments()[3])
        }
    })
}

fn packet(destination: IpAddr, port: usize, flow: usize) -> Result<Vec<u8>> {
    let source: IpAddr = match destination {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    let (source, destination) =
        (SocketAddr::new(source, 1024 + flow as u16), SocketAddr::new(destination, 9));
    udp_frame((SENDER, MACS[port]), source, destination, PACKET).context("a packet too short for its headers")
}

/// What a configuration with this kind's stage compiles to.
fn snapshot(kind: Kind, fib: &Fib) -> Result<Snapshot> {
    let (stage, table) = match kind {
        Kind::Patch | Kind::WorkerPatch => ("patch.it", "[patch.it]\npairs = [[\"left\", \"right\"]]"),
        Kind::Drop => ("drop", ""),
        _ => ("route.it", "[route.it]\ntable = 254"),
    };
    let text = format!(
        "[port.left]\nnetdev = \"left\"\n[port.right]\nnetdev = \"right\"\n\
         [pipeline.it]\ninput = [\"left\", \"right\"]\nstages = [\"{stage}\"]\n{table}\n"
    );
    let Ok(parsed) = spec::parse(&text, "stages") else {
        bail!("the configuration of {} is wrong", kind.name())
    };
    let facts = |mac| PortFacts { mac, mtu: 1500, complete_checksums: false, ..PortFacts::default() };
    let fibs = BTreeMap::from([(254, fib.clone())]);
    let resources = Resources {
        ports: MACS.map(facts).to_vec(),
        fibs,
        hash_key: HashKey::from_seed(1),
        workers: 1,
        states: [].into(),
    };
    Ok(compile(&parsed.spec, 1, &resources)?)
}

/// A worker between two null devices, and what runs it.
fn worker(case: Case, table: &Table, seeded: &mut Seeded) -> Result<Runner<Null>> {
    let mut pool = Pool::heap(FrameSize::K2, WORKER_FRAMES, 1)?.remove(0);
    let mut device = |port: usize| -> Result<Null> {
        let id = PortId(port as u16);
        if case.kind == Kind::WorkerPatch {
            let packet = packet(table.destination(seeded), port, 0)?;
            return Null::printed(id, &mut pool, &packet).context("a packet too long for its frame");
        }
        let packets = (0..HOT_ROUND)
            .map(|flow| Ok(packet(table.destination(seeded), port, flow)?.into_boxed_slice()))
            .collect::<Result<Vec<_>>>()?;
        Ok(Null::copied(id, packets))
    };
    let queues = vec![Queue::new(device(0)?, PortId(0)), Queue::new(device(1)?, PortId(1))];
    let shared = Region::heap(StatsLayout::bytes(1));
    StatsLayout::format(&shared, 1)?;
    let seat = Seat::new()?;
    let mailbox = Mailbox::new(seat.remote().bell());
    let parts = Parts {
        pool,
        queues,
        outputs: vec![Output::Own(0), Output::Own(1)],
        mailbox: mailbox.clone(),
        peers: vec![mailbox],
        stats: WorkerStats::open(&shared, 0)?,
        punt: None,
    };
    let worker = Worker::new(parts, Box::new(snapshot(case.kind, &table.fib)?));
    Ok(Runner::new(worker, seat, 0))
}

/// Whether every frame has an owner, and every packet went somewhere.
fn balanced(worker: &Worker<Null>) -> Result<()> {
    let Answer::Audited { audit, rx, completion } = worker.audit() else {
        bail!("a worker without an audit")
    };
    ensure!((audit.leaked, audit.misplaced) == (0, 0), "the ledger does not balance: {audit:?}");
    ensure!(
        (audit.pool, audit.total(), rx, completion) == (WORKER_FRAMES, WORKER_FRAMES, 0, 0),
        "not all frames are home: {audit:?}"
    );
    let counters = worker.counters();
    let out =
        counters.tx_packets + counters.drops.iter().sum::<u64>() + counters.punted + counters.handed_over;
    ensure!(
        counters.rx_packets + counters.taken_over == out,
        "{} packets came, {out} went",
        counters.rx_packets
    );
    ensure!(counters.drops.iter().all(|&drops| drops == 0), "the worker dropped packets");
    Ok(())
}
