//! The kinds of stages: what each may be told, and how its table becomes a [`StageSpec`].
//!
//! To add a kind: a variant of `StageSpec`, a row in [`STAGES`], its `build` function, and its arm in
//! [`canonical`](super::canonical).

use super::balance;
use super::datum::{Datum, Fields, Placed};
use super::decode::defaults;
use super::filter::{FILTER, filter};
use super::findings::Findings;
use super::keys::{Key, MAX_PORTS, Reach, Section};
use super::kind::{Kind, Text};
use super::mirror::{MIRROR, mirror};
use super::model::{PortId, StageSpec};
use super::names::{Names, PortNames};
use super::nat::{NAT, nat};
use super::police::{POLICE, police};
use super::reassemble::{REASSEMBLE, reassemble};
use super::shape::{SHAPE, shape};
use super::tunnel::{DECAP, ENCAP, decap, encap};
use super::vlan::{VLAN, vlan};
use super::wireguard;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A kind of stage.
pub(crate) struct StageKind {
    pub(crate) name: &'static str,
    /// Its tables.
    pub(crate) section: Tables,
    /// Whether a pipeline may name the kind alone, all settings at their defaults.
    pub(crate) bare: bool,
    /// Whether it says for every packet where it goes, so that nothing can follow.
    pub(crate) decides: bool,
    /// Reads the table called `path`.
    pub(crate) build: fn(&Fields, path: &str, &Names, &mut Findings<'_>) -> StageSpec,
}

/// Where a kind of stage has its settings.
pub(crate) enum Tables {
    /// There is nothing to set.
    None,
    /// In a section of its own name.
    Own(Section),
    /// In this section, which other kinds have theirs in too.
    Shared(&'static str),
}

impl StageKind {
    /// The section with its tables.
    pub(crate) fn tables(&self) -> Option<&'static str> {
        match &self.section {
            Tables::None => None,
            Tables::Own(section) => Some(section.name),
            Tables::Shared(name) => Some(name),
        }
    }
}

/// How many tables a kind of stage may have.
pub(crate) const MAX_TABLES: usize = 64;

/// All kinds.
pub(crate) static STAGES: &[StageKind] = &[
    StageKind {
        name: "patch",
        section: Tables::Own(Section {
            name: "patch",
            named: Some(MAX_TABLES),
            keys: PATCH,
            about: "Sends what comes in at one port out at another, unchanged.",
        }),
        bare: false,
        decides: true,
        build: patch,
    },
    StageKind {
        name: "route",
        section: Tables::Own(Section {
            name: "route",
            named: Some(MAX_TABLES),
            keys: ROUTE,
            about: "Forwards IPv4 and IPv6 by the kernel's routes.",
        }),
        bare: true,
        decides: true,
        build: |fields, _, _, _| route(fields),
    },
    StageKind {
        name: "police",
        section: Tables::Own(Section {
            name: "police",
            named: Some(MAX_TABLES),
            keys: POLICE,
            about: "Drops or marks what is beyond a rate.",
        }),
        bare: false,
        decides: false,
        build: |fields, path, _, out| StageSpec::Police(police(fields, path, out)),
    },
    StageKind {
        name: "shape",
        section: Tables::Own(Section {
            name: "shape",
            named: Some(MAX_TABLES),
            keys: SHAPE,
            about: "Lets what is beyond a rate wait.",
        }),
        bare: false,
        decides: false,
        build: |fields, path, _, out| StageSpec::Shape(shape(fields, path, out)),
    },
    StageKind {
        name: "nat",
        section: Tables::Own(Section {
            name: "nat",
            named: Some(MAX_TABLES),
            keys: NAT,
            about: "Translates addresses and ports, ahead of `route`.",
        }),
        bare: false,
        decides: false,
        build: nat,
    },
    StageKind {
        name: "filter",
        section: Tables::Own(Section {
            name: "filter",
            named: Some(MAX_TABLES),
            keys: FILTER,
            about: "Decides by rules which packets go on.",
        }),
        bare: false,
        decides: false,
        build: filter,
    },
    StageKind {
        name: "track",
        section: Tables::Own(Section {
            name: "track",
            named: Some(MAX_TABLES),
            keys: super::track::KEYS,
            about: "Says which connection each packet belongs to, as nf_conntrack does; drops what belongs to none.",
        }),
        bare: true,
        decides: false,
        build: |fields, _, _, _| StageSpec::Track(super::track::build(fields)),
    },
    StageKind {
        name: "balance",
        section: Tables::Own(Section {
            name: "balance",
            named: Some(MAX_TABLES),
            keys: balance::table::KEYS,
            about: "Spreads flows to virtual addresses over backends.",
        }),
        bare: false,
        decides: false,
        build: balance::table::build,
    },
    StageKind {
        name: "macswap",
        section: Tables::None,
        bare: true,
        decides: false,
        build: |_, _, _, _| StageSpec::MacSwap,
    },
    StageKind {
        name: "reassemble",
        section: Tables::Own(Section {
            name: "reassemble",
            named: Some(MAX_TABLES),
            keys: REASSEMBLE,
            about: "Lets every fragment be treated as the first one of its datagram is.",
        }),
        bare: true,
        decides: false,
        build: reassemble,
    },
    StageKind {
        name: "encap",
        section: Tables::Own(Section {
            name: "encap",
            named: Some(MAX_TABLES),
            keys: ENCAP,
            about: "Puts packets into a tunnel.",
        }),
        bare: false,
        decides: false,
        build: encap,
    },
    StageKind {
        name: "decap",
        section: Tables::Own(Section {
            name: "decap",
            named: Some(MAX_TABLES),
            keys: DECAP,
            about: "Takes packets out of a tunnel.",
        }),
        bare: false,
        decides: false,
        build: decap,
    },
    StageKind {
        name: "vlan",
        section: Tables::Own(Section {
            name: "vlan",
            named: Some(MAX_TABLES),
            keys: VLAN,
            about: "Puts VLAN tags on, takes them off or changes them.",
        }),
        bare: false,
        decides: false,
        build: vlan,
    },
    StageKind {
        name: "mirror",
        section: Tables::Own(Section {
            name: "mirror",
            named: Some(MAX_TABLES),
            keys: MIRROR,
            about: "Copies packets to a port or into a capture file.",
        }),
        bare: false,
        decides: false,
        build: mirror,
    },
    StageKind {
        name: "wireguard-open",
        section: Tables::Shared("wireguard"),
        bare: false,
        decides: false,
        build: |fields, path, names, out| {
            StageSpec::WireguardOpen(wireguard::build(fields, path, names, out))
        },
    },
    StageKind {
        name: "wireguard-seal",
        section: Tables::Shared("wireguard"),
        bare: false,
        decides: false,
        build: |fields, path, names, out| {
            StageSpec::WireguardSeal(wireguard::build(fields, path, names, out))
        },
    },
    StageKind {
        name: "drop",
        section: Tables::None,
        bare: true,
        decides: true,
        build: |_, _, _, _| StageSpec::Drop,
    },
    StageKind {
        name: "punt",
        section: Tables::None,
        bare: true,
        decides: true,
        build: |_, _, _, _| StageSpec::Punt,
    },
];

/// The kind of that name.
pub(crate) fn stage_kind(name: &str) -> Option<&'static StageKind> {
    STAGES.iter().find(|kind| kind.name == name)
}

