//! Where the parts of the table lie, and the words of its header.
//!
//! Owns: offsets. Refuses: memory that is too short, or was written for other numbers.

use crate::tables::index::Index;
use crate::tables::records::Records;
use std::ops::Range;

/// Bytes of the header: three cache lines.
const HEADER: usize = 192;
/// Every part begins at a cache line.
const LINE: usize = 64;

/// Words of the header.
pub(super) mod word {
    /// What the memory was written for; 0: not written yet.
    pub const LAYOUT: usize = 0;
    /// A hash that only the same secret gives.
    pub const SECRET: usize = 1;
    /// What is being changed: see [`recover`](super::super::recover). 0: nothing.
    pub const INTENT: usize = 2;
    /// The counts before the change.
    pub const OLD_COUNTS: usize = 3;
    /// The source's counters before the change.
    pub const OLD_SOURCE: usize = 4;
    /// Weak flows in the low half, half-open ones in the high half.
    pub const COUNTS: usize = 5;
    /// Where the search for a flow to evict goes on.
    pub const HAND: usize = 6;
    /// First and next place of the ring of half-open connections: low and high half.
    pub const RING_HALF_OPEN: usize = 7;
    /// How many flows went before their time, and how many were refused: see [`Counts`](super::super::Counts).
    pub const EVICTED_EXPIRED: usize = 8;
    pub const EVICTED_WEAK: usize = 9;
    pub const EVICTED_ESTABLISHED: usize = 10;
    pub const EVICTED_HALF_OPEN: usize = 11;
    pub const REFUSED_FULL: usize = 12;
    pub const REFUSED_SOURCE: usize = 13;
    pub const REFUSED_HALF_OPEN: usize = 14;
    pub const EXPIRED: usize = 15;
    /// As [`RING_HALF_OPEN`], of the other weak flows.
    pub const RING_WEAK: usize = 16;
}

/// How many flows, and how many translated ones, a table has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSpace {
    /// Flows; at least 1.
    pub flows: u32,
    /// Flows that are translated: at most as many.
    pub translations: u32,
}

/// Why memory is no flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Too little of it.
    #[error("the memory of the flow table has {has} bytes; it takes {needs}")]
    TooShort {
        /// Bytes that are there.
        has: usize,
        /// Bytes that it takes.
        needs: usize,
    },
    /// It was written for other numbers, or by another version.
    #[error("the memory of the flow table was written for another layout; it must be made anew")]
    OtherLayout,
    /// It was written under another secret: no flow would be found.
    #[error("the memory of the flow table was written under another hash secret; it must be made anew")]
    OtherSecret,
}

/// Bytes of each part, in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub index: (usize, usize),
    pub records: (usize, usize),
    pub cold: (usize, usize),
    pub marks: (usize, usize),
    pub sources: (usize, usize),
    pub rings: (usize, usize),
    pub translations: (usize, usize),
}

impl FlowSpace {
    /// Bytes of memory that it takes.
    pub const fn bytes(self) -> usize {
        let (start, len) = self.parts().translations;
        start + len
    }

    /// Places of each ring of new flows.
    pub(super) const fn ring(self) -> usize {
        let quarter = self.flows as usize / 4;
        if quarter < 16 { 16 } else { quarter }
    }

    /// Most half-open connections that can be kept apart: half the places of their ring.
    pub const fn most_half_open(self) -> u32 {
        (self.ring() / 2) as u32
    }

    pub(super) const fn entries(self) -> usize {
        self.flows as usize + self.translations as usize
    }

    pub(super) const fn parts(self) -> Parts {
        let flows = self.flows as usize;
        let index = (HEADER, Index::bytes(self.entries()));
        let records = (behind(index), Records::<8>::bytes(flows));
        let cold = (behind(records), flows * 32);
        let marks = (behind(cold), flows * 4);
        let sources = (behind(marks), flows * 8);
        let rings = (behind(sources), self.ring() * 2 * 8);
        let translations = (behind(rings), Records::<8>::bytes(self.translations as usize));
        Parts { index, records, cold, marks, sources, rings, translations }
    }

    /// What is written into [`word::LAYOUT`].
    pub(super) const fn signature(self) -> u64 {
        // The first byte is the version of the layout.
        let mixed = (self.flows as u64) << 28 ^ self.translations as u64;
        1 << 56 | mixed & ((1 << 56) - 1)
    }
}

const fn behind(part: (usize, usize)) -> usize {
    (part.0 + part.1).next_multiple_of(LINE)
}

/// A part as a range of bytes.
pub(super) fn range(part: (usize, usize)) -> Range<usize> {
    part.0..part.0 + part.1
}
