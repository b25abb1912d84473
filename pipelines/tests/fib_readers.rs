//! Readers that run while the writer changes everything under them: each lookup gives the route of before or of after, and
//! what has been given out anew is never seen under its old name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use zsync_packet::region::Region;
use zsync_pipelines::tables::fib::{Adjacency, Fib, FibError, FibLayout, FibWriter, Route, Target};

/// Prefixes that come and go; each has two ports of its own, and one that stays when it goes.
const NETS: u16 = 24;
const READERS: usize = 2;
const CHANGES: u64 = 40_000;

/// Half of the nets are IPv4, half IPv6; lengths that need groups, with gaps and without.
fn net(index: u16) -> (IpAddr, u8) {
    let number = u128::from(index);
    match index % 4 {
        0 => (Ipv4Addr::from(0x0a00_0000 | (u32::from(index) << 8) | 0x40).into(), 26),
        1 => (Ipv6Addr::from((0x2001_0db8 << 96) | (number << 80)).into(), 48),
        2 => (Ipv4Addr::from(0x0a01_0000 | (u32::from(index) << 8)).into(), 24),
        _ => (Ipv6Addr::from((0x2001_0db8 << 96) | (number << 40) | number).into(), 128),
    }
}

/// The prefix around a net that stays. Half of them are a net's own, so that the content of a group that is used anew differs
/// from what it had; half are the default route, so that groups branch and join again.
fn cover(index: u16) -> (IpAddr, u8) {
    match net(index).0 {
        IpAddr::V4(net) if index.is_multiple_of(4) => (Ipv4Addr::from(u32::from(net) & !0xff).into(), 24),
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), 0),
        IpAddr::V6(net) if index % 4 == 3 => (Ipv6Addr::from(u128::from(net) & !0xff_ffff_ffff).into(), 88),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), 0),
    }
}

fn cover_port(index: u16) -> u16 {
    if cover(index).1 == 0 { 0 } else { 100 + index }
}

fn ports(index: u16) -> [u16; 2] {
    [1 + 2 * index, 2 + 2 * index]
}

fn mac(port: u16) -> [u8; 6] {
    [2, 0, 0, 0, 0, port as u8]
}

/// What reads of one address may say: its own ports, or its cover's.
fn check(fib: &Fib, index: u16, route: Route, hash: u32) {
    match fib.adjacency(route, hash) {
        // Between the adjacency's creation and its resolution; no route has it then but the one that is about to.
        Adjacency::Kernel => panic!("net {index}: a route was published before its adjacency was resolved"),
        Adjacency::Forward { port, mac: found } => {
            assert_eq!(found, mac(port), "net {index}: torn adjacency");
            let own = port == cover_port(index) || ports(index).contains(&port);
            assert!(own, "net {index} went out of port {port}");
        }
        other => panic!("net {index}: {other:?}"),
    }
}

fn read(fib: &Fib, seen: &AtomicU64, stamp: &AtomicU64, stop: &AtomicBool) -> u64 {
    let nets: Vec<(u16, IpAddr)> = (0..NETS).map(|index| (index, net(index).0)).collect();
    let (v4, v6): (Vec<_>, Vec<_>) = nets.into_iter().partition(|(_, address)| address.is_ipv4());
    let dst4: Vec<u32> =
        v4.iter().map(|(_, a)| if let IpAddr::V4(a) = a { (*a).into() } else { 0 }).collect();
    let dst6: Vec<[u8; 16]> =
        v6.iter().map(|(_, a)| if let IpAddr::V6(a) = a { a.octets() } else { [0; 16] }).collect();
    let mut routes = [Route::NONE; NETS as usize];
    let mut passes = 0u64;
    while !stop.load(Relaxed) {
        let (routes4, routes6) = routes.split_at_mut(dst4.len());
        fib.routes4(&dst4, routes4);
        fib.routes6(&dst6, routes6);
        // Time for the writer to free and reuse, if it would not wait for us.
        if passes.is_multiple_of(16) {
            std::thread::yield_now();
        }
        for ((index, _), route) in v4.iter().chain(&v6).zip(&routes) {
            check(fib, *index, *route, (passes as u32).wrapping_mul(0x9e37_79b1));
        }
        passes += 1;
        seen.store(stamp.load(Acquire), Release);
    }
    passes
}

