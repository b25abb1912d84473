//! From a configuration to a snapshot.
//!
//! The configuration is checked already (see [`crate::spec`]); what can still be wrong is what it was compiled with. Adds a
//! `parse` stage ahead of the first stage that works on IP.

mod compiler;

use crate::plan::{Place, Work, plan};
use crate::snapshot::{AnyStage, MAX_STAGES, Pipeline, Placed, PortFacts, Snapshot};
use crate::spec::balance::BalanceSpec;
use crate::spec::wireguard::{PeerSpec, WireguardSpec};
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
use crate::stages::wireguard::open::Open;
use crate::stages::wireguard::seal::Seal;
use crate::stages::wireguard::{Settings, Tunnel, TunnelError, With};
use crate::state::{self, State};
use crate::tables::classify::ClassifyError;
use crate::tables::fib::Fib;
use crate::tables::flow::{OpenError, Shards};
use crate::vlans::Vlans;
use compiler::Compiler;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::region::Region;
use zsync_packet::verdict::{PipelineId, PortId};
use zsync_wireguard::book::{Book, Peer};
use zsync_wireguard::key::{KEY_LEN, Secret};

/// The kernel's number of the main routing table (RT_TABLE_MAIN).
const MAIN_TABLE: u32 = 254;

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
    /// A stage of WireGuard without what it needs.
    #[error("pipeline {pipeline}, stage {stage}: {source}")]
    Wireguard {
        /// The pipeline's name.
        pipeline: String,
        /// The stage's label.
        stage: String,
        /// What is wrong with it.
        source: TunnelError,
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
        spec,
        with,
        deep: spec.is_deep(),
        only: only_tracked(&plan),
        flows: BTreeMap::new(),
        nats: BTreeMap::new(),
        meters: meters(spec, with),
        filters: before.map(filters).unwrap_or_default(),
        tunnels: BTreeMap::new(),
        before: before.map(tunnels).unwrap_or_default(),
        speaking: BTreeSet::new(),
        sealing: sealing(&plan),
    };
    let mut entry = vec![None; spec.port_count()];
    let mut pipelines = Vec::new();
    let mut number = 0usize;
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
                Work::Stage(stage) => {
                    // There are fewer than 2⁸, and `parse` is ahead of all that ask.
                    let ahead = number.saturating_sub(1) as u8;
                    compiler.stage(pipeline, place.label, stage, tracked, ahead)?
                }
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

/// By tunnel, the number of the stage ahead of the first one that seals: `parse` is ahead of all of them.
fn sealing(plan: &[Vec<Place<'_>>]) -> BTreeMap<String, u8> {
    let mut sealing = BTreeMap::new();
    for (number, place) in plan.iter().flatten().enumerate() {
        if let Work::Stage(StageSpec::WireguardSeal(spec)) = place.work
            && let Some(ahead) = number.checked_sub(1).and_then(|ahead| u8::try_from(ahead).ok())
        {
            sealing.entry(spec.name.clone()).or_insert(ahead);
        }
    }
    sealing
}

/// What a section says, with the keys that its files have; `None`: they were not read.
fn settings(spec: &WireguardSpec, whole: &Spec) -> Option<Settings> {
    let peer = |peer: &PeerSpec| {
        let preshared = match &peer.preshared {
            Some(file) => file.secret.clone()?,
            None => Secret::new([0; KEY_LEN]),
        };
        let known = Peer {
            public: peer.public_key,
            preshared,
            endpoint: peer.endpoint,
            keepalive: u64::from(peer.keepalive) * 1_000_000_000,
        };
        Some((known, peer.allowed_ips.clone()))
    };
    Some(Settings {
        private: spec.private_key.secret.clone()?,
        port: spec.listen_port,
        local: spec.hears_at(whole),
        to: spec.to.map(|port| PortId(port.0)),
        mtu: usize::from(spec.mtu),
        dscp: spec.dscp,
        slots: spec.max_peers,
        peers: spec.peers.iter().map(peer).collect::<Option<_>>()?,
    })
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

/// The tunnels of a snapshot, by their sections' names.
fn tunnels(snapshot: &Snapshot) -> BTreeMap<String, Tunnel> {
    let stages = snapshot.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    let tunnel = |placed: &Placed| {
        let name = placed.label.split_once('.')?.1.to_owned();
        match &placed.stage {
            AnyStage::WireguardOpen(stage) => Some((name, stage.tunnel().clone())),
            AnyStage::WireguardSeal(stage) => Some((name, stage.tunnel().clone())),
            _ => None,
        }
    };
    stages.filter_map(tunnel).collect()
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
