//! Peers.

use super::*;

#[test]
fn a_peer_with_a_bad_key_endpoint_prefix_and_interval() {
    check(
        r#"[wireguard.gw]
private-key-file = "gw.key"
peers = [
    { public-key = "abc=" },
    { public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", endpoint = "vpn.example.com:51820" },
    { public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", endpoint = "2001:db8::1" },
    { public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", endpoint = "[2001:db8::1]:0" },
    { public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", endpoint = "0.0.0.0:51820" },
    { public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", endpoint = "[fe80::1%3]:51820" },
    { public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", allowed-ips = ["10.8.0.1/24", "2001:db8::1/32"] },
    { public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", keepalive = "250ms" },
    { public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", keepalive = "1d" },
    { allowed-ip = ["::/0"] },
]
"#,
        r#"error: `wireguard.gw.peers.public-key`: "abc=" is not a key
 --> w.toml:4:20
  |
4 |     { public-key = "abc=" },
  |                    ^^^^^^
  = expected: a public key: 44 characters of base64, as `wg pubkey` writes them

error: `wireguard.gw.peers.endpoint`: "vpn.example.com:51820" has a name, and names are not resolved here: write the address that `getent ahosts vpn.example.com` says
 --> w.toml:5:79
  |
5 | …ERt1NAB4mZqp8Dg=", endpoint = "vpn.example.com:51820" },
  |                                ^^^^^^^^^^^^^^^^^^^^^^^
  = expected: an address and a port, like "192.0.2.1:51820" or "[2001:db8::1]:51820"

error: `wireguard.gw.peers.endpoint`: "2001:db8::1" has no port
 --> w.toml:6:79
  |
6 |     { public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", endpoint = "2001:db8::1" },
  |                                                                               ^^^^^^^^^^^^^
  = expected: an address and a port, like "192.0.2.1:51820" or "[2001:db8::1]:51820"

error: `wireguard.gw.peers.endpoint`: "[2001:db8::1]:0" has no port
 --> w.toml:7:79
  |
7 |     { public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", endpoint = "[2001:db8::1]:0" },
  |                                                                               ^^^^^^^^^^^^^^^^^
  = expected: an address and a port, like "192.0.2.1:51820" or "[2001:db8::1]:51820"

error: `wireguard.gw.peers.endpoint`: "0.0.0.0:51820" is the address of no station
 --> w.toml:8:79
  |
8 |     { public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", endpoint = "0.0.0.0:51820" },
  |                                                                               ^^^^^^^^^^^^^^^
  = expected: an address and a port, like "192.0.2.1:51820" or "[2001:db8::1]:51820"

error: `wireguard.gw.peers.endpoint`: "[fe80::1%3]:51820" names a network device: routes say which way a peer is
 --> w.toml:9:79
  |
9 |     { public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", endpoint = "[fe80::1%3]:51820" },
  |                                                                               ^^^^^^^^^^^^^^^^^^^
  = expected: an address and a port, like "192.0.2.1:51820" or "[2001:db8::1]:51820"

error: `wireguard.gw.peers.allowed-ips`: "10.8.0.1/24" has bits set past its 24 leading bits
  --> w.toml:10:83
   |
10 | …NAB4mZqp8Dg=", allowed-ips = ["10.8.0.1/24", "2001:db8::1/32"] },
   |                                ^^^^^^^^^^^^^
   = expected: an IP address or a prefix, like "192.0.2.1" or "2001:db8::/32"
   = help: did you mean "10.8.0.0/24"?

error: `wireguard.gw.peers.allowed-ips`: "2001:db8::1/32" has bits set past its 32 leading bits
  --> w.toml:10:98
   |
10 | …allowed-ips = ["10.8.0.1/24", "2001:db8::1/32"] },
   |                                ^^^^^^^^^^^^^^^^
   = expected: an IP address or a prefix, like "192.0.2.1" or "2001:db8::/32"
   = help: did you mean "2001:db8::/32"?

error: `wireguard.gw.peers.keepalive`: "250ms" is not a whole number of seconds
  --> w.toml:11:80
   |
11 |     { public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", keepalive = "250ms" },
   |                                                                                ^^^^^^^
   = expected: "off", or whole seconds from "1s" to "65535s"

error: `wireguard.gw.peers.keepalive`: "1d" is too long
  --> w.toml:12:80
   |
12 |     { public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", keepalive = "1d" },
   |                                                                                ^^^^
   = expected: "off", or whole seconds from "1s" to "65535s"

error: [wireguard.gw.peers] has no `public-key`
  --> w.toml:13:5
   |
13 |     { allowed-ip = ["::/0"] },
   |     ^^^^^^^^^^^^^^^^^^^^^^^^^
   = expected: a public key: 44 characters of base64, as `wg pubkey` writes them

error: unknown key `allowed-ip` in [wireguard.gw.peers]
  --> w.toml:13:7
   |
13 |     { allowed-ip = ["::/0"] },
   |       ^^^^^^^^^^
   = expected: one of `public-key`, `preshared-key-file`, `endpoint`, `allowed-ips`, `keepalive`
   = help: did you mean `allowed-ips`?

12 errors
"#,
    );
}

#[test]
fn a_key_and_a_prefix_of_two_peers() {
    check(
        r#"[wireguard.gw]
private-key-file = "gw.key"
peers = [
    { public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", allowed-ips = ["10.0.0.0/8"] },
    { public-key = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=", allowed-ips = ["10.1.0.0/16", "10.0.0.0/8"] },
    { public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", allowed-ips = ["10.2.0.0/16"] },
]
"#,
        r#"error: `wireguard.gw.peers`: 10.0.0.0/8 is behind two peers
 --> w.toml:5:98
  |
5 | …allowed-ips = ["10.1.0.0/16", "10.0.0.0/8"] },
  |                                ^^^^^^^^^^^^ also in line 4
  = help: packets to an address go to one peer; of two prefixes the longer one wins

error: `wireguard.gw.peers` has xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg= twice
 --> w.toml:6:20
  |
6 |     { public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", allowed-ips = ["10.2.0.0/16"] },
  |                    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ also in line 4
  = help: give the peer all its `allowed-ips` in one table

2 errors
"#,
    );
}

#[test]
fn a_peer_without_addresses_and_a_small_mtu_are_warned_of() {
    check(
        r#"[wireguard.gw]
private-key-file = "gw.key"
mtu = 1279
peers = [{ public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=" }]
"#,
        r#"warning: `wireguard.gw.mtu`: IPv6 needs 1280 bytes
 --> w.toml:3:7
  |
3 | mtu = 1279
  |       ^^^^
  = help: packets of IPv6 that are longer are answered with "packet too big", which hosts need not heed below that

warning: `wireguard.gw.peers`: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg= has no `allowed-ips`
 --> w.toml:4:10
  |
4 | peers = [{ public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=" }]
  |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ nothing goes to this peer, and nothing from it is taken

2 warnings
"#,
    );
}
