//! Traffic: the packets of a benchmark, and the routes that lead them.
//!
//! All of it comes from a seed, so every run measures the same packets over the same tables.

use anyhow::{Context, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use zsync_packet::header::{build, ether_type};
use zsync_packet::region::Region;
use zsync_pipelines::tables::fib::{AdjacencyId, Fib, FibLayout, FibWriter, Target};

/// Neighbours that the routes lead to, half of them behind each of two ports.
const NEIGHBOURS: u32 = 32;

/// Bytes that a route takes besides the tables: in the writer's maps, in the set of those seen, in the list; rounded up.
const BYTES_OF_A_ROUTE: usize = 300;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// Numbers that look random (xorshift64*, Vigna 2016): the same ones each time.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit.max(1)
    }
}

/// Routes, and addresses that they cover.
pub struct Table {
    prefixes: Vec<(u128, u8)>,
    family: Family,
    /// To look up in.
    pub fib: Fib,
}

impl Table {
    /// `routes` random prefixes, no two the same; a single one is the default route. Lengths are about those of the
    /// Internet's tables: most are a /24 or a /48, one IPv4 route in 32 is longer than /24.
    ///
    /// # Errors
    /// The FIB refuses one.
    pub fn random(family: Family, routes: usize, seeded: &mut Seeded) -> Result<Self> {
        let layout = Self::layout(family, routes);
        let mut writer = FibWriter::create(Region::heap(layout.bytes()), layout)?;
        let neighbours = (0..NEIGHBOURS)
            .map(|n| {
                let gateway = IpAddr::V4(Ipv4Addr::new(10, 0, (n % 2) as u8, n as u8 + 1));
                let neighbour = writer.adjacency((n % 2) as u16, gateway)?;
                writer.resolve(neighbour, [2, 0, 0, 1, 0, n as u8]);
                Ok(neighbour)
            })
            .collect::<Result<Vec<AdjacencyId>>>()?;
        let mut table = Self { prefixes: Vec::with_capacity(routes), family, fib: writer.reader() };
        let mut seen = std::collections::HashSet::new();
        while table.prefixes.len() < routes {
            let (prefix, len) = if routes == 1 { (0, 0) } else { prefix(family, seeded) };
            if seen.insert((prefix, len)) {
                let neighbour = neighbours[seeded.below(u64::from(NEIGHBOURS)) as usize];
                let target = Target::Hops(vec![(neighbour, 1)]);
                writer.insert(address(family, prefix), len, target).context("a route of the benchmark")?;
                table.prefixes.push((prefix, len));
            }
        }
        Ok(table)
    }

    fn layout(family: Family, routes: usize) -> FibLayout {
        let groups = |routes: usize| u32::try_from(routes).unwrap_or(u32::MAX).max(64);
        let (v4_groups, v6_groups) = match family {
            // One route in 32 takes a group; they are random, so twice that is more than enough.
            Family::V4 => (groups(routes / 16), 16),
            Family::V6 => (16, groups(2 * routes)),
        };
        FibLayout { v4_groups, v6_groups, adjacencies: 64, ..FibLayout::SMALL }
    }

    /// Bytes of memory that such a table takes at most, with the writer's own while it is made.
    pub fn bytes(family: Family, routes: usize) -> usize {
        Self::layout(family, routes).bytes() + routes * BYTES_OF_A_ROUTE
    }

    /// The prefixes, each with its length.
    pub fn prefixes(&self) -> impl Iterator<Item = (IpAddr, u8)> {
        self.prefixes.iter().map(|&(prefix, len)| (address(self.family, prefix), len))
    }

    /// A random address under one of the prefixes, which is neither a martian nor the kernel's to look at.
    pub fn destination(&self, seeded: &mut Seeded) -> IpAddr {
        loop {
            let (prefix, len) = self.prefixes[seeded.below(self.prefixes.len() as u64) as usize];
            let host = u128::from(seeded.number()) << 64 | u128::from(seeded.number());
            let bits = prefix | host.checked_shr(u32::from(len)).unwrap_or(0);
            let address = address(self.family, bits);
            if is_plain(address) {
                return address;
            }
        }
    }
}

