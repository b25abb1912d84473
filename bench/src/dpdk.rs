//! DPDK's test programs that run to their end: `dpdk-test-fib`, `dpdk-test-acl`.
//!
//! Keeps true: they run on the measured core, as what they are compared with, and for so long only. Refuses: to take what a failed one printed for a result.

use crate::hugepages;
use crate::machine::measured_core;
use crate::program;
use crate::watch::Watch;
use anyhow::{Context, Result, bail, ensure};
use std::time::Duration;

/// What one may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs `program` to its end: `eal` are more arguments for DPDK, `own` those for itself. What it printed.
///
/// On huge pages when there are any.
///
/// # Errors
/// It is not installed, failed, or took more than two minutes; the run is to stop.
pub fn run(program: &str, eal: &[&str], own: &[&str], watch: &Watch) -> Result<String> {
    let core = measured_core().to_string();
    let prefix = format!("--file-prefix=zsync-bench-{}", std::process::id());
    let memory: &[&str] =
        if hugepages::are_reserved() { &["--in-memory"] } else { &["--no-huge", "-m", "2048"] };
    ensure!(
        is_installed(program),
        "there is no {program}: `zsync-bench peers --install`, or the package dpdk-dev"
    );
    let mut command = program::command(program);
    command
        .args(["-l", &core, &prefix, "--no-pci", "--no-telemetry"])
        .args(memory)
        .args(eal)
        .arg("--")
        .args(own);
    let output = program::output(&mut command, PATIENCE, watch).with_context(|| program.to_owned())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = said.lines().chain(complaint.lines()).collect();
        bail!("{program}: {}: {}", output.status, lines[lines.len().saturating_sub(4)..].join(" / "));
    }
    Ok(said)
}

/// Whether there is such a program in `PATH`.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_is_named_with_its_remedy() {
        let error = run("dpdk-test-nothing", &[], &[], &Watch::silent()).unwrap_err().to_string();
        assert!(error.contains("dpdk-test-nothing") && error.contains("peers --install"), "{error}");
    }
}
