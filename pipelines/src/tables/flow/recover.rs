//! Finishing what a predecessor was killed in.
//!
//! Every change that takes several stores is announced: what is done, to which flow, and what the counts were. Owns: the
//! announcement. Keeps true: [`Flows::recover`] makes the table what it is before or after the change, wherever the change
//! was cut off; and so it does when it is cut off itself.

use super::layout::word;
use super::record::{FlowId, bit};
use super::table::Flows;
use std::sync::atomic::{Ordering::SeqCst, compiler_fence};

/// What is being done to a flow. The numbers lie in shared memory; 0 is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Change {
    Create = 1,
    Remove = 2,
    /// It changes between weak and not, half open and not.
    Settle = 3,
    Translate = 4,
}

impl Change {
    fn from_number(number: u8) -> Option<Self> {
        [Self::Create, Self::Remove, Self::Settle, Self::Translate].into_iter().find(|c| *c as u8 == number)
    }
}

/// The bits that are counted, as an announcement has them: two bits.
fn counted(bits: u64) -> u64 {
    u64::from(bits & bit::WEAK != 0) | u64::from(bits & bit::HALF_OPEN != 0) << 1
}

impl Flows {
    /// Announces a change to flow `id`, whose bits are `before` (0 for one that is not there yet).
    pub(super) fn announce(&self, change: Change, id: FlowId, before: u64, source: (u32, u32)) {
        self.set_header(word::OLD_COUNTS, self.header(word::COUNTS));
        self.set_header(word::OLD_SOURCE, u64::from(source.0) | u64::from(source.1) << 32);
        self.set_header(word::INTENT, (change as u64) << 56 | counted(before) << 48 | u64::from(id.0));
        // What is stored from here on must not be stored before: a kill comes between two instructions.
        compiler_fence(SeqCst);
    }

    /// The change is done.
    pub(super) fn done(&self) {
        compiler_fence(SeqCst);
        self.set_header(word::INTENT, 0);
    }

    /// Makes the counts what they are when a flow's bits go from `before` to `after`.
    pub(super) fn recount(&self, old: u64, before: u64, after: u64) {
        let (before, after) = (counted(before), counted(after));
        let change = |count: u32, bit: u64| {
            let (was, is) = ((before >> bit & 1) as u32, (after >> bit & 1) as u32);
            u64::from(count.wrapping_sub(was).wrapping_add(is))
        };
        let counts = change(old as u32, 0) | change((old >> 32) as u32, 1) << 32;
        self.set_header(word::COUNTS, counts);
    }

    /// Finishes what the last writer was killed in, if it was. To be called once by each new writer, before anything else, and
    /// never beside another. A few hundred nanoseconds at most.
    pub fn recover(&self) {
        let intent = self.header(word::INTENT);
        let Some(change) = Change::from_number((intent >> 56) as u8) else {
            self.done();
            return;
        };
        let id = FlowId(intent as u32);
        let Some(hot) = self.hot(id) else {
            self.done();
            return;
        };
        let key = hot.key();
        match change {
            Change::Create if hot.life() != 0 => {
                let hash = self.hash(&key);
                let known = self.index.find(hash, |number| number == id.0).is_some();
                if !known && self.index.insert(hash, id.0).is_err() {
                    self.records.free(id.0);
                }
            }
            Change::Remove => {
                self.unlink(id);
                self.records.free(id.0);
            }
            Change::Translate if hot.life() != 0 => {
                if let Some(reply) = self.translation(id) {
                    let hash = self.hash(&reply);
                    let known = self.index.find(hash, |number| number == id.0).is_some();
                    if !known && self.index.insert(hash, id.0).is_err() {
                        hot.set_translation(0); // the sweep finds the record
                    }
                }
            }
            _ => {}
        }
        let live = hot.life() != 0;
        let before = match intent >> 48 & 3 {
            0 => 0,
            1 => bit::WEAK,
            2 => bit::HALF_OPEN,
            _ => bit::COUNTED,
        };
        self.recount(self.header(word::OLD_COUNTS), before, if live { hot.bits() } else { 0 });
        if matches!(change, Change::Create | Change::Remove) {
            let old = self.header(word::OLD_SOURCE);
            let (was, is) = (u32::from(change == Change::Remove), u32::from(live));
            let new = |count: u32| count.wrapping_sub(was).wrapping_add(is);
            self.sources
                .set(self.sources.slots(&key, &self.secret), (new(old as u32), new((old >> 32) as u32)));
        }
        self.done();
    }
}
