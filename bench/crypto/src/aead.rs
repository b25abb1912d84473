//! Sealing and opening: every contestant over every shape of packets, and zsync beside `ring` in bursts of each size.
//!
//! Keeps true: in each round every task has its turn, so that a busy moment of the machine is one sample of each, and not all
//! samples of one; within a task the contestants follow one another at once.

use crate::contestant::{Contestant, Inside, Task, Way};
use crate::figures::{Figures, Row};
use crate::inside::{AwsLc, Ours, Ring, RustCrypto};
use crate::limits::{self, Asked, Limit};
use crate::outside::{self, Outside};
use crate::packets::{Lengths, Packets, Shape};
use crate::sweep;
use crate::tunnel::Tunnel;
use crate::{OURS, Settings, Watch};
use anyhow::Result;
use std::time::Instant;
use zsync_crypto::aead::Algorithm;
use zsync_report::outcome::{Absent, Direction, Series};

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
    judge(&mut figures, &sets);
    let (median, level) = ("the median of the rounds", limits::LEVEL);
    figures.notes.push(format!(
        "a round's figure is that of its shortest sweep over at most 64 packets, in the caches, one behind the other (in frames: 2 KiB \
         apart), without additional data; keys are ready before; limits hold for {median}; never slower: at least {level}, the rest is \
         what measuring itself leaves open; boringtun does a whole message, from one buffer into another"
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

/// The limits, each beside its figure.
fn judge(figures: &mut Figures, sets: &[(Shape, Packets)]) {
    let find = |algorithm, way: Way, shape: Shape| {
        let (group, shape) = (format!("{}, {}", name(algorithm), way.name()), shape.name());
        figures.rows.iter().find(|row| row.group == group && row.name == shape)
    };
    let mut limits = Vec::new();
    let chacha = Algorithm::ChaCha20Poly1305;
    let of_ring = LENGTHS.map(|len| {
        let cost = find(chacha, Way::Seal, Shape::equal(len)).and_then(|row| row.median(RING));
        (len as f64, cost.unwrap_or(f64::NAN))
    });
    for shape in plain() {
        let Some(row) = find(chacha, Way::Seal, shape) else { continue };
        let packets = sets.iter().find(|(of, packets)| *of == shape && packets.algorithm == chacha);
        let asked = match (shape.lengths, packets) {
            (Lengths::Equal(len), _) => limits::seal(len),
            (_, Some((_, packets))) => limits::mixed(&packets.lengths(), &of_ring),
            (_, None) => continue,
        };
        let ratio = figures.ratio(row).map(|ratio| ratio.spread.median);
        limits.push(Limit {
            what: "as fast as ring, times".to_owned(),
            of: row.title(),
            figure: ratio.ok_or_else(|| "no rounds".to_owned()),
            asked: Asked::AtLeast(asked),
        });
    }
    for algorithm in Algorithm::ALL {
        let rows = plain().into_iter().filter_map(|shape| {
            let [seal, open] = Way::ALL.map(|way| find(algorithm, way, shape));
            Some((open?, pairs(open?.samples(OURS)?, seal?.samples(OURS)?)?))
        });
        limits.extend(rows.max_by(|one, other| one.1.total_cmp(&other.1)).map(|(row, figure)| Limit {
            what: "as long as to seal, times, the worst of all lengths and mixes".to_owned(),
            of: row.title(),
            figure: Ok(figure),
            asked: Asked::AtMost(limits::OPEN),
        }));
    }
    limits.extend(Algorithm::ALL.iter().filter_map(|&algorithm| {
        let slowest = figures.slowest.iter().find(|row| row.group.starts_with(name(algorithm)))?;
        Some(Limit {
            what: "as fast as ring, times, the worst of every length and burst".to_owned(),
            of: slowest.title(),
            figure: figures.ratio(slowest).map(|ratio| ratio.spread.median).ok_or("no rounds".to_owned()),
            asked: Asked::AtLeast(limits::LEVEL),
        })
    }));
    for algorithm in [Algorithm::Aes128Gcm, Algorithm::Aes256Gcm] {
        let both = || Way::ALL.into_iter().flat_map(|way| plain().into_iter().map(move |shape| (way, shape)));
        let rows = both().filter_map(|(way, shape)| {
            let row = find(algorithm, way, shape)?;
            Some((row, pairs(&better(row)?, row.samples(OURS)?)?))
        });
        limits.extend(rows.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(row, figure)| {
            Limit {
                what:
                    "as fast as the better of ring and aws-lc-rs, times, the worst of all lengths and mixes"
                        .to_owned(),
                of: row.title(),
                figure: Ok(figure),
                asked: Asked::AtLeast(limits::LEVEL),
            }
        }));
        for (way, shape) in both().filter(|(_, shape)| limits::SHORT.map(Shape::equal).contains(shape)) {
            let Some(row) = find(algorithm, way, shape) else { continue };
            let closed = || {
                let best = zsync_report::spread::Spread::of(&better(row)?)?.median;
                Some(limits::closed(best, row.median(outside::NAME)?, row.median(OURS)?))
            };
            limits.push(Limit {
                what: "part of the way from the better of ring and aws-lc-rs to ipsec-mb".to_owned(),
                of: row.title(),
                figure: closed().ok_or_else(|| "no ipsec-mb".to_owned()),
                asked: Asked::AtLeast(limits::CLOSED),
            });
        }
    }
    figures.limits = limits;
}

/// What the better of `ring` and aws-lc-rs needed in each round.
fn better(row: &Row) -> Option<Vec<f64>> {
    let (ring, aws) = (row.samples(RING)?, row.samples(AWS)?);
    Some(ring.iter().zip(aws).map(|(ring, aws)| ring.min(*aws)).collect())
}

/// The median of `over` / `under`, round by round.
fn pairs(over: &[f64], under: &[f64]) -> Option<f64> {
    let ratios: Vec<f64> = over.iter().zip(under).map(|(over, under)| over / under).collect();
    Some(zsync_report::spread::Spread::of(&ratios)?.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(group: &str, shape: Shape, samples: &[(&str, f64)]) -> Row {
        let series = samples.iter().map(|&(name, sample)| Series::new(name, [sample; 3])).collect();
        Row { group: group.to_owned(), name: shape.name(), burst: USUAL, series }
    }

    fn held(figures: &Figures, part: &str) -> Vec<Option<bool>> {
        let limits = figures.limits.iter().filter(|limit| limit.what.contains(part));
        limits.map(Limit::is_held).collect()
    }

    #[test]
    fn limits_are_judged_by_the_rows_that_they_are_of() {
        let mut figures = Figures::new("ns/packet", Direction::Less, "");
        for (len, ours) in [(64, 26.0), (256, 70.0), (512, 200.0)] {
            let shape = Shape::equal(len);
            let mut add = |group, samples: &[(&str, f64)]| figures.rows.push(row(group, shape, samples));
            add("ChaCha20-Poly1305, seal", &[(OURS, ours), (RING, 235.0)]);
            add("ChaCha20-Poly1305, open", &[(OURS, ours * 1.05), (RING, 235.0)]);
            let way = [(OURS, 45.0), (RING, 60.0), (AWS, 58.0), (outside::NAME, 30.0)];
            add("AES-128-GCM, seal", &way);
            add("AES-128-GCM, open", &[(OURS, 59.5), (RING, 60.0), (AWS, 58.0)]);
        }
        judge(&mut figures, &[]);
        // 9.04, 3.36 and 1.18 times, of 5.5, 3.2 and 2.6.
        assert_eq!(held(&figures, "as fast as ring, times"), [Some(true), Some(true), Some(false)]);
        assert_eq!(held(&figures, "as long as to seal"), [Some(true), Some(false)], "{:?}", figures.limits);
        // To open takes 59.5, and aws-lc-rs 58.
        assert_eq!(held(&figures, "the better of ring and aws-lc-rs, times"), [Some(false)]);
        // To seal 13 of 28 are closed; to open there is no ipsec-mb.
        let closed = held(&figures, "part of the way");
        assert_eq!(closed, [[Some(false); 3], [None; 3]].concat());
    }

    #[test]
    fn a_short_run_has_every_row_every_sample_and_every_limit() {
        let folder = std::env::temp_dir().join(format!("zsync-bench-crypto-run-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        // No time: one round is made all the same.
        let settings = Settings { rounds: 2, time: std::time::Duration::ZERO, folder: &folder };
        let figures = run(&settings, &crate::Unwatched);
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
