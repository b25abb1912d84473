//! Slots over many changes, against what the module says of them.

use super::*;
use crate::tables::fib::shares::shares;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn fresh(hops: &[(u8, u8)]) -> Vec<u8> {
    let weights: Vec<u8> = hops.iter().map(|(_, weight)| *weight).collect();
    let shares = shares(&weights);
    hops.iter().zip(&shares).flat_map(|((hop, _), share)| vec![*hop; *share as usize]).collect()
}

/// The slots after a change.
fn after(slots: &[u8], old: &[(u8, u8)], new: &[(u8, u8)]) -> Vec<u8> {
    rearrange(Before { slots, hops: old }, new, &fresh(new)).unwrap_or_else(|| fresh(new))
}

/// The hop of a hash, as readers find it.
fn hop(slots: &[u8], hash: u32) -> u8 {
    slots[((u64::from(hash) * slots.len() as u64) >> 32) as usize]
}

fn hashes() -> impl Iterator<Item = u32> {
    (0..4096u32).map(|n| (n << 20) + 77)
}

#[test]
fn a_lost_hop_is_shared_out_and_takes_its_slots_back() {
    let (all, two) = ([(1, 1), (2, 1), (3, 1)], [(1, 1), (3, 1)]);
    let begin = fresh(&all);
    let lost = after(&begin, &all, &two);
    assert_eq!(lost.len(), 255);
    let count = |slots: &[u8], hop| slots.iter().filter(|other| **other == hop).count();
    assert_eq!((count(&lost, 1), count(&lost, 3)), (127, 128));
    // Back again, it is as it was at first.
    assert_eq!(after(&lost, &two, &all), begin);
    // Who becomes the only one, or has nobody in common with those before, has nothing to keep.
    assert_eq!(rearrange(Before { slots: &begin, hops: &all }, &[(7, 1), (8, 1)], &[7, 8]), None);
}

#[test]
fn as_many_hops_as_there_can_be() {
    let all: Vec<(u8, u8)> = (0..=255).map(|hop| (hop, 255)).collect();
    let begin = fresh(&all);
    let lost = after(&begin, &all, &all[1..]);
    assert_eq!(lost.len(), 256);
    assert_eq!(lost[1..], begin[1..]);
    assert_eq!(after(&lost, &all[1..], &all), begin);
    // With fewer slots than hops there is nothing to keep.
    assert_eq!(after(&[1; 129], &[(1, 1)], &all), begin);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn only_what_must_move_moves(
        begin in prop::collection::btree_map(0u8..40, 1u8..=255, 2..12),
        changes in prop::collection::vec((prop::collection::vec(0u8..40, 0..4), prop::collection::btree_map(0u8..40, 1u8..=255, 0..3)), 1..20),
        equal: bool,
    ) {
        let list = |hops: &BTreeMap<u8, u8>| -> Vec<(u8, u8)> {
            hops.iter().map(|(hop, weight)| (*hop, if equal { 1 } else { *weight })).collect()
        };
        let mut hops = begin;
        let mut slots = fresh(&list(&hops));
        for (lost, new) in changes {
            let old = hops.clone();
            hops.retain(|hop, _| !lost.contains(hop));
            // One that is there keeps its weight.
            new.iter().for_each(|(hop, weight)| {
                hops.entry(*hop).or_insert(old.get(hop).copied().unwrap_or(*weight));
            });
            if hops.len() < 2 {
                hops = old;
                continue;
            }
            let (before, now) = (list(&old), list(&hops));
            let next = after(&slots, &before, &now);
            let (grew, shrank) = (now.iter().any(|hop| !before.contains(hop)), before.iter().any(|hop| !now.contains(hop)));
            let kept = before.iter().any(|hop| now.contains(hop));
            for hash in hashes() {
                let (was, is) = (hop(&slots, hash), hop(&next, hash));
                prop_assert!(hops.contains_key(&is));
                if kept && !grew && hops.contains_key(&was) {
                    prop_assert_eq!(was, is, "a hop was lost, and it was another");
                }
                if kept && grew && !shrank && was != is {
                    prop_assert!(!old.contains_key(&is), "from hop to hop, though none was lost");
                }
            }
            // Shares as due, but for a slot of rounding; more where hops have one slot that are due less.
            let sum: f64 = now.iter().map(|(_, weight)| f64::from(*weight)).sum();
            let total = next.len() as f64;
            let crowded = now.iter().any(|(_, weight)| f64::from(*weight) * total < sum);
            for (hop, weight) in &now {
                let has = next.iter().filter(|other| *other == hop).count() as f64;
                let due = f64::from(*weight) * total / sum;
                prop_assert!(has >= 1.0 && (crowded || (has - due).abs() <= 2.0), "{hop}: {has} of {total}, due {due}");
            }
            slots = next;
        }
    }
}
