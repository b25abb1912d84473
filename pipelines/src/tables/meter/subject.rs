//! Whose meter: one for all packets, one for each source prefix, or one for each flow; and where their states lie.
//!
//! ```text
//!   bytes 0..64      the state of the aggregate; with many meters that of the crowd, who found no slot
//!   bytes 64..192    what an adaptive rate goes by
//!   bytes 192..256   the board: what a shaper tells
//!   bytes 256..      the table of the many
//! ```
//!
//! All workers use the same memory. The layout depends on the meter's words and the capacity alone, so states outlive a
//! change of rates.

use super::adaptive::{Adaptive, Board};
use super::keyed::{Keyed, KeyedView, State};
use serde::{Deserialize, Serialize};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::region::Region;

/// Bytes ahead of the table.
const HEADER: usize = 256;
/// The longest state, in words.
const MOST_WORDS: usize = 8;
const ADAPTIVE_AT: usize = 64;
const BOARD_AT: usize = 192;
const _: () = assert!(ADAPTIVE_AT + Adaptive::WORDS * 8 <= BOARD_AT && BOARD_AT + Board::WORDS * 8 <= HEADER);
/// Buckets that [`Subjects::tend`] looks at in one call: at 10,000 calls a second, a million states in 3 s.
const SWEEP: usize = 4;

/// Who has a meter of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Per {
    /// All packets share one.
    All,
    /// Each source prefix of these lengths: 0 to 32 bits of an IPv4 address, 0 to 128 of an IPv6 one.
    Source {
        /// Bits of an IPv4 address.
        v4: u8,
        /// Bits of an IPv6 address.
        v6: u8,
    },
    /// Each flow, in each direction: addresses, ports and protocol.
    Flow,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Subjects {
    region: Region,
    table: Option<Keyed>,
    /// What remains of a key's first two words, and of its last; by family: IPv4, IPv6.
    masks: [[u64; 2]; 2],
    flows: bool,
    hash_key: HashKey,
    swept: usize,
}

impl Subjects {
    /// Memory for `capacity` meters of `words` words each, in bytes; for one meter the capacity does not matter.
    #[must_use]
    pub const fn bytes(per: Per, capacity: usize, words: usize) -> usize {
        match per {
            Per::All => HEADER,
            Per::Source { .. } | Per::Flow => HEADER + Keyed::bytes(capacity, words),
        }
    }

    /// Subjects whose states lie in `region`, which is fresh or was used with the same capacity and words. `hash_key` is the
    /// secret of this boot. None when the memory is too short.
    #[must_use]
    pub fn open(region: Region, per: Per, capacity: usize, words: usize, hash_key: HashKey) -> Option<Self> {
        region.u64s(0, HEADER / 8)?;
        let table = match per {
            Per::All => None,
            _ => Some(Keyed::open(region.part(HEADER..region.len())?, capacity, words)?),
        };
        let masks = match per {
            Per::Source { v4, v6 } => {
                let mask = |bits: u32| u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
                [mask(96 + u32::from(v4)), mask(u32::from(v6))].map(halves)
            }
            Per::All | Per::Flow => [[u64::MAX; 2]; 2],
        };
        Some(Self { region, table, masks, flows: per == Per::Flow, hash_key, swept: 0 })
    }

    /// The table; none when all share one meter.
    #[inline]
    #[must_use]
    pub fn table(&self) -> Option<KeyedView<'_>> {
        self.table.as_ref().map(Keyed::view)
    }

    /// The state that all share, or those that found no slot; as long as the longest meter's.
    #[inline]
    #[must_use]
    pub fn common(&self) -> &[AtomicU64] {
        self.region.u64s(0, MOST_WORDS).unwrap_or(&[])
    }

    /// The state of an adaptive rate.
    #[inline]
    #[must_use]
    pub fn adaptive(&self) -> Option<&[AtomicU64; Adaptive::WORDS]> {
        self.region.u64s(ADAPTIVE_AT, Adaptive::WORDS)?.first_chunk()
    }

    /// The board.
    #[inline]
    #[must_use]
    pub fn board(&self) -> Option<Board<'_>> {
        board(&self.region)
    }

    /// The hash by which a packet of that flow finds its meter.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &FlowKey) -> u64 {
        if self.flows {
            return key.hash(&self.hash_key);
        }
        let [hi, lo, _, _, rest] = key.words();
        let [hi_mask, lo_mask] = self.masks[usize::from(key.version() == 6)];
        // Ports and protocol are not the source's.
        FlowKey::from_words([hi & hi_mask, lo & lo_mask, 0, 0, rest >> 40 << 40]).hash(&self.hash_key)
    }

    /// Says in words whose meter a packet of that flow has at `now` (ns), and whether it is idle.
    #[must_use]
    pub fn explain(&self, key: &FlowKey, now: u64, state: &impl State) -> String {
        let idle = |words| if state.is_idle(words, now) { "idle" } else { "in use" };
        let Some(table) = self.table() else {
            return format!("the meter of all packets, {}", idle(self.common()));
        };
        let whose = if self.flows { "its flow" } else { "its source" };
        match table.find(self.hash(key)) {
            Some(words) => format!("the meter of {whose}, {}", idle(words)),
            None => format!("{whose} has no meter yet"),
        }
    }

    /// The state of the meter that a packet of that flow has; none where it has none yet.
    #[must_use]
    pub fn state(&self, key: &FlowKey) -> Option<&[AtomicU64]> {
        match self.table() {
            None => Some(self.common()),
            Some(table) => table.find(self.hash(key)),
        }
    }

    /// A slice of keeping the states young: see [`KeyedView::sweep`].
    pub fn tend(&mut self, now: u64, state: &impl State) {
        for word in self.common() {
            let old = word.load(Relaxed);
            if old != 0 && state.is_past(old, now) {
                // Unless somebody has just used it.
                let _ = word.compare_exchange(old, 0, Relaxed, Relaxed);
            }
        }
        if let Some(table) = &self.table {
            self.swept = table.view().sweep(self.swept, SWEEP, now, state);
        }
    }
}

