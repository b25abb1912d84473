//! What came of a run: rows of samples, as tables for a terminal and as outcomes; limits beside their figures.
//!
//! Keeps true: nothing is averaged away, every sample is in its row; a ratio above 1 says that zsync is the faster one.

use crate::figure::digits;
use crate::limit::Limit;
use crate::machine::Machine;
use crate::outcome::{Absent, Direction, Outcome, Ratio, Series};
use crate::spread::Spread;
use std::fmt;

/// What ours is called among contestants.
pub const OURS: &str = "zsync";

/// One task, and the samples of all who had a turn at it.
#[derive(Clone, Debug)]
pub struct Row {
    /// What rows beside it have in common: "ChaCha20-Poly1305, seal".
    pub group: String,
    /// What is its own: "64 B". Empty: nothing but how many are handed over at once.
    pub name: String,
    /// Packets or signatures handed over at once; 0: they are not.
    pub burst: usize,
    /// Ours first, if there is one, and the one that ratios are to second.
    pub series: Vec<Series>,
}

impl Row {
    /// All of it in words.
    pub fn title(&self) -> String {
        let name = if self.name.is_empty() { String::new() } else { format!(", {}", self.name) };
        format!("{}{name}{}", self.group, self.at_once())
    }

    fn at_once(&self) -> String {
        if self.burst == 0 { String::new() } else { format!(", {} at once", self.burst) }
    }

    /// What its table is called, and what it is called in it.
    fn labels(&self) -> (String, String) {
        if self.name.is_empty() {
            (self.group.clone(), format!("{} at once", self.burst))
        } else {
            (format!("{}{}", self.group, self.at_once()), self.name.clone())
        }
    }

    /// The samples of the one of this name.
    pub fn samples(&self, name: &str) -> Option<&[f64]> {
        let series = self.series.iter().find(|series| series.name == name)?;
        (!series.samples.is_empty()).then_some(&series.samples)
    }

    /// The median of them.
    pub fn median(&self, name: &str) -> Option<f64> {
        Some(Spread::of(self.samples(name)?)?.median)
    }
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Of the samples: "ns/packet", "signatures/s".
    pub unit: &'static str,
    /// Which way is better.
    pub direction: Direction,
    /// What is measured, in a sentence.
    pub about: &'static str,
    /// Everybody beside everybody.
    pub rows: Vec<Row>,
    /// Ours beside one other, in bursts of each size.
    pub bursts: Vec<Row>,
    /// Where ours is the slowest beside that other.
    pub slowest: Vec<Row>,
    /// What is to be reached.
    pub limits: Vec<Limit>,
    /// Who should have been measured and was not.
    pub absent: Vec<Absent>,
    /// What a reader must know.
    pub notes: Vec<String>,
}

impl Figures {
    /// Without any.
    pub fn new(unit: &'static str, direction: Direction, about: &'static str) -> Self {
        Self {
            unit,
            direction,
            about,
            rows: vec![],
            bursts: vec![],
            slowest: vec![],
            limits: vec![],
            absent: vec![],
            notes: vec![],
        }
    }

    /// As `--json` prints them, a line each: `benchmark` names them, `command` measures them again, `commit` is what was measured.
    pub fn outcomes(&self, benchmark: &str, command: &str, machine: &Machine, commit: &str) -> Vec<Outcome> {
        let rows = self.rows.iter().chain(&self.bursts).chain(&self.slowest);
        rows.filter(|row| row.series.iter().any(|series| !series.samples.is_empty()))
            .map(|row| {
                let mut outcome = self.outcome(format!("{benchmark}: {}", row.title()), row);
                outcome.command = command.to_owned();
                outcome.machine = machine.clone();
                outcome.commit = commit.to_owned();
                let limits = self.limits.iter().filter(|limit| limit.of == row.title());
                outcome.notes = limits.map(Limit::to_string).chain(self.notes.iter().cloned()).collect();
                outcome.absent.clone_from(&self.absent);
                outcome
            })
            .collect()
    }

