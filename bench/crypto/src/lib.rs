//! What encryption and signatures cost, beside other libraries in the same run.
//!
//! ```text
//!   packets      what is sealed: lengths, keys, texts
//!   contestant   who seals, and how that is timed; not before it has shown that it does as ring does
//!   inside       zsync, ring, aws-lc-rs, RustCrypto
//!   tunnel       boringtun's encapsulate
//!   outside      ipsec-mb, in a process of its own
//!   aead         all of them over all shapes of packets and sizes of bursts, in rounds
//!   sweep        zsync beside ring at every length and burst: where is it the slowest?
//!   signatures   Ed25519, by size of batch
//!   limits       what zsync is to reach
//! ```
//!
//! Keeps true: in each round every contestant has its turn at a task right after the one before it, and a ratio is of two
//! samples of one round. Keys are made ready before anything is timed. Refuses: to look at the machine, to choose a core,
//! and to print; the caller does.
#![forbid(unsafe_code)]

pub mod aead;
mod contestant;
mod inside;
mod limits;
mod outside;
mod packets;
pub mod signatures;
mod sweep;
mod tunnel;

use std::path::Path;
use std::time::Duration;

/// How a run is to be.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// How often each thing is measured.
    pub rounds: usize,
    /// About how long all of it takes.
    pub time: Duration,
    /// Where programs are built that are contestants; the caller's to remove.
    pub folder: &'a Path,
}
