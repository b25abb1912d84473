//! What a packet meets: a snapshot's stages, one after the other, and what each of them says and does.
//!
//! Owns nothing. The stages that run are those of the packet path; but each runs alone, on one packet, and is asked before what
//! it [matches](crate::stage::Stage::explain). It writes what it writes: whoever traces over state that others use gives it a
//! copy. Keeps true: the verdict is that of [`Snapshot::process`], and what stages keep afterwards is what they keep after it.

pub mod describe;
pub mod text;

use crate::snapshot::{MAX_GOTOS, Snapshot};
use crate::stage::{Cx, Stage};
use describe::describe;
use std::fmt::Write as _;
use zsync_packet::burst::{Burst, Facts};
use zsync_packet::flow::FlowKey;
use zsync_packet::verdict::{DropReason, PipelineId, PortId, Verdict};

/// Where a packet is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It comes in at this port: which is where VLANs that are ports are told apart.
    In(PortId),
    /// In the pipeline of that name.
    Pipeline(String),
    /// It is to leave by this port: which is where the tags of such VLANs are put on.
    Out(PortId),
}

/// One stage that the packet met, or a port that it passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where.
    pub place: Place,
    /// The stage's label; of a port what happens there.
    pub stage: String,
    /// What it matched, and knows of the packet.
    pub matched: Vec<String>,
    /// What it changed.
    pub changed: Vec<String>,
    /// The packets that it made: what each is, and what becomes of it.
    pub made: Vec<(String, Verdict)>,
    /// What it decided; nothing when it left the packet to the next stage.
    pub verdict: Option<Verdict>,
}

/// All stages that a packet met, and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// In order.
    pub steps: Vec<Step>,
    /// The port that it came in at, at last: that of a VLAN, perhaps.
    pub port: PortId,
    /// What became of it.
    pub verdict: Verdict,
}

/// Runs the burst's first packet, which came in at `port`, through `snapshot`, and tells of each stage.
pub fn trace(snapshot: &mut Snapshot, port: PortId, burst: &mut Burst, cx: &mut Cx<'_>) -> Trace {
    let mut steps = vec![arrive(snapshot, port, burst)];
    let port = burst.port(0);
    let came = burst.verdict(0) == Verdict::Next;
    let entry = snapshot.entry.get(usize::from(port.0)).copied().flatten().filter(|_| came);
    let mut next = entry;
    for _ in 0..=MAX_GOTOS {
        let Some(pipeline) = next.take() else { break };
        burst.decide(0, Verdict::Next);
        follow(snapshot, pipeline, burst, cx, &mut steps);
        match burst.verdict(0) {
            Verdict::Goto(to) => next = Some(to),
            _ => break,
        }
    }
    let verdict = match burst.verdict(0) {
        refused if !came => refused,
        _ if entry.is_none() => Verdict::Drop(DropReason::NoPipeline),
        Verdict::Next | Verdict::Goto(_) => Verdict::Drop(DropReason::Undecided),
        decided => decided,
    };
    burst.decide(0, verdict);
    // What has come back into the burst beside it is no longer asked about.
    for i in 1..burst.len() {
        if burst.verdict(i) == Verdict::Next {
            burst.decide(i, Verdict::Drop(DropReason::Undecided));
        }
    }
    burst.agree();
    for placed in snapshot.pipelines.iter_mut().flat_map(|pipeline| &mut pipeline.stages) {
        placed.stage.settle(burst);
    }
    if let Verdict::Transmit(output) = verdict {
        steps.push(leave(snapshot, output, burst, cx));
    }
    Trace { steps, port, verdict: burst.verdict(0) }
}

/// The packet comes in, and is sorted by its tag where VLANs are ports.
fn arrive(snapshot: &Snapshot, port: PortId, burst: &mut Burst) -> Step {
    let mut step = Step::at(Place::In(port), "arrives");
    step.matched.push(describe(burst.bytes(0)));
    let mut at = port;
    while snapshot.vlans.is_parent(at) {
        snapshot.vlans.explain(at, burst.bytes(0), &mut step.matched);
        let len = burst.bytes(0).len();
        let moved = snapshot.vlans.receive(at, burst);
        if burst.bytes(0).len() != len {
            step.changed.push(describe(burst.bytes(0)));
        }
        if !moved {
            break;
        }
        at = burst.port(0);
    }
    step.verdict = Some(burst.verdict(0)).filter(|verdict| *verdict != Verdict::Next);
    step
}

