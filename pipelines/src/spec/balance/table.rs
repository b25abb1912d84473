//! `[balance.NAME]` as TOML: its keys, how they become a [`BalanceSpec`], and the canonical text of one.

use std::net::IpAddr;
use std::time::Duration;

use super::{Backend, BalanceSpec, Forward, GUE_PORT, Health, MAX_BACKENDS, MAX_VIPS, Ports, Probe};
use crate::spec::canonical::{Rows, Text as Canonical};
use crate::spec::datum::{Datum, Fields};
use crate::spec::findings::Findings;
use crate::spec::keys::{ABSENT, Key, Reach};
use crate::spec::kind::{Kind, Text};
use crate::spec::model::StageSpec;
use crate::spec::names::Names;
use crate::spec::quantity::show_duration;
use crate::tables::maglev;

const ADDRESS: Kind = Kind::Text(Text::Checked {
    expected: "an IP address like \"192.0.2.80\" or \"2001:db8::80\"",
    wrong: |text| text.parse::<IpAddr>().err().map(|_| "is not an IP address".to_owned()),
});
const PORTS: Kind = Kind::Text(Text::Checked {
    expected: "ports of a protocol, like \"tcp/443\" or \"udp/5000-5999\"",
    wrong: |text| text.parse::<Ports>().err().map(|error| format!("is not a service: {error}")),
});
const PATH: Kind = Kind::Text(Text::Checked {
    expected: "what is asked for, like \"/healthz\"",
    wrong: |text| {
        let fits = text.starts_with('/') && text.len() <= 1024 && text.bytes().all(|b| b.is_ascii_graphic());
        (!fits).then(|| "is not a path: it begins with `/` and has no spaces".to_owned())
    },
});
const HOST: Kind = Kind::Text(Text::Checked {
    expected: "the name of a host, like \"www.example.com\"",
    wrong: |text| {
        let fits = !text.is_empty() && text.len() <= 255 && text.bytes().all(|b| b.is_ascii_graphic());
        (!fits).then(|| "is not the name of a host".to_owned())
    },
});
const STATUS: Kind = Kind::Text(Text::Checked {
    expected: "a status or a range of them, like \"200\" or \"200-399\"",
    wrong: |text| status(text).is_none().then(|| "is not a range of statuses".to_owned()),
});
const ONE_PORT: Kind = Kind::Whole { min: 1, max: 65_535 };

const fn key(name: &'static str, kind: Kind, default: Option<&'static str>, about: &'static str) -> Key {
    Key { name, kind, default, reach: Reach::Live, about }
}

const BACKEND: &[Key] = &[
    key("address", ADDRESS, None, "The address of the backend."),
    key(
        "port",
        ONE_PORT,
        ABSENT,
        "The port that it serves at, with forward = \"nat\"; the client's, if absent.",
    ),
    key(
        "weight",
        Kind::Whole { min: 0, max: 65_535 },
        Some("1"),
        "Its share beside the others'; 0 takes no new flows.",
    ),
    key("drain", Kind::Switch, Some("false"), "Takes no new flows, and keeps those that it has."),
];

const HEALTH: &[Key] = &[
    key("tcp", Kind::Switch, Some("false"), "Whether to see if a TCP connection is accepted."),
    key("http", PATH, ABSENT, "What to ask for by HTTP, like \"/healthz\"."),
    key("icmp", Kind::Switch, Some("false"), "Whether to see if an echo comes back."),
    key("host", HOST, ABSENT, "With `http`: whom it is asked of; the backend's address, if absent."),
    key("status", STATUS, Some("\"200-399\""), "With `http`: the answers that will do."),
    key("port", ONE_PORT, ABSENT, "The port that is tried, where it is not the one that serves."),
    key(
        "interval",
        Kind::Period { min: Duration::from_millis(100), max: Duration::from_secs(3600) },
        Some("\"2s\""),
        "From one check to the next.",
    ),
    key(
        "timeout",
        Kind::Period { min: Duration::from_millis(10), max: Duration::from_secs(3600) },
        Some("\"1s\""),
        "A check that takes longer has failed.",
    ),
    key("rise", Kind::Whole { min: 1, max: 100 }, Some("2"), "Successes in a row that bring a backend up."),
    key("fall", Kind::Whole { min: 1, max: 100 }, Some("3"), "Failures in a row that take a backend down."),
];

