//! Whose an address is: cryptokey routing, from the longest prefix to a peer.
//!
//! Owns: a FIB of its own, whose next hops are peers; so a lookup is what a route is, one or two cache misses, whatever the
//! number of peers. Refuses: more prefixes than its memory was made for. Keeps true: two peers never have the same prefix; the
//! configuration sees to that.

use crate::spec::Prefix;
use crate::tables::fib::{Fib, FibError, FibLayout, FibTables, FibWriter, Target};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use zsync_packet::region::Region;

/// See the module. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Cryptokey(Fib);

impl Cryptokey {
    /// Of these prefixes, each with its peer's number.
    ///
    /// # Errors
    /// There is no room for one.
    pub fn new(prefixes: &[(Prefix, u32)]) -> Result<Self, FibError> {
        let long = prefixes.iter().filter_map(|(prefix, _)| match prefix.addr() {
            IpAddr::V4(v4) if prefix.len() > 24 => Some(v4.to_bits() >> 8),
            _ => None,
        });
        let v6 = prefixes.iter().filter(|(prefix, _)| prefix.addr().is_ipv6()).count();
        let peers: BTreeSet<u32> = prefixes.iter().map(|(_, peer)| *peer).collect();
        let layout = FibLayout {
            v4_groups: long.collect::<BTreeSet<_>>().len() as u32 + 1,
            v6_groups: 2 * v6 as u32 + 2,
            next_hops: 1,
            members: 1,
            adjacencies: peers.len() as u32 + 1,
        };
        let mut fib = FibWriter::create(Region::heap(layout.bytes()), layout)?;
        for (prefix, peer) in prefixes {
            let hop = fib.adjacency(0, Ipv6Addr::from_bits(u128::from(*peer) + 1).into())?;
            let [a, b, c, d] = peer.to_be_bytes();
            fib.resolve(hop, [0, 0, a, b, c, d]);
            fib.insert(prefix.addr(), prefix.len(), Target::Hops(vec![(hop, 1)]))?;
        }
        Ok(Self(fib.reader()))
    }

    /// To look up in: taken once a burst.
    #[inline]
    pub fn routes(&self) -> Routes<'_> {
        Routes(self.0.tables())
    }

    /// The peer of an address.
    #[inline]
    pub fn of(&self, address: IpAddr) -> Option<u32> {
        self.routes().of(address)
    }
}

/// The prefixes, as slices.
#[derive(Clone, Copy)]
pub struct Routes<'a>(FibTables<'a>);

impl Routes<'_> {
    /// The peer of an IPv4 address (as a number: 10.0.0.1 is `0x0a00_0001`).
    #[inline]
    pub fn v4(&self, address: u32) -> Option<u32> {
        self.0.neighbour(self.0.route4(address), 0).map(|(_, peer)| number(peer))
    }

    /// The peer of an IPv6 address (network byte order).
    #[inline]
    pub fn v6(&self, address: &[u8; 16]) -> Option<u32> {
        self.0.neighbour(self.0.route6(address), 0).map(|(_, peer)| number(peer))
    }

    /// The peer of an address.
    #[inline]
    pub fn of(&self, address: IpAddr) -> Option<u32> {
        match address {
            IpAddr::V4(v4) => self.v4(v4.to_bits()),
            IpAddr::V6(v6) => self.v6(&v6.octets()),
        }
    }

    /// Bits of the prefix by which an address is somebody's: to say so, not for packets.
    pub fn prefix_len(&self, address: IpAddr) -> u8 {
        self.0.explain(address).1
    }
}

#[inline]
fn number([_, _, a, b, c, d]: [u8; 6]) -> u32 {
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_says_whose_an_address_is() {
        let prefix = |text: &str| text.parse::<Prefix>().unwrap();
        let table = Cryptokey::new(&[
            (prefix("0.0.0.0/0"), 0),
            (prefix("10.0.0.0/8"), 1),
            (prefix("10.1.2.3/32"), 200_000),
            (prefix("2001:db8::/32"), 3),
            (prefix("2001:db8:1::1/128"), 4),
        ])
        .unwrap();
        for (address, peer) in [
            ("192.0.2.1", Some(0)),
            ("10.9.9.9", Some(1)),
            ("10.1.2.3", Some(200_000)),
            ("10.1.2.4", Some(1)),
            ("2001:db8::1", Some(3)),
            ("2001:db8:1::1", Some(4)),
            ("2001:db9::1", None),
        ] {
            assert_eq!(table.of(address.parse().unwrap()), peer, "{address}");
        }
        assert_eq!(Cryptokey::new(&[]).unwrap().of("10.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn ten_thousand_peers_of_both_families() {
        let prefixes: Vec<(Prefix, u32)> = (0..10_000u32)
            .flat_map(|peer| {
                let v4 = IpAddr::from((0x0a00_0000 + peer * 7).to_be_bytes());
                let v6 = IpAddr::from(Ipv6Addr::from_bits((0xfd00 << 112) + (u128::from(peer) << 16)));
                [(Prefix::new(v4, 32).unwrap(), peer), (Prefix::new(v6, 112).unwrap(), peer)]
            })
            .collect();
        let table = Cryptokey::new(&prefixes).unwrap();
        for (prefix, peer) in &prefixes {
            assert_eq!(table.of(prefix.addr()), Some(*peer));
        }
        assert_eq!(table.routes().v4(0x0a00_0001), None);
    }
}
