//! Mappings: an internal end and the external end that stands for it, whomever it talks to (RFC 4787 §4.1).
//!
//! Owns a record for each and two indexes, by either end. Refuses an external end that is taken. Keeps true: at any time, and
//! after a kill at any instruction, an external end that can be found stands for one internal end; a mapping that can be found by
//! its internal end can be found by its external one. For that the internal index hears of it last and forgets it first.
//!
//! A mapping has no time of its own: its `life` is the last round of the sweep in which a flow held
//! it.

use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use zsync_packet::flow::HashKey;
use zsync_packet::region::Region;

use super::endpoint::Endpoint;
use crate::tables::index::Index;
use crate::tables::records::Records;

/// Words of a record: internal address (2), external address (2), ports and kind, flows, since, life.
const WORDS: usize = 8;

/// What a mapping maps, with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its number: good while it is held.
    pub number: u32,
    /// The end inside.
    pub internal: Endpoint,
    /// The end outside, of the same protocol.
    pub external: Endpoint,
    /// Flows that held it when they were last counted.
    pub flows: u32,
}

/// See the module. Cloning shares the memory.
#[derive(Clone, Debug)]
pub struct Mappings {
    records: Records<WORDS>,
    internal: Index,
    external: Index,
    hash_key: HashKey,
}

impl Mappings {
    /// Bytes for `capacity` mappings.
    pub const fn bytes(capacity: usize) -> usize {
        Self::indexes(capacity) + 2 * Index::bytes(capacity)
    }

    const fn indexes(capacity: usize) -> usize {
        Records::<WORDS>::bytes(capacity).next_multiple_of(64)
    }

