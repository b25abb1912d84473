//! zsync beside `ring` at every length and burst: where is it the slowest?
//!
//! A cell is an algorithm, a way, a length and a burst. All of them are looked at shortly, in no order, as often as the time allows, and
//! those that look the slowest are measured again with care, since of thousands of short looks some are always wrong. `ring` runs twice,
//! so that it is seen what such a search finds where there is nothing to be found. Keeps true: the three follow one another at
//! once in every cell.

use crate::aead::name;
use crate::contestant::{Contestant, Inside, Task, Way};
use crate::inside::{Ours, Ring};
use crate::packets::{Packets, Seeded, Shape};
use anyhow::Result;
use std::time::{Duration, Instant};
use zsync_crypto::aead::Algorithm;
use zsync_report::figures::{Figures, OURS, Row};
use zsync_report::outcome::Series;
use zsync_report::watch::Watch;

/// Bytes of text: each length up to 9000 that is at the edge of a block, of a vector or of several, and some between.
const LENGTHS: [usize; 66] = [
    0, 1, 15, 16, 17, 31, 32, 48, 63, 64, 65, 80, 96, 127, 128, 129, 160, 191, 192, 193, 224, 255, 256, 257,
    300, 320, 383, 384, 400, 448, 500, 511, 512, 513, 576, 640, 700, 767, 768, 800, 896, 1000, 1023, 1024,
    1025, 1100, 1280, 1350, 1420, 1500, 1600, 1792, 2000, 2048, 2500, 3000, 3500, 4000, 4096, 5000, 6000,
    7000, 8000, 8192, 8999, 9000,
];
/// Packets at once.
const BURSTS: [usize; 20] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64];
/// Cells of an algorithm that are measured again, how often, and for how long at most.
const AGAIN: usize = 12;
const TIMES: usize = 7;
const TURN: Duration = Duration::from_millis(3);
/// Cells of an algorithm that are shown.
const SHOWN: usize = 3;

/// Ours, `ring`, and `ring` again.
type Three = [Box<dyn Contestant>; 3];

struct Cell {
    algorithm: Algorithm,
    len: usize,
    way: Way,
    burst: usize,
    /// The least of each of the three.
    least: [f64; 3],
}

impl Cell {
    /// How much faster than `ring` the one of this number is.
    fn ratio(&self, who: usize) -> f64 {
        self.least[1] / self.least[who]
    }

    fn task(&self, turn: Duration) -> Task {
        Task { way: self.way, burst: self.burst, turn }
    }
}

/// Adds the slowest cells to `figures`, those of each algorithm the slowest first.
pub(crate) fn run(time: Duration, watch: &dyn Watch, figures: &mut Figures) -> Result<()> {
    let mut three: Three = [
        Box::new(Inside::new(Ours::default())),
        Box::new(Inside::new(Ring::default())),
        Box::new(Inside::new(Ring::default())),
    ];
    let mut cells = look(&mut three, &LENGTHS, time.mul_f64(0.8), watch)?;
    let all = LENGTHS.len() * BURSTS.len() * Way::ALL.len() * Algorithm::ALL.len();
    if cells.len() < all {
        figures
            .notes
            .push(format!("of {all} cells of length and burst {} were seen: no time for all", cells.len()));
    }
    let turn = TURN.min(time.mul_f64(0.2) / (4 * AGAIN * TIMES * 3) as u32);
    for algorithm in Algorithm::ALL {
        let group: Vec<usize> = (0..cells.len()).filter(|&n| cells[n].algorithm == algorithm).collect();
        for row in again(&mut three, &cells, group, 0, turn, watch)?.into_iter().take(SHOWN) {
            figures.slowest.push(row);
        }
    }
    cells.sort_by(|one, other| one.ratio(2).total_cmp(&other.ratio(2)));
    let itself = again(&mut three, &cells, (0..cells.len()).collect(), 2, turn, watch)?;
    let worst = itself.first().and_then(|row| figures.ratio(row).map(|ratio| (ratio, row)));
    figures.notes.extend(worst.map(|(ratio, row)| {
        format!(
            "the slowest that the same search finds of ring beside itself: {:.3}, {}",
            ratio.spread.median,
            row.title()
        )
    }));
    Ok(())
}

