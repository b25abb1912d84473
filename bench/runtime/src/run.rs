//! Rounds: every contestant has its turn at each exercise, one right after the other.

use crate::Settings;
use crate::exercise::{DROPS, Exercise};
use crate::judge;
use crate::side::{Came, Side};
use crate::turn::CONTESTANTS;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};
use zsync_report::figure::digits;
use zsync_report::figures::{Figures, OURS, Row};
use zsync_report::outcome::{Absent, Series};
use zsync_report::spread::Spread;
use zsync_report::watch::Watch;

/// What came of one contestant at one exercise.
#[derive(Clone, Debug, Default)]
struct Samples {
    values: Vec<f64>,
    /// Of its last turn.
    allocations: f64,
    /// The far end's.
    idle: Vec<f64>,
    lost: u64,
    failed: bool,
}

/// A contestant that runs.
struct Runner {
    name: &'static str,
    /// Once it has had a turn.
    side: Option<Side>,
    /// By exercise.
    samples: Vec<Samples>,
}

/// Measures all of them.
///
/// # Errors
/// Ours cannot be started, or fails. Another one that does is told among the figures.
pub fn run(settings: &Settings<'_>, watch: &dyn Watch) -> Result<Vec<Figures>> {
    let mut absent = Vec::new();
    let mut runners = CONTESTANTS.map(|(name, _)| Runner {
        name,
        side: None,
        samples: vec![Samples::default(); Exercise::ALL.len()],
    });
    let mut notes = Vec::new();
    let turns = settings.rounds * Exercise::ALL.len() * runners.len();
    let turn = settings.time / turns.max(1) as u32;
    let (start, mut done) = (Instant::now(), 0);
    'rounds: for round in 0..settings.rounds {
        if round > 0 && start.elapsed() > settings.time.mul_f64(1.5) {
            notes.push(format!("{round} rounds of {}: the time was over", settings.rounds));
            break;
        }
        for (number, exercise) in Exercise::ALL.into_iter().enumerate() {
            // Kept or not kept: once is enough.
            if exercise == Exercise::Dropped && round > 0 {
                continue;
            }
            let (group, name) = exercise.labels();
            let steps = Exercise::ALL.len();
            watch.step(
                round * steps + number,
                settings.rounds * steps,
                &format!("round {}, {group}, {name}", round + 1),
            );
            for runner in &mut runners {
                if watch.is_cancelled() {
                    notes.push(format!("interrupted after {done} of {} rounds", settings.rounds));
                    break 'rounds;
                }
                if let Err(why) = runner.turn(number, turn, settings) {
                    ensure!(runner.name != OURS, "{OURS}, {group}, {name}: {why:#}");
                    let reason = format!("{group}, {name}: {why:#}");
                    absent.push(Absent { name: runner.name.to_owned(), reason });
                    runner.failed(number);
                }
            }
        }
        done = round + 1;
    }
    for samples in runners.iter_mut().flat_map(|runner| &mut runner.samples) {
        samples.values.truncate(done);
    }
    Ok(figures(&runners, turn, &absent, &notes))
}

impl Runner {
    fn turn(&mut self, number: usize, turn: Duration, settings: &Settings<'_>) -> Result<()> {
        let samples = &mut self.samples[number];
        if samples.failed {
            return Ok(());
        }
        let side = match &mut self.side {
            Some(side) => side,
            none => none.insert(Side::start((settings.contestant)(self.name))?),
        };
        let exercise = Exercise::ALL[number];
        match side.turn(exercise, turn.max(exercise.least()), settings.far_core)? {
            Came::Own(sample) => {
                samples.values.push(sample.value);
                samples.allocations = sample.allocations;
            }
            Came::Far(rate) => {
                samples.values.push(rate.rate);
                samples.idle.push(rate.idle);
                samples.lost += rate.lost;
            }
            Came::Nothing => {}
        }
        Ok(())
    }

    /// It did not do that: it is not asked for it again, and begins anew with the next.
    fn failed(&mut self, number: usize) {
        self.side = None;
        self.samples[number] = Samples { failed: true, ..Samples::default() };
    }
}

/// One for each unit, with its limits.
fn figures(runners: &[Runner], turn: Duration, absent: &[Absent], notes: &[String]) -> Vec<Figures> {
    let mut all: Vec<Figures> = Vec::new();
    for (number, exercise) in Exercise::ALL.into_iter().enumerate() {
        if exercise == Exercise::Dropped {
            continue;
        }
        let (group, name) = exercise.labels();
        let series = runners.iter().filter(|runner| !runner.samples[number].values.is_empty());
        let series = series.map(|runner| Series::new(runner.name, runner.samples[number].values.clone()));
        let row = Row { group: group.to_owned(), name, burst: 0, series: series.collect() };
        match all.iter_mut().find(|figures| figures.unit == exercise.unit()) {
            Some(figures) => figures.rows.push(row),
            None => {
                let about = "tasks, timers, channels and sockets of runtimes with one thread, on one core";
                let mut figures = Figures::new(exercise.unit(), exercise.direction(), about);
                figures.absent = absent.to_vec();
                figures.rows.push(row);
                all.push(figures);
            }
        }
    }
    for figures in &mut all {
        figures.limits = judge::limits(figures);
        figures.notes.extend(remarks(runners, figures.unit));
        figures.notes.extend_from_slice(notes);
    }
    if let Some(first) = all.first_mut() {
        first.notes.push(format!(
            "a sample is the shortest sweep of a turn of {} ms; ours over io_uring; monoio and compio have no channels: local-sync's",
            turn.as_millis()
        ));
    }
    all
}

/// What is told of all contestants beside a unit's rows.
fn remarks(runners: &[Runner], unit: &str) -> Vec<String> {
    let mut remarks = Vec::new();
    for (number, exercise) in Exercise::ALL.into_iter().enumerate() {
        let of = |show: &dyn Fn(&Samples) -> Option<String>| {
            let told: Vec<String> = runners
                .iter()
                .filter_map(|runner| Some(format!("{} {}", runner.name, show(&runner.samples[number])?)))
                .collect();
            told.join(", ")
        };
        let (group, name) = exercise.labels();
        match exercise {
            Exercise::Spawn(_) | Exercise::Message if unit == "ns" => {
                let shown = |samples: &Samples| Some(digits(samples.allocations));
                remarks.push(format!("allocations once warm, {group}, {name}: {}", of(&shown)));
            }
            Exercise::UdpEcho(_)
            | Exercise::UdpSend(_)
            | Exercise::EchoGroups
            | Exercise::SendGroups
            | Exercise::TcpEcho
                if unit == exercise.unit() =>
            {
                let shown = |samples: &Samples| {
                    let idle = Spread::of(&samples.idle)?.median * 100.0;
                    let lost =
                        if samples.lost > 0 { format!(", {} lost", samples.lost) } else { String::new() };
                    Some(format!("{idle:.0} %{lost}"))
                };
                remarks.push(format!(
                    "the far end had nothing to do in this share of its time, {group}, {name}: {}",
                    of(&shown)
                ));
            }
            Exercise::Dropped if unit == "datagrams/s" => {
                let shown = |samples: &Samples| Some(format!("{} of {DROPS}", samples.values.first()?));
                remarks.push(format!(
                    "datagrams that came about when a receive was dropped, kept: {}",
                    of(&shown)
                ));
            }
            _ => {}
        }
    }
    remarks
}
