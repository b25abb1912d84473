//! `crypto` and `ed25519`: what encryption and signatures cost, beside other libraries; the crate `zsync-bench-crypto` measures.
//!
//! Owns: the core that they run on, and the folder in which a contestant is built.

use crate::folder::Folder;
use crate::machine::measured_core;
use crate::measured::Measured;
use crate::watch::Watch;
use anyhow::Result;
use std::time::Duration;
use zsync_bench_crypto::{Settings, aead, signatures};

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

/// Measures it in about `time`.
///
/// # Errors
/// A contestant that does not do as the others do, or fails.
pub fn run(subject: Subject, rounds: usize, time: Duration, watch: &Watch) -> Result<Measured> {
    Measured::of(("null", "in memory"), || {
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
        Ok(vec![figures])
    })
}
