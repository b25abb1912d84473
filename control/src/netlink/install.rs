//! The mirror's way into the FIB: what changed since the last time is told to the sink, and what it holds is counted.
//!
//! Invariant: an adjacency is told before the first entry that names it and released after the last; what the sink refuses
//! never leaves an older answer standing, but the kernel's or none.

use super::Prefix;
use super::event::Neighbour;
use super::model::Mirror;
use super::sink::{Adjacency, FibSink, NO_STATION, Target};
use std::collections::BTreeMap;

/// What a [`Mirror::sync`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Applied {
    /// Entries written.
    pub inserted: usize,
    /// Entries removed.
    pub removed: usize,
    /// Adjacencies resolved or unresolved.
    pub neighbours: usize,
    /// Entries that the FIB refused. Those prefixes stay with the kernel where that could still be written.
    pub refused: usize,
}

/// An adjacency that the FIB has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Installed {
    /// How many entries name it.
    entries: usize,
    /// What the sink was told.
    mac: Option<[u8; 6]>,
}

impl Mirror {
    /// Whether [`sync`](Self::sync) has something to look at.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.dirty_neighbours.is_empty()
    }

    /// What the FIB refused is tried again by the next [`sync`](Self::sync); whether there is any.
    pub fn retry_refused(&mut self) -> bool {
        let any = !self.refused.is_empty();
        self.dirty.append(&mut self.refused);
        any
    }

    /// Tells `sink` what changed since the last time.
    pub fn sync<S: FibSink>(&mut self, sink: &mut S) -> Applied {
        let mut applied = Applied::default();
        for adjacency in std::mem::take(&mut self.dirty_neighbours) {
            let mac = self.mac(adjacency);
            if let Some(installed) = self.adjacencies.get_mut(&adjacency)
                && installed.mac != mac
            {
                applied.neighbours += 1;
                let told = match mac {
                    Some(mac) => sink.resolve(adjacency, mac),
                    None => sink.unresolve(adjacency),
                };
                match told {
                    Ok(()) => installed.mac = mac,
                    Err(error) => tracing::warn!(?adjacency, %error, "the FIB refused a neighbour"),
                }
            }
        }
        for prefix in std::mem::take(&mut self.dirty) {
            let wanted = self.target(prefix);
            if self.installed.get(&prefix) != wanted.as_ref() {
                self.install(prefix, wanted, sink, &mut applied);
            }
        }
        applied
    }

    fn install<S: FibSink>(
        &mut self,
        prefix: Prefix,
        wanted: Option<Target>,
        sink: &mut S,
        applied: &mut Applied,
    ) {
        self.refused.remove(&prefix);
        let old = self.installed.remove(&prefix);
        if let Some(target) = wanted {
            let result = target
                .adjacencies()
                .try_for_each(|a| self.retain(a, sink))
                .and_then(|()| sink.insert(prefix, &target));
            match result {
                Ok(()) => {
                    applied.inserted += 1;
                    self.installed.insert(prefix, target);
                }
                Err(error) => {
                    tracing::warn!(%prefix, %error, "the FIB refused a route; it stays with the kernel");
                    applied.refused += 1;
                    self.refused.insert(prefix);
                    target.adjacencies().for_each(|a| self.release(a, sink));
                    if target != Target::Kernel && sink.insert(prefix, &Target::Kernel).is_ok() {
                        self.installed.insert(prefix, Target::Kernel);
                    } else {
                        sink.remove(prefix);
                    }
                }
            }
        } else if sink.remove(prefix) {
            applied.removed += 1;
        }
        old.iter().flat_map(Target::adjacencies).for_each(|a| self.release(a, sink));
    }

    fn retain<S: FibSink>(&mut self, adjacency: Adjacency, sink: &mut S) -> Result<(), S::Error> {
        let mac = self.mac(adjacency);
        if let Some(installed) = self.adjacencies.get_mut(&adjacency) {
            installed.entries += 1;
            return Ok(());
        }
        // Counted first: the caller releases every adjacency of an entry that was refused.
        self.adjacencies.insert(adjacency, Installed { entries: 1, mac });
        match mac {
            Some(mac) => sink.resolve(adjacency, mac),
            None => sink.unresolve(adjacency),
        }
    }

    fn release<S: FibSink>(&mut self, adjacency: Adjacency, sink: &mut S) {
        let Some(installed) = self.adjacencies.get_mut(&adjacency) else { return };
        installed.entries = installed.entries.saturating_sub(1);
        if installed.entries == 0 {
            self.adjacencies.remove(&adjacency);
            sink.release(adjacency);
        }
    }

    fn mac(&self, adjacency: Adjacency) -> Option<[u8; 6]> {
        let bare = self.indices.get(&adjacency.port).is_some_and(|ifindex| self.bare(*ifindex));
        if bare { Some(NO_STATION) } else { self.neighbour_of(adjacency)?.usable() }
    }

    fn neighbour_of(&self, adjacency: Adjacency) -> Option<&Neighbour> {
        let ifindex = *self.indices.get(&adjacency.port)?;
        self.neighbour(adjacency.gateway, ifindex)
    }

    /// The adjacencies that the FIB has on links that are up and have neighbours, and what the kernel knows of each.
    pub fn adjacencies(&self) -> impl Iterator<Item = (Adjacency, u32, Option<&Neighbour>)> {
        self.adjacencies.keys().filter_map(|adjacency| {
            let ifindex = *self.indices.get(&adjacency.port)?;
            let asks = self.link(ifindex).is_some_and(|link| link.is_running() && !link.is_bare());
            asks.then(|| (*adjacency, ifindex, self.neighbour_of(*adjacency)))
        })
    }

    /// What the sink was told of each prefix.
    pub fn entries(&self) -> &BTreeMap<Prefix, Target> {
        &self.installed
    }
}
