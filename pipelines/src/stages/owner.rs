//! `owner`: packets of a flow that another worker owns go to that worker.
//!
//! Stands ahead of the first stage that keeps something of flows, when there are several workers. Both directions of a flow,
//! its fragments, and ICMP errors about it, have the same owner: of a flow to a virtual address, its client's; where addresses
//! are translated, the owner of the internal address; else the pair of addresses decides. (Not the ports: fragments have none.) Owns nothing. Keeps true: the owner
//! that it names finds itself to be the owner, so no packet is sent twice; and no stage sees a packet twice, for it goes on there
//! behind this one.

use super::balance::owner::Clients;
use super::nat::Owners;
use crate::stage::{Cx, Stage};
use zsync_packet::burst::Burst;
use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::verdict::{PortId, Verdict};

/// See the module.
#[derive(Clone, Debug)]
pub struct Owner {
    worker: u8,
    workers: u8,
    /// Its own, among all stages.
    number: u8,
    hash_key: HashKey,
    translated: Vec<Owners>,
    balanced: Vec<Clients>,
}

impl Owner {
    /// For `workers` workers, as the stage of this number.
    pub fn new(workers: u8, number: u8, hash_key: HashKey) -> Self {
        Self { worker: 0, workers, number, hash_key, translated: Vec::new(), balanced: Vec::new() }
    }

    /// Asks the stages that translate addresses, and those that spread flows over backends, first.
    pub fn ask(&mut self, translated: Vec<Owners>, balanced: Vec<Clients>) {
        (self.translated, self.balanced) = (translated, balanced);
    }

    /// As a client of a service's, or of a backend's: but what a backend answers to an end that NAT gave out, for the client,
    /// is for the worker that did.
    fn balanced(&self, key: &FlowKey, port: PortId) -> Option<u8> {
        let service = || self.balanced.iter().find_map(|clients| clients.at_service(key));
        let outside = || self.translated.iter().find_map(|owners| owners.outside(key, port));
        let backend = || self.balanced.iter().find_map(|clients| clients.at_backend(key));
        service().or_else(outside).or_else(backend)
    }

    /// Who owns the flow of `key`, whose packet came in at `port`.
    fn of(&self, key: &FlowKey, port: PortId) -> u8 {
        let balanced = if self.balanced.is_empty() { None } else { self.balanced(key, port) };
        let translated = || self.translated.iter().find_map(|owners| owners.owner(key, port));
        balanced.or_else(translated).unwrap_or_else(|| {
            let pair = key.addresses_alone();
            let half = pair.symmetric_hash(&self.hash_key) >> 32;
            ((half * u64::from(self.workers)) >> 32) as u8
        })
    }
}

impl Owner {
    #[inline]
    fn owner(&self, burst: &Burst, i: usize) -> u8 {
        match super::nat::quoted(burst.bytes(i), burst.facts(i)) {
            // Of the packet that an ICMP error quotes, as its answers are.
            Some(quoted) => self.of(&quoted.reversed(), burst.port(i)),
            None => self.of(burst.key(i), burst.port(i)),
        }
    }
}

impl Stage for Owner {
    fn process(&mut self, burst: &mut Burst, _: &mut Cx<'_>) {
        for i in burst.undecided() {
            let owner = self.owner(burst, i);
            if owner != self.worker {
                burst.decide(i, Verdict::Worker(owner, self.number));
            }
        }
    }

    fn assign(&mut self, worker: usize) {
        self.worker = worker as u8;
    }

