//! ChaCha20's rounds of two times sixteen blocks, and what [`super::beside`] does beside them.
//!
//! Owns: the order of these instructions, and with it why this is in the processor's own words: the compiler puts such work one behind the other,
//! and the processor does not look far enough ahead to do it side by side. On Zen 4 the rounds take 1110 clocks alone, and no
//! more with 64 blocks of Poly1305 beside them, which take 250 clocks in vectors, where they are in the rounds' way.
//! Keeps true: where what is in [`super::beside::Beside`] is written here as numbers, a test says when that is no longer so.

use super::keystream::Words;
use super::vector::V;
use std::arch::asm;
use std::arch::x86_64::*;

/// A step of a quarter round in four columns.
macro_rules! step {
    ($bits:literal: $($a:literal $b:literal $d:literal),*) => {
        concat!($(
            "vpaddd zmm", $a, ", zmm", $a, ", zmm", $b, "\n",
            "vpxord zmm", $d, ", zmm", $d, ", zmm", $a, "\n",
            "vprold zmm", $d, ", zmm", $d, ", ", $bits, "\n",
        )*)
    };
}

/// The steps of two rounds, of the first state and of the second.
macro_rules! steps {
    (x 0) => { step!(16: 0 4 12, 1 5 13, 2 6 14, 3 7 15) };
    (y 0) => { step!(16: 16 20 28, 17 21 29, 18 22 30, 19 23 31) };
    (x 1) => { step!(12: 8 12 4, 9 13 5, 10 14 6, 11 15 7) };
    (y 1) => { step!(12: 24 28 20, 25 29 21, 26 30 22, 27 31 23) };
    (x 2) => { step!(8: 0 4 12, 1 5 13, 2 6 14, 3 7 15) };
    (y 2) => { step!(8: 16 20 28, 17 21 29, 18 22 30, 19 23 31) };
    (x 3) => { step!(7: 8 12 4, 9 13 5, 10 14 6, 11 15 7) };
    (y 3) => { step!(7: 24 28 20, 25 29 21, 26 30 22, 27 31 23) };
    (x 4) => { step!(16: 0 5 15, 1 6 12, 2 7 13, 3 4 14) };
    (y 4) => { step!(16: 16 21 31, 17 22 28, 18 23 29, 19 20 30) };
    (x 5) => { step!(12: 10 15 5, 11 12 6, 8 13 7, 9 14 4) };
    (y 5) => { step!(12: 26 31 21, 27 28 22, 24 29 23, 25 30 20) };
    (x 6) => { step!(8: 0 5 15, 1 6 12, 2 7 13, 3 4 14) };
    (y 6) => { step!(8: 16 21 31, 17 22 28, 18 23 29, 19 20 30) };
    (x 7) => { step!(7: 10 15 5, 11 12 6, 8 13 7, 9 14 4) };
    (y 7) => { step!(7: 26 31 21, 27 28 22, 24 29 23, 25 30 20) };
}

/// Two rounds of both states.
macro_rules! double_round {
    () => {
        concat!(
            steps!(x 0), steps!(y 0), steps!(x 1), steps!(y 1), steps!(x 2), steps!(y 2), steps!(x 3), steps!(y 3),
            steps!(x 4), steps!(y 4), steps!(x 5), steps!(y 5), steps!(x 6), steps!(y 6), steps!(x 7), steps!(y 7),
        )
    };
}

