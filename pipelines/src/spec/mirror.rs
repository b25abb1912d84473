//! What the stage `mirror` is told.

use super::canonical::{Rows, Text as Shown, one, port_name, quoted, word};
use super::datum::{Datum, Fields};
use super::findings::Findings;
use super::keys::{Key, Reach};
use super::kind::{Kind, Text};
use super::model::{PortId, Spec, StageSpec};
use super::names::Names;
use serde::{Deserialize, Serialize};

/// `[mirror.NAME]`: copies of packets go to a port or into a capture file; the packets themselves go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorSpec {
    /// Where the copies go.
    pub to: MirrorTo,
    /// Of how many packets one is copied, on average and at random; 1 is all.
    pub one_in: u32,
    /// Only packets with this mark; none: whatever their mark.
    pub mark: Option<u32>,
    /// Most bytes of a packet that are copied.
    pub snap: u32,
    /// Bytes that may wait for the control process to write them, for each worker.
    pub ring: u32,
}

/// Where copies go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MirrorTo {
    /// They leave by this port.
    Port(PortId),
    /// Into the file with this absolute path, which the control process writes.
    File(String),
}

/// The keys of `[mirror.NAME]`.
pub(crate) const MIRROR: &[Key] = &[
    Key {
        name: "to",
        kind: Kind::Either(&[
            Kind::Text(Text::Port),
            Kind::OneKey(&[("file", &Kind::Text(Text::AbsolutePath))]),
        ]),
        default: None,
        reach: Reach::Live,
        about: "Where copies go: out of a port, or { file = \"/var/lib/zsync/edge.pcap\" }.",
    },
    Key {
        name: "one-in",
        kind: Kind::Whole { min: 1, max: 1_000_000_000 },
        default: Some("1"),
        reach: Reach::Live,
        about: "Of how many packets one is copied, at random. 1: every one.",
    },
    Key {
        name: "mark",
        kind: Kind::Either(&[Kind::Word(&["any"]), Kind::Whole { min: 0, max: u32::MAX as u64 }]),
        default: Some("\"any\""),
        reach: Reach::Live,
        about: "Only packets that a filter gave this mark. \"any\": all.",
    },
    Key {
        name: "snap",
        kind: Kind::Whole { min: 14, max: 4096 },
        default: Some("4096"),
        reach: Reach::Live,
        about: "Bytes of a packet that are copied, at most.",
    },
    Key {
        name: "ring",
        kind: Kind::Size(&[65_536, 1_048_576, 4_194_304, 16_777_216, 67_108_864]),
        default: Some("4194304"),
        reach: Reach::Live,
        about: "Bytes that may wait to be written to the file, for each worker. What finds no room is counted as lost.",
    },
];

pub(crate) fn mirror(fields: &Fields, _: &str, names: &Names, out: &mut Findings<'_>) -> StageSpec {
    let number = |key: &str| fields.at(key).and_then(|value| value.value.number());
    let to = match fields.at("to") {
        Some(placed) => match &placed.value {
            Datum::OneKey("file", path) => MirrorTo::File(path.value.text().to_owned()),
            name => MirrorTo::Port(names.ports.known(name.text(), &placed.span, out).unwrap_or(PortId(0))),
        },
        None => MirrorTo::Port(PortId(0)),
    };
    StageSpec::Mirror(MirrorSpec {
        to,
        one_in: fields.number("one-in"),
        mark: number("mark"),
        snap: fields.number("snap"),
        ring: fields.number("ring"),
    })
}

impl MirrorSpec {
    /// The section's canonical rows.
    pub(crate) fn rows(&self, spec: &Spec) -> Rows {
        let to = match &self.to {
            MirrorTo::Port(port) => Shown::One(port_name(spec, *port)),
            MirrorTo::File(path) => Shown::One(format!("{{ file = {} }}", quoted(path))),
        };
        vec![
            ("to", to),
            ("one-in", one(self.one_in)),
            ("mark", self.mark.map_or_else(|| word("any"), one)),
            ("snap", one(self.snap)),
            ("ring", one(self.ring)),
        ]
    }
}
