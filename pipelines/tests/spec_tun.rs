//! Ports that are TUN and TAP devices: what they may be told, and what not.

use zsync_pipelines::spec::{Device, Effect, Style, diff, parse, report};

const GOOD: &str = r#"
[port.host]
device = "tun"
netdev = "wg0"
mtu = 1380
addresses = ["10.9.0.1/24", "fd09::1/64", "192.0.2.7"]

[port.wan]
netdev = "eth0"

[pipeline.p]
input = ["host", "wan"]
stages = ["route"]
"#;

fn told(source: &str) -> String {
    match parse(source, "t.toml") {
        Ok(parsed) => report(&parsed.warnings, source, Style::Plain),
        Err(errors) => report(&errors, source, Style::Plain),
    }
}

#[test]
fn a_device_of_the_hosts_own() {
    let spec = parse(GOOD, "t.toml").unwrap().spec;
    let tun = spec.port("host").and_then(|port| port.tun.as_ref()).unwrap();
    let addresses: Vec<String> = tun.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(
        (tun.mtu, addresses),
        (1380, vec!["10.9.0.1/24".into(), "fd09::1/64".into(), "192.0.2.7/32".into()])
    );
    assert!(spec.port("wan").unwrap().tun.is_none());
    let plain = parse(&GOOD.replace("mtu = 1380\n", ""), "t.toml").unwrap().spec;
    assert_eq!(plain.port("host").unwrap().tun.as_ref().unwrap().mtu, 1420);
    // Written out, with every default, it is the same.
    assert_eq!(parse(&spec.to_toml(), "t.toml").unwrap().spec, spec);
}

#[test]
fn addresses_change_at_once_and_all_else_opens_the_device_anew() {
    let spec = |text: &str| parse(text, "t.toml").unwrap().spec;
    let effects = |other: &str| -> Vec<(String, Effect)> {
        diff(&spec(GOOD), &spec(other)).into_iter().map(|change| (change.path, change.effect)).collect()
    };
    let other = GOOD.replace("10.9.0.1/24", "10.9.0.2/24");
    assert_eq!(effects(&other), [("port.host.addresses".to_owned(), Effect::Live)]);
    let other = GOOD.replace("1380", "1400");
    assert_eq!(effects(&other), [("port.host.mtu".to_owned(), Effect::Reopen("host".to_owned()))]);
}

#[test]
fn each_key_of_a_nic_is_refused_by_its_name() {
    for line in [
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
        let text = GOOD.replace("netdev = \"wg0\"", &format!("netdev = \"wg0\"\n{line}"));
        let tap = text.replace("\"tun\"", "\"tap\"");
        for (kind, text) in
            [("TUN", text), ("TAP", tap)].into_iter().filter(|(kind, _)| key != "vlans" || *kind == "TUN")
        {
            let told = told(&text);
            assert!(
                told.contains(&format!("port \"host\" is a {kind} device, which has no `{key}`")),
                "{told}"
            );
        }
    }
    for (line, remedy) in
        [("mtu = 1400", "ip link set eth0 mtu"), ("addresses = [\"10.0.0.1\"]", "ip address add")]
    {
        let told = told(&GOOD.replace("netdev = \"eth0\"", &format!("netdev = \"eth0\"\n{line}")));
        assert!(told.contains("port \"wan\" is a device of the kernel's") && told.contains(remedy), "{told}");
    }
}

#[test]
fn addresses_that_no_host_has() {
    for address in
        ["10.9.0.1/33", "fd09::1/129", "0.0.0.0/0", "224.0.0.1", "ff02::1/64", "here", "10.9.0.1/", "/24"]
    {
        let told = told(&GOOD.replace("10.9.0.1/24", address));
        assert!(told.contains("that is no address of a host"), "{address}: {told}");
    }
}

#[test]
fn frames_go_neither_in_nor_out() {
    let wire = |pairs: &str, input: &str| {
        let rest = format!(
            "[port.b]\nnetdev = \"b\"\n[pipeline.p]\ninput = [{input}]\nstages = [\"patch.w\"]\n[patch.w]\npairs = {pairs}\n"
        );
        told(&format!("[port.t]\ndevice = \"tun\"\nnetdev = \"t\"\n{rest}"))
    };
    let told = wire("[[\"t\", \"b\"]]", "\"t\", \"b\"");
    assert!(told.contains("takes frames, and \"t\" has none"), "{told}");
    assert!(told.contains("[patch.w] sends frames to \"t\", a TUN device"), "{told}");
}

#[test]
fn a_tap_device_carries_frames() {
    let routed = GOOD.replace("\"tun\"", "\"tap\"").replace("mtu = 1380\n", "");
    let spec = parse(&routed, "t.toml").unwrap().spec;
    let port = spec.port("host").unwrap();
    assert_eq!((port.device, port.tun.as_ref().unwrap().mtu), (Device::Tap, 1500));
    assert!(!port.is_taken() && !port.has_rings() && !spec.is_wire(port.id));
    assert_eq!(parse(&spec.to_toml(), "t.toml").unwrap().spec, spec);
    // As a wire it is opened anew, and so it is when it is routed again.
    let end = parse(
        &routed.replace("[\"route\"]", "[\"patch.w\"]\n[patch.w]\npairs = [[\"host\", \"wan\"]]"),
        "t.toml",
    );
    let end = end.unwrap().spec;
    for (old, new, detail) in [(&spec, &end, "routed → a wire"), (&end, &spec, "a wire → routed")] {
        let changes = diff(old, new);
        let turned = changes.iter().find(|change| change.path == "port.host").unwrap();
        assert_eq!((&*turned.detail, &turned.effect), (detail, &Effect::Reopen("host".to_owned())));
    }
    assert!(end.is_end_of_wire(port.id) && !end.is_end_of_wire(end.port("wan").unwrap().id));
    // Its VLANs are wires.
    let wire = |stages: &str| {
        format!(
            "[port.t]\ndevice = \"tap\"\nnetdev = \"t\"\nvlans = {{ guest = 7 }}\n[port.b]\nnetdev = \"b\"\n\
             [pipeline.p]\ninput = [\"guest\", \"b\"]\nstages = [\"{stages}\"]\n[patch.w]\npairs = [[\"guest\", \"b\"]]\n"
        )
    };
    let patched = wire("patch.w");
    let spec = parse(&patched, "t.toml").unwrap().spec;
    assert!(spec.is_wire(spec.port("t").unwrap().id) && spec.is_wire(spec.port("b").unwrap().id));
    let both = format!("{patched}[pipeline.q]\ninput = [\"t\"]\nstages = [\"route\"]\n");
    let [routed, both] = [wire("route"), both].map(|text| told(&text));
    assert!(
        routed.contains("takes IP packets from \"guest\", a VLAN of \"t\", which is a TAP device"),
        "{routed}"
    );
    assert!(
        both.contains("takes IP packets from \"t\", a TAP device that another pipeline takes frames from"),
        "{both}"
    );
}
