//! From a configuration to a snapshot.
//!
//! The configuration is checked already (see [`crate::spec`]); what can still be wrong is what it was compiled with. Adds a
//! `parse` stage ahead of the first stage that works on IP.

use crate::plan::{Work, plan};
use crate::snapshot::{AnyStage, MAX_STAGES, Pipeline, Placed, PortFacts, Snapshot};
use crate::spec::balance::BalanceSpec;
use crate::spec::{NatSpec, Spec, StageSpec, TrackSpec};
use crate::stages::balance::{self, Balance};
use crate::stages::decide::Decide;
use crate::stages::macswap::MacSwap;
use crate::stages::nat::{Nat, NatError, NatResources};
use crate::stages::owner::Owner;
use crate::stages::parse::Parse;
use crate::stages::patch::Patch;
use crate::stages::route::Route;
use crate::stages::track::Track;
use crate::state::{self, State};
use crate::tables::fib::Fib;
use crate::tables::flow::{OpenError, Shards};
use std::collections::BTreeMap;
use std::net::IpAddr;
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
    /// The memory of a stage is not what the stage needs.
    #[error("pipeline {pipeline}, stage {stage}: the memory that was given is not the stage's")]
    BadState {
        /// The pipeline's name.
        pipeline: String,
        /// The stage's label.
        stage: String,
    },
    /// A `nat` stage without what it needs.
    #[error("stage {stage}: {source}")]
    Nat {
        /// The stage's label.
        stage: String,
        /// What is wrong with it.
        source: NatError,
    },
    /// A flow table's memory is not right.
    #[error("stage {stage}: {source}")]
    Flows {
        /// The stage's label.
        stage: String,
        /// What is wrong with it.
        source: OpenError,
    },
    /// More stages than there are counters.
    #[error("{stages} stages over all pipelines: at most {MAX_STAGES} can be counted")]
    TooManyStages {
        /// How many there are.
        stages: usize,
    },
}

/// Compiles `spec` as epoch `epoch`, for worker 0: see [`Snapshot::assign`].
///
/// # Errors
/// A FIB is missing, what stages keep is not what they need, or there are too many stages.
pub fn compile(spec: &Spec, epoch: u64, with: &Resources) -> Result<Snapshot, CompileError> {
    let plan = plan(spec, with.workers);
    let stages = plan.iter().map(Vec::len).sum();
    if stages > MAX_STAGES {
        return Err(CompileError::TooManyStages { stages });
    }
    let mut compiler = Compiler { with, deep: spec.is_deep(), flows: BTreeMap::new() };
    let mut entry = vec![None; spec.ports.len()];
    let mut pipelines = Vec::new();
    let mut number = 0;
    for (id, (pipeline, places)) in spec.pipelines.iter().zip(&plan).enumerate() {
        // The flows that this pipeline's stages share.
        let tracked = places.iter().find_map(|place| match place.work {
            Work::Stage(StageSpec::Track(spec)) => Some((place.label, spec)),
            _ => None,
        });
        let mut stages = Vec::new();
        for place in places {
            let stage = match place.work {
                Work::Parse => AnyStage::Parse(Parse::new(with.ports.clone(), compiler.deep)),
                Work::Owner => AnyStage::Owner(Owner::new(with.workers as u8, with.hash_key.clone())),
                Work::Stage(stage) => compiler.stage(&pipeline.name, place.label, stage, tracked)?,
            };
            stages.push(Placed { label: place.label.to_owned(), number, stage });
            number += 1;
        }
        for input in &pipeline.inputs {
            if let Some(slot) = entry.get_mut(usize::from(input.0)) {
                *slot = Some(PipelineId(id as u16));
            }
        }
        pipelines.push(Pipeline { name: pipeline.name.clone(), stages });
    }
    // Where addresses are translated in one pipeline, the owners of all must agree.
    let stages = || pipelines.iter().flat_map(|pipeline: &Pipeline| &pipeline.stages);
    let translated: Vec<_> = stages()
        .filter_map(|placed| match &placed.stage {
            AnyStage::Nat(nat) => nat.owners(),
            _ => None,
        })
        .collect();
    for placed in pipelines.iter_mut().flat_map(|pipeline| &mut pipeline.stages) {
        if let AnyStage::Owner(owner) = &mut placed.stage {
            owner.translated(translated.clone());
        }
    }
    Ok(Snapshot { epoch, pipelines, entry })
}

struct Compiler<'w> {
    with: &'w Resources,
    deep: bool,
    /// One for each label, whichever pipelines name it.
    flows: BTreeMap<String, Shards>,
}

