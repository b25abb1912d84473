//! A small router and a wire, as the configuration and the FIB make them, and a pool to send packets through.
//!
//! Shared by the fuzz target and the tests of `zsync-pipelines` (by `#[path]`). Keeps true: after every call all frames are
//! back in the pool, and the ledger says so.

use std::net::IpAddr;
use zsync_packet::burst::{BURST, Burst, Facts, Packet};
use zsync_packet::flow::HashKey;
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::header::{Mac, corpus};
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;
use zsync_packet::verdict::{PortId, Verdict};
use zsync_pipelines::compile::{Resources, compile};
use zsync_pipelines::snapshot::{MAX_STAGES, PortFacts, Snapshot, StageCount};
use zsync_pipelines::spec::parse;
use zsync_pipelines::stage::{Cx, EXTRA, Extra, Spawned};
use zsync_pipelines::tables::fib::{FibLayout, FibWriter, Target};

/// Two routed ports, then a wire between two more, and a port that no pipeline takes packets from.
const CONFIG: &str = r#"
[port.a]
netdev = "eth1"
[port.b]
netdev = "eth2"
[port.c]
netdev = "eth3"
[port.d]
netdev = "eth4"
[port.e]
netdev = "eth5"
[pipeline.forward]
input  = ["a", "b"]
stages = ["route.main"]
[route.main]
table = 254
[pipeline.wire]
input  = ["c", "d"]
stages = ["patch.wire"]
[patch.wire]
pairs = [["c", "d"]]
"#;

/// Ports of the configuration, by their numbers.
pub(crate) const A: PortId = PortId(0);
/// The peer of this one is a local stack: unfinished checksums are completed.
pub(crate) const B: PortId = PortId(1);
/// One end of the wire.
pub(crate) const C: PortId = PortId(2);
/// The other.
pub(crate) const D: PortId = PortId(3);
/// In no pipeline.
pub(crate) const E: PortId = PortId(4);
/// How many there are.
pub(crate) const PORTS: u16 = 5;

/// The MAC addresses of all ports but the first, whose address is what the corpus sends to, end in their number.
pub(crate) fn port_mac(port: PortId) -> Mac {
    if port == A { corpus::MACS.1 } else { [0x02, 0, 0, 0, 1, port.0 as u8] }
}

/// Longest IP packet that a port sends.
pub(crate) fn mtu(port: PortId) -> u32 {
    if port == B { 1400 } else { 1500 }
}

/// Where a route of the lab leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To these neighbours (port, MAC), flows in equal parts.
    Hops(&'static [(u16, Mac)]),
    /// To a neighbour whose address is not known yet.
    Unresolved,
    /// One of our addresses.
    Local,
    /// Nowhere.
    Blackhole,
    /// Nowhere, with an answer.
    Unreachable,
    /// Nowhere, with an answer.
    Prohibit,
}

const VIA_A: Way = Way::Hops(&[(0, [0x02, 0, 0, 0, 2, 0])]);
const VIA_B: Way = Way::Hops(&[(1, [0x02, 0, 0, 0, 2, 1])]);
const VIA_BOTH: Way = Way::Hops(&[(0, [0x02, 0, 0, 0, 2, 0]), (1, [0x02, 0, 0, 0, 2, 1])]);

/// The routes: overlapping ones of each kind, and no default.
pub(crate) const ROUTES: &[(&str, u8, Way)] = &[
    ("10.0.0.0", 8, VIA_A),
    ("10.2.0.0", 16, VIA_B),
    ("10.2.3.0", 24, VIA_BOTH),
    ("10.2.3.128", 25, VIA_A),
    ("10.2.0.1", 32, Way::Local),
    ("10.2.9.0", 24, Way::Unresolved),
    ("10.66.0.0", 16, Way::Blackhole),
    ("10.67.0.0", 16, Way::Unreachable),
    ("10.68.0.0", 16, Way::Prohibit),
    ("172.16.0.0", 12, VIA_BOTH),
    ("2001:db8::", 32, VIA_A),
    ("2001:db8:2::", 48, VIA_B),
    ("2001:db8:3::", 48, VIA_BOTH),
    ("2001:db8:3:8000::", 49, VIA_A),
    ("2001:db8:2::1", 128, Way::Local),
    ("2001:db8:9::", 48, Way::Unresolved),
    ("2001:db8:66::", 48, Way::Blackhole),
    ("2001:db8:67::", 48, Way::Unreachable),
    ("2001:db8:68::", 48, Way::Prohibit),
    ("3000::", 4, VIA_BOTH),
];

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What was decided.
    pub(crate) verdict: Verdict,
    /// The packet, as it is now.
    pub(crate) bytes: Vec<u8>,
    /// What the stages found out.
    pub(crate) facts: Facts,
}

