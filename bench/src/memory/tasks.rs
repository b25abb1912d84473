//! `memory-tasks`: what the packets of a worker lose to tasks beside them, and what a timer loses to both.

use super::{OF_CORE_TIME, PATCH, measure_beside, printed, snapshot};
use crate::report::{Rate, Ratio, Report};
use crate::watch::Watch;
use anyhow::{Result, ensure};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use zsync_engine::runner::Runner;
use zsync_io::memory::Null;
use zsync_runtime::yield_now;

/// Tasks that only wait.
const IDLE: usize = 1000;
/// How long the timer beside a task that always yields is to take.
const TIMER: Duration = Duration::from_millis(10);

/// What is beside the packets.
#[derive(Clone, Copy)]
enum Beside {
    Nothing,
    /// [`IDLE`] tasks, each with a timer that is far off.
    Idle,
    /// A task that always yields.
    Ready,
}

const ALL: [(Beside, &str); 3] = [
    (Beside::Nothing, "no tasks"),
    (Beside::Idle, "1,000 tasks that wait"),
    (Beside::Ready, "a task that is always ready"),
];

/// How long the timer took, each time, in nanoseconds.
type Took = Arc<Mutex<Vec<u64>>>;

impl Beside {
    fn spawn(self, runner: &Runner<Null>, took: &Took) {
        let tasks = runner.tasks();
        match self {
            Self::Nothing => {}
            Self::Idle => {
                for _ in 0..IDLE {
                    let tasks = Rc::clone(tasks);
                    let clock = Rc::clone(&tasks);
                    tasks.spawn(async move { clock.sleep(Duration::from_secs(3600)).await });
                }
            }
            Self::Ready => {
                tasks.spawn(async { while yield_now().await.is_ok() {} });
                let (clock, took) = (Rc::clone(tasks), Arc::clone(took));
                tasks.spawn(async move {
                    let mut begun = clock.now();
                    while clock.sleep(TIMER).await.is_ok() {
                        let spent = clock.now() - begun;
                        begun = clock.now();
                        took.lock().unwrap_or_else(PoisonError::into_inner).push(spent.as_nanos() as u64);
                    }
                });
            }
        }
    }
}

/// Rounds without tasks, with those that wait, and with one that is always ready, in turn.
///
/// # Errors
/// A round that cannot be measured.
pub fn tasks(rounds: usize, round: Duration, watch: &Watch) -> Result<Report> {
    let mut report = Report { of_core_time: true, ..Report::new("memory-tasks") };
    let snapshot = snapshot(PATCH, None)?;
    let mut rates = ALL.map(|(_, name)| Rate { name: name.to_owned(), samples: vec![] });
    let took = Took::default();
    let done = watch.rounds(rounds, Duration::MAX, |number| {
        for (turn, ((beside, name), rate)) in ALL.into_iter().zip(&mut rates).enumerate() {
            let what = format!("round {} of {rounds}, {name}", number + 1);
            watch.step(ALL.len() * number + turn, ALL.len() * rounds, &what);
            let took = took.clone();
            let spawn = move |runner: &Runner<Null>| beside.spawn(runner, &took);
            rate.samples.push(measure_beside(&snapshot, printed, spawn, round, watch)?);
        }
        Ok(())
    })?;
    rates.iter_mut().for_each(|rate| rate.samples.truncate(done.done));
    report.notes.extend(done.note);
    let [none, others @ ..] = &rates;
    report.ratios.extend(others.iter().map(|rate| Ratio::of(rate, none)));
    report.rates.extend(rates);
    report.notes.push(OF_CORE_TIME.to_owned());
    report.notes.push(timer(&took)?);
    Ok(report)
}

/// How long a timer of [`TIMER`] took beside a task that always yields.
fn timer(took: &Took) -> Result<String> {
    let mut took = took.lock().unwrap_or_else(PoisonError::into_inner);
    took.sort_unstable();
    ensure!(!took.is_empty(), "the timer beside a task that always yields did not fire");
    let ms = |nanos: u64| nanos as f64 / 1e6;
    let (least, median, most) = (took[0], took[took.len() / 2], took[took.len() - 1]);
    ensure!(least >= TIMER.as_nanos() as u64, "the timer fired early, after {:.3} ms", ms(least));
    Ok(format!(
        "a timer of 10 ms beside a task that always yields took {:.3} ms, in the median of {} times; {:.3} ms at least and {:.3} ms at most",
        ms(median),
        took.len(),
        ms(least),
        ms(most)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_and_timers_go_on_beside_tasks() {
        let report = tasks(2, Duration::from_millis(60), &Watch::silent()).unwrap();
        assert!(
            report
                .rates
                .iter()
                .all(|rate| rate.samples.len() == 2 && rate.samples.iter().all(|rate| *rate > 0.0))
        );
        assert_eq!(report.ratios.len(), 2);
        assert!(report.notes.iter().any(|note| note.starts_with("a timer of 10 ms")), "{:?}", report.notes);
    }
}
