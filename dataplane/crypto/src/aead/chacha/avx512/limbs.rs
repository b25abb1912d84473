//! Arithmetic modulo 2^130 - 5, eight numbers at once (RFC 8439 §2.5; limbs as in Moon's poly1305-donna-64).
//!
//! Owns: numbers of three limbs of 44, 44 and 42 bits, and their products by the 52-bit multiply-add of AVX-512 IFMA.
//! Keeps true: after [`Sum::carry`] the limbs are below 2^44, 2^44 + 2^9 and 2^42. Sums of two products of such numbers stay
//! below 2^55 in the low halves and 2^43 in the high ones, so that their carries fit into 64 bits.

use super::vector::{V, wipe};
use std::arch::x86_64::*;

const LOW_44: u64 = (1 << 44) - 1;
const LOW_42: u64 = (1 << 42) - 1;

/// Eight numbers.
pub(super) type Limbs = [V; 3];

/// Sixteen bytes of a message in each lane, from their low and high halves; `mark` is 2^128 in units of limb 2, or zero where
/// there is no block.
#[inline]
#[target_feature(enable = "avx512f,avx512vbmi2")]
pub(super) fn message(low: V, high: V, mark: V) -> Limbs {
    let low_44 = _mm512_set1_epi64(LOW_44 as i64);
    [
        _mm512_and_si512(low, low_44),
        _mm512_and_si512(_mm512_shrdi_epi64::<44>(low, high), low_44),
        _mm512_or_si512(_mm512_srli_epi64::<24>(high), mark),
    ]
}

/// [`message`]'s mark of a block.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn mark() -> V {
    _mm512_set1_epi64(1 << 40)
}

/// What is multiplied by.
#[derive(Clone, Copy)]
pub(super) struct Factor {
    limbs: Limbs,
    /// Limbs 1 and 2, times 20: what overflows 2^132 comes back times 5, and four times that for 2^130.
    folded: [V; 2],
}

impl Factor {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn of(limbs: Limbs) -> Self {
        let mut folded = [limbs[1], limbs[2]];
        for limb in &mut folded {
            *limb = _mm512_add_epi64(_mm512_slli_epi64::<4>(*limb), _mm512_slli_epi64::<2>(*limb));
        }
        Self { limbs, folded }
    }

    /// Of the first half of a key of Poly1305.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vbmi2")]
    pub(super) fn of_key(low: V, high: V) -> Self {
        let [low, high] = clamped(low, high);
        Self::of(message(low, high, _mm512_setzero_si512()))
    }

    /// This one where `mask` is set, `other` elsewhere.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn or(&self, mask: __mmask8, other: &Self) -> Self {
        let mut both = *other;
        for (limb, own) in both.limbs.iter_mut().zip(self.limbs) {
            *limb = _mm512_mask_mov_epi64(*limb, mask, own);
        }
        for (limb, own) in both.folded.iter_mut().zip(self.folded) {
            *limb = _mm512_mask_mov_epi64(*limb, mask, own);
        }
        both
    }

    /// The number itself.
    #[inline]
    pub(super) fn limbs(&self) -> Limbs {
        self.limbs
    }

    /// Forgets it.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn wipe(&mut self) {
        wipe(&mut self.limbs);
        wipe(&mut self.folded);
    }

    /// Its square.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn square(&self) -> Self {
        Self::of(Sum::zero().plus(&self.limbs, self).carry())
    }
}

/// The first half of a key of Poly1305, clamped (RFC 8439 §2.5.1).
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn clamped(low: V, high: V) -> [V; 2] {
    [
        _mm512_and_si512(low, _mm512_set1_epi64(0x0fff_fffc_0fff_ffff)),
        _mm512_and_si512(high, _mm512_set1_epi64(0x0fff_fffc_0fff_fffc)),
    ]
}

/// A sum of products, not carried.
#[derive(Clone, Copy)]
pub(super) struct Sum {
    low: Limbs,
    high: Limbs,
}

impl Sum {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn zero() -> Self {
        Self::of([_mm512_setzero_si512(); 3])
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn of(low: Limbs) -> Self {
        Self { low, high: [_mm512_setzero_si512(); 3] }
    }

    /// With `a` times `by` more.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn plus(self, a: &Limbs, by: &Factor) -> Self {
        let [r0, r1, r2] = by.limbs;
        let [s1, s2] = by.folded;
        let Self { mut low, mut high } = self;
        for (limb, by) in a.iter().zip([[r0, r1, r2], [s2, r0, r1], [s1, s2, r0]]) {
            for n in 0..3 {
                low[n] = _mm512_madd52lo_epu64(low[n], *limb, by[n]);
                high[n] = _mm512_madd52hi_epu64(high[n], *limb, by[n]);
            }
        }
        Self { low, high }
    }

