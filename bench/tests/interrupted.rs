//! Runs that are interrupted: what they have measured so far comes out, as pairs, and nothing of them stays.

mod common;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use zsync_bench::peers::{PEERS, State};
use zsync_report::outcome::Outcome;

/// More rounds than any test waits for.
const ROUNDS: &str = "1000";

/// A run under way.
struct Run {
    child: Child,
    said: BufReader<ChildStderr>,
    /// Held while it runs: runs share both cores.
    _turn: File,
}

impl Run {
    fn start(arguments: &[&str], seconds: &str) -> Self {
        let turn = common::turn();
        let mut child = Command::new(env!("CARGO_BIN_EXE_zsync-bench"))
            .args(arguments)
            .args(["--rounds", ROUNDS, "--seconds", seconds])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        Self { child, said, _turn: turn }
    }

    /// Waits until it says that a round is behind it.
    fn wait_for_a_round(&mut self) {
        let mut all = String::new();
        loop {
            let from = all.len();
            assert!(self.said.read_line(&mut all).unwrap() > 0, "it ended: {all}");
            let round = all[from..].split_once(": round ").and_then(|(_, rest)| rest.split(' ').next());
            if round.is_some_and(|round| round.parse::<u32>().unwrap() > 1) {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end; what it printed, and its processes that are there still.
    fn end(mut self, processes: &BTreeSet<u32>) -> (ExitStatus, String) {
        let (mut printed, mut said) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        self.said.read_to_string(&mut said).unwrap();
        let status = self.child.wait().unwrap();
        // What the kernel kills with its namespace takes a moment to go.
        let start = Instant::now();
        while processes.iter().any(|process| Path::new(&format!("/proc/{process}/exe")).exists()) {
            assert!(start.elapsed() < Duration::from_secs(20), "some of {processes:?} stay: {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let record = fs::read_to_string("/run/zsync-bench.hugepages").unwrap_or_default();
        let own = format!("holder {} ", self.child.id());
        assert!(!record.contains(&own), "it holds huge pages still: {record}");
        (status, printed)
    }
}

/// All processes that came from this one, in whatever namespaces.
fn descendants(of: u32) -> BTreeSet<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let process = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
            Some((process, parent.trim().parse().ok()?))
        })
        .collect();
    let (mut all, mut before) = (BTreeSet::from([of]), 0);
    while all.len() > before {
        before = all.len();
        all.extend(
            parents
                .iter()
                .filter(|(_, parent)| all.contains(parent))
                .map(|(process, _)| *process)
                .collect::<Vec<_>>(),
        );
    }
    all.remove(&of);
    all
}

/// The one outcome: as many rounds of each side, and a note that says how many.
fn assert_pairs(printed: &str) {
    let outcome = Outcome::from_json(printed.trim_end()).unwrap();
    let rounds = outcome.ours.samples.len();
    assert!(rounds > 0, "{outcome:?}");
    assert!(outcome.peers.iter().all(|peer| peer.samples.len() == rounds), "{outcome:?}");
    let note = format!("interrupted after {rounds} of {ROUNDS} rounds");
    assert!(outcome.notes.contains(&note), "{outcome:?}");
}

#[test]
fn an_interrupted_comparison_in_memory_prints_its_rounds_so_far_and_leaves_nothing() {
    // Half a second for each side of a round.
    let mut run = Run::start(&["run", "memory-patch", "--json"], "1000");
    run.wait_for_a_round();
    let processes = descendants(run.child.id());
    let peer = PEERS.iter().find(|peer| peer.name == "dpdk-testpmd").unwrap();
    assert!(peer.state() == State::Missing || !processes.is_empty());
    run.signal(Signal::INT);
    // As from a terminal that signals the whole group: it counts once.
    run.signal(Signal::TERM);
    let (status, printed) = run.end(&processes);
    assert_eq!(status.code(), Some(130), "{printed}");
    assert_pairs(&printed);
}

#[test]
fn an_interrupted_router_prints_its_rounds_so_far_and_leaves_nothing() {
    let beside = Path::new(env!("CARGO_BIN_EXE_zsync-bench"));
    if !geteuid().is_root() || !beside.with_file_name("zsync-control").is_file() {
        eprintln!("SKIPPED: it takes root, and zsync-control beside the program");
        return;
    }
    // Rounds of a second, as there is no time for longer ones.
    let mut run = Run::start(&["compare", "veth-route", "--peer", "kernel", "--json"], "1");
    run.wait_for_a_round();
    let processes = descendants(run.child.id());
    assert!(processes.len() >= 2, "{processes:?}");
    run.signal(Signal::INT);
    let (status, printed) = run.end(&processes);
    assert_eq!(status.code(), Some(130), "{printed}");
    assert_pairs(&printed);
}

#[test]
fn a_second_interrupt_ends_a_run_that_does_not_heed_the_first() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: it takes root");
        return;
    }
    let mut run = Run::start(&["run", "memory-patch", "--json"], "1000");
    run.wait_for_a_round();
    let processes = descendants(run.child.id());
    // The inner process: `unshare` is the first child, and it is that one's.
    let of_unshare = processes.iter().map(|&process| descendants(process)).max_by_key(BTreeSet::len).unwrap();
    let inner = of_unshare.iter().find(|&&process| {
        fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.trim() == "zsync-bench")
    });
    let inner = Pid::from_raw(*inner.unwrap() as i32).unwrap();
    kill_process(inner, Signal::STOP).unwrap();
    run.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(400));
    assert!(run.child.try_wait().unwrap().is_none(), "the first does not kill");
    run.signal(Signal::INT);
    let (status, printed) = run.end(&processes);
    assert_eq!((status.code(), printed.as_str()), (Some(130), ""));
}
