//! Datagrams to the tunnel's port, as they are before anything is believed of them.
//!
//! Owns nothing. Refuses fragments, other ports, other hosts' addresses: they are no datagrams of ours.

use crate::stages::wireguard::Shared;
use std::net::{IpAddr, SocketAddr};
use zsync_packet::burst::{Burst, Fragment};
use zsync_packet::checksum::Sum;
use zsync_packet::header::{Udp, protocol, udp};

/// A datagram to us.
pub(super) struct Datagram {
    /// Where its payload starts, and how long that is.
    pub(super) at: usize,
    pub(super) len: usize,
    pub(super) from: SocketAddr,
    pub(super) to: IpAddr,
}

/// Who knows which datagrams are ours, for a burst.
pub(super) struct Letterbox<'b> {
    shared: &'b Shared,
    /// The address of ours that the last one was to: nearly always the next one's.
    last: Option<IpAddr>,
}

impl<'b> Letterbox<'b> {
    /// Of this tunnel.
    #[inline]
    pub(super) fn of(shared: &'b Shared) -> Self {
        Self { shared, last: None }
    }

    /// Packet `i`, if it is a datagram to our port.
    #[inline]
    pub(super) fn datagram(&mut self, burst: &Burst, i: usize) -> Option<Datagram> {
        let (facts, key) = (burst.facts(i), burst.key(i));
        if facts.protocol != protocol::UDP
            || facts.fragment != Fragment::Whole
            || facts.l4 == 0
            || key.destination_port() != self.shared.settings.port
        {
            return None;
        }
        let to = key.destination();
        // What the tunnel's socket gives us is ours.
        if self.last != Some(to) && self.shared.settings.to != Some(burst.port(i)) {
            if !self.shared.is_local(to) {
                return None;
            }
            self.last = Some(to);
        }
        let l4 = usize::from(facts.l4);
        let datagram = Udp::parse(burst.bytes(i).get(l4..)?).ok()?;
        let from = SocketAddr::new(key.source(), key.source_port());
        Some(Datagram { at: l4 + udp::HEADER_LEN, len: datagram.payload().len(), from, to })
    }
}

/// Whether the UDP checksum is right, or is none.
#[cold]
pub(super) fn is_intact(burst: &Burst, i: usize) -> bool {
    let (facts, bytes) = (burst.facts(i), burst.bytes(i));
    let addresses = match (burst.key(i).source(), burst.key(i).destination()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Sum::addresses_v4(from, to),
        (IpAddr::V6(from), IpAddr::V6(to)) => Sum::addresses_v6(from, to),
        _ => return false,
    };
    let datagram = bytes.get(usize::from(facts.l4)..).and_then(|bytes| Udp::parse(bytes).ok());
    datagram.is_some_and(|datagram| datagram.verify_checksum(addresses).is_ok())
}

#[inline]
pub(super) fn outer_ecn(burst: &Burst, i: usize) -> u8 {
    let facts = burst.facts(i);
    let header = burst.bytes(i).get(usize::from(facts.l3)..).unwrap_or(&[]);
    match (facts.version, header) {
        (4, [_, tos, ..]) => tos & 3,
        (6, [_, class, ..]) => class >> 4 & 3,
        _ => 0,
    }
}
