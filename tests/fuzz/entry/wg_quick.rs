//! Files of `wg-quick`: any text is one or has mistakes, each in a line of it; and what one says is a section that says the same.

use zsync_pipelines::spec::parse;
use zsync_pipelines::spec::wireguard::ends;
use zsync_pipelines::spec::wireguard::quick::{Endpoint, read};

/// Runs one input.
pub(crate) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let quick = match read(text) {
        Ok(quick) => quick,
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            let lines = text.lines().count().max(1);
            assert!(mistakes.iter().all(|mistake| (1..=lines).contains(&mistake.line)), "{mistakes:?}");
            assert!(mistakes.is_sorted_by_key(|mistake| mistake.line), "{mistakes:?}");
            return;
        }
    };
    let at = |port| std::net::SocketAddr::from(([192, 0, 2, 9], port));
    let path = |peer: Option<usize>| peer.map_or("k".to_owned(), |n| format!("p{n}"));
    let section = quick.to_toml("w", &path, &mut |_, port| Ok(at(port))).unwrap();
    let rest = "[port.a]\nnetdev = \"a\"\n[pipeline.p]\ninput = [\"a\"]\nstages = [\"wireguard-open.w\", \"wireguard-seal.w\", \"route\"]\n";
    let parsed = parse(&format!("{section}{rest}"), "w.toml")
        .unwrap_or_else(|errors| panic!("{text}\n{section}\n{errors:?}"));
    let all = ends(&parsed.spec);
    let end = all["w"];
    assert_eq!((end.listen_port, end.mtu), (quick.listen_port.unwrap_or(51_820), quick.mtu.unwrap_or(1420)));
    assert_eq!(end.peers.len(), quick.peers.len());
    for (n, (peer, said)) in end.peers.iter().zip(&quick.peers).enumerate() {
        let endpoint = said.endpoint.as_ref().map(|endpoint| match endpoint {
            Endpoint::At(socket) => *socket,
            Endpoint::Named(_, port) => at(*port),
        });
        assert_eq!(
            (peer.public_key, peer.endpoint, peer.keepalive),
            (said.public_key, endpoint, said.keepalive)
        );
        assert_eq!(peer.allowed_ips, said.allowed_ips);
        let preshared = peer.preshared.as_ref().map(|file| file.path.clone());
        assert_eq!(preshared, said.preshared.as_ref().map(|_| path(Some(n))));
    }
    for secret in quick.peers.iter().filter_map(|peer| peer.preshared.as_ref()).chain([&quick.private_key]) {
        // A peer's public key may be made of the same bytes, and a command may have the key in it.
        let text = secret.expose_text();
        let own = |line: &str| !line.starts_with('#') && !line.contains("public-key");
        assert!(
            !section.lines().filter(|line| own(line)).any(|line| line.contains(text.as_str())),
            "{section}"
        );
    }
}

/// Files to begin with.
pub(crate) const SEEDS: [&str; 4] = [
    "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\nListenPort = 51820\n\n[Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nEndpoint = 192.95.5.67:1234\nAllowedIPs = 10.192.122.3/32, 10.192.124.1/24\n\n[Peer]\nPublicKey = TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=\nEndpoint = [2607:5300:60:6b0::c05f:543]:2468\nAllowedIPs = 10.192.122.4/32, 192.168.0.0/16\n",
    "[interface] # a comment\nprivatekey=yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\nADDRESS = 10.0.0.1/24, fd00::1/64\nDNS = 1.1.1.1\nTable = off\nMTU = 1380\nFwMark = 0x10\nPostUp = iptables -A FORWARD -i %i -j ACCEPT\nSaveConfig = true\n[PEER]\npublickey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nPresharedKey = FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=\nAllowedIPs = 0.0.0.0/0\nAllowedIPs = ::/0\nEndpoint = vpn.example.com:51820\nPersistentKeepalive = 25\n",
    "[Interface]\nPrivateKey = abc\nListenPort = 99999\nAllowedIPs = ::/0\n[Pear]\nx = 1\n[Peer]\nEndpoint = 2001:db8::1:51820\nAllowedIPs = 10.0.0.0/33, x\nPersistentKeepalive = never\nPublikKey = b\n",
    "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n[Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nAllowedIPs = 10.0.0.1/8\n[Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nAllowedIPs = 10.0.0.0/8,\n",
];
