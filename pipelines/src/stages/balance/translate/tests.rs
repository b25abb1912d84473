//! NAT behind a stage that tracks as little as it must: it finds or makes the flow of each packet.

use crate::spec::balance::{Backend, BalanceSpec, Forward, GUE_PORT};
use crate::stage::{Cx, Stage};
use crate::stages::balance::{self, Balance};
use crate::stages::fixture::{IN, Seen, on_v4, on_v6, ports, run_and_make};
use crate::stages::parse::Parse;
use crate::state::{State as Memory, StateSize};
use crate::tables::backends::State;
use crate::tables::fib::{FibLayout, FibWriter};
use crate::tables::flow::{FlowSpace, Flows, Limits, Shards, State as Tracked};
use crate::tables::maglev;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use zsync_packet::burst::{Burst, FlowState};
use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec, TcpSpec};
use zsync_packet::header::{Ipv4, Ipv6, Tcp, TcpFlags};
use zsync_packet::region::Region;
use zsync_packet::verdict::{DropReason, Verdict};

const VIP4: &str = "192.0.2.80";
const VIP6: &str = "2001:db8::80";

/// Enough of `track` for a stage behind it.
struct Tracker(Flows);

impl Stage for Tracker {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        for i in burst.undecided() {
            let about = super::quoted(burst, i);
            // What an answer to the quoted packet would be.
            let key = about.map_or(*burst.key(i), |about| about.reversed());
            let hash = self.0.hash(&key);
            let (id, reply, state) = match self.0.find(&key, hash) {
                Some((id, reply)) if about.is_some() => (id, reply, FlowState::Related),
                Some((id, reply)) => (id, reply, FlowState::Established),
                None if about.is_some() => continue,
                None => {
                    let state = Tracked { bits: 0, last: 0, cold: [0; 4] };
                    let limits = Limits { half_open: 100, per_source: 0 };
                    let life = (cx.now, u64::MAX);
                    let id = self.0.create(&key, hash, &state, life, &limits, |_| 0).unwrap();
                    (id, false, FlowState::New)
                }
            };
            let facts = burst.facts_mut(i);
            (facts.flow, facts.reply, facts.state) = (id.0 + 1, reply, state);
        }
    }
}

struct Lab {
    parse: Parse,
    track: Tracker,
    balance: Balance,
    memory: Memory,
}

fn backends(ends: &[&str]) -> BalanceSpec {
    let backend = |end: &&str| {
        let end: SocketAddr = end.parse().unwrap();
        Backend { address: end.ip(), port: (end.port() != 0).then_some(end.port()), weight: 1, drain: false }
    };
    BalanceSpec {
        vips: vec![VIP4.parse().unwrap(), VIP6.parse().unwrap(), "192.0.2.81".parse().unwrap()],
        services: vec!["tcp/443".parse().unwrap(), "udp/443".parse().unwrap()],
        forward: Forward::Nat,
        backends: ends.iter().map(backend).collect(),
        sources: Vec::new(),
        gue_port: GUE_PORT,
        route_table: 254,
        entries: maglev::SIZE,
        connections: 1000,
        tcp_idle: Duration::from_secs(900),
        udp_idle: Duration::from_secs(300),
        seed: 5,
        health: None,
    }
}

impl Lab {
    fn new(spec: &BalanceSpec) -> Self {
        let fib = FibWriter::create(Region::heap(FibLayout::SMALL.bytes()), FibLayout::SMALL).unwrap();
        let space = FlowSpace { flows: 1000, translations: 1000 };
        let track = Memory::heap(StateSize { shared: 0, each: Flows::bytes(space) }, 1);
        let flows = Flows::open(track.shard(0).unwrap(), space, HashKey::from_seed(7)).unwrap();
        let memory = Memory::heap(balance::size(spec), 1);
        let balance = Balance::new(spec, memory.clone(), fib.reader(), ports(), HashKey::from_seed(7));
        let balance = balance.unwrap().behind(Shards::new(track, space, HashKey::from_seed(7)).unwrap());
        Self { parse: Parse::new(ports(), true), track: Tracker(flows), balance, memory }
    }

