//! What a stage is.
//!
//! A stage looks at the undecided packets of a burst and decides about some or all of them. It has no I/O and no clock of
//! its own: bytes and a time in, verdicts and bytes out, so the same packets give the same answer on every device.
//!
//! To add one: a file in [`crate::stages`] that implements [`Stage`], a variant of [`crate::snapshot::AnyStage`], and its
//! line in [`crate::compile`]. What [`Stage::explain`] says of it is asked for by the tests of [`crate::trace`].

use crate::stages::answer::Limits;
use std::task::Waker;
use zsync_packet::burst::{Burst, Packet};
use zsync_packet::frame::{Arena, HEADROOM};
use zsync_packet::pool::Pool;
use zsync_packet::verdict::{PortId, Verdict};

/// What a stage is told besides the packets, and where it makes new ones.
#[derive(Debug)]
pub struct Cx<'a> {
    /// Nanoseconds of a monotonic clock, read once a pass.
    pub now: u64,
    source: Option<(&'a mut Pool, &'a mut Extra)>,
}

impl<'a> Cx<'a> {
    /// For stages that make no packets.
    pub fn at(now: u64) -> Cx<'static> {
        Cx { now, source: None }
    }

    /// For stages that may make packets: frames come from `pool`, and go into `extra`.
    #[inline]
    pub fn new(now: u64, pool: &'a mut Pool, extra: &'a mut Extra) -> Self {
        Self { now, source: Some((pool, extra)) }
    }

    /// Makes a packet of `len` bytes, as if it had come in at `port`, about which all is decided; it leaves right behind
    /// packet `behind` of the burst, and behind what was made for that one before. `fill` writes all of its bytes, which are at first what the frame's last owner left. False, and nothing is made, when no frame is free, `len`
    /// is 0 or does not fit in one, or the burst has made [`EXTRA`] already.
    #[must_use]
    pub fn spawn(
        &mut self,
        behind: usize,
        port: PortId,
        len: usize,
        verdict: Verdict,
        delay: u32,
        fill: impl FnOnce(&mut [u8]),
    ) -> bool {
        let Some((pool, extra)) = &mut self.source else { return false };
        if len == 0
            || len > pool.arena().frame_size().longest_packet()
            || extra.made.len() >= EXTRA
            || verdict == Verdict::Next
        {
            return false;
        }
        let Some(mut frame) = pool.alloc() else { return false };
        // Neither exceeds a frame, which has at most 4096 bytes.
        let (start, len) = (HEADROOM as u16, len as u16);
        fill(pool.arena().bytes_mut(&mut frame, start, len));
        // Nearly always the end.
        let place = extra.made.partition_point(|made| made.behind <= behind);
        let packet = Packet { frame, start, len, port };
        extra.made.insert(place, Spawned { packet, verdict, delay, behind });
        true
    }

    /// Adds a packet of `len` bytes that came in at `port` to the burst, undecided, and gives its number there: a packet that
    /// the calling stage kept a copy of goes on with it. `fill` as for [`Self::spawn`]. `None`, and nothing is made, when no
    /// frame is free, `len` is 0 or does not fit in one, or the burst is full.
    #[must_use]
    pub fn join(
        &mut self,
        burst: &mut Burst,
        port: PortId,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Option<usize> {
        let (pool, _) = self.source.as_mut()?;
        if len == 0 || len > pool.arena().frame_size().longest_packet() || burst.room() == 0 {
            return None;
        }
        let mut frame = pool.alloc()?;
        let (start, len) = (HEADROOM as u16, len as u16);
        fill(pool.arena().bytes_mut(&mut frame, start, len));
        match burst.push(Packet { frame, start, len, port }) {
            Ok(()) => Some(burst.len() - 1),
            Err(packet) => {
                pool.free(packet.frame);
                None
            }
        }
    }

    /// Lets `each` look at every packet that was made, change it, and decide about it anew.
    pub(crate) fn each_made(&mut self, mut each: impl FnMut(&mut Made<'_>, Verdict) -> Verdict) {
        let Some((pool, extra)) = &mut self.source else { return };
        for spawned in &mut extra.made {
            let verdict = spawned.verdict;
            spawned.verdict = each(&mut Made { packet: &mut spawned.packet, arena: pool.arena() }, verdict);
        }
    }

    /// Whether `count` packets can be made now.
    pub fn can_spawn(&mut self, count: usize) -> bool {
        let Some((pool, extra)) = &mut self.source else { return false };
        if pool.available() < count {
            pool.collect_returns();
        }
        extra.made.len() + count <= EXTRA && pool.available() >= count
    }

    /// How many answers the worker may still send; `None` for stages that make no packets, which nobody limits.
    pub(crate) fn limits(&mut self) -> Option<&mut Limits> {
        self.source.as_mut().map(|(_, extra)| &mut extra.limits)
    }
}

/// Most packets that the stages may make out of one burst: a copy of each, and as many fragments.
pub const EXTRA: usize = 128;

/// Packets that the stages made out of a burst, and how many answers they may still send. Whoever runs the pipelines carries
/// the packets' verdicts out, and leaves none.
#[derive(Debug)]
pub struct Extra {
    made: Vec<Spawned>,
    limits: Limits,
}

/// A packet that a stage made.
#[derive(Debug)]
pub struct Spawned {
    /// The packet.
    pub packet: Packet,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Nanoseconds that it is to be kept before it leaves.
    pub delay: u32,
    /// The packet of the burst that it leaves behind.
    pub behind: usize,
}

/// A packet that a stage made, to change.
pub(crate) struct Made<'a> {
    packet: &'a mut Packet,
    arena: &'a Arena,
}

