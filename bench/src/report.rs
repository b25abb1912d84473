//! Reports: repeated samples, their spread, ratios pair by pair; printed as a table.
//!
//! Keeps true: nothing is averaged away. A figure has its minimum, median and maximum, and [outcomes](Report::outcomes) have every sample.

use crate::machine;
use crate::search::Findings;
use std::fmt;
use zsync_report::machine::Machine;
use zsync_report::spread::Spread;

/// The outcome of one benchmark.
#[derive(Debug)]
pub struct Report {
    /// What was run.
    pub name: &'static str,
    /// Where.
    pub machine: Machine,
    /// Whether rates are per second of one core's time, so that they say what a packet costs.
    pub of_core_time: bool,
    /// What rates count: packets, unless it says something else.
    pub unit: &'static str,
    /// Throughputs.
    pub rates: Vec<Rate>,
    /// What was compared.
    pub ratios: Vec<Ratio>,
    /// What a reader must know: what could not be run, and how it was measured.
    pub notes: Vec<String>,
    /// Why zsync itself has no figure, when it has none: the report is of its peers then, and the run has failed.
    pub failure: Option<String>,
    /// Why there is no figure of zsync's though nothing went wrong: what is compared does not exist yet.
    pub absent: Option<String>,
    /// What a packet cost of processor time, where that was measured besides.
    pub costs: Vec<Cost>,
    /// What was found of the rates without loss, where they were searched.
    pub searched: Vec<Searched>,
    /// Names of rates that are no measurement of what they are called: something else was the limit.
    pub unmeasured: Vec<String>,
}

/// Processor time per packet in nanoseconds, round by round: that of all involved, softirqs included.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    /// Of which rate.
    pub name: String,
    /// Of all cores.
    pub whole: Vec<f64>,
    /// Of the core that forwards.
    pub own: Vec<f64>,
}

/// What a search found of one thing.
#[derive(Clone, Debug)]
pub struct Searched {
    /// Of which rate.
    pub name: String,
    /// What it found.
    pub found: Findings,
}

impl fmt::Display for Searched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.found.ndr, &self.found.irregular) {
            (Some(ndr), None) => write!(f, "{:.3} M packets/s", ndr.rate / 1e6),
            (Some(ndr), Some(why)) => write!(f, "at least {:.3} M packets/s: {why}", ndr.rate / 1e6),
            (None, Some(why)) => write!(f, "not found: {why}"),
            (None, None) => f.write_str("not found"),
        }
    }
}

/// Packets per second of one thing, round by round.
#[derive(Clone, Debug)]
pub struct Rate {
    /// What it is the rate of.
    pub name: String,
    /// Packets per second, in the order of the rounds.
    pub samples: Vec<f64>,
}

/// Two rates, measured in turn.
#[derive(Clone, Debug)]
pub struct Ratio {
    /// What is divided by what.
    pub name: String,
    /// Of each pair.
    pub samples: Vec<f64>,
}

impl Ratio {
    /// `ours` over `theirs`, round by round.
    pub fn of(ours: &Rate, theirs: &Rate) -> Self {
        let samples = ours.samples.iter().zip(&theirs.samples).map(|(ours, theirs)| ours / theirs).collect();
        Self { name: format!("{} / {}", ours.name, theirs.name), samples }
    }
}

impl Report {
    /// An empty one.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            machine: machine::look(),
            of_core_time: false,
            unit: "packet",
            rates: vec![],
            ratios: vec![],
            notes: vec![],
            failure: None,
            absent: None,
            costs: vec![],
            searched: vec![],
            unmeasured: vec![],
        }
    }

    /// Adds two rates that were measured in turn, and their ratio.
    pub fn compare(&mut self, ours: Rate, theirs: Rate) {
        self.ratios.push(Ratio::of(&ours, &theirs));
        self.rates.extend([ours, theirs]);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.name, self.machine)?;
        let width = self.rates.iter().map(|r| r.name.len()).chain(self.ratios.iter().map(|r| r.name.len()));
        let width = width.max().unwrap_or(0);
        if !self.rates.is_empty() {
            let unit = self.unit;
            let cost = if self.of_core_time { format!("  ns/{unit}  clocks/{unit}") } else { String::new() };
            writeln!(f, "{:width$}  M {unit}s/s: median    min    max  rounds{cost}", "")?;
        }
        for rate in &self.rates {
            let Some(Spread { minimum, median, maximum }) = Spread::of(&rate.samples) else {
                writeln!(f, "{:width$}  no rounds", rate.name)?;
                continue;
            };
            let [min, million, max] = [minimum, median, maximum].map(|rate| rate / 1e6);
            write!(f, "{:width$}  {million:19.2} {min:6.2} {max:6.2} {:7}", rate.name, rate.samples.len())?;
            if self.of_core_time {
                let ns = 1e9 / median;
                let clocks = self.machine.ghz.map_or("-".to_owned(), |ghz| format!("{:.1}", ns * ghz));
                write!(f, " {ns:10.2} {clocks:>14}")?;
            }
            if self.unmeasured.contains(&rate.name) {
                write!(f, "  no measurement")?;
            }
            writeln!(f)?;
        }
        for ratio in &self.ratios {
            let Some(Spread { minimum, median, maximum }) = Spread::of(&ratio.samples) else { continue };
            writeln!(
                f,
                "{:width$}  ratio by pairs: {median:.2}  ({minimum:.2} to {maximum:.2})",
                ratio.name
            )?;
        }
        for Cost { name, whole, own } in &self.costs {
            let [whole, own] = [whole, own].map(|samples| Spread::of(samples));
            let (Some(whole), Some(own)) = (whole, own) else { continue };
            let (whole, own) = (whole.median, own.median);
            writeln!(
                f,
                "{name:width$}  ns of processor time a packet: {whole:.0}, {own:.0} of them on the forwarder's core"
            )?;
        }
        for searched in &self.searched {
            writeln!(f, "{:width$}  without loss (NDR): {searched}", searched.name)?;
        }
        if let Some(why) = &self.absent {
            writeln!(f, "no figure of zsync's: {why}")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_pairs() {
        let rate = |name: &str, samples: &[f64]| Rate { name: name.to_owned(), samples: samples.to_vec() };
        let mut report = Report::new("test");
        // One slow moment of the machine slows both, and the ratio does not see it.
        report.compare(rate("ours", &[8e6, 2e6, 8e6]), rate("theirs", &[4e6, 1e6, 4e6]));
        assert_eq!(report.ratios[0].samples, [2.0; 3]);
        let text = report.to_string();
        assert!(text.contains("ours / theirs  ratio by pairs: 2.00  (2.00 to 2.00)"), "{text}");
    }

    #[test]
    fn what_has_no_round_is_said_to_have_none_and_has_no_ratio() {
        let rate = |name: &str, samples: &[f64]| Rate { name: name.to_owned(), samples: samples.to_vec() };
        let mut report = Report::new("test");
        report.compare(rate("ours", &[8e6]), rate("theirs", &[]));
        let text = report.to_string();
        assert!(text.contains("theirs         no rounds") && !text.contains("ratio by pairs"), "{text}");
    }
}
