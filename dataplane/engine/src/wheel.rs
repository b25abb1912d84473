//! A timing wheel: packets that leave later, each at its time.
//!
//! ```text
//!   level 0   256 slots of 1 tick        ticks of the block that is now
//!   level 1   256 slots of 256 ticks     blocks to come, each poured into level 0 when its time begins
//!   level 2   256 slots of 65,536 ticks  the same for level 1; 17 s in all
//! ```
//!
//! Owns: the packets in it, and on the ledger they are `Held`. Refuses: a packet beyond its capacity (handed back). Keeps true:
//! a packet is not let out before its time, and packets of the same tick come out in the order in which they went in; nothing
//! is allocated after [`Wheel::new`]. Putting in and taking out take constant time, whatever the number of packets: a packet
//! is poured at most twice, and empty slots are skipped by a bit map.
//!
//! Time that stands or goes back lets nothing out. A packet whose time is past comes out next.

use zsync_packet::burst::Packet;
use zsync_packet::pool::Pool;
use zsync_packet::verdict::PortId;
use zsync_pipelines::stages::shape::TICK;

/// Slots of a level.
const SLOTS: usize = 256;
/// Bits of a tick that a level tells apart.
const BITS: u32 = SLOTS.trailing_zeros();
const LEVELS: usize = 3;
/// Words of a level's bit map.
const MAP: usize = SLOTS / 64;
/// The longest that a packet is kept, in ticks. One slot of the last level is the current one, so it is a lap and no more.
const HORIZON: u64 = (SLOTS as u64 - 1) << (BITS * (LEVELS as u32 - 1));
/// No node.
const NONE: u32 = u32::MAX;

/// A packet that waits, or a free place.
#[derive(Debug)]
struct Node {
    /// When it is due, in ticks.
    due: u64,
    packet: Option<Packet>,
    output: PortId,
    next: u32,
}

/// Nodes in the order in which they went in.
#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

impl List {
    const EMPTY: Self = Self { first: NONE, last: NONE };
}

/// See the module.
#[derive(Debug)]
pub struct Wheel {
    /// Never longer than its first allocation.
    nodes: Vec<Node>,
    capacity: usize,
    free: u32,
    len: usize,
    /// The tick that the wheel has come to: everything due before it is out.
    now: u64,
    slots: Vec<[List; SLOTS]>,
    /// Which slots have packets.
    maps: [[u64; MAP]; LEVELS],
}

