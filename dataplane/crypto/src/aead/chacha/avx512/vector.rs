//! Vectors of 64 bytes: how they come from memory and go back, and how rows become columns.
//!
//! Keeps true: only the bytes of the slice that is given are read or written; what is masked out is not touched.

use std::arch::x86_64::*;

/// The first row of RFC 8439's state.
pub(super) const CONSTANTS: [i32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// 512 bits.
pub(super) type V = __m512i;

/// Sixty-four bytes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(bytes: &[u8; 64]) -> V {
    // SAFETY: 64 bytes are there, and an unaligned load asks for no more.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Puts them back.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(bytes: &mut [u8; 64], vector: V) {
    // SAFETY: 64 bytes are there and ours alone.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), vector) }
}

/// Vectors as their bytes.
#[inline]
pub(super) fn bytes<const N: usize>(vectors: &[V; N]) -> &[[u8; 64]; N] {
    // SAFETY: as many bytes are there, and all of them are bytes.
    unsafe { &*std::ptr::from_ref(vectors).cast() }
}

/// Asks for the 64 bytes from `at` on ahead of their use, which may also be behind the end of `bytes`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn prefetch(bytes: &[u8], at: usize) {
    _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().wrapping_add(at).cast());
}

/// The first 64 of `bytes`, zeros where there are fewer.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
pub(super) fn load_part(bytes: &[u8]) -> V {
    let mask = _bzhi_u64(u64::MAX, bytes.len().min(64) as u32);
    if mask == 0 {
        // An empty slice may point anywhere, and a masked load from what is not mapped costs hundreds of clocks.
        return _mm512_setzero_si512();
    }
    // SAFETY: bytes that are masked out are not read, and those that are not are in the slice.
    unsafe { _mm512_maskz_loadu_epi8(mask, bytes.as_ptr().cast()) }
}

/// As many bytes of `vector` as `bytes` takes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
pub(super) fn store_part(bytes: &mut [u8], vector: V) {
    let mask = _bzhi_u64(u64::MAX, bytes.len().min(64) as u32);
    if mask == 0 {
        return;
    }
    // SAFETY: bytes that are masked out are not written, and those that are not are in the slice.
    unsafe { _mm512_mask_storeu_epi8(bytes.as_mut_ptr().cast(), mask, vector) }
}

/// The first `count` bytes of `vector`, zeros behind them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
pub(super) fn first_bytes(vector: V, count: usize) -> V {
    _mm512_maskz_mov_epi8(_bzhi_u64(u64::MAX, count.min(64) as u32), vector)
}

/// Sixty-four bytes of `bytes` from `at`, which may be ahead of its start; zeros where there are none.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
pub(super) fn load_around(bytes: &[u8], at: isize) -> V {
    let from = (-at).clamp(0, 64) as u32;
    let to = (bytes.len() as isize - at).clamp(0, 64) as u32;
    let mask = _bzhi_u64(u64::MAX, to) & !_bzhi_u64(u64::MAX, from);
    if mask == 0 {
        return _mm512_setzero_si512();
    }
    // SAFETY: bytes that are masked out are not read, and those that are not are in the slice; the address is only reckoned.
    unsafe { _mm512_maskz_loadu_epi8(mask, bytes.as_ptr().wrapping_offset(at).cast()) }
}

/// A vector for each of eight 64-bit words.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn from_words(words: &[u64; 8]) -> V {
    // SAFETY: 64 bytes are there, and an unaligned load asks for no more.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// Its eight 64-bit words.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn to_words(vector: V) -> [u64; 8] {
    let mut words = [0; 8];
    // SAFETY: 64 bytes are there and ours alone.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) };
    words
}

/// A vector for each of sixteen 32-bit words.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn from_halves(words: &[u32; 16]) -> V {
    // SAFETY: 64 bytes are there, and an unaligned load asks for no more.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// Sixteen bytes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 bytes are there, and an unaligned load asks for no more.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// A nonce, and zeros behind it.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn nonce([a, b, c, d, e, f, g, h, i, j, k, l]: &[u8; 12]) -> __m128i {
    let first = i64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
    _mm_insert_epi32::<2>(_mm_cvtsi64_si128(first), i32::from_le_bytes([*i, *j, *k, *l]))
}

