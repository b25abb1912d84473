//! Collects the mistakes of one source while it is read, and turns byte spans into lines and columns.
//!
//! Nothing stops at the first mistake: readers report here and go on with a stand-in value. What a syntax error may have
//! caused by itself is left out, so that every diagnostic that remains is a mistake that somebody made.

use std::collections::BTreeSet;
use std::ops::Range;

use super::diagnostic::{Diagnostic, Severity};

/// The mistakes found so far in one source.
pub(crate) struct Findings<'s> {
    source: &'s str,
    file: &'s str,
    /// Byte offset of each line's start.
    lines: Vec<usize>,
    found: Vec<Diagnostic>,
    /// Those in other files, which the source names.
    elsewhere: Vec<Diagnostic>,
    errors: usize,
    /// How many of the found are syntax errors; these come first.
    syntax: usize,
    /// Lines with syntax errors: what else is said of them is left out.
    damaged: BTreeSet<u32>,
}

impl<'s> Findings<'s> {
    pub(crate) fn new(source: &'s str, file: &'s str) -> Self {
        let starts = source.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = [0].into_iter().chain(starts).collect();
        Self {
            source,
            file,
            lines,
            found: Vec::new(),
            elsewhere: Vec::new(),
            errors: 0,
            syntax: 0,
            damaged: BTreeSet::new(),
        }
    }

    /// Line of a byte offset, from 1.
    pub(crate) fn line(&self, offset: usize) -> u32 {
        u32::try_from(self.lines.partition_point(|start| *start <= offset)).unwrap_or(u32::MAX)
    }

