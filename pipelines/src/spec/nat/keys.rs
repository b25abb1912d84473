//! The keys of `[nat.NAME]`, how they are read, and how they are written.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::{Filtering, Forward, Masquerade, NatSpec, PairOfPrefixes, SourceNat};
use crate::spec::address::Prefix;
use crate::spec::canonical::{Rows, Text as Shown, one, port_name, quoted, word};
use crate::spec::datum::{Datum, Fields, Placed};
use crate::spec::findings::Findings;
use crate::spec::keys::{ABSENT, Key, Reach};
use crate::spec::kind::{Kind, Text, port_range, services, show_services};
use crate::spec::model::{PortId, Spec, StageSpec};
use crate::spec::names::Names;
use crate::tables::nat::{self as tables, MAX_BLOCKS, PairError, PrefixPair};

/// Most rules of a list: the first packet of a flow is compared with each.
const MAX_RULES: usize = 256;
/// The words for [`Filtering`], as RFC 4787 §5 has them.
const FILTERING: [(&str, Filtering); 3] = [
    ("address-and-port-dependent", Filtering::AddressAndPort),
    ("address-dependent", Filtering::Address),
    ("endpoint-independent", Filtering::Endpoint),
];

/// A key whose change reaches the next snapshot.
const fn key(name: &'static str, kind: Kind, default: Option<&'static str>, about: &'static str) -> Key {
    Key { name, kind, default, reach: Reach::Live, about }
}

const PREFIXES: Kind = Kind::Either(&[
    Kind::Text(Text::Hosts),
    Kind::List { of: &Kind::Text(Text::Hosts), min: 0, max: MAX_RULES },
]);
const OUTPUT: Key =
    key("output", Kind::Text(Text::Port), ABSENT, "The port that packets leave by, by the routes.");

const MASQUERADE: Kind = Kind::Table(&[
    key("output", Kind::Text(Text::Port), None, "The port that packets leave by; they get its address."),
    key("from", PREFIXES, Some("[]"), "Sources, all if empty."),
]);
const SNAT: Kind = Kind::Table(&[
    key("from", PREFIXES, Some("[]"), "Sources, all if empty; then there must be an `output`."),
    OUTPUT,
    key("to", PREFIXES, None, "The addresses to share."),
]);
const FORWARD: Kind = Kind::Table(&[
    key(
        "to",
        Kind::Text(Text::Address),
        ABSENT,
        "The address outside; else those of the ports that masquerade.",
    ),
    key(
        "port",
        Kind::Text(Text::Services),
        None,
        "Protocol and ports outside: \"tcp/443\", \"udp/8000-8099\".",
    ),
    key(
        "target",
        Kind::Text(Text::Socket),
        None,
        "Address and port inside that the first port outside leads to; the others follow in order.",
    ),
]);
const STATIC: Kind = Kind::Table(&[
    key("internal", Kind::Text(Text::Hosts), None, "The address inside, or a prefix."),
    key("external", Kind::Text(Text::Hosts), None, "The address outside, or a prefix as long."),
    OUTPUT,
]);
const PREFIX: Kind = Kind::Table(&[
    key("internal", Kind::Text(Text::Prefix), None, "The IPv6 prefix inside, of at most 64 bits."),
    key("external", Kind::Text(Text::Prefix), None, "The IPv6 prefix outside, as long."),
    OUTPUT,
]);

