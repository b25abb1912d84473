//! ChaCha20 of two blocks of sixteen packets, and beside it Poly1305 of eight of them in the processor's integer unit.
//!
//! Owns: the order of the instructions, and with it why this is in the processor's own words: the compiler puts such work one
//! behind the other, and the processor does not look far enough ahead to do it side by side. On Zen 4 the rounds take 1110
//! clocks alone, and no more with 64 blocks of Poly1305 beside them, which take 250 clocks in vectors, where they are in the
//! rounds' way.
//!
//! Keeps true: no branch and no address depends on a key, on text or on a number; sums are as [`super::abreast`] has them, that is
//! not yet multiplied by r; between blocks their highest word is below 7.

use super::GROUP;
use super::abreast::{ABREAST, Abreast};
use super::keystream::Columns;
use super::limbs::{from_wide, to_wide};
use super::vector::{V, wipe};
use std::arch::asm;
use std::arch::x86_64::*;

/// Bytes of each packet that are taken at a time.
pub(super) const STRIDE: usize = 128;

/// A packet's number, as the instructions want it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Lane {
    hash: [u64; 3],
    /// r, and its higher half times 5/4.
    r: [u64; 3],
    text: *const u8,
    /// Not zero: the last one.
    last: u64,
}

/// All that the instructions work with.
#[repr(C, align(64))]
pub(super) struct Beside {
    lanes: [Lane; ABREAST],
    columns: *const V,
    words: *mut V,
    counters: [V; 2],
}

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