/// Sixteen rows of four 32-bit words to columns.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn quads(rows: &[__m128i; 16]) -> [V; 4] {
    let mut own = [_mm512_setzero_si512(); 4];
    for (n, own) in own.iter_mut().enumerate() {
        let row = _mm512_castsi128_si512(rows[n]);
        let row = _mm512_inserti64x2::<1>(row, rows[n + 4]);
        let row = _mm512_inserti64x2::<2>(row, rows[n + 8]);
        *own = _mm512_inserti64x2::<3>(row, rows[n + 12]);
    }
    transpose_words(own)
}

/// RFC 8439's state of block 0 as a row: constants, key, counter, nonce.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn state(key: &[u8; 32], bytes: &[u8; 12]) -> V {
    let last = _mm_bslli_si128::<4>(nonce(bytes));
    let first = _mm_setr_epi32(CONSTANTS[0], CONSTANTS[1], CONSTANTS[2], CONSTANTS[3]);
    // SAFETY: 32 bytes are there, and an unaligned load asks for no more.
    let key = unsafe { _mm256_loadu_si256(key.as_ptr().cast()) };
    let row = _mm512_inserti64x2::<3>(_mm512_castsi128_si512(first), last);
    // The key's eight words from lanes 0.. to lanes 4..12.
    let key = _mm512_maskz_expand_epi32(0x0ff0, _mm512_castsi256_si512(key));
    _mm512_mask_mov_epi32(row, 0x0ff0, key)
}

/// Wipes vectors that held keys or what comes of them, where the optimiser may not leave it out.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn wipe(vectors: &mut [V]) {
    for vector in vectors {
        // SAFETY: it is ours alone, and aligned as its type asks.
        unsafe { std::ptr::write_volatile(vector, _mm512_setzero_si512()) };
    }
}

/// Rows of sixteen 32-bit words to columns.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose16(rows: &[V; 16]) -> [V; 16] {
    let mut quads = *rows;
    for quad in quads.as_chunks_mut().0 {
        *quad = transpose_words(*quad);
    }
    let mut columns = quads;
    for at in 0..4 {
        let four = transpose4([quads[at], quads[at + 4], quads[at + 8], quads[at + 12]]);
        columns[at] = four[0];
        columns[at + 4] = four[1];
        columns[at + 8] = four[2];
        columns[at + 12] = four[3];
    }
    columns
}

/// Rows of four 32-bit words to columns, in each 128 bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose_words([a, b, c, d]: [V; 4]) -> [V; 4] {
    let (ab, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (cd, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab, cd),
        _mm512_unpackhi_epi64(ab, cd),
        _mm512_unpacklo_epi64(ab_high, cd_high),
        _mm512_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// Rows of four 128-bit words to columns.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose4([a, b, c, d]: [V; 4]) -> [V; 4] {
    let (ab, ab_high) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
    let (cd, cd_high) = (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
    [
        _mm512_shuffle_i32x4::<0x88>(ab, cd),
        _mm512_shuffle_i32x4::<0xdd>(ab, cd),
        _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high),
        _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high),
    ]
}

/// Rows of eight 64-bit words to columns.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose8(rows: &[V; 8]) -> [V; 8] {
    let [mut even, mut odd] = [[rows[0]; 4]; 2];
    for pair in 0..4 {
        even[pair] = _mm512_unpacklo_epi64(rows[2 * pair], rows[2 * pair + 1]);
        odd[pair] = _mm512_unpackhi_epi64(rows[2 * pair], rows[2 * pair + 1]);
    }
    let [a, c, e, g] = transpose4(even);
    let [b, d, f, h] = transpose4(odd);
    [a, b, c, d, e, f, g, h]
}
