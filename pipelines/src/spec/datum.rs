//! Values that were found right: what [`Kind::check`](super::kind::Kind::check) makes, and how the typed configuration is
//! read from it.
//!
//! A [`Fields`] has a value for every key of its section: the file's, else the key's default. Where the file's was wrong,
//! an error is already reported, and reading gives some stand-in, since the result will not be used.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::time::Duration;

use super::address::{Prefix, Service};
use super::model::{Amount, Words};

/// Something and where it stands. Compares by what it is alone.
#[derive(Clone, Debug)]
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

impl<T> Placed<T> {
    pub(crate) fn new(value: T, span: Range<usize>) -> Self {
        Self { value, span }
    }
}

impl<T: PartialEq> PartialEq for Placed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Placed<T> {}

impl<T: Hash> Hash for Placed<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value.hash(state);
    }
}

/// A value that has the form its key asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Datum {
    Switch(bool),
    Number(u64),
    Word(&'static str),
    Period(Duration),
    Text(String),
    Prefix(Prefix),
    Service(Service),
    List(Vec<Placed<Datum>>),
    ByPort(Vec<(Placed<String>, Placed<Datum>)>),
    ByName(Vec<(Placed<String>, Placed<Datum>)>),
    ByNumber(Vec<(Placed<u64>, Placed<Datum>)>),
    OneKey(&'static str, Box<Placed<Datum>>),
    Table(Fields),
}

impl Datum {
    /// The entries of a list; of anything else none.
    pub(crate) fn items(&self) -> &[Placed<Datum>] {
        match self {
            Datum::List(items) => items,
            _ => &[],
        }
    }

    /// The values of a table; of anything else none.
    pub(crate) fn fields(&self) -> Option<&Fields> {
        match self {
            Datum::Table(fields) => Some(fields),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Datum::Text(text) => text,
            Datum::Word(word) => word,
            _ => "",
        }
    }

    /// Numbers by name; a switch that is on counts as 1.
    pub(crate) fn numbers(&self) -> BTreeMap<String, u64> {
        let Datum::ByName(values) = self else { return BTreeMap::new() };
        let number = |(name, value): &(Placed<String>, Placed<Datum>)| match value.value {
            Datum::Number(number) => Some((name.value.clone(), number)),
            Datum::Switch(on) => Some((name.value.clone(), u64::from(on))),
            _ => None,
        };
        values.iter().filter_map(number).collect()
    }

    /// The number, if it is one that fits.
    pub(crate) fn number(&self) -> Option<u32> {
        match self {
            Datum::Number(number) => u32::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The prefixes in a list.
    pub(crate) fn prefixes(&self) -> Vec<Prefix> {
        let prefix = |item: &Placed<Datum>| match item.value {
            Datum::Prefix(prefix) => Some(prefix),
            _ => None,
        };
        self.items().iter().filter_map(prefix).collect()
    }

    /// The services in a list.
    pub(crate) fn services(&self) -> Vec<Service> {
        let service = |item: &Placed<Datum>| match item.value {
            Datum::Service(service) => Some(service),
            _ => None,
        };
        self.items().iter().filter_map(service).collect()
    }
}

/// The values of one section's keys, or of those of a table in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Fields {
    pub(crate) values: Vec<(&'static str, Placed<Datum>)>,
    /// Keys whose values were refused.
    pub(crate) refused: Vec<&'static str>,
}

impl Fields {
    pub(crate) fn at(&self, key: &str) -> Option<&Placed<Datum>> {
        self.values.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Whether the key was written, or has a value where it was not.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.at(key).is_some() || self.refused.contains(&key)
    }

    /// The entries of a list.
    pub(crate) fn items(&self, key: &str) -> &[Placed<Datum>] {
        self.at(key).map_or(&[], |value| value.value.items())
    }

    pub(crate) fn switch(&self, key: &str) -> bool {
        matches!(self.at(key), Some(Placed { value: Datum::Switch(true), .. }))
    }

    pub(crate) fn number(&self, key: &str) -> u32 {
        self.at(key).and_then(|value| value.value.number()).unwrap_or(0)
    }

    /// A number, or `"auto"`.
    pub(crate) fn amount(&self, key: &str) -> Amount {
        self.at(key).and_then(|value| value.value.number()).map_or(Amount::Auto, Amount::Exact)
    }

    pub(crate) fn text(&self, key: &str) -> String {
        self.at(key).map_or("", |value| value.value.text()).to_owned()
    }

    pub(crate) fn period(&self, key: &str) -> Duration {
        match self.at(key) {
            Some(Placed { value: Datum::Period(period), .. }) => *period,
            _ => Duration::ZERO,
        }
    }

    pub(crate) fn word<W: Words>(&self, key: &str) -> W {
        self.at(key).and_then(|value| W::from_word(value.value.text())).unwrap_or(W::FIRST)
    }
}
