//! Every key that a configuration may have, said once: its form, its default, what changing it costs, and its
//! description. The decoder, the defaults, the errors, the schema, the canonical text and `plan` all read these tables.
//!
//! To add a key: a row here, and a line where its section is read (`build.rs`, `stage.rs`) and written (`canonical.rs`);
//! the tests find a row that is not read or not written.

use std::time::Duration;

use super::kind::{Kind, Text};
use super::model::{Failover, HugePages, Idle, Mode};
use super::stage::{MAX_TABLES, STAGES, Tables};
use super::{packet, tun, udp, vlan};

/// One key of a section.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// TOML text of the value when the key is absent; none when the key must be there; [`ABSENT`] when it need not.
    pub(crate) default: Option<&'static str>,
    pub(crate) reach: Reach,
    pub(crate) about: &'static str,
}

/// The default of a key that need not be there, and then has no value.
pub(crate) const ABSENT: Option<&str> = Some("");

/// What a change of a key reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// A snapshot or a map.
    Live,
    /// What the data plane is started with.
    Respawn,
    /// The sockets of the port that the key is of.
    Sockets,
    /// Packet memory, so the sockets of all ports.
    Memory,
}

/// A top-level table: `[engine]`, or `[port.NAME]`.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    /// How many there may be when each has a name; none when there is one, without a name.
    pub(crate) named: Option<usize>,
    pub(crate) keys: &'static [Key],
    pub(crate) about: &'static str,
}

impl Section {
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// All sections, the tables of stages too.
pub(crate) fn sections() -> impl Iterator<Item = &'static Section> {
    let of_stages = STAGES.iter().filter_map(|stage| match &stage.section {
        Tables::Own(section) => Some(section),
        Tables::None | Tables::Shared(_) => None,
    });
    SECTIONS.iter().chain(of_stages)
}

/// The section of that name.
pub(crate) fn section(name: &str) -> Option<&'static Section> {
    sections().find(|section| section.name == name)
}

/// The most ports that there may be.
pub(crate) const MAX_PORTS: usize = 64;
const MAX_PIPELINES: usize = 64;
const MAX_SETS: usize = 64;
const MAX_WORKERS: u64 = 32;
/// Linux's largest NR_CPUS (arch/x86/Kconfig), less one.
const LAST_CORE: u64 = 8191;

static SECTIONS: &[Section] = &[
    Section { name: "engine", named: None, keys: ENGINE, about: "Workers and packet memory." },
    Section {
        name: "control",
        named: None,
        keys: CONTROL,
        about: "The control process and who may use its API.",
    },
    Section {
        name: "port",
        named: Some(MAX_PORTS),
        keys: PORT,
        about: "A network device whose packets zsync takes from the kernel.",
    },
    Section {
        name: "pipeline",
        named: Some(MAX_PIPELINES),
        keys: PIPELINE,
        about: "What is done with the packets of some ports.",
    },
    Section {
        name: "set",
        named: Some(MAX_SETS),
        keys: super::filter::SET,
        about: "Prefixes that the rules of filters share.",
    },
    Section {
        name: "wireguard",
        named: Some(MAX_TABLES),
        keys: super::wireguard::KEYS,
        about: "An end of WireGuard, for the stages `wireguard-open` and `wireguard-seal`.",
    },
];

const ENGINE: &[Key] = &[
    Key {
        name: "workers",
        kind: Kind::Either(&[
            Kind::Word(&["auto"]),
            Kind::Whole { min: 1, max: MAX_WORKERS },
            Kind::List { of: &Kind::Whole { min: 0, max: LAST_CORE }, min: 1, max: MAX_WORKERS as usize },
        ]),
        default: Some("\"auto\""),
        reach: Reach::Respawn,
        about: "How many workers, or the cores that they run on. \"auto\": cores near the ports' NUMA node.",
    },
    Key {
        name: "idle",
        kind: Kind::Word(Idle::WORDS),
        default: Some("\"adaptive\""),
        reach: Reach::Respawn,
        about: "What a worker does when there are no packets: poll on, poll a while and then sleep, or sleep at once.",
    },
    Key {
        name: "frame-size",
        kind: Kind::Size(&[2048, 4096]),
        default: Some("2048"),
        reach: Reach::Memory,
        about: "Bytes of a frame, 256 of them headroom. A packet must fit in the rest.",
    },
    Key {
        name: "frames",
        kind: Kind::Either(&[Kind::Word(&["auto"]), Kind::Whole { min: 1024, max: 4_194_304 }]),
        default: Some("\"auto\""),
        reach: Reach::Memory,
        about: "Frames of packet memory. \"auto\": enough to fill every ring.",
    },
    Key {
        name: "user",
        kind: Kind::Text(Text::Account),
        default: Some("\"nobody\""),
        reach: Reach::Respawn,
        about: "The account that the data plane runs as; not root.",
    },
    Key {
        name: "huge-pages",
        kind: Kind::Word(HugePages::WORDS),
        default: Some("\"auto\""),
        reach: Reach::Memory,
        about: "Whether packet memory is on huge pages: when there are any, always or never.",
    },
];

const CONTROL: &[Key] = &[
    Key {
        name: "admin-group",
        kind: Kind::Text(Text::Account),
        default: Some("\"zsync-admin\""),
        reach: Reach::Live,
        about: "The group whose members may change things over the API.",
    },
    Key {
        name: "read-group",
        kind: Kind::Text(Text::Account),
        default: Some("\"zsync\""),
        reach: Reach::Live,
        about: "The group whose members may look at things over the API.",
    },
];