    /// The mappings in this memory, as they were left. `None`: it is too short.
    pub fn open(region: &Region, capacity: usize, hash_key: HashKey) -> Option<Self> {
        let (first, size) = (Self::indexes(capacity), Index::bytes(capacity));
        let index = |nth| Index::open(region.part(first + nth * size..first + (nth + 1) * size)?, capacity);
        Some(Self {
            records: Records::open(region.part(0..first)?, capacity)?,
            internal: index(0)?,
            external: index(1)?,
            hash_key,
        })
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.records.live()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers from this one on are no mapping's.
    pub fn end(&self) -> u32 {
        self.records.fresh()
    }

    /// The mapping with this number, if it lives.
    pub fn at(&self, number: u32) -> Option<Mapping> {
        let words = self.records.words(number).filter(|_| self.records.life(number) != 0)?;
        Some(read(number, words))
    }

    /// The last round in which a flow held it.
    pub fn held(&self, number: u32) -> u64 {
        self.records.life(number)
    }

    /// The mapping of an internal end whose external address is acceptable.
    #[inline]
    pub fn find_internal(
        &self,
        internal: &Endpoint,
        mut acceptable: impl FnMut(IpAddr) -> bool,
    ) -> Option<Mapping> {
        let mut found = None;
        self.internal.find(internal.hash(&self.hash_key), |number| {
            found = self
                .at(number)
                .filter(|mapping| mapping.internal == *internal && acceptable(mapping.external.address()));
            found.is_some()
        });
        found
    }

    /// The mapping whose external end this is.
    #[inline]
    pub fn find_external(&self, external: &Endpoint) -> Option<Mapping> {
        let mut found = None;
        self.external.find(external.hash(&self.hash_key), |number| {
            found = self.at(number).filter(|mapping| mapping.external == *external);
            found.is_some()
        });
        found
    }

    /// Asks for what [`Self::find_external`] will read first.
    #[inline]
    pub fn prefetch_external(&self, external: &Endpoint) {
        self.external.prefetch(external.hash(&self.hash_key));
    }

    /// Maps `internal` to `external` from `now` (nanoseconds) on, held in this `round` (not 0). `None`: the external end is
    /// taken, or there is no room.
    pub fn insert(&self, internal: Endpoint, external: Endpoint, round: u64, now: u64) -> Option<Mapping> {
        if !internal.agrees(&external) || self.find_external(&external).is_some() {
            return None;
        }
        let number = self.records.alloc()?;
        let words = self.records.words(number)?;
        let ([a, b, inside], [c, d, outside]) = (internal.words(), external.words());
        let ports = inside | outside << 16 & 0xffff_0000;
        for (word, value) in words.iter().zip([a, b, c, d, ports, 1, now]) {
            word.store(value, Relaxed);
        }
        self.records.publish(number, round);
        if self.external.insert(external.hash(&self.hash_key), number).is_ok()
            && self.internal.insert(internal.hash(&self.hash_key), number).is_ok()
        {
            return Some(read(number, words));
        }
        self.free(number);
        None
    }

    /// A flow holds it in this round.
    #[inline]
    pub fn hold(&self, number: u32, round: u64) {
        let Some(words) = self.records.words(number) else { return };
        let held = words[Records::<WORDS>::LIFE].load(Relaxed);
        if held == 0 {
            return;
        }
        let flows = if held == round { words[5].load(Relaxed) + 1 } else { 1 };
        words[5].store(flows, Relaxed);
        self.records.set_life(number, round);
    }

    /// Ends a mapping that no flow holds.
    pub fn free(&self, number: u32) {
        let Some(Mapping { internal, external, .. }) = self.at(number) else { return };
        self.internal.remove(internal.hash(&self.hash_key), number);
        self.external.remove(external.hash(&self.hash_key), number);
        self.records.free(number);
    }
}

#[inline]
fn read(number: u32, words: &[AtomicU64; WORDS]) -> Mapping {
    of_words(number, std::array::from_fn(|i| words[i].load(Relaxed)))
}

/// The mapping that these words say. The first five never change while it lives.
#[inline]
pub(super) fn of_words(number: u32, [a, b, c, d, ports, flows, _, _]: [u64; WORDS]) -> Mapping {
    let kind = ports >> 32 << 32;
    Mapping {
        number,
        internal: Endpoint::from_words([a, b, kind | ports & 0xffff]),
        external: Endpoint::from_words([c, d, kind | ports >> 16 & 0xffff]),
        flows: flows as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(last: u8, port: u16) -> Endpoint {
        Endpoint::new([10, 0, 0, last].into(), port, 17)
    }

    #[test]
    fn a_mapping_is_found_by_either_end_until_it_is_freed() {
        let region = Region::heap(Mappings::bytes(100));
        let key = HashKey::from_seed(1);
        let table = Mappings::open(&region, 100, key.clone()).unwrap();
        let (inside, outside) = (end(1, 4000), Endpoint::new([203, 0, 113, 1].into(), 5000, 17));
        let mapping = table.insert(inside, outside, 1, 7).unwrap();
        assert_eq!((mapping.internal, mapping.external, mapping.flows), (inside, outside, 1));
        assert_eq!(table.insert(end(2, 4000), outside, 1, 7), None, "taken");
        let tcp = Endpoint::new([203, 0, 113, 1].into(), 5000, 6);
        assert_eq!(table.find_external(&tcp), None, "another protocol's");
        assert_eq!(table.insert(end(2, 1), tcp, 1, 7), None, "protocols differ");
        // As a successor sees it.
        let table = Mappings::open(&region, 100, key).unwrap();
        assert_eq!(table.find_internal(&inside, |_| true), Some(mapping));
        assert_eq!(table.find_internal(&inside, |address| address.is_ipv6()), None);
        assert_eq!(table.find_external(&outside), Some(mapping));
        table.hold(mapping.number, 1);
        table.hold(mapping.number, 1);
        assert_eq!((table.at(mapping.number).unwrap().flows, table.held(mapping.number)), (3, 1));
        table.hold(mapping.number, 2);
        assert_eq!((table.at(mapping.number).unwrap().flows, table.held(mapping.number)), (1, 2));
        table.free(mapping.number);
        table.hold(mapping.number, 3);
        assert_eq!((table.find_external(&outside), table.at(mapping.number), table.len()), (None, None, 0));
    }

    #[test]
    fn a_full_table_refuses_and_takes_again() {
        let table = Mappings::open(&Region::heap(Mappings::bytes(64)), 64, HashKey::from_seed(2)).unwrap();
        let outside = |n: u16| Endpoint::new([203, 0, 113, 1].into(), n, 17);
        let all: Vec<_> =
            (0..64).filter_map(|n| table.insert(end(n as u8, n), outside(n + 1), 1, 0)).collect();
        assert_eq!((all.len(), table.len(), table.end()), (64, 64, 64));
        assert_eq!(table.insert(end(99, 99), outside(99), 1, 0), None);
        table.free(all[20].number);
        assert!(table.insert(end(99, 99), outside(21), 1, 0).is_some());
    }

    #[test]
    fn what_a_kill_left_half_done_misleads_nobody() {
        let outside = Endpoint::new([203, 0, 113, 1].into(), 5000, 17);
        // `insert` cut off after its first, second and last store that others see; `free` the other way round.
        for known in 0..3 {
            let region = Region::heap(Mappings::bytes(8));
            let table = Mappings::open(&region, 8, HashKey::from_seed(5)).unwrap();
            let whole = table.insert(end(1, 4000), outside, 1, 0).unwrap();
            if known < 2 {
                table.internal.remove(end(1, 4000).hash(&table.hash_key), whole.number);
            }
            if known < 1 {
                table.external.remove(outside.hash(&table.hash_key), whole.number);
            }
            let table = Mappings::open(&region, 8, HashKey::from_seed(5)).unwrap();
            let found = table.find_internal(&end(1, 4000), |_| true);
            assert_eq!(found.is_some(), known == 2);
            // The end is taken as long as anybody could be told of it, and what is left over can be freed.
            assert_eq!(table.insert(end(2, 4000), outside, 1, 0).is_none(), known > 0);
            table.free(whole.number);
            let second = table.find_external(&outside).map(|mapping| mapping.internal);
            assert_eq!(second, (known == 0).then_some(end(2, 4000)));
            assert!(table.insert(end(3, 4000), outside.with_port(1), 1, 0).is_some());
        }
    }

    #[test]
    fn memory_that_is_too_short_is_refused() {
        let short = Region::heap(Mappings::bytes(64) - 1);
        assert!(Mappings::open(&short, 64, HashKey::from_seed(1)).is_none());
    }
}