const IDLE: Kind = Kind::Period { min: Duration::from_secs(1), max: Duration::from_secs(30 * 86_400) };

const BACKENDS: Kind = Kind::Table(BACKEND);

pub(crate) const KEYS: &[Key] = &[
    key(
        "vip",
        Kind::List { of: &ADDRESS, min: 1, max: MAX_VIPS },
        None,
        "The virtual addresses, of either family.",
    ),
    key(
        "service",
        Kind::List { of: &PORTS, min: 1, max: 1024 },
        None,
        "What is served there. The rest of their traffic goes on to the next stage.",
    ),
    key(
        "forward",
        Kind::Word(Forward::WORDS),
        Some("\"nat\""),
        "How packets get to a backend: with its address and port, in a frame to its MAC address (\"direct\": it has the \
         virtual address and answers by itself), or in a tunnel.",
    ),
    key("backends", Kind::List { of: &BACKENDS, min: 1, max: MAX_BACKENDS }, None, "Who serves."),
    key(
        "health",
        Kind::Either(&[Kind::Word(&["none"]), Kind::Table(HEALTH)]),
        Some("\"none\""),
        "How it is found out which backends work; with \"none\", all are taken to.",
    ),
    key(
        "source",
        Kind::List { of: &Kind::Text(Text::Prefix), min: 0, max: 2 },
        Some("[]"),
        "Where a tunnel's outer headers come from: a prefix of each family. Bits behind it are the flow's.",
    ),
    key("gue-port", ONE_PORT, Some("6080"), "The port where backends take GUE."),
    key(
        "table",
        Kind::Whole { min: 1, max: u32::MAX as u64 },
        Some("254"),
        "Number of the kernel's routing table by which backends are reached.",
    ),
    key(
        "entries",
        Kind::Whole { min: 2, max: maglev::MAX_SIZE as u64 },
        Some("65537"),
        "Entries of the Maglev table: a prime, at least a hundred for each backend.",
    ),
    key(
        "connections",
        Kind::Whole { min: 1, max: 1 << 27 },
        Some("262144"),
        "Connections that each worker remembers, of some 80 bytes each. With \"nat\", tracking does.",
    ),
    key("tcp-idle", IDLE, Some("\"900s\""), "How long an idle TCP connection is remembered."),
    key("udp-idle", IDLE, Some("\"300s\""), "How long an idle UDP flow is remembered."),
    key(
        "seed",
        Kind::Whole { min: 0, max: u32::MAX as u64 },
        Some("0"),
        "Balancers with the same seed choose alike. Draw it at random where somebody might aim flows at one backend.",
    ),
];

/// Reads the table called `path`.
pub(crate) fn build(fields: &Fields, path: &str, _: &Names, out: &mut Findings<'_>) -> StageSpec {
    let before = out.errors();
    let texts =
        |key: &str| fields.items(key).iter().map(|item| item.value.text().to_owned()).collect::<Vec<_>>();
    let tables = |key| fields.items(key).iter().filter_map(|item| item.value.fields());
    let number = |fields: &Fields, key: &str| match fields.at(key).map(|value| &value.value) {
        Some(Datum::Number(number)) => Some(*number),
        _ => None,
    };
    let port = |fields: &Fields| number(fields, "port").and_then(|port| u16::try_from(port).ok());
    let health = fields.at("health").and_then(|health| {
        let (health, span) = (health.value.fields()?, &health.span);
        let mut probes = Vec::new();
        if health.switch("tcp") {
            probes.push(Probe::Tcp);
        }
        if health.switch("icmp") {
            probes.push(Probe::Icmp);
        }
        if let Some(path) = health.at("http") {
            let host = health.at("host").map(|host| host.value.text().to_owned());
            let status = status(&health.text("status")).unwrap_or((200, 399));
            probes.push(Probe::Http { path: path.value.text().to_owned(), host, status });
        }
        if probes.len() != 1 {
            out.error(
                span,
                format!(
                    "`{path}.health` tries {}",
                    if probes.is_empty() { "nothing" } else { "several things" }
                ),
            )
            .expected("one of tcp = true, http = \"/path\" and icmp = true");
        }
        Some(Health {
            probe: probes.into_iter().next()?,
            port: port(health),
            interval: health.period("interval"),
            timeout: health.period("timeout"),
            rise: health.number("rise"),
            fall: health.number("fall"),
        })
    });
    let backend = |backend: &Fields| {
        Some(Backend {
            address: backend.text("address").parse().ok()?,
            port: port(backend),
            weight: u16::try_from(backend.number("weight")).unwrap_or(u16::MAX),
            drain: backend.switch("drain"),
        })
    };
    let forward = fields.text("forward");
    let spec = BalanceSpec {
        vips: texts("vip").iter().filter_map(|text| text.parse().ok()).collect(),
        services: texts("service").iter().filter_map(|text| text.parse().ok()).collect(),
        forward: Forward::of_word(&forward).unwrap_or(Forward::Nat),
        backends: tables("backends").filter_map(backend).collect(),
        sources: fields.at("source").map(|value| value.value.prefixes()).unwrap_or_default(),
        gue_port: u16::try_from(fields.number("gue-port")).unwrap_or(GUE_PORT),
        route_table: fields.number("table"),
        entries: fields.number("entries"),
        connections: fields.number("connections"),
        tcp_idle: fields.period("tcp-idle"),
        udp_idle: fields.period("udp-idle"),
        seed: number(fields, "seed").unwrap_or(0),
        health,
    };
    // Of a table with mistakes in it no more can be said.
    let whole = !spec.vips.is_empty() && !spec.services.is_empty() && Forward::of_word(&forward).is_some();
    if let Some(backends) = fields.at("backends").filter(|_| whole && out.errors() == before) {
        for fault in spec.faults() {
            out.error(&backends.span, format!("`{path}`: {fault}"));
        }
    }
    StageSpec::Balance(Box::new(spec))
}

