//! Vectors from memory and back.
//!
//! Owns: every access to memory that the compiler does not check. Keeps true: what is read or written lies in the slice that
//! was passed; where a slice is shorter than the vector, the rest is not touched and reads as zeros (masked moves do not
//! fault on what the mask leaves out: Intel SDM volume 1, §15.6.4).

use std::arch::x86_64::*;
use zeroize::Zeroize;

/// Loads 16 bytes.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn load_16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the array is of 16 bytes.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Loads a lane's worth.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn load_lane(lane: &u128) -> __m128i {
    // SAFETY: it is of 16 bytes.
    unsafe { _mm_loadu_si128(std::ptr::from_ref(lane).cast()) }
}

/// Loads four lanes.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn load_lanes(lanes: &[u128; 4]) -> __m512i {
    // SAFETY: the array is of 64 bytes.
    unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
}

/// Loads 64 bytes.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn load_64(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the array is of 64 bytes.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Loads 12 bytes; zeros behind them.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn load_12([a, b, c, d, e, f, g, h, i, j, k, l]: &[u8; 12]) -> __m128i {
    let first = i64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
    _mm_insert_epi32::<2>(_mm_cvtsi64_si128(first), i32::from_le_bytes([*i, *j, *k, *l]))
}

/// Whether a vector of `width` bytes from where `bytes` begin, which are fewer, goes into another page: if that is not mapped,
/// a masked move costs hundreds of clocks, though it does not touch it.
#[inline]
fn leaves_page(bytes: &[u8], width: usize) -> bool {
    bytes.len() < width && bytes.as_ptr().addr() % 4096 > 4096 - width
}

/// The first 64 bytes at most, zeros behind them, by a copy, which is wiped.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
fn load_by_copy(bytes: &[u8]) -> __m512i {
    let mut own = [0; 64];
    own[..bytes.len()].copy_from_slice(bytes);
    let value = load_64(&own);
    own.zeroize();
    value
}

/// As many bytes as there is room for, fewer than 64, by a copy, which is wiped.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
fn store_by_copy(bytes: &mut [u8], value: __m512i) {
    let mut own = [0; 64];
    store_64(&mut own, value);
    let len = bytes.len();
    bytes.copy_from_slice(&own[..len]);
    own.zeroize();
}

/// Loads the first 16 bytes at most; zeros behind them.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn load_up_to_16(bytes: &[u8]) -> __m128i {
    if bytes.is_empty() {
        // It may point anywhere, also to what is not mapped.
        return _mm_setzero_si128();
    }
    if leaves_page(bytes, 16) {
        return _mm512_castsi512_si128(load_by_copy(bytes));
    }
    let mask = _bzhi_u32(0xffff, bytes.len().min(16) as u32) as u16;
    // SAFETY: the mask has a bit for each byte of the slice, 16 at most, and what has none is not touched.
    unsafe { _mm_maskz_loadu_epi8(mask, bytes.as_ptr().cast()) }
}

/// Loads the first 64 bytes at most; zeros behind them.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn load_up_to_64(bytes: &[u8]) -> __m512i {
    if bytes.is_empty() {
        return _mm512_setzero_si512();
    }
    if leaves_page(bytes, 64) {
        return load_by_copy(bytes);
    }
    // SAFETY: the mask has a bit for each byte of the slice, 64 at most, and what has none is not touched.
    unsafe { _mm512_maskz_loadu_epi8(mask_of(bytes.len()), bytes.as_ptr().cast()) }
}

/// Stores 16 bytes.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn store_16(bytes: &mut [u8; 16], value: __m128i) {
    // SAFETY: the array is of 16 bytes.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), value) }
}

/// Stores 64 bytes.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn store_64(bytes: &mut [u8; 64], value: __m512i) {
    // SAFETY: the array is of 64 bytes.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), value) }
}

/// Stores as many bytes as there is room for, 64 at most. Returns them, with zeros behind.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn store_up_to_64(bytes: &mut [u8], value: __m512i) -> __m512i {
    if bytes.is_empty() {
        return _mm512_setzero_si512();
    }
    let mask = mask_of(bytes.len());
    if leaves_page(bytes, 64) {
        store_by_copy(bytes, value);
        return _mm512_maskz_mov_epi8(mask, value);
    }
    // SAFETY: the mask has a bit for each byte of the slice, 64 at most, and what has none is not touched.
    unsafe { _mm512_mask_storeu_epi8(bytes.as_mut_ptr().cast(), mask, value) };
    _mm512_maskz_mov_epi8(mask, value)
}

/// A bit for each of the first `len` bytes, 64 at most.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
fn mask_of(len: usize) -> u64 {
    // The instruction looks at the lowest byte of its index only.
    _bzhi_u64(u64::MAX, len.min(64) as u32)
}

/// The bits of a vector.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn bits(value: __m128i) -> u128 {
    u128::from(_mm_cvtsi128_si64(value) as u64) | u128::from(_mm_extract_epi64::<1>(value) as u64) << 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_at_the_edge_of_a_page_is_moved_as_any_other() {
        if crate::aead::gcm::tests::skipped() {
            return;
        }
        let mut bytes = vec![0xa5; 3 * 4096];
        let edge = bytes.as_ptr().align_offset(4096) + 4096;
        for len in 0..=64 {
            for at in edge - 70..=edge {
                let (mut back, mut small) = ([0xff; 64], [0xff; 16]);
                bytes[at..at + len].fill(0x5c);
                // SAFETY: the features are there: asked above.
                unsafe {
                    store_64(&mut back, load_up_to_64(&bytes[at..at + len]));
                    store_16(&mut small, load_up_to_16(&bytes[at..at + len.min(16)]));
                    store_up_to_64(&mut bytes[at..at + len], _mm512_set1_epi8(-0x5b));
                }
                let expected = |n: usize| if n < len { 0x5c } else { 0 };
                assert!(back.iter().enumerate().all(|(n, byte)| *byte == expected(n)), "{len} at {at}");
                assert!(small.iter().enumerate().all(|(n, byte)| *byte == expected(n)), "{len} at {at}");
                assert!(bytes.iter().all(|byte| *byte == 0xa5), "{len} at {at}");
            }
        }
    }

    #[test]
    fn a_short_slice_is_all_that_is_touched() {
        if crate::aead::gcm::tests::skipped() {
            return;
        }
        let bytes: Vec<u8> = (1..=80).collect();
        for len in 0..=80 {
            let (mut back, mut kept) = ([0xff; 64], [0xa5; 80]);
            // SAFETY: the features are there: asked above.
            unsafe {
                store_64(&mut back, load_up_to_64(&bytes[..len]));
                let stored = store_up_to_64(&mut kept[..len], load_64(&back));
                assert_eq!(_mm512_cmpneq_epi8_mask(stored, load_64(&back)), 0, "{len}");
            }
            let most = len.min(64);
            assert_eq!(back[..most], bytes[..most], "{len}");
            assert!(back[most..].iter().all(|byte| *byte == 0), "{len}");
            assert_eq!(kept[..most], bytes[..most], "{len}");
            assert!(kept[most..].iter().all(|byte| *byte == 0xa5), "{len}");
        }
    }
}
