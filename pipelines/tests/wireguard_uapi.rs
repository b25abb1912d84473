//! Requests of `wg`, changed at random: what the fuzz target holds, without a fuzzer.

#[path = "../../tests/fuzz/entry/uapi.rs"]
mod uapi;

use proptest::prelude::*;
use uapi::{SEEDS, run};

#[test]
fn seeds_hold() {
    SEEDS.iter().for_each(|seed| run(seed.as_bytes()));
    run(SEEDS.concat().as_bytes());
}

proptest! {
    #[test]
    fn no_request_is_too_odd(
        pieces in proptest::collection::vec((0..SEEDS.len(), any::<prop::sample::Index>(), 1..120usize), 1..12),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut input = Vec::new();
        for (seed, from, len) in pieces {
            let lines: Vec<&str> = SEEDS[seed].split_inclusive('\n').collect();
            let from = from.index(lines.len());
            input.extend(lines[from..].iter().take(len).flat_map(|line| line.bytes()));
        }
        for (at, byte) in changes {
            let at = at.index(input.len());
            input[at] = byte;
        }
        run(&input);
    }
}
