//! What is kept of a peer, in memory that outlives the process.
//!
//! ```text
//!   words  0 tag    1 roles    2 generation    3..7 public key    7 turns of the endpoint    8..10 its address    10 its port
//!          11..13 our address    13.. times and counts    28 calls back, 29 those that were heeded    40.. three rooms for sessions
//! ```
//!
//! Owns: nothing; it is a view. Has one writer, the worker that owns the peer, but for the calls back, a word of whoever else maps the
//! memory. Refuses: a record whose tag is another's. Keeps true, also when the
//! writer is killed at any instruction: roles name rooms that are whole, and at most three of them.

mod endpoint;

pub use endpoint::Endpoint;

use crate::key::{KEY_LEN, PublicKey};
use crate::noise::{Keys, Stamp};
use crate::room::{ROOM_WORDS, Room};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Words of a record: three rooms behind what is known of the peer, to a whole cache line.
pub const RECORD_WORDS: usize = (ROOMS_AT + ROOMS * ROOM_WORDS).next_multiple_of(8);
/// Bytes of a record.
pub const RECORD_BYTES: usize = RECORD_WORDS * 8;

const ROOMS: usize = 3;
const ROOMS_AT: usize = 40;

const TAG: usize = 0;
const ROLES: usize = 1;
const GENERATION: usize = 2;
const PUBLIC: usize = 3;
const STAMP: usize = 13;
const COUNTS: usize = 16;

/// A number that is kept of a peer, single words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Fact {
    /// When anything authentic was sent last; all times in nanoseconds of the monotonic clock, 0: never.
    Sent = COUNTS,
    /// When anything authentic came last.
    Came,
    /// When data were sent first since anything came.
    SentUnanswered,
    /// When data came first since anything was sent.
    CameUnanswered,
    /// When we sent an initiation last.
    Initiated,
    /// When we sent the first initiation of those that were not answered.
    InitiatedFirst,
    /// When an initiation came last.
    WasInitiated,
    /// When the last handshake was done, in nanoseconds since 1970.
    Handshake,
    /// Bytes that came, as they were on the way but for IP and UDP headers.
    RxBytes,
    /// Bytes that were sent, in the same way.
    TxBytes,
    /// 1 once a handshake was begun in the last moments of this session.
    LastMinute,
    /// The stamp of our last initiation, in nanoseconds since 1970.
    OurStamp,
}

const _: () = assert!((Fact::OurStamp as usize) < endpoint::CALLS && endpoint::HEEDED < ROOMS_AT);
const _: () = assert!(RECORD_BYTES <= 4096 - 256, "with what a process keeps beside it, 4 KiB a peer");

/// What a session is to its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Data are sent in it.
    Current,
    /// Data may still come in it.
    Previous,
    /// The peer began it and has not used it yet.
    Next,
}

/// Rooms by role: 0 is none, else the room's number plus one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Roles {
    current: u8,
    previous: u8,
    next: u8,
}

impl Roles {
    #[inline]
    fn of(word: u64) -> Self {
        let [current, previous, next, ..] = word.to_le_bytes();
        Self { current, previous, next }
    }

    fn word(self) -> u64 {
        u64::from_le_bytes([self.current, self.previous, self.next, 0, 0, 0, 0, 0])
    }

    /// A room that has no role.
    fn free(self) -> u8 {
        let taken = [self.current, self.previous, self.next];
        (1..=ROOMS as u8).find(|room| !taken.contains(room)).unwrap_or(self.previous)
    }
}

/// A peer's record. See the module.
#[derive(Clone, Copy)]
pub struct Record<'a>(&'a [AtomicU64; RECORD_WORDS]);

/// Without its words, some of which are keys.
impl std::fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Record({})", self.public())
    }
}

impl<'a> Record<'a> {
    /// Over these words.
    #[inline]
    pub(crate) fn over(words: &'a [AtomicU64]) -> Option<Self> {
        words.first_chunk().map(Self)
    }

    /// Whose it is: 0, nobody's.
    #[inline]
    pub fn tag(&self) -> u64 {
        self.0[TAG].load(Acquire)
    }

    /// The peer's public key.
    pub fn public(&self) -> PublicKey {
        let mut key = [0; KEY_LEN];
        for (bytes, word) in key.as_chunks_mut::<8>().0.iter_mut().zip(&self.0[PUBLIC..PUBLIC + 4]) {
            *bytes = word.load(Relaxed).to_le_bytes();
        }
        PublicKey(key)
    }

    /// Gives the record to a peer, with nothing known of it.
    pub(crate) fn give(&self, tag: u64, public: &PublicKey) {
        self.0[TAG].store(0, Release);
        self.0[1..].iter().for_each(|word| word.store(0, Relaxed));
        for (word, bytes) in self.0[PUBLIC..PUBLIC + 4].iter().zip(public.0.as_chunks::<8>().0) {
            word.store(u64::from_le_bytes(*bytes), Relaxed);
        }
        self.0[TAG].store(tag, Release);
    }

    /// Takes it from its peer, and wipes the keys.
    pub(crate) fn take(&self) {
        self.0.iter().for_each(|word| word.store(0, Release));
    }