    fn one(&mut self, packet: Vec<u8>) -> Seen {
        let len = packet.len();
        let stages: &mut [&mut dyn Stage] = &mut [&mut self.parse, &mut self.track, &mut self.balance];
        let (mut seen, made) = run_and_make(stages, IN, &[packet], 1_000_000_000);
        assert_eq!((made.len(), seen[0].bytes.len()), (0, len));
        seen.remove(0)
    }

    /// The key of a packet after it, which goes on to be routed; its checksums are right.
    fn through(&mut self, packet: Vec<u8>) -> FlowKey {
        let seen = self.one(packet);
        assert_eq!(seen.verdict, Verdict::Next);
        let ip = &seen.bytes[14..];
        match ip[0] >> 4 {
            4 => {
                let ip = Ipv4::parse(ip).unwrap();
                ip.verify_checksum().unwrap();
                if ip.protocol() == 6 {
                    let addresses = ip.address_sum();
                    Tcp::parse(ip.payload()).unwrap().verify_checksum(addresses).unwrap();
                }
            }
            _ => {
                let ip = Ipv6::parse(ip).unwrap();
                Tcp::parse(ip.payload()).unwrap().verify_checksum(ip.address_sum()).unwrap();
            }
        }
        assert_eq!(seen.key, FlowKey::of(ip).unwrap());
        seen.key
    }
}

fn tcp(from: &str, to: &str, flags: TcpFlags) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let tcp = TcpSpec::new(from.port(), to.port(), flags);
    match (from.ip(), to.ip()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let ip = Ipv4Spec::new(a, b, 6);
            on_v4(&ip, &tcp.segment(ip.address_sum(), b"hello"))
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let ip = Ipv6Spec::new(a, b, 6);
            on_v6(&ip, &tcp.segment(ip.address_sum(), b"hello"))
        }
        _ => panic!("two families"),
    }
}

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;

fn end(address: IpAddr, port: u16) -> String {
    SocketAddr::new(address, port).to_string()
}

#[test]
fn both_ways_of_a_flow_are_translated_for_either_family() {
    let mut lab =
        Lab::new(&backends(&["10.9.0.1:8443", "10.9.0.2:0", "[2001:db8:9::1]:8443", "[2001:db8:9::2]:0"]));
    let mut seen = std::collections::BTreeSet::new();
    for (vip, net) in [(format!("{VIP4}:443"), "10.1.0.2:"), (format!("[{VIP6}]:443"), "[2001:db8:1::2]:")] {
        for client in 1000..1050 {
            let client = format!("{net}{client}");
            let there = lab.through(tcp(&client, &vip, SYN));
            assert_eq!(end(there.source(), there.source_port()), client);
            let backend = end(there.destination(), there.destination_port());
            let back = lab.through(tcp(&backend, &client, TcpFlags(SYN.0 | ACK.0)));
            assert_eq!(end(back.source(), back.source_port()), vip);
            assert_eq!(end(back.destination(), back.destination_port()), client);
            assert_eq!(lab.through(tcp(&client, &vip, ACK)), there);
            seen.insert(backend);
        }
    }
    let expected = ["10.9.0.1:8443", "10.9.0.2:443", "[2001:db8:9::1]:8443", "[2001:db8:9::2]:443"];
    assert_eq!(seen, expected.map(str::to_owned).into());
}

#[test]
fn what_is_for_no_service_stays_as_it_is() {
    let mut lab = Lab::new(&backends(&["10.9.0.1:0"]));
    for to in ["192.0.2.80:444", "192.0.2.90:443", "10.9.0.1:443"] {
        let packet = tcp("10.1.0.2:1000", to, SYN);
        let seen = lab.one(packet.clone());
        assert_eq!((seen.verdict, seen.bytes), (Verdict::Next, packet));
    }
}

