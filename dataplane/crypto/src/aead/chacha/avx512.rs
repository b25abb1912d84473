//! ChaCha20-Poly1305 of up to sixteen packets at once, on AVX-512, or of two times sixteen ([`twin`]).
//!
//! Owns: a group from keys to tags, by two ways. As long as most packets go on, each has a lane of its own, and its
//! ciphertext goes from the XOR to Poly1305 in registers ([`rank`]). What is left, and smaller groups, is done apart: blocks of
//! ChaCha20 fill the lanes one after the other, whatever packets they are of ([`lanes`], [`keystream`]); Poly1305 takes packets
//! of about one length eight abreast, and those that are far longer, or too few, alone ([`tags`]). There Poly1305 is ahead of
//! the XOR when opening, and behind it when sealing, by no more than [`WINDOW`], so that long packets are still in the
//! first-level cache.
//!
//! Keeps true: what comes of keys and lies in arrays (states, key stream, keys of Poly1305) is wiped at the end. Not wiped:
//! the registers, and what the compiler spilled of them; of two groups side by side that is all of the key stream.

mod abreast;
mod alone;
mod beside;
mod group;
mod keystream;
mod lanes;
mod limbs;
mod rank;
mod rounds;
pub(super) mod shape;
mod tags;
pub(super) mod twin;
mod vector;

use super::super::Job;
use group::Group;
use keystream::{Columns, FEW, few};
use lanes::{LANES, Lanes, Walk};
use rank::Bench;
use std::arch::x86_64::*;
use std::sync::LazyLock;
use tags::{Tags, alone_of};
use vector::{V, state, transpose16, wipe};

/// Packets of a group.
pub(super) const GROUP: usize = 16;
/// 64-byte blocks of each packet between ChaCha20 and Poly1305 at most, and then those of a pass.
const WINDOW: u32 = 4;

/// Whether this processor has what it takes: Ice Lake, Zen 4, and later.
#[inline]
pub(super) fn is_available() -> bool {
    // Seven questions are a hundredth of a burst of short packets.
    static ANSWER: LazyLock<bool> = LazyLock::new(|| {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512ifma")
            && is_x86_feature_detected!("avx512vbmi2")
            && is_x86_feature_detected!("bmi2")
    });
    *ANSWER
}

/// As long as so many packets go on, each has a lane of its own.
const MOST: usize = 12;

/// Seals or opens the jobs `picks`, the longest first.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
pub(super) fn run<const OPEN: bool>(jobs: &mut [Job<'_>], picks: &[u8]) {
    // One that is not used costs as much as a packet.
    if picks.len() < MOST {
        return groups::<OPEN>(jobs, picks, None);
    }
    let mut bench = Bench::new();
    groups::<OPEN>(jobs, picks, Some(&mut bench));
    bench.wipe();
}

/// The same group by group; with a bench, if any has [`MOST`] packets.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn groups<const OPEN: bool>(jobs: &mut [Job<'_>], picks: &[u8], mut bench: Option<&mut Bench>) {
    for picks in picks.chunks(GROUP) {
        let group = &mut Group::of(jobs, picks);
        let walk = Walk::new(group.lens());
        if walk.left() > FEW as u64 {
            let mut columns = Columns::of(jobs, picks);
            wide::<OPEN>(group, walk, &columns, bench.as_deref_mut());
            columns.wipe();
        } else {
            let mut states = [_mm512_setzero_si512(); GROUP];
            for (own, pick) in states.iter_mut().zip(picks) {
                let job = &jobs[usize::from(*pick)];
                *own = state(job.key.array(), &job.nonce);
            }
            narrow::<OPEN>(group, walk, &states);
            wipe(&mut states[..picks.len()]);
        }
        group.end(jobs, picks);
    }
}

/// A group that is done in one pass of [`few`].
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn narrow<const OPEN: bool>(group: &mut Group<'_>, mut walk: Walk, states: &[V; GROUP]) {
    let mut rows = [_mm512_setzero_si512(); FEW];
    let mut lanes = Lanes::none();
    walk.pass(&mut lanes);
    few(states, &lanes, &mut rows);
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
fn wide<const OPEN: bool>(
    group: &mut Group<'_>,
    mut walk: Walk,
    columns: &Columns,
    bench: Option<&mut Bench>,
) {
    let alone = alone_of(group.lens());
    let common = walk.common(MOST);
    let Some(bench) = bench.filter(|_| common > 0 && alone == 0) else {
        return spread::<OPEN>(group, walk, alone, columns);
    };
    walk.skip(common);
    if walk.left() == 0 {
        return rank::run::<OPEN>(group, columns, common, bench, None);
    }
    let mut tags = Tags::none();
    rank::run::<OPEN>(group, columns, common, bench, Some(&mut tags));
    let mut rows = [_mm512_setzero_si512(); LANES];
    let mut lanes = Lanes::none();
    walk.pass(&mut lanes);
    key_stream(columns, &lanes, &mut rows);
    rest::<OPEN>(group, walk, lanes, &mut tags, columns, &mut rows);
}

/// A group whose blocks fill the lanes one after the other, whatever packets they are of; the first `alone` packets have Poly1305
/// alone.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn spread<const OPEN: bool>(group: &mut Group<'_>, mut walk: Walk, alone: usize, columns: &Columns) {
    let mut rows = [_mm512_setzero_si512(); LANES];
    let (count, mut lanes) = (group.count(), Lanes::none());
    // The first pass has the keys of Poly1305 in its first lanes, in the order of the packets.
    walk.pass(&mut lanes);
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
    rest::<OPEN>(group, walk, lanes, &mut tags, columns, &mut rows);
}

/// What is left of a group from the blocks `lanes` on, whose key stream is in `rows`, and the tags.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn rest<const OPEN: bool>(
    group: &mut Group<'_>,
    mut walk: Walk,
    mut lanes: Lanes,
    tags: &mut Tags,
    columns: &Columns,
    rows: &mut [V; LANES],
) {
    let mut next = Lanes::none();
    loop {
        // What is in the lanes is written a pass ahead: vectors are slow to load what was just stored word by word.
        walk.pass(&mut next);
        if OPEN && lanes.last_block() > tags.absorbed() {
            tags.absorb(group, lanes.last_block().saturating_add(WINDOW));
        }
        group.apply(&lanes, rows);
        if !OPEN && lanes.complete >= tags.absorbed().saturating_add(WINDOW) {
            tags.absorb(group, lanes.complete);
        }
        std::mem::swap(&mut lanes, &mut next);
        if lanes.count == 0 {
            break;
        }
        key_stream(columns, &lanes, rows);
    }
    tags.finish::<OPEN>(group);
    wipe(rows);
}

/// The key stream of the blocks `lanes`.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn key_stream(columns: &Columns, lanes: &Lanes, rows: &mut [V; LANES]) {
    if lanes.count <= FEW {
        let mut states = columns.states();
        few(&states, lanes, rows);
        wipe(&mut states);
    } else {
        columns.rows(lanes, rows);
    }
}