/// hash = hash r + block, of the packet at `$of`, whose number is in three registers, and the block at `$at` of its text: first
/// the products, then how they are put together.
macro_rules! products {
    ($of:literal, $a:literal $b:literal $c:literal) => {
        concat!(
            "mov rdx, ",
            $a,
            "\n",
            "mulx rcx, rax, [rsi + ",
            $of,
            " + 24]\n",
            "mulx r8, rdi, [rsi + ",
            $of,
            " + 32]\n",
            "mov rdx, ",
            $b,
            "\n",
            "mulx ",
            $b,
            ", ",
            $a,
            ", [rsi + ",
            $of,
            " + 40]\n",
            "add rax, ",
            $a,
            "\n",
            "adc rcx, ",
            $b,
            "\n",
            "mulx ",
            $b,
            ", ",
            $a,
            ", [rsi + ",
            $of,
            " + 24]\n",
            "add rdi, ",
            $a,
            "\n",
            "adc r8, ",
            $b,
            "\n",
            "mov r15, [rsi + ",
            $of,
            " + 40]\n",
            "imul r15, ",
            $c,
            "\n",
            "imul ",
            $c,
            ", [rsi + ",
            $of,
            " + 24]\n",
        )
    };
}
macro_rules! together {
    ($of:literal, $a:literal $b:literal $c:literal, $at:literal) => {
        concat!(
            "add rdi, r15\n",
            "adc r8, 0\n",
            "add rdi, rcx\n",
            "adc ",
            $c,
            ", r8\n",
            // What is above 2^130, times five.
            "mov r15, -4\n",
            "mov ",
            $b,
            ", rdi\n",
            "and r15, ",
            $c,
            "\n",
            "mov ",
            $a,
            ", ",
            $c,
            "\n",
            "and ",
            $c,
            ", 3\n",
            "shr ",
            $a,
            ", 2\n",
            "add ",
            $a,
            ", r15\n",
            "add ",
            $a,
            ", rax\n",
            "adc ",
            $b,
            ", 0\n",
            "adc ",
            $c,
            ", 0\n",
            "mov rdx, [rsi + ",
            $of,
            " + 48]\n",
            "add ",
            $a,
            ", [rdx + ",
            $at,
            "]\n",
            "adc ",
            $b,
            ", [rdx + ",
            $at,
            " + 8]\n",
            "adc ",
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
        concat!(steps!(x $n), products!(64, "r12" "r13" "r14"), steps!(y $n), together!(64, "r12" "r13" "r14", $at))
    };
}

impl Beside {
    /// With the numbers of `set`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn new(set: &Abreast) -> Self {
        let zero = _mm512_setzero_si512();
        let lane = Lane { hash: [0; 3], r: [0; 3], text: std::ptr::null(), last: 0 };
        let mut own = Self {
            lanes: [lane; ABREAST],
            columns: std::ptr::null(),
            words: std::ptr::null_mut(),
            counters: [zero; 2],
        };
        let ([a, b, c], [low, high, _]) = (to_wide(&set.hash), to_wide(&set.r.limbs()));
        for (n, lane) in own.lanes.iter_mut().enumerate() {
            lane.hash = [a[n], b[n], c[n]];
            // The lowest two bits of the higher half are not set.
            lane.r = [low[n], high[n], high[n] + (high[n] >> 2)];
        }
        own.lanes[ABREAST - 1].last = 1;
        own
    }

    /// Blocks `block` and `block` + 1 of all packets, by columns, into `words`, and the texts, a part of each of the packets, into
    /// their numbers.
    #[inline(never)]
    #[target_feature(enable = "avx512f,bmi2")]
    pub(super) fn run(
        &mut self,
        columns: &Columns,
        block: u32,
        words: &mut [[V; GROUP]; 2],
        texts: [&[u8; STRIDE]; ABREAST],
    ) {
        self.counters = [_mm512_set1_epi32(block as i32), _mm512_set1_epi32(block.wrapping_add(1) as i32)];
        for (lane, text) in self.lanes.iter_mut().zip(texts) {
            lane.text = text.as_ptr();
        }
        self.columns = columns.0.as_ptr();
        self.words = words.as_mut_ptr().cast();
        // SAFETY: reads `self`, the sixteen vectors of `columns`, and of each text its bytes; writes the numbers in `self`, and
        // the 32 vectors of `words`. All are of these sizes, aligned as vectors are, and live. The processor has AVX-512 and BMI2.
        unsafe {
            asm!(
                "mov rdx, [rsi + 512]",
                "vmovdqa64 zmm0, [rdx + 0]",
                "vmovdqa64 zmm16, zmm0",
                "vmovdqa64 zmm1, [rdx + 64]",
                "vmovdqa64 zmm17, zmm1",
                "vmovdqa64 zmm2, [rdx + 128]",
                "vmovdqa64 zmm18, zmm2",
                "vmovdqa64 zmm3, [rdx + 192]",
                "vmovdqa64 zmm19, zmm3",
                "vmovdqa64 zmm4, [rdx + 256]",
                "vmovdqa64 zmm20, zmm4",
                "vmovdqa64 zmm5, [rdx + 320]",
                "vmovdqa64 zmm21, zmm5",
                "vmovdqa64 zmm6, [rdx + 384]",
                "vmovdqa64 zmm22, zmm6",
                "vmovdqa64 zmm7, [rdx + 448]",
                "vmovdqa64 zmm23, zmm7",
                "vmovdqa64 zmm8, [rdx + 512]",
                "vmovdqa64 zmm24, zmm8",
                "vmovdqa64 zmm9, [rdx + 576]",
                "vmovdqa64 zmm25, zmm9",
                "vmovdqa64 zmm10, [rdx + 640]",
                "vmovdqa64 zmm26, zmm10",
                "vmovdqa64 zmm11, [rdx + 704]",
                "vmovdqa64 zmm27, zmm11",
                "vmovdqa64 zmm12, [rdx + 768]",
                "vmovdqa64 zmm28, zmm12",
                "vmovdqa64 zmm13, [rdx + 832]",
                "vmovdqa64 zmm29, zmm13",
                "vmovdqa64 zmm14, [rdx + 896]",
                "vmovdqa64 zmm30, zmm14",
                "vmovdqa64 zmm15, [rdx + 960]",
                "vmovdqa64 zmm31, zmm15",
                "vmovdqa64 zmm12, [rsi + 576]",
                "vmovdqa64 zmm28, [rsi + 640]",
                "2:",
                "mov r9, [rsi]",
                "mov r10, [rsi + 8]",
                "mov r11, [rsi + 16]",
                "mov r12, [rsi + 64]",
                "mov r13, [rsi + 72]",
                "mov r14, [rsi + 80]",
                first!(0, 0),
                second!(1, 0),
                first!(2, 16),
                second!(3, 16),
                first!(4, 32),
                second!(5, 32),
                first!(6, 48),
                second!(7, 48),
                first!(0, 64),
                second!(1, 64),
                first!(2, 80),
                second!(3, 80),
                first!(4, 96),
                second!(5, 96),
                first!(6, 112),
                second!(7, 112),
                "mov [rsi], r9",
                "mov [rsi + 8], r10",
                "mov [rsi + 16], r11",
                "mov [rsi + 64], r12",
                "mov [rsi + 72], r13",
                "mov [rsi + 80], r14",
                "cmp qword ptr [rsi + 120], 0",
                "lea rsi, [rsi + 128]",
                "je 2b",
                // The last four rounds have nothing beside them.
                steps!(x 0),
                steps!(y 0),
                steps!(x 1),
                steps!(y 1),
                steps!(x 2),
                steps!(y 2),
                steps!(x 3),
                steps!(y 3),
                steps!(x 4),
                steps!(y 4),
                steps!(x 5),
                steps!(y 5),
                steps!(x 6),
                steps!(y 6),
                steps!(x 7),
                steps!(y 7),
                steps!(x 0),
                steps!(y 0),
                steps!(x 1),
                steps!(y 1),
                steps!(x 2),
                steps!(y 2),
                steps!(x 3),
                steps!(y 3),
                steps!(x 4),
                steps!(y 4),
                steps!(x 5),
                steps!(y 5),
                steps!(x 6),
                steps!(y 6),
                steps!(x 7),
                steps!(y 7),
                "mov rdx, [rsi]",
                "mov rcx, [rsi + 8]",
                "vpaddd zmm0, zmm0, [rdx + 0]",
                "vmovdqa64 [rcx + 0], zmm0",
                "vpaddd zmm1, zmm1, [rdx + 64]",
                "vmovdqa64 [rcx + 64], zmm1",
                "vpaddd zmm2, zmm2, [rdx + 128]",
                "vmovdqa64 [rcx + 128], zmm2",
                "vpaddd zmm3, zmm3, [rdx + 192]",
                "vmovdqa64 [rcx + 192], zmm3",
                "vpaddd zmm4, zmm4, [rdx + 256]",
                "vmovdqa64 [rcx + 256], zmm4",
                "vpaddd zmm5, zmm5, [rdx + 320]",
                "vmovdqa64 [rcx + 320], zmm5",
                "vpaddd zmm6, zmm6, [rdx + 384]",
                "vmovdqa64 [rcx + 384], zmm6",
                "vpaddd zmm7, zmm7, [rdx + 448]",
                "vmovdqa64 [rcx + 448], zmm7",
                "vpaddd zmm8, zmm8, [rdx + 512]",
                "vmovdqa64 [rcx + 512], zmm8",
                "vpaddd zmm9, zmm9, [rdx + 576]",
                "vmovdqa64 [rcx + 576], zmm9",
                "vpaddd zmm10, zmm10, [rdx + 640]",
                "vmovdqa64 [rcx + 640], zmm10",
                "vpaddd zmm11, zmm11, [rdx + 704]",
                "vmovdqa64 [rcx + 704], zmm11",
                "vpaddd zmm12, zmm12, [rsi + 64]",
                "vmovdqa64 [rcx + 768], zmm12",
                "vpaddd zmm13, zmm13, [rdx + 832]",
                "vmovdqa64 [rcx + 832], zmm13",
                "vpaddd zmm14, zmm14, [rdx + 896]",
                "vmovdqa64 [rcx + 896], zmm14",
                "vpaddd zmm15, zmm15, [rdx + 960]",
                "vmovdqa64 [rcx + 960], zmm15",
                "vpaddd zmm16, zmm16, [rdx + 0]",
                "vmovdqa64 [rcx + 1024], zmm16",
                "vpaddd zmm17, zmm17, [rdx + 64]",
                "vmovdqa64 [rcx + 1088], zmm17",
                "vpaddd zmm18, zmm18, [rdx + 128]",
                "vmovdqa64 [rcx + 1152], zmm18",
                "vpaddd zmm19, zmm19, [rdx + 192]",
                "vmovdqa64 [rcx + 1216], zmm19",
                "vpaddd zmm20, zmm20, [rdx + 256]",
                "vmovdqa64 [rcx + 1280], zmm20",
                "vpaddd zmm21, zmm21, [rdx + 320]",
                "vmovdqa64 [rcx + 1344], zmm21",
                "vpaddd zmm22, zmm22, [rdx + 384]",
                "vmovdqa64 [rcx + 1408], zmm22",
                "vpaddd zmm23, zmm23, [rdx + 448]",
                "vmovdqa64 [rcx + 1472], zmm23",
                "vpaddd zmm24, zmm24, [rdx + 512]",
                "vmovdqa64 [rcx + 1536], zmm24",
                "vpaddd zmm25, zmm25, [rdx + 576]",
                "vmovdqa64 [rcx + 1600], zmm25",
                "vpaddd zmm26, zmm26, [rdx + 640]",
                "vmovdqa64 [rcx + 1664], zmm26",
                "vpaddd zmm27, zmm27, [rdx + 704]",
                "vmovdqa64 [rcx + 1728], zmm27",
                "vpaddd zmm28, zmm28, [rsi + 128]",
                "vmovdqa64 [rcx + 1792], zmm28",
                "vpaddd zmm29, zmm29, [rdx + 832]",
                "vmovdqa64 [rcx + 1856], zmm29",
                "vpaddd zmm30, zmm30, [rdx + 896]",
                "vmovdqa64 [rcx + 1920], zmm30",
                "vpaddd zmm31, zmm31, [rdx + 960]",
                "vmovdqa64 [rcx + 1984], zmm31",
                inout("rsi") std::ptr::from_mut(self) => _,
                out("rax") _, out("rcx") _, out("rdx") _, out("rdi") _, out("r8") _, out("r9") _, out("r10") _,
                out("r11") _, out("r12") _, out("r13") _, out("r14") _, out("r15") _,
                out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _, out("zmm6") _, out("zmm7") _,
                out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _, out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _,
                out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _, out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
                out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _, out("zmm28") _, out("zmm29") _, out("zmm30") _, out("zmm31") _,
                options(nostack)
            );
        }
    }

    /// Gives the numbers back to `set`, and forgets all.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vbmi2")]
    pub(super) fn end(mut self, set: &mut Abreast) {
        let word = |n: usize| self.lanes.map(|lane| lane.hash[n]);
        set.hash = from_wide(&[word(0), word(1), word(2)]);
        for lane in &mut self.lanes {
            // SAFETY: it is ours alone, and aligned as its type asks.
            unsafe {
                std::ptr::write_volatile(
                    lane,
                    Lane { hash: [0; 3], r: [0; 3], text: std::ptr::null(), last: 0 },
                )
            };
        }
        wipe(&mut self.counters);
    }
}