impl Compiler<'_> {
    /// The stage `label` of `pipeline`; `tracked`: what tracks the flows there.
    fn stage(
        &mut self,
        pipeline: &str,
        label: &str,
        spec: &StageSpec,
        tracked: Option<(&str, &TrackSpec)>,
    ) -> Result<AnyStage, CompileError> {
        let with = self.with;
        Ok(match spec {
            StageSpec::Patch { map } => {
                AnyStage::Patch(Patch::new(map.iter().map(|to| to.map(|to| PortId(to.0)))))
            }
            StageSpec::Route { table, by_mark } => {
                let fib = |table: u32| {
                    with.fibs.get(&table).cloned().ok_or_else(|| CompileError::NoFib {
                        pipeline: pipeline.to_owned(),
                        stage: label.to_owned(),
                        table,
                    })
                };
                let marked = by_mark.iter().map(|(mark, table)| Ok((*mark, fib(*table)?)));
                let marked = marked.collect::<Result<_, CompileError>>()?;
                let route = Route::new(fib(*table)?, with.ports.clone(), with.hash_key.clone());
                AnyStage::Route(route.by_mark(marked))
            }
            StageSpec::Nat(nat) => AnyStage::Nat(self.nat(label, nat, tracked)?),
            StageSpec::Track(track) => {
                AnyStage::Track(Track::new(self.flows(label, track)?, track.rules(with.workers)))
            }
            StageSpec::Balance(balance) => {
                AnyStage::Balance(Box::new(self.balance(pipeline, label, balance, tracked)?))
            }
            StageSpec::MacSwap => AnyStage::MacSwap(MacSwap),
            StageSpec::Drop => AnyStage::Decide(Decide::DROP),
            StageSpec::Punt => AnyStage::Decide(Decide::PUNT),
        })
    }

    fn nat(
        &mut self,
        label: &str,
        spec: &NatSpec,
        tracked: Option<(&str, &TrackSpec)>,
    ) -> Result<Nat, CompileError> {
        let addresses = |port: &PortFacts| port.v4.map(Into::into).into_iter().chain(port.v6.map(Into::into));
        let own: Vec<Vec<IpAddr>> = self.with.ports.iter().map(|port| addresses(port).collect()).collect();
        let resources = NatResources {
            own: &own,
            fib: self.with.fibs.get(&spec.table).cloned(),
            flows: tracked.map(|(label, track)| self.flows(label, track)).transpose()?,
            state: self.state(label, &StageSpec::Nat(spec.clone())),
            hash_key: self.with.hash_key.clone(),
        };
        Nat::new(spec, resources).map_err(|source| CompileError::Nat { stage: label.to_owned(), source })
    }

    fn balance(
        &mut self,
        pipeline: &str,
        label: &str,
        spec: &BalanceSpec,
        tracked: Option<(&str, &TrackSpec)>,
    ) -> Result<Balance, CompileError> {
        let with = self.with;
        let fib = with.fibs.get(&spec.route_table).ok_or_else(|| CompileError::NoFib {
            pipeline: pipeline.to_owned(),
            stage: label.to_owned(),
            table: spec.route_table,
        })?;
        let kept = with.states.get(label).cloned();
        let state = kept.unwrap_or_else(|| State::heap(balance::size(spec), with.workers));
        let made = Balance::new(spec, state, fib.clone(), with.ports.clone(), with.hash_key.clone());
        let made = made.ok_or_else(|| CompileError::BadState {
            pipeline: pipeline.to_owned(),
            stage: label.to_owned(),
        })?;
        Ok(match tracked {
            Some((label, track)) => made.behind(self.flows(label, track)?),
            None => made,
        })
    }

    /// The flow tables of the `track` stage `label`.
    fn flows(&mut self, label: &str, spec: &TrackSpec) -> Result<Shards, CompileError> {
        if let Some(shards) = self.flows.get(label) {
            return Ok(shards.clone());
        }
        let workers = self.with.workers;
        let state = self
            .state(label, &StageSpec::Track(spec.clone()))
            .unwrap_or_else(|| State::heap(state::StateSize::default(), workers));
        let shards = Shards::new(state, spec.space(workers), self.with.hash_key.clone())
            .map_err(|source| CompileError::Flows { stage: label.to_owned(), source })?;
        self.flows.insert(label.to_owned(), shards.clone());
        Ok(shards)
    }

    /// What the stage keeps: where it left it, or new memory of this process alone.
    fn state(&self, label: &str, spec: &StageSpec) -> Option<State> {
        let workers = self.with.workers;
        let kept = self.with.states.get(label).cloned();
        kept.or_else(|| state::size(spec, workers).map(|size| State::heap(size, workers)))
    }
}
