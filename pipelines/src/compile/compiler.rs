//! One snapshot on its way: each stage made of its words, and what several of them share made once.

use super::*;

pub(super) struct Compiler<'w> {
    pub(super) spec: &'w Spec,
    pub(super) with: &'w Resources,
    pub(super) deep: bool,
    /// The stage that tracks flows, when there is one.
    pub(super) only: Option<(&'w str, &'w TrackSpec)>,
    /// One for each label, whichever pipelines name it.
    pub(super) flows: BTreeMap<String, Shards>,
    /// The label of the `track` stage ahead of each `nat` stage.
    pub(super) nats: BTreeMap<String, String>,
    /// What all workers share of the meters, by label.
    pub(super) meters: BTreeMap<String, Region>,
    /// Those that are made already.
    pub(super) filters: Vec<Arc<Compiled>>,
    /// By section's name; and those of the snapshot before.
    pub(super) tunnels: BTreeMap<String, Tunnel>,
    pub(super) before: BTreeMap<String, Tunnel>,
    /// Those that have a stage which speaks for them.
    pub(super) speaking: BTreeSet<String>,
    /// By tunnel, the stage behind which answers go into it.
    pub(super) sealing: BTreeMap<String, u8>,
}

impl Compiler<'_> {
    /// The stage `label` of `pipeline`; `tracked`: what tracks the flows there; `ahead`: the number of the stage ahead.
    pub(super) fn stage(
        &mut self,
        of: &spec::Pipeline,
        label: &str,
        spec: &StageSpec,
        tracked: Option<(&str, &TrackSpec)>,
        ahead: u8,
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
            StageSpec::WireguardOpen(spec) => {
                let tunnel = self.tunnel(pipeline, label, spec)?;
                let answers = self.sealing.get(&spec.name).copied();
                AnyStage::WireguardOpen(Open::new(tunnel, with.ports.clone(), ahead, answers))
            }
            StageSpec::WireguardSeal(spec) => {
                let tunnel = self.tunnel(pipeline, label, spec)?;
                // The first of them says what the tunnel has to say.
                let speaks = self.speaking.insert(spec.name.clone());
                let port = of.inputs.first().filter(|_| speaks).map(|port| PortId(port.0));
                AnyStage::WireguardSeal(Seal::new(tunnel, with.ports.clone(), ahead, port))
            }
            StageSpec::Drop => AnyStage::Decide(Decide::DROP),
            StageSpec::Punt => AnyStage::Decide(Decide::PUNT),
        })
    }

    /// The tunnel of a section, which all its stages share.
    fn tunnel(&mut self, pipeline: &str, stage: &str, spec: &WireguardSpec) -> Result<Tunnel, CompileError> {
        if let Some(tunnel) = self.tunnels.get(&spec.name) {
            return Ok(tunnel.clone());
        }
        let with = self.with;
        let refused = |source| CompileError::Wireguard {
            pipeline: pipeline.to_owned(),
            stage: stage.to_owned(),
            source,
        };
        let heap = || Some(Region::heap(Book::bytes(spec.max_peers)));
        let memory = match with.states.get(&spec.label()) {
            Some(state) => state.shared(),
            None => heap(),
        };
        let with = With {
            memory: memory.ok_or_else(|| self.no_state(pipeline, stage))?,
            workers: with.workers,
            hash_key: with.hash_key.clone(),
            ports: with.ports.clone(),
            // Whichever table: all have the host's own addresses; the main one has the way to the peers.
            fib: with.fibs.get(&MAIN_TABLE).or_else(|| with.fibs.values().next()).cloned(),
        };
        let settings = settings(spec, self.spec).ok_or_else(|| refused(TunnelError::NoKey))?;
        let tunnel = Tunnel::new(settings, with, self.before.get(&spec.name)).map_err(refused)?;
        self.tunnels.insert(spec.name.clone(), tunnel.clone());
        Ok(tunnel)
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
