//! `zsyncctl check`: configurations, without the daemon.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use zsync_pipelines::spec::{Diagnostic, Parsed, Spec, report, unmet};

use super::output::{Failure, print, style};
use super::{pretty, read};
use crate::keys;
use crate::programs::{Programs, Refused};
use crate::xdp::is_bpffs;

/// The usual BPF file system.
const BPFFS: &str = "/sys/fs/bpf";

/// What `--json` prints for each file.
#[derive(Serialize)]
struct Checked {
    file: String,
    ok: bool,
    /// What is wrong with the XDP programs that it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    programs: Option<String>,
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
                let unreadable = Some(what);
                all.push(Checked { file, ok: false, programs: None, unreadable, diagnostics: Vec::new() });
                continue;
            }
            Err(other) => return Err(other),
        };
        let mut wrong = None;
        let (ok, diagnostics, summary) = match keys::check(&source, &name) {
            Ok(mut parsed) => {
                let mut warnings = std::mem::take(&mut parsed.warnings);
                warnings.extend(unmet(&parsed, &source, &name));
                warnings.sort_by_key(|warning| warning.span.start);
                match programs(&parsed.spec, &name) {
                    Ok(note) => (true, warnings, format!("{}{note}\n", summary(&name, &parsed))),
                    Err(what) => {
                        wrong = Some(what);
                        (false, warnings, String::new())
                    }
                }
            }
            Err(errors) => (false, errors, String::new()),
        };
        if !json {
            let text = report(&diagnostics, &source, style(&std::io::stderr()));
            let _ = std::io::stderr().write_all(text.as_bytes());
            print(&summary)?;
            if let Some(what) = &wrong {
                Failure::File(format!("{name}: {what}")).tell();
            }
        }
        all.push(Checked { file: name, ok, programs: wrong, unreadable: None, diagnostics });
    }
    if json {
        print(&pretty(&all))?;
    }
    Ok(ExitCode::from(u8::from(!all.iter().all(|checked| checked.ok))))
}

fn summary(name: &str, parsed: &Parsed) -> String {
    let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let (ports, pipelines) = (parsed.spec.ports.len(), parsed.spec.pipelines.len());
    format!("{name}: ok, {}, {}", count(ports, "port"), count(pipelines, "pipeline"))
}

/// Looks at the XDP programs, with the kernel's verifier if it can be asked. What is to be said when they are right.
fn programs(spec: &Spec, file: &str) -> Result<String, String> {
    let count: usize = spec.ports.iter().map(|port| port.xdp.len()).sum();
    let read = Programs::read(spec, file).map_err(|error| format!("{error:#}"))?;
    let words = |what: &str| format!(", {count} XDP program{} {what}", if count == 1 { "" } else { "s" });
    if count == 0 {
        return Ok(String::new());
    }
    // Without one, those that pin maps by name cannot be tried.
    let usual = Path::new(BPFFS);
    let folder = if is_bpffs(usual) { usual.to_owned() } else { std::env::temp_dir() };
    let scratch = folder.join(format!("zsync-check-{}", std::process::id()));
    match read.verify(&Programs::default(), &scratch) {
        Ok(()) => Ok(words("that the verifier takes")),
        Err(Refused::NotAsked(why)) => Ok(words(&format!("(the verifier was not asked: {why})"))),
        Err(Refused::Wrong(what)) => Err(what),
    }
}
