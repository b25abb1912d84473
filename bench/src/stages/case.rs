//! Cases: what can be measured, and what each is called.
//!
//! Keeps true: a case's name says all of it, and is read back as the same case.

use crate::traffic::Family::{self, V4, V6};
use std::fmt;
use std::str::FromStr;
use zsync_packet::burst::BURST;

/// Routes that a table has at most.
pub const MOST_ROUTES: usize = 10_000_000;

/// What is done to packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The `drop` stage.
    Drop,
    /// The `patch` stage.
    Patch,
    /// The `parse` stage.
    Parse(Family),
    /// The `route` stage, on parsed packets.
    Route(Family),
    /// The whole `route` pipeline, as it is compiled: parse, route, their counters.
    Pipeline(Family),
    /// Longest prefix match alone, a burst of addresses at a time.
    Lookup(Family),
    /// Frames out of the pool and back into it.
    Pool,
    /// Ethernet and IP header read.
    Header(Family),
    /// The checksum of a 20-byte IPv4 header verified.
    Checksum,
    /// A worker's whole pass between two null devices, patched.
    WorkerPatch,
    /// A worker's whole pass between two null devices, routing; with the device's copy of each packet.
    WorkerRoute(Family),
}

/// Every kind, and its name.
pub const KINDS: [(&str, Kind); 17] = [
    ("pool", Kind::Pool),
    ("checksum", Kind::Checksum),
    ("header-v4", Kind::Header(V4)),
    ("header-v6", Kind::Header(V6)),
    ("lookup-v4", Kind::Lookup(V4)),
    ("lookup-v6", Kind::Lookup(V6)),
    ("drop", Kind::Drop),
    ("patch", Kind::Patch),
    ("parse-v4", Kind::Parse(V4)),
    ("parse-v6", Kind::Parse(V6)),
    ("route-v4", Kind::Route(V4)),
    ("route-v6", Kind::Route(V6)),
    ("pipeline-v4", Kind::Pipeline(V4)),
    ("pipeline-v6", Kind::Pipeline(V6)),
    ("worker-patch", Kind::WorkerPatch),
    ("worker-route-v4", Kind::WorkerRoute(V4)),
    ("worker-route-v6", Kind::WorkerRoute(V6)),
];

impl Kind {
    /// The addresses of its packets.
    pub fn family(self) -> Family {
        match self {
            Self::Parse(family)
            | Self::Route(family)
            | Self::Pipeline(family)
            | Self::Lookup(family)
            | Self::Header(family)
            | Self::WorkerRoute(family) => family,
            Self::Drop | Self::Patch | Self::Pool | Self::Checksum | Self::WorkerPatch => V4,
        }
    }

    /// Whether it looks anything up, so that the size of the table matters.
    pub fn looks_up(self) -> bool {
        matches!(self, Self::Route(_) | Self::Pipeline(_) | Self::Lookup(_) | Self::WorkerRoute(_))
    }

    /// Whether it reads the bytes of packets, so that it matters where they are.
    pub fn reads(self) -> bool {
        !matches!(self, Self::Drop | Self::Patch | Self::Pool | Self::WorkerPatch)
    }

    /// Whether a worker does it, which takes whole bursts always.
    pub fn is_worker(self) -> bool {
        matches!(self, Self::WorkerPatch | Self::WorkerRoute(_))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || KINDS.map(|(name, _)| name).join(", ");
        let found = KINDS.iter().find(|(name, _)| *name == text);
        found.map(|(_, kind)| *kind).ok_or_else(|| format!("there is no {text}: there are {}", names()))
    }
}

/// One thing to measure. Its name is `KIND/BURST/TABLE/hot` or `…/cold`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// What is done.
    pub kind: Kind,
    /// Packets at a time: 1 to [`BURST`].
    pub burst: usize,
    /// Routes in the table: 1 to [`MOST_ROUTES`].
    pub table: usize,
    /// A few flows, and everything in the caches; or random destinations all over the table, and nothing in them.
    pub cold: bool,
}

impl Case {
    /// With warm caches.
    pub const fn hot(kind: Kind, burst: usize, table: usize) -> Self {
        Self { kind, burst, table, cold: false }
    }

    /// Routes that have to be made for it.
    pub fn routes(self) -> usize {
        if self.kind.looks_up() { self.table } else { 1 }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let temperature = if self.cold { "cold" } else { "hot" };
        write!(f, "{}/{}/{}/{temperature}", self.kind.name(), self.burst, self.table)
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is not a case: KIND/BURST/TABLE/hot, as in route-v4/64/1000/hot");
        let parts: Vec<_> = text.split('/').collect();
        let [kind, burst, table, temperature] = parts[..] else { return Err(wrong()) };
        let case = Self {
            kind: kind.parse()?,
            burst: burst.parse().map_err(|_| wrong())?,
            table: table.parse().map_err(|_| wrong())?,
            cold: match temperature {
                "hot" => false,
                "cold" => true,
                _ => return Err(wrong()),
            },
        };
        if (1..=BURST).contains(&case.burst) && (1..=MOST_ROUTES).contains(&case.table) {
            Ok(case)
        } else {
            Err(format!("{text}: bursts are of 1 to {BURST} packets, tables of 1 to {MOST_ROUTES} routes"))
        }
    }
}

/// What the gate counts the instructions of: each kind over a small table, and what a packet costs that comes alone. More
/// routes mean more misses, which are clocks and not instructions, so large tables are not here.
pub fn gated() -> Vec<Case> {
    let all = KINDS.iter().map(|(_, kind)| Case::hot(*kind, BURST, 1000));
    let alone = [Kind::Pipeline(V4), Kind::Pipeline(V6)].map(|kind| Case::hot(kind, 1, 1000));
    all.chain(alone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_read_back_from_its_name() {
        for case in gated() {
            assert_eq!(case.to_string().parse(), Ok(case));
            let cold = Case { cold: true, ..case };
            assert_eq!(cold.to_string().parse(), Ok(cold));
        }
    }

    #[test]
    fn what_is_no_case_is_refused() {
        for text in
            ["", "drop", "drop/64/1/warm", "crop/64/1/hot", "drop/65/1/hot", "drop/0/1/hot", "drop/1/0/hot"]
        {
            assert!(text.parse::<Case>().is_err(), "{text}");
        }
    }
}
