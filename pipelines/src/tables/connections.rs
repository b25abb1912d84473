//! Which backend a flow goes to, remembered in shared memory for as long as the flow lives.
//!
//! Owns: a record of one cache line for each flow (key, backend, phase, life) and the index to them. Refuses: a flow for
//! which there is no room, and nobody who may be evicted; it goes unrecorded then, as Maglev says, which breaks only if the
//! set of backends changes before it ends. Keeps true: a flow that was seen to carry data is evicted by nobody; a flow that only
//! began, or is over, gives way, so a flood of first packets costs nothing but itself. A backend is remembered by [`Ticket`], not by its place in some
//! configuration. One writer.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::region::Region;

use super::backends::Ticket;
use super::index::Index;
use super::records::Records;

/// Words of a record: the key's five, the ticket, the phase, the life.
const WORDS: usize = 8;
const TICKET: usize = 5;
const PHASE: usize = 6;

/// A TCP flow of which only the first packet was seen (`IP_VS_TCP_S_SYN_RECV`, net/netfilter/ipvs/ip_vs_proto_tcp.c).
const OPENING: Duration = Duration::from_secs(60);
/// A UDP flow of one packet (nf_conntrack's `udp_timeout`).
const ONCE: Duration = Duration::from_secs(30);
/// A TCP flow whose client has sent its FIN (`IP_VS_TCP_S_FIN_WAIT`).
const CLOSING: Duration = Duration::from_secs(120);
/// A TCP flow whose client has sent RST (`IP_VS_TCP_S_CLOSE`).
const CLOSED: Duration = Duration::from_secs(10);

/// How far a flow is. What comes first is evicted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Reset.
    Closed,
    /// One end has said that it is done.
    Closing,
    /// One packet was seen.
    Opening,
    /// More than that.
    Flowing,
}

impl Phase {
    fn of(word: u64) -> Self {
        match word {
            0 => Self::Closed,
            1 => Self::Closing,
            2 => Self::Opening,
            _ => Self::Flowing,
        }
    }
}

/// How long an idle flow is remembered, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A TCP connection.
    pub tcp: u64,
    /// A UDP flow.
    pub udp: u64,
}

