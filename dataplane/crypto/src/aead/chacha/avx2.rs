//! Eight blocks of ChaCha20 at a time, in AVX2: a block in each 32-bit lane (RFC 8439 §2.3).
//!
//! Owns: the pass, from the keys of eight lanes to their blocks. Keeps true: it runs only where the processor has AVX2
//! and BMI2, which having an [`Avx2`] proves. The sixteen words of state take all sixteen registers; the compiler
//! spills some, and the copies stay on the stack.

use super::super::{Job, PART, TAG_LEN, Way};
use super::spread::{self, Lane, Sums, Wide};
use std::arch::x86_64::*;
use std::hint::black_box;

/// Proof that this processor has AVX2, and BMI2 for the sums.
#[derive(Clone, Copy)]
struct Avx2(());

/// Whether this processor can.
pub(in super::super) fn is_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2")
}

/// Seals or opens the jobs `picks` of `jobs`, which have room for a tag; `None`: this processor cannot, and nothing was done.
pub(in super::super) fn run(jobs: &mut [Job<'_>], picks: &[u8], way: Way) -> Option<()> {
    let wide = is_available().then_some(Avx2(()))?;
    // SAFETY: just asked for.
    unsafe { spread_run(wide, jobs, picks, way) };
    Some(())
}

/// When texts up to so many bytes are done sooner here than by `ring`: if there are so many of them. `ring` makes key
/// stream and sums of the same packet side by side, which serves long texts, but spends much on starting. Times as fast
/// as `ring`, when sealing (`benches/chacha256.rs`, Zen 4):
///
/// | packets | 0 B | 64 B | 80 B | 256 B | 512 B | 1420 B | 8192 B |
/// |---|---|---|---|---|---|---|---|
/// | 1 | 0.40 | 0.43 | 0.44 | 0.52 | 0.50 | 0.65 | 0.59 |
/// | 4 | 1.28 | 1.31 | 0.97 | 0.94 | 0.88 | 0.82 | 0.68 |
/// | 6 | 1.73 | 1.30 | 1.07 | 1.08 | 0.94 | 0.89 | 0.75 |
/// | 8 | 2.12 | 1.60 | 1.33 | 1.17 | 0.99 | 0.91 | 0.77 |
/// | 16 | 2.39 | 1.75 | 1.43 | 1.30 | 1.06 | 0.97 | 0.82 |
/// | 32 | 2.56 | 1.80 | 1.50 | 1.37 | 1.10 | 1.01 | 0.86 |
///
/// Opening is less far ahead, and at these limits still 1.01 times as fast: 6 packets of 80 B, 16 of 512 B.
const PAYS: [(usize, usize); 2] = [(512, 16), (256, 6)];

/// Does those of the jobs that are done sooner here than by `ring`; what is left is put into `left`: how many these are.
pub(in super::super) fn run_where_it_pays(
    jobs: &mut [Job<'_>],
    picks: &[u8],
    way: Way,
    left: &mut [u8; PART],
) -> usize {
    for (longest, fewest) in PAYS {
        let (mut short, mut count, mut long) = ([0; PART], 0, 0);
        for &pick in picks {
            if jobs[usize::from(pick)].data.len() <= longest + TAG_LEN {
                short[count] = pick;
                count += 1;
            } else {
                left[long] = pick;
                long += 1;
            }
        }
        if count >= fewest && run(jobs, &short[..count], way).is_some() {
            return long;
        }
    }
    left[..picks.len()].copy_from_slice(picks);
    picks.len()
}

/// With BMI2's products, which leave the flags alone, in the sums.
#[target_feature(enable = "avx2,bmi2")]
fn spread_run(wide: Avx2, jobs: &mut [Job<'_>], picks: &[u8], way: Way) {
    spread::run(wide, jobs, picks, way);
}

impl Wide<8> for Avx2 {
    #[inline]
    fn pass(self, lanes: &mut [Lane<'_>; 8], sums: &mut Sums<'_>) {
        // SAFETY: `self` proves that there are AVX2 and BMI2.
        unsafe { pass(lanes, sums) }
    }
}

/// Word `N` of each lane's: eight loads from where they were stored as words. One load of a vector would wait for the stores.
macro_rules! words {
    ($lanes:ident, $word:expr) => {{
        let word = $word;
        let [a, b, c, d, e, f, g, h] = &*$lanes;
        let [a, b, c, d, e, f, g, h] = [a, b, c, d, e, f, g, h].map(|lane| word(lane) as i32);
        _mm256_setr_epi32(a, b, c, d, e, f, g, h)
    }};
}

/// Quarter rounds side by side, of the named words (RFC 8439 §2.1). Two: with all four of a round, fewer words would be in
/// registers. A macro, because the compiler does not put the function in line, and the words would be in memory.
macro_rules! quarters {
    ($turns:ident: $($a:ident $b:ident $c:ident $d:ident),+) => {
        $($a = _mm256_add_epi32($a, $b);)+
        $($d = _mm256_shuffle_epi8(_mm256_xor_si256($d, $a), $turns.0);)+
        $($c = _mm256_add_epi32($c, $d);)+
        $($b = _mm256_xor_si256($b, $c);)+
        $($b = _mm256_or_si256(_mm256_slli_epi32::<12>($b), _mm256_srli_epi32::<20>($b));)+
        $($a = _mm256_add_epi32($a, $b);)+
        $($d = _mm256_shuffle_epi8(_mm256_xor_si256($d, $a), $turns.1);)+
        $($c = _mm256_add_epi32($c, $d);)+
        $($b = _mm256_xor_si256($b, $c);)+
        $($b = _mm256_or_si256(_mm256_slli_epi32::<7>($b), _mm256_srli_epi32::<25>($b));)+
    };
}

#[inline(never)]
#[target_feature(enable = "avx2,bmi2")]
fn pass(lanes: &mut [Lane<'_>; 8], sums: &mut Sums<'_>) {
    let key = turned([0, 1, 2, 3, 4, 5, 6, 7].map(|n: usize| {
        // SAFETY: a key is 32 bytes; the load need not be aligned.
        unsafe { _mm256_loadu_si256(lanes[n].key.as_ptr().cast()) }
    }));
    let constant = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574].map(|word| _mm256_set1_epi32(word));
    let start = [
        words!(lanes, |lane: &Lane<'_>| lane.counter),
        words!(lanes, |lane: &Lane<'_>| lane.nonce[0]),
        words!(lanes, |lane: &Lane<'_>| lane.nonce[1]),
        words!(lanes, |lane: &Lane<'_>| lane.nonce[2]),
    ];
    let [c0, c1, c2, c3] = constant;
    let [k0, k1, k2, k3, k4, k5, k6, k7] = key;
    let [n0, n1, n2, n3] = start;
    let (mut a, mut b, mut c, mut d) = (c0, c1, c2, c3);
    let (mut e, mut f, mut g, mut h, mut i, mut j, mut k, mut l) = (k0, k1, k2, k3, k4, k5, k6, k7);
    let (mut m, mut n, mut o, mut p) = (n0, n1, n2, n3);
    let turns = turns();
    for _ in 0..10 {
        let ready = sums.is_ready();
        macro_rules! round {
            ($($a:ident $b:ident $c:ident $d:ident),+; $($e:ident $f:ident $g:ident $h:ident),+) => {
                quarters!(turns: $($a $b $c $d),+);
                if ready {
                    sums.first();
                }
                quarters!(turns: $($e $f $g $h),+);
                if ready {
                    sums.second();
                }
            };
        }
        round!(a e i m, b f j n; c g k o, d h l p);
        round!(a f k p, b g l m; c h i n, d e j o);
    }
    let sum = |x: __m256i, y: __m256i| _mm256_add_epi32(x, y);
    let first =
        [sum(a, c0), sum(b, c1), sum(c, c2), sum(d, c3), sum(e, k0), sum(f, k1), sum(g, k2), sum(h, k3)];
    let second =
        [sum(i, k4), sum(j, k5), sum(k, k6), sum(l, k7), sum(m, n0), sum(n, n1), sum(o, n2), sum(p, n3)];
    let (first, second) = (turned(first), turned(second));
    for ((lane, first), second) in lanes.iter_mut().zip(first).zip(second) {
        if let Some(block) = &mut lane.block {
            let at = block.as_mut_ptr().cast::<__m256i>();
            // SAFETY: a block is 64 bytes, and nobody else has it; loads and stores need not be aligned.
            unsafe {
                _mm256_storeu_si256(at, _mm256_xor_si256(_mm256_loadu_si256(at), first));
                _mm256_storeu_si256(at.add(1), _mm256_xor_si256(_mm256_loadu_si256(at.add(1)), second));
            }
        }
    }
}

/// Rotations of words by 16 and by 8 bits, as shuffles of bytes. Known to the compiler, the first would become two shuffles.
#[inline]
#[target_feature(enable = "avx2")]
fn turns() -> (__m256i, __m256i) {
    let by_16 = _mm_setr_epi8(2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    let by_8 = _mm_setr_epi8(3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14);
    (black_box(_mm256_broadcastsi128_si256(by_16)), black_box(_mm256_broadcastsi128_si256(by_8)))
}

/// Rows to columns: word `j` of vector `i` becomes word `i` of vector `j`.
#[inline]
#[target_feature(enable = "avx2")]
fn turned(rows: [__m256i; 8]) -> [__m256i; 8] {
    let [a, b, c, d, e, f, g, h] = rows;
    // Words 0 and 1, and 2 and 3, of neighbours; then of four; then the halves.
    let (ab0, ab2) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (cd0, cd2) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    let (ef0, ef2) = (_mm256_unpacklo_epi32(e, f), _mm256_unpackhi_epi32(e, f));
    let (gh0, gh2) = (_mm256_unpacklo_epi32(g, h), _mm256_unpackhi_epi32(g, h));
    let abcd = [
        _mm256_unpacklo_epi64(ab0, cd0),
        _mm256_unpackhi_epi64(ab0, cd0),
        _mm256_unpacklo_epi64(ab2, cd2),
        _mm256_unpackhi_epi64(ab2, cd2),
    ];
    let efgh = [
        _mm256_unpacklo_epi64(ef0, gh0),
        _mm256_unpackhi_epi64(ef0, gh0),
        _mm256_unpacklo_epi64(ef2, gh2),
        _mm256_unpackhi_epi64(ef2, gh2),
    ];
    [
        _mm256_permute2x128_si256::<0x20>(abcd[0], efgh[0]),
        _mm256_permute2x128_si256::<0x20>(abcd[1], efgh[1]),
        _mm256_permute2x128_si256::<0x20>(abcd[2], efgh[2]),
        _mm256_permute2x128_si256::<0x20>(abcd[3], efgh[3]),
        _mm256_permute2x128_si256::<0x31>(abcd[0], efgh[0]),
        _mm256_permute2x128_si256::<0x31>(abcd[1], efgh[1]),
        _mm256_permute2x128_si256::<0x31>(abcd[2], efgh[2]),
        _mm256_permute2x128_si256::<0x31>(abcd[3], efgh[3]),
    ]
}
