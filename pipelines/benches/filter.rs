//! What rules cost: clocks a packet, compile times and memory, for rule lists of several kinds and sizes.
//!
//! `cargo bench -p zsync-pipelines --bench filter [KIND]`. Bursts of 32 packets, each aimed at a rule drawn from all of the
//! list; a figure is the least of several rounds, the next one the median. A clock is a tick of the time stamp counter.

use std::hint::black_box;
use std::time::Instant;

use zsync_packet::burst::BURST;
use zsync_pipelines::tables::classify::{Classifier, Keys, PrefixSet, Rule, Subject};

mod rulesets;
use rulesets::{Kind, Numbers, packets, prefix, rules};

const BATCH: usize = 32;
const PACKETS: usize = 1 << 13;
const ROUNDS: usize = 51;

#[cfg(target_arch = "x86_64")]
fn clock() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and it touches no memory.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn clock() -> u64 {
    0
}

/// Least and median clocks for one of `count`.
fn clocks(count: usize, mut round: impl FnMut()) -> (f64, f64) {
    round();
    let mut all: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = clock();
            round();
            (clock() - start) as f64 / count as f64
        })
        .collect();
    all.sort_by(f64::total_cmp);
    (all[0], all[ROUNDS / 2])
}

fn lookups(classifier: &Classifier, packets: &[Subject], v6: bool) -> (f64, f64) {
    let all: Vec<_> = packets.iter().map(Subject::key).collect();
    let numbers: [u8; BATCH] = std::array::from_fn(|i| i as u8);
    let (v4, v6): (&[u8], &[u8]) = if v6 { (&[], &numbers) } else { (&numbers, &[]) };
    let (mut keys, mut found) = (Keys::default(), [0u32; BURST]);
    clocks(packets.len(), || {
        for burst in all.chunks_exact(BATCH) {
            keys.0[..BATCH].copy_from_slice(burst);
            classifier.look_up_sets(&mut keys, v4, v6);
            classifier.classify(&keys, v4, v6, &mut found);
            black_box(&found);
        }
    })
}

fn measure(name: &str, rules: &[Rule], v6: bool) {
    let start = Instant::now();
    let classifier = Classifier::compile(rules, &[]).expect("they fit");
    let compiled = start.elapsed();
    let (least, median) = lookups(&classifier, &packets(rules, PACKETS, v6, 7), v6);
    let footprint = classifier.footprint();
    let (trees, longest) =
        if v6 { (footprint.trees.1, footprint.longest.1) } else { (footprint.trees.0, footprint.longest.0) };
    println!(
        "{name:<10} {:>7} {least:>7.1} {median:>7.1} {:>9.1} {:>9.1} {trees:>5} {longest:>7}",
        rules.len(),
        compiled.as_secs_f64() * 1e3,
        footprint.bytes as f64 / 1048576.0,
    );
}

fn sets(count: usize, v6: bool) {
    let mut numbers = Numbers::new(11);
    let list: Vec<_> = (0..count)
        .map(|_| {
            let len = if v6 {
                numbers.pick(&[(32, 1), (48, 6), (64, 3), (128, 1)])
            } else {
                numbers.pick(&[(24, 3), (28, 1), (32, 6)])
            };
            prefix(if v6 { (0x2 << 124) | numbers.wide() >> 4 } else { numbers.wide() }, len, v6)
        })
        .collect();
    let start = Instant::now();
    let set = PrefixSet::new(list.iter().copied());
    let rules = [Rule { from: zsync_pipelines::tables::classify::Addresses::Set(0), ..Rule::default() }];
    let classifier = Classifier::compile(&rules, &[std::sync::Arc::new(set)]).expect("it fits");
    let compiled = start.elapsed();
    let aimed = [Rule { from: zsync_pipelines::tables::classify::Addresses::In(list), ..Rule::default() }];
    let packets: Vec<Subject> = (0..PACKETS).map(|_| rulesets::aim(&aimed[0], v6, &mut numbers)).collect();
    let (least, median) = lookups(&classifier, &packets, v6);
    println!(
        "{:<10} {count:>7} {least:>7.1} {median:>7.1} {:>9.1} {:>9.1}",
        if v6 { "set, v6" } else { "set, v4" },
        compiled.as_secs_f64() * 1e3,
        classifier.footprint().bytes as f64 / 1048576.0,
    );
}

fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    println!(
        "{:<10} {:>7} {:>7} {:>7} {:>9} {:>9} {:>5} {:>7}",
        "list", "rules", "clocks", "median", "ms", "MiB", "trees", "longest"
    );
    for v6 in [false, true] {
        for kind in Kind::ALL {
            let name = format!("{}{}", kind.name(), if v6 { ", v6" } else { "" });
            if wanted.as_ref().is_some_and(|wanted| !name.contains(wanted.as_str())) {
                continue;
            }
            for count in [100, 1_000, 10_000, 100_000] {
                measure(&name, &rules(kind, count, v6, 1), v6);
            }
        }
    }
    if wanted.is_none_or(|wanted| "set".contains(&wanted)) {
        for (count, v6) in [(1_000, false), (1_000_000, false), (1_000, true), (1_000_000, true)] {
            sets(count, v6);
        }
    }
}
