//! GHASH (SP 800-38D §6.4): sums of products in GF(2^128).
//!
//! Owns: the arithmetic. Keeps true: blocks are byte-reversed 128-bit numbers, and of two factors one was multiplied by x beforehand
//! ([`times_x`]), which makes up for the reflected bits: Gueron and Kounavis, "Intel Carry-Less Multiplication Instruction
//! and its Usage for Computing the GCM Mode" (2014). Products of as many blocks as there are powers of H are added before they are reduced, once.

use std::arch::x86_64::*;

/// What is above x^127, reflected: x^128 = x^7 + x^2 + x + 1; and what comes of the shift by one.
const POLYNOMIAL: u128 = 0xc200_0000_0000_0000_0000_0000_0000_0001;

/// `element` times x.
pub(super) fn times_x(element: u128) -> u128 {
    // No branch: it is H.
    (element << 1) ^ (0u128.wrapping_sub(element >> 127) & POLYNOMIAL)
}

/// `a` times `b`, one of which is times x.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn multiply(a: __m128i, b: __m128i) -> __m128i {
    let mut sum = Sum::new();
    sum.add(_mm512_zextsi128_si512(a), _mm512_zextsi128_si512(b));
    sum.reduce()
}

/// Bytes of each block in the other order.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn reversed(blocks: __m512i) -> __m512i {
    let order = _mm_set_epi64x(0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f);
    _mm512_shuffle_epi8(blocks, _mm512_broadcast_i32x4(order))
}

/// Bytes of a block in the other order.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn reversed_one(block: __m128i) -> __m128i {
    _mm_shuffle_epi8(block, _mm_set_epi64x(0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f))
}

/// Products, added and not yet reduced, in four lanes.
#[derive(Clone, Copy)]
pub(super) struct Sum {
    low: __m512i,
    middle: __m512i,
    high: __m512i,
}

impl Sum {
    /// None.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    pub(super) fn new() -> Self {
        let zero = _mm512_setzero_si512();
        Self { low: zero, middle: zero, high: zero }
    }

    /// Two products only, in the lower lanes.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    pub(super) fn of_two(blocks: __m256i, powers: __m256i) -> Self {
        let middle = _mm256_xor_si256(
            _mm256_clmulepi64_epi128::<0x01>(blocks, powers),
            _mm256_clmulepi64_epi128::<0x10>(blocks, powers),
        );
        Self {
            low: _mm512_zextsi256_si512(_mm256_clmulepi64_epi128::<0x00>(blocks, powers)),
            middle: _mm512_zextsi256_si512(middle),
            high: _mm512_zextsi256_si512(_mm256_clmulepi64_epi128::<0x11>(blocks, powers)),
        }
    }

    /// Adds four products.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    pub(super) fn add(&mut self, blocks: __m512i, powers: __m512i) {
        self.low = _mm512_xor_si512(self.low, _mm512_clmulepi64_epi128::<0x00>(blocks, powers));
        self.high = _mm512_xor_si512(self.high, _mm512_clmulepi64_epi128::<0x11>(blocks, powers));
        self.middle = _mm512_ternarylogic_epi64::<XOR>(
            self.middle,
            _mm512_clmulepi64_epi128::<0x01>(blocks, powers),
            _mm512_clmulepi64_epi128::<0x10>(blocks, powers),
        );
    }

    /// All four lanes as one element.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    pub(super) fn reduce(self) -> __m128i {
        // 64 bits at a time, from below: they are a multiple of the polynomial less what is added above them.
        let polynomial = _mm512_set1_epi64((POLYNOMIAL >> 64) as i64);
        let folded = _mm512_clmulepi64_epi128::<0x00>(self.low, polynomial);
        let middle =
            _mm512_ternarylogic_epi64::<XOR>(self.middle, folded, _mm512_shuffle_epi32::<SWAP>(self.low));
        let folded = _mm512_clmulepi64_epi128::<0x00>(middle, polynomial);
        let high = _mm512_ternarylogic_epi64::<XOR>(self.high, folded, _mm512_shuffle_epi32::<SWAP>(middle));
        let half = _mm256_xor_si256(_mm512_castsi512_si256(high), _mm512_extracti64x4_epi64::<1>(high));
        _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
    }
}

/// Of ternary logic: all three added.
const XOR: i32 = 0x96;
/// Of a shuffle of 32-bit numbers: both halves of a lane change places.
const SWAP: i32 = 0x4e;