impl Wheel {
    /// An empty wheel for so many packets: 32 bytes each, which are first touched when they are needed, and 6 KiB.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.min(NONE as usize);
        let slots = vec![[List::EMPTY; SLOTS]; LEVELS];
        let nodes = Vec::with_capacity(capacity);
        Self { nodes, capacity, free: NONE, len: 0, now: 0, slots, maps: Default::default() }
    }

    /// Packets in it.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keeps a packet until `delay` ns after `now`, 17 s at most; on the ledger it is held.
    ///
    /// # Errors
    /// The packet itself, when as many wait as may.
    #[inline]
    pub fn hold(
        &mut self,
        pool: &Pool,
        packet: Packet,
        output: PortId,
        now: u64,
        delay: u64,
    ) -> Result<(), Packet> {
        if self.free == NONE && self.nodes.len() < self.capacity {
            self.free = self.nodes.len() as u32;
            self.nodes.push(Node { due: 0, packet: None, output, next: NONE });
        }
        let number = self.free;
        let Some(node) = self.nodes.get_mut(number as usize) else { return Err(packet) };
        self.free = node.next;
        pool.hold(&packet.frame);
        if self.len == 0 {
            self.now = self.now.max(now / TICK);
        }
        let due = now.saturating_add(delay).div_ceil(TICK).clamp(self.now, self.now.saturating_add(HORIZON));
        (node.due, node.packet, node.output) = (due, Some(packet), output);
        self.len += 1;
        self.put(number, due);
        Ok(())
    }

    /// The next packet that is due at `now` (ns), and the port that it leaves by; it is the worker's again.
    #[inline]
    pub fn release(&mut self, pool: &Pool, now: u64) -> Option<(Packet, PortId)> {
        if self.len == 0 {
            return None;
        }
        let due = self.next_due(pool, now / TICK);
        if due.is_none() {
            // No slot begins in between, so none is passed over.
            self.now = self.now.max(now / TICK);
        }
        due
    }

    /// Any packet, due or not, in the order of their times: for a worker that ends.
    pub fn flush(&mut self, pool: &Pool) -> Option<(Packet, PortId)> {
        self.next_due(pool, u64::MAX)
    }

    /// When to look again, in nanoseconds: no packet is due before. None when there is none.
    pub fn next_time(&self) -> Option<u64> {
        self.soonest().map(|(_, _, tick)| tick.saturating_mul(TICK))
    }

    fn next_due(&mut self, pool: &Pool, target: u64) -> Option<(Packet, PortId)> {
        while let Some((level, slot, tick)) = self.soonest() {
            if tick > target {
                break;
            }
            self.now = self.now.max(tick);
            if level == 0 {
                return self.take(pool, slot);
            }
            self.pour(level, slot);
        }
        None
    }

    /// The first slot with packets, and when it begins. Lower levels come first: all their slots lie in the current slot of
    /// the next one.
    #[inline]
    fn soonest(&self) -> Option<(usize, usize, u64)> {
        for (level, map) in self.maps.iter().enumerate() {
            let shift = BITS * level as u32;
            let current = (self.now >> shift) as usize % SLOTS;
            if let Some(ahead) = first_from(map, current) {
                let tick = ((self.now >> shift) + ahead as u64) << shift;
                return Some((level, (current + ahead) % SLOTS, tick.max(self.now)));
            }
        }
        None
    }

    /// Links a node in, into the level whose slots tell its time from now.
    #[inline]
    fn put(&mut self, number: u32, due: u64) {
        let differ = due ^ self.now;
        let level = match differ >> BITS {
            0 => 0,
            more if more >> BITS == 0 => 1,
            _ => LEVELS - 1,
        };
        let slot = (due >> (BITS * level as u32)) as usize % SLOTS;
        if let Some(node) = self.nodes.get_mut(number as usize) {
            node.next = NONE;
        }
        let list = &mut self.slots[level][slot];
        match self.nodes.get_mut(list.last as usize) {
            Some(last) => last.next = number,
            None => list.first = number,
        }
        list.last = number;
        self.maps[level][slot / 64] |= 1 << (slot % 64);
    }

    /// Spreads a slot over the levels below.
    fn pour(&mut self, level: usize, slot: usize) {
        let list = std::mem::replace(&mut self.slots[level][slot], List::EMPTY);
        self.maps[level][slot / 64] &= !(1 << (slot % 64));
        let mut next = list.first;
        while let Some(node) = self.nodes.get(next as usize) {
            let (number, due) = (next, node.due);
            next = node.next;
            self.put(number, due);
        }
    }

    #[inline]
    fn take(&mut self, pool: &Pool, slot: usize) -> Option<(Packet, PortId)> {
        let list = &mut self.slots[0][slot];
        let number = list.first;
        let node = self.nodes.get_mut(number as usize)?;
        list.first = node.next;
        if node.next == NONE {
            list.last = NONE;
            self.maps[0][slot / 64] &= !(1 << (slot % 64));
        }
        node.next = self.free;
        self.free = number;
        self.len -= 1;
        let packet = node.packet.take()?;
        pool.adopt(&packet.frame);
        Some((packet, node.output))
    }
}

/// How far ahead of bit `from` the first set bit is, going round.
#[inline]
fn first_from(map: &[u64; MAP], from: usize) -> Option<usize> {
    let (word, bit) = (from / 64, from % 64);
    // The first word twice: its upper bits first, its lower ones last.
    for step in 0..=MAP {
        let at = (word + step) % MAP;
        let bits = match step {
            0 => map[at] >> bit << bit,
            MAP => map[at] & ((1 << bit) - 1),
            _ => map[at],
        };
        if bits != 0 {
            return Some((at * 64 + bits.trailing_zeros() as usize + SLOTS - from) % SLOTS);
        }
    }
    None
}

#[cfg(debug_assertions)]
impl Drop for Wheel {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.len != 0 {
            panic!("a wheel was dropped with {} packets: their pool has lost them", self.len);
        }
    }
}

#[cfg(test)]
mod tests;
