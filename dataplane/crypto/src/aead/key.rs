//! Keys, prepared for use.
//!
//! Owns: a key's bytes and what is derived of it; both are zeroised when it goes. Keeps true: a key is never printed; what an algorithm
//! needs of a key that is used again and again is made once, with the key, in the form that the best backend of this processor wants.

#[cfg(target_arch = "x86_64")]
use super::gcm;
use super::one;
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

/// A key for an algorithm. One that [`Key::new`] makes is expanded, which costs more than many a packet: it is to be kept.
#[derive(Clone)]
pub struct Key {
    algorithm: Algorithm,
    bytes: Zeroizing<[u8; 32]>,
    prepared: Prepared,
}

/// What is derived of a key.
#[derive(Clone)]
enum Prepared {
    /// Nothing: it is not worth it for a batch or two.
    Nothing,
    /// For AES-GCM in batches.
    #[cfg(target_arch = "x86_64")]
    Expanded(Box<gcm::Expanded>),
    /// For `ring`, which has what the processor cannot do in batches, and few packets of ChaCha20-Poly1305.
    Ring(one::Prepared),
}

impl Key {
    /// The key of these bytes; `None`: they are not [`Algorithm::key_len`] many.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != algorithm.key_len() {
            return None;
        }
        let mut own = Zeroizing::new([0; 32]);
        own[..bytes.len()].copy_from_slice(bytes);
        Some(Self { algorithm, bytes: own, prepared: Prepared::new(algorithm, bytes) })
    }

    /// A key for ChaCha20-Poly1305 of which nothing is derived, so that it may be made for each batch: nothing is allocated. What goes to
    /// `ring` after all, a few packets, costs its own preparation each time, 33 to 51 ns a packet, and leaves copies of the key
    /// on the stack, which `ring` does not wipe.
    #[inline]
    pub fn chacha(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        Self { algorithm: Algorithm::ChaCha20Poly1305, bytes, prepared: Prepared::Nothing }
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

    /// Its round keys and powers of H, if it is for AES-GCM and the processor can use them.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(crate) fn expanded(&self) -> Option<&gcm::Expanded> {
        match &self.prepared {
            Prepared::Expanded(expanded) => Some(expanded),
            _ => None,
        }
    }

    /// As `ring` has it, if it was prepared for `ring`.
    #[inline]
    pub(crate) fn for_ring(&self) -> Option<&one::Prepared> {
        match &self.prepared {
            Prepared::Ring(prepared) => Some(prepared),
            _ => None,
        }
    }
}

impl Prepared {
    fn new(algorithm: Algorithm, bytes: &[u8]) -> Self {
        #[cfg(target_arch = "x86_64")]
        if algorithm != Algorithm::ChaCha20Poly1305
            && let Some(expanded) = gcm::Expanded::new(bytes)
        {
            return Self::Expanded(expanded);
        }
        one::Prepared::new(algorithm, bytes).map_or(Self::Nothing, Self::Ring)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?}, not shown)", self.algorithm)
    }
}
