//! By which bits a node parts its records.
//!
//! A cut is up to 16 neighbouring bits of a word of the key. A record goes to every child whose bits its own allow: one
//! child if it asks for all of them, all children if for none. `Region::choose` weighs the cuts that there are by what a
//! packet would still have to be compared with.

use super::key::{self, ADDRESS, Key, MARK, META, PORTS, SETS};
use super::record::{Record, address_words};

/// Records looked at to weigh a cut.
const SAMPLE: usize = 256;

/// Some bits of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) word: usize,
    pub(crate) shift: u32,
    pub(crate) bits: u32,
}

/// What a choice comes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) cut: Cut,
    /// Whether the records that the cut does not tell apart shall go to another tree.
    pub(crate) kick: bool,
    score: f32,
}

/// The children that a record goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Children {
    /// From the first to the last.
    Run(u32, u32),
    /// All with these bits, and any of those.
    Masked(u32, u32),
}

impl Children {
    /// How many there are.
    #[inline]
    pub(crate) fn count(self) -> u32 {
        match self {
            Self::Run(first, last) => (last + 1).saturating_sub(first),
            Self::Masked(_, free) => 1 << free.count_ones(),
        }
    }

    /// Calls `each` with the number of each, ascending.
    #[inline]
    pub(crate) fn each(self, mut each: impl FnMut(usize)) {
        match self {
            Self::Run(first, last) => (first..=last).for_each(|child| each(child as usize)),
            Self::Masked(value, free) => {
                let mut some = 0u32;
                loop {
                    each((value | some) as usize);
                    // The next subset of the free bits.
                    some = some.wrapping_sub(free) & free;
                    if some == 0 {
                        break;
                    }
                }
            }
        }
    }
}

/// What all packets that reach a node have in common.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Region {
    pub(crate) value: Key,
    pub(crate) mask: Key,
}

impl Region {
    /// The part that a child gets.
    pub(crate) fn child(&self, cut: Cut, child: usize) -> Self {
        let mut region = *self;
        let mask = ((1u64 << cut.bits) - 1) << cut.shift;
        region.mask[cut.word] |= mask;
        region.value[cut.word] = (region.value[cut.word] & !mask) | (child as u64) << cut.shift;
        region
    }

    /// Whether all packets of the region meet the record, whatever mark earlier rules give them.
    pub(crate) fn is_covered<const N: usize>(&self, record: &Record<N>) -> bool {
        let asks_more = |word: usize| {
            let mask = record.ternary(word).1;
            mask & !self.mask[word] != 0
        };
        if record.ternary(MARK).1 != 0
            || [META, SETS].into_iter().chain(ADDRESS..ADDRESS + address_words(N)).any(asks_more)
        {
            return false;
        }
        [0, 32].into_iter().all(|lane| {
            let (first, last) = record.ports(lane);
            let (value, mask) = (self.value[PORTS] >> lane & 0xffff, self.mask[PORTS] >> lane & 0xffff);
            first <= value && (value | (!mask & 0xffff)) <= last
        })
    }

    /// The children of a cut that a record of this region goes to.
    #[inline]
    pub(crate) fn children<const N: usize>(&self, record: &Record<N>, cut: Cut) -> Children {
        let all = (1u64 << cut.bits) - 1;
        if cut.word != PORTS {
            let (value, mask) = record.ternary(cut.word);
            let (value, mask) = (value >> cut.shift & all, mask >> cut.shift & all);
            return Children::Masked(value as u32, (!mask & all) as u32);
        }
        let lane = cut.shift & 32;
        let (shift, known) = (cut.shift - lane, self.mask[PORTS] >> lane & 0xffff);
        let (mut first, mut last) = record.ports(lane);
        let above = 0xffff & !((1u64 << (shift + cut.bits)) - 1);
        if known & above == above {
            // All higher bits are known here, so the children are neighbours among the ports.
            let upper = self.value[PORTS] >> lane & above;
            first = first.max(upper);
            last = last.min(upper | !above & 0xffff);
        }
        if first >> (shift + cut.bits) == last >> (shift + cut.bits) {
            Children::Run((first >> shift & all) as u32, (last >> shift & all) as u32)
        } else {
            Children::Run(0, all as u32)
        }
    }

    /// The best cut for these records, of which at most `room` copies may be made; `kick`: there can be another tree, which is
    /// worth this many comparisons.
    pub(crate) fn choose<const N: usize>(
        &self,
        records: &[Record<N>],
        numbers: &[u32],
        room: usize,
        kick: Option<f32>,
        scratch: &mut Vec<u32>,
    ) -> Option<Choice> {
        let step = numbers.len().div_ceil(SAMPLE).max(1);
        let sample: Vec<&Record<N>> =
            numbers.iter().step_by(step).filter_map(|number| records.get(*number as usize)).collect();
        let mut best: Option<Choice> = None;
        let asked = Asked::by(&sample);
        for cut in asked.cuts::<N>(self, numbers.len()) {
            let choice = self.weigh(&sample, numbers.len(), cut, room, kick, scratch);
            if let Some(choice) = choice
                && best.is_none_or(|best| choice.score < best.score)
            {
                best = Some(choice);
            }
        }
        best.filter(|best| best.score < 0.75 * numbers.len() as f32)
    }

