//! Poly1305 of eight packets abreast: one lane a packet (RFC 8439 §2.8).
//!
//! Owns: the numbers of up to eight packets, of any lengths: a lane whose packet has ended keeps its number. While all have 64
//! bytes, two blocks are one step, h r^2 + m r + n, carried once; later the same goes by masks, with r and 0 for r^2 and m in
//! the lane of a last odd block.

use super::limbs::{Factor, Limbs, Sum, choose, mark, message, tags};
use super::vector::{V, from_words, load, load_part, transpose8, wipe};
use std::arch::x86_64::*;

/// Packets of a set.
pub(super) const ABREAST: usize = 8;

/// The numbers of up to eight packets.
#[derive(Clone, Copy)]
pub(super) struct Abreast {
    pub(super) hash: Limbs,
    pub(super) r: Factor,
    r2: Factor,
    /// The keys' second halves.
    last: [V; 2],
}

impl Abreast {
    /// With the keys of Poly1305: 64-bit words 0 to 3 of each lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512vbmi2")]
    pub(super) fn new([low, high, last_low, last_high]: [V; 4]) -> Self {
        let r = Factor::of_key(low, high);
        Self { hash: [_mm512_setzero_si512(); 3], r, r2: r.square(), last: [last_low, last_high] }
    }

    /// Takes the 64-byte blocks `from..to` of each text that has them; what ends within is filled up with zeros to 16 bytes.
    /// Lanes without a packet have any text. `lens` are their lengths.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma,avx512vbmi2,bmi2")]
    pub(super) fn absorb(&mut self, texts: &[&[u8]; ABREAST], lens: &[u64; ABREAST], from: usize, to: usize) {
        let (mut shortest, mut longest) = (usize::MAX, 0);
        for text in texts {
            shortest = shortest.min(text.len());
            longest = longest.max(text.len());
        }
        let whole = (shortest / 64).min(to);
        let mut rows = [_mm512_setzero_si512(); ABREAST];
        for block in from..whole {
            for (row, text) in rows.iter_mut().zip(texts) {
                if let Some(bytes) = text[block * 64..].first_chunk() {
                    *row = load(bytes);
                }
            }
            self.whole::<false>(&rows);
        }
        for block in from.max(whole)..to.min(longest.div_ceil(64)) {
            for (row, text) in rows.iter_mut().zip(texts) {
                *row = load_part(text.get(block * 64..).unwrap_or_default());
            }
            self.part(&rows, block, lens);
        }
    }

    /// Takes a 64-byte block of each packet. `FIRST`: nothing was before it.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512vbmi2")]
    pub(super) fn whole<const FIRST: bool>(&mut self, rows: &[V; ABREAST]) {
        let mark = mark();
        let [a, b, c, d, e, f, g, h] = transpose8(rows);
        let sum = Sum::of(message(c, d, mark)).plus(&message(a, b, mark), &self.r);
        let hash = if FIRST { sum.carry() } else { sum.plus(&self.hash, &self.r2).carry() };
        let sum = Sum::of(message(g, h, mark)).plus(&message(e, f, mark), &self.r);
        self.hash = sum.plus(&hash, &self.r2).carry();
    }

    /// Takes what 64-byte block `block` has of packets of these lengths; zeros behind their ends.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512vbmi2")]
    pub(super) fn part(&mut self, rows: &[V; ABREAST], block: usize, lens: &[u64; ABREAST]) {
        let (mark, lens) = (mark(), from_words(lens));
        let columns = transpose8(rows);
        for (step, four) in columns.as_chunks::<4>().0.iter().enumerate() {
            let at = (block * 64 + step * 32) as i64;
            let some = _mm512_cmpgt_epu64_mask(lens, _mm512_set1_epi64(at));
            if some == 0 {
                break;
            }
            let both = _mm512_cmpgt_epu64_mask(lens, _mm512_set1_epi64(at + 16));
            let (one, two) = (message(four[0], four[1], mark), message(four[2], four[3], mark));
            let next = if some == both {
                Sum::of(two).plus(&one, &self.r).plus(&self.hash, &self.r2)
            } else {
                // A lane's last odd block takes the place of the second one, and nothing that of the first.
                let nothing = [_mm512_setzero_si512(); 3];
                let sum = Sum::of(choose(both, &two, &one)).plus(&choose(both, &one, &nothing), &self.r);
                sum.plus(&self.hash, &self.r2.or(both, &self.r))
            };
            self.hash = choose(some, &next.carry(), &self.hash);
        }
    }

    /// The tags' low and high halves, of texts and additional data of these lengths.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi2")]
    pub(super) fn finish(&self, aads: V, texts: V) -> [V; 2] {
        let lengths = message(aads, texts, mark());
        let sum = Sum::zero().plus(&lengths, &self.r).plus(&self.hash, &self.r2);
        tags(sum.carry(), self.last[0], self.last[1])
    }

    /// Forgets all.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn wipe(&mut self) {
        wipe(&mut self.hash);
        wipe(&mut self.last);
        self.r.wipe();
        self.r2.wipe();
    }
}

/// The tags of a key of Poly1305, as [`Abreast::new`] has it, and numbers, of texts of these lengths without additional data.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi2")]
pub(super) fn tags_of([low, high, last_low, last_high]: &[V; 4], hash: &Limbs, texts: V) -> [V; 2] {
    let r = Factor::of_key(*low, *high);
    let lengths = message(_mm512_setzero_si512(), texts, mark());
    let hash = Sum::of(lengths).plus(hash, &r).carry();
    tags(Sum::zero().plus(&hash, &r).carry(), *last_low, *last_high)
}
