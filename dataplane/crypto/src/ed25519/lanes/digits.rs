//! Scalars as digits with signs: of four bits, -8 to 7, for the points that come with signatures, and of eight, -128 to 127, for
//! the base point.
//!
//! A digit of n bits is what a number plus 2^(n-1) at each place has there, less 2^(n-1).

use super::field::same;
use super::halve::{BITS, Number};
use std::arch::x86_64::*;

/// Digits of the longest scalar, of four bits.
pub(super) const SHORT_DIGITS: usize = 64;
/// Digits of the longest scalar, of eight bits.
pub(super) const LONG_DIGITS: usize = 32;
/// Digits in a limb.
const IN_LIMB: usize = BITS as usize / 4;

/// A digit in each lane.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Digit {
    /// Without its sign.
    pub(super) multiples: Lanes,
    /// The lanes whose digit is negative.
    pub(super) negative: u8,
}

/// A word of each lane.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(super) struct Lanes(pub(super) [u64; 8]);

impl Lanes {
    /// The words of a vector.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn of(vector: __m512i) -> Self {
        let mut lanes = Self::default();
        // SAFETY: 64 bytes, aligned to as many.
        unsafe { _mm512_store_si512((&raw mut lanes.0).cast(), vector) };
        lanes
    }
}

impl Digit {
    /// `raw` less `half`.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    fn new(raw: __m512i, half: i64) -> Self {
        let digit = _mm512_sub_epi64(raw, same(half));
        Self { multiples: Lanes::of(_mm512_abs_epi64(digit)), negative: _mm512_movepi64_mask(digit) }
    }
}

/// The digits of a number below 2^255, lowest first, and how many of them there are in the longest lane.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
pub(super) fn short(number: &Number) -> ([Digit; SHORT_DIGITS], usize) {
    let (mut digits, mut count) = ([Digit::default(); SHORT_DIGITS], 0);
    let mut carry = same(0);
    for (n, limb) in number.iter().enumerate() {
        let sum = _mm512_add_epi64(_mm512_add_epi64(*limb, same(0x888_8888)), carry);
        carry = _mm512_srli_epi64::<BITS>(sum);
        for (place, digit) in digits.iter_mut().skip(n * IN_LIMB).take(IN_LIMB).enumerate() {
            let raw = _mm512_and_si512(_mm512_srlv_epi64(sum, same(4 * place as i64)), same(15));
            if _mm512_cmpneq_epi64_mask(raw, same(8)) != 0 {
                count = n * IN_LIMB + place + 1;
            }
            *digit = Digit::new(raw, 8);
        }
    }
    (digits, count)
}

/// The digits of a number below 2^255, of four words, lowest first.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
pub(super) fn long(words: &[__m512i; 4]) -> [Digit; LONG_DIGITS] {
    let mut digits = [Digit::default(); LONG_DIGITS];
    let half = same(i64::from_ne_bytes([0x80; 8]));
    let mut carry = 0;
    for (word, digits) in words.iter().zip(digits.chunks_exact_mut(8)) {
        let first = _mm512_mask_add_epi64(*word, carry, *word, same(1));
        let sum = _mm512_add_epi64(first, half);
        carry = _mm512_cmplt_epu64_mask(first, *word) | _mm512_cmplt_epu64_mask(sum, half);
        for (place, digit) in digits.iter_mut().enumerate() {
            let raw = _mm512_and_si512(_mm512_srlv_epi64(sum, same(8 * place as i64)), same(255));
            *digit = Digit::new(raw, 128);
        }
    }
    digits
}
