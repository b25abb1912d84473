//! The stage behind a tracker that is as simple as can be.

mod flows;
mod oracle;
mod packets;
mod prefixes;

use super::*;
use crate::snapshot::PortFacts;
use crate::spec::{Forward, Masquerade, PairOfPrefixes, Prefix, SourceNat};
use crate::stages::fixture::{IN, MAC_IN, OUT, Seen, ports as two_ports, run};
use crate::stages::parse::Parse;
use crate::tables::fib::{FibLayout, FibWriter, Target};
use crate::tables::flow::{self, FlowSpace, Limits, bit};
use crate::tables::nat::Endpoint;
use packets::End;
use zsync_packet::region::Region;
use zsync_packet::verdict::PortId;

/// The port inside, and the one outside.
const LAN: PortId = IN;
const WAN: PortId = OUT;
const FLOWS: FlowSpace = FlowSpace { flows: 4096, translations: 4096 };
const SECOND: u64 = 1_000_000_000;

/// Finds and adds flows; whatever is no first packet is taken for what it seems.
struct Tracker {
    flows: Flows,
}

impl Stage for Tracker {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        for i in burst.undecided() {
            let (key, facts) = (*burst.key(i), *burst.facts(i));
            if let Some(quoted) = quoted(burst.bytes(i), &facts) {
                let answer = quoted.reversed();
                if let Some((id, reply)) = self.flows.find(&answer, self.flows.hash(&answer)) {
                    let facts = burst.facts_mut(i);
                    (facts.flow, facts.reply, facts.state) = (id.fact(), reply, FlowState::Related);
                }
                continue;
            }
            let hash = self.flows.hash(&key);
            let (id, reply) = self.flows.find(&key, hash).unwrap_or_else(|| {
                let limits = Limits { half_open: 1000, per_source: 0 };
                let state = flow::State { bits: bit::WEAK, ..flow::State::default() };
                let until = (cx.now, cx.now + 300 * SECOND);
                let id = self.flows.create(&key, hash, &state, until, &limits, |_| SECOND).unwrap();
                (id, false)
            });
            if reply {
                self.flows.settle(id, bit::REPLIED);
            }
            let replied = self.flows.hot(id).unwrap().bits() & bit::REPLIED != 0;
            let facts = burst.facts_mut(i);
            (facts.flow, facts.reply) = (id.fact(), reply);
            facts.state = if replied { FlowState::Established } else { FlowState::New };
        }
    }
}

/// A router with a NAT: 10.0.0.0/8 and fd00::/8 are behind [`LAN`], the rest behind [`WAN`], which has the addresses
/// 203.0.113.1 and 2001:db8::1.
struct Edge {
    spec: NatSpec,
    own: Vec<Vec<IpAddr>>,
    fib: FibWriter,
    parse: Parse,
    flows: State,
    memory: Option<State>,
    tracker: Tracker,
    nat: Nat,
    now: u64,
}

impl Edge {
    fn new(spec: NatSpec) -> Self {
        let region = Region::heap(FibLayout::SMALL.bytes());
        let mut fib = FibWriter::create(region, FibLayout::SMALL).unwrap();
        let lan = fib.adjacency(LAN.0, [10, 0, 0, 254].into()).unwrap();
        // Nobody has asked for this neighbour yet: the port is known all the same.
        let wan = fib.adjacency(WAN.0, [203, 0, 113, 254].into()).unwrap();
        assert!(fib.resolve(lan, [2, 0, 0, 0, 0, 9]));
        for (prefix, hop) in [("10.0.0.0/8", lan), ("fd00::/8", lan), ("0.0.0.0/0", wan), ("::/0", wan)] {
            let prefix: Prefix = prefix.parse().unwrap();
            fib.insert(prefix.addr(), prefix.len(), Target::Hops(vec![(hop, 1)])).unwrap();
        }
        let facts = two_ports().into_iter().map(|port| PortFacts { mac: MAC_IN, ..port }).collect();
        let own =
            vec![vec![[10, 0, 0, 254].into()], vec![[203, 0, 113, 1].into(), "2001:db8::1".parse().unwrap()]];
        let flows = State::heap(StateSize { shared: 0, each: FLOWS.bytes() }, 1);
        let memory = size(&spec).map(|size| State::heap(size, 1));
        let parse = Parse::new(facts, true);
        let (tracker, nat) = Self::open(&spec, &own, &fib, &flows, &memory);
        Self { spec, own, fib, parse, flows, memory, tracker, nat, now: SECOND }
    }

