//! All peers' records, and which slot is whose.
//!
//! Owns: a region of memory that outlives the process: a page of counts, and a record for each slot. Refuses: memory that is too short, and more peers than
//! there are slots. Keeps true: a peer that stays keeps its slot, and with it its sessions; a record is written by the worker that owns
//! its slot, from the moment on that it goes on with a configuration.

mod count;

pub use count::Count;

use crate::index::{Indices, MAX_PEERS};
use crate::key::{PublicKey, Secret};
use crate::record::{RECORD_BYTES, RECORD_WORDS, Record};
use std::collections::{BTreeSet, HashMap};
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

    /// Whether what is written in one is in the other.
    pub fn is_over_same(&self, other: &Self) -> bool {
        self.region.base() == other.region.base() && self.slots == other.slots
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

    /// Gives every peer a slot: the one that it has if it has one, else the one that it had `before`, in a configuration whose peers may
    /// not be written yet, or are in other memory. Nothing is written: the workers do that, each for its own slots, when they go on
    /// with these peers.
    ///
    /// # Errors
    /// They are too many.
    pub fn enrol(&self, peers: Vec<Peer>, before: Option<&Peers>) -> Result<Peers, TooManyPeers> {
        if peers.len() > self.slots as usize {
            return Err(TooManyPeers { peers: peers.len(), slots: self.slots });
        }
        let mut wanted: HashMap<u64, usize> =
            peers.iter().enumerate().map(|(n, peer)| (self.tag(&peer.public), n)).collect();
        let mut places = vec![None; peers.len()];
        let (mut free, mut left) = (BTreeSet::new(), BTreeSet::new());
        for slot in 0..self.slots {
            let Some(record) = self.record(slot) else { break };
            match (record.tag(), wanted.remove(&record.tag())) {
                (0, _) => free.insert(slot),
                (_, Some(n)) if peers[n].public == record.public() => places[n].replace(slot).is_none(),
                _ => left.insert(slot),
            };
        }
        for (peer, place) in peers.iter().zip(&mut places).filter(|(_, place)| place.is_none()) {
            let had = before.and_then(|before| before.slot(&peer.public));
            *place = had.filter(|slot| free.remove(slot) || left.remove(slot));
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

    /// Takes the record in `slot` over from `from`, other memory of the same end that nobody writes any more, if it is there that of the
    /// same peer: its sessions go on, at the counters at which they are. False: it is not, and nothing is done.
    pub fn carry(&self, slot: u32, peers: &Peers, from: &Self) -> bool {
        let (Some(to), Some(from)) = (self.record(slot), peers.record(from, slot)) else { return false };
        to.carry(&from);
        true
    }

    /// Adds what was counted in other memory.
    pub fn carry_counts(&self, from: &Self) {
        for count in Count::ALL {
            if let Some([word]) = self.region.u64s(count as usize * 8, 1) {
                word.fetch_add(from.counted(count), Relaxed);
            }
        }
    }

    /// The same for all that is in the memory `from`, into the memory `to`, which is empty, for as many peers as both have room for.
    /// For who has seen the process end that wrote it.
    pub fn carry_all(from: &Region, to: &Region) {
        let slots = |region: &Region| (region.len().saturating_sub(PAGE) / RECORD_BYTES) as u32;
        let open = |region: &Region| {
            // Records say themselves whose they are.
            Self::open(region.clone(), slots(region), &HashKey::from_seed(0), PublicKey([0; 32]))
        };
        let (Some(from), Some(to)) = (open(from), open(to)) else { return };
        to.carry_counts(&from);
        for (from, to) in (0..from.slots).map_while(|slot| from.record(slot).zip(to.record(slot))) {
            to.carry(&from);
        }
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

    /// Whether there is a peer in a slot whose record is nobody's yet.
    pub fn is_new(&self, book: &Book, slot: u32) -> bool {
        self.peer(slot).is_some() && book.record(slot).is_some_and(|record| record.tag() == 0)
    }

    /// All slots that have a peer.
    pub fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        // There are fewer than 2³².
        self.by_slot.iter().enumerate().filter(|(_, peer)| peer.is_some()).map(|(slot, _)| slot as u32)
    }
}

#[cfg(test)]
mod tests;
