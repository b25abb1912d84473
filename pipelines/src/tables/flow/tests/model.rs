//! The table beside a map that does the same, at random.

use super::*;
use proptest::prelude::*;

/// What a test does to the table.
#[derive(Clone, Debug)]
enum Op {
    Add { n: u32, strength: u8, life: u64 },
    Remove { n: u32 },
    Translate { n: u32, to: u32 },
    Settle { n: u32, strength: u8 },
    Refresh { n: u32, life: u64 },
    Pass { time: u64 },
}

fn ops(keys: u32) -> impl Strategy<Value = Vec<Op>> {
    let n = move || 0..keys;
    let op = prop_oneof![
        4 => (n(), 0u8..3, 1u64..50).prop_map(|(n, strength, life)| Op::Add { n, strength, life }),
        2 => n().prop_map(|n| Op::Remove { n }),
        2 => (n(), 0u32..10).prop_map(|(n, to)| Op::Translate { n, to }),
        2 => (n(), 0u8..3).prop_map(|(n, strength)| Op::Settle { n, strength }),
        2 => (n(), 1u64..50).prop_map(|(n, life)| Op::Refresh { n, life }),
        1 => (1u64..10).prop_map(|time| Op::Pass { time }),
    ];
    prop::collection::vec(op, 1..300)
}

fn state(strength: u8) -> State {
    [WEAK, HALF_OPEN, STRONG][usize::from(strength) % 3]
}

/// A flow in the oracle.
#[derive(Clone, Debug)]
struct Known {
    id: FlowId,
    bits: u64,
    life: u64,
    reply: Option<FlowKey>,
}

/// Runs the operations on a table and on a map. Flows that were evicted, by the table's own word, leave the map, too, if they
/// were those to go.
fn against_a_map(
    flows: &Flows,
    key: impl Fn(u32) -> FlowKey,
    keys: u32,
    ops: Vec<Op>,
) -> Result<(), TestCaseError> {
    let mut map: BTreeMap<u32, Known> = BTreeMap::new();
    let mut now = 1;
    for op in ops {
        match op {
            Op::Add { n, strength, life } => {
                if map.contains_key(&n) {
                    continue;
                }
                let before = flows.counts();
                let weak = map.values().filter(|known| known.bits & bit::WEAK != 0).count();
                let added = add(flows, &key(n), &state(strength), now, now + life);
                let after = flows.counts();
                let gone: Vec<u32> = map
                    .iter()
                    .filter(|(n, known)| flows.is_it(known.id, &key(**n)) != Some(false))
                    .map(|(n, _)| *n)
                    .collect();
                for n in &gone {
                    let known = map.remove(n).unwrap();
                    if after.evicted_expired > before.evicted_expired {
                        prop_assert!(known.life <= now);
                    } else if after.evicted_weak > before.evicted_weak {
                        prop_assert!(known.bits & bit::WEAK != 0);
                    } else {
                        prop_assert_eq!(after.evicted_established, before.evicted_established + 1);
                        prop_assert_eq!(weak, 0);
                    }
                }
                prop_assert!(gone.len() <= 1);
                match added {
                    Ok(id) => {
                        let bits = state(strength).bits;
                        map.insert(n, Known { id, bits, life: now + life, reply: None });
                    }
                    Err(error) => prop_assert_eq!(error, Refused::Full),
                }
            }
            Op::Remove { n } => {
                if let Some(known) = map.remove(&n) {
                    flows.remove(known.id);
                }
            }
            Op::Translate { n, to } => {
                let taken = map.values().any(|known| known.reply == Some(outside(to)));
                let Some(known) = map.get_mut(&n) else { continue };
                match flows.translate(known.id, &outside(to)) {
                    Ok(()) => {
                        prop_assert!(known.reply.is_none_or(|reply| reply == outside(to)));
                        prop_assert!(!taken || known.reply.is_some());
                        known.reply = Some(outside(to));
                    }
                    Err(Refused::Taken) => prop_assert!(taken || known.reply.is_some()),
                    Err(error) => prop_assert_eq!(error, Refused::Full),
                }
            }
            Op::Settle { n, strength } => {
                if let Some(known) = map.get_mut(&n) {
                    known.bits = state(strength).bits;
                    flows.settle(known.id, known.bits);
                }
            }
            Op::Refresh { n, life } => {
                if let Some(known) = map.get_mut(&n) {
                    known.life = now + life;
                    flows.hot(known.id).unwrap().set_life(known.life);
                }
            }
            Op::Pass { time } => {
                now += time;
                flows.sweep(flows.space().flows, now);
                map.retain(|_, known| known.life > now);
            }
        }
        check(flows);
        for n in 0..keys {
            let known = map.get(&n);
            prop_assert_eq!(find(flows, &key(n)), known.map(|known| (known.id, false)));
            if let Some(known) = known {
                let hot = flows.hot(known.id).unwrap();
                prop_assert_eq!((hot.bits(), hot.life()), (known.bits, known.life));
                prop_assert_eq!(flows.translation(known.id), known.reply);
                let reply = known.reply.unwrap_or_else(|| key(n).reversed());
                prop_assert_eq!(find(flows, &reply), Some((known.id, true)));
            }
        }
        prop_assert_eq!(flows.counts().flows as usize, map.len());
    }
    Ok(())
}

proptest! {
    #[test]
    fn it_does_what_a_map_does(ops in ops(40)) {
        against_a_map(&table(64, 5), key, 40, ops)?;
    }

    #[test]
    fn it_does_what_a_map_does_with_too_little_room(ops in ops(40)) {
        against_a_map(&table(12, 5), key, 40, ops)?;
    }

    #[test]
    fn it_does_what_a_map_does_when_all_hashes_are_equal(ops in ops(40)) {
        let key = |n: u32| FlowKey::v4((Ipv4Addr::new(10, 0, 0, 1), n as u16 + 1), (Ipv4Addr::new(10, 0, 0, 2), 80), 6);
        against_a_map(&colliding(1000), key, 40, ops)?;
    }
}
