//! ChaCha20's blocks, up to sixteen at once, of any packets (RFC 8439 §2.3).
//!
//! Owns: the two ways to lay them into registers. Sixteen: one lane a block, sixteen vectors of state; a block costs 30
//! clocks on Zen 4 if all lanes are of use. Up to twelve: four blocks a vector, four vectors of state; the rounds' latency is
//! what it costs, about 270 clocks for four blocks, 300 for eight, 450 for twelve.

use super::lanes::Lanes;
use super::vector::{CONSTANTS, V, from_halves, transpose4, transpose16};
use std::arch::x86_64::*;

/// More blocks than this are done one lane a block.
pub(super) const FEW: usize = 12;

/// Four quarter rounds of one or two states, step by step.
macro_rules! quarters {
    ($x:ident, $(($a:expr, $b:expr, $c:expr, $d:expr)),*) => {
        $(quarters!(step $x, $a, $b, $d, 16);)*
        $(quarters!(step $x, $c, $d, $b, 12);)*
        $(quarters!(step $x, $a, $b, $d, 8);)*
        $(quarters!(step $x, $c, $d, $b, 7);)*
    };
    ($x:ident, $y:ident, $(($a:expr, $b:expr, $c:expr, $d:expr)),*) => {
        $(quarters!(step $x, $a, $b, $d, 16);)*
        $(quarters!(step $y, $a, $b, $d, 16);)*
        $(quarters!(step $x, $c, $d, $b, 12);)*
        $(quarters!(step $y, $c, $d, $b, 12);)*
        $(quarters!(step $x, $a, $b, $d, 8);)*
        $(quarters!(step $y, $a, $b, $d, 8);)*
        $(quarters!(step $x, $c, $d, $b, 7);)*
        $(quarters!(step $y, $c, $d, $b, 7);)*
    };
    (step $x:ident, $a:expr, $b:expr, $d:expr, $bits:literal) => {
        $x[$a] = _mm512_add_epi32($x[$a], $x[$b]);
        $x[$d] = _mm512_rol_epi32::<$bits>(_mm512_xor_si512($x[$d], $x[$a]));
    };
}

/// The states of sixteen packets by columns; the constants and the counter are not used.
pub(super) struct Columns(pub(super) [V; 16]);

impl Columns {
    /// Of packets' states.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn of(states: &[V; 16]) -> Self {
        Self(transpose16(states))
    }

    /// The states of the lanes from `from`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn states(&self, lanes: &Lanes, from: usize) -> [V; 16] {
        let packet = from_halves(lanes.packet[from..].first_chunk().unwrap_or(&[0; 16]));
        let mut states = self.0;
        for (word, constant) in states.iter_mut().zip(CONSTANTS) {
            *word = _mm512_set1_epi32(constant);
        }
        for word in &mut states[4..] {
            *word = _mm512_permutexvar_epi32(packet, *word);
        }
        states[12] = from_halves(lanes.block[from..].first_chunk().unwrap_or(&[0; 16]));
        states
    }

    /// The first sixteen blocks `lanes`, by columns: word n of all in vector n.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn one(&self, lanes: &Lanes) -> [V; 16] {
        let first = self.states(lanes, 0);
        let mut x = first;
        for _ in 0..10 {
            quarters!(x, (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15));
            quarters!(x, (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14));
        }
        added(x, first)
    }

    /// All 32 blocks `lanes`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn two(&self, lanes: &Lanes) -> [[V; 16]; 2] {
        let first = [self.states(lanes, 0), self.states(lanes, 16)];
        let [mut x, mut y] = first;
        for _ in 0..10 {
            quarters!(x, y, (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15));
            quarters!(x, y, (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14));
        }
        [added(x, first[0]), added(y, first[1])]
    }

    /// The blocks `lanes` as rows.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn rows(&self, lanes: &Lanes, rows: &mut [V; 32]) {
        if lanes.count > 16 {
            let [x, y] = self.two(lanes);
            rows[..16].copy_from_slice(&transpose16(&x));
            rows[16..].copy_from_slice(&transpose16(&y));
        } else {
            rows[..16].copy_from_slice(&transpose16(&self.one(lanes)));
        }
    }
}

/// The last step of a block.
#[inline]
#[target_feature(enable = "avx512f")]
fn added(mut x: [V; 16], first: [V; 16]) -> [V; 16] {
    for (word, first) in x.iter_mut().zip(first) {
        *word = _mm512_add_epi32(*word, first);
    }
    x
}

/// The blocks `lanes`, at most [`FEW`] of them, into the first rows of `rows`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn few(states: &[V; 16], lanes: &Lanes, rows: &mut [V]) {
    match lanes.count {
        0..=4 => fours::<1>(states, lanes, rows),
        5..=8 => fours::<2>(states, lanes, rows),
        _ => fours::<3>(states, lanes, rows),
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn fours<const N: usize>(states: &[V; 16], lanes: &Lanes, rows: &mut [V]) {
    let zero = _mm512_setzero_si512();
    let mut first = [[zero; N]; 4];
    for n in 0..N {
        let mut four = [zero; 4];
        for (lane, state) in four.iter_mut().enumerate() {
            let at = 4 * n + lane;
            let state_of = states[lanes.packet[at] as usize % 16];
            *state = _mm512_mask_set1_epi32(state_of, 1 << 12, lanes.block[at] as i32);
        }
        let four = transpose4(four);
        for (row, word) in first.iter_mut().zip(four) {
            row[n] = word;
        }
    }
    let [mut a, mut b, mut c, mut d] = first;
    macro_rules! each {
        ($x:ident = $of:expr) => {
            for n in 0..N {
                $x[n] = $of(n);
            }
        };
    }
    for _ in 0..10 {
        macro_rules! round {
            () => {
                each!(a = |n: usize| _mm512_add_epi32(a[n], b[n]));
                each!(d = |n: usize| _mm512_rol_epi32::<16>(_mm512_xor_si512(d[n], a[n])));
                each!(c = |n: usize| _mm512_add_epi32(c[n], d[n]));
                each!(b = |n: usize| _mm512_rol_epi32::<12>(_mm512_xor_si512(b[n], c[n])));
                each!(a = |n: usize| _mm512_add_epi32(a[n], b[n]));
                each!(d = |n: usize| _mm512_rol_epi32::<8>(_mm512_xor_si512(d[n], a[n])));
                each!(c = |n: usize| _mm512_add_epi32(c[n], d[n]));
                each!(b = |n: usize| _mm512_rol_epi32::<7>(_mm512_xor_si512(b[n], c[n])));
            };
        }
        round!();
        // The diagonals become columns, and back.
        each!(b = |n: usize| _mm512_shuffle_epi32::<0x39>(b[n]));
        each!(c = |n: usize| _mm512_shuffle_epi32::<0x4e>(c[n]));
        each!(d = |n: usize| _mm512_shuffle_epi32::<0x93>(d[n]));
        round!();
        each!(b = |n: usize| _mm512_shuffle_epi32::<0x93>(b[n]));
        each!(c = |n: usize| _mm512_shuffle_epi32::<0x4e>(c[n]));
        each!(d = |n: usize| _mm512_shuffle_epi32::<0x39>(d[n]));
    }
    for n in 0..N {
        let mut four = [a[n], b[n], c[n], d[n]];
        for (word, first) in four.iter_mut().zip(first) {
            *word = _mm512_add_epi32(*word, first[n]);
        }
        rows[4 * n..4 * n + 4].copy_from_slice(&transpose4(four));
    }
}
