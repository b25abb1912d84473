//! The schema, the decoder, the canonical text and `diff` know the same keys with the same values.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use zsync_pipelines::spec::{Diagnostic, Parsed, Style, TextFile, diff, json_schema, parse_with, report};

/// Every key there is, none at its default. One key a line, as the tests take lines out.
const FULL: &str = r#"
[engine]
workers = 2
idle = "spin"
frame-size = 4096
frames = 65536
user = "zsync"
huge-pages = "never"
[control]
admin-group = "wheel"
read-group = "staff"
[port.a]
netdev = "eth1"
queues = 2
steer = { prefixes = ["10.0.0.0/8", "2001:db8::/32"] }
block = ["192.0.2.0/24"]
xdp = [{ object = "a.o", program = "b", params = { c = 1 } }]
failover = "closed"
grace = "2s"
mode = "copy"
ring-size = 1024
busy-poll = true
replace = true
promiscuous = true
vlans = { guest = 100 }
[port.b]
netdev = "eth2"
[port.own]
netdev = "w0"
device = "tun"
mtu = 1400
addresses = ["10.9.0.1/24", "fd09::1/64"]
[port.sock]
device = "udp"
listen = "[::]:51820"
io-uring = true
[pipeline.p]
input = ["a", "own"]
stages = ["mirror.m", "vlan.v", "reassemble.s", "decap.d", "wireguard-open.w", "filter.f", "filter.g", "police.l", "shape.s", "track.t", "nat.n", "balance.b", "encap.e", "wireguard-seal.w", "route.r"]
[pipeline.q]
input = ["b"]
stages = ["patch.w"]
[pipeline.r]
input = ["sock"]
stages = ["wireguard-open.v", "wireguard-seal.v", "drop"]
[mirror.m]
to = "b"
one-in = 100
mark = 7
snap = 128
ring = 65536
[vlan.v]
of = 10
action = { set = 20 }
priority = 3
tag = "802.1ad"
[reassemble.s]
datagrams = 1024
timeout = "5s"
[decap.d]
tunnel = { vxlan = 100 }
local = "192.0.2.1"
remote = "192.0.2.2"
udp-port = 8472
to = { port = "b" }
unknown = "drop"
[encap.e]
tunnel = { vxlan = 101 }
local = "192.0.2.3"
remote = "192.0.2.4"
udp-port = 8473
ttl = 32
dscp = 10
udp-checksum = "always"
mtu = 9000
[wireguard.w]
private-key-file = "keys/w"
listen-port = 51821
local = ["192.0.2.9", "2001:db8::9"]
mtu = 1380
max-peers = 100
dscp = 46
peers = [{ public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", preshared-key-file = "keys/p", endpoint = "[2001:db8::1]:51820", allowed-ips = ["10.8.0.0/24", "fd00::1"], keepalive = "25s" }]
[balance.b]
vip = ["192.0.2.80"]
service = ["tcp/443", "udp/5000-5999"]
forward = "direct"
backends = [{ address = "10.0.0.1", weight = 3, drain = true }]
health = { http = "/up", host = "www.example.com", status = "200", port = 80, interval = "3s", timeout = "2s", rise = 4, fall = 5 }
source = ["10.8.0.0/24"]
gue-port = 7000
table = 102
entries = 101
connections = 1000
tcp-idle = "100s"
udp-idle = "50s"
seed = 9
[wireguard.v]
private-key-file = "keys/v"
local = ["192.0.2.10"]
to = { port = "sock" }
[route.r]
table = 100
by-mark = { 7 = 9 }
[police.l]
meter = { srtcm = { excess-burst = "2MiB" } }
rate = "100Mbit"
burst = "1MiB"
per = "source/24/56"
subjects = 1024
overhead = 24
colour-aware = true
green = { dscp = 10 }
yellow = { dscp = 12, mark = 2 }
red = "ecn"
[shape.s]
rate = "20kpps"
burst = "100packets"
limit = "50ms"
ecn = "5ms"
per = "flow"
subjects = 2048
overhead = 20
[nat.n]
masquerade = [{ output = "b", from = ["10.0.0.0/8", "fd00::1"] }]
snat = [{ from = "10.0.0.0/8", to = ["203.0.113.0/28", "2001:db8::7"] }, { output = "a", to = "203.0.113.1" }]
forward = [{ to = "203.0.113.1", port = "tcp/443", target = "10.0.0.5:8443" }]
static = [{ internal = "10.0.0.8", external = "203.0.113.8" }]
prefix = [{ internal = "fd00:1::/48", external = "2001:db8:1::/48", output = "b" }]
table = 101
filtering = "endpoint-independent"
ports = "10000-59999"
block = 64
blocks-per-client = 2
mappings = 1024
[track.t]
capacity = 1000
translations = 500
half-open = 20
per-source = 30
drop-invalid = false
loose = false
liberal = true
windows = false
tcp-syn-sent = "1s"
tcp-syn-received = "2m"
tcp-established = "3h"
tcp-fin-wait = "4s"
tcp-close-wait = "5s"
tcp-last-ack = "6s"
tcp-time-wait = "7s"
tcp-close = "8s"
tcp-retransmission = "9s"
tcp-unacknowledged = "11s"
udp = "12s"
udp-stream = "13s"
icmp = "14s"
other = "15s"
[filter.f]
default = "accept"
non-ip = "drop"
rules = [{ accept = true, from = "set.s", to-port = "80..443", protocol = ["tcp", "udp"], input = "a" }, { count = "all", mark = "0x10/0xf0" }]
[filter.g]
default = "reject"
rules = [{ drop = true, to = "set.s", icmp = "3/4", protocol = "icmp", vlan = ["none", 7], state = ["new", "invalid"] }]
[set.s]
prefixes = ["192.0.2.0/24", "2001:db8::/32"]
file = "more.txt"
[patch.w]
pairs = { b = "a" }
"#;

/// Reads a source whose files have one prefix.
fn read(source: &str) -> Result<Parsed, Vec<Diagnostic>> {
    parse_with(source, "x", &mut |path| Ok(TextFile { name: path.to_owned(), text: "203.0.113.0/24".into() }))
}

/// The section's key tables in the schema: the section's name and its table's schema.
fn sections(schema: &Value) -> Vec<(String, Value)> {
    let table = |section: &Value| {
        let named = section.get("patternProperties").and_then(Value::as_object);
        named.and_then(|patterns| patterns.values().next()).unwrap_or(section).clone()
    };
    schema["properties"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, section)| (name.clone(), table(section)))
        .collect()
}

#[test]
fn every_key_of_the_schema_is_read_written_and_compared() {
    let full = read(FULL).unwrap_or_else(|errors| panic!("{}", report(&errors, FULL, Style::Plain)));
    let mut known: BTreeSet<(String, String)> = BTreeSet::new();
    for (section, table) in sections(&json_schema()) {
        known.extend(
            table["properties"].as_object().unwrap().keys().map(|key| (section.clone(), key.clone())),
        );
    }
    let mut tried = BTreeSet::new();
    let (mut section, mut header) = ("", "");
    for line in FULL.lines().filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix('[') {
            header = name.trim_end_matches(']');
            section = header.split('.').next().unwrap();
            continue;
        }
        let key = line.split(" = ").next().unwrap();
        tried.insert((section.to_owned(), key.to_owned()));
        let without = FULL.replacen(&format!("{line}\n"), "", 1);
        let schema = sections(&json_schema()).into_iter().find(|(name, _)| name == section).unwrap().1;
        let required = schema["required"].as_array().is_some_and(|all| all.contains(&json!(key)));
        match read(&without) {
            Err(errors) => {
                // What a port is decides which of these it must have, and must not.
                assert!(required || ["device", "netdev", "listen"].contains(&key), "{header}.{key}");
                assert!(errors[0].message.contains(key), "{errors:?}");
            }
            Ok(parsed) => {
                assert!(!required, "{header}.{key}");
                let changes = diff(&full.spec, &parsed.spec);
                let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
                assert_eq!(paths, [format!("{header}.{key}")]);
            }
        }
        let text = full.spec.to_toml();
        assert!(text.contains(&format!("\n{key} = ")), "{key} is not in the canonical text:\n{text}");
    }
    assert_eq!(tried, known);
}

