//! The edge's stages under packets that a fuzzer makes up: tunnels, fragments, connections and their translation.
//!
//! Shared by the fuzz targets and the tests of `zsync-pipelines` (by `#[path]`). An input is a list of steps, each a byte that says
//! what is done ([`Player::step`]) and what that wants to know: packets are sent, or those that left before are answered or
//! complained about, with bytes changed; time goes by; the configuration is loaded anew over the same state, as after a crash.
//! Nothing is left of an input when it is over, so it does the same each time.
//!
//! Keeps true, or panics: each packet is decided, every frame comes home, and [`Scene::check`] of whatever leaves.

#[path = "edge/packets.rs"]
mod packets;
#[path = "edge/scene.rs"]
mod scene;

use packets::{answer, change, complaint, fill, repair, take};
pub(crate) use scene::Scene;
use scene::{Datagram, datagram};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use zsync_packet::burst::{BURST, Burst, Packet};
use zsync_packet::flow::HashKey;
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::header::{Ethernet, corpus};
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;
use zsync_packet::verdict::{DropReason, PortId, Verdict};
use zsync_pipelines::compile::{Resources, compile};
use zsync_pipelines::snapshot::{MAX_STAGES, PortFacts, Snapshot, StageCount};
use zsync_pipelines::spec::{Spec, parse};
use zsync_pipelines::stage::{Cx, EXTRA, Extra};
use zsync_pipelines::state::{State, needs};
use zsync_pipelines::tables::fib::{FibLayout, FibWriter, Target};
use zsync_pipelines::trace::text::PacketText;

/// The port where the inside is: 10.1.0.0/16 and fd01::/16.
pub(crate) const LAN: PortId = PortId(0);
/// The port where everything else is.
pub(crate) const WAN: PortId = PortId(1);
/// The addresses of [`WAN`].
pub(crate) const OWN: (Ipv4Addr, &str) = (Ipv4Addr::new(203, 0, 113, 1), "2001:db8:113::1");
const MTU: [u32; 2] = [1500, 1400];
/// The longest input that is looked at, in steps: what a fuzzer can still learn from.
const STEPS: usize = 200;
/// Packets that left, and can be answered.
const KEPT: usize = 8;
const FRAMES: u32 = (BURST + EXTRA) as u32;

/// What an input is played on.
struct Player {
    scene: Scene,
    spec: Spec,
    with: Resources,
    snapshot: Snapshot,
    counts: [StageCount; MAX_STAGES],
    pool: Pool,
    burst: Burst,
    extra: Extra,
    now: u64,
    /// The packets that left last.
    left: VecDeque<(PortId, Vec<u8>)>,
    waiting: Vec<(PortId, Vec<u8>)>,
    /// The datagrams whose first fragment has come.
    firsts: BTreeSet<Datagram>,
    /// How many packets left.
    forwarded: usize,
    epoch: u64,
}

/// Plays an input; how many packets left.
pub(crate) fn run(scene: Scene, input: &[u8]) -> usize {
    let mut player = Player::new(scene);
    let mut rest = input;
    for _ in 0..STEPS {
        if rest.is_empty() {
            break;
        }
        player.step(&mut rest);
    }
    player.send();
    player.forwarded
}

fn resources(spec: &Spec) -> Resources {
    let mut fib = FibWriter::create(Region::heap(FibLayout::SMALL.bytes()), FibLayout::SMALL)
        .expect("the region is new");
    for (prefix, len, port) in
        [("0.0.0.0", 0, WAN), ("::", 0, WAN), ("10.1.0.0", 16, LAN), ("fd01::", 16, LAN)]
    {
        let hop = fib.adjacency(port.0, [10, 9, 9, port.0 as u8].into()).expect("there is room");
        assert!(fib.resolve(hop, [2, 0, 0, 0, 2, port.0 as u8]));
        fib.insert(prefix.parse().expect("an address"), len, Target::Hops(vec![(hop, 1)]))
            .expect("there is room");
    }
    fib.insert(OWN.0.into(), 32, Target::Local).expect("there is room");
    let port = |n: u16, v4: Ipv4Addr, v6: &str| PortFacts {
        mac: mac(PortId(n)),
        mtu: MTU[usize::from(n)],
        v4: Some(v4),
        v6: v6.parse().ok(),
        complete_checksums: n == LAN.0,
        of_host: false,
    };
    let states = needs(spec, 1).into_iter().map(|(label, size)| (label, State::heap(size, 1)));
    Resources {
        ports: vec![
            port(0, [10, 1, 0, 1].into(), "fd01::1"),
            port(1, OWN.0, OWN.1),
            PortFacts { mac: mac(PortId(2)), mtu: 1500, ..PortFacts::default() },
        ],
        fibs: BTreeMap::from([(254, fib.reader())]),
        hash_key: HashKey::from_seed(7),
        workers: 1,
        states: states.collect(),
    }
}

