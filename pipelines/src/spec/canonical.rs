//! The one text of a configuration: every key written out, sections by name. Two files that mean the same have the same
//! canonical text, and it parses back to what it was made from (with the ports and pipelines in order of their names).

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use super::balance;
use super::model::{Amount, Port, PortId, Spec, StageSpec, Steer, Workers, XdpProgram};
use super::quantity::show_duration;
use super::vlan::vlans_text;
use super::{police, shape};

/// A section's values by key, in the order of its keys.
pub(crate) type Rows = Vec<(&'static str, Text)>;

/// The TOML text of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// A value that changes as a whole.
    One(String),
    /// A list whose entries come and go, order aside, and what stands around it.
    Many { before: &'static str, entries: Vec<String>, after: &'static str },
}

impl Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Text::One(text) => f.write_str(text),
            Text::Many { before, entries, after } => write!(f, "{before}[{}]{after}", entries.join(", ")),
        }
    }
}

impl Spec {
    /// The canonical text, which is a valid configuration.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        for (header, rows) in sections(self) {
            let gap = if out.is_empty() { "" } else { "\n" };
            let _ = writeln!(out, "{gap}[{header}]");
            for (key, value) in rows {
                let _ = writeln!(out, "{key} = {value}");
            }
        }
        out
    }
}

/// The sections by header, as in `port.wan`.
pub(crate) fn sections(spec: &Spec) -> BTreeMap<String, Rows> {
    let mut sections = outline(spec);
    let stages = spec.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    for stage in stages {
        let StageSpec::Filter(filter) = &stage.spec else { continue };
        let non_ip = if filter.drops_non_ip { "drop" } else { "accept" };
        let rules = Text::One(filter.rules_text(spec));
        let rows = vec![("default", word(filter.default_word())), ("non-ip", word(non_ip)), ("rules", rules)];
        sections.insert(stage.label.clone(), rows);
        for set in &filter.sets {
            let prefixes = many(set.prefixes.iter().map(quoted).collect());
            let file = word(set.file.as_ref().map_or("", |file| &file.path));
            sections.insert(format!("set.{}", set.name), vec![("prefixes", prefixes), ("file", file)]);
        }
    }
    sections
}

/// The same without what may have a million lines: filters have no rows, and there are no sets.
pub(crate) fn outline(spec: &Spec) -> BTreeMap<String, Rows> {
    let mut sections = BTreeMap::new();
    sections.insert("engine".to_owned(), engine(spec));
    sections.insert("control".to_owned(), control(spec));
    for each in &spec.ports {
        let mut rows = port(each);
        rows.push(("vlans", vlans_text(spec, each.id)));
        sections.insert(format!("port.{}", each.name), rows);
    }
    for pipeline in &spec.pipelines {
        let inputs = pipeline.inputs.iter().map(|id| port_name(spec, *id)).collect();
        let stages: Vec<String> = pipeline.stages.iter().map(|stage| quoted(&stage.label)).collect();
        let rows = vec![("input", many(inputs)), ("stages", Text::One(format!("[{}]", stages.join(", "))))];
        sections.insert(format!("pipeline.{}", pipeline.name), rows);
        for stage in &pipeline.stages {
            // A stage without a table has its settings from nowhere, so it has no section.
            if stage.label.contains('.') {
                let header = stage.spec.state_label(&stage.label).into_owned();
                sections.insert(header, stage_rows(spec, &stage.spec));
            }
        }
    }
    sections
}

fn engine(spec: &Spec) -> Rows {
    let engine = &spec.engine;
    let workers = match &engine.workers {
        Workers::Auto => quoted("auto"),
        Workers::Count(count) => count.to_string(),
        Workers::Cores(cores) => format!("{cores:?}"),
    };
    vec![
        ("workers", Text::One(workers)),
        ("idle", word(engine.idle)),
        ("frame-size", one(engine.frame_size)),
        ("frames", amount(engine.frames)),
        ("user", word(&engine.user)),
        ("huge-pages", word(engine.huge_pages)),
    ]
}

fn control(spec: &Spec) -> Rows {
    vec![("admin-group", word(&spec.control.admin_group)), ("read-group", word(&spec.control.read_group))]
}

