use super::*;
use crate::stages::fixture::{IN, Seen, on_v4, on_v6, ports, run};
use crate::stages::parse::Parse;
use crate::tables::meter::adaptive::Target;
use crate::tables::meter::bucket::{Bucket, Rule};
use crate::tables::meter::pace::{Pace, Rate};
use crate::tables::meter::tcm::{SrTcm, TrTcm};
use crate::tables::meter::window::{Limit, Window};
use zsync_packet::burst::Packet;
use zsync_packet::flow::FlowKey;
use zsync_packet::frame::FrameSize;
use zsync_packet::header::build::{Ipv4Spec, Ipv6Spec};
use zsync_packet::pool::Pool;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// A byte a microsecond.
fn pace() -> Pace {
    Pace::new(Rate::Bits(8_000_000), 0).unwrap()
}

fn token(burst: u64) -> Meter {
    Meter::Bucket(Bucket::new(pace(), burst, Rule::Token).unwrap())
}

const DROP_RED: [Treatment; 3] = [
    Treatment { fate: Fate::Pass, mark: None, dscp: None },
    Treatment { fate: Fate::Pass, mark: None, dscp: None },
    Treatment::DROP,
];

fn police_in(state: Region, meter: Meter, per: Per, treatments: [Treatment; 3]) -> Police {
    Police::new(meter, per, 64, state, 1, HashKey::from_seed(5), treatments).unwrap()
}

fn police(meter: Meter, per: Per, treatments: [Treatment; 3]) -> Police {
    police_in(Region::heap(Police::bytes(per, 64, &meter)), meter, per, treatments)
}

fn process<P: AsRef<[u8]>>(police: &mut Police, packets: &[P], now: u64) -> Vec<Seen> {
    run(&mut [&mut Parse::new(ports(), true), police], IN, packets, now)
}

/// What passed, a letter for each packet.
fn passed(seen: &[Seen]) -> String {
    let letter = |seen: &Seen| match seen.verdict {
        Verdict::Next => 'p',
        Verdict::Drop(DropReason::Policed) => 'd',
        other => panic!("{other:?}"),
    };
    seen.iter().map(letter).collect()
}

/// 1,000 bytes in all, from `source`, with these eight bits of service.
fn v4(source: [u8; 4], tos: u8) -> Vec<u8> {
    let ip = Ipv4Spec { tos, ..Ipv4Spec::new(source.into(), [192, 0, 2, 1].into(), 253) };
    on_v4(&ip, &[0; 966])
}

fn v6(source: &str, traffic_class: u8) -> Vec<u8> {
    let ip = Ipv6Spec {
        traffic_class,
        ..Ipv6Spec::new(source.parse().unwrap(), "2001:db8::1".parse().unwrap(), 59)
    };
    on_v6(&ip, &[0; 946])
}

fn plain() -> Vec<u8> {
    v4([10, 0, 0, 1], 0)
}

/// A burst that needs more than there is, and one that does not.
#[test]
fn an_aggregate_passes_its_burst_and_then_its_rate() {
    let mut police = police(token(5_000), Per::All, DROP_RED);
    let packets = vec![plain(); 8];
    assert_eq!(packets[0].len(), 1_000);
    assert_eq!(passed(&process(&mut police, &packets, SECOND)), "pppppddd");
    assert_eq!(passed(&process(&mut police, &packets, SECOND)), "dddddddd");
    assert_eq!(passed(&process(&mut police, &packets[..2], SECOND + 3 * MS)), "pp");
    assert_eq!(passed(&process(&mut police, &packets, SECOND + 3 * MS)), "pddddddd");
}

#[test]
fn both_families_count_together_in_an_aggregate() {
    let mut police = police(token(2_000), Per::All, DROP_RED);
    let packets = [plain(), v6("2001:db8::7", 0), plain(), v6("2001:db8::7", 0)];
    assert_eq!(passed(&process(&mut police, &packets, SECOND)), "ppdd");
}

#[test]
fn each_source_prefix_has_its_own_of_both_families() {
    let mut police = police(token(2_000), Per::Source { v4: 24, v6: 56 }, DROP_RED);
    let packets = [
        v4([10, 0, 0, 1], 0),
        v4([10, 0, 0, 2], 0),
        v4([10, 0, 0, 3], 0),
        v4([10, 0, 1, 1], 0),
        v6("2001:db8:0:1::1", 0),
        v6("2001:db8:0:2::1", 0),
        v6("2001:db8:0:3::1", 0),
        v6("2001:db8:0:100::1", 0),
    ];
    assert_eq!(passed(&process(&mut police, &packets, SECOND)), "ppdpppdp");
    assert_eq!(passed(&process(&mut police, &packets, SECOND + MS)), "pddppddp");
}

