//! A watch over a run that may take long: says on standard error how far it is, and knows whether it is to stop.
//!
//! Shared by reference, also between threads. Keeps true: nothing is said about what is over in two seconds, and a sleep ends
//! when the run is to stop. Refuses: to fail a run because nobody can read how far it is.

use crate::interrupt;
use anyhow::Result;
use std::fmt;
use std::io::{IsTerminal, Stderr, stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use zsync_report::progress::Progress;

/// How long the line stands still while the run sleeps.
const TICK: Duration = Duration::from_secs(1);

/// See the module.
pub struct Watch {
    start: Instant,
    /// Whether the process's interrupts are for this run.
    listens: bool,
    cancelled: AtomicBool,
    line: Mutex<Line>,
}

/// What is said, and by whom.
struct Line {
    /// None of a silent watch.
    progress: Option<Progress<Stderr>>,
    title: String,
    done: usize,
    total: usize,
    what: String,
}

/// The run was told to stop before what it was about to do was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupted")
    }
}

impl std::error::Error for Interrupted {}

impl Watch {
    /// Over a run of this name, which begins now. From now on the first SIGINT or SIGTERM makes [`Self::is_cancelled`] true
    /// instead of ending the process, and the second ends it.
    pub fn new(title: &str) -> Self {
        interrupt::listen();
        Self::over(title, Some(Progress::new(stderr(), stderr().is_terminal())), true)
    }

    /// One that says nothing and stops only when [cancelled](Self::cancel), for a run inside of another one.
    pub fn silent() -> Self {
        Self::over("", None, false)
    }

    fn over(title: &str, progress: Option<Progress<Stderr>>, listens: bool) -> Self {
        let (title, what) = (title.to_owned(), String::new());
        let line = Mutex::new(Line { progress, title, done: 0, total: 0, what });
        Self { start: Instant::now(), listens, cancelled: AtomicBool::new(false), line }
    }

    /// The run is at this step now: `done` of `total` are behind it. May be called as often as one likes.
    pub fn step(&self, done: usize, total: usize, what: &str) {
        let mut line = self.line();
        (line.done, line.total) = (done, total);
        if line.what != what {
            what.clone_into(&mut line.what);
        }
        line.say(self.start.elapsed());
    }

    /// Says a line of the run's own, such as what arrives, in the progress line's place.
    pub fn say(&self, text: &str) {
        let elapsed = self.start.elapsed();
        let mut line = self.line();
        if let Some(progress) = &mut line.progress {
            let _ = progress.line(elapsed, text);
        }
    }

    /// Whether the run is to stop: it was interrupted, or [cancelled](Self::cancel). Costs two loads.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || self.listens && interrupt::number() > 0
    }

    /// Makes the run stop, as an interrupt does.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        interrupt::wake();
    }

    /// Sleeps for that long; the time that the line tells goes on.
    ///
    /// # Errors
    /// The run is to stop. Then it returns at once.
    pub fn sleep(&self, time: Duration) -> Result<(), Interrupted> {
        let start = Instant::now();
        loop {
            if self.is_cancelled() {
                return Err(Interrupted);
            }
            let left = time.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            interrupt::wait_while(left.min(TICK), || !self.is_cancelled());
            if left > TICK {
                self.line().say(self.start.elapsed());
            }
        }
    }

    /// Repeats `one`, which is given the number of the round, for `rounds` rounds, or until `time` is over (one round is made
    /// in any case), or the run is to stop: then what fails in the round under way is no error, and that round does not count.
    ///
    /// # Errors
    /// Those of `one`.
    pub fn rounds(
        &self,
        rounds: usize,
        time: Duration,
        mut one: impl FnMut(usize) -> Result<()>,
    ) -> Result<Rounds> {
        let start = Instant::now();
        for round in 0..rounds {
            if self.is_cancelled() {
                return Ok(Rounds::interrupted(round, rounds));
            }
            if round > 0 && start.elapsed() > time {
                let note = Some(format!("{round} rounds of {rounds}: the time was over"));
                return Ok(Rounds { done: round, note });
            }
            match one(round) {
                Err(_) if self.is_cancelled() => return Ok(Rounds::interrupted(round, rounds)),
                done => done?,
            }
        }
        Ok(Rounds { done: rounds, note: None })
    }

    /// Wipes the line, so that results begin on a clean one.
    pub fn clear(&self) {
        if let Some(progress) = &mut self.line().progress {
            let _ = progress.clear();
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl zsync_report::watch::Watch for Watch {
    fn step(&self, done: usize, total: usize, what: &str) {
        Self::step(self, done, total, what);
    }

    fn is_cancelled(&self) -> bool {
        Self::is_cancelled(self)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Line {
    fn say(&mut self, elapsed: Duration) {
        let Self { progress, title, done, total, what } = self;
        if let Some(progress) = progress {
            let _ = progress.step(elapsed, *done, *total, &format!("{title}: {what}"));
        }
    }
}

/// The rounds that came to their end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rounds {
    /// How many.
    pub done: usize,
    /// Why they are fewer than were asked for.
    pub note: Option<String>,
}

impl Rounds {
    /// So many of those that were to be.
    pub fn interrupted(done: usize, rounds: usize) -> Self {
        Self { done, note: Some(format!("interrupted after {done} of {rounds} rounds")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn a_cancelled_run_does_not_sleep_and_a_sleep_ends_when_it_is_cancelled() {
        let watch = Watch::silent();
        assert_eq!(watch.sleep(Duration::from_millis(1)), Ok(()));
        std::thread::scope(|scope| {
            let sleeping = scope.spawn(|| watch.sleep(Duration::from_secs(3600)));
            watch.cancel();
            assert_eq!(sleeping.join().unwrap(), Err(Interrupted));
        });
        assert_eq!(watch.sleep(Duration::ZERO), Err(Interrupted));
        assert!(watch.is_cancelled());
    }

    #[test]
    fn a_round_that_was_cut_does_not_count_and_what_failed_in_it_is_no_error() {
        let watch = Watch::silent();
        let rounds = watch.rounds(9, Duration::MAX, |round| {
            if round == 2 {
                watch.cancel();
                bail!("a peer that heard the interrupt, too");
            }
            Ok(())
        });
        let note = Some("interrupted after 2 of 9 rounds".to_owned());
        assert_eq!(rounds.unwrap(), Rounds { done: 2, note });
    }

    #[test]
    fn a_round_that_was_done_when_the_interrupt_came_counts() {
        let watch = Watch::silent();
        let rounds = watch.rounds(9, Duration::MAX, |round| {
            (round == 2).then(|| watch.cancel());
            Ok(())
        });
        assert_eq!(rounds.unwrap(), Rounds::interrupted(3, 9));
    }

    #[test]
    fn what_fails_by_itself_is_an_error_and_time_that_is_over_leaves_one_round() {
        let watch = Watch::silent();
        let failed = watch.rounds(9, Duration::MAX, |_| bail!("no packets"));
        assert_eq!(failed.unwrap_err().to_string(), "no packets");
        let short = watch.rounds(9, Duration::ZERO, |_| Ok(())).unwrap();
        assert_eq!((short.done, short.note.as_deref()), (1, Some("1 rounds of 9: the time was over")));
        assert_eq!(watch.rounds(3, Duration::MAX, |_| Ok(())).unwrap(), Rounds { done: 3, note: None });
    }
}
