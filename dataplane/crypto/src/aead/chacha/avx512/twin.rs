//! Two groups of sixteen packets side by side, all of about one length: from jobs to tags.
//!
//! Owns: the order of their work. Each pass of ChaCha20 is a block of either group, so that none is alone, however many
//! blocks there are. Poly1305 of the first group is done in the integer unit, beside the rounds ([`super::beside`]) of the next blocks
//! when sealing, and of the same when opening; that of the second goes from the XOR to Poly1305 in registers. Where
//! there is one block only, the groups come one after the other, and the first one's Poly1305 is beside the second one's rounds.
//!
//! Keeps true: the states with the packets' keys are wiped at the end of a burst, and so are the numbers of Poly1305 that wait for other blocks.
//! Not wiped: key stream and what else goes through registers, and what the compiler spilled of them; arrays of them that are
//! wiped cost a twelfth of the time of short packets.

use super::super::super::{Job, TAG_LEN};
use super::GROUP;
use super::abreast::{ABREAST, tags_of};
use super::beside::{SHORT_STRIDE, Sixteen};
use super::group;
use super::keystream::{Columns, same_two};
use super::rank::{Sets, keys, sets};
use super::shape::{Shape, TWIN, aad_lens, lens};
use super::vector::{V, bytes, to_words, transpose16};
use std::arch::x86_64::*;

/// What is asked for ahead of its use.
const AHEAD: usize = 512;

/// A group's jobs.
type Jobs<'a> = [Job<'a>; GROUP];

/// The ciphertext of a block of a group. The integer unit reads it here: the packets themselves may lie so that they push one another
/// out of the first-level cache.
type Rows = [V; GROUP];

/// Seals or opens jobs of this shape.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
pub(in super::super) fn run<const OPEN: bool>(jobs: &mut [Job<'_>; TWIN], shape: &Shape) {
    let ([one, two], _) = jobs.as_chunks_mut::<GROUP>() else { return };
    let mut columns =
        [Columns::of_all(one.each_ref(), shape.one_key), Columns::of_all(two.each_ref(), shape.one_key)];
    if shape.blocks == 1 && shape.whole == 1 && !shape.has_aad {
        in_turn::<OPEN>(one, two, shape, &columns);
    } else {
        abreast::<OPEN>(one, two, shape, &columns);
    }
    for columns in &mut columns {
        columns.wipe();
    }
}

/// All have one whole block: one group after the other.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn in_turn<const OPEN: bool>(one: &mut Jobs<'_>, two: &mut Jobs<'_>, shape: &Shape, columns: &[Columns; 2]) {
    let words = same_two([&columns[0]; 2], [0, 1]);
    let keys = keys(&words[0]);
    let rows = turned::<OPEN, true>(one, 0, &words[1]);
    let mut beside = Sixteen::of_keys(&keys);
    let words = beside.run([&columns[1]; 2], [0, 1], bytes(&rows).each_ref());
    let hashes = beside.end();
    // What is long under way stands beside what is not.
    let (low, high) = one.split_at_mut(ABREAST);
    let first =
        [tags_of(&keys[0], &hashes[0], shape.texts(low)), tags_of(&keys[1], &hashes[1], shape.texts(high))];
    let mut second = sets(&words[0]);
    turn_into::<OPEN, true>(two, 0, &words[1], &mut second);
    let last = tags(two, shape, &second);
    for set in &mut second {
        set.wipe();
    }
    end::<OPEN>(one, first);
    end::<OPEN>(two, last);
}

/// Both groups side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn abreast<const OPEN: bool>(one: &mut Jobs<'_>, two: &mut Jobs<'_>, shape: &Shape, columns: &[Columns; 2]) {
    let &Shape { blocks, whole, has_aad, .. } = shape;
    let words = same_two(columns.each_ref(), [0; 2]);
    let (mut first, mut second) = (sets(&words[0]), sets(&words[1]));
    if has_aad {
        additional(one, &mut first);
        additional(two, &mut second);
    }
    // The blocks of the first group that have rounds beside them: when sealing, those of others.
    let beside_until = if OPEN { whole } else { blocks - 1 };
    let mut beside = Sixteen::of_sets(&first);
    let mut rows = [_mm512_setzero_si512(); GROUP];
    for block in 0..blocks {
        let of = columns.each_ref();
        let stream = [block + 1; 2];
        let words = if OPEN && block < beside_until {
            beside.run(of, stream, texts(one, block))
        } else if !OPEN && block > 0 {
            beside.run(of, stream, bytes(&rows).each_ref())
        } else {
            same_two(of, stream)
        };
        if block < whole {
            turn::<OPEN, true>(one, block, &words[0], &mut rows);
            turn_into::<OPEN, false>(two, block, &words[1], &mut second);
        } else {
            turn::<OPEN, false>(two, block, &words[1], &mut rows);
            absorb(two, block, false, &rows, &mut second);
            turn::<OPEN, false>(one, block, &words[0], &mut rows);
        }
    }
    for (set, hash) in first.iter_mut().zip(beside.end()) {
        set.hash = hash;
    }
    if beside_until < blocks {
        absorb(one, blocks - 1, blocks == whole, &rows, &mut first);
    }
    let tags = [tags(one, shape, &first), tags(two, shape, &second)];
    for set in first.iter_mut().chain(&mut second) {
        set.wipe();
    }
    end::<OPEN>(one, tags[0]);
    end::<OPEN>(two, tags[1]);
}

