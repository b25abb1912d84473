//! Numbers modulo p = 2^255 - 19, eight at a time: lane = number.
//!
//! Five limbs of 51 bits, multiplied by the 52-bit multiply-and-add of AVX-512 IFMA (as in Gueron and Krasnov, "Accelerating
//! big integer arithmetic using Intel IFMA extensions"). Keeps true: limbs of an [`Fe`] are below 2^51 + 2^16, so they fit in
//! what the instruction reads; limbs of a [`Wide`] are below 2^62, so sums and differences of a few products need no carry
//! of their own. Both stand for a class modulo p, not for its least number: see [`Fe::least`].

use std::arch::x86_64::*;

/// Bits of a limb.
const BITS: u32 = 51;
const MASK: i64 = (1 << BITS) - 1;

/// Numbers that may be multiplied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fe(pub(super) [__m512i; 5]);

/// Products and their sums, before carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wide([__m512i; 5]);

/// The same number in all lanes.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
pub(super) fn same(word: i64) -> __m512i {
    _mm512_set1_epi64(word)
}

impl Fe {
    /// `n` in all lanes; below 2^51.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn small(n: i64) -> Self {
        let zero = same(0);
        Self([same(n), zero, zero, zero, zero])
    }

    /// The low 255 bits of four words each, the lowest first. May be p and more.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn from_words(w: &[__m512i; 4]) -> Self {
        let mask = same(MASK);
        Self([
            _mm512_and_si512(w[0], mask),
            _mm512_and_si512(
                _mm512_or_si512(_mm512_srli_epi64::<51>(w[0]), _mm512_slli_epi64::<13>(w[1])),
                mask,
            ),
            _mm512_and_si512(
                _mm512_or_si512(_mm512_srli_epi64::<38>(w[1]), _mm512_slli_epi64::<26>(w[2])),
                mask,
            ),
            _mm512_and_si512(
                _mm512_or_si512(_mm512_srli_epi64::<25>(w[2]), _mm512_slli_epi64::<39>(w[3])),
                mask,
            ),
            _mm512_and_si512(_mm512_srli_epi64::<12>(w[3]), mask),
        ])
    }

    /// As a summand.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn wide(self) -> Wide {
        Wide(self.0)
    }

    /// Limbs of the product are below 126.4 * 2^52: four low and five doubled high halves times 19, and a low half.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn mul(&self, by: &Self) -> Wide {
        let (a, b) = (&self.0, &by.0);
        let mut sum = [same(0); 10];
        for i in 0..5 {
            for j in 0..5 {
                sum[i + j + 1] = _mm512_madd52hi_epu64(sum[i + j + 1], a[i], b[j]);
            }
        }
        // 2^52 times a high half is 2^51 times twice of it.
        for limb in &mut sum[1..] {
            *limb = _mm512_add_epi64(*limb, *limb);
        }
        for i in 0..5 {
            for j in 0..5 {
                sum[i + j] = _mm512_madd52lo_epu64(sum[i + j], a[i], b[j]);
            }
        }
        Wide::fold(&sum)
    }

    /// Its square: limbs are bounded as those of [`Self::mul`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn square(&self) -> Wide {
        let a = &self.0;
        // A limb is ((crossed high halves) * 2 + squares' high halves + crossed low halves) * 2 + squares' low halves.
        let mut sum = [same(0); 10];
        for i in 0..5 {
            for j in i + 1..5 {
                sum[i + j + 1] = _mm512_madd52hi_epu64(sum[i + j + 1], a[i], a[j]);
            }
        }
        for limb in &mut sum[2..9] {
            *limb = _mm512_add_epi64(*limb, *limb);
        }
        for i in 0..5 {
            sum[2 * i + 1] = _mm512_madd52hi_epu64(sum[2 * i + 1], a[i], a[i]);
            for j in i + 1..5 {
                sum[i + j] = _mm512_madd52lo_epu64(sum[i + j], a[i], a[j]);
            }
        }
        for limb in &mut sum[1..] {
            *limb = _mm512_add_epi64(*limb, *limb);
        }
        for i in 0..5 {
            sum[2 * i] = _mm512_madd52lo_epu64(sum[2 * i], a[i], a[i]);
        }
        Wide::fold(&sum)
    }

    /// Squared `times` times, two numbers side by side: one alone would wait for itself.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    fn squares(mut pair: [Self; 2], times: u32) -> [Self; 2] {
        for _ in 0..times {
            pair = [pair[0].square().carry(), pair[1].square().carry()];
        }
        pair
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    fn products(a: &[Self; 2], b: &[Self; 2]) -> [Self; 2] {
        [a[0].mul(&b[0]).carry(), a[1].mul(&b[1]).carry()]
    }

    /// To the power of (p - 5) / 8 = 2^252 - 3: 250 ones, a zero and a one.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    pub(super) fn to_p58(a: [Self; 2]) -> [Self; 2] {
        // Names say how many ones the exponent has.
        let two = Self::products(&Self::squares(a, 1), &a);
        let four = Self::products(&Self::squares(two, 2), &two);
        let five = Self::products(&Self::squares(four, 1), &a);
        let ten = Self::products(&Self::squares(five, 5), &five);
        let twenty = Self::products(&Self::squares(ten, 10), &ten);
        let forty = Self::products(&Self::squares(twenty, 20), &twenty);
        let fifty = Self::products(&Self::squares(forty, 10), &ten);
        let hundred = Self::products(&Self::squares(fifty, 50), &fifty);
        let two_hundred = Self::products(&Self::squares(hundred, 100), &hundred);
        let most = Self::products(&Self::squares(two_hundred, 50), &fifty);
        Self::products(&Self::squares(most, 2), &a)
    }

    /// The limbs of the least number of its class.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn least(&self) -> [__m512i; 5] {
        let (mask, mut f) = (same(MASK), self.0);
        // It is below 2p. Whether it is p or more, is whether 19 more reach 2^255.
        let mut over = same(19);
        for limb in &f {
            over = _mm512_srli_epi64::<51>(_mm512_add_epi64(*limb, over));
        }
        let mut carry = _mm512_madd52lo_epu64(same(0), over, same(19));
        for limb in &mut f {
            let sum = _mm512_add_epi64(*limb, carry);
            *limb = _mm512_and_si512(sum, mask);
            carry = _mm512_srli_epi64::<51>(sum);
        }
        f
    }

    /// The lanes that are 0.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn is_zero(&self) -> u8 {
        let f = self.least();
        let any =
            _mm512_or_si512(_mm512_or_si512(f[0], f[1]), _mm512_or_si512(_mm512_or_si512(f[2], f[3]), f[4]));
        _mm512_testn_epi64_mask(any, any)
    }

    /// The lanes whose least number is odd.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn is_odd(&self) -> u8 {
        _mm512_test_epi64_mask(self.least()[0], same(1))
    }

    /// `other` in the lanes of `mask`.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn or(&self, mask: u8, other: &Self) -> Self {
        let mut limbs = self.0;
        for (limb, other) in limbs.iter_mut().zip(&other.0) {
            *limb = _mm512_mask_mov_epi64(*limb, mask, *other);
        }
        Self(limbs)
    }
}

