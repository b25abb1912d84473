//! `[police.NAME]`: keys, and what they mean together.

use super::datum::{Datum, Fields, Placed};
use super::findings::Findings;
use super::keys::{ABSENT, Key, Reach};
use super::kind::{Kind, Text};
use super::quantity::{Amount, parse_amount, parse_rate, show_amount, show_duration, show_rate};
use crate::stages::police::{Fate, Treatment};
use crate::tables::meter::adaptive::{Adaptive, Target};
use crate::tables::meter::any::Meter;
use crate::tables::meter::bucket::{Bucket, Rule};
use crate::tables::meter::pace::{Pace, Rate};
use crate::tables::meter::subject::{Per, Subjects};
use crate::tables::meter::tcm::{SrTcm, TrTcm};
use crate::tables::meter::window::{Limit, Window};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::time::Duration;

/// How often an adaptive rate looks at what it follows. A few round trips of most paths, so that senders have answered.
const INTERVAL: Duration = Duration::from_millis(100);
/// A burst that is not told is what the rate brings in this time.
const BURST_TIME: Duration = Duration::from_millis(50);
/// The least burst of bytes: the longest packet of an Ethernet port with an MTU of 1,500. A shorter one would never let it pass.
const LEAST_BURST: u64 = 1514;

/// A `police` stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoliceSpec {
    /// What is metered, and how.
    pub meter: MeterSpec,
    /// Whose meter.
    pub per: Per,
    /// How many meters there are, when there are many.
    pub subjects: u32,
    /// Bytes that count for each packet besides its own: 0 to 255.
    pub overhead: u32,
    /// Whether packets come with colours.
    pub aware: bool,
    /// What is done with green, yellow and red packets.
    pub treatments: [Treatment; 3],
}

/// A meter. Bursts are in bytes or packets, as the rate counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MeterSpec {
    /// Token bucket.
    Token {
        /// What it fills at.
        rate: Rate,
        /// What it holds.
        burst: u64,
    },
    /// Leaky bucket.
    Leaky {
        /// What it leaks at.
        rate: Rate,
        /// Where its brim is.
        burst: u64,
    },
    /// RFC 2697.
    SrTcm {
        /// CIR.
        rate: Rate,
        /// CBS.
        burst: u64,
        /// EBS.
        excess: u64,
    },
    /// RFC 2698.
    TrTcm {
        /// CIR.
        rate: Rate,
        /// CBS.
        burst: u64,
        /// PIR.
        peak: Rate,
        /// PBS.
        peak_burst: u64,
    },
    /// What the rate brings in a window, in any window.
    Window {
        /// The limit, as a rate.
        rate: Rate,
        /// The window.
        window: Duration,
    },
    /// Token bucket whose rate follows a target.
    Adaptive {
        /// The rate's ceiling.
        rate: Rate,
        /// What it holds at the ceiling.
        burst: u64,
        /// The rate's floor, in the same unit a second.
        floor: u64,
        /// What it keeps to.
        target: TargetSpec,
        /// The label of the shaper that it follows.
        follow: String,
    },
}

/// What an adaptive rate keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetSpec {
    /// Mean wait in the shaper.
    Wait(Duration),
    /// Packets that the shaper dropped or marked, in a million.
    Loss(u32),
}

impl PoliceSpec {
    /// The meter, at its ceiling when it is adaptive. None for what the configuration refuses.
    #[must_use]
    pub fn meter(&self) -> Option<Meter> {
        let pace = |rate| Pace::new(rate, self.overhead);
        Some(match &self.meter {
            MeterSpec::Token { rate, burst } | MeterSpec::Adaptive { rate, burst, .. } => {
                Meter::Bucket(Bucket::new(pace(*rate)?, *burst, Rule::Token)?)
            }
            MeterSpec::Leaky { rate, burst } => {
                Meter::Bucket(Bucket::new(pace(*rate)?, *burst, Rule::Leaky)?)
            }
            MeterSpec::SrTcm { rate, burst, excess } => {
                Meter::SrTcm(SrTcm::new(pace(*rate)?, *burst, *excess)?)
            }
            MeterSpec::TrTcm { rate, burst, peak, peak_burst } => {
                Meter::TrTcm(TrTcm::new(pace(*rate)?, *burst, pace(*peak)?, *peak_burst)?)
            }
            MeterSpec::Window { rate, window } => {
                let limit = brings(*rate, *window);
                let limit = match rate {
                    Rate::Bits(_) => Limit::Bytes(limit),
                    Rate::Packets(_) => Limit::Packets(limit),
                };
                Meter::Window(Window::new(limit, nanoseconds(*window), self.overhead)?)
            }
        })
    }

