//! Ports that are UDP sockets: what they may be told, what not, and who sends by them.

use zsync_pipelines::spec::{Effect, StageSpec, Style, diff, parse, report};

const GOOD: &str = r#"
[port.host]
device = "tun"
netdev = "wg0"

[port.outer]
device = "udp"
listen = "[::]:51820"

[wireguard.wg]
private-key-file = "wg.key"
to = { port = "outer" }

[pipeline.in]
input = ["outer"]
stages = ["wireguard-open.wg", "route"]

[pipeline.out]
input = ["host"]
stages = ["wireguard-seal.wg", "route"]
"#;

fn told(source: &str) -> String {
    match parse(source, "u.toml") {
        Ok(parsed) => report(&parsed.warnings, source, Style::Plain),
        Err(errors) => report(&errors, source, Style::Plain),
    }
}

/// What is said of `GOOD` with another text in place of one.
fn changed(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    told(&GOOD.replace(from, to))
}

#[test]
fn a_socket_and_the_tunnel_that_speaks_by_it() {
    assert_eq!(told(GOOD), "");
    let spec = parse(GOOD, "u.toml").unwrap().spec;
    let outer = spec.port("outer").unwrap();
    assert_eq!(outer.udp.map(|udp| udp.listen), "[::]:51820".parse().ok());
    assert!(outer.netdev.is_empty() && outer.tun.is_none() && !outer.has_rings());
    assert!(spec.port("host").unwrap().udp.is_none());
    for stage in spec.pipelines.iter().flat_map(|pipeline| &pipeline.stages) {
        if let StageSpec::WireguardOpen(end) | StageSpec::WireguardSeal(end) = &stage.spec {
            assert_eq!(end.to, Some(outer.id));
        }
    }
    // Written out, with every default, it is the same.
    let text = spec.to_toml();
    assert!(
        text.contains("listen = \"[::]:51820\"\n") && text.contains("to = { port = \"outer\" }\n"),
        "{text}"
    );
    let again =
        parse(&text, "u.toml").unwrap_or_else(|errors| panic!("{}", report(&errors, &text, Style::Plain)));
    assert_eq!(again.spec, spec);
}

#[test]
fn another_address_opens_the_socket_anew_and_another_way_out_is_live() {
    let spec = |text: &str| parse(text, "u.toml").unwrap().spec;
    let effects = |from: &str, to: &str| -> Vec<(String, Effect)> {
        let other = spec(&GOOD.replace(from, to));
        diff(&spec(GOOD), &other).into_iter().map(|change| (change.path, change.effect)).collect()
    };
    let reopened = Effect::Reopen("outer".to_owned());
    assert_eq!(effects("[::]:51820", "0.0.0.0:51820"), [("port.outer.listen".to_owned(), reopened.clone())]);
    let by_ring = "device = \"udp\"\nio-uring = true";
    assert_eq!(effects("device = \"udp\"", by_ring), [("port.outer.io-uring".to_owned(), reopened)]);
    assert_eq!(effects("device = \"udp\"", "device = \"udp\"\nio-uring = false"), []);
    assert_eq!(
        effects("to = { port = \"outer\" }", "to = \"next\""),
        [("wireguard.wg.to".to_owned(), Effect::Live)]
    );
}

#[test]
fn each_key_of_a_network_device_is_refused_by_its_name() {
    for line in [
        "netdev = \"eth0\"",
        "mtu = 1400",
        "addresses = [\"10.0.0.1\"]",
        "steer = { prefixes = [\"10.0.0.0/8\"] }",
        "block = [\"10.0.0.0/8\"]",
        "xdp = [\"a.o:f\"]",
        "failover = \"closed\"",
        "mode = \"copy\"",
        "ring-size = 64",
        "busy-poll = true",
        "replace = true",
        "promiscuous = true",
        "vlans = { guest = 7 }",
    ] {
        let key = line.split(' ').next().unwrap();
        let told = changed("device = \"udp\"", &format!("device = \"udp\"\n{line}"));
        assert!(told.contains(&format!("port \"outer\" is a UDP socket, which has no `{key}`")), "{told}");
    }
    let told = changed("netdev = \"wg0\"", "netdev = \"wg0\"\nlisten = \"[::]:1\"");
    assert!(told.contains("port \"host\" is a network device, which has no `listen`"), "{told}");
    let told = changed("netdev = \"wg0\"", "netdev = \"wg0\"\nio-uring = true");
    assert!(told.contains("port \"host\" is a network device, which has no `io-uring`"), "{told}");
}

#[test]
fn what_a_port_must_have_is_said_by_its_kind() {
    let told = changed("listen = \"[::]:51820\"\n", "");
    assert!(told.contains("[port.outer] has no `listen`"), "{told}");
    let told = changed("netdev = \"wg0\"\n", "");
    assert!(told.contains("[port.host] has no `netdev`"), "{told}");
}

