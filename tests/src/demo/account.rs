//! What was seen: a line for each thing while it happens, and a table of all at the end.

use std::fmt::{self, Write as _};
use std::time::Instant;

use anyhow::Result;

/// What a thing came to, and whether that is what was promised.
#[derive(Debug)]
pub struct Outcome {
    /// In a few words.
    pub result: String,
    /// Whether it is so.
    pub held: bool,
}

/// The narration, and the rows of the table.
#[derive(Debug)]
pub struct Account {
    start: Instant,
    rows: Vec<(String, Outcome)>,
}

impl Account {
    /// Nothing seen yet; the clock starts.
    pub fn begin() -> Self {
        Self { start: Instant::now(), rows: Vec::new() }
    }

    /// Says what is done now.
    pub fn now(&self, what: &str) {
        println!("{:5.1} s  {what}", self.start.elapsed().as_secs_f64());
    }

    /// Says more of it.
    pub fn more(&self, what: &str) {
        println!("           {what}");
    }

    /// Says what a thing came to, and writes it in the table. A failure is a row that did not hold.
    pub fn row(&mut self, what: &str, outcome: Result<Outcome>) {
        let outcome = outcome.unwrap_or_else(|error| {
            println!("{error:#}");
            Outcome { result: "failed: see above".into(), held: false }
        });
        self.more(&format!(
            "{what}: {}{}",
            outcome.result,
            if outcome.held { "" } else { "  <- NOT AS PROMISED" }
        ));
        self.rows.push((what.into(), outcome));
    }

    /// Whether all held.
    pub fn held(&self) -> bool {
        self.rows.iter().all(|(_, outcome)| outcome.held)
    }
}

/// The table.
impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |text: &str| text.chars().count();
        let first = self.rows.iter().map(|(what, _)| width(what)).max().unwrap_or(0);
        let second = self.rows.iter().map(|(_, outcome)| width(&outcome.result)).max().unwrap_or(0);
        let rule = "─".repeat(first + second + 9);
        writeln!(f, "{:first$}  {:second$}  held?\n{rule}", "what", "result")?;
        for (what, outcome) in &self.rows {
            let held = if outcome.held { "yes" } else { "NO" };
            writeln!(f, "{what:first$}  {:second$}  {held}", outcome.result)?;
        }
        f.write_str(&rule)
    }
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `[0, 0, 3]` as `0 0 3`.
pub fn listed<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    for item in items {
        let _ = write!(text, "{}{item}", if text.is_empty() { "" } else { " " });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_failed_did_not_hold() {
        let mut account = Account::begin();
        account.row("a", Ok(Outcome { result: "fine".into(), held: true }));
        assert!(account.held());
        account.row("b", Err(anyhow::anyhow!("broken")));
        assert!(!account.held());
        let table = account.to_string();
        assert!(table.lines().any(|line| line.starts_with("b") && line.ends_with("NO")), "{table}");
        assert!(table.lines().any(|line| line.starts_with("a") && line.ends_with("yes")), "{table}");
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(listed([0, 12, 3]), "0 12 3");
    }
}
