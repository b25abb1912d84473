//! Random flows, closings, expiries, exhaustion and restarts, against a list of who owns which tuple.

use std::collections::BTreeMap;

use super::packets::{ICMP_REPLY, packet};
use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    /// A client sends from this port to one of a few servers.
    Send(u8, u16, u8, u8),
    /// The flow at this place, modulo their number, is answered.
    Answer(usize),
    /// Its flow ends.
    Close(usize),
    /// Somebody outside sends to an external port.
    Knock(u16, u8),
    Wait(u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(vec![protocol::UDP, protocol::TCP, protocol::ICMP]);
    prop_oneof![
        16 => (0u8..5, 3000u16..3060, 0u8..3, kind).prop_map(|(a, b, c, d)| Step::Send(a, b, c, d)),
        8 => any::<usize>().prop_map(Step::Answer),
        6 => any::<usize>().prop_map(Step::Close),
        3 => (1024u16..1160, 0u8..3).prop_map(|(port, server)| Step::Knock(port, server)),
        2 => (1u8..4).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ]
}

/// What a flow looks like from inside and from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tuple {
    kind: u8,
    client: End,
    external: End,
    server: End,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_two_flows_share_an_external_tuple_ever(
        steps in prop::collection::vec(step(), 1..250), block in prop::sample::select(vec![0u16, 16]),
        v6: bool, open: bool,
    ) {
        let filtering = if open { Filtering::Endpoint } else { Filtering::AddressAndPort };
        let spec = NatSpec { ports: (1024, 1151), block, filtering, blocks_per_client: 3, ..pooled("203.0.113.8/31") };
        let mut edge = Edge::new(spec);
        let host = |v4: [u8; 4]| -> IpAddr {
            if v6 { format!("fd00::{:x}", v4[3]).parse().unwrap() } else { v4.into() }
        };
        let server_at = |n: u8| -> IpAddr {
            if v6 { format!("2001:db8:7::{n:x}").parse().unwrap() } else { [192, 0, 2, n].into() }
        };
        // By what the client sends.
        let mut alive: BTreeMap<(u8, End, End), Tuple> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Send(client, port, server, kind) => {
                    let client = (host([10, 0, 0, client]), port);
                    let far = if kind == protocol::ICMP { port } else { 53 };
                    let server = (server_at(server), far);
                    let seen = edge.one(LAN, &packet(kind, client, server));
                    if seen.verdict != Verdict::Next {
                        prop_assert_eq!(seen.verdict, Verdict::Drop(DropReason::NatNoPort));
                        prop_assert!(!alive.contains_key(&(kind, client, server)));
                        continue;
                    }
                    let external = (seen.key.source(), seen.key.source_port());
                    let far = if kind == protocol::ICMP { (server.0, external.1) } else { server };
                    prop_assert_eq!(&seen.bytes, &packet(kind, external, far));
                    let tuple = Tuple { kind, client, external, server: far };
                    for (key, other) in &alive {
                        if *key == (kind, client, server) {
                            prop_assert_eq!(*other, tuple, "a flow keeps its end");
                        } else {
                            let shared = (other.kind, other.external, other.server) == (kind, external, far);
                            prop_assert!(!shared, "{:?} and {:?}", other, tuple);
                        }
                        if other.client == client && other.kind == kind {
                            prop_assert_eq!(other.external, external, "endpoint-independent");
                        } else if other.kind == kind {
                            prop_assert!(other.external != external, "{:?} and {:?}", other, tuple);
                        }
                    }
                    alive.insert((kind, client, server), tuple);
                }
                Step::Answer(at) if !alive.is_empty() => {
                    let tuple = *alive.values().nth(at % alive.len()).unwrap();
                    let kind =
                        if tuple.kind == protocol::ICMP { ICMP_REPLY } else { tuple.kind };
                    let seen = edge.one(WAN, &packet(kind, tuple.server, tuple.external));
                    prop_assert_eq!(seen.verdict, Verdict::Next);
                    let from = if tuple.kind == protocol::ICMP { tuple.client.1 } else { tuple.server.1 };
                    prop_assert_eq!(&seen.bytes, &packet(kind, (tuple.server.0, from), tuple.client));
                }
                Step::Close(at) if !alive.is_empty() => {
                    let (key, tuple) = alive.iter().nth(at % alive.len()).map(|(k, t)| (*k, *t)).unwrap();
                    let flows = &edge.tracker.flows;
                    let (protocol, far) = match tuple.kind {
                        protocol::ICMP if v6 => (protocol::ICMPV6, tuple.client.1),
                        protocol::ICMP => (protocol::ICMP, tuple.client.1),
                        kind => (kind, tuple.server.1),
                    };
                    let end = |end: End| Endpoint::new(end.0, end.1, protocol);
                    let original = end(tuple.client).to(&end((tuple.server.0, far)));
                    let (id, _) = flows.find(&original, flows.hash(&original)).unwrap();
                    flows.remove(id);
                    alive.remove(&key);
                }
                Step::Knock(port, server) => {
                    let external = if v6 { "2001:db8:0:1::".parse().unwrap() } else { [203, 0, 113, 8].into() };
                    let from = (server_at(server), 9999);
                    let seen = edge.one(WAN, &packet(protocol::UDP, from, (external, port)));
                    let whose = alive
                        .values()
                        .find(|tuple| tuple.kind == protocol::UDP && tuple.external == (external, port));
                    match (seen.verdict, whose) {
                        (Verdict::Next, Some(tuple)) if open => {
                            let led = (seen.key.destination(), seen.key.destination_port());
                            prop_assert_eq!(led, tuple.client);
                        }
                        // A mapping outlasts its last flow by a round or two.
                        (Verdict::Next, None) if open => {}
                        (Verdict::Drop(DropReason::NatFiltered), _) if !open => {}
                        (Verdict::Drop(DropReason::NatNoMapping), None) => {}
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
                Step::Wait(seconds) => edge.wait(u64::from(seconds)),
                Step::Restart => edge.restart(),
                Step::Answer(_) | Step::Close(_) => {}
            }
        }
        // Without flows nothing is left.
        edge.wait(310);
        prop_assert_eq!((edge.tracker.flows.counts().flows, edge.mappings()), (0, 0));
        let blocks = edge.nat.state().and_then(|state| state.blocks.as_ref()).map_or(0, |blocks| blocks.len());
        prop_assert_eq!(blocks, 0);
    }
}
