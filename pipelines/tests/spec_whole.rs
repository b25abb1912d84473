//! Whole configurations: what they become, all mistakes of one file at once, what changes, and the examples.

use std::time::Duration;

use zsync_pipelines::spec::{
    Amount, Effect, Failover, Layer, Mark, Mode, Parsed, PortId, Spec, StageSpec, Steer, Style, Workers,
    diff, parse, report,
};

fn spec(source: &str) -> Spec {
    match parse(source, "w.toml") {
        Ok(Parsed { spec, .. }) => spec,
        Err(errors) => panic!("{}", report(&errors, source, Style::Plain)),
    }
}

const ROUTER: &str = r#"
[port.wan]
netdev = "eth1"
[port.lan]
netdev = "eth2"
[port.dmz]
netdev = "eth3"
[pipeline.forward]
input  = ["wan", "lan"]
stages = ["route.main"]
[pipeline.wire]
input  = ["dmz"]
stages = ["patch.out"]
[route.main]
[patch.out]
pairs = { dmz = "wan" }
"#;

#[test]
fn defaults_and_ids() {
    let spec = spec(ROUTER);
    let names: Vec<_> = spec.ports.iter().map(|port| (port.name.as_str(), port.id.0)).collect();
    assert_eq!(names, [("wan", 2), ("lan", 1), ("dmz", 0)]);
    assert_eq!(spec.port("lan").map(|port| port.id), Some(PortId(1)));
    assert_eq!(spec.port_by_id(PortId(2)).map(|port| port.netdev.as_str()), Some("eth1"));
    assert_eq!(spec.port("none"), None);

    assert_eq!(spec.engine.workers, Workers::Auto);
    assert_eq!((spec.engine.frame_size, spec.engine.frames), (2048, Amount::Auto));
    assert_eq!((spec.engine.user.as_str(), spec.control.admin_group.as_str()), ("nobody", "zsync-admin"));
    let wan = spec.port("wan").unwrap();
    assert_eq!((wan.grace, wan.failover, wan.mode), (Duration::from_millis(250), Failover::Open, Mode::Auto));
    assert_eq!((wan.ring_size, wan.queues), (4096, Amount::Auto));
    assert_eq!((&wan.steer, wan.block.len()), (&Steer::All, 0));
    assert!(!wan.busy_poll && !wan.replace && !wan.promiscuous);

    let [forward, wire] = spec.pipelines.as_slice() else { panic!("{:?}", spec.pipelines) };
    assert_eq!((forward.inputs.as_slice(), forward.layer()), (&[PortId(2), PortId(1)][..], Layer::L3));
    assert_eq!(forward.stages[0].label, "route.main");
    assert_eq!(forward.stages[0].spec, StageSpec::Route { table: 254, by_mark: Vec::new() });
    assert_eq!(wire.layer(), Layer::L2);
    assert_eq!(wire.stages[0].spec, StageSpec::Patch { map: vec![Some(PortId(2)), None, None] });
    assert_eq!(spec.pipeline_of(PortId(0)).map(|pipeline| pipeline.name.as_str()), Some("wire"));
}

#[test]
fn pairs_go_both_ways() {
    let spec = spec(
        "[port.a]\nnetdev = \"a\"\n[port.b]\nnetdev = \"b\"\n[port.c]\nnetdev = \"c\"\n\
         [pipeline.w]\ninput = [\"a\", \"c\"]\nstages = [\"patch.w\"]\n[patch.w]\npairs = [[\"c\", \"a\"]]\n",
    );
    assert_eq!(
        spec.pipelines[0].stages[0].spec,
        StageSpec::Patch { map: vec![Some(PortId(2)), None, Some(PortId(0))] }
    );
}

