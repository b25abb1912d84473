//! From rules to records.
//!
//! A record has one value under a mask for each field, so a rule with lists becomes a record for each combination of their
//! entries. A long list of prefixes becomes a set, while there is a bit for it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::error::ClassifyError;
use super::key::{self, ADDRESS, MARK, META, SETS, States};
use super::prefixes::{PrefixSet, SetMap};
use super::record::Record;
use super::rule::{Addresses, Ports, Rule, Vlan};
use crate::spec::Prefix;

/// Sets and directions that can be asked for: the bits of a word.
pub(crate) const MAX_SETS: usize = 64;
/// Records that one rule may become.
pub(crate) const MAX_COMBINATIONS: usize = 1 << 16;
/// Records of a family.
pub(crate) const MAX_RECORDS: usize = 1 << 21;
/// A list of more prefixes than this is better a set.
const LONG_LIST: usize = 16;

/// The direction of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    From,
    To,
}

/// The bits of sets: the named ones that rules ask for, and those made of long lists.
pub(crate) struct SetBits {
    named: BTreeMap<(usize, Side), u32>,
    /// By the rule's place.
    lists: BTreeMap<(usize, Side), u32>,
    made: Vec<(u32, Side, PrefixSet)>,
}

impl SetBits {
    /// Gives bits to everything that needs one.
    pub(crate) fn new(rules: &[Rule], sets: &[Arc<PrefixSet>]) -> Result<Self, ClassifyError> {
        let mut bits = Self { named: BTreeMap::new(), lists: BTreeMap::new(), made: Vec::new() };
        let sides = |rule: &'_ Rule| [(Side::From, rule.from.clone()), (Side::To, rule.to.clone())];
        for (place, rule) in rules.iter().enumerate() {
            for (side, addresses) in [(Side::From, &rule.from), (Side::To, &rule.to)] {
                if let Addresses::Set(set) = addresses {
                    if *set >= sets.len() {
                        return Err(ClassifyError::NoSuchSet { rule: place, set: *set });
                    }
                    let next = bits.named.len() as u32;
                    bits.named.entry((*set, side)).or_insert(next);
                }
            }
        }
        if bits.named.len() > MAX_SETS {
            return Err(ClassifyError::TooManySets { sets: bits.named.len(), limit: MAX_SETS });
        }
        for (place, rule) in rules.iter().enumerate() {
            let long =
                |addresses: &Addresses| matches!(addresses, Addresses::In(list) if list.len() > LONG_LIST);
            if !long(&rule.from) && !long(&rule.to) {
                continue;
            }
            for (side, addresses) in sides(rule) {
                let next = bits.named.len() + bits.lists.len();
                if let Addresses::In(list) = addresses
                    && list.len() > LONG_LIST
                    && next < MAX_SETS
                {
                    bits.lists.insert((place, side), next as u32);
                    bits.made.push((next as u32, side, PrefixSet::new(list)));
                }
            }
        }
        Ok(bits)
    }

    /// The map of one direction; `None` when nobody asks.
    pub(crate) fn map(&self, side: Side, sets: &[Arc<PrefixSet>]) -> Option<SetMap> {
        let named = self.named.iter().filter(|((_, of), _)| *of == side);
        let named = named.filter_map(|((set, _), bit)| Some((1 << bit, &**sets.get(*set)?)));
        let made = self.made.iter().filter(|(_, of, _)| *of == side).map(|(bit, _, set)| (1 << bit, set));
        let all: Vec<(u64, &PrefixSet)> = named.chain(made).collect();
        (!all.is_empty()).then(|| SetMap::new(&all))
    }

    fn bit(&self, place: usize, side: Side, addresses: &Addresses) -> Option<u32> {
        match addresses {
            Addresses::Set(set) => self.named.get(&(*set, side)).copied(),
            Addresses::In(_) => self.lists.get(&(place, side)).copied(),
            Addresses::Any => None,
        }
    }
}

