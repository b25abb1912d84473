use super::*;
use crate::compile::{Resources, compile};
use crate::plan::{Work, plan};
use crate::snapshot::{MAX_STAGES, PortFacts, StageCount};
use crate::spec::stage::STAGES;
use crate::spec::{Spec, parse};
use crate::stage::{EXTRA, Extra};
use crate::tables::fib::{FibLayout, FibWriter, Target};
use std::collections::{BTreeMap, BTreeSet};
use text::PacketText;
use zsync_packet::burst::Packet;
use zsync_packet::flow::HashKey;
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// Two ports, one of which has a VLAN that is a port; all addresses are behind `out`.
const PORTS: &str = r#"
[port.in]
netdev = "eth1"
vlans = { office = { id = 7 } }
[port.out]
netdev = "eth2"
"#;

fn spec(rest: &str) -> Spec {
    let source = format!("{PORTS}{rest}");
    parse(&source, "trace.toml").unwrap_or_else(|errors| panic!("{source}: {errors:?}")).spec
}

fn resources(workers: usize) -> Resources {
    let mut fib = FibWriter::create(Region::heap(FibLayout::SMALL.bytes()), FibLayout::SMALL).unwrap();
    let hop = fib.adjacency(1, [10, 2, 0, 9].into()).unwrap();
    assert!(fib.resolve(hop, [2, 0, 0, 0, 0, 8]));
    fib.insert([0; 4].into(), 0, Target::Hops(vec![(hop, 1)])).unwrap();
    fib.insert([0u8; 16].into(), 0, Target::Hops(vec![(hop, 1)])).unwrap();
    let port = |v4| PortFacts { mac: MAC, mtu: 1500, v4: Some(v4), ..PortFacts::default() };
    Resources {
        ports: vec![port([10, 1, 0, 1].into()), port([10, 2, 0, 1].into())],
        fibs: BTreeMap::from([(254, fib.reader())]),
        hash_key: HashKey::from_seed(1),
        workers,
        states: [].into(),
    }
}

/// A snapshot, and what it takes to ask it.
struct Lab {
    snapshot: Snapshot,
    pool: Pool,
    extra: Extra,
    now: u64,
}

impl Lab {
    fn new(spec: &Spec, workers: usize) -> Self {
        let mut snapshot = compile(spec, 1, &resources(workers)).unwrap();
        snapshot.assign(0);
        let pool = Pool::heap(FrameSize::K4, EXTRA as u32 + 4, 1).unwrap().remove(0);
        Self { snapshot, pool, extra: Extra::new(), now: 1 }
    }

    fn burst(&mut self, port: u16, bytes: &[u8]) -> Burst {
        let (mut frame, len) = (self.pool.alloc().unwrap(), bytes.len() as u16);
        self.pool.arena().bytes_mut(&mut frame, HEADROOM as u16, len).copy_from_slice(bytes);
        let mut burst = Burst::new(self.pool.arena().clone());
        burst.push(Packet { frame, start: HEADROOM as u16, len, port: PortId(port) }).unwrap();
        burst
    }

    fn clear(&mut self, mut burst: Burst) {
        burst.free_into(&mut self.pool);
        let Self { pool, extra, .. } = self;
        extra.drain().for_each(|made| pool.free(made.packet.frame));
    }

    fn ask(&mut self, port: u16, text: &str) -> Trace {
        let bytes = PacketText::parse(text).unwrap().frame(MAC);
        let mut burst = self.burst(port, &bytes);
        let mut cx = Cx::new(self.now, &mut self.pool, &mut self.extra);
        let found = trace(&mut self.snapshot, PortId(port), &mut burst, &mut cx);
        self.clear(burst);
        found
    }

    /// What becomes of it without being asked about: the verdict, and the bytes.
    fn send(&mut self, port: u16, text: &str) -> (Verdict, Vec<u8>) {
        let bytes = PacketText::parse(text).unwrap().frame(MAC);
        let mut burst = self.burst(port, &bytes);
        let mut counts = [StageCount::default(); MAX_STAGES];
        let mut cx = Cx::new(self.now, &mut self.pool, &mut self.extra);
        self.snapshot.process(PortId(port), &mut burst, &mut cx, &mut counts);
        let outcome = (burst.verdict(0), burst.bytes(0).to_vec());
        self.clear(burst);
        outcome
    }
}