/// A block of the texts, which all have.
#[inline]
fn texts<'a>(jobs: &'a Jobs<'_>, block: u32) -> [&'a [u8; SHORT_STRIDE]; GROUP] {
    jobs.each_ref().map(|job| {
        job.data.get(block as usize * 64..).and_then(|text| text.first_chunk()).unwrap_or(&[0; SHORT_STRIDE])
    })
}

/// Poly1305 takes the additional data.
#[cold]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn additional(jobs: &Jobs<'_>, sets: &mut Sets) {
    for (jobs, set) in jobs.as_chunks::<ABREAST>().0.iter().zip(sets) {
        set.absorb(&jobs.each_ref().map(|job| job.aad), &aad_lens(jobs), 0, usize::MAX);
    }
}

/// Text XOR key stream of a block of one packet.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
fn turn_one<const OPEN: bool, const WHOLE: bool>(job: &mut Job<'_>, at: usize, stream: V) -> V {
    let end = job.data.len() - TAG_LEN;
    group::turn_one::<OPEN, WHOLE, AHEAD>(&mut *job.data, end, at, stream)
}

/// Text XOR key stream of a block. Returns the ciphertext.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn turned<const OPEN: bool, const WHOLE: bool>(jobs: &mut Jobs<'_>, block: u32, words: &[V; GROUP]) -> Rows {
    let mut rows = transpose16(words);
    for (job, row) in jobs.iter_mut().zip(&mut rows) {
        *row = turn_one::<OPEN, WHOLE>(job, block as usize * 64, *row);
    }
    rows
}

/// The same; the ciphertext comes to be in `rows`.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn turn<const OPEN: bool, const WHOLE: bool>(
    jobs: &mut Jobs<'_>,
    block: u32,
    words: &[V; GROUP],
    rows: &mut Rows,
) {
    *rows = turned::<OPEN, WHOLE>(jobs, block, words);
}

/// The same of a whole block, whose ciphertext goes into `sets`. `FIRST`: nothing was before it.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn turn_into<const OPEN: bool, const FIRST: bool>(
    jobs: &mut Jobs<'_>,
    block: u32,
    words: &[V; GROUP],
    sets: &mut Sets,
) {
    let stream = transpose16(words);
    let halves = jobs.as_chunks_mut::<ABREAST>().0.iter_mut().zip(stream.as_chunks::<ABREAST>().0);
    for ((jobs, stream), set) in halves.zip(sets) {
        let mut rows = *stream;
        for (job, row) in jobs.iter_mut().zip(&mut rows) {
            *row = turn_one::<OPEN, true>(job, block as usize * 64, *row);
        }
        set.whole::<FIRST>(&rows);
    }
}

/// Poly1305 takes a block of the texts.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn absorb(jobs: &Jobs<'_>, block: u32, whole: bool, rows: &Rows, sets: &mut Sets) {
    for ((jobs, set), rows) in
        jobs.as_chunks::<ABREAST>().0.iter().zip(sets).zip(rows.as_chunks::<ABREAST>().0)
    {
        if whole {
            set.whole::<false>(rows);
        } else {
            set.part(rows, block as usize, &lens(jobs));
        }
    }
}

/// The tags.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi2")]
fn tags(jobs: &Jobs<'_>, shape: &Shape, sets: &Sets) -> [[V; 2]; 2] {
    let (low, high) = jobs.split_at(ABREAST);
    [sets[0].finish(shape.aads(low), shape.texts(low)), sets[1].finish(shape.aads(high), shape.texts(high))]
}

/// Writes or compares the tags, and ends the jobs.
#[inline]
#[target_feature(enable = "avx512f")]
fn end<const OPEN: bool>(jobs: &mut Jobs<'_>, tags: [[V; 2]; 2]) {
    for (jobs, [low, high]) in jobs.as_chunks_mut::<ABREAST>().0.iter_mut().zip(tags) {
        for (job, (low, high)) in jobs.iter_mut().zip(to_words(low).into_iter().zip(to_words(high))) {
            job.tag::<OPEN>(u128::from(low) | u128::from(high) << 64);
        }
    }
}
