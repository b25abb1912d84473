//! Sealing and opening: every contestant over every shape of packets, and zsync beside `ring` in bursts of each size.
//!
//! Keeps true: in each round every task has its turn, so that a busy moment of the machine is one sample of each, and not all
//! samples of one; within a task the contestants follow one another at once.

mod judge;

use crate::Settings;
use crate::contestant::{Contestant, Inside, Task, Way};
use crate::inside::{AwsLc, Ours, Ring, RustCrypto};
use crate::limits;
use crate::outside::{self, Outside};
use crate::packets::{Lengths, Packets, Shape};
use crate::sweep;
use crate::tunnel::Tunnel;
use anyhow::Result;
use std::time::Instant;
use zsync_crypto::aead::{Algorithm, Backend};
use zsync_report::figures::{Figures, Row};
use zsync_report::outcome::{Absent, Direction, Series};
use zsync_report::watch::Watch;

/// Lengths that have limits, in ascending order.
const LENGTHS: [usize; 5] = [64, 256, 512, 1420, 8192];
/// Packets at once, as they are varied.
const BURSTS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Packets at once where limits are.
const USUAL: usize = 32;
/// What part of the time is for the tables; the rest is for the sweep over all lengths.
const TABLES: f64 = 0.6;
/// What everybody is measured by.
const RING: &str = "ring";
const AWS: &str = "aws-lc-rs";

/// Algorithms as tables have them.
pub(crate) fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::ChaCha20Poly1305 => "ChaCha20-Poly1305",
        Algorithm::Aes128Gcm => "AES-128-GCM",
        Algorithm::Aes256Gcm => "AES-256-GCM",
    }
}

/// Shapes that are measured in bursts of each size: all lengths, and mixes of them.
fn plain() -> Vec<Shape> {
    let mixes = [Lengths::Imix, Lengths::Random];
    let mixes = mixes.map(|lengths| Shape { lengths, keys: 1, framed: false });
    LENGTHS.map(Shape::equal).into_iter().chain(mixes).collect()
}

/// All of them.
fn shapes() -> Vec<Shape> {
    let keys = |len| Shape { keys: 4, ..Shape::equal(len) };
    let framed = |len| Shape { framed: true, ..Shape::equal(len) };
    let all = Shape { lengths: Lengths::Random, keys: 4, framed: true };
    plain().into_iter().chain([keys(64), keys(1420), framed(64), framed(1420), all]).collect()
}

/// A task, and who does it.
struct Entry {
    /// The number of its packets.
    set: usize,
    way: Way,
    who: Vec<usize>,
    row: Row,
}

/// Measures all of it.
///
/// # Errors
/// A contestant that does otherwise than `ring`, or fails meanwhile. One that is not there is told among the figures.
pub fn run(settings: &Settings<'_>, watch: &dyn Watch) -> Result<Figures> {
    let about = "what a packet costs to be sealed and opened in place, by one core";
    let mut figures = Figures::new("ns/packet", Direction::Less, about);
    let mut contestants = contestants(settings, &mut figures)?;
    let mut sets = Vec::new();
    for algorithm in Algorithm::ALL {
        for shape in shapes() {
            sets.push((shape, Packets::make(algorithm, shape)?));
        }
    }
    let mut entries = entries(&sets, &contestants);
    let turns = entries.iter().map(|entry| entry.who.len()).sum::<usize>() * settings.rounds;
    let turn = settings.time.mul_f64(TABLES) / turns.max(1) as u32;
    let (start, mut done) = (Instant::now(), 0);
    'rounds: for round in 0..settings.rounds {
        if round > 0 && start.elapsed() > settings.time.mul_f64(TABLES) {
            figures.notes.push(format!("{round} rounds of {}: the time was over", settings.rounds));
            break;
        }
        for (set, (shape, packets)) in sets.iter().enumerate() {
            let what = format!("round {}, {}, {}", round + 1, name(packets.algorithm), shape.name());
            watch.step(round * sets.len() + set, settings.rounds * sets.len(), &what);
            for contestant in &mut contestants {
                if Way::ALL.iter().any(|&way| contestant.does(packets.algorithm, way)) {
                    contestant.prepare(packets)?;
                }
            }
            for Entry { way, who, row, .. } in entries.iter_mut().filter(|entry| entry.set == set) {
                if watch.is_cancelled() {
                    let rounds = settings.rounds;
                    figures.notes.push(format!("interrupted after {done} of {rounds} rounds"));
                    break 'rounds;
                }
                let task = Task { way: *way, burst: row.burst, turn };
                for (series, &n) in row.series.iter_mut().zip(&*who) {
                    series.samples.push(contestants[n].sample(packets, task)?);
                }
            }
        }
        done = round + 1;
    }
    for series in entries.iter_mut().flat_map(|entry| &mut entry.row.series) {
        series.samples.truncate(done);
    }
    arrange(entries, &mut figures);
    if !watch.is_cancelled() {
        sweep::run(settings.time.mul_f64(1.0 - TABLES), watch, &mut figures)?;
    }
    figures.limits = judge::all(&figures, &sets);
    let here: Vec<String> = Backend::ALL
        .iter()
        .filter(|backend| backend.is_available())
        .map(|backend| format!("{backend:?}"))
        .collect();
    figures.notes.push(format!("zsync's backends on this processor: {}", here.join(", ")));
    figures.notes.push(format!(
        "a round's figure is that of its shortest sweep over at most 64 packets, in the caches, one behind the other (in frames: 2 KiB \
         apart), without additional data, keys made ready before; a limit is held by the median of the rounds; \"never slower\" is {} \
         or more, the rest is what measuring itself leaves open; boringtun does a whole message, from one buffer into another; \
         RustCrypto is as cargo builds it, and faster for one kind of processor (target-cpu=native)",
        limits::LEVEL
    ));
    Ok(figures)
}

