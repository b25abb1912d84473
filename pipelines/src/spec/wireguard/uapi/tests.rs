use super::*;
use crate::spec::wireguard::{KeyFile, PeerSpec, WireguardSpec};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn read(text: &str) -> Result<Request, Refusal> {
    let mut reader = Reader::default();
    let ends: Vec<_> = text.split('\n').filter_map(|line| reader.line(line.as_bytes())).collect();
    ends.into_iter().next().expect("the request ends")
}

fn change(lines: &str) -> Change {
    match read(&format!("set=1\n{lines}\n\n")) {
        Ok(Request::Set(change)) => change,
        other => panic!("{other:?}"),
    }
}

fn refused(lines: &str) -> (i32, String) {
    let refusal = read(&format!("set=1\n{lines}\n\n")).unwrap_err();
    (refusal.errno as i32, refusal.to_string())
}

fn public(seed: u8) -> PublicKey {
    Secret::new([seed; 32]).public()
}

fn text(key: &[u8; KEY_LEN]) -> String {
    let mut text = String::new();
    hex(key, &mut text);
    text
}

fn end(peers: Vec<PeerSpec>) -> WireguardSpec {
    WireguardSpec {
        name: "w".to_owned(),
        private_key: KeyFile { path: "/k/w".to_owned(), secret: Some(Secret::new([9; 32])) },
        listen_port: 51_820,
        local: Vec::new(),
        to: None,
        mtu: 1420,
        max_peers: 64,
        dscp: None,
        peers,
    }
}

fn peer(seed: u8, allowed: &[&str]) -> PeerSpec {
    PeerSpec {
        public_key: public(seed),
        preshared: None,
        endpoint: None,
        allowed_ips: allowed.iter().map(|text| text.parse().unwrap()).collect(),
        keepalive: 0,
    }
}

