use super::*;
use crate::spec::{Parsed, Spec, StageSpec, diff, fingerprint, parse};
use zsync_wireguard::key::Secret;

const ONE: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const TWO: &str = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=";
const PORTS: &str = "[port.a]\nnetdev = \"a\"\n[pipeline.p]\ninput = [\"a\"]\n\
                     stages = [\"wireguard-open.gw\", \"wireguard-seal.gw\", \"route\"]\n[wireguard.gw]\nprivate-key-file = \"gw.key\"\n";

fn parsed(rest: &str) -> Parsed {
    let source = format!("{PORTS}{rest}");
    parse(&source, "w.toml").unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn end(spec: &Spec) -> &WireguardSpec {
    match &spec.pipelines[0].stages[0].spec {
        StageSpec::WireguardOpen(spec) => spec,
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults_are_those_of_the_documents() {
    let spec = parsed("").spec;
    let expected = WireguardSpec {
        name: "gw".to_owned(),
        private_key: KeyFile::unread("gw.key"),
        listen_port: 51_820,
        local: Vec::new(),
        to: None,
        mtu: 1420,
        max_peers: 64,
        dscp: None,
        peers: Vec::new(),
    };
    assert_eq!(end(&spec), &expected);
    assert_eq!(spec.pipelines[0].stages[1].spec, StageSpec::WireguardSeal(expected));
}

#[test]
fn both_stages_are_told_the_same_and_the_canonical_text_says_it_once() {
    let table = format!(
        "local = [\"2001:DB8::1\", \"192.0.2.1\"]\nmtu = 1280\ndscp = 46\npeers = [{{ public-key = \"{ONE}\", preshared-key-file = \"p\", \
         endpoint = \"[2001:DB8::2]:51820\", allowed-ips = [\"10.0.0.1\", \"fd00::/8\"], keepalive = \"2m\" }}, \
         {{ public-key = \"{TWO}\", allowed-ips = [\"10.0.0.0/8\"] }}]\n"
    );
    let Parsed { spec, warnings, .. } = parsed(&table);
    assert_eq!(warnings, []);
    let gw = end(&spec);
    let [first, second] = gw.peers.as_slice() else { panic!("{gw:?}") };
    assert_eq!(first.public_key.to_string(), ONE);
    assert_eq!(first.preshared, Some(KeyFile::unread("p")));
    assert_eq!(first.endpoint, "[2001:db8::2]:51820".parse().ok());
    assert_eq!(first.allowed_ips, ["10.0.0.1/32", "fd00::/8"].map(|text| text.parse().unwrap()));
    assert_eq!((first.keepalive, second.keepalive), (120, 0));
    let text = spec.to_toml();
    assert_eq!(text.matches("[wireguard.gw]").count(), 1, "{text}");
    assert!(!text.contains("[wireguard-"), "{text}");
    assert_eq!(parse(&text, "again.toml").unwrap().spec, spec);
}

#[test]
fn memory_for_peers_is_twice_what_there_are() {
    let with = |count: usize| {
        let peer = |n: usize| {
            let mut bytes = [7; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            format!(
                "{{ public-key = \"{}\", allowed-ips = [\"10.0.{}.{}\"] }}",
                PublicKey(bytes),
                n / 256,
                n % 256
            )
        };
        let peers: Vec<String> = (0..count).map(peer).collect();
        end(&parsed(&format!("peers = [{}]\n", peers.join(", "))).spec).max_peers
    };
    assert_eq!([0, 32, 33, 200].map(with), [64, 64, 128, 512]);
}

#[test]
fn both_stages_have_one_memory() {
    let spec = parsed("max-peers = 100\n").spec;
    let needs = crate::state::needs(&spec, 2);
    let labels: Vec<&String> = needs.keys().collect();
    assert_eq!(labels, ["wireguard.gw"]);
    let bytes = zsync_wireguard::book::Book::bytes(100);
    assert_eq!(needs["wireguard.gw"], crate::state::StateSize { shared: bytes, each: 0 });
}

#[test]
fn keys_go_to_the_data_plane_and_are_shown_nowhere() {
    let table = format!(
        "peers = [{{ public-key = \"{ONE}\", preshared-key-file = \"p\", allowed-ips = [\"::/0\"] }}]\n"
    );
    let plain = parsed(&table).spec;
    let secret = |byte| Some(Secret::new([byte; 32]));
    let mut spec = plain.clone();
    for stage in &mut spec.pipelines[0].stages {
        if let StageSpec::WireguardOpen(end) | StageSpec::WireguardSeal(end) = &mut stage.spec {
            end.private_key.secret = secret(0xa5);
            end.peers[0].preshared.as_mut().unwrap().secret = secret(0xc3);
        }
    }
    let bytes = postcard::to_stdvec(&spec).unwrap();
    assert_eq!(postcard::from_bytes::<Spec>(&bytes).unwrap(), spec);
    assert_eq!(
        bytes.windows(32).filter(|part| **part == [0xa5; 32]).count(),
        2,
        "it sees a key that is there"
    );

    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(json, serde_json::to_string(&plain).unwrap());
    assert_eq!(serde_json::from_str::<Spec>(&json).unwrap(), plain);
    assert_eq!(spec.to_toml(), plain.to_toml());
    assert_eq!(fingerprint(spec.to_toml()), fingerprint(plain.to_toml()));
    let shown = format!("{spec:?} {:?} {json} {}", diff(&plain, &spec), spec.to_toml());
    for key in [0xa5u8, 0xc3] {
        let text = Secret::new([key; 32]).expose_text();
        for part in [&text[..8], &format!("{key}, {key}"), &format!("{key:02x}{key:02x}")] {
            assert!(!shown.contains(part), "{part}: {shown}");
        }
    }
    assert_ne!(spec, plain, "another key is another configuration");
}

#[test]
fn a_file_with_another_key_is_a_change_and_a_file_without_one_a_mistake() {
    let table = format!(
        "peers = [{{ public-key = \"{ONE}\", preshared-key-file = \"p\", allowed-ips = [\"::/0\"] }}]\n"
    );
    let source = format!("{PORTS}{table}");
    let read = |byte: u8| {
        let mut parsed = parsed(&table);
        let mut asked = Vec::new();
        read_keys(&mut parsed, &source, "w.toml", &mut |path| {
            asked.push(path.to_owned());
            Ok(Secret::new([byte; 32]))
        })
        .unwrap();
        assert_eq!(asked, ["gw.key", "p"], "each file once");
        parsed.spec
    };
    let (one, two) = (read(1), read(2));
    assert!(one.pipelines[0].stages.iter().take(2).all(|stage| match &stage.spec {
        StageSpec::WireguardOpen(end) | StageSpec::WireguardSeal(end) =>
            end.private_key.secret == Some(Secret::new([1; 32]))
                && end.peers[0].preshared.as_ref().unwrap().secret.is_some(),
        _ => false,
    }));
    assert_eq!(diff(&one, &read(1)), []);
    let changes: Vec<String> = diff(&one, &two).iter().map(ToString::to_string).collect();
    assert_eq!(
        changes,
        [
            "~ wireguard.gw.private-key-file: gw.key has another key in it",
            "~ wireguard.gw.peers: p has another key in it"
        ]
    );

    let fault = |unseen| KeyFault { what: "no".to_owned(), remedy: Some("do".to_owned()), unseen };
    let mut unread = parsed(&table);
    let errors = read_keys(&mut unread, &source, "w.toml", &mut |_| Err(fault(false))).unwrap_err();
    let told: Vec<_> = errors.iter().map(|error| (error.line, error.message.as_str())).collect();
    let expected =
        [(7, "`wireguard.gw.private-key-file`: no"), (8, "`wireguard.gw.peers.preshared-key-file`: no")];
    assert_eq!(told, expected);
    let mut unseen = parsed(&table);
    read_keys(&mut unseen, &source, "w.toml", &mut |_| Err(fault(true))).unwrap();
    assert_eq!(unseen.warnings.len(), 2);
}

#[test]
fn this_end_is_no_peer_of_its_own() {
    let own = Secret::new([7; 32]);
    let table = format!("peers = [{{ public-key = \"{}\", allowed-ips = [\"::/0\"] }}]\n", own.public());
    let source = format!("{PORTS}{table}");
    let mut parsed = parsed(&table);
    let errors = read_keys(&mut parsed, &source, "w.toml", &mut |_| Ok(own.clone())).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].message.ends_with("is this end itself") && errors[0].line == 8, "{errors:?}");
}
