//! Other programs, run to their end: not for longer than they may, and no longer than the run that they are part of.
//!
//! Keeps true: whatever ends this process, they end; and what is typed at its terminal reaches this process alone, which
//! then sees to them.

use crate::watch::Watch;
use anyhow::{Context, Result, ensure};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// A program that is killed when the thread that starts it ends.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program).process_group(0);
    command
}

/// Runs it to its end; what it printed.
///
/// # Errors
/// It cannot be started, takes longer than `patience`, or `watch` says that the run is to stop; it is ended then.
pub fn output(command: &mut Command, patience: Duration, watch: &Watch) -> Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("setpriv is needed (Debian has it in the package util-linux)")?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let (out, err) = (scope.spawn(|| drain(out)), scope.spawn(|| drain(err)));
        let ended = end(&mut child, patience, watch);
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let [stdout, stderr] =
            [out, err].map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        Ok(Output { status: ended?, stdout, stderr })
    })
}

fn end(child: &mut Child, patience: Duration, watch: &Watch) -> Result<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        ensure!(start.elapsed() < patience, "it was not done after {patience:?}");
        watch.sleep(LOOK)?;
    }
}

fn drain(stream: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What came before an error is all that there is.
    let _ = stream.map(|mut stream| stream.read_to_end(&mut bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = command("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_it_printed_and_how_it_ended_are_told() {
        let output =
            output(&mut shell("echo a; echo b >&2; exit 3"), Duration::MAX, &Watch::silent()).unwrap();
        assert_eq!(
            (output.status.code(), &output.stdout[..], &output.stderr[..]),
            (Some(3), &b"a\n"[..], &b"b\n"[..])
        );
    }

    #[test]
    fn one_that_takes_too_long_or_is_not_wanted_any_more_is_ended() {
        let error = output(&mut shell("exec sleep 3600"), LOOK, &Watch::silent()).unwrap_err();
        assert!(error.to_string().contains("not done after"), "{error}");
        let watch = Watch::silent();
        watch.cancel();
        let error = output(&mut shell("exec sleep 3600"), Duration::MAX, &watch).unwrap_err();
        assert_eq!(error.to_string(), "interrupted");
    }
}
