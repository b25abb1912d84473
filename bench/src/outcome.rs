//! A report as outcomes, one for each thing of ours that was compared: what `--json` prints a line of, and pages are made from.
//!
//! Keeps true: what was no measurement in the report is none in its outcome, with the reason.

use crate::report::{Rate, Report, Searched};
use zsync_report::curve::LatencyCurve;
use zsync_report::outcome::{Absent, Direction, Outcome, Series};
use zsync_report::spread::Spread;

/// The commit that this program was built from; `-dirty` when there were changes besides.
pub const COMMIT: &str = env!("ZSYNC_BENCH_COMMIT");

impl Report {
    /// Its outcomes. `about` says what is measured, `command` measures it again.
    ///
    /// Whatever of ours has a ratio is one, beside its peers; a report without ratios has one for each of its rates.
    pub fn outcomes(&self, about: &str, command: &str) -> Vec<Outcome> {
        let ours = |ratio: &str| self.rates.iter().find(|rate| is_over(ratio, rate, None));
        let mut compared: Vec<&Rate> = Vec::new();
        for rate in self.ratios.iter().filter_map(|ratio| ours(&ratio.name)) {
            if !compared.iter().any(|known| known.name == rate.name) {
                compared.push(rate);
            }
        }
        if let Some(why) = self.absent.as_ref().or(self.failure.as_ref()) {
            let mut outcome = self.outcome(self.name.to_owned(), Series::new("zsync", []), about, command);
            let others = self.rates.iter().filter(|rate| rate.name != outcome.ours.name);
            outcome.peers = others.map(|rate| self.series(rate)).collect();
            outcome.absent.push(Absent { name: "zsync".to_owned(), reason: why.clone() });
            return vec![outcome];
        }
        if !self.unmeasured.is_empty() {
            // Without a ratio perhaps, and ours and theirs all the same: a report puts ours first.
            compared = self.rates.first().into_iter().collect();
        }
        if compared.is_empty() {
            let single = self.rates.len() == 1;
            let named = |rate: &Rate| {
                if single { self.name.to_owned() } else { format!("{}: {}", self.name, rate.name) }
            };
            return self
                .rates
                .iter()
                .map(|rate| self.outcome(named(rate), self.series(rate), about, command))
                .collect();
        }
        let single = compared.len() == 1;
        let of = |ours: &&Rate| {
            let name = if single { self.name.to_owned() } else { format!("{}: {}", self.name, ours.name) };
            let mut outcome = self.outcome(name, self.series(ours), about, command);
            let beside = |theirs: &&Rate| {
                let limited =
                    [&ours.name, &theirs.name].into_iter().any(|name| self.unmeasured.contains(name));
                self.ratios.iter().any(|ratio| is_over(&ratio.name, ours, Some(theirs)))
                    || limited && theirs.name != ours.name
            };
            outcome.peers = self.rates.iter().filter(beside).map(|rate| self.series(rate)).collect();
            let among =
                |name: &String| *name == ours.name || outcome.peers.iter().any(|peer| peer.name == *name);
            let limited = self.unmeasured.iter().filter(|name| among(name));
            outcome.invalid =
                limited.map(|name| format!("{name}: the generator was the bottleneck")).collect();
            outcome
        };
        compared.iter().map(of).collect()
    }

    fn outcome(&self, name: String, ours: Series, about: &str, command: &str) -> Outcome {
        let unit = if self.of_core_time { "s per second of core time" } else { "s/s" };
        let mut outcome = Outcome::new(name, format!("{}{unit}", self.unit), Direction::More, ours);
        outcome.title = about.to_owned();
        outcome.command = command.to_owned();
        let (driver, mode) = match self.name {
            "veth-track" | "veth-nat" | "veth-filter" => ("veth", "the kernel's stack"),
            "veth-packet" => ("veth", "AF_PACKET"),
            name if name.starts_with("veth") => ("veth", "AF_XDP copy"),
            name if name.starts_with("tun") => ("tun", "read and write"),
            _ => ("null", "in memory"),
        };
        outcome.machine = self.machine.with_devices(driver, mode);
        outcome.commit = COMMIT.to_owned();
        outcome.notes.clone_from(&self.notes);
        for Searched { name, found } in &self.searched {
            outcome.loss.push(found.loss(name));
            // Of several things one curve each, at about half of what it carries; else they are too many to be read.
            let half = found.ndr.map(|ndr| ndr.rate / 2.0);
            let is_half = |curve: &&LatencyCurve| {
                half.zip(curve.offered).is_some_and(|(half, rate)| (rate / half - 1.0).abs() < 0.2)
            };
            outcome.latency.extend(found.latency.iter().find(is_half).cloned().map(|curve| curve.of(name)));
        }
        let irregular = self.searched.iter().filter(|searched| searched.found.irregular.is_some());
        outcome
            .notes
            .extend(irregular.map(|searched| format!("{}, without loss: {searched}", searched.name)));
        outcome
    }

