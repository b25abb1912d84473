//! From a configuration to a snapshot.
//!
//! The configuration is checked already (see [`crate::spec`]); what can still be wrong is what it was compiled with. Adds a
//! `parse` stage ahead of the first stage that works on IP.

use crate::snapshot::{AnyStage, MAX_STAGES, Pipeline, Placed, PortFacts, Snapshot};
use crate::spec::{Layer, NatSpec, Spec, StageSpec};
use crate::stages::decide::Decide;
use crate::stages::filter::{Compiled, Filter};
use crate::stages::macswap::MacSwap;
use crate::stages::nat::{self, Nat, NatError, NatResources};
use crate::stages::parse::Parse;
use crate::stages::patch::Patch;
use crate::stages::route::Route;
use crate::state::State;
use crate::tables::classify::ClassifyError;
use crate::tables::fib::Fib;
use crate::tables::flow::Shards;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use zsync_packet::flow::HashKey;
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
    /// The rules of a `filter` stage need too much memory.
    #[error("pipeline {pipeline}, stage {stage}: {error}")]
    Filter {
        /// The pipeline's name.
        pipeline: String,
        /// The stage's label.
        stage: String,
        /// What there is no room for.
        error: ClassifyError,
    },
    /// A `nat` stage without what it needs.
    #[error("stage {stage}: {source}")]
    Nat {
        /// The stage's label.
        stage: String,
        /// What is wrong with it.
        source: NatError,
    },
    /// More stages than there are counters.
    #[error("{stages} stages over all pipelines: at most {MAX_STAGES} can be counted")]
    TooManyStages {
        /// How many there are.
        stages: usize,
    },
}

/// Compiles `spec` as epoch `epoch`.
///
/// # Errors
/// A FIB is missing, or there are too many stages.
pub fn compile(spec: &Spec, epoch: u64, with: &Resources) -> Result<Snapshot, CompileError> {
    let mut number = 0;
    let mut place = |label: &str, stage| {
        number += 1;
        Placed { label: label.to_owned(), number: number - 1, stage }
    };
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
                StageSpec::Filter(filter) => {
                    let compiled = Compiled::new(filter).map_err(|error| CompileError::Filter {
                        pipeline: pipeline.name.clone(),
                        stage: stage.label.clone(),
                        error,
                    })?;
                    AnyStage::Filter(Filter::new(
                        Arc::new(compiled),
                        with.states.get(&stage.label).cloned(),
                        with.ports.clone(),
                    ))
                }
                StageSpec::Nat(spec) => AnyStage::Nat(translation(&stage.label, spec, None, with)?),
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

/// A `nat` stage behind the tracking stage whose flows are given.
fn translation(
    label: &str,
    spec: &NatSpec,
    flows: Option<Shards>,
    with: &Resources,
) -> Result<Nat, CompileError> {
    let addresses = |port: &PortFacts| port.v4.map(Into::into).into_iter().chain(port.v6.map(Into::into));
    let own: Vec<Vec<IpAddr>> = with.ports.iter().map(|port| addresses(port).collect()).collect();
    let kept = with.states.get(label).cloned();
    let resources = NatResources {
        own: &own,
        fib: with.fibs.get(&spec.table).cloned(),
        flows,
        state: kept.or_else(|| nat::size(spec).map(|size| State::heap(size, with.workers))),
        hash_key: with.hash_key.clone(),
    };
    Nat::new(spec, resources).map_err(|source| CompileError::Nat { stage: label.to_owned(), source })
}
