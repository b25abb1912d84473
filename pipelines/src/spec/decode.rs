//! From the TOML tree to sections: which tables there are, and a checked value for each of their keys.
//!
//! It knows no section by itself: what is allowed stands in [`keys`](super::keys). What it does not know it refuses,
//! with the nearest name that it does know. Nothing in the tree is skipped silently.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::datum::{Datum, Fields, Placed};
use super::findings::Findings;
use super::keys::{ABSENT, Key, Section, section, sections};
use super::kind::{a_type, one_of};
use super::names::check_name;
use super::nearest::nearest;
use super::stage::{kinds_of, stage_kind};

/// One table of the file.
pub(crate) struct Entry {
    pub(crate) section: &'static Section,
    /// Empty for a section without names.
    pub(crate) name: Placed<String>,
    pub(crate) fields: Fields,
    /// Whether nothing in it was wrong.
    pub(crate) sound: bool,
}

/// The tables of a file; those of one section in the file's order.
pub(crate) struct Document {
    entries: Vec<Entry>,
}

impl Document {
    /// The tables of a section.
    pub(crate) fn entries(&self, section: &str) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.section.name == section)
    }

    /// The values of a section without names: its defaults when the file does not have it.
    pub(crate) fn single(&self, section: &str) -> Fields {
        self.entries(section).next().map_or_else(|| defaults(section), |entry| entry.fields.clone())
    }

    /// The tables of stages.
    pub(crate) fn stages(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| kinds_of(entry.section.name).next().is_some())
    }
}

/// Reads all tables.
pub(crate) fn decode(root: &DeTable<'_>, out: &mut Findings<'_>) -> Document {
    let mut entries = Vec::new();
    for (key, value) in root {
        let name: &str = key.get_ref();
        let Some(section) = section(name) else {
            unknown_section(name, &key.span(), out);
            continue;
        };
        let DeValue::Table(table) = value.get_ref() else {
            let header = if section.named.is_some() { format!("[{name}.NAME]") } else { format!("[{name}]") };
            out.error(&key.span(), format!("`{name}` cannot be {}", a_type(value.get_ref())))
                .expected(format!("a table {header}"));
            continue;
        };
        match section.named {
            None => {
                let (fields, sound) = read(section.keys, table, name, &key.span(), out);
                entries.push(Entry { section, name: Placed::new(String::new(), key.span()), fields, sound });
            }
            Some(limit) => named(section, limit, table, &mut entries, out),
        }
    }
    Document { entries }
}

/// The default of each key; a key without one is absent.
pub(crate) fn defaults(name: &str) -> Fields {
    let keys = section(name).map_or(&[][..], |section| section.keys);
    let values = keys.iter().filter_map(|key| Some((key.name, default(key)?))).collect();
    Fields { values, refused: Vec::new() }
}