#[cfg(test)]
mod tests {
    use super::super::vector::{from_words, load};
    use super::*;

    /// With all bits set sums are as large as they get, and with carries everywhere.
    #[test]
    fn sums_and_key_stream_are_those_of_the_vectors() {
        if !super::super::is_available() {
            return;
        }
        let texts: [[u8; STRIDE]; ABREAST] = std::array::from_fn(|n| match n {
            0 => [0xff; STRIDE],
            1 => [0; STRIDE],
            _ => std::array::from_fn(|at| (at * (2 * n + 1) * 37 + n) as u8),
        });
        for word in [u64::MAX, 0, 0x0123_4567_89ab_cdef, 4, 0x0fff_fffc_0fff_fffc] {
            // SAFETY: the features are there: asked above.
            unsafe {
                let key = [from_words(&[word; 8]); 4];
                let (mut one, mut other) = (Abreast::new(key), Abreast::new(key));
                let columns = Columns([from_words(&[word.rotate_left(7); 8]); GROUP]);
                let zero = _mm512_setzero_si512();
                let (mut words, mut expected) = ([[zero; GROUP]; 2], [[zero; GROUP]; 2]);
                columns.same_two(u32::MAX, &mut expected);
                let mut beside = Beside::new(&one);
                for _ in 0..50 {
                    beside.run(&columns, u32::MAX, &mut words, texts.each_ref());
                    for block in 0..2 {
                        let mut rows = [zero; ABREAST];
                        for (row, text) in rows.iter_mut().zip(&texts) {
                            *row = load(&text.as_chunks().0[block]);
                        }
                        other.whole(&rows);
                    }
                }
                beside.end(&mut one);
                assert_eq!(one.finish(&[0; 8], &[6400; 8]), other.finish(&[0; 8], &[6400; 8]), "{word:x}");
                for (one, other) in words.iter().flatten().zip(expected.iter().flatten()) {
                    assert_eq!(_mm512_cmpneq_epi32_mask(*one, *other), 0, "{word:x}");
                }
            }
        }
    }
}
