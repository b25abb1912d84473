//! SHA-512 (FIPS 180-4) of eight messages at once.

use super::turn;
use std::arch::x86_64::*;

/// Bytes of a block.
const BLOCK: usize = 128;
/// Bytes of the end of a message at least: a one and its length.
const END: usize = 1 + 16;

/// The first 80 primes.
const PRIMES: [u64; 80] = {
    let (mut primes, mut found, mut n) = ([0; 80], 0, 2);
    while found < 80 {
        let mut divisor = 2;
        while n % divisor != 0 {
            divisor += 1;
        }
        if divisor == n {
            primes[found] = n;
            found += 1;
        }
        n += 1;
    }
    primes
};

/// Of the square roots of the first primes, 64 bits behind the point (§5.3.5).
const START: [u64; 8] = roots(2);
/// Of the cube roots (§4.2.3).
const ROUNDS: [u64; 80] = roots(3);

const fn roots<const N: usize>(power: usize) -> [u64; N] {
    let (mut roots, mut n) = ([0; N], 0);
    while n < N {
        // The largest x whose power is not above the prime, in units of 2^-64.
        let (mut x, mut bit) = ([0; 4], 68);
        while bit > 0 {
            bit -= 1;
            let mut tried = x;
            tried[bit / 64] |= 1 << (bit % 64);
            let mut product = product(&tried, &tried);
            if power == 3 {
                product = self::product(&product, &tried);
            }
            if product[power] < PRIMES[n] {
                x = tried;
            }
        }
        roots[n] = x[0];
        n += 1;
    }
    roots
}

/// The low four words of a product.
const fn product(a: &[u64; 4], b: &[u64; 4]) -> [u64; 4] {
    let (mut out, mut i) = ([0; 4], 0);
    while i < 4 {
        let (mut carry, mut j) = (0, 0);
        while i + j < 4 {
            let sum = a[i] as u128 * b[j] as u128 + out[i + j] as u128 + carry;
            out[i + j] = sum as u64;
            carry = sum >> 64;
            j += 1;
        }
        i += 1;
    }
    out
}

/// A message: two parts of 32 bytes, and what comes behind them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) head: [&'a [u8; 32]; 2],
    pub(super) tail: &'a [u8],
}

impl Message<'_> {
    fn blocks(&self) -> usize {
        (64 + self.tail.len() + END).div_ceil(BLOCK)
    }

    /// Its block `n`, with what ends the message, in `block`.
    fn copy(&self, n: usize, block: &mut [u8; BLOCK]) {
        *block = [0; BLOCK];
        let from = if n == 0 {
            block[..32].copy_from_slice(self.head[0]);
            block[32..64].copy_from_slice(self.head[1]);
            64
        } else {
            0
        };
        // The tail begins 64 bytes behind the message's beginning.
        let tail = self.tail.get((n * BLOCK + from).saturating_sub(64)..).unwrap_or_default();
        let len = tail.len().min(BLOCK - from);
        block[from..from + len].copy_from_slice(&tail[..len]);
        let (end, total) = (64 + self.tail.len(), self.blocks());
        if (n * BLOCK..(n + 1) * BLOCK).contains(&end) {
            block[end - n * BLOCK] = 0x80;
        }
        if n + 1 == total {
            block[BLOCK - 16..].copy_from_slice(&(end as u128 * 8).to_be_bytes());
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn sum(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi64(a, b)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn xor(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi64::<0x96>(a, b, c)
}

/// The hashes, as eight words each.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
pub(super) fn hash(messages: &[Message<'_>; 8]) -> [__m512i; 8] {
    let mut state = [_mm512_setzero_si512(); 8];
    for (word, start) in state.iter_mut().zip(START) {
        *word = _mm512_set1_epi64(start.cast_signed());
    }
    let most = messages.iter().map(Message::blocks).max().unwrap_or(0);
    let mut ends = [[0; BLOCK]; 8];
    for n in 0..most {
        let mut live = 0;
        for (lane, (message, end)) in messages.iter().zip(&mut ends).enumerate() {
            if n < message.blocks() {
                live |= 1 << lane;
                message.copy(n, end);
            }
        }
        let mut words = [_mm512_setzero_si512(); 16];
        for (quarter, words) in words.chunks_exact_mut(4).enumerate() {
            let rows = ends.each_ref().map(|block| block.as_chunks().0).map(|rows| &rows[quarter]);
            words.copy_from_slice(&turn::columns(rows));
        }
        compress(&mut state, &mut words, live);
    }
    for word in &mut state {
        *word = swap(*word);
    }
    state
}

/// Each word with its bytes in the other order.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn swap(word: __m512i) -> __m512i {
    let order = _mm_set_epi64x(0x0809_0a0b_0c0d_0e0f, 0x0001_0203_0405_0607);
    _mm512_shuffle_epi8(word, _mm512_broadcast_i32x4(order))
}

/// §6.4.2, in the lanes of `live`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
fn compress(state: &mut [__m512i; 8], w: &mut [__m512i; 16], live: u8) {
    for word in w.iter_mut() {
        *word = swap(*word);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for part in ROUNDS.as_chunks::<16>().0 {
        for n in 0..16 {
            let s1 = xor(_mm512_ror_epi64::<14>(e), _mm512_ror_epi64::<18>(e), _mm512_ror_epi64::<41>(e));
            let choice = _mm512_ternarylogic_epi64::<0xca>(e, f, g);
            let t1 = sum(sum(h, sum(w[n], _mm512_set1_epi64(part[n].cast_signed()))), sum(s1, choice));
            let s0 = xor(_mm512_ror_epi64::<28>(a), _mm512_ror_epi64::<34>(a), _mm512_ror_epi64::<39>(a));
            let t2 = sum(s0, _mm512_ternarylogic_epi64::<0xe8>(a, b, c));
            (h, g, f, e, d, c, b, a) = (g, f, e, sum(d, t1), c, b, a, sum(t1, t2));
            // The word of 16 rounds later.
            let (x, y) = (w[(n + 1) % 16], w[(n + 14) % 16]);
            let x = xor(_mm512_ror_epi64::<1>(x), _mm512_ror_epi64::<8>(x), _mm512_srli_epi64::<7>(x));
            let y = xor(_mm512_ror_epi64::<19>(y), _mm512_ror_epi64::<61>(y), _mm512_srli_epi64::<6>(y));
            w[n] = sum(sum(w[n], w[(n + 9) % 16]), sum(x, y));
        }
    }
    for (word, new) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *word = _mm512_mask_add_epi64(*word, live, *word, new);
    }
}