#[test]
fn each_flow_has_its_own() {
    let mut police = police(token(1_000), Per::Flow, DROP_RED);
    let to = |port: u8| {
        let ip = Ipv4Spec::new([10, 0, 0, 1].into(), [192, 0, 2, 1].into(), 17);
        let mut payload = vec![0; 966];
        (payload[1], payload[3]) = (7, port);
        (payload[4], payload[5]) = (3, 198);
        on_v4(&ip, &payload)
    };
    assert_eq!(passed(&process(&mut police, &[to(1), to(1), to(2), to(2)], SECOND)), "pdpd");
}

#[test]
fn a_state_outlives_the_stage_and_a_change_of_its_rate() {
    for per in [Per::All, Per::Source { v4: 32, v6: 128 }] {
        let state = Region::heap(Police::bytes(per, 64, &token(1)));
        let mut first = police_in(state.clone(), token(4_000), per, DROP_RED);
        assert_eq!(passed(&process(&mut first, &vec![plain(); 5], SECOND)), "ppppd");
        let mut second = police_in(state, token(4_000), per, DROP_RED);
        assert_eq!(passed(&process(&mut second, &vec![plain(); 5], SECOND + 2 * MS)), "ppddd");
    }
}

#[test]
fn colours_are_marked_as_they_are_told_to_be() {
    let meter = Meter::SrTcm(SrTcm::new(pace(), 1_000, 1_000).unwrap());
    let treatments = [
        Treatment { fate: Fate::Pass, mark: Some(7), dscp: None },
        Treatment { fate: Fate::Pass, mark: Some(8), dscp: Some(12) },
        Treatment { fate: Fate::Congest, mark: Some(9), dscp: None },
    ];
    let mut police = police(meter, Per::All, treatments);
    // ECT(0) and a code point of 46 with it.
    let (first, ect) = (v4([10, 0, 0, 1], 46 << 2), v4([10, 0, 0, 1], 46 << 2 | 2));
    let seen = process(&mut police, &[first.clone(), first.clone(), ect.clone(), first.clone()], SECOND);
    assert_eq!(passed(&seen), "pppd");
    assert_eq!(seen.iter().map(|seen| seen.facts.mark).collect::<Vec<_>>(), [7, 8, 9, 9]);
    assert_eq!(seen[0].bytes, first);
    let ip = |seen: &Seen| {
        let ip = Ipv4::parse(&seen.bytes[14..]).unwrap();
        ip.verify_checksum().unwrap();
        (ip.dscp(), ip.ecn())
    };
    assert_eq!([ip(&seen[1]), ip(&seen[2])], [(12, 0), (46, 3)]);
}

#[test]
fn ipv6_is_marked_alike() {
    let meter = Meter::TrTcm(TrTcm::new(pace(), 1_000, pace(), 2_000).unwrap());
    let treatments = [
        Treatment::default(),
        Treatment { fate: Fate::Pass, mark: None, dscp: Some(12) },
        Treatment { fate: Fate::Congest, mark: None, dscp: None },
    ];
    let mut police = police(meter, Per::All, treatments);
    let packets = [0, 0, 1, 3, 0].map(|class| v6("2001:db8::7", class));
    let seen = process(&mut police, &packets, SECOND);
    assert_eq!(passed(&seen), "ppppd");
    let ip = |seen: &Seen| Ipv6::parse(&seen.bytes[14..]).map(|ip| (ip.dscp(), ip.ecn())).unwrap();
    assert_eq!([1, 2, 3].map(|i| ip(&seen[i])), [(12, 0), (0, 3), (0, 3)]);
}

#[test]
fn an_aware_meter_keeps_the_colours_that_packets_come_with() {
    let meter = Meter::TrTcm(TrTcm::new(pace(), 9_000, pace(), 9_000).unwrap());
    let colour = |mark| Treatment { fate: Fate::Pass, mark: Some(mark), dscp: None };
    let mut aware = police(meter, Per::All, [colour(1), colour(2), colour(3)]).aware();
    // AF31, AF32, AF33, EF, and one that is no class of assured forwarding (42).
    let packets = [26, 28, 30, 46, 42].map(|dscp| v4([10, 0, 0, 1], dscp << 2));
    let marks = |seen: Vec<Seen>| seen.iter().map(|seen| seen.facts.mark).collect::<Vec<_>>();
    assert_eq!(marks(process(&mut aware, &packets, SECOND)), [1, 2, 3, 1, 1]);
    let mut blind = police(meter, Per::All, [colour(1), colour(2), colour(3)]);
    assert_eq!(marks(process(&mut blind, &packets, SECOND)), [1; 5]);
    let packets = [28, 30].map(|dscp| v6("2001:db8::7", dscp << 2));
    assert_eq!(marks(process(&mut aware, &packets, SECOND)), [2, 3]);
}