/// Ours, `ring`, and all others that are here.
fn contestants(settings: &Settings<'_>, figures: &mut Figures) -> Result<Vec<Box<dyn Contestant>>> {
    let mut contestants: Vec<Box<dyn Contestant>> = vec![
        Box::new(Inside::new(Ours::default())),
        Box::new(Inside::new(Ring::default())),
        Box::new(Inside::new(AwsLc::default())),
        Box::new(Inside::new(RustCrypto::default())),
        Box::new(Tunnel::new()?),
    ];
    match Outside::start(settings.folder) {
        Ok(outside) => {
            figures.notes.push(format!("{}: {}", outside::NAME, outside.about));
            contestants.push(Box::new(outside));
        }
        Err(why) => {
            figures.absent.push(Absent { name: outside::NAME.to_owned(), reason: format!("{why:#}") });
        }
    }
    Ok(contestants)
}

/// In the order of the tables.
fn entries(sets: &[(Shape, Packets)], contestants: &[Box<dyn Contestant>]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for algorithm in Algorithm::ALL {
        for way in Way::ALL {
            for (set, (shape, _)) in
                sets.iter().enumerate().filter(|(_, (_, packets))| packets.algorithm == algorithm)
            {
                for burst in BURSTS {
                    let does = |n: &usize| contestants[*n].does(algorithm, way);
                    let who: Vec<usize> = match burst {
                        USUAL => (0..contestants.len()).filter(does).collect(),
                        _ if plain().contains(shape) => vec![0, 1],
                        _ => continue,
                    };
                    let series = who.iter().map(|&n| Series::new(contestants[n].name(), [])).collect();
                    let group = format!("{}, {}", name(algorithm), way.name());
                    entries.push(Entry {
                        set,
                        way,
                        who,
                        row: Row { group, name: shape.name(), burst, series },
                    });
                }
            }
        }
    }
    entries
}

/// Everybody's rows, and those of two by burst, in which the usual burst has its place, too.
fn arrange(entries: Vec<Entry>, figures: &mut Figures) {
    let plain: Vec<String> = plain().iter().map(Shape::name).collect();
    for Entry { row, .. } in entries {
        if row.burst != USUAL {
            figures.bursts.push(row);
            continue;
        }
        if plain.contains(&row.name) {
            let series = row.series.iter().take(2).cloned().collect();
            figures.bursts.push(Row { series, ..row.clone() });
        }
        figures.rows.push(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zsync_report::watch::Unwatched;

    #[test]
    fn a_short_run_has_every_row_every_sample_and_every_limit() {
        let folder = std::env::temp_dir().join(format!("zsync-bench-crypto-run-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        // No time: one round is made all the same.
        let settings = Settings { rounds: 2, time: std::time::Duration::ZERO, folder: &folder };
        let figures = run(&settings, &Unwatched);
        std::fs::remove_dir_all(&folder).unwrap();
        let figures = figures.unwrap();
        assert_eq!(figures.rows.len(), 3 * 2 * shapes().len());
        assert_eq!(figures.bursts.len(), 3 * 2 * plain().len() * BURSTS.len());
        let all = || figures.rows.iter().chain(&figures.bursts);
        assert!(all().flat_map(|row| &row.series).all(|s| s.samples.len() == 1 && s.samples[0] > 0.0));
        assert!(figures.rows.iter().all(|row| figures.ratio(row).is_some_and(|ratio| ratio.peer == RING)));
        assert!(figures.slowest.len() >= 3, "{:?}", figures.slowest);
        // Seven of sealing, three of opening, three of every length, and of AES-GCM two and twelve.
        assert_eq!(figures.limits.len(), 27, "{:?}", figures.limits);
        let missing = !figures.absent.is_empty();
        let unknown = figures.limits.iter().filter(|limit| limit.is_held().is_none()).count();
        assert_eq!(unknown, if missing { 12 } else { 0 });
        let text = figures.to_string();
        assert!(
            text.contains("ChaCha20-Poly1305, seal, 32 at once: ns/packet") && text.contains("held"),
            "{text}"
        );
    }
}
