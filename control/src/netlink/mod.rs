//! The kernel's network state, mirrored: links, addresses, routes, next-hop objects and neighbours of the network
//! namespace that control runs in, followed over one netlink socket, and the FIB that follows from them.
//!
//! ```text
//!   kernel ──rtnetlink──▶ socket ─▶ wire/decode ─▶ Event ─▶ Mirror ──diffs──▶ FibSink (the data plane's FIB)
//!                            ▲                                │
//!                            └──── NTF_USE (probe) ◀── adjacencies that lack a neighbour
//! ```
//!
//! Invariant: after [`Netlink::apply`] with no event outstanding, the sink holds exactly what [`Mirror`] derives from the
//! kernel's tables. Whenever the kernel's choice cannot be told from those tables (another table, a tunnel, a TOS route,
//! a hop that is not a port of ours), the entry says [`Target::Kernel`]: the kernel then decides, packet by packet.
//!
//! Refused here: an ARP or ND engine (the kernel resolves), and policy rules (`ip rule`): only the tables asked for are
//! read.
//!
//! The messages are read by a decoder of our own: the crates for rtnetlink know no next-hop objects (as of
//! `netlink-packet-route` 0.34), and refuse a whole message for one attribute that a newer kernel shapes differently;
//! a mirror must rather skip that attribute.

#![forbid(unsafe_code)]

mod decode;
mod device;
mod event;
mod fib;
mod install;
mod model;
mod peer;
mod port;
mod prefix;
mod probe;
mod read;
mod route;
mod sink;
mod socket;
mod table;
mod target;
mod watch;
mod wire;

pub use device::{add_address, ask_neighbours, bring_up, make_promiscuous, remove_address};
pub use event::{Address, Event, Link, Neighbour, NextHop, NextHopGroup, Origin, Standing};
pub use fib::MirroredFib;
pub(crate) use fib::NOBODY;
pub use install::Applied;
pub use model::{Effects, Mirror};
pub use peer::{PeerWarning, check_peer};
pub use port::{PortCheck, PortError, PortWarning, check_port, links_now};
pub use prefix::Prefix;
pub use route::{Hop, Route, RouteKind, Via};
pub use sink::{Adjacency, FibSink, MemoryFib, PortId, Target};
pub use socket::SocketError;
pub use watch::{Changes, Netlink, NetlinkError, Options, Statistics};

#[cfg(test)]
mod tests;
