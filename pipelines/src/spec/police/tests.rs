use super::*;
use crate::spec::{self, StageSpec};
use crate::stages::police::Fate;

const PORTS: &str = "[port.a]\nnetdev = \"a\"\n[port.b]\nnetdev = \"b\"\n";

/// A configuration with this table of `[police.p]`, and a shaper.
fn text(table: &str) -> String {
    format!(
        "{PORTS}[pipeline.p]\ninput = [\"a\", \"b\"]\nstages = [\"police.p\", \"shape.s\", \"route\"]\n\
         [shape.s]\nrate = \"1Gbit\"\n[police.p]\n{table}"
    )
}

fn read(table: &str) -> PoliceSpec {
    let spec = spec::parse(&text(table), "test").unwrap_or_else(|errors| panic!("{table}: {errors:?}")).spec;
    let again = spec::parse(&spec.to_toml(), "canonical")
        .unwrap_or_else(|errors| panic!("{}: {errors:?}", spec.to_toml()));
    assert_eq!(again.spec, spec, "the canonical text reads back");
    match &spec.pipelines[0].stages[0].spec {
        StageSpec::Police(police) => police.clone(),
        other => panic!("{other:?}"),
    }
}

fn errors(table: &str) -> String {
    match spec::parse(&text(table), "test") {
        Ok(_) => String::new(),
        Err(errors) => errors.iter().map(|error| format!("{}\n", error.message)).collect(),
    }
}

#[test]
fn a_rate_alone_is_a_token_bucket_for_all() {
    let police = read("rate = \"100Mbit\"");
    // 50 ms at 100 Mbit/s.
    assert_eq!(police.meter, MeterSpec::Token { rate: Rate::Bits(100_000_000), burst: 625_000 });
    assert_eq!((police.per, police.subjects, police.overhead, police.aware), (Per::All, 65_536, 0, false));
    assert_eq!(police.treatments, [Treatment::default(), Treatment::default(), Treatment::DROP]);
    assert!(police.meter().is_some() && police.adaptive().is_none());
}

#[test]
fn every_meter_reads_like_a_sentence() {
    let meter = |table: &str| {
        let police = read(table);
        assert!(police.meter().is_some());
        police.meter
    };
    let megabit = Rate::Bits(1_000_000);
    assert_eq!(
        meter("meter = \"leaky\"\nrate = \"1Mbit\"\nburst = \"0B\""),
        MeterSpec::Leaky { rate: megabit, burst: 0 }
    );
    assert_eq!(
        meter("meter = { srtcm = { excess-burst = \"1MiB\" } }\nrate = \"1Mbit\"\nburst = \"10KiB\""),
        MeterSpec::SrTcm { rate: megabit, burst: 10 << 10, excess: 1 << 20 }
    );
    assert_eq!(
        meter("meter = { srtcm = {} }\nrate = \"1Mbit\"\nburst = \"10KiB\""),
        MeterSpec::SrTcm { rate: megabit, burst: 10 << 10, excess: 10 << 10 }
    );
    assert_eq!(
        meter("meter = { trtcm = { peak = \"1.5Mbit\", peak-burst = \"2MiB\" } }\nrate = \"1Mbit\""),
        MeterSpec::TrTcm { rate: megabit, burst: 65_536, peak: Rate::Bits(1_500_000), peak_burst: 2 << 20 }
    );
    assert_eq!(
        meter("meter = { window = \"10s\" }\nrate = \"20kpps\""),
        MeterSpec::Window { rate: Rate::Packets(20_000), window: Duration::from_secs(10) }
    );
    assert_eq!(
        meter("meter = { adaptive = { follow = \"shape.s\", target = \"0.25%\" } }\nrate = \"1Mbit\""),
        MeterSpec::Adaptive {
            rate: megabit,
            burst: 65_536,
            floor: 10_000,
            target: TargetSpec::Loss(2_500),
            follow: "shape.s".to_owned(),
        }
    );
    assert_eq!(
        meter("rate = \"2kpps\"\nburst = \"7packets\""),
        MeterSpec::Token { rate: Rate::Packets(2_000), burst: 7 }
    );
}

