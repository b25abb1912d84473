//! Which stages a pipeline has when it runs: those that the configuration names, and those that they need.
//!
//! ```text
//!   tags, copies │ parse │ reassemble │ stages that need no state … │ owner │ track │ the others, in the order of the configuration
//! ```
//!
//! Owns the order. Keeps true: what looks at IP has a `parse` ahead, on a wire an `inspect`; what looks at the transport a `reassemble`; the packets of
//! one flow come to one worker before anything is kept of it; whoever asks for a connection's state stands behind `track`,
//! also where the configuration names it later: a filter may well stand first in the list.

use crate::spec::{Layer, Pipeline, Spec, StageSpec, bare};

/// What stands in a place of a running pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work<'s> {
    /// Validity, and where the headers are.
    Parse,
    /// Where the headers are of what is IP among bridged frames.
    Inspect,
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
    let stages: Vec<Place<'_>> = pipeline
        .stages
        .iter()
        .map(|stage| Place { label: &stage.label, work: Work::Stage(&stage.spec) })
        .collect();
    let is = |place: &Place<'_>, what: fn(&StageSpec) -> bool| match place.work {
        Work::Stage(spec) => what(spec),
        Work::Parse | Work::Inspect | Work::Owner => false,
    };
    let has = |what: fn(&StageSpec) -> bool| stages.iter().any(|place| is(place, what));
    // Tags come off, and copies are made, ahead of the parser.
    let ahead = stages.iter().take_while(|place| is(place, |spec| spec.layer().is_none())).count();
    // A wire is as fast as it was where nobody on it asks what the frames carry.
    let looks = pipeline.layer() == Layer::L3
        || (stages.get(ahead).is_some_and(|place| is(place, |spec| spec.layer() == Some(Layer::L3)))
            && has(StageSpec::is_deep));
    let added = |label| bare(label).map(|spec| Place { label, work: Work::Stage(spec) });
    let named = stages.iter().find(|place| is(place, StageSpec::is_track)).copied();
    let track = named.or_else(|| added("track").filter(|_| has(StageSpec::wants_states)));
    // Where the first packet must be with the owner of its flow, and where its connection's state must be known.
    let owner = stages
        .iter()
        .position(|place| is(place, StageSpec::keeps_flows) || is(place, StageSpec::wants_states))
        // What counts packets must not see them twice.
        .map(|owner| {
            stages.iter().position(|place| is(place, StageSpec::counts)).map_or(owner, |at| at.min(owner))
        });
    let tracked =
        stages.iter().position(|place| is(place, StageSpec::is_track) || is(place, StageSpec::wants_states));
    for (n, place) in stages.iter().enumerate() {
        if n == ahead && looks {
            places.push(match pipeline.layer() {
                Layer::L3 => Place { label: "parse", work: Work::Parse },
                Layer::L2 => Place { label: "inspect", work: Work::Inspect },
            });
            if has(StageSpec::wants_whole_packets) && !has(|spec| matches!(spec, StageSpec::Reassemble(_))) {
                places.extend(added("reassemble"));
            }
        }
        if owner == Some(n) && workers > 1 {
            places.push(Place { label: "owner", work: Work::Owner });
        }
        if tracked == Some(n) {
            places.extend(track);
        }
        if !is(place, StageSpec::is_track) {
            places.push(*place);
        }
        // What comes out of WireGuard is of other flows than the one that it came in.
        let keeps =
            |place: &Place<'_>| is(place, StageSpec::keeps_flows) || is(place, StageSpec::wants_states);
        let opens = is(place, |spec| matches!(spec, StageSpec::WireguardOpen(_)));
        if opens && workers > 1 && owner.is_some_and(|owner| owner <= n) && stages[n + 1..].iter().any(keeps)
        {
            places.push(Place { label: "owner", work: Work::Owner });
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::parse;

    fn labels(stages: &str, workers: usize) -> Vec<String> {
        let source = format!(
            "[port.a]\nnetdev = \"a\"\n[port.b]\nnetdev = \"b\"\n[pipeline.p]\ninput = [\"a\"]\nstages = [{stages}]\n\
             [vlan.pop]\naction = \"pop\"\n[mirror.m]\nto = \"b\"\n[patch.w]\npairs = {{ a = \"b\" }}\n\
             [filter.f]\n[filter.s]\nrules = [{{ accept = true, state = \"established\" }}]\n[police.p]\nrate = \"1Mbit\"\n\
             [encap.v]\ntunnel = {{ vxlan = 1 }}\nlocal = \"192.0.2.1\"\nremote = \"192.0.2.2\"\n\
             [decap.g]\ntunnel = \"gre\"\nlocal = \"192.0.2.1\"\nremote = \"192.0.2.2\"\n\
             [wireguard.t]\nprivate-key-file = \"/k\"\npeers = []\n"
        );
        let spec = parse(&source, "plan.toml").unwrap().spec;
        plan(&spec, workers).concat().iter().map(|place| place.label.to_owned()).collect()
    }

    #[test]
    fn tags_come_off_and_copies_are_made_ahead_of_the_parser() {
        assert_eq!(labels("\"route\"", 1), ["parse", "route"]);
        let all = labels("\"mirror.m\", \"vlan.pop\", \"route\"", 1);
        assert_eq!(all, ["mirror.m", "vlan.pop", "parse", "route"]);
        assert_eq!(
            labels("\"decap.g\", \"mirror.m\", \"route\"", 1),
            ["parse", "decap.g", "mirror.m", "route"]
        );
    }

    #[test]
    fn frames_that_are_bridged_are_not_parsed() {
        assert_eq!(labels("\"vlan.pop\", \"patch.w\"", 2), ["vlan.pop", "patch.w"]);
        assert_eq!(labels("\"mirror.m\", \"encap.v\", \"route\"", 2), ["mirror.m", "encap.v", "route"]);
    }

    #[test]
    fn frames_on_a_wire_are_inspected_where_somebody_asks_what_they_carry() {
        let all = labels("\"mirror.m\", \"filter.f\", \"patch.w\"", 2);
        assert_eq!(all, ["mirror.m", "inspect", "reassemble", "filter.f", "patch.w"]);
        let all = labels("\"filter.s\", \"patch.w\"", 2);
        assert_eq!(all, ["inspect", "reassemble", "owner", "track", "filter.s", "patch.w"]);
        let all = labels("\"police.p\", \"filter.f\", \"patch.w\"", 1);
        assert_eq!(all, ["inspect", "reassemble", "police.p", "filter.f", "patch.w"]);
        assert_eq!(labels("\"police.p\", \"patch.w\"", 1), ["police.p", "patch.w"]);
        assert_eq!(labels("\"macswap\", \"patch.w\"", 1), ["macswap", "patch.w"]);
    }

    #[test]
    fn what_comes_out_of_wireguard_goes_to_its_own_flows_owner() {
        let all = labels("\"wireguard-open.t\", \"track\", \"route\"", 2);
        assert_eq!(all, ["parse", "reassemble", "wireguard-open.t", "owner", "track", "route"]);
        let all = labels("\"police.p\", \"wireguard-open.t\", \"track\", \"route\"", 2);
        assert_eq!(
            all,
            ["parse", "reassemble", "owner", "police.p", "wireguard-open.t", "owner", "track", "route"]
        );
        let all = labels("\"police.p\", \"wireguard-open.t\", \"route\"", 2);
        assert_eq!(all, ["parse", "police.p", "wireguard-open.t", "route"]);
    }

    #[test]
    fn what_looks_at_ports_sees_fragments_as_their_first_one() {
        assert_eq!(labels("\"track\", \"route\"", 1), ["parse", "reassemble", "track", "route"]);
        assert_eq!(
            labels("\"reassemble\", \"track\", \"route\"", 1),
            ["parse", "reassemble", "track", "route"]
        );
        assert_eq!(labels("\"track\", \"route\"", 2), ["parse", "reassemble", "owner", "track", "route"]);
    }
}