    /// Makes this record, which is nobody's, the other one as it is now: nobody writes that any more. Killed meanwhile, it is nobody's.
    pub(crate) fn carry(&self, other: &Record<'_>) {
        // First of all: the other may be this one, mapped twice.
        let tag = other.tag();
        self.0[TAG].store(0, Release);
        for (to, from) in self.0.iter().zip(other.0).skip(1) {
            to.store(from.load(Acquire), Relaxed);
        }
        self.0[TAG].store(tag, Release);
    }

    /// A number.
    #[inline]
    pub fn fact(&self, fact: Fact) -> u64 {
        self.0[fact as usize].load(Relaxed)
    }

    /// Writes a number.
    #[inline]
    pub fn set(&self, fact: Fact, value: u64) {
        self.0[fact as usize].store(value, Relaxed);
    }

    /// Adds to a number.
    #[inline]
    pub fn add(&self, fact: Fact, value: u64) {
        self.set(fact, self.fact(fact).wrapping_add(value));
    }

    /// The next generation of the peer's sessions.
    pub(crate) fn next_generation(&self) -> u32 {
        let generation = self.0[GENERATION].load(Relaxed).wrapping_add(1);
        self.0[GENERATION].store(generation, Relaxed);
        generation as u32
    }

    /// The greatest stamp of the peer's initiations.
    pub(crate) fn stamp(&self) -> Stamp {
        let [high, low] = [STAMP, STAMP + 1].map(|at| self.0[at].load(Relaxed));
        let mut stamp = [0; 12];
        stamp[..8].copy_from_slice(&high.to_be_bytes());
        // The high half of the word is empty.
        stamp[8..].copy_from_slice(&(low as u32).to_be_bytes());
        stamp
    }

    pub(crate) fn set_stamp(&self, stamp: &Stamp) {
        let (high, low) = stamp.split_at(8);
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        // Killed in between, the record has a stamp that is too great by less than a second, never one that is too small.
        self.0[STAMP].store(number(high), Release);
        self.0[STAMP + 1].store(number(low), Release);
    }

    #[inline]
    fn roles(&self) -> Roles {
        Roles::of(self.0[ROLES].load(Acquire))
    }

    fn set_roles(&self, roles: Roles) {
        self.0[ROLES].store(roles.word(), Release);
    }

    /// The room of this number, counted from one, if there is a session in it.
    #[inline]
    fn room(&self, number: u8) -> Option<Room<'a>> {
        let at = ROOMS_AT + usize::from(number.checked_sub(1)?) * ROOM_WORDS;
        self.0.get(at..at + ROOM_WORDS).and_then(Room::over)
    }

    /// The session of a role.
    #[inline]
    pub fn session(&self, role: Role) -> Option<Room<'a>> {
        let roles = self.roles();
        let number = match role {
            Role::Current => roles.current,
            Role::Previous => roles.previous,
            Role::Next => roles.next,
        };
        self.room(number).filter(Room::is_valid)
    }

    /// The session with our index `index`.
    #[inline]
    pub fn by_index(&self, index: u32) -> Option<(Role, Room<'a>)> {
        let roles = self.roles();
        [(Role::Current, roles.current), (Role::Next, roles.next), (Role::Previous, roles.previous)]
            .into_iter()
            .find_map(|(role, number)| {
                let room = self.room(number)?;
                (room.index() == Some(index)).then_some((role, room))
            })
    }

    /// A handshake is done: its session takes its place, as the kernel's does (noise.c, add_new_keypair). One that we began is
    /// in use at once; another one waits until the peer uses it, which shows that it has our answer.
    pub fn install(&self, keys: &Keys, index: u32, remote: u32, ours: bool, now: u64) {
        let was = self.roles();
        // Whoever loses its place loses it first, so that there is a room.
        let kept = if ours {
            let previous = if was.next != 0 { was.next } else { was.current };
            Roles { current: was.current, previous, next: 0 }
        } else {
            Roles { current: was.current, previous: 0, next: 0 }
        };
        self.set_roles(kept);
        let free = kept.free();
        if let Some(room) = self.room(free) {
            room.fill(keys, index, remote, ours, now);
        }
        self.set_roles(if ours { Roles { current: free, ..kept } } else { Roles { next: free, ..kept } });
        self.clear_unused();
        self.set(Fact::LastMinute, 0);
    }

    /// The peer has used its next session: that is the current one now.
    pub(crate) fn promote(&self) {
        let was = self.roles();
        if was.next != 0 {
            self.set_roles(Roles { current: was.next, previous: was.current, next: 0 });
            self.clear_unused();
        }
    }

    /// Ends all sessions, and wipes their keys.
    pub(crate) fn end_all(&self) {
        self.set_roles(Roles::default());
        self.clear_unused();
    }

    fn clear_unused(&self) {
        let roles = self.roles();
        for number in 1..=ROOMS as u8 {
            if ![roles.current, roles.previous, roles.next].contains(&number)
                && let Some(room) = self.room(number)
            {
                room.clear();
            }
        }
    }

    /// Carries on where the process before has left it, at whichever instruction.
    pub(crate) fn take_over(&self) {
        self.clear_unused();
        // No handshake of ours is on its way any more.
        self.set(Fact::InitiatedFirst, 0);
        self.mend_endpoint();
        for number in 1..=ROOMS as u8 {
            if let Some(room) = self.room(number) {
                room.take_over();
            }
        }
    }
}

#[cfg(test)]
mod tests;