#[test]
fn addresses_at_which_nobody_can_listen() {
    for (address, why) in [
        ("224.0.0.1:51820", "the address of no station"),
        ("[ff02::1]:51820", "the address of no station"),
        ("255.255.255.255:51820", "the address of no station"),
        ("[::ffff:192.0.2.1]:51820", "write it as the address of IPv4"),
        ("[fe80::1]:51820", "which link"),
        ("[::]:0", "is not an address and a port"),
        ("51820", "is not an address and a port"),
        ("here:51820", "is not an address and a port"),
    ] {
        let told = changed("[::]:51820", address);
        assert!(told.contains(why), "{address}: {told}");
    }
}

#[test]
fn no_two_sockets_get_the_same_datagrams() {
    let two = |one: &str, other: &str| {
        let second = format!(
            "[port.second]\ndevice = \"udp\"\nlisten = \"{other}\"\n[pipeline.in]\ninput = [\"second\", "
        );
        told(&GOOD.replace("[::]:51820", one).replace("[pipeline.in]\ninput = [", &second))
    };
    for (one, other) in [
        ("[::]:51820", "[::]:51820"),
        ("[::]:51820", "192.0.2.1:51820"),
        ("192.0.2.1:51820", "0.0.0.0:51820"),
        ("[2001:db8::1]:51820", "[::]:51820"),
    ] {
        let told = two(one, other);
        assert!(
            told.contains(&format!("port \"outer\" listens at {one} already"))
                && told.contains("also in line 8"),
            "{one} {other}: {told}"
        );
    }
    for (one, other) in [
        ("[::]:51820", "[::]:51821"),
        ("192.0.2.1:51820", "192.0.2.2:51820"),
        ("[2001:db8::1]:51820", "0.0.0.0:51820"),
    ] {
        assert_eq!(two(one, other), "", "{one} {other}");
    }
}

#[test]
fn a_tunnel_speaks_by_a_socket_that_its_peers_reach() {
    let told = changed("{ port = \"outer\" }", "{ port = \"host\" }");
    assert!(told.contains("`wireguard.wg.to`: port \"host\" is no UDP socket"), "{told}");
    let told = changed("{ port = \"outer\" }", "{ port = \"outr\" }");
    assert!(told.contains("\"outr\"") && told.contains("\"outer\""), "{told}");
    let told = changed("[::]:51820", "[::]:51821");
    assert!(told.contains("listens at UDP port 51821, and this end at 51820"), "{told}");
}

/// Two tunnels have one UDP port where their sockets have addresses of their own: those are theirs, too.
#[test]
fn tunnels_at_one_port_hear_where_their_sockets_are() {
    let two = |one: &str, other: &str| {
        let second = format!(
            "[port.second]\ndevice = \"udp\"\nlisten = \"{other}\"\n[wireguard.other]\nprivate-key-file = \"o.key\"\n\
             to = {{ port = \"second\" }}\n[pipeline.in]\ninput = [\"second\", "
        );
        let text = GOOD.replace("[::]:51820", one).replace("[pipeline.in]\ninput = [", &second);
        text.replace("\"wireguard-open.wg\"", "\"wireguard-open.wg\", \"wireguard-open.other\"")
            .replace("\"wireguard-seal.wg\"", "\"wireguard-seal.wg\", \"wireguard-seal.other\"")
    };
    let text = two("192.0.2.1:51820", "[2001:db8::1]:51820");
    assert_eq!(told(&text), "");
    let spec = parse(&text, "u.toml").unwrap().spec;
    let stages = spec.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    let hear: Vec<_> = stages
        .filter_map(|stage| match &stage.spec {
            StageSpec::WireguardOpen(end) => Some((end.name.as_str(), end.hears_at(&spec))),
            _ => None,
        })
        .collect();
    assert_eq!(
        hear,
        [("wg", vec!["192.0.2.1".parse().unwrap()]), ("other", vec!["2001:db8::1".parse().unwrap()])]
    );
    // An end that hears everywhere hears there, too.
    let told = told(&text.replace("to = { port = \"second\" }", ""));
    assert!(told.contains("[wireguard.other] and [wireguard.wg] both listen at UDP port 51820"), "{told}");
}

#[test]
fn frames_go_neither_in_nor_out() {
    let wire = "[pipeline.wire]\ninput = [\"a\", \"outer\"]\nstages = [\"patch.w\"]\n[patch.w]\npairs = [[\"a\", \"outer\"]]\n";
    let told = told(&format!(
        "[port.a]\nnetdev = \"a\"\n[port.outer]\ndevice = \"udp\"\nlisten = \"[::]:1\"\n{wire}"
    ));
    assert!(told.contains("takes frames, and \"outer\" has none"), "{told}");
    assert!(told.contains("[patch.w] sends frames to \"outer\", a UDP socket"), "{told}");
}
