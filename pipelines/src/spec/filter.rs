//! `[filter.NAME]`: ordered rules, each with what a packet must be and what is then done.
//!
//! Owns the typed rules and their text. A rule asks for nothing that it does not name. One with `accept`, `drop`, `reject` or
//! `goto` ends the list for its packets; one that only counts or marks lets them go on to the next rule. With `sample` a rule
//! is met by one packet in so many of those that it describes. Keeps true: a rule's text parses back to the rule.

mod keys;
mod read;
mod set;
mod words;

pub(crate) use keys::{FILTER, SET};
pub(crate) use read::filter;
pub(crate) use set::set;

use std::fmt::{self, Display, Write as _};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::address::Prefix;
use super::model::{PortId, Spec};

/// A filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterSpec {
    /// In order.
    pub rules: Vec<FilterRule>,
    /// What becomes of packets that no rule ends for.
    pub default: FilterAction,
    /// Whether frames that are no IP are dropped on a wire; else they go on.
    pub drops_non_ip: bool,
    /// The sets that the rules refer to by place.
    pub sets: Vec<FilterSet>,
    /// The counters that the rules refer to by place.
    pub counters: Vec<String>,
}

/// `[set.NAME]`: prefixes that rules share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterSet {
    /// Name in the configuration.
    pub name: String,
    /// Those of the configuration itself, each once.
    pub prefixes: Prefixes,
    /// Those of a file.
    pub file: Option<FilterFile>,
}

/// A file of prefixes, as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterFile {
    /// As it is written: a relative path is seen from the folder of the configuration.
    pub path: String,
    /// What was in it: ascending, each once.
    pub prefixes: Prefixes,
}

impl FilterSet {
    /// All prefixes; some perhaps twice.
    pub fn all(&self) -> impl Iterator<Item = Prefix> {
        let of_file = self.file.iter().flat_map(|file| file.prefixes.iter());
        self.prefixes.iter().chain(of_file).copied()
    }
}

/// Many prefixes, which clones share.
#[derive(Clone, Debug, Default)]
pub struct Prefixes(Arc<Vec<Prefix>>);

impl std::ops::Deref for Prefixes {
    type Target = [Prefix];

    fn deref(&self) -> &[Prefix] {
        &self.0
    }
}

impl From<Vec<Prefix>> for Prefixes {
    fn from(prefixes: Vec<Prefix>) -> Self {
        Self(Arc::new(prefixes))
    }
}

impl PartialEq for Prefixes {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Prefixes {}

impl Serialize for Prefixes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Prefixes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Vec::deserialize(from)?.into())
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FilterAction {
    /// On to the next stage.
    Accept,
    /// Nowhere.
    Drop,
    /// Nowhere, and its sender is told: TCP with a reset, others with an ICMP error.
    Reject,
    /// To another pipeline: its place among them.
    Goto(u16),
}

/// Addresses on one side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FilterAddresses {
    /// All.
    #[default]
    Any,
    /// Those in one of these prefixes, all of the same family, unless the other side asks for none.
    In(Vec<Prefix>),
    /// Those in the set of this place.
    Set(u16),
}

/// A tag that a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FilterVlan {
    /// No tag.
    None,
    /// Any tag.
    Any,
    /// This one: 0..=4095.
    Id(u16),
}

/// One rule. What is empty or absent is not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FilterRule {
    /// 4 or 6: one family alone.
    pub family: Option<u8>,
    /// Source addresses.
    pub from: FilterAddresses,
    /// Destination addresses.
    pub to: FilterAddresses,
    /// Source ports: first and last of each range.
    pub from_port: Vec<(u16, u16)>,
    /// Destination ports.
    pub to_port: Vec<(u16, u16)>,
    /// IP protocol numbers.
    pub protocol: Vec<u8>,
    /// ICMP type, and code.
    pub icmp: Option<(u8, Option<u8>)>,
    /// TCP control bits that count, and what they must be: (value, mask).
    pub flags: Option<(u8, u8)>,
    /// 0..=63.
    pub dscp: Vec<u8>,
    /// The outermost tag.
    pub vlan: Vec<FilterVlan>,
    /// The mark as it is then: (value, mask).
    pub marked: Option<(u32, u32)>,
    /// Whole, first or later fragment: places in `FRAGMENTS`, a bit each; 0 when it does not matter.
    pub fragment: u8,
    /// States: places in `STATES`, a bit each; 0 when it does not matter.
    pub state: u8,
    /// Ports where the packet may have come in.
    pub input: Vec<PortId>,
    /// Met by one packet in this many.
    pub sample: Option<u32>,
    /// The counter, by place.
    pub count: Option<u16>,
    /// The mark's new bits: (value, mask).
    pub mark: Option<(u32, u32)>,
    /// What ends the list; none when the next rule follows.
    pub action: Option<FilterAction>,
}

/// The words for fragments.
pub const FRAGMENTS: &[&str] = &["whole", "first", "later"];
/// The words for states of a connection.
pub const STATES: &[&str] = &["untracked", "new", "established", "related", "invalid"];

/// TCP's control bits, from the lowest.
pub(crate) const FLAGS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

impl FilterSpec {
    /// The places of the pipelines that its rules send packets to, each once.
    pub(crate) fn gotos(&self) -> Vec<usize> {
        let goto = |rule: &FilterRule| match rule.action {
            Some(FilterAction::Goto(place)) => Some(usize::from(place)),
            _ => None,
        };
        let mut gotos: Vec<usize> = self.rules.iter().filter_map(goto).collect();
        gotos.sort_unstable();
        gotos.dedup();
        gotos
    }

