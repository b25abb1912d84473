//! Which worker's a packet is, where flows are spread over backends.
//!
//! The way to a backend and the way back have the client alone in common. Owns nothing. Keeps true: what a client sends to a
//! virtual address, what the address answers, and what a backend that packets are translated for answers, have the same
//! owner: the client's. What is no service is left to others, on the same addresses too: one may be the host's own.

use std::net::IpAddr;

use zsync_packet::flow::{FlowKey, HashKey};

use super::service::Services;
use crate::spec::balance::{BalanceSpec, Forward};
use crate::stages::nat::of_host;
use crate::tables::nat::Endpoint;

/// See the module.
#[derive(Clone, Debug)]
pub struct Clients {
    services: Services,
    /// Whom packets are translated for, in order; nobody where backends have the virtual address themselves. Without a
    /// port: at the ports of the services.
    backends: Vec<(IpAddr, Option<u16>)>,
    hash_key: HashKey,
    workers: u8,
}

impl Clients {
    /// Those of the services of `spec`, for `workers` workers.
    pub fn new(spec: &BalanceSpec, hash_key: HashKey, workers: u8) -> Self {
        let mut backends: Vec<_> = match spec.forward {
            Forward::Nat => spec.backends.iter().map(|backend| (backend.address, backend.port)).collect(),
            Forward::Direct | Forward::Ipip | Forward::Gue => Vec::new(),
        };
        backends.sort_unstable();
        Self { services: Services::new(&spec.vips, &spec.services), backends, hash_key, workers }
    }

    /// Whose a packet to or from a service at a virtual address is; `None` for others.
    #[inline]
    pub fn at_service(&self, key: &FlowKey) -> Option<u8> {
        match (self.is_service(&key.reversed()), self.is_service(key)) {
            (false, true) => Some(self.of(&Endpoint::source(key))),
            (true, false) => Some(self.of(&Endpoint::destination(key))),
            _ => None,
        }
    }

    /// Whose a packet between a backend, at a port where it serves, and somebody else is; `None` for others.
    #[inline]
    pub fn at_backend(&self, key: &FlowKey) -> Option<u8> {
        let (source, destination) = (Endpoint::source(key), Endpoint::destination(key));
        match (self.is_backend(&source), self.is_backend(&destination)) {
            (false, true) => Some(self.of(&source)),
            (true, false) => Some(self.of(&destination)),
            _ => None,
        }
    }

    fn is_service(&self, key: &FlowKey) -> bool {
        self.services.is_vip(key) && self.services.serves(key.protocol(), key.destination_port())
    }

    fn is_backend(&self, end: &Endpoint) -> bool {
        let from = self.backends.partition_point(|(address, _)| *address < end.address());
        let same = self.backends.iter().skip(from).take_while(|(address, _)| *address == end.address());
        let mut ports = same.map(|(_, port)| *port);
        ports.any(|port| match port {
            Some(port) => port == end.port() && self.services.has_protocol(end.protocol()),
            None => self.services.serves(end.protocol(), end.port()),
        })
    }

    fn of(&self, client: &Endpoint) -> u8 {
        of_host(client.address(), &self.hash_key, self.workers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::balance::Backend;
    use crate::stages::balance::tests::spec;
    use std::collections::BTreeSet;
    use std::net::SocketAddr;
    use zsync_packet::header::protocol::{ICMP, TCP, UDP};

    fn key(source: &str, destination: &str, protocol: u8) -> FlowKey {
        let end = |text: &str| {
            let end: SocketAddr = text.parse().unwrap();
            Endpoint::new(end.ip(), end.port(), protocol)
        };
        end(source).to(&end(destination))
    }

    fn clients(forward: Forward, vips: &[&str], backends: &[&str]) -> Clients {
        let backend = |text: &&str| {
            let end: Option<SocketAddr> = text.parse().ok();
            let address = end.map_or_else(|| text.parse().unwrap(), |end| end.ip());
            Backend { address, port: end.map(|end| end.port()), weight: 1, drain: false }
        };
        let mut spec = spec(forward, &[]);
        spec.services = vec!["tcp/443".parse().unwrap()];
        spec.backends = backends.iter().map(backend).collect();
        spec.vips = vips.iter().map(|vip| vip.parse().unwrap()).collect();
        Clients::new(&spec, HashKey::from_seed(3), 4)
    }

    #[test]
    fn the_way_there_and_both_ways_back_are_the_clients() {
        let clients = clients(
            Forward::Nat,
            &["192.0.2.80", "2001:db8::80"],
            &["10.9.0.1:8443", "10.9.0.2", "[2001:db8:9::1]:8443"],
        );
        let mut owners = BTreeSet::new();
        for number in 1..200 {
            for (client, vip, backend) in [
                (format!("10.1.0.{number}:40{number:03}"), "192.0.2.80:443", "10.9.0.1:8443"),
                (format!("10.1.0.{number}:40{number:03}"), "192.0.2.80:443", "10.9.0.2:443"),
                (format!("[fd01::{number}]:40{number:03}"), "[2001:db8::80]:443", "[2001:db8:9::1]:8443"),
            ] {
                let there = key(&client, vip, TCP);
                let owner = clients.at_service(&there).unwrap();
                owners.insert(owner);
                assert_eq!(clients.at_service(&there.reversed()), Some(owner));
                let back = key(backend, &client, TCP);
                assert_eq!((clients.at_service(&back), clients.at_backend(&back)), (None, Some(owner)));
                // A host within that speaks to the backend itself, and its answers, agree as well.
                assert_eq!(clients.at_backend(&back.reversed()), Some(owner));
            }
        }
        assert_eq!(owners.len(), 4);
    }

    #[test]
    fn what_is_no_service_is_left_to_others() {
        let nat = clients(Forward::Nat, &["192.0.2.80"], &["10.9.0.1:8443", "10.9.0.2"]);
        for (source, destination, protocol) in [
            // A backend that is a client itself.
            ("10.9.0.1:40000", "198.51.100.1:443", TCP),
            ("10.9.0.2:8443", "198.51.100.1:443", TCP),
            // The service is of TCP.
            ("10.9.0.1:8443", "10.1.0.1:40000", UDP),
            ("10.9.0.2:443", "10.1.0.1:40000", UDP),
            // A ping of the virtual address, and of a port where nothing is served.
            ("10.1.0.1:7", "192.0.2.80:7", ICMP),
            ("10.1.0.1:40000", "192.0.2.80:444", TCP),
            ("10.1.0.1:40000", "192.0.2.80:443", UDP),
            // Which of them is the client?
            ("10.9.0.2:443", "10.9.0.1:8443", TCP),
        ] {
            let key = key(source, destination, protocol);
            let of = |key: &FlowKey| (nat.at_service(key), nat.at_backend(key));
            assert_eq!((of(&key), of(&key.reversed())), ((None, None), (None, None)), "{key:?}");
        }
        let direct = clients(Forward::Direct, &["192.0.2.80"], &["10.9.0.2"]);
        assert_eq!(direct.at_backend(&key("10.9.0.2:443", "10.1.0.1:40000", TCP)), None);
        assert!(direct.at_service(&key("10.1.0.1:40000", "192.0.2.80:443", TCP)).is_some());
    }
}
