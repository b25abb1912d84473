//! Sessions as packets meet them: which one seals, which one opens, and what is noted of it.
//!
//! Owns: nothing. Refuses: sessions that are too old or have sent too much, counters that came before. Keeps true: nothing is
//! noted of a packet before it was authentic.

use crate::book::{Book, Peers};
use crate::record::{Record, Role};
use crate::room::Room;
use crate::timers::{self, REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME};

/// Why a data message is not opened, or not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No session has this index.
    Unknown,
    /// Its session has come to its end.
    Expired,
    /// Its counter came before, or is too far behind.
    Replayed,
}

/// The session that a peer is sent to in at `now`; `None`: there is none, or not any more.
#[inline]
pub fn sending<'b>(record: &Record<'b>, now: u64) -> Option<Room<'b>> {
    record.session(Role::Current).filter(|room| {
        now.saturating_sub(room.since()) < REJECT_AFTER_TIME && room.next_counter() < REJECT_AFTER_MESSAGES
    })
}

/// A session that something came in.
#[derive(Clone, Copy, Debug)]
pub struct Receiving<'b> {
    /// The peer's slot.
    pub slot: u32,
    /// The peer's record.
    pub record: Record<'b>,
    /// What the session is to the peer.
    pub role: Role,
    /// The session.
    pub room: Room<'b>,
}

impl<'b> Receiving<'b> {
    /// The session with our index `index`, at `now`.
    ///
    /// # Errors
    /// There is none, or it is too old.
    #[inline]
    pub fn find(book: &'b Book, peers: &Peers, index: u32, now: u64) -> Result<Self, Refused> {
        let slot = book.indices().find(index).0;
        let record = peers.record(book, slot).ok_or(Refused::Unknown)?;
        let (role, room) = record.by_index(index).ok_or(Refused::Unknown)?;
        if now.saturating_sub(room.since()) >= REJECT_AFTER_TIME {
            return Err(Refused::Expired);
        }
        Ok(Self { slot, record, role, room })
    }

    /// Whether a message with this counter is worth opening.
    ///
    /// # Errors
    /// It came before, or none may have it.
    #[inline]
    pub fn admit(&self, counter: u64) -> Result<(), Refused> {
        if counter >= REJECT_AFTER_MESSAGES {
            Err(Refused::Expired)
        } else if self.room.window().would_take(counter) {
            Ok(())
        } else {
            Err(Refused::Replayed)
        }
    }

    /// Takes a message that was authentic. True: it is the first in a session that the peer began, which is the current one now.
    ///
    /// # Errors
    /// Another message with its counter was taken first.
    #[inline]
    pub fn take(&self, counter: u64) -> Result<bool, Refused> {
        if !self.room.window().take(counter) {
            return Err(Refused::Replayed);
        }
        let first = self.role == Role::Next
            && self.record.session(Role::Next).map(|room| room.index()) == Some(self.room.index());
        if first {
            self.record.promote();
        }
        Ok(first)
    }

    /// Notes what came in it: `data`, or nothing but messages that are empty; bytes of all.
    #[inline]
    pub fn note(&self, data: bool, bytes: u64, now: u64) {
        timers::came(&self.record, data, bytes, now);
    }
}
