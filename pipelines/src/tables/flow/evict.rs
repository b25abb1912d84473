//! Who goes when there is no room: see [the module](super).
//!
//! A hand goes round the records, as in the clock algorithm of paging; each new flow that needs room looks at the next few.
//! Keeps true: no more than [`LOOKS`] records are looked at for one flow; and as long as any flow is weak, none that is not
//! is evicted: the new flow is refused, and the next one looks further.

use super::layout::word;
use super::record::{FlowId, Hot, bit};
use super::table::Flows;

/// Records that one new flow looks at, at most.
pub(super) const LOOKS: u32 = 64;
/// Among so many it takes the best, rather than the first.
const AT_ONCE: u32 = 8;

/// The best to evict so far.
#[derive(Clone, Copy, Debug, Default)]
struct Choice {
    expired: Option<FlowId>,
    /// And the end of its life.
    weak: Option<(u64, FlowId)>,
    /// And when it was seen last.
    oldest: Option<(u64, FlowId)>,
}

impl Choice {
    fn look(&mut self, id: FlowId, hot: Hot<'_>, now: u64, timeout: &impl Fn(Hot<'_>) -> u64) {
        let life = hot.life();
        if life == 0 {
            return;
        }
        let earlier = |than: Option<(u64, FlowId)>, when| than.is_none_or(|(least, _)| when < least);
        if life <= now {
            self.expired = self.expired.or(Some(id));
        } else if hot.bits() & bit::WEAK != 0 {
            if earlier(self.weak, life) {
                self.weak = Some((life, id));
            }
        } else {
            let seen = life.saturating_sub(timeout(hot));
            if earlier(self.oldest, seen) {
                self.oldest = Some((seen, id));
            }
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
            if choice.expired.is_some() || (look.is_multiple_of(AT_ONCE) && choice.weak.is_some()) {
                break;
            }
        }
        self.set_header(word::HAND, u64::from(hand));
        self.evict(choice)
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
            Choice { oldest: Some((_, id)), .. } if weak == 0 => (id, word::EVICTED_ESTABLISHED),
            _ => return false,
        };
        self.remove(id);
        self.count(reason);
        true
    }
}
