//! `crypto` and `ed25519`: what encryption and signatures cost, beside other libraries; the crate `zsync-bench-crypto` measures.
//!
//! Owns: the core that they run on, and the folder in which a contestant is built.

use crate::folder::Folder;
use crate::machine::{self, measured_core};
use crate::outcome::COMMIT;
use crate::watch::Watch;
use anyhow::Result;
use std::fmt;
use std::time::Duration;
use zsync_bench_crypto::figures::Figures;
use zsync_bench_crypto::{Settings, aead, signatures};
use zsync_report::machine::Machine;
use zsync_report::outcome::Outcome;

/// What a benchmark measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Sealing and opening packets.
    Packets,
    /// Verifying signatures.
    Signatures,
}

/// Benchmarks: name, what it measures, its subject.
pub const BENCHMARKS: [(&str, &str, Subject); 2] = [
    (
        "crypto",
        "ns per packet sealed and opened, by length and burst, beside its limits; beside ring, aws-lc-rs, RustCrypto, boringtun, ipsec-mb",
        Subject::Packets,
    ),
    (
        "ed25519",
        "signatures verified per second, by batch, beside its limits; beside ring, aws-lc-rs, ed25519-dalek",
        Subject::Signatures,
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
    figures: Figures,
}

/// Measures it in about `time`.
///
/// # Errors
/// A contestant that does not do as the others do, or fails.
pub fn run(subject: Subject, rounds: usize, time: Duration, watch: &Watch) -> Result<Measured> {
    let machine = machine::look();
    let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: measured_core() });
    let folder = Folder::make()?;
    let settings = Settings { rounds, time, folder: folder.path() };
    let mut figures = match subject {
        Subject::Packets => aead::run(&settings, watch)?,
        Subject::Signatures => signatures::run(&settings, watch)?,
    };
    if !pinned {
        figures.notes.push(format!("not pinned: core {} was refused", measured_core()));
    }
    Ok(Measured { machine, figures })
}

impl Measured {
    /// As `--json` prints them, a line each; `benchmark` names them, `command` measures them again.
    pub fn outcomes(&self, benchmark: &str, command: &str) -> Vec<Outcome> {
        self.figures.outcomes(benchmark, command, &self.machine, COMMIT)
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n\n{}", self.machine, self.figures)
    }
}

impl zsync_bench_crypto::Watch for Watch {
    fn step(&self, done: usize, total: usize, what: &str) {
        Self::step(self, done, total, what);
    }

    fn is_cancelled(&self) -> bool {
        Self::is_cancelled(self)
    }
}
