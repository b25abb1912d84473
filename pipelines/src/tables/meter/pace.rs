//! A rate, as the time that a packet takes at it.
//!
//! Owns the rounding: always up, once for each time that is asked for, and never more than 2⁻¹⁶ ns. Refuses a rate of 0.
//! From 1 bit/s to 2⁶³ bit/s: the factor has 62 significant bits at every rate.

use serde::{Deserialize, Serialize};

/// The longest time that a meter reckons with, in 2⁻¹⁶ ns: 4.8 hours. A sixteenth of the range of its words.
pub const LONGEST: u64 = 1 << 60;

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Rate {
    /// Bits a second, of whole packets.
    Bits(u64),
    /// Packets a second.
    Packets(u64),
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    factor: u64,
    shift: u32,
    /// Bytes that count for each packet besides its own; with packets counted, what a byte counts is 0.
    overhead: u32,
    packets: bool,
}

impl Pace {
    /// The pace of a rate, at which every packet counts as `overhead` bytes more than it has (preamble, gap and checksum of
    /// Ethernet: 24). None for a rate of 0.
    #[must_use]
    pub fn new(rate: Rate, overhead: u32) -> Option<Self> {
        let (per_second, unit, packets) = match rate {
            Rate::Bits(bits) => (bits, 8, false),
            Rate::Packets(packets) => (packets, 1, true),
        };
        if per_second == 0 {
            return None;
        }
        // Of one unit at one a second: below 2^50.
        let second = (1_000_000_000u128 << 16) * unit;
        let factor = |shift: u32| (second << shift).div_ceil(u128::from(per_second));
        let shift = (0..78).rev().find(|&shift| factor(shift) < 1 << 63)?;
        Some(Self { factor: factor(shift) as u64, shift, overhead, packets })
    }

    /// What counts of `packets` packets that have `bytes` bytes together: bytes or packets.
    #[inline]
    #[must_use]
    pub fn units(&self, packets: u64, bytes: u64) -> u64 {
        if self.packets { packets } else { bytes + packets * u64::from(self.overhead) }
    }

    /// The time that so many units take, in 2⁻¹⁶ ns, at most [`LONGEST`].
    #[inline]
    #[must_use]
    pub fn span(&self, units: u64) -> u64 {
        // Below 2^127, so there is room to round up.
        let exact = u128::from(units) * u128::from(self.factor) + ((1 << self.shift) - 1);
        let whole = exact >> self.shift;
        if whole > u128::from(LONGEST) { LONGEST } else { whole as u64 }
    }

    /// The time that a burst of so many units takes: a 64th of a 64th of a nanosecond more, which is less than a bit at 400
    /// Gbit/s, so that the rounding of up to 16 packets that fill it does not keep the last of them out.
    #[must_use]
    pub fn burst(&self, units: u64) -> u64 {
        if units == 0 { 0 } else { (self.span(units) + 16).min(LONGEST) }
    }
}

impl Pace {
    /// How many units a span of time has room for; the other way round than [`Self::span`], for people.
    #[must_use]
    pub(super) fn within(&self, span: u64) -> u64 {
        let units = (u128::from(span) << self.shift) / u128::from(self.factor.max(1));
        u64::try_from(units).unwrap_or(u64::MAX)
    }

    /// The name of what counts.
    pub(super) fn units_name(&self) -> &'static str {
        if self.packets { "packets" } else { "bytes" }
    }
}

impl std::fmt::Display for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let a_second = (65_536e9 * (self.shift as f64).exp2()) / self.factor.max(1) as f64;
        if self.packets {
            return write!(f, "{a_second:.0} packets/s");
        }
        let bits = a_second * 8.0;
        let (by, unit) = match bits {
            _ if bits >= 1e9 => (1e9, "Gbit/s"),
            _ if bits >= 1e6 => (1e6, "Mbit/s"),
            _ if bits >= 1e3 => (1e3, "kbit/s"),
            _ => (1.0, "bit/s"),
        };
        // No more digits than there are.
        write!(f, "{} {unit}", (bits / by * 1000.0).round() / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// In 2⁻¹⁶ ns, exactly, as numerator and denominator.
    fn exact(rate: u64, bytes: u64) -> (u128, u128) {
        (u128::from(bytes) * 8 * (1_000_000_000 << 16), u128::from(rate))
    }

    #[test]
    fn a_rate_of_nothing_has_no_pace() {
        assert_eq!(Pace::new(Rate::Bits(0), 0), None);
        assert_eq!(Pace::new(Rate::Packets(0), 0), None);
    }

    #[test]
    fn known_times() {
        let span = |rate, units| Pace::new(rate, 0).unwrap().span(units);
        // 64 bytes at 400 Gbit/s: 1.28 ns.
        assert_eq!(span(Rate::Bits(400_000_000_000), 64), 83_886 + 1);
        // 1500 bytes at 1 kbit/s: 12 s.
        assert_eq!(span(Rate::Bits(1000), 1500) >> 16, 12_000_000_000);
        // 20,000 packets a second: 50 µs.
        assert_eq!(span(Rate::Packets(20_000), 1) >> 16, 50_000);
        assert_eq!(span(Rate::Bits(1), 1 << 20), LONGEST);
        assert_eq!(span(Rate::Bits(1), u64::MAX), LONGEST);
        assert_eq!(span(Rate::Bits(u64::MAX), 1), 1);
        // Nothing is added to what is whole.
        assert_eq!(span(Rate::Bits(1_000_000_000), 125), 1_000 << 16);
    }

    #[test]
    fn overhead_counts_for_each_packet_unless_packets_are_counted() {
        assert_eq!(Pace::new(Rate::Bits(1), 24).unwrap().units(3, 300), 372);
        assert_eq!(Pace::new(Rate::Packets(1), 24).unwrap().units(3, 300), 3);
    }

    proptest! {
        /// Up, and by less than 2⁻¹⁶ ns and what 62 bits cannot hold.
        #[test]
        fn a_time_is_rounded_up_and_hardly(rate in 1000..=400_000_000_000u64, bytes in 1..=1u64 << 22) {
            let (numerator, denominator) = exact(rate, bytes);
            let span = u128::from(Pace::new(Rate::Bits(rate), 0).unwrap().span(bytes));
            prop_assume!(span < u128::from(LONGEST));
            prop_assert!(span * denominator >= numerator);
            prop_assert!((span - 1) * denominator <= numerator + (numerator >> 60));
        }
    }
}
