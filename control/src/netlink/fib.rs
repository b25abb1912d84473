//! The data plane's FIB as the mirror's sink.
//!
//! Invariant: each adjacency that the mirror has named and not released is held in the FIB exactly once.

use super::Prefix;
use super::sink::{Adjacency, FibSink, NO_STATION, Target};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use zsync_pipelines::tables::fib::{self, AdjacencyId, FibError, FibWriter};

/// The gateway of an adjacency that stands for all hosts of a link.
pub(crate) const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The gateway of an adjacency that stands for the host itself.
const ITSELF: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A [`FibWriter`] and the adjacencies that the mirror holds in it.
#[derive(Debug)]
pub struct MirroredFib {
    writer: FibWriter,
    held: HashMap<Adjacency, AdjacencyId>,
    /// For each port with a link's prefix, one that nobody ever resolves.
    links: HashMap<u16, AdjacencyId>,
    /// For each port that the host takes its own packets by.
    deliveries: HashMap<u16, AdjacencyId>,
}

impl MirroredFib {
    /// Puts the mirror in charge of `writer`'s routes and adjacencies; it is empty.
    pub fn new(writer: FibWriter) -> Self {
        Self { writer, held: HashMap::new(), links: HashMap::new(), deliveries: HashMap::new() }
    }

    /// The FIB.
    pub fn writer(&self) -> &FibWriter {
        &self.writer
    }

    /// The FIB, for what is not the mirror's: epochs and reclaiming.
    pub fn writer_mut(&mut self) -> &mut FibWriter {
        &mut self.writer
    }

    fn hold(&mut self, adjacency: Adjacency) -> Result<AdjacencyId, FibError> {
        if let Some(id) = self.held.get(&adjacency) {
            return Ok(*id);
        }
        let id = self.writer.adjacency(adjacency.port, adjacency.gateway)?;
        self.held.insert(adjacency, id);
        Ok(id)
    }

    /// The kernel, by this port; by none that is known, where there is no room to say so.
    fn link(&mut self, port: u16) -> fib::Target {
        let made = match self.links.get(&port) {
            Some(id) => Some(*id),
            None => self.writer.adjacency(port, NOBODY).ok(),
        };
        made.map_or(fib::Target::Kernel, |id| {
            self.links.insert(port, id);
            fib::Target::Hops(vec![(id, 1)])
        })
    }
}

impl MirroredFib {
    /// To the host by this port; punted, where there is no room to say so.
    fn delivery(&mut self, port: u16) -> fib::Target {
        let made = match self.deliveries.get(&port) {
            Some(id) => Some(*id),
            None => self.writer.adjacency(port, ITSELF).ok().inspect(|id| _ = self.writer.deliver(*id)),
        };
        made.map_or(fib::Target::Local, |id| {
            self.deliveries.insert(port, id);
            fib::Target::Hops(vec![(id, 1)])
        })
    }
}

impl FibSink for MirroredFib {
    type Error = FibError;

    fn resolve(&mut self, adjacency: Adjacency, mac: [u8; 6]) -> Result<(), FibError> {
        let id = self.hold(adjacency)?;
        if mac == NO_STATION {
            self.writer.link(id);
        } else {
            self.writer.resolve(id, mac);
        }
        Ok(())
    }

    fn unresolve(&mut self, adjacency: Adjacency) -> Result<(), FibError> {
        let id = self.hold(adjacency)?;
        self.writer.unresolve(id);
        Ok(())
    }

    fn release(&mut self, adjacency: Adjacency) {
        if let Some(id) = self.held.remove(&adjacency) {
            self.writer.release(id);
        }
    }

    fn insert(&mut self, prefix: Prefix, target: &Target) -> Result<(), FibError> {
        let target = match target {
            Target::Hops(hops) => {
                let hop = |(adjacency, weight): &(Adjacency, u8)| Ok((self.hold(*adjacency)?, *weight));
                fib::Target::Hops(hops.iter().map(hop).collect::<Result<_, FibError>>()?)
            }
            Target::Kernel => fib::Target::Kernel,
            Target::OnLink(port) => self.link(*port),
            Target::Local => fib::Target::Local,
            Target::Deliver(port) => self.delivery(*port),
            Target::Blackhole => fib::Target::Blackhole,
            Target::Unreachable => fib::Target::Unreachable,
            Target::Prohibit => fib::Target::Prohibit,
        };
        self.writer.insert(prefix.address(), prefix.length(), target)
    }

