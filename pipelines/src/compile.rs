//! From a configuration to a snapshot.
//!
//! The configuration is checked already (see [`crate::spec`]); what can still be wrong is what it was compiled with. Adds a
//! `parse` stage ahead of the first stage that works on IP.

use crate::plan::{Place, Work, plan};
use crate::snapshot::{AnyStage, MAX_STAGES, Pipeline, Placed, PortFacts, Snapshot};
use crate::spec::balance::BalanceSpec;
use crate::spec::{self, FilterSpec, Layer, NatSpec, Spec, StageSpec, TrackSpec};
use crate::stages::balance::owner::Clients;
use crate::stages::balance::{self, Balance};
use crate::stages::decap::Decap;
use crate::stages::decide::Decide;
use crate::stages::encap::Encap;
use crate::stages::filter::{Compiled, Filter};
use crate::stages::inspect::Inspect;
use crate::stages::macswap::MacSwap;
use crate::stages::mirror::Mirror;
use crate::stages::nat::{Nat, NatError, NatResources};
use crate::stages::owner::Owner;
use crate::stages::parse::Parse;
use crate::stages::patch::Patch;
use crate::stages::reassemble::Reassemble;
use crate::stages::route::Route;
use crate::stages::track::{Own, Track};
use crate::stages::vlan::Vlan;
use crate::state::{self, State};
use crate::tables::classify::ClassifyError;
use crate::tables::fib::Fib;
use crate::tables::flow::{OpenError, Shards};
use crate::vlans::Vlans;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use zsync_packet::flow::{FlowKey, HashKey};
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
    /// What stages keep, by their label: as [`state::needs`] says. One that is not here keeps what it
    /// has to itself, and loses it with its process.
    pub states: BTreeMap<String, State>,
}

impl Resources {
    /// The same, with what is known of ports that are VLANs: all that is known of the port with the device but its addresses,
    /// which are those of another network.
    fn with_vlans(&self, spec: &Spec) -> Self {
        let mut with = self.clone();
        for vlan in with.ports.len()..spec.port_count() {
            let device = spec.device_of(spec::PortId(vlan as u16));
            let of_device = self.ports.get(usize::from(device.0)).copied().unwrap_or_default();
            with.ports.push(PortFacts { v4: None, v6: None, ..of_device });
        }
        with
    }
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
    /// The memory that a stage was given is not the memory for it.
    #[error("pipeline {pipeline}, stage {stage}: its state does not fit its settings")]
    NoState {
        /// The pipeline's name.
        pipeline: String,
        /// The stage's label.
        stage: String,
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
    compile_after(spec, epoch, with, None)
}

/// As [`compile`], and what takes long to make and is as it was in the snapshot `before` is shared with that one: filters.
///
/// # Errors
/// As [`compile`].
pub fn compile_after(
    spec: &Spec,
    epoch: u64,
    with: &Resources,
    before: Option<&Snapshot>,
) -> Result<Snapshot, CompileError> {
    let with = &with.with_vlans(spec);
    let plan = plan(spec, with.workers);
    let stages = plan.iter().map(Vec::len).sum();
    if stages > MAX_STAGES {
        return Err(CompileError::TooManyStages { stages });
    }
    let mut compiler = Compiler {
        with,
        deep: spec.is_deep(),
        only: only_tracked(&plan),
        flows: BTreeMap::new(),
        nats: BTreeMap::new(),
        meters: meters(spec, with),
        filters: before.map(filters).unwrap_or_default(),
    };
    let mut entry = vec![None; spec.port_count()];
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
                Work::Inspect => AnyStage::Inspect(Inspect::new(with.ports.clone())),
                // There are fewer than 2⁸ of either.
                Work::Owner => {
                    AnyStage::Owner(Owner::new(with.workers as u8, number as u8, with.hash_key.clone()))
                }
                Work::Stage(stage) => compiler.stage(pipeline, place.label, stage, tracked)?,
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
    // Where addresses are translated or chosen in one pipeline, the owners of all must agree.
    let stages = || pipelines.iter().flat_map(|pipeline: &Pipeline| &pipeline.stages);
    let translated: Vec<_> = stages()
        .filter_map(|placed| match &placed.stage {
            AnyStage::Nat(nat) => nat.owners(),
            _ => None,
        })
        .collect();
    let specs = spec.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    let balanced: BTreeMap<_, _> = specs
        .filter_map(|stage| match &stage.spec {
            StageSpec::Balance(spec) => {
                Some((&stage.label, Clients::new(spec, with.hash_key.clone(), with.workers as u8)))
            }
            _ => None,
        })
        .collect();
    let balanced: Vec<_> = balanced.into_values().collect();
    for placed in pipelines.iter_mut().flat_map(|pipeline| &mut pipeline.stages) {
        if let AnyStage::Owner(owner) = &mut placed.stage {
            owner.ask(translated.clone(), balanced.clone());
        }
    }
    Ok(Snapshot { epoch, pipelines, entry, vlans: Vlans::new(spec.port_count(), &spec.vlans) })
}

/// The stage that tracks flows, if no other does: packets that come by a goto were tracked by that one or by none.
fn only_tracked<'s>(plan: &[Vec<Place<'s>>]) -> Option<(&'s str, &'s TrackSpec)> {
    let mut tracked = plan.iter().flatten().filter_map(|place| match place.work {
        Work::Stage(StageSpec::Track(spec)) => Some((place.label, spec)),
        _ => None,
    });
    let first = tracked.next()?;
    tracked.all(|(label, _)| label == first.0).then_some(first)
}

