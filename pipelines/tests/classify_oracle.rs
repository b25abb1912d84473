//! The classifier against a linear scan: random rules that overlap, packets aimed at their edges, both families.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestCaseError, TestRunner};
use zsync_packet::burst::BURST;
use zsync_pipelines::spec::Prefix;
use zsync_pipelines::tables::classify::{
    Addresses, Classifier, ClassifyError, Keys, Masked, Ports, PrefixSet, Rule, State, States, Subject, Vlan,
};

#[path = "../benches/rulesets/mod.rs"]
mod rulesets;
use rulesets::{Kind, Numbers, STATES, aim, packets, prefix, rules};

fn holds(prefix: &Prefix, address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    prefix.addr().is_ipv4() == address.is_ipv4()
        && (prefix.len() == 0
            || (bits(prefix.addr()) ^ bits(address)) >> (128 - u32::from(prefix.len())) == 0)
}

/// Whether the packet meets the rule, field by field.
fn meets(rule: &Rule, sets: &[Vec<Prefix>], packet: &Subject) -> bool {
    let side = |asked: &Addresses, address: IpAddr| match asked {
        Addresses::Any => true,
        Addresses::In(list) => list.iter().any(|prefix| holds(prefix, address)),
        Addresses::Set(set) => sets[*set].iter().any(|prefix| holds(prefix, address)),
    };
    let ports = |asked: &[Ports], port: fn(&(u16, u16)) -> u16| {
        asked.is_empty()
            || packet.ports.as_ref().is_some_and(|ports| {
                asked.iter().any(|range| (range.first..=range.last).contains(&port(ports)))
            })
    };
    let vlan = |asked: &Vlan| match asked {
        Vlan::Untagged => packet.vlan.is_none(),
        Vlan::Tagged => packet.vlan.is_some(),
        Vlan::Id(id) => packet.vlan == Some(*id),
    };
    (if packet.source.is_ipv4() { rule.v4 } else { rule.v6 })
        && side(&rule.from, packet.source)
        && side(&rule.to, packet.destination)
        && (rule.protocols.is_empty() || rule.protocols.contains(&packet.protocol))
        && match rule.icmp {
            None => ports(&rule.from_ports, |ports| ports.0) && ports(&rule.to_ports, |ports| ports.1),
            // Who asks for both asks for what no packet has.
            Some(_) if !rule.from_ports.is_empty() || !rule.to_ports.is_empty() => false,
            Some((kind, code)) => {
                packet.icmp.is_some_and(|(is, its)| is == kind && code.is_none_or(|code| code == its))
            }
        }
        && (rule.tcp_flags.mask == 0 || packet.ports.is_some())
        && (packet.tcp_flags ^ rule.tcp_flags.value) & rule.tcp_flags.mask == 0
        && (rule.dscp.is_empty() || rule.dscp.contains(&packet.dscp))
        && (rule.vlan.is_empty() || rule.vlan.iter().any(vlan))
        && (packet.mark ^ rule.mark.value) & rule.mark.mask == 0
        && rule.fragments & (1 << packet.fragment) != 0
        && rule.states.contains(packet.state)
        && (rule.inputs.is_empty() || rule.inputs.contains(&packet.input))
}

fn first(rules: &[Rule], sets: &[Vec<Prefix>], packet: &Subject, from: usize) -> Option<usize> {
    (from..rules.len()).find(|place| meets(&rules[*place], sets, packet))
}

/// What bursts of all sizes find, with both families mixed.
fn burst(classifier: &Classifier, packets: &[Subject], from: &[usize]) -> Vec<Option<usize>> {
    let mut all = Vec::new();
    let sizes = [BURST, 1, 7, 32];
    let (mut rest, mut from, mut size) = (packets, from, 0);
    while !rest.is_empty() {
        let (chunk, later) = rest.split_at(sizes[size % 4].min(rest.len()));
        let (starts, later_starts) = from.split_at(chunk.len());
        let mut keys = Keys::default();
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let mut at = [0; BURST];
        for (i, packet) in chunk.iter().enumerate() {
            (keys.0[i], at[i]) = (packet.key(), starts[i] as u32);
            if packet.source.is_ipv4() { v4.push(i as u8) } else { v6.push(i as u8) }
        }
        let mut found = [7; BURST];
        classifier.look_up_sets(&mut keys, &v4, &v6);
        classifier.classify_from(&keys, &v4, &v6, &at, &mut found);
        all.extend(found[..chunk.len()].iter().map(|found| (*found != u32::MAX).then_some(*found as usize)));
        (rest, from, size) = (later, later_starts, size + 1);
    }
    all
}