    pub(crate) fn error(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Error, span, message.into())
    }

    pub(crate) fn warning(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Warning, span, message.into())
    }

    /// An error in line `line` (from 1) of another file, whose text is `text`, at these bytes of it.
    pub(crate) fn error_in(
        &mut self,
        (file, line, text): (&str, usize, &str),
        span: Range<usize>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.errors += 1;
        let column = text.get(..span.start).unwrap_or_default().chars().count() + 1;
        let at = self.elsewhere.len();
        self.elsewhere.push(Diagnostic {
            severity: Severity::Error,
            message: message.into(),
            file: file.to_owned(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            span,
            label: String::new(),
            expected: None,
            suggestion: None,
            help: None,
            line_text: Some(text.to_owned()),
        });
        &mut self.elsewhere[at]
    }

    /// Something that should be in the source is not; said only where no syntax error may have swallowed it.
    pub(crate) fn missing(&mut self, span: &Range<usize>, message: impl Into<String>, expected: String) {
        if self.damaged.is_empty() {
            self.error(span, message).expected(expected);
        }
    }

    /// The errors of the TOML parser. True when the names in the file can still be trusted: only doubled keys and
    /// strings without quotes.
    pub(crate) fn syntax(&mut self, errors: &[toml::de::Error]) -> bool {
        let mut faults: Vec<(u32, Range<usize>, &str)> = errors
            .iter()
            .map(|error| {
                let span = error.span().unwrap_or(0..0);
                (self.line(span.start), span, error.message())
            })
            .collect();
        faults.sort_by_key(|(_, span, _)| (span.start, span.end));
        let harmless = |message: &str| message.starts_with(DOUBLED) || message.starts_with(UNQUOTED);
        // The parser goes on after an error and trips over the rest of the line: one error is enough for that line.
        let broken: BTreeSet<u32> =
            faults.iter().filter(|(_, _, message)| !harmless(message)).map(|(line, _, _)| *line).collect();
        let mut told = BTreeSet::new();
        for (line, span, message) in &faults {
            if broken.contains(line) && (harmless(message) || !told.insert(*line)) {
                continue;
            }
            self.syntax_error(span, message);
        }
        self.syntax = self.found.len();
        let mut damaged: BTreeSet<u32> = faults.iter().map(|(line, _, _)| *line).collect();
        for header in broken.iter().filter(|line| self.is_header(**line)) {
            // Whose keys the next lines are is not known.
            let rest =
                (header + 1..).take_while(|line| self.text_of(*line).is_some() && !self.is_header(*line));
            damaged.extend(rest);
        }
        self.damaged = damaged;
        broken.is_empty()
    }

    fn syntax_error(&mut self, span: &Range<usize>, message: &str) {
        let text = self.source.get(span.clone()).unwrap_or_default();
        let (what, expected) = match message.split_once(", expected ") {
            Some((what, expected)) => (what, Some(expected)),
            None => (message, None),
        };
        if what == DOUBLED {
            self.error(span, format!("`{text}` is set twice")).label("again here");
        } else if what == UNQUOTED && !text.is_empty() {
            self.error(span, format!("text needs quotes: {text}")).suggest(Some(format!("\"{text}\"")));
        } else if what == UNQUOTED {
            self.error(span, "a key without a value").expected("a value");
        } else {
            let found = self.error(span, format!("not valid TOML: {what}"));
            if let Some(expected) = expected.filter(|expected| *expected != "nothing") {
                found.expected(expected);
            }
        }
    }

    fn text_of(&self, line: u32) -> Option<&'s str> {
        let start = *self.lines.get(usize::try_from(line).ok()?.checked_sub(1)?)?;
        self.source.get(start..)?.lines().next()
    }

    fn is_header(&self, line: u32) -> bool {
        self.text_of(line).is_some_and(|text| text.trim_start().starts_with('['))
    }

    /// What stands at a place, cut down when it is long.
    pub(crate) fn text(&self, span: &Range<usize>) -> String {
        const LONGEST: usize = 40;
        let text = self.source.get(span.clone()).unwrap_or_default();
        if text.len() <= LONGEST {
            text.to_owned()
        } else {
            format!("{}…", &text[..text.floor_char_boundary(LONGEST)])
        }
    }

    /// How many errors were found so far.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// All that was found, by place: the errors alone when there are any, else the warnings.
    pub(crate) fn finish(mut self) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        let rest = self.found.split_off(self.syntax);
        // What the parser made up in place of a broken value stands nowhere.
        let real = |found: &Diagnostic| {
            self.damaged.is_empty() || !(found.span == (0..0) || self.damaged.contains(&found.line))
        };
        self.found.extend(rest.into_iter().filter(real));
        // Errors of one place keep the order in which they were found.
        self.found.sort_by_key(|found| (found.span.start, found.span.end));
        self.count_columns();
        self.found.append(&mut self.elsewhere);
        let (errors, warnings): (Vec<_>, Vec<_>) =
            self.found.into_iter().partition(|found| found.severity == Severity::Error);
        if errors.is_empty() { Ok(warnings) } else { Err(errors) }
    }

    /// Sets the columns of what was found, each line walked once: a line may be megabytes with a mistake in each word.
    fn count_columns(&mut self) {
        let (mut line, mut at, mut column) = (0, 0, 1);
        for found in &mut self.found {
            if found.line != line {
                line = found.line;
                at = self.lines.get(line as usize - 1).copied().unwrap_or(0);
                column = 1;
            }
            let between = self.source.get(at..found.span.start).unwrap_or_default();
            column += between.chars().count();
            at = found.span.start;
            found.column = u32::try_from(column).unwrap_or(u32::MAX);
        }
    }

    fn push(&mut self, severity: Severity, span: &Range<usize>, message: String) -> &mut Diagnostic {
        let start = self.source.floor_char_boundary(span.start);
        let end = self.source.ceil_char_boundary(span.end.clamp(start, self.source.len()));
        let diagnostic = Diagnostic {
            severity,
            message,
            file: self.file.to_owned(),
            line: self.line(start),
            column: 1, // counted at the end
            span: start..end,
            label: String::new(),
            expected: None,
            suggestion: None,
            help: None,
            line_text: None,
        };
        self.errors += usize::from(severity == Severity::Error);
        if self.found.len() == MOST {
            self.found.pop();
        }
        let at = self.found.len();
        self.found.push(diagnostic);
        &mut self.found[at]
    }
}

/// As many mistakes are kept; nobody reads more, and a file of garbage should not take memory a hundred times its size.
const MOST: usize = 10_000;

// The two errors of the TOML parser after which it still has the whole file.
const DOUBLED: &str = "duplicate key";
const UNQUOTED: &str = "string values must be quoted";
