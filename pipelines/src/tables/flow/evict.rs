//! Who goes when there is no room: see [the module](super).
//!
//! A hand goes round the records, as in the clock algorithm of paging; each new flow that needs room looks at the next few.
//! Where there is nothing but better flows, the rings say which of the newer ones are weak. Keeps true: no more than a fixed
//! number of records is looked at for one flow; and as long as any flow is weak, none that is not is evicted: then the new
//! flow is refused, and the next one looks further.

use super::layout::word;
use super::record::{FlowId, Hot, bit};
use super::ring::Ring;
use super::table::Flows;

/// Records that one new flow looks at, at most.
pub(super) const LOOKS: u32 = 64;
/// Among so many it takes the best, rather than the first.
const AT_ONCE: u32 = 8;

/// The best to evict so far.
#[derive(Clone, Copy, Debug, Default)]
struct Choice {
    expired: Option<FlowId>,
    /// Of the weak, and when it was seen last.
    weak: Option<(u64, FlowId)>,
    /// Of the others.
    other: Option<(u64, FlowId)>,
}

impl Choice {
    fn look(&mut self, id: FlowId, hot: Hot<'_>, now: u64, timeout: &impl Fn(Hot<'_>) -> u64) {
        let life = hot.life();
        if life == 0 {
            return;
        }
        if life <= now {
            self.expired = self.expired.or(Some(id));
            return;
        }
        let seen = life.saturating_sub(timeout(hot));
        let best = if hot.bits() & bit::WEAK != 0 { &mut self.weak } else { &mut self.other };
        if best.is_none_or(|(least, _)| seen < least) {
            *best = Some((seen, id));
        }
    }
}

impl Flows {
    /// Evicts one flow, of any hash. `timeout` is how long a flow lives after each packet.
    #[cold]
    pub(super) fn make_room(&self, now: u64, timeout: &impl Fn(Hot<'_>) -> u64) -> bool {
        let mut choice = Choice::default();
        let mut hand = self.header(word::HAND) as u32;
        for look in 1..=LOOKS.min(self.space.flows) {
            if hand >= self.space.flows {
                hand = 0;
            }
            self.records.prefetch(hand + 4);
            if let Some(hot) = self.hot(FlowId(hand)) {
                choice.look(FlowId(hand), hot, now, timeout);
            }
            hand += 1;
            // One that came just now may well be answered: it is spared as long as another is found.
            let stale = choice.weak.is_some_and(|(seen, _)| seen < now);
            if choice.expired.is_some() || (stale && look.is_multiple_of(AT_ONCE)) {
                break;
            }
        }
        self.set_header(word::HAND, u64::from(hand));
        if choice.expired.is_none() && choice.weak.is_none() && self.counted().0 > 0 {
            let newer = [Ring::Weak, Ring::HalfOpen].into_iter().find_map(|ring| self.oldest(ring));
            choice.weak = newer.map(|id| (0, id));
        }
        self.evict(choice)
    }

    /// Evicts the oldest half-open connection; false when none is found.
    #[cold]
    pub(super) fn evict_half_open(&self) -> bool {
        let Some(id) = self.oldest(Ring::HalfOpen) else { return false };
        self.remove(id);
        self.count(word::EVICTED_HALF_OPEN);
        true
    }

    /// Evicts one of the flows that share both buckets of `hash`.
    #[cold]
    pub(super) fn make_room_beside(&self, hash: u64, now: u64, timeout: &impl Fn(Hot<'_>) -> u64) -> bool {
        let mut choice = Choice::default();
        self.index.rivals(hash, |number| {
            if let Some(hot) = self.hot(FlowId(number)) {
                choice.look(FlowId(number), hot, now, timeout);
            }
        });
        self.evict(choice)
    }

    fn evict(&self, choice: Choice) -> bool {
        let (weak, _) = self.counted();
        let (id, reason) = match choice {
            Choice { expired: Some(id), .. } => (id, word::EVICTED_EXPIRED),
            Choice { weak: Some((_, id)), .. } => (id, word::EVICTED_WEAK),
            Choice { other: Some((_, id)), .. } if weak == 0 => (id, word::EVICTED_ESTABLISHED),
            _ => return false,
        };
        self.remove(id);
        self.count(reason);
        true
    }
}
