//! An enclosure: the process starts itself again in namespaces of its own, where whatever it makes goes when it goes.
//!
//! The inner process has network, mount and process namespaces of its own, a `/proc` and an empty `/run` in them. When the
//! outer process ends in any way (interrupted, killed, finished), the kernel kills the inner one, which is the first process
//! of its namespace, and with it everything that it started; and with the last of these the network namespaces, links, BPF
//! file systems and pins disappear. So nothing needs to be named after a process id, and nothing to be cleaned up.
//!
//! The inner process is out of the terminal's reach: the outer one passes on what it is told, a byte for each interrupt, by
//! the pipe that is the inner one's standard input. So everything in it has time to end in order.
//!
//! Needs root, `unshare` and `setpriv` of util-linux, and `env` of coreutils 8.31 or later.

use crate::interrupt;
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// Set in the environment of the inner process.
const MARK: &str = "ZSYNC_BENCH_ENCLOSED";
/// `setpriv` ends `unshare` with this process, `unshare` ends the inner process with itself. `env` lets it write to a terminal
/// that stops background writers (`stty tostop`): the first process of a namespace would not stop, and try for ever.
const WRAPPER: &str = "setpriv --pdeathsig KILL env --ignore-signal=TTOU \
                       unshare --mount --net --pid --mount-proc --kill-child=KILL";

/// Whether this is the inner process.
pub fn is_inside() -> bool {
    std::env::var_os(MARK).is_some()
}

/// From an interrupt until the inner process is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs this program with the same arguments in an enclosure; its exit status. An interrupt is passed on to it; a second one
/// ends it at once.
///
/// # Errors
/// Not root, or the programs that are needed are missing.
pub fn run() -> Result<ExitCode> {
    ensure!(is_possible(), "network namespaces of one's own take root");
    interrupt::listen();
    interrupt::hold();
    let mut words = WRAPPER.split_whitespace();
    // In this thread, with which the inner process is to end.
    let mut child = Command::new(words.next().unwrap_or_default())
        .args(words)
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("setpriv and unshare are needed (Debian has them in the package util-linux)")?;
    let mut pipe = child.stdin.take().context("the inner process has no pipe")?;
    let wrapper = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).context("pidfd_open")?;
    std::thread::spawn(move || {
        interrupt::wait_while(Duration::MAX, || interrupt::number() == 0);
        // One that has ended meanwhile needs neither.
        let _ = pipe.write_all(b"!");
        interrupt::wait_while(PATIENCE, || interrupt::number() < 2);
        let _ = pidfd_send_signal(&wrapper, Signal::KILL);
    });
    let status = child.wait()?;
    let killed = if interrupt::number() > 0 { ExitCode::from(interrupt::STATUS) } else { ExitCode::FAILURE };
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(killed, ExitCode::from))
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
    execute(Command::new("mount").args(["-t", "tmpfs", "none", "/run"])).map(drop)
}

/// Runs a command to its end; what it printed.
///
/// # Errors
/// It cannot be run, or failed; with what it said.
pub fn execute(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
