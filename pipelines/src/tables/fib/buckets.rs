//! Which hop each slot of a route leads to, when the route's hops change.
//!
//! A flow's hash chooses a slot. When hops come and go, slots are moved as few as can be, and not dealt out anew: the flows over
//! a hop that stays, stay (as Linux does for `type resilient` groups, net/ipv4/nexthop.c, and without its timers). Keeps
//! true: when hops are only lost, no slot of another one moves; when hops are only added, every slot that moves goes to one
//! of these; each hop has its weight's share, but for one slot.

use super::hops::HOP_LIMIT;
use super::shares::apportion;

/// Slots and hops before a change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before<'a, H> {
    pub(super) slots: &'a [H],
    pub(super) hops: &'a [(H, u8)],
}

/// Slots for `hops` (no hop twice, no weight 0) that keep what can be kept of those before; `fresh` are those that the hops
/// get where nothing is to be kept. `None` where these are as good.
pub(super) fn rearrange<H: Copy + Ord>(
    before: Before<'_, H>,
    hops: &[(H, u8)],
    fresh: &[H],
) -> Option<Vec<H>> {
    // Each slot is cut in as many as there is room for, so that what a lost hop leaves can be shared out.
    let cut = HOP_LIMIT.checked_div(before.slots.len()).filter(|cut| *cut > 0)?;
    let count = cut * before.slots.len();
    if hops.len() > count || fresh.is_empty() {
        return None;
    }
    let mut places: Vec<(H, usize)> =
        hops.iter().enumerate().map(|(place, (hop, _))| (*hop, place)).collect();
    places.sort_unstable();
    let place_of = |hop: &H| {
        let at = places.binary_search_by(|(other, _)| other.cmp(hop)).ok()?;
        places.get(at).map(|(_, place)| *place)
    };
    let preferred: Vec<Option<usize>> =
        (0..count).map(|slot| fresh.get(slot * fresh.len() / count).and_then(place_of)).collect();
    let mut slots: Vec<Option<usize>> =
        before.slots.iter().flat_map(|hop| std::iter::repeat_n(place_of(hop), cut)).collect();
    if slots.iter().all(Option::is_none) {
        return None;
    }
    let weights: Vec<u32> = hops.iter().map(|(_, weight)| u32::from(*weight)).collect();
    let mut room = Room { want: apportion(&weights, count as u32), have: vec![0; hops.len()] };
    slots.iter().flatten().for_each(|place| room.add(*place));
    let is_new = |hop: &(H, u8)| !before.hops.contains(hop);
    if hops.iter().any(is_new) {
        let weighs_anew =
            |(hop, weight): &(H, u8)| before.hops.iter().any(|(old, was)| old == hop && was != weight);
        if slots.iter().all(Option::is_some) && !hops.iter().any(weighs_anew) {
            // Only added: nothing goes from one that was there to another, not for rounding either.
            let old = hops.iter().enumerate().filter(|(_, hop)| !is_new(hop));
            old.for_each(|(place, _)| room.content(place));
        }
        room.take_surplus(&mut slots, &preferred);
    }
    for (slot, preferred) in slots.iter_mut().zip(&preferred) {
        if slot.is_none()
            && let Some(place) = preferred.filter(|place| room.lacks(*place) > 0)
        {
            *slot = Some(place);
            room.add(place);
        }
    }
    for slot in slots.iter_mut().filter(|slot| slot.is_none()) {
        let neediest = (0..hops.len()).rev().max_by_key(|place| room.lacks(*place))?;
        *slot = Some(neediest);
        room.add(neediest);
    }
    if slots == preferred && count.is_multiple_of(fresh.len()) {
        return None;
    }
    slots.into_iter().map(|place| place.and_then(|place| hops.get(place)).map(|(hop, _)| *hop)).collect()
}

/// How many slots each hop has, and is due.
struct Room {
    want: Vec<u32>,
    have: Vec<u32>,
}

impl Room {
    /// Slots that the hop is short of; negative when it has too many.
    fn lacks(&self, place: usize) -> i64 {
        let of = |counts: &[u32]| counts.get(place).map_or(0, |count| i64::from(*count));
        of(&self.want) - of(&self.have)
    }

    fn add(&mut self, place: usize) {
        if let Some(have) = self.have.get_mut(place) {
            *have += 1;
        }
    }

    fn remove(&mut self, place: usize) {
        if let Some(have) = self.have.get_mut(place) {
            *have -= 1;
        }
    }

    /// The hop wants no more than it has.
    fn content(&mut self, place: usize) {
        if let (Some(want), Some(have)) = (self.want.get_mut(place), self.have.get(place)) {
            *want = (*want).min(*have);
        }
    }

    /// Takes from hops that have too much what others lack, first of all the slots that whoever lacks some would rather have.
    fn take_surplus(&mut self, slots: &mut [Option<usize>], preferred: &[Option<usize>]) {
        for (slot, preferred) in slots.iter_mut().zip(preferred) {
            if let (Some(from), Some(to)) = (*slot, *preferred)
                && self.lacks(from) < 0
                && self.lacks(to) > 0
            {
                *slot = Some(to);
                self.remove(from);
                self.add(to);
            }
        }
        let free = slots.iter().filter(|slot| slot.is_none()).count() as i64;
        let lacking: i64 = (0..self.want.len()).map(|place| self.lacks(place).max(0)).sum();
        let mut needed = lacking - free;
        for slot in slots {
            if needed <= 0 {
                break;
            }
            if let Some(from) = slot.filter(|from| self.lacks(*from) < 0) {
                *slot = None;
                self.remove(from);
                needed -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
