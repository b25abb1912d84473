//! From checked tables to a [`Spec`]: names become ids, and what one table alone cannot show is checked here.
//!
//! What is wrong goes to the findings and leaves a hole; the result counts only when nothing was found wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::Reader;
use super::datum::{Datum, Fields, Placed};
use super::decode::{Document, Entry, defaults};
use super::filter::set;
use super::findings::Findings;
use super::keys::MAX_PORTS;
use super::kind::one_of;
use super::model::{
    Control, Engine, Layer, Pipeline, Port, PortId, Spec, Stage, StageSpec, Steer, Workers, XdpProgram,
};
use super::names::{Names, PortNames, check_name};
use super::nearest::nearest;
use super::packet;
use super::stage::{STAGES, StageKind, kinds_of, patched, stage_kind};
use super::tun::{no_frames, tun};
use super::udp::{no_two_at_one, udp};
use super::vlan::{VlanPort, vlan_ports};

/// Prefixes in the sets of all filters together: what a data plane is told at once has an end.
const MAX_PREFIXES: usize = 4 << 20;

pub(crate) fn build(document: &Document, read: &mut Reader<'_>, out: &mut Findings<'_>) -> Spec {
    let names = Names {
        ports: port_names(document, out),
        sets: document.entries("set").map(|entry| set(&entry.name, &entry.fields, read, out)).collect(),
        pipelines: document.entries("pipeline").map(|pipeline| pipeline.name.value.clone()).collect(),
    };
    if names.ports.len() == 0 {
        out.warning(&(0..0), "there is no port, so there is nothing to do").help("add a table [port.NAME]");
    }
    let engine = engine(&document.single("engine"), out);
    let control = control(&document.single("control"));
    let ports = ports(document, &names.ports, out);
    let vlans = vlans(document, &names.ports, out);
    let tables = StageTables::new(document, &names, out);
    let mut pipelines = Pipelines { names: &names, tables, entered: BTreeMap::new() };
    let built: Vec<_> = document.entries("pipeline").map(|entry| pipelines.pipeline(entry, out)).collect();
    let places: Vec<_> = document.entries("pipeline").map(|entry| entry.name.span.clone()).collect();
    super::loops::refuse(&built, &places, out);
    super::police::refuse_strangers(document, &built, out);
    super::wireguard::check(document, &built, out);
    pipelines.warn_of_unused(document, out);
    let spec = Spec { engine, control, ports, vlans, pipelines: built };
    one_layer(&spec, document, out);
    no_frames(&spec, document, out);
    no_two_at_one(document, out);
    let stages = spec.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    let prefixes: usize = stages
        .filter_map(|stage| match &stage.spec {
            StageSpec::Filter(filter) => Some(filter.sets.iter().map(|set| set.all().count()).sum::<usize>()),
            _ => None,
        })
        .sum();
    if prefixes > MAX_PREFIXES {
        let message =
            format!("the sets of all filters have {prefixes} prefixes, each set counted for each filter");
        out.error(&(0..0), message).expected(format!("at most {MAX_PREFIXES}"));
    }
    spec
}

fn engine(fields: &Fields, out: &mut Findings<'_>) -> Engine {
    if let Some(user) = fields.at("user").filter(|user| user.value.text() == "root") {
        out.error(&user.span, "the data plane never runs as root")
            .expected("an account without privileges")
            .help("\"nobody\", or an account made for zsync");
    }
    Engine {
        workers: match fields.at("workers").map(|workers| &workers.value) {
            Some(Datum::List(cores)) => {
                Workers::Cores(cores.iter().filter_map(|core| core.value.number()).collect())
            }
            Some(Datum::Number(_)) => Workers::Count(fields.number("workers")),
            _ => Workers::Auto,
        },
        idle: fields.word("idle"),
        frame_size: fields.number("frame-size"),
        frames: fields.amount("frames"),
        user: fields.text("user"),
        huge_pages: fields.word("huge-pages"),
    }
}

fn control(fields: &Fields) -> Control {
    Control { admin_group: fields.text("admin-group"), read_group: fields.text("read-group") }
}