/// The canonical text.
pub(crate) fn rows(spec: &BalanceSpec) -> Rows {
    let quoted = |text: &dyn std::fmt::Display| toml::Value::String(text.to_string()).to_string();
    let one = |text: String| Canonical::One(text);
    let many = |entries: Vec<String>| Canonical::Many { before: "", entries, after: "" };
    let backend = |backend: &Backend| {
        let port = backend.port.map_or(String::new(), |port| format!(", port = {port}"));
        let Backend { address, weight, drain, .. } = backend;
        format!("{{ address = {}{port}, weight = {weight}, drain = {drain} }}", quoted(address))
    };
    vec![
        ("vip", many(spec.vips.iter().map(|vip| quoted(vip)).collect())),
        ("service", many(spec.services.iter().map(|ports| quoted(ports)).collect())),
        ("forward", one(quoted(&spec.forward.word()))),
        ("backends", many(spec.backends.iter().map(backend).collect())),
        ("health", one(spec.health.as_ref().map_or_else(|| quoted(&"none"), health_table))),
        ("source", many(spec.sources.iter().map(|source| quoted(source)).collect())),
        ("gue-port", one(spec.gue_port.to_string())),
        ("table", one(spec.route_table.to_string())),
        ("entries", one(spec.entries.to_string())),
        ("connections", one(spec.connections.to_string())),
        ("tcp-idle", one(quoted(&show_duration(spec.tcp_idle)))),
        ("udp-idle", one(quoted(&show_duration(spec.udp_idle)))),
        ("seed", one(spec.seed.to_string())),
    ]
}

/// The text of a table of checks.
fn health_table(health: &Health) -> String {
    let quoted = |text: &dyn std::fmt::Display| toml::Value::String(text.to_string()).to_string();
    let probe = match &health.probe {
        Probe::Tcp => "tcp = true".to_owned(),
        Probe::Icmp => "icmp = true".to_owned(),
        Probe::Http { path, host, status: (low, high) } => {
            let host = host.as_ref().map_or(String::new(), |host| format!(", host = {}", quoted(host)));
            format!("http = {}{host}, status = \"{low}-{high}\"", quoted(path))
        }
    };
    let port = health.port.map_or(String::new(), |port| format!(", port = {port}"));
    let Health { rise, fall, .. } = health;
    let (interval, timeout) = (show_duration(health.interval), show_duration(health.timeout));
    format!(
        "{{ {probe}{port}, interval = \"{interval}\", timeout = \"{timeout}\", rise = {rise}, fall = {fall} }}"
    )
}

