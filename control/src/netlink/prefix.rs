//! An IP prefix, ordered so that what lies inside it is one contiguous range.
//!
//! Invariant: host bits are zero and the length fits the family; so two equal prefixes are one key.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// An IPv4 or IPv6 prefix with its host bits zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// `address/length` with the host bits cleared; `None` when `length` exceeds the family's 32 or 128 bits.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        (length <= width(address)).then(|| Self { address: masked(address, length), length })
    }

    /// A prefix known when this is compiled; the host bits of `address` are zero.
    pub(super) const fn literal(address: IpAddr, length: u8) -> Self {
        Self { address, length }
    }

    /// The prefix that holds `address` alone.
    pub fn host(address: IpAddr) -> Self {
        Self { address, length: width(address) }
    }

    /// The first address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Bits that are fixed: 0..=32 or 0..=128.
    pub fn length(self) -> u8 {
        self.length
    }

    /// Whether it is a /32 or a /128.
    pub fn is_host(self) -> bool {
        self.length == width(self.address)
    }

    /// Whether `address` lies inside (never across families).
    pub fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && masked(address, self.length) == self.address
    }

    /// The prefix of `length` bits around this one; `None` when that would be longer than this.
    pub(super) fn widened(self, length: u8) -> Option<Self> {
        (length <= self.length).then(|| Self { address: masked(self.address, length), length })
    }

    /// The range of keys that are this prefix or lie inside it: a shorter one's address is either outside, or equal
    /// to this one's and then sorts before it.
    pub(super) fn inside(self) -> RangeInclusive<Self> {
        self..=Self::host(self.last())
    }

    /// The first and the last address.
    pub(super) fn bounds(self) -> (IpAddr, IpAddr) {
        (self.address, self.last())
    }

    fn last(self) -> IpAddr {
        match self.address {
            IpAddr::V4(a) => {
                Ipv4Addr::from_bits(a.to_bits() | u32::MAX.checked_shr(self.length.into()).unwrap_or(0))
                    .into()
            }
            IpAddr::V6(a) => {
                Ipv6Addr::from_bits(a.to_bits() | u128::MAX.checked_shr(self.length.into()).unwrap_or(0))
                    .into()
            }
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Prefix {
    type Err = String;

    /// `address/length`, or an address for the host prefix; host bits are cleared.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a prefix: expected ADDRESS/LENGTH");
        let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let length = length.map_or(Ok(width(address)), |l| l.parse().map_err(|_| wrong()))?;
        Self::new(address, length).ok_or_else(wrong)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            let hosts = u32::MAX.checked_shr(length.into()).unwrap_or(0);
            Ipv4Addr::from_bits(a.to_bits() & !hosts).into()
        }
        IpAddr::V6(a) => {
            let hosts = u128::MAX.checked_shr(length.into()).unwrap_or(0);
            Ipv6Addr::from_bits(a.to_bits() & !hosts).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_are_cleared_and_lengths_checked() {
        assert_eq!(prefix("10.1.2.3/8").to_string(), "10.0.0.0/8");
        assert_eq!(prefix("2001:db8::1/32").to_string(), "2001:db8::/32");
        assert_eq!(prefix("1.2.3.4/0").to_string(), "0.0.0.0/0");
        assert_eq!(prefix("::1").to_string(), "::1/128");
        assert!("10.0.0.0/33".parse::<Prefix>().is_err());
        assert!("10.0.0.0/x".parse::<Prefix>().is_err());
        assert!(!prefix("0.0.0.0/0").contains("::1".parse().unwrap()));
    }

    #[test]
    fn inside_is_exact() {
        let all: BTreeSet<Prefix> = [
            "0.0.0.0/0",
            "10.0.0.0/7",
            "10.0.0.0/8",
            "10.0.0.0/9",
            "10.255.255.255",
            "11.0.0.0/8",
            "9.0.0.0/8",
            "::/0",
        ]
        .map(prefix)
        .into();
        let inside: Vec<_> = all.range(prefix("10.0.0.0/8").inside()).map(ToString::to_string).collect();
        assert_eq!(inside, ["10.0.0.0/8", "10.0.0.0/9", "10.255.255.255/32"]);
        assert_eq!(all.range(prefix("0.0.0.0/0").inside()).count(), 7);
        assert_eq!(all.range(prefix("::/0").inside()).count(), 1);
    }
}
