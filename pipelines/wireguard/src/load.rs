//! How many handshakes are taken, and of whom.
//!
//! Owns: an allowance for each source, in a table of a fixed size under a keyed hash, as the kernel's `ratelimiter.c` has it:
//! 20 a second, 5 at once, an IPv6 source being its /64. Keeps true: memory does not grow under attack; sources that share an
//! entry share its allowance.

use std::net::IpAddr;
use zsync_packet::flow::{FlowKey, HashKey};

/// Nanoseconds of allowance that a handshake takes: 20 a second.
const PRICE: u64 = 1_000_000_000 / 20;
/// How many may come at once.
const AT_ONCE: u64 = 5;
/// Entries.
const SOURCES: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct Sources {
    /// When the allowance of each will be used up.
    used_up: Box<[u64]>,
    secret: HashKey,
}

impl Sources {
    /// All unused.
    pub fn new(secret: &HashKey) -> Self {
        Self { used_up: vec![0; SOURCES].into(), secret: secret.clone() }
    }

    /// Whether one more handshake of `source` is taken at `now` (nanoseconds); if so, it counts.
    pub fn take(&mut self, source: IpAddr, now: u64) -> bool {
        let bits = match source.to_canonical() {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
        };
        let hash = FlowKey::from_words([bits, u64::from(source.is_ipv6()), 0, 0, 0]).hash(&self.secret);
        // The remainder is below their number.
        let Some(used_up) = self.used_up.get_mut((hash >> 32) as usize % SOURCES) else { return false };
        if *used_up > now + PRICE * (AT_ONCE - 1) {
            return false;
        }
        *used_up = (*used_up).max(now) + PRICE;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_a_second_and_five_at_once_of_each() {
        let mut sources = Sources::new(&HashKey::from_seed(3));
        let now = 1_000_000_000_000;
        for source in ["192.0.2.1", "2001:db8::1"] {
            let source: IpAddr = source.parse().unwrap();
            assert_eq!((0..100).filter(|_| sources.take(source, now)).count(), 5, "{source}");
            assert_eq!((1..=1000).filter(|ms| sources.take(source, now + ms * 1_000_000)).count(), 20);
        }
        let neighbour: IpAddr = "2001:db8::ffff".parse().unwrap();
        assert!(!sources.take(neighbour, now + 1_000_000_000), "the same /64");
        assert!(sources.take("2001:db8:0:1::1".parse().unwrap(), now));
    }

    #[test]
    fn a_thousand_sources_hardly_get_in_each_others_way() {
        let mut sources = Sources::new(&HashKey::from_seed(3));
        let taken =
            (0..1000u32).filter(|n| sources.take(IpAddr::from((0xc633_0000 + n).to_be_bytes()), 0)).count();
        assert!(taken > 990, "{taken}");
    }
}
