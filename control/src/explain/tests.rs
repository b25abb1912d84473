use super::*;
use std::collections::BTreeMap;
use zsync_packet::region::Region;
use zsync_pipelines::snapshot::MAX_STAGES;
use zsync_pipelines::snapshot::StageCount;
use zsync_pipelines::spec::parse;
use zsync_pipelines::state::{State, needs};
use zsync_pipelines::tables::fib::{FibLayout, FibWriter, Target};

/// An edge of two ports, one with a VLAN in a VLAN; everything but 10.1.0.0/16 (`lan`) and 10.7.0.0/16 (`inner`) is behind `wan`.
const EDGE: &str = r#"
[port.lan]
netdev = "eth1"
vlans = { outer = { id = 100, tag = "802.1ad" }, inner = { id = 7, in = "outer" } }
[port.wan]
netdev = "eth2"
[pipeline.edge]
input  = ["lan", "wan", "inner"]
stages = ["track", "nat.edge", "route"]
[nat.edge]
masquerade = [{ output = "wan" }]
"#;

const SECOND: u64 = 1_000_000_000;

struct Edge {
    spec: Spec,
    with: Resources,
}

fn edge(workers: usize) -> Edge {
    let spec = parse(EDGE, "edge.toml").unwrap().spec;
    let mut fib = FibWriter::create(Region::heap(FibLayout::SMALL.bytes()), FibLayout::SMALL).unwrap();
    for (prefix, len, port) in [([0; 4], 0, 1), ([10, 1, 0, 0], 16, 0), ([10, 7, 0, 0], 16, 2)] {
        let hop = fib.adjacency(port, [10, port as u8, 0, 9].into()).unwrap();
        assert!(fib.resolve(hop, [2, 0, 0, 0, 1, port as u8]));
        fib.insert(prefix.into(), len, Target::Hops(vec![(hop, 1)])).unwrap();
    }
    let port = |n: u8| PortFacts {
        mac: [2, 0, 0, 0, 0, n],
        mtu: 1500,
        v4: Some([203, 0, 113, n].into()),
        ..PortFacts::default()
    };
    let states: BTreeMap<String, State> =
        needs(&spec, workers).into_iter().map(|(label, size)| (label, State::heap(size, workers))).collect();
    let with = Resources {
        ports: vec![port(1), port(2)],
        fibs: BTreeMap::from([(254, fib.reader())]),
        hash_key: HashKey::from_seed(5),
        workers,
        states,
    };
    Edge { spec, with }
}

