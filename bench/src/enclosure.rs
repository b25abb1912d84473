//! An enclosure: the process starts itself again in namespaces of its own, where whatever it makes goes when it goes.
//!
//! The inner process has network, mount and process namespaces of its own, a `/proc` and an empty `/run` in them. When the
//! outer process ends in any way (interrupted, killed, finished), the kernel kills the inner one, which is the first process
//! of its namespace, and with it everything that it started; and with the last of these the network namespaces, links, BPF
//! file systems and pins disappear. So nothing needs to be named after a process id, and nothing to be cleaned up.
//!
//! Needs root, and `unshare` and `setpriv` of util-linux.

use anyhow::{Context, Result, ensure};
use std::process::ExitCode;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// Set in the environment of the inner process.
const MARK: &str = "ZSYNC_BENCH_ENCLOSED";
/// `setpriv` ends `unshare` with this process, `unshare` ends the inner process with itself.
const WRAPPER: &str = "setpriv --pdeathsig KILL unshare --mount --net --pid --mount-proc --kill-child=KILL";

/// Whether this is the inner process.
pub fn is_inside() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Runs this program with the same arguments in an enclosure; its exit status. An interrupt ends it.
///
/// # Errors
/// Not root, or the programs that are needed are missing.
pub fn run() -> Result<ExitCode> {
    ensure!(is_possible(), "network namespaces of one's own take root");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // In this thread, with which the inner process is to end.
    runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let mut words = WRAPPER.split(' ');
        let mut child = Command::new(words.next().unwrap_or_default())
            .args(words)
            .arg(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .env(MARK, "1")
            .spawn()
            .context("setpriv and unshare are needed (Debian has them in the package util-linux)")?;
        tokio::select! {
            status = child.wait() => {
                let code = status?.code().and_then(|code| u8::try_from(code).ok());
                return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
            }
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        child.kill().await?;
        Ok(ExitCode::from(130))
    })
}

/// Whether this process may make one.
pub fn is_possible() -> bool {
    rustix::process::geteuid().is_root()
}

/// What the inner process does first: an empty `/run`, so that what is made there is its own.
///
/// # Errors
/// It cannot be mounted.
pub fn furnish() -> Result<()> {
    execute(std::process::Command::new("mount").args(["-t", "tmpfs", "none", "/run"])).map(drop)
}

/// Runs a command to its end; what it printed.
///
/// # Errors
/// It cannot be run, or failed; with what it said.
pub fn execute(command: &mut std::process::Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
