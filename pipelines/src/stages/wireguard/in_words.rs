//! What `wireguard-seal` does with a packet, in words.
//!
//! Only reads. Needs no session and no key: whose a packet is, the prefixes say, and where that peer is, its record or the
//! configuration.

use super::Shared;
use crate::stages::route::prefix;
use std::net::IpAddr;
use zsync_packet::burst::Burst;
use zsync_packet::header::{Ipv4, Ipv6};

impl Shared {
    /// What becomes of packet `i`, which is for the peer in `slot`.
    pub(super) fn sealed_in_words(
        &self,
        burst: &Burst,
        i: usize,
        slot: u32,
        now: u64,
        out: &mut Vec<String>,
    ) {
        let Some(peer) = self.peers.peer(slot) else { return };
        let of = destination(burst, i).map_or_else(String::new, |to| {
            format!(", by its allowed IP {}", prefix(to, self.routing.routes().prefix_len(to)))
        });
        out.push(format!("for the peer {}{of}", peer.public));
        let known = self.peers.record(&self.book, slot).and_then(|record| record.endpoint());
        out.push(match (known, peer.endpoint) {
            (Some(known), Some(configured)) if known.remote == configured => {
                format!("the peer is at {configured}, as configured")
            }
            (Some(known), _) => format!("the peer is at {}, where it was heard last", known.remote),
            (None, Some(configured)) => format!("the peer is at {configured}, as configured"),
            (None, None) => {
                "nobody knows where the peer is: it has to speak first, and the packet is refused".to_owned()
            }
        });
        match self.session(slot, now) {
            Some((_, room, _)) => {
                let age = now.saturating_sub(room.since()) / 1_000_000_000;
                out.push(format!("sealed in a session that is {age} s old"));
            }
            None if known.is_some() || peer.endpoint.is_some() => {
                out.push("there is no session: it waits for a handshake, and is sealed then".to_owned());
            }
            None => {}
        }
    }
}

/// Where a packet goes.
fn destination(burst: &Burst, i: usize) -> Option<IpAddr> {
    let facts = burst.facts(i);
    let packet = burst.bytes(i).get(usize::from(facts.l3)..)?;
    match facts.version {
        4 => Ipv4::parse(packet).ok().map(|ip| ip.destination().into()),
        _ => Ipv6::parse(packet).ok().map(|ip| ip.destination().into()),
    }
}