#[test]
fn whose_meter_it_is_and_what_becomes_of_colours() {
    let police = read(
        "rate = \"1Mbit\"\nper = \"source/24/56\"\nsubjects = 1000\noverhead = 24\n\
         green = { mark = 7, dscp = 46 }\nyellow = \"ecn\"\nred = { mark = 1 }",
    );
    assert_eq!(police.per, Per::Source { v4: 24, v6: 56 });
    assert_eq!((police.subjects, police.overhead), (1000, 24));
    let marked = |mark, dscp| Treatment { fate: Fate::Pass, mark, dscp };
    let ecn = Treatment { fate: Fate::Congest, mark: None, dscp: None };
    assert_eq!(police.treatments, [marked(Some(7), Some(46)), ecn, marked(Some(1), None)]);
    for (text, per) in [
        ("all", Some(Per::All)),
        ("flow", Some(Per::Flow)),
        ("source", Some(Per::Source { v4: 32, v6: 64 })),
        ("source/16", Some(Per::Source { v4: 16, v6: 64 })),
        ("source/0/128", Some(Per::Source { v4: 0, v6: 128 })),
        ("source/33", None),
        ("source/24/129", None),
        ("source/24/48/1", None),
        ("source/", None),
        ("flow/3", None),
        ("", None),
    ] {
        assert_eq!(parse_per(text), per, "{text}");
        assert!(per.is_none_or(|per| parse_per(&show_per(per)) == Some(per)));
    }
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    for (table, part) in [
        ("rate = \"100\"", "is not a rate"),
        ("rate = \"0Mbit\"", "nothing at all"),
        ("burst = \"1MiB\"", "has no `rate`"),
        ("rate = \"1Mbit\"\nburst = \"5packets\"", "counts packets, and the rate counts bits"),
        ("rate = \"1kpps\"\nburst = \"1MiB\"", "counts bytes, and the rate counts packets"),
        ("rate = \"1Mbit\"\nburst = \"100B\"", "would never pass"),
        ("rate = \"1kbit\"\nburst = \"1GiB\"", "more than four hours"),
        ("rate = \"1Mbit\"\npeak = \"2Mbit\"", "unknown key `peak`"),
        ("rate = \"1Mbit\"\nmeter = { window = \"1s\" }\nburst = \"1MiB\"", "says nothing to a window"),
        ("rate = \"1kpps\"\nburst = \"0packets\"", "none would ever pass"),
        ("rate = \"1Mbit\"\nmeter = { trtcm = {} }", "has no `peak`"),
        (
            "rate = \"1Mbit\"\nmeter = { trtcm = { peak = \"1kbit\", peak-burst = \"2KiB\" } }",
            "is below the rate",
        ),
        ("rate = \"1Mbit\"\nmeter = { trtcm = { peak = \"1kpps\" } }", "count different things"),
        ("rate = \"1Mbit\"\nmeter = { adaptive = {} }", "has no `follow`"),
        (
            "rate = \"1Mbit\"\nmeter = { adaptive = { follow = \"shape.t\" } }",
            "no pipeline has the shaper \"shape.t\"",
        ),
        (
            "rate = \"1Mbit\"\nmeter = { adaptive = { follow = \"shape.s\", floor = \"2Mbit\" } }",
            "is above the rate",
        ),
        (
            "rate = \"1Mbit\"\nmeter = { adaptive = { follow = \"shape.s\", target = \"101%\" } }",
            "is not a target",
        ),
        ("rate = \"1Mbit\"\nper = \"sauce\"", "says not whose meter it is"),
        ("rate = \"1Mbit\"\nred = \"dorp\"", "cannot be \"dorp\""),
        ("rate = \"1Mbit\"\nred = { dscp = 64 }", "cannot be 64"),
    ] {
        let errors = errors(table);
        assert!(errors.contains(part), "{table}:\n{errors}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let errors = errors("rate = \"1Mbit\"\nburst = \"5packets\"\nper = \"x\"\nred = \"y\"\npeak = \"1s\"");
    assert!(errors.lines().count() >= 3, "{errors}");
}

#[test]
fn sources_and_flows_are_refused_where_frames_are_patched() {
    let text = |per: &str| {
        format!(
            "{PORTS}[pipeline.p]\ninput = [\"a\", \"b\"]\nstages = [\"police.p\", \"patch.w\"]\n\
             [patch.w]\npairs = [[\"a\", \"b\"]]\n[police.p]\nrate = \"1Mbit\"\nper = \"{per}\""
        )
    };
    assert!(spec::parse(&text("all"), "test").is_ok());
    for per in ["source", "flow"] {
        let errors = spec::parse(&text(per), "test").unwrap_err();
        assert!(errors[0].message.contains("tells sources or flows apart"), "{errors:?}");
        assert_eq!((errors.len(), errors[0].line), (1, 7));
    }
}
