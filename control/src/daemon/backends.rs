//! The backends of `balance` stages: what their checks say is written where the workers read it, and shown.
//!
//! Keeps true: the words that the workers see are those of the newest results and drains; what the operator drained stays
//! drained until they say otherwise, or its stage begins with new memory. No snapshot is made for any of this.

use super::core::Daemon;
use super::states::States;
use crate::api::{Answer, ApiError, BackendRow, BackendState, Code, Drain, Drained};
use crate::health::{Outcome, Record, Subject, balances};
use std::collections::BTreeMap;
use std::time::SystemTime;
use zsync_pipelines::spec::balance::{BalanceSpec, Forward};
use zsync_pipelines::stages::balance;
use zsync_pipelines::tables::backends::{Enrolled, State};

impl Daemon {
    /// Checks what the configuration in force asks for, and tells the workers what is known.
    pub(super) fn follow_backends(&mut self) {
        let Self { checks, states, config, .. } = self;
        checks.follow(&config.spec, |(label, identity)| {
            match states.state(label).and_then(balance::states) {
                // A control process before this one had checked it, perhaps.
                Some(words) => Record::new(!words.of(*identity).down, words.changes() == 0),
                None => Record::new(true, true),
            }
        });
        for (label, spec) in balances(&self.config.spec) {
            for backend in &spec.backends {
                let subject = (label.to_owned(), backend.identity());
                self.tell_backend(&subject, |state| State {
                    down: self.checks.is_up(&subject) == Some(false),
                    ..state
                });
            }
        }
    }

    /// A check of a backend is done.
    pub(super) fn on_check(&mut self, outcome: Outcome) {
        let why = outcome.result.clone().err();
        let Some((subject, up)) = self.checks.note(outcome) else { return };
        let name = self.name_of(&subject).unwrap_or_default();
        match why {
            Some(why) => tracing::warn!(stage = subject.0, backend = name, why, "the backend is down"),
            None => tracing::info!(stage = subject.0, backend = name, "the backend is up"),
        }
        self.tell_backend(&subject, |state| State { down: !up, ..state });
    }

    /// Answers `drain`.
    pub(super) fn drain(&mut self, drain: &Drain) -> Result<Answer, ApiError> {
        let mut found = Vec::new();
        for (label, spec) in balances(&self.config.spec) {
            if drain.stage.as_ref().is_none_or(|stage| stage == label) {
                let named = spec.backends.iter().filter(|backend| backend.to_string() == drain.backend);
                found.extend(named.map(|backend| (label.to_owned(), backend.identity())));
            }
        }
        if found.is_empty() {
            let known = balances(&self.config.spec).flat_map(|(_, spec)| &spec.backends);
            let known: Vec<String> = known.map(ToString::to_string).collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let message = format!("there is no backend `{}`", drain.backend);
            return Err(ApiError::unknown(Code::BadParams, message, &drain.backend, &known));
        }
        for subject in &found {
            if !self.tell_backend(subject, |state| State { drained: !drain.undo, ..state }) {
                let message = format!("{} has no memory yet: no data plane was started", subject.0);
                return Err(ApiError::new(Code::Refused, message).remedy("try again when it runs"));
            }
        }
        let stages = found.into_iter().map(|(label, _)| label).collect();
        Ok(Answer::Drained(Drained { backend: drain.backend.clone(), stages, drained: !drain.undo }))
    }

    /// The answer to `show backends`.
    pub(super) fn backends(&self) -> Answer {
        let mut rows = Vec::new();
        for (label, spec) in balances(&self.config.spec) {
            let mut flows = flows(&self.states, label, spec);
            let words = self.states.state(label).and_then(balance::states);
            for backend in &spec.backends {
                let subject = (label.to_owned(), backend.identity());
                let word = words.as_ref().map(|words| words.of(subject.1)).unwrap_or_default();
                let drained = word.drained || backend.drain || backend.weight == 0;
                let last = self.checks.last(&subject);
                rows.push(BackendRow {
                    stage: label.to_owned(),
                    backend: backend.to_string(),
                    weight: backend.weight.into(),
                    state: match (word.down, drained) {
                        (true, _) => BackendState::Down,
                        (false, true) => BackendState::Drained,
                        (false, false) => BackendState::Up,
                    },
                    flows: tracked_here(spec).then(|| flows.remove(&subject.1).map_or(0, |(_, flows)| flows)),
                    checked_ms: last.map(|last| {
                        let age = SystemTime::now().duration_since(last.at).unwrap_or_default();
                        age.as_millis() as u64
                    }),
                    check_us: last.map(|last| last.took.as_micros() as u64),
                    error: last.and_then(|last| last.error.clone()),
                });
            }
            // Those that left the configuration, and are still gone to.
            for (who, count) in flows.into_values().filter(|(_, count)| *count > 0) {
                rows.push(BackendRow {
                    stage: label.to_owned(),
                    backend: who,
                    state: BackendState::Leaving,
                    flows: Some(count),
                    ..BackendRow::default()
                });
            }
        }
        Answer::Backends(rows)
    }

    /// Writes how a backend does. False: there is nowhere to write it.
    fn tell_backend(&self, (label, identity): &Subject, change: impl Fn(State) -> State) -> bool {
        let Some(words) = self.states.state(label).and_then(balance::states) else { return false };
        let wanted = |who| {
            let of = balances(&self.config.spec).filter(|(other, _)| other == label);
            of.flat_map(|(_, spec)| &spec.backends).any(|backend| backend.identity() == who)
        };
        words.set(*identity, change(words.of(*identity)), wanted)
    }

    fn name_of(&self, (label, identity): &Subject) -> Option<String> {
        let (_, spec) = balances(&self.config.spec).find(|(other, _)| other == label)?;
        spec.backends.iter().find(|backend| backend.identity() == *identity).map(ToString::to_string)
    }
}

/// Whether the stage itself remembers its connections.
fn tracked_here(spec: &BalanceSpec) -> bool {
    spec.forward != Forward::Nat
}

/// Flows of all workers, and the backend's name, by identity.
fn flows(states: &States, label: &str, spec: &BalanceSpec) -> BTreeMap<u64, (String, u64)> {
    let mut flows: BTreeMap<u64, (String, u64)> = BTreeMap::new();
    let Some(state) = states.state(label).filter(|_| tracked_here(spec)) else { return flows };
    for roll in (0..state.workers()).filter_map(|worker| balance::roll(state, worker)) {
        for (place, Enrolled { identity, address, port }) in roll.iter() {
            let name = match port {
                Some(port) => std::net::SocketAddr::new(address, port).to_string(),
                None => address.to_string(),
            };
            flows.entry(identity).or_insert((name, 0)).1 += roll.flows(place.into());
        }
    }
    flows
}
