//! What the FIB refuses, how it shares flows among hops, and that garbage cannot hurt a reader.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering::Relaxed;

use zsync_packet::region::Region;
use zsync_pipelines::tables::fib::{
    Adjacency, AdjacencyId, Capacity, Fib, FibError, FibLayout, FibWriter, HOP_LIMIT, PORT_LIMIT, Route,
    Target,
};

fn make(layout: FibLayout) -> (FibWriter, Fib) {
    let region = Region::heap(layout.bytes());
    (FibWriter::create(region.clone(), layout).unwrap(), Fib::open(region).unwrap())
}

fn v4(address: u32) -> IpAddr {
    Ipv4Addr::from(address).into()
}

fn v6(bits: u128) -> IpAddr {
    Ipv6Addr::from(bits).into()
}

/// A resolved neighbour on `port`, with the port in its address.
fn neighbour(writer: &mut FibWriter, port: u16) -> AdjacencyId {
    let id = writer.adjacency(port, v4(0x0a00_0001)).unwrap();
    assert!(writer.resolve(id, mac(port)));
    id
}

fn mac(port: u16) -> [u8; 6] {
    let [high, low] = port.to_be_bytes();
    [2, 0, 0, 0, high, low]
}

fn output(fib: &Fib, route: Route, hash: u32) -> u16 {
    match fib.adjacency(route, hash) {
        Adjacency::Forward { port, mac: found } => {
            assert_eq!(found, mac(port));
            port
        }
        other => panic!("{other:?}"),
    }
}

/// Well-mixed numbers, the same each time.
fn numbers() -> impl Iterator<Item = u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    })
}

#[test]
fn bad_prefixes_and_targets_change_nothing() {
    let (mut writer, fib) = make(FibLayout::SMALL);
    let id = neighbour(&mut writer, 1);
    let hops = |hops: &[(AdjacencyId, u8)]| Target::Hops(hops.to_vec());
    let refuse =
        |writer: &mut FibWriter, prefix, len, target| writer.insert(prefix, len, target).unwrap_err();

    assert!(matches!(refuse(&mut writer, v4(0), 33, Target::Local), FibError::Length { limit: 32, .. }));
    assert!(matches!(refuse(&mut writer, v6(0), 129, Target::Local), FibError::Length { limit: 128, .. }));
    let error = refuse(&mut writer, v4(0x0a00_0001), 24, Target::Local);
    assert_eq!(error.to_string(), "10.0.0.1/24 has bits beyond its length: 10.0.0.0/24 is meant?");
    assert!(matches!(refuse(&mut writer, v6(1), 64, Target::Local), FibError::HostBits { .. }));
    assert_eq!(refuse(&mut writer, v4(0), 8, hops(&[])), FibError::NoHops);
    assert_eq!(refuse(&mut writer, v4(0), 8, hops(&[(id, 0)])), FibError::Weight { id });
    assert_eq!(writer.adjacency(PORT_LIMIT, v4(1)), Err(FibError::Port { port: PORT_LIMIT }));

    let gone = writer.adjacency(2, v4(2)).unwrap();
    assert!(writer.release(gone) && !writer.release(gone));
    assert!(!writer.resolve(gone, [1; 6]) && !writer.unresolve(gone));
    assert_eq!(refuse(&mut writer, v4(0), 8, hops(&[(id, 1), (gone, 1)])), FibError::Adjacency { id: gone });

    assert_eq!(writer.iter().count(), 0);
    assert!(!writer.remove(v4(0x0a00_0001), 24) && !writer.remove(v4(0), 99) && !writer.remove(v4(0), 0));
    assert!(fib.route4(0x0a00_0001).is_none() && fib.route6(&[0; 16]).is_none());
}

