//! What translation costs: processor clocks a packet of established flows, in bursts of 32, by how many flows there are.
//!
//! `cargo bench -p zsync-pipelines --bench nat`. Clients share the addresses of a pool. Each packet is of a flow drawn at random,
//! out or back, which is the worst that caches can get; each figure is the fastest of some rounds, the spread beside it:
//! the `nat` stage alone, behind a `track` that has just touched the flows, and both together. Parsing is not part of it.
//! `open` is the first packet of a flow: rules, a port, a mapping, the flow's translation. Clocks are those of the time stamp
//! counter, of which the kernel says how many there are in a second.

use std::net::IpAddr;
use std::time::Instant;

use zsync_packet::burst::{BURST, Burst, Packet};
use zsync_packet::flow::HashKey;
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::header::build;
use zsync_packet::header::ether_type;
use zsync_packet::pool::Pool;
use zsync_packet::verdict::PortId;
use zsync_pipelines::snapshot::PortFacts;
use zsync_pipelines::spec::{NatSpec, Prefix, SourceNat};
use zsync_pipelines::stage::{Cx, Extra, Stage};
use zsync_pipelines::stages::nat::{self, Nat, NatResources};
use zsync_pipelines::stages::parse::Parse;
use zsync_pipelines::stages::track::{Rules, Track};
use zsync_pipelines::state::{State, StateSize};
use zsync_pipelines::tables::flow::{FlowSpace, Shards};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const LAN: PortId = PortId(0);
const WAN: PortId = PortId(1);
const PACKETS: usize = 32;
const ROUNDS: usize = 15;

/// xorshift64*, so that every run has the same packets.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) * limit as u64) >> 32) as usize
    }
}

/// A UDP packet of 64 bytes (IPv4), with the check sequence.
fn packet(from: (IpAddr, u16), to: (IpAddr, u16)) -> Vec<u8> {
    let ip = build::udp_packet(from.into(), to.into(), &[0; 18]).expect("one family");
    let kind = if from.0.is_ipv4() { ether_type::IPV4 } else { ether_type::IPV6 };
    build::ethernet(MAC, [2; 6], &[], kind, &ip)
}

/// The ends of flow `n`: seven of each client.
fn ends(v6: bool, n: u32) -> ((IpAddr, u16), (IpAddr, u16)) {
    let (client, server, port) = (n / 7, n % 60_000, 2000 + (n % 7) as u16);
    let address = |high: u128, v4: u32, low: u32| -> IpAddr {
        if v6 { (high << 96 | u128::from(low)).to_be_bytes().into() } else { (v4 + low).to_be_bytes().into() }
    };
    let from = address(0xfd00_0000, 0x0a00_0000, client);
    let to = address(0x2001_0db9, 0xc633_0000, server);
    ((from, port), (to, 53))
}

struct Bench {
    pool: Pool,
    burst: Burst,
    extra: Extra,
    parse: Parse,
    track: Track,
    nat: Nat,
}

impl Bench {
    fn new(flows: u32) -> Self {
        let key = HashKey::from_seed(1);
        let space = FlowSpace { flows: flows + flows / 16, translations: flows + flows / 16 };
        let memory = State::heap(StateSize { shared: 0, each: space.bytes() }, 1);
        let shards = Shards::new(memory, space, key.clone()).expect("fresh memory");
        let prefix = |text: &str| text.parse::<Prefix>().expect("a prefix");
        let rule = SourceNat {
            from: vec![prefix("10.0.0.0/8"), prefix("fd00::/8")],
            output: None,
            to: vec![prefix("203.0.112.0/22"), prefix("2001:db8:1::/118")],
        };
        let spec = NatSpec { snat: vec![rule], mappings: flows + flows / 16, ..NatSpec::default() };
        let resources = NatResources {
            own: &[],
            fib: None,
            flows: Some(shards.clone()),
            state: nat::size(&spec).map(|size| State::heap(size, 1)),
            hash_key: key,
        };
        let mut nat = Nat::new(&spec, resources).expect("a sound configuration");
        nat.assign(0);

        let mut track = Track::new(shards, Rules::default());
        track.assign(0);
        let pool = Pool::heap(FrameSize::K2, 2 * BURST as u32, 1).expect("a small pool").remove(0);
        let burst = Burst::new(pool.arena().clone());
        let ports = vec![PortFacts { mac: MAC, mtu: 1500, ..PortFacts::default() }; 2];
        Self { pool, burst, extra: Extra::new(), parse: Parse::new(ports, true), track, nat }
    }

    /// Parses the packets, tracks and translates them; says how many nanoseconds the latter two took. What they became goes
    /// to `out`.
    fn run(
        &mut self,
        port: PortId,
        packets: &[&[u8]],
        now: u64,
        mut out: impl FnMut(usize, &[u8]),
    ) -> [f64; 2] {
        for bytes in packets {
            let mut frame = self.pool.alloc().expect("as many frames as packets");
            let (start, len) = (HEADROOM as u16, bytes.len() as u16);
            self.pool.arena().bytes_mut(&mut frame, start, len).copy_from_slice(bytes);
            let packet = Packet { frame, start, len, port };
            assert!(self.burst.push(packet).is_ok(), "a burst has room for them");
        }
        let mut cx = Cx::new(now, &mut self.pool, &mut self.extra);
        self.parse.process(&mut self.burst, &mut cx);
        let begin = ticks();
        self.track.process(&mut self.burst, &mut cx);
        let between = ticks();
        self.nat.process(&mut self.burst, &mut cx);
        let end = ticks();
        assert_eq!(self.burst.live().count_ones() as usize, packets.len(), "none is dropped");
        (0..packets.len()).for_each(|i| out(i, self.burst.bytes(i)));
        self.burst.free_into(&mut self.pool);
        [between - begin, end - between]
    }
}

