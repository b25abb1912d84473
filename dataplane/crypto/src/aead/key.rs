//! Keys, prepared for use.
//!
//! Owns: a key's bytes and what is derived of it; both are zeroised when it goes. Keeps true: a key is never printed.

use std::fmt;
use zeroize::Zeroizing;

/// What seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// RFC 8439.
    ChaCha20Poly1305,
    /// NIST SP 800-38D, with a key of 128 bits.
    Aes128Gcm,
    /// NIST SP 800-38D, with a key of 256 bits.
    Aes256Gcm,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ChaCha20Poly1305, Self::Aes128Gcm, Self::Aes256Gcm];

    /// Bytes of a key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::ChaCha20Poly1305 | Self::Aes256Gcm => 32,
        }
    }

    /// Bytes of the longest text that may be sealed at once: RFC 8439 §2.8, SP 800-38D §5.2.1.1.
    pub const fn longest_text(self) -> u64 {
        match self {
            Self::ChaCha20Poly1305 => ((1 << 32) - 1) * 64,
            Self::Aes128Gcm | Self::Aes256Gcm => ((1 << 32) - 2) * 16,
        }
    }
}

/// A key for an algorithm.
#[derive(Clone)]
pub struct Key {
    algorithm: Algorithm,
    bytes: Zeroizing<[u8; 32]>,
}

impl Key {
    /// The key of these bytes; `None`: they are not [`Algorithm::key_len`] many.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != algorithm.key_len() {
            return None;
        }
        let mut own = Zeroizing::new([0; 32]);
        own[..bytes.len()].copy_from_slice(bytes);
        Some(Self { algorithm, bytes: own })
    }

    /// A key for ChaCha20-Poly1305: nothing is derived of it, so that it may be made for each batch.
    #[inline]
    pub fn chacha(bytes: [u8; 32]) -> Self {
        Self { algorithm: Algorithm::ChaCha20Poly1305, bytes: Zeroizing::new(bytes) }
    }

    /// What it is for.
    #[inline]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its bytes, with zeros behind those of a short one.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    #[inline]
    pub(crate) fn array(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Its bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.key_len()]
    }

    /// Its bytes, and zeros behind those of a shorter key.
    #[inline]
    pub(crate) fn long(&self) -> &[u8; 32] {
        &self.bytes
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?}, not shown)", self.algorithm)
    }
}
