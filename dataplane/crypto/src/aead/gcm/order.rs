//! The order of instructions, where it matters.
//!
//! Owns: points in the code that the compiler moves nothing across. Rounds of AES and products run on the same units of a
//! processor, and each waits for the one before: they are written in turns. Left to itself the compiler puts all products of a step in
//! front of all rounds, which cost a tenth at 8192 bytes. Keeps true: nothing here is an instruction.

use std::arch::asm;
use std::arch::x86_64::*;

/// What made the blocks of a whole step comes before what follows.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn step_done(blocks: &mut [__m512i; 8]) {
    let [a, b, c, d, e, f, g, h] = blocks;
    // SAFETY: no instruction; the registers keep their values.
    unsafe {
        asm!(
            "/* {0} {1} {2} {3} {4} {5} {6} {7} */",
            inout(zmm_reg) * a,
            inout(zmm_reg) * b,
            inout(zmm_reg) * c,
            inout(zmm_reg) * d,
            inout(zmm_reg) * e,
            inout(zmm_reg) * f,
            inout(zmm_reg) * g,
            inout(zmm_reg) * h,
            options(nomem, nostack, preserves_flags)
        );
    }
}

/// What made `blocks` comes before what follows.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn rounds_done(blocks: &mut [__m512i]) {
    for block in blocks {
        *block = here(*block);
    }
}

/// What made `value` comes before what follows, and what uses it after.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,vaes,vpclmulqdq,bmi2")]
pub(super) fn here(mut value: __m512i) -> __m512i {
    // SAFETY: no instruction; the register keeps its value.
    unsafe { asm!("/* {0} */", inout(zmm_reg) value, options(nomem, nostack, preserves_flags)) };
    value
}
