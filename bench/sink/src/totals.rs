//! Totals: sums over the flows of a sink, kept as packets arrive so that a live line need not visit every flow.

use crate::sequence::{Counts, OFFSET_CLASSES};

/// Packets outside the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stray {
    /// How many.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Stray {
    pub(crate) const fn count(&mut self, bytes: u32) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }

    pub(crate) const fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// Least and greatest of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Span {
    pub(crate) const NONE: Self = Self { first: u64::MAX, last: 0 };

    pub(crate) fn cover(&mut self, other: Self) {
        *self = Self { first: self.first.min(other.first), last: self.last.max(other.last) };
    }

    /// Nanoseconds between them.
    pub(crate) const fn length_ns(self) -> u64 {
        self.last.saturating_sub(self.first)
    }
}

/// Totals over the flows of one or more sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) counts: Counts,
    pub(crate) bytes: u64,
    pub(crate) corrupt: Stray,
    pub(crate) foreign: Stray,
    pub(crate) sources: [u64; 3],
    pub(crate) offsets: [u64; OFFSET_CLASSES],
    pub(crate) departures: Span,
    pub(crate) arrivals: Span,
}

impl Totals {
    pub(crate) const NONE: Self = Self {
        counts: Counts { known: 0, received: 0, duplicated: 0, reordered: 0, too_old: 0 },
        bytes: 0,
        corrupt: Stray { packets: 0, bytes: 0 },
        foreign: Stray { packets: 0, bytes: 0 },
        sources: [0; 3],
        offsets: [0; OFFSET_CLASSES],
        departures: Span::NONE,
        arrivals: Span::NONE,
    };

    /// Adds another core's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        self.bytes += other.bytes;
        self.corrupt.add(other.corrupt);
        self.foreign.add(other.foreign);
        self.sources.iter_mut().zip(other.sources).for_each(|(ours, theirs)| *ours += theirs);
        self.offsets.iter_mut().zip(other.offsets).for_each(|(ours, theirs)| *ours += theirs);
        self.departures.cover(other.departures);
        self.arrivals.cover(other.arrivals);
    }
}
