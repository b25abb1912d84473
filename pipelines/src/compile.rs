//! From a configuration to a snapshot.
//!
//! The configuration is checked already (see [`crate::spec`]); what can still be wrong is what it was compiled with. Adds a
//! `parse` stage ahead of the first stage that works on IP.

use crate::snapshot::{AnyStage, MAX_STAGES, Pipeline, Placed, PortFacts, Snapshot};
use crate::spec::{Layer, Spec, StageSpec};
use crate::stages::decide::Decide;
use crate::stages::macswap::MacSwap;
use crate::stages::parse::Parse;
use crate::stages::patch::Patch;
use crate::stages::route::Route;
use crate::state::{State, StateSize, needs};
use crate::tables::fib::Fib;
use std::collections::BTreeMap;
use zsync_packet::flow::HashKey;
use zsync_packet::region::Region;
use zsync_packet::verdict::{PipelineId, PortId};

/// What a configuration is compiled with.
#[derive(Clone, Debug)]
pub struct Resources {
    /// By port number.
    pub ports: Vec<PortFacts>,
    /// By number of the kernel's routing table.
    pub fibs: BTreeMap<u32, Fib>,
    /// The secret of this boot.
    pub hash_key: HashKey,
    /// How many workers there are.
    pub workers: usize,
    /// What stages keep, by their label: as [`state::needs`](crate::state::needs) says. One that is not here keeps what it
    /// has to itself, and loses it with its process.
    pub states: BTreeMap<String, State>,
}

/// Why a configuration cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A `route` stage without its table.
    #[error("pipeline {pipeline}, stage {stage}: the FIB of routing table {table} was not given")]
    NoFib {
        /// The pipeline's name.
        pipeline: String,
        /// The stage's label.
        stage: String,
        /// The kernel's number of the table.
        table: u32,
    },
    /// The memory that a stage was given is not the memory for it.
    #[error("pipeline {pipeline}, stage {stage}: its state does not fit its settings")]
    NoState {
        /// The pipeline's name.
        pipeline: String,
        /// The stage's label.
        stage: String,
    },
    /// More stages than there are counters.
    #[error("{stages} stages over all pipelines: at most {MAX_STAGES} can be counted")]
    TooManyStages {
        /// How many there are.
        stages: usize,
    },
}

/// What all workers share of the stages' states, by label: also of those that were given none.
struct Shared(BTreeMap<String, Region>);

impl Shared {
    fn new(spec: &Spec, with: &Resources) -> Self {
        let region = |(label, size): (String, StateSize)| {
            let given = with.states.get(&label).and_then(State::shared);
            Some((label, given.or_else(|| State::heap(size, with.workers).shared())?))
        };
        let needs = needs(spec, with.workers).into_iter().filter(|(_, size)| size.shared > 0);
        Self(needs.filter_map(region).collect())
    }

    fn of(&self, label: &str) -> Option<Region> {
        self.0.get(label).cloned()
    }
}

/// Compiles `spec` as epoch `epoch`.
///
/// # Errors
/// A FIB is missing, a stage's memory is not for it, or there are too many stages.
pub fn compile(spec: &Spec, epoch: u64, with: &Resources) -> Result<Snapshot, CompileError> {
    let mut number = 0;
    let mut place = |label: &str, stage| {
        number += 1;
        Placed { label: label.to_owned(), number: number - 1, stage }
    };
    let shared = Shared::new(spec, with);
    let mut pipelines = Vec::new();
    let mut entry = vec![None; spec.ports.len()];
    // A pipeline that does not look at the transport may send packets to one that does.
    let deep = spec.is_deep();
    for (id, pipeline) in spec.pipelines.iter().enumerate() {
        let mut stages = Vec::new();
        if pipeline.layer() == Layer::L3 {
            stages.push(place("parse", AnyStage::Parse(Parse::new(with.ports.clone(), deep))));
        }
        for stage in &pipeline.stages {
            let no_state =
                || CompileError::NoState { pipeline: pipeline.name.clone(), stage: stage.label.clone() };
            let compiled = match &stage.spec {
                StageSpec::Patch { map } => {
                    AnyStage::Patch(Patch::new(map.iter().map(|to| to.map(|to| PortId(to.0)))))
                }
                StageSpec::Route { table, by_mark } => {
                    let fib = |table: u32| {
                        with.fibs.get(&table).cloned().ok_or_else(|| CompileError::NoFib {
                            pipeline: pipeline.name.clone(),
                            stage: stage.label.clone(),
                            table,
                        })
                    };
                    let marked = by_mark.iter().map(|(mark, table)| Ok((*mark, fib(*table)?)));
                    let marked = marked.collect::<Result<_, CompileError>>()?;
                    AnyStage::Route(
                        Route::new(fib(*table)?, with.ports.clone(), with.hash_key.clone()).by_mark(marked),
                    )
                }
                StageSpec::Police(police) => {
                    let shapers = police.adaptive().and_then(|(_, shaper)| shared.of(shaper));
                    let stage = shared.of(&stage.label).and_then(|state| {
                        police.stage(
                            state,
                            shapers.into_iter().collect(),
                            with.workers,
                            with.hash_key.clone(),
                        )
                    });
                    stage.map(AnyStage::Police).ok_or_else(no_state)?
                }
                StageSpec::Shape(shape) => {
                    let state = shared.of(&stage.label);
                    let stage =
                        state.and_then(|state| shape.stage(state, with.workers, with.hash_key.clone()));
                    stage.map(AnyStage::Shape).ok_or_else(no_state)?
                }
                StageSpec::MacSwap => AnyStage::MacSwap(MacSwap),
                StageSpec::Drop => AnyStage::Decide(Decide::DROP),
                StageSpec::Punt => AnyStage::Decide(Decide::PUNT),
            };
            stages.push(place(&stage.label, compiled));
        }
        for input in &pipeline.inputs {
            if let Some(slot) = entry.get_mut(usize::from(input.0)) {
                *slot = Some(PipelineId(id as u16));
            }
        }
        pipelines.push(Pipeline { name: pipeline.name.clone(), stages });
    }
    if number > MAX_STAGES {
        return Err(CompileError::TooManyStages { stages: number });
    }
    Ok(Snapshot { epoch, pipelines, entry })
}
