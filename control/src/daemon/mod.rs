//! The control process: it opens what is privileged, hands it to the data plane, and keeps it alive.
//!
//! ```text
//!   config ──▶ change ──▶ installation (memory, sockets, XDP programs) ──descriptors──▶ data plane
//!                 │                                                                      ▲   │
//!   kernel ──▶ routes ──▶ FIB in shared memory ──────────────────────────────────────────┘   │
//!                                                             supervisor ◀──pidfd, channel───┘
//!   zsyncctl ──API──▶ change, show ◀──UAPI── wg
//! ```
//!
//! One thread, one loop ([`Daemon::run`]): whatever happens next is an event, and each is dealt with to its end
//! before the next is looked at.

pub mod options;

mod adoption;
mod backends;
mod blocks;
mod captures;
mod change;
mod core;
mod dataplane;
mod filters;
mod first;
mod flows;
mod history;
mod installation;
mod ledger;
mod looks;
mod mappings;
mod packet;
mod placement;
mod ports;
mod privileges;
mod promiscuous;
mod resident;
mod rings;
mod routes;
mod show;
mod sockets;
mod states;
mod supervisor;
mod tasks;
mod tun;
mod uapi;
mod udp;
mod wireguard;

pub use self::core::Daemon;
pub(crate) use adoption::mirror;
