//! Poly1305 of one packet, eight blocks a step by the powers of r (Goll and Gueron, "Vectorization of Poly1305 message
//! authentication code", 2015, has the method).
//!
//! Owns: its eight partial numbers. Keeps true: groups of blocks are laid so that they end with the last lane. A group of n
//! blocks multiplies what was before by r^n, and lanes 0 to 7 are multiplied by r^8 to r^1 at the very end; a group that
//! is not full has zeros ahead, where nothing was before it, or where r^n says so.

use super::limbs::{Factor, Limbs, Sum, mark, message, tags};
use super::vector::{V, from_words, load, load_around, to_words};
use std::arch::x86_64::*;

/// Bytes of a group.
const GROUP: usize = 128;
/// The power of r that is in a lane: blocks n and n + 4 of a group come to lie beside each other.
const POWERS: [u64; 8] = [8, 4, 7, 3, 6, 2, 5, 1];
/// The lane of a power.
const LANE_OF: [i64; 9] = [0, 7, 5, 3, 1, 6, 4, 2, 0];

/// The tag of one packet; `key` has the key of Poly1305 in its first half.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
pub(super) fn tag(key: V, aad: &[u8], text: &[u8]) -> u128 {
    let word = |n| _mm512_permutexvar_epi64(_mm512_set1_epi64(n), key);
    let r = Factor::of_key(word(0), word(1));
    let powers = powers(&r);
    let power = |n: usize| {
        let lane = _mm512_set1_epi64(LANE_OF[n]);
        let mut limbs = powers;
        for limb in &mut limbs {
            *limb = _mm512_permutexvar_epi64(lane, *limb);
        }
        Factor::of(limbs)
    };
    let r8 = power(8);
    let mut hash = [_mm512_setzero_si512(); 3];

    // Additional data: a first group that may have zeros ahead, then full ones.
    let blocks = aad.len().div_ceil(16) as isize;
    let mut at = blocks * 16 - blocks.cast_unsigned().div_ceil(8).cast_signed() * GROUP as isize;
    while at < blocks * 16 {
        let ahead = (-at).max(0) as u64 / 16;
        let sum = Sum::of(group(load_around(aad, at), load_around(aad, at + 64), marks(8 - ahead)));
        hash = sum.plus(&hash, &r8).carry();
        at += GROUP as isize;
    }

    let (groups, rest) = text.as_chunks::<GROUP>();
    let mark = mark();
    let of = |group_of: &[u8; GROUP]| {
        let [low, high] = group_of.as_chunks::<64>().0 else { unreachable!() };
        group(load(low), load(high), mark)
    };
    let (pairs, odd) = groups.as_chunks::<2>();
    if !pairs.is_empty() {
        let r16 = r8.square();
        for [a, b] in pairs {
            hash = Sum::of(of(b)).plus(&of(a), &r8).plus(&hash, &r16).carry();
        }
    }
    for odd in odd {
        hash = Sum::of(of(odd)).plus(&hash, &r8).carry();
    }

    // Eight blocks, the last not whole, leave no room for the lengths.
    let rest = if rest.len() > GROUP - 16 {
        let all = group(load_around(rest, 0), load_around(rest, 64), mark);
        hash = Sum::of(all).plus(&hash, &r8).carry();
        &[]
    } else {
        rest
    };
    // The rest, and the lengths behind it.
    let blocks = rest.len().div_ceil(16) + 1;
    let at = blocks as isize * 16 - GROUP as isize;
    let lengths = _mm512_broadcast_i64x2(_mm_set_epi64x(text.len() as i64, aad.len() as i64));
    let high = _mm512_mask_mov_epi64(load_around(rest, at + 64), 0xc0, lengths);
    let last = group(load_around(rest, at), high, marks(blocks as u64));
    hash = if aad.is_empty() && text.len() <= GROUP - 16 {
        last
    } else {
        Sum::of(last).plus(&hash, &power(blocks)).carry()
    };

    // The eight add up to limbs below 2^48.
    let mut sum = Sum::zero().plus(&hash, &Factor::of(powers)).carry();
    for limb in &mut sum {
        *limb = _mm512_set1_epi64(_mm512_reduce_add_epi64(*limb));
    }
    let [low, high] = tags(Sum::of(sum).carry(), word(2), word(3));
    u128::from(to_words(low)[0]) | u128::from(to_words(high)[0]) << 64
}

/// The blocks of two times 64 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512vbmi2")]
fn group(low: V, high: V, mark: V) -> Limbs {
    message(_mm512_unpacklo_epi64(low, high), _mm512_unpackhi_epi64(low, high), mark)
}

/// Marks of a group's last `blocks` blocks.
#[inline]
#[target_feature(enable = "avx512f")]
fn marks(blocks: u64) -> V {
    let blocks = _mm512_set1_epi64(blocks as i64);
    let has = _mm512_cmple_epu64_mask(from_words(&POWERS), blocks);
    _mm512_maskz_mov_epi64(has, mark())
}

/// The powers of r in the lanes that [`POWERS`] says.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn powers(r: &Factor) -> Limbs {
    let r2 = r.square();
    // Lanes 0 and 1 r^4, 2 and 3 r^3; then r^2, r^2, r, r.
    let mut by = r.limbs();
    for (limb, r2) in by.iter_mut().zip(r2.limbs()) {
        *limb = _mm512_mask_mov_epi64(*limb, 0x03, r2);
    }
    let product = Sum::zero().plus(&r2.limbs(), &Factor::of(by)).carry();
    let (mut four, mut r4) = (r.limbs(), product);
    for n in 0..3 {
        four[n] = _mm512_mask_mov_epi64(four[n], 0x30, r2.limbs()[n]);
        four[n] = _mm512_mask_mov_epi64(four[n], 0x0f, product[n]);
        r4[n] = _mm512_permutexvar_epi64(_mm512_setzero_si512(), product[n]);
    }
    // Even lanes four powers more.
    let more = Sum::zero().plus(&four, &Factor::of(r4)).carry();
    for n in 0..3 {
        four[n] = _mm512_mask_mov_epi64(four[n], 0x55, more[n]);
    }
    four
}
