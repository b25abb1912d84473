//! The keys of `[police.NAME]`.

use super::text::{parse_per, parse_target};
use crate::spec::keys::{ABSENT, Key, Reach};
use crate::spec::kind::{Form, Kind, Text};
use crate::spec::quantity::{parse_amount, parse_rate};
use std::time::Duration;

/// `100Mbit`, `20kpps`.
pub(crate) static RATE: Form = Form {
    expected: "a rate a second, like \"100Mbit\" or \"20kpps\"",
    pattern: "^[0-9]+(\\.[0-9]+)? *([kMGT]?bit|[kMG]?pps)$",
    problem: |text| parse_rate(text).err().map(|error| format!("is not a rate: {error}")),
};
/// `1MiB`, `500packets`.
pub(crate) static BURST: Form = Form {
    expected: "a size like \"1MiB\", or \"500packets\"",
    pattern: "^[0-9]+(\\.[0-9]+)? *([KMG]?i?B|packets)$",
    problem: |text| parse_amount(text).err().map(|error| format!("is not a burst: {error}")),
};
/// `source/24`.
pub(crate) static PER: Form = Form {
    expected: "\"all\", \"flow\", \"source\", \"source/24\" or \"source/24/56\" (bits of IPv4 and IPv6 addresses)",
    pattern: "^(all|flow|source(/[0-9]{1,2}(/[0-9]{1,3})?)?)$",
    problem: |text| parse_per(text).is_none().then(|| "says not whose meter it is".to_owned()),
};
/// `5ms`, `0.1%`.
static TARGET: Form = Form {
    expected: "a duration like \"5ms\", or a part like \"0.1%\"",
    pattern: "^([0-9]+ *(ms|s)|[0-9]+(\\.[0-9]{1,4})? *%)$",
    problem: |text| parse_target(text).is_none().then(|| "is not a target".to_owned()),
};

/// What may be said of a colour in one word.
const FATES: &[&str] = &["pass", "drop", "ecn"];

/// How many subjects there may be: 16 M states of 72 bytes at most.
pub(crate) const SUBJECTS: Kind = Kind::Whole { min: 64, max: 1 << 24 };
/// Bytes that may count besides a packet's own.
pub(crate) const OVERHEAD: Kind = Kind::Whole { min: 0, max: 255 };

const TREATMENT: &[Key] = &[
    Key {
        name: "mark",
        kind: Kind::Whole { min: 0, max: u32::MAX as u64 },
        default: ABSENT,
        reach: Reach::Live,
        about: "The packet goes on with this mark.",
    },
    Key {
        name: "dscp",
        kind: Kind::Whole { min: 0, max: 63 },
        default: ABSENT,
        reach: Reach::Live,
        about: "The packet goes on with this code point.",
    },
];

const fn colour(name: &'static str, default: &'static str, about: &'static str) -> Key {
    Key {
        name,
        kind: Kind::Either(&[Kind::Word(FATES), Kind::Table(TREATMENT)]),
        default: Some(default),
        reach: Reach::Live,
        about,
    }
}

const SRTCM: &[Key] = &[Key {
    name: "excess-burst",
    kind: Kind::Text(Text::Form(&BURST)),
    default: ABSENT,
    reach: Reach::Live,
    about: "What may pass beyond the burst, yellow. When absent, as much as the burst.",
}];

const TRTCM: &[Key] = &[
    Key {
        name: "peak",
        kind: Kind::Text(Text::Form(&RATE)),
        default: None,
        reach: Reach::Live,
        about: "What may pass in all, green and yellow.",
    },
    Key {
        name: "peak-burst",
        kind: Kind::Text(Text::Form(&BURST)),
        default: ABSENT,
        reach: Reach::Live,
        about: "What may pass in all at once. When absent, what the peak brings in 50 ms.",
    },
];

const ADAPTIVE: &[Key] = &[
    Key {
        name: "follow",
        kind: Kind::Text(Text::Stage),
        default: None,
        reach: Reach::Live,
        about: "The shaper, like \"shape.wan\", whose queue it follows.",
    },
    Key {
        name: "target",
        kind: Kind::Text(Text::Form(&TARGET)),
        default: Some("\"5ms\""),
        reach: Reach::Live,
        about: "The mean wait in the shaper, like \"5ms\", or the part that it drops or marks, like \"0.1%\".",
    },
    Key {
        name: "floor",
        kind: Kind::Text(Text::Form(&RATE)),
        default: ABSENT,
        reach: Reach::Live,
        about: "The lowest rate. When absent, a hundredth of the rate.",
    },
];

const WINDOW: Kind = Kind::Period { min: Duration::from_millis(10), max: Duration::from_secs(3600) };

pub(crate) const POLICE: &[Key] = &[
    Key {
        name: "meter",
        kind: Kind::Either(&[
            Kind::Word(&["token", "leaky"]),
            Kind::OneKey(&[
                ("srtcm", &Kind::Table(SRTCM)),
                ("trtcm", &Kind::Table(TRTCM)),
                ("window", &WINDOW),
                ("adaptive", &Kind::Table(ADAPTIVE)),
            ]),
        ]),
        default: Some("\"token\""),
        reach: Reach::Live,
        about: "A bucket, RFC 2697, RFC 2698, a limit in any window of time, or a rate that follows a shaper.",
    },
    Key {
        name: "rate",
        kind: Kind::Text(Text::Form(&RATE)),
        default: None,
        reach: Reach::Live,
        about: "What may pass, like \"100Mbit\" or \"20kpps\" a second; the highest rate of an adaptive meter.",
    },
    Key {
        name: "burst",
        kind: Kind::Text(Text::Form(&BURST)),
        default: ABSENT,
        reach: Reach::Live,
        about: "What may pass at once, like \"1MiB\" or \"500packets\". When absent, what the rate brings in 50 ms.",
    },
    Key {
        name: "per",
        kind: Kind::Text(Text::Form(&PER)),
        default: Some("\"all\""),
        reach: Reach::Live,
        about: "Who has a meter: \"all\" together, each \"source\", each \"source/24\" (of IPv4; /64 of IPv6), \"source/24/56\", or each \"flow\".",
    },
    Key {
        name: "subjects",
        kind: SUBJECTS,
        default: Some("65536"),
        reach: Reach::Live,
        about: "How many sources or flows have a meter of their own at a time; the others share one.",
    },
    Key {
        name: "overhead",
        kind: OVERHEAD,
        default: Some("0"),
        reach: Reach::Live,
        about: "Bytes that count for each packet besides its own: 24 for what Ethernet adds on the wire.",
    },
    Key {
        name: "colour-aware",
        kind: Kind::Switch,
        default: Some("false"),
        reach: Reach::Live,
        about: "For srtcm and trtcm: packets come with colours, the drop precedence of assured forwarding.",
    },
    colour(
        "green",
        "\"pass\"",
        "What is done within the rate: pass, drop, ecn, or a mark and a code point to go on with.",
    ),
    colour("yellow", "\"pass\"", "What is done beyond the rate, within the excess burst or the peak."),
    colour(
        "red",
        "\"drop\"",
        "What is done beyond that. ecn: CE, or dropped if the transport does not know it.",
    ),
];
