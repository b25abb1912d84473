mod model;

use super::*;
use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, Ipv6Addr};
use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::region::Region;

const SECOND: u64 = 1_000_000_000;
const NO_LIMITS: Limits = Limits { half_open: u32::MAX, per_source: 0 };
const WEAK: State = State { bits: bit::WEAK, last: 0, cold: [0; 4] };
const HALF_OPEN: State = State { bits: bit::COUNTED, last: 0, cold: [0; 4] };
const STRONG: State = State { bits: bit::REPLIED | bit::ASSURED, last: 0, cold: [0; 4] };

fn space(flows: u32, translations: u32) -> FlowSpace {
    FlowSpace { flows, translations }
}

fn table(flows: u32, translations: u32) -> Flows {
    let space = space(flows, translations);
    Flows::open(Region::heap(space.bytes()), space, HashKey::from_seed(7)).unwrap()
}

/// Under this secret flows that differ in their ports alone have the same hash.
fn colliding(flows: u32) -> Flows {
    let space = space(flows, 0);
    Flows::open(Region::heap(space.bytes()), space, HashKey::from_bytes(&[0; 64])).unwrap()
}

/// IPv4 for even numbers, IPv6 for odd ones.
fn key(n: u32) -> FlowKey {
    let port = (n % 50_000) as u16;
    if n.is_multiple_of(2) {
        let source = Ipv4Addr::from_bits(0x0a00_0000 + n / 4);
        FlowKey::v4((source, 1000 + port), (Ipv4Addr::new(192, 0, 2, 1), 80), 6)
    } else {
        let source = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(n / 4) << 64 | u128::from(n));
        FlowKey::v6((source, 1000 + port), ("2001:db8:ffff::1".parse().unwrap(), 53), 17)
    }
}

fn outside(n: u32) -> FlowKey {
    FlowKey::v4((Ipv4Addr::new(192, 0, 2, 1), 80), (Ipv4Addr::new(203, 0, 113, 1), n as u16), 6)
}

fn add(flows: &Flows, key: &FlowKey, state: &State, now: u64, life: u64) -> Result<FlowId, Refused> {
    flows.create(key, flows.hash(key), state, (now, life), &NO_LIMITS, |_| 0)
}

fn find(flows: &Flows, key: &FlowKey) -> Option<(FlowId, bool)> {
    flows.find(key, flows.hash(key))
}

/// All that must hold at any time: every flow is found by both its keys, and by no other flow's; what is counted is right.
fn check(flows: &Flows) {
    let (mut weak, mut half_open, mut translated) = (0, 0, 0);
    let mut sources: HashMap<_, u32> = HashMap::new();
    for id in (0..flows.space().flows).map(FlowId) {
        let hot = flows.hot(id).unwrap();
        if hot.life() == 0 {
            continue;
        }
        weak += u32::from(hot.bits() & bit::WEAK != 0);
        half_open += u32::from(hot.bits() & bit::HALF_OPEN != 0);
        translated += u32::from(hot.is_translated());
        let (key, reply) = (flows.original(id), flows.reply_key(id));
        assert_eq!(find(flows, &key), Some((id, false)));
        assert_eq!(find(flows, &reply), Some((id, true)));
        if hot.is_translated() {
            assert!(!matches!(find(flows, &key.reversed()), Some((found, _)) if found == id));
        }
        let source = match key.source() {
            std::net::IpAddr::V4(address) => (4, u128::from(address.to_bits())),
            std::net::IpAddr::V6(address) => (6, address.to_bits() >> 64),
        };
        *sources.entry(source).or_default() += 1;
        let slots = flows.sources.slots(&key, &flows.secret);
        let (one, other) = flows.sources.both(slots);
        assert!(one.min(other) >= sources[&source]);
    }
    assert_eq!(flows.counted(), (weak, half_open));
    assert_eq!(flows.counts().translations, translated);
    assert_eq!(flows.header(layout::word::INTENT), 0);
    let counted: u32 = sources.values().sum();
    let all = (0..flows.space().flows * 2).map(|slot| flows.sources.counter_for_test(slot)).sum::<u32>();
    assert_eq!(all, 2 * counted);
}

#[test]
fn a_tracked_connection_takes_no_more_than_128_bytes() {
    for flows in [10_000, 262_144, 1_000_000, 4_000_000] {
        let each = space(flows, 0).bytes() as f64 / f64::from(flows);
        assert!(each <= 128.0, "{each} bytes for each of {flows}");
    }
}

