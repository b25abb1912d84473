//! `runtime`: the async runtime beside others; the crate `zsync-bench-runtime` measures.
//!
//! Owns: the cores, and how a contestant's process is started: as this program, by a command that nobody else calls.

use crate::machine::measured_core;
use crate::measured::Measured;
use crate::watch::Watch;
use anyhow::Result;
use clap::Args;
use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use zsync_bench_runtime::Settings;

/// The benchmark's name, and what it measures.
pub const BENCHMARK: (&str, &str) = (
    "runtime",
    "tasks, channels, timers and sockets of the async runtime, beside its limits; beside tokio, monoio, glommio, compio, smol",
);

/// A contestant's process.
#[derive(Args)]
pub struct Contestant {
    /// Which one.
    name: String,
    /// Where it runs.
    #[arg(long)]
    core: usize,
}

impl Contestant {
    /// Is that process, until its standard input ends.
    ///
    /// # Errors
    /// There is no such contestant.
    pub fn serve(&self) -> Result<()> {
        zsync_bench_runtime::serve(&self.name, self.core)
    }
}

/// The command that is `program`, as that contestant.
fn contestant(program: &Path, name: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["contestant", name, "--core", &measured_core().to_string()]);
    command
}

/// Measures it in about `time`.
///
/// # Errors
/// Ours fails.
pub fn run(rounds: usize, time: Duration, watch: &Watch) -> Result<Measured> {
    let program = env::current_exe()?;
    Measured::of(("loopback", "sockets"), || {
        let start = |name: &str| contestant(&program, name);
        // The first core, where there is another one.
        let settings = Settings { rounds, time, contestant: &start, far_core: 0 };
        zsync_bench_runtime::run(&settings, watch)
    })
}