    /// How the rate moves, and the label of the shaper that it follows; none when it stays.
    #[must_use]
    pub fn adaptive(&self) -> Option<(Adaptive, &str)> {
        let MeterSpec::Adaptive { rate: Rate::Bits(ceiling) | Rate::Packets(ceiling), floor, target, follow, .. } =
            &self.meter
        else {
            return None;
        };
        let target = match target {
            TargetSpec::Wait(wait) => Target::Wait(nanoseconds(*wait)),
            TargetSpec::Loss(parts) => Target::Loss(*parts),
        };
        Some((Adaptive::new(*floor, *ceiling, target, nanoseconds(INTERVAL))?, follow))
    }

    /// Bytes of state, in one region that all workers share.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        self.meter().map_or(0, |meter| Subjects::bytes(self.per, self.subjects as usize, meter.words()))
    }
}

/// The meters by their names in the configuration.
const METERS: &[&str] = &["token", "leaky", "srtcm", "trtcm", "window", "adaptive"];
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
static COLOUR: Kind = Kind::Either(&[Kind::Word(FATES), Kind::Table(TREATMENT)]);

const fn colour(name: &'static str, default: &'static str, about: &'static str) -> Key {
    Key {
        name,
        kind: Kind::Either(&[Kind::Word(FATES), Kind::Table(TREATMENT)]),
        default: Some(default),
        reach: Reach::Live,
        about,
    }
}

pub(crate) const POLICE: &[Key] = &[
    Key {
        name: "meter",
        kind: Kind::Word(METERS),
        default: Some("\"token\""),
        reach: Reach::Live,
        about: "How it is metered: token bucket, leaky bucket, RFC 2697, RFC 2698, sliding window, or a rate that follows a shaper.",
    },
    Key {
        name: "rate",
        kind: Kind::Text(Text::Rate),
        default: None,
        reach: Reach::Live,
        about: "What may pass, like \"100Mbit\" or \"20kpps\" a second; the ceiling of an adaptive meter.",
    },
    Key {
        name: "burst",
        kind: Kind::Text(Text::Burst),
        default: ABSENT,
        reach: Reach::Live,
        about: "What may pass at once, like \"1MiB\" or \"500packets\". When absent, what the rate brings in 50 ms.",
    },
    Key {
        name: "excess-burst",
        kind: Kind::Text(Text::Burst),
        default: ABSENT,
        reach: Reach::Live,
        about: "Of srtcm: what may pass beyond the burst, yellow. When absent, as much as the burst.",
    },
    Key {
        name: "peak",
        kind: Kind::Text(Text::Rate),
        default: ABSENT,
        reach: Reach::Live,
        about: "Of trtcm, which needs it: what may pass in all, green and yellow.",
    },
    Key {
        name: "peak-burst",
        kind: Kind::Text(Text::Burst),
        default: ABSENT,
        reach: Reach::Live,
        about: "Of trtcm: what may pass in all at once. When absent, what the peak brings in 50 ms.",
    },
    Key {
        name: "window",
        kind: Kind::Period { min: Duration::from_millis(10), max: Duration::from_secs(3600) },
        default: ABSENT,
        reach: Reach::Live,
        about: "Of window: no such time has more than what the rate brings in it. When absent, 1 s.",
    },
    Key {
        name: "floor",
        kind: Kind::Text(Text::Rate),
        default: ABSENT,
        reach: Reach::Live,
        about: "Of adaptive: the lowest rate. When absent, a hundredth of the ceiling.",
    },
    Key {
        name: "target",
        kind: Kind::Text(Text::Target),
        default: ABSENT,
        reach: Reach::Live,
        about: "Of adaptive: the mean wait in the shaper, like \"5ms\", or the part that it drops or marks, like \"0.1%\". When absent, 5 ms.",
    },
    Key {
        name: "follow",
        kind: Kind::Text(Text::Stage),
        default: ABSENT,
        reach: Reach::Live,
        about: "Of adaptive, which needs it: the shaper, like \"shape.wan\", whose queue it follows.",
    },
    Key {
        name: "per",
        kind: Kind::Text(Text::Per),
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
        about: "Of srtcm and trtcm: packets come with colours, the drop precedence of assured forwarding.",
    },
    colour("green", "\"pass\"", "What is done within the rate: pass, drop, ecn, or a mark and a code point to go on with."),
    colour("yellow", "\"pass\"", "What is done beyond the rate, within the excess burst or the peak."),
    colour("red", "\"drop\"", "What is done beyond that. ecn: CE, or dropped if the transport does not know it."),
];

