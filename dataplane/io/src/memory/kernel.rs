//! The kernel's side of one end of a pair: the four rings, the copying, and the faults.
//!
//! Owns: the addresses in the rings; by them it has the frames that the worker gave. Refuses: entries for which a ring has
//! no room. Keeps true: no ring grows beyond its size, and a packet leaves only when there is room for its completion;
//! whatever else is injected, every frame comes back once: faults only add entries, or spoil a length.

use super::Config;
use super::faults::{Dice, Faults, Injected};
use super::wire::{Buffer, Wire};
use crate::device::Arrived;
use std::collections::VecDeque;
use zsync_packet::frame::HEADROOM;
use zsync_packet::ledger::Owner;
use zsync_packet::pool::Pool;

/// What the RX ring says of a packet: not to be trusted, as a kernel's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptor {
    pub(super) address: u64,
    pub(super) len: u32,
    /// It is a repetition. A reader goes on to it in the pass in which it reads the first one: a pass later the frame may
    /// rightly be the kernel's again, and no check could tell.
    pub(super) again: bool,
}

/// An entry of the TX ring. The bytes were copied at submission, since the frame's bytes are out of reach until it
/// completes; a sent frame does not change, so it makes no difference.
#[derive(Debug)]
struct Submitted {
    address: u64,
    packet: Option<Buffer>,
}

#[derive(Debug)]
pub(super) struct Kernel {
    sizes: Config,
    fill: VecDeque<u64>,
    rx: VecDeque<Descriptor>,
    tx: VecDeque<Submitted>,
    completion: VecDeque<u64>,
    out: Wire,
    into: Wire,
    faults: Faults,
    dice: Dice,
    injected: Injected,
}

impl Kernel {
    pub(super) fn new(sizes: Config, out: Wire, into: Wire) -> Self {
        Self {
            fill: VecDeque::with_capacity(sizes.fill as usize),
            rx: VecDeque::with_capacity(sizes.rx as usize),
            tx: VecDeque::with_capacity(sizes.tx as usize),
            completion: VecDeque::with_capacity(sizes.completion as usize),
            out,
            into,
            faults: sizes.faults,
            dice: Dice::new(sizes.faults.seed),
            injected: Injected::default(),
            sizes,
        }
    }

    pub(super) fn injected(&self) -> &Injected {
        &self.injected
    }

    pub(super) fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    pub(super) fn fill_room(&self) -> usize {
        self.sizes.fill as usize - self.fill.len()
    }

    pub(super) fn fill(&mut self, address: u64) {
        self.fill.push_back(address);
    }

    pub(super) fn take_completion(&mut self) -> Option<u64> {
        self.completion.pop_front()
    }

    pub(super) fn take_received(&mut self) -> Option<Descriptor> {
        self.rx.pop_front()
    }

    /// Whether the next entry of the RX ring repeats the one that was read last.
    pub(super) fn repeats(&self) -> bool {
        self.rx.front().is_some_and(|descriptor| descriptor.again)
    }

    /// Packets in the TX ring.
    pub(super) fn unsent(&self) -> usize {
        self.tx.len()
    }

    /// Packets on the way to the other end.
    pub(super) fn on_wire(&self) -> usize {
        self.out.len()
    }

    pub(super) fn arrived(&self) -> Arrived {
        // What lies on the wire would be in the RX ring already, if this kernel had a thread of its own.
        let room = (self.sizes.rx as usize - self.rx.len()).min(self.fill.len());
        let rx = self.rx.len() + self.into.len().min(room);
        Arrived { rx: rx as u32, completion: self.completion.len() as u32 }
    }

    /// How many packets the reader finds, of `want`.
    pub(super) fn most_to_read(&mut self, want: usize) -> usize {
        let there = self.rx.len().min(want);
        if there != 0 && self.dice.strike(self.faults.short_read) {
            self.injected.short_read += 1;
            return self.dice.below(there);
        }
        want
    }

    /// How many packets the TX ring takes, of `want`.
    pub(super) fn most_to_submit(&mut self, want: usize) -> usize {
        let room = (self.sizes.tx as usize - self.tx.len()).min(self.out.blanks()).min(want);
        if room != 0 && self.dice.strike(self.faults.tx_full) {
            self.injected.tx_full += 1;
            return 0;
        }
        room
    }

    /// Puts a packet into the TX ring: at most as many as [`Self::most_to_submit`] said.
    pub(super) fn submit(&mut self, address: u64, bytes: &[u8]) {
        let packet = self.out.blank().map(|mut buffer| {
            buffer.copy_from(bytes);
            buffer
        });
        self.tx.push_back(Submitted { address, packet });
    }

