//! Which stages a pipeline has when it runs: those that the configuration names, and those that they need.
//!
//! ```text
//!   parse │ reassemble │ stages that need no state … │ owner │ track │ the others, in the order of the configuration
//! ```
//!
//! Owns the order. Keeps true: what looks at IP has a `parse` ahead, what looks at the transport a `reassemble`; the packets of
//! one flow come to one worker before anything is kept of it; whoever asks for a connection's state stands behind `track`,
//! also where the configuration names it later: a filter may well stand first in the list.

use crate::spec::{Layer, Pipeline, Spec, StageSpec, bare};

/// What stands in a place of a running pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work<'s> {
    /// Validity, and where the headers are.
    Parse,
    /// Packets of flows that another worker owns go there.
    Owner,
    /// A stage of the configuration, or one with its defaults.
    Stage(&'s StageSpec),
}

/// A place of a running pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'s> {
    /// What counters and memory are known by.
    pub label: &'s str,
    /// What is done there.
    pub work: Work<'s>,
}

/// The places of each pipeline, in order. `workers`: how many there are.
pub fn plan(spec: &Spec, workers: usize) -> Vec<Vec<Place<'_>>> {
    spec.pipelines.iter().map(|pipeline| places(pipeline, workers)).collect()
}

fn places(pipeline: &Pipeline, workers: usize) -> Vec<Place<'_>> {
    let mut places = Vec::new();
    if pipeline.layer() == Layer::L3 {
        places.push(Place { label: "parse", work: Work::Parse });
    }
    let stages: Vec<Place<'_>> = pipeline
        .stages
        .iter()
        .map(|stage| Place { label: &stage.label, work: Work::Stage(&stage.spec) })
        .collect();
    let is = |place: &Place<'_>, what: fn(&StageSpec) -> bool| match place.work {
        Work::Stage(spec) => what(spec),
        Work::Parse | Work::Owner => false,
    };
    let has = |what: fn(&StageSpec) -> bool| stages.iter().any(|place| is(place, what));
    let added = |label| bare(label).map(|spec| Place { label, work: Work::Stage(spec) });
    let named = stages.iter().find(|place| is(place, StageSpec::is_track)).copied();
    let track = named.or_else(|| added("track").filter(|_| has(StageSpec::wants_states)));
    // Where the first packet must be with the owner of its flow, and where its connection's state must be known.
    let owner = stages
        .iter()
        .position(|place| is(place, StageSpec::keeps_flows) || is(place, StageSpec::wants_states));
    let tracked =
        stages.iter().position(|place| is(place, StageSpec::is_track) || is(place, StageSpec::wants_states));
    for (n, place) in stages.iter().enumerate() {
        if owner == Some(n) && workers > 1 {
            places.push(Place { label: "owner", work: Work::Owner });
        }
        if tracked == Some(n) {
            places.extend(track);
        }
        if !is(place, StageSpec::is_track) {
            places.push(*place);
        }
    }
    places
}
