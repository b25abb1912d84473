//! The configuration that the daemon begins with: which one, with which programs and lists.
//!
//! Owns nothing. Refuses a configuration with errors, all of them at once. Keeps true: what was in force before can be in force again
//! whatever has become of its files since.

use super::history::History;
use super::options::Options;
use crate::keys;
use crate::lists::Lists;
use crate::programs::Programs;
use anyhow::{Context as _, Result, bail};
use zsync_pipelines::spec::{self, Diagnostic, Parsed, Spec, Style};

/// The first configuration, and the file that it is of: a file that was named, or the newest of the history.
pub(super) fn initial_config(options: &Options, history: &History) -> Result<(String, String)> {
    let initial = options.initial_config.as_ref().filter(|_| history.newest().is_none());
    if let Some(path) = options.config.as_ref().or(initial) {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        return Ok((text, std::path::absolute(path)?.display().to_string()));
    }
    match history.newest() {
        Some(entry) => Ok((history.text(entry)?, entry.file.clone())),
        None => bail!("there is no configuration yet: name one with --config or --initial-config"),
    }
}

/// The programs that the first configuration names. One that comes from the history comes with those that it had; and so does
/// one that is the newest there, when its files cannot be read: what was put in force before must not keep control from
/// coming back.
pub(super) fn initial_programs(
    spec: &Spec,
    text: &str,
    file: &str,
    options: &Options,
    history: &History,
) -> Result<Programs> {
    let newest = history.newest().filter(|entry| history.text(entry).is_ok_and(|kept| kept == text));
    let from_file = options.config.is_some() || newest.is_none();
    let read = if from_file { Programs::read(spec, file) } else { Ok(Programs::default()) };
    match (read, newest) {
        (Ok(programs), _) if from_file => Ok(programs),
        (Err(error), None) => Err(error),
        (read, Some(entry)) => {
            if let Err(error) = read {
                tracing::warn!("XDP programs are those that were accepted last: {error:#}");
            }
            Programs::recall(spec, file, |path| history.object(entry, path))
        }
        (Ok(programs), None) => Ok(programs),
    }
}

/// Reads a configuration; what is wrong with it becomes the error, as a whole. Its files are as [`initial_programs`] says.
pub(super) fn check(text: &str, file: &str, options: &Options, history: &History) -> Result<(Parsed, Lists)> {
    let show = |findings: &[Diagnostic]| spec::report(findings, text, Style::Plain);
    let newest = history.newest().filter(|entry| history.text(entry).is_ok_and(|kept| kept == text));
    let kept = |path: &str| newest.and_then(|entry| history.object(entry, path));
    let from_file = options.config.is_some() || newest.is_none();
    let read = if from_file { keys::parse(text, file, |_| None) } else { keys::parse(text, file, kept) };
    let read = match (read, newest) {
        (Err(errors), Some(entry)) if from_file && !entry.objects.is_empty() => {
            tracing::warn!("lists are those that were accepted last: {}", show(&errors));
            keys::parse(text, file, kept)
        }
        (read, _) => read,
    };
    match read {
        Ok((parsed, lists)) => {
            if !parsed.warnings.is_empty() {
                eprintln!("{}", show(&parsed.warnings));
            }
            Ok((parsed, lists))
        }
        Err(errors) => bail!("{}", show(&errors)),
    }
}
