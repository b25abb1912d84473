//! What the stage `vlan` is told, and which VLANs are ports of their own.

use super::canonical::{Rows, Text as Shown, one, word};
use super::datum::{Datum, Fields};
use super::findings::Findings;
use super::keys::{Key, Reach};
use super::kind::Kind;
use super::model::{PortId, StageSpec};
use super::names::Names;
use serde::{Deserialize, Serialize};

/// `[vlan.NAME]`: tags are put on, taken off or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VlanSpec {
    /// Only frames whose outer tag has this VLAN; none: all that the action can be done to.
    pub of: Option<u16>,
    /// What is done.
    pub action: VlanAction,
    /// The priority, as it was configured: the action has it where it matters.
    pub priority: Option<u8>,
    /// The kind of tag, likewise.
    pub provider: bool,
}

/// What is done to a frame's outer tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VlanAction {
    /// A tag is put ahead of the others.
    Push(VlanTag),
    /// It is taken off.
    Pop,
    /// It says something else.
    Rewrite {
        /// The VLAN, 1..=4094; none: as it was.
        id: Option<u16>,
        /// The priority, 0..=7; none: as it was.
        priority: Option<u8>,
    },
}

/// A tag to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VlanTag {
    /// The VLAN, 1..=4094.
    pub id: u16,
    /// The priority, 0..=7.
    pub priority: u8,
    /// The provider's tag (802.1ad), and not the customer's (802.1Q).
    pub provider: bool,
}

/// `[port.NAME]` with a `parent`: a VLAN of another port as a port of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VlanPort {
    /// Behind those of the ports with a device, in order of the names.
    pub id: PortId,
    /// Name in the configuration.
    pub name: String,
    /// The port whose frames with the tag are this port's; it may be a VLAN itself.
    pub parent: PortId,
    /// Which tag.
    pub tag: VlanTag,
    /// The kernel's device for the VLAN, whose addresses, routes and neighbours are this port's; none: it has none.
    pub netdev: Option<String>,
}

/// The VLANs that there are (IEEE 802.1Q, table 9-2).
const ID: Kind = Kind::Whole { min: 1, max: 4094 };

/// The keys of `[vlan.NAME]`.
pub(crate) const VLAN: &[Key] = &[
    Key {
        name: "of",
        kind: Kind::Either(&[Kind::Word(&["any"]), ID]),
        default: Some("\"any\""),
        reach: Reach::Live,
        about: "Only frames whose outer tag has this VLAN. \"any\": all.",
    },
    Key {
        name: "action",
        kind: Kind::Either(&[Kind::Word(&["pop", "remark"]), Kind::OneKey(&[("push", &ID), ("set", &ID)])]),
        default: None,
        reach: Reach::Live,
        about: "What is done: { push = 100 } puts a tag ahead of the others, \"pop\" takes the outer one off, { set = 200 } \
                gives it another VLAN, \"remark\" another priority alone.",
    },
    Key {
        name: "priority",
        kind: Kind::Either(&[Kind::Word(&["keep"]), Kind::Whole { min: 0, max: 7 }]),
        default: Some("\"keep\""),
        reach: Reach::Live,
        about: "The priority that the tag gets. \"keep\": what it had, or 0 when it is new.",
    },
    Key {
        name: "tag",
        kind: Kind::Word(&["802.1q", "802.1ad"]),
        default: Some("\"802.1q\""),
        reach: Reach::Live,
        about: "The kind of tag that is pushed: the customer's (802.1Q) or the provider's (802.1ad).",
    },
];

pub(crate) fn vlan(fields: &Fields, _: &str, _: &Names, _: &mut Findings<'_>) -> StageSpec {
    let number = |key: &str| fields.at(key).and_then(|value| value.value.number());
    let priority = number("priority").and_then(|priority| u8::try_from(priority).ok());
    let provider = fields.text("tag") == "802.1ad";
    let action = match fields.at("action").map(|action| &action.value) {
        Some(Datum::OneKey("push", id)) => VlanAction::Push(VlanTag {
            id: small(id.value.number()),
            priority: priority.unwrap_or(0),
            provider,
        }),
        Some(Datum::OneKey("set", id)) => {
            VlanAction::Rewrite { id: Some(small(id.value.number())), priority }
        }
        Some(Datum::Word("remark")) => VlanAction::Rewrite { id: None, priority },
        _ => VlanAction::Pop,
    };
    let of = number("of").map(|id| small(Some(id)));
    StageSpec::Vlan(VlanSpec { of, action, priority, provider })
}

/// A number of 16 bits; those out of bounds were reported.
pub(crate) fn small(number: Option<u32>) -> u16 {
    number.and_then(|number| u16::try_from(number).ok()).unwrap_or(0)
}

impl VlanSpec {
    /// The section's canonical rows.
    pub(crate) fn rows(&self) -> Rows {
        let action = match self.action {
            VlanAction::Push(tag) => Shown::One(format!("{{ push = {} }}", tag.id)),
            VlanAction::Rewrite { id: Some(id), .. } => Shown::One(format!("{{ set = {id} }}")),
            VlanAction::Rewrite { id: None, .. } => word("remark"),
            VlanAction::Pop => word("pop"),
        };
        vec![
            ("of", self.of.map_or_else(|| word("any"), one)),
            ("action", action),
            ("priority", self.priority.map_or_else(|| word("keep"), one)),
            ("tag", word(if self.provider { "802.1ad" } else { "802.1q" })),
        ]
    }
}