/// A prefix, its first bit on top, and its length.
fn prefix(family: Family, seeded: &mut Seeded) -> (u128, u8) {
    let (len, bits) = match (family, seeded.below(32)) {
        (Family::V4, 0) => (25 + seeded.below(8), seeded.number() << 32),
        (Family::V4, 1..=12) => (12 + seeded.below(12), seeded.number() << 32),
        (Family::V4, _) => (24, seeded.number() << 32),
        (Family::V6, 0..=12) => (24 + seeded.below(24), seeded.number()),
        (Family::V6, _) => (48, seeded.number()),
    };
    let mut bits = u128::from(bits) << 64;
    if family == Family::V6 {
        // What is in use: 2000::/3.
        bits = bits >> 3 | 1 << 125;
    } else if !is_plain(address(family, bits)) {
        // Somewhere that is routed.
        bits = bits & !(0xff << 120) | 100 << 120;
    }
    (bits >> (128 - len) << (128 - len), len as u8)
}

fn address(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from((bits >> 96) as u32)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(bits)),
    }
}

/// Global unicast: what the `parse` stage leaves to the `route` stage.
fn is_plain(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            (1..=223).contains(&first) && first != 127 && (first, second) != (169, 254)
        }
        IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000,
    }
}

/// A UDP packet of `len` bytes from its Ethernet header on; `None` when that is too short for its headers, or the addresses
/// are of two families.
pub fn udp_frame(
    macs: ([u8; 6], [u8; 6]),
    source: SocketAddr,
    destination: SocketAddr,
    len: usize,
) -> Option<Vec<u8>> {
    let (headers, ether_type) =
        if source.is_ipv4() { (14 + 20 + 8, ether_type::IPV4) } else { (14 + 40 + 8, ether_type::IPV6) };
    let payload = vec![0; len.checked_sub(headers)?];
    let packet = build::udp_packet(source, destination, &payload)?;
    Some(build::ethernet(macs.1, macs.0, &[], ether_type, &packet))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zsync_pipelines::tables::fib::Adjacency;

    #[test]
    fn every_destination_has_a_route_and_is_one_that_is_routed() {
        for (family, routes) in [(Family::V4, 1), (Family::V4, 1000), (Family::V6, 1), (Family::V6, 1000)] {
            let mut seeded = Seeded::new(1);
            let table = Table::random(family, routes, &mut seeded).unwrap();
            let mut ports = [0; 2];
            for _ in 0..2000 {
                let route = match table.destination(&mut seeded) {
                    IpAddr::V4(v4) => table.fib.route4(v4.to_bits()),
                    IpAddr::V6(v6) => table.fib.route6(&v6.octets()),
                };
                match table.fib.adjacency(route, 0) {
                    Adjacency::Forward { port, .. } => ports[usize::from(port)] += 1,
                    other => panic!("{family:?}: {other:?}"),
                }
            }
            assert!(routes == 1 || ports.iter().all(|&count| count > 500), "{family:?}: {ports:?}");
        }
    }

    #[test]
    fn a_frame_has_the_length_that_was_asked_for() {
        let macs = ([2; 6], [4; 6]);
        let v4 = ("192.0.2.1:1".parse().unwrap(), "198.18.0.1:2".parse().unwrap());
        let frame = udp_frame(macs, v4.0, v4.1, 60).unwrap();
        assert_eq!((frame.len(), &frame[..6], &frame[12..14]), (60, &[4; 6][..], &[8, 0][..]));
        assert!(udp_frame(macs, v4.0, v4.1, 41).is_none());
        assert!(udp_frame(macs, v4.0, "[2001:db8::1]:2".parse().unwrap(), 80).is_none());
    }
}
