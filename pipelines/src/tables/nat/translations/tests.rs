//! What is mapped against a model of who uses which end.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const KEY: u64 = 9;

fn pool(text: &str) -> Pool {
    Pool::new(text.parse())
}

fn end(client: u8, port: u16, protocol: u8) -> Endpoint {
    Endpoint::new([10, 0, 0, client].into(), port, protocol)
}

fn end6(client: u8, port: u16, protocol: u8) -> Endpoint {
    Endpoint::new([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(client)].into(), port, protocol)
}

struct Memory {
    region: Region,
    layout: NatLayout,
    ports: Ports,
    per_client: u8,
}

impl Memory {
    fn new(layout: NatLayout, ports: Ports, per_client: u8) -> Self {
        Self { region: Region::heap(layout.bytes()), layout, ports, per_client }
    }

    fn open(&self) -> Translations {
        let key = HashKey::from_seed(KEY);
        let mut nat =
            Translations::open(&self.region, self.layout, self.ports, self.per_client, key).unwrap();
        nat.start();
        nat
    }
}

fn plain(mappings: u32) -> Memory {
    Memory::new(NatLayout { mappings, ..NatLayout::default() }, Ports::new(64, 1024..=65535, 0, 1), 0)
}

fn blocked(size: u16, per_client: u8, range: std::ops::RangeInclusive<u16>) -> Memory {
    let layout = NatLayout { mappings: 4096, blocks: 256, peers: 64, log: 512 };
    Memory::new(layout, Ports::new(size, range, 0, 1), per_client)
}

fn anything(_: &Endpoint) -> bool {
    false
}

#[test]
fn a_port_is_kept_where_it_is_free_and_its_kind_and_parity_where_it_is_not() {
    let nat = plain(1024).open();
    let outside = pool("203.0.113.1/32");
    for port in [1, 53, 500, 1023, 1024, 40_000, 65_535] {
        for protocol in [protocol::TCP, protocol::UDP, protocol::ICMP] {
            let first = nat.map(&end(1, port, protocol), &outside, 0, anything).unwrap();
            assert_eq!(first, Endpoint::new([203, 0, 113, 1].into(), port, protocol));
            for client in 2..20 {
                let other = nat.map(&end(client, port, protocol), &outside, 0, anything).unwrap();
                assert_ne!(other.port(), port);
                assert_eq!(other.port() < 1024, port < 1024, "well known or not");
                if protocol == protocol::UDP {
                    assert_eq!(other.port() % 2, port % 2, "RFC 4787 REQ-4");
                }
            }
        }
    }
    let again = nat.map(&end(1, 53, protocol::UDP), &outside, 9, anything).unwrap();
    assert_eq!(again.port(), 53, "endpoint-independent");
}

#[test]
fn a_client_is_at_one_address_whatever_it_opens() {
    for memory in [plain(16_384), blocked(64, 8, 1024..=65535)] {
        let nat = memory.open();
        for (outside, v6) in [(pool("203.0.113.0/28"), false), (pool("2001:db8::/124"), true)] {
            let mut used = BTreeSet::new();
            for client in 0..100 {
                let mut addresses = BTreeSet::new();
                for n in 0..60u16 {
                    let internal = if v6 { end6(client, 5000 + n, 17) } else { end(client, 5000 + n, 17) };
                    addresses.insert(nat.map(&internal, &outside, 0, anything).unwrap().address());
                    if nat.blocks.is_some() && n > 9 {
                        break;
                    }
                }
                assert_eq!(addresses.len(), 1, "pooling is paired (RFC 4787 REQ-2)");
                used.extend(addresses);
            }
            assert_eq!(used.len(), 16, "all addresses are used");
        }
    }
}

#[test]
fn reserved_ports_are_given_to_nobody() {
    let nat = plain(64).open();
    let outside = pool("203.0.113.1/32");
    let reserved = |end: &Endpoint| end.port() == 443 || end.port() % 2 == 0;
    let other = nat.map(&end(1, 443, protocol::TCP), &outside, 0, reserved).unwrap();
    assert!(other.port() < 1024 && !reserved(&other));
}