/// The keys of `[nat.NAME]`.
pub(crate) const NAT: &[Key] = &[
    key(
        "masquerade",
        Kind::Either(&[MASQUERADE, Kind::List { of: &MASQUERADE, min: 0, max: MAX_RULES }]),
        Some("[]"),
        "Sources that share the address of the port that they leave by, whatever it is at the time: { output = \"wan\" }.",
    ),
    key(
        "snat",
        Kind::List { of: &SNAT, min: 0, max: MAX_RULES },
        Some("[]"),
        "Sources that share addresses of a pool; the first rule that fits counts, ahead of `masquerade`: \
         [{ from = \"10.0.0.0/8\", output = \"wan\", to = \"203.0.113.0/28\" }].",
    ),
    key(
        "forward",
        Kind::List { of: &FORWARD, min: 0, max: MAX_RULES },
        Some("[]"),
        "Ports outside that lead inside: [{ to = \"203.0.113.1\", port = \"tcp/443\", target = \"10.0.0.5:8443\" }].",
    ),
    key(
        "static",
        Kind::List { of: &STATIC, min: 0, max: MAX_RULES },
        Some("[]"),
        "Addresses that stand for each other: [{ internal = \"10.0.0.8\", external = \"203.0.113.8\" }].",
    ),
    key(
        "prefix",
        Kind::List { of: &PREFIX, min: 0, max: MAX_RULES },
        Some("[]"),
        "IPv6 prefixes that stand for each other (NPTv6, RFC 6296), without state: \
         [{ internal = \"fd00:1:2::/48\", external = \"2001:db8:1::/48\" }].",
    ),
    key(
        "table",
        Kind::Whole { min: 1, max: u32::MAX as u64 },
        Some("254"),
        "Number of the kernel's routing table that says by which port a new flow leaves: that of the `route` stage.",
    ),
    key(
        "filtering",
        Kind::Word(&["address-and-port-dependent", "address-dependent", "endpoint-independent"]),
        Some("\"address-and-port-dependent\""),
        "Who may send to a port that a client of a pool uses: ends that it has sent to, any port of addresses that it has sent \
         to, or anyone (RFC 4787 §5).",
    ),
    key(
        "ports",
        Kind::Text(Text::Ports),
        Some("\"1024-65535\""),
        "External ports for sources whose own is above 1023, in whole blocks. Leave out those that the host's own programs use.",
    ),
    key(
        "block",
        Kind::Either(&[Kind::Word(&["none"]), Kind::PowerOfTwo { min: 16, max: 1024 }]),
        Some("\"none\""),
        "Ports of a block that a client gets for itself, and that is logged. \"none\": ports are given out one by one.",
    ),
    key(
        "blocks-per-client",
        Kind::Whole { min: 1, max: MAX_BLOCKS as u64 },
        Some("4"),
        "Most blocks of a client.",
    ),
    key(
        "mappings",
        Kind::Whole { min: 64, max: 16 << 20 },
        Some("65536"),
        "Most ends of clients that each worker can map at a time; one takes about 90 bytes.",
    ),
];

/// What stands where `key` is, with its place.
fn place(fields: &Fields, key: &str) -> Range<usize> {
    fields.at(key).map_or(0..0, |value| value.span.clone())
}

/// One prefix, or a list.
fn prefixes(fields: &Fields, key: &str) -> Vec<Prefix> {
    match fields.at(key).map(|value| &value.value) {
        Some(Datum::Prefix(prefix)) => vec![*prefix],
        Some(list) => list.prefixes(),
        None => Vec::new(),
    }
}

fn port(fields: &Fields, key: &str, names: &Names, out: &mut Findings<'_>) -> Option<PortId> {
    let name = fields.at(key)?;
    names.ports.known(name.value.text(), &name.span, out)
}

/// The tables of a list, or the one that stands alone.
fn tables<'f>(fields: &'f Fields, key: &str) -> Vec<&'f Fields> {
    match fields.at(key) {
        Some(Placed { value: Datum::Table(fields), .. }) => vec![fields],
        Some(list) => list.value.items().iter().filter_map(|item| item.value.fields()).collect(),
        None => Vec::new(),
    }
}

