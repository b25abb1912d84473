//! The tables of one stage: one for each worker, in that stage's memory.

use super::layout::{FlowSpace, OpenError};
use super::table::Flows;
use crate::state::State;
use zsync_packet::flow::HashKey;

/// See the module. Cloning shares the memory.
#[derive(Clone, Debug)]
pub struct Shards {
    state: State,
    space: FlowSpace,
    secret: HashKey,
}

impl Shards {
    /// The tables in this memory, each with so much room, all under this secret.
    ///
    /// # Errors
    /// A worker's part of the memory is too short, or was written for another space or under another secret.
    pub fn new(state: State, space: FlowSpace, secret: HashKey) -> Result<Self, OpenError> {
        let shards = Self { state, space, secret };
        (0..shards.state.workers()).try_for_each(|worker| shards.open(worker).map(drop))?;
        Ok(shards)
    }

    /// Whether the worker's table is as a process has left it that may have been killed: see [`State::is_first`].
    pub fn is_first(&self, worker: usize) -> bool {
        self.state.is_first(worker)
    }

    /// A worker's table; `None` for a worker that has no part of the memory.
    pub fn worker(&self, worker: usize) -> Option<Flows> {
        self.open(worker).ok()
    }

    fn open(&self, worker: usize) -> Result<Flows, OpenError> {
        let needs = self.space.bytes();
        let region = self.state.shard(worker).ok_or(OpenError::TooShort { has: 0, needs })?;
        Flows::open(region, self.space, self.secret.clone())
    }
}
