use super::*;
use crate::spec::{FilterAction, FilterAddresses, FilterRule, FilterSet, FilterSpec, Prefix};
use crate::stages::fixture::{self, Seen as After, on_v4, on_v6};
use crate::stages::parse::Parse;
use zsync_packet::header::TcpFlags;
use zsync_packet::header::build::{Ipv4Spec, Ipv6Spec, TcpSpec};
use zsync_packet::verdict::PipelineId;

fn spec(rules: Vec<FilterRule>) -> FilterSpec {
    let counters = vec!["seen".to_owned(), "other".to_owned()];
    FilterSpec { rules, default: FilterAction::Drop, drops_non_ip: false, sets: Vec::new(), counters }
}

fn stage(spec: &FilterSpec) -> Filter {
    let mut stage = Filter::new(Arc::new(Compiled::new(spec).unwrap()), None, fixture::ports());
    stage.assign(0);
    stage
}

/// UDP between two addresses of a family, from port 4000.
fn udp(from: &str, to: &str, port: u16) -> Vec<u8> {
    let mut segment = vec![0; 8];
    segment[..2].copy_from_slice(&4000u16.to_be_bytes());
    segment[2..4].copy_from_slice(&port.to_be_bytes());
    segment[5] = 8;
    match from.parse() {
        Ok(from) => on_v4(&Ipv4Spec::new(from, to.parse().unwrap(), 17), &segment),
        Err(_) => on_v6(&Ipv6Spec::new(from.parse().unwrap(), to.parse().unwrap(), 17), &segment),
    }
}

fn run(stage: &mut Filter, packets: &[Vec<u8>]) -> Vec<After> {
    let mut parse = Parse::new(fixture::ports(), true);
    fixture::run(&mut [&mut parse, stage], fixture::IN, packets, 0)
}

fn prefix(text: &str) -> FilterAddresses {
    FilterAddresses::In(vec![text.parse::<Prefix>().unwrap()])
}

const DROP: Verdict = Verdict::Drop(DropReason::Filtered);

#[test]
fn the_first_rule_that_a_packet_meets_decides_in_both_families() {
    let accept = |from: &str, to_port| FilterRule {
        from: prefix(from),
        protocol: vec![17],
        to_port: vec![to_port],
        action: Some(FilterAction::Accept),
        ..FilterRule::default()
    };
    let drop = FilterRule {
        to_port: vec![(53, 53)],
        protocol: vec![17],
        action: Some(FilterAction::Drop),
        ..FilterRule::default()
    };
    let goto = FilterRule { family: Some(6), action: Some(FilterAction::Goto(3)), ..FilterRule::default() };
    let mut stage =
        stage(&spec(vec![accept("10.1.0.0/16", (1, 99)), accept("2001:db8::/32", (50, 60)), drop, goto]));
    let packets = [
        udp("10.1.2.3", "10.2.0.1", 53),
        udp("10.2.2.3", "10.2.0.1", 53),
        udp("10.1.2.3", "10.2.0.1", 100),
        udp("2001:db8::1", "2001:db9::1", 53),
        udp("2001:db9::1", "2001:db8::1", 53),
        udp("2001:db8::1", "2001:db9::1", 61),
    ];
    let verdicts: Vec<Verdict> = run(&mut stage, &packets).iter().map(|after| after.verdict).collect();
    let goto = Verdict::Goto(PipelineId(3));
    assert_eq!(verdicts, [Verdict::Next, DROP, DROP, Verdict::Next, DROP, goto]);
}

#[test]
fn counts_and_marks_go_on_to_the_rules_behind_them() {
    let count = |place, marked, mark, action| FilterRule {
        count: Some(place),
        marked,
        mark,
        action,
        ..FilterRule::default()
    };
    let rules = vec![
        count(0, None, Some((5, 0xf)), None),
        count(1, Some((5, 0xf)), Some((0x30, 0xf0)), None),
        FilterRule {
            marked: Some((0x35, 0xff)),
            action: Some(FilterAction::Accept),
            ..FilterRule::default()
        },
    ];
    let mut stage = stage(&spec(rules));
    let packets = vec![udp("10.1.2.3", "10.2.0.1", 53), udp("2001:db8::1", "2001:db9::1", 53)];
    let after = run(&mut stage, &packets);
    assert!(after.iter().all(|after| after.verdict == Verdict::Next && after.facts.mark == 0x35));
    let bytes = packets.iter().map(Vec::len).sum::<usize>() as u64;
    assert_eq!((stage.count("seen"), stage.count("other")), (Some((2, bytes)), Some((2, bytes))));
}

#[test]
fn one_packet_in_so_many_meets_a_rule_that_samples() {
    let rules = vec![
        FilterRule { sample: Some(4), mark: Some((1, u32::MAX)), count: Some(0), ..FilterRule::default() },
        FilterRule { action: Some(FilterAction::Accept), ..FilterRule::default() },
    ];
    let mut stage = stage(&spec(rules));
    let packets: Vec<Vec<u8>> = (0..30).map(|port| udp("10.1.2.3", "10.2.0.1", port + 1)).collect();
    let marks: Vec<usize> = run(&mut stage, &packets)
        .iter()
        .enumerate()
        .filter(|(_, a)| a.facts.mark == 1)
        .map(|(i, _)| i)
        .collect();
    assert_eq!(marks, [0, 4, 8, 12, 16, 20, 24, 28]);
    assert_eq!(stage.count("seen").unwrap().0, 8);
}

