//! The packets of a group, taken out of their jobs while they are worked on.
//!
//! Owns: their data, by number in the group: the longest is the first. Keeps true: after [`Group::end`] each job has its data
//! back, and is done or wiped.

use super::super::super::{Job, TAG_LEN};
use super::GROUP;
use super::abreast::{ABREAST, Abreast};
use super::beside::STRIDE;
use super::lanes::Lanes;
use super::vector::{V, first_bytes, from_words, load, load_part, prefetch, store, store_part, to_words};
use std::arch::x86_64::*;
use std::mem::take;

/// What is asked for ahead of its use: the same lane's bytes two passes on.
const AHEAD: usize = 256;

/// Up to sixteen packets.
pub(super) struct Group<'a> {
    data: [&'a mut [u8]; GROUP],
    aads: [&'a [u8]; GROUP],
    /// Of the texts and of the additional data, with room for a set that begins with the last packet.
    lens: [u64; GROUP + ABREAST],
    aad_lens: [u64; GROUP + ABREAST],
    count: usize,
    has_aad: bool,
    /// Whether a packet's tag was right, by bits.
    authentic: u32,
}

impl<'a> Group<'a> {
    /// Of the jobs `picks`, the longest first, at most [`GROUP`]; their lengths were checked.
    #[inline(always)]
    pub(super) fn of(jobs: &mut [Job<'a>], picks: &[u8]) -> Self {
        let mut group = Self {
            data: std::array::from_fn(|_| &mut [][..]),
            aads: [&[]; GROUP],
            lens: [0; GROUP + ABREAST],
            aad_lens: [0; GROUP + ABREAST],
            count: picks.len().min(GROUP),
            has_aad: false,
            authentic: 0,
        };
        for (n, pick) in picks.iter().enumerate().take(GROUP) {
            let job = &mut jobs[usize::from(*pick)];
            group.lens[n] = (job.data.len() - TAG_LEN) as u64;
            group.aad_lens[n] = job.aad.len() as u64;
            group.has_aad |= !job.aad.is_empty();
            group.aads[n] = job.aad;
            group.data[n] = take(&mut job.data);
        }
        group
    }

    /// How many packets.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Lengths of the texts.
    #[inline]
    pub(super) fn lens(&self) -> &[u64] {
        &self.lens[..self.count]
    }

    /// Whether any has additional data.
    #[inline]
    pub(super) fn has_aad(&self) -> bool {
        self.has_aad
    }

    /// A packet's text.
    #[inline]
    pub(super) fn text(&self, n: usize) -> &[u8] {
        &self.data[n % GROUP][..self.lens[n % GROUP] as usize]
    }

    /// A packet's additional data.
    #[inline]
    pub(super) fn aad(&self, n: usize) -> &[u8] {
        self.aads[n % GROUP]
    }

    /// The additional data of the set that begins with packet `from`.
    #[inline]
    pub(super) fn set_aads(&self, from: usize) -> [&'a [u8]; ABREAST] {
        let mut aads = [&[][..]; ABREAST];
        for (own, aad) in aads.iter_mut().zip(&self.aads[from..self.count]) {
            *own = aad;
        }
        aads
    }

    /// Lengths of the additional data and of the texts, of the set that begins with packet `from`.
    #[inline]
    pub(super) fn set_lens(&self, from: usize) -> [&[u64; ABREAST]; 2] {
        [&self.aad_lens, &self.lens].map(|lens| lens[from % GROUP..].first_chunk().unwrap_or(&[0; ABREAST]))
    }

    /// Text XOR key stream; the first block of a packet is none of its text's.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,bmi2")]
    pub(super) fn apply(&mut self, lanes: &Lanes, rows: &[V]) {
        for ((packet, block), row) in lanes.packet.iter().zip(lanes.block).zip(rows).take(lanes.count) {
            let Some(at) = block.checked_sub(1) else { continue };
            let n = *packet as usize % GROUP;
            let text = &mut self.data[n][at as usize * 64..self.lens[n] as usize];
            if text.len() > AHEAD {
                prefetch(text, AHEAD);
            }
            if let Some(text) = text.first_chunk_mut() {
                store(text, _mm512_xor_si512(load(text), *row));
            } else {
                store_part(text, _mm512_xor_si512(load_part(text), *row));
            }
        }
    }

    /// Text XOR key stream of 64-byte block `block` of eight packets from `first` on. Returns the ciphertext, with zeros behind
    /// the end of a text. `WHOLE`: all texts have the whole block.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,bmi2")]
    pub(super) fn turn<const OPEN: bool, const WHOLE: bool>(
        &mut self,
        first: usize,
        block: usize,
        rows: [V; ABREAST],
    ) -> [V; ABREAST] {
        // Written out, so that all is in registers.
        let [a, b, c, d, e, f, g, h] = rows;
        let mut one = |n: usize, row| {
            turn_one::<OPEN, WHOLE, AHEAD>(&mut *self.data[n], self.lens[n] as usize, block * 64, row)
        };
        [
            one(first, a),
            one(first + 1, b),
            one(first + 2, c),
            one(first + 3, d),
            one(first + 4, e),
            one(first + 5, f),
            one(first + 6, g),
            one(first + 7, h),
        ]
    }

    /// The bytes of the first packets from 64-byte block `block` on, which they have.
    #[inline]
    pub(super) fn strides(&self, block: usize) -> [&[u8; STRIDE]; ABREAST] {
        std::array::from_fn(|n| {
            self.text(n).get(block * 64..).and_then(|text| text.first_chunk()).unwrap_or(&[0; STRIDE])
        })
    }

    /// Writes or compares the tags of the set that begins with packet `from`, and forgets the set.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi2")]
    pub(super) fn finish<const OPEN: bool>(&mut self, from: usize, set: &mut Abreast) {
        let [aads, texts] = self.set_lens(from);
        let [low, high] = set.finish(from_words(aads), from_words(texts));
        for (n, (low, high)) in
            to_words(low).into_iter().zip(to_words(high)).enumerate().take(self.count - from)
        {
            self.tag::<OPEN>(from + n, u128::from(low) | u128::from(high) << 64);
        }
        set.wipe();
    }

    /// Writes the tag of a packet, or compares it.
    #[inline]
    pub(super) fn tag<const OPEN: bool>(&mut self, n: usize, tag: u128) {
        let Some(own) = self.data[n % GROUP].last_chunk_mut::<TAG_LEN>() else { return };
        let right = if OPEN {
            // The whole difference, and only then whether there is one.
            u128::from_le_bytes(*own) ^ tag == 0
        } else {
            *own = tag.to_le_bytes();
            true
        };
        self.authentic |= u32::from(right) << (n % GROUP);
    }

    /// Gives the jobs their data back, and ends them.
    #[inline]
    pub(super) fn end(&mut self, jobs: &mut [Job<'a>], picks: &[u8]) {
        for (n, pick) in picks.iter().enumerate().take(GROUP) {
            let job = &mut jobs[usize::from(*pick)];
            job.data = take(&mut self.data[n]);
            job.end(self.authentic >> n & 1 != 0);
        }
    }
}

/// Text XOR key stream of the 64 bytes of one packet from `at` on. Returns the ciphertext, with zeros behind the end of the text, `end`.
/// `WHOLE`: it has them all. `AHEAD`: so far on it is asked for what comes next.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
pub(super) fn turn_one<const OPEN: bool, const WHOLE: bool, const AHEAD: usize>(
    data: &mut [u8],
    end: usize,
    at: usize,
    row: V,
) -> V {
    if WHOLE {
        let Some(text) = data.get_mut(at..).and_then(|text| text.first_chunk_mut()) else { return row };
        prefetch(text, AHEAD);
        let old = load(text);
        let new = _mm512_xor_si512(old, row);
        store(text, new);
        if OPEN { old } else { new }
    } else {
        let text = data.get_mut(at..end).unwrap_or_default();
        let old = load_part(text);
        let new = _mm512_xor_si512(old, row);
        store_part(text, new);
        if OPEN { old } else { first_bytes(new, text.len()) }
    }
}
