//! `[police.NAME]`: keys, and what they mean together.

use super::datum::{Datum, Fields, Placed};
use super::decode::Document;
use super::findings::Findings;
use super::keys::{ABSENT, Key, Reach};
use super::kind::{Form, Kind, Text};
use super::model::{Pipeline, StageSpec};
use super::nearest::nearest;
use super::quantity::{Amount, parse_amount, parse_rate, show_amount, show_duration, show_rate};
use crate::stages::police::{Fate, Following, Police, Treatment};
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
use zsync_packet::flow::HashKey;
use zsync_packet::region::Region;

/// How often an adaptive rate looks at what it follows. A few round trips of most paths, so that senders have answered.
const INTERVAL: Duration = Duration::from_millis(100);
/// A burst that is not told is what the rate brings in this time.
const BURST_TIME: Duration = Duration::from_millis(50);
/// The least burst of bytes: the longest packet of an Ethernet port with an MTU of 1,500. A shorter one would never let it pass.
pub(crate) const LEAST_BURST: u64 = 1514;

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
        let MeterSpec::Adaptive {
            rate: Rate::Bits(ceiling) | Rate::Packets(ceiling),
            floor,
            target,
            follow,
            ..
        } = &self.meter
        else {
            return None;
        };
        let target = match target {
            TargetSpec::Wait(wait) => Target::Wait(nanoseconds(*wait)),
            TargetSpec::Loss(parts) => Target::Loss(*parts),
        };
        Some((Adaptive::new(*floor, *ceiling, target, nanoseconds(INTERVAL))?, follow))
    }

    /// The stage, for `workers` workers that all work on `state`, the shapers that it follows having theirs in `shapers`. None
    /// when the memory is too short, or for what the configuration refuses.
    #[must_use]
    pub fn stage(
        &self,
        state: Region,
        shapers: Vec<Region>,
        workers: usize,
        hash_key: HashKey,
    ) -> Option<Police> {
        let meter = self.meter()?;
        let subjects = self.subjects as usize;
        let stage = Police::new(meter, self.per, subjects, state, workers, hash_key, self.treatments)?;
        let stage = if self.aware { stage.aware() } else { stage };
        Some(match self.adaptive() {
            Some((adaptive, _)) => stage.following(Following { adaptive, shapers }),
            None => stage,
        })
    }

    /// Bytes of state, in one region that all workers share.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        self.meter().map_or(0, |meter| Subjects::bytes(self.per, self.subjects as usize, meter.words()))
    }
}

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

/// Reads the table called `path`.
pub(crate) fn police(fields: &Fields, path: &str, out: &mut Findings<'_>) -> PoliceSpec {
    let table = Table::of(fields, path);
    let rate = table.rate("rate").unwrap_or(Rate::Bits(1_000));
    let burst = |least, out: &mut Findings<'_>| table.burst("burst", rate, brought(rate), least, out);
    let meter = match fields.at("meter").map(|meter| &meter.value) {
        Some(Datum::OneKey(kind, settings)) => {
            let path = format!("{path}.meter.{kind}");
            let none = Fields::default();
            let inner = Table {
                fields: settings.value.fields().unwrap_or(&none),
                path: &path,
                place: settings.span.clone(),
            };
            match (*kind, &settings.value) {
                ("window", Datum::Period(window)) => {
                    if fields.at("burst").is_some() {
                        table.wrong(
                            "burst",
                            "says nothing to a window: its limit is what the rate brings in it".to_owned(),
                            out,
                        );
                    }
                    MeterSpec::Window { rate, window: *window }
                }
                ("srtcm", _) => {
                    let burst = burst(LEAST_BURST, out);
                    MeterSpec::SrTcm { rate, burst, excess: inner.burst("excess-burst", rate, burst, 0, out) }
                }
                ("trtcm", _) => trtcm(rate, burst(LEAST_BURST, out), &inner, out),
                _ => adaptive(rate, burst(LEAST_BURST, out), &inner, out),
            }
        }
        Some(word) if word.text() == "leaky" => MeterSpec::Leaky { rate, burst: burst(0, out) },
        _ => MeterSpec::Token { rate, burst: burst(LEAST_BURST, out) },
    };
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
        table.wrong(
            "rate",
            "is so low that what it is to let through at once takes more than four hours".to_owned(),
            out,
        );
    }
    spec
}

/// Refuses adaptive meters that follow a shaper that no pipeline has.
pub(crate) fn refuse_strangers(document: &Document, pipelines: &[Pipeline], out: &mut Findings<'_>) {
    let stages = || pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    let shapers = || {
        stages().filter(|stage| matches!(stage.spec, StageSpec::Shape(_))).map(|stage| stage.label.as_str())
    };
    for entry in document.stages().filter(|entry| entry.section.name == "police") {
        let label = format!("police.{}", entry.name.value);
        let Some(Datum::OneKey("adaptive", settings)) = entry.fields.at("meter").map(|meter| &meter.value)
        else {
            continue;
        };
        let Some(follow) = settings.value.fields().and_then(|settings| settings.at("follow")) else {
            continue;
        };
        let shaper = follow.value.text();
        if stages().any(|stage| stage.label == label) && !shapers().any(|label| label == shaper) {
            out.error(
                &follow.span,
                format!("no pipeline has the shaper \"{shaper}\" that [{label}] follows"),
            )
            .suggest(nearest(shaper, shapers()).map(|label| format!("\"{label}\"")));
        }
    }
}