#[test]
fn an_icmp_error_reaches_whoever_sent_what_it_is_about() {
    let mut lab = Lab::new(&backends(&["10.9.0.1:8443"]));
    lab.through(tcp("10.1.0.2:1000", "192.0.2.80:443", SYN));
    let error = |from: [u8; 4], to: [u8; 4], quoted: &[u8]| {
        let ip = Ipv4Spec::new(from.into(), to.into(), 1);
        on_v4(&ip, &build::icmp(3, 4, [0, 0, 2, 100], &quoted[14..42]))
    };
    let inner = |seen: &Seen| FlowKey::of_ipv4(&Ipv4::parse_quoted(&seen.bytes[42..]).unwrap());
    // A router on the client's side, about an answer.
    let about = tcp("192.0.2.80:443", "10.1.0.2:1000", ACK);
    let seen = lab.one(error([10, 77, 0, 1], [192, 0, 2, 80], &about));
    assert_eq!(seen.verdict, Verdict::Next);
    assert_eq!(Ipv4::parse(&seen.bytes[14..]).unwrap().destination().octets(), [10, 9, 0, 1]);
    assert_eq!(inner(&seen), FlowKey::v4(([10, 9, 0, 1].into(), 8443), ([10, 1, 0, 2].into(), 1000), 6));
    // A router on the backend's side, about what the client sent.
    let about = tcp("10.1.0.2:1000", "10.9.0.1:8443", ACK);
    let seen = lab.one(error([10, 9, 0, 254], [10, 1, 0, 2], &about));
    assert_eq!(seen.verdict, Verdict::Next);
    assert_eq!(Ipv4::parse(&seen.bytes[14..]).unwrap().destination().octets(), [10, 1, 0, 2]);
    assert_eq!(inner(&seen), FlowKey::v4(([10, 1, 0, 2].into(), 1000), ([192, 0, 2, 80].into(), 443), 6));
}

#[test]
fn two_flows_never_have_the_same_answers() {
    let mut lab = Lab::new(&backends(&["10.9.0.1:8443", "10.9.0.2:8443"]));
    // From one port to two addresses: with one backend both would look alike to it.
    for client in 1000..1050 {
        let client = format!("10.1.0.2:{client}");
        let first = lab.one(tcp(&client, "192.0.2.80:443", SYN));
        let second = lab.one(tcp(&client, "192.0.2.81:443", SYN));
        assert_eq!(first.verdict, Verdict::Next);
        match second.verdict {
            Verdict::Next => assert_ne!(first.key, second.key),
            refused => assert_eq!(refused, Verdict::Drop(DropReason::NatNoPort)),
        }
    }
}

#[test]
fn a_flow_that_opens_to_a_backend_that_is_down_begins_anew() {
    let spec = backends(&["10.9.0.1:8443", "10.9.0.2:8443"]);
    let mut lab = Lab::new(&spec);
    let to = |lab: &mut Lab, client: u16, flags| {
        lab.one(tcp(&format!("10.1.0.2:{client}"), "192.0.2.80:443", flags))
    };
    let first = IpAddr::from([10, 9, 0, 1]);
    let client = (1000..1100).find(|&client| to(&mut lab, client, SYN).key.destination() == first).unwrap();
    assert!(balance::states(&lab.memory).unwrap().set(
        spec.backends[0].identity(),
        State { down: true, drained: false },
        |_| true
    ));
    lab.balance.tend(0);
    assert_eq!(to(&mut lab, client, ACK).key.destination(), first, "what runs goes on");
    assert_eq!(to(&mut lab, client, SYN).verdict, Verdict::Drop(DropReason::NoBackend));
    assert_eq!(to(&mut lab, client, SYN).key.destination(), IpAddr::from([10, 9, 0, 2]));
    // And with none at all.
    assert!(balance::states(&lab.memory).unwrap().set(
        spec.backends[1].identity(),
        State { down: true, drained: false },
        |_| true
    ));
    lab.balance.tend(0);
    assert_eq!(to(&mut lab, 2000, SYN).verdict, Verdict::Drop(DropReason::NoBackend));
}