fn mac(port: PortId) -> [u8; 6] {
    if port == LAN { corpus::MACS.1 } else { [0x02, 0, 0, 0, 1, port.0 as u8] }
}

impl Player {
    fn new(scene: Scene) -> Self {
        let spec = parse(&scene.config(), "edge.toml").unwrap_or_else(|errors| panic!("{errors:#?}")).spec;
        let with = resources(&spec);
        let mut snapshot = compile(&spec, 1, &with).expect("everything was given");
        snapshot.assign(0);
        let pool = Pool::heap(FrameSize::K2, FRAMES, 1).expect("some frames").remove(0);
        let burst = Burst::new(pool.arena().clone());
        Self {
            scene,
            spec,
            with,
            snapshot,
            counts: [StageCount::default(); MAX_STAGES],
            pool,
            burst,
            extra: Extra::new(),
            now: 1_000_000_000,
            left: VecDeque::new(),
            waiting: Vec::new(),
            firsts: BTreeSet::new(),
            forwarded: 0,
            epoch: 1,
        }
    }

    /// One step, as its first byte says.
    fn step(&mut self, rest: &mut &[u8]) {
        let [what] = take(rest);
        match what % 8 {
            // A packet, byte for byte.
            0 => {
                let [port, low, high] = take(rest);
                let len = usize::from(u16::from_le_bytes([low, high]) % 1793).min(rest.len());
                let (bytes, behind) = rest.split_at(len);
                *rest = behind;
                self.arrive(PortId(u16::from(port & 1)), bytes.to_vec(), port & 2 != 0);
            }
            // One of those to begin with, changed.
            1 | 2 => {
                let [which] = take(rest);
                let packets = self.scene.packets();
                let (port, text) = packets[usize::from(which) % packets.len()];
                let mut bytes = PacketText::parse(text).expect("a packet").frame(mac(port));
                if self.scene == Scene::Tunnels {
                    fill(&mut bytes);
                }
                change(&mut bytes, rest);
                self.arrive(port, bytes, what & 8 == 0);
            }
            // The answer to one that left, changed.
            3 | 4 => {
                let [which] = take(rest);
                if let Some((port, bytes)) = self.recent(which) {
                    let mut bytes = answer(port, bytes);
                    change(&mut bytes, rest);
                    self.arrive(port, bytes, what & 8 == 0);
                }
            }
            // An ICMP error about one that left.
            5 => {
                let [which, kind, code, cut] = take(rest);
                if let Some((port, bytes)) = self.recent(which) {
                    let mut bytes = complaint(port, &bytes, (kind, code), cut);
                    change(&mut bytes, rest);
                    self.arrive(port, bytes, true);
                }
            }
            // Time goes by: up to nine minutes.
            6 => {
                let [much] = take(rest);
                self.send();
                self.now += 1 << (u32::from(much) % 40);
                for _ in 0..=much >> 6 {
                    for number in 0..MAX_STAGES {
                        let cx = &mut Cx::new(self.now, &mut self.pool, &mut self.extra);
                        self.snapshot.tend(number, &mut self.burst, cx, &mut self.counts);
                    }
                }
            }
            // A new configuration, the same as before; or a new process over what was left.
            _ => {
                self.send();
                self.epoch += 1;
                self.snapshot = compile(&self.spec, self.epoch, &self.with).expect("as before");
                self.snapshot.assign(0);
            }
        }
    }

