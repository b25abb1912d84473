//! Children, as the kernel has them: started, and waited for by their pidfd.
//!
//! Owns nothing: the descriptor is the caller's. Refuses nothing but what the kernel does. Keeps true: one that was started and cannot be
//! watched has been killed and waited for.

use crate::calls::{Started, Streams};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, waitid};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child as Process, Command, ExitStatus, Stdio};

/// Starts one; its streams that are pipes never make anybody wait here.
pub(super) fn start<D: From<OwnedFd>>(command: &mut Command, streams: Streams) -> Result<Started<D>, Errno> {
    if streams.input {
        command.stdin(Stdio::piped());
    }
    if streams.output {
        command.stdout(Stdio::piped());
    }
    if streams.errors {
        command.stderr(Stdio::piped());
    }
    let started = command.spawn();
    let mut process = started.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    around(&mut process).inspect_err(|_| {
        // It is ours and was not waited for, so its number is nobody else's.
        let _ = (process.kill(), process.wait());
    })
}

fn around<D: From<OwnedFd>>(process: &mut Process) -> Result<Started<D>, Errno> {
    let end = |stream: Option<OwnedFd>| match stream {
        Some(stream) => ioctl_fionbio(&stream, true).map(|()| Some(D::from(stream))),
        None => Ok(None),
    };
    Ok(Started {
        process: process.id(),
        descriptor: pidfd_open(Pid::from_child(process), PidfdFlags::empty())?.into(),
        input: end(process.stdin.take().map(OwnedFd::from))?,
        output: end(process.stdout.take().map(OwnedFd::from))?,
        errors: end(process.stderr.take().map(OwnedFd::from))?,
    })
}

/// How one ended; with NOHANG, if it has.
///
/// # Errors
/// As waitid(2).
pub(super) fn ended(child: BorrowedFd<'_>, options: WaitIdOptions) -> Result<Option<ExitStatus>, Errno> {
    loop {
        match waitid(WaitId::PidFd(child), WaitIdOptions::EXITED | options) {
            Err(Errno::INTR) => {}
            waited => return Ok(waited?.map(|status| ExitStatus::from_raw(word(&status)))),
        }
    }
}

/// wait(2)'s word for it.
fn word(status: &WaitIdStatus) -> i32 {
    /// WCOREFLAG.
    const DUMPED: i32 = 0x80;
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code << 8,
        (None, Some(signal)) if status.dumped() => signal | DUMPED,
        (None, signal) => signal.unwrap_or_default(),
    }
}