impl Edge {
    /// Sends packets through the workers, as traffic: what leaves.
    fn traffic(&self, port: u16, text: &str, now: u64) -> Vec<u8> {
        let mut snapshot = compile(&self.spec, 1, &self.with).unwrap();
        let mut pool = Pool::heap(FrameSize::K4, 4, 1).unwrap().remove(0);
        let mac = self.with.ports[usize::from(port)].mac;
        let bytes = PacketText::parse(text).unwrap().frame(mac);
        let mut worker = 0;
        loop {
            snapshot.assign(worker);
            let (mut frame, len) = (pool.alloc().unwrap(), bytes.len() as u16);
            pool.arena().bytes_mut(&mut frame, HEADROOM as u16, len).copy_from_slice(&bytes);
            let mut burst = Burst::new(pool.arena().clone());
            burst.push(Packet { frame, start: HEADROOM as u16, len, port: PortId(port) }).unwrap();
            let mut counts = [StageCount::default(); MAX_STAGES];
            snapshot.process(PortId(port), &mut burst, &mut Cx::at(now), &mut counts);
            let (verdict, left) = (burst.verdict(0), burst.bytes(0).to_vec());
            burst.free_into(&mut pool);
            match verdict {
                Verdict::Worker(owner, _) => worker = usize::from(owner),
                Verdict::Transmit(_) => return left,
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    fn ask(&self, input: Option<&str>, text: &str, now: u64) -> Result<ExplainedPacket, String> {
        let subjects = [Subject::Text(PacketText::parse(text)?)];
        explain(&self.spec, &self.with, input, &subjects, now).map(|mut all| all.remove(0))
    }
}

fn words(packet: &ExplainedPacket) -> String {
    let line = |step: &ExplainedStep| {
        let lines: Vec<&str> = step.matched.iter().chain(&step.changed).map(String::as_str).collect();
        format!("{}/{}: {}", step.pipeline, step.stage, lines.join("; "))
    };
    packet.steps.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn of_an_established_flow_the_state_is_shown_that_the_workers_have() {
    for workers in [1, 3] {
        let edge = edge(workers);
        let now = 5 * SECOND;
        let flow = "tcp 10.1.0.5:40000 -> 198.51.100.1:443";
        let before = edge.ask(None, flow, now).unwrap();
        assert!(words(&before).contains("no flow is known that it is of"), "{}", words(&before));
        let left = edge.traffic(0, &format!("{flow} flags=syn seq=1000"), now);
        let left = zsync_pipelines::trace::describe::describe(&left);
        let shared = left.split_whitespace().nth(1).unwrap();
        edge.traffic(1, &format!("tcp 198.51.100.1:443 -> {shared} flags=syn,ack seq=7000 ack=1001"), now);
        edge.traffic(0, &format!("{flow} flags=ack seq=1001 ack=7001"), now);

        let there = edge.ask(None, flow, now).unwrap();
        let said = words(&there);
        assert_eq!((there.input.as_str(), there.verdict.as_str()), ("lan", "transmit by wan"), "{said}");
        for part in [
            "flags=ack seq=1001 ack=7001: as its flow goes on",
            "begun as tcp 10.1.0.5:40000 -> 198.51.100.1:443",
            "translated: its answers arrive as tcp 198.51.100.1:443 -> ",
            "established, answered, assured; this is of who began it;",
            "state established",
            &format!("tcp {shared} -> 198.51.100.1:443 flags=ack"),
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let back = edge.ask(None, &format!("tcp 198.51.100.1:443 -> {shared}"), now).unwrap();
        assert_eq!(
            (back.input.as_str(), back.verdict.as_str()),
            ("wan", "transmit by lan"),
            "{}",
            words(&back)
        );
        assert!(words(&back).contains("this is an answer"), "{}", words(&back));
        assert_eq!(back.worker, there.worker, "both ways belong to one worker");
        let error = format!(
            "icmp 198.51.100.9 -> 203.0.113.2 type=3/1 about tcp {shared} -> 198.51.100.1:443 seq=1001"
        );
        let error = edge.ask(None, &error, now).unwrap();
        assert_eq!(error.verdict, "transmit by lan", "{}", words(&error));
        assert!(words(&error).contains("an ICMP error about tcp 203.0.113.2:"), "{}", words(&error));
        // What was said is not touched.
        let outside = edge.ask(None, &format!("{flow} flags=ack seq=900000 ack=7001"), now).unwrap();
        assert_eq!(outside.verdict, "drop: invalid-state", "{}", words(&outside));
    }
}

#[test]
fn a_capture_is_explained_packet_by_packet_each_with_what_the_ones_before_left() {
    let edge = edge(1);
    let frame = |text: &str| Subject::Frame(PacketText::parse(text).unwrap().frame([2, 0, 0, 0, 0, 1]));
    let frames = [
        frame("udp 10.1.0.5:4000 -> 198.51.100.1:53"),
        frame("udp 10.1.0.5:4000 -> 198.51.100.1:53 ttl=63"),
        frame("udp 10.1.0.5:4000 -> 198.51.100.1:53 vlan=9"),
    ];
    let explained = explain(&edge.spec, &edge.with, None, &frames, SECOND).unwrap();
    let said: Vec<String> = explained.iter().map(words).collect();
    assert!(said[0].starts_with("port lan/arrives: udp 10.1.0.5:4000 -> 198.51.100.1:53;"), "{}", said[0]);
    assert!(
        said[0].contains("no flow is known") && said[1].contains("not answered yet; this is of who began it")
    );
    assert_eq!(explained[2].verdict, "drop: vlan-unknown");
    let many = vec![frames[0].clone(); MOST + 5];
    assert_eq!(explain(&edge.spec, &edge.with, None, &many, SECOND).unwrap().len(), MOST);
    let long = [Subject::Frame(vec![0; 5000])];
    let error = explain(&edge.spec, &edge.with, None, &long, SECOND).unwrap_err();
    assert_eq!(error, "a packet of 5000 bytes does not fit a frame");
    assert!(explain(&edge.spec, &edge.with, Some("inner"), &[Subject::Frame(vec![0; 3])], SECOND).is_err());
    assert!(explain(&edge.spec, &edge.with, Some("lan"), &[Subject::Frame(vec![0; 3])], SECOND).is_ok());
}

#[test]
fn vlans_that_are_ports_are_told_by_their_tags() {
    // Each with nothing known yet.
    let tagged =
        edge(1).ask(Some("lan"), "udp 10.7.0.5:1 -> 198.51.100.1:2 vlan=802.1ad:100,7", SECOND).unwrap();
    let by_name = edge(1).ask(None, "udp 10.7.0.5:1 -> 198.51.100.1:2 in=inner", SECOND).unwrap();
    let guessed = edge(1).ask(None, "udp 10.7.0.5:1 -> 198.51.100.1:2", SECOND).unwrap();
    assert_eq!((&tagged, &by_name), (&by_name, &guessed));
    assert_eq!((tagged.input.as_str(), tagged.verdict.as_str()), ("inner", "transmit by wan"));
    let arrival = &tagged.steps[0];
    assert_eq!((arrival.pipeline.as_str(), arrival.stage.as_str()), ("port lan", "arrives"));
    assert_eq!(
        arrival.matched,
        [
            "udp 10.7.0.5:1 -> 198.51.100.1:2 vlan=802.1ad:100,7",
            "tag 802.1ad 100; VLANs here: 802.1ad 100",
            "tag 7; VLANs here: 7"
        ]
    );
    assert_eq!(arrival.changed.last().unwrap(), "it comes in at port inner");
    // The other way round the tags go on.
    let back = edge(1).ask(Some("lan"), "udp 10.1.0.5:1 -> 10.7.0.5:2", SECOND).unwrap();
    let last = back.steps.last().unwrap();
    assert_eq!((last.pipeline.as_str(), last.stage.as_str()), ("port inner", "leaves"));
    assert_eq!(last.changed, ["udp 10.1.0.5:1 -> 10.7.0.5:2 ttl=63 vlan=802.1ad:100,7"]);
    assert_eq!(back.verdict, "transmit by lan");
    for (text, verdict) in [
        ("udp 10.7.0.5:1 -> 198.51.100.1:2 vlan=7", "drop: vlan-unknown"),
        ("udp 10.7.0.5:1 -> 198.51.100.1:2 vlan=802.1ad:100,8", "drop: vlan-unknown"),
        ("udp 10.7.0.5:1 -> 198.51.100.1:2 vlan=802.1ad:100", "drop: no-pipeline"),
    ] {
        assert_eq!(edge(1).ask(Some("lan"), text, SECOND).unwrap().verdict, verdict, "{text}");
    }
}

#[test]
fn a_port_that_is_not_there_is_told_with_those_that_are() {
    let edge = edge(1);
    let packet = "udp 10.1.0.5:1 -> 10.2.0.1:2";
    let error = edge.ask(Some("lna"), packet, SECOND).unwrap_err();
    assert_eq!(error, "there is no port `lna`; the ports are lan, wan, inner, outer");
    let error = edge.ask(Some("lan"), &format!("{packet} in=wan"), SECOND).unwrap_err();
    assert_eq!(error, "the packet says `in=wan`, and the question port `lan`");
    assert_eq!(edge.ask(Some("wan"), &format!("{packet} in=wan"), SECOND).unwrap().input, "wan");
}

#[test]
fn nothing_that_is_asked_changes_what_a_second_question_finds() {
    let edge = edge(1);
    // Each question has a copy of what the stages keep, as control makes one.
    let fresh = || Edge { spec: edge.spec.clone(), with: self::edge(1).with };
    let ask = |text: &str| words(&fresh().ask(None, text, SECOND).unwrap());
    let packet = "udp 10.1.0.5:1 -> 198.51.100.1:2";
    assert_eq!(ask(packet), ask(packet));
}

/// Two peers, of whom one is nowhere yet; nobody has read a key.
const GATEWAY: &str = r#"
[port.lan]
netdev = "eth1"
[port.wan]
netdev = "eth2"
[pipeline.gateway]
input  = ["lan", "wan"]
stages = ["wireguard-open.site", "wireguard-seal.site", "route"]
[wireguard.site]
private-key-file = "/nowhere/own.key"
peers = [
  { public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", endpoint = "192.0.2.2:51820", allowed-ips = ["10.8.0.0/16", "fd08::/32"], preshared-key-file = "/nowhere/shared.key" },
  { public-key = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=", allowed-ips = ["10.8.7.0/24", "fd08:0:7::/48"] },
]
"#;

#[test]
fn which_peer_a_packet_is_for_and_where_that_is_needs_no_keys() {
    let mut gateway = Edge { spec: parse(GATEWAY, "w.toml").unwrap().spec, with: edge(1).with };
    gateway.with.states = BTreeMap::new();
    let refused = gateway.ask(None, "udp 10.1.0.5:1 -> 10.8.0.1:2", SECOND).unwrap_err();
    assert!(refused.contains("keys were not read"), "{refused}");
    stand_in(&mut gateway.spec);
    let ask = |to: &str| {
        let from = if to.starts_with('[') { "[fd01::5]" } else { "10.1.0.5" };
        let packet = gateway.ask(Some("lan"), &format!("udp {from}:1 -> {to}:2"), SECOND).unwrap();
        (words(&packet), packet.verdict)
    };
    for (to, prefix) in [("10.8.6.1", "10.8.0.0/16"), ("[fd08:0:6::1]", "fd08::/32")] {
        let (said, verdict) = ask(to);
        let whose =
            format!("for the peer xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=, by its allowed IP {prefix};");
        assert!(said.contains(&whose), "{said}");
        assert!(
            said.contains("the peer is at 192.0.2.2:51820, as configured; there is no session"),
            "{said}"
        );
        assert_eq!(verdict, "consumed", "{said}");
    }
    for (to, prefix) in [("10.8.7.1", "10.8.7.0/24"), ("[fd08:0:7::1]", "fd08:0:7::/48")] {
        let (said, verdict) = ask(to);
        let whose =
            format!("for the peer TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=, by its allowed IP {prefix};");
        assert!(said.contains(&whose) && said.contains("nobody knows where the peer is"), "{said}");
        assert_ne!(verdict, "consumed", "{said}");
    }
    let (said, verdict) = ask("198.51.100.1");
    assert!(said.contains("its destination is no peer's"), "{said}");
    assert_eq!(verdict, "transmit by wan");
}