const PREFIXES: Kind = Kind::List { of: &Kind::Text(Text::Prefix), min: 1, max: 4096 };
const SERVICES: Kind = Kind::List { of: &Kind::Text(Text::Service), min: 1, max: 1024 };

/// The most XDP programs that one port may have ahead of zsync's.
pub(crate) const MAX_XDP: usize = 8;
/// TOML's numbers end there.
const PARAMETER: Kind = Kind::Either(&[Kind::Switch, Kind::Whole { min: 0, max: i64::MAX as u64 }]);
const XDP_PROGRAM: Kind = Kind::Either(&[Kind::Text(Text::PathAndSymbol), Kind::Table(XDP_PROGRAM_KEYS)]);
const XDP_PROGRAM_KEYS: &[Key] = &[
    Key {
        name: "object",
        kind: Kind::Text(Text::Path),
        default: None,
        reach: Reach::Live,
        about: "The object file: eBPF, as clang and bpf-linker make it. A relative path is seen from this file's folder.",
    },
    Key {
        name: "program",
        kind: Kind::Text(Text::Symbol),
        default: None,
        reach: Reach::Live,
        about: "The program in it: the name of its function.",
    },
    Key {
        name: "params",
        kind: Kind::ByName(&PARAMETER, 64),
        default: Some("{}"),
        reach: Reach::Live,
        about: "Values of its global variables, by name.",
    },
];

const PORT: &[Key] = &[
    Key {
        name: "netdev",
        kind: Kind::Text(Text::Netdev),
        default: ABSENT,
        reach: Reach::Sockets,
        about: "The kernel's name of the network device. All ports have one but UDP sockets.",
    },
    packet::DEVICE,
    tun::MTU_KEY,
    tun::ADDRESSES,
    udp::LISTEN,
    udp::IO_URING,
    Key {
        name: "queues",
        kind: Kind::Either(&[Kind::Word(&["auto"]), Kind::Whole { min: 1, max: 64 }]),
        default: Some("\"auto\""),
        reach: Reach::Sockets,
        about: "How many of the device's queues are served. \"auto\": all of them.",
    },
    Key {
        name: "steer",
        kind: Kind::Either(&[
            Kind::Word(&["all"]),
            Kind::OneKey(&[("prefixes", &PREFIXES), ("ports", &SERVICES)]),
        ]),
        default: Some("\"all\""),
        reach: Reach::Live,
        about: "Which packets are taken from the kernel: all, those to some prefixes, or those to some TCP and UDP ports.",
    },
    Key {
        name: "block",
        kind: Kind::List { of: &Kind::Text(Text::Prefix), min: 0, max: 65_536 },
        default: Some("[]"),
        reach: Reach::Live,
        about: "Source prefixes that are dropped before anything else sees the packet: in XDP, or by the \
                filter of packet sockets.",
    },
    Key {
        name: "xdp",
        kind: Kind::List { of: &XDP_PROGRAM, min: 0, max: MAX_XDP },
        default: Some("[]"),
        reach: Reach::Live,
        about: "XDP programs of your own that run ahead of zsync's, in this order.",
    },
    Key {
        name: "failover",
        kind: Kind::Word(Failover::WORDS),
        default: Some("\"open\""),
        reach: Reach::Live,
        about: "Where packets go when no data plane has run for `grace`: to the kernel, or nowhere.",
    },
    Key {
        name: "grace",
        kind: Kind::Period { min: Duration::from_millis(10), max: Duration::from_secs(60) },
        default: Some("\"250ms\""),
        reach: Reach::Live,
        about: "How long a data plane may be away before `failover`.",
    },
    Key {
        name: "mode",
        kind: Kind::Word(Mode::WORDS),
        default: Some("\"auto\""),
        reach: Reach::Sockets,
        about: "How sockets are bound. \"auto\": the best of the others that works.",
    },
    Key {
        name: "ring-size",
        kind: Kind::PowerOfTwo { min: 64, max: 32_768 },
        default: Some("4096"),
        reach: Reach::Sockets,
        about: "Descriptors in each ring of a socket.",
    },
    Key {
        name: "busy-poll",
        kind: Kind::Switch,
        default: Some("false"),
        reach: Reach::Respawn,
        about: "Whether workers drive the driver themselves (SO_PREFER_BUSY_POLL).",
    },
    Key {
        name: "replace",
        kind: Kind::Switch,
        default: Some("false"),
        reach: Reach::Live,
        about: "Whether to take the place of another XDP program that is on the device.",
    },
    Key {
        name: "promiscuous",
        kind: Kind::Switch,
        default: Some("false"),
        reach: Reach::Live,
        about: "Whether the device takes packets for any MAC address. That of a wire, whose frames are patched, always does.",
    },
    Key {
        name: "vlans",
        kind: Kind::ByPort(&Kind::Either(&[vlan::ID, Kind::Table(vlan::PORT)])),
        default: Some("{}"),
        reach: Reach::Live,
        about: "VLANs of this device that are ports of their own, by name: { guest = 100 }, or { guest = { id = 100, netdev = \
                \"eth1.100\" } } with the kernel's device for it, whose routes are the port's.",
    },
];

const PIPELINE: &[Key] = &[
    Key {
        name: "input",
        kind: Kind::List { of: &Kind::Text(Text::Port), min: 1, max: MAX_PORTS },
        default: None,
        reach: Reach::Live,
        about: "The ports whose packets enter. A port enters at most one pipeline.",
    },
    Key {
        name: "stages",
        kind: Kind::List { of: &Kind::Text(Text::Stage), min: 1, max: 16 },
        default: None,
        reach: Reach::Live,
        about: "What is done, in this order: the kind of each stage and the name of its table, as in \"route.main\". \
                The last one decides where packets go.",
    },
];
