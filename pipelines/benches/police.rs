//! What policing and shaping cost: processor clocks a packet, in bursts of 32 packets of 64 bytes, hot code.
//!
//! `cargo bench -p zsync-pipelines --bench police`. Sources and flows are drawn at random out of so many that are active, which
//! is the worst that caches can get. Each figure is the fastest of some rounds, the slowest but one beside it; what the loop
//! costs without the stage is taken off. "shared" is the way for several workers, here without any other. Clocks are those of
//! the time stamp counter, of which the kernel says how many there are in a second.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Instant;

use zsync_packet::burst::{BURST, Burst, Facts, Packet};
use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;
use zsync_packet::verdict::{PortId, Verdict};
use zsync_pipelines::stage::{Cx, Stage};
use zsync_pipelines::stages::police::{Fate, Police, Treatment};
use zsync_pipelines::stages::shape::Shape;
use zsync_pipelines::tables::meter::any::Meter;
use zsync_pipelines::tables::meter::bucket::{Bucket, Rule};
use zsync_pipelines::tables::meter::pace::{Pace, Rate};
use zsync_pipelines::tables::meter::subject::Per;
use zsync_pipelines::tables::meter::tcm::{SrTcm, TrTcm};
use zsync_pipelines::tables::meter::window::{Limit, Window};

const PACKETS: usize = 32;
const LEN: u16 = 64;
const BURSTS: usize = 1 << 15;
const ROUNDS: usize = 9;
const PASS: Treatment = Treatment { fate: Fate::Pass, mark: None, dscp: None };

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

/// Clocks of the time stamp counter in a nanosecond.
fn clocks() -> f64 {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let megahertz =
        info.lines().find_map(|line| line.strip_prefix("cpu MHz")?.split(':').nth(1)?.trim().parse().ok());
    megahertz.map_or(1.0, |megahertz: f64| megahertz / 1000.0)
}

struct Bench {
    pool: Pool,
    burst: Burst,
    keys: Vec<FlowKey>,
    now: u64,
}

impl Bench {
    /// Packets of so many sources, each with a flow of its own.
    fn new(sources: u32) -> Self {
        let mut pool = Pool::heap(FrameSize::K2, BURST as u32, 1).expect("a small pool").remove(0);
        let mut burst = Burst::new(pool.arena().clone());
        for _ in 0..PACKETS {
            let mut frame = pool.alloc().expect("as many frames as packets");
            pool.arena().bytes_mut(&mut frame, HEADROOM as u16, LEN).fill(0);
            let packet = Packet { frame, start: HEADROOM as u16, len: LEN, port: PortId(0) };
            assert!(burst.push(packet).is_ok(), "a burst has room for them");
        }
        let mut numbers = Numbers(9);
        let key = |_| {
            let source = Ipv4Addr::from_bits(0x0a00_0000 + numbers.below(sources));
            FlowKey::v4((source, source.to_bits() as u16), (Ipv4Addr::new(192, 0, 2, 1), 443), 6)
        };
        let keys = (0..BURSTS * PACKETS).map(key).collect();
        Self { pool, burst, keys, now: 1_000_000_000 }
    }

    /// Nanoseconds of `BURSTS` bursts, a step apart, each with keys of its own.
    fn round(&mut self, mut stage: Option<&mut dyn Stage>, keyed: bool, step: u64) -> f64 {
        let begin = Instant::now();
        for burst in 0..BURSTS {
            if keyed {
                for (i, key) in self.keys[burst * PACKETS..][..PACKETS].iter().enumerate() {
                    self.burst.set_key(i, *key);
                }
            }
            if self.burst.live().count_ones() < PACKETS as u32 {
                (0..PACKETS).for_each(|i| self.burst.decide(i, Verdict::Next));
            }
            if self.burst.is_delayed() {
                (0..PACKETS).for_each(|i| *self.burst.facts_mut(i) = Facts::default());
            }
            self.now += step;
            black_box(&mut self.burst);
            if let Some(stage) = &mut stage {
                stage.process(&mut self.burst, &mut Cx::at(self.now));
            }
        }
        begin.elapsed().as_secs_f64() * 1e9
    }

    fn measure(&mut self, name: &str, stage: &mut dyn Stage, keyed: bool, step: u64) {
        let per_packet = clocks() / (BURSTS * PACKETS) as f64;
        let mut costs: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let with = self.round(Some(stage), keyed, step);
                (with - self.round(None, keyed, 0)) * per_packet
            })
            .collect();
        costs.sort_by(f64::total_cmp);
        println!("{name:<44} {:>8.1} {:>8.1}", costs[0], costs[ROUNDS - 2]);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.burst.free_into(&mut self.pool);
    }
}

