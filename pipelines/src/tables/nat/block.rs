//! Blocks of ports that clients hold (RFC 7422 §2, RFC 6888 §3).
//!
//! Owns a record for each block that is given out, and two indexes: by external address and block, and by client. Refuses a
//! block that is taken. Keeps true: at any time, and after a kill at any instruction, a block that a client can be found to hold
//! is no other client's: the client's index hears of it last and forgets it first. A block lives as long as mappings use it, in
//! rounds of the sweep as a mapping does.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use zsync_packet::flow::HashKey;
use zsync_packet::region::Region;

use super::endpoint::Endpoint;
use crate::tables::index::Index;
use crate::tables::records::Records;

/// Words of a record: client (2), external address (2), kind and block, in which rounds it was full, since, life.
const WORDS: usize = 8;
/// Most blocks of a client: they all lie in the two buckets of the client's hash.
pub const MAX_BLOCKS: usize = 8;

/// A block that a client holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its number in the table: good while it is held.
    pub number: u32,
    /// Whose it is: an address, see [`Endpoint::host`].
    pub client: Endpoint,
    /// The address outside, as a host too.
    pub external: Endpoint,
    /// Which of the address's blocks: see [`Ports`](super::Ports).
    pub block: u16,
}

/// See the module. Cloning shares the memory.
#[derive(Clone, Debug)]
pub struct ClientBlocks {
    records: Records<WORDS>,
    by_block: Index,
    by_client: Index,
    hash_key: HashKey,
}

impl ClientBlocks {
    /// Bytes for `capacity` blocks.
    pub const fn bytes(capacity: usize) -> usize {
        Self::indexes(capacity) + 2 * Index::bytes(capacity)
    }

    const fn indexes(capacity: usize) -> usize {
        Records::<WORDS>::bytes(capacity).next_multiple_of(64)
    }

    /// The blocks in this memory, as they were left. `None`: it is too short.
    pub fn open(region: &Region, capacity: usize, hash_key: HashKey) -> Option<Self> {
        let (first, size) = (Self::indexes(capacity), Index::bytes(capacity));
        let index = |nth| Index::open(region.part(first + nth * size..first + (nth + 1) * size)?, capacity);
        Some(Self {
            records: Records::open(region.part(0..first)?, capacity)?,
            by_block: index(0)?,
            by_client: index(1)?,
            hash_key,
        })
    }

