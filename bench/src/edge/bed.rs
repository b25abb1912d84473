//! A pipeline in memory, a burst of its packets, and the clocks that some of its stages take for it.
//!
//! Keeps true: every packet that is timed comes through: a stage that drops what it should let pass has no figure.

use crate::edge::case::{Case, Packets, Timed};
use crate::edge::traffic::{self, Ends, MACS};
use crate::traffic::{Seeded, Table};
use crate::tsc;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use zsync_packet::burst::{Burst, Packet};
use zsync_packet::flow::HashKey;
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::header::TcpFlags;
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;
use zsync_packet::verdict::{PortId, Verdict};
use zsync_pipelines::compile::{Resources, compile};
use zsync_pipelines::snapshot::{MAX_STAGES, PortFacts, Snapshot, StageCount};
use zsync_pipelines::spec;
use zsync_pipelines::stage::{Cx, Extra, Stage};
use zsync_pipelines::tables::fib::{Fib, FibLayout, FibWriter, Route, Target};

/// Packets at a time.
pub(crate) const BURST: usize = 32;
/// Bursts of a run: so few that nothing interrupts most runs, so many that they are alike.
const BURSTS: usize = 64;
/// Nanoseconds from one burst to the next, about what a worker takes for one.
const STEP: u64 = 3_000;
/// Longer than a UDP flow needs to be one of a stream: `UDP_STREAM_AGE` of the tracker.
const LATER: u64 = 3_000_000_000;

const FLAGS: [TcpFlags; 3] = [TcpFlags(0x02), TcpFlags(0x12), TcpFlags(0x10)];

/// See the module.
pub(crate) struct Bed {
    snapshot: Snapshot,
    timed: Range<usize>,
    whole: bool,
    pool: Pool,
    burst: Burst,
    extra: Extra,
    counts: Box<[StageCount; MAX_STAGES]>,
    now: u64,
    seeded: Seeded,
    /// What comes in at each port.
    packets: [Packed; 2],
}

/// Packets one behind the other.
#[derive(Default)]
struct Packed {
    bytes: Vec<u8>,
    /// Of each: they are all of a kind.
    len: usize,
}

impl Packed {
    fn push(&mut self, packet: &[u8]) -> Result<()> {
        ensure!(self.len == 0 || self.len == packet.len(), "packets of two lengths");
        self.len = packet.len();
        self.bytes.extend_from_slice(packet);
        Ok(())
    }

    fn count(&self) -> usize {
        self.bytes.len().checked_div(self.len).unwrap_or(0)
    }

    fn at(&self, n: usize) -> &[u8] {
        self.bytes.get(n * self.len..(n + 1) * self.len).unwrap_or(&[])
    }
}

impl Bed {
    /// Compiles the case's configuration, and opens its flows.
    ///
    /// # Errors
    /// The configuration is wrong, or packets do not come through.
    pub(crate) fn new(case: &Case, table: &Table) -> Result<Self> {
        let text = traffic::configuration(case);
        let parsed = spec::parse(&text, "edge").map_err(|errors| {
            anyhow::anyhow!("{}: the configuration is wrong: {:?}", case.name, errors.first())
        })?;
        let facts = |mac| PortFacts { mac, mtu: 1500, ..PortFacts::default() };
        let resources = Resources {
            ports: MACS.map(facts).to_vec(),
            fibs: BTreeMap::from([(254, table.fib.clone()), (100, backends()?)]),
            hash_key: HashKey::from_seed(1),
            workers: 1,
            states: [].into(),
        };
        let mut snapshot = compile(&parsed.spec, 1, &resources)?;
        snapshot.assign(0);
        let stages = snapshot.pipelines.first().map_or(&[][..], |pipeline| &pipeline.stages);
        let at = |label: &str| {
            let at = stages.iter().position(|placed| placed.label == label);
            at.with_context(|| format!("{}: the pipeline has no stage {label}", case.name))
        };
        let timed = match case.timed {
            Timed::Stages(first, last) => at(first)?..at(last)? + 1,
            Timed::Whole | Timed::Lookup => 0..stages.len(),
        };
        let pool = Pool::heap(FrameSize::K2, 4 * BURST as u32, 1)?.remove(0);
        let burst = Burst::new(pool.arena().clone());
        let mut bed = Self {
            snapshot,
            timed,
            whole: case.timed == Timed::Whole,
            pool,
            burst,
            extra: Extra::new(),
            counts: Box::new([StageCount::default(); MAX_STAGES]),
            now: 1_000_000_000,
            seeded: Seeded::new(9),
            packets: Default::default(),
        };
        bed.fill(case, table).with_context(|| format!("{}: its packets", case.name))?;
        Ok(bed)
    }

