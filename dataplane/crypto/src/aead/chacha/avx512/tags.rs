//! The tags of a group: which packets' Poly1305 is done alone, which abreast, and how far it is.
//!
//! Owns: Poly1305 of a group. The first packets, the longest, may be alone; the others are in one or two sets of eight.
//! Keeps true: tags are compared whole, and what was opened with another tag is wiped.

use super::GROUP;
use super::abreast::{ABREAST, Abreast};
use super::alone;
use super::group::Group;
use super::vector::{V, transpose8, wipe};
use std::arch::x86_64::*;

/// Clocks on Zen 4, from the benchmark `chacha`: of a set's start and end, and of 64 bytes in it.
const SET: [u64; 2] = [200, 85];
/// The same of a packet alone.
const ALONE: [u64; 2] = [330, 13];

/// How many of the packets of these lengths, the longest first, are done alone, so that all together take the least time.
#[inline]
pub(super) fn alone_of(lens: &[u64]) -> usize {
    let blocks = |n: usize| lens.get(n).map_or(0, |len| len / 64 + 1);
    let set = |n: usize| if n < lens.len() { SET[0] + SET[1] * blocks(n) } else { 0 };
    // What is saved at most, if one packet is taken out of each set, is what the longest has more than the shortest.
    if lens.len() > 4 && SET[1] * (blocks(0) - blocks(lens.len() - 1)) <= ALONE[0] {
        return 0;
    }
    let (mut best, mut least, mut before) = (0, u64::MAX, 0);
    for alone in 0..=lens.len() {
        let clocks = before + set(alone) + set(alone + ABREAST);
        if clocks < least {
            (best, least) = (alone, clocks);
        }
        before += ALONE[0] + ALONE[1] * blocks(alone);
    }
    best
}

/// Poly1305 of a group.
pub(super) struct Tags {
    alone: usize,
    /// The rows with the keys of those that are alone.
    keys: Option<[V; GROUP]>,
    sets: [Option<Abreast>; 2],
    /// The tags of those that are alone, if these are made ahead.
    tags: Option<[u128; GROUP]>,
    /// 64-byte blocks of text that the sets have had.
    absorbed: u32,
}

impl Tags {
    /// With the keys of Poly1305 in lanes, by columns; [`Self::keep`] has to follow if any are `alone`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512vbmi2")]
    pub(super) fn of_words(words: &[V; 16], alone: usize, count: usize) -> Self {
        let mut sets = [None, None];
        for (n, set) in sets.iter_mut().enumerate() {
            let from = alone + n * ABREAST;
            if from < count {
                // Lane n of a 64-bit word has lane `from + n` of two 32-bit words.
                let lanes = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
                let lanes = _mm512_add_epi32(lanes, _mm512_set1_epi32(from as i32));
                let mut key = [lanes; 4];
                for (key, pair) in key.iter_mut().zip(words.as_chunks::<2>().0) {
                    *key = _mm512_permutex2var_epi32(pair[0], lanes, pair[1]);
                }
                *set = Some(Abreast::new(key));
            }
        }
        Self { alone, keys: None, sets, tags: None, absorbed: 0 }
    }

    /// Without any packet.
    #[inline]
    pub(super) fn none() -> Self {
        Self { alone: 0, keys: None, sets: [None, None], tags: None, absorbed: 0 }
    }

