//! Which external end stands for which internal one: how mappings are made, and how they end.
//!
//! Owns one worker's mappings, blocks of ports and their log, in its part of the shared memory. Refuses ports of other workers,
//! taken and reserved ones, and a client beyond its blocks. Keeps true, after a kill at any instruction too: an external end
//! stands for one internal end as long as any flow uses it.
//!
//! Nothing counts references, which a kill could leave wrong. Instead a *round* goes through all flows, and each translated
//! one holds its mapping; what no flow has held during a whole round ends with it. So a port comes free between one and two
//! rounds after its last flow.

use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::header::protocol;
use zsync_packet::region::Region;

use super::block::{Block, ClientBlocks};
use super::endpoint::Endpoint;
use super::log::{BlockEvent, BlockLog};
use super::mapping::Mappings;
use super::peers::Peers;
use super::pool::Pool;
use super::ports::{Ports, probes};

/// What the first word of the memory says of it: its layout's version, and what it has room for.
const VERSION: u64 = 1;
/// Words of the header; the first one is the layout.
pub(super) mod word {
    /// The number of the round.
    pub const ROUND: usize = 1;
    /// How far it is.
    pub const PLACE: usize = 2;
    /// When it began, in nanoseconds.
    pub const BEGAN: usize = 3;
}
/// Ports that are tried for one mapping without blocks, as many as the kernel tries (`nf_nat_l4proto_unique_tuple`).
const TRIES: u32 = 128;
/// Addresses on which a block is looked for.
const ADDRESSES: u64 = 8;
/// Blocks of an address that are looked at.
const BLOCK_TRIES: u32 = 256;

/// What a worker's memory has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatLayout {
    /// Mappings.
    pub mappings: u32,
    /// Blocks of ports that clients hold; 0 when ports are given out one by one.
    pub blocks: u32,
    /// Pairs of a mapping and an address that it talks to; 0 when filtering does not ask for them.
    pub peers: u32,
    /// Events of the log of blocks; 0 for no log.
    pub log: u32,
}

impl NatLayout {
    /// Bytes of the header ahead of all parts: a cache line.
    pub(super) const HEADER: usize = 64;

    /// Bytes of memory for it.
    pub const fn bytes(&self) -> usize {
        let [_, _, _, end] = self.ends();
        end
    }

    /// Where its parts end: mappings, blocks, peers, log.
    pub(super) const fn ends(&self) -> [usize; 4] {
        let mappings = Self::HEADER + Mappings::bytes(self.mappings as usize).next_multiple_of(64);
        let blocks = mappings + ClientBlocks::bytes(self.blocks as usize).next_multiple_of(64);
        let peers = blocks + Peers::bytes(self.peers as usize).next_multiple_of(64);
        [mappings, blocks, peers, peers + BlockLog::bytes(self.log as usize)]
    }