#[test]
fn a_full_table_says_which_capacity_and_stays_as_it_was() {
    let layout = FibLayout { v4_groups: 2, v6_groups: 3, next_hops: 1, members: 5, adjacencies: 3 };
    let (mut writer, fib) = make(layout);
    let full = |capacity, limit, retired| Some(FibError::Full { capacity, limit, retired });

    let ids: Vec<_> = (0..3).map(|port| neighbour(&mut writer, port)).collect();
    assert_eq!(writer.adjacency(9, v4(1)).err(), full(Capacity::Adjacencies, 3, 0));
    let hops = |weights: &[u8]| Target::Hops(ids.iter().copied().zip(weights.iter().copied()).collect());

    for net in 0..2u32 {
        writer.insert(v4(net << 8), 32, hops(&[1])).unwrap();
    }
    assert_eq!(writer.insert(v4(0x200), 25, hops(&[1])).err(), full(Capacity::V4Groups, 2, 0));
    assert!(fib.route4(0x200).is_none());
    writer.insert(v4(0x101), 32, hops(&[1])).expect("a second route in a group needs none");
    writer.insert(v4(0x200), 24, hops(&[1])).expect("nor does a /24");

    // Three twigs, and a group for each parting; then groups of their own, until none is left either.
    let full_v6 = full(Capacity::V6Groups, 3, 0);
    for bit in [0, 64, 32] {
        writer.insert(v6(1 << bit), 128, Target::Local).unwrap();
    }
    assert_eq!(writer.usage().v6_groups.used, 2);
    let before: Vec<Route> = (0..128).map(|bit| fib.route6(&(1u128 << bit).to_be_bytes())).collect();
    assert_eq!(writer.insert(v6(1 << 48), 128, Target::Local).err(), full_v6, "to part in, and to be in");
    writer.insert(v6(1 << 120), 48, Target::Local).expect("alone below its entry");
    assert_eq!(writer.insert(v6(1 << 121), 48, Target::Local).err(), full_v6);
    writer.insert(v6(1 << 121), 24, Target::Local).expect("in the root");
    assert!(writer.remove(v6(1 << 120), 48) && writer.remove(v6(1 << 121), 24));
    let after: Vec<Route> = (0..128).map(|bit| fib.route6(&(1u128 << bit).to_be_bytes())).collect();
    assert_eq!((writer.usage().v6_routes, before), (3, after));

    assert_eq!(writer.insert(v4(0), 8, hops(&[1, 2, 3])).err(), full(Capacity::Members, 5, 0));
    writer.insert(v4(0), 8, hops(&[1, 4])).unwrap();
    assert_eq!(writer.insert(v4(0), 7, hops(&[1, 1])).err(), full(Capacity::NextHops, 1, 0));
    writer.insert(v4(0), 7, hops(&[1, 4])).expect("equal hops share");

    // What is taken away comes back once readers have passed, and the error says that it will.
    writer.set_stamp(7);
    assert!(writer.remove(v4(0), 32) && writer.remove(v4(0), 7) && writer.remove(v4(0), 8));
    let error = writer.insert(v4(0x300), 32, hops(&[1])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the FIB is full: no room in its 2 v4_groups (1 wait for readers to pass: try again); raise v4_groups"
    );
    assert_eq!(writer.insert(v4(0), 7, hops(&[1, 1])).err(), full(Capacity::NextHops, 1, 1));
    writer.reclaim(7);
    assert!(
        writer.insert(v4(0x300), 32, hops(&[1])).is_err(),
        "a reader of stamp 7 may still be in the group"
    );
    writer.reclaim(8);
    writer.insert(v4(0x300), 32, hops(&[1])).unwrap();
    writer.insert(v4(0), 7, hops(&[2, 3])).unwrap();
}

#[test]
fn any_ipv6_routes_take_less_than_one_group_each() {
    let (mut writer, fib) = make(FibLayout::SMALL);
    let mut routes = Vec::new();
    for (number, id) in numbers().zip(0u128..).take(512) {
        let bits = (u128::from(number) << 64) | (id << 3);
        writer.insert(v6(bits), 128, Target::Local).unwrap();
        routes.push(bits);
    }
    assert!(routes.iter().all(|bits| fib.adjacency(fib.route6(&bits.to_be_bytes()), 0) == Adjacency::Local));
    assert!(routes.iter().all(|bits| fib.route6(&(bits ^ 1).to_be_bytes()).is_none()));
    let used = writer.usage().v6_groups.used;
    assert!(used < 512, "{used} groups");
    routes.iter().for_each(|bits| assert!(writer.remove(v6(*bits), 128)));
    assert_eq!(writer.usage().v6_groups.used, 0);
}

