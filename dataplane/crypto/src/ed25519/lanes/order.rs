//! Numbers modulo L, the order of the base point, eight at a time.
//!
//! L is 2^252 + c, and c has 125 bits: what is above 2^260 is taken away 2^8 c times, until nothing is there. Limbs have 52
//! bits, which are those that IFMA multiplies. Keeps true: results are below L.

use super::super::ORDER_LOW;
use super::field::same;
use super::halve::{limbs, words};
use std::arch::x86_64::*;

/// Bits of a limb.
const BITS: u32 = 52;
const MASK: i64 = (1 << BITS) - 1;
/// Bits of L's last limb, less one.
const LAST: u32 = 252 - 4 * BITS;
/// c.
const LOW: [i64; 3] =
    [ORDER_LOW as i64 & MASK, (ORDER_LOW >> BITS) as i64 & MASK, (ORDER_LOW >> (2 * BITS)) as i64];
/// 2^8 c.
const FOLD: [i64; 3] = [
    (ORDER_LOW << 8) as i64 & MASK,
    (ORDER_LOW >> (BITS - 8)) as i64 & MASK,
    (ORDER_LOW >> (2 * BITS - 8)) as i64,
];
/// L.
const ORDER: [i64; 5] = [LOW[0], LOW[1], LOW[2], 0, 1 << LAST];

/// 512 bits of eight words, modulo L.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
pub(super) fn least(wide: &[__m512i; 8]) -> [__m512i; 4] {
    words(&reduce(limbs(wide, BITS)), BITS)
}

/// The product of two numbers of four words, modulo L. It must have 512 bits at most.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
pub(super) fn product(a: &[__m512i; 4], b: &[__m512i; 4]) -> [__m512i; 4] {
    let mut wide = [same(0); 10];
    let b: [__m512i; 5] = limbs(b, BITS);
    multiply(&mut wide, &limbs::<5>(a, BITS), &b);
    carry(&mut wide);
    words(&reduce(wide), BITS)
}

/// Adds a product to `sum`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn multiply(sum: &mut [__m512i; 10], a: &[__m512i], b: &[__m512i]) {
    for (i, a) in a.iter().enumerate() {
        for (j, b) in b.iter().enumerate() {
            sum[i + j] = _mm512_madd52lo_epu64(sum[i + j], *a, *b);
            sum[i + j + 1] = _mm512_madd52hi_epu64(sum[i + j + 1], *a, *b);
        }
    }
}

/// Carries in all limbs but the last, which has a sign if there is one.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn carry(limbs: &mut [__m512i]) {
    for n in 1..limbs.len() {
        let over = _mm512_srai_epi64::<BITS>(limbs[n - 1]);
        limbs[n - 1] = _mm512_and_si512(limbs[n - 1], same(MASK));
        limbs[n] = _mm512_add_epi64(limbs[n], over);
    }
}

/// `x` less `times` times `by`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn take(x: &mut [__m512i], times: &[__m512i], by: [i64; 3]) {
    let mut less = [same(0); 10];
    multiply(&mut less, times, &[same(by[0]), same(by[1]), same(by[2])]);
    for (limb, less) in x.iter_mut().zip(less) {
        *limb = _mm512_sub_epi64(*limb, less);
    }
}

/// `x` and L 2^(52 `shift`).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn add_order(x: &mut [__m512i], shift: usize) {
    for (limb, order) in x[shift..].iter_mut().zip(ORDER) {
        *limb = _mm512_add_epi64(*limb, same(order));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn reduce(x: [__m512i; 10]) -> [__m512i; 5] {
    // Each time, a multiple of L that is larger than what is taken away is added: 2^408 for 2^252 2^133, ...
    let mut a = [same(0); 8];
    a[..5].copy_from_slice(&x[..5]);
    add_order(&mut a, 3);
    take(&mut a, &x[5..], FOLD);
    carry(&mut a);
    // ... 2^304 for 2^149 2^133, ...
    let mut b = [same(0); 6];
    b[..5].copy_from_slice(&a[..5]);
    add_order(&mut b, 1);
    take(&mut b, &a[5..], FOLD);
    carry(&mut b);
    // ... and 2^252 for 2^45 2^133.
    let mut c = [b[0], b[1], b[2], b[3], b[4]];
    add_order(&mut c, 0);
    take(&mut c, &b[5..], FOLD);
    carry(&mut c);
    // Below 2^261. Less as often L as 2^252 is in it: below 2^252, and above -2^134.
    let times = _mm512_srli_epi64::<LAST>(c[4]);
    c[4] = _mm512_and_si512(c[4], same((1 << LAST) - 1));
    take(&mut c, &[times], LOW);
    carry(&mut c);
    let negative = _mm512_movepi64_mask(c[4]);
    for (limb, order) in c.iter_mut().zip(ORDER) {
        *limb = _mm512_mask_add_epi64(*limb, negative, *limb, same(order));
    }
    carry(&mut c);
    c
}
