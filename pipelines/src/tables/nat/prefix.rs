//! Translation of a prefix into another of the same length: 1:1 (both families), and NPTv6 (RFC 6296).
//!
//! Owns the arithmetic; keeps no state, so both directions of a packet may cross different workers. Refuses prefixes of
//! different families or lengths, and for NPTv6 those longer than a /64, which leave no room for the adjustment. Keeps true:
//! `inside` undoes `outside`, and what NPTv6 makes of an address has the same one's complement sum, so that no checksum above
//! it changes (RFC 6296 §2.6).

use std::net::{IpAddr, Ipv6Addr};

use crate::spec::Prefix;

/// An address as bits on top of 128, so that one mask serves both families.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address that [`bits`] made these of.
fn address(bits: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(((bits >> 96) as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(bits.into()),
    }
}

/// A range of addresses, to ask which lie in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    first: u128,
    mask: u128,
    v4: bool,
}

impl Range {
    /// The addresses of a prefix.
    pub fn of(prefix: Prefix) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(prefix.len())).unwrap_or(0);
        Self { first: bits(prefix.addr()), mask, v4: prefix.addr().is_ipv4() }
    }

    /// Whether `address` is one of them.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.v4 && bits(address) & self.mask == self.first
    }

    /// Whether any address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let mask = self.mask & other.mask;
        self.v4 == other.v4 && self.first & mask == other.first & mask
    }

    /// How many addresses it has; 2^64 - 1 stands for that many or more.
    pub fn count(&self) -> u64 {
        let width = if self.v4 { 32 } else { 128 };
        let free = width - self.mask.count_ones();
        1u64.checked_shl(free).filter(|_| free < 64).unwrap_or(u64::MAX)
    }

    /// Its address number `n`, counted from its first.
    pub fn nth(&self, n: u64) -> Option<IpAddr> {
        let like = if self.v4 { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        (n < self.count()).then(|| address(self.first | u128::from(n) << if self.v4 { 96 } else { 0 }, like))
    }

    /// Which of its addresses this is: what [`Self::nth`] takes.
    #[inline]
    pub fn number(&self, address: IpAddr) -> Option<u64> {
        self.contains(address).then(|| ((bits(address) & !self.mask) >> if self.v4 { 96 } else { 0 }) as u64)
    }
}

/// How the addresses of two prefixes belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixPair {
    internal: Range,
    external: Range,
    /// What an address changes by on its way out, where it is checksum-neutral: added to one word of 16 bits.
    adjustment: Option<u16>,
    len: u8,
}

/// Why two prefixes cannot be translated into each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// One is IPv4, the other IPv6.
    #[error("the two prefixes are of different families")]
    Family,
    /// One has more addresses than the other.
    #[error("the two prefixes have different lengths: each address needs a counterpart")]
    Length,
    /// NPTv6 is for IPv6, and its adjustment needs 16 bits behind the prefix (RFC 6296 §3.5).
    #[error("a translation of IPv6 prefixes (RFC 6296) takes IPv6 prefixes of at most 64 bits")]
    Adjustment,
}

impl PrefixPair {
    /// 1:1: the bits behind the prefix stay.
    ///
    /// # Errors
    /// Families or lengths differ.
    pub fn exact(internal: Prefix, external: Prefix) -> Result<Self, PairError> {
        if internal.addr().is_ipv4() != external.addr().is_ipv4() {
            return Err(PairError::Family);
        }
        if internal.len() != external.len() {
            return Err(PairError::Length);
        }
        let (internal_range, external_range) = (Range::of(internal), Range::of(external));
        Ok(Self { internal: internal_range, external: external_range, adjustment: None, len: internal.len() })
    }

    /// NPTv6 (RFC 6296 §3): as [`Self::exact`], but one word behind the prefix is adjusted so that the sum of the address
    /// stays.
    ///
    /// # Errors
    /// Lengths differ, a prefix is not IPv6 or longer than a /64.
    pub fn neutral(internal: Prefix, external: Prefix) -> Result<Self, PairError> {
        let pair = Self::exact(internal, external)?;
        if internal.addr().is_ipv4() || internal.len() > 64 {
            return Err(PairError::Adjustment);
        }
        // §3.1: the difference of the sums of both prefixes; one's complement subtraction adds the complement.
        let adjustment = add(sum(pair.internal.first), !sum(pair.external.first));
        Ok(Self { adjustment: Some(adjustment), ..pair })
    }

