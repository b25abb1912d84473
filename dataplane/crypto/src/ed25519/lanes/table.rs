//! Tables of small multiples: those of eight points that come with signatures, and those of the base point.
//!
//! An entry lies in one piece, so that a look-up reads a few whole lines for each lane and turns them, which takes a third of
//! the time that gathers take.

use super::field::Fe;
use super::point::{Affine, Cached, Curve, Fixed, Summand};
use super::turn::{columns, put_rows};
use curve25519_dalek::{constants::ED25519_BASEPOINT_POINT, edwards::EdwardsPoint, scalar::Scalar};
use std::arch::x86_64::*;

/// Multiples of the eight points in a [`Table`]: 0 to 8.
const SMALL: usize = 9;
/// Multiples of the base point in a [`Base`]: 0 to 128.
const LARGE: usize = 129;

/// 0 to 8 times each of eight points.
#[repr(align(64))]
#[derive(Debug)]
pub(super) struct Table([[[u8; 160]; 8]; SMALL]);

/// 0 to 128 times a point.
#[repr(align(64))]
#[derive(Debug)]
pub(super) struct Base([[u8; 128]; LARGE]);

/// The groups of four limbs in an entry.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn group<const LEN: usize>(rows: [&[u8; LEN]; 8], n: usize) -> [__m512i; 4] {
    columns(rows.map(|row| &row.as_chunks().0[n]))
}

/// How three numbers and one limb more lie in an entry.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn groups([Fe(a), Fe(b), Fe(c)]: [&Fe; 3], more: __m512i) -> [[__m512i; 4]; 4] {
    [[a[0], a[1], a[2], a[3]], [a[4], b[0], b[1], b[2]], [b[3], b[4], c[0], c[1]], [c[2], c[3], c[4], more]]
}

/// The other way round, of an entry for each lane.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn numbers<const LEN: usize>(rows: [&[u8; LEN]; 8]) -> ([Fe; 3], __m512i) {
    let [a0, a1, a2, a3] = group(rows, 0);
    let [a4, b0, b1, b2] = group(rows, 1);
    let [b3, b4, c0, c1] = group(rows, 2);
    let [c2, c3, c4, more] = group(rows, 3);
    ([Fe([a0, a1, a2, a3, a4]), Fe([b0, b1, b2, b3, b4]), Fe([c0, c1, c2, c3, c4])], more)
}

impl Table {
    /// With nothing in it.
    pub(super) fn empty() -> Self {
        Self([[[0; 160]; 8]; SMALL])
    }

    /// The multiples of `point`.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    pub(super) fn fill(&mut self, point: &Affine, curve: &Curve) {
        let single = curve.cached(&point.summand());
        self.put(0, &curve.cached(&Summand::identity()));
        self.put(1, &single);
        // 2n of n, and 2n + 1 of 2n.
        let mut doubles = [point.projective(); SMALL / 2 + 1];
        for n in 1..=SMALL / 2 {
            let double = doubles[n].double();
            let summand = double.summand();
            self.put(2 * n, &curve.cached(&summand));
            if 2 * n <= SMALL / 2 {
                doubles[2 * n] = double.projective();
            }
            if 2 * n + 1 < SMALL {
                let next = summand.add(&single, 0);
                self.put(2 * n + 1, &curve.cached(&next.summand()));
                if 2 * n < SMALL / 2 {
                    doubles[2 * n + 1] = next.projective();
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    fn put(&mut self, n: usize, entry: &Cached) {
        let Fe([first, last @ ..]) = entry.z;
        let groups = groups([&entry.sum, &entry.difference, &entry.t], first);
        for (at, group) in groups.into_iter().chain([last]).enumerate() {
            put_rows(group, self.0[n].each_mut().map(|row| &mut row.as_chunks_mut().0[at]));
        }
    }

    /// The multiple of each lane.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn pick(&self, multiples: &[u64; 8]) -> Cached {
        let mut rows = [&self.0[0][0]; 8];
        for (lane, row) in rows.iter_mut().enumerate() {
            *row = &self.0[multiples[lane] as usize][lane];
        }
        let ([sum, difference, t], d0) = numbers(rows);
        let [d1, d2, d3, d4] = group(rows, 4);
        Cached { sum, difference, t, z: Fe([d0, d1, d2, d3, d4]) }
    }
}

impl Base {
    /// Of the base point and of 2^128 times it.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    pub(super) fn both(curve: &Curve) -> [Self; 2] {
        let high = ED25519_BASEPOINT_POINT * (Scalar::from(u128::MAX) + Scalar::ONE);
        [Self::new(ED25519_BASEPOINT_POINT, curve), Self::new(high, curve)]
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    fn new(point: EdwardsPoint, curve: &Curve) -> Self {
        let mut table = Self([[0; 128]; LARGE]);
        for (n, rows) in table.0.chunks_mut(8).enumerate() {
            let mut bytes = [[0; 32]; 8];
            for (lane, bytes) in (0..).zip(&mut bytes) {
                *bytes = (point * Scalar::from(8 * n as u64 + lane)).compress().to_bytes();
            }
            let words = columns(bytes.each_ref());
            let Fixed { sum, difference, t } = curve.fixed(&curve.decode([&words; 2])[0].0);
            let groups = groups([&sum, &difference, &t], t.0[4]);
            let mut turned = [[0; 128]; 8];
            for (at, group) in groups.into_iter().enumerate() {
                put_rows(group, turned.each_mut().map(|row| &mut row.as_chunks_mut().0[at]));
            }
            rows.copy_from_slice(&turned[..rows.len()]);
        }
        table
    }

    /// The multiple of each lane.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn pick(&self, multiples: &[u64; 8]) -> Fixed {
        let rows = multiples.each_ref().map(|multiple| &self.0[*multiple as usize]);
        let ([sum, difference, t], _) = numbers(rows);
        Fixed { sum, difference, t }
    }
}