/// A burst, and what may be made of it.
const FRAMES: u32 = (BURST + EXTRA) as u32;

/// A snapshot, and frames to fill with packets.
pub(crate) struct Lab {
    /// The snapshot under test.
    pub(crate) snapshot: Snapshot,
    /// What its stages counted.
    pub(crate) counts: [StageCount; MAX_STAGES],
    /// Packets that the stages made, of the last [`Self::process`].
    pub(crate) made: Vec<(Verdict, Vec<u8>)>,
    pool: Pool,
    burst: Burst,
    extra: Extra,
    now: u64,
}

impl Lab {
    /// The lab of this module.
    pub(crate) fn new() -> Self {
        let with = Resources {
            ports: (0..PORTS)
                .map(|port| {
                    let port = PortId(port);
                    PortFacts {
                        mac: port_mac(port),
                        mtu: mtu(port),
                        complete_checksums: port == B,
                        ..PortFacts::default()
                    }
                })
                .collect(),
            fibs: [(254, fib().reader())].into(),
            hash_key: HashKey::from_seed(7),
            workers: 1,
            states: [].into(),
        };
        let spec = parse(CONFIG, "lab.toml").expect("the lab's configuration is valid").spec;
        let snapshot = compile(&spec, 1, &with).expect("everything was given");
        let pool = Pool::heap(FrameSize::K2, FRAMES, 1).expect("some frames").remove(0);
        let burst = Burst::new(pool.arena().clone());
        let counts = [StageCount::default(); MAX_STAGES];
        Self { snapshot, counts, made: Vec::new(), pool, burst, extra: Extra::new(), now: 0 }
    }

    /// Sends packets that came in at `port` through the snapshot, 64 at a time. Packets that no frame holds are cut to fit.
    /// Each burst comes ten seconds after the last, so that no allowance is used up but by one burst.
    pub(crate) fn process<P: AsRef<[u8]>>(&mut self, port: PortId, packets: &[P]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(packets.len());
        self.made.clear();
        for packets in packets.chunks(BURST) {
            for packet in packets {
                let mut frame = self.pool.alloc().expect("all frames are home between bursts");
                let packet = packet.as_ref();
                let packet = &packet[..packet.len().min(FrameSize::K2.longest_packet())];
                let len = packet.len() as u16;
                self.pool.arena().bytes_mut(&mut frame, HEADROOM as u16, len).copy_from_slice(packet);
                self.burst
                    .push(Packet { frame, start: HEADROOM as u16, len, port })
                    .expect("a burst has room for its size");
            }
            self.now += 10_000_000_000;
            let Self { snapshot, counts, made, pool, burst, extra, now } = self;
            snapshot.process(port, burst, &mut Cx::new(*now, pool, extra), counts);
            assert_eq!(burst.live(), 0, "undecided packets");
            burst.drain(|packet, verdict, facts| {
                let bytes = pool.arena().bytes(&packet.frame, packet.start, packet.len).to_vec();
                outcomes.push(Outcome { verdict, bytes, facts: *facts });
                pool.free(packet.frame);
            });
            for Spawned { packet, verdict, .. } in extra.drain() {
                let bytes = pool.arena().bytes(&packet.frame, packet.start, packet.len).to_vec();
                made.push((verdict, bytes));
                pool.free(packet.frame);
            }
            let audit = pool.audit(0, 0);
            assert_eq!((audit.pool, audit.leaked, audit.misplaced), (FRAMES, 0, 0), "frames are not home");
        }
        outcomes
    }
}

fn fib() -> FibWriter {
    let region = Region::heap(FibLayout::SMALL.bytes());
    let mut writer = FibWriter::create(region, FibLayout::SMALL).expect("the region is new");
    for &(prefix, len, way) in ROUTES {
        let prefix: IpAddr = prefix.parse().expect("an address");
        let target = match way {
            Way::Hops(hops) => Target::Hops(
                hops.iter()
                    .map(|&(port, mac)| {
                        let id = hop(&mut writer, port);
                        assert!(writer.resolve(id, mac));
                        (id, 1)
                    })
                    .collect(),
            ),
            Way::Unresolved => Target::Hops(vec![(hop(&mut writer, 200), 1)]),
            Way::Local => Target::Local,
            Way::Blackhole => Target::Blackhole,
            Way::Unreachable => Target::Unreachable,
            Way::Prohibit => Target::Prohibit,
        };
        writer.insert(prefix, len, target).expect("there is room");
    }
    writer
}

fn hop(writer: &mut FibWriter, port: u16) -> zsync_pipelines::tables::fib::AdjacencyId {
    let gateway = IpAddr::from([10, 0, port as u8, 254]);
    writer.adjacency(port, gateway).expect("there is room")
}