    /// The addresses inside.
    pub fn internal(&self) -> &Range {
        &self.internal
    }

    /// The addresses outside.
    pub fn external(&self) -> &Range {
        &self.external
    }

    /// What an internal address is outside; `None` for one that has no counterpart: it is not of the internal prefix, or
    /// RFC 6296 §3.5 cannot map it (every word that could be adjusted is `ffff`).
    #[inline]
    pub fn outside(&self, internal: IpAddr) -> Option<IpAddr> {
        self.map(internal, &self.internal, &self.external, |adjustment| adjustment)
    }

    /// What an external address is inside; `None` as for [`Self::outside`].
    #[inline]
    pub fn inside(&self, external: IpAddr) -> Option<IpAddr> {
        self.map(external, &self.external, &self.internal, |adjustment| !adjustment)
    }

    #[inline]
    fn map(&self, from: IpAddr, of: &Range, to: &Range, signed: impl Fn(u16) -> u16) -> Option<IpAddr> {
        if !of.contains(from) {
            return None;
        }
        let mapped = to.first | bits(from) & !to.mask;
        match self.adjustment {
            None => Some(address(mapped, from)),
            Some(adjustment) => {
                adjust(mapped, self.len, signed(adjustment)).map(|bits| IpAddr::V6(bits.into()))
            }
        }
    }
}

/// Adds `adjustment` to the word that RFC 6296 names: bits 48 to 63 for a /48 or shorter prefix (§3.4), else the first word of
/// the interface identifier that is not `ffff` (§3.5).
fn adjust(address: u128, len: u8, adjustment: u16) -> Option<u128> {
    let mut words = Ipv6Addr::from_bits(address).segments();
    let candidates = if len <= 48 { 3..4 } else { 4..8 };
    let word = words.get_mut(candidates)?.iter_mut().find(|word| **word != 0xffff)?;
    // §3.1: the two zeros count as one, and it is written 0000.
    *word = match add(*word, adjustment) {
        0xffff => 0,
        word => word,
    };
    Some(Ipv6Addr::from(words).to_bits())
}

/// One's complement addition.
fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u16::from(carry)
}