const WIREGUARD: &str = "[wireguard.w]\nprivate-key-file = \"w.key\"\npeers = [{ public-key = \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\", endpoint = \"10.2.0.9:51820\", allowed-ips = [\"0.0.0.0/0\", \"::/0\"] }]";

/// A configuration that has the kind of stage in a pipeline, behind what it needs. Another kind needs a line here.
fn example(kind: &str) -> Option<(&'static str, &'static str)> {
    Some(match kind {
        "patch" => ("\"patch.w\"", "[patch.w]\npairs = { in = \"out\", office = \"office\" }"),
        "route" => ("\"route\"", ""),
        "police" => ("\"police.p\", \"route\"", "[police.p]\nrate = \"1Mbit\"\nburst = \"10KiB\""),
        "shape" => ("\"shape.s\", \"route\"", "[shape.s]\nrate = \"1Mbit\""),
        "nat" => ("\"track\", \"nat.n\", \"route\"", "[nat.n]\nmasquerade = [{ output = \"out\" }]"),
        "filter" => {
            ("\"filter.f\", \"route\"", "[filter.f]\ndefault = \"drop\"\nrules = [{ accept = true }]")
        }
        "track" => ("\"track\", \"route\"", ""),
        "balance" => (
            "\"balance.b\", \"route\"",
            "[balance.b]\nvip = [\"10.2.0.80\"]\nservice = [\"tcp/443\"]\nforward = \"ipip\"\nsource = [\"10.1.0.1/32\"]\nbackends = [{ address = \"10.3.0.1\" }]",
        ),
        "macswap" => ("\"macswap\", \"patch.w\"", "[patch.w]\npairs = { in = \"out\", office = \"office\" }"),
        "reassemble" => ("\"reassemble\", \"route\"", ""),
        "encap" => (
            "\"encap.e\", \"route\"",
            "[encap.e]\ntunnel = { vxlan = 7 }\nlocal = \"192.0.2.1\"\nremote = \"192.0.2.2\"",
        ),
        "decap" => (
            "\"decap.d\", \"route\"",
            "[decap.d]\ntunnel = \"gre\"\nlocal = \"192.0.2.1\"\nremote = \"192.0.2.2\"",
        ),
        "vlan" => ("\"vlan.v\", \"route\"", "[vlan.v]\naction = \"pop\""),
        "mirror" => ("\"mirror.m\", \"route\"", "[mirror.m]\nto = \"out\""),
        "wireguard-open" => ("\"wireguard-open.w\", \"route\"", WIREGUARD),
        "wireguard-seal" => ("\"wireguard-seal.w\", \"route\"", WIREGUARD),
        "drop" => ("\"drop\"", ""),
        "punt" => ("\"punt\"", ""),
        _ => return None,
    })
}

/// A filter that is no router's.
const WIRE: (&str, &str) = (
    "\"filter.f\", \"patch.w\"",
    "[filter.f]\nrules = [{ accept = true }]\n[patch.w]\npairs = { in = \"out\", office = \"office\" }",
);

fn pipeline(stages: &str, tables: &str) -> Spec {
    spec(&format!("[pipeline.p]\ninput = [\"in\", \"office\"]\nstages = [{stages}]\n{tables}\n"))
}