pub(crate) fn nat(fields: &Fields, path: &str, names: &Names, out: &mut Findings<'_>) -> StageSpec {
    let mut spec = NatSpec {
        table: fields.number("table"),
        filtering: FILTERING
            .iter()
            .find(|(word, _)| *word == fields.text("filtering"))
            .map_or(Filtering::default(), |(_, filtering)| *filtering),
        ports: port_range(&fields.text("ports")).unwrap_or((1024, 65535)),
        block: fields.number("block") as u16,
        blocks_per_client: fields.number("blocks-per-client") as u8,
        mappings: fields.number("mappings"),
        ..NatSpec::default()
    };
    for rule in tables(fields, "masquerade") {
        if let Some(output) = port(rule, "output", names, out) {
            spec.masquerade.push(Masquerade { output, from: prefixes(rule, "from") });
        }
    }
    for rule in tables(fields, "snat") {
        let from = prefixes(rule, "from");
        if from.is_empty() && rule.at("output").is_none() {
            out.error(&place(rule, "to"), format!("`{path}.snat`: a rule says neither who nor where"))
                .expected("`from`, `output` or both")
                .help("without them, what comes in would be translated as well as what goes out");
        }
        let to = prefixes(rule, "to");
        if to.is_empty() && rule.at("to").is_some() {
            out.error(&place(rule, "to"), format!("`{path}.snat`: a rule has no addresses to share"));
        }
        spec.snat.push(SourceNat { from, output: port(rule, "output", names, out), to });
    }
    for rule in tables(fields, "forward") {
        spec.forward.extend(forward(rule, path, spec.masquerade.is_empty(), out));
    }
    let mut taken: Vec<(tables::Range, Range<usize>)> = Vec::new();
    for (list, neutral) in [("static", false), ("prefix", true)] {
        for rule in tables(fields, list) {
            let Some(pair) = pair(rule, (path, list), neutral, (names, &mut taken), out) else { continue };
            if neutral { spec.prefix.push(pair) } else { spec.fixed.push(pair) }
        }
    }
    if spec.ports.1 - spec.ports.0 < spec.block.max(64) * 2 {
        out.error(&place(fields, "ports"), format!("`{path}.ports` has no room for two blocks"))
            .expected("at least twice the ports of a block, and 128");
    }
    let nothing = ["masquerade", "snat", "forward", "static", "prefix"]
        .iter()
        .all(|list| tables(fields, list).is_empty());
    if nothing {
        out.warning(&(0..0), format!("[{path}] translates nothing"))
            .help("add `masquerade = { output = \"…\" }`, or one of `snat`, `forward`, `static`, `prefix`");
    }
    StageSpec::Nat(spec)
}

fn forward(rule: &Fields, path: &str, nobody: bool, out: &mut Findings<'_>) -> Option<Forward> {
    let to: Option<IpAddr> = rule.at("to").and_then(|to| to.value.text().parse().ok());
    let target: SocketAddr = rule.text("target").parse().ok()?;
    let (service, last) = services(&rule.text("port"))?;
    let span = place(rule, "target");
    if let Some(to) = to
        && to.is_ipv4() != target.is_ipv4()
    {
        out.error(&span, format!("`{path}.forward`: {to} cannot lead to {target}: they are of two families"));
    }
    if to.is_none() && nobody {
        out.error(&span, format!("`{path}.forward`: a forward without `to`, and no port masquerades"))
            .expected("`to`, the address outside");
    }
    if target.port().checked_add(last - service.port()).is_none() {
        let count = u32::from(last - service.port()) + 1;
        out.error(
            &span,
            format!("`{path}.forward`: {count} ports from {} on are more than there are", target.port()),
        );
    }
    Some(Forward { to, service, last, target: target.ip(), target_port: target.port() })
}