#[test]
fn readers_see_old_or_new_while_everything_is_reused() {
    // Hardly more room than routes, so that what is freed is reused at once.
    let layout = FibLayout { v4_groups: 6, v6_groups: 20, next_hops: 24, members: 128, adjacencies: 62 };
    let region = Region::heap(layout.bytes());
    let mut writer = FibWriter::create(region.clone(), layout).unwrap();
    for index in 0..NETS {
        let id = writer.adjacency(cover_port(index), cover(index).0).unwrap();
        writer.resolve(id, mac(cover_port(index)));
        let (prefix, len) = cover(index);
        writer.insert(prefix, len, Target::Hops(vec![(id, 1)])).unwrap();
    }

    let seen: [AtomicU64; READERS] = Default::default();
    let (stamp, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let passes: u64 = std::thread::scope(|scope| {
        let readers: Vec<_> = seen
            .iter()
            .map(|seen| {
                let (fib, stamp, stop) = (Fib::open(region.clone()).unwrap(), &stamp, &stop);
                scope.spawn(move || {
                    // A reader that panics must not leave the writer waiting for it.
                    let gone = Gone(seen);
                    let passes = read(&fib, seen, stamp, stop);
                    drop(gone);
                    passes
                })
            })
            .collect();
        let churned = catch_unwind(AssertUnwindSafe(|| {
            let mut churn = Churn { writer, seen: &seen, stamp: &stamp, now: 0 };
            (0..CHANGES).for_each(|change| churn.change(change));
        }));
        stop.store(true, Relaxed);
        let joined: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        churned.expect("the writer finds room once the readers have passed");
        joined.into_iter().map(|passes| passes.expect("readers see their own routes")).sum()
    });
    assert!(passes > 100, "{passes} passes beside {CHANGES} changes: not a test");
}

struct Gone<'a>(&'a AtomicU64);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.store(u64::MAX, Release);
    }
}

/// Puts nets in and out.
struct Churn<'a> {
    writer: FibWriter,
    seen: &'a [AtomicU64],
    stamp: &'a AtomicU64,
    now: u64,
}

impl Churn<'_> {
    fn change(&mut self, change: u64) {
        let random = change.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (change << 17);
        let index = (random >> 33) as u16 % NETS;
        let (prefix, len) = net(index);
        match (random >> 40) % 4 {
            0 | 1 => _ = self.writer.remove(prefix, len),
            weight => {
                let around = self.writer.find_adjacency(cover_port(index), cover(index).0);
                let mut hops: Vec<_> = around.into_iter().map(|id| (id, weight as u8)).collect();
                assert_eq!(hops.len(), 1);
                for port in ports(index).into_iter().take(1 + (random >> 50) as usize % 2) {
                    let id = self.until_there_is_room(|writer| writer.adjacency(port, prefix));
                    self.writer.resolve(id, mac(port));
                    hops.push((id, 1));
                }
                self.until_there_is_room(|writer| writer.insert(prefix, len, Target::Hops(hops.clone())));
                // From here on only the route holds them.
                hops.iter().skip(1).for_each(|(id, _)| assert!(self.writer.release(*id)));
            }
        }
        self.quiesce();
        if change.is_multiple_of(4) {
            std::thread::yield_now();
        }
    }

    fn quiesce(&mut self) {
        self.now += 1;
        self.writer.set_stamp(self.now);
        self.stamp.store(self.now, Release);
        self.writer.reclaim(self.seen.iter().map(|seen| seen.load(Acquire)).min().unwrap_or(0));
    }

    fn until_there_is_room<T>(
        &mut self,
        mut attempt: impl FnMut(&mut FibWriter) -> Result<T, FibError>,
    ) -> T {
        let begin = Instant::now();
        loop {
            match attempt(&mut self.writer) {
                Ok(done) => return done,
                Err(FibError::Full { .. }) if begin.elapsed() < Duration::from_secs(20) => {
                    self.quiesce();
                    std::thread::yield_now();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}
