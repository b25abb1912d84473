//! AES-GCM (NIST SP 800-38D) by VAES and VPCLMULQDQ on vectors of four blocks, with AVX-512.
//!
//! Owns: the choice of code by the length of keys and the way. Refuses: nonces of other than 96 bits, which nobody can pass. Keeps true:
//! a packet is done for itself, whatever its key and length, and the processor's own look-ahead lets packets of a batch overlap; no
//! address and no branch depends on a key or a text (AES and products are instructions of constant time). Not wiped: what the
//! compiler spills of round keys and key stream to the stack, and registers.

mod expanded;
mod ghash;
mod memory;
mod order;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aead::{Key, TAG_LEN};

    /// Whether a test must be left out here, which it says.
    pub(super) fn skipped() -> bool {
        let skipped = !is_available();
        if skipped {
            eprintln!("SKIPPED: this processor has no VAES and VPCLMULQDQ with AVX-512");
        }
        skipped
    }

    /// Seals and opens as `ring` does.
    fn agrees(algorithm: Algorithm, aad: &[u8], len: usize) {
        let bytes: Vec<u8> = (7..).take(algorithm.key_len()).collect();
        let key = Key::new(algorithm, &bytes).unwrap();
        let text: Vec<u8> = (0..len).map(|n| (n * 7 + n / 256) as u8).collect();
        let mut data = [&text[..], &[0; TAG_LEN]].concat();
        let mut expected = data.clone();
        one::run(&mut Job::new(&key, [5; 12], aad, &mut expected), Way::Seal);
        run(&mut [Job::new(&key, [5; 12], aad, &mut data)], &[0], algorithm, Way::Seal);
        assert!(data == expected, "{algorithm:?}, {len} bytes, {} additional: sealed otherwise", aad.len());
        run(&mut [Job::new(&key, [5; 12], aad, &mut data)], &[0], algorithm, Way::Open);
        assert!(
            data[..len] == text,
            "{algorithm:?}, {len} bytes, {} additional: opened otherwise",
            aad.len()
        );
    }

    #[test]
    fn additional_data_may_be_of_any_length() {
        if skipped() {
            return;
        }
        let aad: Vec<u8> = (0..5000).map(|n| (n * 3) as u8).collect();
        for len in (0..=200).chain([255, 256, 257, 511, 512, 513, 1000, 5000]) {
            for text in [0, 5, 64, 512, 513, 1100] {
                agrees(Algorithm::Aes128Gcm, &aad[..len], text);
                agrees(Algorithm::Aes256Gcm, &aad[..len], text);
            }
        }
    }

    #[test]
    fn the_counter_carries_into_each_of_its_bytes() {
        if skipped() {
            return;
        }
        // 2^16 blocks and 2^20 blocks: the second and the third byte.
        for len in [(1 << 20) - 33, (1 << 20) + 65, (1 << 24) + 700] {
            agrees(Algorithm::Aes128Gcm, &[1; 13], len);
            agrees(Algorithm::Aes256Gcm, &[], len);
        }
    }

    #[test]
    fn jobs_that_were_not_picked_are_not_touched() {
        if skipped() {
            return;
        }
        let key = Key::new(Algorithm::Aes128Gcm, &[1; 16]).unwrap();
        let (mut first, mut second) = ([7; 40], [7; 40]);
        let mut jobs = [Job::new(&key, [0; 12], &[], &mut first), Job::new(&key, [0; 12], &[], &mut second)];
        run(&mut jobs, &[1], Algorithm::Aes128Gcm, Way::Seal);
        assert!(!jobs[0].is_done() && jobs[1].is_done());
        assert!(first == [7; 40] && second != [7; 40]);
    }
}
