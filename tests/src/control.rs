//! `zsync-control` in the lab's router, and `zsyncctl` to talk to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::binary::binary;
use crate::counts::{Books, Counts};
use crate::netns::execute;
use crate::process::{Process, hurry};
use crate::{Lab, wait_for};

/// How long the whole may take to come up: the verifier, packet memory, sockets, the first reading of all routes.
const COME_UP: Duration = Duration::from_secs(20);
/// How long books may stay open while packets are under way.
const SETTLE: Duration = Duration::from_secs(3);

/// A running control process and what it started. Dropping it ends both.
#[derive(Debug)]
pub struct Control<'lab> {
    lab: &'lab Lab,
    process: Process,
    options: Vec<String>,
}

/// How a control process ended that did not want to run.
#[derive(Debug)]
pub struct Refusal {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it said.
    pub said: String,
}

impl<'lab> Control<'lab> {
    /// Starts it with this configuration, and waits until it forwards.
    ///
    /// # Errors
    /// It ends, or does not forward in time.
    pub fn start(lab: &'lab Lab, config: &str) -> Result<Self> {
        Self::start_with(lab, config, &[])
    }

    /// As [`Control::start`], with more options: `--no-respawn`.
    ///
    /// # Errors
    /// It ends, or does not forward in time.
    pub fn start_with(lab: &'lab Lab, config: &str, options: &[&str]) -> Result<Self> {
        let mut control = Self::spawned(lab, config, options)?;
        control.wait_ready()?;
        Ok(control)
    }

