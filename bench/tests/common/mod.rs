//! What the tests share that run the program: whose turn it is, and why a machine cannot.

use std::fs::File;
use std::path::Path;
use zsync_bench::peers::{PEERS, State};

/// Whether a test that cannot run is a failure.
pub fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| ci == "true")
}

/// One run at a time, for as long as this is held: they share the huge pages and both cores.
pub fn turn() -> File {
    let turn = File::create(concat!(env!("CARGO_TARGET_TMPDIR"), "/comparisons.lock")).unwrap();
    turn.lock().unwrap();
    turn
}

/// Why this machine cannot run it, if it cannot. A peer that is missing is a failure in CI.
#[allow(dead_code, reason = "not every test file asks")]
pub fn obstacle(benchmark: &str, needs_root: bool) -> Option<String> {
    let missing = PEERS
        .iter()
        .find(|peer| peer.benchmarks.contains(&benchmark) && peer.state() == State::Missing)
        .map(|peer| format!("{} is missing (package {})", peer.name, peer.package));
    if missing.is_some() && is_ci() {
        panic!("{}", missing.unwrap_or_default());
    }
    let root = rustix::process::geteuid().is_root();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    missing
        .or_else(|| (needs_root && !root).then(|| "it takes root".to_owned()))
        .or_else(|| (needs_root && cores < 2).then(|| "it takes two cores".to_owned()))
}

/// The program of zsync's own that is not built beside this one, if one is not.
#[allow(dead_code, reason = "not every test file asks")]
pub fn not_built() -> Option<&'static str> {
    let beside = Path::new(env!("CARGO_BIN_EXE_zsync-bench"));
    let programs = ["zsync-control", "zsync-dataplane", "zsyncctl"];
    programs.into_iter().find(|name| !beside.with_file_name(name).is_file())
}
