//! How many handshake messages a worker looks at: what is beyond that costs no more than its way to here, and data messages do not
//! wait for it.
//!
//! Owns: an allowance for all, which is some twentieth of a core, and one for each part of the sources, under a keyed hash, so that
//! who floods from a few addresses takes nothing from the others. Sources that are made up have all parts; then chance decides, and a
//! peer tries again every five seconds. Keeps true: memory does not grow.

use std::net::IpAddr;
use zsync_packet::flow::{FlowKey, HashKey};

/// Nanoseconds of allowance that a message takes: 10,000 a second of all, 2,500 of a part.
const OF_ALL: u64 = 100_000;
const OF_PART: u64 = 400_000;
/// How many may come at once.
const AT_ONCE: u64 = 256;
const AT_ONCE_OF_PART: u64 = 128;
/// Parts of the sources.
const PARTS: usize = 128;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Screen {
    /// When the allowances will be used up.
    all: u64,
    parts: Box<[u64; PARTS]>,
    /// The source that was asked for last, and its part: a flood's messages come in a row.
    last: Option<(IpAddr, u8)>,
}

impl Default for Screen {
    fn default() -> Self {
        Self { all: 0, parts: Box::new([0; PARTS]), last: None }
    }
}

impl Screen {
    /// Whether one more message of `source` is looked at; if so, it counts.
    pub(super) fn admits(&mut self, source: IpAddr, secret: &HashKey, now: u64) -> bool {
        if self.all > now + OF_ALL * (AT_ONCE - 1) {
            return false;
        }
        let part = match self.last {
            Some((last, part)) if last == source => part,
            _ => part_of(source, secret),
        };
        self.last = Some((source, part));
        let part = &mut self.parts[usize::from(part) % PARTS];
        if *part > now + OF_PART * (AT_ONCE_OF_PART - 1) {
            return false;
        }
        *part = (*part).max(now) + OF_PART;
        self.all = self.all.max(now) + OF_ALL;
        true
    }
}

/// The part that a source is of.
fn part_of(source: IpAddr, secret: &HashKey) -> u8 {
    let bits = match source {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    };
    let hash = FlowKey::from_words([bits, u64::from(source.is_ipv6()), 0, 0, 0]).hash(secret);
    // Fewer than 256.
    ((hash >> 32) as usize % PARTS) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000_000;

    #[test]
    fn one_source_gets_its_part_and_leaves_the_others_theirs() {
        let (mut screen, secret) = (Screen::default(), HashKey::from_seed(5));
        let flood: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!((0..1000).filter(|_| screen.admits(flood, &secret, NOW)).count(), 128);
        // A million in the next second; and a few of others between them, all of which are heard.
        let (mut taken, mut heard) = (0, 0);
        for n in 1..=1_000_000_u64 {
            taken += u32::from(screen.admits(flood, &secret, NOW + 1_000 * n));
            if n % 10_000 == 0 {
                let other = IpAddr::from([198, 51, 100, (n / 10_000) as u8]);
                heard += u32::from(screen.admits(other, &secret, NOW + 1_000 * n));
            }
        }
        assert_eq!(taken, 2_500);
        assert!(heard >= 98, "{heard} of 100 are heard: one in 128 shares the part of the flood");
    }

    #[test]
    fn all_sources_together_get_ten_thousand_a_second_and_256_at_once() {
        let (mut screen, secret) = (Screen::default(), HashKey::from_seed(5));
        let source = |n: u64| IpAddr::from((0x0a00_0000_u32 + n as u32).to_be_bytes());
        assert_eq!((0..10_000).filter(|n| screen.admits(source(*n), &secret, NOW)).count(), 256);
        let taken = (1..=1_000_000).filter(|n| screen.admits(source(*n), &secret, NOW + 1_000 * n)).count();
        assert_eq!(taken, 10_000);
        assert!(screen.admits(source(1), &secret, NOW + 5_000_000_000));
        // Of IPv6 a whole /64 is one source.
        let of64 = |n: u128| IpAddr::from((0x2001_0db8_u128 << 96 | n).to_be_bytes());
        let taken = (0..1_000).filter(|n| screen.admits(of64(*n), &secret, NOW + 9_000_000_000)).count();
        assert_eq!(taken, 128);
    }
}
