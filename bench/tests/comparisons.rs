//! Each comparison with a peer, in a short run of the program: it ends well, has figures, and ratios.
//!
//! Skipped where there is no root or no peer; with `CI=true` a peer that is missing is a failure.

mod common;

use std::process::Command;
use zsync_report::outcome::Outcome;
use zsync_report::spread::Spread;

/// Its lines, or `None` where it cannot run.
fn report(benchmark: &str, needs_root: bool) -> Option<Vec<Outcome>> {
    if let Some(why) = common::obstacle(benchmark, needs_root) {
        eprintln!("SKIPPED: {benchmark}: {why}");
        return None;
    }
    let _turn = common::turn();
    let output = Command::new(env!("CARGO_BIN_EXE_zsync-bench"))
        .args(["run", benchmark, "--json", "--rounds", "1", "--seconds", "1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{benchmark}: {}: {said}", output.status);
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let outcome =
        |line: &str| Outcome::from_json(line).unwrap_or_else(|e| panic!("{benchmark}: {e}: {line}"));
    Some(lines.lines().map(outcome).collect())
}

/// Medians of all series, by name.
fn rates(outcomes: &[Outcome]) -> Vec<(String, f64)> {
    let sides = outcomes.iter().flat_map(|outcome| std::iter::once(&outcome.ours).chain(&outcome.peers));
    sides.filter_map(|side| Some((side.name.clone(), Spread::of(&side.samples)?.median))).collect()
}

#[test]
fn lookups_are_compared_over_both_families() {
    let Some(outcomes) = report("fib", false) else { return };
    let rates = rates(&outcomes);
    for family in ["IPv4", "IPv6"] {
        for who in ["zsync", "dpdk-test-fib"] {
            let named =
                |(name, rate): &&(String, f64)| name.starts_with(who) && name.contains(family) && *rate > 0.0;
            assert!(rates.iter().filter(named).count() >= 2, "{who}, {family}: {outcomes:?}");
        }
    }
    assert!(outcomes.iter().all(|outcome| outcome.ratios().iter().all(|ratio| ratio.spread.median > 0.0)));
    assert!(outcomes.iter().all(|outcome| !outcome.ratios().is_empty()), "{outcomes:?}");
}

#[test]
fn the_classifier_has_figures_beside_its_peer() {
    let Some(outcomes) = report("acl", false) else { return };
    assert_eq!(rates(&outcomes).iter().filter(|(_, rate)| *rate > 0.0).count(), 6, "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| !outcome.ratios().is_empty()), "{outcomes:?}");
}

#[test]
fn every_library_seals_beside_ours_and_limits_stand_beside_their_figures() {
    let Some(outcomes) = report("crypto", false) else { return };
    let title = "crypto: ChaCha20-Poly1305, seal, 64 B, 32 at once";
    let outcome = outcomes.iter().find(|outcome| outcome.name == title).unwrap();
    let peers: Vec<&str> = outcome.peers.iter().map(|peer| peer.name.as_str()).collect();
    // Only x86-64 has the last one.
    let all = ["ring", "aws-lc-rs", "RustCrypto", "boringtun", "ipsec-mb"];
    assert_eq!(peers, all[..if cfg!(target_arch = "x86_64") { 5 } else { 4 }]);
    assert!(outcome.notes[0].contains("at least 5.50: "), "{:?}", outcome.notes);
    assert!(outcomes.iter().all(|outcome| outcome.problems().is_empty()), "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| !outcome.ratios().is_empty()), "{outcomes:?}");
}

#[test]
fn signatures_are_verified_by_everybody_in_batches_of_each_size() {
    let Some(outcomes) = report("ed25519", false) else { return };
    assert_eq!(outcomes.len(), 4, "{outcomes:?}");
    for peer in outcomes.iter().flat_map(|outcome| &outcome.peers) {
        assert!(peer.samples.iter().all(|&rate| rate > 0.0) && !peer.samples.is_empty(), "{peer:?}");
    }
}

#[test]
fn every_runtime_does_every_exercise_and_limits_stand_beside_their_figures() {
    let Some(outcomes) = report("runtime", false) else { return };
    assert_eq!(outcomes.len(), 15, "{outcomes:?}");
    for outcome in &outcomes {
        assert!(outcome.problems().is_empty() && outcome.absent.is_empty(), "{outcome:?}");
        // One of them cannot abort a task, and two have no way to send several datagrams by a call.
        let count = match &outcome.name {
            name if name.contains("aborted") => 4,
            name if name.contains("groups") => 3,
            _ => 5,
        };
        let others = outcome.peers.iter().filter(|peer| peer.samples.iter().all(|&figure| figure > 0.0));
        assert_eq!(others.count(), count, "{outcome:?}");
        let of_limit = |note: &String| note.contains(": held") || note.contains(": NOT held");
        let is_second = outcome.name.ends_with("32 tasks");
        assert!(is_second || outcome.notes.iter().any(of_limit), "{outcome:?}");
    }
    let all = outcomes.iter().flat_map(|outcome| &outcome.notes);
    let spawned: Vec<&String> =
        all.filter(|note| note.starts_with("allocations once warm, a task")).collect();
    assert!(
        !spawned.is_empty() && spawned.iter().all(|note| note.contains(": zsync 0, tokio 1")),
        "{spawned:?}"
    );
}

#[test]
fn the_edge_is_compared_with_the_kernel_in_each_of_its_ways() {
    if let Some(name) = common::not_built() {
        eprintln!("SKIPPED: {name} is not built");
        return;
    }
    for benchmark in ["veth-track", "veth-nat", "veth-filter"] {
        let Some(outcomes) = report(benchmark, true) else { return };
        let rates = rates(&outcomes);
        for who in ["zsync", "kernel"] {
            let named = |(name, rate): &&(String, f64)| name.starts_with(who) && *rate > 0.0;
            assert_eq!(rates.iter().filter(named).count(), 1, "{benchmark}, {who}: {outcomes:?}");
        }
        assert!(outcomes[0].peers[0].cpu_ns_per_packet.is_some_and(|cost| cost > 0.0), "{outcomes:?}");
        assert!(!outcomes[0].ratios().is_empty(), "{outcomes:?}");
    }
}

#[test]
fn tun_devices_are_compared_with_a_plain_loop() {
    for benchmark in ["tun-tcp", "tun-packets"] {
        let Some(outcomes) = report(benchmark, true) else { return };
        let rates = rates(&outcomes);
        for who in ["zsync, with offload", "zsync, bare packets", "read and write"] {
            assert!(rates.iter().any(|(name, rate)| name == who && *rate > 0.0), "{who}: {outcomes:?}");
        }
    }
}

#[test]
fn a_router_is_compared_with_the_kernels_redirect() {
    if let Some(name) = common::not_built() {
        eprintln!("SKIPPED: veth-route: {name} is not built");
        return;
    }
    let Some(outcomes) = report("veth-route", true) else { return };
    let rates = rates(&outcomes);
    for who in ["zsync", "testpmd", "kernel forwarding", "kernel, XDP redirect"] {
        assert!(rates.iter().any(|(name, rate)| name.starts_with(who) && *rate > 0.0), "{who}: {outcomes:?}");
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
