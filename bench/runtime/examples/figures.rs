//! The figures without zsync-bench, which takes longer to build: `figures 20 5`, seconds and rounds.

use anyhow::Result;
use std::env;
use std::process::Command;
use std::thread::available_parallelism;
use std::time::Duration;
use zsync_allocations::Counting;
use zsync_bench_runtime::{Settings, run, serve};
use zsync_report::watch::Unwatched;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> Result<()> {
    let core = available_parallelism()?.get() - 1;
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (seconds, rounds) = match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["contestant", name] => return serve(name, core),
        [] => (20.0, 5),
        [seconds] => (seconds.parse()?, 5),
        [seconds, rounds, ..] => (seconds.parse()?, rounds.parse()?),
    };
    let program = env::current_exe()?;
    let contestant = |name: &str| {
        let mut command = Command::new(&program);
        command.args(["contestant", name]);
        command
    };
    let time = Duration::try_from_secs_f64(seconds)?;
    let settings = Settings { rounds, time, contestant: &contestant, far_core: 0 };
    run(&settings, &Unwatched)?.iter().for_each(|figures| println!("{figures}"));
    Ok(())
}
