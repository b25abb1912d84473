//! ChaCha20's blocks, up to sixteen at once, of any packets (RFC 8439 §2.3).
//!
//! Owns: the two ways to lay them into registers. Sixteen or 32: one lane a block, sixteen vectors of state; two states are
//! interleaved where there are as many blocks, because Zen 4 does not fill its pipes with one (150 ns for sixteen blocks, and
//! 175 with one). Up to twelve: two blocks a vector of 256 bits, whose latency is half of that of a whole one.

use super::super::super::Job;
use super::lanes::Lanes;
use super::rounds;
use super::vector::{CONSTANTS, V, from_halves, load_16, nonce, quads, transpose16, wipe};
use std::arch::x86_64::*;

/// More blocks than this are done one lane a block.
pub(super) const FEW: usize = 12;

/// Key stream of two blocks of sixteen packets, by columns.
pub(super) type Words = [[V; 16]; 2];

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

/// The states of sixteen packets by columns; the counter is not used.
pub(super) struct Columns(pub(super) [V; 16]);

impl Columns {
    /// Of the jobs `picks`, at most sixteen and at least one; lanes without a job do as the last.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    pub(super) fn of(jobs: &[Job<'_>], picks: &[u8]) -> Self {
        let mut own = [&jobs[usize::from(picks[0])]; 16];
        for n in 1..16 {
            own[n] = picks.get(n).map_or(own[n - 1], |pick| &jobs[usize::from(*pick)]);
        }
        // Neighbours most often have one key.
        let first = own[0].key;
        Self::of_all(own, own.iter().all(|job| std::ptr::eq(job.key, first)))
    }

    /// Of these; `one_key`: they have the same.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    pub(super) fn of_all(own: [&Job<'_>; 16], one_key: bool) -> Self {
        let zero = _mm512_setzero_si512();
        let mut columns = [zero; 16];
        for (column, word) in columns.iter_mut().zip(CONSTANTS) {
            *column = _mm512_set1_epi32(word);
        }
        if one_key {
            for (column, word) in columns[4..12].iter_mut().zip(own[0].key.array().as_chunks().0) {
                *column = _mm512_set1_epi32(i32::from_le_bytes(*word));
            }
        } else {
            for half in 0..2 {
                let mut rows = [_mm_setzero_si128(); 16];
                for (row, job) in rows.iter_mut().zip(own) {
                    *row = load_16(&job.key.array().as_chunks().0[half]);
                }
                [
                    columns[4 + 4 * half],
                    columns[5 + 4 * half],
                    columns[6 + 4 * half],
                    columns[7 + 4 * half],
                ] = quads(&rows);
            }
        }
        let mut rows = [_mm_setzero_si128(); 16];
        for (row, job) in rows.iter_mut().zip(own) {
            *row = nonce(&job.nonce);
        }
        [columns[13], columns[14], columns[15], _] = quads(&rows);
        Self(columns)
    }

    /// Forgets the keys.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn wipe(&mut self) {
        wipe(&mut self.0[4..12]);
    }

    /// The states by rows.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn states(&self) -> [V; 16] {
        transpose16(&self.0)
    }

    /// The states of the lanes from `from`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn states_of(&self, lanes: &Lanes, from: usize) -> [V; 16] {
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
        blocks(self.states_of(lanes, 0))
    }

    /// Block `block` of all packets, by columns.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn same(&self, block: u32, words: &mut [V; 16]) {
        let mut states = self.0;
        states[12] = _mm512_set1_epi32(block as i32);
        *words = blocks(states);
    }

    /// All 32 blocks `lanes`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn two(&self, lanes: &Lanes) -> [[V; 16]; 2] {
        let first = [self.states_of(lanes, 0), self.states_of(lanes, 16)];
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

/// A block of all packets of either column, by columns.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn same_two(columns: [&Columns; 2], blocks: [u32; 2]) -> Words {
    let [x, y] = columns.map(|columns| columns.0.as_ptr());
    // SAFETY: all are of these sizes, and aligned as vectors are.
    unsafe { rounds::alone(x, y, &counters(blocks)) }
}

/// Two counters, the same in all lanes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn counters([a, b]: [u32; 2]) -> [V; 2] {
    [_mm512_set1_epi32(a as i32), _mm512_set1_epi32(b as i32)]
}

