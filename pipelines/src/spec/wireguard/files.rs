//! The keys in the files that a configuration names: put in their places, and compared.
//!
//! Whoever may read files reads them; what is wrong is said here, where the places in the configuration are known.

use super::{KeyFile, WireguardSpec};
use crate::spec::datum::Fields;
use crate::spec::diff::{Change, Effect, Mark};
use crate::spec::findings::Findings;
use crate::spec::{Diagnostic, Parsed, Spec, StageSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use zsync_wireguard::key::{KEY_LEN, Secret};

/// Where the keys of an end stand in the source, in bytes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPlaces {
    private: Range<usize>,
    /// By peer: its public key, and the file of its preshared one.
    peers: Vec<(Range<usize>, Option<Range<usize>>)>,
}

impl KeyPlaces {
    pub(crate) fn of(fields: &Fields) -> Self {
        let place = |fields: &Fields, key: &str| fields.at(key).map(|placed| placed.span.clone());
        let peer = |peer: &Fields| {
            (place(peer, "public-key").unwrap_or_default(), place(peer, "preshared-key-file"))
        };
        Self {
            private: place(fields, "private-key-file").unwrap_or_default(),
            peers: fields.items("peers").iter().filter_map(|item| item.value.fields()).map(peer).collect(),
        }
    }
}

/// Why a file gave no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFault {
    /// What is wrong, with the file's name in it; never what is in the file.
    pub what: String,
    /// What to do about it.
    pub remedy: Option<String>,
    /// Whether whoever reads just may not look: a warning, for the key may well be right.
    pub unseen: bool,
}

/// Puts the keys in their places, each file read once by `read`, by the path that the configuration has. `source` is what
/// `parsed` was read from, as diagnostics call it `file`. Files that nobody may look at here leave a warning, and no key.
///
/// # Errors
/// Everything that is wrong, by place.
pub fn read_keys(
    parsed: &mut Parsed,
    source: &str,
    file: &str,
    read: &mut dyn FnMut(&str) -> Result<Secret, KeyFault>,
) -> Result<(), Vec<Diagnostic>> {
    let mut out = Findings::new(source, file);
    let mut known: BTreeMap<String, Result<Secret, KeyFault>> = BTreeMap::new();
    let mut done = BTreeSet::new();
    let Parsed { spec, keys, warnings, .. } = parsed;
    for end in ends_mut(spec) {
        // The same table tells several stages.
        let first = done.insert(end.name.clone());
        let label = end.label();
        let places = keys.get(&end.name);
        let mut key = |file: &mut KeyFile,
                       what: &str,
                       place: Option<&Range<usize>>,
                       out: &mut Findings<'_>| {
            let found = known.entry(file.path.clone()).or_insert_with(|| read(&file.path));
            match found {
                Ok(secret) => file.secret = Some(secret.clone()),
                Err(fault) => {
                    file.secret = None;
                    let Some(place) = place.filter(|_| first) else { return };
                    let message = format!("`{label}.{what}`: {}", fault.what);
                    let told =
                        if fault.unseen { out.warning(place, message) } else { out.error(place, message) };
                    if let Some(remedy) = &fault.remedy {
                        told.help(remedy.clone());
                    }
                }
            }
        };
        key(&mut end.private_key, "private-key-file", places.map(|places| &places.private), &mut out);
        let own = end.private_key.secret.as_ref().map(Secret::public);
        for (n, peer) in end.peers.iter_mut().enumerate() {
            let place = places.and_then(|places| places.peers.get(n));
            if let Some(file) = &mut peer.preshared {
                let place = place.and_then(|(_, place)| place.as_ref());
                key(file, "peers.preshared-key-file", place, &mut out);
            }
            if let Some((place, _)) = place.filter(|_| first && own == Some(peer.public_key)) {
                out.error(place, format!("`{label}.peers`: {} is this end itself", peer.public_key))
                    .label("the public key of `private-key-file`")
                    .help("take the peer out, or give this end a key of its own");
            }
        }
    }
    let found = out.finish()?;
    warnings.extend(found);
    warnings.sort_by_key(|warning| warning.span.start);
    Ok(())
}

/// Puts a key that is nobody's wherever none was read: for looking at what a configuration does with packets, which needs no
/// keys. Nothing that is made with it may leave.
pub fn stand_in(spec: &mut Spec) {
    for end in ends_mut(spec) {
        let preshared = end.peers.iter_mut().filter_map(|peer| peer.preshared.as_mut());
        for file in preshared.chain([&mut end.private_key]) {
            file.secret.get_or_insert_with(|| Secret::new([0x55; KEY_LEN]));
        }
    }
}

pub(super) fn ends_mut(spec: &mut Spec) -> impl Iterator<Item = &mut WireguardSpec> {
    spec.pipelines.iter_mut().flat_map(|pipeline| &mut pipeline.stages).filter_map(|stage| {
        match &mut stage.spec {
            StageSpec::WireguardOpen(end) | StageSpec::WireguardSeal(end) => Some(end),
            _ => None,
        }
    })
}

/// The ends of WireGuard in a configuration, by name.
pub fn ends(spec: &Spec) -> BTreeMap<&str, &WireguardSpec> {
    let stages = spec.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    stages
        .filter_map(|stage| match &stage.spec {
            StageSpec::WireguardOpen(end) | StageSpec::WireguardSeal(end) => Some((end.name.as_str(), end)),
            _ => None,
        })
        .collect()
}

/// Files that both configurations name and that have other keys in them now.
pub(crate) fn replaced(old: &Spec, new: &Spec, changes: &mut BTreeMap<String, Vec<Change>>) {
    let olds = ends(old);
    for (name, end) in ends(new) {
        let Some(was) = olds.get(name) else { continue };
        let mut tell = |key: &str, was: &KeyFile, is: &KeyFile| {
            let other = was.path == is.path
                && matches!((&was.secret, &is.secret), (Some(was), Some(is)) if was != is);
            if other {
                changes.entry(end.label()).or_default().push(Change {
                    mark: Mark::Changed,
                    path: format!("{}.{key}", end.label()),
                    detail: format!("{} has another key in it", is.path),
                    effect: Effect::Live,
                });
            }
        };
        tell("private-key-file", &was.private_key, &end.private_key);
        let before: BTreeMap<_, _> =
            was.peers.iter().map(|peer| (peer.public_key, &peer.preshared)).collect();
        for peer in &end.peers {
            if let (Some(Some(was)), Some(is)) = (before.get(&peer.public_key), &peer.preshared) {
                tell("peers", was, is);
            }
        }
    }
}
