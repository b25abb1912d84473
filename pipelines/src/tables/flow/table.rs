//! The table itself: finding, adding, changing and removing flows.
//!
//! See [the module](super) for what is kept true.

use super::counts::{Counts, Limits, Refused};
use super::layout::{FlowSpace, OpenError, range, word};
use super::record::{FlowId, Hot, Meets, State, at, bit};
use super::recover::Change;
use super::sources::Sources;
use crate::tables::index::Index;
use crate::tables::records::Records;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};
use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::region::Region;

/// How long a translation is taken for in use before the sweep asks its flow again, in nanoseconds.
const TRANSLATION_CHECK: u64 = 60_000_000_000;

/// One worker's flows. See [the module](super). Cloning shares the memory.
#[derive(Clone, Debug)]
pub struct Flows {
    pub(super) space: FlowSpace,
    pub(super) secret: HashKey,
    region: Region,
    pub(super) index: Index,
    pub(super) records: Records<8>,
    cold: Region,
    marks: Region,
    pub(super) sources: Sources,
    pub(super) rings: Region,
    translations: Records<8>,
}

/// `number` out of 2³² as one out of `below` (Lemire, "Fast random integer generation", 2019).
#[inline]
pub(super) fn scaled(number: u32, below: u32) -> u32 {
    ((u64::from(number) * u64::from(below)) >> 32) as u32
}

impl Flows {
    /// Bytes of memory for this many flows, of which so many can be translated.
    pub const fn bytes(space: FlowSpace) -> usize {
        space.bytes()
    }

    /// The table in this memory, as it was left. Hashes are keyed with `secret`, which stays the same as long as the memory.
    /// A new writer calls [`Self::recover`] before anything else.
    ///
    /// # Errors
    /// The memory is too short, or was written for another space or under another secret.
    pub fn open(region: Region, space: FlowSpace, secret: HashKey) -> Result<Self, OpenError> {
        let short = OpenError::TooShort { has: region.len(), needs: space.bytes() };
        if region.len() < space.bytes() {
            return Err(short);
        }
        let parts = space.parts();
        let part = |part| region.part(range(part)).ok_or(short);
        let flows = Self {
            index: Index::open(part(parts.index)?, space.entries()).ok_or(short)?,
            records: Records::open(part(parts.records)?, space.flows as usize).ok_or(short)?,
            cold: part(parts.cold)?,
            marks: part(parts.marks)?,
            sources: Sources::new(part(parts.sources)?, space.flows),
            rings: part(parts.rings)?,
            translations: Records::open(part(parts.translations)?, space.translations as usize)
                .ok_or(short)?,
            space,
            secret,
            region,
        };
        // A key that no packet has.
        let secret = FlowKey::from_words([1, 2, 3, 4, 1 << 63]).hash(&flows.secret) | 1;
        for (place, wanted, error) in [
            (word::LAYOUT, space.signature(), OpenError::OtherLayout),
            (word::SECRET, secret, OpenError::OtherSecret),
        ] {
            match flows.header(place) {
                0 => flows.set_header(place, wanted),
                found if found == wanted => {}
                _ => return Err(error),
            }
        }
        Ok(flows)
    }

    /// Numbers from this one on are no flow's.
    pub fn end(&self) -> u32 {
        self.records.fresh()
    }

    /// How many it has room for.
    pub fn space(&self) -> FlowSpace {
        self.space
    }

    /// The hash that [`Self::find`] wants: the same for a flow and its untranslated answers.
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> u64 {
        // Whichever direction it has, the lower words first. Pairs that differ in nothing but which half belongs to which have
        // the same hash: four flows at most.
        let [a, b, c, d, rest] = key.words();
        let (one, other) = (rest as u16, (rest >> 16) as u16);
        let ports = u64::from(one.min(other)) | u64::from(one.max(other)) << 16;
        let words = [a.min(c), b.min(d), a.max(c), b.max(d), rest >> 32 << 32 | ports];
        FlowKey::from_words(words).hash(&self.secret)
    }

