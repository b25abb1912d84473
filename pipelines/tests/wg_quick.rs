//! Files of `wg-quick`: what they become, what bad ones get, and that no text is too odd.

#[path = "../../tests/fuzz/entry/wg_quick.rs"]
mod wg_quick;

use proptest::prelude::*;
use wg_quick::{SEEDS, run};
use zsync_pipelines::spec::wireguard::quick::{Endpoint, read};

fn toml(text: &str) -> String {
    let path = |peer: Option<usize>| peer.map_or("/k/w.key".to_owned(), |n| format!("/k/w-{}.psk", n + 1));
    read(text)
        .unwrap()
        .to_toml("w", &path, &mut |host, port| match host {
            "vpn.example.com" => Ok(([192, 0, 2, 7], port).into()),
            _ => Err("no such host".to_owned()),
        })
        .unwrap()
}

fn mistakes(text: &str) -> Vec<String> {
    read(text).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn a_file_becomes_a_section_and_says_what_has_no_meaning() {
    assert_eq!(
        toml(SEEDS[0]),
        r#"[wireguard.w]
private-key-file = "/k/w.key"
listen-port = 51820
peers = [
    { public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", endpoint = "192.95.5.67:1234", allowed-ips = ["10.192.122.3/32", "10.192.124.0/24"], keepalive = "off" },
    { public-key = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=", endpoint = "[2607:5300:60:6b0::c05f:543]:2468", allowed-ips = ["10.192.122.4/32", "192.168.0.0/16"], keepalive = "off" },
]
"#
    );
    assert_eq!(
        toml(SEEDS[1]),
        r#"[wireguard.w]
private-key-file = "/k/w.key"
# The file has no port, which lets `wg` choose one; here it is always the same.
listen-port = 51820
mtu = 1380
peers = [
    # vpn.example.com was 192.0.2.7 when this was imported; names are not resolved again.
    { public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", preshared-key-file = "/k/w-1.psk", endpoint = "192.0.2.7:51820", allowed-ips = ["0.0.0.0/0", "::/0"], keepalive = "25s" },
]

[port.w]
device = "tun"
netdev = "w"
addresses = ["10.0.0.1/24", "fd00::1/64"]
mtu = 1380

[pipeline.w]   # what the host has for the peers: `ip route add … dev w`
input = ["w"]
stages = ["wireguard-seal.w", "route"]
# What has no meaning here:
#   line 4, DNS = 1.1.1.1: the host resolves names as it does
#   line 5, Table = off: routes are the kernel's, and `route` forwards by them: say there which ports lead to the peers' networks
#   line 7, FwMark = 0x10: outer packets leave by a port, and by the routes of the stage `route`
#   line 8, PostUp = iptables -A FORWARD -i %i -j ACCEPT: no commands are run
#   line 9, SaveConfig = true: what is applied is what the configuration says
"#
    );
}

#[test]
fn a_bad_file_is_refused_with_all_mistakes_and_their_lines() {
    assert_eq!(
        mistakes(SEEDS[2]),
        [
            "line 2: `PrivateKey` is not a key: 44 characters of base64 (it is not shown)",
            "line 3: `ListenPort`: \"99999\" is no number up to 65535",
            "line 4: `AllowedIPs` does not belong into [Interface]",
            "line 5: there is no section [Pear]: [Interface] or [Peer]",
            "line 7: [Peer] has no `PublicKey`",
            "line 8: `Endpoint`: \"2001:db8::1:51820\" needs brackets: [2001:db8::1]:51820",
            "line 9: `AllowedIPs`: \"10.0.0.0/33\" is neither an IP address nor a prefix",
            "line 10: `PersistentKeepalive`: \"never\" is neither \"off\" nor a number up to 65535",
            "line 11: unknown key `Publikkey` in [Peer]; did you mean `PublicKey`?"
                .replace("Publikkey", "PublikKey")
                .as_str(),
        ]
    );
    assert_eq!(
        mistakes(SEEDS[3]),
        [
            "line 6: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg= is a peer twice, in line 3 too",
            "line 8: 10.0.0.0/8 is behind two peers, that of line 5 too; `wg` lets the last one have it",
        ]
    );
    assert_eq!(mistakes(""), ["line 1: there is no [Interface]"]);
    assert_eq!(mistakes("\n[Interface]\n"), ["line 2: [Interface] has no `PrivateKey`"]);
    assert_eq!(
        mistakes("x = 1\n[Interface]\nyAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk\n[Interface]\nMTU = 100\n"),
        [
            "line 1: `x` stands ahead of [Interface] and [Peer]",
            "line 3: neither a section nor `Key = value`",
            "line 4: a second [Interface]; the first is in line 2",
            "line 4: [Interface] has no `PrivateKey`",
            "line 5: `MTU`: \"100\" is no number from 576 to 9000",
        ]
    );
}

#[test]
fn endpoints_are_addresses_or_names() {
    let head = "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n[Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nEndpoint = ";
    let endpoint =
        |text: &str| read(&format!("{head}{text}\n")).map(|quick| quick.peers[0].endpoint.clone().unwrap());
    assert_eq!(endpoint("192.0.2.1:1"), Ok(Endpoint::At("192.0.2.1:1".parse().unwrap())));
    assert_eq!(endpoint("[2001:DB8::1]:65535"), Ok(Endpoint::At("[2001:db8::1]:65535".parse().unwrap())));
    assert_eq!(endpoint("a-b.example.:7"), Ok(Endpoint::Named("a-b.example.".to_owned(), 7)));
    for bad in [
        "192.0.2.1",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "0.0.0.0:1",
        "[ff02::1]:1",
        "[fe80::1%eth0]:1",
        "a..b:1",
        ":1",
        "[x]:1",
        "a b:1",
    ] {
        assert!(endpoint(bad).is_err(), "{bad}");
    }
    let named = read(&format!("{head}nowhere.example:1\n")).unwrap();
    let mistakes = named.to_toml("w", &|_| String::new(), &mut |_, _| Err("gone".to_owned())).unwrap_err();
    assert_eq!(mistakes[0].to_string(), "line 3: the endpoint nowhere.example of this peer: gone");
}

#[test]
fn the_seeds_run() {
    SEEDS.iter().for_each(|seed| run(seed.as_bytes()));
}

/// Lines of files, right and wrong, in any order.
fn lines() -> impl Strategy<Value = String> {
    let lines: Vec<&str> = SEEDS.iter().flat_map(|seed| seed.lines()).collect();
    let odd = prop::sample::select(vec![
        "[",
        "=",
        "# x",
        "Endpoint = é:1",
        "AllowedIPs =",
        "PostUp = \u{7f}\t\u{85}'\"",
        "DNS = [x]\n[wireguard.y]",
    ]);
    let line = prop_oneof![8 => prop::sample::select(lines).prop_map(str::to_owned), 1 => odd.prop_map(str::to_owned)];
    prop::collection::vec(line, 0..30).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        run(text.as_bytes());
    }

    #[test]
    fn any_lines(text in lines()) {
        run(text.as_bytes());
    }

    #[test]
    fn a_good_file_with_a_hole(seed in 0..2usize, cut in 0usize..700, length in 0usize..20, put in "[\\PC\n\t]{0,4}") {
        let seed = SEEDS[seed];
        let (cut, end) = (cut.min(seed.len()), (cut + length).min(seed.len()));
        run(format!("{}{put}{}", &seed[..cut], &seed[end..]).as_bytes());
    }
}
