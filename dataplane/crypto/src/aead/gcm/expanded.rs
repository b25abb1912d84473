//! An AES key made ready: its round keys and powers of H.
//!
//! Owns: what is derived of a key; zeroised when it goes. Keeps true: one exists only on a processor that has what
//! [`super`] needs, so that who holds one may call what needs it. Sources: FIPS 197 §5.2; SP 800-38D §6.3 (the hash subkey H); Gueron and
//! Kounavis, "Intel Carry-Less Multiplication Instruction and its Usage for Computing the GCM Mode" (2014) for H times x.

use super::ghash;
use super::memory::{bits, load_16, load_lane, load_lanes};
use std::arch::x86_64::*;
use zeroize::Zeroize;

/// Powers of H that are kept: for the 32 blocks of a step, the lengths and the additional data, and two more, so that those of a
/// step begin where a cache line does.
const POWERS: usize = 36;
/// Lanes of zeros behind the last power: where fewer than four blocks are left, four powers are read all the same.
const ZEROS: usize = 3;

/// An AES key and its powers of H.
#[derive(Clone)]
#[repr(C, align(64))]
pub(crate) struct Expanded {
    /// H^36 to H^1, each times x, reflected as carry-less multiplication wants it; then zeros.
    powers: [u128; POWERS + ZEROS],
    /// The rounds' keys: the first 11 or all 15 of them.
    round_keys: [u128; 15],
}

impl Expanded {
    /// Of a key of 16 or 32 bytes; `None`: the processor lacks what [`super`] needs, or it is another number of bytes.
    pub(crate) fn new(key: &[u8]) -> Option<Box<Self>> {
        if !super::is_available() {
            return None;
        }
        // On the heap from the start: what is moved leaves a copy behind.
        let mut own = Box::new(Self { powers: [0; POWERS + ZEROS], round_keys: [0; 15] });
        if let Ok(key) = key.try_into() {
            // SAFETY: the processor has the features: asked above.
            unsafe { own.expand_128(key) };
        } else if let Ok(key) = key.try_into() {
            // SAFETY: as above.
            unsafe { own.expand_256(key) };
        } else {
            return None;
        }
        Some(own)
    }

    /// FIPS 197 §5.2 with Nk = 4.
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    fn expand_128(&mut self, key: &[u8; 16]) {
        let mut words = load_16(key);
        self.round_keys[0] = bits(words);
        macro_rules! rounds {
            ($($n:literal $constant:literal)*) => {$(
                words = next(words, _mm_shuffle_epi32::<0xff>(_mm_aeskeygenassist_si128::<$constant>(words)));
                self.round_keys[$n] = bits(words);
            )*};
        }
        rounds!(1 0x01 2 0x02 3 0x04 4 0x08 5 0x10 6 0x20 7 0x40 8 0x80 9 0x1b 10 0x36);
        self.raise::<10>();
    }

    /// FIPS 197 §5.2 with Nk = 8.
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    fn expand_256(&mut self, key: &[u8; 32]) {
        let ([first, second], _) = key.as_chunks() else { return };
        let (mut even, mut odd) = (load_16(first), load_16(second));
        self.round_keys[0] = bits(even);
        self.round_keys[1] = bits(odd);
        macro_rules! rounds {
            ($($n:literal $constant:literal)*) => {$(
                even = next(even, _mm_shuffle_epi32::<0xff>(_mm_aeskeygenassist_si128::<$constant>(odd)));
                self.round_keys[$n] = bits(even);
                odd = next(odd, _mm_shuffle_epi32::<0xaa>(_mm_aeskeygenassist_si128::<0>(even)));
                self.round_keys[$n + 1] = bits(odd);
            )*};
        }
        rounds!(2 0x01 4 0x02 6 0x04 8 0x08 10 0x10 12 0x20);
        even = next(even, _mm_shuffle_epi32::<0xff>(_mm_aeskeygenassist_si128::<0x40>(odd)));
        self.round_keys[14] = bits(even);
        self.raise::<14>();
    }