    /// Copies packets from the wire into frames of the fill ring, and their descriptors into the RX ring. Returns how many
    /// packets were not received: no frame of this arena is long enough, or the pool is not the one that gave the frames.
    pub(super) fn receive(&mut self, pool: &mut Pool) -> u64 {
        let longest = pool.arena().frame_size().longest_packet();
        let mut refused = 0;
        while self.rx.len() < self.sizes.rx as usize
            && let Some(&address) = self.fill.front()
            && let Some(buffer) = self.into.take()
        {
            if buffer.bytes().len() > longest {
                refused += 1;
                self.into.recycle(buffer);
                continue;
            }
            self.fill.pop_front();
            match write(pool, address, buffer.bytes()) {
                Some(descriptor) => self.deliver(descriptor),
                None => refused += 1,
            }
            self.into.recycle(buffer);
        }
        refused
    }

    fn deliver(&mut self, mut descriptor: Descriptor) {
        if self.dice.strike(self.faults.too_long) {
            self.injected.too_long += 1;
            descriptor.len = u32::MAX - self.dice.below(1 << 16) as u32;
        }
        self.rx.push_back(descriptor);
        let room = |rx: &VecDeque<_>| rx.len() < self.sizes.rx as usize;
        if room(&self.rx) && self.dice.strike(self.faults.repeated_descriptor) {
            self.injected.repeated_descriptors += 1;
            self.rx.push_back(Descriptor { again: true, ..descriptor });
        }
        if room(&self.rx) && self.dice.strike(self.faults.foreign_descriptor) {
            self.injected.foreign_descriptors += 1;
            self.rx.push_back(Descriptor { address: foreign(&mut self.dice), len: 60, again: false });
        }
    }

    /// Puts on the wire what is in the TX ring, as far as the wire and the completion ring have room.
    pub(super) fn transmit(&mut self) {
        while self.completion.len() < self.sizes.completion as usize && self.out.room() != 0 {
            self.let_one_overtake();
            let Some(Submitted { address, packet }) = self.tx.pop_front() else { return };
            self.complete(address);
            if let Some(packet) = packet {
                self.put(packet);
            }
        }
    }

    fn let_one_overtake(&mut self) {
        let behind = self.tx.len().saturating_sub(1).min(7);
        if behind != 0 && self.dice.strike(self.faults.reorder) {
            self.injected.reordered += 1;
            let faster = 1 + self.dice.below(behind);
            if let Some(first) = self.tx.remove(faster) {
                self.tx.push_front(first);
            }
        }
    }

    fn complete(&mut self, address: u64) {
        self.completion.push_back(address);
        let room = |completion: &VecDeque<_>| completion.len() < self.sizes.completion as usize;
        if room(&self.completion) && self.dice.strike(self.faults.repeated_completion) {
            self.injected.repeated_completions += 1;
            self.completion.push_back(address);
        }
        if room(&self.completion) && self.dice.strike(self.faults.foreign_completion) {
            self.injected.foreign_completions += 1;
            self.completion.push_back(foreign(&mut self.dice));
        }
        if let Some(&filled) = self.fill.back()
            && room(&self.completion)
            && self.dice.strike(self.faults.unsent_completion)
        {
            self.injected.unsent_completions += 1;
            self.completion.push_back(filled);
        }
    }

    fn put(&mut self, mut packet: Buffer) {
        if self.dice.strike(self.faults.loss) {
            self.injected.lost += 1;
            self.out.recycle(packet);
            return;
        }
        if packet.bytes().len() > 1 && self.dice.strike(self.faults.truncate) {
            self.injected.truncated += 1;
            let len = 1 + self.dice.below(packet.bytes().len() - 1);
            packet.truncate(len);
        }
        if !packet.bytes().is_empty() && self.dice.strike(self.faults.corrupt) {
            self.injected.corrupted += 1;
            let bit = self.dice.below(packet.bytes().len() * 8);
            packet.bytes_mut()[bit / 8] ^= 1 << (bit % 8);
        }
        if self.out.room() > 1
            && self.dice.strike(self.faults.duplicate)
            && let Some(mut twin) = self.out.blank()
        {
            self.injected.duplicated += 1;
            twin.copy_from(packet.bytes());
            self.out.put(twin);
        }
        self.out.put(packet);
    }
}

/// Writes a packet into the frame at `address`, as a kernel writes into memory that it was lent.
fn write(pool: &mut Pool, address: u64, bytes: &[u8]) -> Option<Descriptor> {
    let (number, _) = pool.arena().locate(address)?;
    let mut frame = pool.take(number, Owner::Fill).ok()?;
    let room = pool.arena().bytes_mut(&mut frame, HEADROOM as u16, bytes.len() as u16);
    if room.len() == bytes.len() {
        room.copy_from_slice(bytes);
    }
    pool.give(frame, Owner::Fill);
    Some(Descriptor { address: address + HEADROOM as u64, len: bytes.len() as u32, again: false })
}

/// An address that is in no arena: they end at 2³⁶ (2²⁴ frames of 4 KiB).
fn foreign(dice: &mut Dice) -> u64 {
    1 << 63 | dice.next()
}
