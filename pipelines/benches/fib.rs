//! What the FIB costs: nanoseconds a lookup and an insertion, and memory, for tables of several shapes.
//!
//! `cargo bench -p zsync-pipelines --bench fib`. Destinations are spread evenly over the routes, which is the worst that
//! caches can get; each figure is the fastest of five rounds. The memory is the process's own, in pages of 4 KiB.

use std::collections::HashSet;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use zsync_packet::region::Region;
use zsync_pipelines::tables::fib::{FibLayout, FibWriter, Route, Target};

const LOOKUPS: usize = 1 << 20;
const BURST: usize = 64;

/// xorshift64*, so that every run has the same routes.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn wide(&mut self) -> u128 {
        (0..4).fold(0, |bits, _| (bits << 32) | u128::from(self.next() as u32))
    }

    /// A length by its share in thousandths.
    fn length(&mut self, shares: &[(u8, u64)]) -> u8 {
        let mut pick = self.below(shares.iter().map(|(_, share)| share).sum());
        for (len, share) in shares {
            if pick < *share {
                return *len;
            }
            pick -= share;
        }
        0
    }
}

/// Prefix, on top of 128 bits, and length.
type Prefix = (u128, u8);

fn distinct(count: usize, mut next: impl FnMut() -> Prefix) -> Vec<Prefix> {
    let mut seen = HashSet::new();
    while seen.len() < count {
        let (bits, len) = next();
        seen.insert((bits & (u128::MAX << (128 - len)), len));
    }
    seen.into_iter().collect()
}

/// Lengths roughly as in the Internet's IPv4 table, anywhere.
fn internet4(count: usize) -> Vec<Prefix> {
    const LENGTHS: [(u8, u64); 9] =
        [(24, 600), (23, 100), (22, 110), (21, 50), (20, 45), (19, 30), (18, 20), (16, 35), (28, 10)];
    let mut numbers = Numbers(4);
    distinct(count, || (numbers.wide(), numbers.length(&LENGTHS)))
}

/// Roughly the Internet's IPv6 table: allocations of /29 and /32, and what their owners announce out of them.
fn internet6(count: usize) -> Vec<Prefix> {
    const LENGTHS: [(u8, u64); 9] =
        [(48, 470), (44, 120), (40, 100), (46, 50), (47, 40), (36, 60), (42, 30), (32, 120), (64, 10)];
    let mut numbers = Numbers(6);
    let regions: [u128; 5] = [0x2400, 0x2600, 0x2800, 0x2a00, 0x2c00];
    let owners: Vec<u128> = (0..count / 8)
        .map(|_| (regions[numbers.below(5) as usize] << 112) | (u128::from(numbers.below(1 << 17)) << 99))
        .collect();
    distinct(count, || {
        let owner = owners[numbers.below(owners.len() as u64) as usize];
        // Owners number from the bottom, and in few steps.
        let inside = u128::from(numbers.below(16) << 12 | numbers.below(64) << 4 | numbers.below(16)) << 80;
        (owner | inside, numbers.length(&LENGTHS))
    })
}

/// /48s anywhere in 2000::/3, which share nothing.
fn scattered6(count: usize) -> Vec<Prefix> {
    let mut numbers = Numbers(48);
    distinct(count, || ((numbers.wide() >> 3) | (1 << 125), 48))
}

/// Neighbours with random interface identifiers in one connected /64.
fn neighbours6(count: usize) -> Vec<Prefix> {
    let mut numbers = Numbers(64);
    distinct(count, || ((0x2001_0db8 << 96) | u128::from(numbers.wide() as u64), 128))
}

/// Nanoseconds for one of `count` in the fastest of five rounds.
fn fastest(count: usize, mut round: impl FnMut()) -> f64 {
    let rounds = (0..5).map(|_| {
        let begin = Instant::now();
        round();
        begin.elapsed().as_secs_f64()
    });
    rounds.fold(f64::MAX, f64::min) * 1e9 / count as f64
}

