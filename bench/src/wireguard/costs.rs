//! Costs: sealing and opening in memory, with more and more peers, beside the batch alone.

use crate::stages::costs::{Cost, Costs};
use crate::tsc;
use crate::watch::{Interrupted, Rounds, Watch};
use crate::wireguard::memory::{BURST, Bed, Timed, growth};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};
use zsync_wireguard::book::Book;

/// Peers, as they are varied.
const PEERS: [u32; 5] = [1, 10, 1_000, 10_000, 100_000];
/// Peers by whom the memory of one is measured.
const MANY: u32 = 10_000;
/// Sizes of packets from the Ethernet header on, by one peer.
const SIZES: [usize; 3] = [64, 594, 1434];
/// Nanoseconds a packet of 64 bytes that all but its seal may take.
const LIMIT: f64 = 60.0;
/// Runs of a sample, at least.
const RUNS: usize = 20;

const TIMED: [(Timed, &str); 2] = [(Timed::Seal, "seal and route"), (Timed::Open, "open and route")];

struct Case {
    name: String,
    bed: Bed,
    limit: Option<u32>,
    /// Of each way: all of it, and the batch alone.
    samples: [[Vec<f64>; 2]; 2],
}

/// Measures all cases in about `time`.
///
/// # Errors
/// A case that cannot be set up or goes wrong.
pub(crate) fn run(rounds: usize, time: Duration, watch: &Watch, costs: &mut Costs) -> Result<()> {
    measure(&PEERS, rounds, time, watch, costs)
}

fn measure(peers: &[u32], rounds: usize, time: Duration, watch: &Watch, costs: &mut Costs) -> Result<()> {
    let ticks = tsc::ticks_per_nanosecond().context("no time stamp counter")?;
    watch.step(0, 1, "memory of a peer");
    let grown = growth(MANY.min(*peers.last().unwrap_or(&1) * 10))?;
    let mut cases = Vec::new();
    let limit = (LIMIT * ticks) as u32;
    for size in SIZES {
        let name = format!("{size} B, 1 peer");
        let limit = (size == SIZES[0]).then_some(limit);
        cases.push(Case { name, bed: Bed::new(1, size)?, limit, samples: Default::default() });
    }
    for &peers in peers.iter().filter(|&&peers| peers > 1) {
        watch.step(0, 1, &format!("setting up {peers} peers"));
        let name = format!("{} B, {peers} peers", SIZES[0]);
        cases.push(Case { name, bed: Bed::new(peers, SIZES[0])?, limit: None, samples: Default::default() });
    }
    let total = cases.len() * rounds;
    let turn = time / (4 * total).max(1) as u32;
    let mut done = 0;
    let Rounds { done: whole, note } = watch.rounds(rounds, Duration::MAX, |round| {
        for case in &mut cases {
            watch.step(done, total, &format!("round {} of {rounds}, {}", round + 1, case.name));
            done += 1;
            let ways = [[Timed::Seal, Timed::SealAlone], [Timed::Open, Timed::OpenAlone]];
            for (timed, samples) in ways.into_iter().flatten().zip(case.samples.iter_mut().flatten()) {
                samples.push(least(turn, watch, &mut case.bed, timed).with_context(|| case.name.clone())?);
            }
        }
        Ok(())
    })?;
    costs.notes.extend(note);
    for Case { name, limit, samples, .. } in cases {
        for ((_, way), [mut all, alone]) in TIMED.into_iter().zip(samples) {
            let mut over: Vec<f64> = all.iter().zip(&alone).map(|(all, alone)| all - alone).collect();
            [&mut all, &mut over].into_iter().for_each(|samples| samples.truncate(whole));
            let cost = |name, limit, samples| Cost { name, budget: None, limit, samples };
            costs.costs.push(cost(format!("{way}, {name}"), None, all));
            costs.costs.push(cost(format!("{way}, {name}: over the batch alone"), limit, over));
        }
    }
    let record = Book::bytes(MANY).div_ceil(MANY as usize);
    costs.notes.push(format!(
        "{LIMIT} ns are {limit} clocks; bursts of {BURST} packets, each of a random peer; a round's figure is that of its shortest run \
         of 64 bursts, and the limit holds for the least"
    ));
    costs.notes.push(format!(
        "memory of a peer: {record} bytes shared between processes (limit 4096: {}), and all in all the process grows by {grown:.0}",
        if record <= 4096 { "held" } else { "NOT held" }
    ));
    Ok(())
}

/// The least clocks per packet of as many runs as the time allows.
fn least(turn: Duration, watch: &Watch, bed: &mut Bed, timed: Timed) -> Result<f64> {
    let (start, mut runs, mut least) = (Instant::now(), 0, f64::MAX);
    while runs < RUNS || start.elapsed() < turn {
        if watch.is_cancelled() {
            return Err(Interrupted.into());
        }
        least = least.min(bed.run(timed)?);
        runs += 1;
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::costs::{self, Plan};

    #[test]
    fn packets_of_every_peer_come_through_both_ways_and_the_batch_is_a_part_of_it() {
        let mut costs =
            costs::run(Plan::Stages(|_| false), 1, Duration::ZERO, false, &Watch::silent()).unwrap();
        measure(&[1, 10, 100], 2, Duration::ZERO, &Watch::silent(), &mut costs).unwrap();
        assert_eq!(costs.costs.len(), 2 * 2 * (SIZES.len() + 2), "{:?}", costs.notes);
        // What is over is a difference of two times, which on a busy machine may be anything.
        let is_one = |cost: &Cost| {
            cost.name.contains("over the batch") || cost.samples.iter().all(|clocks| *clocks > 0.0)
        };
        assert!(costs.costs.iter().all(|cost| cost.samples.len() == 2 && is_one(cost)));
        let text = costs.to_string();
        assert!(text.contains("over the batch alone") && text.contains("limit 1"), "{text}");
        assert!(text.contains("(limit 4096: held)"), "{text}");
    }
}
