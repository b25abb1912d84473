//! What packets that go side by side have in common ([`super::twin`]).
//!
//! Owns: whether they go so, and their lengths as Poly1305 wants them. Keeps true: it depends on what is public only.

use super::super::super::{Algorithm, Job, TAG_LEN};
use super::GROUP;
use super::abreast::ABREAST;
use super::vector::{V, from_words};
use std::arch::x86_64::*;

/// Packets of two groups.
pub(in super::super) const TWIN: usize = 2 * GROUP;

/// What two groups have in common.
pub(in super::super) struct Shape {
    /// 64-byte blocks of each text, and those of them that are whole in all.
    pub(super) blocks: u32,
    pub(super) whole: u32,
    /// The length of all texts, if they are equal.
    len: Option<u64>,
    pub(super) has_aad: bool,
    /// All have the same.
    pub(super) one_key: bool,
}

impl Shape {
    /// Of these jobs; `None`: they are not for this, being of another algorithm, or without text, or not of equally many blocks.
    #[inline]
    pub(in super::super) fn of(jobs: &[Job<'_>; TWIN]) -> Option<Self> {
        let len = jobs[0].text_len().filter(|len| *len > 0)?;
        let blocks = len.div_ceil(64);
        let (mut shortest, mut longest, mut aads) = (len, len, 0);
        let (mut key, mut keys) = (None, 0);
        // The longest text has whole blocks: who has as many as one that is not too long is not, either.
        for job in jobs {
            let own = job.data.len().wrapping_sub(TAG_LEN);
            if own != len {
                if own.div_ceil(64) != blocks {
                    return None;
                }
                (shortest, longest) = (shortest.min(own), longest.max(own));
            }
            if key != Some(std::ptr::from_ref(job.key)) {
                if job.key.algorithm() != Algorithm::ChaCha20Poly1305 {
                    return None;
                }
                (key, keys) = (Some(std::ptr::from_ref(job.key)), keys + 1);
            }
            aads |= job.aad.len();
        }
        Some(Self {
            blocks: blocks as u32,
            whole: (shortest / 64) as u32,
            len: (shortest == longest).then_some(len as u64),
            has_aad: aads > 0,
            one_key: keys == 1,
        })
    }

    /// Lengths of the texts of eight packets.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn texts(&self, jobs: &[Job<'_>]) -> V {
        match self.len {
            Some(len) => _mm512_set1_epi64(len as i64),
            None => from_words(&lens(jobs)),
        }
    }

    /// Lengths of the additional data of eight packets.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn aads(&self, jobs: &[Job<'_>]) -> V {
        if self.has_aad { from_words(&aad_lens(jobs)) } else { _mm512_setzero_si512() }
    }
}

/// Lengths of the texts of a set.
#[inline]
pub(super) fn lens(jobs: &[Job<'_>]) -> [u64; ABREAST] {
    std::array::from_fn(|n| jobs.get(n).map_or(0, |job| job.data.len().saturating_sub(TAG_LEN) as u64))
}

/// Lengths of the additional data of a set.
#[inline]
pub(super) fn aad_lens(jobs: &[Job<'_>]) -> [u64; ABREAST] {
    std::array::from_fn(|n| jobs.get(n).map_or(0, |job| job.aad.len() as u64))
}