    /// How many are held.
    pub fn len(&self) -> u32 {
        self.records.live()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers from this one on are no block's.
    pub fn end(&self) -> u32 {
        self.records.fresh()
    }

    /// The block with this number, if it is held.
    pub fn at(&self, number: u32) -> Option<Block> {
        let words = self.records.words(number).filter(|_| self.records.life(number) != 0)?;
        Some(read(number, words))
    }

    /// The last round in which a mapping used it.
    pub fn held(&self, number: u32) -> u64 {
        self.records.life(number)
    }

    /// Who holds this block of an external address.
    pub fn holder(&self, external: &Endpoint, block: u16) -> Option<Block> {
        let (external, mut found) = (external.host(), None);
        self.by_block.find(external.with_port(block).hash(&self.hash_key), |number| {
            found = self.at(number).filter(|held| held.external == external && held.block == block);
            found.is_some()
        });
        found
    }

    /// The blocks of a client, at most [`MAX_BLOCKS`].
    pub fn of(&self, client: &Endpoint) -> impl Iterator<Item = Block> + use<> {
        let (client, mut blocks, mut count) = (client.host(), [None; MAX_BLOCKS], 0);
        self.by_client.find(client.hash(&self.hash_key), |number| {
            if let Some(block) = self.at(number).filter(|block| block.client == client)
                && let Some(slot) = blocks.get_mut(count)
            {
                *slot = Some(block);
                count += 1;
            }
            false
        });
        blocks.into_iter().flatten()
    }

    /// Gives the client a block, from `now` (nanoseconds) on, used in this `round` (not 0). `None`: it is taken, or there is no
    /// room.
    pub fn insert(
        &self,
        client: &Endpoint,
        external: &Endpoint,
        block: u16,
        round: u64,
        now: u64,
    ) -> Option<Block> {
        let (client, external) = (client.host(), external.host());
        if self.holder(&external, block).is_some() {
            return None;
        }
        let number = self.records.alloc()?;
        let words = self.records.words(number)?;
        let ([a, b, kind], [c, d, _]) = (client.words(), external.words());
        for (word, value) in words.iter().zip([a, b, c, d, kind | u64::from(block), 0, now]) {
            word.store(value, Relaxed);
        }
        self.records.publish(number, round);
        if self.by_block.insert(external.with_port(block).hash(&self.hash_key), number).is_ok()
            && self.by_client.insert(client.hash(&self.hash_key), number).is_ok()
        {
            return Some(read(number, words));
        }
        self.free(number);
        None
    }

    /// A mapping uses it in this round.
    pub fn hold(&self, number: u32, round: u64) {
        if self.records.life(number) != 0 {
            self.records.set_life(number, round);
        }
    }

    /// Whether it was found full for this protocol in this round, and need not be searched again.
    pub fn is_full(&self, number: u32, protocol: u8, round: u64) -> bool {
        let shift = lane(protocol);
        self.records
            .words(number)
            .is_some_and(|words| (words[5].load(Relaxed) >> shift) as u16 == round as u16 | 1 << 15)
    }

    /// It is full for this protocol, until the next round.
    pub fn set_full(&self, number: u32, protocol: u8, round: u64) {
        if let Some(words) = self.records.words(number) {
            let (shift, all) = (lane(protocol), words[5].load(Relaxed));
            let mark = u64::from(round as u16 | 1 << 15);
            words[5].store(all & !(0xffff << shift) | mark << shift, Relaxed);
        }
    }

    /// Takes back a block that no mapping uses.
    pub fn free(&self, number: u32) {
        let Some(Block { client, external, block, .. }) = self.at(number) else { return };
        self.by_client.remove(client.hash(&self.hash_key), number);
        self.by_block.remove(external.with_port(block).hash(&self.hash_key), number);
        self.records.free(number);
    }
}

/// Where a protocol's mark is: the frequent ones have one to themselves.
fn lane(protocol: u8) -> u32 {
    use zsync_packet::header::protocol::{ICMP, ICMPV6, TCP, UDP};
    match protocol {
        TCP => 0,
        UDP => 16,
        ICMP | ICMPV6 => 32,
        _ => 48,
    }
}

fn read(number: u32, words: &[AtomicU64; WORDS]) -> Block {
    of_words(number, std::array::from_fn(|i| words[i].load(Relaxed)))
}

/// The block that these words say. The first five never change while it is held.
pub(super) fn of_words(number: u32, [a, b, c, d, what, ..]: [u64; WORDS]) -> Block {
    let kind = what >> 32 << 32;
    Block {
        number,
        client: Endpoint::from_words([a, b, kind]),
        external: Endpoint::from_words([c, d, kind]),
        block: what as u16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(last: u8) -> Endpoint {
        Endpoint::new([10, 0, 0, last].into(), 0, 0)
    }

    #[test]
    fn a_block_has_one_holder_and_a_client_its_blocks() {
        let region = Region::heap(ClientBlocks::bytes(64));
        let table = ClientBlocks::open(&region, 64, HashKey::from_seed(3)).unwrap();
        let outside = Endpoint::new([203, 0, 113, 1].into(), 0, 0);
        for block in 20..20 + MAX_BLOCKS as u16 {
            let held = table.insert(&host(1), &outside, block, 1, 5).unwrap();
            assert_eq!((held.client, held.external, held.block), (host(1), outside, block));
            assert_eq!(table.insert(&host(2), &outside, block, 1, 5), None, "taken");
        }
        let v6 = Endpoint::new("2001:db8::1".parse().unwrap(), 0, 0);
        let client6 = Endpoint::new("fd00::1".parse().unwrap(), 4000, 17);
        assert!(table.insert(&client6, &v6.with_port(99), 20, 1, 5).is_some());
        assert_eq!(table.of(&client6).map(|block| block.external).collect::<Vec<_>>(), [v6]);
        let table = ClientBlocks::open(&region, 64, HashKey::from_seed(3)).unwrap();
        assert_eq!(table.of(&host(1)).count(), MAX_BLOCKS);
        let first = table.holder(&outside, 20).unwrap();
        table.free(first.number);
        assert_eq!((table.holder(&outside, 20), table.of(&host(1)).count()), (None, MAX_BLOCKS - 1));
        assert!(table.insert(&host(2), &outside, 20, 1, 5).is_some());
    }

    #[test]
    fn a_full_block_is_searched_again_in_the_next_round() {
        let table =
            ClientBlocks::open(&Region::heap(ClientBlocks::bytes(8)), 8, HashKey::from_seed(3)).unwrap();
        let block = table.insert(&host(1), &host(2), 20, 1, 0).unwrap().number;
        assert!(!table.is_full(block, 6, 0) && !table.is_full(block, 6, 1));
        table.set_full(block, 6, 7);
        assert!(table.is_full(block, 6, 7) && !table.is_full(block, 6, 8) && !table.is_full(block, 17, 7));
        table.set_full(block, 132, 7);
        table.set_full(block, 6, 8);
        assert!(table.is_full(block, 132, 7) && table.is_full(block, 6, 8));
    }
}
