//! The FIB: which way each destination goes, in memory that one process writes and others read.
//!
//! Owns: the tables of one [`Region`](zsync_packet::region::Region): prefixes, next hops, adjacencies. The control process
//! holds the only [`FibWriter`]; workers of another, sandboxed process hold [`Fib`]s over the same memory and never write to
//! it (they may map it read-only, and should be given no other choice: seal the memfd with `F_SEAL_FUTURE_WRITE`). So a dead
//! reader leaves nothing to repair, and a dead writer leaves a FIB that still answers; its successor builds a new one.
//! Refuses: prefixes with host bits, more than a capacity (saying which), an adjacency that is not there. Keeps true:
//! * A reader finds, for each address, the route before or after a change, never a mixture and never a stranger's: what an
//!   entry points to is complete before the entry is stored, and is not used again before every reader has passed (see
//!   [`FibWriter::reclaim`]).
//! * No index from the memory is trusted: garbage gives a wrong route, never a panic or an access outside the region.
//! * Zero means "no route", so that memory which neither a prefix nor a lookup has touched need not exist (of the memory that
//!   grows with the capacities, lookups touch only what has routes). For that reason the default routes lie in two words of
//!   their own and are not painted over the tables.
//!
//! # Structure
//!
//! ```text
//! address ─ top 24 bits ─► root ─► [group of 256 ─►]* [twig ─►] ─► route ─► adjacency {kind, port, MAC}
//!                                                                    └────► next hop {first, count} ─► member ─► adjacency
//! ```
//!
//! IPv4 is DIR-24-8: one memory reference for what is no longer than /24, two for the rest.
//!
//! IPv6 has the same root and the same groups, one level a byte, but *levels that no route needs are skipped*: a pointer
//! carries the level of the group that it leads to, and a group that was reached across a gap has a head with the bits that
//! must agree and the route for addresses that don't. And *a prefix that is alone below an entry has no group but a twig*:
//! 32 bytes that say it whole, with the route for addresses that it does not cover. That bounds both costs. Memory: a route
//! makes a twig, and one group where it parts from what was there; a group that is left with one route turns into its twig
//! again; so there are fewer groups than routes, where a plain chain takes up to 13 a route. Time: one reference for each
//! level at which the table really branches above the destination, one for each gap, and one for the twig, not one per
//! byte. And twigs lie close together, 128 in a page, so that the processor still knows where the pages of a hundred thousand
//! are, which it does not of as many groups. A /48 of the Internet's table takes 2 to 4 references, a neighbour's /128 in a
//! connected /64 about as many, where the plain chain takes 4 and 14. Binary search over hashed lengths would take log₂ 128
//! probes for everything and rewrites markers on update; poptrie is denser, but each change rebuilds a node and its sisters.
//! Here a change is stores in place, which is what readers without locks need.
//!
//! `cargo bench -p zsync-pipelines --bench fib` prints what a lookup costs.

mod arrays;
mod buckets;
mod entry;
mod error;
mod hops;
mod layout;
mod reader;
mod rib;
mod shares;
mod slots;
mod trie;
mod twig;
mod writer;

pub use entry::{Adjacency, PORT_LIMIT, Route};
pub use error::{Capacity, FibError};
pub use hops::{AdjacencyId, HOP_LIMIT, Target};
pub use layout::FibLayout;
pub use reader::{Fib, FibTables};
pub use slots::Usage;
pub use writer::{FibRoute, FibUsage, FibWriter};
