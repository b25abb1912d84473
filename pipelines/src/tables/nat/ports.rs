//! The ports of an external address: cut into blocks, shared out among workers.
//!
//! Owns the geometry alone. A block is `size` ports from a multiple of `size` on; block number *n* is the worker's whose number
//! is *n* modulo the workers, so a reply finds its owner by its port. Well-known ports (below 1024) and the others are kept
//! apart (RFC 4787 §4.2.1). Refuses port 0. Keeps true: an even place is an even port, which is what parity needs (§4.2.2).

use std::ops::RangeInclusive;

/// The first port that is not well known.
const HIGH: u32 = 1024;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    size: u32,
    low: Blocks,
    high: Blocks,
    worker: u32,
    workers: u32,
}

/// One worker's blocks of a range: every `step`th from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    first: u32,
    count: u32,
    step: u32,
}

impl Blocks {
    /// Those of `range` (block numbers) that are `worker`'s.
    fn of(range: std::ops::Range<u32>, worker: u32, workers: u32) -> Self {
        let first = range.start + (worker + workers - range.start % workers) % workers;
        let count = range.end.saturating_sub(first).div_ceil(workers);
        Self { first, count, step: workers }
    }

    /// How many there are.
    #[inline]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The number of the `n`th.
    #[inline]
    pub fn nth(&self, n: u32) -> Option<u16> {
        (n < self.count).then(|| (self.first + n * self.step) as u16)
    }

    /// Whether this block is one of them.
    #[inline]
    pub fn contains(&self, block: u16) -> bool {
        let from = u32::from(block).wrapping_sub(self.first);
        from.is_multiple_of(self.step) && from / self.step < self.count
    }
}

impl Ports {
    /// `worker`'s share of the ports, of `workers`. Blocks have `size` ports, a power of two from 2 to 1024. Of the ports from
    /// 1024 on, those whole blocks are used that lie in `range`.
    pub fn new(size: u16, range: RangeInclusive<u16>, worker: u8, workers: u8) -> Self {
        let size = u32::from(size).clamp(2, HIGH).next_power_of_two();
        let (worker, workers) = (u32::from(worker), u32::from(workers).max(1));
        let first = u32::from(*range.start()).max(HIGH).div_ceil(size);
        let end = (u32::from(*range.end()) + 1) / size;
        Self {
            size,
            low: Blocks::of(0..HIGH / size, worker, workers),
            high: Blocks::of(first..end.max(first), worker, workers),
            worker,
            workers,
        }
    }

    /// Ports of a block.
    #[inline]
    pub fn size(&self) -> u16 {
        self.size as u16
    }

    /// The block that a port is in.
    #[inline]
    pub fn block(&self, port: u16) -> u16 {
        (u32::from(port) / self.size) as u16
    }

    /// The worker that a port is of.
    #[inline]
    pub fn owner(&self, port: u16) -> u8 {
        (u32::from(self.block(port)) % self.workers) as u8
    }

    /// The blocks of this worker that have ports of `port`'s kind: well known or not.
    #[inline]
    pub fn like(&self, port: u16) -> &Blocks {
        if u32::from(port) < HIGH { &self.low } else { &self.high }
    }

    /// The blocks of this worker from port 1024 on.
    #[inline]
    pub fn high(&self) -> &Blocks {
        &self.high
    }

    /// Whether this worker may give this port out.
    #[inline]
    pub fn contains(&self, port: u16) -> bool {
        port != 0 && self.like(port).contains(self.block(port))
    }

    /// The `n`th port of `blocks`, which are this share's, counted from 0.
    #[inline]
    pub fn nth(&self, blocks: &Blocks, n: u32) -> Option<u16> {
        let block = blocks.nth(n / self.size)?;
        Some((u32::from(block) * self.size + n % self.size) as u16)
    }

    /// Ports of `blocks`.
    #[inline]
    pub fn count(&self, blocks: &Blocks) -> u32 {
        blocks.count * self.size
    }
}

/// The places `0..count` in an order that starts anywhere and visits all, neighbours far apart; at most `limit` of them.
/// `parity` takes the even (0) or odd (1) places alone.
pub fn probes(
    count: u32,
    start: u32,
    parity: Option<u32>,
    limit: u32,
) -> impl Iterator<Item = u32> + Clone + use<> {
    let (places, scale, offset) = match parity {
        Some(parity) => (count / 2, 2, parity & 1),
        None => (count, 1, 0),
    };
    // Two primes, of which one does not divide the number of places; to go on by it then leads round through all.
    let stride = if places.is_multiple_of(61) { 59 } else { 61 };
    let stride = if places.is_multiple_of(61 * 59) { 1 } else { stride };
    (0..places.min(limit)).map(move |i| {
        let place = (u64::from(start) + u64::from(i) * stride) % u64::from(places.max(1));
        place as u32 * scale + offset
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn workers_share_every_port_out_and_know_whose_each_is() {
        for (size, workers) in [(2, 1), (64, 1), (64, 3), (512, 5), (1024, 2)] {
            let mut seen = BTreeSet::new();
            for worker in 0..workers {
                let ports = Ports::new(size, 1024..=65535, worker, workers);
                for blocks in [ports.like(1), ports.high()] {
                    for n in 0..ports.count(blocks) {
                        let port = ports.nth(blocks, n).unwrap();
                        assert_eq!(u32::from(port) % 2, n % 2, "parity");
                        assert_eq!(ports.owner(port), worker);
                        assert_eq!(ports.contains(port), port != 0);
                        assert!(seen.insert(port), "{port} twice");
                    }
                    assert_eq!(ports.nth(blocks, ports.count(blocks)), None);
                }
            }
            assert_eq!(seen.len(), 65536, "blocks of {size} for {workers}");
        }
    }

    #[test]
    fn only_whole_blocks_of_the_range_are_used() {
        let ports = Ports::new(64, 10_000..=10_200, 0, 1);
        let all: Vec<u16> =
            (0..ports.count(ports.high())).filter_map(|n| ports.nth(ports.high(), n)).collect();
        assert_eq!((all.first(), all.last(), all.len()), (Some(&10_048), Some(&10_175), 128));
        assert!(!ports.contains(10_047) && !ports.contains(10_176) && ports.contains(10_048));
        assert!(ports.contains(53) && !ports.contains(0));
        let none = Ports::new(64, 2000..=2010, 0, 1);
        assert_eq!(none.high().count(), 0);
        let small = Ports::new(64, 1024..=1151, 3, 4);
        assert_eq!((small.high().count(), small.high().nth(0)), (0, None), "two blocks for four workers");
    }

    #[test]
    fn probes_visit_every_place_once() {
        for count in [2, 60, 61 * 2, 128, 59 * 61 * 2, 64_512] {
            for start in [0, 7, u32::MAX] {
                let all: BTreeSet<u32> = probes(count, start, None, count).collect();
                assert_eq!((all.len(), all.last()), (count as usize, Some(&(count - 1))));
                for parity in [0, 1] {
                    let half: BTreeSet<u32> = probes(count, start, Some(parity), count).collect();
                    assert_eq!(half.len(), count as usize / 2);
                    assert!(half.iter().all(|place| place % 2 == parity && *place < count));
                }
            }
        }
        assert_eq!(probes(0, 5, None, 9).count(), 0);
        assert_eq!(probes(1000, 5, None, 9).count(), 9);
    }
}