    fn remove(&mut self, prefix: Prefix) -> bool {
        self.writer.remove(prefix.address(), prefix.length())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mirror;
    use super::super::tests::{Lab, a_route, ip, mac};
    use super::super::{Event, Neighbour};
    use super::*;
    use zsync_packet::region::Region;
    use zsync_pipelines::tables::fib::FibLayout;

    fn fib(adjacencies: u32) -> MirroredFib {
        let layout = FibLayout { v4_groups: 16, v6_groups: 16, next_hops: 16, members: 64, adjacencies };
        MirroredFib::new(FibWriter::create(Region::heap(layout.bytes()), layout).unwrap())
    }

    fn hops(fib: &MirroredFib, mirror: &Mirror) -> usize {
        let agree = |(prefix, target): (&Prefix, &Target)| {
            let said = fib.writer().get(prefix.address(), prefix.length());
            match (target, said.expect("an entry")) {
                (Target::Hops(ours), fib::Target::Hops(theirs)) => assert_eq!(ours.len(), theirs.len()),
                (Target::Kernel, fib::Target::Kernel) => {}
                (Target::OnLink(port), fib::Target::Hops(theirs)) => {
                    let (_, output, _, leads) =
                        fib.writer().adjacencies().find(|(id, ..)| *id == theirs[0].0).unwrap();
                    assert_eq!((theirs.len(), output, leads), (1, *port, fib::Adjacency::Kernel));
                }
                (ours, theirs) => panic!("{prefix}: {ours:?} became {theirs:?}"),
            }
            usize::from(matches!(target, Target::Hops(_)))
        };
        mirror.entries().iter().map(agree).sum()
    }

    #[test]
    fn routes_and_neighbours_arrive_in_the_fib_and_leave_it() {
        let (mut lab, mut fib) = (Lab::new(), fib(16));
        lab.route("10.9.0.0/16", &[(1, Some("10.0.0.2"), 1), (2, Some("fe80::2"), 3)]);
        lab.route("2001:db8:9::/48", &[(2, Some("fe80::2"), 1)]);
        lab.neighbour(2, "fe80::2", Some(mac(2)), Neighbour::REACHABLE);
        assert_eq!(lab.mirror.sync(&mut fib).refused, 0);
        assert_eq!(hops(&fib, &lab.mirror), 2);
        assert_eq!(fib.held.len(), 2);
        lab.mirror.handle(Event::RouteGone(a_route(
            "10.9.0.0/16",
            &[(1, Some("10.0.0.2"), 1), (2, Some("fe80::2"), 3)],
        )));
        lab.mirror.sync(&mut fib);
        assert_eq!(hops(&fib, &lab.mirror), 1);
        assert_eq!(fib.writer().get(ip("10.9.0.0"), 16), None);
        assert!(fib.held.keys().eq([&Adjacency { port: 2, gateway: ip("fe80::2") }]));
    }

    #[test]
    fn what_a_full_fib_refuses_stays_with_the_kernel_until_there_is_room() {
        let (mut lab, mut fib) = (Lab::new(), fib(3));
        lab.route("10.8.0.0/16", &[(1, Some("10.0.0.2"), 1)]);
        lab.route("10.9.0.0/16", &[(1, Some("10.0.0.3"), 1)]);
        assert!(lab.mirror.sync(&mut fib).refused >= 1);
        assert_eq!(hops(&fib, &lab.mirror), 1);
        assert_eq!(fib.writer().get(ip("10.9.0.0"), 16), Some(fib::Target::Kernel));
        assert_eq!(fib.held.len(), 1);
        lab.mirror.handle(Event::RouteGone(a_route("10.8.0.0/16", &[(1, Some("10.0.0.2"), 1)])));
        lab.mirror.sync(&mut fib);
        fib.writer_mut().set_stamp(1);
        fib.writer_mut().reclaim(1);
        assert!(lab.mirror.retry_refused());
        assert_eq!(lab.mirror.sync(&mut fib).refused, 0);
        assert_eq!(hops(&fib, &lab.mirror), 1);
        assert!(!lab.mirror.retry_refused());
    }
}
