//! Sequences: which packets of a flow arrived once, late, twice, or never.
//!
//! Owns: of each flow its counts and the sequences seen in a window behind the highest. Refuses: to guess. A packet from
//! before the window may be late or a copy; it is counted as too old to tell, never as a duplicate. Keeps true: a flow's
//! missing packets are those below its highest sequence that did not arrive, so a late one makes them fewer; they are
//! lost only when the books are closed, and then `sent = received + lost`, exactly.
//!
//! Reordering is RFC 4737's: a packet is reordered when it arrives after one with a greater sequence (section 3), and
//! copies do not count. How far is told by its *offset*: how many packets with greater sequences arrived before it. That
//! is the reordering byte offset of RFC 4737 section 4.4, in packets: the room that a receiver needs to restore order.

use crate::variation::{Transit, Variation};
use std::hint::black_box;
use std::iter;
use thiserror::Error;

/// How many sequences behind the highest are remembered, which decides a flow's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Window {
    /// 64 sequences; a flow takes 64 bytes, a cache line: 640 MB for 10 million flows.
    Narrow,
    /// 1,024 sequences; a flow takes 192 bytes, three cache lines: 1.92 GB for 10 million flows.
    #[default]
    Wide,
}

impl Window {
    /// Sequences that it covers, the highest among them.
    pub const fn sequences(self) -> u64 {
        match self {
            Self::Narrow => 64,
            Self::Wide => 1024,
        }
    }

    /// Memory per flow, in bytes.
    pub const fn bytes_per_flow(self) -> usize {
        match self {
            Self::Narrow => size_of::<Track<1>>(),
            Self::Wide => size_of::<Track<16>>(),
        }
    }
}

/// Classes of offsets: `1`, `2..=3`, `4..=7`, …, `512..=1023`.
pub const OFFSET_CLASSES: usize = 10;

/// What one arrival was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The flow's highest sequence so far.
    First {
        /// How many sequences before it are missing that were not known of.
        skipped: u64,
    },
    /// The first copy of a packet that was missing.
    Late {
        /// How many packets with greater sequences had arrived before it, 1 to 1,023.
        offset: u16,
    },
    /// Another copy of a packet in the window.
    Duplicate,
    /// From before the window: late or a copy, nobody can tell.
    TooOld,
}

/// Counts of arrivals: of one flow, or of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// One above the highest sequence that arrived: what is known to have been sent. Over flows, their sum.
    pub known: u64,
    /// Packets that arrived, copies not counted.
    pub received: u64,
    /// Copies.
    pub duplicated: u64,
    /// Of `received`, those that arrived after a greater sequence.
    pub reordered: u64,
    /// Packets from before the window. Each is either a copy or one packet less that is lost.
    pub too_old: u64,
}

impl Counts {
    /// Packets below the highest sequence that have not arrived yet.
    pub const fn missing(&self) -> u64 {
        self.known.saturating_sub(self.received)
    }

    /// Adds another flow's.
    pub const fn add(&mut self, other: &Self) {
        self.known = self.known.saturating_add(other.known);
        self.received += other.received;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.too_old += other.too_old;
    }

    /// Closes the books of a flow of which `sent` packets were sent, with sequences from 0.
    ///
    /// # Errors
    /// A packet arrived that was never sent.
    pub fn close(&self, flow: u32, sent: u64) -> Result<Books, BooksError> {
        match self.known.checked_sub(1) {
            Some(sequence) if sequence >= sent => Err(BooksError::NeverSent { flow, sequence, sent }),
            _ => Ok(Books { sent, lost: sent - self.received, counts: *self }),
        }
    }
}

/// Closed books: `sent = counts.received + lost`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Packets that the sender says it sent.
    pub sent: u64,
    /// Packets that never arrived; up to `counts.too_old` of them may have, too late to be told from copies.
    pub lost: u64,
    /// What arrived.
    pub counts: Counts,
}

impl Books {
    /// Lost packets of those sent, 0 to 1.
    pub fn loss_ratio(&self) -> f64 {
        ratio(self.lost, self.sent)
    }

    /// RFC 4737's Type-P-Reordered ratio: reordered packets of those received, 0 to 1.
    pub fn reordered_ratio(&self) -> f64 {
        ratio(self.counts.reordered, self.counts.received)
    }

