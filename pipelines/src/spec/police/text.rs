//! What `[police.NAME]` says as text: read, and written as it is read.

use super::{MeterSpec, PoliceSpec, TargetSpec};
use crate::spec::quantity::{Amount, decimal, parse_duration, show_amount, show_duration, show_rate};
use crate::stages::police::{Fate, Treatment};
use crate::tables::meter::pace::Rate;
use crate::tables::meter::subject::Per;

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
        return parse_duration(text).ok().map(TargetSpec::Wait);
    };
    let parts = decimal(percent.trim_end(), 10_000).ok()?;
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