/// The packet leaves, with the tags of the VLANs that its port is one of.
fn leave(snapshot: &Snapshot, port: PortId, burst: &mut Burst, cx: &mut Cx<'_>) -> Step {
    let mut step = Step::at(Place::Out(port), "leaves");
    let len = burst.bytes(0).len();
    snapshot.vlans.transmit(burst, cx);
    let words = if burst.bytes(0).len() == len { &mut step.matched } else { &mut step.changed };
    words.push(describe(burst.bytes(0)));
    step.verdict = Some(burst.verdict(0));
    step
}

impl Step {
    fn at(place: Place, stage: &str) -> Self {
        let stage = stage.to_owned();
        Self { place, stage, matched: Vec::new(), changed: Vec::new(), made: Vec::new(), verdict: None }
    }
}

fn follow(
    snapshot: &mut Snapshot,
    pipeline: PipelineId,
    burst: &mut Burst,
    cx: &mut Cx<'_>,
    steps: &mut Vec<Step>,
) {
    let Some(pipeline) = snapshot.pipelines.get_mut(usize::from(pipeline.0)) else { return };
    for placed in &mut pipeline.stages {
        let mut step = Step::at(Place::Pipeline(pipeline.name.clone()), &placed.label);
        placed.stage.explain(burst, 0, cx.now, &mut step.matched);
        let (facts, key, len) = (*burst.facts(0), *burst.key(0), burst.bytes(0).len());
        let (macs, was) = (burst.bytes(0).first_chunk::<12>().copied(), describe(burst.bytes(0)));
        let (beside, made) = (burst.len(), made(cx).len());
        placed.stage.process(burst, cx);
        step.changed = differences(&facts, burst.facts(0), &key, burst.key(0));
        let is = describe(burst.bytes(0));
        if is != was {
            step.changed.push(is);
        }
        let now = burst.bytes(0).len();
        if now != len {
            step.changed.push(format!("length {len} → {now} bytes"));
        }
        if let (Some(was), Some(is)) = (macs, burst.bytes(0).first_chunk::<12>())
            && was != *is
        {
            step.changed.push(format!("from MAC {} to MAC {}", mac(&is[6..]), mac(&is[..6])));
        }
        for i in beside..burst.len() {
            step.changed.push(format!("what waited goes on behind it: {}", describe(burst.bytes(i))));
        }
        step.made = self::made(cx).split_off(made);
        step.verdict = Some(burst.verdict(0)).filter(|verdict| *verdict != Verdict::Next);
        let decided = step.verdict.is_some();
        steps.push(step);
        if decided {
            return;
        }
    }
}

/// All packets that stages made so far.
fn made(cx: &mut Cx<'_>) -> Vec<(String, Verdict)> {
    let mut all = Vec::new();
    cx.each_made(|made, verdict| {
        all.push((describe(made.bytes()), verdict));
        verdict
    });
    all
}
/// What a stage found out or changed, in words.
fn differences(was: &Facts, is: &Facts, key_was: &FlowKey, key_is: &FlowKey) -> Vec<String> {
    let mut changed = Vec::new();
    if *key_is != *key_was && *key_is != FlowKey::NONE {
        changed.push(format!("of the flow {}", describe::flow(key_is)));
    }
    if was.state != is.state {
        changed.push(format!("state {:?}", is.state).to_lowercase());
    }
    if was.mark != is.mark {
        changed.push(format!("mark {:#x} → {:#x}", was.mark, is.mark));
    }
    if was.vlan != is.vlan {
        changed.push(format!("VLAN {} → {}", was.vlan & 0xfff, is.vlan & 0xfff));
    }
    if was.fragment != is.fragment {
        changed.push(format!("a fragment: {:?}", is.fragment).to_lowercase());
    }
    if is.answered && !was.answered {
        changed.push("answered: the packet is the answer now, back to its sender".to_owned());
    }
    if was.delay != is.delay {
        changed.push(format!("leaves {} µs later", is.delay / 1000));
    }
    changed
}

fn mac(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (n, byte) in bytes.iter().enumerate() {
        let _ = write!(text, "{}{byte:02x}", if n > 0 { ":" } else { "" });
    }
    text
}

#[cfg(test)]
mod tests;
