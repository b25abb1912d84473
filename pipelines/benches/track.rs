//! What tracking costs: processor clocks a packet of established flows, in bursts of 32, by how many flows there are.
//!
//! `cargo bench -p zsync-pipelines --bench track`. Each packet is of a flow drawn at random, which is the worst that caches
//! can get; each figure is the fastest of some rounds, the spread beside it. The hash and the lookup are part of it, parsing
//! is not. Clocks are those of the time stamp counter, of which the kernel says how many there are in a second.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use zsync_packet::burst::{BURST, Burst, Packet};
use zsync_packet::flow::HashKey;
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::header::TcpFlags;
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec, TcpSpec};
use zsync_packet::header::{ether_type, protocol};
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;
use zsync_packet::verdict::PortId;
use zsync_pipelines::snapshot::PortFacts;
use zsync_pipelines::stage::{Cx, Extra, Stage};
use zsync_pipelines::stages::parse::Parse;
use zsync_pipelines::stages::track::{Rules, Track};
use zsync_pipelines::tables::flow::{FlowSpace, Flows};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PACKETS: usize = 32;
const ROUNDS: usize = 15;

/// xorshift64*, so that every run has the same packets.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) * u64::from(limit)) >> 32) as u32
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp4,
    Udp4,
    Tcp6,
    Udp6,
}

/// A packet of flow `n`, at a stage of its life.
fn packet(kind: Kind, n: u32, reply: bool, flags: TcpFlags) -> Vec<u8> {
    let (from, to) = ((n % 50_000) as u16 + 1024, 443);
    let ports = if reply { (to, from) } else { (from, to) };
    let (sequence, acknowledgement) = if reply { (500, 101) } else { (101, 501) };
    let sequence = if flags.contains(TcpFlags::SYN) {
        if reply { 500 } else { 100 }
    } else {
        sequence + u32::from(reply)
    };
    let tcp = TcpSpec { sequence, acknowledgement, ..TcpSpec::new(ports.0, ports.1, flags) };
    let transport = |sum| match kind {
        Kind::Tcp4 | Kind::Tcp6 => tcp.segment(sum, &[]),
        Kind::Udp4 | Kind::Udp6 => build::udp(sum, ports.0, ports.1, &[0; 18]),
    };
    let protocol = if matches!(kind, Kind::Tcp4 | Kind::Tcp6) { protocol::TCP } else { protocol::UDP };
    if matches!(kind, Kind::Tcp4 | Kind::Udp4) {
        let (a, b) =
            (Ipv4Addr::from_bits(0x0a00_0000 + n / 7), Ipv4Addr::from_bits(0xc633_0000 + n % 60_000));
        let (a, b) = if reply { (b, a) } else { (a, b) };
        let ip = Ipv4Spec::new(a, b, protocol);
        build::ethernet(MAC, [2; 6], &[], ether_type::IPV4, &ip.packet(&transport(ip.address_sum())))
    } else {
        let a = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(n));
        let b = Ipv6Addr::from_bits(0x2001_0db9 << 96 | u128::from(n % 60_000));
        let (a, b) = if reply { (b, a) } else { (a, b) };
        let ip = Ipv6Spec::new(a, b, protocol);
        build::ethernet(MAC, [2; 6], &[], ether_type::IPV6, &ip.packet(&transport(ip.address_sum())))
    }
}

struct Bench {
    pool: Pool,
    burst: Burst,
    extra: Extra,
    parse: Parse,
    track: Track,
}

impl Bench {
    fn new(flows: u32) -> Self {
        let space = FlowSpace { flows: flows + flows / 16, translations: 0 };
        let table =
            Flows::open(Region::heap(space.bytes()), space, HashKey::from_seed(1)).expect("fresh memory");
        let pool = Pool::heap(FrameSize::K2, 2 * BURST as u32, 1).expect("a small pool").remove(0);
        let burst = Burst::new(pool.arena().clone());
        let ports = vec![PortFacts { mac: MAC, mtu: 1500, ..PortFacts::default() }];
        let parse = Parse::new(ports, true);
        Self { pool, burst, extra: Extra::new(), parse, track: Track::alone(table, Rules::default()) }
    }

    /// Parses the packets, tracks them, and says how many nanoseconds the latter took.
    fn run(&mut self, packets: &[&[u8]], now: u64) -> f64 {
        for bytes in packets {
            let mut frame = self.pool.alloc().expect("as many frames as packets");
            let (start, len) = (HEADROOM as u16, bytes.len() as u16);
            self.pool.arena().bytes_mut(&mut frame, start, len).copy_from_slice(bytes);
            let packet = Packet { frame, start, len, port: PortId(0) };
            assert!(self.burst.push(packet).is_ok(), "a burst has room for them");
        }
        let mut cx = Cx::new(now, &mut self.pool, &mut self.extra);
        self.parse.process(&mut self.burst, &mut cx);
        let begin = ticks();
        self.track.process(&mut self.burst, &mut cx);
        let took = ticks() - begin;
        assert_eq!(self.burst.live().count_ones() as usize, packets.len(), "none is dropped");
        self.burst.free_into(&mut self.pool);
        took
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

fn measure(name: &str, kind: Kind, flows: u32) {
    let mut bench = Bench::new(flows);
    let mut now = 1_000_000_000;
    for n in 0..flows {
        let tcp = matches!(kind, Kind::Tcp4 | Kind::Tcp6);
        let steps: &[(bool, u8)] =
            if tcp { &[(false, 2), (true, 0x12), (false, 0x10)] } else { &[(false, 0), (true, 0)] };
        for (reply, flags) in steps {
            bench.run(&[&packet(kind, n, *reply, TcpFlags(*flags))], now);
        }
    }
    if matches!(kind, Kind::Udp4 | Kind::Udp6) {
        now += 3_000_000_000;
        for n in 0..flows {
            bench.run(&[&packet(kind, n, false, TcpFlags(0))], now);
        }
    }
    let mut numbers = Numbers(7);
    let bursts = (flows as usize / PACKETS).clamp(1000, 6000);
    let traffic: Vec<Vec<u8>> = (0..bursts * PACKETS)
        .map(|_| packet(kind, numbers.below(flows), numbers.below(2) == 1, TcpFlags::ACK))
        .collect();
    let empty = (0..1000).map(|_| -(ticks() - ticks())).fold(f64::MAX, f64::min);
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let mut total = 0.0;
            for packets in traffic.chunks(PACKETS) {
                let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
                now += 3000;
                total += bench.run(&packets, now) - empty;
            }
            total * clocks() / traffic.len() as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!(
        "{name:<24} {flows:>9} {:>8.1} {:>8.1} {:>8.1}",
        rounds[0],
        rounds[ROUNDS / 2],
        rounds[ROUNDS - 1]
    );
}

fn main() {
    println!("clocks a packet, {:.3} of them in a nanosecond", clocks());
    println!("{:<24} {:>9} {:>8} {:>8} {:>8}", "packets", "flows", "least", "median", "most");
    for flows in [100, 10_000, 1_000_000] {
        measure("TCP over IPv4", Kind::Tcp4, flows);
        measure("UDP over IPv4", Kind::Udp4, flows);
        measure("TCP over IPv6", Kind::Tcp6, flows);
        measure("UDP over IPv6", Kind::Udp6, flows);
    }
}