    /// Asks for the memory that a lookup of `hash` reads first.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// The flow that is most likely the one of this hash: to be asked for, and checked by [`Self::is_it`] later.
    #[inline]
    pub fn guess(&self, hash: u64) -> Option<FlowId> {
        self.index.find(hash, |_| true).map(FlowId)
    }

    /// Asks for a flow's record.
    #[inline]
    pub fn prefetch_flow(&self, id: FlowId) {
        self.records.prefetch(id.0);
    }

    /// Asks for a flow's cold words.
    #[inline]
    pub fn prefetch_cold(&self, id: FlowId) {
        self.cold.prefetch(id.0 as usize * 32);
    }

    /// The flow that a packet with this key belongs to, and whether as an answer. Whether its time is over is the caller's to
    /// see ([`Hot::life`]).
    #[inline]
    pub fn find(&self, key: &FlowKey, hash: u64) -> Option<(FlowId, bool)> {
        let mut reply = false;
        let id = self.index.find(hash, |number| match self.is_it(FlowId(number), key) {
            Some(direction) => {
                reply = direction;
                true
            }
            None => false,
        })?;
        Some((FlowId(id), reply))
    }

    /// Whether a packet with this key belongs to that flow, and if so, whether as an answer.
    #[inline]
    pub fn is_it(&self, id: FlowId, key: &FlowKey) -> Option<bool> {
        let hot = self.hot(id)?;
        match hot.meets(key) {
            _ if hot.life() == 0 => None,
            Meets::Straight => Some(false),
            Meets::Reversed if !hot.is_translated() => Some(true),
            _ if hot.is_translated() => (self.translation(id)? == *key).then_some(true),
            _ => None,
        }
    }