fn trtcm(rate: Rate, burst: u64, table: &Table<'_>, out: &mut Findings<'_>) -> MeterSpec {
    let peak = table.like("peak", rate, out).unwrap_or(rate);
    if per_second(peak) < per_second(rate) {
        table.wrong("peak", "is below the rate".to_owned(), out);
    }
    let peak_burst = table.burst("peak-burst", peak, brought(peak), LEAST_BURST, out);
    MeterSpec::TrTcm { rate, burst, peak, peak_burst }
}

fn adaptive(rate: Rate, burst: u64, table: &Table<'_>, out: &mut Findings<'_>) -> MeterSpec {
    let floor = table.like("floor", rate, out).map_or((per_second(rate) / 100).max(1), per_second);
    if floor > per_second(rate) {
        table.wrong("floor", "is above the rate".to_owned(), out);
    }
    let target = table.fields.at("target").and_then(|target| parse_target(target.value.text()));
    let target = target.unwrap_or(TargetSpec::Wait(Duration::from_millis(5)));
    let follow = table.fields.text("follow");
    MeterSpec::Adaptive { rate, burst, floor, target, follow }
}

/// The table that is read.
pub(crate) struct Table<'f> {
    fields: &'f Fields,
    path: &'f str,
    /// Where it stands, for what it has not.
    place: Range<usize>,
}

impl<'f> Table<'f> {
    pub(crate) fn of(fields: &'f Fields, path: &'f str) -> Self {
        let place = fields.at("rate").map_or(0..0, |rate| rate.span.clone());
        Self { fields, path, place }
    }

    pub(crate) fn rate(&self, key: &str) -> Option<Rate> {
        parse_rate(self.fields.at(key)?.value.text()).ok()
    }

    /// A rate that counts what another one does.
    fn like(&self, key: &str, rate: Rate, out: &mut Findings<'_>) -> Option<Rate> {
        let found = self.rate(key)?;
        if matches!(found, Rate::Bits(_)) != matches!(rate, Rate::Bits(_)) {
            self.wrong(key, "and the rate count different things: bits or packets".to_owned(), out);
        }
        Some(found)
    }

    /// A burst that counts what the rate does, of `least` bytes or a packet at least.
    pub(crate) fn burst(
        &self,
        key: &str,
        rate: Rate,
        default: u64,
        least: u64,
        out: &mut Findings<'_>,
    ) -> u64 {
        let Some(amount) = self.fields.at(key).and_then(|value| parse_amount(value.value.text()).ok()) else {
            return default;
        };
        let problem = match (amount, rate) {
            (Amount::Bytes(bytes), Rate::Bits(_)) if bytes >= least => return bytes,
            (Amount::Packets(packets), Rate::Packets(_)) if packets > 0 || least == 0 => return packets,
            (Amount::Bytes(_), Rate::Bits(_)) => {
                format!("is less than a packet, which has up to {LEAST_BURST} bytes and would never pass")
            }
            (Amount::Packets(_), Rate::Packets(_)) => {
                "is less than a packet: none would ever pass".to_owned()
            }
            (_, Rate::Bits(_)) => {
                "counts packets, and the rate counts bits: write a size like \"1MiB\"".to_owned()
            }
            (_, Rate::Packets(_)) => {
                "counts bytes, and the rate counts packets: write a number like \"500packets\"".to_owned()
            }
        };
        self.wrong(key, problem, out);
        default
    }

    /// Reports the value of a key, or the table if it is absent.
    pub(crate) fn wrong(&self, key: &str, problem: String, out: &mut Findings<'_>) {
        let span = self.fields.at(key).map_or(self.place.clone(), |value| value.span.clone());
        out.error(&span, format!("`{}.{key}` {problem}", self.path));
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
    let keys: Vec<String> =
        keys.iter().filter_map(|(key, value)| Some(format!("{key} = {}", (*value)?))).collect();
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
    let nested = |kind: &str, keys: Vec<(&str, String)>| {
        let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        ("meter", format!("{{ {kind} = {{ {} }} }}", keys.join(", ")))
    };
    let (meter, rate, burst) = match &spec.meter {
        MeterSpec::Token { rate, burst } => (("meter", text("token".to_owned())), rate, Some(burst)),
        MeterSpec::Leaky { rate, burst } => (("meter", text("leaky".to_owned())), rate, Some(burst)),
        MeterSpec::SrTcm { rate, burst, excess } => {
            (nested("srtcm", vec![burst_row("excess-burst", *excess, *rate)]), rate, Some(burst))
        }
        MeterSpec::TrTcm { rate, burst, peak, peak_burst } => {
            let keys = vec![rate_row("peak", *peak), burst_row("peak-burst", *peak_burst, *rate)];
            (nested("trtcm", keys), rate, Some(burst))
        }
        MeterSpec::Window { rate, window } => {
            (("meter", format!("{{ window = \"{}\" }}", show_duration(*window))), rate, None)
        }
        MeterSpec::Adaptive { rate, burst, floor, target, follow } => {
            let floor = match rate {
                Rate::Bits(_) => Rate::Bits(*floor),
                Rate::Packets(_) => Rate::Packets(*floor),
            };
            let keys = vec![
                ("follow", text(follow.clone())),
                ("target", text(show_target(*target))),
                rate_row("floor", floor),
            ];
            (nested("adaptive", keys), rate, Some(burst))
        }
    };
    let mut rows = vec![meter, rate_row("rate", *rate)];
    rows.extend(burst.map(|burst| burst_row("burst", *burst, *rate)));
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
