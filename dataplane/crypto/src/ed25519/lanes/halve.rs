//! From k, two numbers of half its length: c and d with c = d k modulo 8 L, and d odd.
//!
//! The idea of Antipa, Brown, Gallant, Lambert, Struik and Vanstone ("Accelerated verification of ECDSA signatures", 2005), and
//! of Pornin for this curve (2020): instead of S B - k A = R, one checks (d S) B - c A - d R = 0, whose scalars for A and R have
//! half as many bits, and so has the chain of doublings. That is the same question, for all points: every point's order divides
//! 8 L, so c A = d k A; and d is odd and no multiple of L, so d times a point is the identity for no point but the identity.
//!
//! The rows (c, d) of all such numbers are a lattice. It is reduced by Euclid's algorithm with quotients from floating-point
//! approximations (Lehmer): a wrong quotient makes longer numbers, but cannot leave the lattice.

use super::super::ORDER;
use super::field::same;
use std::arch::x86_64::*;

/// Bits of a limb: seven digits of four bits.
pub(super) const BITS: u32 = 28;
const MASK: i64 = (1 << BITS) - 1;
/// Limbs of a number: 280 bits, the last one with a sign.
pub(super) const LIMBS: usize = 10;
/// Limbs of d while it is computed. After all rounds, it is below 2^(25 * 7), and the last limb may have 32 bits.
const SHORT: usize = 7;
/// Rounds at most: each takes 20 bits and more, and 128 are to go.
const TRIES: usize = 7;
/// Steps of a round at most. They seldom are more than 16.
const STEPS: usize = 32;
/// Factors within a round are not above this: then they have 27 good bits of the approximation's 53 left.
const LARGEST: f64 = (1 << 24) as f64;
/// Half the length of 8 L.
const SHORT_ENOUGH: f64 = 2.4e38;

/// Numbers, eight at a time.
pub(super) type Number = [__m512i; LIMBS];

/// What k was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Halves {
    /// Not negative.
    pub(super) c: Number,
    /// The lanes whose c is to be taken as negative.
    pub(super) c_is_negative: u8,
    /// Positive and odd.
    pub(super) d: Number,
}

/// A row of the lattice.
#[derive(Clone, Copy, Debug)]
struct Row {
    c: Number,
    d: [__m512i; SHORT],
}

/// Four factors to make two rows of two: approximations to integers that are exact.
type Matrix = [[__m512d; 2]; 2];

/// Words to limbs of `bits` bits.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
pub(super) fn limbs<const N: usize>(words: &[__m512i], bits: u32) -> [__m512i; N] {
    let mut out = [same(0); N];
    for (n, limb) in out.iter_mut().enumerate() {
        let (word, shift) = (n * bits as usize / 64, n as i64 * i64::from(bits) % 64);
        let at = |n| words.get(n).map_or(same(0), |word: &__m512i| *word);
        // A shift by 64 and more makes it zero.
        let both = _mm512_or_si512(
            _mm512_srlv_epi64(at(word), same(shift)),
            _mm512_sllv_epi64(at(word + 1), same(64 - shift)),
        );
        *limb = _mm512_and_si512(both, same((1 << bits) - 1));
    }
    out
}

/// Limbs of `bits` bits to four words; the number has 256 bits.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
pub(super) fn words(number: &[__m512i], bits: u32) -> [__m512i; 4] {
    let mut out = [same(0); 4];
    for (n, limb) in number.iter().enumerate() {
        let (word, shift) = (n * bits as usize / 64, n as i64 * i64::from(bits) % 64);
        out[word] = _mm512_or_si512(out[word], _mm512_sllv_epi64(*limb, same(shift)));
        if let Some(next) = out.get_mut(word + 1) {
            *next = _mm512_or_si512(*next, _mm512_srlv_epi64(*limb, same(64 - shift)));
        }
    }
    out
}

/// Carries in all limbs but the last, which has the sign.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn carry(limbs: &mut [__m512i]) {
    let mut carry = same(0);
    let last = limbs.len() - 1;
    for (n, limb) in limbs.iter_mut().enumerate() {
        let sum = _mm512_add_epi64(*limb, carry);
        carry = _mm512_srai_epi64::<BITS>(sum);
        *limb = if n == last { sum } else { _mm512_and_si512(sum, same(MASK)) };
    }
}

/// Minus the number in the lanes of `mask`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn negate(limbs: &mut [__m512i], mask: u8) {
    for limb in limbs.iter_mut() {
        *limb = _mm512_mask_sub_epi64(*limb, mask, same(0), *limb);
    }
    carry(limbs);
}

/// `limbs` as floating-point numbers.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn about(limbs: &[__m512i]) -> __m512d {
    let mut sum = _mm512_setzero_pd();
    for limb in limbs.iter().rev() {
        sum = _mm512_fmadd_pd(sum, _mm512_set1_pd((1u64 << BITS) as f64), _mm512_cvtepi64_pd(*limb));
    }
    sum
}

