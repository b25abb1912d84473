//! Two groups of sixteen packets side by side, all of about one length: from jobs to tags.
//!
//! Owns: the order of their work. Each pass of ChaCha20 is a block of either group, so that none is alone, however many
//! blocks there are. Poly1305 of the first group is done in the integer unit, beside the rounds ([`super::beside`]) of the next blocks
//! when sealing, and of the same when opening; that of the second goes from the XOR to Poly1305 in registers. Where
//! there is one block only, the groups come one after the other, and the first one's Poly1305 is beside the second one's rounds.
//!
//! Keeps true: what comes of keys and lies in arrays is wiped at the end of a batch.

use super::super::super::{Algorithm, Job, TAG_LEN};
use super::GROUP;
use super::abreast::{ABREAST, tags_of};
use super::beside::{SHORT_STRIDE, Sixteen};
use super::keystream::{Columns, same_two};
use super::rank::{Sets, keys, sets};
use super::vector::{
    V, first_bytes, from_words, load, load_part, prefetch, store, store_part, transpose16, wipe,
};
use std::arch::x86_64::*;

/// Packets of two groups.
pub(in super::super) const TWIN: usize = 2 * GROUP;
/// What is asked for ahead of its use.
const AHEAD: usize = 256;

/// What two groups have in common.
pub(in super::super) struct Shape {
    /// 64-byte blocks of each text, and those of them that are whole in all.
    blocks: u32,
    whole: u32,
    /// The length of all texts, if they are equal.
    len: Option<u64>,
    has_aad: bool,
}

impl Shape {
    /// Of these jobs; `None`: they are not for this, being of another algorithm, or without text, or not of equally many blocks.
    #[inline]
    pub(in super::super) fn of(jobs: &[Job<'_>; TWIN]) -> Option<Self> {
        let len = jobs[0].text_len().filter(|len| *len > 0)?;
        let blocks = len.div_ceil(64);
        let (mut shortest, mut longest, mut aads, mut key) = (len, len, 0, None);
        // The longest text has whole blocks: who has as many as one that is not too long is not, either.
        for job in jobs {
            let own = job.data.len().wrapping_sub(TAG_LEN);
            if own != len {
                if own.div_ceil(64) != blocks {
                    return None;
                }
                (shortest, longest) = (shortest.min(own), longest.max(own));
            }
            if key != Some(std::ptr::from_ref(job.key)) {
                if job.key.algorithm() != Algorithm::ChaCha20Poly1305 {
                    return None;
                }
                key = Some(job.key);
            }
            aads |= job.aad.len();
        }
        Some(Self {
            blocks: blocks as u32,
            whole: (shortest / 64) as u32,
            len: (shortest == longest).then_some(len as u64),
            has_aad: aads > 0,
        })
    }

    /// Lengths of the texts of eight packets.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn texts(&self, jobs: &[Job<'_>]) -> V {
        match self.len {
            Some(len) => _mm512_set1_epi64(len as i64),
            None => from_words(&lens(jobs)),
        }
    }

    /// Lengths of the additional data of eight packets.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn aads(&self, jobs: &[Job<'_>]) -> V {
        if self.has_aad { from_words(&aad_lens(jobs)) } else { _mm512_setzero_si512() }
    }
}

/// A group's jobs.
type Jobs<'a> = [Job<'a>; GROUP];

/// Key stream of a block of either group, by columns.
type Words = [[V; GROUP]; 2];

/// Seals or opens jobs of this shape.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
pub(in super::super) fn run<const OPEN: bool>(jobs: &mut [Job<'_>; TWIN], shape: &Shape) {
    let ([one, two], _) = jobs.as_chunks_mut::<GROUP>() else { return };
    let mut columns = [Columns::of_all(one.each_ref()), Columns::of_all(two.each_ref())];
    let mut words = [[_mm512_setzero_si512(); GROUP]; 2];
    if !OPEN && shape.blocks == 1 && shape.whole == 1 && !shape.has_aad {
        in_turn(one, two, shape, &mut columns, &mut words);
    } else {
        abreast::<OPEN>(one, two, shape, &mut columns, &mut words);
    }
}

/// Forgets what is not needed any more: there is more to reckon meanwhile.
#[inline]
#[target_feature(enable = "avx512f")]
fn forget(columns: &mut [Columns; 2], words: &mut Words) {
    wipe(words.as_flattened_mut());
    for columns in columns {
        columns.wipe();
    }
}

/// All have one whole block, and are sealed: one group after the other.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn in_turn(
    one: &mut Jobs<'_>,
    two: &mut Jobs<'_>,
    shape: &Shape,
    columns: &mut [Columns; 2],
    words: &mut Words,
) {
    same_two([&columns[0]; 2], [0, 1], words);
    let keys = keys(&words[0]);
    turn::<false, true, false>(one, 0, &words[1], &mut []);
    let mut beside = Sixteen::of_keys(&keys);
    beside.run([&columns[1]; 2], [0, 1], words, texts(one, 0));
    let mut second = sets(&words[0]);
    turn_into::<false, true>(two, 0, &words[1], &mut second);
    forget(columns, words);
    let hashes = beside.end();
    for (n, (key, hash)) in keys.iter().zip(hashes).enumerate() {
        let jobs = &mut one[n * ABREAST..][..ABREAST];
        end::<false>(jobs, tags_of(key, &hash, shape.texts(jobs)));
    }
    finish::<false>(two, shape, &mut second);
}

