//! JSON: one object, on one line, per outcome.
//!
//! The fields, in this order; those marked `?` may be null:
//!
//! ```text
//!   name, title, unit
//!   direction  "more is better" or "less is better"
//!   ours       { name, samples, minimum?, median?, maximum?, cpu_ns_per_packet?, ndr?: { rate, loss_limit } }
//!   peers      [ as ours, and ratio? ]
//!   ratio?     { peer, minimum, median, maximum, samples }: against the first peer, the one that was asked for
//!   command
//!   kernel, cpu, cores, load, ghz?, driver?, mode?
//!   commit, date
//!   latency    [ { series, offered?, packets?, points: [ { quantile, nanoseconds } ] } ]
//!   loss       [ { series, trials: [ { offered, received, loss } ] } ]
//!   notes      [ text ]
//!   absent     [ { name, reason } ]
//!   invalid    [ text ]: if there is any, the figures are no measurement
//! ```
//!
//! Samples are in the order of the rounds; one that is no number is null. Rates are packets per second, losses from 0 to 1.
//! A ratio above 1 means that zsync is better, whatever the direction.
//!
//! Reading takes name, unit, direction, ours and samples as given and the rest if it is there. What is computed (spreads,
//! ratios) is computed again from the samples, so that no file can say what its samples do not. Fields that are not known
//! are passed over: a newer zsync may write more.

use crate::curve::{LatencyCurve, LossCurve};
use crate::machine::Machine;
use crate::outcome::{Absent, Direction, Ndr, Outcome, Ratio, Series};
use crate::spread::Spread;
use serde::{Deserialize, Deserializer, Serialize};

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    title: &'a str,
    unit: &'a str,
    direction: Direction,
    ours: Side<'a>,
    peers: Vec<Peer<'a>>,
    ratio: Option<Ratio>,
    command: &'a str,
    #[serde(flatten)]
    machine: &'a Machine,
    commit: &'a str,
    date: &'a str,
    latency: &'a [LatencyCurve],
    loss: &'a [LossCurve],
    notes: &'a [String],
    absent: &'a [Absent],
    invalid: Vec<String>,
}

#[derive(Serialize)]
struct Side<'a> {
    name: &'a str,
    samples: &'a [f64],
    minimum: Option<f64>,
    median: Option<f64>,
    maximum: Option<f64>,
    cpu_ns_per_packet: Option<f64>,
    ndr: Option<Ndr>,
}

#[derive(Serialize)]
struct Peer<'a> {
    #[serde(flatten)]
    side: Side<'a>,
    ratio: Option<Ratio>,
}

impl<'a> Side<'a> {
    fn of(series: &'a Series) -> Self {
        let Series { name, samples, cpu_ns_per_packet, ndr } = series;
        let spread = Spread::of(samples);
        Self {
            name,
            samples,
            minimum: spread.map(|spread| spread.minimum),
            median: spread.map(|spread| spread.median),
            maximum: spread.map(|spread| spread.maximum),
            cpu_ns_per_packet: *cpu_ns_per_packet,
            ndr: *ndr,
        }
    }
}

impl Outcome {
    /// As a line of JSON, without the newline.
    pub fn to_json(&self) -> String {
        let line = Line {
            name: &self.name,
            title: &self.title,
            unit: &self.unit,
            direction: self.direction,
            ours: Side::of(&self.ours),
            peers: self
                .peers
                .iter()
                .map(|peer| Peer { side: Side::of(peer), ratio: self.ratio(peer) })
                .collect(),
            ratio: self.peers.first().and_then(|peer| self.ratio(peer)),
            command: &self.command,
            machine: &self.machine,
            commit: &self.commit,
            date: &self.date,
            latency: &self.latency,
            loss: &self.loss,
            notes: &self.notes,
            absent: &self.absent,
            invalid: self.problems(),
        };
        // Strings as keys and plain values: there is nothing in a line that JSON could refuse.
        serde_json::to_string(&line).unwrap_or_default()
    }

