//! One packet: what is sealed or opened with one nonce.
//!
//! Owns: the order of things in a packet. Texts of up to [`STEP`] bytes are done in one go: all blocks side by side, or in two
//! halves; longer ones in steps of as many, in which blocks of one are encrypted between the products of the one
//! before, and the rest as a short text. What is opened is hashed while its own key stream is made. Keeps true: what is
//! short needs no loop and one reduction, so that the processor begins the next packet of a batch before the tag of this one is there.

use super::expanded::Expanded;
use super::ghash::{self, Sum};
use super::memory::{load_64, load_up_to_16, load_up_to_64, store_16, store_64, store_up_to_64};
use super::order;
use super::stream::{self, Counters};
use crate::aead::{Job, TAG_LEN};
use std::arch::x86_64::*;

/// Bytes of four blocks: of a vector.
const GROUP: usize = 64;
/// Groups of a step.
const GROUPS: usize = 8;
/// From so many groups on a text is sealed in halves.
const HALVES: usize = 4;
/// Bytes of a step.
const STEP: usize = GROUP * GROUPS;

/// What was hashed of a packet.
#[derive(Clone, Copy)]
struct Hashed {
    /// An element.
    element: __m128i,
    /// How many times H is missing in it: a block that was only just added lacks one.
    lacks: usize,
}

/// Seals or opens `job`, whose text is of `len` bytes.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn run<const ROUNDS: usize, const OPEN: bool>(key: &Expanded, job: &mut Job<'_>, len: usize) {
    let (text, tag) = job.data.split_at_mut(len);
    let Some(tag) = tag.first_chunk_mut::<TAG_LEN>() else { return };
    let nonce = stream::nonce_of(&job.nonce);
    let lengths = _mm_set_epi64x((job.aad.len() as i64) << 3, (len as i64) << 3);
    let mut hashed = additional(key, job.aad);
    let mut counters = Counters::new(nonce, 2);
    let mut rest = text;
    if len > STEP {
        (hashed, rest) = steps::<ROUNDS, OPEN>(key, &mut counters, hashed, rest);
    }
    let first = stream::first_block(nonce);
    macro_rules! by_groups {
        ($($groups:literal)*) => {
            match rest.len().div_ceil(GROUP) {
                $($groups => last::<ROUNDS, $groups, OPEN>(key, counters, first, hashed, lengths, rest),)*
                _ => last::<ROUNDS, 1, OPEN>(key, counters, first, hashed, lengths, rest),
            }
        };
    }
    let made = by_groups!(2 3 4 5 6 7 8);
    if OPEN {
        let wrong = _mm_xor_si128(made, super::memory::load_16(tag));
        let right = _mm_testz_si128(wrong, wrong) == 1;
        job.end(right);
    } else {
        store_16(tag, made);
        job.end(true);
    }
}

/// Hashes additional data.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
fn additional(key: &Expanded, aad: &[u8]) -> Hashed {
    if aad.len() <= 16 {
        return Hashed { element: ghash::reversed_one(load_up_to_16(aad)), lacks: 1 };
    }
    let mut element = _mm_setzero_si128();
    for part in aad.chunks(GROUP) {
        let blocks = ghash::reversed(load_up_to_64(part));
        let mut sum = Sum::new();
        let [powers] = key.powers(part.len().div_ceil(16));
        sum.add(_mm512_xor_si512(blocks, _mm512_zextsi128_si512(element)), powers);
        element = sum.reduce();
    }
    Hashed { element, lacks: 0 }
}

/// The steps of a long text, such that between 1 and [`STEP`] bytes are left, which it returns.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
fn steps<'t, const ROUNDS: usize, const OPEN: bool>(
    key: &Expanded,
    counters: &mut Counters,
    hashed: Hashed,
    text: &'t mut [u8],
) -> (Hashed, &'t mut [u8]) {
    let count = text.len().saturating_sub(1) / STEP;
    let (whole, rest) = text.split_at_mut(count * STEP);
    let (steps, _) = whole.as_chunks_mut::<STEP>();
    let mut element = hashed.element;
    if hashed.lacks == 1 {
        element = ghash::multiply(element, key.power(1));
    }
    if OPEN {
        for step in steps {
            let stream;
            (stream, element) = stitched::<ROUNDS>(key, counters, element, step);
            combine(step, stream);
        }
    } else {
        let mut steps = steps.iter_mut();
        if let Some(mut before) = steps.next() {
            let mut blocks = counters.take();
            stream::add_key(&mut blocks, stream::round_key(key, 0));
            for n in 1..ROUNDS {
                stream::round(&mut blocks, stream::round_key(key, n));
            }
            stream::last_round(&mut blocks, stream::round_key(key, ROUNDS));
            combine(before, blocks);
            for step in steps {
                let stream;
                (stream, element) = stitched::<ROUNDS>(key, counters, element, before);
                combine(step, stream);
                before = step;
            }
            let mut sum = Sum::new();
            for group in 0..GROUPS {
                element = product(&mut sum, key, element, before, group);
            }
            element = sum.reduce();
        }
    }
    (Hashed { element, lacks: 0 }, rest)
}