/// Reads the table called `path`.
pub(crate) fn police(fields: &Fields, path: &str, out: &mut Findings<'_>) -> PoliceSpec {
    let table = Table { fields, path };
    let rate = table.rate("rate").unwrap_or(Rate::Bits(1));
    let word = fields.at("meter").map_or("", |meter| meter.value.text());
    let meter = match word {
        "leaky" => MeterSpec::Leaky { rate, burst: table.burst("burst", rate, brought(rate), out) },
        "srtcm" => {
            let burst = table.burst("burst", rate, brought(rate), out);
            MeterSpec::SrTcm { rate, burst, excess: table.burst("excess-burst", rate, burst, out) }
        }
        "trtcm" => {
            let burst = table.burst("burst", rate, brought(rate), out);
            let peak = table.like("peak", rate, out).unwrap_or_else(|| {
                table.needed("peak", "trtcm", "a rate like \"200Mbit\"", out);
                rate
            });
            if per_second(peak) < per_second(rate) {
                table.wrong("peak", "is below the rate".to_owned(), out);
            }
            MeterSpec::TrTcm { rate, burst, peak, peak_burst: table.burst("peak-burst", peak, brought(peak), out) }
        }
        "window" => {
            let window = fields.at("window").map_or(Duration::from_secs(1), |_| fields.period("window"));
            MeterSpec::Window { rate, window }
        }
        "adaptive" => {
            let burst = table.burst("burst", rate, brought(rate), out);
            let floor = table.like("floor", rate, out).map_or((per_second(rate) / 100).max(1), per_second);
            if floor > per_second(rate) {
                table.wrong("floor", "is above the rate".to_owned(), out);
            }
            let target = fields.at("target").and_then(|target| parse_target(target.value.text()));
            let target = target.unwrap_or(TargetSpec::Wait(Duration::from_millis(5)));
            let follow = fields.text("follow");
            if !follow.starts_with("shape.") {
                table.needed("follow", "adaptive", "the name of a shaper, like \"shape.wan\"", out);
            }
            MeterSpec::Adaptive { rate, burst, floor, target, follow }
        }
        _ => MeterSpec::Token { rate, burst: table.burst("burst", rate, brought(rate), out) },
    };
    table.refuse_strangers(word, out);
    let treatments = ["green", "yellow", "red"].map(|colour| treatment(fields, colour));
    let spec = PoliceSpec {
        meter,
        per: fields.at("per").and_then(|per| parse_per(per.value.text())).unwrap_or(Per::All),
        subjects: fields.number("subjects"),
        overhead: fields.number("overhead"),
        aware: fields.switch("colour-aware"),
        treatments,
    };
    if table.rate("rate").is_some() && spec.meter().is_none() {
        table.wrong("rate", "is so low that what it is to let through at once takes more than four hours".to_owned(), out);
    }
    spec
}

/// The table that is read.
pub(crate) struct Table<'f> {
    pub(crate) fields: &'f Fields,
    pub(crate) path: &'f str,
}

