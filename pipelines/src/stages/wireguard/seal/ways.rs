//! Whose packets are: the peer that an inner destination belongs to.
//!
//! Owns the tables' slices, taken once a burst, and the destination that was looked up last: packets come in trains. Keeps true:
//! what is for the host itself is no peer's, even of one that all else goes to.

use crate::stages::track::is_local;
use crate::stages::wireguard::Shared;
use crate::tables::cryptokey::Routes;
use crate::tables::fib::FibTables;
use std::net::IpAddr;
use zsync_packet::burst::Burst;

/// See the module.
pub(super) struct Ways<'b> {
    peers: Routes<'b>,
    own: Option<FibTables<'b>>,
    last: Option<(IpAddr, Option<u32>)>,
}

impl<'b> Ways<'b> {
    /// Of this tunnel.
    #[inline]
    pub(super) fn of(shared: &'b Shared) -> Self {
        Self { peers: shared.routing.routes(), own: shared.own.tables(), last: None }
    }

    /// The slot of the peer that packet `i` is for.
    #[inline]
    pub(super) fn peer_of(&mut self, burst: &Burst, i: usize) -> Option<u32> {
        let to = destination(burst, i)?;
        match self.last {
            Some((last, slot)) if last == to => slot,
            _ => {
                let slot = self.look_up(to);
                self.last = Some((to, slot));
                slot
            }
        }
    }

    #[inline]
    fn look_up(&self, to: IpAddr) -> Option<u32> {
        let slot = self.peers.of(to)?;
        (!self.own.as_ref().is_some_and(|own| is_local(own, to))).then_some(slot)
    }
}

#[inline]
fn destination(burst: &Burst, i: usize) -> Option<IpAddr> {
    let facts = burst.facts(i);
    let packet = burst.bytes(i).get(usize::from(facts.l3)..)?;
    match facts.version {
        4 => Some(IpAddr::from(*packet.get(16..)?.first_chunk::<4>()?)),
        6 => Some(IpAddr::from(*packet.get(24..)?.first_chunk::<16>()?)),
        _ => None,
    }
}
