//! GHASH (SP 800-38D §6.4): sums of products in GF(2^128).
//!
//! Owns: the arithmetic. Keeps true: blocks are byte-reversed 128-bit numbers, and of two factors one was multiplied by x beforehand
//! ([`times_x`]), which makes up for the reflected bits: Gueron and Kounavis, "Intel Carry-Less Multiplication Instruction
//! and its Usage for Computing the GCM Mode" (2014). Products of as many blocks as there are powers of H are added before they are reduced, once.

use super::order;
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

    /// Its products are made here, neither before nor later.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    pub(super) fn hold(&mut self) {
        self.low = order::here(self.low);
        self.middle = order::here(self.middle);
        self.high = order::here(self.high);
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

#[cfg(test)]
mod tests {
    use super::super::expanded::Expanded;
    use super::super::memory::{bits, load_lane};
    use super::*;

    /// H of the key of zeros, and a block of test case 2 of McGrew and Viega, "The Galois/Counter Mode of Operation (GCM)".
    const H: u128 = 0x66e9_4bd4_ef8a_2c3b_884c_fa59_ca34_2b2e;
    const BLOCK: u128 = 0x0388_dace_60b6_a392_f328_c2b9_71b2_fe78;

    /// SP 800-38D §6.3, algorithm 1.
    fn slow(x: u128, y: u128) -> u128 {
        let (mut z, mut v) = (0, y);
        for bit in (0..128).rev() {
            if x >> bit & 1 == 1 {
                z ^= v;
            }
            v = (v >> 1) ^ if v & 1 == 1 { 0xe1 << 120 } else { 0 };
        }
        z
    }

    #[test]
    fn the_known_answers_of_test_case_2() {
        if crate::aead::gcm::tests::skipped() {
            return;
        }
        let key = Expanded::new(&[0; 16]).unwrap();
        let lengths = 128_u128;
        // SAFETY: the features are there: asked above.
        unsafe {
            let product = multiply(load_lane(&BLOCK), key.power(1));
            assert_eq!(bits(product), 0x5e2e_c746_9170_6288_2c85_b068_5353_deb7);
            let blocks = _mm256_set_m128i(load_lane(&lengths), load_lane(&BLOCK));
            let sum = Sum::of_two(blocks, _mm256_set_m128i(key.power(1), key.power(2)));
            assert_eq!(bits(sum.reduce()), 0xf38c_bb1a_d692_23dc_c345_7ae5_b6b0_f885);
        }
    }

    #[test]
    fn every_power_is_the_product_of_so_many() {
        if crate::aead::gcm::tests::skipped() {
            return;
        }
        let key = Expanded::new(&[0; 16]).unwrap();
        let mut expected = BLOCK;
        for n in 1..=36 {
            expected = slow(expected, H);
            // SAFETY: as above.
            let product = unsafe { bits(multiply(load_lane(&BLOCK), key.power(n))) };
            assert_eq!(product, expected, "H^{n}");
        }
    }

    #[test]
    fn four_lanes_and_what_was_there_are_added() {
        if crate::aead::gcm::tests::skipped() {
            return;
        }
        let key = Expanded::new(&[0; 16]).unwrap();
        let blocks: [u128; 8] = std::array::from_fn(|n| BLOCK.rotate_left(n as u32 * 17) ^ n as u128);
        // Horner's rule over eight blocks, of which the last two are behind H^1.
        let expected = blocks[..6].iter().fold(0, |sum, block| slow(sum ^ block, H));
        // SAFETY: as above.
        let summed = unsafe {
            let (groups, _) = blocks.as_chunks::<4>();
            let mut sum = Sum::new();
            for (group, powers) in groups.iter().zip(key.powers::<2>(6)) {
                sum.add(super::super::memory::load_lanes(group), powers);
            }
            bits(sum.reduce())
        };
        assert_eq!(summed, expected);
    }
}
