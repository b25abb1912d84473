//! What the FIB refuses, and why.

use std::fmt;
use std::net::IpAddr;

use super::entry::PORT_LIMIT;
use super::hops::{AdjacencyId, HOP_LIMIT};

/// A capacity of [`FibLayout`](super::FibLayout); shown by its field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Capacity {
    /// `v4_groups`
    V4Groups,
    /// `v6_groups`
    V6Groups,
    /// `next_hops`
    NextHops,
    /// `members`
    Members,
    /// `adjacencies`
    Adjacencies,
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4Groups => "v4_groups",
            Self::V6Groups => "v6_groups",
            Self::NextHops => "next_hops",
            Self::Members => "members",
            Self::Adjacencies => "adjacencies",
        })
    }
}

/// Why the FIB refused something. It is then as it was before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FibError {
    /// A capacity is more than the words of the tables can number.
    #[error("FIB layout: {capacity} = {value} is not within 1..={limit}")]
    Layout {
        /// Which.
        capacity: Capacity,
        /// What was asked.
        value: u32,
        /// The most that there can be.
        limit: u32,
    },
    /// The region is shorter than the layout.
    #[error(
        "a FIB of this layout takes {need} bytes, the memory has {have}: make it longer, or lower the capacities"
    )]
    Short {
        /// Bytes of the layout.
        need: usize,
        /// Bytes of the region.
        have: usize,
    },
    /// The region to create a FIB in is not zeroed: perhaps there is one already.
    #[error("the memory for a new FIB is not zeroed (first word {word:#x}): give each FIB fresh memory")]
    Used {
        /// The first word found.
        word: u64,
    },
    /// The region to open has no FIB, or one whose writer has not finished creating it.
    #[error("no FIB in this memory (first word {word:#x})")]
    Foreign {
        /// The first word found.
        word: u64,
    },
    /// Reader and writer are not of the same build.
    #[error(
        "the FIB in this memory has format {found}, this program reads {expected}: restart the older of the two processes"
    )]
    Version {
        /// In the memory.
        found: u64,
        /// In this program.
        expected: u64,
    },
    /// A prefix is longer than its address.
    #[error("{prefix}/{len}: a prefix of this family has at most {limit} bits")]
    Length {
        /// The address.
        prefix: IpAddr,
        /// The length given.
        len: u8,
        /// 32 or 128.
        limit: u8,
    },
    /// A prefix has bits beyond its length.
    #[error("{prefix}/{len} has bits beyond its length: {meant}/{len} is meant?")]
    HostBits {
        /// The address.
        prefix: IpAddr,
        /// The length given.
        len: u8,
        /// The address without those bits.
        meant: IpAddr,
    },
    /// There is no room.
    #[error("the FIB is full: no room in its {limit} {capacity}{}; raise {capacity}", waiting(.retired))]
    Full {
        /// Which capacity.
        capacity: Capacity,
        /// How many there are.
        limit: u32,
        /// How many of them are free as soon as every reader has passed.
        retired: u32,
    },
    /// A target without hops; `Unreachable` or `Blackhole` says it better.
    #[error("a route needs at least one hop")]
    NoHops,
    /// More hops than members have room.
    #[error("a route has at most {HOP_LIMIT} different hops, {hops} were given")]
    ManyHops {
        /// Different adjacencies given.
        hops: usize,
    },
    /// A hop that would never be taken.
    #[error("hop {id:?} has weight 0: leave it out, or give it 1..=255")]
    Weight {
        /// Whose.
        id: AdjacencyId,
    },
    /// An adjacency that was never made, or was released.
    #[error("there is no adjacency {id:?}: it was released, or is another FIB's")]
    Adjacency {
        /// Which.
        id: AdjacencyId,
    },
    /// A port number that the words have no room for.
    #[error("port {port}: an adjacency's port is below {PORT_LIMIT}")]
    Port {
        /// The port given.
        port: u16,
    },
}

fn waiting(retired: &u32) -> String {
    if *retired == 0 { String::new() } else { format!(" ({retired} wait for readers to pass: try again)") }
}