/// For every key with bounds or words: the schema's are the decoder's.
#[test]
fn bounds_and_words_are_the_same() {
    let mut checked = 0;
    for (section, table) in sections(&json_schema()) {
        // What it is decides which other keys there may be.
        let free = |key: &String| (section.as_str(), key.as_str()) != ("port", "device");
        for (key, schema) in table["properties"].as_object().unwrap().iter().filter(|(key, _)| free(key)) {
            let forms = schema["anyOf"].as_array().cloned().unwrap_or_else(|| vec![schema.clone()]);
            for form in forms {
                let mut values: Vec<(Value, bool)> = Vec::new();
                for word in form["enum"].as_array().into_iter().flatten() {
                    values.push((word.clone(), true));
                    values.push(match word.as_str() {
                        Some(word) => (json!(format!("{word}x")), false),
                        None => (json!(word.as_u64().unwrap() + 1), false),
                    });
                }
                if let (Some(min), Some(max)) = (form["minimum"].as_u64(), form["maximum"].as_u64()) {
                    values.extend([(json!(min), true), (json!(max), true), (json!(max + 1), false)]);
                    values.push((json!(min.wrapping_sub(1).cast_signed()), false));
                }
                if form["type"] == "boolean" {
                    values.extend([(json!(true), true), (json!(1), false)]);
                }
                for (value, right) in values {
                    let source = with(&section, key, &value.to_string());
                    let accepted = read(&source);
                    assert_eq!(accepted.is_ok(), right, "{section}.{key} = {value}: {accepted:?}");
                    assert_eq!(
                        valid(&document(&source), &json_schema()).is_ok(),
                        right,
                        "{section}.{key} = {value}"
                    );
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 60, "{checked}");
}

/// `FULL` with another value for a key.
fn with(section: &str, key: &str, value: &str) -> String {
    let (mut at, mut done) = (String::new(), false);
    let mut out = String::new();
    for line in FULL.lines() {
        if let Some(name) = line.strip_prefix('[') {
            at = name.trim_end_matches(']').split('.').next().unwrap().to_owned();
        }
        if at == section && !done && line.starts_with(&format!("{key} = ")) {
            done = true;
            out.push_str(&format!("{key} = {value}\n"));
        } else {
            out.push_str(&format!("{line}\n"));
        }
    }
    assert!(done, "{section}.{key}");
    out
}

#[test]
fn examples_and_defaults_follow_the_schema() {
    let schema = json_schema();
    valid(&document(FULL), &schema).unwrap();
    for name in [
        "router",
        "patch",
        "policer",
        "vxlan-gateway",
        "wireguard-gateway",
        "edge-nat",
        "inline-filter",
        "load-balancer",
    ] {
        let path = format!("{}/examples/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        valid(&document(&std::fs::read_to_string(path).unwrap()), &schema).unwrap();
    }
    for (_, table) in sections(&schema) {
        for (key, schema) in table["properties"].as_object().unwrap() {
            if let Some(default) = schema.get("default") {
                valid(default, schema).unwrap_or_else(|why| panic!("{key}: {why}"));
            }
            assert!(schema["description"].as_str().is_some_and(|text| text.ends_with('.')), "{key}");
        }
    }
    valid(&document("[port.a]\nnetdev = \"x\"\nqeues = 1\n"), &schema).unwrap_err();
    valid(&document("[port.A]\nnetdev = \"x\"\n"), &schema).unwrap_err();
    valid(&document("[prot.a]\n"), &schema).unwrap_err();
}

fn document(source: &str) -> Value {
    serde_json::to_value(source.parse::<toml::Table>().unwrap()).unwrap()
}

/// The part of JSON schema that ours uses, patterns of text apart.
fn valid(value: &Value, schema: &Value) -> Result<(), String> {
    let fail = |why: &str| Err(format!("{value} {why} of {schema}"));
    if let Some(forms) = schema["anyOf"].as_array() {
        return if forms.iter().any(|form| valid(value, form).is_ok()) { Ok(()) } else { fail("is none") };
    }
    if let Some(words) = schema["enum"].as_array() {
        return if words.contains(value) { Ok(()) } else { fail("is not a word") };
    }
    match (schema["type"].as_str(), value) {
        (Some("boolean"), Value::Bool(_)) | (Some("string"), Value::String(_)) => Ok(()),
        (Some("integer"), Value::Number(number)) => {
            let within = number.as_u64().is_some_and(|number| {
                (schema["minimum"].as_u64().unwrap()..=schema["maximum"].as_u64().unwrap()).contains(&number)
            });
            if within { Ok(()) } else { fail("is out of bounds") }
        }
        (Some("array"), Value::Array(items)) => {
            let count = items.len() as u64;
            if count < schema["minItems"].as_u64().unwrap() || count > schema["maxItems"].as_u64().unwrap() {
                return fail("has a wrong length");
            }
            items.iter().try_for_each(|item| valid(item, &schema["items"]))
        }
        (Some("object"), Value::Object(fields)) => {
            for name in schema["required"].as_array().into_iter().flatten() {
                if !fields.contains_key(name.as_str().unwrap()) {
                    return fail("lacks a key");
                }
            }
            assert_eq!(schema["additionalProperties"], false);
            for (name, value) in fields {
                let named = schema["patternProperties"].as_object().and_then(|patterns| {
                    assert_eq!(patterns.len(), 1);
                    let fits = match patterns.keys().next().unwrap().as_str() {
                        "^[a-z][a-z0-9_-]{0,31}$" => name.bytes().all(|byte| !byte.is_ascii_uppercase()),
                        "^(0x[0-9a-fA-F]+|[0-9]+)$" => name.bytes().all(|byte| byte.is_ascii_digit()),
                        "^[A-Za-z_][A-Za-z0-9_]{0,127}$" => {
                            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                        }
                        other => panic!("a new pattern: {other}"),
                    };
                    patterns.values().next().filter(|_| fits)
                });
                match schema["properties"].get(name).or(named) {
                    Some(schema) => valid(value, schema)?,
                    None => return fail("has a key that is none"),
                }
            }
            Ok(())
        }
        _ => fail("is of a wrong type"),
    }
}
