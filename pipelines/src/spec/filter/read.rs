//! From the tables of a file to rules, with what one value alone does not show: contradictions, missing protocols, unknown
//! names, pipelines that send packets round in a circle.

use std::ops::Range;

use super::{FRAGMENTS, FilterAction, FilterAddresses, FilterRule, FilterSpec, FilterVlan, STATES, words};
use crate::spec::address::{Prefix, PrefixError};
use crate::spec::datum::{Datum, Fields, Placed};
use crate::spec::findings::Findings;
use crate::spec::kind::one_of;
use crate::spec::model::StageSpec;
use crate::spec::names::{Names, is_name};
use crate::spec::nearest::nearest;

/// Counters of a filter.
const MAX_COUNTERS: usize = 1024;

/// `[filter.NAME]`.
pub(crate) fn filter(fields: &Fields, path: &str, names: &Names, out: &mut Findings<'_>) -> StageSpec {
    let default = match fields.text("default").as_str() {
        "accept" => FilterAction::Accept,
        "reject" => FilterAction::Reject,
        _ => FilterAction::Drop,
    };
    let drops_non_ip = fields.text("non-ip") == "drop";
    let mut spec =
        FilterSpec { rules: Vec::new(), default, drops_non_ip, sets: Vec::new(), counters: Vec::new() };
    for item in fields.items("rules") {
        let Some(fields) = item.value.fields() else { continue };
        let mut reader = Reader { fields, place: &item.span, path, names, spec: &mut spec, out };
        let rule = reader.rule();
        spec.rules.push(rule);
    }
    StageSpec::Filter(spec)
}

/// One rule.
struct Reader<'r, 'o, 's> {
    fields: &'r Fields,
    place: &'r Range<usize>,
    path: &'r str,
    names: &'r Names,
    spec: &'r mut FilterSpec,
    out: &'o mut Findings<'s>,
}