/// The blocks of sixteen states.
#[inline]
#[target_feature(enable = "avx512f")]
fn blocks(first: [V; 16]) -> [V; 16] {
    let mut x = first;
    for _ in 0..10 {
        quarters!(x, (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15));
        quarters!(x, (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14));
    }
    added(x, first)
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
#[target_feature(enable = "avx512f,avx512vl")]
pub(super) fn few(states: &[V; 16], lanes: &Lanes, rows: &mut [V]) {
    match lanes.count {
        0..=2 => pairs::<1>(states, lanes, rows),
        3..=4 => pairs::<2>(states, lanes, rows),
        5..=8 => pairs::<4>(states, lanes, rows),
        _ => pairs::<6>(states, lanes, rows),
    }
}

/// Two blocks a vector of 256 bits, `N` times.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
// Four arrays go side by side.
#[allow(clippy::needless_range_loop)]
fn pairs<const N: usize>(states: &[V; 16], lanes: &Lanes, rows: &mut [V]) {
    let upper = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    let lower = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    let mut first = [[_mm256_setzero_si256(); N]; 4];
    for n in 0..N {
        let mut two = [_mm512_setzero_si512(); 2];
        for (state, at) in two.iter_mut().zip(2 * n..) {
            let of = states[lanes.packet[at] as usize % 16];
            *state = _mm512_mask_set1_epi32(of, 1 << 12, lanes.block[at] as i32);
        }
        let ab = _mm512_permutex2var_epi64(two[0], upper, two[1]);
        let cd = _mm512_permutex2var_epi64(two[0], lower, two[1]);
        first[0][n] = _mm512_castsi512_si256(ab);
        first[1][n] = _mm512_extracti64x4_epi64::<1>(ab);
        first[2][n] = _mm512_castsi512_si256(cd);
        first[3][n] = _mm512_extracti64x4_epi64::<1>(cd);
    }
    let [mut a, mut b, mut c, mut d] = first;
    macro_rules! each {
        ($x:ident = $n:ident, $to:expr) => {
            for $n in 0..N {
                $x[$n] = $to;
            }
        };
    }
    macro_rules! round {
        () => {
            each!(a = n, _mm256_add_epi32(a[n], b[n]));
            each!(d = n, _mm256_rol_epi32::<16>(_mm256_xor_si256(d[n], a[n])));
            each!(c = n, _mm256_add_epi32(c[n], d[n]));
            each!(b = n, _mm256_rol_epi32::<12>(_mm256_xor_si256(b[n], c[n])));
            each!(a = n, _mm256_add_epi32(a[n], b[n]));
            each!(d = n, _mm256_rol_epi32::<8>(_mm256_xor_si256(d[n], a[n])));
            each!(c = n, _mm256_add_epi32(c[n], d[n]));
            each!(b = n, _mm256_rol_epi32::<7>(_mm256_xor_si256(b[n], c[n])));
        };
    }
    for _ in 0..10 {
        round!();
        // The diagonals become columns, and back.
        each!(b = n, _mm256_shuffle_epi32::<0x39>(b[n]));
        each!(c = n, _mm256_shuffle_epi32::<0x4e>(c[n]));
        each!(d = n, _mm256_shuffle_epi32::<0x93>(d[n]));
        round!();
        each!(b = n, _mm256_shuffle_epi32::<0x93>(b[n]));
        each!(c = n, _mm256_shuffle_epi32::<0x4e>(c[n]));
        each!(d = n, _mm256_shuffle_epi32::<0x39>(d[n]));
    }
    let even = _mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13);
    let odd = _mm512_setr_epi64(2, 3, 6, 7, 10, 11, 14, 15);
    for n in 0..N {
        let mut row = [a[n], b[n], c[n], d[n]];
        for (word, first) in row.iter_mut().zip(first) {
            *word = _mm256_add_epi32(*word, first[n]);
        }
        let ab = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(row[0]), row[1]);
        let cd = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(row[2]), row[3]);
        rows[2 * n] = _mm512_permutex2var_epi64(ab, even, cd);
        rows[2 * n + 1] = _mm512_permutex2var_epi64(ab, odd, cd);
    }
}