impl Patience {
    #[inline]
    fn with(self, tcp: bool, phase: Phase) -> u64 {
        let of = |period: Duration| period.as_nanos() as u64;
        match phase {
            Phase::Closed => of(CLOSED),
            Phase::Closing => of(CLOSING),
            Phase::Opening if tcp => of(OPENING),
            Phase::Opening => of(ONCE),
            Phase::Flowing if tcp => self.tcp,
            Phase::Flowing => self.udp,
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Connections {
    index: Index,
    records: Records<WORDS>,
    hash_key: HashKey,
    patience: Patience,
}

impl Connections {
    /// Bytes for `capacity` flows.
    pub const fn bytes(capacity: usize) -> usize {
        Index::bytes(capacity).next_multiple_of(64) + Records::<WORDS>::bytes(capacity)
    }

    /// The flows in this memory, as they were left; `None` when it is too short. Their hashes are under `hash_key`, which is
    /// the same as long as the memory is.
    pub fn open(region: &Region, capacity: usize, hash_key: HashKey, patience: Patience) -> Option<Self> {
        let index = Index::bytes(capacity).next_multiple_of(64);
        let records = region.part(index..region.len())?;
        let index = Index::open(region.part(0..index)?, capacity)?;
        Some(Self { index, records: Records::open(records, capacity)?, hash_key, patience })
    }

    /// The flows in other memory, which has room for as many.
    pub fn elsewhere(&self, region: &Region) -> Option<Self> {
        Self::open(region, self.records.capacity() as usize, self.hash_key.clone(), self.patience)
    }

    /// The hash of a flow, as the other functions want it.
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> u64 {
        key.hash(&self.hash_key)
    }

    /// Asks for the lines of the index that [`Self::fetch`] and [`Self::find`] read.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Asks for the record that [`Self::find`] reads, most likely.
    #[inline]
    pub fn fetch(&self, hash: u64) {
        self.index.find(hash, |number| {
            self.records.prefetch(number);
            false
        });
    }

    /// The number of a flow that lives at `now`.
    #[inline]
    pub fn find(&self, key: &FlowKey, hash: u64, now: u64) -> Option<u32> {
        let key = key.words();
        let number = self.index.find(hash, |number| {
            let Some([a, b, c, d, e, ..]) = self.records.words(number) else { return false };
            let [a, b, c, d, e] = [a, b, c, d, e].map(|word| word.load(Relaxed));
            (a ^ key[0]) | (b ^ key[1]) | (c ^ key[2]) | (d ^ key[3]) | (e ^ key[4]) == 0
        })?;
        (self.records.life(number) > now).then_some(number)
    }

    /// Where a flow goes.
    #[inline]
    pub fn ticket(&self, number: u32) -> Ticket {
        Ticket(self.word(number, TICKET))
    }

    /// Sends a flow elsewhere from now on.
    pub fn redirect(&self, number: u32, ticket: Ticket) {
        self.set_word(number, TICKET, ticket.0);
    }

    /// How far a flow is.
    #[inline]
    pub fn phase(&self, number: u32) -> Phase {
        Phase::of(self.word(number, PHASE))
    }

    /// A packet of the flow came; it is in `phase` now.
    #[inline]
    pub fn touch(&self, number: u32, tcp: bool, phase: Phase, now: u64) {
        if self.phase(number) != phase {
            self.set_word(number, PHASE, phase as u64);
            self.records.set_life(number, now + self.patience.with(tcp, phase));
            return;
        }
        let patience = self.patience.with(tcp, phase);
        // Not for every packet: a line that is only read need not be written back.
        if self.records.life(number) < now + patience - (patience >> 6) {
            self.records.set_life(number, now + patience);
        }
    }

    /// Remembers a flow that [`Self::find`] did not find. `None`: there is no room, and nobody gives way.
    pub fn insert(&self, key: &FlowKey, hash: u64, ticket: Ticket, tcp: bool, now: u64) -> Option<u32> {
        // One that is over, but was not swept up yet, would be found ahead of this one.
        let words = key.words();
        let same = |number| (0..5).all(|word| self.word(number, word) == words[word]);
        while let Some(number) = self.index.find(hash, same) {
            self.index.remove(hash, number);
            self.records.free(number);
        }
        let number = match self.records.alloc() {
            Some(number) => number,
            None => {
                self.evict(hash, now).then_some(())?;
                self.records.alloc()?
            }
        };
        let record = self.records.words(number)?;
        for (to, from) in record.iter().zip(words.into_iter().chain([ticket.0, Phase::Opening as u64])) {
            to.store(from, Relaxed);
        }
        self.records.publish(number, now + self.patience.with(tcp, Phase::Opening));
        if self.index.insert(hash, number).is_err()
            && !(self.evict(hash, now) && self.index.insert(hash, number).is_ok())
        {
            self.records.free(number);
            return None;
        }
        Some(number)
    }

    /// Looks at `budget` records from `from` on: forgets those whose time is over, shows the tickets of the others. Returns
    /// where to go on; 0 once all were seen.
    pub fn sweep(&self, from: u32, budget: u32, now: u64, mut each: impl FnMut(Ticket)) -> u32 {
        let end = self.records.fresh();
        let last = from.saturating_add(budget).min(end);
        for number in from..last {
            self.records.prefetch(number + 8);
            match self.records.life(number) {
                0 => {}
                life if life > now => each(self.ticket(number)),
                _ => self.forget(number),
            }
        }
        if last >= end { 0 } else { last }
    }

    /// How many flows there are.
    pub fn live(&self) -> u32 {
        self.records.live()
    }

    fn forget(&self, number: u32) {
        let key = FlowKey::from_words(std::array::from_fn(|word| self.word(number, word)));
        self.index.remove(self.hash(&key), number);
        self.records.free(number);
    }

    /// Forgets one of the flows that share a bucket with `hash`: one whose time is over, else the one that is least of a
    /// flow, and of those the one whose time is over first. False when all of them carry data.
    fn evict(&self, hash: u64, now: u64) -> bool {
        let mut least: Option<((Phase, u64), u32)> = None;
        self.index.rivals(hash, |number| {
            let life = self.records.life(number);
            let phase = if life <= now { Phase::Closed } else { self.phase(number) };
            let rank = (phase, life);
            if phase < Phase::Flowing && least.is_none_or(|(other, _)| rank < other) {
                least = Some((rank, number));
            }
        });
        least.is_some_and(|(_, number)| {
            self.forget(number);
            true
        })
    }

    #[inline]
    fn word(&self, number: u32, word: usize) -> u64 {
        self.records.words(number).and_then(|words| words.get(word)).map_or(0, |word| word.load(Relaxed))
    }

    #[inline]
    fn set_word(&self, number: u32, word: usize, to: u64) {
        if let Some(word) = self.records.words(number).and_then(|words| words.get(word)) {
            word.store(to, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
