//! Requests as they are written and read, and what is said of those that are wrong.

use super::*;
use clap::ValueEnum as _;

fn every() -> Vec<Request> {
    let source = Source { config: "[port.a]\n\"\u{1b}é".into(), file: "a.toml".into(), confirm_ms: None };
    vec![
        Request::Status,
        Request::Show(Show {
            what: What::Fib,
            prefix: Some("10.0.0.0/8".into()),
            limit: Some(3),
            ..Show::default()
        }),
        Request::Plan(source.clone()),
        Request::Apply(Source { confirm_ms: Some(60_000), ..source }),
        Request::Confirm,
        Request::Rollback(Rollback { to: Some(7) }),
        Request::Explain(Explain {
            packet: Some("udp 10.0.0.1:1 -> 10.0.0.2:2".into()),
            frames: Some(vec!["00ff".into()]),
            input: Some("wan".into()),
        }),
        Request::RestartDataplane,
        Request::Drain(Drain {
            backend: "10.0.0.1:443".into(),
            stage: Some("balance.web".into()),
            undo: true,
        }),
    ]
}

#[test]
fn what_is_written_is_read() {
    for (id, request) in (u64::MAX - 10..).zip(every()) {
        let line = request.line(id);
        assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
        assert_eq!(Request::read(&line), Ok((id, request)));
    }
    let flows = Request::Show(Show {
        what: What::Flows,
        limit: Some(Show::MAX_ROWS),
        stage: Some("track.flows".into()),
        address: Some("2001:db8::/32".into()),
        ..Show::default()
    });
    let line = flows.line(1);
    assert!(String::from_utf8_lossy(&line).contains(r#""match":"2001:db8::/32""#));
    assert_eq!(Request::read(&line), Ok((1, flows)));
}

#[test]
fn the_tables_agree_with_the_types() {
    assert_eq!(every().len(), METHODS.len());
    for (request, (name, keys)) in every().into_iter().zip(METHODS) {
        // No table takes all of its keys.
        let request = match request {
            Request::Show(show) => {
                let (stage, address) = (Some("track".into()), Some("10.0.0.1".into()));
                Request::Show(Show { stage, address, ..show })
            }
            request => request,
        };
        assert_eq!(request.method(), *name);
        let value: Value = serde_json::from_slice(&request.line(1)).unwrap();
        assert_eq!(value["method"], *name);
        let written = value["params"].as_object().map(|p| p.keys().cloned().collect()).unwrap_or_default();
        let (mut written, mut keys): (Vec<String>, Vec<&str>) = (written, keys.to_vec());
        written.sort();
        keys.sort_unstable();
        assert_eq!(written, keys, "{name}");
    }
    let names: Vec<String> = What::value_variants()
        .iter()
        .map(|w| serde_json::to_value(w).unwrap().as_str().unwrap().into())
        .collect();
    assert_eq!(names, What::NAMES);
    let named: Vec<&str> = What::value_variants().iter().map(|what| what.name()).collect();
    assert_eq!(named, What::NAMES);
}

#[test]
fn parameters_may_be_left_out_where_they_have_a_default() {
    let read = |line: &str| Request::read(line.as_bytes()).map(|(_, request)| request);
    assert_eq!(read(r#"{"id":1,"method":"rollback"}"#), Ok(Request::Rollback(Rollback::default())));
    assert_eq!(read(r#"{"id":1,"method":"status","params":null}"#), Ok(Request::Status));
    assert_eq!(read("{\"id\":1,\"method\":\"confirm\",\"params\":{}}\r\n"), Ok(Request::Confirm));
}

#[test]
fn what_is_wrong_is_named() {
    use Code::{BadParams, Malformed, UnknownMethod};
    for (line, id, code, says) in [
        ("", None, Malformed, "no JSON"),
        ("[1]", None, Malformed, "no JSON object"),
        (r#"{"method":"status"}"#, None, Malformed, "`id`"),
        (r#"{"id":-1,"method":"status"}"#, None, Malformed, "`id`"),
        (r#"{"id":1}"#, Some(1), Malformed, "`method`"),
        (r#"{"id":1,"method":"status","parms":{}}"#, Some(1), Malformed, "did you mean `params`?"),
        (r#"{"id":1,"method":"shwo"}"#, Some(1), UnknownMethod, "did you mean `show`?"),
        (r#"{"id":1,"method":"show","params":[]}"#, Some(1), BadParams, "no JSON object"),
        (r#"{"id":1,"method":"show"}"#, Some(1), BadParams, "`what`"),
        (r#"{"id":1,"method":"show","params":{"waht":"ports"}}"#, Some(1), BadParams, "did you mean `what`?"),
        (
            r#"{"id":1,"method":"show","params":{"what":"prots"}}"#,
            Some(1),
            BadParams,
            "did you mean `ports`?",
        ),
        (r#"{"id":1,"method":"show","params":{"what":3}}"#, Some(1), BadParams, "`show`"),
        (r#"{"id":1,"method":"show","params":{"what":"fib","limit":-1}}"#, Some(1), BadParams, "u32"),
        (r#"{"id":1,"method":"show","params":{"what":"fib","limit":100001}}"#, Some(1), BadParams, "100000"),
        (r#"{"id":1,"method":"show","params":{"what":"fib","prefix":"x"}}"#, Some(1), BadParams, "`prefix`"),
        (r#"{"id":1,"method":"show","params":{"what":"ports","limit":1}}"#, Some(1), BadParams, "`fib`"),
        (r#"{"id":1,"method":"show","params":{"what":"flows","limit":10001}}"#, Some(1), BadParams, "10000"),
        (r#"{"id":1,"method":"show","params":{"what":"flows","match":"x"}}"#, Some(1), BadParams, "`match`"),
        (
            r#"{"id":1,"method":"show","params":{"what":"filters","match":"::"}}"#,
            Some(1),
            BadParams,
            "`flows`",
        ),
        (r#"{"id":1,"method":"show","params":{"what":"flows","prefix":"::"}}"#, Some(1), BadParams, "`fib`"),
        (
            r#"{"id":1,"method":"show","params":{"what":"fib","stage":"nat.a"}}"#,
            Some(1),
            BadParams,
            "`stage`",
        ),
        (r#"{"id":1,"method":"status","params":{"x":1}}"#, Some(1), BadParams, "no parameters"),
        (
            r#"{"id":1,"method":"plan","params":{"config":"","file":"f","confirm-ms":1}}"#,
            Some(1),
            BadParams,
            "confirm-ms",
        ),
        (
            r#"{"id":1,"method":"apply","params":{"config":"","file":"f","confirm-ms":999}}"#,
            Some(1),
            BadParams,
            "1000",
        ),
        (r#"{"id":1,"method":"apply","params":{"config":""}}"#, Some(1), BadParams, "`file`"),
    ] {
        let (got, error) = Request::read(line.as_bytes()).unwrap_err();
        let text = format!("{} {}", error.message, error.remedy.as_deref().unwrap_or_default());
        assert_eq!((got, error.code), (id, code), "{line}: {text}");
        assert!(text.contains(says), "{line}: {text}");
    }
    let deep = "[".repeat(1 << 20);
    assert!(Request::read(deep.as_bytes()).is_err());
}