/// The kinds that have their tables in this section.
pub(crate) fn kinds_of(section: &str) -> impl Iterator<Item = &'static StageKind> {
    STAGES.iter().filter(move |kind| kind.tables() == Some(section))
}

/// The stage of this kind with all settings at their defaults, if the kind may stand alone.
#[must_use]
pub fn bare(kind: &str) -> Option<&'static StageSpec> {
    static BARE: LazyLock<BTreeMap<&'static str, StageSpec>> = LazyLock::new(|| {
        let names =
            Names { ports: PortNames::new(std::iter::empty()), sets: Vec::new(), pipelines: Vec::new() };
        let build = |kind: &StageKind| {
            (kind.build)(&defaults(kind.name), kind.name, &names, &mut Findings::new("", ""))
        };
        STAGES.iter().filter(|kind| kind.bare).map(|kind| (kind.name, build(kind))).collect()
    });
    BARE.get(kind)
}

const PATCH: &[Key] = &[Key {
    name: "pairs",
    kind: Kind::Either(&[
        Kind::List {
            of: &Kind::List { of: &Kind::Text(Text::Port), min: 2, max: 2 },
            min: 1,
            max: MAX_PORTS,
        },
        Kind::ByPort(&Kind::Text(Text::Port)),
    ]),
    default: None,
    reach: Reach::Live,
    about: "Which ports belong together: [[\"wan\", \"lan\"]] both ways, { wan = \"lan\" } from wan to lan alone.",
}];