fn port(port: &Port) -> Rows {
    let table = |before, entries| Text::Many { before, entries, after: " }" };
    let steer = match &port.steer {
        Steer::All => word("all"),
        Steer::Prefixes(prefixes) => table("{ prefixes = ", prefixes.iter().map(quoted).collect()),
        Steer::Services(services) => table("{ ports = ", services.iter().map(quoted).collect()),
    };
    // A socket has no device, and a device listens nowhere.
    let first = match &port.udp {
        Some(udp) => ("listen", word(udp.listen)),
        None => ("netdev", word(&port.netdev)),
    };
    vec![
        first,
        ("device", word(port.device)),
        ("mtu", port.tun.as_ref().map_or_else(|| word("auto"), |tun| one(tun.mtu))),
        ("addresses", many(port.tun.iter().flat_map(|tun| &tun.addresses).map(quoted).collect())),
        ("io-uring", one(port.udp.is_some_and(|udp| udp.io_uring))),
        ("queues", amount(port.queues)),
        ("steer", steer),
        ("block", many(port.block.iter().map(quoted).collect())),
        ("xdp", Text::One(format!("[{}]", port.xdp.iter().map(xdp_program).collect::<Vec<_>>().join(", ")))),
        ("failover", word(port.failover)),
        ("grace", word(show_duration(port.grace))),
        ("mode", word(port.mode)),
        ("ring-size", one(port.ring_size)),
        ("busy-poll", one(port.busy_poll)),
        ("replace", one(port.replace)),
        ("promiscuous", one(port.promiscuous)),
    ]
}

fn xdp_program(program: &XdpProgram) -> String {
    let params: Vec<String> =
        program.params.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    let params = if params.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", params.join(", ")) };
    format!(
        "{{ object = {}, program = {}, params = {params} }}",
        quoted(&program.object),
        quoted(&program.program)
    )
}

fn stage_rows(spec: &Spec, stage: &StageSpec) -> Rows {
    match stage {
        StageSpec::Patch { map } => {
            let mut pairs = Vec::new();
            for (input, output) in map.iter().enumerate() {
                if let (Ok(input), Some(output)) = (u16::try_from(input), output) {
                    let input = spec.port_name(PortId(input));
                    pairs.push(format!("{input} = {}", port_name(spec, *output)));
                }
            }
            vec![("pairs", Text::One(format!("{{ {} }}", pairs.join(", "))))]
        }
        StageSpec::Police(spec) => raw(police::rows(spec)),
        StageSpec::Shape(spec) => raw(shape::rows(spec)),
        StageSpec::Reassemble(stage) => stage.rows(),
        StageSpec::Encap(stage) => stage.rows(),
        StageSpec::Decap(stage) => stage.rows(spec),
        StageSpec::Vlan(stage) => stage.rows(),
        StageSpec::Mirror(stage) => stage.rows(spec),
        StageSpec::Balance(spec) => balance::table::rows(spec),
        StageSpec::Route { table, by_mark } => {
            let entries: Vec<String> =
                by_mark.iter().map(|(mark, table)| format!("{mark} = {table}")).collect();
            let tables =
                if entries.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", entries.join(", ")) };
            vec![("table", one(table)), ("by-mark", Text::One(tables))]
        }
        StageSpec::WireguardOpen(end) | StageSpec::WireguardSeal(end) => end.rows(spec),
        StageSpec::Nat(nat) => nat.rows(spec),
        StageSpec::Track(spec) => super::track::rows(spec),
        StageSpec::Filter(_) | StageSpec::MacSwap | StageSpec::Drop | StageSpec::Punt => Vec::new(),
    }
}

/// Values that are TOML already.
fn raw(rows: Vec<(&'static str, String)>) -> Rows {
    rows.into_iter().map(|(key, value)| (key, Text::One(value))).collect()
}

pub(crate) fn port_name(spec: &Spec, id: PortId) -> String {
    quoted(spec.port_name(id))
}

pub(crate) fn amount(amount: Amount) -> Text {
    match amount {
        Amount::Auto => word("auto"),
        Amount::Exact(number) => one(number),
    }
}

pub(crate) fn one(value: impl Display) -> Text {
    Text::One(value.to_string())
}

pub(crate) fn word(value: impl Display) -> Text {
    Text::One(quoted(value))
}

pub(crate) fn many(entries: Vec<String>) -> Text {
    Text::Many { before: "", entries, after: "" }
}

/// A TOML string. A device's name may have quotes in it.
pub(crate) fn quoted(value: impl Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}