    fn fill(&mut self, case: &Case, table: &Table) -> Result<()> {
        let last = self.timed.end;
        for packet in traffic::packets(case, table)? {
            // Random addresses may be what no station has.
            if self.once(0, &packet, last)?.is_some() {
                let mut packet = packet;
                if matches!(case.packets, Packets::Balanced(_)) {
                    // What comes after the first one: open already.
                    packet = acknowledged(&packet);
                    self.once(0, &packet, last)?.context("a connection is not known")?;
                }
                self.packets[0].push(&packet)?;
            }
        }
        match case.packets {
            Packets::Tcp(flows) => self.open(&traffic::flows(case, flows, table), last, true),
            Packets::Udp(flows) | Packets::Translated(flows) => {
                self.open(&traffic::flows(case, flows, table), last, false)
            }
            _ => Ok(()),
        }
    }

    /// Opens flows: what each of them sends from then on, and its answers, are the packets of the bed.
    fn open(&mut self, flows: &[Ends], last: usize, tcp: bool) -> Result<()> {
        for &ends in flows {
            let make = |ends, port: usize, flags| {
                if tcp { traffic::tcp(ends, port, port == 1, flags) } else { traffic::udp(ends, port) }
            };
            let gone = self.once(0, &make(ends, 0, FLAGS[0])?, last)?;
            let gone = gone.with_context(|| format!("{} to {}: not let out", ends.0, ends.1))?;
            // The other end answers to whom it sees.
            let back = (ends.1, source(&gone, ends.0)?);
            let back = |flags| make(back, 1, flags);
            self.once(1, &back(FLAGS[1])?, last)?
                .with_context(|| format!("{} from {}: not let in", ends.0, ends.1))?;
            let (out, back) = (make(ends, 0, FLAGS[2])?, back(FLAGS[2])?);
            self.once(0, &out, last)?.context("an open flow is not let out")?;
            self.packets[0].push(&out)?;
            self.packets[1].push(&back)?;
        }
        if !tcp {
            // By then they are streams.
            self.now += LATER;
            for side in 0..2 {
                let packets = std::mem::take(&mut self.packets[side]);
                for n in 0..packets.count() {
                    self.once(side, packets.at(n), last)?.context("a stream is not let through")?;
                }
                self.packets[side] = packets;
            }
        }
        Ok(())
    }

    /// Sends one packet through the stages before `last`; what became of it, unless it was dropped.
    fn once(&mut self, port: usize, packet: &[u8], last: usize) -> Result<Option<Vec<u8>>> {
        push(&mut self.pool, &mut self.burst, port, packet)?;
        stages(
            &mut self.snapshot,
            0..last,
            &mut self.burst,
            &mut Cx::new(self.now, &mut self.pool, &mut self.extra),
        );
        let became = passes(self.burst.verdict(0)).then(|| self.burst.bytes(0).to_vec());
        self.burst.free_into(&mut self.pool);
        Ok(became)
    }

    /// Clocks per packet of one run: random packets, each burst of one port.
    ///
    /// # Errors
    /// A packet did not come through.
    pub(crate) fn run(&mut self) -> Result<f64> {
        let mut spent = 0;
        for _ in 0..BURSTS {
            let port = if self.packets[1].count() == 0 { 0 } else { self.seeded.below(2) as usize };
            let packets = &self.packets[port];
            for _ in 0..BURST {
                let n = self.seeded.below(packets.count() as u64) as usize;
                push(&mut self.pool, &mut self.burst, port, packets.at(n))?;
            }
            self.now += STEP;
            let burst = black_box(&mut self.burst);
            let cx = &mut Cx::new(self.now, &mut self.pool, &mut self.extra);
            let begin = if self.whole {
                let begin = tsc::ordered();
                self.snapshot.process(PortId(port as u16), burst, cx, &mut self.counts);
                begin
            } else {
                stages(&mut self.snapshot, 0..self.timed.start, burst, cx);
                let begin = tsc::ordered();
                stages(&mut self.snapshot, self.timed.clone(), burst, cx);
                begin
            };
            spent += tsc::ordered().wrapping_sub(begin);
            let lost = (0..burst.len()).map(|i| burst.verdict(i)).find(|verdict| !passes(*verdict));
            burst.free_into(&mut self.pool);
            if let Some(verdict) = lost {
                bail!("a packet's verdict is {verdict:?}");
            }
        }
        for number in 0..MAX_STAGES {
            let cx = &mut Cx::new(self.now, &mut self.pool, &mut self.extra);
            self.snapshot.tend(number, &mut self.burst, cx, &mut self.counts);
        }
        Ok(spent as f64 / (BURSTS * BURST) as f64)
    }
}

/// Lookups of random destinations, a burst at a time.
pub(crate) struct Lookups {
    fib: Fib,
    to: Addresses,
    at: usize,
}

enum Addresses {
    V4(Vec<u32>),
    V6(Vec<[u8; 16]>),
}

