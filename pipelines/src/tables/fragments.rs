//! Datagrams that come in fragments: what is known of each until it is whole, for virtual reassembly.
//!
//! Owns a fixed number of datagrams in a [`Region`], so that a successor carries on from it; one writer. A datagram is told
//! by source, destination, identification and, for IPv4, protocol (RFC 791 §2.3; RFC 8200 §4.5). Of each it keeps the
//! ports of its first fragment and which bytes have passed.
//!
//! Refuses: a fragment that overlaps another (RFC 5722 §4 for IPv6; for IPv4 it has the same uses, all bad), after which the
//! whole datagram is refused; a second end; bytes beyond the end. A fragment whose bytes have all passed before is a
//! duplicate, which networks make: it alone is refused (RFC 8200 §4.5).
//!
//! Keeps true: no two fragments that were let through have a byte of their datagram in common. A full table forgets the
//! datagram that began first of the [`WAYS`] that a new one may take the place of: a flood of fragments shortens the time
//! that they may take to arrive, and costs nothing else. A datagram that is whole is forgotten at once.
//!
//! A kill between any two stores leaves an entry that is free, or that refuses a little more than it should.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};
use zsync_packet::flow::FlowKey;
use zsync_packet::region::Region;
use zsync_packet::verdict::DropReason;

/// Places that a datagram may have: one cache line of heads.
pub const WAYS: usize = 8;
/// Parts that a datagram may be in at one time, adjacent ones being one. Of fragments that come in order, or in reverse, it
/// is one part; 20 is what the 44 fragments of the longest datagram on Ethernet make at the worst, less two.
pub const PARTS: usize = 20;

/// Words of a record: the key, the meta word, two parts in each of the rest.
const WORDS: usize = 5 + 1 + PARTS / 2;
const META: usize = 5;
const FIRST_PART: usize = 6;

// The meta word, from the low end: ports of the first fragment (32 bits), its protocol (8), flags, length of the datagram.
const HAS_FIRST: u64 = 1 << 40;
const HAS_LAST: u64 = 1 << 41;
const REFUSED: u64 = 1 << 42;
const LENGTH: u32 = 48;

/// A fragment's bytes count in units of 8 (RFC 791 §3.1).
const UNIT: u32 = 8;

/// See the module.
#[derive(Clone, Debug)]
pub struct Fragments {
    region: Region,
    buckets: usize,
    /// Nanoseconds that a datagram may take to arrive.
    timeout: u64,
}

/// What the first fragment says of the others: the ports and the protocol of the transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// The sender's port, or the identifier of an echo, or 0.
    pub source_port: u16,
    /// The receiver's port, or the identifier of an echo, or 0.
    pub destination_port: u16,
    /// The protocol of the transport header.
    pub protocol: u8,
}

/// One fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it lies in the datagram, in bytes; a multiple of 8.
    pub offset: u16,
    /// Its bytes; not 0.
    pub len: u16,
    /// Whether more of the datagram follows; then `len` is a multiple of 8.
    pub more: bool,
    /// What its transport header says; there is one at offset 0.
    pub transport: Option<Transport>,
}

/// What becomes of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It goes on, as a part of this.
    Known(Transport),
    /// The first fragment has not come yet. Nothing was noted: ask again when it has.
    Early,
    /// It is dropped.
    Refused(DropReason),
}

/// A datagram's place in the table, until it is found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Which of the table's places.
    pub number: u32,
    /// Whether it was made just now: what was there before is forgotten.
    pub fresh: bool,
}

impl Fragments {
    /// Bytes of a region for at least `capacity` datagrams.
    pub fn bytes(capacity: usize) -> usize {
        buckets(capacity) * WAYS * (1 + WORDS) * 8
    }

    /// The table in `region`, made for the same `capacity`; a datagram may take `timeout` nanoseconds. `None` when the
    /// region is too short or misaligned. A zeroed region is an empty table.
    pub fn open(region: Region, capacity: usize, timeout: u64) -> Option<Self> {
        region.u64s(0, Self::bytes(capacity) / 8)?;
        Some(Self { region, buckets: buckets(capacity), timeout })
    }

    /// Datagrams that it has places for.
    pub fn capacity(&self) -> usize {
        self.buckets * WAYS
    }