/// All cells of these lengths, or as many as there is time for (those of one length at least).
fn look(three: &mut Three, lengths: &[usize], time: Duration, watch: &dyn Watch) -> Result<Vec<Cell>> {
    let mut units: Vec<(Algorithm, usize)> = Algorithm::ALL
        .into_iter()
        .flat_map(|algorithm| lengths.iter().map(move |&len| (algorithm, len)))
        .collect();
    let mut seeded = Seeded(7);
    for n in (1..units.len()).rev() {
        units.swap(n, seeded.below(n + 1));
    }
    // The first of each algorithm come first, however little time there is.
    for (n, algorithm) in Algorithm::ALL.into_iter().enumerate() {
        let first = units.iter().position(|unit| unit.0 == algorithm).unwrap_or(n);
        units.swap(n, first);
    }
    let (start, mut cells) = (Instant::now(), Vec::<Cell>::new());
    for pass in 0.. {
        for (n, &(algorithm, len)) in units.iter().enumerate() {
            let is_late = start.elapsed() > time && (pass > 0 || n >= Algorithm::ALL.len());
            if is_late || watch.is_cancelled() {
                return Ok(cells);
            }
            watch.step(n, units.len(), &format!("every length, {} {len} B", name(algorithm)));
            let packets = Packets::make(algorithm, Shape::equal(len))?;
            for contestant in three.iter_mut() {
                contestant.prepare(&packets)?;
            }
            for (m, (way, burst)) in
                Way::ALL.into_iter().flat_map(|way| BURSTS.map(|burst| (way, burst))).enumerate()
            {
                let at = n * Way::ALL.len() * BURSTS.len() + m;
                if at == cells.len() {
                    cells.push(Cell { algorithm, len, way, burst, least: [f64::MAX; 3] });
                }
                let Some(cell) = cells.get_mut(at) else { continue };
                let task = cell.task(Duration::ZERO);
                for (least, contestant) in cell.least.iter_mut().zip(three.iter_mut()) {
                    *least = least.min(contestant.sample(&packets, task)?);
                }
            }
        }
    }
    Ok(cells)
}

/// Measures those of these cells again in which the one of number `who` looks the slowest: rows of it beside `ring`, the slowest first.
fn again(
    three: &mut Three,
    cells: &[Cell],
    mut group: Vec<usize>,
    who: usize,
    turn: Duration,
    watch: &dyn Watch,
) -> Result<Vec<Row>> {
    group.sort_by(|&one, &other| cells[one].ratio(who).total_cmp(&cells[other].ratio(who)));
    let mut rows = Vec::new();
    for &n in group.iter().take(AGAIN) {
        if watch.is_cancelled() {
            break;
        }
        let cell = &cells[n];
        let packets = Packets::make(cell.algorithm, Shape::equal(cell.len))?;
        let [ours, ring, twin] = three;
        let one = if who == 0 { ours } else { twin };
        let mut samples = [const { Vec::new() }; 2];
        for contestant in [&mut *one, &mut *ring] {
            contestant.prepare(&packets)?;
        }
        for _ in 0..TIMES {
            samples[0].push(one.sample(&packets, cell.task(turn))?);
            samples[1].push(ring.sample(&packets, cell.task(turn))?);
        }
        let [ours, theirs] = samples;
        let group = format!("{}, {}", name(cell.algorithm), cell.way.name());
        let series = vec![Series::new(OURS, ours), Series::new("ring", theirs)];
        rows.push(Row { group, name: format!("{} B", cell.len), burst: cell.burst, series });
    }
    let ratio = |row: &Row| match (row.median(OURS), row.median("ring")) {
        (Some(ours), Some(theirs)) => theirs / ours,
        _ => f64::MAX,
    };
    rows.sort_by(|one, other| ratio(one).total_cmp(&ratio(other)));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zsync_report::watch::Unwatched;

    fn three() -> Three {
        [
            Box::new(Inside::new(Ours::default())),
            Box::new(Inside::new(Ring::default())),
            Box::new(Inside::new(Ring::default())),
        ]
    }

    #[test]
    fn without_time_each_algorithm_is_seen_at_one_length_in_all_bursts() {
        let cells = look(&mut three(), &LENGTHS, Duration::ZERO, &Unwatched).unwrap();
        assert_eq!(cells.len(), 3 * 2 * BURSTS.len());
        for algorithm in Algorithm::ALL {
            assert!(cells.iter().any(|cell| cell.algorithm == algorithm && cell.burst == 64));
        }
        assert!(cells.iter().all(|cell| cell.least.iter().all(|&least| least > 0.0 && least < 1e9)));
    }

    #[test]
    fn the_slowest_come_first_and_are_measured_again() {
        let cells: Vec<Cell> = (1..=20)
            .map(|burst| Cell {
                algorithm: Algorithm::Aes128Gcm,
                len: 64,
                way: Way::Seal,
                burst,
                // The larger the burst the slower.
                least: [50.0 + burst as f64, 50.0, 50.0],
            })
            .collect();
        let rows = again(&mut three(), &cells, (0..20).collect(), 0, Duration::ZERO, &Unwatched).unwrap();
        let mut bursts: Vec<usize> = rows.iter().map(|row| row.burst).collect();
        bursts.sort_unstable();
        assert_eq!(bursts, (9..=20).collect::<Vec<_>>());
        assert!(rows.iter().all(|row| row.series.iter().all(|series| series.samples.len() == TIMES)));
        let ratio = |row: &Row| row.median("ring").unwrap() / row.median(OURS).unwrap();
        assert!(rows.is_sorted_by(|one, other| ratio(one) <= ratio(other)));
    }
}
