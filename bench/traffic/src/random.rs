//! Numbers that look random: the same ones for the same seed, on every machine.
//!
//! [`Random`] is a sequence (xoshiro256++, Blackman and Vigna 2019); [`mix`] is a function of its input alone
//! (SplitMix64's finaliser, Steele, Lea and Flood 2014), so that a flow has a random address without memory for it.

/// A sequence of numbers.
#[derive(Clone, Debug)]
pub struct Random([u64; 4]);

impl Random {
    /// The sequence of `seed`; `purpose` gives each user of one seed a sequence of its own.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut state = mix(seed ^ mix(purpose));
        // Never all zero, which xoshiro could not leave: mix is a bijection, and four inputs in a row differ.
        Self([0; 4].map(|_: u64| {
            state = state.wrapping_add(GOLDEN);
            mix(state)
        }))
    }

    /// The next number, of 64 random bits.
    #[inline]
    pub fn number(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A number below `limit`; 0 for a limit of 0. No number is favoured by more than `limit` / 2^64.
    #[inline]
    pub fn below(&mut self, limit: u64) -> u64 {
        scale(self.number(), limit)
    }

    /// A number above 0 and up to 1, in steps of 2^-53.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        ((self.number() >> 11) + 1) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

pub use zsync_ebpf_common::probe::mix;

/// Brings 64 random bits below `limit` (Lemire 2019, without the rejection).
#[inline]
pub(crate) fn scale(number: u64, limit: u64) -> u64 {
    ((u128::from(number) * u128::from(limit)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_another_seed_or_purpose_others() {
        let first = |seed, purpose| {
            let mut random = Random::new(seed, purpose);
            [random.number(), random.number(), random.number()]
        };
        assert_eq!(first(1, 2), first(1, 2));
        assert_ne!(first(1, 2), first(2, 2));
        assert_ne!(first(1, 2), first(1, 3));
        assert_ne!(first(1, 2), first(2, 1));
    }

    #[test]
    fn the_generator_is_xoshiro256_plus_plus() {
        // The reference implementation, from the state 1, 2, 3, 4.
        let mut random = Random([1, 2, 3, 4]);
        assert_eq!(
            [random.number(), random.number(), random.number()],
            [41943041, 58720359, 3588806011781223]
        );
    }

    #[test]
    fn units_are_above_zero_up_to_one_and_even() {
        let mut random = Random::new(9, 0);
        let mut sum = 0.0;
        for _ in 0..100_000 {
            let unit = random.unit();
            assert!(unit > 0.0 && unit <= 1.0);
            sum += unit;
        }
        // The mean's standard deviation is 0.0009.
        assert!((sum / 100_000.0 - 0.5).abs() < 0.005, "{sum}");
        assert_eq!(Random::new(1, 1).below(0), 0);
    }
}
