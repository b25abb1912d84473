//! Looking at a table that another process writes.
//!
//! Owns nothing. Refuses: a record that changes while it is read. Keeps true: what is shown of a flow was true of that flow.

use super::counts::Counts;
use super::layout::{FlowSpace, OpenError, range};
use super::record::{at, bit};
use crate::tables::records::Records;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Acquire;
use zsync_packet::flow::FlowKey;
use zsync_packet::region::Region;

/// A reader of a table. Never writes; the memory may be mapped for reading alone.
#[derive(Clone, Debug)]
pub struct FlowView {
    region: Region,
    records: Records<8>,
    translations: Records<8>,
    space: FlowSpace,
}

/// A flow, as `zsyncctl` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its number.
    pub id: u32,
    /// As its initiator sends it.
    pub original: FlowKey,
    /// As its answers arrive.
    pub reply: FlowKey,
    /// Its bits: see [`bit`]; those below are the protocol's.
    pub bits: u64,
    /// The first of its cold words: the protocol's.
    pub cold: u64,
    /// Its mark.
    pub mark: u32,
    /// Until when it lives, in nanoseconds of the monotonic clock.
    pub life: u64,
}

impl FlowView {
    /// A reader of the table in this memory.
    ///
    /// # Errors
    /// The memory is too short, or of another layout.
    pub fn open(region: Region, space: FlowSpace) -> Result<Self, OpenError> {
        let needs = space.bytes();
        let short = OpenError::TooShort { has: region.len(), needs };
        if region.len() < needs {
            return Err(short);
        }
        let signature =
            region.u64s(0, 1).and_then(|words| words.first()).map_or(0, |word| word.load(Acquire));
        if signature != 0 && signature != space.signature() {
            return Err(OpenError::OtherLayout);
        }
        let parts = space.parts();
        let open = |part, count: u32| {
            region.part(range(part)).and_then(|region| Records::open(region, count as usize))
        };
        let records = open(parts.records, space.flows).ok_or(short)?;
        let translations = open(parts.translations, space.translations).ok_or(short)?;
        Ok(Self { region, records, translations, space })
    }

    /// How full the table is, and what happened to it.
    pub fn counts(&self) -> Counts {
        let header = |place: usize| {
            self.region
                .u64s(place * 8, 1)
                .and_then(|words| words.first())
                .map_or(0, |word| word.load(Acquire))
        };
        Counts::read((self.records.live(), self.translations.live()), header)
    }

    /// What the table has room for.
    pub fn space(&self) -> FlowSpace {
        self.space
    }

    /// Numbers from this one on are no flow's.
    pub fn end(&self) -> u32 {
        self.records.fresh()
    }

    /// All flows that live beyond `now` (nanoseconds), but for those that changed hands while they were looked at.
    pub fn flows(&self, now: u64) -> impl Iterator<Item = Shown> + '_ {
        (0..self.records.fresh()).filter_map(move |id| self.flow(id).filter(|shown| shown.life > now))
    }

    /// Flow number `id`, if it is there, and stands still long enough.
    pub fn flow(&self, id: u32) -> Option<Shown> {
        let words = self.records.words(id)?;
        let (original, life) = steady(words)?;
        let [.., last, bits, _] = words;
        let translation = (last.load(Acquire) >> 32) as u32;
        let bits = bits.load(Acquire);
        let reply = match translation.checked_sub(1) {
            None => original.reversed(),
            Some(number) => {
                let words = self.translations.words(number)?;
                let (reply, _) = steady(words)?;
                // Another flow may have it by now.
                (words[at::LAST].load(Acquire) as u32 == id).then_some(reply)?
            }
        };
        let mark = if bits & bit::MARKED == 0 { 0 } else { self.mark(id) };
        let cold = self.cold(id);
        (steady(words)?.0 == original).then_some(Shown { id, original, reply, bits, cold, mark, life })
    }

    fn cold(&self, id: u32) -> u64 {
        let offset = self.space.parts().cold.0 + id as usize * 32;
        self.region.u64s(offset, 1).and_then(|words| words.first()).map_or(0, |word| word.load(Acquire))
    }

    fn mark(&self, id: u32) -> u32 {
        let offset = self.space.parts().marks.0 + id as usize * 4;
        self.region.u32s(offset, 1).and_then(|marks| marks.first()).map_or(0, |mark| mark.load(Acquire))
    }
}

/// Key and life of a record that is not being replaced: whoever replaces it ends its life before he changes its key, so that
/// either a life of 0 is seen, or two readings differ.
fn steady(words: &[AtomicU64; 8]) -> Option<(FlowKey, u64)> {
    let life = || Some(words[7].load(Acquire)).filter(|life| *life != 0);
    let key = || {
        let [a, b, c, d, e, ..] = words;
        [a, b, c, d, e].map(|word| word.load(Acquire))
    };
    life()?;
    let first = key();
    let life = life()?;
    (first == key()).then(|| (FlowKey::from_words(first), life))
}