    /// A number that tells layouts apart.
    pub(super) fn word(&self) -> u64 {
        let fields = [self.mappings, self.blocks, self.peers, self.log];
        fields.iter().fold(VERSION, |word, field| {
            (word ^ u64::from(*field)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
        }) | 1
    }
}

/// No port is left for it, or no room for another mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no external port is left")]
pub struct NoPort;

/// See the module.
#[derive(Clone, Debug)]
pub struct Translations {
    region: Region,
    layout: NatLayout,
    /// The mappings.
    pub mappings: Mappings,
    /// The blocks of ports, where there are any.
    pub blocks: Option<ClientBlocks>,
    /// Whom mappings talk to, where filtering asks.
    pub peers: Option<Peers>,
    /// The log of blocks, where there is one.
    pub log: Option<BlockLog>,
    hash_key: HashKey,
    ports: Ports,
    blocks_per_client: usize,
}

impl Translations {
    /// What a predecessor left in this memory, or nothing in memory that was zeros. Gives out `ports`, and at most
    /// `blocks_per_client` blocks of them (where the layout has any). Writes nothing: a predecessor may still be at work, until
    /// [`Self::start`].
    ///
    /// `None`: the memory is too short, or of another layout.
    pub fn open(
        region: &Region,
        layout: NatLayout,
        ports: Ports,
        blocks_per_client: u8,
        hash_key: HashKey,
    ) -> Option<Self> {
        let [mappings, blocks, peers, log] = layout.ends();
        let found = region.u64s(0, 2)?[0].load(Relaxed);
        if found != 0 && found != layout.word() {
            return None;
        }
        let part = |from: usize, to: usize| region.part(from..to);
        Some(Self {
            mappings: Mappings::open(
                &part(NatLayout::HEADER, mappings)?,
                layout.mappings as usize,
                hash_key.clone(),
            )?,
            blocks: match layout.blocks {
                0 => None,
                count => {
                    Some(ClientBlocks::open(&part(mappings, blocks)?, count as usize, hash_key.clone())?)
                }
            },
            peers: match layout.peers {
                0 => None,
                count => Some(Peers::open(&part(blocks, peers)?, count as usize, hash_key.clone())?),
            },
            log: match layout.log {
                0 => None,
                count => Some(BlockLog::open(part(peers, log)?, count as usize)?),
            },
            region: region.clone(),
            hash_key,
            ports,
            blocks_per_client: usize::from(blocks_per_client),
            layout,
        })
    }

    /// Takes the memory over, as its only writer: before the first mapping is made.
    pub fn start(&self) {
        if let Some([layout, round]) = self.region.u64s(0, 2) {
            layout.store(self.layout.word(), Relaxed);
            round.store(round.load(Relaxed).max(1), Relaxed);
        }
    }

    /// The round that is under way, whoever of those who share the memory goes on with it.
    #[inline]
    pub fn round(&self) -> u64 {
        self.header(word::ROUND).map_or(0, |round| round.load(Relaxed))
    }

    /// Begins another round: what is held from now on is held in it.
    pub(super) fn begin(&self) {
        if let Some(round) = self.header(word::ROUND) {
            round.store(round.load(Relaxed) + 1, Relaxed);
        }
    }

    #[inline]
    pub(super) fn header(&self, word: usize) -> Option<&AtomicU64> {
        self.region.u64s(word * 8, 1)?.first()
    }

    /// The external end of `internal` at an address of `pool`: the one that it has, or a new one from `now` (nanoseconds) on,
    /// on none of the ends that are `reserved`. It is held in this round.
    ///
    /// # Errors
    /// [`NoPort`].
    pub fn map(
        &self,
        internal: &Endpoint,
        pool: &Pool,
        now: u64,
        reserved: impl Fn(&Endpoint) -> bool,
    ) -> Result<Endpoint, NoPort> {
        if let Some(mapping) = self.mappings.find_internal(internal, |address| pool.contains(address)) {
            self.mappings.hold(mapping.number, self.round());
            return Ok(mapping.external);
        }
        let free =
            |external: &Endpoint| !reserved(external) && self.mappings.find_external(external).is_none();
        let external = match &self.blocks {
            None => self.choose(internal, pool, free),
            Some(blocks) => self.choose_in_blocks(blocks, internal, pool, now, free),
        };
        let external = external.ok_or(NoPort)?;
        self.mappings.insert(*internal, external, self.round(), now).map(|_| external).ok_or(NoPort)
    }

    /// A free end of the one address that this client has.
    fn choose(&self, internal: &Endpoint, pool: &Pool, free: impl Fn(&Endpoint) -> bool) -> Option<Endpoint> {
        let client = internal.host().hash(&self.hash_key);
        let at = internal.with_address(pool.tries(client, 1).next()?);
        if self.ports.contains(at.port()) && free(&at) {
            return Some(at);
        }
        let like = self.ports.like(at.port());
        let kinds = [Some(like), Some(self.ports.high()).filter(|high| *high != like)];
        let start = (internal.hash(&self.hash_key) >> 32) as u32;
        kinds.into_iter().flatten().find_map(|blocks| {
            let count = self.ports.count(blocks);
            parities(&at).into_iter().flatten().find_map(|parity| {
                probes(count, start, parity, TRIES)
                    .filter_map(|n| self.ports.nth(blocks, n))
                    .filter(|port| *port != 0)
                    .map(|port| at.with_port(port))
                    .find(|end| free(end))
            })
        })
    }