fn pair(
    rule: &Fields,
    (path, list): (&str, &str),
    neutral: bool,
    (names, taken): (&Names, &mut Vec<(tables::Range, Range<usize>)>),
    out: &mut Findings<'_>,
) -> Option<PairOfPrefixes> {
    let (internal, external) = (prefixes(rule, "internal"), prefixes(rule, "external"));
    let (internal, external) = (*internal.first()?, *external.first()?);
    let span = place(rule, "external");
    let fits = match PrefixPair::exact(internal, external) {
        Ok(_) if neutral => PrefixPair::neutral(internal, external).map(|_| ()),
        other => other.map(|_| ()),
    };
    if let Err(error) = fits {
        let found = out.error(&span, format!("`{path}.{list}`: {internal} and {external}: {error}"));
        if error == PairError::Length {
            found.expected(format!("a prefix of {} bits", internal.len()));
        }
    }
    for (key, prefix) in [("internal", internal), ("external", external)] {
        let range = tables::Range::of(prefix);
        if let Some((_, other)) = taken.iter().find(|(other, _)| other.overlaps(&range)) {
            let line = out.line(other.start);
            out.error(&place(rule, key), format!("`{path}.{list}`: {prefix} is in another pair already"))
                .label(format!("overlaps line {line}"));
        }
        taken.push((range, place(rule, key)));
    }
    Some(PairOfPrefixes { internal, external, output: port(rule, "output", names, out) })
}

fn shown(prefixes: &[Prefix]) -> String {
    let all: Vec<String> = prefixes.iter().map(|prefix| quoted(prefix.to_hosts())).collect();
    format!("[{}]", all.join(", "))
}

