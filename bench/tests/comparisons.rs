//! Each comparison with a peer, in a short run of the program: it ends well, has figures, and says what is absent.
//!
//! Skipped where there is no root or no peer; with `CI=true` a peer that is missing is a failure.

use serde_json::Value;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use zsync_bench::peers::{PEERS, State};

/// Why this machine cannot run it, if it cannot.
fn obstacle(benchmark: &str, needs_root: bool) -> Option<String> {
    let missing = PEERS
        .iter()
        .find(|peer| peer.benchmarks.contains(&benchmark) && peer.state() == State::Missing)
        .map(|peer| format!("{} is missing (package {})", peer.name, peer.package));
    if missing.is_some() && std::env::var("CI").is_ok_and(|ci| ci == "true") {
        panic!("{}", missing.unwrap_or_default());
    }
    let root = rustix::process::geteuid().is_root();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    missing
        .or_else(|| (needs_root && !root).then(|| "it takes root".to_owned()))
        .or_else(|| (needs_root && cores < 2).then(|| "it takes two cores".to_owned()))
}

/// Its report, or `None` where it cannot run.
fn report(benchmark: &str, needs_root: bool) -> Option<Value> {
    if let Some(why) = obstacle(benchmark, needs_root) {
        eprintln!("SKIPPED: {benchmark}: {why}");
        return None;
    }
    // One at a time: they share the huge pages and both cores.
    let turn = File::create(concat!(env!("CARGO_TARGET_TMPDIR"), "/comparisons.lock")).unwrap();
    turn.lock().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_zsync-bench"))
        .args(["run", benchmark, "--json", "--rounds", "1", "--seconds", "1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{benchmark}: {}: {said}", output.status);
    Some(serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{benchmark}: {e}: {said}")))
}

/// Medians of its rates, by name.
fn rates(report: &Value) -> Vec<(String, f64)> {
    let rate = |rate: &Value| {
        (rate["name"].as_str().unwrap().to_owned(), rate["spread"]["median"].as_f64().unwrap())
    };
    report["rates"].as_array().unwrap().iter().map(rate).collect()
}

#[test]
fn lookups_are_compared_over_both_families() {
    let Some(report) = report("fib", false) else { return };
    let rates = rates(&report);
    for family in ["IPv4", "IPv6"] {
        for who in ["zsync", "dpdk-test-fib"] {
            let named =
                |(name, rate): &&(String, f64)| name.starts_with(who) && name.contains(family) && *rate > 0.0;
            assert!(rates.iter().filter(named).count() >= 2, "{who}, {family}: {report}");
        }
    }
    assert!(report["ratio"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn the_classifier_has_figures_and_ours_is_absent_with_its_reason() {
    let Some(report) = report("acl", false) else { return };
    assert_eq!(rates(&report).iter().filter(|(_, rate)| *rate > 0.0).count(), 3, "{report}");
    assert_eq!((&report["ratio"], &report["status"]), (&Value::Null, &"success".into()));
    assert_eq!(report["absent"], "zsync has no filter stage yet");
}

#[test]
fn the_kernel_forwards_through_each_of_its_ways() {
    for benchmark in ["veth-track", "veth-nat", "veth-filter"] {
        let Some(report) = report(benchmark, true) else { return };
        let rates = rates(&report);
        assert!(
            matches!(&rates[..], [(name, rate)] if name.starts_with("kernel") && *rate > 0.0),
            "{report}"
        );
        assert!(report["costs"][0]["all_cores"]["spread"]["median"].as_f64().unwrap() > 0.0, "{report}");
        assert_eq!((&report["ratio"], &report["status"]), (&Value::Null, &"success".into()));
        assert!(report["absent"].as_str().unwrap().starts_with("zsync has no "), "{report}");
    }
}

#[test]
fn a_router_is_compared_with_the_kernels_redirect() {
    let beside = Path::new(env!("CARGO_BIN_EXE_zsync-bench"));
    let missing = ["zsync-control", "zsync-dataplane", "zsyncctl"]
        .into_iter()
        .find(|name| !beside.with_file_name(name).is_file());
    if let Some(name) = missing {
        eprintln!("SKIPPED: veth-route: {name} is not built");
        return;
    }
    let Some(report) = report("veth-route", true) else { return };
    let rates = rates(&report);
    for who in ["zsync", "testpmd", "kernel forwarding", "kernel, XDP redirect"] {
        assert!(rates.iter().any(|(name, rate)| name.starts_with(who) && *rate > 0.0), "{who}: {report}");
    }
}

#[test]
fn a_peer_that_is_not_of_a_benchmark_is_refused_with_those_that_are() {
    let output = Command::new(env!("CARGO_BIN_EXE_zsync-bench"))
        .args(["compare", "fib", "--peer", "kernel"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("dpdk-test-fib"), "{said}");
}
