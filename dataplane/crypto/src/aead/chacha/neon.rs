//! Four blocks of ChaCha20 at a time, in NEON: a block in each 32-bit lane (RFC 8439 §2.3).
//!
//! Owns: the pass, from the keys of four lanes to their blocks. Keeps true: it runs only where the processor has NEON,
//! which having a [`Neon`] proves. Sixteen of the 32 registers hold the state. What the compiler spills stays on the
//! stack.

use super::super::{Job, Way};
use super::spread::{self, Lane, Sums, Wide};
use std::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected;

/// Proof that this processor has NEON.
#[derive(Clone, Copy)]
struct Neon(());

/// Whether this processor can.
pub(in super::super) fn is_available() -> bool {
    is_aarch64_feature_detected!("neon")
}

/// Seals or opens the jobs `picks` of `jobs`, which have room for a tag; `None`: this processor cannot, and nothing was done.
pub(in super::super) fn run(jobs: &mut [Job<'_>], picks: &[u8], way: Way) -> Option<()> {
    let wide = is_available().then_some(Neon(()))?;
    spread::run(wide, jobs, picks, way);
    Some(())
}

impl Wide<4> for Neon {
    #[inline]
    fn pass(self, lanes: &mut [Lane<'_>; 4], sums: &mut Sums<'_>) {
        // SAFETY: `self` proves that there is NEON.
        unsafe { pass(lanes, sums) }
    }
}

/// Quarter rounds side by side, of the named words (RFC 8439 §2.1). A macro, so that the words are in registers.
macro_rules! quarters {
    ($($a:ident $b:ident $c:ident $d:ident),+) => {
        $($a = vaddq_u32($a, $b); $d = by_16(veorq_u32($d, $a));)+
        $($c = vaddq_u32($c, $d); $b = veorq_u32($b, $c);)+
        $($b = vsriq_n_u32::<20>(vshlq_n_u32::<12>($b), $b);)+
        $($a = vaddq_u32($a, $b); $d = veorq_u32($d, $a);)+
        $($d = vsriq_n_u32::<24>(vshlq_n_u32::<8>($d), $d);)+
        $($c = vaddq_u32($c, $d); $b = veorq_u32($b, $c);)+
        $($b = vsriq_n_u32::<25>(vshlq_n_u32::<7>($b), $b);)+
    };
}

#[inline(never)]
#[target_feature(enable = "neon")]
fn pass(lanes: &mut [Lane<'_>; 4], sums: &mut Sums<'_>) {
    let half = |at: usize| {
        turned([0, 1, 2, 3].map(|n: usize| {
            let half = &lanes[n].key.as_chunks::<16>().0[at];
            // SAFETY: half a key is 16 bytes; the load need not be aligned.
            unsafe { vreinterpretq_u32_u8(vld1q_u8(half.as_ptr())) }
        }))
    };
    let (low, high) = (half(0), half(1));
    let word = |word: fn(&Lane<'_>) -> u32| {
        let words = [word(&lanes[0]), word(&lanes[1]), word(&lanes[2]), word(&lanes[3])];
        // SAFETY: they are four.
        unsafe { vld1q_u32(words.as_ptr()) }
    };
    let start = [
        word(|lane| lane.counter),
        word(|lane| lane.nonce[0]),
        word(|lane| lane.nonce[1]),
        word(|lane| lane.nonce[2]),
    ];
    let constant = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574].map(|word| vdupq_n_u32(word));
    let [mut a, mut b, mut c, mut d] = constant;
    let [mut e, mut f, mut g, mut h] = low;
    let [mut i, mut j, mut k, mut l] = high;
    let [mut m, mut n, mut o, mut p] = start;
    for _ in 0..10 {
        let ready = sums.is_ready();
        quarters!(a e i m, b f j n, c g k o, d h l p);
        if ready {
            sums.first();
            sums.second();
        }
        quarters!(a f k p, b g l m, c h i n, d e j o);
        if ready {
            sums.first();
            sums.second();
        }
    }
    let rows = [
        sum([a, b, c, d], constant),
        sum([e, f, g, h], low),
        sum([i, j, k, l], high),
        sum([m, n, o, p], start),
    ];
    for (row, words) in rows.into_iter().enumerate() {
        for (lane, words) in lanes.iter_mut().zip(turned(words)) {
            if let Some(block) = &mut lane.block {
                let part = block.as_chunks_mut::<16>().0[row].as_mut_ptr();
                // SAFETY: a quarter of a block is 16 bytes, and nobody else has it; loads and stores need not be aligned.
                unsafe { vst1q_u8(part, veorq_u8(vld1q_u8(part), vreinterpretq_u8_u32(words))) };
            }
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn by_16(x: uint32x4_t) -> uint32x4_t {
    vreinterpretq_u32_u16(vrev32q_u16(vreinterpretq_u16_u32(x)))
}

#[inline]
#[target_feature(enable = "neon")]
fn sum([a, b, c, d]: [uint32x4_t; 4], [e, f, g, h]: [uint32x4_t; 4]) -> [uint32x4_t; 4] {
    [vaddq_u32(a, e), vaddq_u32(b, f), vaddq_u32(c, g), vaddq_u32(d, h)]
}

/// Rows to columns: word `j` of vector `i` becomes word `i` of vector `j`.
#[inline]
#[target_feature(enable = "neon")]
fn turned([a, b, c, d]: [uint32x4_t; 4]) -> [uint32x4_t; 4] {
    let (even, odd) = (vtrn1q_u32(a, b), vtrn2q_u32(a, b));
    let (other_even, other_odd) = (vtrn1q_u32(c, d), vtrn2q_u32(c, d));
    let low = |x: uint32x4_t, y: uint32x4_t| {
        vreinterpretq_u32_u64(vtrn1q_u64(vreinterpretq_u64_u32(x), vreinterpretq_u64_u32(y)))
    };
    let high = |x: uint32x4_t, y: uint32x4_t| {
        vreinterpretq_u32_u64(vtrn2q_u64(vreinterpretq_u64_u32(x), vreinterpretq_u64_u32(y)))
    };
    [low(even, other_even), low(odd, other_odd), high(even, other_even), high(odd, other_odd)]
}