fn list(tables: impl Iterator<Item = Vec<(&'static str, Option<String>)>>) -> Shown {
    let table = |rows: Vec<(&'static str, Option<String>)>| {
        let rows: Vec<String> =
            rows.into_iter().filter_map(|(key, value)| Some(format!("{key} = {}", value?))).collect();
        format!("{{ {} }}", rows.join(", "))
    };
    Shown::One(format!("[{}]", tables.map(table).collect::<Vec<_>>().join(", ")))
}

impl NatSpec {
    /// The section's canonical rows.
    pub(crate) fn rows(&self, spec: &Spec) -> Rows {
        let output = |port: Option<PortId>| ("output", port.map(|port| port_name(spec, port)));
        let from = |from: &[Prefix]| ("from", Some(shown(from)));
        let pairs = |pairs: &[PairOfPrefixes], hosts: bool| {
            list(pairs.iter().map(|pair| {
                let show =
                    |prefix: Prefix| Some(quoted(if hosts { prefix.to_hosts() } else { prefix.to_string() }));
                vec![
                    ("internal", show(pair.internal)),
                    ("external", show(pair.external)),
                    output(pair.output),
                ]
            }))
        };
        let filtering = FILTERING.iter().find(|(_, filtering)| *filtering == self.filtering);
        vec![
            (
                "masquerade",
                list(self.masquerade.iter().map(|rule| vec![output(Some(rule.output)), from(&rule.from)])),
            ),
            (
                "snat",
                list(
                    self.snat.iter().map(|rule| {
                        vec![from(&rule.from), output(rule.output), ("to", Some(shown(&rule.to)))]
                    }),
                ),
            ),
            (
                "forward",
                list(self.forward.iter().map(|rule| {
                    let target = SocketAddr::new(rule.target, rule.target_port);
                    vec![
                        ("to", rule.to.map(quoted)),
                        ("port", Some(quoted(show_services(rule.service, rule.last)))),
                        ("target", Some(quoted(target))),
                    ]
                })),
            ),
            ("static", pairs(&self.fixed, true)),
            ("prefix", pairs(&self.prefix, false)),
            ("table", one(self.table)),
            ("filtering", word(filtering.map_or("", |(word, _)| word))),
            ("ports", word(format!("{}-{}", self.ports.0, self.ports.1))),
            ("block", if self.block == 0 { word("none") } else { one(self.block) }),
            ("blocks-per-client", one(self.blocks_per_client)),
            ("mappings", one(self.mappings)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Parsed, Style, parse, report};

    fn read(table: &str) -> Result<NatSpec, String> {
        let source = format!(
            "[port.lan]\nnetdev = \"a\"\n[port.wan]\nnetdev = \"b\"\n[pipeline.edge]\ninput = [\"lan\", \"wan\"]\n\
             stages = [\"nat.edge\", \"drop\"]\n[nat.edge]\n{table}"
        );
        match parse(&source, "nat.toml") {
            Ok(Parsed { spec, .. }) => {
                let again = parse(&spec.to_toml(), "again").map(|parsed| parsed.spec);
                assert_eq!(again.as_ref().ok(), Some(&spec), "{}", spec.to_toml());
                match &spec.pipelines[0].stages[0].spec {
                    StageSpec::Nat(nat) => Ok(nat.clone()),
                    other => panic!("{other:?}"),
                }
            }
            Err(errors) => Err(report(&errors, &source, Style::Plain)),
        }
    }

    #[test]
    fn a_table_reads_like_sentences() {
        let spec = read(
            "masquerade = { output = \"wan\" }\n\
             snat = [{ from = \"10.0.0.0/8\", output = \"wan\", to = \"203.0.113.0/28\" }]\n\
             forward = [{ to = \"203.0.113.1\", port = \"tcp/443\", target = \"10.0.0.5:8443\" },\n\
               { port = \"udp/8000-8009\", target = \"[fd00::5]:9000\" }]\n\
             static = [{ internal = \"10.0.0.8\", external = \"203.0.113.24\" }]\n\
             prefix = [{ internal = \"fd00:1:2::/48\", external = \"2001:db8:1::/48\", output = \"wan\" }]\n\
             block = 64\nfiltering = \"endpoint-independent\"\nports = \"10000-29999\"\n",
        )
        .unwrap();
        assert_eq!(spec.masquerade, [Masquerade { output: PortId(1), from: Vec::new() }]);
        assert_eq!(spec.snat[0].to, ["203.0.113.0/28".parse().unwrap()]);
        assert_eq!((spec.forward[0].to, spec.forward[0].last), (Some([203, 0, 113, 1].into()), 443));
        assert_eq!((spec.forward[1].last, spec.forward[1].target_port), (8009, 9000));
        assert_eq!(spec.fixed[0].internal, Prefix::host([10, 0, 0, 8].into()));
        assert_eq!(spec.prefix[0].output, Some(PortId(1)));
        assert_eq!((spec.block, spec.ports, spec.filtering), (64, (10_000, 29_999), Filtering::Endpoint));
        assert_eq!(read("").unwrap(), NatSpec::default());
    }

    #[test]
    fn rules_that_cannot_be_are_refused_in_words() {
        for (table, says) in [
            ("masquerade = { output = \"wa\" }", "there is no port \"wa\""),
            ("snat = [{ to = \"203.0.113.1\" }]", "neither who nor where"),
            ("snat = [{ from = \"10.0.0.0/8\", to = [] }]", "no addresses to share"),
            ("forward = [{ port = \"tcp/443\", target = \"10.0.0.5:8443\" }]", "no port masquerades"),
            (
                "forward = [{ to = \"203.0.113.1\", port = \"tcp/443\", target = \"[fd00::5]:1\" }]",
                "two families",
            ),
            (
                "forward = [{ to = \"203.0.113.1\", port = \"tcp/1-9\", target = \"10.0.0.5:65530\" }]",
                "more than there are",
            ),
            (
                "forward = [{ to = \"203.0.113.1\", port = \"sctp/1\", target = \"10.0.0.5:6\" }]",
                "like \"tcp/443\"",
            ),
            ("static = [{ internal = \"10.0.0.8\", external = \"203.0.113.0/24\" }]", "different lengths"),
            ("static = [{ internal = \"10.0.0.8\", external = \"2001:db8::1\" }]", "different families"),
            (
                "static = [{ internal = \"10.0.0.8\", external = \"203.0.113.8\" }, { internal = \"10.0.0.9\", external = \"203.0.113.8\" }]",
                "in another pair already",
            ),
            ("prefix = [{ internal = \"fd00::/65\", external = \"fd01::/65\" }]", "at most 64 bits"),
            ("ports = \"5000-4000\"", "like \"1024-65535\""),
            ("ports = \"5000-5100\"", "no room for two blocks"),
            ("block = 100", "power of two"),
        ] {
            let errors = read(table).unwrap_err();
            assert!(errors.contains(says), "{table}\n{errors}");
        }
    }
}