#[test]
fn blocks_are_given_logged_limited_and_taken_back() {
    let memory = blocked(64, 2, 1024..=2047);
    let mut nat = memory.open();
    let outside = pool("203.0.113.1/32");
    let mut ports = BTreeSet::new();
    for n in 0..128 {
        ports.insert(nat.map(&end(1, 3000 + n, protocol::TCP), &outside, 7, anything).unwrap().port());
    }
    assert_eq!(ports.len(), 128);
    let blocks: BTreeSet<u16> = ports.iter().map(|port| port / 64).collect();
    assert_eq!(blocks.len(), 2);
    assert_eq!(nat.map(&end(1, 4000, protocol::TCP), &outside, 8, anything), Err(NoPort), "a third");
    assert!(nat.map(&end(1, 4000, protocol::UDP), &outside, 8, anything).is_ok(), "UDP has its own ports");
    assert!(nat.map(&end(2, 4000, protocol::TCP), &outside, 8, anything).is_ok());
    let log = nat.log.clone().unwrap();
    let events: Vec<BlockEvent> = log.reader(0).collect();
    assert_eq!(events.len(), 3);
    assert!(events.iter().all(|event| event.allocated && event.count == 64));
    assert_eq!(events[0].client, IpAddr::from([10, 0, 0, 1]));
    assert!(blocks.contains(&(events[0].first / 64)) && blocks.contains(&(events[1].first / 64)));
    // Nothing holds them in the next round.
    nat.begin();
    (0..nat.mappings.end()).for_each(|n| nat.review_mapping(n, |_| true));
    (0..256).for_each(|n| nat.review_block(n, 99));
    assert_eq!((nat.mappings.len(), nat.blocks.as_ref().unwrap().len()), (0, 0));
    let freed: Vec<BlockEvent> = log.reader(3).collect();
    assert_eq!(freed.len(), 3);
    assert!(freed.iter().all(|event| !event.allocated && event.at == 99));
}

#[test]
fn clients_get_blocks_until_there_are_none() {
    let memory = blocked(64, 1, 1024..=2047);
    let nat = memory.open();
    let outside = pool("203.0.113.1/32");
    let served = (0..40).filter(|client| nat.map(&end(*client, 5000, 6), &outside, 0, anything).is_ok());
    assert_eq!(served.count(), 16);
    // A well-known port is of another kind: its clients get blocks of those.
    assert!(nat.map(&end(99, 500, 17), &outside, 0, anything).unwrap().port() < 1024);
}

#[test]
fn an_address_that_is_no_longer_ours_loses_its_mappings() {
    let nat = plain(64).open();
    let old = nat.map(&end(1, 5000, 6), &pool("203.0.113.1/32"), 0, anything).unwrap();
    let new = nat.map(&end(1, 5000, 6), &pool("203.0.113.2/32"), 0, anything).unwrap();
    assert_eq!((old.with_address(new.address()), nat.mappings.len()), (new, 2));
    (0..2).for_each(|n| nat.review_mapping(n, |address| address == new.address()));
    assert_eq!((nat.internal(&old), nat.internal(&new)), (None, Some(end(1, 5000, 6))));
}

#[test]
fn memory_of_another_layout_is_refused() {
    let memory = plain(64);
    drop(memory.open());
    let open = |layout: NatLayout| {
        Translations::open(&memory.region, layout, memory.ports, 0, HashKey::from_seed(KEY))
    };
    assert!(open(NatLayout { mappings: 63, ..memory.layout }).is_none());
    assert!(open(NatLayout { mappings: 1 << 20, ..memory.layout }).is_none());
    assert!(open(memory.layout).is_some());
}

