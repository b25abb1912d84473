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
    super::memory::load_up_to_16(nonce)
}

/// The block that covers the tag: its counter is 1.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn first_block(nonce: __m128i) -> __m128i {
    _mm_insert_epi32::<3>(nonce, 1 << 24)
}

/// Before the first round.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn add_key<const GROUPS: usize>(key: &Expanded, blocks: &mut [__m512i; GROUPS]) {
    let round_key = _mm512_broadcast_i32x4(key.round_key(0));
    for block in blocks {
        *block = _mm512_xor_si512(*block, round_key);
    }
}

/// One round that is not the last.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn round<const GROUPS: usize>(key: &Expanded, blocks: &mut [__m512i; GROUPS], n: usize) {
    let round_key = _mm512_broadcast_i32x4(key.round_key(n));
    for block in blocks {
        *block = _mm512_aesenc_epi128(*block, round_key);
    }
}

/// The last.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn last_round<const ROUNDS: usize, const GROUPS: usize>(
    key: &Expanded,
    blocks: &mut [__m512i; GROUPS],
) {
    let round_key = _mm512_broadcast_i32x4(key.round_key(ROUNDS));
    for block in blocks {
        *block = _mm512_aesenclast_epi128(*block, round_key);
    }
}
