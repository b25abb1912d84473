//! A filter's rules as its workers need them: a classifier, and what each rule does.
//!
//! Immutable and shared by all workers. Keeps true: a rule's action has the rule's place.

use std::sync::Arc;

use zsync_packet::verdict::{DropReason, PipelineId, Verdict};

use crate::spec::{FilterAction, FilterAddresses, FilterRule, FilterSpec, FilterVlan};
use crate::tables::classify::{
    Addresses, Classifier, ClassifyError, Masked, Ports, PrefixSet, Rule, States, Vlan,
};

/// See the module.
#[derive(Debug)]
pub struct Compiled {
    pub(super) classifier: Classifier,
    pub(super) actions: Vec<Action>,
    pub(super) default: Action,
    /// By state: the place of the rule that decides, when all rules up to it ask for nothing but states.
    pub(super) by_state: [Option<u32>; 8],
    /// Whether any state has one.
    pub(super) decides_by_state: bool,
    /// What becomes of bridged frames that are no IP.
    pub(super) drops_non_ip: bool,
    pub(super) samples: usize,
    pub(super) counters: Vec<String>,
    spec: FilterSpec,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Action {
    pub(super) end: End,
    pub(super) count: Option<u16>,
    pub(super) mark: Option<(u32, u32)>,
    pub(super) sample: Option<Sample>,
}

/// How a rule leaves the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Next,
    Accept,
    Decide(Verdict),
    Reject,
}

/// One in so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) one_in: u32,
    /// Among the rules that sample.
    pub(super) place: u16,
}

impl Compiled {
    /// Compiles a filter.
    ///
    /// # Errors
    /// The rules need more than there is room for.
    pub fn new(spec: &FilterSpec) -> Result<Self, ClassifyError> {
        let sets: Vec<Arc<PrefixSet>> =
            spec.sets.iter().map(|set| Arc::new(PrefixSet::new(set.all()))).collect();
        let rules: Vec<Rule> = spec.rules.iter().map(rule).collect();
        let classifier = Classifier::compile(&rules, &sets)?;
        let mut samples = 0;
        let mut action = |rule: &FilterRule| {
            let sample = rule.sample.filter(|one_in| *one_in > 1).map(|one_in| {
                samples += 1;
                // Rules beyond that share their turns.
                Sample { one_in, place: (samples - 1).min(usize::from(u16::MAX)) as u16 }
            });
            Action { end: end(rule.action), count: rule.count, mark: rule.mark, sample }
        };
        let actions = spec.rules.iter().map(&mut action).collect();
        let by_state = by_state(&rules);
        Ok(Self {
            classifier,
            actions,
            default: Action { end: end(Some(spec.default)), count: None, mark: None, sample: None },
            by_state,
            decides_by_state: by_state.iter().any(Option::is_some),
            drops_non_ip: spec.drops_non_ip,
            samples,
            counters: spec.counters.clone(),
            spec: spec.clone(),
        })
    }

    /// Whether it was compiled from this.
    pub fn is_of(&self, spec: &FilterSpec) -> bool {
        self.spec == *spec
    }

    /// The rules that no packet meets, and an earlier one that takes all of its packets: places. See
    /// [`Classifier::covered`].
    pub fn covered(&self) -> Vec<(usize, usize)> {
        let rules: Vec<Rule> = self.spec.rules.iter().map(rule).collect();
        self.classifier.covered(&rules)
    }

    /// The text of the rule at this place.
    pub(super) fn text(&self, place: usize) -> String {
        self.spec.rules.get(place).map_or_else(String::new, |rule| self.spec.plain_text(rule))
    }

    pub(super) fn default_text(&self) -> &'static str {
        match self.default.end {
            End::Accept | End::Next => "accept",
            End::Reject => "reject",
            End::Decide(_) => "drop",
        }
    }
}

fn end(action: Option<FilterAction>) -> End {
    match action {
        None => End::Next,
        Some(FilterAction::Accept) => End::Accept,
        Some(FilterAction::Drop) => End::Decide(Verdict::Drop(DropReason::Filtered)),
        Some(FilterAction::Reject) => End::Reject,
        Some(FilterAction::Goto(pipeline)) => End::Decide(Verdict::Goto(PipelineId(pipeline))),
    }
}

/// The place of the rule that decides for each state, as far as the first rules ask for states alone.
fn by_state(rules: &[Rule]) -> [Option<u32>; 8] {
    let mut by_state = [None; 8];
    for (place, rule) in rules.iter().enumerate() {
        let plain = Rule { states: rule.states, ..Rule::default() };
        if *rule != plain || !rule.ends {
            break;
        }
        for (state, decided) in by_state.iter_mut().enumerate().take(5) {
            if decided.is_none() && rule.states.0 >> state & 1 == 1 {
                *decided = Some(place as u32);
            }
        }
    }
    by_state
}

/// What a rule of the configuration asks for.
pub(super) fn rule(spec: &FilterRule) -> Rule {
    let addresses = |addresses: &FilterAddresses| match addresses {
        FilterAddresses::Any => Addresses::Any,
        FilterAddresses::In(prefixes) => Addresses::In(prefixes.clone()),
        FilterAddresses::Set(set) => Addresses::Set(usize::from(*set)),
    };
    let ports = |ports: &[(u16, u16)]| {
        ports.iter().map(|(first, last)| Ports { first: *first, last: *last }).collect()
    };
    Rule {
        v4: spec.family != Some(6),
        v6: spec.family != Some(4),
        from: addresses(&spec.from),
        to: addresses(&spec.to),
        from_ports: ports(&spec.from_port),
        to_ports: ports(&spec.to_port),
        protocols: spec.protocol.clone(),
        icmp: spec.icmp,
        tcp_flags: spec.flags.map_or_else(Masked::default, |(value, mask)| Masked { value, mask }),
        dscp: spec.dscp.clone(),
        vlan: spec
            .vlan
            .iter()
            .map(|vlan| match vlan {
                FilterVlan::None => Vlan::Untagged,
                FilterVlan::Any => Vlan::Tagged,
                FilterVlan::Id(id) => Vlan::Id(*id),
            })
            .collect(),
        mark: spec.marked.map_or_else(Masked::default, |(value, mask)| Masked { value, mask }),
        fragments: if spec.fragment == 0 { 0b111 } else { spec.fragment },
        states: if spec.state == 0 { States::ALL } else { States(spec.state) },
        inputs: spec.input.iter().map(|input| input.0).collect(),
        ends: spec.action.is_some() && spec.sample.is_none_or(|one_in| one_in <= 1),
    }
}