    fn explain(&self, burst: &Burst, i: usize, _now: u64, out: &mut Vec<String>) {
        let error = super::nat::quoted(burst.bytes(i), burst.facts(i)).is_some();
        let of = if error { " of the packet that the error quotes" } else { "" };
        out.push(format!("worker {} owns the flow{of}", self.owner(burst, i)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Resources, compile};
    use crate::snapshot::AnyStage;
    use crate::spec::parse;
    use crate::stages::fixture::{IN, MAC_OUT, OUT, ports};
    use crate::stages::nat::of_host;
    use crate::tables::fib::{FibLayout, FibWriter, Target};
    use crate::tables::nat::Endpoint;
    use std::collections::{BTreeMap, BTreeSet};
    use std::net::{IpAddr, SocketAddr};
    use zsync_packet::header::protocol::TCP;
    use zsync_packet::region::Region;

    const SECRET: u64 = 11;
    /// The addresses of [`OUT`].
    const OWN: [&str; 2] = ["203.0.113.1", "2001:db8:113::1"];

    /// The owners of an edge whose backends, behind [`IN`], share its addresses when they go out, and serve at one of these, too.
    fn edge() -> Owner {
        let source = r#"
            [port.in]
            netdev = "eth1"
            [port.out]
            netdev = "eth2"
            [pipeline.edge]
            input = ["in", "out"]
            stages = ["track", "balance.web", "nat.out", "route"]
            [balance.web]
            vip = ["192.0.2.80", "2001:db8::80", "203.0.113.1"]
            service = ["tcp/443"]
            forward = "nat"
            backends = [{ address = "10.9.0.1", port = 8443 }, { address = "10.9.0.2" }, { address = "fd09::1" }]
            [nat.out]
            masquerade = [{ output = "out" }]
        "#;
        let mut fib = FibWriter::create(Region::heap(FibLayout::SMALL.bytes()), FibLayout::SMALL).unwrap();
        for (prefix, len, port, via) in [
            ("0.0.0.0", 0, OUT, "203.0.113.2"),
            ("::", 0, OUT, "2001:db8:113::2"),
            ("10.9.0.0", 24, IN, "10.9.0.3"),
            ("fd09::", 64, IN, "fd09::3"),
        ] {
            let hop = fib.adjacency(port.0, via.parse().unwrap()).unwrap();
            assert!(fib.resolve(hop, MAC_OUT));
            fib.insert(prefix.parse().unwrap(), len, Target::Hops(vec![(hop, 1)])).unwrap();
        }
        let mut ports = ports();
        ports[1].v4 = Some(OWN[0].parse().unwrap());
        ports[1].v6 = Some(OWN[1].parse().unwrap());
        let with = Resources {
            ports,
            fibs: BTreeMap::from([(254, fib.reader())]),
            hash_key: HashKey::from_seed(SECRET),
            workers: 4,
            states: [].into(),
        };
        let snapshot = compile(&parse(source, "edge.toml").unwrap().spec, 1, &with).unwrap();
        let mut stages = snapshot.pipelines.into_iter().flat_map(|pipeline| pipeline.stages);
        stages
            .find_map(|placed| match placed.stage {
                AnyStage::Owner(owner) => Some(owner),
                _ => None,
            })
            .unwrap()
    }

    fn key(source: &str, destination: &str) -> FlowKey {
        let end = |text: &str| {
            let end: SocketAddr = text.parse().unwrap();
            Endpoint::new(end.ip(), end.port(), TCP)
        };
        end(source).to(&end(destination))
    }

    #[test]
    fn a_balanced_flow_is_its_clients_also_where_backends_are_translated() {
        let owner = edge();
        let mut owners = BTreeSet::new();
        for number in 1..100 {
            for (client, service, backend) in [
                (format!("198.51.100.{number}:40000"), "192.0.2.80:443", "10.9.0.1:8443"),
                (format!("198.51.100.{number}:40000"), "203.0.113.1:443", "10.9.0.2:443"),
                (format!("[2001:db8:f::{number}]:40000"), "[2001:db8::80]:443", "[fd09::1]:443"),
            ] {
                let there = owner.of(&key(&client, service), OUT);
                assert_eq!(there, owner.of(&key(backend, &client), IN), "{client} {service} {backend}");
                // What the backend's answer becomes, as an error about it quotes it.
                assert_eq!(there, owner.of(&key(service, &client), IN));
                owners.insert(there);
            }
        }
        assert_eq!(owners.len(), 4);
    }

    #[test]
    fn a_backend_that_is_a_client_is_nats() {
        let owner = edge();
        let of = |address: &str| of_host(address.parse::<IpAddr>().unwrap(), &HashKey::from_seed(SECRET), 4);
        for number in 1..100 {
            for (backend, server) in [
                ("10.9.0.1", format!("198.51.100.{number}:443")),
                ("10.9.0.2", format!("198.51.100.{number}:8443")),
            ] {
                assert_eq!(owner.of(&key(&format!("{backend}:40000"), &server), IN), of(backend));
            }
        }
    }

    #[test]
    fn an_end_that_was_given_out_is_for_who_gave_it() {
        let owner = edge();
        for (backend, own) in [("10.9.0.1:8443", OWN[0]), ("10.9.0.2:443", OWN[0]), ("[fd09::1]:443", OWN[1])]
        {
            let end = |port: u16| SocketAddr::new(own.parse().unwrap(), port).to_string();
            // By blocks of 64 ports.
            let owners: Vec<u8> =
                (0..8).map(|block| owner.of(&key(backend, &end(2048 + 64 * block)), IN)).collect();
            assert_eq!(owners, [0, 1, 2, 3, 0, 1, 2, 3], "{backend}");
        }
    }
}
