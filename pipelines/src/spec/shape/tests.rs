use super::*;
use crate::spec::{self, StageSpec};

fn text(table: &str) -> String {
    format!(
        "[port.a]\nnetdev = \"a\"\n[pipeline.p]\ninput = [\"a\"]\nstages = [\"shape.s\", \"route\"]\n[shape.s]\n{table}"
    )
}

fn read(table: &str) -> ShapeSpec {
    let spec = spec::parse(&text(table), "test").unwrap_or_else(|errors| panic!("{table}: {errors:?}")).spec;
    let again = spec::parse(&spec.to_toml(), "canonical")
        .unwrap_or_else(|errors| panic!("{}: {errors:?}", spec.to_toml()));
    assert_eq!(again.spec, spec, "the canonical text reads back");
    match &spec.pipelines[0].stages[0].spec {
        StageSpec::Shape(shape) => shape.clone(),
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
fn a_rate_alone_has_defaults_for_the_rest() {
    let shape = read("rate = \"1Gbit\"");
    let ms = Duration::from_millis;
    assert_eq!((shape.rate, shape.burst), (Rate::Bits(1_000_000_000), 125_000));
    assert_eq!((shape.limit, shape.mark, shape.per), (ms(100), Some(ms(25)), Per::All));
    assert_eq!(read("rate = \"1Mbit\"").burst, 4096);
    assert_eq!(read("rate = \"100pps\"").burst, 1);
    let state = Region::heap(shape.state_bytes());
    assert!(shape.stage(state, 2, HashKey::from_seed(1)).is_some());
}

#[test]
fn marks_are_off_at_a_time_or_at_a_quarter_of_the_limit() {
    let mark = |table: &str| read(&format!("rate = \"1Gbit\"\nlimit = \"2s\"\n{table}")).mark;
    assert_eq!(mark("ecn = false"), None);
    assert_eq!(mark("ecn = true"), Some(Duration::from_millis(500)));
    assert_eq!(mark("ecn = \"5ms\""), Some(Duration::from_millis(5)));
    assert_eq!(read("rate = \"1Gbit\"\nlimit = \"1ms\"").mark, Some(Duration::from_millis(1)));
    assert_eq!(read("rate = \"1Gbit\"\nlimit = \"7ms\"").mark, Some(Duration::from_millis(1)));
}

#[test]
fn sources_and_flows() {
    let shape = read("rate = \"5kpps\"\nburst = \"9packets\"\nper = \"flow\"\nsubjects = 128\noverhead = 24");
    assert_eq!((shape.per, shape.subjects, shape.overhead, shape.burst), (Per::Flow, 128, 24, 9));
    assert_eq!(shape.state_bytes(), Shape::bytes(Per::Flow, 128));
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    for (table, part) in [
        ("limit = \"1s\"", "has no `rate`"),
        ("rate = \"1Gbit\"\nlimit = \"5s\"", "is too long"),
        ("rate = \"1Gbit\"\nlimit = \"5ms\"\necn = \"6ms\"", "is more than the limit"),
        ("rate = \"1Gbit\"\nburst = \"64B\"", "would never pass"),
        ("rate = \"1kbit\"\nburst = \"1GiB\"", "more than four hours"),
        ("rate = \"1Gbit\"\nburst = \"3packets\"", "counts packets"),
    ] {
        let errors = errors(table);
        assert!(errors.contains(part), "{table}:\n{errors}");
    }
}
