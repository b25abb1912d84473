//! Bringing the maps to what a [`PortSteering`] says, while packets flow.
//!
//! Order: entries are added, then the flags change (one 8-byte write), then what is stale is removed. So a packet meets
//! the old lists, the union, or the new ones. When a step fails, the earlier steering is still in force, possibly with
//! some of the new entries, and applying again is safe.

use std::{collections::BTreeSet, net::IpAddr};

use aya::{
    Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, lpm_trie::Key},
};
use zsync_ebpf_common::{
    FALLBACK_CLOSED, FALLBACK_OPEN, MAX_BLOCK, MAX_LOCAL, MAX_PORTS, MAX_STEER, PortConfig, PortKey, flag,
    map,
};

use super::{IpPrefix, PortSteering, Steer, XdpError, maps::Maps};

/// The entries of a pair of maps, one per address family.
#[derive(Default)]
struct Prefixes {
    v4: BTreeSet<(u8, [u8; 4])>,
    v6: BTreeSet<(u8, [u8; 16])>,
}

impl Prefixes {
    fn of(list: &[IpPrefix]) -> Result<Self, XdpError> {
        let mut prefixes = Self::default();
        for prefix in list {
            match prefix.addr {
                IpAddr::V4(addr) if prefix.len <= 32 => {
                    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.len)).unwrap_or(0);
                    prefixes.v4.insert((prefix.len, (u32::from(addr) & mask).to_be_bytes()));
                }
                IpAddr::V6(addr) if prefix.len <= 128 => {
                    let mask = u128::MAX.checked_shl(128 - u32::from(prefix.len)).unwrap_or(0);
                    prefixes.v6.insert((prefix.len, (u128::from(addr) & mask).to_be_bytes()));
                }
                _ => return Err(XdpError::Prefix(*prefix)),
            }
        }
        Ok(prefixes)
    }
}

impl Maps {
    /// See [`Ingress::apply_steering`](super::Ingress::apply_steering).
    pub(super) fn apply(&mut self, steering: &PortSteering) -> Result<(), XdpError> {
        let block = Prefixes::of(&steering.block)?;
        let (prefixes, ports) = match &steering.steer {
            Steer::All => (Prefixes::default(), BTreeSet::new()),
            Steer::Prefixes(list) => (Prefixes::of(list)?, BTreeSet::new()),
            Steer::Ports(list) => (
                Prefixes::default(),
                list.iter().map(|&(protocol, port)| PortKey::new(protocol, port)).collect(),
            ),
        };

        let block4 = self.add::<Trie<'_, 4>>(map::BLOCK4, MAX_BLOCK, &block.v4)?;
        let block6 = self.add::<Trie<'_, 16>>(map::BLOCK6, MAX_BLOCK, &block.v6)?;
        let steer4 = self.add::<Trie<'_, 4>>(map::STEER4, MAX_STEER, &prefixes.v4)?;
        let steer6 = self.add::<Trie<'_, 16>>(map::STEER6, MAX_STEER, &prefixes.v6)?;
        let stale_ports = self.add::<Set<'_, PortKey>>(map::PORTS, MAX_PORTS, &ports)?;

        let mut flags = self.config()?.flags & flag::HAS_LOCAL;
        flags |= match steering.steer {
            Steer::All => flag::STEER_ALL,
            Steer::Prefixes(_) => flag::STEER_PREFIXES,
            Steer::Ports(_) => flag::STEER_PORTS,
        };
        if steering.layer3 {
            flags |= flag::L3;
        }
        if !steering.block.is_empty() {
            flags |= flag::HAS_BLOCK;
        }
        let fallback = if steering.fallback_open { FALLBACK_OPEN } else { FALLBACK_CLOSED };
        self.set_config(PortConfig { flags, fallback })?;

        self.remove::<Trie<'_, 4>>(map::BLOCK4, &block4)?;
        self.remove::<Trie<'_, 16>>(map::BLOCK6, &block6)?;
        self.remove::<Trie<'_, 4>>(map::STEER4, &steer4)?;
        self.remove::<Trie<'_, 16>>(map::STEER6, &steer6)?;
        self.remove::<Set<'_, PortKey>>(map::PORTS, &stale_ports)
    }

    /// See [`Ingress::set_local`](super::Ingress::set_local).
    pub(super) fn set_local(&mut self, addresses: &[IpAddr]) -> Result<(), XdpError> {
        let mut v4 = BTreeSet::new();
        let mut v6 = BTreeSet::new();
        for address in addresses {
            match address {
                IpAddr::V4(address) => v4.insert(address.octets()),
                IpAddr::V6(address) => v6.insert(address.octets()),
            };
        }
        let stale4 = self.add::<Set<'_, [u8; 4]>>(map::LOCAL4, MAX_LOCAL, &v4)?;
        let stale6 = self.add::<Set<'_, [u8; 16]>>(map::LOCAL6, MAX_LOCAL, &v6)?;
        let mut config = self.config()?;
        config.flags &= !flag::HAS_LOCAL;
        if !addresses.is_empty() {
            config.flags |= flag::HAS_LOCAL;
        }
        self.set_config(config)?;
        self.remove::<Set<'_, [u8; 4]>>(map::LOCAL4, &stale4)?;
        self.remove::<Set<'_, [u8; 16]>>(map::LOCAL6, &stale6)
    }

