//! The key stream: AES (FIPS 197) of a packet's counter blocks (SP 800-38D §6.5, §7.1).
//!
//! Owns: the counter. Keeps true: the first block of a packet has the counter 1 and covers its tag, the text's begin with 2; the
//! counter is the last 32 bits of a block, most significant byte first, and wraps without a carry into the nonce.

use super::expanded::Expanded;
use crate::aead::NONCE_LEN;
use std::arch::x86_64::*;

/// Counter blocks of a packet.
#[derive(Clone, Copy)]
pub(super) struct Counters {
    /// The next four; their counters least significant byte first.
    next: __m512i,
}

impl Counters {
    /// From the counter `first` on.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    pub(super) fn new(nonce: __m128i, first: u32) -> Self {
        let first = _mm512_broadcast_i32x4(_mm_insert_epi32::<3>(nonce, first as i32));
        Self {
            next: _mm512_add_epi32(first, _mm512_set_epi32(3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0)),
        }
    }

    /// Four blocks for each of `GROUPS`; the counter goes on behind them.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    pub(super) fn take<const GROUPS: usize>(&mut self) -> [__m512i; GROUPS] {
        let four = _mm512_broadcast_i32x4(_mm_set_epi32(4, 0, 0, 0));
        let last_word_reversed =
            _mm512_broadcast_i32x4(_mm_set_epi32(0x0c0d_0e0f, 0x0b0a_0908, 0x0706_0504, 0x0302_0100));
        let mut blocks = [_mm512_setzero_si512(); GROUPS];
        for block in &mut blocks {
            *block = _mm512_shuffle_epi8(self.next, last_word_reversed);
            self.next = _mm512_add_epi32(self.next, four);
        }
        blocks
    }
}

/// A nonce, and a counter of 0.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn nonce_of(nonce: &[u8; NONCE_LEN]) -> __m128i {
    super::memory::load_12(nonce)
}

/// The block that covers the tag: its counter is 1.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn first_block(nonce: __m128i) -> __m128i {
    _mm_insert_epi32::<3>(nonce, 1 << 24)
}

/// A round's key in all lanes.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn round_key(key: &Expanded, n: usize) -> __m512i {
    _mm512_broadcast_i32x4(key.round_key(n))
}

/// Before the first round.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn add_key(blocks: &mut [__m512i], round_key: __m512i) {
    for block in blocks {
        *block = _mm512_xor_si512(*block, round_key);
    }
}

/// One round that is not the last.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn round(blocks: &mut [__m512i], round_key: __m512i) {
    for block in blocks {
        *block = _mm512_aesenc_epi128(*block, round_key);
    }
}

/// The last.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn last_round(blocks: &mut [__m512i], round_key: __m512i) {
    for block in blocks {
        *block = _mm512_aesenclast_epi128(*block, round_key);
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::{load_64, store_64};
    use super::*;

    #[test]
    fn the_counter_wraps_and_leaves_the_nonce_alone() {
        if crate::aead::gcm::tests::skipped() {
            return;
        }
        let nonce: [u8; 12] = std::array::from_fn(|n| 0xff - n as u8);
        let mut bytes = [[0; 64]; 2];
        // SAFETY: the features are there: asked above.
        unsafe {
            let mut counters = Counters::new(nonce_of(&nonce), u32::MAX - 5);
            let groups: [_; 2] = counters.take();
            for (bytes, group) in bytes.iter_mut().zip(groups) {
                store_64(bytes, group);
            }
        }
        for (n, block) in bytes.as_flattened().chunks(16).enumerate() {
            assert_eq!(block[..12], nonce, "block {n}");
            assert_eq!(block[12..], (u32::MAX - 5).wrapping_add(n as u32).to_be_bytes(), "block {n}");
        }
    }

    /// FIPS 197, appendices C.1 and C.3.
    #[test]
    fn a_block_is_encrypted_as_in_fips_197_c() {
        if crate::aead::gcm::tests::skipped() {
            return;
        }
        let key: [u8; 32] = std::array::from_fn(|n| n as u8);
        let text: [u8; 64] = std::array::from_fn(|n| (n % 16 * 0x11) as u8);
        let encrypted = |key: &Expanded, rounds: usize| {
            let mut bytes = [0; 64];
            // SAFETY: as above.
            unsafe {
                let mut blocks = [load_64(&text)];
                add_key(&mut blocks, round_key(key, 0));
                for n in 1..rounds {
                    round(&mut blocks, round_key(key, n));
                }
                last_round(&mut blocks, round_key(key, rounds));
                store_64(&mut bytes, blocks[0]);
            }
            assert!(bytes.chunks(16).all(|block| *block == bytes[..16]));
            u128::from_be_bytes(*bytes.first_chunk().unwrap())
        };
        let short = Expanded::new(&key[..16]).unwrap();
        assert_eq!(encrypted(&short, 10), 0x69c4_e0d8_6a7b_0430_d8cd_b780_70b4_c55a);
        let long = Expanded::new(&key).unwrap();
        assert_eq!(encrypted(&long, 14), 0x8ea2_b7ca_5167_45bf_eafc_4990_4b49_6089);
    }
}