#[test]
fn every_kind_of_stage_says_something_of_every_packet_that_it_meets() {
    let mut met = BTreeSet::new();
    let kinds = STAGES.iter().map(|kind| {
        let example = example(kind.name);
        let why = || panic!("`{}` needs an example here, and `Stage::explain`", kind.name);
        (kind.name, example.unwrap_or_else(why))
    });
    for (kind, (stages, tables)) in kinds.chain([("filter", WIRE)]) {
        let spec = pipeline(stages, tables);
        // With two workers there is an `owner` as well.
        let places: Vec<_> = plan(&spec, 2).concat();
        assert!(
            places.iter().any(|place| place.label.split('.').next() == Some(kind)),
            "the example of `{kind}` does not have it"
        );
        for place in &places {
            met.insert(match place.work {
                Work::Parse => "parse",
                Work::Inspect => "inspect",
                Work::Owner => "owner",
                Work::Stage(_) => "",
            });
        }
        for packet in [
            "tcp 10.1.0.5:40000 -> 10.2.0.80:443",
            "udp [fd01::5]:40000 -> [fd02::80]:443",
            "icmp 10.1.0.5 -> 10.2.0.1 vlan=7",
            "udp 10.1.0.5 -> 10.2.0.1 frag=64+ id=9",
            "icmp 10.9.0.9 -> 10.1.0.5 type=3/1 about tcp 10.1.0.5:40000 -> 10.2.0.80:443",
            "47 192.0.2.2 -> 192.0.2.1",
            "udp 10.1.0.5:1 -> 10.2.0.1:2 size=2000 ttl=1",
        ] {
            for worker in 0..2 {
                let mut lab = Lab::new(&spec, 2);
                lab.snapshot.assign(worker);
                let found = lab.ask(0, packet);
                for step in &found.steps {
                    assert!(
                        !step.matched.is_empty() || !step.changed.is_empty(),
                        "{kind}, {packet}: `{}` says nothing",
                        step.stage
                    );
                    assert!(step.matched.iter().chain(&step.changed).all(|line| !line.is_empty()));
                }
            }
        }
    }
    assert_eq!(met, ["", "inspect", "owner", "parse"].into());
}

#[test]
fn the_verdict_and_the_bytes_are_those_that_the_packet_would_have() {
    for kind in STAGES {
        let Some((stages, tables)) = example(kind.name) else { continue };
        let spec = pipeline(stages, tables);
        let (mut asked, mut sent) = (Lab::new(&spec, 1), Lab::new(&spec, 1));
        for packet in [
            "tcp 10.1.0.5:40000 -> 10.2.0.80:443",
            "tcp 10.1.0.5:40000 -> 10.2.0.80:443 flags=ack",
            "udp [fd01::5]:40000 -> [fd02::80]:443 vlan=7",
            "udp 10.1.0.5:1 -> 10.2.0.1:2 vlan=8",
            "udp 10.1.0.5:1 -> 10.2.0.1:2 size=2000",
            "udp 10.1.0.5:1 -> 10.2.0.1:2 ttl=1",
            "udp 10.1.0.5:1 -> 10.2.0.1:2 frag=0+ id=3",
            "udp 10.1.0.5 -> 10.2.0.1 frag=40 id=3",
        ] {
            let found = asked.ask(0, packet);
            let (verdict, bytes) = sent.send(0, packet);
            assert_eq!(found.verdict, verdict, "{}, {packet}", kind.name);
            if let Some(Step { place: Place::Out(_), matched, changed, .. }) = found.steps.last() {
                let said = matched.iter().chain(changed).next();
                assert_eq!(said, Some(&describe(&bytes)), "{}, {packet}", kind.name);
            }
        }
    }
}

/// What is said at the stage of that label.
fn said(found: &Trace, label: &str) -> (Vec<String>, Vec<String>) {
    let step = found.steps.iter().find(|step| step.stage == label);
    let step = step.unwrap_or_else(|| panic!("no `{label}` in {found:?}"));
    (step.matched.clone(), step.changed.clone())
}

#[test]
fn frames_are_told_apart_by_their_tags_where_vlans_are_ports() {
    let mut lab = Lab::new(
        &spec(
            "[pipeline.p]\ninput = [\"office\"]\nstages = [\"patch.w\"]\n[patch.w]\npairs = { office = \"office\" }\n",
        ),
        1,
    );
    let office = PortId(2);
    let found = lab.ask(0, "udp 10.1.0.5:1 -> 10.2.0.1:2 vlan=7");
    assert_eq!((found.port, found.verdict), (office, Verdict::Transmit(PortId(0))));
    let (matched, changed) = said(&found, "arrives");
    assert_eq!(matched, ["udp 10.1.0.5:1 -> 10.2.0.1:2 vlan=7", "tag 7; VLANs here: 7"]);
    assert_eq!(changed, ["udp 10.1.0.5:1 -> 10.2.0.1:2"]);
    let (matched, changed) = said(&found, "leaves");
    assert_eq!((matched.len(), changed), (0, vec!["udp 10.1.0.5:1 -> 10.2.0.1:2 vlan=7".to_owned()]));

    let found = lab.ask(0, "udp 10.1.0.5:1 -> 10.2.0.1:2 vlan=8");
    assert_eq!(found.verdict, Verdict::Drop(DropReason::VlanUnknown));
    assert_eq!(found.steps.len(), 1);
    let found = lab.ask(0, "udp 10.1.0.5:1 -> 10.2.0.1:2");
    assert_eq!((found.port, found.verdict), (PortId(0), Verdict::Drop(DropReason::NoPipeline)));
    assert_eq!(
        said(&found, "arrives").0[1],
        "no tag: it is of the port itself, and of none of its VLANs (7)"
    );
}