impl Table<'_> {
    pub(crate) fn rate(&self, key: &str) -> Option<Rate> {
        parse_rate(self.fields.at(key)?.value.text()).ok()
    }

    /// A rate that counts what another one does.
    fn like(&self, key: &str, rate: Rate, out: &mut Findings<'_>) -> Option<Rate> {
        let found = self.rate(key)?;
        if matches!(found, Rate::Bits(_)) != matches!(rate, Rate::Bits(_)) {
            self.wrong(key, "and `rate` count different things: bits or packets".to_owned(), out);
        }
        Some(found)
    }

    /// A burst that counts what the rate does.
    pub(crate) fn burst(&self, key: &str, rate: Rate, default: u64, out: &mut Findings<'_>) -> u64 {
        let Some(amount) = self.fields.at(key).and_then(|value| parse_amount(value.value.text()).ok()) else {
            return default;
        };
        match (amount, rate) {
            (Amount::Bytes(bytes), Rate::Bits(_)) => {
                let leaky = self.fields.at("meter").is_some_and(|meter| meter.value.text() == "leaky");
                if bytes < LEAST_BURST && !leaky && key != "excess-burst" {
                    self.wrong(key, format!("is less than a packet, which has up to {LEAST_BURST} bytes: it would never pass"), out);
                }
                bytes
            }
            (Amount::Packets(packets), Rate::Packets(_)) => packets,
            (_, Rate::Bits(_)) => {
                self.wrong(key, "counts packets, and the rate counts bits: write a size like \"1MiB\"".to_owned(), out);
                default
            }
            (_, Rate::Packets(_)) => {
                self.wrong(key, "counts bytes, and the rate counts packets: write a number like \"500packets\"".to_owned(), out);
                default
            }
        }
    }

    /// Reports the value of a key, or the rate if it is absent.
    pub(crate) fn wrong(&self, key: &str, problem: String, out: &mut Findings<'_>) {
        out.error(&self.span(key), format!("`{}.{key}` {problem}", self.path));
    }

    fn needed(&self, key: &str, meter: &str, expected: &str, out: &mut Findings<'_>) {
        out.error(&self.span("meter"), format!("[{}] has no `{key}`, which the meter \"{meter}\" needs", self.path))
            .expected(expected.to_owned());
    }

    /// Reports the keys that say nothing to this meter.
    fn refuse_strangers(&self, meter: &str, out: &mut Findings<'_>) {
        let of = |key| match key {
            "excess-burst" => &["srtcm"][..],
            "peak" | "peak-burst" => &["trtcm"],
            "window" => &["window"],
            "floor" | "target" | "follow" => &["adaptive"],
            "burst" => &["token", "leaky", "srtcm", "trtcm", "adaptive"],
            _ => METERS,
        };
        for (key, value) in &self.fields.values {
            if !of(key).contains(&meter) {
                let message = format!("`{}.{key}` says nothing to the meter \"{meter}\"", self.path);
                out.error(&value.span, message).help(format!("take it out, or choose the meter \"{}\"", of(key)[0]));
            }
        }
    }

    fn span(&self, key: &str) -> Range<usize> {
        let at = self.fields.at(key).or_else(|| self.fields.at("rate"));
        at.map_or(0..0, |value| value.span.clone())
    }
}

fn treatment(fields: &Fields, colour: &str) -> Treatment {
    let Some(Placed { value, .. }) = fields.at(colour) else { return Treatment::default() };
    if let Datum::Table(fields) = value {
        let number = |key| fields.at(key).and_then(|value| value.value.number());
        let dscp = number("dscp").and_then(|dscp| u8::try_from(dscp).ok());
        return Treatment { fate: Fate::Pass, mark: number("mark"), dscp };
    }
    let fate = match value.text() {
        "drop" => Fate::Drop,
        "ecn" => Fate::Congest,
        _ => Fate::Pass,
    };
    Treatment { fate, mark: None, dscp: None }
}

/// `all`, `flow`, `source`, `source/24`, `source/24/56`.
pub(crate) fn parse_per(text: &str) -> Option<Per> {
    let bits = |text: &str, most: u8| text.parse::<u8>().ok().filter(|&bits| bits <= most);
    let mut parts = text.split('/');
    let per = match (parts.next()?, parts.next(), parts.next()) {
        ("all", None, None) => Per::All,
        ("flow", None, None) => Per::Flow,
        ("source", None, None) => Per::Source { v4: 32, v6: 64 },
        ("source", Some(v4), None) => Per::Source { v4: bits(v4, 32)?, v6: 64 },
        ("source", Some(v4), Some(v6)) => Per::Source { v4: bits(v4, 32)?, v6: bits(v6, 128)? },
        _ => return None,
    };
    parts.next().is_none().then_some(per)
}

/// As [`parse_per`] reads it.
pub(crate) fn show_per(per: Per) -> String {
    match per {
        Per::All => "all".to_owned(),
        Per::Source { v4, v6 } => format!("source/{v4}/{v6}"),
        Per::Flow => "flow".to_owned(),
    }
}

/// `5ms`, or a percentage of up to four decimals, like `0.1%`.
pub(crate) fn parse_target(text: &str) -> Option<TargetSpec> {
    let Some(percent) = text.strip_suffix('%') else {
        return super::quantity::parse_duration(text).ok().map(TargetSpec::Wait);
    };
    let parts = super::quantity::decimal(percent.trim_end(), 10_000).ok()?;
    u32::try_from(parts).ok().filter(|&parts| parts <= 1_000_000).map(TargetSpec::Loss)
}

