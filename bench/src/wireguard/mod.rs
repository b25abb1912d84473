//! WireGuard: what a packet costs in memory, and whole tunnels between namespaces.

pub mod costs;
pub mod flood;
pub mod gateway;
mod memory;
pub mod place;
pub mod traffic;
pub mod whole;

use crate::measured::Measured;
use crate::watch::Watch;
use anyhow::Result;
use std::time::Duration;

/// What is measured between namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Whole tunnels.
    Whole,
    /// A tunnel under a flood.
    Flood,
}

/// Benchmarks: name, what it measures, its subject.
pub const BENCHMARKS: [(&str, &str, Subject); 2] = [
    (
        "veth-wireguard",
        "whole WireGuard tunnels: packets of 64 bytes, IMIX, iperf3; beside wireguard-go and boringtun-cli. Needs root",
        Subject::Whole,
    ),
    (
        "veth-flood",
        "what arrives in a WireGuard tunnel under a flood of forged handshakes. Needs root",
        Subject::Flood,
    ),
];

/// The subject of the benchmark of that name.
pub fn find(name: &str) -> Option<Subject> {
    BENCHMARKS.iter().find(|(known, ..)| *known == name).map(|(.., subject)| *subject)
}

/// Measures it in about `time`, in an [enclosure](crate::enclosure).
///
/// # Errors
/// Those of the subject.
pub fn run(subject: Subject, rounds: usize, time: Duration, watch: &Watch) -> Result<Measured> {
    Measured::of(("veth", "AF_XDP copy"), || match subject {
        Subject::Whole => whole::run(rounds, time, watch),
        Subject::Flood => flood::run(rounds, time, watch),
    })
}
