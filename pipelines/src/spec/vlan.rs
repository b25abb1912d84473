//! What the stage `vlan` is told, and which VLANs are ports of their own.

use super::canonical::{Rows, Text as Shown, one, quoted, word};
use super::datum::{Datum, Fields};
use super::findings::Findings;
use super::keys::{ABSENT, Key, Reach};
use super::kind::{Kind, Text};
use super::model::{PortId, Spec, StageSpec};
use super::names::{Names, PortNames};
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

/// An entry of a port's `vlans`: a VLAN as a port of its own.
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
pub(crate) const ID: Kind = Kind::Whole { min: 1, max: 4094 };

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

/// The keys of a VLAN that is a port.
pub(crate) const PORT: &[Key] = &[
    Key { name: "id", kind: ID, default: None, reach: Reach::Live, about: "The VLAN." },
    Key {
        name: "priority",
        kind: Kind::Whole { min: 0, max: 7 },
        default: Some("0"),
        reach: Reach::Live,
        about: "The priority of what is sent.",
    },
    Key {
        name: "tag",
        kind: Kind::Word(&["802.1q", "802.1ad"]),
        default: Some("\"802.1q\""),
        reach: Reach::Live,
        about: "The kind of tag: the customer's (802.1Q) or the provider's (802.1ad).",
    },
    Key {
        name: "netdev",
        kind: Kind::Text(Text::Netdev),
        default: ABSENT,
        reach: Reach::Live,
        about: "The kernel's device for the VLAN, like \"eth1.100\": its addresses, neighbours and routes are the port's.",
    },
    Key {
        name: "in",
        kind: Kind::Text(Text::Port),
        default: ABSENT,
        reach: Reach::Live,
        about: "The VLAN of the same device that it lies in: its tag is the outer one.",
    },
];

/// The VLANs of one port's `vlans`; `parent` is the port.
pub(crate) fn vlan_ports(
    parent: PortId,
    vlans: &Datum,
    names: &PortNames,
    out: &mut Findings<'_>,
) -> Vec<VlanPort> {
    let Datum::ByPort(vlans) = vlans else { return Vec::new() };
    let mut ports: Vec<VlanPort> = Vec::new();
    for (name, value) in vlans {
        let none = Fields::default();
        let fields = value.value.fields().unwrap_or(&none);
        let id = small(value.value.number().or_else(|| fields.at("id")?.value.number()));
        let priority = u8::try_from(fields.number("priority")).unwrap_or(0);
        let tag = VlanTag { id, priority, provider: fields.text("tag") == "802.1ad" };
        let outer = fields.at("in").and_then(|outer| {
            let ours =
                vlans.iter().any(|(other, _)| other.value == outer.value.text() && other.value != name.value);
            if !ours {
                out.error(&outer.span, format!("\"{}\" is no other VLAN of this port", outer.value.text()))
                    .help("name a VLAN that the same `vlans` has");
            }
            names.id(outer.value.text())
        });
        let parent = outer.unwrap_or(parent);
        let same = |other: &&VlanPort| (other.parent, other.tag.id) == (parent, tag.id);
        if let Some(other) = ports.iter().find(same) {
            out.error(&value.span, format!("VLAN {id} is port \"{}\" already", other.name));
        }
        ports.push(VlanPort {
            id: names.id(&name.value).unwrap_or(PortId(u16::MAX)),
            name: name.value.clone(),
            parent,
            tag,
            netdev: fields.at("netdev").map(|netdev| netdev.value.text().to_owned()),
        });
    }
    for (port, (name, _)) in ports.iter().zip(vlans) {
        let outer = |port: &VlanPort| ports.iter().find(|other| other.id == port.parent);
        if outer(port).and_then(outer).is_some() {
            out.error(&name.span, format!("VLAN \"{}\" lies in a VLAN that lies in another", port.name))
                .help("frames may have two tags");
        }
    }
    ports
}

/// The canonical text of a port's VLANs.
pub(crate) fn vlans_text(spec: &Spec, port: PortId) -> Shown {
    let is_outer = |id: PortId| spec.vlans.iter().find(|outer| outer.id == id);
    let device = |vlan: &VlanPort| is_outer(vlan.parent).map_or(vlan.parent, |outer| outer.parent);
    let entry = |vlan: &VlanPort| {
        let kind = if vlan.tag.provider { "802.1ad" } else { "802.1q" };
        let netdev = vlan.netdev.as_ref().map(|netdev| format!(", netdev = {}", quoted(netdev)));
        let outer = is_outer(vlan.parent).map(|outer| format!(", in = {}", quoted(&outer.name)));
        format!(
            "{} = {{ id = {}, priority = {}, tag = \"{kind}\"{}{} }}",
            vlan.name,
            vlan.tag.id,
            vlan.tag.priority,
            netdev.unwrap_or_default(),
            outer.unwrap_or_default()
        )
    };
    let entries: Vec<String> = spec.vlans.iter().filter(|vlan| device(vlan) == port).map(entry).collect();
    Shown::One(if entries.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", entries.join(", ")) })
}

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