#[test]
fn what_a_stage_makes_and_answers_is_said() {
    let mirror = "[mirror.m]\nto = \"out\"";
    let mut lab = Lab::new(&pipeline("\"mirror.m\", \"route\"", mirror), 1);
    let packet = "udp 10.1.0.5:1 -> 10.2.0.9:2 size=1600";
    let found = lab.ask(0, packet);
    let made: Vec<_> = found.steps.iter().map(|step| (step.stage.as_str(), step.made.clone())).collect();
    let copy = (packet.to_owned(), Verdict::Transmit(PortId(1)));
    let part = "udp 10.1.0.5 -> 10.2.0.9 ttl=63 frag=1480 size=128";
    assert_eq!(
        made,
        [
            ("arrives", vec![]),
            ("mirror.m", vec![copy]),
            ("parse", vec![]),
            ("route", vec![(part.to_owned(), Verdict::Transmit(PortId(1)))]),
            ("leaves", vec![])
        ]
    );
    assert!(
        said(&found, "route")
            .0
            .contains(&"its 1628 bytes are more than the 1500 that the port sends at once".to_owned())
    );

    let found = lab.ask(0, "udp 10.1.0.5:1 -> 10.2.0.9:2 ttl=1");
    let (_, changed) = said(&found, "route");
    assert!(changed[0].starts_with("answered") && changed[1].contains("type=11/0 "), "{changed:?}");
}

#[test]
fn what_is_kept_of_a_flow_is_said_and_a_dropped_packet_leaves_nothing() {
    let (stages, tables) = example("nat").unwrap();
    let mut lab = Lab::new(&pipeline(stages, tables), 1);
    let open = "tcp 10.1.0.5:40000 -> 10.2.0.80:443";
    assert_eq!(said(&lab.ask(0, open), "track").0, ["no flow is known that it is of"]);
    let (matched, _) = said(&lab.ask(0, open), "track");
    assert_eq!(matched[0], "flow 0, begun as tcp 10.1.0.5:40000 -> 10.2.0.80:443");
    assert!(
        matched[1].starts_with("translated: its answers arrive as tcp 10.2.0.80:443 -> 10.2.0.1:"),
        "{matched:?}"
    );
    assert!(matched[2].starts_with("syn-sent, half open; this is of who began it;"), "{matched:?}");
    let about = "icmp 10.2.0.80 -> 10.1.0.5 type=3/1 about tcp 10.1.0.5:40001 -> 10.2.0.80:443";
    let (matched, _) = said(&lab.ask(0, about), "track");
    assert_eq!(
        matched,
        ["an ICMP error about tcp 10.1.0.5:40001 -> 10.2.0.80:443", "no flow that it is about is known"]
    );

    // Of a flow whose first packet is dropped behind the tracking nothing stays, as on the packet path.
    let mut lab = Lab::new(&pipeline("\"track\", \"drop\"", ""), 1);
    for _ in 0..2 {
        assert_eq!(said(&lab.ask(0, open), "track").0, ["no flow is known that it is of"]);
    }
}

#[test]
fn fragments_tell_what_is_known_of_their_datagram() {
    let mut lab = Lab::new(&pipeline("\"reassemble\", \"route\"", ""), 1);
    let later = "udp 10.1.0.5 -> 10.2.0.9 frag=40 id=3";
    let (matched, _) = said(&lab.ask(0, later), "reassemble");
    assert_eq!(matched, ["bytes 40 to 72 of its datagram, the last", "nothing of the datagram has come yet"]);
    let (matched, _) = said(&lab.ask(0, later), "reassemble");
    assert_eq!(matched[1], "its first fragment has not come yet; 1 wait for it");
    let found = lab.ask(0, "udp 10.1.0.5:1 -> 10.2.0.9:2 frag=0+ id=3");
    let (_, changed) = said(&found, "reassemble");
    assert!(
        changed.iter().any(|line| line.starts_with("what waited goes on behind it: udp 10.1.0.5 -> ")),
        "{changed:?}"
    );
    assert_eq!(said(&lab.ask(0, "udp 10.1.0.5:1 -> 10.2.0.9:2"), "reassemble").0, ["not a fragment"]);
}

