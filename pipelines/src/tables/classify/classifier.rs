//! The classifier: both families' trees, and the sets.

use std::net::IpAddr;
use std::sync::Arc;

use zsync_packet::burst::BURST;

use super::error::ClassifyError;
use super::expand::{SetBits, Side, expand};
use super::forest::{Forest, NONE};
use super::grow::grow;
use super::key::{ADDRESS, DSCP, FLAGS, Key, Keys, MARK, META, SETS, Subject, TYPED};
use super::prefixes::{PrefixSet, SetMap};
use super::record::Record;
use super::rule::Rule;

/// Records of a tree that are looked at to find what covers a rule.
const COVER_LIMIT: usize = 64;

/// See the module [`classify`](super). Cloning shares it.
#[derive(Clone, Debug)]
pub struct Classifier {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    v4: Family<8>,
    v6: Family<16>,
    sources: Option<SetMap>,
    destinations: Option<SetMap>,
    asks_mark: bool,
    asks_packet: bool,
}

#[derive(Debug)]
struct Family<const N: usize> {
    forest: Forest<N>,
    /// The number of the first record of each rule, and at the end the number of records.
    starts: Vec<u32>,
}

/// What a classifier takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes, in all.
    pub bytes: usize,
    /// Records, of IPv4 and of IPv6.
    pub records: (usize, usize),
    /// Trees, of IPv4 and of IPv6.
    pub trees: (usize, usize),
    /// The longest list that is compared one by one, of IPv4 and of IPv6.
    pub longest: (usize, usize),
}

impl Classifier {
    /// For these rules, in order; `sets` by the numbers that rules give.
    ///
    /// # Errors
    /// The rules need more than there is room for: [`ClassifyError`].
    pub fn compile(rules: &[Rule], sets: &[Arc<PrefixSet>]) -> Result<Self, ClassifyError> {
        let bits = SetBits::new(rules, sets)?;
        let ends: Vec<bool> = rules.iter().map(|rule| rule.ends).collect();
        let v4 = Family::new(rules, &bits, &ends)?;
        let v6 = Family::new(rules, &bits, &ends)?;
        let asks = |word: usize, mask: u64| v4.asks(word, mask) || v6.asks(word, mask);
        let of = |(first, bits): (u32, u32)| ((1 << bits) - 1) << first;
        let packet = of(FLAGS) | of(DSCP) | 1 << TYPED;
        let (asks_mark, asks_packet) = (asks(MARK, u64::MAX), asks(META, packet));
        let (sources, destinations) = (bits.map(Side::From, sets), bits.map(Side::To, sets));
        Ok(Self { inner: Arc::new(Inner { v4, v6, sources, destinations, asks_mark, asks_packet }) })
    }

    /// Whether any rule asks for the mark; else it need not be in the keys.
    #[inline]
    pub fn asks_mark(&self) -> bool {
        self.inner.asks_mark
    }

    /// Whether any rule asks for TCP flags, ICMP type or DSCP; else these need not be in the keys.
    #[inline]
    pub fn asks_packet(&self) -> bool {
        self.inner.asks_packet
    }

    /// Notes in the keys which sets the packets' addresses are in: before they are classified, once. `v4` and `v6` are the
    /// numbers of the packets of each family.
    #[inline]
    pub fn look_up_sets(&self, keys: &mut Keys, v4: &[u8], v6: &[u8]) {
        let Inner { sources, destinations, .. } = &*self.inner;
        if let Some(sources) = sources {
            for key in of(keys, v4) {
                keys.0[key][SETS] |= sources.v4((keys.0[key][ADDRESS] >> 32) as u32);
            }
            for key in of(keys, v6) {
                keys.0[key][SETS] |= sources.v6(keys.0[key][ADDRESS], keys.0[key][ADDRESS + 1]);
            }
        }
        if let Some(destinations) = destinations {
            for key in of(keys, v4) {
                keys.0[key][SETS] |= destinations.v4(keys.0[key][ADDRESS] as u32);
            }
            for key in of(keys, v6) {
                keys.0[key][SETS] |= destinations.v6(keys.0[key][ADDRESS + 2], keys.0[key][ADDRESS + 3]);
            }
        }
    }

    /// For each of the packets `v4` and `v6` (numbers in the burst), the place of the first rule that it meets, in `found`;
    /// `u32::MAX` when it meets none.
    #[inline]
    pub fn classify(&self, keys: &Keys, v4: &[u8], v6: &[u8], found: &mut [u32; BURST]) {
        self.classify_from(keys, v4, v6, &[0; BURST], found);
    }

    /// As [`Self::classify`], but of each packet only the rules from place `from` on count. These may be no rules that an
    /// earlier one hides from the packet: whoever resumes has met a rule that does not end.
    pub fn classify_from(
        &self,
        keys: &Keys,
        v4: &[u8],
        v6: &[u8],
        from: &[u32; BURST],
        found: &mut [u32; BURST],
    ) {
        if !v4.is_empty() {
            self.inner.v4.search(keys, v4, from, found);
        }
        if !v6.is_empty() {
            self.inner.v6.search(keys, v6, from, found);
        }
    }

