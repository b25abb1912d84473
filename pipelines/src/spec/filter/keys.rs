//! What the tables `[filter.NAME]` and `[set.NAME]` may have in them.

use super::{FRAGMENTS, STATES};
use crate::spec::keys::{ABSENT, Key, MAX_PORTS, Reach};
use crate::spec::kind::{Kind, Text};

/// Rules of a filter.
const MAX_RULES: usize = 1 << 20;
/// Prefixes of a set.
pub(super) const MAX_PREFIXES: usize = 1 << 20;
/// Entries of a list in a rule.
const MAX_ENTRIES: usize = 1024;

pub(crate) const SET: &[Key] = &[
    Key {
        name: "prefixes",
        kind: Kind::List { of: &Kind::Text(Text::Prefix), min: 0, max: MAX_PREFIXES },
        default: Some("[]"),
        reach: Reach::Live,
        about: "The prefixes of the set, of either family.",
    },
    Key {
        name: "file",
        kind: Kind::Text(Text::Phrase("the path of a file")),
        default: Some("\"\""),
        reach: Reach::Live,
        about: "A file with more prefixes, or addresses, one a line; what follows a `#` is a comment. A relative path is seen from the configuration's folder.",
    },
];

pub(crate) const FILTER: &[Key] = &[
    Key {
        name: "default",
        kind: Kind::Word(&["accept", "drop", "reject"]),
        default: Some("\"drop\""),
        reach: Reach::Live,
        about: "What becomes of packets that no rule decides about.",
    },
    Key {
        name: "non-ip",
        kind: Kind::Word(&["accept", "drop"]),
        default: Some("\"accept\""),
        reach: Reach::Live,
        about: "On a wire (a pipeline with `patch`): what becomes of frames that are no IP, such as ARP.",
    },
    Key {
        name: "rules",
        kind: Kind::List { of: &Kind::Table(RULE), min: 0, max: MAX_RULES },
        default: Some("[]"),
        reach: Reach::Live,
        about: "The rules, in order: the first one that a packet meets counts.",
    },
];

const PORTS: Text = Text::Phrase("a port, or a range like \"80..443\"");
const PORT: Kind = Kind::Either(&[Kind::Whole { min: 0, max: 65_535 }, Kind::Text(PORTS)]);
const PORT_OR_LIST: Kind = Kind::Either(&[
    Kind::Whole { min: 0, max: 65_535 },
    Kind::Text(PORTS),
    Kind::List { of: &PORT, min: 1, max: MAX_ENTRIES },
]);
const ADDRESSES: Text = Text::Phrase("an IP prefix like \"192.0.2.0/24\", or a set like \"set.NAME\"");
const ADDRESSES_OR_LIST: Kind = Kind::Either(&[
    Kind::Text(ADDRESSES),
    Kind::List { of: &Kind::Text(Text::Prefix), min: 1, max: MAX_ENTRIES },
]);
const PROTOCOL: Text = Text::Phrase("a protocol like \"tcp\"");
const PROTOCOL_ONE: Kind = Kind::Either(&[Kind::Whole { min: 0, max: 255 }, Kind::Text(PROTOCOL)]);
const DSCP: Kind = Kind::Whole { min: 0, max: 63 };
const VLAN: Kind = Kind::Either(&[Kind::Whole { min: 0, max: 4095 }, Kind::Word(&["none", "any"])]);
const MARK: Kind = Kind::Either(&[
    Kind::Whole { min: 0, max: u32::MAX as u64 },
    Kind::Text(Text::Phrase("a number, or one under a mask like \"0x10/0xf0\"")),
]);
const TYPE: Kind = Kind::Either(&[
    Kind::Whole { min: 0, max: 255 },
    Kind::Text(Text::Phrase("a type like \"echo-request\", or type and code like \"3/4\"")),
]);

macro_rules! keys {
    ($($name:literal: $kind:expr, $about:literal;)+) => {
        &[$(Key { name: $name, kind: $kind, default: ABSENT, reach: Reach::Live, about: $about },)+]
    };
}

const RULE: &[Key] = keys! {
    "accept": Kind::Switch, "The packet goes on to the next stage.";
    "drop": Kind::Switch, "The packet is dropped.";
    "reject": Kind::Switch, "The packet is dropped and its sender told: by a TCP reset or an ICMP error.";
    "goto": Kind::Text(Text::Phrase("the name of a pipeline")), "The packet goes to another pipeline.";
    "count": Kind::Text(Text::Phrase("the name of a counter: small letters, digits, `-` and `_`")), "Packets and bytes are counted by this name.";
    "mark": MARK, "The packet's mark is set, or the bits of it under a mask.";
    "sample": Kind::Whole { min: 1, max: u32::MAX as u64 }, "Only one in this many of the packets that the rule describes meets it.";
    "family": Kind::Word(&["ipv4", "ipv6"]), "One family alone.";
    "from": ADDRESSES_OR_LIST, "Source addresses: a prefix, a list of them, or a set.";
    "to": ADDRESSES_OR_LIST, "Destination addresses: a prefix, a list of them, or a set.";
    "from-port": PORT_OR_LIST, "Source ports: a port, a range, or a list of them. Needs `protocol`.";
    "to-port": PORT_OR_LIST, "Destination ports: a port, a range, or a list of them. Needs `protocol`.";
    "protocol": Kind::Either(&[Kind::Whole { min: 0, max: 255 }, Kind::Text(PROTOCOL), Kind::List { of: &PROTOCOL_ONE, min: 1, max: 256 }]), "IP protocols, by name or number.";
    "icmp": TYPE, "ICMP type, and code. Needs `protocol = \"icmp\"` or \"icmpv6\".";
    "flags": Kind::Text(Text::Phrase("TCP flags that must be on, or off, like \"syn,!ack\"")), "TCP flags. Needs `protocol = \"tcp\"`.";
    "dscp": Kind::Either(&[DSCP, Kind::List { of: &DSCP, min: 1, max: 64 }]), "Differentiated services code points.";
    "vlan": Kind::Either(&[Kind::Whole { min: 0, max: 4095 }, Kind::Word(&["none", "any"]), Kind::List { of: &VLAN, min: 1, max: 4096 }]), "The VLAN that the packet came in by.";
    "marked": MARK, "The mark that earlier rules and stages gave the packet.";
    "fragment": Kind::Either(&[Kind::Word(FRAGMENTS), Kind::List { of: &Kind::Word(FRAGMENTS), min: 1, max: 3 }]), "Whole packets, first fragments, later fragments.";
    "state": Kind::Either(&[Kind::Word(STATES), Kind::List { of: &Kind::Word(STATES), min: 1, max: 5 }]), "State of the packet's connection; `track` must stand ahead of the filter.";
    "input": Kind::Either(&[Kind::Text(Text::Port), Kind::List { of: &Kind::Text(Text::Port), min: 1, max: MAX_PORTS }]), "The ports where the packet may have come in.";
    "output": Kind::Text(Text::Port), "Not to be asked for: where a packet leaves is known only once it is routed.";
};
