//! Packets side by side, each in a lane of its own from the key stream to its tag.
//!
//! Owns: the order of such a group's work. Its ciphertext goes from the XOR to Poly1305 in registers; but that of the first
//! eight packets, as long as all packets have whole blocks, goes there in the integer unit, beside the rounds of other blocks
//! ([`super::beside`]): of those that come next when sealing, and of its own when opening.
//! Keeps true: what has no packet, or whose packet has ended, is masked out; what comes of keys and lies in arrays is wiped.

use super::GROUP;
use super::abreast::{ABREAST, Abreast};
use super::beside::Eight;
use super::group::Group;
use super::keystream::{Columns, same_two};
use super::tags::Tags;
use super::vector::{V, transpose16, wipe};
use std::arch::x86_64::*;

/// Poly1305 of the packets of a group.
pub(super) type Sets = [Abreast; 2];

/// What groups work with, one after the other.
pub(super) struct Bench {
    words: [[V; GROUP]; 2],
    rows: [V; GROUP],
}

impl Bench {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn new() -> Self {
        let zero = _mm512_setzero_si512();
        Self { words: [[zero; GROUP]; 2], rows: [zero; GROUP] }
    }

    /// Forgets the key stream.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn wipe(&mut self) {
        wipe(self.words.as_flattened_mut());
    }
}

/// Seals or opens the first `blocks` 64-byte blocks of text of a group, at least one. Without `rest` there are no others, and the tags
/// are done, too; else Poly1305 is there, to which the others are missing.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
pub(super) fn run<const OPEN: bool>(
    group: &mut Group<'_>,
    columns: &Columns,
    blocks: u32,
    bench: &mut Bench,
    rest: Option<&mut Tags>,
) {
    let whole = group.lens().last().map_or(0, |shortest| (shortest / 64) as u32);
    let Bench { words, rows } = bench;
    *words = same_two([columns; 2], [0, 1]);
    let mut sets = sets(&words[0]);
    if group.has_aad() {
        for (n, set) in sets.iter_mut().enumerate() {
            set.absorb(&group.set_aads(n * ABREAST), group.set_lens(n * ABREAST)[0], 0, usize::MAX);
        }
    }
    turn::<OPEN>(group, 0, whole, &words[1], rows);
    absorb(&mut sets, group, 0, whole, rows);

    // The others in pairs. Whether the first set's part of a pair is done beside rounds:
    let mut is_beside = OPEN && 3 <= whole;
    let mut beside = if is_beside { Some(Eight::new(&sets[0])) } else { None };
    match &mut beside {
        Some(beside) => *words = beside.run([columns; 2], [2, 3], group.strides(1)),
        None => stream(columns, 1, blocks, words),
    }
    let mut block = 1;
    while block < blocks {
        let next = block + 2;
        if !OPEN {
            // Not beside the last block, if that is one: this takes a half of what two take.
            is_beside = next <= whole && next + 2 <= blocks;
            if is_beside && beside.is_none() {
                beside = Some(Eight::new(&sets[0]));
            }
        }
        // Ended where it lies: what it wipes there would stay if it moved.
        if !is_beside && let Some(ended) = &mut beside {
            ended.end(&mut sets[0]);
            beside = None;
        }
        if is_beside {
            pair::<OPEN>(group, block, words, &mut sets[1]);
        } else {
            for (block, words) in (block..blocks).zip(&*words) {
                turn::<OPEN>(group, block, whole, words, rows);
                absorb(&mut sets, group, block, whole, rows);
            }
        }
        if OPEN {
            is_beside = next + 2 <= whole;
        }
        match &mut beside {
            Some(beside) if is_beside => {
                let texts = group.strides(if OPEN { next } else { block } as usize);
                *words = beside.run([columns; 2], [next + 1, next + 2], texts);
            }
            _ => stream(columns, next, blocks, words),
        }
        block = next;
    }
    if let Some(beside) = &mut beside {
        beside.end(&mut sets[0]);
    }
    if let Some(tags) = rest {
        return tags.take_over(&mut sets, blocks);
    }
    for (n, set) in sets.iter_mut().enumerate() {
        group.finish::<OPEN>(n * ABREAST, set);
    }
}

/// The key stream of block `block` of the texts, and of the one behind it, if there are so many.
#[inline]
#[target_feature(enable = "avx512f")]
fn stream(columns: &Columns, block: u32, blocks: u32, words: &mut [[V; GROUP]; 2]) {
    match blocks.saturating_sub(block) {
        0 => (),
        1 => columns.same(block + 1, &mut words[0]),
        _ => *words = same_two([columns; 2], [block + 1, block + 2]),
    }
}

/// With the keys of Poly1305 in lanes, by columns.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512vbmi2")]
pub(super) fn sets(words: &[V; GROUP]) -> Sets {
    let [low, high] = keys(words);
    [Abreast::new(low), Abreast::new(high)]
}

/// The keys of Poly1305 of either eight packets.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn keys(words: &[V; GROUP]) -> [[V; 4]; 2] {
    let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    let high = _mm512_add_epi32(low, _mm512_set1_epi32(ABREAST as i32));
    let mut keys = [[low; 4], [high; 4]];
    for key in &mut keys {
        for (key, pair) in key.iter_mut().zip(words.as_chunks::<2>().0) {
            *key = _mm512_permutex2var_epi32(pair[0], *key, pair[1]);
        }
    }
    keys
}

/// Block `block` of the texts; its key stream is in `words`, by columns. The ciphertext comes to be in `rows`. All texts have
/// `whole` blocks.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn turn<const OPEN: bool>(
    group: &mut Group<'_>,
    block: u32,
    whole: u32,
    words: &[V; GROUP],
    rows: &mut [V; GROUP],
) {
    let stream = transpose16(words);
    let halves = rows.as_chunks_mut::<ABREAST>().0.iter_mut().zip(stream.as_chunks().0);
    for (n, (rows, stream)) in halves.enumerate() {
        *rows = if block < whole {
            group.turn::<OPEN, true>(n * ABREAST, block as usize, *stream)
        } else {
            group.turn::<OPEN, false>(n * ABREAST, block as usize, *stream)
        };
    }
}

/// Blocks `block` and `block` + 1 of the texts, which all have; the ciphertext of the second eight packets goes into their set.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn pair<const OPEN: bool>(group: &mut Group<'_>, block: u32, words: &[[V; GROUP]; 2], set: &mut Abreast) {
    for (block, words) in (block as usize..).zip(words) {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = transpose16(words);
        group.turn::<OPEN, true>(0, block, [a, b, c, d, e, f, g, h]);
        let sealed = group.turn::<OPEN, true>(ABREAST, block, [i, j, k, l, m, n, o, p]);
        set.whole::<false>(&sealed);
    }
}

/// Poly1305 takes block `block` of the texts.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn absorb(sets: &mut Sets, group: &Group<'_>, block: u32, whole: u32, rows: &[V; GROUP]) {
    for (n, (set, rows)) in sets.iter_mut().zip(rows.as_chunks().0).enumerate() {
        if block < whole {
            set.whole::<false>(rows);
        } else {
            set.part(rows, block as usize, group.set_lens(n * ABREAST)[1]);
        }
    }
}