fn pace(rate: u64) -> Pace {
    Pace::new(Rate::Bits(rate), 24).expect("not 0")
}

fn token(rate: u64) -> Meter {
    Meter::Bucket(Bucket::new(pace(rate), 1 << 20, Rule::Token).expect("a short burst"))
}

fn police(meter: Meter, per: Per, capacity: usize, workers: usize) -> Police {
    let state = Region::heap(Police::bytes(per, capacity, &meter));
    Police::new(meter, per, capacity, state, workers, HashKey::from_seed(1), [PASS, PASS, Treatment::DROP])
        .expect("enough memory")
}

fn shape(rate: u64, per: Per, capacity: usize, workers: usize) -> Shape {
    let state = Region::heap(Shape::bytes(per, capacity));
    let limit = 100_000_000;
    Shape::new(pace(rate), 1 << 16, limit, None, per, capacity, state, workers, HashKey::from_seed(1))
        .expect("enough memory")
}

fn main() {
    println!("TSC clocks a packet, at {:.3} GHz", clocks());
    println!("{:<44} {:>8} {:>8}", "stage", "least", "most");
    // A burst brings 2,816 bytes with their overhead: in 100 ns they are 225 Gbit/s.
    let (fast, slow) = (400_000_000_000, 8_000_000);
    let one = &mut Bench::new(1);
    let aggregate = |meter, workers| police(meter, Per::All, 0, workers);
    one.measure("police, aggregate, token, green", &mut aggregate(token(fast), 1), false, 100);
    one.measure("police, aggregate, token, green, shared", &mut aggregate(token(fast), 2), false, 100);
    one.measure("police, aggregate, token, red", &mut aggregate(token(slow), 1), false, 100);
    one.measure("police, aggregate, token, red, shared", &mut aggregate(token(slow), 2), false, 100);
    one.measure("police, aggregate, token, half red", &mut aggregate(token(112_000_000_000), 1), false, 100);
    let sr = Meter::SrTcm(SrTcm::new(pace(fast), 1 << 20, 1 << 20).expect("short bursts"));
    one.measure("police, aggregate, srtcm, green", &mut aggregate(sr, 1), false, 100);
    one.measure("police, aggregate, srtcm, green, shared", &mut aggregate(sr, 2), false, 100);
    let tr = Meter::TrTcm(TrTcm::new(pace(fast), 1 << 20, pace(fast), 1 << 20).expect("short bursts"));
    one.measure("police, aggregate, trtcm, green", &mut aggregate(tr, 1), false, 100);
    one.measure("police, aggregate, trtcm, green, shared", &mut aggregate(tr, 2), false, 100);
    let window = Meter::Window(Window::new(Limit::Bytes(1 << 39), 1_000_000_000, 24).expect("a second"));
    one.measure("police, aggregate, window, green", &mut aggregate(window, 1), false, 100);
    one.measure("shape, aggregate, none waits", &mut shape(fast, Per::All, 0, 1), false, 100);
    one.measure("shape, aggregate, none waits, shared", &mut shape(fast, Per::All, 0, 2), false, 100);
    one.measure("shape, aggregate, all wait", &mut shape(fast, Per::All, 0, 1), false, 50);
    let source = Per::Source { v4: 32, v6: 128 };
    for (sources, text) in [(1_000, "1 k"), (64_000, "64 k"), (1_000_000, "1 M")] {
        let bench = &mut Bench::new(sources);
        let capacity = sources as usize * 2;
        // Seldom beyond its rate, seldom idle: as sources are that a policer is for.
        let rate = fast / u64::from(sources);
        let name = |what: &str| format!("{what}, {text}");
        bench.measure(
            &name("police, per source, token"),
            &mut police(token(rate), source, capacity, 1),
            true,
            100,
        );
        bench.measure(
            &name("police, per source, token, shared"),
            &mut police(token(rate), source, capacity, 2),
            true,
            100,
        );
        bench.measure(
            &name("police, per flow, token"),
            &mut police(token(rate), Per::Flow, capacity, 1),
            true,
            100,
        );
        bench.measure(&name("shape, per source"), &mut shape(rate, source, capacity, 1), true, 100);
    }
}
