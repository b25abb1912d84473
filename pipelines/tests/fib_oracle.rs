//! The FIB against a linear scan: random changes of overlapping prefixes, checked after each at every prefix's edges.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv6Addr};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use zsync_packet::region::Region;
use zsync_pipelines::tables::fib::{Adjacency, Fib, FibLayout, FibRoute, FibWriter, Route, Target};

/// A family's way to and from 128 bits, the address on top.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn len(self) -> u8 {
        if self == Self::V4 { 32 } else { 128 }
    }

    fn address(self, bits: u128) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(((bits >> 96) as u32).into()),
            Self::V6 => IpAddr::V6(bits.into()),
        }
    }

    fn routes(self, fib: &Fib, bits: &[u128]) -> Vec<Route> {
        let mut routes = vec![Route::NONE; bits.len()];
        match self {
            Self::V4 => {
                let dst: Vec<u32> = bits.iter().map(|bits| (bits >> 96) as u32).collect();
                fib.routes4(&dst, &mut routes);
                dst.iter()
                    .zip(&routes)
                    .for_each(|(dst, route)| assert_eq!(fib.route4(*dst), *route, "burst"));
            }
            Self::V6 => {
                let dst: Vec<[u8; 16]> = bits.iter().map(|bits| bits.to_be_bytes()).collect();
                fib.routes6(&dst, &mut routes);
                dst.iter().zip(&routes).for_each(|(dst, route)| assert_eq!(fib.route6(dst), *route, "burst"));
            }
        }
        routes
    }
}

fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

/// What a route leads to, in terms that do not depend on identifiers: the port of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Goal {
    Port(u16),
    Local,
    Blackhole,
    Unreachable,
    Prohibit,
    Kernel,
}

#[derive(Clone, Debug)]
enum Change {
    Insert(u128, u8, Goal),
    /// Takes away the route at this place of the oracle, if it has so many.
    Remove(prop::sample::Index),
    RemoveAny(u128, u8),
    Resolve(u16, bool),
}

const PORTS: u16 = 6;

fn goal() -> impl Strategy<Value = Goal> {
    prop_oneof![
        8 => (0..PORTS).prop_map(Goal::Port),
        1 => Just(Goal::Local),
        1 => Just(Goal::Blackhole),
        1 => Just(Goal::Unreachable),
        1 => Just(Goal::Prohibit),
        1 => Just(Goal::Kernel),
    ]
}

/// Prefixes that overlap: few beginnings, one bit changed anywhere.
fn prefix(family: Family) -> impl Strategy<Value = (u128, u8)> {
    let seeds = [0x0a01_0203_0405_0607_0809_0a0b_0c0d_0e0f_u128, 0x2001_0db8 << 96, u128::MAX, 0];
    let len = prop_oneof![
        4 => 0..=family.len(),
        2 => (0..=family.len() / 8).prop_map(|bytes| bytes * 8),
        1 => Just(family.len()),
    ];
    (prop::sample::select(seeds.to_vec()), 0..u32::from(family.len()), any::<bool>(), len)
        .prop_map(|(seed, bit, flip, len)| ((seed ^ (u128::from(flip) << (127 - bit))) & mask(len), len))
}

fn change(family: Family) -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => (prefix(family), goal()).prop_map(|((bits, len), goal)| Change::Insert(bits, len, goal)),
        4 => any::<prop::sample::Index>().prop_map(Change::Remove),
        1 => prefix(family).prop_map(|(bits, len)| Change::RemoveAny(bits, len)),
        1 => (0..PORTS, any::<bool>()).prop_map(|(port, known)| Change::Resolve(port, known)),
    ]
}

struct Bench {
    writer: FibWriter,
    fib: Fib,
    resolved: [bool; PORTS as usize],
    stamp: u64,
}

impl Bench {
    fn new() -> Self {
        let region = Region::heap(FibLayout::SMALL.bytes());
        let mut writer = FibWriter::create(region.clone(), FibLayout::SMALL).unwrap();
        for port in 0..PORTS {
            let id = writer.adjacency(port, gateway(port)).unwrap();
            assert!(writer.resolve(id, [port as u8; 6]));
        }
        Self { writer, fib: Fib::open(region).unwrap(), resolved: [true; PORTS as usize], stamp: 0 }
    }

    fn target(&self, goal: Goal) -> Target {
        match goal {
            Goal::Port(port) => {
                Target::Hops(vec![(self.writer.find_adjacency(port, gateway(port)).unwrap(), 1)])
            }
            Goal::Local => Target::Local,
            Goal::Blackhole => Target::Blackhole,
            Goal::Unreachable => Target::Unreachable,
            Goal::Prohibit => Target::Prohibit,
            Goal::Kernel => Target::Kernel,
        }
    }

    fn adjacency(&self, goal: Option<Goal>) -> Adjacency {
        match goal {
            None => Adjacency::NoRoute,
            Some(Goal::Port(port)) if self.resolved[usize::from(port)] => {
                Adjacency::Forward { port, mac: [port as u8; 6] }
            }
            Some(Goal::Port(_) | Goal::Kernel) => Adjacency::Kernel,
            Some(Goal::Local) => Adjacency::Local,
            Some(Goal::Blackhole) => Adjacency::Blackhole,
            Some(Goal::Unreachable) => Adjacency::Unreachable,
            Some(Goal::Prohibit) => Adjacency::Prohibit,
        }
    }

