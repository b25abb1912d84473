//! `[shape.NAME]`: keys, and what they mean together.

use super::datum::Fields;
use super::findings::Findings;
use super::keys::{ABSENT, Key, Reach};
use super::kind::{Kind, Text};
use super::police::{
    BURST, LEAST_BURST, OVERHEAD, PER, RATE, SUBJECTS, Table, brings, nanoseconds, parse_per, show_per,
};
use super::quantity::{Amount, show_amount, show_duration, show_rate};
use crate::stages::shape::Shape;
use crate::tables::meter::bucket::{Bucket, Rule};
use crate::tables::meter::pace::{Pace, Rate};
use crate::tables::meter::subject::Per;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use zsync_packet::flow::HashKey;
use zsync_packet::region::Region;

/// A `shape` stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeSpec {
    /// What it shapes to.
    pub rate: Rate,
    /// What may leave at once, in bytes or packets as the rate counts.
    pub burst: u64,
    /// The longest that a packet waits: up to 4 s.
    pub limit: Duration,
    /// The wait from which packets are marked, if they are.
    pub mark: Option<Duration>,
    /// Who is shaped by himself.
    pub per: Per,
    /// How many of them at a time.
    pub subjects: u32,
    /// Bytes that count for each packet besides its own: 0 to 255.
    pub overhead: u32,
}

impl ShapeSpec {
    /// Bytes of state, in one region that all workers share.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        Shape::bytes(self.per, self.subjects as usize)
    }

    /// The stage, for `workers` workers that all work on `state`. None when that is too short, or for what the
    /// configuration refuses.
    #[must_use]
    pub fn stage(&self, state: Region, workers: usize, hash_key: HashKey) -> Option<Shape> {
        let pace = Pace::new(self.rate, self.overhead)?;
        let mark = self.mark.map(nanoseconds);
        let subjects = self.subjects as usize;
        Shape::new(
            pace,
            self.burst,
            nanoseconds(self.limit),
            mark,
            self.per,
            subjects,
            state,
            workers,
            hash_key,
        )
    }
}

pub(crate) const SHAPE: &[Key] = &[
    Key {
        name: "rate",
        kind: Kind::Text(Text::Form(&RATE)),
        default: None,
        reach: Reach::Live,
        about: "What may leave, like \"100Mbit\" or \"20kpps\" a second.",
    },
    Key {
        name: "burst",
        kind: Kind::Text(Text::Form(&BURST)),
        default: ABSENT,
        reach: Reach::Live,
        about: "What may leave at once, like \"64KiB\" or \"10packets\". When absent, what the rate brings in 1 ms, 4 KiB at least.",
    },
    Key {
        name: "limit",
        kind: Kind::Period { min: Duration::from_millis(1), max: Duration::from_secs(4) },
        default: Some("\"100ms\""),
        reach: Reach::Live,
        about: "What would have to wait longer is dropped.",
    },
    Key {
        name: "ecn",
        kind: Kind::Either(&[
            Kind::Switch,
            Kind::Period { min: Duration::from_millis(1), max: Duration::from_secs(4) },
        ]),
        default: Some("true"),
        reach: Reach::Live,
        about: "What has to wait so long is marked (CE) if its transport knows marks. true: a quarter of the limit; false: nothing.",
    },
    Key {
        name: "per",
        kind: Kind::Text(Text::Form(&PER)),
        default: Some("\"all\""),
        reach: Reach::Live,
        about: "Who is shaped by himself: \"all\" together, each \"source\", each \"source/24\" (of IPv4; /64 of IPv6), \"source/24/56\", or each \"flow\".",
    },
    Key {
        name: "subjects",
        kind: SUBJECTS,
        default: Some("65536"),
        reach: Reach::Live,
        about: "How many sources or flows are shaped by themselves at a time; the others share one rate.",
    },
    Key {
        name: "overhead",
        kind: OVERHEAD,
        default: Some("0"),
        reach: Reach::Live,
        about: "Bytes that count for each packet besides its own: 24 for what Ethernet adds on the wire.",
    },
];

/// Reads the table called `path`.
pub(crate) fn shape(fields: &Fields, path: &str, out: &mut Findings<'_>) -> ShapeSpec {
    let table = Table::of(fields, path);
    let rate = table.rate("rate").unwrap_or(Rate::Bits(1_000));
    let least = match rate {
        Rate::Bits(_) => 4096,
        Rate::Packets(_) => 1,
    };
    let burst =
        table.burst("burst", rate, brings(rate, Duration::from_millis(1)).max(least), LEAST_BURST, out);
    let limit = fields.period("limit");
    let mark = match (fields.switch("ecn"), fields.period("ecn")) {
        (true, _) => Some((limit / 4).max(Duration::from_millis(1))),
        (false, Duration::ZERO) => None,
        (false, mark) => Some(mark),
    };
    if mark.is_some_and(|mark| mark > limit) {
        table.wrong("ecn", "is more than the limit, so nothing would be marked".to_owned(), out);
    }
    let fills = Pace::new(rate, 0).and_then(|pace| Bucket::new(pace, burst, Rule::Token)).is_some();
    if table.rate("rate").is_some() && !fills {
        table.wrong("rate", "is so low that its burst takes more than four hours to come".to_owned(), out);
    }
    ShapeSpec {
        rate,
        burst,
        limit,
        // Whole milliseconds, as they are written.
        mark: mark.map(|mark| Duration::from_millis(u64::try_from(mark.as_millis()).unwrap_or(u64::MAX))),
        per: fields.at("per").and_then(|per| parse_per(per.value.text())).unwrap_or(Per::All),
        subjects: fields.number("subjects"),
        overhead: fields.number("overhead"),
    }
}

/// The values by key, as TOML.
pub(crate) fn rows(spec: &ShapeSpec) -> Vec<(&'static str, String)> {
    let burst = match spec.rate {
        Rate::Bits(_) => Amount::Bytes(spec.burst),
        Rate::Packets(_) => Amount::Packets(spec.burst),
    };
    let text = |text: String| format!("\"{text}\"");
    vec![
        ("rate", text(show_rate(spec.rate))),
        ("burst", text(show_amount(burst))),
        ("limit", text(show_duration(spec.limit))),
        ("ecn", spec.mark.map_or("false".to_owned(), |mark| text(show_duration(mark)))),
        ("per", text(show_per(spec.per))),
        ("subjects", spec.subjects.to_string()),
        ("overhead", spec.overhead.to_string()),
    ]
}

#[cfg(test)]
mod tests;
