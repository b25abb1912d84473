//! A snapshot: a configuration, compiled for a worker.
//!
//! Immutable as far as the configuration goes; the stages' own allowances and scratch are a worker's, so each worker has
//! a copy of its own. Workers take a new one between two passes: no packet ever sees half of one and half of another.

mod chores;

use crate::stage::{Chore, Cx, Stage};
use crate::stages::balance::Balance;
use crate::stages::decap::Decap;
use crate::stages::decide::Decide;
use crate::stages::encap::Encap;
use crate::stages::filter::Filter;
use crate::stages::inspect::Inspect;
use crate::stages::macswap::MacSwap;
use crate::stages::mirror::Mirror;
use crate::stages::nat::Nat;
use crate::stages::owner::Owner;
use crate::stages::parse::Parse;
use crate::stages::patch::Patch;
use crate::stages::police::Police;
use crate::stages::reassemble::Reassemble;
use crate::stages::route::Route;
use crate::stages::shape::Shape;
use crate::stages::track::Track;
use crate::stages::vlan::Vlan;
use crate::stages::wireguard::open::Open;
use crate::stages::wireguard::seal::Seal;
use crate::vlans::Vlans;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::task::Waker;
use zsync_packet::burst::{BURST, Bits, Burst, Facts};
use zsync_packet::verdict::{DropReason, PipelineId, PortId, Verdict};

/// Pipelines that one packet may run through, by gotos, before it is dropped as going round in circles.
pub const MAX_GOTOS: usize = 8;
/// Stages in all, over all pipelines: what the counters have room for.
pub const MAX_STAGES: usize = 64;

/// What the stages must know of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortFacts {
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Longest IP packet that it sends, in bytes.
    pub mtu: u32,
    /// The IPv4 address that packets of its own come from, if it has one.
    pub v4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub v6: Option<Ipv6Addr>,
    /// Its peer is a local stack, which leaves checksums unfinished: see [`crate::stages::partial`].
    pub complete_checksums: bool,
    /// What comes by it, the host itself has sent, perhaps from the port's own address: a TUN or TAP device. What
    /// goes to the host is addressed to `mac`, which is the address of its end.
    pub of_host: bool,
}

/// Any stage: closed, so that a call is one branch per burst.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "there are a few in all, and a box would be a miss per burst")]
pub enum AnyStage {
    /// Validity, and where the headers are.
    Parse(Parse),
    /// What the IP packets in bridged frames are.
    Inspect(Inspect),
    /// By the kernel's routes.
    Route(Route),
    /// Flows to virtual addresses, spread over backends.
    Balance(Box<Balance>),
    /// Translation of addresses and ports.
    Nat(Nat),
    /// Which connection a packet belongs to.
    Track(Track),
    /// Whose flow it is of.
    Owner(Owner),
    /// A wire.
    Patch(Patch),
    /// Source and destination change places.
    MacSwap(MacSwap),
    /// Fragments as their first one.
    Reassemble(Reassemble),
    /// Into a tunnel.
    Encap(Encap),
    /// Out of a tunnel.
    Decap(Decap),
    /// Tags.
    Vlan(Vlan),
    /// Copies.
    Mirror(Mirror),
    /// Rules decide which packets go on.
    Filter(Filter),
    /// The same verdict for all.
    Decide(Decide),
    /// Drops or marks what is beyond a rate.
    Police(Police),
    /// Lets what is beyond a rate wait.
    Shape(Shape),
    /// Out of WireGuard.
    WireguardOpen(Open),
    /// Into WireGuard.
    WireguardSeal(Seal),
}

/// The same call, whichever stage it is.
macro_rules! each {
    ($self:ident, $stage:ident => $call:expr) => {
        match $self {
            AnyStage::Parse($stage) => $call,
            AnyStage::Inspect($stage) => $call,
            AnyStage::Route($stage) => $call,
            AnyStage::Balance($stage) => $call,
            AnyStage::Nat($stage) => $call,
            AnyStage::Track($stage) => $call,
            AnyStage::Owner($stage) => $call,
            AnyStage::Patch($stage) => $call,
            AnyStage::MacSwap($stage) => $call,
            AnyStage::Reassemble($stage) => $call,
            AnyStage::Encap($stage) => $call,
            AnyStage::Decap($stage) => $call,
            AnyStage::Vlan($stage) => $call,
            AnyStage::Mirror($stage) => $call,
            AnyStage::Filter($stage) => $call,
            AnyStage::Decide($stage) => $call,
            AnyStage::Police($stage) => $call,
            AnyStage::Shape($stage) => $call,
            AnyStage::WireguardOpen($stage) => $call,
            AnyStage::WireguardSeal($stage) => $call,
        }
    };
}

