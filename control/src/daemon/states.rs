//! The memory of stages that keep something: made here, worked on by the data plane, older than both.
//!
//! Owns the descriptors, by the stages' labels. Refuses: memory that the kernel does not give. Keeps true: a stage whose label
//! and sizes stay as they were keeps its memory, whatever else changes; one whose sizes change, or whose workers, begins with nothing, but for
//! tunnels, whose sessions move: the workers take them along, or, where none runs, this does.

use anyhow::{Context as _, Result, anyhow};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::collections::BTreeMap;
use zsync_pipelines::spec::Spec;
use zsync_pipelines::state::{State, StateSize, carry, needs};
use zsync_protocol::message::ToDataplane;
use zsync_protocol::shm::{Access, Huge, Memory, map};

/// See the module.
#[derive(Debug, Default)]
pub struct States {
    workers: usize,
    states: BTreeMap<String, Kept>,
}

#[derive(Debug)]
struct Kept {
    message: ToDataplane,
    fd: OwnedFd,
    size: StateSize,
    state: State,
    /// The running data plane has it.
    sent: bool,
}

impl States {
    /// What a data plane that was adopted hands back.
    ///
    /// # Errors
    /// A descriptor is missing, or its memory is not what the message says.
    pub fn adopt(given: &mut Vec<(ToDataplane, Vec<OwnedFd>)>, workers: usize) -> Result<Self> {
        let mut states = BTreeMap::new();
        let (of_states, rest) =
            given.drain(..).partition(|(message, _)| matches!(message, ToDataplane::State { .. }));
        *given = rest;
        let of_states: Vec<(ToDataplane, Vec<OwnedFd>)> = of_states;
        for (message, mut fds) in of_states {
            let ToDataplane::State { label, shared, each, len } = &message else { continue };
            let fd = fds.pop().ok_or_else(|| anyhow!("the memory of {label} came without its descriptor"))?;
            let size = StateSize { shared: *shared as usize, each: *each as usize };
            let region = map(fd.as_fd(), *len as usize, Access::ReadWrite)?;
            let state =
                State::open(region, size, workers).with_context(|| format!("the memory of {label}"))?;
            states.insert(label.clone(), Kept { message, fd, size, state, sent: true });
        }
        Ok(Self { workers, states })
    }

    /// Makes what `spec` needs and is not there yet, for `workers` workers; what it does not need stays until
    /// [`Self::forget`]. `still`: no process writes what was there before, so what can be taken from it is.
    ///
    /// # Errors
    /// The kernel gives no memory; what was there before is untouched.
    pub fn prepare(&mut self, spec: &Spec, workers: usize, still: bool) -> Result<()> {
        let mut made = BTreeMap::new();
        for (label, size) in needs(spec, workers) {
            let stays = |kept: &Kept| kept.size == size && self.workers == workers;
            if self.states.get(&label).is_some_and(stays) {
                continue;
            }
            let len = size.bytes(workers);
            let memory = Memory::create("zsync-state", len, Huge::Auto)
                .with_context(|| format!("{len} bytes of memory for {label}"))?;
            let state = State::open(memory.region.clone(), size, workers)?;
            if let Some(before) = self.states.get(&label) {
                if still && carry(spec, &label, &before.state, &state) {
                    tracing::info!(stage = label, "what it kept has moved into other memory");
                } else {
                    tracing::info!(stage = label, "it has other memory now, and begins anew");
                }
            }
            let (shared, each) = (size.shared as u64, size.each as u64);
            let message = ToDataplane::State { label: label.clone(), shared, each, len: len as u64 };
            made.insert(label, Kept { message, fd: memory.fd, size, state, sent: false });
        }
        if self.workers != workers {
            self.states.clear();
        }
        self.workers = workers;
        self.states.extend(made);
        Ok(())
    }

    /// Lets go of what `spec` does not need.
    pub fn forget(&mut self, spec: &Spec) {
        let needed = needs(spec, self.workers);
        self.states.retain(|label, _| {
            let stays = needed.contains_key(label);
            if !stays {
                tracing::info!(stage = label, "what it kept is let go: no pipeline has it any more");
            }
            stays
        });
    }

    /// What a data plane is told at its start: all of it.
    pub fn messages(&self) -> impl Iterator<Item = (&ToDataplane, BorrowedFd<'_>)> {
        self.states.values().map(|kept| (&kept.message, kept.fd.as_fd()))
    }

    /// What the running data plane was not told yet. From now on it counts as told.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn unsent(&mut self) -> Result<Vec<(ToDataplane, OwnedFd)>> {
        let new: Vec<_> = self
            .states
            .values()
            .filter(|kept| !kept.sent)
            .map(|kept| Ok((kept.message.clone(), kept.fd.try_clone()?)))
            .collect::<Result<_>>()?;
        self.note_sent();
        Ok(new)
    }

    /// The running data plane was told everything.
    pub fn note_sent(&mut self) {
        self.states.values_mut().for_each(|kept| kept.sent = true);
    }

    /// What stages keep, as it is now, in memory of its own: what is written there nobody sees.
    ///
    /// # Errors
    /// No memory.
    pub fn copies(&self) -> Result<BTreeMap<String, State>> {
        let copy = |(label, kept): (&String, &Kept)| {
            let ToDataplane::State { len, .. } = &kept.message else { return None };
            let copied = map(kept.fd.as_fd(), *len as usize, Access::Private)
                .map_err(anyhow::Error::from)
                .and_then(|region| Ok(State::open(region, kept.size, self.workers)?));
            Some(copied.map(|state| (label.clone(), state)))
        };
        self.states.iter().filter_map(copy).collect()
    }

    /// The memory of the stage with this label.
    pub fn state(&self, label: &str) -> Option<&State> {
        self.states.get(label).map(|kept| &kept.state)
    }
}