struct Compiler<'w> {
    with: &'w Resources,
    deep: bool,
    /// The stage that tracks flows, when there is one.
    only: Option<(&'w str, &'w TrackSpec)>,
    /// One for each label, whichever pipelines name it.
    flows: BTreeMap<String, Shards>,
    /// The label of the `track` stage ahead of each `nat` stage.
    nats: BTreeMap<String, String>,
    /// What all workers share of the meters, by label.
    meters: BTreeMap<String, Region>,
    /// Those that are made already.
    filters: Vec<Arc<Compiled>>,
}

/// The filters of a snapshot.
fn filters(snapshot: &Snapshot) -> Vec<Arc<Compiled>> {
    let stages = snapshot.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    let filter = |placed: &Placed| match &placed.stage {
        AnyStage::Filter(filter) => Some(Arc::clone(filter.compiled())),
        _ => None,
    };
    stages.filter_map(filter).collect()
}

/// The memory of all meters: what they were given, or new memory of this process alone.
fn meters(spec: &Spec, with: &Resources) -> BTreeMap<String, Region> {
    let stages = spec.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    let region = |stage: &spec::Stage| {
        let size = match &stage.spec {
            StageSpec::Police(_) | StageSpec::Shape(_) => state::size(&stage.spec, with.workers)?,
            _ => return None,
        };
        let given = with.states.get(&stage.label).and_then(State::shared);
        let region = given.or_else(|| State::heap(size, with.workers).shared())?;
        Some((stage.label.clone(), region))
    };
    stages.filter_map(region).collect()
}

