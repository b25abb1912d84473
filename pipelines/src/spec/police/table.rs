//! `[police.NAME]` as it is read, and what its keys say together.

use super::text::{parse_per, parse_target};
use super::{LEAST_BURST, MeterSpec, PoliceSpec, TargetSpec, brought, per_second};
use crate::spec::datum::{Datum, Fields, Placed};
use crate::spec::findings::Findings;
use crate::spec::quantity::{Amount, parse_amount, parse_rate};
use crate::stages::police::{Fate, Treatment};
use crate::tables::meter::pace::Rate;
use crate::tables::meter::subject::Per;
use std::ops::Range;
use std::time::Duration;

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
