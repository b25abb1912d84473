//! ChaCha20-Poly1305 of many packets at once (RFC 8439): which packets go together.
//!
//! Owns: the order of a batch, and from how many packets on it is done here. Keeps true: packets of about one length are in
//! one group.
//!
//! The rule is the number of packets only ([`LEAST`]). It rests on this, from Zen 4 (ns a packet to seal, a key for each packet, `ring`
//! one by one with its keys prepared ahead, and AVX-512; single packets were measured before the rest):
//!
//! | packets | bytes | ring | AVX-512 |
//! |---|---|---|---|
//! | 1 | 64 | 165 | 288 |
//! | 1 | 1420 | 727 | 816 |
//! | 4 | 64 | 170 | 123 |
//! | 4 | 256 | 245 | 237 |
//! | 4 | 1420 | 790 | 731 |
//! | 8 | 64 | 169 | 81 |
//! | 8 | 1420 | 783 | 572 |
//! | 12 | 64 | 171 | 70 |
//! | 12 | 1420 | 725 | 461 |
//! | 16 | 64 | 165 | 45 |
//! | 16 | 1420 | 727 | 350 |
//! | 24 | 1420 | 730 | 405 |
//! | 32 | 64 | 164 | 44 |
//! | 32 | 256 | 244 | 90 |
//! | 32 | 512 | 352 | 153 |
//! | 32 | 1420 | 728 | 352 |
//! | 32 | 8192 | 3216 | 1878 |
//! | 32 | IMIX | 304 | 170 |
//! | 32 | 64 to 1500 | 456 | 276 |
//!
//! Other programs ran beside; these are the least of many passes. A single packet costs `ring`, called from here, some 9 ns more than
//! that, and 33 to 51 ns more if its key is made anew for each ([`Key::chacha`](super::Key::chacha)).
//!
//! Bursts of 32 whose texts have equally many blocks are taken out ahead of that rule, and go side by side (`avx512/twin.rs`): 31 ns at 64
//! bytes, 73 at 256, 124 at 512, 314 at 1420, 1840 at 8192, one key, where the above took 43, 91, 151, 347 and 1930 in the same run.
//!
//! What limits bursts of 32 is the number of vector instructions. Sixteen blocks of ChaCha20 are 960 of them: 480 clocks if all four
//! units were always busy, 553 as two states are interleaved, as hand-placed instructions of nothing else take, too. Poly1305 of these
//! blocks is 356 more (250 clocks), of which half is done in the integer unit meanwhile, at no cost. With 64 blocks of Poly1305
//! beside 32 blocks of ChaCha20 that takes 1114 clocks, with 128 it would be 1802.

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx512;
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code)]
pub mod neon;
mod spread;

use super::{Algorithm, Backend, Job, PART, Way, one};

/// Whether this processor has AVX-512 with all that is used of it.
pub(super) fn has_avx512() -> bool {
    #[cfg(target_arch = "x86_64")]
    return avx512::is_available();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Does the jobs if they are very few, or the first of them, as long as there are bursts of equal ones, where that pays. Returns the
/// others.
#[inline]
pub(super) fn run_plain<'j, 'a>(
    forced: Option<Backend>,
    jobs: &'j mut [Job<'a>],
    way: Way,
) -> &'j mut [Job<'a>] {
    let few = jobs.len() < LEAST && forced.is_none();
    if few && jobs.iter().all(|job| job.key.algorithm() == Algorithm::ChaCha20Poly1305) {
        for job in jobs {
            match job.text_len() {
                Some(_) => one::run(job, way),
                None => job.end(false),
            }
        }
        return &mut [];
    }
    #[cfg(target_arch = "x86_64")]
    if matches!(forced, None | Some(Backend::Avx512))
        && jobs.len() >= avx512::shape::TWIN
        && avx512::is_available()
    {
        let mut jobs = jobs;
        while let Some(shape) = jobs.first_chunk().and_then(avx512::shape::Shape::of) {
            let Some((burst, rest)) = std::mem::take(&mut jobs).split_first_chunk_mut() else { break };
            // SAFETY: the processor has the features that it is compiled for.
            #[allow(unsafe_code)]
            unsafe {
                match way {
                    Way::Seal => avx512::twin::run::<false>(burst, &shape),
                    Way::Open => avx512::twin::run::<true>(burst, &shape),
                }
            }
            jobs = rest;
        }
        return jobs;
    }
    let _ = (forced, way);
    jobs
}

/// Does the jobs `picks` of `jobs` by the backend that is asked for, or by the best one; those that are left to `ring` are in
/// `left` afterwards. Returns how many these are.
pub(super) fn run(
    forced: Option<Backend>,
    jobs: &mut [Job<'_>],
    picks: &[u8],
    way: Way,
    left: &mut [u8; PART],
) -> usize {
    let done = match forced {
        Some(Backend::Ring) => false,
        Some(Backend::Avx512) => run_avx512(jobs, picks, way),
        #[cfg(target_arch = "x86_64")]
        Some(Backend::Avx2) => avx2::run(jobs, picks, way).is_some(),
        #[cfg(target_arch = "aarch64")]
        Some(Backend::Neon) => neon::run(jobs, picks, way).is_some(),
        Some(_) => false,
        None if picks.len() >= LEAST && run_avx512(jobs, picks, way) => true,
        #[cfg(target_arch = "x86_64")]
        None => return avx2::run_where_it_pays(jobs, picks, way, left),
        #[cfg(not(target_arch = "x86_64"))]
        None => false,
    };
    if done {
        return 0;
    }
    let count = picks.len().min(PART);
    left[..count].copy_from_slice(&picks[..count]);
    count
}

/// Does the jobs `picks` of `jobs` on AVX-512; false: this processor does not have it, and nothing was done.
fn run_avx512(jobs: &mut [Job<'_>], picks: &[u8], way: Way) -> bool {
    #[cfg(target_arch = "x86_64")]
    if avx512::is_available() {
        let (picks, count) = longest_first(jobs, picks);
        let picks = &picks[..count];
        // SAFETY: the processor has the features that it is compiled for.
        #[allow(unsafe_code)]
        unsafe {
            match way {
                Way::Seal => avx512::run::<false>(jobs, picks),
                Way::Open => avx512::run::<true>(jobs, picks),
            }
        }
        return true;
    }
    let _ = (jobs, picks, way);
    false
}

/// Packets from which on AVX-512 is chosen for them. Fewer are done one by one by `ring`, whose single packet has less to set up, so
/// that AVX2 gets those alone that have no AVX-512 to go to.
const LEAST: usize = 4;

/// `picks` by length, and how many they are.
#[cfg(target_arch = "x86_64")]
fn longest_first(jobs: &[Job<'_>], picks: &[u8]) -> ([u8; PART], usize) {
    let len = |pick: u8| jobs[usize::from(pick)].data.len();
    let mut sorted = [0; PART];
    let count = picks.len().min(PART);
    sorted[..count].copy_from_slice(&picks[..count]);
    if !picks.is_sorted_by(|a, b| len(*a) >= len(*b)) {
        sorted[..count].sort_unstable_by_key(|pick| std::cmp::Reverse(len(*pick)));
    }
    (sorted, count)
}
