//! WireGuard in memory: what a packet costs from its parsing to its route, beside the seal of the same batch alone, and with
//! more and more peers.
//!
//! Two gateways with as many sessions between them as there are peers, each with keys of its own. What one has sealed the other
//! opens. Each packet of a burst is of a peer that is drawn at random. Keeps true: a packet that does not come through is an error.

use crate::traffic::Seeded;
use crate::tsc;
use anyhow::{Context, Result, ensure};
use arrayvec::ArrayVec;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use zsync_crypto::aead::{Aead, Job, Key, TAG_LEN};
use zsync_packet::burst::{Burst, Packet};
use zsync_packet::flow::HashKey;
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::header::build;
use zsync_packet::header::{ether_type, ethernet, ipv4, udp};
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;
use zsync_packet::verdict::{PortId, Verdict};
use zsync_pipelines::compile::{Resources, compile};
use zsync_pipelines::snapshot::{AnyStage, MAX_STAGES, PortFacts, Snapshot, StageCount};
use zsync_pipelines::spec::wireguard::{PeerSpec, WireguardSpec};
use zsync_pipelines::spec::{self, Prefix, StageSpec};
use zsync_pipelines::stage::{Cx, Extra};
use zsync_pipelines::tables::fib::{Fib, FibLayout, FibWriter, Target};
use zsync_wireguard::key::{PublicKey, Secret};
use zsync_wireguard::message::{DATA_HEADER_LEN, data_nonce, padded};
use zsync_wireguard::noise::Keys;
use zsync_wireguard::record::Endpoint;

/// Packets at a time.
pub(crate) const BURST: usize = 32;
/// Bursts of a run: so few that nothing interrupts most runs.
const BURSTS: usize = 64;
/// Nanoseconds from one burst to the next, about what a worker takes for one.
const STEP: u64 = 3_000;
/// When sessions began.
const BEGUN: u64 = 1_000_000_000;
const PORT: u16 = 51_820;
/// The longest packet inside.
const MTU: u16 = 1420;
/// Where packets come in from inside, and from outside.
const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const SENDER: [u8; 6] = [2, 0, 0, 9, 9, 9];
/// Bytes ahead of a message.
const OUTER: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN + udp::HEADER_LEN;

const CONFIG: &str = r#"
    [port.inside]
    netdev = "inside"
    [port.outside]
    netdev = "outside"
    [pipeline.out]
    input  = ["inside"]
    stages = ["wireguard-seal.it", "route.it"]
    [pipeline.in]
    input  = ["outside"]
    stages = ["wireguard-open.it", "route.it"]
    [route.it]
    table = 254
    [wireguard.it]
    private-key-file = "it.key"
    peers = []
"#;

/// A pipeline in memory, and what runs it.
struct Gateway {
    snapshot: Snapshot,
    pool: Pool,
    burst: Burst,
    extra: Extra,
    counts: Box<[StageCount; MAX_STAGES]>,
}

/// See the module.
pub(crate) struct Bed {
    /// Seals and opens, what is measured; and its other end.
    near: Gateway,
    far: Gateway,
    aead: Aead,
    /// What the near one seals with and opens with, by peer.
    keys: Vec<[Key; 2]>,
    /// Peers of a burst, and their numbers.
    drawn: ArrayVec<u32, BURST>,
    seeded: Seeded,
    now: u64,
    /// Bytes of a packet from its Ethernet header on.
    size: usize,
}

/// What is timed of a bed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timed {
    /// Parse, seal, route.
    Seal,
    /// The batch of these packets, sealed by itself.
    SealAlone,
    /// Parse, open, parse, route.
    Open,
    /// The batch of these packets, opened by itself.
    OpenAlone,
}

fn outside(end: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, end)
}

/// The first of the two addresses of a peer; both ends call them by it.
fn inner(peer: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + 2 * peer)
}

fn secret(seed: u64) -> Secret {
    let mut seeded = Seeded::new(seed);
    let mut bytes = [0; 32];
    bytes.as_chunks_mut::<8>().0.iter_mut().for_each(|word| *word = seeded.number().to_le_bytes());
    Secret::new(bytes)
}

