//! The maps of one port, and what is read from them; `steering` writes them.

use std::collections::BTreeMap;

use aya::maps::{Map, MapData, MapError, PerCpuArray, XskMap};
use zsync_ebpf_common::{Count, XdpReason, map};

use super::XdpError;

/// The counters of a port, summed over CPUs. They count from the load of the program on; adoption keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters([Count; XdpReason::ALL.len()]);

impl Counters {
    /// What was counted under one reason.
    pub fn of(&self, reason: XdpReason) -> Count {
        self.0.get(reason as usize).copied().unwrap_or_default()
    }

    /// All of them, in the order of [`XdpReason::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (XdpReason, Count)> + '_ {
        XdpReason::ALL.into_iter().zip(self.0)
    }
}

/// The maps of one port, by name; each call opens the one it needs by its type, which checks the sizes.
#[derive(Debug)]
pub(super) struct Maps(BTreeMap<&'static str, Map>);

impl Maps {
    pub(super) fn collect(
        names: &[&'static str],
        mut open: impl FnMut(&'static str) -> Result<Map, XdpError>,
    ) -> Result<Self, XdpError> {
        names.iter().map(|name| Ok((*name, open(name)?))).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn typed<'a, T>(&'a mut self, name: &'static str) -> Result<T, XdpError>
    where
        T: TryFrom<&'a mut Map, Error = MapError>,
    {
        let map = self.0.get_mut(name).ok_or_else(|| MapError::InvalidName { name: name.into() });
        map.and_then(T::try_from).map_err(XdpError::map(name))
    }

    pub(super) fn xsks(&mut self) -> Result<XskMap<&mut MapData>, XdpError> {
        self.typed(map::XSKS)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &Map)> {
        self.0.iter().map(|(name, map)| (*name, map))
    }

    pub(super) fn counters(&mut self) -> Result<Counters, XdpError> {
        let array: PerCpuArray<_, Count> = self.typed(map::COUNTERS)?;
        let mut counters = Counters::default();
        for (index, sum) in (0..).zip(&mut counters.0) {
            for count in array.get(&index, 0).map_err(XdpError::map(map::COUNTERS))?.iter() {
                sum.packets += count.packets;
                sum.bytes += count.bytes;
            }
        }
        Ok(counters)
    }

    /// Opens every map that all programs have as what it has to be: pins may be another version's.
    pub(super) fn check(&mut self) -> Result<(), XdpError> {
        self.typed::<PerCpuArray<_, Count>>(map::COUNTERS)?;
        self.check_lists()
    }
}
