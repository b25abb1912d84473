//! Cases: what is timed, with which configuration, over how many flows or rules, and the limit.

use crate::traffic::Family::{self, V4, V6};

/// Routes of the table that packets are routed by.
pub const ROUTES: usize = 100_000;

/// Packets, and what the table of the case is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packets {
    /// To random destinations under random routes.
    Routed,
    /// Each under one of so many rules.
    Ruled(usize),
    /// Of so many established TCP connections, either way.
    Tcp(u32),
    /// The same for UDP.
    Udp(u32),
    /// Of so many UDP flows behind translated addresses, either way.
    Translated(u32),
    /// To one balanced address, of so many connections.
    Balanced(u32),
    /// Each of one of so many sources.
    Sources(u32),
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timed {
    /// Lookups of destinations alone.
    Lookup,
    /// The stages from the one to the other, by label.
    Stages(&'static str, &'static str),
    /// The whole pipeline, as a worker calls it.
    Whole,
}

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// As the table has it.
    pub name: &'static str,
    /// Clocks per packet that it must not exceed.
    pub limit: Option<u32>,
    /// Of which addresses.
    pub family: Family,
    /// What packets there are.
    pub packets: Packets,
    /// The stages of the pipeline, as the configuration has them.
    pub stages: &'static str,
    /// What is timed of it.
    pub timed: Timed,
}

/// The name of what is left of routing without its lookups.
pub const REWRITE: &str = "rewrite: route without lookup";
/// What rewriting must not exceed.
pub const REWRITE_LIMIT: u32 = 25;
/// The cases of which it is the difference.
pub const ROUTE: [&str; 2] = ["route stage, 100 k prefixes", "lookup, 100 k prefixes"];

const FILTER: Timed = Timed::Stages("filter.it", "filter.it");
const TRACK: Timed = Timed::Stages("track.it", "filter.it");
const NAT: Timed = Timed::Stages("nat.it", "nat.it");
const TRACK_NAT: Timed = Timed::Stages("track.it", "nat.it");
const POLICE: Timed = Timed::Stages("police.it", "police.it");
const TRACKED: &str = "\"track.it\", \"filter.it\", \"route.it\"";
const FILTERED: &str = "\"filter.it\", \"route.it\"";
const NATTED: &str = "\"track.it\", \"nat.it\", \"route.it\"";
const POLICED: &str = "\"police.it\", \"route.it\"";
const WHOLE: &str = "\"track.it\", \"filter.it\", \"nat.it\", \"route.it\"";

const fn case(
    name: &'static str,
    limit: Option<u32>,
    packets: Packets,
    stages: &'static str,
    timed: Timed,
) -> Case {
    Case { name, limit, family: V4, packets, stages, timed }
}

const fn v6(case: Case) -> Case {
    Case { family: V6, ..case }
}

/// All of them.
pub const CASES: &[Case] = &[
    case("parse, validity", Some(20), Packets::Routed, "\"route.it\"", Timed::Stages("parse", "parse")),
    case("parse, validity, transport", None, Packets::Udp(10_000), TRACKED, Timed::Stages("parse", "parse")),
    case(ROUTE[1], Some(30), Packets::Routed, "\"route.it\"", Timed::Lookup),
    case(ROUTE[0], None, Packets::Routed, "\"route.it\"", Timed::Stages("route.it", "route.it")),
    case("filter, 100 rules", None, Packets::Ruled(100), FILTERED, FILTER),
    case("filter, 1,000 rules", Some(100), Packets::Ruled(1_000), FILTERED, FILTER),
    case("filter, 10,000 rules", None, Packets::Ruled(10_000), FILTERED, FILTER),
    case("filter, 100,000 rules", None, Packets::Ruled(100_000), FILTERED, FILTER),
    case("track + filter, UDP, 10 k flows", Some(90), Packets::Udp(10_000), TRACKED, TRACK),
    case("track + filter, TCP, 10 k flows", Some(90), Packets::Tcp(10_000), TRACKED, TRACK),
    case("track + filter, UDP, 1 M flows", Some(160), Packets::Udp(1_000_000), TRACKED, TRACK),
    case("track + filter, TCP, 1 M flows", Some(160), Packets::Tcp(1_000_000), TRACKED, TRACK),
    case("nat, 1 M flows", Some(160), Packets::Translated(1_000_000), NATTED, NAT),
    case("track + nat, 1 M flows", Some(160), Packets::Translated(1_000_000), NATTED, TRACK_NAT),
    case(
        "balance, 1 M flows",
        Some(120),
        Packets::Balanced(1_000_000),
        "\"balance.it\"",
        Timed::Stages("balance.it", "balance.it"),
    ),
    case("police, all", Some(30), Packets::Sources(1), POLICED, POLICE),
    case("police, 10 k sources", Some(30), Packets::Sources(10_000), POLICED, POLICE),
    case("police, 1 M sources", Some(30), Packets::Sources(1_000_000), POLICED, POLICE),
    case("whole path, 10 k flows", Some(226), Packets::Translated(10_000), WHOLE, Timed::Whole),
    v6(case("parse, validity, IPv6", None, Packets::Routed, "\"route.it\"", Timed::Stages("parse", "parse"))),
    v6(case("lookup, 100 k prefixes, IPv6", None, Packets::Routed, "\"route.it\"", Timed::Lookup)),
    v6(case("track + filter, TCP, 10 k flows, IPv6", None, Packets::Tcp(10_000), TRACKED, TRACK)),
    v6(case("whole path, 10 k flows, IPv6", None, Packets::Translated(10_000), WHOLE, Timed::Whole)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_there_once_and_the_difference_is_of_two_of_them() {
        let names: std::collections::BTreeSet<_> = CASES.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), CASES.len());
        assert!(ROUTE.iter().all(|name| names.contains(name)));
    }
}
