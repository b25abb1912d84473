//! ChaCha20-Poly1305 of up to sixteen packets at once, on AVX-512.
//!
//! Owns: a group from keys to tags, by two ways. As long as most packets go on, each has a lane of its own, and its
//! ciphertext goes from the XOR to Poly1305 in registers ([`turn`]). What is left, and smaller groups, is done apart: blocks of
//! ChaCha20 fill the lanes one after the other, whatever packets they are of ([`lanes`], [`keystream`]); Poly1305 takes packets
//! of about one length eight abreast, and those that are far longer, or too few, alone ([`tags`]). There Poly1305 is ahead of
//! the XOR when opening, and behind it when sealing, by no more than [`WINDOW`], so that long packets are still in the
//! first-level cache.
//!
//! Keeps true: what comes of keys and lies in arrays (states, key stream, keys of Poly1305) is wiped at the end. Not wiped:
//! the registers, and what the compiler spilled of them.

mod abreast;
mod alone;
mod group;
mod keystream;
mod lanes;
mod limbs;
mod tags;
mod vector;

use super::super::Job;
use group::Group;
use keystream::{Columns, FEW, few};
use lanes::{LANES, Lanes, Walk};
use std::arch::x86_64::*;
use tags::{Tags, alone_of};
use vector::{V, transpose16, wipe};

/// Packets of a group.
pub(super) const GROUP: usize = 16;
/// 64-byte blocks of each packet between ChaCha20 and Poly1305 at most, and then those of a pass.
const WINDOW: u32 = 4;

/// Whether this processor has what it takes: Ice Lake, Zen 4, and later.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512ifma")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("bmi2")
}

/// As long as so many packets go on, each has a lane of its own.
const MOST: usize = 12;

/// What groups work with, one after the other.
struct Bench {
    columns: Columns,
    rows: [V; LANES],
}

/// Seals or opens the jobs `picks`, the longest first.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
pub(super) fn run<const OPEN: bool>(jobs: &mut [Job<'_>], picks: &[u8]) {
    let mut bench = None;
    for picks in picks.chunks(GROUP) {
        let mut group = Group::of(jobs, picks);
        let walk = Walk::new(group.lens());
        if walk.left() > FEW as u64 {
            let zero = _mm512_setzero_si512();
            if bench.is_none() {
                bench = Some(Bench { columns: Columns([zero; 16]), rows: [zero; LANES] });
            }
            let Some(bench) = &mut bench else { unreachable!() };
            wide::<OPEN>(&mut group, walk, bench);
        } else {
            narrow::<OPEN>(&mut group, walk);
        }
        group.end(jobs, picks);
    }
    if let Some(bench) = &mut bench {
        wipe(&mut bench.columns.0);
        wipe(&mut bench.rows);
    }
}

/// A group that is done in one pass of [`few`].
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn narrow<const OPEN: bool>(group: &mut Group<'_>, mut walk: Walk) {
    let mut rows = [_mm512_setzero_si512(); FEW];
    let mut lanes = Lanes::none();
    walk.pass(&mut lanes);
    few(&group.states, &lanes, &mut rows);
    let mut tags = Tags::of_rows(&rows, alone_of(group.lens()), group.count());
    tags.start::<OPEN>(group);
    if OPEN {
        tags.finish::<OPEN>(group);
        group.apply(&lanes, &rows);
    } else {
        group.apply(&lanes, &rows);
        tags.finish::<OPEN>(group);
    }
    wipe(&mut rows[..lanes.count]);
}

/// A group whose first `blocks` 64-byte blocks of text go lane = packet, from the key stream to Poly1305 in registers; `walk`
/// has the others.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn abreast<const OPEN: bool>(group: &mut Group<'_>, mut walk: Walk, blocks: u32, bench: &mut Bench) {
    let Bench { columns, rows } = bench;
    let whole = group.lens().last().map_or(0, |shortest| (shortest / 64) as u32);
    let Some(words) = rows.as_chunks_mut::<GROUP>().0.first_chunk_mut::<2>() else { unreachable!() };
    columns.same_two(0, words);
    let mut tags = Tags::of_words(&words[0], 0, group.count());
    tags.start::<OPEN>(group);
    turn::<OPEN>(group, &mut tags, 0, whole, &words[1]);
    let mut block = 1;
    while block + 1 < blocks {
        columns.same_two(block + 1, words);
        for words in &*words {
            turn::<OPEN>(group, &mut tags, block, whole, words);
            block += 1;
        }
    }
    if block < blocks {
        words[0] = columns.same(block + 1);
        turn::<OPEN>(group, &mut tags, block, whole, &words[0]);
    }
    if walk.left() > 0 {
        let mut passes = [Lanes::none(), Lanes::none()];
        let [lanes, next] = passes.each_mut();
        walk.pass(lanes);
        key_stream(group, columns, lanes, rows);
        rest::<OPEN>(group, walk, [lanes, next], &mut tags, columns, rows);
    }
    tags.finish::<OPEN>(group);
}

