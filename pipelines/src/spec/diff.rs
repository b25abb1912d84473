//! What `plan` shows: how two configurations differ, and what it takes to get from one to the other.

mod filters;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::canonical::{Rows, Text, outline};
use super::keys::{Reach, section};
use super::model::Spec;

/// One difference between two configurations. Shown as `~ port.wan.grace: 250ms → 500ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What kind of difference.
    pub mark: Mark,
    /// A section, or a section and its key: `port.dmz`, `port.wan.grace`.
    pub path: String,
    /// What has changed, as people read it; empty for a whole section.
    pub detail: String,
    /// What it takes.
    pub effect: Effect,
}

/// Whether something came, went or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// Only the new configuration has it.
    Added,
    /// Only the old one has it.
    Removed,
    /// Both have it, not alike.
    Changed,
}

/// What it takes for a change to hold, the least disturbing first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// A new snapshot or a map update; no packet notices.
    Live,
    /// The data plane is started anew over the same sockets; nothing is lost.
    Respawn,
    /// The sockets of this port are opened anew; packets in its rings are lost.
    Reopen(String),
    /// Packet memory is made anew, and with it the sockets of every port.
    Rebuild,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.mark {
            Mark::Added => '+',
            Mark::Removed => '-',
            Mark::Changed => '~',
        };
        write!(f, "{mark} {}", self.path)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Effect::Live => f.write_str("live"),
            Effect::Respawn => f.write_str("restarts the data plane"),
            Effect::Reopen(port) => write!(f, "reopens port {port}"),
            Effect::Rebuild => f.write_str("reopens every port"),
        }
    }
}

/// The differences, by path. The order of ports and pipelines in a file is none.
#[must_use]
pub fn diff(old: &Spec, new: &Spec) -> Vec<Change> {
    let mut changes: BTreeMap<String, Vec<Change>> = BTreeMap::new();
    filters::diff(old, new, &mut changes);
    super::wireguard::replaced(old, new, &mut changes);
    super::tun::turned(old, new, &mut changes);
    let (old, new) = (outline(old), outline(new));
    let headers: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for header in headers {
        let into = changes.entry(header.clone()).or_default();
        match (old.get(header), new.get(header)) {
            (Some(old), Some(new)) => changed(header, old, new, into),
            (None, _) => into.push(whole(Mark::Added, header)),
            (_, None) => into.push(whole(Mark::Removed, header)),
        }
    }
    changes.into_values().flatten().collect()
}

/// A section that came or went. A port brings sockets, which are handed over when the data plane starts.
fn whole(mark: Mark, header: &str) -> Change {
    let effect = if header.starts_with("port.") { Effect::Respawn } else { Effect::Live };
    Change { mark, path: header.to_owned(), detail: String::new(), effect }
}

fn changed(header: &str, old: &Rows, new: &Rows, changes: &mut Vec<Change>) {
    let (kind, name) = header.split_once('.').unwrap_or((header, ""));
    for (key, old) in old {
        // A key that only one of them has goes with the kind of its port, which is another then.
        let Some((_, new)) = new.iter().find(|(same, new)| same == key && new != old) else { continue };
        let reach = section(kind).and_then(|section| section.key(key)).map(|key| key.reach);
        let effect = match reach {
            Some(Reach::Live) => Effect::Live,
            Some(Reach::Respawn) => Effect::Respawn,
            Some(Reach::Sockets) => Effect::Reopen(name.to_owned()),
            Some(Reach::Memory) | None => Effect::Rebuild,
        };
        changes.push(Change {
            mark: Mark::Changed,
            path: format!("{header}.{key}"),
            detail: detail(old, new),
            effect,
        });
    }
}

fn detail(old: &Text, new: &Text) -> String {
    if let (Text::Many { before, entries: had, .. }, Text::Many { before: same, entries: has, .. }) =
        (old, new)
        && before == same
    {
        let (had, has): (BTreeSet<&String>, BTreeSet<&String>) = (had.iter().collect(), has.iter().collect());
        let gone = some("-", had.difference(&has).copied());
        let come = some("+", has.difference(&had).copied());
        if !gone.is_empty() || !come.is_empty() {
            return [gone, come].into_iter().flatten().collect::<Vec<_>>().join(", ");
        }
    }
    let plain = |text: &Text| bare(&text.to_string()).to_owned();
    format!("{} → {}", plain(old), plain(new))
}

/// The first few of the entries, each with its mark, and how many there are beyond.
fn some<'e>(mark: &str, entries: impl Iterator<Item = &'e String>) -> Vec<String> {
    const SHOWN: usize = 4;
    let mut all: Vec<String> = entries.map(|entry| format!("{mark}{}", bare(entry))).collect();
    if all.len() > SHOWN + 1 {
        let more = all.len() - SHOWN;
        all.truncate(SHOWN);
        all.push(format!("{mark}{more} more"));
    }
    all
}

/// Text without the quotes around it.
fn bare(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}