impl Lookups {
    /// Of 65,536 addresses under random routes.
    pub(crate) fn new(case: &Case, table: &Table) -> Self {
        let mut seeded = Seeded::new(3);
        let list = (0..1 << 16).map(|_| table.destination(&mut seeded));
        let to = match case.family {
            crate::traffic::Family::V4 => Addresses::V4(
                list.filter_map(|to| if let IpAddr::V4(v4) = to { Some(v4.to_bits()) } else { None })
                    .collect(),
            ),
            crate::traffic::Family::V6 => Addresses::V6(
                list.filter_map(|to| if let IpAddr::V6(v6) = to { Some(v6.octets()) } else { None })
                    .collect(),
            ),
        };
        Self { fib: table.fib.clone(), to, at: 0 }
    }

    /// Clocks per lookup of one run.
    ///
    /// # Errors
    /// An address has no route.
    pub(crate) fn run(&mut self) -> Result<f64> {
        let mut spent = 0;
        let mut routes = [Route::NONE; BURST];
        for _ in 0..BURSTS {
            let begin = match &self.to {
                Addresses::V4(list) => {
                    let burst = black_box(list.get(self.at..self.at + BURST).unwrap_or(&[]));
                    let begin = tsc::ordered();
                    self.fib.routes4(burst, &mut routes[..burst.len()]);
                    begin
                }
                Addresses::V6(list) => {
                    let burst = black_box(list.get(self.at..self.at + BURST).unwrap_or(&[]));
                    let begin = tsc::ordered();
                    self.fib.routes6(burst, &mut routes[..burst.len()]);
                    begin
                }
            };
            spent += tsc::ordered().wrapping_sub(begin);
            ensure!(!black_box(&routes).contains(&Route::NONE), "an address without a route");
            self.at = (self.at + BURST) % (1 << 16);
        }
        Ok(spent as f64 / (BURSTS * BURST) as f64)
    }
}

/// Clocks per packet of timing a burst in which nothing happens.
pub(crate) fn nothing() -> f64 {
    let once = || {
        let begin = tsc::ordered();
        tsc::ordered().wrapping_sub(begin)
    };
    (0..10_000).map(|_| once()).min().unwrap_or(0) as f64 / BURST as f64
}

/// Whether a packet went on.
fn passes(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Next | Verdict::Transmit(_))
}

fn stages(snapshot: &mut Snapshot, which: Range<usize>, burst: &mut Burst, cx: &mut Cx<'_>) {
    let stages = snapshot.pipelines.first_mut().and_then(|pipeline| pipeline.stages.get_mut(which));
    stages.into_iter().flatten().for_each(|placed| placed.stage.process(burst, cx));
}

fn push(pool: &mut Pool, burst: &mut Burst, port: usize, bytes: &[u8]) -> Result<()> {
    let mut frame = pool.alloc().context("no frame is free")?;
    let (start, len) = (HEADROOM as u16, bytes.len() as u16);
    pool.arena().bytes_mut(&mut frame, start, len).copy_from_slice(bytes);
    if let Err(packet) = burst.push(Packet { frame, start, len, port: PortId(port as u16) }) {
        pool.free(packet.frame);
        bail!("a burst has no room");
    }
    Ok(())
}

/// The source of a packet that was `sent` by this one.
fn source(packet: &[u8], sent: SocketAddr) -> Result<SocketAddr> {
    let (address, port) = if sent.is_ipv4() { (26..30, 34) } else { (22..38, 54) };
    let address = packet.get(address).context("a packet without addresses")?;
    let address: IpAddr = match address.len() {
        4 => address.first_chunk::<4>().copied().unwrap_or_default().into(),
        _ => address.first_chunk::<16>().copied().unwrap_or_default().into(),
    };
    let port = packet.get(port..port + 2).and_then(|port| port.first_chunk::<2>()).context("no port")?;
    Ok(SocketAddr::new(address, u16::from_be_bytes(*port)))
}

/// A TCP packet of IPv4 that opened a connection, as the one after it: no SYN, an ACK. Its checksum is not kept right, as
/// nothing behind looks at it.
fn acknowledged(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if let Some(flags) = packet.get_mut(47) {
        *flags = FLAGS[2].0;
    }
    packet
}

/// The routes to the backends of a balanced address.
fn backends() -> Result<Fib> {
    let layout = FibLayout::SMALL;
    let mut writer = FibWriter::create(Region::heap(layout.bytes()), layout)?;
    for (n, address) in traffic::backends().enumerate() {
        let id = writer.adjacency(0, address.into())?;
        writer.resolve(id, [2, 0, 0, 0, 1, n as u8]);
        writer.insert(address.into(), 32, Target::Hops(vec![(id, 1)])).context("a route to a backend")?;
    }
    Ok(writer.reader())
}