    /// As [`Control::start`], without waiting.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_unready(lab: &'lab Lab, config: &str) -> Result<Self> {
        Self::spawned(lab, config, &[])
    }

    fn spawned(lab: &'lab Lab, config: &str, options: &[&str]) -> Result<Self> {
        fs::write(config_file(lab), config)?;
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        let process = spawn(lab, &options, true)?;
        Ok(Self { lab, process, options })
    }

    /// Starts it with a configuration that it is to refuse, under another program if `wrapper` names one (`setpriv …`).
    ///
    /// # Errors
    /// It goes on running.
    pub fn refused(lab: &Lab, config: &str, wrapper: &[&str]) -> Result<Refusal> {
        fs::write(config_file(lab), config)?;
        let log = lab.folder().join("refused.log");
        let _ = fs::remove_file(&log);
        let mut process = Process::start(&lab.router, &mut command(lab, wrapper, &[], true)?, &log)?;
        let status = process.wait(COME_UP).context("control was to refuse")?;
        Ok(Refusal { status, said: process.log() })
    }

    /// Waits until the data plane forwards.
    ///
    /// # Errors
    /// Control ends, or the data plane does not come.
    pub fn wait_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.ended()? {
                bail!("control ended: {status}");
            }
            if self.is_running() {
                return Ok(());
            }
            ensure!(start.elapsed() < COME_UP, "no data plane runs after {COME_UP:?}: {:?}", self.status());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_running(&self) -> bool {
        let running = |status: &Value| {
            matches!(status["dataplane"]["state"].as_str(), Some("running"))
                && status["dataplane"]["pid"].is_u64()
        };
        self.status().is_ok_and(|status| running(&status))
    }

    /// Control's process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Kills control alone, as a crash would. The data plane is left.
    ///
    /// # Errors
    /// It was gone.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.kill9()
    }

    /// Starts control again, after its end. Returns at once.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn revive(&mut self) -> Result<()> {
        self.process = spawn(self.lab, &self.options, true)?;
        Ok(())
    }

    /// As [`Control::revive`], with what was accepted last, whatever the first configuration was.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn revive_from_history(&mut self) -> Result<()> {
        self.process = spawn(self.lab, &self.options, false)?;
        Ok(())
    }

    /// What `wg WORDS` says of our tunnels, which it finds where it looks for them.
    ///
    /// # Errors
    /// What it said, when it failed.
    pub fn wg(&self, words: &[&str]) -> Result<String> {
        // Its folder cannot be chosen, so it sees another one there.
        let script =
            "mkdir -p /var/run/wireguard && mount --bind \"$0\" /var/run/wireguard && exec wg \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(wireguard_dir(self.lab)).args(words);
        execute(&mut command)
    }

    /// Kills the data plane, as a crash would; the process that was killed.
    ///
    /// # Errors
    /// There is none.
    pub fn kill9_dataplane(&self) -> Result<Pid> {
        let pid = self.dataplane()?;
        kill_process(pid, Signal::KILL)?;
        Ok(pid)
    }

    /// Waits for a data plane that is another process than `old`, and for control to say that it runs.
    ///
    /// # Errors
    /// None comes within a few seconds.
    pub fn wait_successor(&mut self, old: Pid) -> Result<Pid> {
        let new = wait_for("another data plane", Duration::from_secs(5), || {
            self.dataplane().ok().filter(|pid| *pid != old)
        })?;
        self.wait_ready()?;
        Ok(new)
    }

    /// Waits until control ends by itself; how it ended.
    ///
    /// # Errors
    /// It has not after `limit`.
    pub fn ended_within(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.process.wait(limit)
    }

    /// Asks control to stop (SIGTERM) and waits; how it ended.
    ///
    /// # Errors
    /// It does not end within some seconds.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.signal(Signal::TERM)?;
        self.process.wait(Duration::from_secs(10))
    }

    /// The data plane's process, looked for from outside: one in the router's namespace that runs that program.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn dataplane(&self) -> Result<Pid> {
        let pids = dataplanes(self.lab);
        match pids.as_slice() {
            [pid] => Ok(*pid),
            pids => bail!("there are {} data planes: {pids:?}", pids.len()),
        }
    }

    /// What `zsyncctl WORDS --json` answers, without the name of its kind.
    ///
    /// # Errors
    /// What it said, when it failed.
    pub fn ctl(&self, words: &[&str]) -> Result<Value> {
        let mut command = Command::new(binary("zsyncctl")?);
        command.arg("--socket").arg(run_dir(self.lab).join("api.sock")).args(words).arg("--json");
        let text = execute(&mut command)?;
        let mut answer: Value = serde_json::from_str(&text).with_context(|| format!("{words:?}: {text}"))?;
        // `{"ledger":{…}}`: an object of one member, which names the kind.
        let kind = answer
            .as_object_mut()
            .filter(|object| object.len() == 1)
            .and_then(|object| object.keys().next().cloned());
        Ok(kind.map_or(answer.clone(), |kind| answer[&kind].take()))
    }

    /// What `zsyncctl explain` says becomes of a packet, said in words, that comes in at a port: `transmit by wan`.
    ///
    /// # Errors
    /// What it said, when it failed.
    pub fn verdict(&self, input: &str, packet: &str) -> Result<String> {
        let answer = self.ctl(&["explain", "--packet", packet, "--input", input])?;
        answer[0]["verdict"].as_str().map(str::to_owned).with_context(|| format!("no verdict in {answer}"))
    }

    /// `zsyncctl status`.
    ///
    /// # Errors
    /// Control does not answer.
    pub fn status(&self) -> Result<Value> {
        self.ctl(&["status"])
    }

    /// Puts a configuration in force; `options` as `zsyncctl apply` has them.
    ///
    /// # Errors
    /// It was refused; with what was said.
    pub fn apply(&self, config: &str, options: &[&str]) -> Result<Value> {
        let file = self.lab.folder().join("next.toml");
        fs::write(&file, config)?;
        self.ctl(&[&["apply", &file.to_string_lossy()], options].concat())
    }

    /// What the workers counted so far.
    ///
    /// # Errors
    /// Control does not answer, or not with counters.
    pub fn counts(&self) -> Result<Counts> {
        Counts::read(&self.ctl(&["show", "counters"])?)
    }

    /// Where all frames are, and what became of all packets: waits until nothing is under way, and checks that both add
    /// up exactly, nothing leaked, completed twice, or misplaced. To be called when no traffic flows.
    ///
    /// # Errors
    /// The books are not exact.
    pub fn balanced(&self) -> Result<Books> {
        let start = Instant::now();
        loop {
            let books = Books::read(&self.ctl(&["show", "ledger"])?, &self.ctl(&["show", "counters"])?)?;
            match books.check() {
                Ok(()) => return Ok(books),
                Err(error) if start.elapsed() > SETTLE => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// All that control and the data planes logged. (Some of it a moment ago: a thread of control's own writes it.)
    #[must_use]
    pub fn log(&self) -> String {
        std::thread::sleep(Duration::from_millis(100));
        self.process.log()
    }
}

impl Drop for Control<'_> {
    fn drop(&mut self) {
        // Control first, while it can still end the data plane in an orderly way.
        if let Ok(None) = self.process.ended() {
            let _ = self.stop();
        }
        for pid in dataplanes(self.lab) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Where this lab's control keeps its sockets.
#[must_use]
pub fn run_dir(lab: &Lab) -> PathBuf {
    lab.folder().join("run")
}

/// Where this lab's control has its sockets for `wg`.
#[must_use]
pub fn wireguard_dir(lab: &Lab) -> PathBuf {
    run_dir(lab).join("wireguard")
}

/// Where this lab's control keeps the history.
#[must_use]
pub fn state_dir(lab: &Lab) -> PathBuf {
    lab.folder().join("state")
}

/// Where this lab's control mounts its BPF file system.
#[must_use]
pub fn bpffs(lab: &Lab) -> PathBuf {
    lab.folder().join("bpffs")
}

/// What this lab's control has pinned: a folder for each port.
#[must_use]
pub fn pins(lab: &Lab) -> Vec<PathBuf> {
    let entries = fs::read_dir(bpffs(lab)).into_iter().flatten().flatten().map(|entry| entry.path());
    // The kernel's own iterators, which every BPF file system begins with (kernel/bpf/preload).
    entries.filter(|path| path.extension().is_none_or(|extension| extension != "debug")).collect()
}

/// The data planes in the lab's router.
#[must_use]
pub fn dataplanes(lab: &Lab) -> Vec<Pid> {
    let runs_it = |pid: &Pid| {
        let comm = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()));
        // The kernel keeps 15 bytes, which is all of them.
        comm.is_ok_and(|comm| comm.trim() == "zsync-dataplane")
    };
    lab.router.processes().into_iter().filter(runs_it).collect()
}

fn config_file(lab: &Lab) -> PathBuf {
    lab.folder().join("zsync.toml")
}

fn spawn(lab: &Lab, options: &[String], config: bool) -> Result<Process> {
    let process = Process::start(&lab.router, &mut command(lab, &[], options, config)?, &log_file(lab))?;
    // What it starts inherits it.
    hurry(process.pid());
    Ok(process)
}

fn log_file(lab: &Lab) -> PathBuf {
    lab.folder().join("control.log")
}

fn command(lab: &Lab, wrapper: &[&str], options: &[String], config: bool) -> Result<Command> {
    let control = binary("zsync-control")?;
    let mut command = match wrapper {
        [] => Command::new(control),
        [program, options @ ..] => {
            let mut command = Command::new(program);
            command.args(options).arg(control);
            command
        }
    };
    let option = |command: &mut Command, name: &str, path: &Path| {
        command.arg(name).arg(path);
    };
    if config {
        option(&mut command, "--config", &config_file(lab));
    }
    option(&mut command, "--run-dir", &run_dir(lab));
    option(&mut command, "--wireguard-dir", &wireguard_dir(lab));
    option(&mut command, "--state-dir", &state_dir(lab));
    option(&mut command, "--bpffs", &bpffs(lab));
    if !options.iter().any(|option| option == "--dataplane") {
        option(&mut command, "--dataplane", &binary("zsync-dataplane")?);
    }
    command.args(options);
    Ok(command)
}