/// The one's complement sum of the words of an address.
fn sum(address: u128) -> u16 {
    Ipv6Addr::from_bits(address).segments().into_iter().fold(0, add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn neutral(internal: &str, external: &str) -> PrefixPair {
        PrefixPair::neutral(internal.parse().unwrap(), external.parse().unwrap()).unwrap()
    }

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_example_of_rfc_6296() {
        // §3.6: fd01:203:405:1::1234 leaves as 2001:db8:1:d550::1234, and the adjustment is d54f.
        let pair = neutral("fd01:203:405::/48", "2001:db8:1::/48");
        assert_eq!(pair.adjustment, Some(0xd54f));
        let (internal, external) = (at("fd01:203:405:1::1234"), at("2001:db8:1:d550::1234"));
        assert_eq!(pair.outside(internal), Some(external));
        assert_eq!(pair.inside(external), Some(internal));
    }

    #[test]
    fn longer_prefixes_adjust_the_interface_identifier() {
        let pair = neutral("fd01:203:405:1::/64", "2001:db8:1:2::/64");
        // §3.5: the words of the identifier are tried in turn, ffff is none.
        let internal = at("fd01:203:405:1:ffff:ffff:5:6");
        let external = pair.outside(internal).unwrap();
        assert_eq!(external.to_string(), format!("2001:db8:1:2:ffff:ffff:{:x}:6", add(5, 0xd54e)));
        assert_eq!(pair.inside(external), Some(internal));
        assert_eq!(pair.outside(at("fd01:203:405:1:ffff:ffff:ffff:ffff")), None);
    }

    #[test]
    fn a_subnet_of_all_ones_has_no_counterpart() {
        let pair = neutral("fd01:203:405::/48", "2001:db8:1::/48");
        assert_eq!(pair.outside(at("fd01:203:405:ffff::1")), None);
        assert_eq!(pair.outside(at("fd01:203:406::1")), None, "another prefix's");
        // The negative zero is written as zero: 2ab0 + d54f is ffff.
        assert_eq!(pair.outside(at("fd01:203:405:2ab0::1")), Some(at("2001:db8:1:0::1")));
        assert_eq!(pair.inside(at("2001:db8:1:0::1")), Some(at("fd01:203:405:2ab0::1")));
    }

    #[test]
    fn one_to_one_keeps_what_is_behind_the_prefix() {
        let pair =
            PrefixPair::exact("10.0.8.0/24".parse().unwrap(), "203.0.113.0/24".parse().unwrap()).unwrap();
        assert_eq!(pair.outside(at("10.0.8.77")), Some(at("203.0.113.77")));
        assert_eq!(pair.inside(at("203.0.113.77")), Some(at("10.0.8.77")));
        assert_eq!((pair.outside(at("10.0.9.1")), pair.inside(at("10.0.8.1"))), (None, None));
        let host =
            PrefixPair::exact("fd00::5/128".parse().unwrap(), "2001:db8::5/128".parse().unwrap()).unwrap();
        assert_eq!(host.outside(at("fd00::5")), Some(at("2001:db8::5")));
        assert_eq!(host.outside(at("10.0.0.5")), None);
    }

    #[test]
    fn prefixes_that_do_not_fit_are_refused() {
        let exact = |a: &str, b: &str| PrefixPair::exact(a.parse().unwrap(), b.parse().unwrap()).unwrap_err();
        assert_eq!(exact("10.0.0.0/8", "2001:db8::/32"), PairError::Family);
        assert_eq!(exact("10.0.0.0/8", "11.0.0.0/9"), PairError::Length);
        let neutral =
            |a: &str, b: &str| PrefixPair::neutral(a.parse().unwrap(), b.parse().unwrap()).unwrap_err();
        assert_eq!(neutral("10.0.0.0/8", "11.0.0.0/8"), PairError::Adjustment);
        assert_eq!(neutral("fd00::/65", "fd01::/65"), PairError::Adjustment);
    }

    #[test]
    fn ranges_count_and_number_their_addresses() {
        let range = |text: &str| Range::of(text.parse().unwrap());
        let pool = range("203.0.113.16/28");
        assert_eq!((pool.count(), pool.nth(3), pool.nth(16)), (16, Some(at("203.0.113.19")), None));
        assert_eq!((pool.number(at("203.0.113.19")), pool.number(at("203.0.113.32"))), (Some(3), None));
        assert_eq!((range("::/0").count(), range("2001:db8::/120").count()), (u64::MAX, 256));
        assert_eq!(range("2001:db8::/120").nth(255), Some(at("2001:db8::ff")));
        assert!(range("10.0.0.0/8").overlaps(&range("10.5.0.0/16")));
        assert!(!range("10.0.0.0/8").overlaps(&range("11.0.0.0/8")));
        assert!(!range("0.0.0.0/0").overlaps(&range("::/0")));
    }

    proptest! {
        #[test]
        fn neutral_pairs_keep_the_sum_and_come_back(
            internal: u128, external: u128, host: u128, len in 1u8..=64, ones in 0usize..4,
        ) {
            let mask = u128::MAX << (128 - u32::from(len));
            let prefix = |bits: u128| Prefix::new(IpAddr::V6((bits & mask).into()), len).unwrap();
            let pair = PrefixPair::neutral(prefix(internal), prefix(external)).unwrap();
            let mut words = Ipv6Addr::from_bits(internal & mask | host & !mask).segments();
            words[4..4 + ones].fill(0xffff);
            let before = IpAddr::V6(words.into());
            if let Some(after) = pair.outside(before) {
                // Zero is written as 0000, and goes out and comes back as that.
                let sum = |address: IpAddr| sum(bits(address)) % 0xffff;
                prop_assert_eq!(sum(before), sum(after));
                prop_assert_eq!(pair.inside(after), Some(before));
            } else {
                let words = if len <= 48 { &words[3..4] } else { &words[4..] };
                prop_assert!(words.iter().all(|word| *word == 0xffff));
            }
        }
    }
}