    fn outcome(&self, name: String, row: &Row) -> Outcome {
        let (ours, peers): (Vec<_>, Vec<_>) =
            row.series.iter().cloned().partition(|series| series.name == OURS);
        let ours = ours.into_iter().next().unwrap_or_else(|| Series::new(OURS, []));
        Outcome { title: self.about.to_owned(), peers, ..Outcome::new(name, self.unit, self.direction, ours) }
    }

    /// Ours beside the first of the others, in each round.
    pub fn ratio(&self, row: &Row) -> Option<Ratio> {
        self.outcome(String::new(), row).ratios().into_iter().next()
    }

    /// A table of one group's rows that have the same burst.
    fn table(&self, rows: &[&Row], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<&str> = Vec::new();
        for series in rows.iter().flat_map(|row| &row.series) {
            if !names.contains(&series.name.as_str()) {
                names.push(&series.name);
            }
        }
        let wide = |name: &str| name.chars().count().max(7) + 2;
        let width = rows.iter().map(|row| row.labels().1.chars().count()).max().unwrap_or(0).max(12);
        write!(f, "{:width$}", "")?;
        names.iter().try_for_each(|name| write!(f, "{name:>0$}", wide(name)))?;
        let is_compared = rows.iter().any(|row| self.ratio(row).is_some());
        let second = names.get(1).copied().unwrap_or_default();
        writeln!(f, "{}", if is_compared { format!("  times as fast as {second}") } else { String::new() })?;
        for row in rows {
            write!(f, "{:width$}", row.labels().1)?;
            for name in &names {
                let median = row.median(name).map_or("-".to_owned(), digits);
                write!(f, "{median:>0$}", wide(name))?;
            }
            if let Some(Ratio { spread, .. }) = self.ratio(row) {
                let [median, low, high] = [spread.median, spread.minimum, spread.maximum];
                write!(f, "  {median:.2} ({low:.2} to {high:.2})")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Rows that follow one another and are alike in `key`.
fn groups(rows: &[Row], key: impl Fn(&Row) -> String) -> Vec<Vec<&Row>> {
    let mut groups: Vec<Vec<&Row>> = Vec::new();
    for row in rows {
        match groups.last_mut() {
            Some(group) if group.last().is_some_and(|last| key(last) == key(row)) => group.push(row),
            _ => groups.push(vec![row]),
        }
    }
    groups
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in groups(&self.rows, |row| row.labels().0) {
            let Some(first) = group.first() else { continue };
            writeln!(f, "{}: {}, medians", first.labels().0, self.unit)?;
            self.table(&group, f)?;
            writeln!(f)?;
        }
        for group in groups(&self.bursts, |row| row.group.clone()) {
            let Some(first) = group.first() else { continue };
            let lines = groups(&self.bursts, |row| format!("{} {}", row.group, row.name));
            let mut lines = lines.iter().filter(|line| line[0].group == first.group).peekable();
            let second = first.series.get(1).map(|series| series.name.as_str()).unwrap_or_default();
            writeln!(f, "{}: times as fast as {second}, by packets at once", first.group)?;
            write!(f, "{:16}", "")?;
            lines
                .peek()
                .iter()
                .try_for_each(|line| line.iter().try_for_each(|row| write!(f, "{:>7}", row.burst)))?;
            writeln!(f)?;
            for line in lines {
                write!(f, "{:16}", line[0].name)?;
                for row in line {
                    let ratio =
                        self.ratio(row).map_or("-".to_owned(), |ratio| format!("{:.2}", ratio.spread.median));
                    write!(f, "{ratio:>7}")?;
                }
                writeln!(f)?;
            }
            writeln!(f)?;
        }
        if !self.slowest.is_empty() {
            writeln!(f, "where zsync is the slowest beside ring: {}", self.unit)?;
        }
        for row in &self.slowest {
            let [ours, theirs] = [0, 1].map(|n| {
                row.series.get(n).and_then(|series| row.median(&series.name)).map_or("-".to_owned(), digits)
            });
            let ratio = self.ratio(row).map_or(f64::NAN, |ratio| ratio.spread.median);
            writeln!(f, "{}: {ours} beside {theirs}, {ratio:.3}", row.title())?;
        }
        let mut what = "";
        for limit in &self.limits {
            if what != limit.what {
                what = &limit.what;
                writeln!(f, "\nlimit: {what}")?;
            }
            writeln!(f, "  {:62} {}", limit.of, limit.verdict())?;
        }
        if !self.limits.is_empty() {
            writeln!(f)?;
        }
        self.absent.iter().try_for_each(|absent| writeln!(f, "no {}: {}", absent.name, absent.reason))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Asked;

    fn row(name: &str, burst: usize, samples: &[(&str, &[f64])]) -> Row {
        let series = samples.iter().map(|&(name, samples)| Series::new(name, samples)).collect();
        Row { group: "ChaCha20-Poly1305, seal".to_owned(), name: name.to_owned(), burst, series }
    }

    fn figures() -> Figures {
        let mut figures = Figures::new("ns/packet", Direction::Less, "what a packet costs");
        figures.rows = vec![
            row(
                "64 B",
                32,
                &[(OURS, &[30.0, 50.0]), ("ring", &[150.0, 250.0]), ("aws-lc-rs", &[160.0, 160.0])],
            ),
            row("256 B", 32, &[(OURS, &[70.0]), ("ring", &[235.0])]),
        ];
        for (burst, ours) in [(1, 150.0), (32, 50.0)] {
            figures.bursts.push(row("64 B", burst, &[(OURS, &[ours]), ("ring", &[150.0])]));
        }
        figures.slowest = vec![row("16 B", 1, &[(OURS, &[200.0]), ("ring", &[100.0])])];
        let of = figures.rows[0].title();
        let (figure, asked) = (Ok(5.0), Asked::AtLeast(5.5));
        figures.limits = vec![Limit { what: "times as fast as ring".to_owned(), of, figure, asked }];
        figures.absent = vec![Absent { name: "ipsec-mb".to_owned(), reason: "no C compiler".to_owned() }];
        figures
    }

    #[test]
    fn a_row_is_an_outcome_with_its_peers_in_order_and_its_limits() {
        let machine = Machine { processor: "any".to_owned(), ..Machine::default() };
        let outcomes = figures().outcomes("crypto", "zsync-bench run crypto", &machine, "c0ffee");
        assert_eq!(outcomes.len(), 5);
        let first = &outcomes[0];
        assert_eq!(first.name, "crypto: ChaCha20-Poly1305, seal, 64 B, 32 at once");
        assert_eq!(first.ratios()[0].samples, [5.0, 5.0]);
        assert!(
            first.notes[0].ends_with("times as fast as ring: 5.00, at least 5.50: NOT held"),
            "{first:?}"
        );
        assert_eq!((outcomes[1].notes.len(), outcomes[1].absent.len()), (0, 1));
        assert_eq!(Outcome::from_json(&first.to_json()).unwrap(), *first);
    }

    #[test]
    fn what_is_printed_has_everybody_bursts_the_slowest_limits_and_who_is_missing() {
        let text = figures().to_string();
        for line in [
            "64 B             40.0      200        160  5.00 (5.00 to 5.00)",
            "256 B            70.0      235          -  3.36 (3.36 to 3.36)",
            "64 B               1.00   3.00",
            "ChaCha20-Poly1305, seal, 16 B, 1 at once: 200 beside 100, 0.500",
            "limit: times as fast as ring",
            "5.00, at least 5.50: NOT held",
            "no ipsec-mb: no C compiler",
        ] {
            assert!(text.contains(line), "{line}:\n{text}");
        }
    }
}