#[test]
fn a_request_of_wg_is_read() {
    let key = text(&public(1).0);
    let psk = text(&[7; 32]);
    let all = change(&format!(
        "private_key={}\nlisten_port=51821\nfwmark=0\nreplace_peers=true\npublic_key={key}\nupdate_only=true\npreshared_key={psk}\n\
         endpoint=[2001:db8::1]:7\npersistent_keepalive_interval=25\nprotocol_version=1\nallowed_ip=10.0.0.0/8\nreplace_allowed_ips=true\n\
         allowed_ip=10.1.2.3/16\nallowed_ip=-fd00::1/128\npublic_key={key}\nremove=true",
        text(&[5; 32]).to_uppercase(),
    ));
    assert_eq!(
        (all.private_key, all.listen_port, all.replace_peers),
        (Some(Secret::new([5; 32])), Some(51_821), true)
    );
    let [first, second] = all.peers.as_slice() else { panic!() };
    let expected = PeerChange {
        update_only: true,
        preshared: Some(Some(Secret::new([7; 32]))),
        endpoint: "[2001:db8::1]:7".parse().ok(),
        keepalive: Some(25),
        replace_allowed_ips: true,
        allowed_ips: vec![("10.1.0.0/16".parse().unwrap(), false), ("fd00::1/128".parse().unwrap(), true)],
        ..PeerChange::of(public(1))
    };
    assert_eq!(first, &expected);
    assert_eq!(second, &PeerChange { remove: true, ..PeerChange::of(public(1)) });
    assert_eq!(read("get=1\n\n"), Ok(Request::Get));
    assert_eq!(read("set=1\n\n"), Ok(Request::Set(Change::default())));
    // `wg setconf` of a file that says nothing of them.
    let none =
        format!("listen_port=0\nfwmark=0\nfwmark=\npublic_key={key}\npreshared_key={}", text(&[0; 32]));
    let none = change(&none);
    assert_eq!((none.listen_port, none.peers[0].preshared.clone()), (None, Some(None)));
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_number_and_without_keys() {
    let key = text(&public(1).0);
    let secret = text(&[0xa5; 32]);
    let peer = |line: &str| refused(&format!("public_key={key}\n{line}"));
    for (got, errno, what) in [
        (refused("private_key"), 71, "line 2: no line of the form key=value"),
        (refused("privat_key=1"), 22, "line 2: a tunnel has no key `privat_key`"),
        (refused("mtu=1420"), 22, "line 2: a tunnel has no key `mtu`"),
        (
            refused(&format!("private_key={}", &secret[1..])),
            22,
            "line 2: `private_key` is not 64 hexadecimal digits",
        ),
        (
            refused(&format!("private_key=g{}", &secret[1..])),
            22,
            "line 2: `private_key` is not 64 hexadecimal digits",
        ),
        (
            refused(&format!("private_key={}", text(&[0; 32]))),
            95,
            "line 2: `private_key` is no key: a tunnel here always has one",
        ),
        (refused("listen_port=65536"), 22, "line 2: `listen_port` is not a number, or too large a one"),
        (refused("listen_port=+1"), 22, "line 2: `listen_port` is not a number, or too large a one"),
        (refused("listen_port="), 22, "line 2: `listen_port` is not a number, or too large a one"),
        (refused("fwmark=1"), 95, "line 2: `fwmark` means nothing here: outer packets leave by a port"),
        (refused("replace_peers=1"), 22, "line 2: `replace_peers` can only be true"),
        (refused("public_key=abc"), 22, "line 2: `public_key` is not a key"),
        (peer("remove=false"), 22, "line 3: `remove` can only be true"),
        (peer("update_only="), 22, "line 3: `update_only` can only be true"),
        (peer("replace_allowed_ips=yes"), 22, "line 3: `replace_allowed_ips` can only be true"),
        (peer("private_key=1"), 22, "line 3: a peer has no key `private_key`"),
        (
            peer(&format!("preshared_key={secret}0")),
            22,
            "line 3: `preshared_key` is not 64 hexadecimal digits",
        ),
        (peer("endpoint=192.0.2.1"), 22, "line 3: `endpoint` is not the address and the port of a station"),
        (peer("endpoint=192.0.2.1:0"), 22, "line 3: `endpoint` is not the address and the port of a station"),
        (peer("endpoint=224.0.0.1:5"), 22, "line 3: `endpoint` is not the address and the port of a station"),
        (
            peer("endpoint=vpn.example.com:5"),
            22,
            "line 3: `endpoint` is not the address and the port of a station",
        ),
        (
            peer("endpoint=[fe80::1%eth0]:5"),
            22,
            "line 3: `endpoint` is not the address and the port of a station",
        ),
        (
            peer("persistent_keepalive_interval=65536"),
            22,
            "line 3: `persistent_keepalive_interval` is not a number, or too large a one",
        ),
        (
            peer("persistent_keepalive_interval=off"),
            22,
            "line 3: `persistent_keepalive_interval` is not a number, or too large a one",
        ),
        (peer("allowed_ip=10.0.0.1"), 22, "line 3: `allowed_ip` is not an address and a length"),
        (peer("allowed_ip=10.0.0.0/33"), 22, "line 3: `allowed_ip` is not an address and a length"),
        (peer("allowed_ip=--10.0.0.0/8"), 22, "line 3: `allowed_ip` is not an address and a length"),
        (peer("protocol_version=2"), 22, "line 3: `protocol_version` is not 1"),
        (refused(&"x".repeat(LINE + 1)), 90, "line 2: a line has at most 256 bytes"),
    ] {
        assert_eq!((got.0, got.1.as_str()), (errno, what));
        assert!(!got.1.contains(&secret[..8]));
    }
    let errno = |text: &str| read(text).unwrap_err();
    for (text, line) in [("\n", 1), ("get=2\n\n", 1), ("help\n\n", 1), ("listen_port=1\n\n", 1)] {
        let refusal = errno(text);
        assert_eq!((refusal.errno, refusal.line), (Errno::Protocol, line), "{text:?}");
    }
    assert_eq!(errno("get=1\nlisten_port=1\n\n").errno, Errno::Invalid);
    assert_eq!(refused("a\u{1b}[31m=1").1, "line 2: a tunnel has no key `a[31m`");
    assert_eq!((ending(None), ending(Some(Errno::Invalid))), ("errno=0\n\n".into(), "errno=-22\n\n".into()));
}

#[test]
fn an_endless_request_is_refused_and_known_as_such() {
    let mut reader = Reader::default();
    assert!(reader.line(b"set=1").is_none() && !reader.is_endless());
    for _ in 0..LINES {
        assert!(reader.line(b"replace_peers=true").is_none());
    }
    assert!(reader.is_endless());
    assert_eq!(reader.refusal().unwrap().errno, Errno::TooLong);
    assert!(reader.line(b"").unwrap().is_err());
    // The next one begins anew.
    assert!(reader.is_new() && reader.line(b"get=1").is_none());
    assert_eq!(reader.line(b""), Some(Ok(Request::Get)));
}

#[test]
fn hexadecimal_digits_are_those_of_both_cases_and_no_others() {
    for byte in 0..=255u8 {
        let expected = char::from(byte).to_digit(16);
        assert_eq!(Some(digit(byte)).filter(|digit| *digit < 16), expected, "{byte}");
    }
    let key: [u8; KEY_LEN] = std::array::from_fn(|n| (n * 37 + 11) as u8);
    assert_eq!(text(&key), key.map(|byte| format!("{byte:02x}")).concat());
    assert_eq!(bytes(&text(&key)).unwrap(), Zeroizing::new(key));
}

#[test]
fn allowed_ips_move_and_peers_come_and_go() {
    let mut two = peer(2, &["10.2.0.0/16", "fd02::/64"]);
    two.preshared = Some(KeyFile { path: "/k/two".to_owned(), secret: Some(Secret::new([7; 32])) });
    let before = end(vec![peer(1, &["10.1.0.0/16"]), two]);
    let [one, two, three] = [1, 2, 3].map(|seed| text(&public(seed).0));
    let after = |lines: &str| change(lines).apply(&before);
    let ips = |end: &WireguardSpec| -> Vec<Vec<String>> {
        end.peers.iter().map(|peer| peer.allowed_ips.iter().map(ToString::to_string).collect()).collect()
    };

    assert_eq!(after(""), before);
    let moved = after(&format!("public_key={one}\nallowed_ip=10.2.0.0/16"));
    assert_eq!(ips(&moved), [vec!["10.1.0.0/16", "10.2.0.0/16"], vec!["fd02::/64"]]);
    let replaced = after(&format!("public_key={two}\nreplace_allowed_ips=true\nallowed_ip=::/0"));
    assert_eq!(ips(&replaced), [["10.1.0.0/16"], ["::/0"]]);
    // Only its own can be taken from a peer.
    let taken = after(&format!("public_key={two}\nallowed_ip=-10.2.0.0/16\nallowed_ip=-10.1.0.0/16"));
    assert_eq!(ips(&taken), [["10.1.0.0/16"], ["fd02::/64"]]);
    let gone = after(&format!("public_key={one}\nremove=true\nallowed_ip=::/0"));
    assert_eq!(gone.peers, before.peers[1..]);
    assert_eq!(after(&format!("public_key={three}\nupdate_only=true\nallowed_ip=::/0")), before);
    assert_eq!(after(&format!("public_key={three}\nremove=true")), before);
    let new = after(&format!("public_key={three}\nendpoint=192.0.2.1:5\npersistent_keepalive_interval=5"));
    assert_eq!(new.peers[..2], before.peers);
    assert_eq!((new.peers[2].endpoint, new.peers[2].keepalive), ("192.0.2.1:5".parse().ok(), 5));

    // The whole of it once more, in another order: nothing has changed, and the preshared key is in the file that it was in.
    let psk = text(&[7; 32]);
    let again = format!(
        "private_key={}\nlisten_port=51820\nreplace_peers=true\npublic_key={two}\npreshared_key={psk}\nreplace_allowed_ips=true\n\
         allowed_ip=fd02::/64\nallowed_ip=10.2.0.0/16\npublic_key={one}\nreplace_allowed_ips=true\nallowed_ip=10.1.0.0/16",
        text(&[9; 32])
    );
    assert_eq!(after(&again), before);
    let other = after(&format!("public_key={two}\npreshared_key={}", text(&[8; 32])));
    assert_eq!(
        other.peers[1].preshared,
        Some(KeyFile { path: String::new(), secret: Some(Secret::new([8; 32])) })
    );
    let none = after(&format!("public_key={two}\npreshared_key={}", text(&[0; 32])));
    assert_eq!(none.peers[1].preshared, None);

    // Nobody is a peer of itself, also when that comes of a new key.
    let own = text(&public(9).0);
    assert_eq!(after(&format!("public_key={own}\nallowed_ip=10.1.0.0/16")), before);
    let turned = after(&format!("private_key={}", text(&[1; 32])));
    assert_eq!(turned.peers, before.peers[1..]);
    assert_eq!(turned.private_key, KeyFile { path: String::new(), secret: Some(Secret::new([1; 32])) });
}

#[test]
fn what_is_shown_has_room_and_is_what_wg_reads() {
    let mut one = peer(1, &["10.1.0.0/16", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/128"]);
    one.endpoint = "192.0.2.1:5".parse().ok();
    one.keepalive = 25;
    let end = end(vec![one.clone(), peer(2, &[])]);
    let mut out = String::new();
    show_end(&end, &mut out);
    assert_eq!(out.capacity(), shown::room(&end));
    let seen = Seen {
        endpoint: "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().ok(),
        handshake_ns: u64::MAX,
        rx: u64::MAX,
        tx: 3,
    };
    show_peer(&end.peers[0], seen, &mut out);
    show_peer(&end.peers[1], Seen::default(), &mut out);
    assert_eq!(out.capacity(), shown::room(&end), "keys were moved to and fro");
    let expected = format!(
        "private_key={}\nlisten_port=51820\npublic_key={}\npreshared_key={none}\nprotocol_version=1\n\
         endpoint=[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535\nlast_handshake_time_sec=18446744073\nlast_handshake_time_nsec=709551615\n\
         tx_bytes=3\nrx_bytes=18446744073709551615\npersistent_keepalive_interval=25\nallowed_ip=10.1.0.0/16\n\
         allowed_ip=2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/128\npublic_key={}\npreshared_key={none}\nprotocol_version=1\n\
         last_handshake_time_sec=0\nlast_handshake_time_nsec=0\ntx_bytes=0\nrx_bytes=0\npersistent_keepalive_interval=0\n",
        text(&[9; 32]),
        text(&public(1).0),
        text(&public(2).0),
        none = text(&[0; 32]),
    );
    assert_eq!(out, expected);
    let mut elsewhere = String::new();
    show_peer(&one, Seen::default(), &mut elsewhere);
    assert!(elsewhere.contains("\nendpoint=192.0.2.1:5\n"), "{elsewhere}");
}

/// A line for a peer, as the oracle understands it.
#[derive(Clone, Debug)]
enum Step {
    Remove(u8),
    Give(u8, u8),
    Take(u8, u8),
    Replace(u8, Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (who, what) = (1..6u8, 0..8u8);
    let step = prop_oneof![
        who.clone().prop_map(Step::Remove),
        (who.clone(), what.clone()).prop_map(|(who, what)| Step::Give(who, what)),
        (who.clone(), what.clone()).prop_map(|(who, what)| Step::Take(who, what)),
        (who, proptest::collection::vec(what, 0..3)).prop_map(|(who, what)| Step::Replace(who, what)),
    ];
    proptest::collection::vec(step, 0..20)
}

proptest! {
    /// One map from prefixes to peers, one set of peers: what the kernel keeps.
    #[test]
    fn prefixes_are_where_the_oracle_has_them(steps in steps()) {
        let before = end(vec![peer(1, &["10.0.0.0/16", "10.1.0.0/16"]), peer(2, &["10.2.0.0/16"])]);
        let mut peers = vec![1u8, 2];
        let mut owners = BTreeMap::from([(0u8, 1u8), (1, 1), (2, 2)]);
        let mut lines = String::new();
        for step in steps {
            let who = match &step {
                Step::Remove(who) | Step::Give(who, _) | Step::Take(who, _) | Step::Replace(who, _) => *who,
            };
            lines += &format!("public_key={}\n", text(&public(who).0));
            if !matches!(step, Step::Remove(_)) && !peers.contains(&who) {
                peers.push(who);
            }
            match step {
                Step::Remove(who) => {
                    lines += "remove=true\n";
                    peers.retain(|peer| *peer != who);
                    owners.retain(|_, owner| *owner != who);
                }
                Step::Give(who, what) => {
                    lines += &format!("allowed_ip=10.{what}.0.0/16\n");
                    owners.insert(what, who);
                }
                Step::Take(who, what) => {
                    lines += &format!("allowed_ip=-10.{what}.0.0/16\n");
                    owners.retain(|prefix, owner| (*prefix, *owner) != (what, who));
                }
                Step::Replace(who, all) => {
                    lines += "replace_allowed_ips=true\n";
                    owners.retain(|_, owner| *owner != who);
                    for what in all {
                        lines += &format!("allowed_ip=10.{what}.0.0/16\n");
                        owners.insert(what, who);
                    }
                }
            }
        }
        let Ok(Request::Set(change)) = read(&format!("set=1\n{lines}\n")) else { panic!("{lines}") };
        let after = change.apply(&before);
        let mut expected: Vec<_> = peers.iter().map(|who| public(*who)).collect();
        let mut got: Vec<_> = after.peers.iter().map(|peer| peer.public_key).collect();
        expected.sort();
        got.sort();
        prop_assert_eq!(expected, got);
        let got: BTreeMap<String, PublicKey> = after
            .peers
            .iter()
            .flat_map(|peer| peer.allowed_ips.iter().map(|prefix| (prefix.to_string(), peer.public_key)))
            .collect();
        let expected = owners.iter().map(|(what, who)| (format!("10.{what}.0.0/16"), public(*who))).collect();
        prop_assert_eq!(got, expected);
        let count: usize = after.peers.iter().map(|peer| peer.allowed_ips.len()).sum();
        prop_assert_eq!(count, owners.len(), "one place each");
    }

    #[test]
    fn no_line_is_too_odd(lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20)) {
        let mut reader = Reader::default();
        let mut whole = 0;
        for line in lines.iter().map(Vec::as_slice).chain([&b""[..]]) {
            whole += usize::from(reader.line(line).is_some());
        }
        prop_assert!(whole > 0 && reader.is_new());
    }
}
