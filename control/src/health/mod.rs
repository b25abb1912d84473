//! Health checks: which backends of `balance` stages work, tried from here at intervals.
//!
//! Owns a task for each backend of a stage with `health`, and what the results come to. Refuses nothing. Keeps true: a
//! check that a new configuration leaves as it is goes on as it was, with all that is known of its backend; one that is not
//! asked for any more has ended. Says what changes, and leaves it to the daemon to tell the data plane.

mod echo;
mod probe;
mod record;

pub use probe::Attempt;
pub use record::Record;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use zsync_pipelines::spec::balance::{Backend, BalanceSpec, Health};
use zsync_pipelines::spec::{Spec, StageSpec};

/// Checks that begin together, as all do at a start, are spread over this time, or over their interval if that is shorter.
const SPREAD: Duration = Duration::from_millis(500);

/// A backend of a stage: the stage's label, and the backend's identity.
pub type Subject = (String, u64);

/// The result of one check.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Of whom.
    pub subject: Subject,
    /// What kept it from succeeding.
    pub result: Result<(), String>,
    /// How long it took.
    pub took: Duration,
}

/// The last check of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// When it ended.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// Why it failed.
    pub error: Option<String>,
}

#[derive(Debug)]
struct Check {
    attempt: Attempt,
    health: Health,
    record: Record,
    last: Option<Last>,
    task: AbortHandle,
}

impl Drop for Check {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All checks. See the module.
#[derive(Debug)]
pub struct Checks {
    checks: BTreeMap<Subject, Check>,
    outcomes: mpsc::Receiver<Outcome>,
    tell: mpsc::Sender<Outcome>,
}

impl Default for Checks {
    fn default() -> Self {
        let (tell, outcomes) = mpsc::channel(256);
        Self { checks: BTreeMap::new(), outcomes, tell }
    }
}

impl Checks {
    /// Checks what `spec` asks for. `known` says of a backend that was not checked before whether it counts as up, and
    /// whether that is a mere assumption. Within a tokio runtime.
    pub fn follow(&mut self, spec: &Spec, known: impl Fn(&Subject) -> Record) {
        let mut before = std::mem::take(&mut self.checks);
        for (label, balance) in balances(spec) {
            let Some(health) = &balance.health else { continue };
            for backend in &balance.backends {
                let subject = (label.to_owned(), backend.identity());
                let attempt = attempt(balance, backend, health);
                let check = match before.remove(&subject) {
                    Some(check) if (&check.attempt, &check.health) == (&attempt, health) => check,
                    former => {
                        let record =
                            former.as_ref().map_or_else(|| known(&subject), |was| was.record.clone());
                        let last = former.as_ref().and_then(|was| was.last.clone());
                        let task =
                            repeat(subject.clone(), attempt.clone(), health.interval, self.tell.clone());
                        let task = tokio::spawn(task).abort_handle();
                        Check { attempt, health: health.clone(), record, last, task }
                    }
                };
                self.checks.insert(subject, check);
            }
        }
    }

    /// The next result.
    pub async fn next(&mut self) -> Outcome {
        match self.outcomes.recv().await {
            Some(outcome) => outcome,
            // Cannot be: we hold a sender.
            None => std::future::pending().await,
        }
    }

    /// Takes a result into account. The subject, if it has gone up or down with it.
    pub fn note(&mut self, outcome: Outcome) -> Option<(Subject, bool)> {
        let Outcome { subject, result, took } = outcome;
        let check = self.checks.get_mut(&subject)?;
        let Health { rise, fall, .. } = check.health;
        let changed = check.record.note(result.is_ok(), rise, fall);
        check.last = Some(Last { at: SystemTime::now(), took, error: result.err() });
        changed.then(|| (subject, check.record.is_up()))
    }

    /// Whether a backend counts as up; nothing if it is not checked.
    pub fn is_up(&self, subject: &Subject) -> Option<bool> {
        self.checks.get(subject).map(|check| check.record.is_up())
    }

    /// The last check of a backend.
    pub fn last(&self, subject: &Subject) -> Option<&Last> {
        self.checks.get(subject)?.last.as_ref()
    }
}

/// The `balance` stages of a configuration, by label.
pub fn balances(spec: &Spec) -> impl Iterator<Item = (&str, &BalanceSpec)> {
    let stages = spec.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    stages.filter_map(|stage| match &stage.spec {
        StageSpec::Balance(balance) => Some((stage.label.as_str(), &**balance)),
        _ => None,
    })
}

fn attempt(balance: &BalanceSpec, backend: &Backend, health: &Health) -> Attempt {
    let served = || balance.services.first().map(|ports| *ports.range().start());
    Attempt {
        probe: health.probe.clone(),
        address: backend.address,
        port: health.port.or(backend.port).or_else(served).unwrap_or(0),
        timeout: health.timeout,
    }
}

/// Checks at each interval until it is aborted.
async fn repeat(subject: Subject, attempt: Attempt, interval: Duration, tell: mpsc::Sender<Outcome>) {
    let share = (subject.1 >> 48) as u32;
    tokio::time::sleep(SPREAD.min(interval) * share / 0x1_0000).await;
    let mut ticks = tokio::time::interval(interval);
    // After a pause of the process not all that was missed, but the next.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for count in 0u64.. {
        ticks.tick().await;
        let begin = Instant::now();
        let result = attempt.run(subject.1.rotate_left(17) ^ count).await;
        let outcome = Outcome { subject: subject.clone(), result, took: begin.elapsed() };
        if tell.send(outcome).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
