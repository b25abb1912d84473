//! Whom an external end has talked to: what address-dependent filtering asks (RFC 4787 §5).
//!
//! Owns a record and an index for pairs of an external end and a remote address. Refuses nothing but a pair too many, which is
//! then not let in. A pair lives as long as a flow between the two does, in rounds of the sweep as a mapping does.

use std::sync::atomic::Ordering::Relaxed;

use zsync_packet::flow::HashKey;
use zsync_packet::region::Region;

use super::endpoint::Endpoint;
use crate::tables::index::Index;
use crate::tables::records::Records;

/// Words of a record: the external end (3), the remote address (2), life.
const WORDS: usize = 6;

/// See the module. Cloning shares the memory.
#[derive(Clone, Debug)]
pub struct Peers {
    records: Records<WORDS>,
    index: Index,
    hash_key: HashKey,
}

impl Peers {
    /// Bytes for `capacity` pairs.
    pub const fn bytes(capacity: usize) -> usize {
        Self::index(capacity) + Index::bytes(capacity)
    }

    const fn index(capacity: usize) -> usize {
        Records::<WORDS>::bytes(capacity).next_multiple_of(64)
    }

    /// The pairs in this memory, as they were left. `None`: it is too short.
    pub fn open(region: &Region, capacity: usize, hash_key: HashKey) -> Option<Self> {
        let first = Self::index(capacity);
        Some(Self {
            records: Records::open(region.part(0..first)?, capacity)?,
            index: Index::open(region.part(first..Self::bytes(capacity))?, capacity)?,
            hash_key,
        })
    }

    /// Whether `external` has talked to the address of `remote`.
    pub fn contains(&self, external: &Endpoint, remote: &Endpoint) -> bool {
        self.find(external, remote).is_some()
    }

    /// `external` talks to the address of `remote` in this round (not 0).
    pub fn hold(&self, external: &Endpoint, remote: &Endpoint, round: u64) {
        if let Some(number) = self.find(external, remote) {
            self.records.set_life(number, round);
            return;
        }
        let Some(number) = self.records.alloc() else { return };
        let Some(words) = self.records.words(number) else { return };
        for (word, value) in words.iter().zip(form(external, remote)) {
            word.store(value, Relaxed);
        }
        self.records.publish(number, round);
        if self.index.insert(self.hash(external, remote), number).is_err() {
            self.records.free(number);
        }
    }

    /// Numbers from this one on are no pair's.
    pub fn end(&self) -> u32 {
        self.records.fresh()
    }

    /// Forgets the pair with this number if no flow held it in `round` or later.
    pub fn expire(&self, number: u32, round: u64) {
        let Some(words) = self.records.words(number) else { return };
        let life = self.records.life(number);
        if life == 0 || life >= round {
            return;
        }
        let [a, b, c, d, e, _] = std::array::from_fn(|i| words[i].load(Relaxed));
        let external = Endpoint::from_words([a, b, c]);
        let remote = Endpoint::from_words([d, e, 0]);
        self.index.remove(self.hash(&external, &remote), number);
        self.records.free(number);
    }

    fn find(&self, external: &Endpoint, remote: &Endpoint) -> Option<u32> {
        let wanted = form(external, remote);
        self.index.find(self.hash(external, remote), |number| {
            self.records.life(number) != 0
                && self.records.words(number).is_some_and(|words| {
                    words.iter().zip(wanted).all(|(word, wanted)| word.load(Relaxed) == wanted)
                })
        })
    }

    fn hash(&self, external: &Endpoint, remote: &Endpoint) -> u64 {
        external.to(&remote.with_port(0)).hash(&self.hash_key)
    }
}

fn form(external: &Endpoint, remote: &Endpoint) -> [u64; WORDS - 1] {
    let ([a, b, c], [d, e, _]) = (external.words(), remote.words());
    [a, b, c, d, e]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_known_while_it_is_held() {
        let peers = Peers::open(&Region::heap(Peers::bytes(16)), 16, HashKey::from_seed(4)).unwrap();
        let external = Endpoint::new([203, 0, 113, 1].into(), 5000, 17);
        let remote = |port| Endpoint::new([192, 0, 2, 1].into(), port, 17);
        assert!(!peers.contains(&external, &remote(53)));
        peers.hold(&external, &remote(53), 1);
        peers.hold(&external, &remote(54), 1);
        assert!(peers.contains(&external, &remote(9)), "the port does not matter");
        assert!(!peers.contains(&external.with_port(5001), &remote(53)));
        assert_eq!(peers.end(), 1);
        peers.expire(0, 1);
        assert!(peers.contains(&external, &remote(53)));
        peers.hold(&external, &remote(53), 2);
        peers.expire(0, 2);
        assert!(peers.contains(&external, &remote(53)));
        peers.expire(0, 3);
        assert!(!peers.contains(&external, &remote(53)));
    }
}
