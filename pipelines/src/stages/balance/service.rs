//! Which packets are for a service: their destination is a virtual address, and their port is served.
//!
//! Owns the addresses and ports of one `balance` stage. Keeps true: a look costs the same however many of either there are.

use std::net::IpAddr;

use zsync_packet::burst::Fragment;
use zsync_packet::flow::FlowKey;
use zsync_packet::header::protocol;

use crate::spec::Protocol;
use crate::spec::balance::{MAX_VIPS, Ports};

/// Slots of the addresses: at most a quarter is in use.
const SLOTS: usize = 4 * MAX_VIPS;
/// Words of a bit for each port.
const WORDS: usize = 1 << 10;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Services {
    /// Destination words of a key; a version of 0 is a free slot.
    vips: Box<[Vip]>,
    tcp: Box<[u64]>,
    udp: Box<[u64]>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Vip {
    words: [u64; 2],
    version: u8,
}

/// What a packet is to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Is {
    /// Nothing.
    Other,
    /// For it.
    Served,
    /// To the address, and of ICMP.
    Icmp,
}

impl Services {
    pub fn new(vips: &[IpAddr], ports: &[Ports]) -> Self {
        let mut table = vec![Vip::default(); SLOTS].into_boxed_slice();
        for &address in vips {
            let vip = Vip::to(&match address {
                IpAddr::V4(v4) => FlowKey::v4((v4, 0), (v4, 0), 0),
                IpAddr::V6(v6) => FlowKey::v6((v6, 0), (v6, 0), 0),
            });
            let home = vip.home();
            let slots = (home..SLOTS).chain(0..home);
            let free =
                |slot: &usize| table.get(*slot).is_some_and(|other| other.version == 0 || *other == vip);
            if let Some(slot) = slots.into_iter().find(free).and_then(|slot| table.get_mut(slot)) {
                *slot = vip;
            }
        }
        let served = |wanted: Protocol| {
            let mut bits = vec![0u64; WORDS].into_boxed_slice();
            let ranges = ports.iter().filter(|ports| ports.protocol() == wanted).map(Ports::range);
            for port in ranges.flatten() {
                if let Some(word) = bits.get_mut(usize::from(port >> 6)) {
                    *word |= 1 << (port & 63);
                }
            }
            bits
        };
        Self { vips: table, tcp: served(Protocol::Tcp), udp: served(Protocol::Udp) }
    }

    /// What the packet with this key is. A fragment whose ports nobody knows is for any service of its protocol.
    #[inline]
    pub fn look(&self, key: &FlowKey, fragment: Fragment) -> Is {
        if !self.is_vip(key) {
            return Is::Other;
        }
        let ports = match key.protocol() {
            protocol::TCP => &self.tcp,
            protocol::UDP => &self.udp,
            protocol::ICMP | protocol::ICMPV6 => return Is::Icmp,
            _ => return Is::Other,
        };
        let port = key.destination_port();
        let served = match ports.get(usize::from(port >> 6)) {
            _ if port == 0 => fragment != Fragment::Whole && ports.iter().any(|word| *word != 0),
            Some(word) => word >> (port & 63) & 1 != 0,
            None => false,
        };
        if served { Is::Served } else { Is::Other }
    }

    /// Whether something is served at this port.
    pub fn serves(&self, of: u8, port: u16) -> bool {
        let served = |word: &u64| word >> (port & 63) & 1 != 0;
        self.ports(of).and_then(|ports| ports.get(usize::from(port >> 6))).is_some_and(served)
    }

    /// Whether something is served over this protocol.
    pub fn has_protocol(&self, of: u8) -> bool {
        self.ports(of).is_some_and(|ports| ports.iter().any(|word| *word != 0))
    }

    fn ports(&self, of: u8) -> Option<&[u64]> {
        match of {
            protocol::TCP => Some(&self.tcp),
            protocol::UDP => Some(&self.udp),
            _ => None,
        }
    }