    /// A flow's record; `None` for a number that is none. It may be free: see [`Hot::life`].
    #[inline]
    pub fn hot(&self, id: FlowId) -> Option<Hot<'_>> {
        self.records.words(id.0).map(Hot)
    }

    /// A flow's cold words.
    #[inline]
    pub fn cold(&self, id: FlowId) -> Option<&[AtomicU64; 4]> {
        self.cold.u64s(id.0 as usize * 32, 4)?.first_chunk()
    }

    /// The key of a flow as its initiator sends it; [`FlowKey::NONE`] for a number that is none.
    #[inline]
    pub fn original(&self, id: FlowId) -> FlowKey {
        self.hot(id).map_or(FlowKey::NONE, Hot::key)
    }

    /// The key that its answers arrive with.
    #[inline]
    pub fn reply_key(&self, id: FlowId) -> FlowKey {
        self.translation(id).unwrap_or_else(|| self.original(id).reversed())
    }

    /// The key that its answers arrive with, if that is not the reverse of the original.
    #[inline]
    pub fn translation(&self, id: FlowId) -> Option<FlowKey> {
        let number = self.hot(id)?.translation().checked_sub(1)?;
        self.translations.words(number).map(|words| Hot(words).key())
    }

    /// Whether there ever was a translation: else nobody need ask for one.
    #[inline]
    pub fn has_translations(&self) -> bool {
        self.translations.fresh() > 0
    }

    /// Asks for a flow's translation, if it has one; its record should have come by now.
    #[inline]
    pub fn prefetch_translation(&self, id: FlowId) {
        if let Some(number) = self.hot(id).and_then(|hot| hot.translation().checked_sub(1)) {
            self.translations.prefetch(number);
        }
    }

    /// A flow's mark; 0 if it has none.
    #[inline]
    pub fn mark(&self, id: FlowId) -> u32 {
        match self.hot(id) {
            Some(hot) if hot.bits() & bit::MARKED != 0 => {
                let mark = self.marks.u32s(id.0 as usize * 4, 1).and_then(|marks| marks.first());
                mark.map_or(0, |mark| mark.load(Relaxed))
            }
            _ => 0,
        }
    }

    /// Marks a flow; 0 takes the mark away.
    pub fn set_mark(&self, id: FlowId, mark: u32) {
        let slot = self.marks.u32s(id.0 as usize * 4, 1).and_then(|marks| marks.first());
        let (Some(hot), Some(slot)) = (self.hot(id), slot) else { return };
        slot.store(mark, Release);
        let others = hot.bits() & !bit::MARKED;
        hot.set_bits(others | if mark == 0 { 0 } else { bit::MARKED });
    }

    /// Adds a flow that lives until `life`, evicting another if need be: see [the module](super). That it is not there yet is
    /// the caller's to know. `timeout` says how long a flow lives after each packet.
    ///
    /// # Errors
    /// It is beyond a limit, or there is no room. Counted.
    pub fn create(
        &self,
        key: &FlowKey,
        hash: u64,
        state: &State,
        (now, life): (u64, u64),
        limits: &Limits,
        timeout: impl Fn(Hot<'_>) -> u64,
    ) -> Result<FlowId, Refused> {
        let slots = self.sources.slots(key, &self.secret);
        let (one, other) = self.sources.both(slots);
        if limits.per_source != 0 && one.min(other) >= limits.per_source {
            self.count(word::REFUSED_SOURCE);
            return Err(Refused::Source);
        }
        let half_open = state.bits & bit::HALF_OPEN != 0;
        if half_open && self.counted().1 >= limits.half_open && !self.evict_half_open() {
            self.count(word::REFUSED_HALF_OPEN);
            return Err(Refused::HalfOpen);
        }
        for _ in 0..2 {
            let Some(number) = self.records.alloc() else {
                if self.make_room(now, &timeout) {
                    continue;
                }
                break;
            };
            let id = FlowId(number);
            self.write(id, key, state);
            let source = self.sources.both(slots);
            self.announce(Change::Create, id, 0, source);
            self.recount(self.header(word::COUNTS), 0, state.bits);
            self.sources.set(slots, (source.0.wrapping_add(1), source.1.wrapping_add(1)));
            self.records.publish(number, life);
            if self.index.insert(hash, number).is_ok() {
                self.done();
                self.note(id, hash, state.bits);
                return Ok(id);
            }
            self.records.free(number);
            self.set_header(word::COUNTS, self.header(word::OLD_COUNTS));
            self.sources.set(slots, source);
            self.done();
            if !self.make_room_beside(hash, now, &timeout) {
                break;
            }
        }
        self.count(word::REFUSED_FULL);
        Err(Refused::Full)
    }

    /// Writes a record that is not published yet.
    fn write(&self, id: FlowId, key: &FlowKey, state: &State) {
        let (Some(Hot(words)), Some(cold)) = (self.hot(id), self.cold(id)) else { return };
        words.iter().zip(key.words()).for_each(|(word, value)| word.store(value, Relaxed));
        words[at::LAST].store(u64::from(state.last), Relaxed);
        words[at::BITS].store(state.bits, Relaxed);
        cold.iter().zip(state.cold).for_each(|(word, value)| word.store(value, Relaxed));
    }

    /// Sets a flow's bits, those that are counted, too.
    #[inline]
    pub fn settle(&self, id: FlowId, bits: u64) {
        let Some(hot) = self.hot(id) else { return };
        if (hot.bits() ^ bits) & bit::COUNTED == 0 {
            hot.set_bits(bits)
        } else {
            self.resettle(id, hot, bits)
        }
    }

    #[cold]
    fn resettle(&self, id: FlowId, hot: Hot<'_>, bits: u64) {
        let before = hot.bits();
        self.announce(Change::Settle, id, before, (0, 0));
        self.recount(self.header(word::COUNTS), before, bits);
        hot.set_bits(bits);
        self.done();
    }

    /// Lets the answers of a flow arrive with this key from now on. A flow can be translated once.
    ///
    /// # Errors
    /// Another flow has the key, there is no room, or no such flow.
    pub fn translate(&self, id: FlowId, reply: &FlowKey) -> Result<(), Refused> {
        let hot = self.hot(id).filter(|hot| hot.life() != 0).ok_or(Refused::NoFlow)?;
        let hash = self.hash(reply);
        if hot.is_translated() {
            return if self.reply_key(id) == *reply { Ok(()) } else { Err(Refused::Taken) };
        }
        match self.find(reply, hash) {
            Some((found, true)) if found == id => return Ok(()), // as it is
            Some(_) => return Err(Refused::Taken),
            None => {}
        }
        let number = self.translations.alloc().ok_or(Refused::Full)?;
        let words = self.translations.words(number).ok_or(Refused::Full)?;
        words.iter().zip(reply.words()).for_each(|(word, value)| word.store(value, Relaxed));
        words[at::LAST].store(u64::from(id.0), Relaxed);
        self.announce(Change::Translate, id, hot.bits(), (0, 0));
        // The sweep is to ask the flow whether it is in use.
        self.translations.publish(number, 1);
        hot.set_translation(number + 1);
        let indexed = self.index.insert(hash, id.0);
        if indexed.is_err() {
            hot.set_translation(0);
            self.translations.free(number);
        }
        self.done();
        indexed.map_err(|_| Refused::Full)
    }

    /// Removes a flow, and its translation.
    pub fn remove(&self, id: FlowId) {
        let Some(hot) = self.hot(id).filter(|hot| hot.life() != 0) else { return };
        if !self.is_known(id, &hot.key()) {
            // No flow any more: a record that a kill has left behind, and that could not be freed at once.
            self.records.free(id.0);
            return;
        }
        let slots = self.sources.slots(&hot.key(), &self.secret);
        let source = self.sources.both(slots);
        self.announce(Change::Remove, id, hot.bits(), source);
        self.recount(self.header(word::COUNTS), hot.bits(), 0);
        self.sources.set(slots, (source.0.wrapping_sub(1), source.1.wrapping_sub(1)));
        self.unlink(id);
        self.records.free(id.0);
        self.done();
    }

    /// Whether a flow is in the index under this key.
    pub(super) fn is_known(&self, id: FlowId, key: &FlowKey) -> bool {
        self.index.find(self.hash(key), |number| number == id.0).is_some()
    }

    /// Takes a flow out of the index, and its translation away.
    pub(super) fn unlink(&self, id: FlowId) {
        let Some(hot) = self.hot(id) else { return };
        self.index.remove(self.hash(&hot.key()), id.0);
        if let Some(number) = hot.translation().checked_sub(1) {
            if let Some(words) = self.translations.words(number)
                && words[at::LAST].load(Relaxed) as u32 == id.0
            {
                self.index.remove(self.hash(&Hot(words).key()), id.0);
                self.translations.free(number);
            }
            hot.set_translation(0);
        }
    }

    /// Looks at the next `budget` records, and removes the flows among them whose time is over.
    pub fn sweep(&self, budget: u32, now: u64) {
        self.records.sweep(budget, now, |number| {
            self.remove(FlowId(number));
            self.count(word::EXPIRED);
        });
        self.translations.sweep(budget.min(self.space.translations), now, |number| {
            let Some(words) = self.translations.words(number) else { return };
            let id = FlowId(words[at::LAST].load(Relaxed) as u32);
            let used = self.hot(id).is_some_and(|hot| hot.life() != 0 && hot.translation() == number + 1);
            if used {
                self.translations.set_life(number, now.saturating_add(TRANSLATION_CHECK));
            } else {
                self.translations.free(number);
            }
        });
    }

    /// How full it is, and what happened to it.
    pub fn counts(&self) -> Counts {
        Counts::read((self.records.live(), self.translations.live()), |place| self.header(place))
    }

    /// Weak and half-open flows.
    #[inline]
    pub(super) fn counted(&self) -> (u32, u32) {
        let word = self.header(word::COUNTS);
        (word as u32, (word >> 32) as u32)
    }

    pub(super) fn count(&self, place: usize) {
        self.set_header(place, self.header(place).wrapping_add(1));
    }

    #[inline]
    pub(super) fn header(&self, place: usize) -> u64 {
        self.word(place).map_or(0, |word| word.load(Relaxed))
    }

    /// Stores are seen in this order by who comes after a kill.
    #[inline]
    pub(super) fn set_header(&self, place: usize, value: u64) {
        if let Some(word) = self.word(place) {
            word.store(value, Release);
        }
    }

    #[inline]
    fn word(&self, place: usize) -> Option<&AtomicU64> {
        self.region.u64s(place * 8, 1)?.first()
    }
}
