//! Eight signatures at once, for processors with AVX-512 IFMA: lane = signature.
//!
//! Owns: the order of the work. Refuses: nothing; a signature that cannot be right is answered before it takes a lane. Keeps
//! true: code that needs these instructions is reached through [`Lanes`] only, which there is only where the processor has them.
//!
//! `unsafe` is in the call that enters that code (here), and in loads and stores of whole arrays (`turn`, `digits`).

mod digits;
mod field;
mod halve;
mod order;
mod point;
mod sha512;
mod table;
mod turn;

#[cfg(test)]
mod tests;

use super::Check;
use digits::LONG_DIGITS;
use halve::Halves;
use point::{Curve, Summand};
use sha512::Message;
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

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
fn verify(fixed: &Fixed, checks: &[&Check<'_>; WIDTH]) -> u8 {
    let point = checks.map(|check| &check.signature.as_chunks().0[0]);
    let hash = sha512::hash(&std::array::from_fn(|lane| Message {
        head: [point[lane], checks[lane].key],
        tail: checks[lane].message,
    }));
    let Halves { c, c_is_negative, d } = halve::halve(&order::least(&hash));
    let number = columns(checks.map(|check| &check.signature.as_chunks().0[1]));
    let s = digits::long(&order::product(&number, &halve::words(&d, halve::BITS)));
    let (c, c_count) = digits::short(&c);
    let (d, d_count) = digits::short(&d);

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