fn named(
    section: &'static Section,
    limit: usize,
    table: &DeTable<'_>,
    entries: &mut Vec<Entry>,
    out: &mut Findings<'_>,
) {
    let mut tables: Vec<(&Spanned<_>, &Spanned<DeValue<'_>>)> = table.iter().collect();
    tables.sort_by_key(|(key, _)| key.span().start);
    if let Some((key, _)) = tables.get(limit) {
        let count = tables.len();
        out.error(&key.span(), format!("there are {count} tables [{}.NAME]", section.name))
            .label("one too many")
            .expected(format!("at most {limit}"));
    }
    // Past the limit names are known still, so that to use one is no second mistake; but there is an end.
    for (key, value) in tables.into_iter().take(limit * 4) {
        let name = Placed::new(key.get_ref().to_string(), key.span());
        let DeValue::Table(table) = value.get_ref() else {
            let found = out.error(&name.span, format!("`{}` is not in a table of its own", name.value));
            found.expected(format!("a table [{}.NAME]", section.name));
            if section.key(&name.value).is_some() {
                found.help(format!("give the {} a name: [{}.NAME]", section.name, section.name));
            }
            continue;
        };
        check_name(&name, section.name, out);
        let path = format!("{}.{}", section.name, name.value);
        let (fields, sound) = read(section.keys, table, &path, &name.span, out);
        entries.push(Entry { section, name, fields, sound });
    }
}

/// The values of one table, called `path` in messages; `place` is where its name stands.
pub(crate) fn read(
    keys: &'static [Key],
    table: &DeTable<'_>,
    path: &str,
    place: &Range<usize>,
    out: &mut Findings<'_>,
) -> (Fields, bool) {
    let before = out.errors();
    let mut fields = Fields::default();
    for (key, value) in table {
        let name: &str = key.get_ref();
        match keys.iter().find(|known| known.name == name) {
            Some(known) => {
                let value = known.kind.check(value, &format!("{path}.{name}"), out);
                match value {
                    Some(value) => fields.values.push((known.name, value)),
                    None => fields.refused.push(known.name),
                }
            }
            None => {
                let secret = path.starts_with("wireguard.") && is_key(value.get_ref());
                unknown_key(name, keys, path, &key.span(), secret, out);
            }
        }
    }
    for key in keys.iter().filter(|key| !table.contains_key(key.name)) {
        match default(key) {
            Some(value) => fields.values.push((key.name, value)),
            None if key.default == ABSENT => {}
            None => out.missing(place, format!("[{path}] has no `{}`", key.name), key.kind.expected()),
        }
    }
    (fields, out.errors() == before)
}

fn unknown_key(
    name: &str,
    keys: &'static [Key],
    path: &str,
    span: &Range<usize>,
    secret: bool,
    out: &mut Findings<'_>,
) {
    let known: Vec<String> = keys.iter().map(|key| format!("`{}`", key.name)).collect();
    let found = out.error(span, format!("unknown key `{name}` in [{path}]"));
    found.expected(one_of(&known)).suggest(nearest(name, keys.iter().map(|key| key.name)).map(str::to_owned));
    if secret {
        found.hide_line().help("a secret key stands in a file of its own, which root alone may read");
    }
}

/// Whether a value may be somebody's secret.
fn is_key(value: &DeValue<'_>) -> bool {
    value.as_str().is_some_and(|text| text.parse::<zsync_wireguard::key::Secret>().is_ok())
}

fn unknown_section(name: &str, span: &Range<usize>, out: &mut Findings<'_>) {
    let found = out.error(span, format!("unknown section `{name}`"));
    if let Some(section) = stage_kind(name).and_then(|kind| kind.tables()) {
        found.expected(format!("[{section}.NAME], which the stage \"{name}.NAME\" is told by"));
        return;
    }
    if stage_kind(name).is_some() {
        found.help(format!("the stage \"{name}\" has no settings: name it in `stages`, without a table"));
        return;
    }
    let known: Vec<String> = sections()
        .map(|section| format!("[{}{}]", section.name, if section.named.is_some() { ".NAME" } else { "" }))
        .collect();
    found
        .expected(one_of(&known))
        .suggest(nearest(name, sections().map(|section| section.name)).map(str::to_owned));
}

/// A key's default, read as if it stood in the file.
fn default(key: &'static Key) -> Option<Placed<Datum>> {
    let text = key.default.filter(|_| key.default != ABSENT)?;
    let value = DeValue::parse(text).ok()?;
    key.kind.check(&value, key.name, &mut Findings::new(text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_valid() {
        for key in sections().flat_map(|section| section.keys) {
            let has_one = key.default.is_some() && key.default != ABSENT;
            assert_eq!(default(key).is_some(), has_one, "{}", key.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let names: Vec<&str> = sections().map(|section| section.name).collect();
        let mut unique = names.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
        for section in sections() {
            for key in section.keys {
                let same = section.keys.iter().filter(|other| other.name == key.name);
                assert_eq!(same.count(), 1, "{}.{}", section.name, key.name);
            }
        }
    }
}
