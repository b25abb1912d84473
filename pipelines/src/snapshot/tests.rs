use super::*;
use crate::compile::{CompileError, Resources, compile, compile_after};
use crate::spec::parse;
use crate::tables::fib::{FibLayout, FibWriter};
use std::collections::BTreeMap;
use std::sync::Arc;
use zsync_packet::burst::Packet;
use zsync_packet::flow::HashKey;
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec};
use zsync_packet::header::{VlanTag, corpus};
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;

fn resources() -> Resources {
    let fib = FibWriter::create(Region::heap(FibLayout::SMALL.bytes()), FibLayout::SMALL).unwrap();
    let port =
        PortFacts { mac: corpus::MACS.1, mtu: 1500, complete_checksums: false, ..PortFacts::default() };
    Resources {
        ports: vec![port; 3],
        fibs: BTreeMap::from([(254, fib.reader())]),
        hash_key: HashKey::from_seed(1),
        workers: 1,
        states: [].into(),
    }
}

const TWO: &str = r#"
[port.a]
netdev = "eth1"
[port.b]
netdev = "eth2"
[port.c]
netdev = "eth3"
[pipeline.away]
input  = ["c"]
stages = ["drop"]
[pipeline.forward]
input  = ["a"]
stages = ["route.main"]
[route.main]
table = 254
"#;

fn compiled(source: &str) -> Result<Snapshot, CompileError> {
    compile(&parse(source, "test.toml").unwrap().spec, 3, &resources())
}

/// Runs so many copies of a packet; what was decided, and the counts of the stages.
fn process(snapshot: &mut Snapshot, port: u16, packets: usize) -> (Vec<Verdict>, [StageCount; MAX_STAGES]) {
    let mut pool = Pool::heap(FrameSize::K2, 64, 1).unwrap().remove(0);
    let mut burst = Burst::new(pool.arena().clone());
    let bytes = &corpus::valid()[2].bytes;
    for _ in 0..packets {
        let (mut frame, len) = (pool.alloc().unwrap(), bytes.len() as u16);
        pool.arena().bytes_mut(&mut frame, HEADROOM as u16, len).copy_from_slice(bytes);
        burst.push(Packet { frame, start: HEADROOM as u16, len, port: PortId(port) }).unwrap();
    }
    let mut counts = [StageCount::default(); MAX_STAGES];
    snapshot.process(PortId(port), &mut burst, &mut Cx::at(1), &mut counts);
    assert_eq!(burst.live(), 0);
    let mut verdicts = Vec::new();
    burst.drain(|packet, verdict, _| {
        verdicts.push(verdict);
        pool.free(packet.frame);
    });
    assert_eq!(pool.audit(0, 0).leaked, 0);
    (verdicts, counts)
}

/// Runs each packet alone, from this port on; what was decided about each.
fn verdicts(snapshot: &mut Snapshot, port: u16, packets: &[Vec<u8>]) -> Vec<Verdict> {
    let mut pool = Pool::heap(FrameSize::K2, 256, 1).unwrap().remove(0);
    let (mut extra, mut counts) = (crate::stage::Extra::new(), [StageCount::default(); MAX_STAGES]);
    let mut verdicts = Vec::new();
    for bytes in packets {
        let mut burst = Burst::new(pool.arena().clone());
        let (mut frame, len) = (pool.alloc().unwrap(), bytes.len() as u16);
        pool.arena().bytes_mut(&mut frame, HEADROOM as u16, len).copy_from_slice(bytes);
        burst.push(Packet { frame, start: HEADROOM as u16, len, port: PortId(port) }).unwrap();
        snapshot.process(PortId(port), &mut burst, &mut Cx::new(1, &mut pool, &mut extra), &mut counts);
        burst.drain(|packet, verdict, _| {
            verdicts.push(verdict);
            pool.free(packet.frame);
        });
    }
    assert!(extra.is_empty());
    assert_eq!(pool.audit(0, 0).leaked, 0);
    verdicts
}