#[test]
fn dotted_keys_and_inline_tables_are_the_same_file() {
    let inline = "port.wan.netdev = \"eth1\"\nport.lan = { netdev = \"eth2\" }\nport.dmz.netdev = \"eth3\"\n\
         pipeline.forward = { input = [\"wan\", \"lan\"], stages = [\"route.main\"] }\n\
         pipeline.wire = { input = [\"dmz\"], stages = [\"patch.out\"] }\n\
         route.main = {}\npatch.out.pairs.dmz = \"wan\"\n";
    assert_eq!(spec(inline), spec(ROUTER));
}

#[test]
fn eight_mistakes_at_once_in_the_order_of_the_file() {
    let source = r#"[engine]
idle = "spinning"
[port.wan]
netdev = "eth1"
quues  = 4
grace  = "250"
block  = ["192.0.2.1/24"]
[port.lan]
netdev = "eth1"
[pipeline.forward]
input  = ["wan", "lna"]
stages = ["route.mian", "drop"]
[route.main]
[filter.edge]
"#;
    let errors = parse(source, "w.toml").unwrap_err();
    let told: Vec<(u32, u32, &str)> = errors.iter().map(|e| (e.line, e.column, e.message.as_str())).collect();
    assert_eq!(
        told,
        [
            (2, 8, "`engine.idle` cannot be \"spinning\""),
            (5, 1, "unknown key `quues` in [port.wan]"),
            (6, 10, "`port.wan.grace`: \"250\" is not a duration: no unit: write ms, s, m, h or d"),
            (7, 11, "`port.wan.block`: \"192.0.2.1/24\" has bits set past its 24 leading bits"),
            (9, 10, "device \"eth1\" is port \"wan\" already"),
            (11, 18, "there is no port \"lna\""),
            (12, 11, "there is no table [route.mian]"),
            (14, 2, "unknown section `filter`"),
        ]
    );
    for error in &errors {
        assert!(error.render(source).starts_with(&format!("error: {}\n", error.message)));
    }
    let applied = |error: &zsync_pipelines::spec::Diagnostic| error.suggestion.clone();
    assert_eq!(applied(&errors[1]).as_deref(), Some("queues"));
    assert_eq!(applied(&errors[3]).as_deref(), Some("\"192.0.2.0/24\""));
    assert_eq!(applied(&errors[5]).as_deref(), Some("\"lan\""));
    assert_eq!(applied(&errors[6]).as_deref(), Some("\"route.main\""));
}

#[test]
fn a_suggestion_put_in_place_of_the_span_mends_the_file() {
    let mut source =
        ROUTER.replace("\"lan\"", "\"lna\"").replace("netdev = \"eth3\"", "netdev = \"eth3\"\nmode = copy");
    source = source.replace("stages = [\"route.main\"]", "stages = [\"route.mian\"]");
    let errors = parse(&source, "w.toml").unwrap_err();
    assert_eq!(errors.len(), 3);
    for error in errors.iter().rev() {
        source.replace_range(error.span.clone(), error.suggestion.as_deref().unwrap());
    }
    assert_eq!(spec(&source).port("dmz").unwrap().mode, Mode::Copy);
}

#[test]
fn too_many() {
    let ports =
        |count: usize| (0..count).map(|n| format!("[port.p{n}]\nnetdev = \"e{n}\"\n")).collect::<String>();
    assert_eq!(spec(&ports(64)).ports.len(), 64);
    let source = format!("{}[pipeline.x]\ninput = [\"p64\"]\nstages = [\"drop\"]\n", ports(65));
    let errors = parse(&source, "w.toml").unwrap_err();
    assert_eq!(errors.len(), 1, "{}", report(&errors, &source, Style::Plain));
    assert_eq!((errors[0].line, errors[0].message.as_str()), (129, "there are 65 tables [port.NAME]"));

    let mut pipelines = String::new();
    for n in 0..65 {
        pipelines.push_str(&format!("[pipeline.x{n}]\ninput = [\"p{}\"]\nstages = [\"drop\"]\n", n % 64));
    }
    let errors = parse(&(ports(64) + &pipelines), "w.toml").unwrap_err();
    assert!(errors.iter().any(|error| error.message == "there are 65 tables [pipeline.NAME]"));

    let huge = "#".repeat(zsync_pipelines::spec::MAX_SOURCE + 1);
    assert_eq!(parse(&huge, "w.toml").unwrap_err().len(), 1);
}

