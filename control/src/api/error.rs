//! What the API says when it cannot do what was asked.

use serde::{Deserialize, Serialize};
use zsync_pipelines::spec::Diagnostic;

/// Why there is no answer. Displayed as its message alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
#[error("{message}")]
pub struct ApiError {
    /// For programs.
    pub code: Code,
    /// What happened, for people.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// What is wrong with a configuration, by place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
}

/// Kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Code {
    /// The line is no JSON object with a method.
    Malformed,
    /// There is no such method.
    UnknownMethod,
    /// A parameter is unknown, missing or out of range.
    BadParams,
    /// The line is longer than [`MAX_LINE`](super::MAX_LINE).
    TooLarge,
    /// The peer or the daemon took too long.
    Timeout,
    /// Too many connections, or another change is under way.
    Busy,
    /// The peer may not ask for this.
    Forbidden,
    /// The configuration has errors; see the diagnostics.
    InvalidConfig,
    /// The configuration is valid but cannot be put in force here.
    Refused,
    /// There is no such thing: a number in the history.
    NotFound,
    /// Nothing to confirm, or something to confirm first.
    Conflict,
    /// The daemon is starting or ending.
    Unavailable,
    /// A defect.
    Internal,
    /// A kind that this version does not know.
    #[serde(other)]
    Other,
}

impl ApiError {
    /// An error without remedy.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), remedy: None, diagnostics: Vec::new() }
    }

    /// The same, with a remedy.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// A configuration with errors.
    #[must_use]
    pub fn invalid_config(diagnostics: Vec<Diagnostic>) -> Self {
        let message = "the configuration has errors; nothing has changed";
        Self { diagnostics, ..Self::new(Code::InvalidConfig, message) }
    }

    /// An unknown name and, when one is near, the name that was probably meant; else all of them.
    pub(crate) fn unknown(code: Code, message: String, word: &str, known: &[&str]) -> Self {
        let remedy = match nearest(word, known) {
            Some(name) => format!("did you mean `{name}`?"),
            None if known.is_empty() => "leave it out: there are no parameters".to_owned(),
            None => format!("there are: {}", known.join(", ")),
        };
        Self::new(code, message).remedy(remedy)
    }
}

/// The name that is at most two edits away, three for long words.
fn nearest<'n>(word: &str, known: &[&'n str]) -> Option<&'n str> {
    if word.len() > 64 {
        return None; // no name is that long, and the distance takes time that grows with the product of the lengths
    }
    let limit = if word.len() > 8 { 3 } else { 2 };
    known
        .iter()
        .map(|name| (strsim::osa_distance(word, name), *name))
        .filter(|(distance, name)| *distance <= limit && *distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// A name that a peer sent, fit to be repeated to it and to a log: short, and without control characters.
pub(super) fn quoted(word: &str) -> String {
    const SHOWN: usize = 40;
    let mut text: String =
        word.chars().take(SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if word.chars().nth(SHOWN).is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_or_all_of_them() {
        let remedy = |word: &str, known: &[&str]| {
            ApiError::unknown(Code::UnknownMethod, String::new(), word, known).remedy.unwrap_or_default()
        };
        assert_eq!(remedy("aply", &["plan", "apply"]), "did you mean `apply`?");
        assert_eq!(remedy("plna", &["plan", "apply"]), "did you mean `plan`?");
        assert_eq!(remedy("xyzzy", &["plan", "apply"]), "there are: plan, apply");
        assert_eq!(remedy(&"p".repeat(1 << 20), &["plan"]), "there are: plan");
        assert_eq!(remedy("what", &[]), "leave it out: there are no parameters");
    }

    #[test]
    fn what_is_quoted_is_short_and_plain() {
        assert_eq!(quoted("a\u{1b}[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
        assert_eq!(quoted(&"é".repeat(100)).chars().count(), 41);
    }

    #[test]
    fn a_code_of_a_later_version_is_read() {
        let error: ApiError = serde_json::from_str(r#"{"code":"moonphase","message":"no"}"#).unwrap();
        assert_eq!(error.code, Code::Other);
    }
}