    fn weigh<const N: usize>(
        &self,
        sample: &[&Record<N>],
        count: usize,
        cut: Cut,
        room: usize,
        kick: Option<f32>,
        counts: &mut Vec<u32>,
    ) -> Option<Choice> {
        let size = 1usize << cut.bits;
        counts.clear();
        counts.resize(size, 0);
        let (mut sum, mut squares, mut wide, mut filled) = (0u64, 0u64, 0usize, 0usize);
        for record in sample {
            let children = self.children(record, cut);
            if children.count() > 1 && children.count() as usize * 4 > size {
                wide += 1;
                continue;
            }
            children.each(|child| {
                if let Some(count) = counts.get_mut(child) {
                    // The sum of squares grows by (n + 1)² - n².
                    squares += 2 * u64::from(*count) + 1;
                    sum += 1;
                    filled += usize::from(*count == 0);
                    *count += 1;
                }
            });
        }
        if sum == 0 {
            return None;
        }
        let scale = count as f32 / sample.len() as f32;
        // What else is in the child of a record.
        let others = scale * (squares - sum) as f32 / sum as f32;
        let wide = wide as f32 * scale;
        let filled = (filled as f32 * scale).min(size as f32);
        let own = sum as f32 * scale;
        let copies = own + wide * (filled + 1.0);
        let choice = |score, kick| Choice { cut, kick, score };
        let stay = (copies <= room as f32).then(|| {
            choice(
                1.0 + others + later(wide, room as f32 / copies) + 0.25 * (copies / count as f32).log2(),
                false,
            )
        });
        let share = wide / count as f32;
        let part = kick.filter(|_| wide > 0.0 && share < 0.9 && own <= room as f32).map(|tree| {
            choice(1.0 + others + tree / (1.0 - share) + 0.25 * (own / count as f32).log2(), true)
        });
        match (stay, part) {
            (Some(stay), Some(part)) => Some(if stay.score <= part.score { stay } else { part }),
            (one, other) => one.or(other),
        }
    }
}

/// Which bits the records ask for, by word.
struct Asked(Key);

impl Asked {
    fn by<const N: usize>(sample: &[&Record<N>]) -> Self {
        let mut asked = Key::default();
        for record in sample {
            for word in [META, MARK, SETS].into_iter().chain(ADDRESS..ADDRESS + address_words(N)) {
                asked[word] |= record.ternary(word).1;
            }
            for lane in [0, 32] {
                if record.ports(lane) != (0, 0xffff) {
                    asked[PORTS] |= 0xffff << lane;
                }
            }
        }
        Self(asked)
    }

    /// The cuts worth weighing for `count` records: where bits are asked for that are not known yet.
    fn cuts<const N: usize>(&self, region: &Region, count: usize) -> Vec<Cut> {
        let bits = (usize::BITS - count.leading_zeros()).clamp(3, 12);
        let mut cuts = Vec::new();
        let mut add = |word: usize, first: u32, width: u32, step: u32, bits: u32| {
            let bits = bits.min(width);
            let mut shift = first + width - bits;
            loop {
                let mask = ((1u64 << bits) - 1) << shift;
                if self.0[word] & mask & !region.mask[word] != 0 {
                    cuts.push(Cut { word, shift, bits });
                }
                if shift < first + step {
                    if shift == first {
                        break;
                    }
                    shift = first;
                } else {
                    shift -= step;
                }
            }
        };
        if N == 8 {
            // Near the root a cut is worth a longer search; the many small nodes below make do with fewer.
            let step = if bits >= 8 { 2 } else { (bits / 2).max(2) };
            add(ADDRESS, 0, 32, step, bits);
            add(ADDRESS, 32, 32, step, bits);
        } else {
            for word in ADDRESS..ADDRESS + 4 {
                add(word, 0, 64, bits.max(4), bits);
            }
        }
        add(PORTS, 0, 16, 2, bits);
        add(PORTS, 32, 16, 2, bits);
        for (first, width) in
            [key::PROTOCOL, key::FLAGS, key::DSCP, key::STATE, key::FRAGMENT, key::VLAN, key::INPUT]
        {
            add(META, first, width, 4, bits.min(8));
        }
        add(MARK, 0, 32, 4, bits);
        add(SETS, 0, 64, 4, bits.min(8));
        cuts
    }
}

/// What `wide` records cost that are copied to every child: they can be told apart further down as far as there is `room` for
/// more copies of each.
fn later(wide: f32, room: f32) -> f32 {
    let apart = 2.0 + wide.max(1.0).log2();
    wide.min(apart + wide / room.max(1.0))
}