impl Stage for AnyStage {
    #[inline]
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        each!(self, stage => stage.process(burst, cx));
    }

    fn settle(&mut self, burst: &Burst) {
        each!(self, stage => stage.settle(burst));
    }

    fn assign(&mut self, worker: usize) {
        each!(self, stage => stage.assign(worker));
    }

    fn chore(&self) -> Option<Chore> {
        each!(self, stage => stage.chore())
    }

    fn wake_with(&mut self, waker: &Waker) {
        each!(self, stage => stage.wake_with(waker));
    }

    fn tend(&mut self, now: u64) -> bool {
        each!(self, stage => stage.tend(now))
    }

    fn emit(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) -> bool {
        each!(self, stage => stage.emit(burst, cx))
    }

    fn explain(&self, burst: &Burst, i: usize, now: u64, out: &mut Vec<String>) {
        each!(self, stage => stage.explain(burst, i, now, out));
    }
}

/// A stage in its place.
#[derive(Clone, Debug)]
pub struct Placed {
    /// What the configuration calls it.
    pub label: String,
    /// Its number among all stages: the index of its counters.
    pub number: usize,
    /// The stage.
    pub stage: AnyStage,
}

/// A list of stages.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// What the configuration calls it.
    pub name: String,
    /// In the order that packets take.
    pub stages: Vec<Placed>,
}

/// Packets that a stage saw, and dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageCount {
    /// Undecided packets that reached it.
    pub packets: u64,
    /// Of these, dropped by it.
    pub drops: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its number: counts up with every change of what workers see.
    pub epoch: u64,
    /// By [`PipelineId`].
    pub pipelines: Vec<Pipeline>,
    /// The pipeline that each port's packets enter, by port number.
    pub entry: Vec<Option<PipelineId>>,
    /// The ports that are VLANs of others.
    pub vlans: Vlans,
}

impl Snapshot {
    /// A snapshot that drops everything, for a worker that has none yet.
    pub fn empty() -> Self {
        Self { epoch: 0, pipelines: Vec::new(), entry: Vec::new(), vlans: Vlans::default() }
    }

    /// Runs a burst, all of whose packets came in at `port`, through its pipelines. No packet is undecided afterwards.
    pub fn process(
        &mut self,
        port: PortId,
        burst: &mut Burst,
        cx: &mut Cx<'_>,
        counts: &mut [StageCount; MAX_STAGES],
    ) {
        if self.vlans.receive(port, burst) {
            self.process_mixed(burst, cx, counts);
        } else {
            self.enter(port, burst, cx, counts);
        }
        self.vlans.transmit(burst, cx);
    }

    #[inline]
    fn enter(
        &mut self,
        port: PortId,
        burst: &mut Burst,
        cx: &mut Cx<'_>,
        counts: &mut [StageCount; MAX_STAGES],
    ) {
        let Some(&Some(entry)) = self.entry.get(usize::from(port.0)) else {
            burst.decide_all(Verdict::Drop(DropReason::NoPipeline));
            return;
        };
        self.run(entry, 0, burst, cx, counts);
        self.finish(burst, cx, counts);
    }

    /// Follows the gotos, and lets every stage hear what became of the packets.
    fn finish(&mut self, burst: &mut Burst, cx: &mut Cx<'_>, counts: &mut [StageCount; MAX_STAGES]) {
        // Rounds, and not gotos, are counted: the packets of a burst may well go to more pipelines than one may run through.
        for round in 1.. {
            let mut waiting = gotos(burst);
            if waiting == 0 {
                break;
            }
            while let Some((to, mask)) = next_goto(burst, waiting) {
                waiting &= !mask;
                for i in Bits(mask) {
                    let next =
                        if round > MAX_GOTOS { Verdict::Drop(DropReason::Undecided) } else { Verdict::Next };
                    burst.decide(i, next);
                }
                self.run(to, 0, burst, cx, counts);
            }
        }
        for placed in self.pipelines.iter_mut().flat_map(|pipeline| &mut pipeline.stages) {
            placed.stage.settle(burst);
        }
    }

    /// As [`Self::process`], for packets that came in at different ports.
    pub fn process_mixed(
        &mut self,
        burst: &mut Burst,
        cx: &mut Cx<'_>,
        counts: &mut [StageCount; MAX_STAGES],
    ) {
        while let Some(first) = burst.undecided().next() {
            let port = burst.port(first);
            let same = burst.undecided().filter(|&i| burst.port(i) == port);
            let mask = same.fold(0, |mask, i| mask | 1 << i);
            burst.narrow(mask);
            self.process(port, burst, cx, counts);
            // Now every one of them is decided, and the others come back into sight.
            burst.widen();
        }
    }