    fn apply(&mut self, family: Family, oracle: &mut Vec<(u128, u8, Goal)>, change: &Change) {
        match *change {
            Change::Insert(bits, len, goal) => {
                self.writer.insert(family.address(bits), len, self.target(goal)).unwrap();
                match oracle.iter_mut().find(|route| (route.0, route.1) == (bits, len)) {
                    Some(route) => route.2 = goal,
                    None => oracle.push((bits, len, goal)),
                }
            }
            Change::Remove(index) => {
                if !oracle.is_empty() {
                    let (bits, len, _) = oracle.swap_remove(index.index(oracle.len()));
                    assert!(self.writer.remove(family.address(bits), len));
                }
            }
            Change::RemoveAny(bits, len) => {
                let place = oracle.iter().position(|route| (route.0, route.1) == (bits, len));
                assert_eq!(self.writer.remove(family.address(bits), len), place.is_some());
                place.map(|place| oracle.swap_remove(place));
            }
            Change::Resolve(port, known) => {
                let id = self.writer.find_adjacency(port, gateway(port)).unwrap();
                assert!(if known {
                    self.writer.resolve(id, [port as u8; 6])
                } else {
                    self.writer.unresolve(id)
                });
                self.resolved[usize::from(port)] = known;
            }
        }
        self.stamp += 1;
        self.writer.set_stamp(self.stamp);
        self.writer.reclaim(self.stamp);
    }

    fn check(
        &self,
        family: Family,
        oracle: &[(u128, u8, Goal)],
        probes: &[u128],
    ) -> Result<(), TestCaseError> {
        let edges = oracle.iter().flat_map(|(bits, len, _)| {
            let unit = 1u128 << (128 - family.len());
            let last = bits | !mask(*len);
            [*bits, last, bits.wrapping_sub(unit), last.wrapping_add(unit)]
        });
        let probes: Vec<u128> = edges.chain(probes.iter().copied()).collect();
        for (bits, route) in probes.iter().zip(family.routes(&self.fib, &probes)) {
            let address = family.address(*bits);
            let bits = *bits & mask(family.len());
            let best = oracle
                .iter()
                .filter(|(prefix, len, _)| bits & mask(*len) == *prefix)
                .max_by_key(|(_, len, _)| *len);
            let expected = self.adjacency(best.map(|(_, _, goal)| *goal));
            prop_assert_eq!(self.fib.adjacency(route, 0x1234_5678), expected, "{}", address);
            let len = best.map_or(0, |(_, len, _)| *len);
            prop_assert_eq!(self.fib.tables().explain(address), (route, len), "{}", address);
            let explained = best.map(|(prefix, len, goal)| FibRoute {
                prefix: family.address(*prefix),
                len: *len,
                target: self.target(*goal),
            });
            prop_assert_eq!(self.writer.lookup(address), explained);
        }
        let usage = self.writer.usage();
        let groups = if family == Family::V4 { usage.v4_groups } else { usage.v6_groups };
        let long = oracle.iter().filter(|(_, len, _)| *len > 24).count() as u32;
        let bound = if family == Family::V4 { long } else { long.saturating_sub(1) };
        prop_assert!(groups.used <= bound, "{} groups for {} long routes", groups.used, long);
        prop_assert_eq!(self.writer.iter().count(), oracle.len());
        Ok(())
    }
}

fn gateway(port: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, port))
}

/// The roots are large, so one table serves all cases; each must leave it empty, and a failed one leaves it to nobody.
fn agrees_with_the_oracle(family: Family) {
    let bench = RefCell::new(None);
    let strategy = (prop::collection::vec(change(family), 1..60), prop::collection::vec(any::<u128>(), 4));
    let mut runner = TestRunner::new(Config { cases: 192, ..Config::default() });
    let result = runner.run(&strategy, |(changes, probes)| {
        let mut bench_here: Bench = bench.take().unwrap_or_else(Bench::new);
        let mut oracle = Vec::new();
        for change in &changes {
            bench_here.apply(family, &mut oracle, change);
            bench_here.check(family, &oracle, &probes)?;
        }
        while let Some((bits, len, _)) = oracle.last().copied() {
            bench_here.apply(family, &mut oracle, &Change::RemoveAny(bits, len));
            bench_here.check(family, &oracle, &probes)?;
        }
        bench_here.writer.reclaim(u64::MAX);
        let usage = bench_here.writer.usage();
        prop_assert_eq!((usage.v4_groups.used, usage.v6_groups.used, usage.next_hops.used), (0, 0, 0));
        prop_assert_eq!((usage.v4_groups.retired, usage.v6_groups.retired), (0, 0));
        bench.replace(Some(bench_here));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn ipv4_agrees_with_a_linear_scan() {
    agrees_with_the_oracle(Family::V4);
}

#[test]
fn ipv6_agrees_with_a_linear_scan() {
    agrees_with_the_oracle(Family::V6);
}
