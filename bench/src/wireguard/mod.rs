//! WireGuard: what a packet costs in memory, and whole tunnels between namespaces.

pub mod costs;
pub mod flood;
pub mod gateway;
mod memory;
pub mod place;
pub mod traffic;
pub mod whole;

use crate::machine;
use crate::outcome::COMMIT;
use crate::watch::Watch;
use anyhow::Result;
use std::fmt;
use std::time::Duration;
use zsync_bench_crypto::figures::Figures;
use zsync_report::machine::Machine;
use zsync_report::outcome::Outcome;

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

/// What was measured, and where.
#[derive(Clone, Debug)]
pub struct Measured {
    machine: Machine,
    figures: Vec<Figures>,
}

/// Measures it in about `time`, in an [enclosure](crate::enclosure).
///
/// # Errors
/// Those of the subject.
pub fn run(subject: Subject, rounds: usize, time: Duration, watch: &Watch) -> Result<Measured> {
    let machine = machine::look();
    let figures = match subject {
        Subject::Whole => whole::run(rounds, time, watch)?,
        Subject::Flood => flood::run(rounds, time, watch)?,
    };
    Ok(Measured { machine, figures })
}

impl Measured {
    /// As `--json` prints them, a line each; `benchmark` names them, `command` measures them again.
    pub fn outcomes(&self, benchmark: &str, command: &str) -> Vec<Outcome> {
        let outcomes = self.figures.iter().flat_map(|figures| {
            figures.outcomes(benchmark, command, &self.machine, COMMIT).into_iter().map(|mut outcome| {
                outcome.machine = self.machine.with_devices("veth", "AF_XDP copy");
                outcome
            })
        });
        outcomes.collect()
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.machine)?;
        self.figures.iter().try_for_each(|figures| writeln!(f, "{figures}"))
    }
}