    /// Opens every map that this file writes as what it has to be: pins may be another version's.
    pub(super) fn check_lists(&mut self) -> Result<(), XdpError> {
        for name in [map::BLOCK4, map::STEER4] {
            self.typed::<Trie<'_, 4>>(name)?;
        }
        for name in [map::BLOCK6, map::STEER6] {
            self.typed::<Trie<'_, 16>>(name)?;
        }
        self.typed::<Set<'_, [u8; 4]>>(map::LOCAL4)?;
        self.typed::<Set<'_, [u8; 16]>>(map::LOCAL6)?;
        self.typed::<Set<'_, PortKey>>(map::PORTS)?;
        self.config().map(drop)
    }

    fn config(&mut self) -> Result<PortConfig, XdpError> {
        let port: Array<_, PortConfig> = self.typed(map::PORT)?;
        port.get(&0, 0).map_err(XdpError::map(map::PORT))
    }

    fn set_config(&mut self, config: PortConfig) -> Result<(), XdpError> {
        let mut port: Array<_, PortConfig> = self.typed(map::PORT)?;
        port.set(0, config, 0).map_err(XdpError::map(map::PORT))
    }

    /// Adds the keys that are missing. Returns those that are no longer wanted.
    fn add<'a, K: KeySet<'a>>(
        &'a mut self,
        name: &'static str,
        limit: u32,
        wanted: &BTreeSet<K::Key>,
    ) -> Result<Vec<K::Key>, XdpError> {
        let mut set: K = self.typed(name)?;
        let present = set.all().map_err(XdpError::map(name))?;
        let count = present.union(wanted).count();
        if count > limit as usize {
            return Err(XdpError::ListFull { name, count, limit });
        }
        for key in wanted.difference(&present) {
            set.insert(key).map_err(XdpError::map(name))?;
        }
        Ok(present.difference(wanted).copied().collect())
    }

    fn remove<'a, K: KeySet<'a>>(&'a mut self, name: &'static str, stale: &[K::Key]) -> Result<(), XdpError> {
        let mut set: K = self.typed(name)?;
        stale.iter().try_for_each(|key| set.remove(key)).map_err(XdpError::map(name))
    }
}

/// A map whose keys say everything.
trait KeySet<'a>: TryFrom<&'a mut Map, Error = MapError> {
    type Key: Ord + Copy;

    fn all(&self) -> Result<BTreeSet<Self::Key>, MapError>;
    fn insert(&mut self, key: &Self::Key) -> Result<(), MapError>;
    fn remove(&mut self, key: &Self::Key) -> Result<(), MapError>;
}

type Trie<'a, const N: usize> = LpmTrie<&'a mut MapData, [u8; N], u8>;
type Set<'a, K> = HashMap<&'a mut MapData, K, u8>;

impl<'a, const N: usize> KeySet<'a> for Trie<'a, N> {
    type Key = (u8, [u8; N]);

    fn all(&self) -> Result<BTreeSet<Self::Key>, MapError> {
        // The length is at most 128: the kernel refuses longer ones (kernel/bpf/lpm_trie.c, trie_update_elem).
        self.keys().map(|key| key.map(|key| (key.prefix_len() as u8, key.data()))).collect()
    }

    fn insert(&mut self, &(len, data): &Self::Key) -> Result<(), MapError> {
        LpmTrie::insert(self, &Key::new(len.into(), data), 0, 0)
    }

    fn remove(&mut self, &(len, data): &Self::Key) -> Result<(), MapError> {
        LpmTrie::remove(self, &Key::new(len.into(), data))
    }
}

impl<'a, K: Pod + Ord> KeySet<'a> for Set<'a, K> {
    type Key = K;

    fn all(&self) -> Result<BTreeSet<K>, MapError> {
        self.keys().collect()
    }

    fn insert(&mut self, key: &K) -> Result<(), MapError> {
        HashMap::insert(self, key, 0, 0)
    }

    fn remove(&mut self, key: &K) -> Result<(), MapError> {
        HashMap::remove(self, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str, len: u8) -> IpPrefix {
        IpPrefix { addr: text.parse().unwrap(), len }
    }

    #[test]
    fn host_bits_are_ignored_and_doubles_are_one() {
        let list =
            [prefix("10.1.2.3", 8), prefix("10.9.9.9", 8), prefix("1.2.3.4", 0), prefix("1.2.3.4", 32)];
        let v4 = Prefixes::of(&list).unwrap().v4;
        assert_eq!(Vec::from_iter(v4), [(0, [0; 4]), (8, [10, 0, 0, 0]), (32, [1, 2, 3, 4])]);
        let v6 =
            Prefixes::of(&[prefix("2001:db8::1", 32), prefix("::1", 128), prefix("ff::", 0)]).unwrap().v6;
        let lengths: Vec<_> = v6.iter().map(|(len, addr)| (*len, addr[0], addr[15])).collect();
        assert_eq!(lengths, [(0, 0, 0), (32, 0x20, 0), (128, 0, 1)]);
    }

    #[test]
    fn a_length_beyond_the_address_is_refused() {
        for bad in [prefix("10.0.0.0", 33), prefix("::", 129), prefix("10.0.0.0", 255)] {
            assert!(matches!(Prefixes::of(&[bad]), Err(XdpError::Prefix(p)) if p == bad));
        }
    }
}
