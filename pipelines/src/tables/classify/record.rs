//! A rule as words: one or two cache lines, compared without a branch.
//!
//! All fields but ports are values under masks; ports are ranges. Both ranges are checked at once: each port has 31 bits of
//! a word, and the bit above says after a subtraction whether it came out negative.

use super::key::{ADDRESS, Key, MARK, META, PORTS, SETS};

/// The bits above the two ports.
const GUARDS: u64 = 1 << 63 | 1 << 31;
/// A port, or type and code.
const PORT: u64 = 0xffff;

/// Words: meta value and mask, lowest ports, highest ports, mark (value, and mask in the high half), sets, then the values and
/// the masks of the addresses: one word each for IPv4 (`N` = 8), four for IPv6 (`N` = 16, two unused).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub struct Record<const N: usize>(pub(crate) [u64; N]);

/// Words of addresses in a record of `n` words.
pub(crate) const fn address_words(n: usize) -> usize {
    if n == 8 { 1 } else { 4 }
}

impl<const N: usize> Record<N> {
    /// What every packet meets.
    pub(crate) fn any() -> Self {
        let mut words = [0; N];
        words[3] = PORT | PORT << 32;
        Self(words)
    }

    /// Asks for these bits of a word of the key (other than [`PORTS`]), besides what it asks for already.
    pub(crate) fn ask(&mut self, word: usize, value: u64, mask: u64) {
        let value = value & mask;
        match word {
            META => {
                self.0[0] |= value;
                self.0[1] |= mask;
            }
            MARK => self.0[4] |= value | mask << 32,
            SETS => self.0[5] |= value,
            _ => {
                let (at, words) = (word.saturating_sub(ADDRESS), address_words(N));
                self.0[6 + at] |= value;
                self.0[6 + words + at] |= mask;
            }
        }
    }

    /// Asks for ports within these ranges, source and destination.
    pub(crate) fn ask_ports(&mut self, source: (u16, u16), destination: (u16, u16)) {
        self.0[2] = u64::from(source.0) | u64::from(destination.0) << 32;
        self.0[3] = u64::from(source.1) | u64::from(destination.1) << 32;
    }

    /// Value and mask of a word of the key. Of [`PORTS`] nothing is asked in that form.
    #[inline]
    pub(crate) fn ternary(&self, word: usize) -> (u64, u64) {
        match word {
            META => (self.0[0], self.0[1]),
            MARK => (self.0[4] & 0xffff_ffff, self.0[4] >> 32),
            SETS => (self.0[5], self.0[5]),
            PORTS => (0, 0),
            _ => {
                let (at, words) = (word.saturating_sub(ADDRESS), address_words(N));
                (self.0[6 + at], self.0[6 + words + at])
            }
        }
    }

    /// Lowest and highest port, of the half that begins at bit `lane` (0 or 32).
    #[inline]
    pub(crate) fn ports(&self, lane: u32) -> (u64, u64) {
        (self.0[2] >> lane & PORT, self.0[3] >> lane & PORT)
    }

    /// Whether a packet meets it.
    #[inline(always)]
    pub fn meets(&self, key: &Key) -> bool {
        let r = &self.0;
        let mut wrong = (key[META] ^ r[0]) & r[1];
        wrong |= (key[MARK] ^ r[4]) & (r[4] >> 32);
        wrong |= !key[SETS] & r[5];
        if N == 8 {
            wrong |= (key[ADDRESS] ^ r[6]) & r[7];
        } else {
            for i in 0..4 {
                wrong |= (key[ADDRESS + i] ^ r[6 + i]) & r[10 + i];
            }
        }
        // No borrow crosses a guard: each half is at least 2^31 - 65,535.
        let above = (key[PORTS] | GUARDS) - r[2];
        let below = (r[3] | GUARDS) - key[PORTS];
        wrong |= (above & below & GUARDS) ^ GUARDS;
        wrong == 0
    }

    /// How many bits it asks for; each end of a range counts as the bits that it cuts off.
    pub(crate) fn asked(&self) -> u32 {
        let words = [META, MARK, SETS].into_iter().chain(ADDRESS..ADDRESS + address_words(N));
        let bits: u32 = words.map(|word| self.ternary(word).1.count_ones()).sum();
        let ports = [0, 32].map(|lane| {
            let (first, last) = self.ports(lane);
            (PORT + 1).ilog2() - (last.saturating_sub(first) + 1).ilog2()
        });
        bits + ports[0] + ports[1]
    }

    /// Whether it is met by all that meet `other`.
    pub fn covers(&self, other: &Self) -> bool {
        let words = [META, MARK, SETS].into_iter().chain(ADDRESS..ADDRESS + address_words(N));
        let masked = words.into_iter().all(|word| {
            let ((value, mask), (theirs, their_mask)) = (self.ternary(word), other.ternary(word));
            mask & !their_mask == 0 && (value ^ theirs) & mask == 0
        });
        masked
            && [0, 32].into_iter().all(|lane| {
                let ((first, last), (low, high)) = (self.ports(lane), other.ports(lane));
                first <= low && high <= last
            })
    }

    /// A packet that meets it: every bit that it does not ask for is zero, the ports are the lowest.
    pub fn corner(&self) -> Key {
        let mut key = Key::default();
        for word in [META, MARK, SETS].into_iter().chain(ADDRESS..ADDRESS + address_words(N)) {
            key[word] = self.ternary(word).0;
        }
        key[PORTS] = self.0[2];
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_met_at_both_ends_and_not_beyond() {
        let mut record = Record::<8>::any();
        record.ask_ports((10, 20), (65_535, 65_535));
        let key = |source: u64, destination: u64| {
            let mut key = Key::default();
            key[PORTS] = source | destination << 32;
            key
        };
        for (source, destination, met) in [
            (10, 65_535, true),
            (20, 65_535, true),
            (9, 65_535, false),
            (21, 65_535, false),
            (0, 65_535, false),
            (65_535, 65_535, false),
            (15, 65_534, false),
            (15, 0, false),
        ] {
            assert_eq!(record.meets(&key(source, destination)), met, "{source} {destination}");
        }
        assert!(Record::<8>::any().meets(&key(65_535, 65_535)));
        assert!(Record::<16>::any().meets(&key(0, 0)));
    }

    #[test]
    fn sets_are_asked_for_and_never_against() {
        let mut record = Record::<16>::any();
        record.ask(SETS, 0b101, 0b101);
        let mut key = Key::default();
        assert!(!record.meets(&key));
        key[SETS] = 0b100;
        assert!(!record.meets(&key));
        key[SETS] = 0b111;
        assert!(record.meets(&key));
    }

    #[test]
    fn a_record_covers_what_asks_for_more() {
        let (any, mut narrow, mut narrower) = (Record::<8>::any(), Record::<8>::any(), Record::<8>::any());
        narrow.ask(ADDRESS, 10 << 56, 0xff << 56);
        narrow.ask_ports((0, 65_535), (80, 90));
        narrower.ask(ADDRESS, 10 << 56 | 1, 0xff << 56 | 0xffff_ffff);
        narrower.ask_ports((7, 7), (81, 90));
        assert!(any.covers(&narrow) && narrow.covers(&narrower) && any.covers(&any));
        assert!(!narrow.covers(&any) && !narrower.covers(&narrow));
        narrower.ask_ports((7, 7), (79, 90));
        assert!(!narrow.covers(&narrower));
        assert!(narrower.meets(&narrower.corner()));
    }
}