    /// As limbs again. A high half is worth 2^52, which is 2^8 of the next limb, and 2^10 of limb 0 where limb 2 has 42 bits.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn carry(self) -> Limbs {
        let (low_44, low_42) = (_mm512_set1_epi64(LOW_44 as i64), _mm512_set1_epi64(LOW_42 as i64));
        let [a, b, c] = self.low;
        let [a_high, b_high, c_high] = self.high;
        let over = _mm512_add_epi64(_mm512_srli_epi64::<44>(a), _mm512_slli_epi64::<8>(a_high));
        let (a, b) = (_mm512_and_si512(a, low_44), _mm512_add_epi64(b, over));
        let over = _mm512_add_epi64(_mm512_srli_epi64::<44>(b), _mm512_slli_epi64::<8>(b_high));
        let (b, c) = (_mm512_and_si512(b, low_44), _mm512_add_epi64(c, over));
        let over = _mm512_add_epi64(_mm512_srli_epi64::<42>(c), _mm512_slli_epi64::<10>(c_high));
        let c = _mm512_and_si512(c, low_42);
        let a = _mm512_add_epi64(a, _mm512_add_epi64(over, _mm512_slli_epi64::<2>(over)));
        [_mm512_and_si512(a, low_44), _mm512_add_epi64(b, _mm512_srli_epi64::<44>(a)), c]
    }
}

/// Numbers of carried limbs as 64-bit words, the lowest of all first.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn to_wide([a, b, c]: &Limbs) -> Limbs {
    let c = _mm512_add_epi64(*c, _mm512_srli_epi64::<44>(*b));
    let b = _mm512_and_si512(*b, _mm512_set1_epi64(LOW_44 as i64));
    [
        _mm512_or_si512(*a, _mm512_slli_epi64::<44>(b)),
        _mm512_or_si512(_mm512_srli_epi64::<20>(b), _mm512_slli_epi64::<24>(c)),
        _mm512_srli_epi64::<40>(c),
    ]
}

/// The other way round: the highest word may be up to 7, and limb 2 is below 2^43 then.
#[inline]
#[target_feature(enable = "avx512f,avx512vbmi2")]
pub(super) fn from_wide([low, high, top]: &Limbs) -> Limbs {
    message(*low, *high, _mm512_slli_epi64::<40>(*top))
}

/// `a` where `mask` is set, `b` elsewhere.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn choose(mask: __mmask8, a: &Limbs, b: &Limbs) -> Limbs {
    let mut limbs = *b;
    for (limb, a) in limbs.iter_mut().zip(a) {
        *limb = _mm512_mask_mov_epi64(*limb, mask, *a);
    }
    limbs
}

/// The tags: the numbers modulo 2^130 - 5, plus the second half of the keys, modulo 2^128.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn tags([a, b, c]: Limbs, key_low: V, key_high: V) -> [V; 2] {
    let (low_44, low_42) = (_mm512_set1_epi64(LOW_44 as i64), _mm512_set1_epi64(LOW_42 as i64));
    let over = _mm512_srli_epi64::<44>(b);
    let (b, c) = (_mm512_and_si512(b, low_44), _mm512_add_epi64(c, over));
    let over = _mm512_srli_epi64::<42>(c);
    let c = _mm512_and_si512(c, low_42);
    let a = _mm512_add_epi64(a, _mm512_add_epi64(over, _mm512_slli_epi64::<2>(over)));
    let (a, b) = (_mm512_and_si512(a, low_44), _mm512_add_epi64(b, _mm512_srli_epi64::<44>(a)));
    // At most a little over 2^130 (limb 1 may be 2^44): less the modulus, once, if that is not below zero.
    let less_a = _mm512_add_epi64(a, _mm512_set1_epi64(5));
    let less_b = _mm512_add_epi64(b, _mm512_srli_epi64::<44>(less_a));
    let less_c = _mm512_add_epi64(c, _mm512_srli_epi64::<44>(less_b));
    let less_c = _mm512_sub_epi64(less_c, _mm512_set1_epi64(1 << 42));
    let below = _mm512_movepi64_mask(less_c);
    let less = [_mm512_and_si512(less_a, low_44), _mm512_and_si512(less_b, low_44), less_c];
    let [a, b, c] = choose(below, &[a, b, c], &less);
    let low = _mm512_or_si512(a, _mm512_slli_epi64::<44>(b));
    let high = _mm512_add_epi64(_mm512_srli_epi64::<20>(b), _mm512_slli_epi64::<24>(c));
    let sum = _mm512_add_epi64(low, key_low);
    let over = _mm512_cmplt_epu64_mask(sum, low);
    let high = _mm512_mask_add_epi64(high, over, high, _mm512_set1_epi64(1));
    [sum, _mm512_add_epi64(high, key_high)]
}
