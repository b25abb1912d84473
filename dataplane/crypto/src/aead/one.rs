//! One packet after the other, by `ring`: what there is everywhere, and what the others are held against.

use super::{Algorithm, Job, TAG_LEN, Way};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

/// Seals or opens `job`, whose length was checked.
pub(crate) fn run(job: &mut Job<'_>, way: Way) {
    let algorithm = match job.key.algorithm() {
        Algorithm::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        Algorithm::Aes128Gcm => &AES_128_GCM,
        Algorithm::Aes256Gcm => &AES_256_GCM,
    };
    let done = UnboundKey::new(algorithm, job.key.bytes()).and_then(|key| {
        let (key, aad) = (LessSafeKey::new(key), Aad::from(job.aad));
        let nonce = Nonce::assume_unique_for_key(job.nonce);
        let len = job.data.len().saturating_sub(TAG_LEN);
        match way {
            Way::Seal => {
                let tag = key.seal_in_place_separate_tag(nonce, aad, &mut job.data[..len])?;
                job.data[len..].copy_from_slice(tag.as_ref());
                Ok(())
            }
            Way::Open => key.open_in_place(nonce, aad, job.data).map(|_| ()),
        }
    });
    job.end(done.is_ok());
}
