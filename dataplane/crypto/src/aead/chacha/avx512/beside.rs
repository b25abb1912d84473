//! ChaCha20 of two blocks of sixteen packets, and beside it Poly1305 of packets in the processor's integer unit.
//!
//! Owns: the numbers of these packets, eight or sixteen, while they are there, in the form that the instructions want
//! ([`super::rounds`]). Keeps true: no branch and no address depends on a key, on text or on a number; sums are as [`super::abreast`]
//! has them, that is not yet multiplied by r; between blocks their highest word is below 7.

use super::GROUP;
use super::abreast::{ABREAST, Abreast};
use super::keystream::{Columns, Words, counters};
use super::limbs::{Factor, Limbs, clamped, from_wide, to_wide};
use super::rounds;
use super::vector::{V, wipe};
use std::arch::x86_64::*;

/// Bytes that are taken of each of eight packets at a time.
pub(super) const STRIDE: usize = 128;
/// The same of each of sixteen.
pub(super) const SHORT_STRIDE: usize = 64;
/// Pairs of packets that are gone through at a time: one for each of eight double rounds.
const TURNS: usize = 8;

/// Eight packets, of which 128 bytes are taken at a time.
pub(super) type Eight = Beside<ABREAST, STRIDE>;
/// Sixteen packets, of which 64 bytes are taken at a time.
pub(super) type Sixteen = Beside<GROUP, SHORT_STRIDE>;

/// All that the instructions work with, which know where everything is.
#[repr(C, align(64))]
pub(super) struct Beside<const LANES: usize, const BYTES: usize> {
    /// The packets' numbers, by words.
    hash: [[V; 2]; 3],
    /// r, and its higher half times 5/4.
    r: [[V; 2]; 3],
    texts: [*const u8; GROUP],
    /// The first word of each pair of numbers, in the order in which they are gone through.
    turns: [*mut u64; TURNS],
    columns: [*const V; 2],
    /// A register that is to be given back.
    kept: u64,
    counters: [V; 2],
}

impl Eight {
    /// With the numbers of `set`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn new(set: &Abreast) -> Self {
        Self::with([to_wide(&set.hash); 2], [wide(&set.r); 2])
    }

    /// Gives the numbers back to `set`, and forgets all.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vbmi2")]
    pub(super) fn end(&mut self, set: &mut Abreast) {
        [set.hash, _] = self.leave();
    }
}

impl Sixteen {
    /// With the numbers of `sets`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn of_sets([low, high]: &[Abreast; 2]) -> Self {
        Self::with([to_wide(&low.hash), to_wide(&high.hash)], [wide(&low.r), wide(&high.r)])
    }

    /// From the beginning, with keys of Poly1305 as [`Abreast::new`] has them.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn of_keys(keys: &[[V; 4]; 2]) -> Self {
        let [low, high] = keys;
        Self::with([[_mm512_setzero_si512(); 3]; 2], [clamped(low[0], low[1]), clamped(high[0], high[1])])
    }

    /// The numbers; forgets all.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vbmi2")]
    pub(super) fn end(&mut self) -> [Limbs; 2] {
        self.leave()
    }
}

/// A factor's low and high half.
#[inline]
#[target_feature(enable = "avx512f")]
fn wide(factor: &Factor) -> [V; 2] {
    let [low, high, _] = to_wide(&factor.limbs());
    [low, high]
}

impl<const LANES: usize, const BYTES: usize> Beside<LANES, BYTES> {
    /// With these numbers, and r's low and high halves.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn with([a, b]: [Limbs; 2], [r, s]: [[V; 2]; 2]) -> Self {
        let zero = _mm512_setzero_si512();
        // The lowest two bits of the higher half are not set.
        let more = |high| _mm512_add_epi64(high, _mm512_srli_epi64::<2>(high));
        Self {
            hash: [[a[0], b[0]], [a[1], b[1]], [a[2], b[2]]],
            r: [[r[0], s[0]], [r[1], s[1]], [more(r[1]), more(s[1])]],
            texts: [std::ptr::null(); GROUP],
            turns: [std::ptr::null_mut(); TURNS],
            columns: [std::ptr::null(); 2],
            kept: 0,
            counters: [zero; 2],
        }
    }

    /// A block of all packets of either column, by columns; the texts, a part of each of the packets, go into their numbers.
    #[inline]
    #[target_feature(enable = "avx512f,bmi2")]
    pub(super) fn run(
        &mut self,
        columns: [&Columns; 2],
        blocks: [u32; 2],
        texts: [&[u8; BYTES]; LANES],
    ) -> Words {
        self.counters = counters(blocks);
        for (own, text) in self.texts.iter_mut().zip(texts) {
            *own = text.as_ptr();
        }
        self.columns = columns.map(|columns| columns.0.as_ptr());
        let own = std::ptr::from_mut(self);
        // SAFETY: the texts have as many bytes as are taken of them, as often as their pair is gone through; all that is pointed to
        // lives, and `self` is ours alone. The processor has AVX-512 and BMI2.
        unsafe {
            let turns = (&raw mut (*own).turns).cast::<*mut u64>();
            for n in 0..TURNS {
                turns.add(n).write(own.cast::<u64>().add(2 * n % LANES));
            }
            rounds::beside(own.cast())
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512vbmi2")]
    fn leave(&mut self) -> [Limbs; 2] {
        let [low, middle, high] = self.hash;
        let numbers = [from_wide(&[low[0], middle[0], high[0]]), from_wide(&[low[1], middle[1], high[1]])];
        wipe(self.hash.as_flattened_mut());
        wipe(self.r.as_flattened_mut());
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::super::keystream::same_two;
    use super::super::vector::{from_words, load, to_words};
    use super::*;
    use std::mem::offset_of;

    /// The instructions have these numbers in them.
    #[test]
    fn everything_is_where_the_instructions_look_for_it() {
        let places = [
            offset_of!(Eight, r),
            offset_of!(Eight, texts),
            offset_of!(Eight, turns),
            offset_of!(Eight, columns),
        ];
        assert_eq!(places, [384, 768, 896, 960]);
        assert_eq!([offset_of!(Eight, kept), offset_of!(Eight, counters)], [976, 1024]);
        assert_eq!((size_of::<Eight>(), align_of::<Eight>()), (size_of::<Sixteen>(), 64));
    }

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
                let mut words = [[zero; GROUP]; 2];
                let expected = same_two([&columns; 2], [u32::MAX; 2]);
                let mut beside = Eight::new(&one);
                for _ in 0..50 {
                    words = beside.run([&columns; 2], [u32::MAX; 2], texts.each_ref());
                    for block in 0..2 {
                        let mut rows = [zero; ABREAST];
                        for (row, text) in rows.iter_mut().zip(&texts) {
                            *row = load(&text.as_chunks().0[block]);
                        }
                        other.whole::<false>(&rows);
                    }
                }
                beside.end(&mut one);
                let lens = from_words(&[6400; 8]);
                for (one, other) in one.finish(zero, lens).into_iter().zip(other.finish(zero, lens)) {
                    assert_eq!(to_words(one), to_words(other), "{word:x}");
                }
                for (one, other) in words.iter().flatten().zip(expected.iter().flatten()) {
                    assert_eq!(_mm512_cmpneq_epi32_mask(*one, *other), 0, "{word:x}");
                }
            }
        }
    }
}
