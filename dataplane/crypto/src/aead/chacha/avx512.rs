//! ChaCha20-Poly1305 of up to sixteen packets at once, on AVX-512.
//!
//! Owns: a group from keys to tags. ChaCha20 and Poly1305 go their own ways through it: the blocks of ChaCha20 fill the
//! lanes one after the other, whatever packets they are of ([`lanes`], [`keystream`]); Poly1305 takes packets of about one
//! length eight abreast, and those that are far longer, or too few, alone ([`tags`]). When opening, Poly1305 is ahead of the
//! XOR, when sealing behind it, by no more than [`WINDOW`], so that long packets are still in the first-level cache.
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

/// A group of any size.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn wide<const OPEN: bool>(group: &mut Group<'_>, mut walk: Walk, bench: &mut Bench) {
    let (alone, count) = (alone_of(group.lens()), group.count());
    let Bench { columns, rows } = bench;
    *columns = Columns::of(&group.states);

    // The first pass has the keys of Poly1305 in its first lanes, in the order of the packets.
    let mut passes = [Lanes::none(), Lanes::none()];
    let [mut lanes, mut next] = passes.each_mut();
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
        match lanes.count {
            0 => break,
            1..=FEW => few(&group.states, lanes, rows),
            _ => columns.rows(lanes, rows),
        }
    }
    tags.finish::<OPEN>(group);
}