impl Compiler<'_> {
    /// The stage `label` of `pipeline`; `tracked`: what tracks the flows there.
    fn stage(
        &mut self,
        of: &spec::Pipeline,
        label: &str,
        spec: &StageSpec,
        tracked: Option<(&str, &TrackSpec)>,
    ) -> Result<AnyStage, CompileError> {
        let (with, pipeline) = (self.with, of.name.as_str());
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
                let flows =
                    tracked.or(self.only).map(|(label, track)| self.flows(label, track)).transpose()?;
                let route = flows.into_iter().fold(route, Route::behind);
                AnyStage::Route(route.by_mark(marked))
            }
            StageSpec::Filter(filter) => {
                let compiled = self.filter(filter).map_err(|error| CompileError::Filter {
                    pipeline: pipeline.to_owned(),
                    stage: label.to_owned(),
                    error,
                })?;
                let state = with.states.get(label).cloned();
                let stage = Filter::new(compiled, state, with.ports.clone());
                AnyStage::Filter(match of.layer() {
                    Layer::L2 => stage.on_frames(),
                    Layer::L3 => stage,
                })
            }
            StageSpec::Nat(nat) => AnyStage::Nat(self.nat(label, nat, tracked)?),
            StageSpec::Track(track) => {
                // Whichever table: all have the host's own addresses.
                let own = Own::of(with.fibs.values().next().cloned());
                AnyStage::Track(Track::new(self.flows(label, track)?, track.rules(with.workers)).at(own))
            }
            StageSpec::Police(police) => {
                let shaper = police.adaptive().and_then(|(_, shaper)| self.meters.get(shaper).cloned());
                let hash_key = with.hash_key.clone();
                let state = self.meters.get(label).cloned();
                let stage = state.and_then(|state| {
                    police.stage(state, shaper.into_iter().collect(), with.workers, hash_key)
                });
                AnyStage::Police(stage.ok_or_else(|| self.no_state(pipeline, label))?)
            }
            StageSpec::Shape(shape) => {
                let state = self.meters.get(label).cloned();
                let stage = state.and_then(|state| shape.stage(state, with.workers, with.hash_key.clone()));
                AnyStage::Shape(stage.ok_or_else(|| self.no_state(pipeline, label))?)
            }
            StageSpec::Balance(balance) => {
                AnyStage::Balance(Box::new(self.balance(pipeline, label, balance, tracked)?))
            }
            StageSpec::MacSwap => AnyStage::MacSwap(MacSwap),
            StageSpec::Reassemble(reassemble) => {
                let heap = || State::heap(Reassemble::size(reassemble), with.workers);
                let state = with.states.get(label).cloned().unwrap_or_else(heap);
                AnyStage::Reassemble(Reassemble::new(reassemble, state, with.hash_key.clone()))
            }
            StageSpec::Encap(encap) => {
                AnyStage::Encap(Encap::new(encap.clone(), with.ports.clone(), with.hash_key.clone()))
            }
            StageSpec::Decap(decap) => AnyStage::Decap(Decap::new(decap.clone(), with.ports.clone())),
            StageSpec::Vlan(vlan) => AnyStage::Vlan(Vlan::new(*vlan)),
            StageSpec::Mirror(mirror) => {
                let seed = FlowKey::NONE.hash(&with.hash_key);
                AnyStage::Mirror(Mirror::new(mirror, self.state(label, spec), seed))
            }
            // Nothing leaves unsealed where nobody seals.
            StageSpec::WireguardOpen(_) | StageSpec::WireguardSeal(_) => AnyStage::Decide(Decide::DROP),
            StageSpec::Drop => AnyStage::Decide(Decide::DROP),
            StageSpec::Punt => AnyStage::Decide(Decide::PUNT),
        })
    }

    /// A filter by these rules: one that is there already, if any.
    fn filter(&mut self, spec: &FilterSpec) -> Result<Arc<Compiled>, ClassifyError> {
        if let Some(made) = self.filters.iter().find(|made| made.is_of(spec)) {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new(Compiled::new(spec)?);
        self.filters.push(Arc::clone(&made));
        Ok(made)
    }

    fn no_state(&self, pipeline: &str, label: &str) -> CompileError {
        CompileError::NoState { pipeline: pipeline.to_owned(), stage: label.to_owned() }
    }

    fn nat(
        &mut self,
        label: &str,
        spec: &NatSpec,
        tracked: Option<(&str, &TrackSpec)>,
    ) -> Result<Nat, CompileError> {
        let addresses = |port: &PortFacts| port.v4.map(Into::into).into_iter().chain(port.v6.map(Into::into));
        let own: Vec<Vec<IpAddr>> = self.with.ports.iter().map(|port| addresses(port).collect()).collect();
        let ahead = tracked.map_or("", |(label, _)| label).to_owned();
        if self.nats.entry(label.to_owned()).or_insert_with(|| ahead.clone()) != &ahead {
            return Err(CompileError::Nat { stage: label.to_owned(), source: NatError::OtherFlows });
        }
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