/// A wire between `a` and `b` with a filter of these lines on it.
fn wire(filter: &str) -> Snapshot {
    let source = format!(
        "[port.a]\nnetdev = \"eth1\"\n[port.b]\nnetdev = \"eth2\"\n[pipeline.wire]\ninput = [\"a\", \"b\"]\n\
         stages = [\"filter.guard\", \"patch.wire\"]\n[patch.wire]\npairs = [[\"a\", \"b\"]]\n[filter.guard]\n{filter}"
    );
    compiled(&source).unwrap()
}

#[test]
fn a_filter_on_a_wire_judges_ip_of_any_station_and_lets_other_frames_through() {
    let udp = |tags: &[VlanTag], port: u16| {
        let mut segment = [0x0f, 0xa0, 0, 0, 0, 8, 0, 0];
        segment[2..4].copy_from_slice(&port.to_be_bytes());
        let v4 = Ipv4Spec::new([192, 0, 2, 1].into(), [198, 51, 100, 1].into(), 17).packet(&segment);
        let v6 = Ipv6Spec::new("2001:db8::1".parse().unwrap(), "2001:db8:1::1".parse().unwrap(), 17);
        let frame =
            |kind, packet: &[u8]| build::ethernet([2, 0, 0, 0, 9, 9], corpus::MACS.0, tags, kind, packet);
        [frame(0x0800, &v4), frame(0x86dd, &v6.packet(&segment))]
    };
    let arp = build::ethernet([0xff; 6], corpus::MACS.0, &[], 0x0806, &[0; 46]);
    let tags = [VlanTag::new(7)];
    let packets = [udp(&[], 53), udp(&[], 54), udp(&tags, 53), udp(&tags, 54)].concat();
    let packets = [packets, vec![arp]].concat();
    let rules =
        "rules = [{ accept = true, protocol = \"udp\", to-port = 53 }, { reject = true, vlan = 7 }]\n";
    let mut snapshot = wire(rules);
    let (on, back) = (Verdict::Transmit(PortId(1)), Verdict::Transmit(PortId(0)));
    let filtered = Verdict::Drop(DropReason::Filtered);
    let expected = [on, on, filtered, filtered, on, on, back, back, on];
    assert_eq!(verdicts(&mut snapshot, 0, &packets), expected);
    // The other way.
    let seen = verdicts(&mut snapshot, 1, &packets);
    assert_eq!((seen[0], seen[2], seen[8]), (back, filtered, back));
    let mut closed = wire(&format!("non-ip = \"drop\"\n{rules}"));
    let seen = verdicts(&mut closed, 0, &packets);
    assert_eq!((seen[0], seen[8]), (on, Verdict::Drop(DropReason::NotIp)));
}

#[test]
fn connections_are_tracked_on_a_wire_and_arp_has_no_state() {
    let mut snapshot = wire(
        "rules = [{ accept = true, state = \"established\" }, { accept = true, input = \"a\", state = \"new\" }]\n",
    );
    let (client, server) = ("2001:db8::1".parse().unwrap(), "2001:db8:1::1".parse().unwrap());
    let frame = |from, to, segment: &[u8]| {
        let packet = Ipv6Spec::new(from, to, 17).packet(segment);
        build::ethernet([2, 0, 0, 0, 9, 9], corpus::MACS.0, &[], 0x86dd, &packet)
    };
    let asks = frame(client, server, &[0x0f, 0xa0, 0, 53, 0, 8, 0, 0]);
    let answers = frame(server, client, &[0, 53, 0x0f, 0xa0, 0, 8, 0, 0]);
    let arp = build::ethernet([0xff; 6], corpus::MACS.0, &[], 0x0806, &[0; 46]);
    let (on, back) = (Verdict::Transmit(PortId(1)), Verdict::Transmit(PortId(0)));
    snapshot.assign(0);
    assert_eq!(
        verdicts(&mut snapshot, 1, std::slice::from_ref(&answers)),
        [Verdict::Drop(DropReason::Filtered)]
    );
    assert_eq!(verdicts(&mut snapshot, 0, &[asks, arp.clone()]), [on, on]);
    assert_eq!(verdicts(&mut snapshot, 1, &[answers, arp]), [back, back]);
}