#[test]
fn memory_of_others_is_refused() {
    let first = space(100, 10);
    let region = Region::heap(first.bytes());
    let open =
        |region: &Region, space, seed| Flows::open(region.clone(), space, HashKey::from_seed(seed)).err();
    assert_eq!(
        open(&region.part(0..100).unwrap(), first, 1),
        Some(OpenError::TooShort { has: 100, needs: first.bytes() })
    );
    assert_eq!(open(&region, first, 1), None);
    assert_eq!(open(&region, first, 1), None);
    assert_eq!(open(&region, space(99, 10), 1), Some(OpenError::OtherLayout));
    assert_eq!(open(&region, space(100, 9), 1), Some(OpenError::OtherLayout));
    assert_eq!(open(&region, first, 2), Some(OpenError::OtherSecret));
    assert_eq!(FlowView::open(region, space(99, 10)).err(), Some(OpenError::OtherLayout));
}

#[test]
fn a_flow_is_found_by_its_packets_and_by_their_answers() {
    let flows = table(100, 10);
    for n in 0..40 {
        let id = add(&flows, &key(n), &WEAK, 1, 100).unwrap();
        assert_eq!(find(&flows, &key(n)), Some((id, false)));
        assert_eq!(find(&flows, &key(n).reversed()), Some((id, true)));
        assert_eq!(find(&flows, &key(n + 1000)), None);
        assert_eq!((flows.original(id), flows.reply_key(id)), (key(n), key(n).reversed()));
    }
    check(&flows);
}

#[test]
fn answers_of_a_translated_flow_come_with_the_translated_key_alone() {
    let flows = table(100, 2);
    let ids = [0, 2, 4].map(|n| add(&flows, &key(n), &WEAK, 1, 100).unwrap());
    assert_eq!(flows.translate(ids[0], &outside(5000)), Ok(()));
    assert_eq!(flows.translate(ids[0], &outside(5000)), Ok(()), "as it is");
    assert_eq!(flows.translate(ids[0], &outside(5001)), Err(Refused::Taken));
    assert_eq!(flows.translate(ids[1], &outside(5000)), Err(Refused::Taken));
    assert_eq!(flows.translate(ids[1], &key(4).reversed()), Err(Refused::Taken));
    assert_eq!(flows.translate(ids[1], &outside(5001)), Ok(()));
    assert_eq!(flows.translate(ids[2], &outside(5002)), Err(Refused::Full));
    assert_eq!(flows.translate(FlowId(50), &outside(1)), Err(Refused::NoFlow));
    assert_eq!(find(&flows, &outside(5000)), Some((ids[0], true)));
    assert_eq!(find(&flows, &key(0)), Some((ids[0], false)));
    assert_eq!(find(&flows, &key(0).reversed()), None);
    assert_eq!(find(&flows, &outside(5000).reversed()), None);
    assert_eq!(flows.translation(ids[0]), Some(outside(5000)));
    assert_eq!(flows.translation(ids[2]), None);
    check(&flows);
    flows.remove(ids[0]);
    assert_eq!(find(&flows, &outside(5000)), None);
    assert_eq!(flows.translate(ids[2], &outside(5000)), Ok(()));
    // In use, whatever the sweep thinks.
    for round in 0..5 {
        flows.sweep(100, round * 61 * SECOND);
        assert_eq!(flows.counts().translations, if round == 0 { 2 } else { 0 });
    }
    check(&flows);
}

#[test]
fn a_mark_stays_with_its_flow() {
    let flows = table(10, 0);
    let id = add(&flows, &key(1), &WEAK, 1, 100).unwrap();
    assert_eq!(flows.mark(id), 0);
    flows.set_mark(id, 77);
    assert_eq!(flows.mark(id), 77);
    flows.remove(id);
    let again = add(&flows, &key(2), &WEAK, 1, 100).unwrap();
    assert_eq!((again, flows.mark(again)), (id, 0));
    assert_eq!(flows.mark(FlowId(1000)), 0);
}

#[test]
fn what_has_expired_goes_first_then_the_weak_then_what_was_not_seen_for_longest() {
    let now = 1000;
    let flows = table(8, 0);
    let lives = [2000, 3000, 900, 5000, 4000, 6000, 7000, 8000];
    for (n, life) in lives.into_iter().enumerate() {
        let state = if matches!(n, 4 | 6) { WEAK } else { STRONG };
        add(&flows, &key(n as u32), &state, 1, life).unwrap();
    }
    let mut gone = Vec::new();
    for n in 100..104 {
        add(&flows, &key(n), &STRONG, now, 10_000).unwrap();
        gone.extend(
            (0..8)
                .filter(|old| find(&flows, &key(*old)).is_none() && !gone.contains(old))
                .collect::<Vec<_>>(),
        );
        check(&flows);
    }
    assert_eq!(gone, [2, 4, 6, 0]);
    let counts = flows.counts();
    assert_eq!((counts.evicted_expired, counts.evicted_weak, counts.evicted_established), (1, 2, 1));
    assert_eq!(counts.flows, 8);
}

