//! One routing table: the routes of each prefix, and a search for the longest prefix around another.
//!
//! Invariant: a prefix without routes is not in it; `lengths` counts the prefixes that are.

use super::Prefix;
use super::route::PrefixRoutes;
use std::collections::BTreeMap;

/// One routing table.
#[derive(Default, Debug)]
pub(super) struct Table {
    pub(super) routes: BTreeMap<Prefix, PrefixRoutes>,
    /// How many prefixes there are of each length, IPv4 and IPv6: a search visits only lengths that exist.
    lengths: [BTreeMap<u8, usize>; 2],
}

impl Table {
    /// The longest prefix around `inner` of at most `length` bits, and its routes.
    pub(super) fn covering(&self, inner: Prefix, length: u8) -> Option<(Prefix, &PrefixRoutes)> {
        self.lengths[usize::from(inner.address().is_ipv6())].range(..=length).rev().find_map(
            |(&length, _)| {
                let prefix = inner.widened(length)?;
                self.routes.get(&prefix).map(|routes| (prefix, routes))
            },
        )
    }

    pub(super) fn entry(&mut self, prefix: Prefix) -> &mut PrefixRoutes {
        let lengths = &mut self.lengths[usize::from(prefix.address().is_ipv6())];
        self.routes.entry(prefix).or_insert_with(|| {
            *lengths.entry(prefix.length()).or_default() += 1;
            PrefixRoutes::default()
        })
    }

    pub(super) fn drop_if_empty(&mut self, prefix: Prefix) {
        if self.routes.get(&prefix).is_some_and(PrefixRoutes::is_empty) {
            self.routes.remove(&prefix);
            let lengths = &mut self.lengths[usize::from(prefix.address().is_ipv6())];
            if let Some(count) = lengths.get_mut(&prefix.length()) {
                *count -= 1;
                if *count == 0 {
                    lengths.remove(&prefix.length());
                }
            }
        }
    }
}