#[test]
fn a_configuration_becomes_pipelines_with_a_parser_ahead_and_numbered_stages() {
    let snapshot = compiled(TWO).unwrap();
    assert_eq!(snapshot.epoch, 3);
    let labels: Vec<(usize, &str)> = snapshot
        .pipelines
        .iter()
        .flat_map(|pipeline| &pipeline.stages)
        .map(|placed| (placed.number, &placed.label[..]))
        .collect();
    assert_eq!(labels, [(0, "parse"), (1, "drop"), (2, "parse"), (3, "route.main")]);
    assert_eq!(snapshot.entry, [Some(PipelineId(1)), None, Some(PipelineId(0))]);
    let wire = TWO.replace("route.main", "patch.wire").replace("table = 254", "pairs = [[\"a\", \"b\"]]");
    let wire = wire.replace("input  = [\"a\"]", "input  = [\"a\", \"b\"]");
    let wire = compiled(&wire).unwrap();
    assert!(matches!(wire.pipelines[1].stages[..], [Placed { stage: AnyStage::Patch(_), number: 2, .. }]));
}

#[test]
fn a_port_reflects_what_is_swapped_and_patched_to_itself() {
    let config = TWO.replace("[\"route.main\"]", "[\"macswap\", \"patch.back\"]");
    let config = config.replace("[route.main]\ntable = 254", "[patch.back]\npairs = { a = \"a\" }");
    let spec = parse(&config, "test.toml").unwrap().spec;
    assert_eq!(parse(&spec.to_toml(), "again.toml").unwrap().spec.to_toml(), spec.to_toml());
    let mut snapshot = compiled(&config).unwrap();
    let stages = &snapshot.pipelines[1].stages[..];
    // Frames as such, so there is no parser ahead.
    assert!(matches!(
        stages,
        [Placed { stage: AnyStage::MacSwap(_), .. }, Placed { stage: AnyStage::Patch(_), .. }]
    ));
    let (verdicts, counts) = process(&mut snapshot, 0, 64);
    assert_eq!(verdicts, [Verdict::Transmit(PortId(0)); 64]);
    let all = StageCount { packets: 64, drops: 0 };
    assert_eq!(counts[..4], [StageCount::default(), StageCount::default(), all, all]);
}

#[test]
fn what_was_not_given_is_named() {
    let error = compiled(&TWO.replace("254", "100")).unwrap_err();
    let expected = CompileError::NoFib { pipeline: "forward".into(), stage: "route.main".into(), table: 100 };
    assert_eq!(error, expected);
    assert!(error.to_string().contains("routing table 100"), "{error}");
}

#[test]
fn stages_count_what_reaches_them_and_what_they_drop() {
    let mut snapshot = compiled(TWO).unwrap();
    let (verdicts, counts) = process(&mut snapshot, 0, 64);
    // Nothing is routed, so the kernel answers.
    assert_eq!(verdicts, [Verdict::Punt; 64]);
    let count = |packets, drops| StageCount { packets, drops };
    assert_eq!(counts[..4], [count(0, 0), count(0, 0), count(64, 0), count(64, 0)]);
    let (verdicts, counts) = process(&mut snapshot, 2, 5);
    assert_eq!(verdicts, [Verdict::Drop(DropReason::Configured); 5]);
    assert_eq!(counts[..4], [count(5, 0), count(5, 5), count(0, 0), count(0, 0)]);
}

#[test]
fn ports_without_a_pipeline_and_pipelines_that_are_not_there() {
    let mut snapshot = compiled(TWO).unwrap();
    for port in [1, 3, u16::MAX] {
        let (verdicts, _) = process(&mut snapshot, port, 2);
        assert_eq!(verdicts, [Verdict::Drop(DropReason::NoPipeline); 2]);
    }
    assert_eq!(process(&mut Snapshot::empty(), 0, 1).0, [Verdict::Drop(DropReason::NoPipeline)]);
    snapshot.entry[0] = Some(PipelineId(7));
    assert_eq!(process(&mut snapshot, 0, 1).0, [Verdict::Drop(DropReason::Undecided)]);
    // A pipeline without stages leaves everything undecided.
    snapshot.pipelines[1] = Pipeline { name: "empty".into(), stages: Vec::new() };
    snapshot.entry[0] = Some(PipelineId(1));
    assert_eq!(process(&mut snapshot, 0, 64).0, [Verdict::Drop(DropReason::Undecided); 64]);
}

