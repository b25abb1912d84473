//! Requests of `wg`: any bytes are requests or mistakes, each in a line; what comes of one is a tunnel whose keys and prefixes are of one
//! peer each, and saying all of it anew gives the same tunnel.

use std::collections::BTreeSet;
use zsync_pipelines::spec::parse;
use zsync_pipelines::spec::wireguard::uapi::{Change, LINE, Reader, Request, Seen, show_end, show_peer};
use zsync_pipelines::spec::wireguard::{WireguardSpec, ends};

const CONFIG: &str = "[port.a]\nnetdev = \"a\"\n[pipeline.p]\ninput = [\"a\"]\nstages = [\"wireguard-open.w\", \"wireguard-seal.w\", \"route\"]\n\
    [wireguard.w]\nprivate-key-file = \"k\"\npeers = [\n\
    { public-key = \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\", allowed-ips = [\"10.0.0.0/8\", \"fd00::/8\"] },\n\
    { public-key = \"TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=\", endpoint = \"192.0.2.1:5\", allowed-ips = [\"10.1.0.0/16\"] },\n]\n";

/// Runs one input.
pub(crate) fn run(input: &[u8]) {
    let parsed = parse(CONFIG, "w.toml").unwrap_or_else(|errors| panic!("{errors:?}"));
    let mut end = ends(&parsed.spec)["w"].clone();
    let mut reader = Reader::default();
    let mut lines = 0;
    for line in input.split(|byte| *byte == b'\n') {
        lines += 1;
        let Some(outcome) = reader.line(line) else { continue };
        match outcome {
            Ok(Request::Get) => shown(&end),
            Ok(Request::Set(change)) => {
                end = applied(change, &end);
                shown(&end);
            }
            Err(refusal) => {
                assert!((1..=lines).contains(&refusal.line), "{refusal:?}");
                assert!(refusal.what.len() <= LINE, "{refusal:?}");
                assert!(refusal.what.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{refusal:?}");
            }
        }
        lines = 0;
        assert!(reader.is_new());
    }
}

fn applied(change: Change, end: &WireguardSpec) -> WireguardSpec {
    let new = change.clone().apply(end);
    let keys: BTreeSet<_> = new.peers.iter().map(|peer| peer.public_key).collect();
    assert_eq!(keys.len(), new.peers.len(), "a peer is there twice");
    let own = new.private_key.secret.as_ref().map(|secret| secret.public());
    assert!(!keys.iter().any(|key| Some(*key) == own), "our own key is a peer's");
    let prefixes: BTreeSet<_> = new.peers.iter().flat_map(|peer| &peer.allowed_ips).collect();
    let count: usize = new.peers.iter().map(|peer| peer.allowed_ips.len()).sum();
    assert_eq!(prefixes.len(), count, "a prefix is behind two peers");
    assert!(change.listen_port.is_none_or(|port| new.listen_port == port && port != 0));
    assert_eq!((new.mtu, new.max_peers, &new.name), (end.mtu, end.max_peers, &end.name));
    new
}

/// What is shown is a change that leaves the tunnel as it is, and makes an empty one the same.
fn shown(end: &WireguardSpec) {
    let mut text = String::from("set=1\n");
    show_end(end, &mut text);
    text.push_str("replace_peers=true\n");
    for peer in &end.peers {
        show_peer(peer, Seen::default(), &mut text);
    }
    let only_shown =
        |line: &&str| ["last_handshake", "tx_bytes", "rx_bytes"].iter().all(|key| !line.starts_with(key));
    let mut reader = Reader::default();
    for line in text.lines().filter(only_shown) {
        assert_eq!(reader.line(line.as_bytes()), None, "{line}");
    }
    let Some(Ok(Request::Set(change))) = reader.line(b"") else { panic!("{text}") };
    assert_eq!(change.clone().apply(end), *end);
    let empty = WireguardSpec { peers: Vec::new(), listen_port: 1, ..end.clone() };
    let mut again = change.apply(&empty);
    for (peer, was) in again.peers.iter_mut().zip(&end.peers) {
        // A key that came by the socket has no file yet.
        let secret = |file: &Option<zsync_pipelines::spec::wireguard::KeyFile>| {
            file.as_ref().and_then(|file| file.secret.clone())
        };
        assert_eq!(secret(&peer.preshared), secret(&was.preshared));
        peer.preshared.clone_from(&was.preshared);
    }
    assert_eq!(again, *end);
}

/// Requests to begin with.
pub(crate) const SEEDS: [&str; 5] = [
    "get=1\n\n",
    "set=1\nprivate_key=e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a\nfwmark=0\nlisten_port=12912\n\
     public_key=b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33\n\
     preshared_key=188515093e952f5f22e865cef3012e72f8b5f0b598ac0309d5dacce3b70fcf52\nreplace_allowed_ips=true\n\
     allowed_ip=192.168.4.4/32\nendpoint=[abcd:23::33%2]:51820\n\n",
    "set=1\nreplace_peers=true\npublic_key=58402e695ba1772b1cc9309755f043251ea77fdcf10fbe63989ceb7e19321376\ntx_bytes=1\n\nget=1\n\n\
     set=1\npublic_key=58402e695ba1772b1cc9309755f043251ea77fdcf10fbe63989ceb7e19321376\nreplace_allowed_ips=true\n\
     allowed_ip=192.168.4.6/32\nallowed_ip=10.1.0.0/16\npersistent_keepalive_interval=111\nendpoint=182.122.22.19:3233\n\
     preshared_key=0000000000000000000000000000000000000000000000000000000000000000\nprotocol_version=1\n\n",
    "set=1\npublic_key=662e14fd594556f522604703340351258903b64f35553763f19426ab2a515c58\nendpoint=5.152.198.39:51820\n\
     allowed_ip=192.168.4.10/32\nallowed_ip=-10.1.0.0/16\nupdate_only=true\n\
     public_key=e818b58db5274087fcc1be5dc728cf53d3b5726b4cef6b9bab8f8f8c2452c25c\nremove=true\n\n",
    "help\n\nset=1\nmtu=1\n\nset=2\n\n\nget=1\nfwmark=5\n\nset=1\nprivate_key\n",
];
