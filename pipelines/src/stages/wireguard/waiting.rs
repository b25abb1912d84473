//! Packets that wait for a session with their peer.
//!
//! Owns: copies of their bytes, from the IP header on; the frames go home at once, so a peer that does not answer holds none.
//! Refuses: more than [`EACH`] of a peer and [`ALL`] in all. Off the packet path: once a peer has a session, nothing comes here.

use std::collections::{HashMap, VecDeque};
use zsync_packet::verdict::PortId;

/// Packets of one peer.
const EACH: usize = 32;
/// Packets of all peers.
const ALL: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    of: HashMap<u32, VecDeque<Packet>>,
    len: usize,
    /// Peers for which something began to wait, and whose handshake could not be begun yet.
    wanted: VecDeque<u32>,
}

/// An inner packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// Where it came in.
    pub(super) port: PortId,
    /// From its IP header on.
    pub(super) bytes: Box<[u8]>,
    /// The operator's mark.
    pub(super) mark: u32,
}

impl Waiting {
    /// Whether there is room for a packet for the peer in `slot`.
    pub(super) fn has_room(&self, slot: u32) -> bool {
        self.len < ALL && self.of.get(&slot).is_none_or(|queue| queue.len() < EACH)
    }

    /// The next peer that a handshake is to be begun with.
    pub(super) fn next_wanted(&mut self) -> Option<u32> {
        while let Some(slot) = self.wanted.pop_front() {
            if self.of.contains_key(&slot) {
                return Some(slot);
            }
        }
        None
    }

    /// Whether no handshake is to be begun.
    pub(super) fn wants_nobody(&self) -> bool {
        self.wanted.is_empty()
    }

    /// A handshake could not be begun: later.
    pub(super) fn want_later(&mut self, slot: u32) {
        if self.wanted.len() < ALL {
            self.wanted.push_back(slot);
        }
    }

    /// Keeps a packet for the peer in `slot`. False: there is no room.
    pub(super) fn keep(&mut self, slot: u32, packet: Packet) -> bool {
        if self.len >= ALL {
            return false;
        }
        let queue = self.of.entry(slot).or_default();
        if queue.len() >= EACH {
            return false;
        }
        if queue.is_empty() && self.wanted.len() < ALL {
            self.wanted.push_back(slot);
        }
        queue.push_back(packet);
        self.len += 1;
        true
    }

    /// The oldest packet for a peer.
    pub(super) fn next(&mut self, slot: u32) -> Option<Packet> {
        let queue = self.of.get_mut(&slot)?;
        let packet = queue.pop_front();
        self.len -= usize::from(packet.is_some());
        if queue.is_empty() {
            self.of.remove(&slot);
        }
        packet
    }

    /// Puts back what could not be sent now.
    pub(super) fn put_back(&mut self, slot: u32, packet: Packet) {
        self.of.entry(slot).or_default().push_front(packet);
        self.len += 1;
    }

    /// Drops what waits for a peer; how many.
    pub(super) fn drop_all(&mut self, slot: u32) -> usize {
        let dropped = self.of.remove(&slot).map_or(0, |queue| queue.len());
        self.len -= dropped;
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(byte: u8) -> Packet {
        Packet { port: PortId(0), bytes: [byte].into(), mark: 0 }
    }

    #[test]
    fn packets_come_in_their_order_and_only_so_many() {
        let mut waiting = Waiting::default();
        let kept = (0..100).filter(|n| waiting.keep(7, packet(*n))).count();
        assert_eq!(kept, EACH);
        assert!(waiting.keep(8, packet(0)));
        assert_eq!(waiting.next(7), Some(packet(0)));
        waiting.put_back(7, packet(0));
        assert_eq!(
            (0..).map_while(|_| waiting.next(7)).map(|packet| packet.bytes[0]).collect::<Vec<_>>(),
            (0..32).collect::<Vec<_>>()
        );
        assert_eq!((waiting.drop_all(8), waiting.drop_all(8), waiting.len), (1, 0, 0));
        let all =
            (0..1000).map(|slot| (0..50).filter(|n| waiting.keep(slot, packet(*n))).count()).sum::<usize>();
        assert_eq!(all, ALL);
        assert!(!waiting.has_room(5000) && !waiting.has_room(0));
        let wanted: std::collections::BTreeSet<u32> = (0..).map_while(|_| waiting.next_wanted()).collect();
        assert_eq!(wanted.len(), ALL / EACH);
    }
}