    /// Asks for the memory that [`Self::slot`] of a datagram of this hash looks at first.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.region.prefetch((hash as usize & (self.buckets - 1)) * WAYS * 8);
    }

    /// The datagram `key`, whose hash is `hash`; a new one when there is none, or it took too long.
    pub fn slot(&self, key: &FlowKey, hash: u64, now: u64) -> Slot {
        let (bucket, tag) = ((hash as usize) & (self.buckets - 1), hash >> 48);
        let heads = self.heads(bucket);
        let (mut oldest, mut oldest_until) = (0, u64::MAX);
        for (way, head) in heads.iter().enumerate() {
            let head = head.load(Relaxed);
            let until = if head >> 16 <= tick(now) { 0 } else { head >> 16 };
            if until != 0 && head & 0xffff == tag && self.is(bucket * WAYS + way, key) {
                return Slot { number: (bucket * WAYS + way) as u32, fresh: false };
            }
            if until < oldest_until {
                (oldest, oldest_until) = (way, until);
            }
        }
        let number = bucket * WAYS + oldest;
        if let Some(head) = heads.get(oldest) {
            head.store(0, Release);
            for (place, word) in self.record(number).iter().zip(key.words()) {
                place.store(word, Relaxed);
            }
            for place in self.record(number).get(META..).unwrap_or(&[]) {
                place.store(0, Relaxed);
            }
            // The last store makes it one that is found.
            head.store(tick(now.saturating_add(self.timeout)).max(1) << 16 | tag, Release);
        }
        Slot { number: number as u32, fresh: true }
    }

    /// The place of the datagram `key`, if it is there. For people: changes nothing.
    pub fn find(&self, key: &FlowKey, hash: u64, now: u64) -> Option<u32> {
        let (bucket, tag) = ((hash as usize) & (self.buckets - 1), hash >> 48);
        let way = self.heads(bucket).iter().enumerate().find(|(way, head)| {
            let head = head.load(Relaxed);
            head >> 16 > tick(now) && head & 0xffff == tag && self.is(bucket * WAYS + way, key)
        })?;
        Some((bucket * WAYS + way.0) as u32)
    }

    /// What the first fragment of the datagram in place `number` said, if it has come.
    pub fn first(&self, number: u32) -> Option<Transport> {
        let meta = self.record(number as usize).get(META)?.load(Relaxed);
        (meta & HAS_FIRST != 0).then(|| transport_of(meta))
    }

    /// Takes a fragment of the datagram in place `number`, as [`Self::slot`] said.
    pub fn arrive(&self, number: u32, piece: &Piece) -> Arrival {
        let record = self.record(number as usize);
        let Some(meta_word) = record.get(META) else {
            return Arrival::Refused(DropReason::FragmentTableFull);
        };
        let meta = meta_word.load(Relaxed);
        if meta & REFUSED != 0 {
            return Arrival::Refused(DropReason::FragmentOverlap);
        }
        if meta & HAS_FIRST == 0 && piece.transport.is_none() {
            return Arrival::Early;
        }
        let verdict = self.note(record, meta, piece);
        match verdict {
            Ok(meta) => {
                meta_word.store(meta, Relaxed);
                if is_whole(record, meta) {
                    self.forget(number);
                }
                Arrival::Known(transport_of(meta))
            }
            Err(Trouble::Duplicate) => Arrival::Refused(DropReason::FragmentOverlap),
            Err(Trouble::All(reason)) => {
                meta_word.store(meta | REFUSED, Relaxed);
                Arrival::Refused(reason)
            }
        }
    }

    /// Whether the first fragment of the datagram in place `number` has come.
    pub fn has_first(&self, number: u32) -> bool {
        self.record(number as usize).get(META).is_some_and(|meta| meta.load(Relaxed) & HAS_FIRST != 0)
    }

    /// Frees place `number`.
    pub fn forget(&self, number: u32) {
        let number = number as usize;
        if let Some(head) = self.heads(number / WAYS).get(number % WAYS) {
            head.store(0, Release);
        }
    }

    /// Datagrams that are on their way at `now`.
    pub fn live(&self, now: u64) -> usize {
        let heads = (0..self.buckets).flat_map(|bucket| self.heads(bucket));
        heads.filter(|head| head.load(Relaxed) >> 16 > tick(now)).count()
    }

    /// Notes the piece's bytes, and gives the meta word that follows.
    fn note(&self, record: &[AtomicU64], meta: u64, piece: &Piece) -> Result<u64, Trouble> {
        const MALFORMED: Trouble = Trouble::All(DropReason::FragmentMalformed);
        let end = u32::from(piece.offset) + u32::from(piece.len);
        let (from, to) = (u32::from(piece.offset) / UNIT, end.div_ceil(UNIT));
        let mut parts = Parts::read(record);
        let slot = parts.place(from, to)?;
        let mut next = meta;
        if !piece.more {
            if meta & HAS_LAST != 0 || parts.end() > to {
                return Err(MALFORMED);
            }
            next |= HAS_LAST | u64::from(end) << LENGTH;
        } else if meta & HAS_LAST != 0 && u64::from(end) > meta >> LENGTH {
            return Err(MALFORMED);
        }
        if let Some(first) = piece.transport {
            next |= HAS_FIRST
                | u64::from(first.source_port)
                | u64::from(first.destination_port) << 16
                | u64::from(first.protocol) << 32;
        }
        parts.take(slot, from, to);
        parts.write(record);
        Ok(next)
    }

    fn is(&self, number: usize, key: &FlowKey) -> bool {
        self.record(number).iter().zip(key.words()).all(|(word, wanted)| word.load(Relaxed) == wanted)
    }

    fn heads(&self, bucket: usize) -> &[AtomicU64] {
        self.region.u64s(bucket * WAYS * 8, WAYS).unwrap_or(&[])
    }

    fn record(&self, number: usize) -> &[AtomicU64] {
        let heads = self.buckets * WAYS * 8;
        self.region.u64s(heads + number * WORDS * 8, WORDS).unwrap_or(&[])
    }
}

