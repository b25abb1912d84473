//! Ports without AF_XDP, and those that may have to do without: what they may be told and what not.

use zsync_pipelines::spec::{Device, Effect, Style, diff, parse, report};

const GOOD: &str = r#"
[port.lan]
netdev = "eth2"

[port.wan]
device = "uring-packet"
netdev = "eth1"
queues = 3
steer = { prefixes = ["10.0.0.0/8"] }
block = ["192.0.2.0/24"]
failover = "closed"
grace = "1s"
vlans = { guest = 7 }

[pipeline.in]
input = ["lan", "wan", "guest"]
stages = ["route"]
"#;

fn told(source: &str) -> String {
    match parse(source, "p.toml") {
        Ok(parsed) => report(&parsed.warnings, source, Style::Plain),
        Err(errors) => report(&errors, source, Style::Plain),
    }
}

#[test]
fn a_port_says_what_takes_its_packets() {
    assert_eq!(told(GOOD), "");
    let spec = parse(GOOD, "p.toml").unwrap().spec;
    let kinds = |name| spec.port(name).map(|port| (port.device, port.has_rings(), port.is_taken()));
    assert_eq!(kinds("lan"), Some((Device::Xdp, true, true)));
    assert_eq!(kinds("wan"), Some((Device::UringPacket, false, true)));
    // Written out, with every default, it is the same.
    for device in ["uring-packet", "auto"] {
        let source = GOOD.replace("uring-packet", device);
        let spec = parse(&source, "p.toml").unwrap().spec;
        let text = spec.to_toml();
        assert!(text.contains(&format!("device = \"{device}\"\n")), "{text}");
        assert_eq!(parse(&text, "p.toml").unwrap().spec, spec);
    }
}

#[test]
fn another_device_opens_the_port_anew() {
    let spec = |text: &str| parse(text, "p.toml").unwrap().spec;
    let other = spec(&GOOD.replace("uring-packet", "auto"));
    let changes: Vec<_> = diff(&spec(GOOD), &other).into_iter().map(|c| (c.path, c.effect)).collect();
    assert_eq!(changes, [("port.wan.device".to_owned(), Effect::Reopen("wan".to_owned()))]);
}

#[test]
fn what_only_xdp_does_is_refused_where_there_is_none() {
    let lines =
        ["xdp = [\"a.o:f\"]", "mode = \"copy\"", "ring-size = 64", "busy-poll = true", "replace = true"];
    for line in lines {
        let key = line.split(' ').next().unwrap();
        let with = format!("device = \"uring-packet\"\n{line}");
        let told = told(&GOOD.replace("device = \"uring-packet\"", &with));
        let wanted = format!("port \"wan\" has packet sockets and no XDP, so it has no `{key}`");
        assert!(told.contains(&wanted) && told.contains("device = \"xdp\""), "{told}");
    }
    for line in lines {
        let with = format!("device = \"auto\"\n{line}");
        let told = told(&GOOD.replace("device = \"uring-packet\"", &with));
        assert_eq!(told.contains("may have to do without XDP"), line.starts_with("xdp"), "{told}");
        assert_eq!(told.is_empty(), !line.starts_with("xdp"), "{told}");
    }
    for line in ["mtu = 1400", "addresses = [\"10.0.0.1\"]", "listen = \"[::]:1\""] {
        let with = format!("device = \"auto\"\n{line}");
        assert!(!told(&GOOD.replace("device = \"uring-packet\"", &with)).is_empty(), "{line}");
    }
}