/// Block `block` of the texts; its key stream is in `words`, by columns. All texts have `whole` blocks.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn turn<const OPEN: bool>(
    group: &mut Group<'_>,
    tags: &mut Tags,
    block: u32,
    whole: u32,
    words: &[V; GROUP],
) {
    let at = block as usize;
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = transpose16(words);
    let (first, second) = ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]);
    if block < whole {
        let sealed = group.turn::<OPEN, true>(0, at, first);
        tags.take::<true>(group, 0, block, &sealed);
        let sealed = group.turn::<OPEN, true>(8, at, second);
        tags.take::<true>(group, 1, block, &sealed);
    } else {
        let sealed = group.turn::<OPEN, false>(0, at, first);
        tags.take::<false>(group, 0, block, &sealed);
        let sealed = group.turn::<OPEN, false>(8, at, second);
        tags.take::<false>(group, 1, block, &sealed);
    }
}

/// A group of any size.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn wide<const OPEN: bool>(group: &mut Group<'_>, mut walk: Walk, bench: &mut Bench) {
    bench.columns = Columns::of(&group.states);

    let (alone, count) = (alone_of(group.lens()), group.count());
    let common = walk.common(MOST);
    if common > 0 && alone == 0 {
        walk.skip(common);
        return abreast::<OPEN>(group, walk, common, bench);
    }
    let Bench { columns, rows } = bench;
    let mut passes = [Lanes::none(), Lanes::none()];
    let [lanes, next] = passes.each_mut();
    // The first pass has the keys of Poly1305 in its first lanes, in the order of the packets.
    walk.pass(lanes);
    let words = if lanes.count > GROUP {
        let [words, more] = columns.two(lanes);
        rows[GROUP..].copy_from_slice(&transpose16(&more));
        words
    } else {
        columns.one(lanes)
    };
    let mut tags = Tags::of_words(&words, alone, count);
    if count < GROUP || alone > 0 {
        rows[..GROUP].copy_from_slice(&transpose16(&words));
        tags.keep(rows);
    }
    tags.start::<OPEN>(group);
    rest::<OPEN>(group, walk, [lanes, next], &mut tags, columns, rows);
    tags.finish::<OPEN>(group);
}

/// What is left of a group from the blocks `lanes` on, whose key stream is in `rows`.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn rest<const OPEN: bool>(
    group: &mut Group<'_>,
    mut walk: Walk,
    [mut lanes, mut next]: [&mut Lanes; 2],
    tags: &mut Tags,
    columns: &Columns,
    rows: &mut [V; LANES],
) {
    loop {
        // What is in the lanes is written a pass ahead: vectors are slow to load what was just stored word by word.
        walk.pass(next);
        if OPEN && lanes.last_block() > tags.absorbed() {
            tags.absorb(group, lanes.last_block().saturating_add(WINDOW));
        }
        group.apply(lanes, rows);
        if !OPEN && lanes.complete >= tags.absorbed().saturating_add(WINDOW) {
            tags.absorb(group, lanes.complete);
        }
        std::mem::swap(&mut lanes, &mut next);
        if lanes.count == 0 {
            break;
        }
        key_stream(group, columns, lanes, rows);
    }
}

/// The key stream of the blocks `lanes`.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn key_stream(group: &Group<'_>, columns: &Columns, lanes: &Lanes, rows: &mut [V; LANES]) {
    if lanes.count <= FEW {
        few(&group.states, lanes, rows);
    } else {
        columns.rows(lanes, rows);
    }
}