/// a x + b y, limb by limb.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn mix<const N: usize>(factors: &[__m512d; 2], x: &[__m512i; N], y: &[__m512i; N]) -> [__m512i; N] {
    let (a, b) = (_mm512_cvtpd_epi64(factors[0]), _mm512_cvtpd_epi64(factors[1]));
    let mut out = [same(0); N];
    for n in 0..N {
        out[n] = _mm512_add_epi64(_mm512_mul_epi32(a, x[n]), _mm512_mul_epi32(b, y[n]));
    }
    carry(&mut out);
    out
}

impl Row {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    fn mix(factors: &[__m512d; 2], x: &Self, y: &Self) -> Self {
        Self { c: mix(factors, &x.c, &y.c), d: mix(factors, &x.d, &y.d) }
    }
}

/// The lanes in which `a` is not larger than `limit`, whatever its sign.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn is_within(a: __m512d, limit: f64) -> u8 {
    _mm512_cmp_pd_mask::<_CMP_LE_OQ>(_mm512_abs_pd(a), _mm512_set1_pd(limit))
}

/// x - q y in the lanes of `live`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn less(x: __m512d, q: __m512d, y: __m512d) -> __m512d {
    _mm512_fnmadd_pd(q, y, x)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn nearest(x: __m512d) -> __m512d {
    _mm512_roundscale_pd::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x)
}

/// Euclid's steps on x and y, as far as y is long and the approximation good.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn steps(mut x: __m512d, mut y: __m512d) -> Matrix {
    let (zero, one) = (_mm512_setzero_pd(), _mm512_set1_pd(1.0));
    let (mut top, mut low) = ([one, zero], [zero, one]);
    let mut live = 0xff;
    for _ in 0..STEPS {
        let q = nearest(_mm512_div_pd(x, y));
        let next = [less(top[0], q, low[0]), less(top[1], q, low[1])];
        live &= !is_within(y, SHORT_ENOUGH) & is_within(next[0], LARGEST) & is_within(next[1], LARGEST);
        if live == 0 {
            break;
        }
        let rest = less(x, q, y);
        x = _mm512_mask_mov_pd(x, live, y);
        y = _mm512_mask_mov_pd(y, live, rest);
        for n in 0..2 {
            top[n] = _mm512_mask_mov_pd(top[n], live, low[n]);
            low[n] = _mm512_mask_mov_pd(low[n], live, next[n]);
        }
    }
    [top, low]
}

/// Halves k, which is below L.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
pub(super) fn halve(k: &[__m512i; 4]) -> Halves {
    let k = limbs(k, BITS);
    let (zero, mut one) = ([same(0); SHORT], [same(0); SHORT]);
    one[0] = same(1);
    let mut modulus = [same(0); 4];
    for (word, bytes) in modulus.iter_mut().zip(ORDER.as_chunks().0) {
        *word = same(i64::from_le_bytes(*bytes));
    }
    let modulus = mix(&[_mm512_set1_pd(8.0), _mm512_setzero_pd()], &limbs(&modulus, BITS), &[same(0); LIMBS]);
    let (mut top, mut low) = (Row { c: modulus, d: zero }, Row { c: k, d: one });
    for _ in 0..TRIES {
        let (x, y) = (about(&top.c), about(&low.c));
        if is_within(y, SHORT_ENOUGH) == 0xff {
            break;
        }
        let matrix = steps(x, y);
        (top, low) = (Row::mix(&matrix[0], &top, &low), Row::mix(&matrix[1], &top, &low));
    }
    // Of two neighbours, one has an odd d. If that is the upper one and long, it is made shorter by the lower.
    let (x, y) = (about(&top.c), about(&low.c));
    let odd = _mm512_test_epi64_mask(low.d[0], same(1));
    let q = nearest(_mm512_div_pd(x, y));
    let shorten = !is_within(x, 8.0 * SHORT_ENOUGH) & is_within(q, LARGEST);
    let factors = [
        _mm512_maskz_mov_pd(!odd, _mm512_set1_pd(1.0)),
        _mm512_mask_mov_pd(_mm512_maskz_sub_pd(shorten, _mm512_setzero_pd(), q), odd, _mm512_set1_pd(1.0)),
    ];
    let row = Row::mix(&factors, &top, &low);
    let (mut c, mut d) = (row.c, [same(0); LIMBS]);
    d[..SHORT].copy_from_slice(&row.d);
    // The last of the short limbs has the sign.
    let d_is_negative = _mm512_movepi64_mask(d[SHORT - 1]);
    negate(&mut d, d_is_negative);
    negate(&mut c, d_is_negative);
    let c_is_negative = _mm512_movepi64_mask(c[LIMBS - 1]);
    negate(&mut c, c_is_negative);
    Halves { c, c_is_negative, d }
}
