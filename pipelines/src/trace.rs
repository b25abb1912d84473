//! What a packet meets: a snapshot's stages, one after the other, and what each of them says and does.
//!
//! Owns nothing. The stages that run are those of the packet path; but each runs alone, on one packet, and is asked before what
//! it [matches](crate::stage::Stage::explain). It writes what it writes: whoever traces over state that others use gives it a
//! copy. Keeps true: the verdict is that of [`Snapshot::process`].

use crate::snapshot::{MAX_GOTOS, Snapshot};
use crate::stage::{Cx, Stage};
use std::fmt::Write as _;
use zsync_packet::burst::{Burst, Facts};
use zsync_packet::flow::FlowKey;
use zsync_packet::verdict::{DropReason, PipelineId, PortId, Verdict};

/// One stage that the packet met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its pipeline's name.
    pub pipeline: String,
    /// Its label.
    pub stage: String,
    /// What it matched, and knows of the packet.
    pub matched: Vec<String>,
    /// What it changed.
    pub changed: Vec<String>,
    /// What it decided; nothing when it left the packet to the next stage.
    pub verdict: Option<Verdict>,
}

/// All stages that a packet met, and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// In order.
    pub steps: Vec<Step>,
    /// What became of it.
    pub verdict: Verdict,
}

/// Runs the burst's first packet, which came in at `port`, through `snapshot`, and tells of each stage.
pub fn trace(snapshot: &mut Snapshot, port: PortId, burst: &mut Burst, cx: &mut Cx<'_>) -> Trace {
    let mut steps = Vec::new();
    let entry = snapshot.entry.get(usize::from(port.0)).copied().flatten();
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
        _ if entry.is_none() => Verdict::Drop(DropReason::NoPipeline),
        Verdict::Next | Verdict::Goto(_) => Verdict::Drop(DropReason::Undecided),
        decided => decided,
    };
    burst.decide(0, verdict);
    Trace { steps, verdict }
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
        let mut matched = Vec::new();
        placed.stage.explain(burst, 0, cx.now, &mut matched);
        let (facts, key, len) = (*burst.facts(0), *burst.key(0), burst.bytes(0).len());
        let macs = burst.bytes(0).first_chunk::<12>().copied();
        placed.stage.process(burst, cx);
        let mut changed = differences(&facts, burst.facts(0), &key, burst.key(0));
        let now = burst.bytes(0).len();
        if now != len {
            changed.push(format!("length {len} → {now} bytes"));
        }
        if let (Some(was), Some(is)) = (macs, burst.bytes(0).first_chunk::<12>())
            && was != *is
        {
            changed.push(format!("from MAC {} to MAC {}", mac(&is[6..]), mac(&is[..6])));
        }
        let verdict = Some(burst.verdict(0)).filter(|verdict| *verdict != Verdict::Next);
        steps.push(Step {
            pipeline: pipeline.name.clone(),
            stage: placed.label.clone(),
            matched,
            changed,
            verdict,
        });
        if verdict.is_some() {
            return;
        }
    }
}

/// What a stage found out or changed, in words.
fn differences(was: &Facts, is: &Facts, key_was: &FlowKey, key_is: &FlowKey) -> Vec<String> {
    let mut changed = Vec::new();
    if *key_is != *key_was && *key_is != FlowKey::NONE {
        changed.push(format!("{key_is:?}"));
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
