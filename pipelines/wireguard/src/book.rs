//! All peers' records, and which slot is whose.
//!
//! Owns: a region of memory that outlives the process: a page of counts, and a record for each slot. Refuses: memory that is too short, and more peers than
//! there are slots. Keeps true: a peer that stays keeps its slot, and with it its sessions; a record is written by the worker that owns
//! its slot, from the moment on that it goes on with a configuration.

use crate::index::{Indices, MAX_PEERS};
use crate::key::{PublicKey, Secret};
use crate::record::{RECORD_BYTES, RECORD_WORDS, Record};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use thiserror::Error;
use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::region::{PAGE, Region};

/// More peers than slots.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{peers} peers are more than the {slots} that there is memory for")]
pub struct TooManyPeers {
    /// How many there are.
    pub peers: usize,
    /// How many there may be.
    pub slots: u32,
}

/// A peer, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub public: PublicKey,
    /// Mixed into every handshake; all zeros: none.
    pub preshared: Secret,
    /// Where it is, until it says otherwise.
    pub endpoint: Option<SocketAddr>,
    /// Nanoseconds of silence after which something is sent; 0: never.
    pub keepalive: u64,
}

/// What came of handshake messages, and of packets without a session, of all workers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Count {
    /// Handshakes that were done.
    Done,
    /// Initiations that were sent.
    Initiated,
    /// Messages that were none, or whose first code was wrong.
    Forged,
    /// Of somebody who is no peer, or for a handshake that is not on its way.
    Unknown,
    /// Not authentic, for all that their first code is right.
    NotAuthentic,
    /// Initiations that came before, or too soon after another.
    Replayed,
    /// Dropped under load: too many of a source, or no room.
    Overload,
    /// Cookies that were sent.
    Cookies,
    /// Packets that have waited for a session, and did not get one.
    GivenUp,
    /// Packets for a peer of whom nobody knows where it is.
    Nowhere,
}

impl Count {
    /// All of them, in order.
    pub const ALL: [Self; 10] = [
        Self::Done,
        Self::Initiated,
        Self::Forged,
        Self::Unknown,
        Self::NotAuthentic,
        Self::Replayed,
        Self::Overload,
        Self::Cookies,
        Self::GivenUp,
        Self::Nowhere,
    ];

    /// As it is shown: `not-authentic`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Initiated => "initiated",
            Self::Forged => "forged",
            Self::Unknown => "unknown",
            Self::NotAuthentic => "not-authentic",
            Self::Replayed => "replayed",
            Self::Overload => "overload",
            Self::Cookies => "cookies",
            Self::GivenUp => "given-up",
            Self::Nowhere => "no-endpoint",
        }
    }
}

/// All records. See the module.
#[derive(Clone, Debug)]
pub struct Book {
    region: Region,
    slots: u32,
    indices: Indices,
    secret: HashKey,
    own: PublicKey,
}

impl Book {
    /// Bytes of memory for `slots` peers.
    pub fn bytes(slots: u32) -> usize {
        PAGE + slots.min(MAX_PEERS) as usize * RECORD_BYTES
    }

    /// Over `region`, for `slots` peers of `own`; `secret` is this boot's. `None`: the region is too short.
    pub fn open(region: Region, slots: u32, secret: &HashKey, own: PublicKey) -> Option<Self> {
        let slots = slots.min(MAX_PEERS);
        (region.len() >= Self::bytes(slots)).then(|| Self {
            region,
            slots,
            indices: Indices::new(secret),
            secret: secret.clone(),
            own,
        })
    }

    /// Peers that there is memory for.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// How indices are made.
    #[inline]
    pub fn indices(&self) -> &Indices {
        &self.indices
    }

