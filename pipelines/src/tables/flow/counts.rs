//! What a flow table says of itself: how full it is, what has happened to it, and why it refused a flow.
//!
//! Owns nothing: the numbers are in the table's header, and outlive the worker with it.

use super::layout::word;

/// What a new flow must keep within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Half-open connections of the whole table.
    pub half_open: u32,
    /// Flows of one source: an IPv4 address, or the first 64 bits of an IPv6 address. 0: any number.
    pub per_source: u32,
}

/// Why a flow was not added or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No room, and none to be made without evicting a better flow.
    #[error("the flow table is full")]
    Full,
    /// Its source has as many flows as one may have.
    #[error("the source has as many flows as one may have")]
    Source,
    /// As many half-open connections as there may be, none of which could be evicted.
    #[error("there are as many half-open connections as there may be")]
    HalfOpen,
    /// Another flow has this key.
    #[error("another flow has this key")]
    Taken,
    /// There is no such flow.
    #[error("there is no such flow")]
    NoFlow,
}

/// What happened to the table since its memory was made, and how full it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Flows that it holds.
    pub flows: u32,
    /// Of these, not answered, half open or closing.
    pub weak: u32,
    /// Of these, half-open TCP connections.
    pub half_open: u32,
    /// Translations in use.
    pub translations: u32,
    /// Flows whose time was over.
    pub expired: u64,
    /// Flows whose time was over, found only when room was needed.
    pub evicted_expired: u64,
    /// Weak flows that made room.
    pub evicted_weak: u64,
    /// Others that made room, no weak one being left.
    pub evicted_established: u64,
    /// Half-open connections beyond their limit.
    pub evicted_half_open: u64,
    /// New flows for which there was no room.
    pub refused_full: u64,
    /// New flows beyond what their source may have.
    pub refused_source: u64,
    /// New connections beyond the limit of half-open ones.
    pub refused_half_open: u64,
}

impl Counts {
    /// Of so many flows and translations that live, and the words of the header.
    pub(super) fn read((flows, translations): (u32, u32), header: impl Fn(usize) -> u64) -> Self {
        let counts = header(word::COUNTS);
        Self {
            flows,
            weak: counts as u32,
            half_open: (counts >> 32) as u32,
            translations,
            expired: header(word::EXPIRED),
            evicted_expired: header(word::EVICTED_EXPIRED),
            evicted_weak: header(word::EVICTED_WEAK),
            evicted_established: header(word::EVICTED_ESTABLISHED),
            evicted_half_open: header(word::EVICTED_HALF_OPEN),
            refused_full: header(word::REFUSED_FULL),
            refused_source: header(word::REFUSED_SOURCE),
            refused_half_open: header(word::REFUSED_HALF_OPEN),
        }
    }
}