    fn series(&self, rate: &Rate) -> Series {
        let cost = self.costs.iter().find(|cost| cost.name == rate.name);
        let whole = cost.and_then(|cost| Spread::of(&cost.whole)).map(|spread| spread.median);
        let searched = self.searched.iter().find(|searched| searched.name == rate.name);
        let ndr = searched.filter(|searched| searched.found.irregular.is_none()).and_then(|s| s.found.ndr);
        Series { cpu_ns_per_packet: whole, ndr, ..Series::new(rate.name.clone(), rate.samples.clone()) }
    }
}

/// Whether the ratio of this name is of `ours`, over `theirs` if that is asked.
fn is_over(ratio: &str, ours: &Rate, theirs: Option<&Rate>) -> bool {
    ratio
        .strip_prefix(ours.name.as_str())
        .and_then(|rest| rest.strip_prefix(" / "))
        .is_some_and(|over| theirs.is_none_or(|theirs| over == theirs.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(name: &str, samples: &[f64]) -> Rate {
        Rate { name: name.to_owned(), samples: samples.to_vec() }
    }

    #[test]
    fn a_comparison_is_one_outcome_with_its_peers_in_order() {
        let mut report = Report::new("veth-route");
        let (ours, theirs, kernel) =
            (rate("zsync", &[3.0, 6.0]), rate("testpmd", &[2.0, 2.0]), rate("kernel", &[1.0; 2]));
        report.ratios = [&theirs, &kernel].map(|theirs| crate::report::Ratio::of(&ours, theirs)).to_vec();
        report.rates = vec![ours, theirs, kernel];
        report.unmeasured = vec!["kernel".to_owned()];
        let outcomes = report.outcomes("a router", "zsync-bench run veth-route");
        let [outcome] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert_eq!((outcome.name.as_str(), outcome.peers.len()), ("veth-route", 2));
        assert_eq!(outcome.ratio(&outcome.peers[0]).unwrap().samples, [1.5, 3.0]);
        assert!(outcome.invalid[0].contains("kernel"), "{:?}", outcome.invalid);
        assert_eq!(Outcome::from_json(&outcome.to_json()).unwrap(), *outcome);
    }

    #[test]
    fn what_the_generator_limited_is_no_measurement_of_ours_even_without_a_ratio() {
        let mut report = Report::new("veth-route");
        report.rates = vec![rate("zsync", &[3.0]), rate("testpmd", &[2.0])];
        for limited in ["zsync", "testpmd"] {
            report.unmeasured = vec![limited.to_owned()];
            let outcomes = report.outcomes("", "");
            let [outcome] = &outcomes[..] else { panic!("{outcomes:?}") };
            assert_eq!((outcome.ours.name.as_str(), outcome.peers[0].name.as_str()), ("zsync", "testpmd"));
            assert!(outcome.invalid[0].contains(limited), "{:?}", outcome.invalid);
        }
    }

    #[test]
    fn when_ours_failed_between_rounds_it_is_no_peer_of_its_own() {
        let mut report = Report::new("veth-route");
        report.rates = vec![rate("zsync", &[3.0]), rate("testpmd", &[2.0])];
        report.failure = Some("no zsync: it ended".to_owned());
        let outcomes = report.outcomes("", "");
        assert_eq!((outcomes.len(), outcomes[0].peers.len()), (1, 1));
        assert_eq!(outcomes[0].peers[0].name, "testpmd");
    }

    #[test]
    fn rates_without_a_peer_are_outcomes_of_their_own_and_what_is_absent_is_said() {
        let mut report = Report::new("memory-route");
        report.rates = vec![rate("IPv4", &[1.0]), rate("IPv6", &[2.0])];
        let names: Vec<String> = report.outcomes("", "").into_iter().map(|outcome| outcome.name).collect();
        assert_eq!(names, ["memory-route: IPv4", "memory-route: IPv6"]);
        report.absent = Some("zsync has no filter stage yet".to_owned());
        let outcomes = report.outcomes("", "");
        assert_eq!((outcomes.len(), outcomes[0].peers.len()), (1, 2));
        assert_eq!(outcomes[0].absent[0].reason, "zsync has no filter stage yet");
        assert!(outcomes[0].ratios().is_empty());
    }
}
