//! Where the mirror's diffs go: the trait, what an entry can say, and a FIB in plain maps for tests and `show fib`.

use super::Prefix;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;

/// The number of a port, as the data plane knows it.
pub type PortId = u16;

/// A neighbour that packets are sent to: the port and the address that ARP or ND resolves there. The gateway's family
/// may differ from the packet's (IPv4 via an IPv6 gateway, RFC 5549); a link-local one has a meaning on its port only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Adjacency {
    /// The port that the packet leaves by.
    pub port: PortId,
    /// The next hop on that link; for a host on the link, its own address.
    pub gateway: IpAddr,
}

/// The address of the other end of a link that has no link layer.
pub const NO_STATION: [u8; 6] = [0; 6];

/// What the FIB says of a prefix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Forward over one of these, by flow hash and weight (1..=255). Sorted, no adjacency twice, never empty.
    Hops(Vec<(Adjacency, u8)>),
    /// The kernel decides (a hop that is not ours, multicast, …).
    Kernel,
    /// Hosts on the link of this port, of which none is known: the kernel finds them out. What leaves by this port is known.
    OnLink(PortId),
    /// An address of this host.
    Local,
    /// An address of this host, whose packets it takes by this port.
    Deliver(PortId),
    /// Drop without a word.
    Blackhole,
    /// Drop, and tell the sender that the host is unreachable.
    Unreachable,
    /// Drop, and tell the sender that it is forbidden.
    Prohibit,
}

impl Target {
    /// The adjacencies that this target forwards over.
    pub fn adjacencies(&self) -> impl Iterator<Item = Adjacency> + '_ {
        let hops = if let Self::Hops(hops) = self { hops.as_slice() } else { &[] };
        hops.iter().map(|(adjacency, _)| *adjacency)
    }
}

/// A FIB that the mirror programs. Every call is a difference to what was said before.
///
/// An adjacency starts to exist with its first `resolve` or `unresolve`, which comes before the first `insert` that names
/// it, and ends with `release`, which comes after the last entry that names it is gone.
pub trait FibSink {
    /// Why an entry or an adjacency was refused (a full table).
    type Error: std::error::Error;

    /// Packets over this adjacency go to `mac`; where that is all zeros, to whoever is at the other end of a bare link.
    fn resolve(&mut self, adjacency: Adjacency, mac: [u8; 6]) -> Result<(), Self::Error>;

    /// Nobody answers for this adjacency (yet): its packets are punted.
    fn unresolve(&mut self, adjacency: Adjacency) -> Result<(), Self::Error>;

    /// No entry names this adjacency any more.
    fn release(&mut self, adjacency: Adjacency);

    /// Sets what is said of `prefix`, in place of what was said before, if anything.
    fn insert(&mut self, prefix: Prefix, target: &Target) -> Result<(), Self::Error>;

    /// Forgets `prefix`; whether it was there.
    fn remove(&mut self, prefix: Prefix) -> bool;
}

/// A FIB in two maps: for tests, and for showing what the mirror said.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct MemoryFib {
    /// What is said of each prefix.
    pub entries: BTreeMap<Prefix, Target>,
    /// Each adjacency's MAC, `None` while unresolved.
    pub adjacencies: BTreeMap<Adjacency, Option<[u8; 6]>>,
    /// Calls so far: a mirror that only emits differences leaves it alone when nothing changed.
    pub calls: u64,
}

impl MemoryFib {
    /// The longest match.
    pub fn lookup(&self, address: IpAddr) -> Option<(Prefix, &Target)> {
        let host = Prefix::host(address);
        (0..=host.length()).rev().find_map(|length| {
            let prefix = host.widened(length)?;
            self.entries.get(&prefix).map(|target| (prefix, target))
        })
    }
}

impl FibSink for MemoryFib {
    type Error = Infallible;

    fn resolve(&mut self, adjacency: Adjacency, mac: [u8; 6]) -> Result<(), Infallible> {
        self.calls += 1;
        self.adjacencies.insert(adjacency, Some(mac));
        Ok(())
    }

    fn unresolve(&mut self, adjacency: Adjacency) -> Result<(), Infallible> {
        self.calls += 1;
        self.adjacencies.insert(adjacency, None);
        Ok(())
    }

    fn release(&mut self, adjacency: Adjacency) {
        self.calls += 1;
        self.adjacencies.remove(&adjacency);
    }

    fn insert(&mut self, prefix: Prefix, target: &Target) -> Result<(), Infallible> {
        self.calls += 1;
        debug_assert!(target.adjacencies().all(|a| self.adjacencies.contains_key(&a)), "adjacency first");
        self.entries.insert(prefix, target.clone());
        Ok(())
    }

    fn remove(&mut self, prefix: Prefix) -> bool {
        self.calls += 1;
        self.entries.remove(&prefix).is_some()
    }
}