#[test]
fn without_twigs_ipv6_routes_take_groups_until_those_are_full_too() {
    let layout = FibLayout { v6_groups: 40, ..FibLayout::SMALL };
    let (mut writer, fib) = make(layout);
    // In entries of the root that are their own: no two part in a group.
    let bits = |n: u128| (n + 1) << 104 | n << 3;
    for n in 0..80 {
        writer.insert(v6(bits(n)), 128, Target::Local).unwrap();
        assert_eq!(u128::from(writer.usage().v6_groups.used), (n + 1).saturating_sub(40));
    }
    assert!(writer.insert(v6(bits(80)), 128, Target::Local).is_err());
    // Removed in another order, with twigs coming back on the way.
    for n in (0..80).map(|n| n * 7 % 80) {
        assert_eq!(fib.adjacency(fib.route6(&bits(n).to_be_bytes()), 0), Adjacency::Local);
        assert!(fib.route6(&(bits(n) ^ 1).to_be_bytes()).is_none());
        assert!(writer.remove(v6(bits(n)), 128));
        assert!(fib.route6(&bits(n).to_be_bytes()).is_none());
        writer.reclaim(u64::MAX);
    }
    assert_eq!(writer.usage().v6_groups.used, 0);
}

#[test]
fn a_burst_of_any_length_stops_at_the_shorter_list() {
    let (mut writer, fib) = make(FibLayout::SMALL);
    // One of each way down: none, a leaf in the root, a twig, a group across a gap, a group and a twig.
    for (bits, len) in
        [(1u128 << 120, 24), (2 << 120, 64), (3 << 120, 64), ((3 << 120) + (1 << 64), 64), (3 << 120, 80)]
    {
        writer.insert(v6(bits), len, Target::Local).unwrap();
    }
    let all: Vec<[u8; 16]> =
        (0..200u128).map(|n| ((n * 7 % 5) << 120 | (n % 2) << 64).to_be_bytes()).collect();
    let single: Vec<Route> = all.iter().map(|dst| fib.route6(dst)).collect();
    writer.insert(v6(5 << 120), 24, Target::Blackhole).unwrap();
    let rest = fib.route6(&(5u128 << 120).to_be_bytes());
    assert_eq!(single.iter().filter(|route| route.is_none()).count(), 100, "half of them");
    for dst in 0..all.len() {
        for places in [dst, dst + 1, dst + 70, dst / 2, dst.saturating_sub(1)] {
            let mut routes = vec![rest; places];
            fib.routes6(&all[..dst], &mut routes);
            let done = dst.min(places);
            assert_eq!(routes[..done], single[..done]);
            assert!(routes[done..].iter().all(|route| *route == rest));
        }
    }
}

#[test]
fn flows_are_shared_by_weight_and_stay() {
    let (mut writer, fib) = make(FibLayout::SMALL);
    let weights = [(1u16, 1u8), (2, 3), (3, 255), (4, 60)];
    let hops: Vec<_> =
        weights.iter().map(|(port, weight)| (neighbour(&mut writer, *port), *weight)).collect();
    writer.insert(v4(0x0a00_0000), 8, Target::Hops(hops.clone())).unwrap();
    let route = fib.route4(0x0a01_0203);

    let hashes: Vec<u32> = numbers().map(|number| (number >> 32) as u32).take(100_000).collect();
    let chosen: Vec<u16> = hashes.iter().map(|hash| output(&fib, route, *hash)).collect();
    let mut counts = HashMap::new();
    chosen.iter().for_each(|port| *counts.entry(*port).or_insert(0u32) += 1);
    for (port, weight) in weights {
        let due = f64::from(weight) / 319.0;
        let share = f64::from(counts[&port]) / hashes.len() as f64;
        assert!((share - due).abs() < 0.01, "port {port}: {share:.4} of the flows, {due:.4} are due");
    }

    // Other routes, another route of the same hops, and a new address of a neighbour move no flow.
    let others: Vec<_> = (10..20).map(|port| (neighbour(&mut writer, port), 1)).collect();
    writer.insert(v4(0x0b00_0000), 8, Target::Hops(others)).unwrap();
    writer.insert(v4(0x0a01_0000), 16, Target::Hops(hops.iter().rev().copied().collect())).unwrap();
    assert_eq!(fib.route4(0x0a01_0203), route, "equal hops in another order are the same next hop");
    assert!(hashes.iter().zip(&chosen).all(|(hash, port)| output(&fib, route, *hash) == *port));
    writer.unresolve(hops[0].0);
    assert!(hashes.iter().zip(&chosen).all(|(hash, port)| {
        matches!(fib.adjacency(route, *hash), Adjacency::Forward { .. }) == (*port != 1)
    }));

    // A FIB that another control process builds, in another order, sends the flows the same way.
    let (mut again, fib) = make(FibLayout::SMALL);
    let mut hops: Vec<_> =
        weights.iter().rev().map(|(port, weight)| (neighbour(&mut again, *port), *weight)).collect();
    hops.swap(0, 2);
    again.insert(v6(0), 0, Target::Hops(hops)).unwrap();
    let route = fib.route6(&[7; 16]);
    assert!(hashes.iter().zip(&chosen).all(|(hash, port)| output(&fib, route, *hash) == *port));
}

