//! A session's memory: keys, counters, and what has come of it.
//!
//! ```text
//!   words  0 state: our index, valid, whether we began it    1 their index    2 since    3 next counter    4 highest + 1
//!          8..12 sending key    12..16 receiving key    16..145 bits of the window
//! ```
//!
//! Owns: nothing; it is a view of words in memory that outlives the process. Has one writer, the peer's worker. Keeps true,
//! also when that is killed at any instruction: a room whose state says valid is whole; and a counter that was used is never
//! given out again, for the next one is stored before anything is sealed.

use crate::key::KEY_LEN;
use crate::noise::Keys;
use crate::window::{WINDOW_WORDS, Window};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Words of a room.
pub(crate) const ROOM_WORDS: usize = HEAD + WINDOW_WORDS;

/// Words ahead of the bits.
const HEAD: usize = 16;

const STATE: usize = 0;
const REMOTE: usize = 1;
const SINCE: usize = 2;
const NEXT: usize = 3;
const TOP: usize = 4;
const SENDING: usize = 8;
const RECEIVING: usize = 12;

const VALID: u64 = 1 << 32;
const BEGUN: u64 = 1 << 33;

/// Counters that a successor leaves out, beside all that were given out: more than any burst takes.
const LEAP: u64 = 1 << 10;

/// A session's memory. See the module.
#[derive(Clone, Copy)]
pub struct Room<'a> {
    head: &'a [AtomicU64; HEAD],
    bits: &'a [AtomicU64; WINDOW_WORDS],
}

/// Without its words, some of which are keys.
impl std::fmt::Debug for Room<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room")
            .field("index", &self.index())
            .field("next_counter", &self.next_counter())
            .finish()
    }
}

impl<'a> Room<'a> {
    /// Over these words.
    #[inline]
    pub(crate) fn over(words: &'a [AtomicU64]) -> Option<Self> {
        let (head, bits) = words.split_first_chunk()?;
        Some(Self { head, bits: bits.first_chunk()? })
    }

    /// Whether there is a session, as it was published.
    #[inline]
    pub fn is_valid(&self) -> bool {
        self.head[STATE].load(Acquire) & VALID != 0
    }

    /// Our index, if there is a session.
    #[inline]
    pub fn index(&self) -> Option<u32> {
        let state = self.head[STATE].load(Acquire);
        (state & VALID != 0).then_some(state as u32)
    }

    /// Whether we began the handshake.
    #[inline]
    pub fn is_ours(&self) -> bool {
        self.head[STATE].load(Relaxed) & BEGUN != 0
    }

    /// The peer's index.
    #[inline]
    pub fn remote(&self) -> u32 {
        self.head[REMOTE].load(Relaxed) as u32
    }

    /// When the handshake was done, in nanoseconds of the monotonic clock.
    #[inline]
    pub fn since(&self) -> u64 {
        self.head[SINCE].load(Relaxed)
    }

    /// The next counter to seal with; all below were given out.
    #[inline]
    pub fn next_counter(&self) -> u64 {
        self.head[NEXT].load(Relaxed)
    }

    /// Takes `count` counters of the session with our index `index`, none of which reaches `limit`, and gives the first. They
    /// count as used from here on. `None`: that session is not here any more, or has come to its end.
    #[inline]
    pub fn take_counters(&self, index: u32, count: u64, limit: u64) -> Option<u64> {
        let first = self.head[NEXT].load(Acquire);
        // Whoever ends a session says so before the counter goes: a counter that was read of a session that is still there is its own.
        if self.index() != Some(index) {
            return None;
        }
        let next = first.checked_add(count).filter(|next| *next <= limit)?;
        self.head[NEXT].store(next, Release);
        Some(first)
    }

    /// The key to seal with.
    #[inline]
    pub fn sending(&self) -> [u8; KEY_LEN] {
        self.key(SENDING)
    }

    /// The key to open with.
    #[inline]
    pub fn receiving(&self) -> [u8; KEY_LEN] {
        self.key(RECEIVING)
    }

    #[inline]
    fn key(&self, at: usize) -> [u8; KEY_LEN] {
        let mut key = [0; KEY_LEN];
        for (bytes, word) in key.as_chunks_mut::<8>().0.iter_mut().zip(&self.head[at..at + 4]) {
            *bytes = word.load(Relaxed).to_le_bytes();
        }
        key
    }

    /// Which of the peer's counters have come.
    #[inline]
    pub fn window(&self) -> Window<'a> {
        Window { top: &self.head[TOP], bits: self.bits }
    }

    /// Moves in: our index `index`, theirs `remote`; `ours`: we began the handshake.
    pub(crate) fn fill(&self, keys: &Keys, index: u32, remote: u32, ours: bool, now: u64) {
        self.clear();
        for (at, key) in [(SENDING, &keys.sending), (RECEIVING, &keys.receiving)] {
            let words = key.expose().as_chunks::<8>().0;
            for (word, bytes) in self.head[at..at + 4].iter().zip(words) {
                word.store(u64::from_le_bytes(*bytes), Relaxed);
            }
        }
        self.head[REMOTE].store(u64::from(remote), Relaxed);
        self.head[SINCE].store(now, Relaxed);
        let begun = if ours { BEGUN } else { 0 };
        self.head[STATE].store(u64::from(index) | VALID | begun, Release);
    }

    /// Moves out, and wipes the keys.
    pub(crate) fn clear(&self) {
        self.head[STATE].store(0, Release);
        self.head[1..].iter().chain(self.bits).for_each(|word| word.store(0, Release));
    }

    /// After its writer has died: leaves out counters that may have been given out to nobody.
    pub(crate) fn take_over(&self) {
        if self.is_valid() {
            self.head[NEXT].store(self.next_counter().saturating_add(LEAP), Release);
        }
    }
}