/// Adds the records of the rule at `place` to `records`, and its place as often to `rules`.
pub(crate) fn expand<const N: usize>(
    place: usize,
    rule: &Rule,
    bits: &SetBits,
    records: &mut Vec<Record<N>>,
    rules: &mut Vec<u32>,
) -> Result<(), ClassifyError> {
    let v4 = N == 8;
    if !(if v4 { rule.v4 } else { rule.v6 })
        || rule.states.0 & States::ALL.0 == 0
        || rule.fragments & 0b111 == 0
    {
        return Ok(());
    }
    let mut base = Record::<N>::any();
    common(rule, &mut base);
    let mut sides = [Vec::new(), Vec::new()];
    for (list, (side, addresses)) in sides.iter_mut().zip([(Side::From, &rule.from), (Side::To, &rule.to)]) {
        if let Some(bit) = bits.bit(place, side, addresses) {
            base.ask(SETS, 1 << bit, 1 << bit);
            list.push(None);
        } else if let Addresses::In(prefixes) = addresses {
            list.extend(prefixes.iter().filter(|prefix| prefix.addr().is_ipv4() == v4).map(Some));
        } else {
            list.push(None);
        }
    }
    let any = Ports { first: 0, last: u16::MAX };
    let ranges = |ports: &[Ports]| if ports.is_empty() { vec![any] } else { joined(ports) };
    let (mut from_ports, mut to_ports) = (ranges(&rule.from_ports), ranges(&rule.to_ports));
    if let Some((kind, code)) = rule.icmp {
        let (first, last) = code.map_or((0, u8::MAX), |code| (code, code));
        let typed = |code| u16::from_be_bytes([kind, code]);
        (from_ports, to_ports) = (vec![any], vec![Ports { first: typed(first), last: typed(last) }]);
    }
    let vlans: Vec<(u64, u64)> = match rule.vlan.as_slice() {
        [] => vec![(0, 0)],
        vlans => vlans.iter().map(|vlan| masked_vlan(*vlan)).collect(),
    };
    let protocols = alternatives(&rule.protocols, key::PROTOCOL);
    let dscps = alternatives(&rule.dscp, key::DSCP);
    let inputs = alternatives(&rule.inputs, key::INPUT);
    let lengths = [sides[0].len(), sides[1].len(), from_ports.len(), to_ports.len()];
    let lengths = lengths.into_iter().chain([vlans.len(), protocols.len(), dscps.len(), inputs.len()]);
    let combinations = lengths.fold(1usize, usize::saturating_mul);
    if combinations > MAX_COMBINATIONS {
        return Err(ClassifyError::TooManyCombinations {
            rule: place,
            combinations,
            limit: MAX_COMBINATIONS,
        });
    }
    if records.len() + combinations > MAX_RECORDS {
        return Err(ClassifyError::TooManyRecords { limit: MAX_RECORDS });
    }
    for number in 0..combinations {
        let mut record = base;
        let mut left = number;
        let mut pick = |len: usize| {
            let at = left % len;
            left /= len;
            at
        };
        let (source, destination) = (from_ports[pick(from_ports.len())], to_ports[pick(to_ports.len())]);
        record.ask_ports((source.first, source.last), (destination.first, destination.last));
        for list in [&vlans, &protocols, &dscps, &inputs] {
            let (value, mask) = list[pick(list.len())];
            record.ask(META, value, mask);
        }
        for (side, list) in [Side::From, Side::To].into_iter().zip(&sides) {
            if let Some(prefix) = list[pick(list.len())] {
                ask_prefix(&mut record, side, prefix);
            }
        }
        records.push(record);
        rules.push(place as u32);
    }
    Ok(())
}

/// What all records of a rule have in common.
fn common<const N: usize>(rule: &Rule, record: &mut Record<N>) {
    // The bits of what the rule does not allow must not be set.
    let others = |all: u8, field: (u32, u32)| u64::from(!all) << field.0 & mask(field);
    record.ask(META, 0, others(rule.states.0, key::STATE) | others(rule.fragments, key::FRAGMENT));
    let flags = |flags: u8| u64::from(flags) << key::FLAGS.0;
    record.ask(META, flags(rule.tcp_flags.value), flags(rule.tcp_flags.mask));
    record.ask(MARK, rule.mark.value.into(), rule.mark.mask.into());
    if rule.icmp.is_some() {
        record.ask(META, 1 << key::TYPED, 1 << key::TYPED);
    }
    if !rule.from_ports.is_empty() || !rule.to_ports.is_empty() || rule.tcp_flags.mask != 0 {
        record.ask(META, 1 << key::TRANSPORT, 1 << key::TRANSPORT);
    }
}

fn mask((first, bits): (u32, u32)) -> u64 {
    ((1 << bits) - 1) << first
}

/// Value and mask for each entry of a list; nothing asked for when it is empty.
fn alternatives<T: Copy + Into<u64>>(list: &[T], field: (u32, u32)) -> Vec<(u64, u64)> {
    match list {
        [] => vec![(0, 0)],
        list => list.iter().map(|value| ((*value).into() << field.0 & mask(field), mask(field))).collect(),
    }
}

fn masked_vlan(vlan: Vlan) -> (u64, u64) {
    let tagged = u64::from(key::TAGGED) << key::VLAN.0;
    match vlan {
        Vlan::Untagged => (0, tagged),
        Vlan::Tagged => (tagged, tagged),
        Vlan::Id(id) => (u64::from(id & 0xfff | key::TAGGED) << key::VLAN.0, mask(key::VLAN)),
    }
}

/// As few ranges as hold the same ports.
fn joined(ports: &[Ports]) -> Vec<Ports> {
    let mut ports = ports.to_vec();
    ports.retain(|range| range.first <= range.last);
    ports.sort_unstable();
    ports.dedup_by(|later, earlier| {
        let joined = u32::from(later.first) <= u32::from(earlier.last) + 1;
        if joined {
            earlier.last = earlier.last.max(later.last);
        }
        joined
    });
    ports
}

fn ask_prefix<const N: usize>(record: &mut Record<N>, side: Side, prefix: &Prefix) {
    match prefix.addr() {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.len())).unwrap_or(0);
            let shift = if side == Side::From { 32 } else { 0 };
            record.ask(ADDRESS, u64::from(address.to_bits()) << shift, u64::from(mask) << shift);
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.len())).unwrap_or(0);
            let word = if side == Side::From { ADDRESS } else { ADDRESS + 2 };
            record.ask(word, (address.to_bits() >> 64) as u64, (mask >> 64) as u64);
            record.ask(word + 1, address.to_bits() as u64, mask as u64);
        }
    }
}
