use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::Ipv4Addr;

const SECOND: u64 = 1_000_000_000;
const PATIENCE: Patience = Patience { tcp: 900 * SECOND, udp: 300 * SECOND };

fn open(region: &Region, capacity: usize) -> Connections {
    Connections::open(region, capacity, HashKey::from_seed(7), PATIENCE).unwrap()
}

fn key(number: u32) -> FlowKey {
    let client = Ipv4Addr::from_bits(0x0a00_0000 + number / 1000);
    FlowKey::v4((client, 1024 + (number % 1000) as u16), (Ipv4Addr::new(192, 0, 2, 1), 443), 6)
}

impl Connections {
    fn look(&self, number: u32, now: u64) -> Option<u32> {
        self.find(&key(number), self.hash(&key(number)), now)
    }

    fn add(&self, number: u32, ticket: u64, now: u64) -> Option<u32> {
        self.insert(&key(number), self.hash(&key(number)), Ticket(ticket), true, now)
    }

    fn sweep_all(&self, now: u64) -> Vec<u64> {
        let (mut from, mut seen) = (0, Vec::new());
        loop {
            from = self.sweep(from, 3, now, |ticket| seen.push(ticket.0));
            if from == 0 {
                return seen;
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Packet {
        flow: u32,
        ticket: u64,
        phase: u8,
    },
    Wait(u64),
    Sweep,
    /// The process ends, and the next one opens the memory.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..40u32, 1..9u64, 0..4u8).prop_map(|(flow, ticket, phase)| Step::Packet { flow, ticket, phase }),
        2 => (1..200u64).prop_map(Step::Wait),
        2 => Just(Step::Sweep),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Against a map; with room for all, so that nobody is evicted.
    #[test]
    fn a_flow_goes_where_it_went_until_its_time_is_over(steps in prop::collection::vec(step(), 0..200)) {
        let region = Region::heap(Connections::bytes(64));
        let mut connections = open(&region, 64);
        let mut oracle: HashMap<u32, (u64, Phase, u64)> = HashMap::new();
        let mut now = SECOND;
        for step in steps {
            match step {
                Step::Packet { flow, ticket, phase } => {
                    let phase = Phase::of(phase.into());
                    oracle.retain(|_, (_, _, life)| *life > now);
                    let found = connections.look(flow, now);
                    prop_assert_eq!(found.is_some(), oracle.contains_key(&flow));
                    match (found, oracle.get_mut(&flow)) {
                        (Some(number), Some((went, was, life))) => {
                            prop_assert_eq!((connections.ticket(number).0, connections.phase(number)), (*went, *was));
                            connections.touch(number, true, phase, now);
                            // It is refreshed at the latest when a 64th of its time is gone.
                            let until = now + PATIENCE.with(true, phase);
                            if *was != phase || *life < until - (PATIENCE.with(true, phase) >> 6) {
                                *life = until;
                            }
                            *was = phase;
                        }
                        _ => {
                            prop_assert!(connections.add(flow, ticket, now).is_some());
                            oracle.insert(flow, (ticket, Phase::Opening, now + OPENING.as_nanos() as u64));
                        }
                    }
                }
                Step::Wait(seconds) => now += seconds * SECOND,
                Step::Sweep => {
                    oracle.retain(|_, (_, _, life)| *life > now);
                    let mut tickets = connections.sweep_all(now);
                    let mut expected: Vec<_> = oracle.values().map(|(ticket, ..)| *ticket).collect();
                    tickets.sort_unstable();
                    expected.sort_unstable();
                    prop_assert_eq!(tickets, expected);
                    prop_assert_eq!(connections.live() as usize, oracle.len());
                }
                Step::Reopen => connections = open(&region, 64),
            }
        }
    }
}

#[test]
fn a_flood_of_first_packets_takes_no_place_from_those_that_carry_data() {
    let region = Region::heap(Connections::bytes(1000));
    let connections = open(&region, 1000);
    let now = SECOND;
    for flow in 0..500 {
        let number = connections.add(flow, u64::from(flow) + 1, now).unwrap();
        connections.touch(number, true, Phase::Flowing, now);
    }
    let recorded = (10_000..60_000).filter(|&flow| connections.add(flow, 1, now).is_some()).count();
    assert!(recorded > 45_000, "{recorded}: those that only began give way to each other");
    assert!(connections.live() <= 1000);
    for flow in 0..500 {
        let number = connections.look(flow, now).unwrap();
        assert_eq!(connections.ticket(number).0, u64::from(flow) + 1);
    }
    // A legitimate client in the midst of it.
    let number = connections.add(700, 5, now).unwrap();
    connections.touch(number, true, Phase::Flowing, now);
    (60_000..110_000).for_each(|flow| _ = connections.add(flow, 1, now));
    assert_eq!(connections.look(700, now), Some(number));
}

#[test]
fn who_is_over_gives_way_first_and_who_carries_data_never() {
    let region = Region::heap(Connections::bytes(1));
    let connections = open(&region, 1);
    let one = connections.add(1, 1, SECOND).unwrap();
    connections.touch(one, true, Phase::Flowing, SECOND);
    assert_eq!(connections.add(2, 2, SECOND), None);
    connections.touch(one, true, Phase::Closing, SECOND);
    // The other may lie in a bucket of its own; then nobody gives way to it.
    let taken = (2..100).find(|&flow| connections.add(flow, 2, SECOND).is_some()).unwrap();
    assert!(connections.look(1, SECOND).is_none() && connections.look(taken, SECOND).is_some());
}

#[test]
fn equal_hashes_are_told_apart_and_bounded() {
    let region = Region::heap(Connections::bytes(1000));
    // With no secret at all, ports do not change a hash.
    let connections = Connections::open(&region, 1000, HashKey::from_bytes(&[0; 64]), PATIENCE).unwrap();
    assert_eq!(connections.hash(&key(0)), connections.hash(&key(99)));
    assert!(
        (0..100).all(|flow| connections.add(flow, u64::from(flow) + 1, 1).is_some()),
        "who only began gives way"
    );
    let found: Vec<_> = (0..100).filter_map(|flow| Some((flow, connections.look(flow, 1)?))).collect();
    assert!((8..=16).contains(&found.len()) && connections.live() as usize == found.len());
    for (flow, number) in found {
        assert_eq!(connections.ticket(number).0, u64::from(flow) + 1);
        connections.touch(number, true, Phase::Flowing, 1);
    }
    assert!((100..200).all(|flow| connections.add(flow, 1, 1).is_none()), "who carries data does not");
}

#[test]
fn a_flow_that_comes_again_after_its_time_has_one_record() {
    let region = Region::heap(Connections::bytes(10));
    let connections = open(&region, 10);
    connections.add(1, 1, SECOND).unwrap();
    let later = 100 * SECOND;
    assert_eq!(connections.look(1, later), None);
    let number = connections.add(1, 2, later).unwrap();
    assert_eq!((connections.look(1, later), connections.live()), (Some(number), 1));
    assert_eq!(connections.sweep_all(later), [2]);
}
