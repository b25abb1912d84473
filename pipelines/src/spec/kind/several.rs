//! Values that have several others in them: lists, and tables whose keys are not of the configuration's own.

use super::text::is_symbol;
use super::{At, Kind};
use crate::spec::datum::{Datum, Placed};
use crate::spec::findings::Findings;
use crate::spec::nearest::nearest;
use std::collections::HashMap;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

pub(super) fn list<'v>(
    items: impl ExactSizeIterator<Item = &'v Spanned<DeValue<'v>>>,
    of: &Kind,
    (min, max): (usize, usize),
    at: At<'_>,
    out: &mut Findings<'_>,
) -> Option<Datum> {
    let count = items.len();
    if !(min..=max).contains(&count) {
        let problem = match count {
            0 => " is empty".to_owned(),
            1 => " has 1 entry".to_owned(),
            _ => format!(" has {count} entries"),
        };
        at.wrong(out, problem, None);
    }
    let mut kept: Vec<Placed<Datum>> = Vec::new();
    let mut seen: HashMap<Datum, usize> = HashMap::new();
    // A list far beyond its limit would only repeat its mistakes.
    for item in items.take(max) {
        let before = out.errors();
        let Some(item) = of.check(item, at.path, out) else { continue };
        if out.errors() > before || matches!(of, Kind::Table(_)) {
            // Only a part of what was written: not to be compared. Or tables, of which two may well say the same.
            kept.push(item);
        } else if let Some(first) = seen.get(&item.value) {
            let line = out.line(*first);
            let text = out.text(&item.span);
            out.error(&item.span, format!("`{}` has {text} twice", at.path))
                .label(format!("also in line {line}"));
        } else {
            seen.insert(item.value.clone(), item.span.start);
            kept.push(item);
        }
    }
    // What is right goes on, so that mistakes in what it names are found too.
    Some(Datum::List(kept))
}

pub(super) fn by_name(
    table: &DeTable<'_>,
    of: &Kind,
    max: usize,
    at: At<'_>,
    out: &mut Findings<'_>,
) -> Option<Datum> {
    if table.len() > max {
        return at.wrong(out, format!(" has {} entries", table.len()), None);
    }
    let mut values = Vec::new();
    for (name, value) in table {
        let text: &str = name.get_ref();
        if !is_symbol(text) {
            out.error(&name.span(), format!("`{}`: \"{text}\" cannot name a variable", at.path))
                .expected("letters, digits and `_`, and no digit first");
            continue;
        }
        let value = of.check(value, &format!("{}.{text}", at.path), out);
        values.extend(value.map(|value| (Placed::new(text.to_owned(), name.span()), value)));
    }
    values.sort_by(|(a, _), (b, _)| a.value.cmp(&b.value));
    Some(Datum::ByName(values))
}

pub(super) fn by_number(
    table: &DeTable<'_>,
    (min, max): (u64, u64),
    of: &Kind,
    at: At<'_>,
    out: &mut Findings<'_>,
) -> Option<Datum> {
    let mut keys: Vec<(&Spanned<DeString<'_>>, _)> = table.iter().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    let mut values: Vec<(Placed<u64>, Placed<Datum>)> = Vec::new();
    for (key, value) in keys {
        let (text, span): (&str, _) = (key.get_ref(), key.span());
        let digits = text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16));
        let number = u64::from_str_radix(digits.0, digits.1).ok();
        match number.filter(|number| !text.starts_with('+') && (min..=max).contains(number)) {
            None => {
                let problem = format!("`{}` has the key \"{text}\"", at.path);
                out.error(&span, problem).expected(at.whole.expected());
            }
            Some(number) => {
                if let Some((first, _)) = values.iter().find(|(other, _)| other.value == number) {
                    let line = out.line(first.span.start);
                    out.error(&span, format!("`{}` has {number} twice", at.path))
                        .label(format!("also in line {line}"));
                    continue;
                }
                let value = of.check(value, &format!("{}.{text}", at.path), out);
                values.extend(value.map(|value| (Placed::new(number, span), value)));
            }
        }
    }
    Some(Datum::ByNumber(values))
}

pub(super) fn one_key(
    table: &DeTable<'_>,
    keys: &'static [(&'static str, &'static Kind)],
    at: At<'_>,
    out: &mut Findings<'_>,
) -> Option<Datum> {
    let mut chosen = None;
    let mut unknown = false;
    for (key, value) in table {
        let name: &str = key.get_ref();
        if let Some((known, kind)) = keys.iter().find(|(known, _)| *known == name) {
            let value = kind.check(value, &format!("{}.{name}", at.path), out);
            chosen = value.map(|value| Datum::OneKey(known, Box::new(value)));
        } else {
            unknown = true;
            out.error(&key.span(), format!("unknown key `{name}` in `{}`", at.path))
                .expected(at.whole.expected())
                .suggest(nearest(name, keys.iter().map(|(known, _)| *known)).map(str::to_owned));
        }
    }
    match table.len() {
        1 => chosen,
        _ if unknown => None,
        0 => at.wrong(out, " is empty".to_owned(), None),
        _ => at.wrong(out, " takes one of these keys, not several".to_owned(), None),
    }
}