    /// The place of the first rule from place `from` on that a packet meets: what a worker would find, for who explains it.
    pub fn first(&self, subject: &Subject, from: usize) -> Option<usize> {
        let mut keys = Keys::default();
        keys.0[0] = subject.key();
        let (v4, v6): (&[u8], &[u8]) = match subject.source {
            IpAddr::V4(_) => (&[0], &[]),
            IpAddr::V6(_) => (&[], &[0]),
        };
        self.look_up_sets(&mut keys, v4, v6);
        let mut found = [NONE; BURST];
        self.classify_from(&keys, v4, v6, &[from as u32; BURST], &mut found);
        (found[0] != NONE).then_some(found[0] as usize)
    }

    /// The rules that no packet ever meets because one earlier rule, at which packets end, takes all of theirs: the place of
    /// each and of one that covers it. Rules that only several together cover are not found, nor are all that lie in a crowd
    /// of overlapping ones.
    pub fn covered(&self, rules: &[Rule]) -> Vec<(usize, usize)> {
        let (v4, v6) = (self.inner.v4.covered(rules), self.inner.v6.covered(rules));
        let of = |place: usize, covers: &[Option<u32>], family: &[u32]| {
            let records = family.get(place + 1).zip(family.get(place)).map_or(0, |(end, start)| end - start);
            let cover = covers.get(place).copied().flatten();
            // Without records the rule is not for this family.
            if records == 0 { Some(None) } else { cover.map(Some) }
        };
        (0..rules.len())
            .filter_map(|place| {
                let four = of(place, &v4, &self.inner.v4.starts)?;
                let six = of(place, &v6, &self.inner.v6.starts)?;
                Some((place, four.or(six)? as usize))
            })
            .collect()
    }

    /// What it takes.
    pub fn footprint(&self) -> Footprint {
        let Inner { v4, v6, sources, destinations, .. } = &*self.inner;
        let maps = [sources, destinations].into_iter().flatten().map(SetMap::bytes).sum::<usize>();
        Footprint {
            bytes: v4.bytes() + v6.bytes() + maps,
            records: (v4.forest.rules.len(), v6.forest.rules.len()),
            trees: (v4.forest.trees.len(), v6.forest.trees.len()),
            longest: (v4.forest.longest(), v6.forest.longest()),
        }
    }
}

/// The packets of these numbers that can be.
#[inline]
fn of(keys: &Keys, packets: &[u8]) -> impl Iterator<Item = usize> + use<> {
    let (mut numbers, count) = ([0u8; BURST], packets.len().min(BURST));
    numbers[..count].copy_from_slice(&packets[..count]);
    let limit = keys.0.len();
    (0..count).map(move |i| usize::from(numbers[i]) % limit)
}

impl<const N: usize> Family<N> {
    fn new(rules: &[Rule], bits: &SetBits, ends: &[bool]) -> Result<Self, ClassifyError> {
        let (mut records, mut owners) = (Vec::with_capacity(rules.len()), Vec::with_capacity(rules.len()));
        let mut starts = Vec::with_capacity(rules.len() + 1);
        for (place, rule) in rules.iter().enumerate() {
            starts.push(records.len() as u32);
            expand(place, rule, bits, &mut records, &mut owners)?;
        }
        starts.push(records.len() as u32);
        Ok(Self { forest: grow(records, owners, ends), starts })
    }

    fn asks(&self, word: usize, mask: u64) -> bool {
        self.forest.records.iter().any(|record| record.ternary(word).1 & mask != 0)
    }

    fn search(&self, keys: &Keys, packets: &[u8], from: &[u32; BURST], found: &mut [u32; BURST]) {
        let resumes = packets.iter().any(|&packet| from[usize::from(packet) % BURST] != 0);
        if resumes {
            let end = self.forest.rules.len() as u32;
            let records = from.map(|rule| self.starts.get(rule as usize).copied().unwrap_or(end));
            self.forest.search(keys, packets, &records, found);
        } else {
            self.forest.search(keys, packets, from, found);
        }
        for &packet in packets {
            let found = &mut found[usize::from(packet) % BURST];
            // No record has the number of none.
            *found = self.forest.rules.get(*found as usize).copied().unwrap_or(NONE);
        }
    }

    /// For each rule all of whose records one earlier rule's record covers, that rule; with several, that of the last record.
    fn covered(&self, rules: &[Rule]) -> Vec<Option<u32>> {
        let forest = &self.forest;
        let ends = |rule: u32| rules.get(rule as usize).is_some_and(|rule| rule.ends);
        let cover = |number: u32, record: &Record<N>, key: &Key| {
            forest.candidates(key, COVER_LIMIT).filter(|&other| other < number).find_map(|other| {
                let rule = *forest.rules.get(other as usize)?;
                let own = *forest.rules.get(number as usize)?;
                (rule < own && ends(rule) && forest.records.get(other as usize)?.covers(record))
                    .then_some(rule)
            })
        };
        let of = |range: std::ops::Range<u32>| {
            let mut last = None;
            for number in range {
                let record = forest.records.get(number as usize)?;
                last = Some(cover(number, record, &record.corner())?);
            }
            last
        };
        self.starts
            .windows(2)
            .map(|pair| if let [start, end] = pair { of(*start..*end) } else { None })
            .collect()
    }

    fn bytes(&self) -> usize {
        self.forest.bytes() + self.starts.len() * 4
    }
}
