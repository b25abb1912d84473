//! The outer process: runs the story in another, and removes everything when that has ended, in whichever way.
//!
//! Keeps true: nothing is left behind after success, failure, a panic, Ctrl-C, SIGTERM or a closed terminal. That takes no
//! care anywhere else, because all that the story makes carries its process id, and is removed by that.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use crate::reaper;

/// Set for the process that tells the story.
const INSIDE: &str = "ZSYNC_DEMO_INSIDE";
/// It takes half a minute; a machine that takes so long has hung.
const LIMIT: Duration = Duration::from_secs(180);

/// How the story ended.
enum End {
    Told(ExitStatus),
    Interrupted(SignalKind),
    TooLong,
}

/// Whether this process is the one that tells the story.
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// The whole of the outer process.
pub fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.context("tokio").and_then(|runtime| runtime.block_on(watch())) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("zsync-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn watch() -> Result<u8> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // In a process group of its own: Ctrl-C is for this process, which then ends that one.
    let mut story = Command::new(env::current_exe()?)
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .context("starting the story")?;
    let owner = story.id().context("the story ended at once")?;
    let end = tokio::select! {
        status = story.wait() => End::Told(status?),
        _ = interrupt.recv() => End::Interrupted(SignalKind::interrupt()),
        _ = terminate.recv() => End::Interrupted(SignalKind::terminate()),
        _ = hangup.recv() => End::Interrupted(SignalKind::hangup()),
        () = tokio::time::sleep(LIMIT) => End::TooLong,
    };
    story.kill().await?;

    let failed = match &end {
        End::Told(status) => !status.success(),
        End::Interrupted(_) => false,
        End::TooLong => true,
    };
    if failed {
        match keep_logs(owner) {
            Ok(Some(folder)) => eprintln!("zsync-demo: failed; its logs are in {}", folder.display()),
            Ok(None) => {}
            Err(error) => eprintln!("zsync-demo: failed, and its logs cannot be kept: {error:#}"),
        }
    }
    reaper::reap(&env::temp_dir());
    Ok(match end {
        End::Told(status) => u8::try_from(status.code().unwrap_or(1)).unwrap_or(1),
        End::Interrupted(signal) => {
            eprintln!("zsync-demo: interrupted; everything is removed");
            // As a shell says it.
            128 + u8::try_from(signal.as_raw_value()).unwrap_or(0)
        }
        End::TooLong => {
            eprintln!("zsync-demo: ended after {LIMIT:?}");
            1
        }
    })
}

/// Copies the logs of the lab that a process left, to a folder beside the programs; none if it left none.
fn keep_logs(owner: u32) -> Result<Option<PathBuf>> {
    let exe = env::current_exe()?;
    let folder = exe.parent().unwrap_or(Path::new(".")).join("demo-logs");
    let ours =
        |name: &str| name.strip_prefix("zs").is_some_and(|rest| rest.starts_with(&format!("{owner}-")));
    let mut kept = None;
    for lab in
        fs::read_dir(env::temp_dir())?.flatten().filter(|lab| lab.file_name().to_str().is_some_and(ours))
    {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        for file in fs::read_dir(lab.path())?.flatten().map(|file| file.path()) {
            if let (Some(name), Some("log")) =
                (file.file_name(), file.extension().and_then(|end| end.to_str()))
            {
                fs::copy(&file, folder.join(name))?;
            }
        }
        kept = Some(folder.clone());
    }
    Ok(kept)
}