#[test]
fn lists_of_every_kind_are_answered_as_by_a_linear_scan() {
    for kind in Kind::ALL {
        for (count, v6) in [(30, false), (300, true), (1500, false), (1500, true)] {
            let rules = rules(kind, count, v6, 3 + count as u64);
            let classifier = Classifier::compile(&rules, &[]).unwrap();
            let packets = packets(&rules, 1500, v6, 5);
            let found = burst(&classifier, &packets, &vec![0; packets.len()]);
            for (packet, found) in packets.iter().zip(found) {
                assert_eq!(found, first(&rules, &[], packet, 0), "{} {count}: {packet:?}", kind.name());
            }
        }
    }
}

/// Prefixes that nest and touch: a few bits near the top, and a few near the bottom.
fn some_prefix(v6: bool) -> impl Strategy<Value = Prefix> {
    let lens: &[u8] = if v6 { &[0, 1, 16, 48, 63, 64, 65, 127, 128] } else { &[0, 1, 8, 9, 16, 24, 31, 32] };
    (0u128..4, 0u128..4, 0u128..4, proptest::sample::select(lens)).prop_map(move |(top, middle, low, len)| {
        let (middle_at, low_at) = if v6 { (63, 0) } else { (111, 96) };
        prefix(0x2 << 124 | top << 118 | middle << middle_at | low << low_at, len, v6)
    })
}

fn some_addresses(v6: bool) -> impl Strategy<Value = Addresses> {
    prop_oneof![
        3 => Just(Addresses::Any),
        4 => some_prefix(v6).prop_map(|prefix| Addresses::In(vec![prefix])),
        1 => prop::collection::vec(some_prefix(v6), 2..4).prop_map(Addresses::In),
        1 => prop::collection::vec(some_prefix(v6), 17..19).prop_map(Addresses::In),
        2 => (0usize..3).prop_map(Addresses::Set),
    ]
}

fn some_ports() -> impl Strategy<Value = Vec<Ports>> {
    let port =
        || proptest::sample::select(&[0u16, 1, 79, 80, 81, 1023, 1024, 32_767, 32_768, 65_534, 65_535][..]);
    let range = (port(), port()).prop_map(|(a, b)| Ports { first: a.min(b), last: a.max(b) });
    prop_oneof![3 => Just(Vec::new()), 3 => prop::collection::vec(range, 1..3)]
}

prop_compose! {
    fn some_rule()(v6 in any::<bool>())(
        from in some_addresses(v6),
        to in some_addresses(v6),
        (from_ports, to_ports) in (some_ports(), some_ports()),
        protocols in prop_oneof![4 => Just(vec![]), 3 => Just(vec![6]), 2 => Just(vec![17]), 1 => Just(vec![1, 58]), 1 => Just(vec![6, 17, 47])],
        icmp in prop_oneof![5 => Just(None), 1 => (0u8..3, proptest::option::of(0u8..2)).prop_map(Some)],
        flags in prop_oneof![4 => Just((0, 0)), 1 => (any::<u8>(), 0u8..32)],
        dscp in prop_oneof![5 => Just(vec![]), 1 => prop::collection::vec(0u8..4, 1..3)],
        vlan in prop_oneof![6 => Just(vec![]), 1 => Just(vec![Vlan::Untagged]), 1 => Just(vec![Vlan::Tagged]), 1 => Just(vec![Vlan::Id(5), Vlan::Id(4095)])],
        mark in prop_oneof![5 => Just((0, 0)), 1 => (0u32..4, 0u32..4)],
        fragments in prop_oneof![5 => Just(0b111u8), 1 => 0u8..8],
        states in prop_oneof![4 => Just(States::ALL), 1 => (0u8..32).prop_map(States)],
        inputs in prop_oneof![4 => Just(vec![]), 1 => prop::collection::vec(0u16..3, 1..3)],
        (v4, v6, ends) in (any::<bool>(), any::<bool>(), prop_oneof![4 => Just(true), 1 => Just(false)]),
    ) -> Rule {
        let masked = |(value, mask): (u8, u8)| Masked { value: value & mask, mask };
        Rule {
            v4: v4 || !v6,
            v6: v6 || !v4,
            from, to, from_ports, to_ports, protocols, icmp,
            tcp_flags: masked(flags),
            dscp, vlan,
            mark: Masked { value: mark.0 & mark.1, mask: mark.1 },
            fragments, states, inputs, ends,
        }
    }
}

