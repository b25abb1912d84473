//! External addresses to share.
//!
//! Owns a list of prefixes of one family. Refuses nothing. Keeps true: a client starts at the same address every time, so all
//! its mappings are at one (pooling "paired", RFC 4787 §4.1).

use std::net::IpAddr;

use super::prefix::Range;
use crate::spec::Prefix;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    ranges: Vec<Range>,
    count: u64,
}

impl Pool {
    /// The addresses of these prefixes.
    pub fn new(prefixes: impl IntoIterator<Item = Prefix>) -> Self {
        let ranges: Vec<Range> = prefixes.into_iter().map(Range::of).collect();
        let count = ranges.iter().fold(0, |count: u64, range| count.saturating_add(range.count()));
        Self { ranges, count }
    }

    /// One address.
    pub fn single(address: IpAddr) -> Self {
        let len = if address.is_ipv4() { 32 } else { 128 };
        Self::new(Prefix::new(address, len))
    }

    /// How many addresses there are.
    #[inline]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether this is one of them.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }

    /// The address number `n`.
    pub fn nth(&self, mut n: u64) -> Option<IpAddr> {
        for range in &self.ranges {
            if n < range.count() {
                return range.nth(n);
            }
            n -= range.count();
        }
        None
    }

    /// The addresses in the order in which a client with this hash tries them; at most `limit`.
    pub fn tries(&self, hash: u64, limit: u64) -> impl Iterator<Item = IpAddr> + '_ {
        // The high half, scaled: the low one chooses buckets.
        let first = ((u128::from(hash >> 32) * u128::from(self.count)) >> 32) as u64;
        (0..self.count.min(limit)).filter_map(move |i| {
            self.nth(((u128::from(first) + u128::from(i)) % u128::from(self.count)) as u64)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_spread_and_each_tries_all_addresses() {
        let pool =
            Pool::new(["203.0.113.0/30", "198.51.100.7/32"].map(|text| text.parse::<Prefix>().unwrap()));
        assert_eq!((pool.count(), pool.nth(4), pool.nth(5)), (5, Some([198, 51, 100, 7].into()), None));
        assert!(pool.contains([203, 0, 113, 3].into()) && !pool.contains([203, 0, 113, 4].into()));
        let mut first = std::collections::BTreeMap::new();
        for client in 0..1000u64 {
            let hash = client.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut tries: Vec<IpAddr> = pool.tries(hash, 100).collect();
            *first.entry(tries[0]).or_insert(0) += 1;
            tries.sort();
            tries.dedup();
            assert_eq!(tries.len(), 5);
        }
        assert!(first.len() == 5 && first.values().all(|count| *count > 120), "{first:?}");
        assert_eq!(Pool::default().tries(7, 9).count(), 0);
        let wide = Pool::new(["2001:db8::/64".parse::<Prefix>()].into_iter().flatten());
        assert_eq!(wide.tries(u64::MAX, 3).count(), 3);
    }
}