/// Why a fragment is not noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// It has passed already.
    Duplicate,
    /// The datagram is not to be trusted.
    All(DropReason),
}

/// The parts of a datagram that have passed, in units, in no order; an empty place is `(0, 0)`.
struct Parts([(u32, u32); PARTS]);

impl Parts {
    fn read(record: &[AtomicU64]) -> Self {
        let mut parts = [(0, 0); PARTS];
        for (pair, word) in
            parts.as_chunks_mut::<2>().0.iter_mut().zip(record.get(FIRST_PART..).unwrap_or(&[]))
        {
            let word = word.load(Relaxed);
            *pair = [unpack(word as u32), unpack((word >> 32) as u32)];
        }
        Self(parts)
    }

    fn write(&self, record: &[AtomicU64]) {
        for (pair, place) in self.0.as_chunks::<2>().0.iter().zip(record.get(FIRST_PART..).unwrap_or(&[])) {
            let word = u64::from(pack(pair[0])) | u64::from(pack(pair[1])) << 32;
            place.store(word, Relaxed);
        }
    }

    /// Where the units `from..to` can go: to a part that they touch, or to a free place.
    fn place(&self, from: u32, to: u32) -> Result<usize, Trouble> {
        let (mut touching, mut free) = (None, None);
        for (i, &(start, end)) in self.0.iter().enumerate() {
            if start == end {
                free = free.or(Some(i));
            } else if from < end && start < to {
                let inside = start <= from && to <= end;
                return Err(if inside {
                    Trouble::Duplicate
                } else {
                    Trouble::All(DropReason::FragmentOverlap)
                });
            } else if from == end || to == start {
                touching = touching.or(Some(i));
            }
        }
        touching.or(free).ok_or(Trouble::All(DropReason::FragmentTableFull))
    }

    /// Takes the units `from..to`, which [`Self::place`] found room for in `slot`.
    fn take(&mut self, slot: usize, from: u32, to: u32) {
        let (mut from, mut to) = (from, to);
        for part in &mut self.0 {
            // What they touch on either side becomes one part with them.
            if part.0 != part.1 && (part.1 == from || part.0 == to) {
                (from, to) = (from.min(part.0), to.max(part.1));
                *part = (0, 0);
            }
        }
        if let Some(part) = self.0.get_mut(slot) {
            *part = (from, to);
        }
    }

    fn end(&self) -> u32 {
        self.0.iter().map(|part| part.1).max().unwrap_or(0)
    }
}

fn pack((start, end): (u32, u32)) -> u32 {
    start | end << 16
}

fn unpack(word: u32) -> (u32, u32) {
    (word & 0xffff, word >> 16)
}

fn is_whole(record: &[AtomicU64], meta: u64) -> bool {
    let length = (meta >> LENGTH) as u32;
    meta & HAS_LAST != 0 && Parts::read(record).0.contains(&(0, length.div_ceil(UNIT)))
}

fn transport_of(meta: u64) -> Transport {
    Transport {
        source_port: meta as u16,
        destination_port: (meta >> 16) as u16,
        protocol: (meta >> 32) as u8,
    }
}

/// Time in steps of about a millisecond, so that 48 bits are 9,000 years.
fn tick(now: u64) -> u64 {
    now >> 20
}

fn buckets(capacity: usize) -> usize {
    capacity.div_ceil(WAYS).max(1).next_power_of_two()
}

#[cfg(test)]
mod tests;
