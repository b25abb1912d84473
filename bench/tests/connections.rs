//! Searches for connections through the kernel's own table, as the program is called.
//!
//! Skipped where there is no root, or where the host itself keeps many connections: the table's limit is one for all network
//! namespaces, and is a small one for a while.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use zsync_report::outcome::Outcome;

const FOLDER: &str = "/proc/sys/net/netfilter";
/// Connections that the kernel's table may hold meanwhile.
const LIMIT: u64 = 1000;
/// More of the host's own than this are not to be disturbed.
const OTHERS: u64 = 300;

/// A shell that puts the limit back when this process ends, however it ends.
struct Limit {
    shell: Child,
    /// Held while it is there: other runs need the whole table.
    _turn: File,
}

impl Limit {
    /// `None` where it cannot be set, or had better not be.
    fn set() -> Option<Self> {
        let count = fs::read_to_string(format!("{FOLDER}/nf_conntrack_count"));
        let others = count.ok().and_then(|text| text.trim().parse::<u64>().ok());
        let nft = Command::new("nft").arg("--version").output().is_ok_and(|output| output.status.success());
        let obstacle = match others {
            _ if !rustix::process::geteuid().is_root() => "it takes root",
            _ if std::thread::available_parallelism().map_or(1, usize::from) < 2 => "it takes two cores",
            _ if !nft => "there is no nft",
            None => "the kernel tracks no connections",
            Some(OTHERS..) => "the host has connections of its own",
            Some(_) => {
                let turn = File::create(concat!(env!("CARGO_TARGET_TMPDIR"), "/comparisons.lock")).unwrap();
                turn.lock().unwrap();
                let file = format!("{FOLDER}/nf_conntrack_max");
                let script = format!(
                    "trap '' INT TERM HUP; old=$(cat {file}); echo {LIMIT} > {file} && echo set; \
                     read -r end; echo $old > {file}"
                );
                // A group of its own: what ends this process's ends it not.
                let mut shell = Command::new("sh")
                    .args(["-c", &script])
                    .process_group(0)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap();
                let mut said = String::new();
                BufReader::new(shell.stdout.take().unwrap()).read_line(&mut said).unwrap();
                assert_eq!(said, "set\n");
                return Some(Self { shell, _turn: turn });
            }
        };
        eprintln!("SKIPPED: {obstacle}");
        None
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().unwrap();
    }
}

fn search(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_zsync-bench");
    Command::new(program).args(["search", "--json"]).args(arguments).output().unwrap()
}

/// What a search for the table's capacity printed: rate and capacity.
fn capacity(through: &str) -> [Outcome; 2] {
    let limits = ["--connections", "500", "--max-rate", "10000"];
    let output = search(&[&["--through", through, "--measure", "table-capacity"], &limits[..]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{through}: {said}");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let outcomes: Vec<Outcome> = printed.lines().map(|line| Outcome::from_json(line).unwrap()).collect();
    outcomes.try_into().unwrap_or_else(|_| panic!("{through}: {printed}"))
}

/// A host that has no time for the two ends loses packets that the table had room for, so it gets three searches to find the
/// limit; none may find more.
#[test]
fn the_kernels_table_is_found_to_hold_as_many_connections_as_it_may() {
    let Some(_limit) = Limit::set() else { return };
    for through in ["kernel-track", "kernel-nat"] {
        let found = (1..=3).any(|attempt| {
            let [rate, capacity] = capacity(through);
            assert_eq!((rate.unit.as_str(), capacity.unit.as_str()), ("connections/s", "connections"));
            assert!(
                capacity.ours.samples.iter().all(|held| *held <= LIMIT as f64),
                "{through}: {capacity:?}"
            );
            assert!(capacity.ours.name.starts_with("kernel, "), "{}", capacity.ours.name);
            eprintln!("{through}, search {attempt}: {rate:?} {capacity:?}");
            capacity.ours.samples == [LIMIT as f64] && capacity.problems() == [""; 0]
        });
        assert!(found, "{through}: no search has found that the table holds {LIMIT}");
    }
}

#[test]
fn connections_that_nobody_could_count_are_refused_with_the_remedy() {
    let refused = |arguments: &[&str]| {
        let output = search(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let measure = ["--measure", "connection-rate", "--from", "lo", "src-mac=02:00:00:00:00:01"];
    let with = |more: &[&'static str]| refused(&[&measure[..], more].concat());
    let said = with(&["--remote", "127.0.0.1:9"]);
    assert!(said.contains("both ends on this host"), "{said}");
    let said = with(&["--to", "lo"]);
    assert!(said.contains("--clear-command"), "{said}");
    let said = with(&["--to", "lo", "--clear-command", "true", "sport=1..100"]);
    assert!(said.contains("tell 100 connections apart, and 50000 were asked for"), "{said}");
}