fn ports(document: &Document, names: &PortNames, out: &mut Findings<'_>) -> Vec<Port> {
    let mut netdevs: BTreeMap<&str, &Entry> = BTreeMap::new();
    let mut ports = Vec::new();
    for entry in document.entries("port") {
        let fields = &entry.fields;
        if let Some(netdev) = fields.at("netdev") {
            if let Some(other) = netdevs.get(netdev.value.text()) {
                let line = out.line(other.fields.at("netdev").map_or(0, |first| first.span.start));
                let message =
                    format!("device \"{}\" is port \"{}\" already", netdev.value.text(), other.name.value);
                out.error(&netdev.span, message).label(format!("also in line {line}"));
            } else {
                netdevs.insert(netdev.value.text(), entry);
            }
        }
        ports.push(Port {
            id: names.id(&entry.name.value).unwrap_or(PortId(u16::MAX)),
            name: entry.name.value.clone(),
            netdev: fields.text("netdev"),
            queues: fields.amount("queues"),
            steer: match fields.at("steer").map(|steer| &steer.value) {
                Some(Datum::OneKey("prefixes", prefixes)) => Steer::Prefixes(prefixes.value.prefixes()),
                Some(Datum::OneKey("ports", services)) => Steer::Services(services.value.services()),
                _ => Steer::All,
            },
            block: fields.at("block").map_or_else(Vec::new, |block| block.value.prefixes()),
            xdp: fields.items("xdp").iter().map(|program| xdp_program(&program.value)).collect(),
            failover: fields.word("failover"),
            grace: fields.period("grace"),
            mode: fields.word("mode"),
            ring_size: fields.number("ring-size"),
            busy_poll: fields.switch("busy-poll"),
            replace: fields.switch("replace"),
            promiscuous: fields.switch("promiscuous"),
            device: packet::device(&entry.name.value, fields, out),
            tun: tun(&entry.name.value, fields, out),
            udp: udp(&entry.name, fields, out),
        });
    }
    ports
}

/// A device's packets are looked at as frames or as IP packets, those of its VLANs like its own: which of them the kernel gets
/// is decided before anybody looks at the tag. For the same reason no goto leads from a wire to a router or back, and a wire
/// translates nothing: the frames would go on to the stations of the addresses that they had.
fn one_layer(spec: &Spec, document: &Document, out: &mut Findings<'_>) {
    for entry in document.entries("pipeline") {
        let Some(this) = spec.pipelines.iter().find(|pipeline| pipeline.name == entry.name.value) else {
            continue;
        };
        for (stage, placed) in this.stages.iter().zip(entry.fields.items("stages")) {
            for goto in stage.spec.gotos() {
                let Some(other) = spec.pipelines.get(goto).filter(|other| other.layer() != this.layer())
                else {
                    continue;
                };
                let (wire, router) = if this.layer() == Layer::L2 { (this, other) } else { (other, this) };
                let message = format!(
                    "[{}] sends packets from \"{}\" to \"{}\": \"{}\" takes frames, and \"{}\" IP packets",
                    stage.label, this.name, other.name, wire.name, router.name
                );
                out.error(&placed.span, message).help("let both patch, or both route");
            }
            let patched = this.stages.iter().any(|stage| matches!(stage.spec, StageSpec::Patch { .. }));
            if patched && matches!(stage.spec, StageSpec::Nat(_) | StageSpec::Balance(_)) {
                let message = format!(
                    "[{}] translates addresses, and frames that are patched keep theirs",
                    stage.label
                );
                out.error(&placed.span, message).help("route instead of `patch`");
            }
            if patched && matches!(stage.spec, StageSpec::WireguardOpen(_) | StageSpec::WireguardSeal(_)) {
                let message = format!("[{}] carries IP packets, and a patch frames", stage.label);
                out.error(&placed.span, message).help("route instead of `patch`");
            }
        }
        for input in entry.fields.items("input") {
            let device = |id| spec.device_of(id);
            let Some(id) = this.inputs.iter().find(|id| spec.port_name(**id) == input.value.text()) else {
                continue;
            };
            let other = spec.pipelines.iter().find(|other| {
                other.layer() != this.layer()
                    && this.layer() == Layer::L2
                    && other.inputs.iter().any(|other| device(*other) == device(*id))
            });
            if let Some(other) = other {
                let message = format!(
                    "pipeline \"{}\" takes frames from \"{}\", and \"{}\" takes IP packets from the same device",
                    this.name,
                    input.value.text(),
                    other.name
                );
                out.error(&input.span, message).help("a device and its VLANs are all bridged, or all routed");
            }
        }
    }
}

/// The names of the ports and of their VLANs.
fn port_names(document: &Document, out: &mut Findings<'_>) -> PortNames {
    let mut names = PortNames::new(document.entries("port").map(|port| port.name.value.as_str()));
    let vlans = |entry: &'_ Entry| match entry.fields.at("vlans").map(|vlans| &vlans.value) {
        Some(Datum::ByPort(vlans)) => vlans.iter().map(|(name, _)| name.clone()).collect(),
        _ => Vec::new(),
    };
    let vlans: Vec<Placed<String>> = document.entries("port").flat_map(vlans).collect();
    vlans.iter().for_each(|name| check_name(name, "port", out));
    for taken in names.add_vlans(vlans.iter()) {
        out.error(&taken.span, format!("there is another port \"{}\"", taken.value))
            .help("a VLAN that is a port has a name of its own");
    }
    if let Some(last) = vlans.last().filter(|_| names.len() > MAX_PORTS) {
        out.error(&last.span, format!("there are {} ports, VLANs among them", names.len()))
            .expected(format!("at most {MAX_PORTS}"));
    }
    names
}