/// The number of a routing table of the kernel.
const TABLE: Kind = Kind::Whole { min: 1, max: u32::MAX as u64 };

const ROUTE: &[Key] = &[
    Key {
        name: "table",
        kind: TABLE,
        default: Some("254"),
        reach: Reach::Live,
        about: "Number of the kernel's routing table; 254 is the main one.",
    },
    Key {
        name: "by-mark",
        kind: Kind::ByNumber { min: 0, max: u32::MAX as u64, of: &TABLE },
        default: Some("{}"),
        reach: Reach::Live,
        about: "Tables for packets that a filter has marked: { 7 = 100 }; other marks go by `table`.",
    },
];

fn route(fields: &Fields) -> StageSpec {
    let mut by_mark = Vec::new();
    if let Some(Placed { value: Datum::ByNumber(tables), .. }) = fields.at("by-mark") {
        let pair = |(mark, table): &(Placed<u64>, Placed<Datum>)| {
            Some((u32::try_from(mark.value).ok()?, table.value.number()?))
        };
        by_mark.extend(tables.iter().filter_map(pair));
        by_mark.sort_unstable();
    }
    StageSpec::Route { table: fields.number("table"), by_mark }
}

fn patch(fields: &Fields, path: &str, names: &Names, out: &mut Findings<'_>) -> StageSpec {
    let ports = &names.ports;
    let mut map = vec![None; ports.len().min(MAX_PORTS)];
    let mut connect = |input: &str, output: &str, span: &std::ops::Range<usize>, out: &mut Findings<'_>| {
        let (Some(from), Some(to)) = (ports.id(input), ports.id(output)) else {
            return; // the unknown name is reported already
        };
        let Some(slot) = map.get_mut(usize::from(from.0)) else { return };
        match *slot {
            Some(other) if other != to => {
                let other = ports.name(other).to_owned();
                out.error(
                    span,
                    format!("`{path}` sends port \"{input}\" to both \"{other}\" and \"{output}\""),
                )
                .label(format!("a second output for \"{input}\""))
                .help("give each input one output");
            }
            _ => *slot = Some(to),
        }
    };
    match fields.at("pairs") {
        Some(Placed { value: Datum::List(pairs), .. }) => {
            for pair in pairs {
                let [a, b] = pair.value.items() else { continue };
                for end in [a, b] {
                    ports.known(end.value.text(), &end.span, out);
                }
                connect(a.value.text(), b.value.text(), &pair.span, out);
                connect(b.value.text(), a.value.text(), &pair.span, out);
            }
        }
        Some(Placed { value: Datum::ByPort(pairs), .. }) => {
            for (input, output) in pairs {
                ports.known_key(&input.value, &input.span, out);
                ports.known(output.value.text(), &output.span, out);
                connect(&input.value, output.value.text(), &output.span, out);
            }
        }
        _ => {}
    }
    StageSpec::Patch { map }
}

/// The output that a patch has for an input.
pub(crate) fn patched(map: &[Option<PortId>], input: PortId) -> Option<PortId> {
    map.get(usize::from(input.0)).copied().flatten()
}