fn measure(name: &str, v6: bool, hops: usize, prefixes: &[Prefix]) {
    let layout = FibLayout::default();
    let mut writer = FibWriter::create(Region::heap(layout.bytes()), layout).expect("a FIB in fresh memory");
    let fib = writer.reader();
    let ids: Vec<_> = (0..64u16)
        .map(|port| {
            let id = writer.adjacency(port, Ipv4Addr::from(u32::from(port)).into()).expect("room for 64");
            writer.resolve(id, [2, 0, 0, 0, 0, port as u8]);
            id
        })
        .collect();
    let mut numbers = Numbers(1);
    let address = |bits: u128| -> IpAddr {
        if v6 { Ipv6Addr::from(bits).into() } else { Ipv4Addr::from((bits >> 96) as u32).into() }
    };
    let begin = Instant::now();
    for (bits, len) in prefixes {
        let first = numbers.below(ids.len() as u64) as usize;
        let target = (0..hops).map(|hop| (ids[(first + hop) % ids.len()], 1)).collect();
        writer.insert(address(*bits), *len, Target::Hops(target)).expect("room for the routes");
    }
    let insert = begin.elapsed();

    let dst: Vec<u128> = (0..LOOKUPS)
        .map(|_| {
            let (bits, len) = prefixes[numbers.below(prefixes.len() as u64) as usize];
            bits | (numbers.wide() & u128::MAX.checked_shr(len.into()).unwrap_or(0))
        })
        .collect();
    let mut routes = [Route::NONE; BURST];
    let (single, burst, whole);
    if v6 {
        let dst: Vec<[u8; 16]> = dst.iter().map(|bits| bits.to_be_bytes()).collect();
        single = fastest(LOOKUPS, || dst.iter().for_each(|dst| _ = black_box(fib.route6(dst))));
        burst = fastest(LOOKUPS, || {
            dst.chunks(BURST).for_each(|dst| fib.routes6(dst, black_box(&mut routes)));
        });
        whole = fastest(LOOKUPS, || {
            for dst in dst.chunks(BURST) {
                fib.routes6(dst, &mut routes);
                let tables = fib.tables();
                for (route, dst) in routes.iter().zip(dst) {
                    black_box(tables.adjacency(*route, u32::from(dst[15]).wrapping_mul(0x9e37_79b1)));
                }
            }
        });
    } else {
        let dst: Vec<u32> = dst.iter().map(|bits| (bits >> 96) as u32).collect();
        single = fastest(LOOKUPS, || dst.iter().for_each(|dst| _ = black_box(fib.route4(*dst))));
        burst = fastest(LOOKUPS, || {
            dst.chunks(BURST).for_each(|dst| fib.routes4(dst, black_box(&mut routes)));
        });
        whole = fastest(LOOKUPS, || {
            for dst in dst.chunks(BURST) {
                fib.routes4(dst, &mut routes);
                let tables = fib.tables();
                for (route, dst) in routes.iter().zip(dst) {
                    black_box(tables.adjacency(*route, dst.wrapping_mul(0x9e37_79b1)));
                }
            }
        });
    }

    let usage = writer.usage();
    let groups = usage.v4_groups.used + usage.v6_groups.used;
    let begin = Instant::now();
    prefixes.iter().for_each(|(bits, len)| assert!(writer.remove(address(*bits), *len)));
    let remove = begin.elapsed();
    println!(
        "{name:<38} {:>9} {groups:>8} {:>8.0} {:>8.0} {single:>8.1} {burst:>8.1} {whole:>8.1}",
        prefixes.len(),
        insert.as_secs_f64() * 1e9 / prefixes.len() as f64,
        remove.as_secs_f64() * 1e9 / prefixes.len() as f64,
    );
}

fn main() {
    println!("nanoseconds each; `+ adj` is a burst's lookups and the adjacency of each");
    println!(
        "{:<38} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "table", "routes", "groups", "insert", "remove", "single", "burst", "+ adj"
    );
    measure("IPv4, 1 hop", false, 1, &internet4(100_000));
    measure("IPv4, 4 hops", false, 4, &internet4(100_000));
    measure("IPv4, the Internet's size", false, 1, &internet4(1_000_000));
    measure("IPv6, like the Internet's", true, 1, &internet6(100_000));
    measure("IPv6, like the Internet's, full size", true, 1, &internet6(200_000));
    measure("IPv6, 4 hops", true, 4, &internet6(100_000));
    measure("IPv6, scattered /48s", true, 1, &scattered6(200_000));
    measure("IPv6, neighbours in one /64", true, 1, &neighbours6(10_000));
}