/// The VLANs that are ports, in order of their ids.
fn vlans(document: &Document, names: &PortNames, out: &mut Findings<'_>) -> Vec<VlanPort> {
    let mut vlans = Vec::new();
    for entry in document.entries("port") {
        let parent = names.id(&entry.name.value).unwrap_or(PortId(u16::MAX));
        if let Some(of_port) = entry.fields.at("vlans") {
            vlans.extend(vlan_ports(parent, &of_port.value, names, out));
        }
    }
    vlans.sort_by_key(|vlan| vlan.id);
    vlans
}

fn xdp_program(datum: &Datum) -> XdpProgram {
    if let Some(fields) = datum.fields() {
        let params = fields.at("params").map_or_else(BTreeMap::new, |params| params.value.numbers());
        return XdpProgram { object: fields.text("object"), program: fields.text("program"), params };
    }
    let (object, program) = datum.text().rsplit_once(':').unwrap_or_default();
    XdpProgram { object: object.to_owned(), program: program.to_owned(), params: BTreeMap::new() }
}

/// The tables of stages by their label, as in `route.main`.
struct StageTables {
    tables: BTreeMap<String, StageTable>,
    used: BTreeSet<String>,
}

struct StageTable {
    spec: StageSpec,
    /// Whether nothing in it was wrong.
    sound: bool,
}

impl StageTables {
    fn new(document: &Document, names: &Names, out: &mut Findings<'_>) -> Self {
        let mut tables = BTreeMap::new();
        for entry in document.stages() {
            let path = format!("{}.{}", entry.section.name, entry.name.value);
            let before = out.errors();
            let mut sound = entry.sound;
            for (n, kind) in kinds_of(entry.section.name).enumerate() {
                // What is wrong with a table that several kinds share is said once.
                let mut unheard = Findings::new("", "");
                let heard = if n == 0 { &mut *out } else { &mut unheard };
                let spec = (kind.build)(&entry.fields, &path, names, heard);
                sound &= out.errors() == before;
                tables.insert(format!("{}.{}", kind.name, entry.name.value), StageTable { spec, sound });
            }
        }
        Self { tables, used: BTreeSet::new() }
    }

    /// The stage that a pipeline names, and whether it is sound; reports one that there is not.
    fn find(
        &mut self,
        label: &Placed<Datum>,
        names: &Names,
        out: &mut Findings<'_>,
    ) -> Option<(&'static StageKind, StageSpec, bool)> {
        let (span, label) = (&label.span, label.value.text());
        let kind = stage_kind(label.split_once('.').map_or(label, |(kind, _)| kind));
        let table = self.tables.get(label);
        match (kind, table) {
            (Some(kind), Some(table)) => {
                self.used.insert(label.to_owned());
                Some((kind, table.spec.clone(), table.sound))
            }
            (Some(kind), None) if kind.bare && kind.name == label => {
                Some((kind, (kind.build)(&defaults(kind.name), label, names, out), true))
            }
            (kind, _) => {
                self.unknown(label, kind, span, out);
                None
            }
        }
    }

    fn unknown(&self, label: &str, kind: Option<&StageKind>, span: &Range<usize>, out: &mut Findings<'_>) {
        let quoted = |text: &str| format!("\"{text}\"");
        let of_kind = |kind: &StageKind| {
            let prefix = format!("{}.", kind.name);
            self.tables.keys().filter(move |label| label.starts_with(&prefix)).map(String::as_str)
        };
        match kind {
            Some(kind) if kind.tables().is_none() => {
                out.error(span, format!("the stage \"{}\" has no tables", kind.name))
                    .suggest(Some(quoted(kind.name)));
            }
            Some(kind) => {
                let only = of_kind(kind).next().filter(|_| of_kind(kind).count() == 1);
                let bare = Some(kind.name).filter(|_| kind.bare);
                let near = nearest(label, of_kind(kind).chain(bare)).or(only.filter(|_| label == kind.name));
                let section = kind.tables().unwrap_or(kind.name);
                let problem = match label.split_once('.') {
                    Some((_, name)) => format!("there is no table [{section}.{name}]"),
                    None => format!("the stage \"{label}\" needs a table"),
                };
                let found = out.error(span, problem).suggest(near.map(quoted));
                if near.is_none() {
                    let name = label.split_once('.').map_or("NAME", |(_, name)| name);
                    found.help(format!("add a table [{section}.{name}]"));
                }
            }
            None => {
                let kinds: Vec<String> = STAGES.iter().map(|kind| format!("`{}`", kind.name)).collect();
                let all = self.tables.keys().map(String::as_str).chain(STAGES.iter().map(|kind| kind.name));
                let (section, name) = label.split_once('.').unwrap_or((label, "NAME"));
                let shared: Vec<String> =
                    kinds_of(section).map(|kind| format!("\"{}.{name}\"", kind.name)).collect();
                let found = out.error(span, format!("there is no stage \"{label}\""));
                if shared.is_empty() {
                    found
                        .expected(format!("a stage whose kind is {}", one_of(&kinds)))
                        .suggest(nearest(label, all).map(quoted));
                } else {
                    found.expected(one_of(&shared)).help(format!("both are told by [{section}.{name}]"));
                }
            }
        }
    }
}