    /// A free end in the client's blocks, or in one more.
    fn choose_in_blocks(
        &self,
        blocks: &ClientBlocks,
        internal: &Endpoint,
        pool: &Pool,
        now: u64,
        free: impl Fn(&Endpoint) -> bool,
    ) -> Option<Endpoint> {
        let (client, protocol, port) = (internal.host(), internal.protocol(), internal.port());
        let mut held: [Option<Block>; super::block::MAX_BLOCKS] = [None; _];
        let mut count = 0;
        for (slot, block) in
            held.iter_mut().zip(blocks.of(&client).filter(|b| pool.contains(b.external.address())))
        {
            *slot = Some(block);
            count += 1;
        }
        let held = held.iter().flatten();
        let end = |block: &Block, port: u16| Endpoint::new(block.external.address(), port, protocol);
        let wanted = self.ports.block(port);
        let use_of = |block: &Block, external: Endpoint| {
            blocks.hold(block.number, self.round());
            external
        };
        // The same port, then one of the same kind and parity in a block that the client has.
        if let Some(block) = held.clone().find(|block| block.block == wanted)
            && port != 0
            && free(&end(block, port))
        {
            return Some(use_of(block, end(block, port)));
        }
        let size = u32::from(self.ports.size());
        let start = (internal.hash(&self.hash_key) >> 32) as u32;
        let search = |block: &Block| {
            if blocks.is_full(block.number, protocol, self.round()) {
                return None;
            }
            let first = u32::from(block.block) * size;
            let found = parities(internal).into_iter().flatten().find_map(|parity| {
                probes(size, start, parity, size)
                    .map(|place| end(block, (first + place) as u16))
                    .find(|external| external.port() != 0 && free(external))
            });
            if found.is_none() {
                blocks.set_full(block.number, protocol, self.round());
            }
            found.map(|external| use_of(block, external))
        };
        let like = self.ports.like(port);
        if let Some(external) = held.clone().filter(|b| like.contains(b.block)).find_map(search) {
            return Some(external);
        }
        if count < self.blocks_per_client
            && let Some(block) =
                self.another_block(blocks, &client, held.clone().next(), pool, wanted, like, now)
        {
            let same = end(&block, port);
            return if block.block == wanted && port != 0 && free(&same) {
                Some(use_of(&block, same))
            } else {
                search(&block)
            };
        }
        // Of the other kind, rather than none.
        held.clone().filter(|b| !like.contains(b.block)).find_map(search)
    }

    /// Gives a client one more block: at the address that it has, if it has one.
    #[allow(clippy::too_many_arguments, reason = "one caller, which has them all at hand")]
    fn another_block(
        &self,
        blocks: &ClientBlocks,
        client: &Endpoint,
        held: Option<&Block>,
        pool: &Pool,
        wanted: u16,
        like: &super::ports::Blocks,
        now: u64,
    ) -> Option<Block> {
        let hash = client.hash(&self.hash_key);
        let give = |address: IpAddr, block: u16| {
            let external = Endpoint::new(address, 0, 0);
            if blocks.holder(&external, block).is_some() {
                return None;
            }
            // First the log: after a kill in between it has an event too many, and none too few.
            self.log(now, client.address(), address, block, true);
            blocks.insert(client, &external, block, self.round(), now)
        };
        let at = |address: IpAddr| {
            let preferred = Some(wanted).filter(|block| like.contains(*block));
            let others = probes(like.count(), hash as u32, None, BLOCK_TRIES).filter_map(|n| like.nth(n));
            preferred.into_iter().chain(others).find_map(|block| give(address, block))
        };
        match held {
            Some(block) => at(block.external.address()),
            None => pool.tries(hash, ADDRESSES).find_map(at),
        }
    }