/// hash = hash r + block, of a pair's packet whose words are `$of` bytes from the pair's first, whose number is in three
/// registers, and the block at `$at` of its text: first the products, then how they are put together.
macro_rules! products {
    ($of:literal, $a:literal $b:literal $c:literal) => {
        concat!(
            "mov rdx, ",
            $a,
            "\nmulx rcx, rax, [rsi + 384 + ",
            $of,
            "]\nmulx r8, rdi, [rsi + 512 + ",
            $of,
            "]\nmov rdx, ",
            $b,
            "\nmulx ",
            $b,
            ", ",
            $a,
            ", [rsi + 640 + ",
            $of,
            "]\nadd rax, ",
            $a,
            "\nadc rcx, ",
            $b,
            "\nmulx ",
            $b,
            ", ",
            $a,
            ", [rsi + 384 + ",
            $of,
            "]\nadd rdi, ",
            $a,
            "\nadc r8, ",
            $b,
            "\nmov r15, [rsi + 640 + ",
            $of,
            "]\nimul r15, ",
            $c,
            "\nimul ",
            $c,
            ", [rsi + 384 + ",
            $of,
            "]\n",
        )
    };
}
macro_rules! together {
    ($of:literal, $a:literal $b:literal $c:literal, $at:literal) => {
        concat!(
            "add rdi, r15\nadc r8, 0\nadd rdi, rcx\nadc ",
            $c,
            ", r8\n",
            // What is above 2^130, times five.
            "mov r15, -4\nmov ",
            $b,
            ", rdi\nand r15, ",
            $c,
            "\nmov ",
            $a,
            ", ",
            $c,
            "\nand ",
            $c,
            ", 3\nshr ",
            $a,
            ", 2\nadd ",
            $a,
            ", r15\nadd ",
            $a,
            ", rax\nadc ",
            $b,
            ", 0\nadc ",
            $c,
            ", 0\nmov rdx, [rsi + 768 + ",
            $of,
            "]\nadd ",
            $a,
            ", [rdx + ",
            $at,
            "]\nadc ",
            $b,
            ", [rdx + ",
            $at,
            " + 8]\nadc ",
            $c,
            ", 1\n",
        )
    };
}
macro_rules! first {
    ($n:tt, $at:literal) => {
        concat!(steps!(x $n), products!(0, "r9" "r10" "r11"), steps!(y $n), together!(0, "r9" "r10" "r11", $at))
    };
}
macro_rules! second {
    ($n:tt, $at:literal) => {
        concat!(steps!(x $n), products!(8, "r12" "r13" "r14"), steps!(y $n), together!(8, "r12" "r13" "r14", $at))
    };
}

/// Sixteen vectors from where `rdx` points.
macro_rules! begin {
    ($($n:literal $at:literal),*) => {
        concat!($("vmovdqa64 zmm", $n, ", [rdx + ", $at, "]\n",)*)
    };
}
/// What was there is added.
macro_rules! end {
    ($($n:literal $at:literal),*) => {
        concat!($("vpaddd zmm", $n, ", zmm", $n, ", [rdx + ", $at, "]\n",)*)
    };
}

/// Every vector register is used, and has the words at the end.
macro_rules! rounds {
    ($words:ident: $($code:expr,)* => $($operand:tt)*) => {
        asm!(
            $($code,)*
            $($operand)*
            out("zmm0") $words[0][0], out("zmm1") $words[0][1], out("zmm2") $words[0][2], out("zmm3") $words[0][3],
            out("zmm4") $words[0][4], out("zmm5") $words[0][5], out("zmm6") $words[0][6], out("zmm7") $words[0][7],
            out("zmm8") $words[0][8], out("zmm9") $words[0][9], out("zmm10") $words[0][10], out("zmm11") $words[0][11],
            out("zmm12") $words[0][12], out("zmm13") $words[0][13], out("zmm14") $words[0][14], out("zmm15") $words[0][15],
            out("zmm16") $words[1][0], out("zmm17") $words[1][1], out("zmm18") $words[1][2], out("zmm19") $words[1][3],
            out("zmm20") $words[1][4], out("zmm21") $words[1][5], out("zmm22") $words[1][6], out("zmm23") $words[1][7],
            out("zmm24") $words[1][8], out("zmm25") $words[1][9], out("zmm26") $words[1][10], out("zmm27") $words[1][11],
            out("zmm28") $words[1][12], out("zmm29") $words[1][13], out("zmm30") $words[1][14], out("zmm31") $words[1][15],
            options(nostack)
        )
    };
}