#[test]
fn what_is_seen_is_told_from_what_lives_long() {
    let flows = table(2, 0);
    // The first lives for longer, and was seen earlier.
    let long = add(&flows, &key(0), &STRONG, 1, 100_000).unwrap();
    add(&flows, &key(2), &STRONG, 1, 5000).unwrap();
    let timeout = |hot: Hot<'_>| if hot.key() == key(0) { 99_900 } else { 1000 };
    let third = key(4);
    let hash = flows.hash(&third);
    let id = flows.create(&third, hash, &STRONG, (10, 9000), &NO_LIMITS, timeout).unwrap();
    assert_eq!(id, long);
}

#[test]
fn as_long_as_any_flow_is_weak_no_other_is_evicted() {
    let flows = table(1000, 0);
    for n in 0..1000 {
        add(&flows, &key(n), &STRONG, 1, 9000).unwrap();
    }
    // It is far from where the search begins, and not new: flows are refused until it is found.
    flows.settle(find(&flows, &key(999)).unwrap().0, bit::WEAK);
    let mut refused = 0;
    while let Err(error) = add(&flows, &key(5000), &STRONG, 2, 9000) {
        assert_eq!(error, Refused::Full);
        refused += 1;
    }
    assert_eq!(refused, 999 / evict::LOOKS);
    assert!((0..999).all(|n| find(&flows, &key(n)).is_some()) && find(&flows, &key(999)).is_none());
    add(&flows, &key(5001), &STRONG, 2, 9000).unwrap();
    assert_eq!(flows.counts().evicted_established, 1);
    check(&flows);
}

#[test]
fn weak_flows_are_found_among_many_that_are_not() {
    let flows = table(1000, 0);
    for n in 0..995 {
        add(&flows, &key(n), &STRONG, 1, 9000).unwrap();
    }
    for n in 995..1500 {
        add(&flows, &key(n), if n % 2 == 0 { &WEAK } else { &HALF_OPEN }, 2, 9000).unwrap();
    }
    assert!((0..995).all(|n| find(&flows, &key(n)).is_some()) && find(&flows, &key(1499)).is_some());
    assert_eq!((flows.counts().flows, flows.counts().refused_full), (1000, 0));
    check(&flows);
}

