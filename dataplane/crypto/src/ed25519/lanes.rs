//! Eight signatures at once, for processors with AVX-512 IFMA: lane = signature.
//!
//! Owns: the order of the work. Refuses: nothing; a signature that cannot be right is answered before it takes a lane. Keeps
//! true: code that needs these instructions is reached through [`Lanes`] only, which there is only where the processor has them.
//!
//! `unsafe` is in the call that enters that code (here), and in loads and stores of whole arrays (`turn`, `digits`).

mod digits;
mod field;
mod halve;
mod point;
mod sha512;
mod table;
mod turn;

#[cfg(test)]
mod tests;

use super::Check;
use curve25519_dalek::scalar::Scalar;
use digits::LONG_DIGITS;
use halve::Halves;
use point::{Curve, Summand};
use sha512::Message;
use std::arch::x86_64::*;
use std::sync::LazyLock;
use table::{Base, Table};
use turn::columns;

/// Signatures in a group.
pub(super) const WIDTH: usize = 8;

/// What does not depend on signatures.
#[derive(Debug)]
struct Fixed {
    curve: Curve,
    /// Of the base point, and of 2^128 times it.
    base: Box<[Base; 2]>,
}

/// Checks groups of eight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lanes(&'static Fixed);

impl Lanes {
    /// Whether the processor has what this needs.
    pub(super) fn is_available() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512ifma")
    }

    /// `None`: the processor does not have it. The first call computes tables, for about a millisecond.
    pub(super) fn new() -> Option<Self> {
        static FIXED: LazyLock<Fixed> = LazyLock::new(|| {
            // SAFETY: it is looked at only behind the question below.
            unsafe { fixed() }
        });
        Self::is_available().then(|| Self(&FIXED))
    }

    /// Whether each of the signatures is right. Their numbers s must be below L, and their points R below p.
    pub(super) fn verify(self, checks: &[&Check<'_>; WIDTH]) -> u8 {
        // SAFETY: there is a `Lanes`, so the processor has the instructions.
        unsafe { verify(self.0, checks) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
fn fixed() -> Fixed {
    let curve = Curve::new();
    Fixed { curve, base: Box::new(Base::both(&curve)) }
}

/// Words of each lane to the bytes of each signature.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn rows(words: [__m512i; 4]) -> [[u8; 32]; WIDTH] {
    let mut rows = [[0; 32]; WIDTH];
    turn::put_rows(words, rows.each_mut());
    rows
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
fn verify(fixed: &Fixed, checks: &[&Check<'_>; WIDTH]) -> u8 {
    let point = checks.map(|check| &check.signature.as_chunks().0[0]);
    let [h0, h1, h2, h3, h4, h5, h6, h7] =
        sha512::hash(&checks.map(|check| Message {
            head: [&check.signature.as_chunks().0[0], check.key],
            tail: check.message,
        }));
    let (low, high) = (rows([h0, h1, h2, h3]), rows([h4, h5, h6, h7]));
    let mut bytes = [[0; 32]; WIDTH];
    for (lane, bytes) in bytes.iter_mut().enumerate() {
        let mut wide = [0; 64];
        wide[..32].copy_from_slice(&low[lane]);
        wide[32..].copy_from_slice(&high[lane]);
        *bytes = Scalar::from_bytes_mod_order_wide(&wide).to_bytes();
    }
    let Halves { c, c_is_negative, d } = halve::halve(&columns(bytes.each_ref()));
    let mut bytes = rows(halve::words(&d));
    for (check, d) in checks.iter().zip(&mut bytes) {
        let s = Scalar::from_bytes_mod_order(check.signature.as_chunks().0[1]);
        *d = (s * Scalar::from_bytes_mod_order(*d)).to_bytes();
    }
    let (c, c_count) = digits::short(&c);
    let (d, d_count) = digits::short(&d);
    let s = digits::long(&columns(bytes.each_ref()));

    let keys = columns(checks.map(|check| check.key));
    let [(a, is_a), (r, is_r)] = fixed.curve.decode([&keys, &columns(point)]);
    let valid = is_a & is_r & !a.is_small() & !r.is_small();
    let (mut a_table, mut r_table) = (Table::empty(), Table::empty());
    a_table.fill(&a, &fixed.curve);
    r_table.fill(&r, &fixed.curve);

    // (d s) B - c A - d R, from the highest digits down; the base point's have two places each, and are in two halves.
    let half = LONG_DIGITS / 2;
    let count = c_count.max(d_count).max(2 * half - 1);
    let mut sum = Summand::identity();
    for n in (0..count).rev() {
        let a = a_table.pick(&c[n].multiples.0);
        let r = r_table.pick(&d[n].multiples.0);
        let mut factors = sum.add(&a, !(c[n].negative ^ c_is_negative)).summand().add(&r, !d[n].negative);
        if n % 2 == 0 && n / 2 < half {
            let (low, high) = (&s[n / 2], &s[n / 2 + half]);
            factors = factors.summand().add_fixed(&fixed.base[0].pick(&low.multiples.0), low.negative);
            factors = factors.summand().add_fixed(&fixed.base[1].pick(&high.multiples.0), high.negative);
        }
        if n == 0 {
            return valid & factors.projective().is_identity();
        }
        for _ in 0..3 {
            factors = factors.projective().double();
        }
        sum = factors.projective().double().summand();
    }
    0
}
