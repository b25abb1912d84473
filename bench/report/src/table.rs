//! A table for a terminal: at most 100 columns, no boxes, no colours.
//!
//! Keeps true: no line is longer than [`COLUMNS`] characters, and nothing in a name or note can move the cursor.

use crate::figure::{Unit, digits};
use crate::outcome::{Direction, Outcome, Series};
use crate::spread::Spread;
use std::fmt::Write;

/// Width of the table in characters.
pub const COLUMNS: usize = 100;

const NAME: usize = 34;

/// All outcomes, one under the other.
pub fn table(outcomes: &[Outcome]) -> String {
    outcomes.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn one(outcome: &Outcome) -> String {
    let mut out = String::new();
    let problems = outcome.problems();
    let verdict = if problems.is_empty() { "" } else { "NOT VALID: " };
    wrap(&mut out, "", &format!("{verdict}{}: {}", outcome.name, outcome.title));
    problems.iter().for_each(|problem| wrap(&mut out, "  not valid: ", problem));

    let greatest = outcome.series().filter_map(|s| Spread::of(&s.samples)).fold(0.0, |g, s| s.median.max(g));
    let unit = Unit::suiting(greatest, &outcome.unit);
    let better = match outcome.direction {
        Direction::More => "more is better",
        Direction::Less => "less is better",
    };
    let head = cut(&format!("{} ({better})", unit.name), NAME + 10);
    let _ = writeln!(out, "  {head:44}  median       min       max  rounds  CPU ns/packet");
    for series in outcome.series() {
        row(&mut out, series, &unit);
    }
    for ratio in outcome.ratios() {
        let name = cut(&format!("{} / {}", outcome.ours.name, ratio.peer), NAME + 10);
        let Spread { minimum, median, maximum } = ratio.spread;
        let [minimum, median, maximum] = [minimum, median, maximum].map(digits);
        let rounds = ratio.samples.len();
        let standing = if problems.is_empty() { ratio.standing().word() } else { "-" };
        let _ = writeln!(out, "  {name:42} {median:>9} {minimum:>9} {maximum:>9} {rounds:>7}  {standing}");
    }
    for series in outcome.series() {
        if let Some(ndr) = series.ndr {
            let rate = Unit::suiting(ndr.rate, "packets/s");
            let (name, rate, unit) = (&series.name, rate.text(ndr.rate), &rate.name);
            wrap(&mut out, "  no-drop rate: ", &format!("{name}: {rate} {unit} {}", ndr.limit()));
        }
    }
    outcome
        .absent
        .iter()
        .for_each(|who| wrap(&mut out, "  absent: ", &format!("{}: {}", who.name, who.reason)));
    outcome.notes.iter().for_each(|note| wrap(&mut out, "  note: ", note));
    wrap(&mut out, "  on: ", &outcome.machine.to_string());
    for (label, text) in [("  command: ", &outcome.command), ("  commit: ", &outcome.commit)] {
        if !text.is_empty() {
            wrap(&mut out, label, text);
        }
    }
    out
}

fn row(out: &mut String, series: &Series, unit: &Unit) {
    let spread = Spread::of(&series.samples);
    let text = |value: Option<f64>| value.map_or("-".to_owned(), |value| unit.text(value));
    let [median, minimum, maximum] =
        [spread.map(|s| s.median), spread.map(|s| s.minimum), spread.map(|s| s.maximum)].map(text);
    let cpu = series.cpu_ns_per_packet.map_or("-".to_owned(), digits);
    let (name, rounds) = (cut(&series.name, NAME + 8), series.samples.len());
    let _ = writeln!(out, "  {name:42} {median:>9} {minimum:>9} {maximum:>9} {rounds:>7} {cpu:>14}");
}

/// `text`, harmless, and no longer than `width`.
fn cut(text: &str, width: usize) -> String {
    let text = harmless(text);
    if text.chars().count() <= width {
        return text;
    }
    let kept: String = text.chars().take(width.saturating_sub(3)).collect();
    format!("{kept}...")
}

/// Without what a terminal would obey instead of show.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `text` in lines of at most [`COLUMNS`], the first after `label`, the others under it.
fn wrap(out: &mut String, label: &str, text: &str) {
    let width = COLUMNS - label.len();
    let mut line = String::new();
    let mut lines: Vec<String> = vec![];
    for word in harmless(text).split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        while !word.is_empty() {
            let used = line.chars().count();
            let gap = usize::from(used > 0);
            if used + gap + word.len() <= width {
                line.extend(std::iter::repeat_n(' ', gap).chain(word.drain(..)));
            } else if used > 0 {
                lines.push(std::mem::take(&mut line));
            } else {
                lines.push(word.drain(..width).collect());
            }
        }
    }
    lines.push(line);
    for (index, line) in lines.iter().enumerate() {
        let _ = match index {
            0 => writeln!(out, "{label}{line}"),
            _ => writeln!(out, "{:1$}{line}", "", label.len()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Absent, Ndr};
    use proptest::prelude::*;

    fn outcome() -> Outcome {
        let ours = Series {
            cpu_ns_per_packet: Some(3.94),
            ..Series::new("zsync, patch", [253.6e6, 246.8e6, 264.1e6])
        };
        let mut outcome = Outcome::new("memory-patch", "packets/s", Direction::More, ours);
        outcome.title = "Port to port between two null devices.".to_owned();
        outcome.peers.push(Series {
            ndr: Some(Ndr { rate: 1.2e6, loss_limit: 1e-6 }),
            ..Series::new("testpmd", [111e6, 107.6e6, 111.9e6])
        });
        outcome.absent.push(Absent { name: "VPP".to_owned(), reason: "it is not installed".to_owned() });
        outcome.machine.kernel = "6.18".to_owned();
        outcome.machine.processor = "AMD EPYC".to_owned();
        outcome.machine.cores = 2;
        outcome.command = "zsync-bench run memory-patch".to_owned();
        outcome
    }

    #[test]
    fn a_table_is_what_it_was() {
        let golden = "\
memory-patch: Port to port between two null devices.
  M packets/s (more is better)                  median       min       max  rounds  CPU ns/packet
  zsync, patch                                     254       247       264       3           3.94
  testpmd                                          111       108       112       3              -
  zsync, patch / testpmd                          2.29      2.28      2.36       3  ahead
  no-drop rate: testpmd: 1.20 M packets/s at loss up to 1e-6
  absent: VPP: it is not installed
  on: AMD EPYC, 2 cores, Linux 6.18, load 0.0
  command: zsync-bench run memory-patch
";
        assert_eq!(table(&[outcome()]), golden);
    }

    #[test]
    fn what_is_not_valid_says_so_first_and_stands_nowhere() {
        let mut outcome = outcome();
        outcome.invalid.push("the generator was the limit".to_owned());
        let text = table(&[outcome]);
        assert!(text.starts_with("NOT VALID: memory-patch"), "{text}");
        assert!(text.contains("\n  not valid: the generator was the limit\n"), "{text}");
        assert!(!text.contains("ahead"), "{text}");
    }

    proptest! {
        #[test]
        fn no_line_is_too_long_and_no_character_is_obeyed(
            text in "\\PC{0,150}|.{0,150}|[a-z\u{1b}\r\n ]{0,300}",
            samples in prop::collection::vec(any::<f64>(), 0..4),
        ) {
            let mut outcome = Outcome::new(&text, &text, Direction::Less, Series::new(&text, samples.clone()));
            outcome.title.clone_from(&text);
            outcome.notes.push(text.clone());
            outcome.peers.push(Series::new(&text, samples));
            for line in table(&[outcome]).split('\n') {
                prop_assert!(line.chars().count() <= COLUMNS, "{}", line);
                prop_assert!(!line.chars().any(char::is_control), "{:?}", line);
            }
        }
    }
}