impl Wide {
    /// Ten limbs to five: 2^255 is 19.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    fn fold(sum: &[__m512i; 10]) -> Self {
        let mut limbs = [same(0); 5];
        for k in 0..5 {
            limbs[k] = _mm512_add_epi64(sum[k], _mm512_mullo_epi64(sum[k + 5], same(19)));
        }
        Self(limbs)
    }

    /// The sum.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn plus(mut self, other: &Self) -> Self {
        for (limb, other) in self.0.iter_mut().zip(&other.0) {
            *limb = _mm512_add_epi64(*limb, *other);
        }
        self
    }

    /// The difference. `other` is one product or one number, so its limbs are below those of 2^9 p, which is added.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn minus(mut self, other: &Self) -> Self {
        for (k, (limb, other)) in self.0.iter_mut().zip(&other.0).enumerate() {
            let some = same(if k == 0 { (MASK - 18) << 9 } else { MASK << 9 });
            *limb = _mm512_sub_epi64(_mm512_add_epi64(*limb, some), *other);
        }
        self
    }

    /// `other` in the lanes of `mask`.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn or(mut self, mask: u8, other: &Self) -> Self {
        for (limb, other) in self.0.iter_mut().zip(&other.0) {
            *limb = _mm512_mask_mov_epi64(*limb, mask, *other);
        }
        self
    }

    /// With one round of carries, which suffices: they are below 2^11, the last one's 19-fold below 2^16.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn carry(&self) -> Fe {
        let (mask, r) = (same(MASK), &self.0);
        let last = _mm512_srli_epi64::<51>(r[4]);
        let mut f = [_mm512_madd52lo_epu64(_mm512_and_si512(r[0], mask), last, same(19)); 5];
        for k in 1..5 {
            f[k] = _mm512_add_epi64(_mm512_and_si512(r[k], mask), _mm512_srli_epi64::<51>(r[k - 1]));
        }
        Fe(f)
    }
}
