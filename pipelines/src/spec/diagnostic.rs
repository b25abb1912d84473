//! What is wrong with a configuration, and where: one [`Diagnostic`] a mistake, shown as rustc shows its own.
//!
//! A diagnostic keeps its place three ways (line and column for people, a byte span for editors) and all three agree.
//! Rendering never panics, whatever the span and the source are, and never passes a control character on to the
//! terminal.

use std::fmt::Write as _;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration works, but probably not as meant.
    Warning,
}

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong, in one sentence.
    pub message: String,
    /// The file, as the caller named it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The bytes of the source that are wrong; empty where something is missing.
    pub span: Range<usize>,
    /// What stands beside the carets; may be empty.
    pub label: String,
    /// What would have been right here.
    pub expected: Option<String>,
    /// The text to put in place of the span, when one is likely.
    pub suggestion: Option<String>,
    /// What else to do about it.
    pub help: Option<String>,
    /// The line itself, when it is one of a file that the configuration names; the span is then within it. Empty when whoever
    /// asks may perhaps not read the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line_text: Option<String>,
}

impl Diagnostic {
    pub(crate) fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = label.into();
        self
    }

    pub(crate) fn expected(&mut self, expected: impl Into<String>) -> &mut Self {
        self.expected = Some(expected.into());
        self
    }

    pub(crate) fn suggest(&mut self, replacement: Option<String>) -> &mut Self {
        self.suggestion = replacement;
        self
    }

    pub(crate) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Shows nothing of the line, which has something secret in it.
    pub(crate) fn hide_line(&mut self) -> &mut Self {
        self.line_text = Some(String::new());
        self
    }

    /// Without what stands in other files than the configuration: for those who may not read them.
    #[must_use]
    pub fn discreet(self) -> Self {
        match self.line_text {
            None => self,
            Some(_) => Self { line_text: Some(String::new()), suggestion: None, span: 0..0, ..self },
        }
    }

    /// The diagnostic as text without colour, ending in a line break. `source` is what was parsed.
    #[must_use]
    pub fn render(&self, source: &str) -> String {
        self.render_as(source, Style::Plain)
    }

    /// [`render`](Self::render), with or without colour.
    #[must_use]
    pub fn render_as(&self, source: &str, style: Style) -> String {
        let (kind, colour) = match self.severity {
            Severity::Error => ("error", RED),
            Severity::Warning => ("warning", YELLOW),
        };
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let bar = style.paint(BLUE, "|");
        let excerpt = Excerpt::new(self.line_text.as_deref().unwrap_or(source), &self.span);

        let mut out = String::new();
        let message = printable(&self.message);
        let _ = writeln!(out, "{}{}", style.paint(colour, kind), style.paint(BOLD, &format!(": {message}")));
        let arrow = style.paint(BLUE, "-->");
        let _ = writeln!(out, "{margin}{arrow} {}:{number}:{}", printable(&self.file), self.column);
        if self.line_text.as_deref() != Some("") {
            let _ = writeln!(out, "{margin} {bar}");
            let line = format!("{} {bar} {}", style.paint(BLUE, &number), excerpt.line);
            let _ = writeln!(out, "{}", line.trim_end());
            let carets = format!("{} {}", "^".repeat(excerpt.width), printable(&self.label));
            let carets = style.paint(colour, carets.trim_end());
            let _ = writeln!(out, "{margin} {bar} {}{carets}", " ".repeat(excerpt.indent));
        }
        let mut note = |word: &str, text: &str| {
            let _ = writeln!(
                out,
                "{margin} {} {}: {}",
                style.paint(BLUE, "="),
                style.paint(BOLD, word),
                printable(text)
            );
        };
        if let Some(expected) = &self.expected {
            note("expected", expected);
        }
        match &self.suggestion {
            Some(text) if text.starts_with('"') => note("help", &format!("did you mean {text}?")),
            Some(text) => note("help", &format!("did you mean `{text}`?")),
            None => {}
        }
        if let Some(help) = &self.help {
            note("help", help);
        }
        out
    }
}

/// How many diagnostics a [`report`] shows.
const SHOWN: usize = 100;

/// The first 100 of `diagnostics` as text, a blank line after each, and a last line that counts all of them; empty when
/// there are none.
#[must_use]
pub fn report(diagnostics: &[Diagnostic], source: &str, style: Style) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics.iter().take(SHOWN) {
        out.push_str(&diagnostic.render_as(source, style));
        out.push('\n');
    }
    let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    let counts = [(errors, "error"), (diagnostics.len() - errors, "warning")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}{}", if count == 1 { "" } else { "s" }))
        .collect::<Vec<_>>();
    if !counts.is_empty() {
        let more =
            if diagnostics.len() > SHOWN { format!(", of which {SHOWN} are shown") } else { String::new() };
        let _ = writeln!(out, "{}{more}", counts.join(", "));
    }
    out
}