impl Reader<'_, '_, '_> {
    fn rule(&mut self) -> FilterRule {
        let mut rule = FilterRule { action: self.action(), ..FilterRule::default() };
        rule.count = self.counter();
        rule.mark = self.masked("mark");
        rule.marked = self.masked("marked");
        rule.sample = self.fields.at("sample").and_then(|sample| sample.value.number());
        if rule.action.is_none() && rule.count.is_none() && rule.mark.is_none() {
            self.out
                .error(self.place, format!("a rule of [{}] does nothing", self.path))
                .expected("`accept`, `drop`, `reject`, `goto`, `count` or `mark`");
        }
        rule.family =
            self.fields.at("family").map(|family| if family.value.text() == "ipv4" { 4 } else { 6 });
        rule.from = self.addresses("from");
        rule.to = self.addresses("to");
        rule.protocol = self.protocols();
        rule.from_port = self.ports("from-port");
        rule.to_port = self.ports("to-port");
        rule.flags = self.phrase("flags", "TCP flags", words::flags);
        self.icmp(&mut rule);
        rule.dscp = self
            .entries("dscp")
            .iter()
            .filter_map(|dscp| dscp.value.number())
            .map(|dscp| dscp as u8)
            .collect();
        rule.vlan = self.entries("vlan").iter().map(vlan).collect();
        rule.fragment = self.bits("fragment", FRAGMENTS);
        rule.state = self.bits("state", STATES);
        for input in self.entries("input") {
            rule.input.extend(self.names.ports.known(input.value.text(), &input.span, self.out));
        }
        if let Some(output) = self.fields.at("output") {
            self.out
                .error(&output.span, "a filter cannot ask for the output port")
                .label("not known yet")
                .help("where a packet leaves is known only once it is routed: ask for `to` prefixes instead");
        }
        self.agreement(&rule);
        rule
    }

    /// What contradicts itself.
    fn agreement(&mut self, rule: &FilterRule) {
        let families = |addresses: &FilterAddresses| match addresses {
            FilterAddresses::In(list) => (
                list.iter().any(|prefix| prefix.addr().is_ipv4()),
                list.iter().any(|prefix| prefix.addr().is_ipv6()),
            ),
            FilterAddresses::Any | FilterAddresses::Set(_) => (true, true),
        };
        let (from, to) = (families(&rule.from), families(&rule.to));
        if !(from.0 && to.0 || from.1 && to.1) {
            self.wrong("to", "`from` and `to` are of different families: no packet has both");
        } else if let Some(family) = rule.family {
            let both = if family == 4 { from.0 && to.0 } else { from.1 && to.1 };
            if !both {
                self.wrong("family", format!("`family` is IPv{family}, and the prefixes are not"));
            }
        }
        let only =
            |allowed: &[u8]| !rule.protocol.is_empty() && rule.protocol.iter().all(|p| allowed.contains(p));
        for key in ["from-port", "to-port"] {
            if self.fields.at(key).is_some() && !only(&[6, 17, 33, 132, 136]) {
                self.wrong(key, format!("`{key}` needs a protocol that has ports"))
                    .help("add `protocol = \"tcp\"`, \"udp\", \"sctp\", or a list of them");
            }
        }
        if rule.flags.is_some() && !only(&[6]) {
            self.wrong("flags", "`flags` are TCP's").help("add `protocol = \"tcp\"`");
        }
        let family = |v4: bool| {
            rule.family.map_or(if v4 { from.0 && to.0 } else { from.1 && to.1 }, |f| (f == 4) == v4)
        };
        if (rule.protocol == [1] && !family(true)) || (rule.protocol == [58] && !family(false)) {
            self.wrong(
                "protocol",
                "ICMP is of IPv4, and ICMPv6 of IPv6: no packet of the other family has it",
            );
        }
    }

    fn wrong(&mut self, key: &str, message: impl Into<String>) -> &mut crate::spec::diagnostic::Diagnostic {
        let span = self.fields.at(key).map_or(self.place, |value| &value.span);
        self.out.error(span, message)
    }

    fn action(&mut self) -> Option<FilterAction> {
        let mut chosen: Option<(&str, FilterAction)> = None;
        for (key, action) in
            [("accept", FilterAction::Accept), ("drop", FilterAction::Drop), ("reject", FilterAction::Reject)]
        {
            let Some(value) = self.fields.at(key) else { continue };
            if !self.fields.switch(key) {
                self.out.error(&value.span, format!("`{key} = false` says nothing")).help("leave it out");
            }
            self.choose(&mut chosen, key, action);
        }
        if let Some(goto) = self.fields.at("goto")
            && let Some(place) = self.names.pipeline(goto.value.text(), &goto.span, self.out)
        {
            self.choose(&mut chosen, "goto", FilterAction::Goto(place));
        }
        chosen.map(|(_, action)| action)
    }

    fn choose(
        &mut self,
        chosen: &mut Option<(&'static str, FilterAction)>,
        key: &'static str,
        action: FilterAction,
    ) {
        if let Some((other, _)) = chosen {
            let other = *other;
            self.wrong(key, format!("a rule cannot both `{other}` and `{key}`"));
        } else {
            *chosen = Some((key, action));
        }
    }

    fn counter(&mut self) -> Option<u16> {
        let count = self.fields.at("count")?;
        let name = count.value.text();
        if !is_name(name) {
            self.out
                .error(&count.span, format!("\"{name}\" cannot name a counter"))
                .expected("a small letter, then at most 31 small letters, digits, `-` and `_`");
            return None;
        }
        let known = self.spec.counters.iter().position(|known| known == name);
        let place = known.unwrap_or_else(|| {
            self.spec.counters.push(name.to_owned());
            self.spec.counters.len() - 1
        });
        if place == MAX_COUNTERS {
            self.out
                .error(&count.span, format!("[{}] has too many counters", self.path))
                .expected(format!("at most {MAX_COUNTERS}"));
        }
        u16::try_from(place).ok()
    }

    fn masked(&mut self, key: &'static str) -> Option<(u32, u32)> {
        let value = self.fields.at(key)?;
        if let Some(number) = value.value.number() {
            return Some((number, u32::MAX));
        }
        let (number, mask) = self.phrase(key, "a mark", words::masked)?;
        if number & !mask != 0 {
            self.wrong(key, "bits of the mark are set that its mask leaves out");
        }
        Some((number & mask, mask))
    }

    /// A text that `read` understands, or a report of one that it does not.
    fn phrase<T>(&mut self, key: &str, what: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let value = self.fields.at(key)?;
        let text = value.value.text();
        let found = read(text);
        if found.is_none() {
            self.out.error(&value.span, format!("`{}.rules.{key}`: \"{text}\" is not {what}", self.path));
        }
        found
    }

    /// A value, or the values of a list.
    fn entries(&self, key: &str) -> Vec<Placed<Datum>> {
        match self.fields.at(key) {
            None => Vec::new(),
            Some(Placed { value: Datum::List(items), .. }) => items.clone(),
            Some(one) => vec![one.clone()],
        }
    }

    fn bits(&self, key: &str, all: &[&str]) -> u8 {
        let bit = |word: &Placed<Datum>| all.iter().position(|known| *known == word.value.text());
        self.entries(key).iter().filter_map(bit).fold(0, |bits, bit| bits | 1 << bit)
    }

    fn addresses(&mut self, key: &'static str) -> FilterAddresses {
        let Some(value) = self.fields.at(key) else { return FilterAddresses::Any };
        if let Datum::List(_) = value.value {
            return FilterAddresses::In(value.value.prefixes());
        }
        let text = value.value.text();
        if let Some(name) = text.strip_prefix("set.") {
            return self.set(name, &value.span);
        }
        match text.parse::<Prefix>() {
            Ok(prefix) => FilterAddresses::In(vec![prefix]),
            Err(error) => {
                let path = self.path;
                let (problem, better) = match error {
                    PrefixError::NoLength(address) => (
                        "has no length".to_owned(),
                        Some(format!("\"{address}/{}\"", if address.is_ipv4() { 32 } else { 128 })),
                    ),
                    PrefixError::HostBits(masked) => (
                        format!("has bits set past its {} leading bits", masked.len()),
                        Some(format!("\"{masked}\"")),
                    ),
                    error => (format!("is not a prefix: {error}"), None),
                };
                self.out
                    .error(&value.span, format!("`{path}.rules.{key}`: \"{text}\" {problem}"))
                    .expected("an IP prefix like \"192.0.2.0/24\", or a set like \"set.NAME\"")
                    .suggest(better);
                FilterAddresses::Any
            }
        }
    }

    fn set(&mut self, name: &str, span: &Range<usize>) -> FilterAddresses {
        if let Some(place) = self.spec.sets.iter().position(|set| set.name == name) {
            return FilterAddresses::Set(place as u16);
        }
        let Some(set) = self.names.sets.iter().find(|set| set.name == name) else {
            let names = || self.names.sets.iter().map(|set| set.name.as_str());
            self.out
                .error(span, format!("there is no table [set.{name}]"))
                .suggest(nearest(name, names()).map(|name| format!("\"set.{name}\"")))
                .help(format!("add a table [set.{name}] with its `prefixes`"));
            return FilterAddresses::Any;
        };
        self.spec.sets.push(set.clone());
        FilterAddresses::Set((self.spec.sets.len() - 1) as u16)
    }

    fn ports(&mut self, key: &'static str) -> Vec<(u16, u16)> {
        let mut ranges = Vec::new();
        for entry in self.entries(key) {
            if let Some(port) = entry.value.number() {
                ranges.push((port as u16, port as u16));
                continue;
            }
            let text = entry.value.text();
            match words::range(text) {
                Ok(range) => ranges.push(range),
                Err((problem, better)) => {
                    self.out
                        .error(&entry.span, format!("`{}.rules.{key}`: \"{text}\" {problem}", self.path))
                        .expected("a port, or a range like \"80..443\"")
                        .suggest(better);
                }
            }
        }
        ranges
    }

    fn protocols(&mut self) -> Vec<u8> {
        let mut protocols = Vec::new();
        for entry in self.entries("protocol") {
            let text = entry.value.text();
            let protocol = entry.value.number().map(|number| number as u8).or_else(|| words::protocol(text));
            if protocol.is_none() {
                self.out
                    .error(&entry.span, format!("there is no protocol \"{text}\""))
                    .expected(format!(
                        "{}, or a number",
                        one_of(&words::protocols().map(|name| format!("\"{name}\"")).collect::<Vec<_>>())
                    ))
                    .suggest(nearest(text, words::protocols()).map(|name| format!("\"{name}\"")));
            }
            protocols.extend(protocol);
        }
        protocols
    }

    fn icmp(&mut self, rule: &mut FilterRule) {
        let Some(value) = self.fields.at("icmp") else { return };
        let v6 = rule.protocol == [58];
        if !v6 && rule.protocol != [1] {
            self.wrong("icmp", "`icmp` needs a protocol").help("add `protocol = \"icmp\"` or \"icmpv6\"");
        }
        if let Some(kind) = value.value.number() {
            rule.icmp = Some((kind as u8, None));
            return;
        }
        let text = value.value.text();
        rule.icmp = words::icmp(text, v6);
        if rule.icmp.is_none() {
            self.out
                .error(
                    &value.span,
                    format!("\"{text}\" is no type of {}", if v6 { "ICMPv6" } else { "ICMP" }),
                )
                .expected("a type like \"echo-request\", or type and code like \"3/4\"")
                .suggest(nearest(text, words::types()).map(|name| format!("\"{name}\"")));
        }
    }
}

fn vlan(entry: &Placed<Datum>) -> FilterVlan {
    match (entry.value.number(), entry.value.text()) {
        (Some(id), _) => FilterVlan::Id(id as u16),
        (None, "none") => FilterVlan::None,
        (None, _) => FilterVlan::Any,
    }
}
