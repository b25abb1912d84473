//! What bad configurations get: the exact text, for every kind of mistake.

use zsync_pipelines::spec::{Style, json_schema, parse, report};

mod devices;
mod keys;
mod ports;
mod quantities;
mod stages;
mod syntax;
mod unmeant;
mod values;

/// Two ports and a pipeline, to which a case adds its mistake.
const GOOD: &str = r#"[port.wan]
netdev = "eth1"
[port.lan]
netdev = "eth2"
[pipeline.forward]
input  = ["wan", "lan"]
stages = ["route"]
"#;

fn told(source: &str) -> String {
    match parse(source, "r.toml") {
        Ok(parsed) => report(&parsed.warnings, source, Style::Plain),
        Err(errors) => report(&errors, source, Style::Plain),
    }
}

#[track_caller]
fn check(source: &str, expected: &str) {
    // What there is grows with every kind of stage; it is the schema's list.
    let schema = json_schema();
    let names: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
    let told = told(source);
    let mut expected = expected.to_owned();
    for (place, begins, quote) in [("{sections}", "one of [engine]", "["), ("{kinds}", "one of `patch`", "`")]
    {
        if expected.contains(place) {
            let list = told.lines().find_map(|line| line.split_once(begins)).map(|(_, rest)| rest).unwrap();
            let of_schema =
                |name: &&&String| list.contains(&format!("{quote}{name}")) || begins.contains(name.as_str());
            let stages = names
                .iter()
                .filter(|name| !["engine", "control", "port", "pipeline", "set"].contains(&name.as_str()));
            assert!(stages.clone().all(|name| of_schema(&name)), "{list}");
            expected = expected.replace(place, &format!("{}{list}", begins.trim_start_matches("one of ")));
        }
    }
    assert_eq!(told, expected, "\n{told}");
}
