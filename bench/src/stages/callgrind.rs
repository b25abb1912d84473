//! Callgrind: instructions of a case per packet, the same number each time.
//!
//! The program runs itself under valgrind, twice: once with N packets and once with 2 N. Callgrind collects inside of
//! [`Work::measured`] alone, and the difference of the two runs, over N, leaves out what happens once. Keeps true: the
//! same program gives the same number, to the instruction.

use crate::folder::Folder;
use crate::program;
use crate::stages::case::Case;
use crate::stages::work::Work;
use crate::watch::Watch;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What one run may take: some hundred times of what it does.
const PATIENCE: Duration = Duration::from_secs(300);

/// Packets of the shorter run: whole rounds, and long enough that a worker keeps house many times.
pub const PACKETS: u64 = 12_800;

/// Does `packets` packets of the case's work, in whole rounds, and times nothing: for callgrind.
///
/// # Errors
/// The work cannot be set up, or goes wrong.
pub fn once(case: Case, packets: u64) -> Result<u64> {
    let mut work = Work::new(case)?;
    let round = work.round() as u64;
    // One round ahead of those that differ, whatever `packets` is: lazy things happen in it.
    let rounds = packets.div_ceil(round) + 1;
    for _ in 0..rounds {
        work.prepare()?;
        work.measured();
        work.check()?;
    }
    Ok((rounds - 1) * round)
}

/// Why callgrind cannot be run here; `None` if it can.
pub fn missing() -> Option<String> {
    let version =
        Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match version {
        Ok(status) if status.success() => None,
        Ok(status) => Some(format!("valgrind does not run here ({status})")),
        Err(error) => Some(format!("no valgrind ({error}): scripts/setup installs it")),
    }
}

/// Instructions per packet of a case.
///
/// # Errors
/// Valgrind is not there, or the case does not run under it; the run is to stop.
pub fn instructions(case: Case, watch: &Watch) -> Result<f64> {
    let folder = Folder::make()?;
    let [once, twice] = [PACKETS, 2 * PACKETS].map(|packets| total(folder.path(), case, packets, watch));
    let (once, twice) = (once?, twice?);
    ensure!(twice > once, "{case}: {twice} instructions for twice the packets, and {once} for once");
    Ok((twice - once) as f64 / PACKETS as f64)
}

/// Instructions that callgrind collects of a run with so many packets.
fn total(folder: &Path, case: Case, packets: u64, watch: &Watch) -> Result<u64> {
    let out = folder.join("out");
    let own = std::env::current_exe().context("this program's own path")?;
    let mut command = program::command("valgrind");
    command
        // What is in the environment lies on the stack, and moves what lies below it.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .args(["--tool=callgrind", "--quiet", "--toggle-collect=*stages::work::Work::measured*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(own)
        .args(["stage", case.kind.name(), "--packets", &packets.to_string()])
        .args(["--burst", &case.burst.to_string(), "--table", &case.table.to_string()])
        .args(case.cold.then_some("--cold"));
    let output =
        program::output(&mut command, PATIENCE, watch).context("valgrind (scripts/setup installs it)")?;
    if !output.status.success() {
        bail!(
            "{case} under valgrind: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    let text = fs::read_to_string(&out).with_context(|| format!("callgrind's output, {}", out.display()))?;
    let total = total_of(&text).with_context(|| format!("{case}: callgrind's output has no total"))?;
    // Of nothing there is no difference either: the function's name would have changed, or it would be part of its caller.
    ensure!(
        total >= packets / 64,
        "{case}: callgrind collected {total} instructions: it does not find the measured function"
    );
    Ok(total)
}

/// The total of a callgrind file ("callgrind format", `totals:`; older versions write `summary:` only).
fn total_of(text: &str) -> Option<u64> {
    let after = |key| text.lines().rev().find_map(|line: &str| line.strip_prefix(key));
    after("totals:").or_else(|| after("summary:"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::case::gated;

    #[test]
    fn every_gated_case_does_what_it_is_about() {
        for case in gated() {
            assert_eq!(once(Case { table: 10, ..case }, 1000).unwrap(), 1024, "{case}");
        }
    }

    #[test]
    fn the_total_is_the_file_s_last_one() {
        assert_eq!(total_of("events: Ir\nsummary: 7\n\nfn=(1) x\n1 7\n\ntotals: 12345\n"), Some(12345));
        assert_eq!(total_of("events: Ir\nsummary: 7\n"), Some(7));
        assert_eq!(total_of("events: Ir\n"), None);
    }
}