    fn recent(&self, which: u8) -> Option<(PortId, Vec<u8>)> {
        self.left.get(usize::from(which) % self.left.len().max(1)).cloned()
    }

    /// A packet waits for its burst: of one port, as a queue is.
    fn arrive(&mut self, port: PortId, mut bytes: Vec<u8>, repaired: bool) {
        bytes.truncate(1792);
        if repaired {
            repair(&mut bytes, 14, 0);
        }
        if self.waiting.first().is_some_and(|(other, _)| *other != port) || self.waiting.len() == BURST / 2 {
            self.send();
        }
        self.waiting.push((port, bytes));
    }

    /// Sends what waits, and looks at all that comes of it.
    fn send(&mut self) {
        let Some(&(port, _)) = self.waiting.first() else { return };
        for (_, bytes) in self.waiting.drain(..) {
            let first = Ethernet::parse(&bytes).ok().and_then(|frame| datagram(frame.payload()));
            self.firsts.extend(first.filter(|(_, first)| *first).map(|(datagram, _)| datagram));
            let mut frame = self.pool.alloc().expect("all frames are home between bursts");
            let len = bytes.len() as u16;
            self.pool.arena().bytes_mut(&mut frame, HEADROOM as u16, len).copy_from_slice(&bytes);
            self.burst
                .push(Packet { frame, start: HEADROOM as u16, len, port })
                .expect("it has room for its size");
        }
        self.now += 1000;
        let Self { scene, snapshot, counts, pool, burst, extra, now, left, firsts, forwarded, .. } = self;
        snapshot.process(port, burst, &mut Cx::new(*now, pool, extra), counts);
        assert_eq!(burst.live(), 0, "undecided packets");
        let mut seen = |input, verdict, bytes: &[u8]| match verdict {
            Verdict::Transmit(output) => {
                scene.check(input, output, bytes, firsts);
                *forwarded += 1;
                left.push_front((output, bytes.to_vec()));
                left.truncate(KEPT);
            }
            Verdict::Drop(DropReason::Undecided | DropReason::NoPipeline | DropReason::NoSuchPort)
            | Verdict::Next
            | Verdict::Goto(_)
            | Verdict::Worker(..) => panic!("{verdict:?}: no end of a packet"),
            Verdict::Drop(_) | Verdict::Punt | Verdict::Consume => {}
        };
        burst.drain(|packet, verdict, _| {
            seen(packet.port, verdict, pool.arena().bytes(&packet.frame, packet.start, packet.len));
            pool.free(packet.frame);
        });
        for made in extra.drain() {
            seen(
                made.packet.port,
                made.verdict,
                pool.arena().bytes(&made.packet.frame, made.packet.start, made.packet.len),
            );
            pool.free(made.packet.frame);
        }
        let audit = pool.audit(0, 0);
        assert_eq!((audit.pool, audit.leaked, audit.misplaced), (FRAMES, 0, 0), "frames are not home");
    }
}

/// Inputs to begin with: each packet, then a little of everything.
pub(crate) fn seeds(scene: Scene) -> Vec<Vec<u8>> {
    let count = scene.packets().len() as u8;
    let mut seeds: Vec<Vec<u8>> = (0..count).map(|n| vec![1, n, 0, 3, 0, 0, 5, 0, 3, 1, 0, 0]).collect();
    // All in order, in reverse, and each with its answer, an error about it, time and a reload between.
    seeds.push((0..count).flat_map(|n| [1, n, 0]).collect());
    seeds.push((0..count).rev().flat_map(|n| [1, n, 0]).collect());
    seeds.push((0..count).flat_map(|n| [1, n, 0, 3, 0, 0, 1, n, 0, 5, 1, 3, 1, 0, 0, 6, 20, 7]).collect());
    seeds.push((0..count).flat_map(|n| [1, n, 1, 40, 0, n, 2, n, 0x81, 60, 0, 9, 50, 0]).collect());
    // A handshake with data, an end, and the time after it.
    seeds.push(vec![
        1, 0, 0, 6, 0, 3, 0, 0, 6, 0, 3, 0, 0, 6, 0, 1, 1, 0, 5, 0, 3, 4, 60, 0, 6, 0xff, 7, 1, 1, 0,
    ]);
    seeds
}