/// The board in the memory of a shaper's states: for whoever follows it.
#[must_use]
pub fn board(region: &Region) -> Option<Board<'_>> {
    region.u64s(BOARD_AT, Board::WORDS)?.first_chunk().map(Board::new)
}

/// An address mask as the words of a key have it.
fn halves(mask: u128) -> [u64; 2] {
    [((mask >> 64) as u64).to_be(), (mask as u64).to_be()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::meter::any::Meter;
    use crate::tables::meter::bucket::{Bucket, Rule};
    use crate::tables::meter::pace::{Pace, Rate};
    use crate::tables::meter::{Colour, Writers};

    fn subjects(per: Per) -> Subjects {
        let region = Region::heap(Subjects::bytes(per, 64, 1));
        Subjects::open(region, per, 64, 1, HashKey::from_seed(3)).unwrap()
    }

    fn v4(source: &str, port: u16) -> FlowKey {
        FlowKey::v4((source.parse().unwrap(), port), ([192, 0, 2, 1].into(), 80), 6)
    }

    fn v6(source: &str, port: u16) -> FlowKey {
        FlowKey::v6((source.parse().unwrap(), port), ("2001:db8::1".parse().unwrap(), 80), 6)
    }

    #[test]
    fn sources_of_one_prefix_share_a_meter_and_no_others() {
        let subjects = subjects(Per::Source { v4: 24, v6: 56 });
        let hash = |key: FlowKey| subjects.hash(&key);
        assert_eq!(hash(v4("10.1.2.3", 1)), hash(v4("10.1.2.255", 2)));
        assert_ne!(hash(v4("10.1.2.3", 1)), hash(v4("10.1.3.3", 1)));
        assert_eq!(hash(v6("2001:db8:0:7f::1", 1)), hash(v6("2001:db8:0:ff:1::", 2)));
        assert_eq!(hash(v6("2001:db8:0:00ff::1", 1)), hash(v6("2001:db8::", 9)));
        assert_ne!(hash(v6("2001:db8:0:0100::1", 1)), hash(v6("2001:db8::", 9)));
        assert_ne!(hash(v4("0.0.0.0", 1)), hash(v6("::ffff:0:0", 1)), "a family of its own");
    }

    #[test]
    fn prefixes_of_no_bits_and_of_all_bits() {
        let all = subjects(Per::Source { v4: 0, v6: 0 });
        assert_eq!(all.hash(&v4("10.0.0.1", 1)), all.hash(&v4("192.0.2.9", 7)));
        assert_eq!(all.hash(&v6("::1", 1)), all.hash(&v6("ff00::", 7)));
        let each = subjects(Per::Source { v4: 32, v6: 128 });
        assert_ne!(each.hash(&v4("10.0.0.1", 1)), each.hash(&v4("10.0.0.0", 1)));
        assert_ne!(each.hash(&v6("::1", 1)), each.hash(&v6("::2", 1)));
        assert_eq!(each.hash(&v6("::1", 1)), each.hash(&v6("::1", 2)));
    }

    #[test]
    fn flows_differ_by_their_ports() {
        let subjects = subjects(Per::Flow);
        assert_ne!(subjects.hash(&v4("10.0.0.1", 1)), subjects.hash(&v4("10.0.0.1", 2)));
    }

    #[test]
    fn one_meter_for_all_takes_no_table_and_is_kept_young() {
        let mut subjects = subjects(Per::All);
        assert!(subjects.table().is_none());
        assert_eq!(Subjects::bytes(Per::All, 1 << 20, 8), HEADER);
        let pace = Pace::new(Rate::Bits(8_000_000), 0).unwrap();
        let meter = Meter::Bucket(Bucket::new(pace, 1_000, Rule::Token).unwrap());
        let take =
            |subjects: &Subjects, now| meter.take(subjects.common(), now, 1_000, Colour::Green, Writers::One);
        let hour = 3_600_000_000_000;
        assert_eq!(take(&subjects, hour), Colour::Green);
        subjects.tend(hour, &meter);
        assert_eq!(take(&subjects, hour), Colour::Red, "what is not past stays");
        // Without it the word would be ahead again after half its range, 39 hours.
        subjects.tend(hour + 2_000_000, &meter);
        assert_eq!(take(&subjects, 45 * hour), Colour::Green);
    }

    #[test]
    fn refuses_memory_that_is_too_short() {
        let open =
            |bytes, per| Subjects::open(Region::heap(bytes), per, 64, 2, HashKey::from_seed(1)).is_some();
        assert!(!open(HEADER - 1, Per::All));
        assert!(open(HEADER, Per::All));
        assert!(!open(Subjects::bytes(Per::Flow, 64, 1), Per::Flow));
        assert!(open(Subjects::bytes(Per::Flow, 64, 2), Per::Flow));
    }
}
