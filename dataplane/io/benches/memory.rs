//! What a packet costs around the pipelines: devices, pool, ledger and burst, in clocks and in packets per second.
//!
//! `cargo bench -p zsync-io --bench memory [FILTER]`. Each figure is the best of several rounds of about 100 ms: what the
//! machine does besides only adds. Clocks are the core's own, from a chain of additions that takes one clock each.

use std::hint::black_box;
use std::time::{Duration, Instant};
use zsync_io::device::Device;
use zsync_io::memory::{self, Config, Null};
use zsync_packet::burst::{BURST, Burst, Packet};
use zsync_packet::frame::{Frame, FrameSize, HEADROOM};
use zsync_packet::ledger::Owner;
use zsync_packet::pool::Pool;
use zsync_packet::verdict::{PortId, Verdict};

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(60);
const FRAMES: u32 = 4096;
const PORTS: [PortId; 2] = [PortId(0), PortId(1)];

/// Nanoseconds that one clock takes now.
fn clock() -> f64 {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut x = black_box(1u64);
        for _ in 0..1_000_000 {
            // Eight dependent operations of a clock each, that no compiler folds into fewer.
            x = black_box_free(x);
        }
        black_box(x);
        best = best.min(start.elapsed().as_nanos() as f64 / 8e6);
    }
    best
}

#[inline(always)]
fn black_box_free(x: u64) -> u64 {
    let x = x.rotate_left(1);
    let x = x ^ 0x1234_5678;
    let x = x.rotate_left(7);
    let x = x ^ 0x2345_6789;
    let x = x.rotate_left(3);
    let x = x ^ 0x3456_789a;
    let x = x.rotate_left(11);
    x ^ 0x4567_89ab
}

/// Runs `pass`, which says how many packets it moved, and prints what one cost.
fn measure(name: &str, mut pass: impl FnMut() -> usize) {
    if std::env::args().skip(1).any(|filter| !filter.starts_with('-') && !name.contains(&filter)) {
        return;
    }
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut packets = 0;
        while start.elapsed() < ROUND {
            for _ in 0..256 {
                packets += pass();
            }
        }
        best = best.min(start.elapsed().as_nanos() as f64 / packets as f64);
    }
    println!("{name:44} {:7.1} clocks {:7.2} ns {:8.1} M packets/s", best / clock(), best, 1e3 / best);
}

fn pool() -> Pool {
    Pool::heap(FrameSize::K2, FRAMES, 1).expect("an arena on the heap").remove(0)
}

/// A worker's pass without its bookkeeping: everything that comes goes out at the other side.
struct Loop<A, B> {
    pool: Pool,
    burst: Burst,
    out: Vec<Packet>,
    from: A,
    to: B,
}

impl<A: Device, B: Device> Loop<A, B> {
    fn new(pool: Pool, from: A, to: B) -> Self {
        Self { burst: Burst::new(pool.arena().clone()), pool, out: Vec::with_capacity(BURST), from, to }
    }

    #[inline(always)]
    fn pass(&mut self, stage: impl Fn(&mut Burst)) -> usize {
        self.to.complete(&mut self.pool);
        let came = self.from.rx_burst(&mut self.pool, &mut self.burst);
        stage(&mut self.burst);
        self.burst.drain(|packet, verdict, _| match verdict {
            Verdict::Transmit(_) => self.out.push(packet),
            _ => self.pool.free(packet.frame),
        });
        self.to.tx_burst(&mut self.pool, &mut self.out);
        self.to.flush(0, true);
        came
    }
}

fn patch(burst: &mut Burst) {
    burst.decide_all(Verdict::Transmit(PORTS[1]));
}

fn swap_macs(burst: &mut Burst) {
    for i in burst.undecided() {
        if let Some(macs) = burst.bytes_mut(i).first_chunk_mut::<12>() {
            let (to, from) = macs.split_at_mut(6);
            to.swap_with_slice(from);
        }
    }
    patch(burst);
}

fn loops() {
    let printed = |pool: &mut Pool| Null::printed(PORTS[0], pool, &[0x5a; 64]).expect("64 bytes fit");
    let copied = || Null::copied(PORTS[0], [vec![0x5a; 64].into_boxed_slice()]);
    let mut p = pool();
    let mut null = {
        let (from, to) = (printed(&mut p), printed(&mut p));
        Loop::new(p, from, to)
    };
    measure("null to null, bytes untouched", || null.pass(patch));
    measure("null to null, MACs swapped", || null.pass(swap_macs));
    let mut null = Loop::new(pool(), copied(), copied());
    measure("null to null, 64 bytes copied, MACs swapped", || null.pass(swap_macs));

    let (a, far_a) = memory::pair(PORTS, Config::default());
    let (b, far_b) = memory::pair(PORTS, Config::default());
    // Two wires: source ═ a │ pass │ b ═ sink.
    let mut source = Loop::new(pool(), copied(), far_a);
    let mut middle = Loop::new(pool(), a, b);
    let mut sink = Loop::new(pool(), far_b, copied());
    measure("source, wire, pass, wire, sink (all three)", || {
        source.pass(patch);
        middle.pass(patch);
        sink.pass(patch)
    });
}

/// The parts of a pass, one by one.
fn parts() {
    let mut p = pool();
    let mut frames: Vec<Frame> = Vec::with_capacity(BURST);
    measure("alloc, free", || {
        frames.extend((0..BURST).filter_map(|_| p.alloc()));
        frames.drain(..).for_each(|frame| p.free(frame));
        BURST
    });
    let mut numbers: Vec<u32> = Vec::with_capacity(BURST);
    measure("alloc, give to fill, take, free", || {
        for _ in 0..BURST {
            if let Some(frame) = p.alloc() {
                numbers.extend(p.arena().locate(p.arena().address(&frame)).map(|(number, _)| number));
                p.give(frame, Owner::Fill);
            }
        }
        for number in numbers.drain(..) {
            if let Ok(frame) = p.take(number, Owner::Fill) {
                p.free(frame);
            }
        }
        BURST
    });
    measure("alloc, fill, take, TX, take, free (as a socket)", || {
        for _ in 0..BURST {
            if let Some(frame) = p.alloc() {
                numbers.extend(p.arena().locate(p.arena().address(&frame)).map(|(number, _)| number));
                p.give(frame, Owner::Fill);
            }
        }
        for &number in &numbers {
            if let Ok(frame) = p.take(number, Owner::Fill) {
                p.give(frame, Owner::Tx);
            }
        }
        for number in numbers.drain(..) {
            if let Ok(frame) = p.take(number, Owner::Tx) {
                p.free(frame);
            }
        }
        BURST
    });
    let mut burst = Burst::new(p.arena().clone());
    let mut packets: Vec<Packet> = (0..BURST)
        .filter_map(|_| p.alloc())
        .map(|frame| Packet { frame, start: HEADROOM as u16, len: 64, port: PORTS[0] })
        .collect();
    measure("burst: push, decide all, drain", || {
        for packet in packets.drain(..) {
            if let Err(packet) = burst.push(packet) {
                p.free(packet.frame);
            }
        }
        patch(&mut burst);
        burst.drain(|packet, _, _| packets.push(packet));
        BURST
    });
    packets.drain(..).for_each(|packet| p.free(packet.frame));
}

fn main() {
    println!("one clock takes {:.3} ns", clock());
    loops();
    parts();
}
