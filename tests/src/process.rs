//! A child process that writes a log, and does not outlive its owner.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, setpriority_process};

use crate::Namespace;

/// How long a process may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);
/// As much of a log as a failed test shows.
const TAIL: u64 = 6 << 10;
/// Thirty times the weight of what runs as usual (kernel/sched/core.c, `sched_prio_to_weight`).
const NICE: i32 = -15;

/// A running child. Dropping it ends it: SIGTERM, then SIGKILL, and waits.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` in a namespace, with both outputs appended to the file `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(namespace: &Namespace, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = namespace.run(|| command.spawn().with_context(|| format!("cannot start {command:?}")))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid(), signal).with_context(|| format!("{signal:?} to {:?}", self.pid()))
    }

    /// How it ended, when it has.
    ///
    /// # Errors
    /// When that cannot be asked.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it has not after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                bail!("process {:?} still runs after {limit:?}", self.pid());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Kills it as a crash would, and waits for its end.
    ///
    /// # Errors
    /// When it was gone.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// All that it wrote.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.ended(), Ok(None)) {
            return;
        }
        let _ = self.signal(Signal::TERM);
        if self.wait(PATIENCE).is_err() {
            eprintln!("process {:?} did not heed SIGTERM for {PATIENCE:?}: killed", self.pid());
            let _ = self.kill9();
        }
    }
}

/// Puts a process, or a thread, ahead of what else the machine does. zsync is made for cores of its own, and a test that
/// shares two of them with a compiler would measure the compiler.
pub(crate) fn hurry(whom: Pid) {
    let _ = setpriority_process(Some(whom), NICE);
}

/// The end of a log, from the start of a line.
pub(crate) fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(if length > TAIL {
            text.split_once('\n').map_or(text.clone(), |(_, rest)| rest.into())
        } else {
            text
        })
    };
    read().unwrap_or_else(|error| error.to_string())
}
