//! How the filters and sets of two configurations differ, without writing them down: a rule's text is made only to be shown.
//!
//! Rules name sets, counters, ports and pipelines by place. So they are compared as they are where all places mean the same,
//! else by their text.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, BuildHasherDefault, Hash, Hasher};

use super::{Change, Effect, Mark, whole};
use crate::spec::address::Prefix;
use crate::spec::filter::{FilterRule, FilterSet, FilterSpec};
use crate::spec::model::{PortId, Spec, StageSpec};

/// Entries of a list that are shown, of those that came or went.
const SHOWN: usize = 4;

/// The differences of filters that both have, and of all sets, by section.
pub(super) fn diff(old: &Spec, new: &Spec, changes: &mut BTreeMap<String, Vec<Change>>) {
    let (were, are) = (filters(old), filters(new));
    for (label, filter) in &are {
        let Some(was) = were.get(label).filter(|was| *was != filter || !alike(old, new)) else { continue };
        let into = changes.entry((*label).to_owned()).or_default();
        if was.default_word() != filter.default_word() {
            into.push(change(
                label,
                "default",
                format!("{} → {}", was.default_word(), filter.default_word()),
            ));
        }
        if was.drops_non_ip != filter.drops_non_ip {
            let word = |filter: &FilterSpec| if filter.drops_non_ip { "drop" } else { "accept" };
            into.push(change(label, "non-ip", format!("{} → {}", word(was), word(filter))));
        }
        into.extend(rules((old, was), (new, filter)).map(|detail| change(label, "rules", detail)));
    }
    let (were, are) = (sets(&were), sets(&are));
    for (name, set) in &are {
        let label = format!("set.{name}");
        match were.get(name) {
            None => changes.entry(label.clone()).or_default().push(whole(Mark::Added, &label)),
            Some(was) if was != set => {
                let into = changes.entry(label.clone()).or_default();
                let prefixes = lists(&was.prefixes, &set.prefixes, |prefix| prefix.to_string());
                into.extend(prefixes.map(|detail| change(&label, "prefixes", detail)));
                into.extend(file(was, set).map(|detail| change(&label, "file", detail)));
            }
            Some(_) => {}
        }
    }
    for name in were.keys().filter(|name| !are.contains_key(*name)) {
        let label = format!("set.{name}");
        changes.entry(label.clone()).or_default().push(whole(Mark::Removed, &label));
    }
}

fn change(label: &str, key: &str, detail: String) -> Change {
    Change { mark: Mark::Changed, path: format!("{label}.{key}"), detail, effect: Effect::Live }
}

fn filters(spec: &Spec) -> BTreeMap<&str, &FilterSpec> {
    let stages = spec.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    stages
        .filter_map(|stage| match &stage.spec {
            StageSpec::Filter(filter) => Some((stage.label.as_str(), filter)),
            _ => None,
        })
        .collect()
}

fn sets<'s>(filters: &BTreeMap<&str, &'s FilterSpec>) -> BTreeMap<&'s str, &'s FilterSet> {
    filters.values().flat_map(|filter| &filter.sets).map(|set| (set.name.as_str(), set)).collect()
}

/// Whether the numbers of ports and pipelines mean the same in both.
fn alike(old: &Spec, new: &Spec) -> bool {
    let ports = |spec: &Spec| -> Vec<String> {
        (0..spec.port_count()).map(|id| spec.port_name(PortId(id as u16)).to_owned()).collect()
    };
    let pipelines = |spec: &Spec| -> Vec<String> {
        spec.pipelines.iter().map(|pipeline| pipeline.name.clone()).collect()
    };
    ports(old) == ports(new) && pipelines(old) == pipelines(new)
}

fn rules((old, was): (&Spec, &FilterSpec), (new, is): (&Spec, &FilterSpec)) -> Option<String> {
    let sets = |filter: &FilterSpec| filter.sets.iter().map(|set| set.name.clone()).collect::<Vec<_>>();
    if alike(old, new) && was.counters == is.counters && sets(was) == sets(is) {
        return lists(&was.rules, &is.rules, |rule: &FilterRule| is.rule_text(new, rule));
    }
    let texts = |spec: &Spec, filter: &FilterSpec| -> Vec<String> {
        filter.rules.iter().map(|rule| filter.rule_text(spec, rule)).collect()
    };
    lists(&texts(old, was), &texts(new, is), String::clone)
}

