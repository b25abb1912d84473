//! Rows to columns and back: what lies one signature after the other, as vectors whose lane is the signature.

use std::arch::x86_64::*;

/// The four words of each of eight rows, as four vectors.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
pub(super) fn columns(rows: [&[u8; 32]; 8]) -> [__m512i; 4] {
    let mut pairs = [_mm512_setzero_si512(); 4];
    for (i, pair) in pairs.iter_mut().enumerate() {
        // SAFETY: each row has 32 bytes; the loads ask for no alignment.
        let (low, high) = unsafe {
            (_mm256_loadu_si256(rows[i].as_ptr().cast()), _mm256_loadu_si256(rows[i + 4].as_ptr().cast()))
        };
        *pair = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
    }
    turn(pairs)
}

/// The 32 bytes of each of eight rows, of four vectors of words.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
pub(super) fn put_rows(columns: [__m512i; 4], rows: [&mut [u8; 32]; 8]) {
    let pairs = turn(columns);
    for (i, row) in rows.into_iter().enumerate() {
        let half = if i < 4 {
            _mm512_castsi512_si256(pairs[i])
        } else {
            _mm512_extracti64x4_epi64::<1>(pairs[i - 4])
        };
        // SAFETY: the row has 32 bytes; the store asks for no alignment.
        unsafe { _mm256_storeu_si256(row.as_mut_ptr().cast(), half) };
    }
}

/// Each half of four vectors is a 4 by 4 matrix: both are transposed.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn turn(rows: [__m512i; 4]) -> [__m512i; 4] {
    let even = [_mm512_unpacklo_epi64(rows[0], rows[1]), _mm512_unpacklo_epi64(rows[2], rows[3])];
    let odd = [_mm512_unpackhi_epi64(rows[0], rows[1]), _mm512_unpackhi_epi64(rows[2], rows[3])];
    let first = _mm512_set_epi64(13, 12, 5, 4, 9, 8, 1, 0);
    let second = _mm512_set_epi64(15, 14, 7, 6, 11, 10, 3, 2);
    [
        _mm512_permutex2var_epi64(even[0], first, even[1]),
        _mm512_permutex2var_epi64(odd[0], first, odd[1]),
        _mm512_permutex2var_epi64(even[0], second, even[1]),
        _mm512_permutex2var_epi64(odd[0], second, odd[1]),
    ]
}
