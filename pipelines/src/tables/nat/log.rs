//! The log of port blocks: which client had which ports, from when to when.
//!
//! A ring in shared memory that a worker writes and the control process reads: a client's traffic is told by its external
//! address, port and time (RFC 6888 §4), and with blocks one line stands for all of their ports (RFC 7422). Owns the ring's
//! layout. Refuses memory that is too short. Keeps true: an event is read whole or not at all; what was overwritten unread is
//! counted; after a kill between an event and what it tells of, the event comes once more, and never not at all. Who passes
//! the events on leaves word here of how far they are ([`BlockLog::tell`]), so that their successor goes on from there.

use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::fence;

use zsync_packet::region::Region;

use super::endpoint::Endpoint;

/// Words of an event: its number, when, the client (2), the external address (2), what; one to fill the line.
const WORDS: usize = 8;
/// Bytes ahead of the events: a line of its own.
const HEAD: usize = 64;

/// Words of the head.
mod word {
    /// The number of the last event.
    pub(super) const WRITTEN: usize = 0;
    /// How many events were passed on, or lost.
    pub(super) const TOLD: usize = 1;
    /// How many were lost of these.
    pub(super) const LOST: usize = 2;
}

/// What happened to a block of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockEvent {
    /// When, in nanoseconds of the monotonic clock.
    pub at: u64,
    /// Whose it is, or was.
    pub client: IpAddr,
    /// The address outside.
    pub external: IpAddr,
    /// The first port.
    pub first: u16,
    /// How many ports.
    pub count: u16,
    /// The client got it; else it was given back.
    pub allocated: bool,
}

/// A ring with room for a number of events. One writes, any number read.
#[derive(Clone, Debug)]
pub struct BlockLog {
    region: Region,
    capacity: u64,
}

impl BlockLog {
    /// Bytes for `capacity` events.
    pub const fn bytes(capacity: usize) -> usize {
        HEAD + capacity * WORDS * 8
    }

    /// The ring in memory that was zeros when it was new.
    ///
    /// `None`: the region is shorter than [`Self::bytes`], or there is no capacity.
    pub fn open(region: Region, capacity: usize) -> Option<Self> {
        let log = Self { region, capacity: capacity as u64 };
        (capacity > 0 && log.region.len() >= Self::bytes(capacity)).then_some(log)
    }

    /// Events that were ever written.
    pub fn written(&self) -> u64 {
        // So many cannot have been: whoever wrote that wrote nothing.
        self.head(word::WRITTEN).map(|head| head.load(Acquire)).filter(|head| head >> 63 == 0).unwrap_or(0)
    }

    /// How many of these were passed on, or lost.
    pub fn told(&self) -> u64 {
        self.head(word::TOLD).map_or(0, |told| told.load(Relaxed)).min(self.written())
    }

    /// Events that whoever passes them on has lost so far.
    pub fn lost(&self) -> u64 {
        self.head(word::LOST).map_or(0, |lost| lost.load(Relaxed))
    }

    /// Passes on what nobody was told yet, at most `most` events, and returns how many of them were lost meanwhile. For one
    /// reader, or one after the other: after a kill amidst it the events of this call come once more.
    pub fn tell(&self, most: usize, each: impl FnMut(BlockEvent)) -> u64 {
        let (Some(told), Some(lost)) = (self.head(word::TOLD), self.head(word::LOST)) else { return 0 };
        let mut reader = self.reader(self.told());
        reader.by_ref().take(most).for_each(each);
        told.store(reader.passed(), Relaxed);
        lost.store(lost.load(Relaxed).saturating_add(reader.lost()), Relaxed);
        reader.lost()
    }

    /// Adds an event.
    pub fn write(&self, event: &BlockEvent) {
        let Some(head) = self.head(word::WRITTEN) else { return };
        let number = head.load(Relaxed) + 1;
        let Some(words) = self.event(number) else { return };
        let client = Endpoint::new(event.client, 0, 0).words();
        let external = Endpoint::new(event.external, 0, 0).words();
        let what = u64::from(event.first)
            | u64::from(event.count) << 16
            | u64::from(event.allocated) << 32
            | u64::from(event.client.is_ipv4()) << 33
            | u64::from(event.external.is_ipv4()) << 34;
        // Before a word of it changes, no reader takes it for the one that was here.
        words[0].store(0, Relaxed);
        fence(Release);
        let body = [event.at, client[0], client[1], external[0], external[1], what];
        for (word, value) in words[1..7].iter().zip(body) {
            word.store(value, Relaxed);
        }
        words[0].store(number, Release);
        head.store(number, Release);
    }

    /// A reader of what comes after the first `from` events ever written.
    pub fn reader(&self, from: u64) -> BlockReader {
        BlockReader { log: self.clone(), next: from.saturating_add(1), lost: 0 }
    }

    fn head(&self, word: usize) -> Option<&AtomicU64> {
        self.region.u64s(word * 8, 1)?.first()
    }

    fn event(&self, number: u64) -> Option<&[AtomicU64; WORDS]> {
        let place = (number % self.capacity) as usize;
        self.region.u64s(HEAD + place * WORDS * 8, WORDS)?.first_chunk()
    }

    fn read(&self, number: u64) -> Option<BlockEvent> {
        let words = self.event(number)?;
        if words[0].load(Acquire) != number {
            return None;
        }
        let [at, client_hi, client_lo, external_hi, external_lo, what] =
            std::array::from_fn(|i| words[1 + i].load(Relaxed));
        fence(Acquire);
        if words[0].load(Relaxed) != number {
            return None;
        }
        let address = |v4, [a, b]: [u64; 2]| {
            let version = if v4 { 4 } else { 6 };
            Endpoint::from_words([a, b, version << 40]).address()
        };
        Some(BlockEvent {
            at,
            client: address(what >> 33 & 1 == 1, [client_hi, client_lo]),
            external: address(what >> 34 & 1 == 1, [external_hi, external_lo]),
            first: what as u16,
            count: (what >> 16) as u16,
            allocated: what >> 32 & 1 == 1,
        })
    }
}