#[test]
fn a_window_counts_packets() {
    let meter = Meter::Window(Window::new(Limit::Packets(3), SECOND, 0).unwrap());
    let mut police = police(meter, Per::Source { v4: 32, v6: 128 }, DROP_RED);
    let packets = vec![plain(); 4];
    assert_eq!(passed(&process(&mut police, &packets, 5 * SECOND)), "pppd");
    assert_eq!(passed(&process(&mut police, &packets, 5 * SECOND + 999 * MS)), "dddd");
    assert_eq!(passed(&process(&mut police, &packets, 6 * SECOND + 200 * MS)), "pppd");
}

#[test]
fn a_rate_that_follows_a_shaper_falls_while_that_loses_packets_and_comes_back() {
    let shaper = Region::heap(Subjects::bytes(Per::All, 0, 1));
    let following = Following {
        adaptive: Adaptive::new(80_000, 8_000_000, Target::Loss(10_000), 100 * MS).unwrap(),
        shapers: vec![shaper.clone()],
    };
    let mut police = police(token(10_000), Per::All, DROP_RED).following(following);
    let mut now = SECOND;
    let mut second = |police: &mut Police, lost| {
        let mut count = 0;
        for _ in 0..200 {
            now += 5 * MS;
            board(&shaper).unwrap().add(&Totals { passed: 10, lost, ..Totals::default() }, Writers::One);
            count += passed(&process(police, &vec![plain(); 10], now)).matches('p').count();
        }
        count
    };
    assert!((1_000..=1_010).contains(&second(&mut police, 0)), "the ceiling");
    let falling = second(&mut police, 1);
    let low = second(&mut police, 1);
    assert!(falling < 700 && low < 200, "{falling} {low}");
    for _ in 0..3 {
        second(&mut police, 1);
    }
    let floor = second(&mut police, 1);
    assert!((9..=11).contains(&floor), "{floor}");
    let rising = second(&mut police, 0);
    assert!(rising > floor && rising < 100, "{rising}");
    for _ in 0..13 {
        second(&mut police, 0);
    }
    assert!(second(&mut police, 0) > 990);
}

#[test]
fn a_packet_that_was_decided_before_costs_nothing() {
    let mut police = police(token(2_000), Per::All, DROP_RED);
    let mut stranger = plain();
    stranger[0] = 0x0a;
    let seen = process(&mut police, &[stranger, plain(), plain()], SECOND);
    assert_eq!(seen[0].verdict, Verdict::Drop(DropReason::NotForThisPort));
    assert_eq!(passed(&seen[1..]), "pp");
}

#[test]
fn refuses_memory_that_is_too_short() {
    let meter = token(1_000);
    let bytes = Police::bytes(Per::Flow, 64, &meter);
    let open =
        |bytes| Police::new(meter, Per::Flow, 64, Region::heap(bytes), 1, HashKey::from_seed(1), DROP_RED);
    assert!(open(bytes).is_some());
    assert!(open(bytes - 8).is_none());
}

#[test]
fn says_whose_meter_a_packet_has() {
    let mut police = police(token(5_000), Per::Source { v4: 32, v6: 128 }, DROP_RED);
    let mut pool = Pool::heap(FrameSize::K2, 1, 1).unwrap().remove(0);
    let mut burst = Burst::new(pool.arena().clone());
    let (packet, frame) = (plain(), pool.alloc().unwrap());
    burst.push(Packet { frame, start: 256, len: 0, port: IN }).unwrap();
    burst.set_key(0, FlowKey::of(&packet[14..]).unwrap());
    let said = |police: &Police, burst: &Burst, now| {
        let mut out = Vec::new();
        police.explain(burst, 0, now, &mut out);
        out.remove(0)
    };
    assert_eq!(said(&police, &burst, SECOND), "its source has no meter yet");
    process(&mut police, &[packet], SECOND);
    assert_eq!(said(&police, &burst, SECOND), "the meter of its source, in use");
    assert_eq!(said(&police, &burst, 2 * SECOND), "the meter of its source, idle");
    burst.free_into(&mut pool);
}