/// Both groups side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn abreast<const OPEN: bool>(
    one: &mut Jobs<'_>,
    two: &mut Jobs<'_>,
    shape: &Shape,
    columns: &mut [Columns; 2],
    words: &mut Words,
) {
    let &Shape { blocks, whole, has_aad, .. } = shape;
    same_two(columns.each_ref(), [0; 2], words);
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
        match if OPEN { Some(block) } else { block.checked_sub(1) } {
            Some(taken) if taken < beside_until => beside.run(of, [block + 1; 2], words, texts(one, taken)),
            _ => same_two(of, [block + 1; 2], words),
        }
        if block >= whole {
            turn::<OPEN, false, true>(two, block, &words[1], &mut rows);
            absorb(two, block, false, &rows, &mut second);
            turn::<OPEN, false, true>(one, block, &words[0], &mut rows);
        } else {
            if block < beside_until {
                turn::<OPEN, true, false>(one, block, &words[0], &mut []);
            } else {
                turn::<OPEN, true, true>(one, block, &words[0], &mut rows);
            }
            turn_into::<OPEN, false>(two, block, &words[1], &mut second);
        }
    }
    forget(columns, words);
    for (set, hash) in first.iter_mut().zip(beside.end()) {
        set.hash = hash;
    }
    if beside_until < blocks {
        absorb(one, blocks - 1, blocks == whole, &rows, &mut first);
    }
    finish::<OPEN>(one, shape, &mut first);
    finish::<OPEN>(two, shape, &mut second);
}

/// A block of the texts, which all have.
#[inline]
fn texts<'a>(jobs: &'a Jobs<'_>, block: u32) -> [&'a [u8; SHORT_STRIDE]; GROUP] {
    jobs.each_ref().map(|job| {
        job.data.get(block as usize * 64..).and_then(|text| text.first_chunk()).unwrap_or(&[0; SHORT_STRIDE])
    })
}

/// Lengths of the texts of a set.
#[inline]
fn lens(jobs: &[Job<'_>]) -> [u64; ABREAST] {
    std::array::from_fn(|n| jobs.get(n).map_or(0, |job| job.data.len().saturating_sub(TAG_LEN) as u64))
}

/// Lengths of the additional data of a set.
#[inline]
fn aad_lens(jobs: &[Job<'_>]) -> [u64; ABREAST] {
    std::array::from_fn(|n| jobs.get(n).map_or(0, |job| job.aad.len() as u64))
}

/// Poly1305 takes the additional data.
#[cold]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn additional(jobs: &Jobs<'_>, sets: &mut Sets) {
    for (jobs, set) in jobs.as_chunks::<ABREAST>().0.iter().zip(sets) {
        set.absorb(&jobs.each_ref().map(|job| job.aad), &aad_lens(jobs), 0, usize::MAX);
    }
}

/// Text XOR key stream of a block of one packet. Returns the ciphertext, with zeros behind the end of the text. `WHOLE`: it has the
/// whole block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
fn turn_one<const OPEN: bool, const WHOLE: bool>(job: &mut Job<'_>, at: usize, stream: V) -> V {
    let end = job.data.len() - TAG_LEN;
    if WHOLE {
        let Some(text) = job.data.get_mut(at..).and_then(|text| text.first_chunk_mut()) else {
            return stream;
        };
        prefetch(text, AHEAD);
        let old = load(text);
        let new = _mm512_xor_si512(old, stream);
        store(text, new);
        if OPEN { old } else { new }
    } else {
        let text = job.data.get_mut(at..end).unwrap_or_default();
        let old = load_part(text);
        let new = _mm512_xor_si512(old, stream);
        store_part(text, new);
        if OPEN { old } else { first_bytes(new, text.len()) }
    }
}

/// Text XOR key stream of a block; the ciphertext comes to be in `rows`, if that is to `KEEP` it.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma,avx512vbmi2,bmi2")]
fn turn<const OPEN: bool, const WHOLE: bool, const KEEP: bool>(
    jobs: &mut Jobs<'_>,
    block: u32,
    words: &[V; GROUP],
    rows: &mut [V],
) {
    let stream = transpose16(words);
    for (n, (job, stream)) in jobs.iter_mut().zip(stream).enumerate() {
        let row = turn_one::<OPEN, WHOLE>(job, block as usize * 64, stream);
        if KEEP {
            rows[n] = row;
        }
    }
}

/// The same of a whole block, whose ciphertext goes into `sets`. `FIRST`: nothing was before it.
#[inline(never)]
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
fn absorb(jobs: &Jobs<'_>, block: u32, whole: bool, rows: &[V; GROUP], sets: &mut Sets) {
    for ((jobs, set), rows) in jobs.as_chunks::<ABREAST>().0.iter().zip(sets).zip(rows.as_chunks().0) {
        if whole {
            set.whole::<false>(rows);
        } else {
            set.part(rows, block as usize, &lens(jobs));
        }
    }
}

/// Writes or compares the tags, ends the jobs, and forgets the sets.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512ifma,avx512vbmi2")]
fn finish<const OPEN: bool>(jobs: &mut Jobs<'_>, shape: &Shape, sets: &mut Sets) {
    for (jobs, set) in jobs.as_chunks_mut::<ABREAST>().0.iter_mut().zip(sets) {
        let tags = set.finish(shape.aads(jobs), shape.texts(jobs));
        set.wipe();
        end::<OPEN>(jobs, tags);
    }
}

/// Writes or compares the tags, and ends the jobs.
#[inline]
#[target_feature(enable = "avx512f")]
fn end<const OPEN: bool>(jobs: &mut [Job<'_>], (low, high): ([u64; ABREAST], [u64; ABREAST])) {
    for (job, (low, high)) in jobs.iter_mut().zip(low.into_iter().zip(high)) {
        job.tag::<OPEN>(u128::from(low) | u128::from(high) << 64);
    }
}
