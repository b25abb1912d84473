//! One packet after the other, by `ring`: what there is everywhere, and what the others are held against.
//!
//! Owns: keys as `ring` wants them, for where they are kept. Keeps true: such a key is zeroised when it goes, which `ring` leaves to us.
//! Not wiped: what `ring` leaves on the stack while a key is expanded and while it is used, and a key that is not kept.

use super::{Algorithm, Job, TAG_LEN, Way};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use std::mem::MaybeUninit;
use zeroize::Zeroize;

/// A key as `ring` wants it: expanded.
pub(crate) struct Prepared(Box<MaybeUninit<LessSafeKey>>);

impl Prepared {
    /// `None`: the bytes are not as many as `algorithm` wants.
    pub(crate) fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        Some(Self(Box::new(MaybeUninit::new(expand(algorithm, bytes)?))))
    }

    #[inline]
    fn key(&self) -> &LessSafeKey {
        // SAFETY: it is initialised from `new` until `drop`.
        unsafe { self.0.assume_init_ref() }
    }
}

impl Clone for Prepared {
    fn clone(&self) -> Self {
        Self(Box::new(MaybeUninit::new(self.key().clone())))
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // SAFETY: it is initialised, and nobody looks at it again.
        unsafe { self.0.assume_init_drop() };
        self.0.zeroize();
    }
}

fn expand(algorithm: Algorithm, bytes: &[u8]) -> Option<LessSafeKey> {
    let algorithm = match algorithm {
        Algorithm::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        Algorithm::Aes128Gcm => &AES_128_GCM,
        Algorithm::Aes256Gcm => &AES_256_GCM,
    };
    UnboundKey::new(algorithm, bytes).ok().map(LessSafeKey::new)
}

/// Seals or opens `job`, whose length was checked.
#[inline]
pub(crate) fn run(job: &mut Job<'_>, way: Way) {
    let done = match job.key.for_ring() {
        Some(prepared) => run_with(prepared.key(), job, way),
        None => expand(job.key.algorithm(), job.key.bytes()).is_some_and(|key| run_with(&key, job, way)),
    };
    job.end(done);
}

/// Whether it could be done.
#[inline]
fn run_with(key: &LessSafeKey, job: &mut Job<'_>, way: Way) -> bool {
    let (nonce, aad) = (Nonce::assume_unique_for_key(job.nonce), Aad::from(job.aad));
    let len = job.data.len().saturating_sub(TAG_LEN);
    match way {
        Way::Seal => {
            let tag = key.seal_in_place_separate_tag(nonce, aad, &mut job.data[..len]);
            tag.map(|tag| job.data[len..].copy_from_slice(tag.as_ref())).is_ok()
        }
        Way::Open => key.open_in_place(nonce, aad, job.data).is_ok(),
    }
}