/// What happens to the table.
#[derive(Clone, Debug)]
enum Step {
    /// A client opens a flow from a port to a remote one.
    Open(u8, u16, u8, u8),
    /// The flow at this place, modulo their number, closes.
    Close(usize),
    /// A whole round.
    Round,
    /// A part of a round, then the process is gone.
    Kill(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0u8..6, prop_oneof![500u16..510, 2000u16..2100], 0u8..4, prop::sample::select(vec![6u8, 17, 1]))
            .prop_map(|(client, port, remote, protocol)| Step::Open(client, port, remote, protocol)),
        6 => any::<usize>().prop_map(Step::Close),
        2 => Just(Step::Round),
        1 => (0u32..80).prop_map(Step::Kill),
    ]
}

/// A model of the flows: what a real flow table keeps.
#[derive(Default)]
struct Model {
    /// Original key's words, reply key.
    flows: BTreeMap<[u64; 5], FlowKey>,
}

impl Model {
    fn round(&self, nat: &mut Translations, stop: Option<u32>) {
        let originals = self.flows.iter();
        let stop = stop.unwrap_or(u32::MAX);
        let mut steps = 0;
        let mut next = || {
            steps += 1;
            steps <= stop
        };
        nat.begin();
        for (original, reply) in originals {
            if !next() {
                return;
            }
            nat.hold(&FlowKey::from_words(*original), reply);
        }
        for n in 0..nat.mappings.end() {
            if !next() {
                return;
            }
            nat.review_mapping(n, |_| true);
        }
        for n in 0..nat.blocks.as_ref().map_or(0, ClientBlocks::end) {
            if !next() {
                return;
            }
            nat.review_block(n, 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_two_flows_share_an_external_tuple(
        steps in prop::collection::vec(step(), 1..400), blocks: bool, small: bool,
    ) {
        let range = if small { 1024..=1151 } else { 1024..=4095 };
        let memory = if blocks {
            blocked(32, 3, range)
        } else {
            Memory::new(NatLayout { mappings: 300, ..NatLayout::default() }, Ports::new(64, range, 0, 1), 0)
        };
        let outside = pool("203.0.113.0/31");
        let mut nat = memory.open();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Open(client, port, remote, protocol) => {
                    let internal = end(client, port, protocol);
                    let remote = Endpoint::new([192, 0, 2, remote].into(), port % 3, protocol);
                    let original = internal.to(&remote);
                    if model.flows.contains_key(&original.words()) {
                        continue;
                    }
                    let Ok(external) = nat.map(&internal, &outside, 0, |end| end.port() == 1030) else {
                        // Refused only when this kind's and the higher ports of one address may be used up.
                        prop_assert!(small || blocks || nat.mappings.len() > 100);
                        continue;
                    };
                    prop_assert!(external.port() != 0 && external.port() != 1030);
                    prop_assert_eq!(nat.internal(&external), Some(internal));
                    model.flows.insert(original.words(), remote.to(&external));
                }
                Step::Close(at) if !model.flows.is_empty() => {
                    let key = *model.flows.keys().nth(at % model.flows.len()).unwrap();
                    model.flows.remove(&key);
                }
                Step::Close(_) => {}
                Step::Round => model.round(&mut nat, None),
                Step::Kill(after) => {
                    model.round(&mut nat, Some(after));
                    nat = memory.open();
                }
            }
            // The answers of each flow are of no other.
            let replies: BTreeSet<[u64; 5]> = model.flows.values().map(FlowKey::words).collect();
            prop_assert_eq!(replies.len(), model.flows.len());
            // Each external end stands for the one internal end whose flows use it, as long as there are any.
            for (original, reply) in &model.flows {
                let internal = Endpoint::source(&FlowKey::from_words(*original));
                let mapping = nat.mappings.find_external(&Endpoint::destination(reply));
                prop_assert_eq!(mapping.map(|mapping| mapping.internal), Some(internal));
            }
        }
        // When all is closed, nothing is left.
        model.flows.clear();
        model.round(&mut nat, None);
        prop_assert_eq!(nat.mappings.len(), 0);
        prop_assert_eq!(nat.blocks.as_ref().map_or(0, ClientBlocks::len), 0);
    }
}