/// Adds the product of a group of a step and its powers to `sum`. `element` goes into the first; returns what goes into the next.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
fn product(sum: &mut Sum, key: &Expanded, element: __m128i, step: &[u8; STEP], group: usize) -> __m128i {
    let (groups, _) = step.as_chunks::<GROUP>();
    let blocks = ghash::reversed(order::here(load_64(&groups[group])));
    let [powers] = key.powers(4 * (GROUPS - group));
    sum.add(_mm512_xor_si512(blocks, _mm512_zextsi128_si512(element)), powers);
    sum.hold();
    _mm_setzero_si128()
}

/// The key stream of a step, made between the products of `hash`. The first, and the element with them.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
fn stitched<const ROUNDS: usize>(
    key: &Expanded,
    counters: &mut Counters,
    mut element: __m128i,
    hash: &[u8; STEP],
) -> ([__m512i; GROUPS], __m128i) {
    let mut blocks = counters.take();
    let mut sum = Sum::new();
    stream::add_key(&mut blocks, stream::round_key(key, 0));
    // A loop on purpose: unrolled, the compiler would keep powers of H and round keys across steps, in more registers than there are.
    for n in 1..=GROUPS {
        stream::round(&mut blocks, stream::round_key(key, n));
        order::step_done(&mut blocks);
        element = product(&mut sum, key, element, hash, n - 1);
    }
    for n in GROUPS + 1..ROUNDS {
        stream::round(&mut blocks, stream::round_key(key, n));
    }
    stream::last_round(&mut blocks, stream::round_key(key, ROUNDS));
    (blocks, sum.reduce())
}

/// Adds key stream to a step.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
fn combine(step: &mut [u8; STEP], stream: [__m512i; GROUPS]) {
    let (groups, _) = step.as_chunks_mut::<GROUP>();
    for (group, stream) in groups.iter_mut().zip(stream) {
        store_64(group, _mm512_xor_si512(load_64(group), stream));
    }
}

/// The last `N` groups of a text, the last of which may be short or empty, and the tag.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
fn last<const ROUNDS: usize, const N: usize, const OPEN: bool>(
    key: &Expanded,
    mut counters: Counters,
    mut first: __m128i,
    hashed: Hashed,
    lengths: __m128i,
    text: &mut [u8],
) -> __m128i {
    let count = text.len().div_ceil(16);
    // What was hashed, and the lengths: both are known at once.
    let mut sum = Sum::of_two(
        _mm256_set_m128i(lengths, hashed.element),
        _mm256_set_m128i(key.power(1), key.power(count + 1 + hashed.lacks)),
    );
    let powers = key.powers::<N>(count + 1);
    let (whole, short) = text.split_at_mut(GROUP * (N - 1));
    let (whole, _) = whole.as_chunks_mut::<GROUP>();
    let mut blocks = [load_up_to_64(short); N];
    for n in 0..N - 1 {
        blocks[n] = load_64(&whole[n]);
    }
    let mut stream = counters.take::<N>();
    stream::add_key(&mut stream, stream::round_key(key, 0));
    first = _mm_xor_si128(first, key.round_key(0));
    // What is hashed must be there: all of it if it is opened. If it is sealed, half of a longer text is made first,
    // and hashed while the other half is made.
    let half = if OPEN || N < HALVES { N } else { N / 2 };
    macro_rules! rounds {
        ($($n:literal)*) => {$(
            if $n < ROUNDS {
                let round_key = stream::round_key(key, $n);
                stream::round(&mut stream[..half], round_key);
                first = _mm_aesenc_si128(first, _mm512_castsi512_si128(round_key));
                if OPEN && $n <= N {
                    order::rounds_done(&mut stream[..half]);
                    sum.add(ghash::reversed(order::here(blocks[$n - 1])), powers[$n - 1]);
                    sum.hold();
                }
            }
        )*};
    }
    rounds!(1 2 3 4 5 6 7 8 9 10 11 12 13);
    let round_key = stream::round_key(key, ROUNDS);
    stream::last_round(&mut stream[..half], round_key);
    first = _mm_aesenclast_si128(first, _mm512_castsi512_si128(round_key));
    for n in 0..half.min(N - 1) {
        blocks[n] = _mm512_xor_si512(blocks[n], stream[n]);
        store_64(&mut whole[n], blocks[n]);
    }
    if half < N {
        macro_rules! rounds {
            ($($n:literal)*) => {$(
                if $n < ROUNDS {
                    stream::round(&mut stream[half..], stream::round_key(key, $n));
                    if $n <= half {
                        order::rounds_done(&mut stream[half..]);
                        sum.add(ghash::reversed(order::here(blocks[$n - 1])), powers[$n - 1]);
                        sum.hold();
                    }
                }
            )*};
        }
        rounds!(1 2 3 4 5 6 7 8 9 10 11 12 13);
        stream::last_round(&mut stream[half..], stream::round_key(key, ROUNDS));
        for n in half..N - 1 {
            blocks[n] = _mm512_xor_si512(blocks[n], stream[n]);
            store_64(&mut whole[n], blocks[n]);
        }
    }
    blocks[N - 1] = store_up_to_64(short, _mm512_xor_si512(blocks[N - 1], stream[N - 1]));
    if !OPEN {
        for n in if half < N { half } else { 0 }..N {
            sum.add(ghash::reversed(blocks[n]), powers[n]);
        }
    }
    _mm_xor_si128(ghash::reversed_one(sum.reduce()), first)
}
