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
use lanes::{LANES, Walk};
use std::arch::x86_64::*;
use tags::{Tags, alone_of};
use vector::{transpose16, wipe};

/// Packets of a group.
pub(super) const GROUP: usize = 16;
/// 64-byte blocks of each packet between ChaCha20 and Poly1305 at most: 16 KiB in all.
const WINDOW: u32 = 16;

/// Whether this processor has what it takes: Ice Lake, Zen 4, and later.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512ifma")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("bmi2")
}

/// Seals or opens the jobs `picks`, the longest first.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
pub(super) fn run<const OPEN: bool>(jobs: &mut [Job<'_>], picks: &[u8]) {
    for picks in picks.chunks(GROUP) {
        let mut group = Group::of(jobs, picks);
        let walk = Walk::new(group.lens());
        if walk.left() > FEW as u64 {
            wide::<OPEN>(&mut group, walk);
        } else {
            narrow::<OPEN>(&mut group, walk);
        }
        group.end(jobs, picks);
    }
}

/// A group that is done in one pass of [`few`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn narrow<const OPEN: bool>(group: &mut Group<'_>, mut walk: Walk) {
    let mut rows = [_mm512_setzero_si512(); FEW];
    let lanes = walk.pass();
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
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn wide<const OPEN: bool>(group: &mut Group<'_>, mut walk: Walk) {
    let (alone, count) = (alone_of(group.lens()), group.count());
    let mut columns = Columns::of(&group.states);
    let mut rows = [_mm512_setzero_si512(); LANES];

    // The first pass has the keys of Poly1305 in its first lanes, in the order of the packets.
    let mut lanes = walk.pass();
    let words = if lanes.count > GROUP {
        let [words, more] = columns.two(&lanes);
        rows[GROUP..].copy_from_slice(&transpose16(&more));
        words
    } else {
        columns.one(&lanes)
    };
    let mut tags = Tags::of_words(&words, alone, count);
    if count < GROUP || alone > 0 {
        rows[..GROUP].copy_from_slice(&transpose16(&words));
        tags.keep(&rows);
    }
    tags.start::<OPEN>(group);
    loop {
        // What is in the lanes is written a pass ahead: vectors are slow to load what was just stored word by word.
        let next = walk.pass();
        if OPEN && lanes.last_block() > tags.absorbed() {
            tags.absorb(group, lanes.last_block().saturating_add(WINDOW));
        }
        group.apply(&lanes, &rows);
        if !OPEN && lanes.complete >= tags.absorbed().saturating_add(WINDOW) {
            tags.absorb(group, lanes.complete);
        }
        lanes = next;
        match lanes.count {
            0 => break,
            1..=FEW => few(&group.states, &lanes, &mut rows),
            _ => columns.rows(&lanes, &mut rows),
        }
    }
    tags.finish::<OPEN>(group);
    wipe(&mut rows);
    wipe(&mut columns.0);
}