/// With or without colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text alone.
    Plain,
    /// ANSI colours, for a terminal.
    Ansi,
}

const BOLD: &str = "1";
const RED: &str = "1;31";
const YELLOW: &str = "1;33";
const BLUE: &str = "1;34";

impl Style {
    fn paint(self, colour: &str, text: &str) -> String {
        match self {
            Style::Plain => text.to_owned(),
            Style::Ansi => format!("\x1b[{colour}m{text}\x1b[0m"),
        }
    }
}

/// The first line of a span, cut down to what fits a terminal, and where the carets go below it.
struct Excerpt {
    line: String,
    indent: usize,
    width: usize,
}

impl Excerpt {
    /// Lines longer than this are shown in part.
    const WIDEST: usize = 100;
    /// Characters kept ahead of the span when a line is cut.
    const LEAD: usize = 30;

    fn new(source: &str, span: &Range<usize>) -> Self {
        let start = source.floor_char_boundary(span.start);
        let end = source.ceil_char_boundary(span.end.clamp(start, source.len()));
        let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = source[start..].find('\n').map_or(source.len(), |at| start + at);
        let line = &source[line_start..line_end];
        let line = line.strip_suffix('\r').unwrap_or(line);

        let length = line.chars().count();
        let before = source[line_start..start].chars().count().min(length);
        let marked = source[start..end.min(line_end)].trim_end().chars().count().max(1);
        let skip = if length > Self::WIDEST { before.saturating_sub(Self::LEAD) } else { 0 };
        let shown: String = line.chars().skip(skip).take(Self::WIDEST).collect();
        let marked = marked.min((skip + Self::WIDEST).saturating_sub(before)).max(1);

        let mut text = String::new();
        if skip > 0 {
            text.push('…');
        }
        text.push_str(&printable(&shown));
        if skip + Self::WIDEST < length {
            text.push('…');
        }
        Self { line: text, indent: before - skip + usize::from(skip > 0), width: marked }
    }
}

/// A tab becomes one space, so that the carets stay below what they point to, and other control characters become `�`.
fn printable(text: &str) -> String {
    let plain = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => '\u{fffd}',
        c => c,
    };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(source: &str, span: Range<usize>) -> Diagnostic {
        let line = source[..span.start].matches('\n').count() as u32 + 1;
        Diagnostic {
            severity: Severity::Error,
            message: "wrong".into(),
            file: "f.toml".into(),
            line,
            column: 1,
            span,
            label: String::new(),
            expected: None,
            suggestion: None,
            help: None,
            line_text: None,
        }
    }

    #[test]
    fn carets_stand_below_the_span() {
        let source = "a = 1\r\n\tb = \"é\u{1b}x\"\r\n";
        let from = source.find('"').unwrap();
        let text = at(source, from..from + 7).label("here").render(source);
        assert_eq!(
            text,
            "error: wrong\n --> f.toml:2:1\n  |\n2 |  b = \"é\u{fffd}x\"\n  |      ^^^^^ here\n"
        );
    }

    #[test]
    fn a_place_past_the_end_still_has_a_caret() {
        let text = at("abc", 3..3).render("abc");
        assert_eq!(text, "error: wrong\n --> f.toml:1:1\n  |\n1 | abc\n  |    ^\n");
        // A span that does not belong to this source: the text may be odd, but there is one.
        assert!(at("abcdef", 4..6).render("é").contains('^'));
    }

    #[test]
    fn a_long_line_is_cut_around_the_span() {
        let source = format!("block = [{}X{}]", "1, ".repeat(100), ", 2".repeat(100));
        let x = source.find('X').unwrap();
        let text = at(&source, x..x + 1).render(&source);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[3].chars().count(), "1 | ".len() + 102);
        let caret = lines[4].chars().position(|c| c == '^');
        assert_eq!(caret, lines[3].chars().position(|c| c == 'X'));
    }

    #[test]
    fn colour_only_when_asked() {
        let diagnostic = at("abc", 0..1);
        assert!(!diagnostic.render("abc").contains('\x1b'));
        assert!(diagnostic.render_as("abc", Style::Ansi).starts_with("\x1b[1;31merror"));
    }

    #[test]
    fn a_report_counts() {
        let warning = Diagnostic { severity: Severity::Warning, ..at("abc", 0..1) };
        let all = [at("abc", 0..1), at("abc", 1..2), warning];
        assert!(report(&all, "abc", Style::Plain).ends_with("\n2 errors, 1 warning\n"));
        assert_eq!(report(&[], "abc", Style::Plain), "");
        let many = vec![at("abc", 0..1); 101];
        assert!(report(&many, "abc", Style::Plain).ends_with("\n101 errors, of which 100 are shown\n"));
    }
}
