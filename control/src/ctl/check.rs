//! `zsyncctl check`: configurations, without the daemon.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use zsync_pipelines::spec::{Diagnostic, Parsed, parse, report};

use super::output::{Failure, print, style};
use super::{pretty, read};

/// What `--json` prints for each file.
#[derive(Serialize)]
struct Checked {
    file: String,
    ok: bool,
    /// Why the file could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
    diagnostics: Vec<Diagnostic>,
}

/// Checks each file, also after one with errors.
pub(super) fn check(files: &[PathBuf], json: bool) -> Result<ExitCode, Failure> {
    let mut all = Vec::new();
    for file in files {
        let (name, source) = match read(file) {
            Ok(read) => read,
            Err(Failure::File(what)) => {
                if !json {
                    Failure::File(what.clone()).tell();
                }
                let file = file.display().to_string();
                all.push(Checked { file, ok: false, unreadable: Some(what), diagnostics: Vec::new() });
                continue;
            }
            Err(other) => return Err(other),
        };
        let (ok, diagnostics, summary) = match parse(&source, &name) {
            Ok(parsed) => {
                let summary = summary(&name, &parsed);
                (true, parsed.warnings, summary)
            }
            Err(errors) => (false, errors, String::new()),
        };
        if !json {
            let text = report(&diagnostics, &source, style(&std::io::stderr()));
            let _ = std::io::stderr().write_all(text.as_bytes());
            print(&summary)?;
        }
        all.push(Checked { file: name, ok, unreadable: None, diagnostics });
    }
    if json {
        print(&pretty(&all))?;
    }
    Ok(ExitCode::from(u8::from(!all.iter().all(|checked| checked.ok))))
}

fn summary(name: &str, parsed: &Parsed) -> String {
    let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let (ports, pipelines) = (parsed.spec.ports.len(), parsed.spec.pipelines.len());
    format!("{name}: ok, {}, {}\n", count(ports, "port"), count(pipelines, "pipeline"))
}