    /// As [`Self::process`], for packets that another worker has sent: those that have a stage's number in `behind`, by their
    /// place, go on behind that stage. The numbers are of this very snapshot.
    pub fn resume(
        &mut self,
        behind: &[Option<u8>; BURST],
        burst: &mut Burst,
        cx: &mut Cx<'_>,
        counts: &mut [StageCount; MAX_STAGES],
    ) {
        let of = |i: usize| behind.get(i).copied().flatten();
        let mask = |packets: Bits, number: Option<u8>| {
            packets.filter(|&i| of(i) == number).fold(0u64, |mask, i| mask | 1 << i)
        };
        let mut waiting = burst.live() & !mask(burst.undecided(), None);
        while let Some(number) = Bits(waiting).next().and_then(of) {
            let same = mask(Bits(waiting), Some(number));
            waiting &= !same;
            burst.narrow(same);
            let place = self.pipelines.iter().enumerate().find_map(|(id, pipeline)| {
                let at = pipeline.stages.iter().position(|placed| placed.number == usize::from(number))?;
                Some((PipelineId(id as u16), at + 1))
            });
            match place {
                Some((pipeline, from)) => {
                    self.know_answers(pipeline, burst, cx);
                    self.run(pipeline, from, burst, cx, counts);
                    self.finish(burst, cx, counts);
                }
                None => burst.decide_all(Verdict::Drop(DropReason::Undecided)),
            }
            // The others come back into sight.
            burst.widen();
        }
        self.process_mixed(burst, cx, counts);
        self.vlans.transmit(burst, cx);
    }

    /// An answer that goes back into a tunnel is a packet of its own from here on: it is parsed like any other.
    fn know_answers(&mut self, pipeline: PipelineId, burst: &mut Burst, cx: &mut Cx<'_>) {
        let mut any = false;
        for i in burst.undecided() {
            if burst.facts(i).answered {
                *burst.facts_mut(i) = Facts::default();
                any = true;
            }
        }
        let pipeline = self.pipelines.get_mut(usize::from(pipeline.0)).filter(|_| any);
        for placed in pipeline.into_iter().flat_map(|pipeline| &mut pipeline.stages) {
            if let AnyStage::Parse(parse) = &mut placed.stage {
                // What is known already stays as it is.
                return parse.process(burst, cx);
            }
        }
    }

    /// Makes it worker `worker`'s: see [`Stage::assign`].
    pub fn assign(&mut self, worker: usize) {
        for placed in self.pipelines.iter_mut().flat_map(|pipeline| &mut pipeline.stages) {
            placed.stage.assign(worker);
        }
    }

    /// Runs the undecided packets through a pipeline, from its stage `from` on.
    #[inline]
    fn run(
        &mut self,
        pipeline: PipelineId,
        from: usize,
        burst: &mut Burst,
        cx: &mut Cx<'_>,
        counts: &mut [StageCount; MAX_STAGES],
    ) {
        if let Some(pipeline) = self.pipelines.get_mut(usize::from(pipeline.0)) {
            for placed in pipeline.stages.iter_mut().skip(from) {
                let before = burst.live();
                if before == 0 {
                    break;
                }
                placed.stage.process(burst, cx);
                if burst.live() == 0 {
                    burst.agree();
                }
                let decided = before & !burst.live();
                if let Some(count) = counts.get_mut(placed.number) {
                    count.packets += u64::from(before.count_ones());
                    count.drops += u64::from(burst.drops(decided));
                }
            }
        }
        burst.decide_all(Verdict::Drop(DropReason::Undecided));
    }
}

/// The packets that want to go to another pipeline.
fn gotos(burst: &Burst) -> u64 {
    if burst.unanimous().is_some_and(|verdict| !matches!(verdict, Verdict::Goto(_))) {
        return 0;
    }
    let wants = |i: &usize| matches!(burst.verdict(*i), Verdict::Goto(_));
    (0..burst.len()).filter(wants).fold(0, |mask, i| mask | 1 << i)
}

/// The pipeline that the first of the `waiting` packets wants, and all of these that want the same.
fn next_goto(burst: &Burst, waiting: u64) -> Option<(PipelineId, u64)> {
    let wanted = |i| match burst.verdict(i) {
        Verdict::Goto(to) => Some(to),
        _ => None,
    };
    let to = Bits(waiting).find_map(wanted)?;
    let mask = Bits(waiting).filter(|&i| wanted(i) == Some(to)).fold(0, |mask, i| mask | 1 << i);
    Some((to, mask))
}

#[cfg(test)]
mod tests;
