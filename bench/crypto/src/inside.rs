//! The libraries that are timed in this process: ours, and three that do one packet after the other.

use crate::contestant::{Library, Slot, Way};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};
use zsync_crypto::aead::{Aead, Algorithm, Job, Key, NONCE_LEN, TAG_LEN};

/// zsync's batches: the best that this processor has, for each of them.
#[derive(Default)]
pub(crate) struct Ours {
    aead: Aead,
    keys: Vec<Key>,
}

impl Library for Ours {
    const NAME: &'static str = zsync_report::figures::OURS;

    fn keys(&mut self, algorithm: Algorithm, keys: &[Vec<u8>]) -> Result<()> {
        let made = keys.iter().map(|key| Key::new(algorithm, key)).collect::<Option<_>>();
        self.keys = made.context("zsync does not take a key")?;
        Ok(())
    }

    /// Its jobs are made within what is timed, as whoever has packets must make them.
    fn sweep(&mut self, slots: &mut [Slot<'_>], way: Way, burst: usize) -> (Duration, usize) {
        let mut jobs: Vec<Job<'_>> = Vec::with_capacity(burst);
        let mut done = 0;
        let start = Instant::now();
        for slots in slots.chunks_mut(burst) {
            jobs.clear();
            jobs.extend(
                slots.iter_mut().map(|slot| Job::new(&self.keys[slot.key], slot.nonce, &[], slot.data)),
            );
            match way {
                Way::Seal => self.aead.seal(&mut jobs),
                Way::Open => self.aead.open(&mut jobs),
            }
            done += jobs.iter().filter(|job| job.is_done()).count();
        }
        (start.elapsed(), done)
    }
}

/// A key of a library that does one packet after the other. `data` is the text and its tag.
pub(crate) trait OneByOne: Sized {
    const NAME: &'static str;

    fn new(algorithm: Algorithm, key: &[u8]) -> Option<Self>;

    /// Whether it was done.
    fn seal(&self, nonce: [u8; NONCE_LEN], data: &mut [u8]) -> bool;

    /// Whether it was authentic.
    fn open(&self, nonce: [u8; NONCE_LEN], data: &mut [u8]) -> bool;
}

/// All packets of a burst, one after the other.
pub(crate) struct InTurn<K>(Vec<K>);

impl<K> Default for InTurn<K> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: OneByOne> Library for InTurn<K> {
    const NAME: &'static str = K::NAME;

    fn keys(&mut self, algorithm: Algorithm, keys: &[Vec<u8>]) -> Result<()> {
        let made = keys.iter().map(|key| K::new(algorithm, key)).collect::<Option<_>>();
        self.0 = made.with_context(|| format!("{} does not take a key", K::NAME))?;
        Ok(())
    }

    fn sweep(&mut self, slots: &mut [Slot<'_>], way: Way, _burst: usize) -> (Duration, usize) {
        let mut done = 0;
        let start = Instant::now();
        for slot in slots {
            let key = &self.0[slot.key];
            done += usize::from(match way {
                Way::Seal => key.seal(slot.nonce, slot.data),
                Way::Open => key.open(slot.nonce, slot.data),
            });
        }
        (start.elapsed(), done)
    }
}

/// `ring`, which the others are measured by.
pub(crate) type Ring = InTurn<ring::aead::LessSafeKey>;
/// AWS's library, with `ring`'s face.
pub(crate) type AwsLc = InTurn<aws_lc_rs::aead::LessSafeKey>;
/// Rust throughout.
pub(crate) type RustCrypto = InTurn<rust_crypto::Key>;

macro_rules! one_by_one {
    ($library:ident, $name:literal) => {
        impl OneByOne for $library::aead::LessSafeKey {
            const NAME: &'static str = $name;

            fn new(algorithm: Algorithm, key: &[u8]) -> Option<Self> {
                use $library::aead::{AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, UnboundKey};
                let algorithm = match algorithm {
                    Algorithm::ChaCha20Poly1305 => &CHACHA20_POLY1305,
                    Algorithm::Aes128Gcm => &AES_128_GCM,
                    Algorithm::Aes256Gcm => &AES_256_GCM,
                };
                UnboundKey::new(algorithm, key).ok().map(Self::new)
            }

            #[inline]
            fn seal(&self, nonce: [u8; NONCE_LEN], data: &mut [u8]) -> bool {
                use $library::aead::{Aad, Nonce};
                let Some((text, tag)) = data.split_last_chunk_mut::<TAG_LEN>() else { return false };
                let nonce = Nonce::assume_unique_for_key(nonce);
                let made = self.seal_in_place_separate_tag(nonce, Aad::empty(), text);
                made.is_ok_and(|made| {
                    tag.copy_from_slice(made.as_ref());
                    true
                })
            }

            #[inline]
            fn open(&self, nonce: [u8; NONCE_LEN], data: &mut [u8]) -> bool {
                use $library::aead::{Aad, Nonce};
                self.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::empty(), data).is_ok()
            }
        }
    };
}

one_by_one!(ring, "ring");
one_by_one!(aws_lc_rs, "aws-lc-rs");

mod rust_crypto {
    use super::{Algorithm, NONCE_LEN, OneByOne, TAG_LEN};
    use aes_gcm::aead::{AeadInOut, KeyInit};
    use aes_gcm::{Aes128Gcm, Aes256Gcm};
    use chacha20poly1305::ChaCha20Poly1305;