/// Lowest and highest status of a text like `200` or `200-399`.
fn status(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| {
        let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|status| digits && (100..=599).contains(status))
    };
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    Some((number(low)?, number(high)?)).filter(|(low, high)| low <= high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Spec, parse};

    const PORTS: &str = "[port.wan]\nnetdev = \"eth0\"\n[pipeline.p]\ninput = [\"wan\"]\nstages = [\"balance.web\", \"route\"]\n";

    fn spec(table: &str) -> Result<Spec, Vec<String>> {
        let parsed = parse(&format!("{PORTS}[balance.web]\n{table}"), "test.toml");
        let text = |error: &crate::spec::Diagnostic| format!("{error:?}");
        parsed.map(|parsed| parsed.spec).map_err(|errors| errors.iter().map(text).collect())
    }

    fn balance(spec: &Spec) -> &BalanceSpec {
        match &spec.pipelines[0].stages[0].spec {
            StageSpec::Balance(balance) => balance,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_table_reads_like_a_sentence_and_its_canonical_text_says_the_same() {
        let spec = spec(
            "vip = [\"203.0.113.80\", \"2001:db8::80\"]\nservice = [\"tcp/443\", \"udp/5000-5999\"]\n\
             forward = \"nat\"\nbackends = [{ address = \"10.0.0.1\", port = 8443, weight = 2 }, \
             { address = \"2001:db8:1::1\", drain = true }]\n\
             health = { http = \"/healthz\", host = \"www.example.com\", interval = \"2s\", rise = 2, fall = 3 }\n",
        )
        .unwrap();
        let web = balance(&spec);
        assert_eq!(
            (web.vips.len(), web.forward, web.entries, web.route_table),
            (2, Forward::Nat, 65_537, 254)
        );
        assert_eq!(web.services, ["tcp/443", "udp/5000-5999"].map(|text| text.parse().unwrap()));
        let [first, second] = web.backends.as_slice() else { panic!("{web:?}") };
        assert_eq!((first.to_string().as_str(), first.weight, first.drain), ("10.0.0.1:8443", 2, false));
        assert_eq!((second.port, second.weight, second.drain), (None, 1, true));
        let health = web.health.as_ref().unwrap();
        let host = Some("www.example.com".to_owned());
        assert_eq!(health.probe, Probe::Http { path: "/healthz".to_owned(), host, status: (200, 399) });
        assert_eq!((health.interval, health.timeout), (Duration::from_secs(2), Duration::from_secs(1)));
        let again = parse(&spec.to_toml(), "canonical.toml").unwrap().spec;
        assert_eq!(again, spec);
    }

    #[test]
    fn the_other_checks_and_ways_to_forward_too() {
        for (forward, health) in [
            ("direct", "health = { tcp = true, port = 80 }"),
            ("ipip", "health = { icmp = true }\nsource = [\"10.8.0.0/24\"]"),
            ("gue", "source = [\"10.8.0.1/32\", \"2001:db8::/64\"]\nseed = 4000000000"),
        ] {
            let table = format!(
                "vip = [\"203.0.113.80\"]\nservice = [\"tcp/443\"]\nforward = \"{forward}\"\n{health}\n\
                 backends = [{{ address = \"10.0.0.1\" }}]\n"
            );
            let spec = spec(&table).unwrap();
            assert_eq!(balance(&spec).forward.word(), forward);
            assert_eq!(parse(&spec.to_toml(), "canonical.toml").unwrap().spec, spec);
        }
    }

    #[test]
    fn every_mistake_is_told() {
        let count = |table: &str| spec(table).unwrap_err().len();
        let rest = "service = [\"tcp/443\"]\nbackends = [{ address = \"10.0.0.1\" }]\n";
        assert_eq!(count(&format!("vip = [\"203.0.113\"]\nforward = \"nta\"\n{rest}")), 2);
        assert_eq!(count(&format!("vip = [\"203.0.113.80\"]\nhealth = {{ }}\n{rest}")), 1);
        assert_eq!(
            count(&format!("vip = [\"203.0.113.80\"]\nhealth = {{ tcp = true, icmp = true }}\n{rest}")),
            1
        );
        assert_eq!(
            count(&format!(
                "vip = [\"203.0.113.80\"]\nhealth = {{ http = \"healthz\", status = \"99\" }}\n{rest}"
            )),
            2
        );
        assert_eq!(
            count(&format!("vip = [\"203.0.113.80\"]\nforward = \"gue\"\nentries = 65536\n{rest}")),
            2
        );
    }
}