#[test]
fn beyond_their_limit_the_oldest_half_open_connection_goes_and_no_other() {
    let flows = table(1000, 0);
    let limits = Limits { half_open: 10, per_source: 0 };
    let open = |n: u32, now| {
        let key = key(n);
        flows.create(&key, flows.hash(&key), &HALF_OPEN, (now, now + 1000), &limits, |_| 0)
    };
    for n in 0..10 {
        open(n, 1).unwrap();
    }
    // Two open, one is gone: their places are void.
    for n in [0, 3] {
        flows.settle(find(&flows, &key(n)).unwrap().0, bit::REPLIED);
    }
    flows.remove(find(&flows, &key(1)).unwrap().0);
    assert_eq!(flows.counts().half_open, 7);
    for n in 10..15 {
        open(n, 2).unwrap();
    }
    assert_eq!(flows.counts().half_open, 10);
    let left: Vec<u32> = (0..15).filter(|n| find(&flows, &key(*n)).is_some()).collect();
    assert_eq!(left, [0, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
    assert_eq!(flows.counts().evicted_half_open, 2);
    // However many open in the meantime.
    for n in 100..700 {
        let id = open(n, 3).unwrap();
        flows.settle(id, bit::REPLIED);
    }
    assert_eq!(flows.counts().half_open, 9, "one made room for the first of them");
    check(&flows);
}

#[test]
fn a_source_has_no_more_flows_than_it_may() {
    let flows = table(1000, 0);
    let limits = Limits { half_open: 10, per_source: 3 };
    let open = |key: FlowKey| flows.create(&key, flows.hash(&key), &WEAK, (1, 1000), &limits, |_| 0);
    let v4 =
        |host, port| FlowKey::v4((Ipv4Addr::new(10, 0, 0, host), port), (Ipv4Addr::new(10, 9, 9, 9), 53), 17);
    let v6 = |net: u128, host: u128| {
        let source = Ipv6Addr::from_bits(0x2001_0db8 << 96 | net << 64 | host);
        FlowKey::v6((source, 1000), (Ipv6Addr::from_bits(0x2001_0db8 << 96 | 9), 53), 17)
    };
    for n in 0..5 {
        assert_eq!(open(v4(1, n)).is_ok(), n < 3);
        assert_eq!(open(v4(2, n)).is_ok(), n < 3);
        assert_eq!(open(v6(1, u128::from(n))).is_ok(), n < 3, "a /64 is one source");
        assert_eq!(open(v6(2, u128::from(n))).is_ok(), n < 3);
    }
    assert_eq!(flows.counts().refused_source, 8);
    flows.remove(find(&flows, &v6(1, 0)).unwrap().0);
    assert!(open(v6(1, 99)).is_ok());
    assert_eq!(open(v6(1, 100)), Err(Refused::Source));
    check(&flows);
}

#[test]
fn where_all_hashes_are_equal_the_probes_stay_bounded_and_the_answers_right() {
    let flows = colliding(1000);
    let key = |n: u16| FlowKey::v4((Ipv4Addr::new(10, 0, 0, 1), n), (Ipv4Addr::new(10, 0, 0, 2), 80), 6);
    assert_eq!(flows.hash(&key(1)), flows.hash(&key(2)));
    for n in 1..=100 {
        add(&flows, &key(n), &WEAK, 1, u64::from(n) + 10).unwrap();
        check(&flows);
    }
    // Sixteen have room, and the last to expire have it.
    let left: Vec<u16> = (1..=100).filter(|n| find(&flows, &key(*n)).is_some()).collect();
    assert_eq!(left, (85..=100).collect::<Vec<_>>());
    for n in left {
        flows.settle(find(&flows, &key(n)).unwrap().0, bit::REPLIED | bit::ASSURED);
    }
    let elsewhere = FlowKey::v4((Ipv4Addr::new(10, 0, 0, 7), 1), (Ipv4Addr::new(10, 0, 1, 2), 80), 6);
    add(&flows, &elsewhere, &WEAK, 1, 50).unwrap();
    assert_eq!(add(&flows, &key(200), &WEAK, 2, 90), Err(Refused::Full), "none of those beside it is weak");
    flows.remove(find(&flows, &elsewhere).unwrap().0);
    add(&flows, &key(200), &WEAK, 2, 90).unwrap();
    check(&flows);
}

#[test]
fn a_reader_sees_what_is_there() {
    let space = space(100, 10);
    let region = Region::heap(space.bytes());
    let view = FlowView::open(region.clone(), space).unwrap();
    assert_eq!(view.flows(0).count(), 0);
    let flows = Flows::open(region, space, HashKey::from_seed(7)).unwrap();
    let ids = [0, 1, 2].map(|n| add(&flows, &key(n), &WEAK, 1, 100 + u64::from(n)).unwrap());
    flows.translate(ids[2], &outside(77)).unwrap();
    flows.set_mark(ids[1], 5);
    flows.cold(ids[2]).unwrap()[0].store(9, std::sync::atomic::Ordering::Relaxed);
    flows.remove(ids[0]);
    let shown: Vec<Shown> = view.flows(100).collect();
    let expected = [
        Shown {
            id: ids[1].0,
            original: key(1),
            reply: key(1).reversed(),
            bits: bit::WEAK | bit::MARKED,
            cold: 0,
            mark: 5,
            life: 101,
        },
        Shown {
            id: ids[2].0,
            original: key(2),
            reply: outside(77),
            bits: bit::WEAK,
            cold: 9,
            mark: 0,
            life: 102,
        },
    ];
    assert_eq!(shown, expected);
    assert_eq!((view.counts(), view.end(), view.space()), (flows.counts(), flows.end(), space));
    assert_eq!(view.flows(101).count(), 1);
    assert_eq!(view.flow(1000), None);
}

#[test]
fn a_reader_beside_a_writer_sees_no_mixture() {
    let space = space(4, 4);
    let region = Region::heap(space.bytes());
    let flows = Flows::open(region.clone(), space, HashKey::from_seed(7)).unwrap();
    let view = FlowView::open(region, space).unwrap();
    // Each flow's two keys tell the same number.
    let pair = |n: u32| (key(n * 2), outside(n));
    let writer = std::thread::spawn(move || {
        for n in 1..200_000 {
            let (key, reply) = pair(n % 20_000);
            if let Ok(id) = add(&flows, &key, &WEAK, 1, 100) {
                let _ = flows.translate(id, &reply);
            }
            if n % 3 == 0 {
                flows.remove(FlowId(n % 4));
            }
        }
    });
    let mut seen = 0;
    while !writer.is_finished() {
        for shown in view.flows(0) {
            let n = u32::from(shown.original.source_port() - 1000) / 2;
            let (original, reply) = pair(n);
            // The addresses go with the port modulo 25,000 flows; there are fewer.
            assert_eq!(shown.original, original);
            assert!(shown.reply == reply || shown.reply == original.reversed(), "{shown:?}");
            seen += 1;
        }
    }
    writer.join().unwrap();
    assert!(seen > 0);
}
