//! `[set.NAME]`: from its table, and the file that it names, to its prefixes.
//!
//! A file has a prefix or an address a line, empty lines, and comments from `#` on. Reports all that is wrong in it, up to
//! [`SHOWN`] lines, each with its place. Refuses more prefixes than a set may have.

use super::keys::MAX_PREFIXES;
use super::{FilterFile, FilterSet};
use crate::spec::address::{Prefix, PrefixError};
use crate::spec::datum::{Fields, Placed};
use crate::spec::findings::Findings;
use crate::spec::{Reader, TextFile};

/// Lines of a file that are said to be wrong; how many there are beyond is said, too.
const SHOWN: usize = 20;

/// The set of a table.
pub(crate) fn set(
    name: &Placed<String>,
    fields: &Fields,
    read: &mut Reader<'_>,
    out: &mut Findings<'_>,
) -> FilterSet {
    let prefixes = fields.at("prefixes").map_or_else(Vec::new, |list| list.value.prefixes());
    let named = fields.at("file").filter(|path| !path.value.text().is_empty());
    if prefixes.is_empty() && named.is_none() {
        out.missing(
            &name.span,
            format!("[set.{}] has neither `prefixes` nor `file`", name.value),
            "a list of IP prefixes, or a file of them".to_owned(),
        );
    }
    let file = named.map(|path| {
        let written = path.value.text().to_owned();
        let prefixes = match read(&written) {
            Ok(file) => lines(&file, out),
            Err(why) => {
                out.error(&path.span, format!("the file of [set.{}] cannot be read: {why}", name.value));
                Vec::new()
            }
        };
        FilterFile { path: written, prefixes: prefixes.into() }
    });
    let count = prefixes.len() + file.as_ref().map_or(0, |file| file.prefixes.len());
    if let Some(path) = named.filter(|_| count > MAX_PREFIXES) {
        out.error(&path.span, format!("[set.{}] has {count} prefixes", name.value))
            .expected(format!("at most {MAX_PREFIXES}"));
    }
    FilterSet { name: name.value.clone(), prefixes: prefixes.into(), file }
}

/// The prefixes of a file, in order, each once.
fn lines(file: &TextFile, out: &mut Findings<'_>) -> Vec<Prefix> {
    let mut prefixes = Vec::new();
    let mut wrong = 0;
    for (number, line) in file.text.lines().enumerate() {
        let text = line.split('#').next().unwrap_or_default();
        let word = text.trim();
        if word.is_empty() {
            continue;
        }
        match Prefix::of_hosts(word) {
            Ok(prefix) => prefixes.push(prefix),
            Err(error) => {
                wrong += 1;
                if wrong <= SHOWN {
                    report(error, (&file.name, number + 1, line), word, out);
                }
            }
        }
    }
    if wrong > SHOWN {
        let message = format!("{} more lines are neither prefixes nor addresses", wrong - SHOWN);
        out.error_in((&file.name, file.text.lines().count(), ""), 0..0, message);
    }
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes
}

fn report(error: PrefixError, line: (&str, usize, &str), word: &str, out: &mut Findings<'_>) {
    let (message, better) = match error {
        PrefixError::HostBits(masked) => {
            (format!("bits are set past the {} leading bits", masked.len()), Some(masked.to_string()))
        }
        PrefixError::Length { max } => (format!("the length is no number from 0 to {max}"), None),
        PrefixError::Address | PrefixError::NoLength(_) => {
            ("the line is neither a prefix nor an address".to_owned(), None)
        }
    };
    let start = line.2.find(word).unwrap_or(0);
    out.error_in(line, start..start + word.len(), message)
        .expected("an IP prefix like \"192.0.2.0/24\", or an address, and perhaps a comment after `#`")
        .suggest(better);
}