    /// The record in a slot, whoever's it is.
    #[inline]
    pub fn record(&self, slot: u32) -> Option<Record<'_>> {
        if slot >= self.slots {
            return None;
        }
        Record::over(self.region.u64s(PAGE + slot as usize * RECORD_BYTES, RECORD_WORDS)?)
    }

    /// How often something came of a handshake message.
    pub fn counted(&self, count: Count) -> u64 {
        self.region.u64s(count as usize * 8, 1).map_or(0, |words| words[0].load(Relaxed))
    }

    /// Counts one more. Off the packet path: all workers write the same words.
    pub fn count(&self, count: Count) {
        if let Some([word]) = self.region.u64s(count as usize * 8, 1) {
            word.fetch_add(1, Relaxed);
        }
    }

    /// The mark of a peer of ours on its record.
    fn tag(&self, peer: &PublicKey) -> u64 {
        let half = |key: &PublicKey, at: usize| {
            let words = key.0.as_chunks::<8>().0;
            words.get(at).map_or(0, |word| u64::from_le_bytes(*word))
        };
        [&self.own, peer].into_iter().fold(1, |tag, key| {
            let words = [half(key, 0), half(key, 1), half(key, 2), half(key, 3), tag];
            FlowKey::from_words(words).hash(&self.secret) | 1
        })
    }

    /// Gives every peer a slot, the one that it has if it has one. Nothing is written: the workers do that, each for its own
    /// slots, when they go on with these peers.
    ///
    /// # Errors
    /// They are too many.
    pub fn enrol(&self, peers: Vec<Peer>) -> Result<Peers, TooManyPeers> {
        if peers.len() > self.slots as usize {
            return Err(TooManyPeers { peers: peers.len(), slots: self.slots });
        }
        let mut wanted: HashMap<u64, usize> =
            peers.iter().enumerate().map(|(n, peer)| (self.tag(&peer.public), n)).collect();
        let mut places = vec![None; peers.len()];
        let (mut free, mut left) = (Vec::new(), Vec::new());
        for slot in 0..self.slots {
            let Some(record) = self.record(slot) else { break };
            match (record.tag(), wanted.remove(&record.tag())) {
                (0, _) => free.push(slot),
                (_, Some(n)) if peers[n].public == record.public() => places[n] = Some(slot),
                _ => left.push(slot),
            }
        }
        // Those that are free first, from the lowest on.
        let mut free = free.into_iter().chain(left);
        let mut enrolled = Peers { by_slot: vec![None; self.slots as usize], by_key: HashMap::new() };
        for (peer, place) in peers.into_iter().zip(places) {
            let Some(slot) = place.or_else(|| free.next()) else { continue };
            enrolled.by_key.insert(peer.public, slot);
            if let Some(entry) = enrolled.by_slot.get_mut(slot as usize) {
                *entry = Some(Enrolled { tag: self.tag(&peer.public), peer });
            }
        }
        Ok(enrolled)
    }

    /// Makes the record in `slot` that of its peer among `peers`, or nobody's: for the worker that owns it. A record that is
    /// another's loses all that was in it. `first`: the process has just begun. True: it was another's, or nobody's.
    pub fn settle(&self, slot: u32, peers: &Peers, first: bool) -> bool {
        let Some(record) = self.record(slot) else { return false };
        match peers.by_slot.get(slot as usize).and_then(Option::as_ref) {
            Some(enrolled) if record.tag() == enrolled.tag => false,
            Some(enrolled) => {
                record.give(enrolled.tag, &enrolled.peer.public);
                true
            }
            // What a process did not wipe to the end has no tag either; the next one begins with that.
            None if record.tag() == 0 && !first => false,
            None => {
                record.take();
                true
            }
        }
    }
}

/// A peer that has a slot.
#[derive(Clone, Debug)]
struct Enrolled {
    tag: u64,
    peer: Peer,
}

/// The peers of a configuration, by slot and by key.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    by_slot: Vec<Option<Enrolled>>,
    by_key: HashMap<PublicKey, u32>,
}

impl Peers {
    /// The slot of a peer.
    pub fn slot(&self, public: &PublicKey) -> Option<u32> {
        self.by_key.get(public).copied()
    }