    /// A key of any of its ciphers.
    pub(crate) enum Key {
        ChaCha(Box<ChaCha20Poly1305>),
        Aes128(Box<Aes128Gcm>),
        Aes256(Box<Aes256Gcm>),
    }

    fn seal<C: AeadInOut>(cipher: &C, nonce: [u8; NONCE_LEN], data: &mut [u8]) -> bool {
        let (Some((text, tag)), Ok(nonce)) =
            (data.split_last_chunk_mut::<TAG_LEN>(), nonce.as_slice().try_into())
        else {
            return false;
        };
        cipher.encrypt_inout_detached(nonce, &[], text.into()).is_ok_and(|made| {
            tag.copy_from_slice(&made);
            true
        })
    }

    fn open<C: AeadInOut>(cipher: &C, nonce: [u8; NONCE_LEN], data: &mut [u8]) -> bool {
        let (Some((text, tag)), Ok(nonce)) =
            (data.split_last_chunk_mut::<TAG_LEN>(), nonce.as_slice().try_into())
        else {
            return false;
        };
        let Ok(tag) = tag.as_slice().try_into() else { return false };
        cipher.decrypt_inout_detached(nonce, &[], text.into(), tag).is_ok()
    }

    impl OneByOne for Key {
        const NAME: &'static str = "RustCrypto";

        fn new(algorithm: Algorithm, key: &[u8]) -> Option<Self> {
            Some(match algorithm {
                Algorithm::ChaCha20Poly1305 => {
                    Self::ChaCha(Box::new(ChaCha20Poly1305::new_from_slice(key).ok()?))
                }
                Algorithm::Aes128Gcm => Self::Aes128(Box::new(Aes128Gcm::new_from_slice(key).ok()?)),
                Algorithm::Aes256Gcm => Self::Aes256(Box::new(Aes256Gcm::new_from_slice(key).ok()?)),
            })
        }

        fn seal(&self, nonce: [u8; NONCE_LEN], data: &mut [u8]) -> bool {
            match self {
                Self::ChaCha(key) => seal(&**key, nonce, data),
                Self::Aes128(key) => seal(&**key, nonce, data),
                Self::Aes256(key) => seal(&**key, nonce, data),
            }
        }

        fn open(&self, nonce: [u8; NONCE_LEN], data: &mut [u8]) -> bool {
            match self {
                Self::ChaCha(key) => open(&**key, nonce, data),
                Self::Aes128(key) => open(&**key, nonce, data),
                Self::Aes256(key) => open(&**key, nonce, data),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestant::{Contestant, Inside};
    use crate::packets::{Lengths, Packets, Shape};

    /// `prepare` compares each with ring's bytes.
    #[test]
    fn every_library_seals_and_opens_as_ring_does() {
        let shapes = [0, 1, 16, 64, 1420].map(Shape::equal).into_iter().chain([Shape {
            lengths: Lengths::Random,
            keys: 4,
            framed: true,
        }]);
        let mut libraries: [Box<dyn Contestant>; 4] = [
            Box::new(Inside::new(Ours::default())),
            Box::new(Inside::new(Ring::default())),
            Box::new(Inside::new(AwsLc::default())),
            Box::new(Inside::new(RustCrypto::default())),
        ];
        for shape in shapes {
            for algorithm in Algorithm::ALL {
                let packets = Packets::make(algorithm, shape).unwrap();
                for library in &mut libraries {
                    library.prepare(&packets).unwrap();
                }
            }
        }
    }
}
