//! How many answers leave a second: of a worker in all, and to one station.
//!
//! The numbers are Linux's defaults (Documentation/networking/ip-sysctl.rst: `icmp_msgs_per_sec`, `icmp_msgs_burst`,
//! `icmp_ratelimit`, `net.ipv6.icmp.ratelimit`), which exempts the same kinds. Keeps true: memory of a fixed size; a station
//! whose place another one takes is forgotten, so that who forges many senders makes no other's answers fewer: what all
//! get together is bounded still.

use crate::stage::Allowance;
use std::net::IpAddr;

/// ICMP errors a second, of a worker.
const ERRORS: u32 = 1000;
/// Of these, how many at once.
const ERRORS_AT_ONCE: u32 = 50;
/// "Too big" a second, and resets a second, of a worker: the kernel has no limit for either, and both are no longer, or
/// hardly longer, than what they answer.
const OTHERS: u32 = 10_000;
/// Nanoseconds between two errors to one station.
const INTERVAL: u64 = 1_000_000_000;
/// How many errors a station that had none lately may get at once (`XRLIM_BURST_FACTOR`, net/ipv4/route.c).
const AT_ONCE: u64 = 6;
/// Stations that are remembered: 32 KiB.
const STATIONS: usize = 2048;

/// What is limited together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// All ICMP errors but those on sizes; limited for each station too.
    Error,
    /// Fragmentation needed, packet too big.
    Size,
    /// TCP resets.
    Reset,
}

/// See the module. One for each worker.
#[derive(Clone, Debug)]
pub struct Limits {
    errors: Allowance,
    sizes: Allowance,
    resets: Allowance,
    stations: Box<[Station]>,
    identification: u16,
}

#[derive(Clone, Copy, Debug, Default)]
struct Station {
    hash: u64,
    /// When its allowance was, or will be, all used up.
    used_up: u64,
}

impl Limits {
    /// Of a worker that has answered nothing yet.
    pub fn new() -> Self {
        Self {
            errors: Allowance::new(ERRORS, ERRORS_AT_ONCE),
            sizes: Allowance::per_second(OTHERS),
            resets: Allowance::per_second(OTHERS),
            stations: vec![Station::default(); STATIONS].into(),
            identification: 0,
        }
    }

    /// Whether an answer of this class may go to `to` at `now` (nanoseconds). If so it is counted, and gets the number that
    /// tells it from others if it is fragmented.
    pub(super) fn take(&mut self, now: u64, class: Class, to: IpAddr) -> Option<u16> {
        let allowed = match class {
            Class::Size => self.sizes.take(now),
            Class::Reset => self.resets.take(now),
            Class::Error => self.take_error(now, to),
        };
        allowed.then(|| {
            self.identification = self.identification.wrapping_add(1);
            self.identification
        })
    }

    fn take_error(&mut self, now: u64, to: IpAddr) -> bool {
        let hash = hash_of(to);
        let Some(station) = self.stations.get_mut(hash as usize % STATIONS) else { return false };
        let used_up = if station.hash == hash { station.used_up.max(now) } else { now };
        // What the station may not get is not counted against the others.
        if used_up > now.saturating_add((AT_ONCE - 1) * INTERVAL) || !self.errors.take(now) {
            return false;
        }
        *station = Station { hash, used_up: used_up + INTERVAL };
        true
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

/// Without a secret: who makes two stations share a place makes one be forgotten, which is no harm.
fn hash_of(address: IpAddr) -> u64 {
    let bits = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) | 0xffff << 32,
        IpAddr::V6(address) => address.to_bits(),
    };
    // The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), over both halves.
    let mix = |z: u64| {
        let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    };
    mix(mix((bits >> 64) as u64 ^ 0x9e37_79b9_7f4a_7c15) ^ bits as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 5_000_000_000;

    fn station(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 | n).into()
    }

    #[test]
    fn a_station_gets_six_errors_at_once_and_one_a_second() {
        let mut limits = Limits::new();
        let mut count = |now, to| (0..100).filter(|_| limits.take(now, Class::Error, to).is_some()).count();
        assert_eq!(count(START, station(1)), 6);
        assert_eq!(count(START + 999_999_999, station(1)), 0);
        assert_eq!(count(START + INTERVAL, station(1)), 1);
        assert_eq!(count(START + INTERVAL, "2001:db8::1".parse().unwrap()), 6);
        assert_eq!(count(START + 100 * INTERVAL, station(1)), 6, "no more is saved up");
        assert_eq!(count(START, station(1)), 0, "time went back");
    }

    #[test]
    fn a_worker_sends_fifty_errors_at_once_and_a_thousand_a_second() {
        let mut limits = Limits::new();
        let mut count = |now, from: u32| {
            (from..from + 2000).filter(|n| limits.take(now, Class::Error, station(*n)).is_some()).count()
        };
        assert_eq!(count(START, 0), 50);
        let second = (1..=1000).map(|ms| count(START + ms * 1_000_000, ms as u32 * 2000)).sum::<usize>();
        assert_eq!(second, 1000);
    }

    #[test]
    fn sizes_and_resets_are_not_starved_by_errors_nor_by_one_another() {
        let mut limits = Limits::new();
        let mut count =
            |class| (0..20_000).filter(|_| limits.take(START, class, station(1)).is_some()).count();
        assert_eq!([Class::Error, Class::Size, Class::Reset].map(&mut count), [6, 10_000, 10_000]);
    }

    #[test]
    fn a_station_that_is_limited_costs_the_others_nothing() {
        let mut limits = Limits::new();
        for _ in 0..1000 {
            limits.take(START, Class::Error, station(1));
        }
        let others = (2..100).filter(|n| limits.take(START, Class::Error, station(*n)).is_some()).count();
        assert_eq!(others, 44);
    }
}
