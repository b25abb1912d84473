//! Flows over a route whose next hops come and go, as readers see them: who stays, who moves, and that nothing is left over.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;
use zsync_packet::region::Region;
use zsync_pipelines::tables::fib::{Adjacency, Fib, FibLayout, FibWriter, Target};

const PORTS: u16 = 12;
/// Routes of each family that share their hops.
const ROUTES: u8 = 3;

struct Bench {
    writer: FibWriter,
    fib: Fib,
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
        Self { writer, fib: Fib::open(region).unwrap(), stamp: 0 }
    }

    fn set(&mut self, hops: &BTreeMap<u16, u8>) {
        let find = |port| self.writer.find_adjacency(port, gateway(port)).unwrap();
        let target = Target::Hops(hops.iter().map(|(port, weight)| (find(*port), *weight)).collect());
        for (prefix, len) in prefixes() {
            self.writer.insert(prefix, len, target.clone()).unwrap();
            assert_eq!(self.writer.get(prefix, len).map(sorted), Some(sorted(target.clone())));
        }
        self.stamp += 1;
        self.writer.set_stamp(self.stamp);
        self.writer.reclaim(self.stamp);
    }

    /// The port that each of some flows leaves by; the same for every route.
    fn flows(&self) -> Vec<u16> {
        let routes = prefixes().map(|(prefix, _)| match prefix {
            IpAddr::V4(address) => self.fib.route4(address.to_bits()),
            IpAddr::V6(address) => self.fib.route6(&address.octets()),
        });
        let ports = |route| -> Vec<u16> {
            (0..4096u32)
                .map(|n| match self.fib.adjacency(route, n << 20 | 0x4_2424) {
                    Adjacency::Forward { port, mac } if mac == [port as u8; 6] => port,
                    other => panic!("{other:?}"),
                })
                .collect()
        };
        let mut all: Vec<_> = routes.map(ports).collect();
        all.dedup();
        assert_eq!(all.len(), 1, "routes that changed alike send flows alike");
        all.remove(0)
    }
}

/// The hops alone, as the FIB orders them by itself; a single one has weight 1.
fn sorted(target: Target) -> Vec<String> {
    let Target::Hops(hops) = target else { panic!("{target:?}") };
    let one = hops.len() == 1;
    let mut hops: Vec<_> =
        hops.into_iter().map(|(id, weight)| format!("{id:?} {}", if one { 1 } else { weight })).collect();
    hops.sort_unstable();
    hops
}

fn gateway(port: u16) -> IpAddr {
    [10, 0, port as u8, 1].into()
}

fn prefixes() -> impl Iterator<Item = (IpAddr, u8)> {
    (0..ROUTES).flat_map(|n| {
        let v6 = std::net::Ipv6Addr::new(0x2001, 0xdb8, u16::from(n), 0, 0, 0, 0, 0);
        [([10, n, 0, 0].into(), 16), (v6.into(), 48)]
    })
}

/// A hop goes, comes, or (rarely) weighs more or less.
fn change() -> impl Strategy<Value = (u16, Option<u8>)> {
    (0..PORTS, prop_oneof![Just(None), (1u8..5).prop_map(Some)])
}

#[test]
fn flows_over_hops_that_stay_stay() {
    let mut bench = Bench::new();
    let strategy = prop::collection::vec(change(), 1..30);
    let mut runner =
        prop::test_runner::TestRunner::new(prop::test_runner::Config { cases: 64, ..Default::default() });
    let bench = std::cell::RefCell::new(&mut bench);
    let result = runner.run(&strategy, |changes| {
        let bench: &mut Bench = &mut bench.borrow_mut();
        let mut hops: BTreeMap<u16, u8> = (0..4).map(|port| (port, 1)).collect();
        bench.set(&hops);
        let mut flows = bench.flows();
        for (port, weight) in changes {
            let before = hops.clone();
            match weight {
                Some(weight) => _ = hops.insert(port, weight),
                None if hops.len() > 1 => _ = hops.remove(&port),
                None => continue,
            }
            bench.set(&hops);
            let now = bench.flows();
            let moved: Vec<_> = flows.iter().zip(&now).filter(|(was, is)| was != is).collect();
            match (before.get(&port), weight) {
                (Some(_), None) => {
                    prop_assert!(moved.iter().all(|(was, _)| **was == port), "only what was lost moves");
                    prop_assert!(now.iter().all(|is| *is != port));
                }
                (None, Some(_)) => {
                    prop_assert!(moved.iter().all(|(_, is)| **is == port), "only to the new one")
                }
                (Some(old), Some(new)) if *old == new => prop_assert!(moved.is_empty()),
                (None, None) => prop_assert!(moved.is_empty()),
                _ => {}
            }
            let sum: u32 = hops.values().map(|weight| u32::from(*weight)).sum();
            for (port, weight) in &hops {
                let share = now.iter().filter(|is| *is == port).count() as f64 / 4096.0;
                let due = f64::from(*weight) / f64::from(sum);
                // Two of the at least 129 slots.
                prop_assert!((share - due).abs() < 0.017, "{port}: {share} is not {due}");
            }
            flows = now;
        }
        for (prefix, len) in prefixes() {
            assert!(bench.writer.remove(prefix, len));
        }
        bench.writer.reclaim(u64::MAX);
        let usage = bench.writer.usage();
        prop_assert_eq!((usage.next_hops.used, usage.members.used, usage.members.retired), (0, 0, 0));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn where_there_is_no_room_to_keep_flows_the_route_still_changes() {
    let layout = FibLayout { members: 10, next_hops: 2, ..FibLayout::SMALL };
    let mut writer = FibWriter::create(Region::heap(layout.bytes()), layout).unwrap();
    let ids: Vec<_> = (0..3).map(|port| writer.adjacency(port, gateway(port)).unwrap()).collect();
    let target = |ports: &[usize]| Target::Hops(ports.iter().map(|port| (ids[*port], 1)).collect());
    for ports in [&[0, 1, 2][..], &[0, 2], &[0, 1, 2]] {
        writer.insert([10, 0, 0, 0].into(), 8, target(ports)).unwrap();
        assert_eq!(writer.get([10, 0, 0, 0].into(), 8), Some(target(ports)));
        writer.reclaim(u64::MAX);
    }
    assert_eq!((writer.usage().next_hops.used, writer.usage().members.used), (1, 3));
}