    /// H and its powers, of the round keys.
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    fn raise<const ROUNDS: usize>(&mut self) {
        let mut h = self.round_key(0);
        for round in 1..ROUNDS {
            h = _mm_aesenc_si128(h, self.round_key(round));
        }
        h = _mm_aesenclast_si128(h, self.round_key(ROUNDS));
        let h = ghash::times_x(bits(h).swap_bytes());
        let mut power = h;
        for n in 1..=POWERS {
            self.powers[POWERS - n] = power;
            power = bits(ghash::multiply(load_lane(&power), load_lane(&h)));
        }
    }

    /// A round's key, from 0.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    pub(super) fn round_key(&self, n: usize) -> __m128i {
        load_lane(&self.round_keys[n])
    }

    /// H^`n`: 1 to 36.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    pub(super) fn power(&self, n: usize) -> __m128i {
        load_lane(&self.powers[POWERS - n])
    }

    /// H^`n`, H^(`n` - 1) and on, in `GROUPS` of four, down to H^1; zeros behind that. `n`: 1 to 36, and 4 * `GROUPS` - 3 at least.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
    pub(super) fn powers<const GROUPS: usize>(&self, n: usize) -> [__m512i; GROUPS] {
        let from = &self.powers[POWERS - n..][..4 * GROUPS];
        let (groups, _) = from.as_chunks::<4>();
        let mut powers = [_mm512_setzero_si512(); GROUPS];
        for group in 0..GROUPS {
            powers[group] = load_lanes(&groups[group]);
        }
        powers
    }
}

impl Drop for Expanded {
    fn drop(&mut self) {
        self.powers.zeroize();
        self.round_keys.zeroize();
    }
}

/// The next round's key of FIPS 197 §5.2: each word is added to all that follow it, then `mixed` to each.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
fn next(words: __m128i, mixed: __m128i) -> __m128i {
    let words = _mm_xor_si128(words, _mm_slli_si128::<4>(words));
    let words = _mm_xor_si128(words, _mm_slli_si128::<8>(words));
    _mm_xor_si128(words, mixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        std::array::from_fn(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap())
    }

    /// The round key as FIPS 197 prints it.
    fn printed(key: &Expanded, n: usize) -> [u8; 16] {
        key.round_keys[n].to_le_bytes()
    }

    #[test]
    fn a_key_of_128_bits_is_expanded_as_in_fips_197_a_1() {
        if crate::aead::gcm::tests::skipped() {
            return;
        }
        let key = Expanded::new(&bytes::<16>("2b7e151628aed2a6abf7158809cf4f3c")).unwrap();
        assert_eq!(printed(&key, 0), bytes("2b7e151628aed2a6abf7158809cf4f3c"));
        assert_eq!(printed(&key, 1), bytes("a0fafe1788542cb123a339392a6c7605"));
        assert_eq!(printed(&key, 9), bytes("ac7766f319fadc2128d12941575c006e"));
        assert_eq!(printed(&key, 10), bytes("d014f9a8c9ee2589e13f0cc8b6630ca6"));
    }

    #[test]
    fn a_key_of_256_bits_is_expanded_as_in_fips_197_a_3() {
        if crate::aead::gcm::tests::skipped() {
            return;
        }
        let hex = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";
        let key = Expanded::new(&bytes::<32>(hex)).unwrap();
        assert_eq!(printed(&key, 0), bytes("603deb1015ca71be2b73aef0857d7781"));
        assert_eq!(printed(&key, 1), bytes("1f352c073b6108d72d9810a30914dff4"));
        assert_eq!(printed(&key, 2), bytes("9ba354118e6925afa51a8b5f2067fcde"));
        assert_eq!(printed(&key, 3), bytes("a8b09c1a93d194cdbe49846eb75d5b9a"));
        assert_eq!(printed(&key, 14), bytes("fe4890d1e6188d0b046df344706c631e"));
    }

    #[test]
    fn other_lengths_are_no_keys() {
        for len in [0, 15, 17, 24, 31, 33] {
            assert!(Expanded::new(&vec![0; len]).is_none(), "{len}");
        }
    }
}
