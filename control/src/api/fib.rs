//! What the daemon answers of the forwarding tables.
//!
//! Owns: the rows and their names, as for all [answers](super::Answer); it refuses nothing.

use serde::{Deserialize, Serialize};

use super::answer::row;
use super::word::RouteTarget;

row! {
    /// Forwarding tables.
    Fib {
        /// One for each of the kernel's tables that is mirrored.
        tables: Vec<FibTable>,
        /// Those that were asked for, at most as many as were asked for.
        routes: Vec<RouteRow>,
        /// How many routes match what was asked for.
        matched: u64,
    }
    /// A forwarding table.
    FibTable {
        /// The kernel's number of it; 254 is main.
        table: u32,
        /// Grows with each change that the workers see.
        epoch: u64,
        /// Routes in it.
        routes: u64,
        /// Places, by what they hold.
        usage: Vec<Usage>,
    }
    /// How full something is.
    Usage {
        /// What the places hold: `v4-groups`.
        what: String,
        /// Places in use.
        used: u64,
        /// Places that wait for readers to pass.
        retired: u64,
        /// Places in all.
        limit: u64,
    }
    /// A route.
    RouteRow {
        /// `10.0.0.0/8`, `2001:db8::/32`.
        prefix: String,
        /// What is done with its packets.
        target: RouteTarget,
        /// The ways out, when they are forwarded.
        hops: Vec<HopRow>,
    }
    /// One way out.
    HopRow {
        /// Port.
        port: String,
        /// The router there; none: the destination itself is on the link.
        gateway: Option<String>,
        /// Its address on the link; none while the kernel resolves it.
        mac: Option<String>,
        /// Share of the flows, 1 to 255.
        weight: u8,
    }
}
