//! A flow's record: its key, what is known of it, and until when.
//!
//! Owns: the words of a record, and the bits that every protocol has in common. The rest of the bits, and the cold words, are
//! the tracking stage's.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use zsync_packet::flow::FlowKey;

/// The number of a flow in its worker's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u32);

impl FlowId {
    /// As a packet's facts have it: 0 is none.
    #[inline]
    pub fn fact(self) -> u32 {
        self.0 + 1
    }

    /// From a packet's facts.
    #[inline]
    pub fn from_fact(fact: u32) -> Option<Self> {
        fact.checked_sub(1).map(Self)
    }
}

/// Bits of a flow's state that mean the same for every protocol; those below are the protocol's own.
pub mod bit {
    /// The responder answered.
    pub const REPLIED: u64 = 1 << 56;
    /// Both ends mean it.
    pub const ASSURED: u64 = 1 << 57;
    /// It may be evicted for a new flow: not answered, half open, or closing.
    pub const WEAK: u64 = 1 << 58;
    /// Its handshake is under way.
    pub const HALF_OPEN: u64 = 1 << 59;
    /// It has a mark.
    pub const MARKED: u64 = 1 << 60;
    /// What the table counts.
    pub const COUNTED: u64 = WEAK | HALF_OPEN;
}

/// What a protocol keeps of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The protocol's own 56 bits, and those of [`bit`].
    pub bits: u64,
    /// 32 more.
    pub last: u32,
    /// 32 bytes that not every packet needs.
    pub cold: [u64; 4],
}

/// Where things lie in a record's words; the last one is its life.
pub(super) mod at {
    /// `State` in the low half, the number of the translation + 1 in the high half.
    pub const LAST: usize = 5;
    /// `State`.
    pub const BITS: usize = 6;
}

/// A flow's record where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Hot<'a>(pub(super) &'a [AtomicU64; 8]);

impl Hot<'_> {
    /// As its initiator sends it.
    #[inline]
    pub fn key(self) -> FlowKey {
        FlowKey::from_words(self.key_words())
    }

    /// One by one: a `map` over the array stays a call where the optimiser sees less than the whole program.
    #[inline]
    fn key_words(self) -> [u64; 5] {
        let [a, b, c, d, e, ..] = self.0;
        [a.load(Relaxed), b.load(Relaxed), c.load(Relaxed), d.load(Relaxed), e.load(Relaxed)]
    }

    /// [`State::bits`].
    #[inline]
    pub fn bits(self) -> u64 {
        self.0[at::BITS].load(Relaxed)
    }

    /// Changes the bits, other than those of [`bit::COUNTED`], which [`Flows::settle`](super::Flows::settle) sets.
    #[inline]
    pub fn set_bits(self, bits: u64) {
        self.0[at::BITS].store(bits, Relaxed);
    }

    /// [`State::last`].
    #[inline]
    pub fn last(self) -> u32 {
        self.0[at::LAST].load(Relaxed) as u32
    }

    /// Changes [`State::last`].
    #[inline]
    pub fn set_last(self, last: u32) {
        let word = &self.0[at::LAST];
        word.store(word.load(Relaxed) >> 32 << 32 | u64::from(last), Relaxed);
    }

    /// Until when it lives, in nanoseconds; 0: it is no flow any more.
    #[inline]
    pub fn life(self) -> u64 {
        self.0[7].load(Relaxed)
    }

    /// Lets it live until then (nanoseconds, not 0).
    #[inline]
    pub fn set_life(self, life: u64) {
        self.0[7].store(life.max(1), Relaxed);
    }

    /// Whether it is translated.
    #[inline]
    pub fn is_translated(self) -> bool {
        self.translation() != 0
    }

    /// The number of its translation + 1; 0 for none.
    #[inline]
    pub(super) fn translation(self) -> u32 {
        (self.0[at::LAST].load(Relaxed) >> 32) as u32
    }

    pub(super) fn set_translation(self, number: u32) {
        let word = &self.0[at::LAST];
        word.store(word.load(Relaxed) & 0xffff_ffff | u64::from(number) << 32, Relaxed);
    }

    /// How `key` meets the key of an untranslated flow, or the original of any: as it is, reversed, or not.
    #[inline]
    pub(super) fn meets(self, key: &FlowKey) -> Meets {
        let [a, b, c, d, e] = key.words();
        let crossed_ports = e >> 32 << 32 | u64::from((e as u32).rotate_left(16));
        let [v, w, x, y, z] = self.key_words();
        if (v ^ a) | (w ^ b) | (x ^ c) | (y ^ d) | (z ^ e) == 0 {
            Meets::Straight
        } else if (v ^ c) | (w ^ d) | (x ^ a) | (y ^ b) | (z ^ crossed_ports) == 0 {
            Meets::Reversed
        } else {
            Meets::Not
        }
    }
}

/// See [`Hot::meets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meets {
    Straight,
    Reversed,
    Not,
}