#[test]
fn changes_and_what_they_take() {
    let old = spec(ROUTER);
    let new = spec(
        r#"
[engine]
workers = [2, 3]
frames = 65536
[control]
read-group = "wheel"
[port.wan]
netdev = "eth1"
grace  = "500ms"
steer  = { ports = ["udp/53", "tcp/443"] }
block  = ["192.0.2.0/24", "2001:db8::/32"]
ring-size = 1024
[port.lan]
netdev = "eth2"
busy-poll = true
[port.guest]
netdev = "eth3"
[pipeline.forward]
input  = ["lan", "wan", "guest"]
stages = ["route"]
"#,
    );
    let changes = diff(&old, &new);
    let told: Vec<String> = changes.iter().map(|change| format!("{change} | {}", change.effect)).collect();
    assert_eq!(
        told,
        [
            "~ control.read-group: zsync → wheel | live",
            "~ engine.workers: auto → [2, 3] | restarts the data plane",
            "~ engine.frames: auto → 65536 | reopens every port",
            "- patch.out | live",
            "~ pipeline.forward.input: +guest | live",
            "~ pipeline.forward.stages: [\"route.main\"] → [\"route\"] | live",
            "- pipeline.wire | live",
            "- port.dmz | restarts the data plane",
            "+ port.guest | restarts the data plane",
            "~ port.lan.busy-poll: false → true | restarts the data plane",
            "~ port.wan.steer: all → { ports = [\"udp/53\", \"tcp/443\"] } | live",
            "~ port.wan.block: +192.0.2.0/24, +2001:db8::/32 | live",
            "~ port.wan.grace: 250ms → 500ms | live",
            "~ port.wan.ring-size: 4096 → 1024 | reopens port wan",
            "- route.main | live",
        ]
    );
    assert_eq!(changes[7].mark, Mark::Removed);
    assert_eq!(changes[13].effect, Effect::Reopen("wan".into()));
    assert!(changes.iter().map(|change| &change.effect).max() == Some(&Effect::Rebuild));
    assert_eq!(diff(&new, &new), []);
}

#[test]
fn the_order_of_a_file_is_no_change_and_long_lists_are_cut() {
    let swapped = ROUTER
        .replace("[\"wan\", \"lan\"]", "[\"lan\", \"wan\"]")
        .replace("[port.dmz]\nnetdev = \"eth3\"\n", "");
    let swapped = format!("[port.dmz]\nnetdev = \"eth3\"\n{swapped}");
    let changes = diff(&spec(ROUTER), &spec(&swapped));
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!(changes[0].to_string(), "~ pipeline.forward.input: [\"wan\", \"lan\"] → [\"lan\", \"wan\"]");

    let blocks: Vec<String> = (0..9).map(|n| format!("\"10.{n}.0.0/16\"")).collect();
    let blocked = ROUTER.replace("\"eth1\"", &format!("\"eth1\"\nblock = [{}]", blocks.join(", ")));
    let changes = diff(&spec(ROUTER), &spec(&blocked));
    let told = "~ port.wan.block: +10.0.0.0/16, +10.1.0.0/16, +10.2.0.0/16, +10.3.0.0/16, +5 more";
    assert_eq!(changes[0].to_string(), told);
}

#[test]
fn the_examples_parse_without_warnings() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let source = std::fs::read_to_string(&path).unwrap();
            let parsed = parse(&source, &path.to_string_lossy());
            let told = match &parsed {
                Ok(parsed) => report(&parsed.warnings, &source, Style::Plain),
                Err(errors) => report(errors, &source, Style::Plain),
            };
            assert_eq!(told, "");
            seen += 1;
        }
    }
    assert!(seen >= 2);
}
