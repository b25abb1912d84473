//! What goes where, and the exit status of each failure.

use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal, Write as _};
use std::process::ExitCode;

use zsync_pipelines::spec::{Style, report};

use super::client::Unreachable;
use super::text::printable;
use crate::api::ApiError;

/// A configuration that was sent.
#[derive(Debug)]
pub(super) struct Sent {
    /// What the user calls it.
    pub(super) name: String,
    pub(super) text: String,
}

/// Why a command has failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The daemon said no; with the configuration that it was sent.
    Refused(Box<ApiError>, Option<Sent>),
    /// A file cannot be read.
    File(String),
    /// Nobody answers.
    Unreachable(Unreachable),
    /// Standard output takes no more. A closed pipe is no failure: whoever read it has seen enough.
    Output(std::io::Error),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Refused(Box::new(error), None)
    }
}

impl From<Unreachable> for Failure {
    fn from(error: Unreachable) -> Self {
        Self::Unreachable(error)
    }
}

impl Failure {
    /// Says what has failed, on standard error.
    pub(super) fn tell(self) -> ExitCode {
        let style = style(&std::io::stderr());
        let (text, code) = match self {
            Self::Refused(error, sent) => (refusal(*error, sent, style), 1),
            Self::File(what) => (line(style, "error", &what), 1),
            Self::Unreachable(error) => {
                let remedy = error.remedy.map(|remedy| line(style, "help", &remedy)).unwrap_or_default();
                (line(style, "error", &error.message) + &remedy, 3)
            }
            Self::Output(error) if error.kind() == ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Self::Output(error) => (line(style, "error", &format!("standard output: {error}")), 1),
        };
        let _ = std::io::stderr().write_all(text.as_bytes());
        ExitCode::from(code)
    }
}

fn refusal(mut error: ApiError, sent: Option<Sent>, style: Style) -> String {
    let mut text = String::new();
    if let Some(sent) = sent {
        // But for those of files that it names.
        for diagnostic in error.diagnostics.iter_mut().filter(|diagnostic| diagnostic.line_text.is_none()) {
            diagnostic.file.clone_from(&sent.name);
        }
        text.push_str(&report(&error.diagnostics, &sent.text, style));
    } else {
        // Without its text, the place alone is shown: of an earlier configuration, at a rollback.
        for d in &error.diagnostics {
            let _ =
                writeln!(text, "{}:{}:{}: {}", printable(&d.file), d.line, d.column, printable(&d.message));
        }
    }
    text.push_str(&line(style, "error", &error.message));
    if let Some(remedy) = &error.remedy {
        text.push_str(&line(style, "help", remedy));
    }
    text
}

fn line(style: Style, word: &str, text: &str) -> String {
    // A verifier's log has many.
    let lines: Vec<String> = text.lines().map(|line| printable(&line.replace('\t', " "))).collect();
    let text = lines.join("\n");
    match (style, word) {
        (Style::Plain, _) => format!("{word}: {text}\n"),
        (Style::Ansi, "error") => format!("\x1b[1;31merror\x1b[0m: {text}\n"),
        (Style::Ansi, _) => format!("\x1b[1m{word}\x1b[0m: {text}\n"),
    }
}

/// Prints all of it, or says why not.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)
}

/// Colours for a terminal, unless `NO_COLOR` is set to something.
pub(super) fn style(stream: &impl IsTerminal) -> Style {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if wanted && stream.is_terminal() { Style::Ansi } else { Style::Plain }
}