    fn open(
        spec: &NatSpec,
        own: &[Vec<IpAddr>],
        fib: &FibWriter,
        flows: &State,
        memory: &Option<State>,
    ) -> (Tracker, Nat) {
        let hash_key = HashKey::from_seed(3);
        let with = NatResources {
            own,
            fib: Some(fib.reader()),
            flows: Some(Shards::new(flows.clone(), FLOWS, hash_key.clone()).unwrap()),
            state: memory.clone(),
            hash_key: hash_key.clone(),
        };
        let mut nat = Nat::new(spec, with).unwrap();
        nat.assign(0);
        let flows = Flows::open(flows.shard(0).unwrap(), FLOWS, hash_key).unwrap();
        flows.recover();
        (Tracker { flows }, nat)
    }

    /// Another process, or another configuration, over the same memory.
    fn restart(&mut self) {
        (self.tracker, self.nat) = Self::open(&self.spec, &self.own, &self.fib, &self.flows, &self.memory);
    }

    /// As the worker does: flows that begin with what is dropped are forgotten.
    fn pass<P: AsRef<[u8]>>(&mut self, port: PortId, packets: &[P]) -> Vec<Seen> {
        let seen = run(&mut [&mut self.parse, &mut self.tracker, &mut self.nat], port, packets, self.now);
        for seen in
            seen.iter().filter(|seen| seen.verdict != Verdict::Next && seen.facts.state == FlowState::New)
        {
            self.tracker.flows.remove(FlowId(seen.facts.flow - 1));
        }
        seen
    }

    fn one(&mut self, port: PortId, packet: &[u8]) -> Seen {
        self.pass(port, &[packet]).remove(0)
    }

    /// The packet passes, and is `expected` afterwards, key and all.
    #[track_caller]
    fn becomes(&mut self, port: PortId, packet: &[u8], expected: &[u8]) {
        let seen = self.one(port, packet);
        assert_eq!(seen.verdict, Verdict::Next);
        assert_eq!(seen.bytes, expected, "\n{:02x?}\n{:02x?}", seen.bytes, expected);
        let key = FlowKey::of(&expected[14..]).unwrap();
        assert_eq!(seen.key, key);
    }

    #[track_caller]
    fn drops(&mut self, port: PortId, packet: &[u8], why: DropReason) {
        let seen = self.one(port, packet);
        assert_eq!(seen.verdict, Verdict::Drop(why));
        assert_eq!(seen.bytes, packet);
    }

    /// Lets so many seconds pass.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds * 100 {
            self.now += SECOND / 100;
            self.tracker.flows.sweep(64, self.now);
            self.nat.tend(self.now);
        }
    }

    fn mappings(&self) -> u32 {
        self.nat.state().map_or(0, |state| state.mappings.len())
    }
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// `masquerade = { output = "wan" }`.
fn masquerade() -> NatSpec {
    NatSpec {
        masquerade: vec![Masquerade { output: crate::spec::PortId(WAN.0), from: Vec::new() }],
        mappings: 1024,
        ..NatSpec::default()
    }
}

fn with_forward(to: Option<&str>, service: &str, last: u16, target: &str, port: u16) -> NatSpec {
    let forward = Forward {
        to: to.map(|to| to.parse().unwrap()),
        service: service.parse().unwrap(),
        last,
        target: target.parse().unwrap(),
        target_port: port,
    };
    let mut spec = masquerade();
    spec.forward.push(forward);
    spec
}

fn pooled(to: &str) -> NatSpec {
    let rule = SourceNat {
        from: vec![prefix("10.0.0.0/8"), prefix("fd00::/8")],
        output: Some(crate::spec::PortId(WAN.0)),
        to: vec![prefix(to), prefix("2001:db8:0:1::/126")],
    };
    NatSpec { snat: vec![rule], mappings: 1024, ..NatSpec::default() }
}

/// Ends by their text: an address and a port.
fn at(address: &str, port: u16) -> End {
    (address.parse().unwrap(), port)
}