/// The peer's key, as nobody computes it: it is never used.
fn public(peer: u32) -> PublicKey {
    PublicKey(*secret(u64::from(peer) + 1000).expose())
}

/// Its sections, as if files with keys had been read and so many peers stood there.
fn section(spec: &mut WireguardSpec, end: u8, peers: u32) -> Result<()> {
    spec.private_key.secret = Some(secret(u64::from(end)));
    spec.local = vec![outside(end).into()];
    spec.max_peers = peers;
    let peer = |n: u32| {
        Ok(PeerSpec {
            public_key: public(n),
            preshared: None,
            endpoint: None,
            allowed_ips: vec![Prefix::new(inner(n).into(), 31).context("a prefix")?],
            keepalive: 0,
        })
    };
    spec.peers = (0..peers).map(peer).collect::<Result<_>>()?;
    Ok(())
}

fn fib() -> Result<Fib> {
    let layout = FibLayout::SMALL;
    let mut writer = FibWriter::create(Region::heap(layout.bytes()), layout)?;
    let id = writer.adjacency(1, Ipv4Addr::new(192, 0, 2, 254).into())?;
    writer.resolve(id, SENDER);
    writer.insert(Ipv4Addr::UNSPECIFIED.into(), 0, Target::Hops(vec![(id, 1)]))?;
    Ok(writer.reader())
}

impl Gateway {
    /// Number `end`, with sessions to so many peers, all at the other end.
    fn new(end: u8, peers: u32) -> Result<Self> {
        let parsed = spec::parse(CONFIG, "benchmark")
            .map_err(|errors| anyhow::anyhow!("the configuration is wrong: {:?}", errors.first()))?;
        let mut spec = parsed.spec;
        for stage in spec.pipelines.iter_mut().flat_map(|pipeline| &mut pipeline.stages) {
            if let StageSpec::WireguardOpen(tunnel) | StageSpec::WireguardSeal(tunnel) = &mut stage.spec {
                section(tunnel, end, peers)?;
            }
        }
        let facts = |mac| PortFacts { mac, mtu: 1500, ..PortFacts::default() };
        let resources = Resources {
            ports: MACS.map(facts).to_vec(),
            fibs: BTreeMap::from([(254, fib()?)]),
            hash_key: HashKey::from_seed(u64::from(end)),
            workers: 1,
            states: [].into(),
        };
        let mut snapshot = compile(&spec, 1, &resources)?;
        snapshot.assign(0);
        let pool = Pool::heap(FrameSize::K2, 4 * BURST as u32, 1)?.remove(0);
        let burst = Burst::new(pool.arena().clone());
        let counts = Box::new([StageCount::default(); MAX_STAGES]);
        Ok(Self { snapshot, pool, burst, extra: Extra::new(), counts })
    }

    /// Begins a session with each peer, as handshakes would, with these keys.
    fn connect(&self, end: u8, peers: u32, remote: impl Fn(u32) -> u32, keys: &[Keys]) -> Result<Vec<u32>> {
        let stages = self.snapshot.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
        let mut tunnels = stages.filter_map(|placed| match &placed.stage {
            AnyStage::WireguardSeal(stage) => Some(stage.tunnel()),
            _ => None,
        });
        let tunnel = tunnels.next().context("no tunnel")?;
        let (book, known) = (tunnel.book(), tunnel.peers());
        let (us, them) = (outside(end), outside(3 - end));
        let endpoint = Endpoint { remote: SocketAddr::from((them, PORT)), local: us.into() };
        let connect = |n: u32| {
            let slot = known.slot(&public(n)).context("a peer without a slot")?;
            book.settle(slot, known, true);
            let record = known.record(book, slot).context("a peer without a record")?;
            let index = book.indices().hide(slot, 1);
            let keys = keys.get(n as usize).context("a peer without keys")?;
            record.install(keys, index, remote(n), true, BEGUN);
            record.set_endpoint(endpoint);
            Ok(index)
        };
        (0..peers).map(connect).collect()
    }