    /// From JSON.
    ///
    /// # Errors
    /// It is not JSON, or lacks a field that an outcome is nothing without.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// Samples, with null for what was no number: JSON has no other way to say so.
pub(crate) fn samples<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let samples = Vec::<Option<f64>>::deserialize(deserializer)?;
    Ok(samples.into_iter().map(|sample| sample.unwrap_or(f64::NAN)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::{Percentile, Trial};
    use proptest::prelude::*;
    use serde_json::Value;

    fn full() -> Outcome {
        let ours = Series {
            cpu_ns_per_packet: Some(61.5),
            ndr: Some(Ndr { rate: 1.1e6, loss_limit: 1e-6 }),
            ..Series::new("zsync", [3.0, 4.0])
        };
        Outcome {
            title: "Routes \"packets\"\n".to_owned(),
            peers: vec![Series::new("testpmd", [1.5, 1.0]), Series::new("VPP", [6.0, 4.0])],
            command: "zsync-bench run x".to_owned(),
            machine: Machine { kernel: "6.18".to_owned(), cores: 2, load: 0.1, ..Machine::default() },
            commit: "abc".to_owned(),
            date: "2026-11-21".to_owned(),
            latency: vec![LatencyCurve {
                series: "zsync".to_owned(),
                offered: Some(1e6),
                packets: Some(u64::MAX),
                points: vec![Percentile { quantile: 0.999, nanoseconds: 1234.5 }],
            }],
            loss: vec![LossCurve {
                series: "zsync".to_owned(),
                trials: vec![Trial { offered: 2.0, received: 1.0, loss: 0.5 }],
            }],
            notes: vec!["busy".to_owned()],
            absent: vec![Absent { name: "dpdk-l3fwd".to_owned(), reason: "not installed".to_owned() }],
            invalid: vec!["too short".to_owned()],
            ..Outcome::new("route", "packets/s", Direction::More, ours)
        }
    }

    #[test]
    fn a_line_has_the_documented_fields_in_the_documented_order() {
        let golden = concat!(
            r#"{"name":"route","title":"Routes \"packets\"\n","unit":"packets/s","direction":"more is better","#,
            r#""ours":{"name":"zsync","samples":[3.0,4.0],"minimum":3.0,"median":3.5,"maximum":4.0,"#,
            r#""cpu_ns_per_packet":61.5,"ndr":{"rate":1100000.0,"loss_limit":1e-6}},"#,
            r#""peers":[{"name":"testpmd","samples":[1.5,1.0],"minimum":1.0,"median":1.25,"maximum":1.5,"#,
            r#""cpu_ns_per_packet":null,"ndr":null,"#,
            r#""ratio":{"peer":"testpmd","minimum":2.0,"median":3.0,"maximum":4.0,"samples":[2.0,4.0]}},"#,
            r#"{"name":"VPP","samples":[6.0,4.0],"minimum":4.0,"median":5.0,"maximum":6.0,"#,
            r#""cpu_ns_per_packet":null,"ndr":null,"#,
            r#""ratio":{"peer":"VPP","minimum":0.5,"median":0.75,"maximum":1.0,"samples":[0.5,1.0]}}],"#,
            r#""ratio":{"peer":"testpmd","minimum":2.0,"median":3.0,"maximum":4.0,"samples":[2.0,4.0]},"#,
            r#""command":"zsync-bench run x","kernel":"6.18","cpu":"","cores":2,"load":0.1,"ghz":null,"#,
            r#""driver":null,"mode":null,"commit":"abc","date":"2026-11-21","#,
            r#""latency":[{"series":"zsync","offered":1000000.0,"packets":18446744073709551615,"#,
            r#""points":[{"quantile":0.999,"nanoseconds":1234.5}]}],"#,
            r#""loss":[{"series":"zsync","trials":[{"offered":2.0,"received":1.0,"loss":0.5}]}],"#,
            r#""notes":["busy"],"absent":[{"name":"dpdk-l3fwd","reason":"not installed"}],"invalid":["too short"]}"#,
        );
        assert_eq!(full().to_json(), golden);
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        assert_eq!(Outcome::from_json(&full().to_json()).unwrap(), full());
    }

    #[test]
    fn a_sample_that_is_no_number_makes_the_outcome_invalid_here_and_there() {
        let outcome = Outcome::new("x", "ns", Direction::Less, Series::new("zsync", [1.0, f64::NAN]));
        let read = Outcome::from_json(&outcome.to_json()).unwrap();
        assert!(read.ours.samples[1].is_nan());
        assert_eq!(read.problems(), ["zsync has NaN ns in round 2"]);
    }

    #[test]
    fn a_ratio_that_the_samples_do_not_give_is_not_believed() {
        let mut value: Value = serde_json::from_str(&full().to_json()).unwrap();
        value["ratio"]["median"] = 100.into();
        value["future"] = true.into();
        assert_eq!(Outcome::from_json(&value.to_string()).unwrap().ratios()[0].spread.median, 3.0);
    }

    #[test]
    fn what_lacks_its_samples_is_refused() {
        let error =
            Outcome::from_json(r#"{"name":"x","unit":"ns","direction":"less is better"}"#).unwrap_err();
        assert!(error.to_string().contains("ours"), "{error}");
        assert!(Outcome::from_json("[]").is_err());
    }

    proptest! {
        #[test]
        fn any_text_and_any_samples_are_one_line_and_come_back(
            name in any::<String>(),
            samples in prop::collection::vec(1e-300..1e300, 1..20),
            load in 0.0..1e6,
        ) {
            let mut outcome = Outcome::new(&name, &name, Direction::Less, Series::new(&name, samples.clone()));
            outcome.peers.push(Series::new(&name, samples));
            outcome.notes.push(name.clone());
            outcome.machine.load = load;
            let line = outcome.to_json();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(Outcome::from_json(&line).unwrap(), outcome);
        }
    }
}