/// The blocks of two states whose sixteen vectors are at `x` and `y`, but for the counters, word by word.
///
/// # Safety
///
/// `x` and `y` may be read, sixteen vectors each; they are aligned as vectors are.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn alone(x: *const V, y: *const V, counters: &[V; 2]) -> Words {
    let mut words = [[_mm512_setzero_si512(); 16]; 2];
    // SAFETY: reads what the caller says that it may, and the counters.
    unsafe {
        rounds!(words:
            "mov rdx, {x}",
            begin!(0 0, 1 64, 2 128, 3 192, 4 256, 5 320, 6 384, 7 448),
            begin!(8 512, 9 576, 10 640, 11 704, 13 832, 14 896, 15 960),
            "mov rdx, {y}",
            begin!(16 0, 17 64, 18 128, 19 192, 20 256, 21 320, 22 384, 23 448),
            begin!(24 512, 25 576, 26 640, 27 704, 29 832, 30 896, 31 960),
            "vmovdqa64 zmm12, [{counters}]",
            "vmovdqa64 zmm28, [{counters} + 64]",
            "mov eax, 10",
            "2:",
            double_round!(),
            "dec eax",
            "jnz 2b",
            "mov rdx, {x}",
            "vpaddd zmm12, zmm12, [{counters}]",
            end!(0 0, 1 64, 2 128, 3 192, 4 256, 5 320, 6 384, 7 448),
            end!(8 512, 9 576, 10 640, 11 704, 13 832, 14 896, 15 960),
            "mov rdx, {y}",
            "vpaddd zmm28, zmm28, [{counters} + 64]",
            end!(16 0, 17 64, 18 128, 19 192, 20 256, 21 320, 22 384, 23 448),
            end!(24 512, 25 576, 26 640, 27 704, 29 832, 30 896, 31 960),
            => x = in(reg) x, y = in(reg) y, counters = in(reg) counters.as_ptr(),
            out("rax") _, out("rdx") _,
        );
    }
    words
}

/// Twenty rounds, and what is beside eight double rounds of them.
///
/// # Safety
///
/// `beside` points to a [`super::beside::Beside`] whose pointers are as it has them.
#[inline]
#[target_feature(enable = "avx512f,bmi2")]
pub(super) unsafe fn beside(beside: *mut u8) -> Words {
    let mut words = [[_mm512_setzero_si512(); 16]; 2];
    // SAFETY: reads what is in `beside`, the sixteen vectors of either column, and of each text its bytes; writes the numbers
    // in `beside`. All are of these sizes, aligned as vectors are, and live, as the caller promises.
    unsafe {
        rounds!(words:
            "mov [rsi + 976], rbx",
            "lea rbx, [rsi + 896]",
            "mov rdx, [rsi + 960]",
            begin!(0 0, 1 64, 2 128, 3 192, 4 256, 5 320, 6 384, 7 448),
            begin!(8 512, 9 576, 10 640, 11 704, 13 832, 14 896, 15 960),
            "mov rdx, [rsi + 968]",
            begin!(16 0, 17 64, 18 128, 19 192, 20 256, 21 320, 22 384, 23 448),
            begin!(24 512, 25 576, 26 640, 27 704, 29 832, 30 896, 31 960),
            "vmovdqa64 zmm12, [rsi + 1024]",
            "vmovdqa64 zmm28, [rsi + 1088]",
            "2:",
            "mov rsi, [rbx]",
            "mov r9, [rsi]",
            "mov r10, [rsi + 128]",
            "mov r11, [rsi + 256]",
            "mov r12, [rsi + 8]",
            "mov r13, [rsi + 136]",
            "mov r14, [rsi + 264]",
            first!(0, 0),
            second!(1, 0),
            first!(2, 16),
            second!(3, 16),
            first!(4, 32),
            second!(5, 32),
            first!(6, 48),
            second!(7, 48),
            "mov [rsi], r9",
            "mov [rsi + 128], r10",
            "mov [rsi + 256], r11",
            "mov [rsi + 8], r12",
            "mov [rsi + 136], r13",
            "mov [rsi + 264], r14",
            "add qword ptr [rsi + 768], 64",
            "add qword ptr [rsi + 776], 64",
            "add rbx, 8",
            "test bl, 63",
            "jnz 2b",
            // The last four rounds have nothing beside them.
            double_round!(),
            double_round!(),
            "mov rdx, [rbx]",
            "vpaddd zmm12, zmm12, [rbx + 64]",
            end!(0 0, 1 64, 2 128, 3 192, 4 256, 5 320, 6 384, 7 448),
            end!(8 512, 9 576, 10 640, 11 704, 13 832, 14 896, 15 960),
            "mov rdx, [rbx + 8]",
            "vpaddd zmm28, zmm28, [rbx + 128]",
            end!(16 0, 17 64, 18 128, 19 192, 20 256, 21 320, 22 384, 23 448),
            end!(24 512, 25 576, 26 640, 27 704, 29 832, 30 896, 31 960),
            "mov rbx, [rbx + 16]",
            => inout("rsi") beside => _,
            out("rax") _, out("rcx") _, out("rdx") _, out("rdi") _, out("r8") _, out("r9") _, out("r10") _,
            out("r11") _, out("r12") _, out("r13") _, out("r14") _, out("r15") _,
        );
    }
    words
}
