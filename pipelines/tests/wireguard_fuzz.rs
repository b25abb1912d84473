//! The entries of the fuzz targets of WireGuard, without a fuzzer: their seeds, every input that was kept, and random changes of these.
//!
//! `PROPTEST_CASES=100000 cargo nextest run -p zsync-pipelines --test wireguard_fuzz` tries that many changes of each.

mod kept;

#[path = "../../tests/fuzz/entry/wg_quick.rs"]
#[allow(dead_code)]
mod wg_quick;
#[path = "../../tests/fuzz/entry/wireguard.rs"]
mod wireguard;

use kept::kept;
use proptest::prelude::*;
use std::sync::LazyLock;
use wireguard::{Direction, run, seeds};

static OPEN: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| kept("wireguard_open", 4));
static SEAL: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| kept("wireguard_seal", 4));

#[test]
fn the_kept_inputs_hold_and_packets_get_through() {
    for (direction, inputs) in [(Direction::Open, &OPEN), (Direction::Seal, &SEAL)] {
        let passed: usize = inputs.iter().map(|input| run(direction, input)).sum();
        let [first, again]: [usize; 2] =
            [(); 2].map(|()| seeds(direction).iter().map(|input| run(direction, input)).sum());
        assert_eq!(first, again, "the same input does the same again");
        // Two of each input: at its beginning, and at its end.
        let (most, all) = (seeds(direction).len() * 2, inputs.len() * 2);
        assert!(first > most + 8 && passed > all, "{direction:?}: {first} of {most}, {passed} of {all}");
    }
}

#[test]
fn the_kept_files_of_wg_quick_hold() {
    kept("wg_quick", 4).iter().for_each(|input| wg_quick::run(input));
}

/// One of `inputs`, or two of them behind each other, with some bytes changed, and parts left out or said again.
fn changed(inputs: &'static [Vec<u8>]) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0u8..5, 0usize..40);
    let second = prop::option::of(prop::sample::select(inputs));
    (prop::sample::select(inputs), second, prop::collection::vec(change, 0..12)).prop_map(
        |(mut input, second, changes)| {
            input.extend(second.unwrap_or_default());
            for (at, value, how, len) in changes {
                if input.is_empty() {
                    break;
                }
                let at = at.index(input.len());
                let end = (at + len).min(input.len());
                match how {
                    0 => input[at] = value,
                    1 => input[at] ^= 1 << (value & 7),
                    2 => drop(input.drain(at..end)),
                    3 => drop(input.splice(at..at, input[at..end].to_vec())),
                    _ => input.insert(at, value),
                }
            }
            input
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4096, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn changed_messages_of_a_peer(input in changed(&OPEN)) {
        run(Direction::Open, &input);
    }

    #[test]
    fn changed_packets_inside(input in changed(&SEAL)) {
        run(Direction::Seal, &input);
    }
}