#[test]
fn hops_are_limited_and_repeated_ones_add_up() {
    let (mut writer, fib) = make(FibLayout::SMALL);
    let ids: Vec<_> = (0..=HOP_LIMIT as u16).map(|port| (neighbour(&mut writer, port), 200)).collect();
    let error = writer.insert(v4(0), 0, Target::Hops(ids.clone())).unwrap_err();
    assert_eq!(error, FibError::ManyHops { hops: HOP_LIMIT + 1 });
    writer.insert(v4(0), 0, Target::Hops(ids[..HOP_LIMIT].to_vec())).unwrap();
    let route = fib.route4(1);
    let ports: std::collections::HashSet<u16> =
        (0..HOP_LIMIT as u32).map(|slot| output(&fib, route, slot << 24)).collect();
    assert_eq!(ports.len(), HOP_LIMIT);

    let (one, two) = (ids[0].0, ids[1].0);
    writer.insert(v4(0), 0, Target::Hops(vec![(one, 1), (two, 1), (one, 2)])).unwrap();
    assert_eq!(writer.get(v4(0), 0), Some(Target::Hops(vec![(one, 3), (two, 1)])));
    writer.insert(v4(0), 0, Target::Hops(vec![(one, 1), (one, 2)])).unwrap();
    assert_eq!(writer.get(v4(0), 0), Some(Target::Hops(vec![(one, 1)])));
}

#[test]
fn an_adjacency_lives_while_a_route_uses_it() {
    let (mut writer, fib) = make(FibLayout::SMALL);
    let (a, b) = (neighbour(&mut writer, 1), neighbour(&mut writer, 2));
    writer.insert(v4(0), 0, Target::Hops(vec![(a, 1), (b, 1)])).unwrap();
    assert!(writer.release(a) && writer.release(b));
    assert_eq!(writer.find_adjacency(1, v4(0x0a00_0001)), Some(a));
    let old = fib.route4(5);
    writer.insert(v4(0), 0, Target::Hops(vec![(b, 1)])).unwrap();
    assert_eq!(writer.find_adjacency(1, v4(0x0a00_0001)), None);
    assert_eq!(output(&fib, old, 0), 1, "a reader in its pass still gets where it was going");
    assert_eq!(
        writer.adjacencies().collect::<Vec<_>>(),
        [(b, 2, v4(0x0a00_0001), Adjacency::Forward { port: 2, mac: mac(2) })]
    );
    assert!(writer.remove(v4(0), 0));
    writer.reclaim(u64::MAX);
    let usage = writer.usage();
    assert_eq!((usage.adjacencies.used, usage.next_hops.used, usage.members.used), (0, 0, 0));
    assert_eq!((usage.adjacencies.retired, usage.next_hops.retired, usage.members.retired), (0, 0, 0));
}

#[test]
fn garbage_never_panics_a_reader() {
    let layout = FibLayout { v4_groups: 3, v6_groups: 5, next_hops: 7, members: 11, adjacencies: 13 };
    let region = Region::heap(layout.bytes());
    drop(FibWriter::create(region.clone(), layout).unwrap());
    let fib = Fib::open(region.clone()).unwrap();
    let mut numbers = numbers();
    // All but the header's seven words; in rounds, so that small indices (which lead somewhere) are frequent too.
    for small in [0u64, 0x7fff_fff8_7fff_fff8, 0x07ff_fff8_07ff_fff8] {
        for word in region.u64s(64, (layout.bytes() - 64) / 8).unwrap() {
            word.store(numbers.next().unwrap() & !small, Relaxed);
        }
        for _ in 0..200_000 {
            let (a, b) = (numbers.next().unwrap(), numbers.next().unwrap());
            let dst = ((u128::from(a) << 64) | u128::from(b)).to_be_bytes();
            // Enough to be looked up as a burst.
            let mut routes = [Route::NONE; 9];
            fib.routes6(&[dst; 9], &mut routes);
            assert_eq!(routes, [fib.route6(&dst); 9]);
            fib.adjacency(routes[0], a as u32);
            fib.routes4(&[a as u32, b as u32], &mut routes[..2]);
            assert_eq!(routes[0], fib.route4(a as u32));
            fib.adjacency(routes[1], b as u32);
        }
    }
}