/// Nanoseconds.
fn ticks() -> f64 {
    use std::sync::OnceLock;
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    BEGIN.get_or_init(Instant::now).elapsed().as_nanos() as f64
}

/// Clocks of the time stamp counter in a nanosecond.
fn clocks() -> f64 {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let megahertz =
        info.lines().find_map(|line| line.strip_prefix("cpu MHz")?.split(':').nth(1)?.trim().parse().ok());
    megahertz.map_or(1.0, |megahertz: f64| megahertz / 1000.0)
}

fn measure(name: &str, v6: bool, flows: u32) {
    let mut bench = Bench::new(flows);
    let now = 1_000_000_000;
    // Out, and back: by then each is established.
    let mut packets: Vec<(PortId, Vec<u8>)> = Vec::new();
    let mut opened = 0.0;
    let numbers: Vec<u32> = (0..flows).collect();
    for chunk in numbers.chunks(PACKETS) {
        let out: Vec<Vec<u8>> = chunk
            .iter()
            .map(|n| {
                let (from, to) = ends(v6, *n);
                packet(from, to)
            })
            .collect();
        let bytes: Vec<&[u8]> = out.iter().map(Vec::as_slice).collect();
        let mut back = Vec::new();
        let took = bench.run(LAN, &bytes, now, |i, bytes| back.push(answer(v6, chunk[i], bytes)));
        opened += took[1];
        let bytes: Vec<&[u8]> = back.iter().map(Vec::as_slice).collect();
        bench.run(WAN, &bytes, now, |_, _| {});
        // A part of all packets is enough to draw from.
        if packets.len() < 200_000 || flows <= 100_000 {
            packets.extend(out.into_iter().map(|bytes| (LAN, bytes)));
            packets.extend(back.into_iter().map(|bytes| (WAN, bytes)));
        } else {
            let at = packets.len();
            let mut draw = Numbers(u64::from(chunk[0]) + 7);
            for (out, back) in out.into_iter().zip(back) {
                // The kept ones are of all flows alike.
                packets[draw.below(at)] = (LAN, out);
                packets[draw.below(at)] = (WAN, back);
            }
        }
    }
    let mut draw = Numbers(5);
    let mut rounds: Vec<[f64; 2]> = Vec::new();
    let bursts = 4000;
    for _ in 0..ROUNDS {
        let mut sums = [0.0; 2];
        for _ in 0..bursts {
            let first = draw.below(packets.len());
            let port = packets[first].0;
            let mut chosen: Vec<&[u8]> = Vec::with_capacity(PACKETS);
            while chosen.len() < PACKETS {
                let (at, bytes) = &packets[draw.below(packets.len())];
                if *at == port {
                    chosen.push(bytes);
                }
            }
            let took = bench.run(port, &chosen, now, |_, _| {});
            sums.iter_mut().zip(took).for_each(|(sum, took)| *sum += took);
        }
        rounds.push(sums.map(|sum| sum * clocks() / f64::from(bursts * PACKETS as u32)));
    }
    let figure = |of: fn(&[f64; 2]) -> f64| {
        let all: Vec<f64> = rounds.iter().map(of).collect();
        let fastest = all.iter().copied().fold(f64::MAX, f64::min);
        let slowest = all.iter().copied().fold(0.0, f64::max);
        format!("{fastest:>7.1} ({slowest:>6.1})")
    };
    println!(
        "{name:<22} {flows:>9} {:>17} {:>17} {:>8.0}",
        figure(|round| round[1]),
        figure(|round| round[0] + round[1]),
        opened * clocks() / f64::from(flows),
    );
}

/// The answer to flow `n`, whose packet has become `bytes`.
fn answer(v6: bool, n: u32, bytes: &[u8]) -> Vec<u8> {
    let (_, server) = ends(v6, n);
    let (at, port) = if v6 { (22, 54) } else { (26, 34) };
    let external: IpAddr = if v6 {
        bytes[at..at + 16].first_chunk::<16>().map_or([0; 16].into(), |octets| (*octets).into())
    } else {
        bytes[at..at + 4].first_chunk::<4>().map_or([0; 4].into(), |octets| (*octets).into())
    };
    packet(server, (external, u16::from_be_bytes([bytes[port], bytes[port + 1]])))
}

fn main() {
    println!("clocks a packet: the fastest round (the slowest)");
    println!("{:<22} {:>9} {:>17} {:>17} {:>8}", "packets", "flows", "nat", "track + nat", "open");
    for flows in [10_000, 1_000_000] {
        measure("UDP over IPv4", false, flows);
        measure("UDP over IPv6", true, flows);
    }
}