    /// Whether the destination is a virtual address.
    #[inline]
    pub fn is_vip(&self, key: &FlowKey) -> bool {
        let vip = Vip::to(key);
        let mut slot = vip.home();
        loop {
            match self.vips.get(slot) {
                Some(other) if *other == vip => return true,
                Some(other) if other.version != 0 => slot = (slot + 1) % SLOTS,
                _ => return false,
            }
        }
    }
}

impl Vip {
    #[inline]
    fn to(key: &FlowKey) -> Self {
        let [_, _, hi, lo, _] = key.words();
        Self { words: [hi, lo], version: key.version() }
    }

    /// Where it is looked for first. Not keyed: only the operator puts addresses in.
    #[inline]
    fn home(&self) -> usize {
        let [hi, lo] = self.words;
        ((hi ^ lo).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % SLOTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    fn to(address: &str, port: u16, protocol: u8) -> FlowKey {
        match address.parse().unwrap() {
            IpAddr::V4(v4) => FlowKey::v4(([10, 0, 0, 1].into(), 9), (v4, port), protocol),
            IpAddr::V6(v6) => FlowKey::v6((Ipv6Addr::LOCALHOST, 9), (v6, port), protocol),
        }
    }

    #[test]
    fn an_address_and_a_port_make_a_service() {
        let ports = ["tcp/443", "tcp/8000-8099", "udp/65535", "udp/1"].map(|text| text.parse().unwrap());
        let vips = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().unwrap());
        let services = Services::new(&vips, &ports);
        let look = |address, port, protocol| services.look(&to(address, port, protocol), Fragment::Whole);
        for vip in ["192.0.2.1", "2001:db8::1"] {
            for (port, protocol) in [(443, 6), (8000, 6), (8042, 6), (8099, 6), (65_535, 17), (1, 17)] {
                assert_eq!(look(vip, port, protocol), Is::Served, "{vip} {protocol}/{port}");
            }
            for (port, protocol) in
                [(442, 6), (7999, 6), (8100, 6), (443, 17), (1, 6), (443, 132), (0, 6), (0, 0)]
            {
                assert_eq!(look(vip, port, protocol), Is::Other, "{vip} {protocol}/{port}");
            }
        }
        assert_eq!((look("192.0.2.1", 0, 1), look("2001:db8::1", 0, 58)), (Is::Icmp, Is::Icmp));
        for other in ["192.0.2.2", "2001:db8::2", "::ffff:192.0.2.1", "0.0.0.0", "::"] {
            assert_eq!((look(other, 443, 6), look(other, 0, 1)), (Is::Other, Is::Other), "{other}");
        }
    }

    #[test]
    fn a_fragment_without_ports_is_for_whatever_of_its_protocol_is_served() {
        let services = Services::new(&["192.0.2.1".parse().unwrap()], &["tcp/443".parse().unwrap()]);
        let look = |protocol, fragment| services.look(&to("192.0.2.1", 0, protocol), fragment);
        assert_eq!((look(6, Fragment::Later), look(6, Fragment::First)), (Is::Served, Is::Served));
        assert_eq!((look(6, Fragment::Whole), look(17, Fragment::Later)), (Is::Other, Is::Other));
    }

    #[test]
    fn as_many_addresses_as_there_may_be() {
        let vips: Vec<IpAddr> =
            (0..MAX_VIPS as u32).map(|n| std::net::Ipv4Addr::from_bits(0xc000_0200 + n).into()).collect();
        let services = Services::new(&vips, &["udp/53".parse().unwrap()]);
        for (number, vip) in vips.iter().enumerate() {
            assert_eq!(services.look(&to(&vip.to_string(), 53, 17), Fragment::Whole), Is::Served, "{number}");
        }
        assert_eq!(services.look(&to("192.0.3.0", 53, 17), Fragment::Whole), Is::Other);
    }
}