    /// Adds another flow's.
    pub const fn add(&mut self, other: &Self) {
        // What others say, and what is on the wire, may be any number.
        self.sent = self.sent.saturating_add(other.sent);
        self.lost = self.lost.saturating_add(other.lost);
        self.counts.add(&other.counts);
    }
}

/// `part / whole`, and 0 of nothing.
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Why books cannot be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BooksError {
    /// The sender named another number of flows.
    #[error("the sender counted {told} flows and the sink {flows}: give one count for each flow")]
    Flows {
        /// Counts that were given.
        told: usize,
        /// Flows of the sink.
        flows: usize,
    },
    /// A sequence arrived that the sender did not send.
    #[error(
        "flow {flow}: sequence {sequence} arrived, and the sender says that it sent {sent} packets: \
         take its count after it stopped, and give each run a number of its own"
    )]
    NeverSent {
        /// The flow.
        flow: u32,
        /// The highest sequence that arrived.
        sequence: u64,
        /// The sender's count.
        sent: u64,
    },
}

/// One flow: its counts, and `64 * WORDS` sequences behind the highest, a bit each.
#[repr(align(64))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Track<const WORDS: usize> {
    counts: Counts,
    /// Bit `sequence % (64 * WORDS)`; those at or above `known` mean nothing and are cleared on the way.
    seen: [u64; WORDS],
    transit: Transit,
}

const _: () = assert!(size_of::<Track<1>>() == 64, "a flow with a narrow window is a cache line");

impl<const WORDS: usize> Track<WORDS> {
    const WINDOW: u64 = 64 * WORDS as u64;
    const EMPTY: Self = Self {
        counts: Counts { known: 0, received: 0, duplicated: 0, reordered: 0, too_old: 0 },
        seen: [0; WORDS],
        transit: Transit::NONE,
    };

    /// The words and masks of the sequences `from..to`, which lie within one window.
    fn spans(mut from: u64, to: u64) -> impl Iterator<Item = (usize, u64)> {
        iter::from_fn(move || {
            let left = to.checked_sub(from).filter(|&left| left > 0)?;
            let at = from % Self::WINDOW;
            let take = left.min(64 - at % 64);
            from += take;
            Some(((at / 64) as usize, u64::MAX >> (64 - take) << (at % 64)))
        })
    }

    /// Writes down that `sequence`, which is below `u64::MAX`, arrived.
    fn note(&mut self, sequence: u64) -> Seen {
        let (word, bit) = ((sequence % Self::WINDOW / 64) as usize, 1 << (sequence % 64));
        let known = self.counts.known;
        if sequence >= known {
            if sequence - known >= Self::WINDOW {
                self.seen = [0; WORDS];
            } else {
                for (word, mask) in Self::spans(known, sequence) {
                    self.seen[word] &= !mask;
                }
            }
            self.seen[word] |= bit;
            self.counts.known = sequence + 1;
            self.counts.received += 1;
            return Seen::First { skipped: sequence - known };
        }
        if known - sequence > Self::WINDOW {
            self.counts.too_old += 1;
            return Seen::TooOld;
        }
        if self.seen[word] & bit != 0 {
            self.counts.duplicated += 1;
            return Seen::Duplicate;
        }
        self.seen[word] |= bit;
        self.counts.received += 1;
        self.counts.reordered += 1;
        let greater =
            Self::spans(sequence + 1, known).map(|(word, mask)| (self.seen[word] & mask).count_ones());
        Seen::Late { offset: greater.sum::<u32>() as u16 }
    }

    fn untouched(&self) -> bool {
        self.counts == Counts::default()
    }
}

/// The tracks of all flows, of one width.
#[derive(Debug)]
pub(crate) enum Tracks {
    Narrow(Vec<Track<1>>),
    Wide(Vec<Track<16>>),
}

fn empty<const WORDS: usize>(flows: usize) -> Option<Vec<Track<WORDS>>> {
    let mut tracks = Vec::new();
    tracks.try_reserve_exact(flows).ok()?;
    // Written here, so that no page faults while packets arrive.
    tracks.resize(flows, Track::EMPTY);
    Some(tracks)
}