    /// Index of a peer's session.
    fn index(end: u8, peer: u32) -> u32 {
        zsync_wireguard::index::Indices::new(&HashKey::from_seed(u64::from(end))).hide(peer, 1)
    }

    fn push(&mut self, port: u16, bytes: &[u8]) -> Result<()> {
        let mut frame = self.pool.alloc().context("no frame is free")?;
        let (start, len) = (HEADROOM as u16, bytes.len() as u16);
        self.pool.arena().bytes_mut(&mut frame, start, len).copy_from_slice(bytes);
        let pushed = self.burst.push(Packet { frame, start, len, port: PortId(port) });
        ensure!(pushed.is_ok(), "a burst has no room");
        Ok(())
    }

    /// The pipeline of a port, over what was pushed; the clocks that it took.
    fn process(&mut self, port: u16, now: u64) -> u64 {
        let Self { snapshot, pool, burst, extra, counts } = self;
        let cx = &mut Cx::new(now, pool, extra);
        let burst = black_box(burst);
        let begin = tsc::ordered();
        snapshot.process(PortId(port), burst, cx, counts);
        tsc::ordered().wrapping_sub(begin)
    }

    /// That all went out.
    fn check(&self) -> Result<()> {
        let verdicts = (0..self.burst.len()).map(|i| self.burst.verdict(i));
        let lost = verdicts.into_iter().find(|verdict| !matches!(verdict, Verdict::Transmit(_)));
        ensure!(lost.is_none(), "a packet's verdict is {lost:?}");
        Ok(())
    }

    fn clear(&mut self) {
        self.burst.free_into(&mut self.pool);
    }
}

impl Bed {
    /// With so many peers, and packets of `size` bytes.
    ///
    /// # Errors
    /// The gateways cannot be set up.
    pub(crate) fn new(peers: u32, size: usize) -> Result<Self> {
        let (near, far) = (Gateway::new(1, peers)?, Gateway::new(2, peers)?);
        let pairs: Vec<[Secret; 2]> =
            (0..peers).map(|n| [1, 2].map(|way| secret(u64::from(n) << 8 | way))).collect();
        let keys = |way: usize| -> Vec<Keys> {
            let of =
                |pair: &[Secret; 2]| Keys { sending: pair[way].clone(), receiving: pair[1 - way].clone() };
            pairs.iter().map(of).collect()
        };
        near.connect(1, peers, |n| Gateway::index(2, n), &keys(0))?;
        far.connect(2, peers, |n| Gateway::index(1, n), &keys(1))?;
        let of = |pair: &[Secret; 2]| [0, 1].map(|way| Key::chacha(*pair[way].expose()));
        let keys = pairs.iter().map(of).collect();
        let (aead, drawn, seeded) = (Aead::new(), ArrayVec::new(), Seeded::new(9));
        Ok(Self { near, far, aead, keys, drawn, seeded, now: BEGUN, size })
    }

    fn draw(&mut self) {
        self.drawn.clear();
        let peers = self.keys.len() as u64;
        while !self.drawn.is_full() {
            self.drawn.push(self.seeded.below(peers) as u32);
        }
        self.now += STEP;
    }

    /// A packet between the two addresses of a peer.
    fn packet(&self, peer: u32) -> Result<Vec<u8>> {
        let first = inner(peer);
        let last = Ipv4Addr::from_bits(first.to_bits() + 1);
        let headers = ethernet::HEADER_LEN + ipv4::HEADER_LEN + udp::HEADER_LEN;
        let payload = vec![0x5a; self.size.saturating_sub(headers)];
        let packet = build::udp_packet((first, 1024).into(), (IpAddr::from(last), 9).into(), &payload)
            .context("ends of two families")?;
        Ok(build::ethernet(MACS[0], SENDER, &[], ether_type::IPV4, &packet))
    }