    /// The peer in a slot.
    #[inline]
    pub fn peer(&self, slot: u32) -> Option<&Peer> {
        self.by_slot.get(slot as usize)?.as_ref().map(|enrolled| &enrolled.peer)
    }

    /// The record of the peer in a slot; `None`: there is no such peer, or the record is another's by now.
    #[inline]
    pub fn record<'b>(&self, book: &'b Book, slot: u32) -> Option<Record<'b>> {
        let enrolled = self.by_slot.get(slot as usize)?.as_ref()?;
        book.record(slot).filter(|record| record.tag() == enrolled.tag)
    }

    /// All slots that have a peer.
    pub fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        // There are fewer than 2³².
        self.by_slot.iter().enumerate().filter(|(_, peer)| peer.is_some()).map(|(slot, _)| slot as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Keys;

    fn peer(seed: u8) -> Peer {
        Peer {
            public: Secret::new([seed; 32]).public(),
            preshared: Secret::new([0; 32]),
            endpoint: None,
            keepalive: 0,
        }
    }

    fn book(slots: u32) -> Book {
        let region = Region::heap(Book::bytes(slots));
        Book::open(region, slots, &HashKey::from_seed(1), Secret::new([99; 32]).public()).unwrap()
    }

    /// As the worker that owns all slots does.
    fn settled(book: &Book, peers: Vec<Peer>) -> Peers {
        let peers = book.enrol(peers).unwrap();
        (0..book.slots()).for_each(|slot| _ = book.settle(slot, &peers, true));
        peers
    }

    #[test]
    fn who_stays_keeps_the_slot_and_the_sessions() {
        let book = book(4);
        let first = settled(&book, vec![peer(1), peer(2), peer(3)]);
        let two = first.slot(&peer(2).public).unwrap();
        let keys = Keys { sending: Secret::new([1; 32]), receiving: Secret::new([2; 32]) };
        first
            .slots()
            .for_each(|slot| first.record(&book, slot).unwrap().install(&keys, 5 + slot, 6, true, 0));
        let second = book.enrol(vec![peer(4), peer(2)]).unwrap();
        assert!(first.slots().all(|slot| first.record(&book, slot).is_some()), "nothing was written yet");
        (0..4).for_each(|slot| _ = book.settle(slot, &second, false));
        assert_eq!(second.slot(&peer(2).public), Some(two));
        assert!(second.record(&book, two).unwrap().by_index(5 + two).is_some());
        for gone in [1, 3] {
            assert!(first.record(&book, first.slot(&peer(gone).public).unwrap()).is_none());
        }
        let third = settled(&book, vec![peer(4), peer(2), peer(5), peer(6)]);
        let mut slots: Vec<_> = third.slots().collect();
        slots.sort_unstable();
        assert_eq!(slots, [0, 1, 2, 3]);
        for slot in third.slots().filter(|slot| *slot != two) {
            let record = third.record(&book, slot).unwrap();
            assert!((5..9).all(|index| record.by_index(index).is_none()), "sessions of who was there before");
        }
        let err = book.enrol((10..15).map(peer).collect()).unwrap_err();
        assert_eq!((err.peers, err.slots), (5, 4));
    }

    #[test]
    fn with_another_key_of_ours_nobody_is_known() {
        let region = Region::heap(Book::bytes(2));
        let secret = HashKey::from_seed(1);
        let of = |own: u8| Book::open(region.clone(), 2, &secret, Secret::new([own; 32]).public()).unwrap();
        let before = settled(&of(1), vec![peer(5)]);
        let after = settled(&of(2), vec![peer(5)]);
        let slot = after.slot(&peer(5).public).unwrap();
        assert!(after.record(&of(2), slot).is_some() && before.record(&of(1), 0).is_none());
        assert!(Book::open(Region::heap(4096), 2, &secret, peer(1).public).is_none());
    }
}