impl Made<'_> {
    /// Its bytes.
    pub(crate) fn bytes(&mut self) -> &[u8] {
        self.arena.bytes_mut(&mut self.packet.frame, self.packet.start, self.packet.len)
    }

    /// Adds `count` bytes at its front, as they lie there, and gives all of it; nothing when there is no room.
    pub(crate) fn prepend(&mut self, count: usize) -> Option<&mut [u8]> {
        let count = u16::try_from(count).ok()?;
        self.packet.start = self.packet.start.checked_sub(count)?;
        self.packet.len += count;
        Some(self.arena.bytes_mut(&mut self.packet.frame, self.packet.start, self.packet.len))
    }
}

impl Extra {
    /// An empty one, with room for all that one burst can make.
    pub fn new() -> Self {
        Self { made: Vec::with_capacity(EXTRA), limits: Limits::new() }
    }

    /// Whether nothing was made.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    /// Takes everything out, in the order of the packets for which it was made.
    pub fn drain(&mut self) -> impl Iterator<Item = Spawned> {
        self.made.drain(..)
    }
}

impl Default for Extra {
    fn default() -> Self {
        Self::new()
    }
}

/// An element of a pipeline.
pub trait Stage {
    /// Decides about undecided packets of the burst ([`Burst::undecided`]), or leaves them to the next stage.
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>);

    /// Hears what became of the packets of a burst, when all pipelines have run: to take back what was done for those
    /// that a later stage has dropped.
    fn settle(&mut self, _burst: &Burst) {}

    /// Makes the stage worker `worker`'s: from now on it works on that worker's shard of what it keeps. Before the first
    /// packet, and perhaps while another snapshot's stage still works on the same shard: so it may look and allocate, but
    /// not write.
    fn assign(&mut self, _worker: usize) {}

    /// Says in words what packet `i` is about to match, and what the stage knows of it: for people, off the packet path.
    fn explain(&self, _burst: &Burst, _i: usize, _now: u64, _out: &mut Vec<String>) {}

    /// What there is to do without packets; `None`: nothing, and the three calls below are never made.
    fn chore(&self) -> Option<Chore> {
        None
    }

    /// Wakes `waker` from now on when there is something to do before the chore's period is over.
    fn wake_with(&mut self, _waker: &Waker) {}

    /// Does a slice of its chore, like forgetting what has expired; takes some microseconds at most. True: there is more that cannot
    /// wait for longer than a period, though no packets come.
    fn tend(&mut self, _now: u64) -> bool {
        false
    }

    /// Adds packets of its own to the burst, which is empty; they go on behind it: what it has to say without having been asked.
    /// Called after each [`Stage::tend`], and true means the same.
    fn emit(&mut self, _burst: &mut Burst, _cx: &mut Cx<'_>) -> bool {
        false
    }
}

/// What a stage does without packets: see [`Stage::chore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chore {
    /// In words, for whoever looks at the tasks of a worker.
    pub what: &'static str,
    /// Nanoseconds between two slices while packets come. (A worker without packets lets chores wait for some milliseconds.)
    pub period: u64,
}

impl Chore {
    /// What is done in slices of some microseconds: with one every 100 µs, it takes some hundredths of a worker's time.
    pub const fn sliced(what: &'static str) -> Self {
        Self { what, period: 100_000 }
    }
}

/// How often something may happen: so many times a second, so many at once. Time that goes back counts as standing.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    interval: u64,
    /// How many may come at once; 0: none at all.
    at_once: u64,
    /// When the allowance was, or will be, all used up: the "theoretical arrival time" of GCRA.
    used_up: u64,
}

impl Allowance {
    /// `rate` a second, of which all may come at once. A rate of 0 allows nothing.
    pub fn per_second(rate: u32) -> Self {
        Self::new(rate, rate)
    }

    /// `rate` a second, of which `at_once` may come at once. Nothing, if either is 0.
    pub fn new(rate: u32, at_once: u32) -> Self {
        let interval = if rate == 0 { 0 } else { 1_000_000_000 / u64::from(rate) };
        let at_once = if rate == 0 { 0 } else { u64::from(at_once) };
        Self { interval, at_once, used_up: 0 }
    }

    /// Whether it may happen at `now` (nanoseconds); if so, it is counted.
    #[inline]
    pub fn take(&mut self, now: u64) -> bool {
        if self.at_once == 0 {
            return false;
        }
        // So much may be used ahead of time.
        let full = self.interval * (self.at_once - 1);
        if self.used_up > now.saturating_add(full) {
            return false;
        }
        self.used_up = self.used_up.max(now) + self.interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_is_its_rate_in_any_second_and_its_burst_at_once() {
        let mut allowance = Allowance::per_second(10);
        let now = 5_000_000_000;
        assert_eq!((0..100).filter(|_| allowance.take(now)).count(), 10);
        assert!(!allowance.take(now + 99_000_000));
        assert!(allowance.take(now + 100_000_000));
        assert!(!allowance.take(now), "time went back");
        assert_eq!((0..100).filter(|_| allowance.take(now + 10_000_000_000)).count(), 10);
        assert!(!Allowance::per_second(0).take(now));
        let mut short = Allowance::new(10, 3);
        assert_eq!((0..100).filter(|_| short.take(now)).count(), 3);
        assert_eq!((1..=100).filter(|i| short.take(now + i * 10_000_000)).count(), 10);
        assert!(!Allowance::new(10, 0).take(now));
    }
}
