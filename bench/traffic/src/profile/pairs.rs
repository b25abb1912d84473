//! Pairs: the words of a profile's text, and what is wrong with them.

use core::fmt;
use core::str::FromStr;

use super::ProfileError;
use crate::sweep::Values;
use crate::template::Field;

/// The keys that are fields, which sweep.
pub(super) const SWEPT: [(&str, Field); 19] = [
    ("src-mac", Field::SourceMac),
    ("dst-mac", Field::DestinationMac),
    ("vlan", Field::Vlan),
    ("inner-vlan", Field::InnerVlan),
    ("src", Field::Source),
    ("dst", Field::Destination),
    ("ttl", Field::Ttl),
    ("dscp", Field::Dscp),
    ("flow-label", Field::FlowLabel),
    ("sport", Field::SourcePort),
    ("dport", Field::DestinationPort),
    ("echo-id", Field::EchoId),
    ("outer-src", Field::OuterSource),
    ("outer-dst", Field::OuterDestination),
    ("outer-ttl", Field::OuterTtl),
    ("outer-dscp", Field::OuterDscp),
    ("outer-sport", Field::OuterSourcePort),
    ("vni", Field::Vni),
    ("gre-key", Field::GreKey),
];
/// The other keys.
const OTHERS: [&str; 11] =
    ["proto", "flags", "udp-checksum", "tunnel", "size", "flows", "choice", "rate", "shape", "run", "seed"];

/// The pairs of a text, and what went wrong so far.
pub(super) struct Pairs<'a> {
    pub(super) pairs: Vec<(&'a str, &'a str)>,
    pub(super) errors: Vec<ProfileError>,
}

impl<'a> Pairs<'a> {
    /// Reads the pairs; keys that are not known, or come twice, are errors.
    pub(super) fn new(text: &'a str) -> Self {
        let mut read = Self { pairs: Vec::new(), errors: Vec::new() };
        let words =
            text.lines().flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace());
        for word in words {
            match word.split_once('=') {
                None => read.wrong(word, "no pair: expected key=value, without blanks"),
                Some((key, _)) if read.pairs.iter().any(|(known, _)| *known == key) => {
                    read.wrong(key, "given twice");
                }
                Some((key, _)) if !OTHERS.contains(&key) && SWEPT.iter().all(|(name, _)| *name != key) => {
                    let names = SWEPT.iter().map(|(name, _)| *name).chain(OTHERS).collect::<Vec<_>>();
                    read.wrong(key, format!("no such key: there are {}", names.join(" ")));
                }
                Some(pair) => read.pairs.push(pair),
            }
        }
        read
    }

    /// Notes what is wrong with a key.
    pub(super) fn wrong(&mut self, key: &str, problem: impl Into<String>) {
        self.errors.push(ProfileError { key: key.into(), problem: problem.into() });
    }

    /// The text of a key.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }

    /// The value of a key, read by `read`, or `default`.
    pub(super) fn value<T, E: fmt::Display>(
        &mut self,
        key: &str,
        default: T,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> T {
        let Some(text) = self.text(key) else { return default };
        read(text).unwrap_or_else(|error| {
            self.wrong(key, error.to_string());
            default
        })
    }

    /// The value of a key whose type reads itself.
    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, key: &str, default: T) -> T {
        self.value(key, default, str::parse)
    }

    /// The values of a swept field.
    pub(super) fn sweep(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Option<u128>,
        expected: &str,
    ) -> Option<Values> {
        let text = self.text(key)?;
        let values = values(text, read);
        if values.is_none() {
            self.wrong(
                key,
                format!("`{text}` is no sweep of it: expected V, V+STEPxCOUNT, V..W, random:V..W or V,W,X, where V is {expected}"),
            );
        }
        values
    }
}

/// Reads a sweep.
fn values(text: &str, read: impl Fn(&str) -> Option<u128>) -> Option<Values> {
    if let Some((low, high)) =
        text.strip_prefix("random:").map(|range| range.split_once("..")).unwrap_or(None)
    {
        return Some(Values::Random(read(low)?, read(high)?));
    }
    if let Some((start, end)) = text.split_once("..") {
        let (start, end) = (read(start)?, read(end)?);
        let count = u32::try_from(end.checked_sub(start)?.checked_add(1)?).ok()?;
        return Some(Values::Step { start, step: 1, count });
    }
    if let Some((start, rest)) = text.split_once('+') {
        let (step, count) = rest.split_once('x')?;
        return Some(Values::Step {
            start: read(start)?,
            step: step.parse().ok()?,
            count: count.parse().ok()?,
        });
    }
    if text.contains(',') {
        return Some(Values::List(text.split(',').map(read).collect::<Option<_>>()?));
    }
    read(text).map(Values::Fixed)
}
