//! Looks at the timers of a desk's peers, in turn.
//!
//! Owns: whose turn it is, and whose handshake is due. Keeps true: all peers are looked at within [`ROUND`]; who is due has its turn by its slot, so
//! nobody is left out, however many are; messages that wait are read in turn with that, and no more than a thousand are begun a second.

use super::{Action, Desk, OUTBOX, PACE};
use crate::record::{Fact, Role};
use crate::timers::{self, Due};
use std::collections::BTreeSet;

/// All peers' timers are looked at within so many nanoseconds.
const ROUND: u64 = 200_000_000;
/// Peers whose timers are looked at together at most.
const LOOKS: u64 = 256;

/// See the module.
pub(super) struct Looks {
    /// The slot whose timers are looked at next, and how far in time the looks are.
    cursor: u32,
    until: u64,
    /// Slots whose timers ask for a handshake.
    pub(super) due: BTreeSet<u32>,
    /// Where in those the next one is, and that it is begun no sooner than then.
    next: u32,
    after: u64,
    /// The last handshake was one of these: a message that waits is next.
    pub(super) had_turn: bool,
}

impl Looks {
    /// None has been looked at, `now`.
    pub(super) fn from(now: u64) -> Self {
        Self { cursor: 0, until: now, due: BTreeSet::new(), next: 0, after: 0, had_turn: false }
    }
}

impl Desk {
    /// Begins the handshake of the next of those whose timers asked for one, if they still do. False: nobody's did, or it is not their turn.
    pub(super) fn begin_due(&mut self, now: u64, unix: u64) -> bool {
        let Looks { due, next, after, .. } = &mut self.looks;
        if now < *after {
            return false;
        }
        let Some(slot) = due.range(*next..).next().or_else(|| due.first()).copied() else { return false };
        due.remove(&slot);
        *next = slot.saturating_add(1);
        if self.due(slot, now) != Due::Handshake {
            return true;
        }
        let Some(record) = self.peers.record(&self.book, slot) else { return true };
        let late = record.session(Role::Current).is_some_and(|room| room.is_ours());
        if self.initiate(slot, now, unix) {
            (self.looks.after, self.looks.had_turn) = (now + 2 * PACE, true);
            if let Some(record) = self.peers.record(&self.book, slot) {
                record.set(Fact::LastMinute, u64::from(late));
            }
        }
        true
    }

    fn due(&self, slot: u32, now: u64) -> Due {
        let Some(peer) = self.peers.peer(slot) else { return Due::Nothing };
        let Some(record) = self.peers.record(&self.book, slot) else { return Due::Nothing };
        let spread = (slot ^ (now >> 33) as u32).wrapping_mul(0x9e37_79b1);
        timers::due(&record, self.trying.contains_key(&slot), peer.keepalive, spread, now)
    }

    /// Looks at the timers of the next peers, as many as are due to be looked at. False: there are none.
    pub(super) fn look(&mut self, now: u64) -> bool {
        let slots = u64::from(self.book.slots()).div_ceil(self.workers as u64).max(1);
        let each = (ROUND / slots).max(1);
        let due = (now.saturating_sub(self.looks.until) / each).min(slots);
        if due == 0 {
            return false;
        }
        let looks = due.min(LOOKS);
        // Who was away for long does not look twice for that.
        self.looks.until = if due == slots { now } else { self.looks.until + looks * each };
        for _ in 0..looks {
            let slot = self.looks.cursor * self.workers as u32 + self.worker as u32;
            self.looks.cursor =
                if u64::from(self.looks.cursor) + 1 >= slots { 0 } else { self.looks.cursor + 1 };
            self.look_at(slot, now);
        }
        true
    }

    fn look_at(&mut self, slot: u32, now: u64) {
        let Some(peer) = self.peers.peer(slot) else { return };
        let Some(record) = self.peers.record(&self.book, slot) else { return };
        if record.is_called_back() {
            record.heed(peer.endpoint);
        }
        let action = match self.due(slot, now) {
            Due::Nothing => return,
            Due::Handshake => {
                if self.may_begin(slot, now).is_some() {
                    self.looks.due.insert(slot);
                }
                return;
            }
            Due::Keepalive => Action::Keepalive(slot),
            Due::GiveUp => {
                self.trying.remove(&slot);
                record.set(Fact::InitiatedFirst, 0);
                record.set(Fact::SentUnanswered, 0);
                Action::GiveUp(slot)
            }
            Due::Forget => return record.end_all(),
        };
        if self.outbox.len() < OUTBOX {
            self.outbox.push_back(action);
        }
    }
}