fn show_target(target: TargetSpec) -> String {
    match target {
        TargetSpec::Wait(wait) => show_duration(wait),
        TargetSpec::Loss(parts) => format!("{}.{:04}%", parts / 10_000, parts % 10_000),
    }
}

fn show_treatment(treatment: Treatment) -> String {
    let word = match treatment.fate {
        Fate::Drop => "drop",
        Fate::Congest => "ecn",
        Fate::Pass => "pass",
    };
    let keys = [("mark", treatment.mark), ("dscp", treatment.dscp.map(u32::from))];
    let keys: Vec<String> = keys.iter().filter_map(|(key, value)| Some(format!("{key} = {}", (*value)?))).collect();
    if keys.is_empty() { format!("\"{word}\"") } else { format!("{{ {} }}", keys.join(", ")) }
}

/// The values by key, as TOML.
pub(crate) fn rows(spec: &PoliceSpec) -> Vec<(&'static str, String)> {
    let text = |text: String| format!("\"{text}\"");
    let rate_row = |key, rate| (key, text(show_rate(rate)));
    let burst_row = |key, burst, rate| {
        let amount = match rate {
            Rate::Bits(_) => Amount::Bytes(burst),
            Rate::Packets(_) => Amount::Packets(burst),
        };
        (key, text(show_amount(amount)))
    };
    let name = |name: &str| ("meter", text(name.to_owned()));
    let mut rows = match &spec.meter {
        MeterSpec::Token { rate, burst } => {
            vec![name("token"), rate_row("rate", *rate), burst_row("burst", *burst, *rate)]
        }
        MeterSpec::Leaky { rate, burst } => {
            vec![name("leaky"), rate_row("rate", *rate), burst_row("burst", *burst, *rate)]
        }
        MeterSpec::SrTcm { rate, burst, excess } => vec![
            name("srtcm"),
            rate_row("rate", *rate),
            burst_row("burst", *burst, *rate),
            burst_row("excess-burst", *excess, *rate),
        ],
        MeterSpec::TrTcm { rate, burst, peak, peak_burst } => vec![
            name("trtcm"),
            rate_row("rate", *rate),
            burst_row("burst", *burst, *rate),
            rate_row("peak", *peak),
            burst_row("peak-burst", *peak_burst, *rate),
        ],
        MeterSpec::Window { rate, window } => {
            vec![name("window"), rate_row("rate", *rate), ("window", text(show_duration(*window)))]
        }
        MeterSpec::Adaptive { rate, burst, floor, target, follow } => {
            let floor = match rate {
                Rate::Bits(_) => Rate::Bits(*floor),
                Rate::Packets(_) => Rate::Packets(*floor),
            };
            vec![
                name("adaptive"),
                rate_row("rate", *rate),
                burst_row("burst", *burst, *rate),
                rate_row("floor", floor),
                ("target", text(show_target(*target))),
                ("follow", text(follow.clone())),
            ]
        }
    };
    rows.extend([
        ("per", text(show_per(spec.per))),
        ("subjects", spec.subjects.to_string()),
        ("overhead", spec.overhead.to_string()),
        ("colour-aware", spec.aware.to_string()),
    ]);
    let [green, yellow, red] = spec.treatments.map(show_treatment);
    rows.extend([("green", green), ("yellow", yellow), ("red", red)]);
    rows
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn per_second(rate: Rate) -> u64 {
    let (Rate::Bits(count) | Rate::Packets(count)) = rate;
    count
}

/// What a rate brings in some time: bytes, or packets.
pub(crate) fn brings(rate: Rate, time: Duration) -> u64 {
    let (count, parts) = match rate {
        Rate::Bits(bits) => (bits, 8_000_000_000),
        Rate::Packets(packets) => (packets, 1_000_000_000),
    };
    u64::try_from(u128::from(count) * u128::from(nanoseconds(time)) / parts).unwrap_or(u64::MAX)
}

/// A burst that is not told, 64 KiB at least.
fn brought(rate: Rate) -> u64 {
    let least = match rate {
        Rate::Bits(_) => 1 << 16,
        Rate::Packets(_) => 1,
    };
    brings(rate, BURST_TIME).max(least)
}

#[cfg(test)]
mod tests;
