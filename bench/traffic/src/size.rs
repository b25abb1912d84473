//! Packet sizes: which there are, and in which order they come.
//!
//! **All sizes here are of Ethernet frames with their check sequence** (FCS, 4 bytes), as RFC 2544 and data sheets count:
//! 64 is the shortest. In memory a packet has 4 bytes less ([`in_memory`]); on the wire it takes 20 more (preamble and gap).
//!
//! Written as text: `512`, `rfc2544`, `imix`, `64..1518` (each as likely), or a mix `64:7,594:4,1518:1` (size:weight).
//! Keeps true: a mix is exact over each cycle of its weights, in an order that the seed shuffles.

use core::fmt;
use core::str::FromStr;

use crate::random::Random;

/// Bytes of the frame check sequence, which hardware adds.
pub const FCS: usize = 4;
/// The shortest Ethernet frame with FCS (IEEE 802.3 §4.4.2).
pub const SHORTEST: u16 = 64;
/// The longest one that can be asked for: what an IP length field can say must hold it.
pub const LONGEST: u16 = 65_535;
/// The sizes of RFC 2544 §9.1.
pub const RFC_2544: [u16; 7] = [64, 128, 256, 512, 1024, 1280, 1518];
/// The "simple IMIX": IP packets of 40, 576 and 1500 bytes as 7:4:1, with 18 bytes of Ethernet, padded to 64. Vendors of
/// testers have used it since about 2000; RFC 6985 says how such mixes are named.
pub const IMIX: [(u16, u32); 3] = [(64, 7), (594, 4), (1518, 1)];
/// The longest cycle of a mix: the sum of its weights, once they have no common divisor.
pub const LONGEST_CYCLE: u32 = 4096;

/// Which sizes packets have, in bytes with FCS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// All the same.
    Fixed(u16),
    /// Sizes with weights.
    Mix(Vec<(u16, u32)>),
    /// Each from the first to the last, both included, as likely as another.
    Range(u16, u16),
}

/// A text that says no sizes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Not a number, a range, a mix or a name.
    #[error(
        "`{0}` is no packet size: expected 64 to 65535 (bytes with FCS), 64..1518, 64:7,1518:1, imix or rfc2544"
    )]
    Syntax(String),
    /// A size outside of what there is.
    #[error("packets of {0} bytes cannot be: sizes with FCS are 64 to 65535")]
    Bounds(u64),
    /// A range that ends before it starts.
    #[error("the range {0}..{1} is empty: the smaller size comes first")]
    Empty(u16, u16),
    /// Weights that cannot be cycled through.
    #[error("the weights of the mix add up to {0}, without their common divisor: they must to 1 to 4096")]
    Weights(u64),
}

impl Sizes {
    /// RFC 2544's sizes, as often one as another. For a trial at each, see [`Sizes::distinct`].
    pub fn rfc2544() -> Self {
        Self::Mix(RFC_2544.map(|size| (size, 1)).into())
    }

    /// The simple IMIX.
    pub fn imix() -> Self {
        Self::Mix(IMIX.into())
    }

    /// The smallest size.
    pub fn least(&self) -> u16 {
        match self {
            Self::Fixed(size) | Self::Range(size, _) => *size,
            Self::Mix(mix) => mix.iter().map(|(size, _)| *size).min().unwrap_or(SHORTEST),
        }
    }

    /// The largest size.
    pub fn most(&self) -> u16 {
        match self {
            Self::Fixed(size) | Self::Range(_, size) => *size,
            Self::Mix(mix) => mix.iter().map(|(size, _)| *size).max().unwrap_or(SHORTEST),
        }
    }

    /// The sizes to run a trial at, one after the other: all of a mix, the ends of a range.
    pub fn distinct(&self) -> Vec<u16> {
        match self {
            Self::Fixed(size) => vec![*size],
            Self::Range(from, to) if from == to => vec![*from],
            Self::Range(from, to) => vec![*from, *to],
            Self::Mix(mix) => mix.iter().map(|(size, _)| *size).collect(),
        }
    }