/// The packet with something changed, so that it comes near other rules too.
fn stir(mut packet: Subject, numbers: &mut Numbers) -> Subject {
    packet.fragment = numbers.pick(&[(0, 4), (1, 1), (2, 1)]);
    packet.state = STATES[numbers.below(5) as usize];
    packet.vlan = numbers.pick(&[(None, 3), (Some(5), 1), (Some(4095), 1), (Some(0), 1)]);
    packet.input = numbers.below(3) as u16;
    packet.mark = numbers.below(5) as u32;
    packet.dscp = numbers.below(5) as u8;
    match numbers.below(6) {
        0 => (packet.ports, packet.icmp, packet.tcp_flags) = (None, None, 0),
        1 => packet.ports = packet.ports.map(|(a, b)| (a.wrapping_add(1), b.wrapping_sub(1))),
        2 => std::mem::swap(&mut packet.source, &mut packet.destination),
        _ => {}
    }
    packet
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        rng_algorithm: RngAlgorithm::ChaCha,
        rng_seed: RngSeed::Fixed(0x5eed),
        ..Config::default()
    })
}

#[test]
fn random_rules_of_all_fields_are_answered_as_by_a_linear_scan() {
    let sets = || prop::collection::vec(prop_oneof![some_prefix(false), some_prefix(true)], 0..12);
    let lists = prop::collection::vec(some_rule(), 0..50);
    let all = (lists, prop::collection::vec(sets(), 3), any::<u64>());
    let outcome = runner(100).run(&all, |(rules, sets, seed)| {
        let made: Vec<Arc<PrefixSet>> =
            sets.iter().map(|set| Arc::new(PrefixSet::new(set.iter().copied()))).collect();
        let classifier = match Classifier::compile(&rules, &made) {
            Ok(classifier) => classifier,
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        let mut numbers = Numbers::new(seed);
        let packets: Vec<Subject> = (0..200)
            .map(|i| {
                let rule = if rules.is_empty() { Rule::default() } else { rules[i % rules.len()].clone() };
                let packet = aim(&rule, numbers.below(2) == 0, &mut numbers);
                if numbers.below(2) == 0 { packet } else { stir(packet, &mut numbers) }
            })
            .collect();
        let mut from = vec![0; packets.len()];
        // As a stage does it: after a rule that does not end, on from the one behind it, perhaps with another mark.
        let mut packets = packets;
        for _ in 0..4 {
            let found = burst(&classifier, &packets, &from);
            for (i, found) in found.into_iter().enumerate() {
                let expected = first(&rules, &sets, &packets[i], from[i]);
                prop_assert_eq!(found, expected, "from {}: {:?}", from[i], packets[i]);
                prop_assert_eq!(classifier.first(&packets[i], from[i]), expected);
                match found {
                    Some(place) if !rules[place].ends => {
                        from[i] = place + 1;
                        packets[i].mark ^= numbers.below(4) as u32;
                    }
                    _ => {}
                }
            }
        }
        // A rule that is told to be covered is never the first.
        for (later, earlier) in classifier.covered(&rules) {
            prop_assert!(earlier < later);
            for packet in &packets {
                prop_assert!(!meets(&rules[later], &sets, packet) || meets(&rules[earlier], &sets, packet));
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_rule_that_an_earlier_one_takes_everything_from_is_told() {
    let prefix = |text: &str| Addresses::In(vec![text.parse().unwrap()]);
    let ports = |first, last| vec![Ports { first, last }];
    let rules = [
        Rule { from: prefix("10.0.0.0/8"), protocols: vec![6], to_ports: ports(0, 1023), ..Rule::default() },
        Rule { from: prefix("10.1.0.0/16"), protocols: vec![6], to_ports: ports(80, 90), ..Rule::default() },
        Rule {
            from: prefix("10.1.0.0/16"),
            protocols: vec![6],
            to_ports: ports(80, 1024),
            ..Rule::default()
        },
        Rule { v6: true, v4: false, ends: false, ..Rule::default() },
        Rule { from: prefix("2001:db8::/32"), ..Rule::default() },
        Rule { states: States::one(State::New), ..Rule::default() },
        Rule { states: States::one(State::New), inputs: vec![3], protocols: vec![6, 17], ..Rule::default() },
        Rule::default(),
        Rule { protocols: vec![89], ..Rule::default() },
    ];
    let classifier = Classifier::compile(&rules, &[]).unwrap();
    assert_eq!(classifier.covered(&rules), [(1, 0), (6, 5), (8, 7)]);
}

#[test]
fn lists_that_no_cut_parts_stay_small_and_right() {
    let mut numbers = Numbers::new(9);
    let range = |numbers: &mut Numbers| {
        let (a, b) = (numbers.below(65_536) as u16, numbers.below(65_536) as u16);
        vec![Ports { first: a.min(b), last: a.max(b) }]
    };
    let crossing: Vec<Rule> = (0..3000)
        .map(|_| Rule {
            from_ports: range(&mut numbers),
            to_ports: range(&mut numbers),
            protocols: vec![6],
            ..Rule::default()
        })
        .collect();
    let staircase: Vec<Rule> = (0..3000u16)
        .map(|i| {
            let ports = |first| vec![Ports { first, last: u16::MAX }];
            Rule { from_ports: ports(i), to_ports: ports(3000 - i), protocols: vec![17], ..Rule::default() }
        })
        .collect();
    // Every second rule asks for the source alone, and every other for the destination alone, all of them nested.
    let crossed: Vec<Rule> = (0..3000u32)
        .map(|i| {
            let addresses = Addresses::In(vec![prefix(
                u128::from(i.wrapping_mul(0x9e37_79b1)) << 96,
                8 + (i % 25) as u8,
                false,
            )]);
            if i % 2 == 0 {
                Rule { from: addresses, ..Rule::default() }
            } else {
                Rule { to: addresses, ..Rule::default() }
            }
        })
        .collect();
    for rules in [crossing, staircase, crossed] {
        let classifier = Classifier::compile(&rules, &[]).unwrap();
        let bytes = classifier.footprint().bytes;
        assert!(bytes < 8 << 20, "{bytes} bytes for {} rules", rules.len());
        let packets = packets(&rules, 1000, false, 2);
        for (packet, found) in packets.iter().zip(burst(&classifier, &packets, &vec![0; 1000])) {
            assert_eq!(found, first(&rules, &[], packet, 0), "{packet:?}");
        }
    }
}

#[test]
fn what_there_is_no_room_for_is_refused_in_words() {
    let ports: Vec<Ports> = (0..300).map(|i| Ports { first: i * 3, last: i * 3 }).collect();
    let wide = Rule { from_ports: ports.clone(), to_ports: ports, ..Rule::default() };
    let error = Classifier::compile(&[Rule::default(), wide], &[]).unwrap_err();
    assert_eq!(error, ClassifyError::TooManyCombinations { rule: 1, combinations: 90_000, limit: 65_536 });
    let asks = |set| Rule { from: Addresses::Set(set), to: Addresses::Set(set), ..Rule::default() };
    let sets: Vec<_> = (0..33).map(|_| Arc::new(PrefixSet::default())).collect();
    let rules: Vec<Rule> = (0..33).map(asks).collect();
    assert_eq!(
        Classifier::compile(&rules, &sets).unwrap_err(),
        ClassifyError::TooManySets { sets: 66, limit: 64 }
    );
    assert!(Classifier::compile(&rules[..32], &sets).is_ok());
    assert_eq!(
        Classifier::compile(&[asks(0)], &[]).unwrap_err(),
        ClassifyError::NoSuchSet { rule: 0, set: 0 }
    );
}

#[test]
fn a_million_prefixes_are_one_set() {
    let mut numbers = Numbers::new(1);
    let list: Vec<Prefix> = (0..1_000_000)
        .map(|i| {
            let v6 = i % 2 == 0;
            let len = if v6 {
                numbers.pick(&[(32, 1), (48, 5), (64, 3), (128, 1)])
            } else {
                numbers.pick(&[(20, 1), (24, 3), (32, 6)])
            };
            prefix(numbers.wide(), len, v6)
        })
        .collect();
    let set = Arc::new(PrefixSet::new(list.iter().copied()));
    let rules = [
        Rule { from: Addresses::Set(0), ..Rule::default() },
        Rule { to: Addresses::Set(0), ..Rule::default() },
    ];
    let classifier = Classifier::compile(&rules, std::slice::from_ref(&set)).unwrap();
    let aimed = Rule { from: Addresses::In(list[..1000].to_vec()), ..Rule::default() };
    for i in 0..4000 {
        let packet = aim(&aimed, i % 2 == 0, &mut numbers);
        assert_eq!(classifier.first(&packet, 0), Some(0), "{packet:?}");
        let (source, destination) = (packet.destination, packet.source);
        let expected = if set.contains(source) { 0 } else { 1 };
        let packet = Subject { source, destination, ..packet };
        assert_eq!(classifier.first(&packet, 0), Some(expected), "{packet:?}");
    }
}