#[test]
fn tunnels_and_tags_say_what_they_do() {
    let tunnel = "local = \"192.0.2.1\"\nremote = \"192.0.2.2\"";
    let tables = format!("[encap.e]\ntunnel = {{ vxlan = 7 }}\n{tunnel}");
    let mut lab = Lab::new(&pipeline("\"encap.e\", \"route\"", &tables), 1);
    let (matched, changed) = said(&lab.ask(0, "udp 10.1.0.5:1 -> 10.2.0.9:2"), "encap.e");
    assert_eq!(
        matched,
        [
            "into the tunnel VXLAN 7 (UDP port 4789) between 192.0.2.1 and 192.0.2.2",
            "the frame has 74 bytes, 110 with the outer headers; at most 1500 are sent"
        ]
    );
    assert!(changed.iter().any(|line| line.starts_with("udp 192.0.2.1:")), "{changed:?}");
    assert!(changed.contains(&"length 74 → 124 bytes".to_owned()), "{changed:?}");

    let tables = format!("[decap.d]\ntunnel = \"ipip\"\nunknown = \"drop\"\n{tunnel}");
    let mut lab = Lab::new(&pipeline("\"decap.d\", \"route\"", &tables), 1);
    let name = "the tunnel IP in IP between 192.0.2.1 and 192.0.2.2";
    for (packet, words) in [
        ("4 192.0.2.2 -> 192.0.2.1", format!("from {name}: 32 bytes are inside")),
        ("4 192.0.2.3 -> 192.0.2.1", format!("of the kind of {name}, to its end, and not of it")),
        ("4 192.0.2.2 -> 192.0.2.9", format!("none of the packets of {name}: it stays as it is")),
    ] {
        let (matched, _) = said(&lab.ask(0, packet), "decap.d");
        assert_eq!(matched, [words]);
    }

    let source = "[pipeline.p]\ninput = [\"out\"]\nstages = [\"vlan.v\", \"drop\"]\n[vlan.v]\naction = { set = 9 }\npriority = 5\n";
    let mut lab = Lab::new(&spec(source), 1);
    let (matched, changed) = said(&lab.ask(1, "udp 10.1.0.5:1 -> 10.2.0.9:2 vlan=7"), "vlan.v");
    assert_eq!(matched, ["the tag 7 gets VLAN 9, priority 5"]);
    assert_eq!(changed, ["udp 10.1.0.5:1 -> 10.2.0.9:2 vlan=9/5"]);
    let (matched, _) = said(&lab.ask(1, "udp 10.1.0.5:1 -> 10.2.0.9:2"), "vlan.v");
    assert_eq!(matched, ["no tag that could be changed"]);
}

#[test]
fn rates_are_said_with_what_they_make_of_the_packet() {
    let tables = "[police.p]\nrate = \"1Mbit\"\nburst = \"2000B\"\n[shape.s]\nrate = \"8kbit\"";
    let mut lab = Lab::new(&pipeline("\"police.p\", \"shape.s\", \"route\"", tables), 1);
    let packet = "udp 10.1.0.5:1 -> 10.2.0.9:2 size=1000";
    let found = lab.ask(0, packet);
    let (matched, _) = said(&found, "police.p");
    assert_eq!(
        matched,
        ["the meter of all packets, idle", "a token bucket of 1 Mbit/s, burst 2000 bytes", "green: goes on"]
    );
    assert!(said(&found, "shape.s").0[1].starts_with("a token bucket of 8 kbit/s, burst "), "{found:?}");
    let found = lab.ask(0, packet);
    assert_eq!(said(&found, "police.p").0[2], "red: is dropped");
    assert_eq!(found.verdict, Verdict::Drop(DropReason::Policed));
}
