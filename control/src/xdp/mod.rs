//! The XDP side of a port: loading `zsync_ingress`, attaching it by a pinned link, and telling it what is ours.
//!
//! Owns: the program, its maps, its link and its pins, one set per port ([`Ingress`]). It asks for links only, never for
//! the netlink attach, which outlives a crash unnoticed, and the pinned link keeps the filters in force while control is
//! gone; [`Ingress::adopt`] takes them over again.
//!
//! Where AF_XDP cannot be had, packet sockets take a port's packets ([`Tap`]), by the same lists. [`Hook`] is either.
//!
//! The operator's own programs run ahead of it ([`Ingress::set_chain`]); each is an [`Image`] of its object file.
//!
//! Refuses: to share a device with another program (it says whose it is), and to touch what other programs pinned.
//!
//! Invariant: at every instant, also in the middle of an update, a packet is either steered by the old lists, the new
//! ones, or the union of both; never by less.
#![forbid(unsafe_code)]

mod bpffs;
mod chain;
mod device;
mod error;
mod hook;
mod ingress;
mod link;
mod maps;
mod object;
mod steering;
mod tap;

use std::{fmt, net::IpAddr};

pub use bpffs::{is_bpffs, is_in_memory, mount_bpffs_if_missing};
pub use chain::{SlotCounts, verify};
pub use device::{AttachedProgram, Mode, attached_program, remove_netlink_program};
pub use error::XdpError;
pub use hook::Hook;
pub use ingress::Ingress;
pub use link::Attached;
pub use maps::Counters;
pub use object::{Image, ObjectError};
pub use tap::Tap;
pub use zsync_ebpf_common::{ChainVerdict, Count, XdpReason};

/// The object of `zsync_ingress`, built from `ebpf/` by this crate's build script.
pub static INGRESS_OBJECT: &[u8] = aya::include_bytes_aligned!(env!("ZSYNC_INGRESS"));
/// The object of `zsync_ingress` with a chain of the operator's programs ahead of it.
pub static CHAINED_OBJECT: &[u8] = aya::include_bytes_aligned!(env!("ZSYNC_CHAINED"));
/// The object of `zsync_filter` and `zsync_leave`, for packet sockets.
pub static TAPPED_OBJECT: &[u8] = aya::include_bytes_aligned!(env!("ZSYNC_TAPPED"));
/// The object of `zsync_generator`, for benchmarks (see `zsync_ebpf_common::Template`).
pub static GENERATOR_OBJECT: &[u8] = aya::include_bytes_aligned!(env!("ZSYNC_GENERATOR"));
/// The object of `zsync_redirect`, for benchmarks: it forwards what comes to one device, whatever it is, out of another.
pub static REDIRECT_OBJECT: &[u8] = aya::include_bytes_aligned!(env!("ZSYNC_REDIRECT"));

/// What one port's program takes, drops and leaves to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSteering {
    /// The port's pipelines route: ARP, neighbour discovery, multicast, link-local and the kernel's own addresses are the
    /// kernel's, whatever is steered. When false (bridging), frames are taken as they are.
    pub layer3: bool,
    /// While no socket takes the packets: true lets the kernel have them, false drops them.
    pub fallback_open: bool,
    /// Which traffic is ours.
    pub steer: Steer,
    /// Source prefixes to drop, before anything else.
    pub block: Vec<IpPrefix>,
}

/// Which traffic of a port is ours; the rest stays with the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steer {
    /// Everything.
    All,
    /// What goes to these destinations.
    Prefixes(Vec<IpPrefix>),
    /// What goes to these (IP protocol, destination port) pairs, on any address. Fragments stay with the kernel.
    Ports(Vec<(u8, u16)>),
}

/// An IPv4 or IPv6 prefix. Bits below `len` are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpPrefix {
    /// Any address in it.
    pub addr: IpAddr,
    /// Leading bits that count: 0 to 32, or 0 to 128.
    pub len: u8,
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}
