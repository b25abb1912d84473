//! Progress: what a run that takes over two seconds says on its standard error.
//!
//! On a terminal one line that is written over; elsewhere a new line every ten seconds, so that logs stay short.
//! It looks at no clock: the caller says how much time has passed, and may call as often as it likes.

use std::io::{self, Write};
use std::time::Duration;

/// Nothing is said about what is over sooner.
pub const QUIET: Duration = Duration::from_secs(2);

const TERMINAL_EVERY: Duration = Duration::from_millis(200);
const LOG_EVERY: Duration = Duration::from_secs(10);
const COLUMNS: usize = 79;

/// A progress line, written to `W`.
#[derive(Debug)]
pub struct Progress<W> {
    out: W,
    is_terminal: bool,
    /// When it last spoke.
    said: Option<Duration>,
    /// Characters that stand on the terminal's line.
    shown: usize,
}

impl<W: Write> Progress<W> {
    /// One that has said nothing yet. `is_terminal` as of `out`, by [`std::io::IsTerminal`].
    pub fn new(out: W, is_terminal: bool) -> Self {
        Self { out, is_terminal, said: None, shown: 0 }
    }

    /// Says how far the run is, if it is time: `done` of `total` steps, `elapsed` after the start. `what` is cut so that it
    /// all fits on one line.
    ///
    /// # Errors
    /// As of the writer; a caller may pass over it, a run does not fail for its progress.
    pub fn step(&mut self, elapsed: Duration, done: usize, total: usize, what: &str) -> io::Result<()> {
        let every = if self.is_terminal { TERMINAL_EVERY } else { LOG_EVERY };
        let due = self.said.map_or(QUIET, |said| said.saturating_add(every));
        if elapsed < due {
            return Ok(());
        }
        self.said = Some(elapsed);
        let left = match u32::try_from(done) {
            Ok(steps) if steps > 0 && done < total => {
                let left = elapsed.as_secs_f64() / f64::from(steps) * (total - done) as f64;
                format!(", about {left:.0} s left")
            }
            _ => String::new(),
        };
        let figures = format!(": {done} of {total}, {} s{left}", elapsed.as_secs());
        // The name is what a reader can do without.
        let room = COLUMNS.saturating_sub(figures.len());
        let name = what.chars().map(|c| if c.is_control() { ' ' } else { c }).take(room);
        let line = name.collect::<String>() + &figures;
        if self.is_terminal {
            let length = line.chars().count();
            let stale = self.shown.saturating_sub(length);
            self.shown = length;
            write!(self.out, "\r{line}{:stale$}", "")?;
        } else {
            writeln!(self.out, "{line}")?;
        }
        self.out.flush()
    }

    /// Says a line of the run's own as often as it is asked to, from the first two seconds on: on a terminal in the progress
    /// line's place.
    ///
    /// # Errors
    /// As of the writer.
    pub fn line(&mut self, elapsed: Duration, text: &str) -> io::Result<()> {
        if elapsed < QUIET {
            return Ok(());
        }
        self.said = Some(elapsed);
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if self.is_terminal {
            let length = text.chars().count();
            let stale = self.shown.saturating_sub(length);
            self.shown = length;
            write!(self.out, "\r{text}{:stale$}", "")?;
        } else {
            writeln!(self.out, "{text}")?;
        }
        self.out.flush()
    }

    /// Wipes the terminal's line, so that results begin on a clean one.
    ///
    /// # Errors
    /// As of the writer.
    pub fn clear(&mut self) -> io::Result<()> {
        let shown = std::mem::take(&mut self.shown);
        if shown > 0 {
            write!(self.out, "\r{:shown$}\r", "")?;
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(is_terminal: bool, steps: &[(u64, usize, &str)]) -> String {
        let mut out = vec![];
        let mut progress = Progress::new(&mut out, is_terminal);
        for &(milliseconds, done, what) in steps {
            progress.step(Duration::from_millis(milliseconds), done, 10, what).unwrap();
        }
        progress.clear().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_is_said_about_what_is_over_in_two_seconds() {
        assert_eq!(said(true, &[(0, 0, "x"), (1999, 10, "x")]), "");
        assert_eq!(said(false, &[(0, 0, "x"), (1999, 10, "x")]), "");
    }

    #[test]
    fn a_terminal_has_one_line_that_is_written_over_and_wiped() {
        let text = said(true, &[(2000, 5, "route"), (2100, 6, "route"), (2200, 10, "r")]);
        assert_eq!(
            text,
            format!("\rroute: 5 of 10, 2 s, about 2 s left\rr: 10 of 10, 2 s{:19}\r{:16}\r", "", "")
        );
    }

    #[test]
    fn a_log_has_a_line_every_ten_seconds() {
        let text =
            said(false, &[(2500, 0, "a"), (9000, 1, "a"), (12400, 2, "a"), (12500, 2, "a"), (30000, 3, "b")]);
        assert_eq!(
            text,
            "a: 0 of 10, 2 s\na: 2 of 10, 12 s, about 50 s left\nb: 3 of 10, 30 s, about 70 s left\n"
        );
    }

    #[test]
    fn a_name_with_newlines_or_too_long_stays_one_line_and_leaves_room_for_the_figures() {
        let text = said(false, &[(5000, 0, &format!("a\n\u{1b}[2J{}", "x".repeat(200)))]);
        assert_eq!(text.chars().count(), COLUMNS + 1);
        assert!(text.starts_with("a  [2Jxxx") && text.ends_with("x: 0 of 10, 5 s\n"), "{text:?}");
    }
}
