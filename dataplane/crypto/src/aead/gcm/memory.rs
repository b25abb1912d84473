//! Vectors from memory and back.
//!
//! Owns: every access to memory that the compiler does not check. Keeps true: what is read or written lies in the slice that
//! was passed; where a slice is shorter than the vector, the rest is not touched and reads as zeros (masked moves do not
//! fault on what the mask leaves out: Intel SDM volume 1, §15.6.4).

use std::arch::x86_64::*;

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

/// Loads the first 16 bytes at most; zeros behind them.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn load_up_to_16(bytes: &[u8]) -> __m128i {
    let mask = _bzhi_u32(0xffff, bytes.len().min(16) as u32) as u16;
    // SAFETY: the mask has a bit for each byte of the slice, 16 at most, and what has none is not touched.
    unsafe { _mm_maskz_loadu_epi8(mask, bytes.as_ptr().cast()) }
}

/// Loads the first 64 bytes at most; zeros behind them.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn load_up_to_64(bytes: &[u8]) -> __m512i {
    if bytes.len() < 64 && bytes.as_ptr().addr() % 4096 > 4096 - 64 {
        let mut own = [0; 64];
        let len = bytes.len();
        own[..len].copy_from_slice(bytes);
        return load_64(&own);
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
    let mask = mask_of(bytes.len());
    if bytes.len() < 64 && bytes.as_ptr().addr() % 4096 > 4096 - 64 {
        let mut own = [0; 64];
        store_64(&mut own, value);
        let len = bytes.len();
        bytes.copy_from_slice(&own[..len]);
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