/// Reads a [`BlockLog`] in order.
#[derive(Clone, Debug)]
pub struct BlockReader {
    log: BlockLog,
    next: u64,
    lost: u64,
}

impl BlockReader {
    /// Events that were overwritten before they were read.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// How many events are behind it, read or lost: where a later reader goes on.
    pub fn passed(&self) -> u64 {
        self.next - 1
    }
}

impl Iterator for BlockReader {
    type Item = BlockEvent;

    /// The next event, if there is one yet.
    fn next(&mut self) -> Option<BlockEvent> {
        loop {
            let written = self.log.written();
            if self.next > written {
                return None;
            }
            let oldest = (written + 1).saturating_sub(self.log.capacity);
            if self.next < oldest {
                self.lost = self.lost.saturating_add(oldest - self.next);
                self.next = oldest;
            }
            let event = self.log.read(self.next);
            self.next += 1;
            match event {
                Some(event) => return Some(event),
                // Overwritten in the meantime.
                None => self.lost = self.lost.saturating_add(1),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: u16) -> BlockEvent {
        let (client, external): (IpAddr, IpAddr) = if n.is_multiple_of(2) {
            ([10, 0, 0, n as u8].into(), [203, 0, 113, 1].into())
        } else {
            ([0xfd00, 0, 0, 0, 0, 0, 0, n].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into())
        };
        BlockEvent {
            at: u64::from(n) * 1000,
            client,
            external,
            first: n * 64,
            count: 64,
            allocated: !n.is_multiple_of(3),
        }
    }

    #[test]
    fn events_are_read_in_order_and_the_lost_are_counted() {
        let log = BlockLog::open(Region::heap(BlockLog::bytes(8)), 8).unwrap();
        let mut reader = log.reader(0);
        assert_eq!(reader.next(), None);
        (1..=5).for_each(|n| log.write(&event(n)));
        assert_eq!(reader.by_ref().collect::<Vec<_>>(), (1..=5).map(event).collect::<Vec<_>>());
        (6..=20).for_each(|n| log.write(&event(n)));
        assert_eq!(reader.by_ref().collect::<Vec<_>>(), (13..=20).map(event).collect::<Vec<_>>());
        assert_eq!((reader.lost(), reader.passed(), log.written()), (7, 20, 20));
        // Another process, over the same memory.
        let again = BlockLog::open(log.region.clone(), 8).unwrap();
        again.write(&event(21));
        assert_eq!(log.reader(reader.passed()).collect::<Vec<_>>(), [event(21)]);
    }

    #[test]
    fn an_event_that_a_kill_cut_short_is_not_read() {
        let region = Region::heap(BlockLog::bytes(4));
        let log = BlockLog::open(region.clone(), 4).unwrap();
        (1..=4).for_each(|n| log.write(&event(n)));
        // The fifth was begun in the place of the first: its number is gone, the head has not moved.
        region.u64s(HEAD + WORDS * 8, 1).unwrap()[0].store(0, Relaxed);
        let mut reader = log.reader(0);
        assert_eq!(reader.by_ref().collect::<Vec<_>>(), (2..=4).map(event).collect::<Vec<_>>());
        assert_eq!(reader.lost(), 1);
        log.write(&event(5));
        assert_eq!(reader.next(), Some(event(5)));
    }

    #[test]
    fn what_was_told_is_not_told_again_by_a_successor() {
        let log = BlockLog::open(Region::heap(BlockLog::bytes(8)), 8).unwrap();
        let told = |log: &BlockLog, most| {
            let mut events = Vec::new();
            let lost = log.tell(most, |event| events.push(event));
            (events, lost)
        };
        assert_eq!(told(&log, 5), (Vec::new(), 0));
        (1..=5).for_each(|n| log.write(&event(n)));
        assert_eq!(told(&log, 3), ((1..=3).map(event).collect(), 0));
        let again = BlockLog::open(log.region.clone(), 8).unwrap();
        assert_eq!(told(&again, 0), (Vec::new(), 0));
        assert_eq!(told(&again, 99), ((4..=5).map(event).collect(), 0));
        (6..=20).for_each(|n| log.write(&event(n)));
        assert_eq!(told(&log, 99), ((13..=20).map(event).collect(), 7));
        assert_eq!((told(&again, 99), again.lost()), ((Vec::new(), 0), 7));
        // Whoever spoils the place spoils no more than that.
        log.head(word::TOLD).unwrap().store(u64::MAX, Relaxed);
        log.write(&event(21));
        assert_eq!(told(&log, 99), (Vec::new(), 0));
        log.write(&event(22));
        assert_eq!(told(&log, 99), (vec![event(22)], 0));
        log.head(word::WRITTEN).unwrap().store(u64::MAX, Relaxed);
        assert_eq!(told(&log, 99), (Vec::new(), 0));
        log.head(word::WRITTEN).unwrap().store(u64::MAX >> 1, Relaxed);
        assert_eq!(told(&log, 99).0, Vec::new());
    }

    #[test]
    fn a_region_that_is_too_short_is_refused() {
        assert!(BlockLog::open(Region::heap(BlockLog::bytes(8) - 1), 8).is_none());
        assert!(BlockLog::open(Region::heap(4096), 0).is_none());
    }
}