/// No stage of a configuration says `Goto` yet, so the packets say it here, before the first stage.
fn gone(snapshot: &mut Snapshot, to: &[u16]) -> Vec<Verdict> {
    let mut pool = Pool::heap(FrameSize::K2, 64, 1).unwrap().remove(0);
    let mut burst = Burst::new(pool.arena().clone());
    for _ in to {
        let frame = pool.alloc().unwrap();
        burst.push(Packet { frame, start: HEADROOM as u16, len: 60, port: PortId(0) }).unwrap();
    }
    for (i, &to) in to.iter().enumerate() {
        burst.decide(i, Verdict::Goto(PipelineId(to)));
    }
    let mut counts = [StageCount::default(); MAX_STAGES];
    snapshot.process(PortId(0), &mut burst, &mut Cx::at(1), &mut counts);
    let mut verdicts = Vec::new();
    burst.drain(|packet, verdict, _| {
        verdicts.push(verdict);
        pool.free(packet.frame);
    });
    verdicts
}

#[test]
fn gotos_lead_each_packet_to_its_pipeline() {
    let place = |stage| vec![Placed { label: "x".into(), number: 0, stage: AnyStage::Decide(stage) }];
    let mut snapshot = Snapshot {
        epoch: 1,
        pipelines: vec![
            Pipeline { name: "drop".into(), stages: place(Decide::DROP) },
            Pipeline { name: "punt".into(), stages: place(Decide::PUNT) },
        ],
        entry: vec![Some(PipelineId(0))],
        vlans: Vlans::default(),
    };
    let dropped = Verdict::Drop(DropReason::Configured);
    assert_eq!(gone(&mut snapshot, &[1, 0, 1]), [Verdict::Punt, dropped, Verdict::Punt]);
    assert_eq!(
        gone(&mut snapshot, &[0, 1, 9]),
        [dropped, Verdict::Punt, Verdict::Drop(DropReason::Undecided)]
    );
}

#[test]
fn a_burst_may_go_to_more_pipelines_than_a_packet() {
    let stages = vec![Placed { label: "x".into(), number: 0, stage: AnyStage::Decide(Decide::PUNT) }];
    let pipelines = vec![Pipeline { name: "punt".into(), stages }; 40];
    let mut snapshot =
        Snapshot { epoch: 1, pipelines, entry: vec![Some(PipelineId(0))], vlans: Vlans::default() };
    let to: Vec<u16> = (0..40).collect();
    assert_eq!(gone(&mut snapshot, &to), [Verdict::Punt; 40]);
}

#[test]
fn filters_that_stay_as_they_were_are_compiled_once() {
    let source = |rule: &str| {
        format!(
            "{TWO}[filter.f]\nrules = [{{ drop = true, from = \"10.0.0.0/8\" }}]\n\
             [filter.g]\nrules = [{{ drop = true, {rule} }}]\n"
        )
        .replace("[\"drop\"]", "[\"filter.f\", \"filter.g\", \"drop\"]")
        .replace("[\"route.main\"]", "[\"filter.f\", \"route.main\"]")
    };
    let compiled = |source: &str, before: Option<&Snapshot>| {
        compile_after(&parse(source, "test.toml").unwrap().spec, 1, &resources(), before).unwrap()
    };
    let filters = |snapshot: &Snapshot| -> Vec<_> {
        let stages = snapshot.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
        let filter = |placed: &Placed| match &placed.stage {
            AnyStage::Filter(filter) => Some((placed.label.clone(), Arc::as_ptr(filter.compiled()))),
            _ => None,
        };
        stages.filter_map(filter).collect()
    };
    let first = compiled(&source("to-port = 1, protocol = \"udp\""), None);
    let before = filters(&first);
    let names: Vec<_> = before.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(names, ["filter.f", "filter.g", "filter.f"]);
    assert!(before[0] == before[2] && before[0].1 != before[1].1);
    let after = compiled(&source("to-port = 2, protocol = \"udp\""), Some(&first));
    assert_eq!(filters(&after)[0], before[0]);
    assert_ne!(filters(&after)[1], before[1]);
    assert_eq!(filters(&compiled(&source("to-port = 2, protocol = \"udp\""), Some(&after))), filters(&after));
}