    /// The mean size, in bytes with FCS.
    pub fn mean(&self) -> f64 {
        match self {
            Self::Fixed(size) => f64::from(*size),
            Self::Range(from, to) => (f64::from(*from) + f64::from(*to)) / 2.0,
            Self::Mix(mix) => {
                let weights: u64 = mix.iter().map(|(_, weight)| u64::from(*weight)).sum();
                let bytes: u64 = mix.iter().map(|(size, weight)| u64::from(*size) * u64::from(*weight)).sum();
                bytes as f64 / weights.max(1) as f64
            }
        }
    }

    /// Checks what a value made by hand might get wrong.
    ///
    /// # Errors
    /// A size below 64, an empty range, weights that add up to 0 or over [`LONGEST_CYCLE`].
    pub fn check(&self) -> Result<(), SizeError> {
        if self.least() < SHORTEST {
            return Err(SizeError::Bounds(self.least().into()));
        }
        match self {
            Self::Range(from, to) if from > to => Err(SizeError::Empty(*from, *to)),
            Self::Mix(mix) => match cycle(mix) {
                0 => Err(SizeError::Weights(0)),
                long if long > u64::from(LONGEST_CYCLE) => Err(SizeError::Weights(long)),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

/// How long a packet of `size` bytes with FCS is in memory.
pub fn in_memory(size: u16) -> usize {
    usize::from(size).saturating_sub(FCS)
}

fn divisor(mix: &[(u16, u32)]) -> u32 {
    fn gcd(a: u32, b: u32) -> u32 {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    mix.iter().fold(0, |divisor, (_, weight)| gcd(divisor, *weight)).max(1)
}

fn cycle(mix: &[(u16, u32)]) -> u64 {
    let divisor = divisor(mix);
    mix.iter().map(|(_, weight)| u64::from(weight / divisor)).sum()
}

impl FromStr for Sizes {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let syntax = || SizeError::Syntax(text.into());
        let size = |text: &str| {
            let size: u64 = text.trim().parse().map_err(|_| syntax())?;
            u16::try_from(size).ok().filter(|size| *size >= SHORTEST).ok_or(SizeError::Bounds(size))
        };
        let sizes = match text.trim() {
            "imix" => Self::imix(),
            "rfc2544" => Self::rfc2544(),
            text => match text.split_once("..") {
                Some((from, to)) => Self::Range(size(from)?, size(to)?),
                None if text.contains([':', ',']) => {
                    let part = |part: &str| match part.split_once(':') {
                        Some((bytes, weight)) => {
                            Ok((size(bytes)?, weight.trim().parse().map_err(|_| syntax())?))
                        }
                        None => Ok((size(part)?, 1)),
                    };
                    Self::Mix(text.split(',').map(part).collect::<Result<_, _>>()?)
                }
                None => Self::Fixed(size(text)?),
            },
        };
        sizes.check()?;
        Ok(sizes)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size}"),
            Self::Range(from, to) => write!(f, "{from}..{to}"),
            Self::Mix(mix) if *mix == IMIX => f.write_str("imix"),
            Self::Mix(_) if *self == Self::rfc2544() => f.write_str("rfc2544"),
            Self::Mix(mix) => mix.iter().enumerate().try_for_each(|(at, (size, weight))| {
                write!(f, "{}{size}:{weight}", if at == 0 { "" } else { "," })
            }),
        }
    }
}

/// The sizes of one packet after the other.
#[derive(Clone, Debug)]
pub struct SizeSequence {
    /// One cycle of a mix; a range's lower end otherwise.
    cycle: Vec<u16>,
    at: usize,
    /// How many sizes a range has; 0 without one.
    span: u64,
    random: Random,
}

impl SizeSequence {
    /// The sequence of `sizes` that `seed` leads to.
    ///
    /// # Errors
    /// See [`Sizes::check`].
    pub fn new(sizes: &Sizes, seed: u64) -> Result<Self, SizeError> {
        sizes.check()?;
        let mut random = Random::new(seed, 0x5123);
        let (mut cycle, span) = match sizes {
            Sizes::Fixed(size) => (vec![*size], 0),
            Sizes::Range(from, to) => (vec![*from], u64::from(to - from) + 1),
            Sizes::Mix(mix) => {
                let divisor = divisor(mix);
                let repeated =
                    |(size, weight): &(u16, u32)| core::iter::repeat_n(*size, (weight / divisor) as usize);
                (mix.iter().flat_map(repeated).collect(), 0)
            }
        };
        for last in (1..cycle.len()).rev() {
            cycle.swap(last, random.below(last as u64 + 1) as usize);
        }
        Ok(Self { cycle, at: 0, span, random })
    }

    /// The next packet's size, in bytes with FCS.
    #[inline]
    pub fn next_size(&mut self) -> u16 {
        if self.span != 0 {
            return self.cycle[0] + self.random.below(self.span) as u16;
        }
        let size = self.cycle[self.at];
        self.at = if self.at + 1 == self.cycle.len() { 0 } else { self.at + 1 };
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for text in ["64", "1518", "imix", "rfc2544", "64..1518", "64:7,594:4,1500:1"] {
            assert_eq!(text.parse::<Sizes>().unwrap().to_string(), text);
        }
        assert_eq!("64:7,594:4,1518:1".parse(), Ok(Sizes::imix()));
        assert_eq!(" 64, 128 ".parse(), Ok(Sizes::Mix(vec![(64, 1), (128, 1)])));
    }

    #[test]
    fn what_cannot_be_is_refused_and_named() {
        assert_eq!("63".parse::<Sizes>(), Err(SizeError::Bounds(63)));
        assert_eq!("65536".parse::<Sizes>(), Err(SizeError::Bounds(65536)));
        assert_eq!("128..64".parse::<Sizes>(), Err(SizeError::Empty(128, 64)));
        assert_eq!("64:0".parse::<Sizes>(), Err(SizeError::Weights(0)));
        assert_eq!("64:4096,65:1".parse::<Sizes>(), Err(SizeError::Weights(4097)));
        assert_eq!("64:8192,65:8192".parse::<Sizes>().map(|s| s.mean()), Ok(64.5));
        for text in ["", "jumbo", "64:", ":", "64..", "64,,65", "-64"] {
            assert!(matches!(text.parse::<Sizes>(), Err(SizeError::Syntax(_))), "{text}");
        }
        assert_eq!(SizeSequence::new(&Sizes::Mix(vec![]), 1).unwrap_err(), SizeError::Weights(0));
        assert!(SizeSequence::new(&Sizes::Fixed(20), 1).is_err());
    }

    #[test]
    fn imix_is_exact_in_each_cycle_of_twelve() {
        let mut sizes = SizeSequence::new(&Sizes::imix(), 5).unwrap();
        for _ in 0..3 {
            let mut cycle: Vec<u16> = (0..12).map(|_| sizes.next_size()).collect();
            cycle.sort_unstable();
            assert_eq!(cycle, [64, 64, 64, 64, 64, 64, 64, 594, 594, 594, 594, 1518]);
        }
        assert!((Sizes::imix().mean() - (7.0 * 64.0 + 4.0 * 594.0 + 1518.0) / 12.0).abs() < 1e-9);
    }

    #[test]
    fn a_range_reaches_both_ends_and_nothing_else() {
        let mut sizes = SizeSequence::new(&Sizes::Range(64, 67), 5).unwrap();
        let mut seen = [0; 4];
        for _ in 0..4000 {
            seen[usize::from(sizes.next_size() - 64)] += 1;
        }
        // Binomial, standard deviation 27.
        assert!(seen.iter().all(|count| (850..1150).contains(count)), "{seen:?}");
        assert_eq!(in_memory(64), 60);
    }
}
