//! A timing wheel: who is to be woken when.
//!
//! ```text
//!   level 0   64 slots of 1 tick       65.5 µs
//!   level 1   64 slots of 64 ticks      4.2 ms
//!   level 2   64 slots of 4,096 ticks   268 ms       … level 5: 19.5 h a slot, 51 days in all
//! ```
//!
//! Owns: the wakers of timers that run. Keeps true: a timer never fires before its time, and fires at the first
//! [`Wheel::advance`] to a tick after it, in the order of their ticks; inserting, cancelling and renewing take constant time
//! whatever the number of timers, and a timer moves down at most once a level. A timer farther off than the wheel reaches is
//! put at its end, and from there again.

use crate::time::Instant;
use std::task::Waker;

/// Nanoseconds of a tick, as a power of two: a timer is late by at most that. It is short enough for a pause between two
/// packets, and the levels reach past any protocol's timeout.
const TICK: u32 = 16;
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 6;
/// Ticks that the wheel reaches: all slots of its last level but one, as the current one is not a lap ahead.
const HORIZON: u64 = (SLOTS as u64 - 1) << (BITS * (LEVELS as u32 - 1));
/// No node.
const NONE: u32 = u32::MAX;

/// A timer that runs. It is its owner's until it fires or is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timer(u32);

#[derive(Debug)]
struct Node {
    /// The tick at which it fires; its node's slot may be an earlier one.
    due: u64,
    next: u32,
    before: u32,
    /// Level and slot, or [`FIRED`].
    place: u16,
    waker: Option<Waker>,
}

/// It has fired, and its owner has not seen that yet.
const FIRED: u16 = u16::MAX;

/// See the module.
#[derive(Debug)]
pub(crate) struct Wheel {
    nodes: Vec<Node>,
    free: u32,
    /// First and last node of each slot.
    slots: [[(u32, u32); SLOTS]; LEVELS],
    /// Slots that have a node.
    used: [u64; LEVELS],
    /// The tick up to which everything has fired.
    elapsed: u64,
    running: usize,
}

impl Wheel {
    /// Nothing runs, and it is `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            nodes: Vec::new(),
            free: NONE,
            slots: [[(NONE, NONE); SLOTS]; LEVELS],
            used: [0; LEVELS],
            elapsed: now.as_nanos() >> TICK,
            running: 0,
        }
    }

    /// Timers that have neither fired nor been cancelled.
    #[cfg(test)]
    fn running(&self) -> usize {
        self.running
    }

    /// Wakes `waker` once `due` has passed.
    pub(crate) fn insert(&mut self, due: Instant, waker: Waker) -> Timer {
        // The tick's end: never early. A time that has passed is the next tick's.
        let due = due.as_nanos().div_ceil(1 << TICK).max(self.elapsed + 1);
        let node = Node { due, next: NONE, before: NONE, place: FIRED, waker: Some(waker) };
        let index = if self.free == NONE {
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        } else {
            let index = self.free;
            self.free = self.nodes[index as usize].next;
            self.nodes[index as usize] = node;
            index
        };
        self.link(index);
        self.running += 1;
        Timer(index)
    }

    /// Another waker for a timer, which comes back when it is not needed: when it is the same, or the timer has fired.
    /// Else the old one does. (Dropping a waker may run anybody's code, which may want the wheel.)
    #[must_use]
    pub(crate) fn rewake(&mut self, timer: Timer, waker: Waker) -> Option<Waker> {
        let node = &mut self.nodes[timer.0 as usize];
        match &node.waker {
            Some(known) if !known.will_wake(&waker) => node.waker.replace(waker),
            _ => Some(waker),
        }
    }

    /// The timer's owner no longer wants it, fired or not. Its waker comes back, as in [`Wheel::rewake`].
    #[must_use]
    pub(crate) fn cancel(&mut self, timer: Timer) -> Option<Waker> {
        if self.nodes[timer.0 as usize].place != FIRED {
            self.unlink(timer.0);
            self.running -= 1;
        }
        let node = &mut self.nodes[timer.0 as usize];
        node.next = self.free;
        self.free = timer.0;
        node.waker.take()
    }

    /// Fires what is due by `now`: gives `due` its wakers. A clock that went back fires nothing.
    pub(crate) fn advance(&mut self, now: Instant, mut due: impl FnMut(Waker)) {
        let now = now.as_nanos() >> TICK;
        while let Some((level, slot, begin)) = self.next_slot()
            && begin <= now
        {
            self.elapsed = self.elapsed.max(begin);
            let mut index = self.slots[level][slot].0;
            self.slots[level][slot] = (NONE, NONE);
            self.used[level] &= !(1 << slot);
            while index != NONE {
                let node = &mut self.nodes[index as usize];
                let next = node.next;
                if node.due <= self.elapsed {
                    node.place = FIRED;
                    self.running -= 1;
                    if let Some(waker) = node.waker.take() {
                        due(waker);
                    }
                } else {
                    self.link(index);
                }
                index = next;
            }
        }
        self.elapsed = self.elapsed.max(now);
    }

    /// When [`Wheel::advance`] has something to do next; none while nothing runs.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next_slot().map(|(.., begin)| Instant::from_nanos(begin << TICK))
    }

    /// The next slot with a node, and the tick at which it begins.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        for level in 0..LEVELS {
            if self.used[level] == 0 {
                continue;
            }
            let shift = BITS * level as u32;
            let current = (self.elapsed >> shift) as u32 & (SLOTS as u32 - 1);
            let ahead = self.used[level].rotate_right(current).trailing_zeros();
            let slot = (current + ahead) as usize % SLOTS;
            // Slots behind the current one are the next lap's: only at the last level, whose end may lie there.
            let lap = self.elapsed >> (shift + BITS) << (shift + BITS);
            let lap = if slot < current as usize { lap + (1 << (shift + BITS)) } else { lap };
            return Some((level, slot, lap + ((slot as u64) << shift)));
        }
        None
    }

    /// Puts a node where its time says.
    fn link(&mut self, index: u32) {
        let due = self.nodes[index as usize].due.min(self.elapsed.saturating_add(HORIZON));
        // The highest group of bits in which it differs from now.
        let level = ((due ^ self.elapsed) | 1).ilog2() / BITS;
        let level = (level as usize).min(LEVELS - 1);
        let slot = (due >> (BITS * level as u32)) as usize % SLOTS;
        let last = self.slots[level][slot].1;
        let node = &mut self.nodes[index as usize];
        node.place = (level * SLOTS + slot) as u16;
        node.before = last;
        node.next = NONE;
        if last == NONE {
            self.slots[level][slot].0 = index;
            self.used[level] |= 1 << slot;
        } else {
            self.nodes[last as usize].next = index;
        }
        self.slots[level][slot].1 = index;
    }

    fn unlink(&mut self, index: u32) {
        let Node { next, before, place, .. } = self.nodes[index as usize];
        let (level, slot) = (usize::from(place) / SLOTS, usize::from(place) % SLOTS);
        if before == NONE {
            self.slots[level][slot].0 = next;
        } else {
            self.nodes[before as usize].next = next;
        }
        if next == NONE {
            self.slots[level][slot].1 = before;
        } else {
            self.nodes[next as usize].before = before;
        }
        if self.slots[level][slot].0 == NONE {
            self.used[level] &= !(1 << slot);
        }
    }
}

#[cfg(test)]
mod tests;