    fn log(&self, at: u64, client: IpAddr, external: IpAddr, block: u16, allocated: bool) {
        if let Some(log) = &self.log {
            let count = self.ports.size();
            log.write(&BlockEvent { at, client, external, first: block * count, count, allocated });
        }
    }

    /// The internal end that an external one stands for; it is held in this round.
    #[inline]
    pub fn internal(&self, external: &Endpoint) -> Option<Endpoint> {
        let mapping = self.mappings.find_external(external)?;
        self.mappings.hold(mapping.number, self.round());
        Some(mapping.internal)
    }

    /// A flow whose packets have the key `original`, and whose answers have the key `reply`, holds what it uses. An end that only a
    /// mapping can have made (`mapped`), and that has none, gets one at `now` (nanoseconds).
    pub fn hold(&self, original: &FlowKey, reply: &FlowKey, now: u64, mapped: impl Fn(&Endpoint) -> bool) {
        let ends = [
            (Endpoint::destination(reply), Endpoint::source(original), Endpoint::source(reply)),
            (Endpoint::destination(original), Endpoint::source(reply), Endpoint::source(original)),
        ];
        for (external, internal, remote) in ends {
            if external == internal {
                continue;
            }
            match self.mappings.find_external(&external) {
                Some(mapping) if mapping.internal == internal => {
                    self.mappings.hold(mapping.number, self.round());
                }
                None if mapped(&external) && self.restore(&internal, &external, now) => {}
                _ => continue,
            }
            if let Some(peers) = &self.peers {
                peers.hold(&external, &remote, self.round());
            }
        }
    }

    /// Makes the mapping anew that a flow goes by. False where that would take another's.
    #[cold]
    fn restore(&self, internal: &Endpoint, external: &Endpoint, now: u64) -> bool {
        if let Some(blocks) = &self.blocks {
            let block = self.ports.block(external.port());
            match blocks.holder(external, block) {
                Some(held) if held.client != internal.host() => return false,
                Some(_) => {}
                None => {
                    self.log(now, internal.address(), external.address(), block, true);
                    if blocks.insert(internal, external, block, self.round(), now).is_none() {
                        return false;
                    }
                }
            }
        }
        self.mappings.insert(*internal, *external, self.round(), now).is_some()
    }

    /// Ends a mapping unless it was held in this round; else its block is held as well.
    pub(super) fn review_mapping(&self, number: u32, ours: impl Fn(IpAddr) -> bool) {
        let held = self.mappings.held(number);
        let Some(mapping) = self.mappings.at(number) else { return };
        if held < self.round() || !ours(mapping.external.address()) {
            self.mappings.free(number);
        } else if let Some(blocks) = &self.blocks
            && let Some(block) = blocks.holder(&mapping.external, self.ports.block(mapping.external.port()))
        {
            blocks.hold(block.number, self.round());
        }
    }

    /// Takes a block back unless it was held in this round.
    pub(super) fn review_block(&self, number: u32, now: u64) {
        let Some(blocks) = &self.blocks else { return };
        let held = blocks.held(number);
        if held < self.round()
            && let Some(block) = blocks.at(number)
        {
            self.log(now, block.client.address(), block.external.address(), block.block, false);
            blocks.free(number);
        }
    }

    /// Forgets a pair unless it was held in this round.
    pub(super) fn review_peer(&self, number: u32) {
        if let Some(peers) = &self.peers {
            peers.expire(number, self.round());
        }
    }
}

/// The parities to try in turn: for UDP first the port's own, so that a pair of ports stays one (RFC 4787 §4.2.2).
fn parities(end: &Endpoint) -> [Option<Option<u32>>; 2] {
    match end.protocol() {
        protocol::UDP | protocol::UDP_LITE => {
            let parity = u32::from(end.port()) & 1;
            [Some(Some(parity)), Some(Some(parity ^ 1))]
        }
        _ => [Some(None), None],
    }
}

#[cfg(test)]
mod tests;
