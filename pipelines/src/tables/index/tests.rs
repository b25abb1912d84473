use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use zsync_packet::flow::{FlowKey, HashKey};

fn index(capacity: usize) -> Index {
    Index::open(Region::heap(Index::bytes(capacity)), capacity).unwrap()
}

fn hash(n: u64) -> u64 {
    let key = FlowKey::from_words([n, 1, 2, 3, 4]);
    key.hash(&HashKey::from_seed(1))
}

#[test]
fn memory_that_is_too_short_is_refused() {
    let bytes = Index::bytes(1000);
    assert!(Index::open(Region::heap(bytes).part(0..bytes - 1).unwrap(), 1000).is_none());
}

#[test]
fn it_takes_all_that_it_was_made_for_and_a_tenth_more() {
    let (capacity, more) = (1_000_000, 1_100_000);
    let index = index(capacity);
    for n in 0..more {
        assert_eq!(index.insert(hash(n), n as u32), Ok(()), "{n}");
    }
    for n in 0..more {
        assert_eq!(index.find(hash(n), |found| found == n as u32), Some(n as u32));
    }
    for n in more..more + 1000 {
        assert_eq!(index.find(hash(n), |found| found == n as u32), None);
    }
    for n in 0..more {
        assert!(index.remove(hash(n), n as u32));
        assert!(!index.remove(hash(n), n as u32));
    }
    let mut left = 0;
    (0..more).for_each(|n| index.rivals(hash(n), |_| left += 1));
    assert_eq!(left, 0);
}

#[test]
fn where_all_hashes_are_equal_sixteen_find_room_and_the_rest_is_refused() {
    let index = index(1000);
    let hash = 0x1234_5678_9abc_def0;
    let taken = (0..100).filter(|n| index.insert(hash, *n).is_ok()).count();
    assert_eq!(taken, 2 * PLACES);
    let mut rivals = Vec::new();
    index.rivals(hash, |number| rivals.push(number));
    rivals.sort_unstable();
    assert_eq!(rivals, (0..16).collect::<Vec<_>>());
    assert_eq!(index.find(hash, |number| number == 15), Some(15));
    assert!(index.remove(hash, 3));
    assert_eq!(index.insert(hash, 77), Ok(()));
    assert_eq!(index.find(hash, |number| number == 77), Some(77));
    assert_eq!(index.insert(hash, 78), Err(Full));
}

#[test]
fn another_view_of_the_memory_sees_the_same() {
    let region = Region::heap(Index::bytes(100));
    let one = Index::open(region.clone(), 100).unwrap();
    one.insert(hash(5), 5).unwrap();
    let other = Index::open(region, 100).unwrap();
    assert_eq!(other.find(hash(5), |n| n == 5), Some(5));
}

proptest! {
    /// Few hashes, so that they collide; against a map from number to hash.
    #[test]
    fn it_does_what_a_map_does(ops in prop::collection::vec((any::<bool>(), 0u32..64, 0u64..12), 1..400)) {
        let index = index(32);
        let mut map: BTreeMap<u32, u64> = BTreeMap::new();
        for (add, number, which) in ops {
            // Low halves from a small choice, and few tags: two buckets in common, or one, or none.
            let hash = [0x1000_0000_u64, 0x9000_0000, 0xf000_0000][which as usize % 3] | (which / 3) << 40;
            match map.get(&number) {
                Some(&under) if !add => {
                    prop_assert!(index.remove(under, number));
                    map.remove(&number);
                }
                None if add => {
                    if index.insert(hash, number).is_ok() {
                        map.insert(number, hash);
                    } else {
                        let mut rivals = 0;
                        index.rivals(hash, |_| rivals += 1);
                        prop_assert!(rivals >= PLACES);
                    }
                }
                _ => {}
            }
            for number in 0..64 {
                match map.get(&number) {
                    Some(&under) => prop_assert_eq!(index.find(under, |n| n == number), Some(number)),
                    None => for under in map.values() {
                        prop_assert_eq!(index.find(*under, |n| n == number), None);
                    }
                }
            }
        }
    }
}