    /// Clocks per packet of one run.
    ///
    /// # Errors
    /// A packet did not come through.
    pub(crate) fn run(&mut self, timed: Timed) -> Result<f64> {
        let mut spent = 0;
        for _ in 0..BURSTS {
            self.draw();
            spent += match timed {
                Timed::Seal => {
                    for n in 0..self.drawn.len() {
                        let packet = self.packet(self.drawn[n])?;
                        self.near.push(0, &packet)?;
                    }
                    let took = self.near.process(0, self.now);
                    self.near.check()?;
                    took
                }
                Timed::Open => {
                    self.seal_far()?;
                    let took = self.near.process(1, self.now);
                    self.near.check()?;
                    took
                }
                Timed::SealAlone => {
                    let text = padded(self.size - ethernet::HEADER_LEN, usize::from(MTU));
                    let packet = vec![0x5a; ethernet::HEADER_LEN + text + TAG_LEN];
                    for _ in 0..self.drawn.len() {
                        self.near.push(0, &packet)?;
                    }
                    self.batch(ethernet::HEADER_LEN, false)?
                }
                Timed::OpenAlone => {
                    self.seal_far()?;
                    self.batch(OUTER + DATA_HEADER_LEN, true)?
                }
            };
            self.near.clear();
        }
        Ok(spent as f64 / (BURSTS * BURST) as f64)
    }

    /// The far end seals a burst, which is the near one's to open.
    fn seal_far(&mut self) -> Result<()> {
        for n in 0..self.drawn.len() {
            let packet = self.packet(self.drawn[n])?;
            self.far.push(0, &packet)?;
        }
        self.far.process(0, self.now);
        self.far.check()?;
        for i in 0..self.far.burst.len() {
            let mut bytes = self.far.burst.bytes(i).to_vec();
            bytes[..6].copy_from_slice(&MACS[1]);
            self.near.push(1, &bytes)?;
        }
        self.far.clear();
        Ok(())
    }

    /// The clocks of the burst's batch alone, of the bytes from `at` on.
    fn batch(&mut self, at: usize, open: bool) -> Result<u64> {
        let Self { near, aead, keys, drawn, .. } = self;
        let mut jobs: ArrayVec<Job<'_>, BURST> = ArrayVec::new();
        for ((_, bytes), peer) in near.burst.each_mut((1 << BURST) - 1).zip(drawn.iter()) {
            // What the far end has sealed says itself with which counter.
            let counter = match (open, bytes.get(at - 8..at).and_then(|bytes| bytes.first_chunk())) {
                (true, Some(counter)) => u64::from_le_bytes(*counter),
                _ => self.now,
            };
            let key = &keys[*peer as usize][usize::from(open)];
            let data = bytes.get_mut(at..).context("a packet without data")?;
            jobs.push(Job::new(key, data_nonce(counter), &[], data));
        }
        let begin = tsc::ordered();
        if open {
            aead.open(&mut jobs);
        } else {
            aead.seal(&mut jobs);
        }
        let took = tsc::ordered().wrapping_sub(begin);
        ensure!(jobs.iter().all(Job::is_done), "a packet of the batch was not done");
        Ok(took)
    }
}

/// Bytes that the process has in memory (proc(5), `statm`).
fn resident() -> Result<usize> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: usize = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).context("statm")?;
    Ok(pages * rustix::param::page_size())
}

/// Bytes in memory that a peer takes, with so many more peers than one: what the process grows by.
///
/// # Errors
/// The gateway cannot be set up.
pub(crate) fn growth(peers: u32) -> Result<f64> {
    // What all tunnels have, whoever their peers are.
    let one = |peers: u32| -> Result<usize> {
        let keys: Vec<Keys> =
            (0..peers).map(|n| Keys { sending: secret(n.into()), receiving: secret(n.into()) }).collect();
        let before = resident()?;
        let gateway = Gateway::new(1, peers)?;
        gateway.connect(1, peers, |n| n, &keys)?;
        let after = resident()?;
        drop(gateway);
        Ok(after.saturating_sub(before))
    };
    let (first, many) = (one(1)?, one(peers)?);
    Ok(many.saturating_sub(first) as f64 / f64::from(peers))
}