    /// The word for the default.
    pub(crate) fn default_word(&self) -> &'static str {
        match self.default {
            FilterAction::Accept => "accept",
            FilterAction::Reject => "reject",
            FilterAction::Drop | FilterAction::Goto(_) => "drop",
        }
    }

    /// The text of all rules: a line each.
    pub(crate) fn rules_text(&self, spec: &Spec) -> String {
        if self.rules.is_empty() {
            return "[]".to_owned();
        }
        let mut text = String::from("[\n");
        for rule in &self.rules {
            let _: fmt::Result = writeln!(text, "  {},", self.rule_text(spec, rule));
        }
        text + "]"
    }

    /// The text of a rule: an inline table, with the names of `spec`.
    #[must_use]
    pub fn rule_text(&self, spec: &Spec, rule: &FilterRule) -> String {
        let port =
            |id: &PortId| spec.port_by_id(*id).map_or(String::new(), |port| format!("\"{}\"", port.name));
        let pipeline = |place: u16| {
            spec.pipelines.get(usize::from(place)).map_or("", |pipeline| &pipeline.name).to_owned()
        };
        self.text(rule, port, pipeline)
    }

    /// The text of a rule, ports and pipelines by number.
    #[must_use]
    pub fn plain_text(&self, rule: &FilterRule) -> String {
        self.text(rule, |id| id.0.to_string(), |place| place.to_string())
    }

    fn text(
        &self,
        rule: &FilterRule,
        port: impl Fn(&PortId) -> String,
        pipeline: impl Fn(u16) -> String,
    ) -> String {
        let mut keys = Keys(String::new());
        match rule.action {
            Some(FilterAction::Accept) => keys.add("accept", true),
            Some(FilterAction::Drop) => keys.add("drop", true),
            Some(FilterAction::Reject) => keys.add("reject", true),
            Some(FilterAction::Goto(place)) => keys.add("goto", format_args!("\"{}\"", pipeline(place))),
            None => {}
        }
        let counter = rule.count.and_then(|count| self.counters.get(usize::from(count)));
        if let Some(name) = counter {
            keys.add("count", format_args!("\"{name}\""));
        }
        if let Some(mark) = rule.mark {
            keys.add("mark", masked(mark));
        }
        if let Some(sample) = rule.sample {
            keys.add("sample", sample);
        }
        if let Some(family) = rule.family {
            keys.add("family", format_args!("\"ipv{family}\""));
        }
        for (key, addresses) in [("from", &rule.from), ("to", &rule.to)] {
            match addresses {
                FilterAddresses::Any => {}
                FilterAddresses::In(prefixes) => {
                    keys.list(key, prefixes.iter().map(|prefix| format!("\"{prefix}\"")))
                }
                FilterAddresses::Set(set) => {
                    let name = self.sets.get(usize::from(*set)).map_or("", |set| &set.name);
                    keys.add(key, format_args!("\"set.{name}\""));
                }
            }
        }
        let range = |range: &(u16, u16)| {
            if range.0 == range.1 { range.0.to_string() } else { format!("\"{}..{}\"", range.0, range.1) }
        };
        keys.list("from-port", rule.from_port.iter().map(range));
        keys.list("to-port", rule.to_port.iter().map(range));
        keys.list("protocol", rule.protocol.iter().map(|protocol| words::protocol_text(*protocol)));
        if let Some((kind, code)) = rule.icmp {
            keys.add(
                "icmp",
                format_args!("\"{kind}{}\"", code.map_or(String::new(), |code| format!("/{code}"))),
            );
        }
        if let Some((value, mask)) = rule.flags {
            let flags = FLAGS.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1);
            let flags =
                flags.map(
                    |(bit, name)| if value >> bit & 1 == 1 { (*name).to_owned() } else { format!("!{name}") },
                );
            keys.add("flags", format_args!("\"{}\"", flags.collect::<Vec<_>>().join(",")));
        }
        keys.list("dscp", rule.dscp.iter().map(u8::to_string));
        keys.list(
            "vlan",
            rule.vlan.iter().map(|vlan| match vlan {
                FilterVlan::None => "\"none\"".to_owned(),
                FilterVlan::Any => "\"any\"".to_owned(),
                FilterVlan::Id(id) => id.to_string(),
            }),
        );
        if let Some(marked_as) = rule.marked {
            keys.add("marked", masked(marked_as));
        }
        let chosen = |all: &[&str], bits: u8| -> Vec<String> {
            let chosen = all.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
            chosen.map(|(_, word)| format!("\"{word}\"")).collect()
        };
        keys.list("fragment", chosen(FRAGMENTS, rule.fragment).into_iter());
        keys.list("state", chosen(STATES, rule.state).into_iter());
        keys.list("input", rule.input.iter().map(port));
        format!("{{ {} }}", keys.0)
    }
}

/// A value under a mask, as a rule has it.
fn masked((value, mask): (u32, u32)) -> String {
    if mask == u32::MAX { value.to_string() } else { format!("\"{value:#x}/{mask:#x}\"") }
}

/// The keys of an inline table.
struct Keys(String);

impl Keys {
    fn add(&mut self, key: &str, value: impl Display) {
        let gap = if self.0.is_empty() { "" } else { ", " };
        // Writing to a string does not fail.
        let _: fmt::Result = write!(self.0, "{gap}{key} = {value}");
    }

    fn list(&mut self, key: &str, mut values: impl ExactSizeIterator<Item = String>) {
        match values.len() {
            0 => {}
            1 => self.add(key, values.next().unwrap_or_default()),
            _ => self.add(key, format_args!("[{}]", values.collect::<Vec<_>>().join(", "))),
        }
    }
}