    /// Goes on with sets that have had `absorbed` 64-byte blocks of the texts, of packets none of which is alone. Nothing stays there.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn take_over(&mut self, sets: &mut [Abreast; 2], absorbed: u32) {
        for (own, set) in self.sets.iter_mut().zip(sets) {
            *own = Some(*set);
            set.wipe();
        }
        self.absorbed = absorbed;
    }

    /// With the keys of Poly1305 in rows.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512vbmi2")]
    pub(super) fn of_rows(rows: &[V], alone: usize, count: usize) -> Self {
        let mut sets = [None, None];
        for (n, set) in sets.iter_mut().enumerate() {
            let from = alone + n * ABREAST;
            if from < count {
                let mut own = [_mm512_setzero_si512(); ABREAST];
                for (own, row) in own.iter_mut().zip(&rows[from..count]) {
                    *own = *row;
                }
                let [a, b, c, d, ..] = transpose8(&own);
                *set = Some(Abreast::new([a, b, c, d]));
            }
        }
        let mut tags = Self { alone, keys: None, sets, tags: None, absorbed: 0 };
        tags.keep(rows);
        tags
    }

    /// Keeps the keys of those that are alone, which are the first rows.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn keep(&mut self, rows: &[V]) {
        if self.alone > 0 {
            let mut keys = [_mm512_setzero_si512(); GROUP];
            for (key, row) in keys.iter_mut().zip(rows).take(self.alone) {
                *key = *row;
            }
            self.keys = Some(keys);
        }
    }

    /// How many 64-byte blocks of the texts the sets have had.
    #[inline]
    pub(super) fn absorbed(&self) -> u32 {
        self.absorbed
    }

    /// Takes the additional data; when opening, this is also the moment for those that are alone.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
    pub(super) fn start<const OPEN: bool>(&mut self, group: &Group<'_>) {
        if group.has_aad() {
            for (n, set) in self.sets.iter_mut().enumerate() {
                if let Some(set) = set {
                    let from = self.alone + n * ABREAST;
                    let mut aads = [&[][..]; ABREAST];
                    for (n, aad) in aads.iter_mut().enumerate().take(group.count() - from) {
                        *aad = group.aad(from + n);
                    }
                    set.absorb(&aads, group.set_lens(from)[0], 0, usize::MAX);
                }
            }
        }
        if OPEN && self.alone > 0 {
            self.tags = Some(self.alone_tags(group));
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
    fn alone_tags(&mut self, group: &Group<'_>) -> [u128; GROUP] {
        let mut tags = [0; GROUP];
        if let Some(keys) = &mut self.keys {
            for ((n, key), tag) in keys.iter().enumerate().zip(&mut tags).take(self.alone) {
                *tag = alone::tag(*key, group.aad(n), group.text(n));
            }
            wipe(&mut keys[..self.alone]);
        }
        tags
    }

    /// Takes the texts up to 64-byte block `to`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
    pub(super) fn absorb(&mut self, group: &Group<'_>, to: u32) {
        for (n, set) in self.sets.iter_mut().enumerate() {
            if let Some(set) = set {
                let from = self.alone + n * ABREAST;
                // A lane without a packet does as the last does.
                let last = group.count() - 1;
                let mut texts = [&[][..]; ABREAST];
                for (n, text) in texts.iter_mut().enumerate() {
                    *text = group.text((from + n).min(last));
                }
                set.absorb(&texts, group.set_lens(from)[1], self.absorbed as usize, to as usize);
            }
        }
        self.absorbed = to;
    }

    /// Takes the rest, and writes or compares the tags.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
    pub(super) fn finish<const OPEN: bool>(&mut self, group: &mut Group<'_>) {
        self.absorb(group, u32::MAX);
        if self.alone > 0 {
            let tags = if let Some(tags) = self.tags { tags } else { self.alone_tags(group) };
            for (n, tag) in tags.iter().enumerate().take(self.alone) {
                group.tag::<OPEN>(n, *tag);
            }
        }
        for (n, set) in self.sets.iter_mut().enumerate() {
            if let Some(set) = set {
                let from = self.alone + n * ABREAST;
                group.finish::<OPEN>(from, set);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lengths_are_done_abreast_and_one_long_packet_alone() {
        assert_eq!(alone_of(&[1420; 16]), 0);
        assert_eq!(alone_of(&[64; 16]), 0);
        assert_eq!(alone_of(&[9000]), 1);
        assert_eq!(alone_of(&[9000, 64, 64, 64]), 1);
    }
}