fn shared<const WORDS: usize>(ours: &[Track<WORDS>], theirs: &[Track<WORDS>]) -> Option<usize> {
    ours.iter().zip(theirs).position(|(ours, theirs)| !ours.untouched() && !theirs.untouched())
}

fn take_over<const WORDS: usize>(ours: &mut [Track<WORDS>], theirs: &[Track<WORDS>]) {
    for (ours, theirs) in ours.iter_mut().zip(theirs).filter(|(_, theirs)| !theirs.untouched()) {
        *ours = *theirs;
    }
}

impl Tracks {
    /// Tracks of `flows` flows, or `None` where there is no memory for them.
    pub(crate) fn new(window: Window, flows: u32) -> Option<Self> {
        Some(match window {
            Window::Narrow => Self::Narrow(empty(flows as usize)?),
            Window::Wide => Self::Wide(empty(flows as usize)?),
        })
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Narrow(tracks) => tracks.len(),
            Self::Wide(tracks) => tracks.len(),
        }
    }

    /// Reads what arrivals (a flow and a sequence each) will change, so that it is found in the caches then.
    pub(crate) fn touch(&self, arrivals: impl Iterator<Item = (u32, u64)>) {
        fn each<const WORDS: usize>(tracks: &[Track<WORDS>], arrivals: impl Iterator<Item = (u32, u64)>) {
            for (flow, sequence) in arrivals {
                // Kept by the black box alone, and waited for by nothing.
                if let Some(track) = tracks.get(flow as usize) {
                    black_box(track.counts.known);
                    black_box(track.seen[(sequence % Track::<WORDS>::WINDOW / 64) as usize]);
                    black_box(track.transit.jitter_ns());
                }
            }
        }
        match self {
            Self::Narrow(tracks) => each(tracks, arrivals),
            Self::Wide(tracks) => each(tracks, arrivals),
        }
    }

    /// Writes down an arrival whose time on the way was `transit_ns`. `None`: there is no such flow, or no such sequence.
    pub(crate) fn note(
        &mut self,
        flow: u32,
        sequence: u64,
        transit_ns: i64,
        variation: &mut Variation,
    ) -> Option<Seen> {
        fn one<const WORDS: usize>(
            track: Option<&mut Track<WORDS>>,
            sequence: u64,
            transit_ns: i64,
            variation: &mut Variation,
        ) -> Option<Seen> {
            let track = track?;
            let seen = track.note(sequence);
            match seen {
                Seen::First { skipped } => {
                    variation.arrived(&mut track.transit, transit_ns, skipped == 0, true);
                }
                Seen::Late { .. } => variation.arrived(&mut track.transit, transit_ns, false, false),
                Seen::Duplicate | Seen::TooOld => {}
            }
            Some(seen)
        }
        if sequence == u64::MAX {
            return None;
        }
        match self {
            Self::Narrow(tracks) => one(tracks.get_mut(flow as usize), sequence, transit_ns, variation),
            Self::Wide(tracks) => one(tracks.get_mut(flow as usize), sequence, transit_ns, variation),
        }
    }

    /// The counts of a flow, and its jitter in nanoseconds.
    pub(crate) fn flow(&self, flow: usize) -> Option<(Counts, f32)> {
        match self {
            Self::Narrow(tracks) => tracks.get(flow).map(|track| (track.counts, track.transit.jitter_ns())),
            Self::Wide(tracks) => tracks.get(flow).map(|track| (track.counts, track.transit.jitter_ns())),
        }
    }

    /// The first flow that both have seen packets of; `None` also where their windows differ.
    pub(crate) fn shared(&self, other: &Self) -> Option<usize> {
        match (self, other) {
            (Self::Narrow(ours), Self::Narrow(theirs)) => shared(ours, theirs),
            (Self::Wide(ours), Self::Wide(theirs)) => shared(ours, theirs),
            _ => None,
        }
    }

    /// Takes the flows that only `other` has seen.
    pub(crate) fn take_over(&mut self, other: &Self) {
        match (self, other) {
            (Self::Narrow(ours), Self::Narrow(theirs)) => take_over(ours, theirs),
            (Self::Wide(ours), Self::Wide(theirs)) => take_over(ours, theirs),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
