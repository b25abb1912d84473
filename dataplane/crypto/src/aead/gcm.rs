//! AES-GCM (NIST SP 800-38D) by VAES and VPCLMULQDQ on vectors of four blocks, with AVX-512.
//!
//! Owns: the choice of code by the length of keys and the way. Refuses: nonces of other than 96 bits, which nobody can pass. Keeps true:
//! a packet is done for itself, whatever its key and length, and the processor's own look-ahead lets packets of a batch overlap; no
//! address and no branch depends on a key or a text (AES and products are instructions of constant time). Not wiped: what the
//! compiler spills of round keys and key stream to the stack, and registers.

mod expanded;
mod ghash;
mod memory;
mod packet;
mod stream;

pub(crate) use expanded::Expanded;

use super::{Algorithm, Job, Way, one};

/// Whether this processor has what is needed here.
pub(crate) fn is_available() -> bool {
    is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("vaes")
        && is_x86_feature_detected!("vpclmulqdq")
        && is_x86_feature_detected!("bmi2")
}

/// Does the jobs `picks` of `jobs`, which are of `algorithm` and have a length that it takes.
pub(crate) fn run(jobs: &mut [Job<'_>], picks: &[u8], algorithm: Algorithm, way: Way) {
    if !is_available() {
        for &pick in picks {
            one::run(&mut jobs[usize::from(pick)], way);
        }
        return;
    }
    // SAFETY: the processor has the features: asked above.
    unsafe {
        match (algorithm, way) {
            (Algorithm::Aes256Gcm, Way::Seal) => each::<14, false>(jobs, picks),
            (Algorithm::Aes256Gcm, Way::Open) => each::<14, true>(jobs, picks),
            (_, Way::Seal) => each::<10, false>(jobs, picks),
            (_, Way::Open) => each::<10, true>(jobs, picks),
        }
    }
}

/// One after the other.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
fn each<const ROUNDS: usize, const OPEN: bool>(jobs: &mut [Job<'_>], picks: &[u8]) {
    for &pick in picks {
        let job = &mut jobs[usize::from(pick)];
        match (job.key.expanded(), job.text_len()) {
            (Some(key), Some(len)) => packet::run::<ROUNDS, OPEN>(key, job, len),
            // A key is expanded wherever this is available, and lengths were looked at.
            _ => job.end(false),
        }
    }
}
