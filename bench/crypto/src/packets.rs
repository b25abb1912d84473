//! Packets to seal, and what they are once they are sealed: the same for every contestant.
//!
//! Keeps true: a shape's packets are the same in every run and on every machine; what they are sealed to is `ring`'s word.

use anyhow::{Result, anyhow};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zsync_crypto::aead::{Algorithm, NONCE_LEN, TAG_LEN};

/// Packets of a sweep, at most: the largest burst.
pub(crate) const MOST: usize = 64;
/// Bytes of packet memory that one frame of it has.
const FRAME: usize = 2048;
/// Bytes of a line of the cache.
const LINE: usize = 64;

/// How long packets are, in bytes of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lengths {
    /// All of them.
    Equal(usize),
    /// 64, 576 and 1420, as 7 : 4 : 1.
    Imix,
    /// 64 to 1500, each as often.
    Random,
}

/// What packets have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) lengths: Lengths,
    /// How many keys they have in turn.
    pub(crate) keys: usize,
    /// Whether each begins in a frame of its own, as in packet memory, and not right behind the one before it.
    pub(crate) framed: bool,
}

impl Shape {
    /// Of one length, one key, one behind the other.
    pub(crate) const fn equal(len: usize) -> Self {
        Self { lengths: Lengths::Equal(len), keys: 1, framed: false }
    }

    /// In a few words.
    pub(crate) fn name(&self) -> String {
        let lengths = match self.lengths {
            Lengths::Equal(len) => format!("{len} B"),
            Lengths::Imix => "IMIX".to_owned(),
            Lengths::Random => "64 to 1500 B".to_owned(),
        };
        let keys = if self.keys > 1 { format!(", {} keys", self.keys) } else { String::new() };
        lengths + &keys + if self.framed { ", in frames" } else { "" }
    }
}

/// A packet.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    /// The number of its key.
    pub(crate) key: usize,
    pub(crate) nonce: [u8; NONCE_LEN],
    /// Text, and room for a tag.
    pub(crate) text: Vec<u8>,
    /// The same, sealed.
    pub(crate) sealed: Vec<u8>,
}

/// [`MOST`] packets of a shape.
#[derive(Clone, Debug)]
pub(crate) struct Packets {
    pub(crate) algorithm: Algorithm,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) list: Vec<Packet>,
    /// Bytes from the beginning of one to that of the next.
    pub(crate) stride: usize,
}

impl Packets {
    /// # Errors
    /// `ring` does not seal one.
    pub(crate) fn make(algorithm: Algorithm, shape: Shape) -> Result<Self> {
        let mut seeded = Seeded(0x5eed);
        let keys: Vec<Vec<u8>> = (0..shape.keys.max(1)).map(|_| seeded.bytes(algorithm.key_len())).collect();
        let own = keys.iter().map(|key| oracle(algorithm, key)).collect::<Result<Vec<_>>>()?;
        let list = (0..MOST)
            .map(|n| {
                let len = match shape.lengths {
                    Lengths::Equal(len) => len,
                    Lengths::Imix => [64, 64, 64, 64, 64, 64, 64, 576, 576, 576, 576, 1420][seeded.below(12)],
                    Lengths::Random => 64 + seeded.below(1500 - 64 + 1),
                };
                let key = n % own.len();
                let mut text = seeded.bytes(len);
                text.extend([0; TAG_LEN]);
                let mut nonce = [0; NONCE_LEN];
                nonce[4..].copy_from_slice(&(n as u64).to_le_bytes());
                let mut sealed = text.clone();
                let tag = own[key]
                    .seal_in_place_separate_tag(
                        Nonce::assume_unique_for_key(nonce),
                        Aad::empty(),
                        &mut sealed[..len],
                    )
                    .map_err(|_| anyhow!("ring does not seal {len} bytes"))?;
                sealed[len..].copy_from_slice(tag.as_ref());
                Ok(Packet { key, nonce, text, sealed })
            })
            .collect::<Result<Vec<_>>>()?;
        let longest = list.iter().map(|packet| packet.text.len()).max().unwrap_or(0);
        let stride = longest.next_multiple_of(if shape.framed { FRAME } else { LINE });
        Ok(Self { algorithm, keys, list, stride })
    }

    /// Bytes of each text.
    pub(crate) fn lengths(&self) -> Vec<usize> {
        self.list.iter().map(|packet| packet.text.len() - TAG_LEN).collect()
    }
}

/// `ring`'s own key.
fn oracle(algorithm: Algorithm, key: &[u8]) -> Result<LessSafeKey> {
    let algorithm = match algorithm {
        Algorithm::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        Algorithm::Aes128Gcm => &AES_128_GCM,
        Algorithm::Aes256Gcm => &AES_256_GCM,
    };
    let key = UnboundKey::new(algorithm, key).map_err(|_| anyhow!("ring does not take a key"))?;
    Ok(LessSafeKey::new(key))
}

/// Numbers that look random, the same in every run (Steele, Lea, Flood 2014: SplitMix64).
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut n = self.0;
        n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ n >> 31
    }

    /// One below `end`, which is small.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| self.number().to_le_bytes()).collect();
        bytes.truncate(len);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_a_shape_are_as_it_says_and_always_the_same() {
        let shape = Shape { lengths: Lengths::Imix, keys: 4, framed: true };
        assert_eq!(shape.name(), "IMIX, 4 keys, in frames");
        let packets = Packets::make(Algorithm::Aes128Gcm, shape).unwrap();
        assert_eq!((packets.list.len(), packets.keys.len(), packets.stride), (MOST, 4, FRAME));
        let lengths = packets.lengths();
        assert!([64, 576, 1420].iter().all(|len| lengths.contains(len)), "{lengths:?}");
        assert!(packets.list.iter().all(|packet| packet.text != packet.sealed));
        let again = Packets::make(Algorithm::Aes128Gcm, shape).unwrap();
        assert!(packets.list.iter().zip(&again.list).all(|(one, other)| one.sealed == other.sealed));
    }

    #[test]
    fn a_frame_holds_the_longest_packet_and_its_tag() {
        for (len, stride) in [(0, 64), (48, 64), (49, 128), (8192, 8256)] {
            let packets = Packets::make(Algorithm::ChaCha20Poly1305, Shape::equal(len)).unwrap();
            assert_eq!(packets.stride, stride);
        }
    }
}