/// What a set's file says otherwise.
fn file(was: &FilterSet, is: &FilterSet) -> Option<String> {
    let path =
        |set: &FilterSet| set.file.as_ref().map_or_else(|| "none".to_owned(), |file| file.path.clone());
    if path(was) != path(is) {
        return Some(format!("{} → {}", path(was), path(is)));
    }
    let (was, is) = (was.file.as_ref()?, is.file.as_ref()?);
    let [gone, come] = [without(&was.prefixes, &is.prefixes), without(&is.prefixes, &was.prefixes)];
    let told = [told("-", &gone, Prefix::to_string), told("+", &come, Prefix::to_string)].concat();
    (!told.is_empty()).then(|| format!("{}: {}", is.path, told.join(", ")))
}

/// Those in `all` that are not in `others`; both ascend.
fn without<'p>(all: &'p [Prefix], others: &[Prefix]) -> Vec<&'p Prefix> {
    let mut others = others.iter().peekable();
    let here = |prefix: &&Prefix| {
        while others.next_if(|other| other < prefix).is_some() {}
        others.peek() != Some(prefix)
    };
    all.iter().filter(here).collect()
}

/// The first few, each with its mark, and how many there are beyond.
fn told<T>(mark: &str, found: &[&T], text: impl Fn(&T) -> String) -> Vec<String> {
    let shown = if found.len() > SHOWN + 1 { SHOWN } else { found.len() };
    let told = found.iter().take(shown).map(|entry| format!("{mark}{}", text(entry)));
    let more = (found.len() > shown).then(|| format!("{mark}{} more", found.len() - shown));
    told.chain(more).collect()
}

/// What came and went, or that only the order is another; nothing when both are the same.
fn lists<T: Eq + Hash>(was: &[T], is: &[T], text: impl Fn(&T) -> String) -> Option<String> {
    let ahead = was.iter().zip(is).take_while(|(a, b)| a == b).count();
    let (was, is) = (was.get(ahead..)?, is.get(ahead..)?);
    let behind = was.iter().rev().zip(is.iter().rev()).take_while(|(a, b)| a == b).count();
    let (was, is) = (was.get(..was.len() - behind)?, is.get(..is.len() - behind)?);
    if was.is_empty() && is.is_empty() {
        return None;
    }
    let (was_keys, is_keys) = (keys(was), keys(is));
    // How often each is there more than before.
    let mut more: HashMap<u64, i64, BuildHasherDefault<Quick>> = HashMap::default();
    more.reserve(is.len());
    for key in &is_keys {
        *more.entry(*key).or_default() += 1;
    }
    for key in &was_keys {
        *more.entry(*key).or_default() -= 1;
    }
    let mut some = |mark: &str, entries: &[T], keys: &[u64], sign: i64| {
        let mut found = Vec::new();
        for (entry, key) in entries.iter().zip(keys) {
            if let Some(count) = more.get_mut(key).filter(|count| count.signum() == sign) {
                *count -= sign;
                found.push(entry);
            }
        }
        told(mark, &found, &text)
    };
    let told = [some("-", was, &was_keys, -1), some("+", is, &is_keys, 1)].concat();
    Some(if told.is_empty() { "in another order".to_owned() } else { told.join(", ") })
}

/// A number for each entry, the same for equal ones. Two others have the same so seldom that it does not matter to who reads
/// what has changed; nothing else depends on it.
fn keys<T: Hash>(entries: &[T]) -> Vec<u64> {
    let build = BuildHasherDefault::<Quick>::default();
    entries.iter().map(|entry| build.hash_one(entry)).collect()
}

/// A quick mixture of words.
#[derive(Default)]
struct Quick(u64);

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        let mixed =
            u128::from(self.0.rotate_left(29) ^ value ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        self.0 = mixed as u64 ^ (mixed >> 64) as u64;
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