#[test]
fn states_decide_without_the_classifier_as_with_it() {
    let state = |bits, action| FilterRule { state: bits, action: Some(action), ..FilterRule::default() };
    // Established and related; invalid; then the rest by port.
    let mut rules = vec![state(0b1100, FilterAction::Accept), state(0b1_0000, FilterAction::Drop)];
    rules.push(FilterRule {
        protocol: vec![17],
        to_port: vec![(53, 53)],
        action: Some(FilterAction::Accept),
        ..FilterRule::default()
    });
    let fast = Compiled::new(&spec(rules.clone())).unwrap();
    assert_eq!(fast.by_state[..5], [None, None, Some(0), Some(0), Some(1)]);
    // The same behind a rule that asks for a port first.
    rules.insert(
        0,
        FilterRule { protocol: vec![6], action: Some(FilterAction::Drop), ..FilterRule::default() },
    );
    let slow = Compiled::new(&spec(rules)).unwrap();
    assert!(!slow.decides_by_state);

    struct Tracked(FlowState);
    impl Stage for Tracked {
        fn process(&mut self, burst: &mut Burst, _: &mut Cx<'_>) {
            for i in burst.undecided() {
                burst.facts_mut(i).state = self.0;
            }
        }
    }
    let (fast, slow) = (Arc::new(fast), Arc::new(slow));
    for (state, on) in [
        (FlowState::Untracked, [Verdict::Next, DROP]),
        (FlowState::New, [Verdict::Next, DROP]),
        (FlowState::Established, [Verdict::Next; 2]),
        (FlowState::Related, [Verdict::Next; 2]),
        (FlowState::Invalid, [DROP; 2]),
    ] {
        for compiled in [&fast, &slow] {
            let mut stage = Filter::new(Arc::clone(compiled), None, fixture::ports());
            let packets = [udp("10.1.2.3", "10.2.0.1", 53), udp("10.1.2.3", "10.2.0.1", 54)];
            let mut parse = Parse::new(fixture::ports(), true);
            let after =
                fixture::run(&mut [&mut parse, &mut Tracked(state), &mut stage], fixture::IN, &packets, 0);
            assert_eq!([after[0].verdict, after[1].verdict], on, "{state:?}");
        }
    }
}

#[test]
fn sets_flags_and_types_are_seen_in_the_packet() {
    let accept = |rule: FilterRule| FilterRule { action: Some(FilterAction::Accept), ..rule };
    let mut spec = spec(vec![
        accept(FilterRule { from: FilterAddresses::Set(0), ..FilterRule::default() }),
        accept(FilterRule { protocol: vec![6], flags: Some((0x02, 0x12)), ..FilterRule::default() }),
        accept(FilterRule { protocol: vec![1], icmp: Some((8, None)), ..FilterRule::default() }),
        accept(FilterRule { protocol: vec![58], icmp: Some((128, Some(0))), ..FilterRule::default() }),
        accept(FilterRule { dscp: vec![46], ..FilterRule::default() }),
    ]);
    let prefixes = ["192.0.2.0/24", "2001:db8:7::/48"].map(|text| text.parse().unwrap()).to_vec();
    spec.sets.push(FilterSet { name: "office".to_owned(), prefixes: prefixes.into(), file: None });
    let tcp = |flags: u8| {
        let mut segment = vec![0; 20];
        (segment[12], segment[13]) = (5 << 4, flags);
        on_v4(&Ipv4Spec::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 6), &segment)
    };
    let ping = |kind: u8| {
        on_v4(&Ipv4Spec::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 1), &[kind, 0, 0, 0, 0, 1, 0, 1])
    };
    let ping6 = |kind: u8| {
        let ip = Ipv6Spec::new("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap(), 58);
        on_v6(&ip, &[kind, 0, 0, 0, 0, 1, 0, 1])
    };
    let mut stage = stage(&spec);
    let cases = [
        (udp("192.0.2.200", "10.0.0.1", 1), true),
        (udp("192.0.3.0", "10.0.0.1", 1), false),
        (udp("2001:db8:7:ffff::1", "2001:db8::1", 1), true),
        (udp("2001:db8:8::1", "2001:db8:7::1", 1), false),
        (tcp(0x02), true),
        (tcp(0x12), false),
        (tcp(0x10), false),
        (ping(8), true),
        (ping(0), false),
        (ping6(128), true),
        (ping6(129), false),
    ];
    let packets: Vec<Vec<u8>> = cases.iter().map(|(packet, _)| packet.clone()).collect();
    for (i, (after, (_, on))) in run(&mut stage, &packets).iter().zip(&cases).enumerate() {
        assert_eq!(after.verdict == Verdict::Next, *on, "packet {i}: {:?}", after.verdict);
    }
}

#[test]
fn a_refused_connection_is_told_so() {
    let reject = FilterRule { action: Some(FilterAction::Reject), ..FilterRule::default() };
    let mut stage = stage(&spec(vec![reject]));
    let ends = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
    let v4 = Ipv4Spec::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 6);
    let v6 = Ipv6Spec::new(ends.0, ends.1, 6);
    let syn = TcpSpec::new(4000, 80, TcpFlags::SYN);
    let packets =
        [on_v4(&v4, &syn.segment(v4.address_sum(), &[])), on_v6(&v6, &syn.segment(v6.address_sum(), &[]))];
    for (after, l4) in run(&mut stage, &packets).iter().zip([34, 54]) {
        assert_eq!(after.verdict, Verdict::Transmit(fixture::IN));
        assert_eq!(after.bytes[l4 + 13] & 0x04, 0x04, "a reset");
    }
}