/// The pipelines while they are built.
struct Pipelines<'n> {
    names: &'n Names,
    tables: StageTables,
    /// Each input with its pipeline's name and place.
    entered: BTreeMap<PortId, (String, usize)>,
}

impl Pipelines<'_> {
    fn pipeline(&mut self, entry: &Entry, out: &mut Findings<'_>) -> Pipeline {
        let mut inputs = Vec::new();
        for input in entry.fields.items("input") {
            let name = input.value.text();
            let Some(id) = self.names.ports.known(name, &input.span, out) else { continue };
            if let Some((other, place)) = self.entered.get(&id) {
                let line = out.line(*place);
                out.error(&input.span, format!("port \"{name}\" enters pipeline \"{other}\" already"))
                    .label(format!("also in line {line}"))
                    .help("a port's packets enter one pipeline");
            } else {
                self.entered.insert(id, (entry.name.value.clone(), input.span.start));
                inputs.push(id);
            }
        }
        let stages = self.stages(entry, &inputs, out);
        Pipeline { name: entry.name.value.clone(), inputs, stages }
    }

    fn stages(&mut self, entry: &Entry, inputs: &[PortId], out: &mut Findings<'_>) -> Vec<Stage> {
        let mut stages = Vec::new();
        // The stage that decides, or that may decide for all that is known of it.
        let mut decided: Option<&str> = None;
        let labels = entry.fields.items("stages");
        for (index, placed) in labels.iter().enumerate() {
            let label = placed.value.text();
            if let Some(before) = decided {
                out.error(&placed.span, format!("no packet reaches \"{label}\""))
                    .label("never reached")
                    .help(format!("\"{before}\" decides about every packet: it must be the last stage"));
            }
            let Some((kind, spec, sound)) = self.tables.find(placed, self.names, out) else { continue };
            if let (StageSpec::Patch { map }, true) = (&spec, sound) {
                for input in inputs.iter().filter(|input| patched(map, **input).is_none()) {
                    let name = self.names.ports.name(*input);
                    out.error(&placed.span, format!("[{label}] has no output for port \"{name}\""))
                        .help(format!("add it to the pairs of [{label}], or take it out of `input`"));
                }
            }
            if kind.decides {
                decided = decided.or(Some(label));
            } else if index + 1 == labels.len() && decided.is_none() {
                let last: Vec<String> = STAGES
                    .iter()
                    .filter(|kind| kind.decides)
                    .map(|kind| format!("`{}`", kind.name))
                    .collect();
                out.error(
                    &placed.span,
                    format!("pipeline \"{}\" does not say where packets go", entry.name.value),
                )
                .label("the last stage")
                .expected(format!("a last stage whose kind is {}", one_of(&last)));
            }
            stages.push(Stage { label: label.to_owned(), spec });
        }
        stages
    }

    fn warn_of_unused(&self, document: &Document, out: &mut Findings<'_>) {
        for entry in document.entries("port") {
            let name = &entry.name;
            if self.names.ports.id(&name.value).is_some_and(|id| !self.entered.contains_key(&id)) {
                out.warning(&name.span, format!("port \"{}\" is the input of no pipeline", name.value))
                    .label("its packets all go to the kernel");
            }
        }
        for entry in document.stages() {
            let (section, name) = (entry.section.name, &entry.name.value);
            let used =
                kinds_of(section).any(|kind| self.tables.used.contains(&format!("{}.{name}", kind.name)));
            if !used {
                out.warning(&entry.name.span, format!("no pipeline uses [{section}.{name}]"));
            }
        }
    }
}
