//! What bad tables of WireGuard get: the exact text.

use zsync_pipelines::spec::{Style, parse, report};

fn told(source: &str) -> String {
    match parse(source, "w.toml") {
        Ok(parsed) => report(&parsed.warnings, source, Style::Plain),
        Err(errors) => report(&errors, source, Style::Plain),
    }
}

/// Puts ports and a pipeline with both stages behind a table, whose lines are so counted from 1.
#[track_caller]
fn check(table: &str, expected: &str) {
    let rest = "[port.a]\nnetdev = \"a\"\n[pipeline.p]\ninput = [\"a\"]\n\
                stages = [\"wireguard-open.gw\", \"wireguard-seal.gw\", \"route\"]\n";
    check_all(&format!("{table}{rest}"), expected);
}

#[track_caller]
fn check_all(source: &str, expected: &str) {
    let told = told(source);
    assert_eq!(told, expected, "\n{told}");
}

#[test]
fn a_table_without_a_key_file() {
    check(
        r#"[wireguard.gw]
"#,
        r#"error: [wireguard.gw] has no `private-key-file`
 --> w.toml:1:12
  |
1 | [wireguard.gw]
  |            ^^
  = expected: the path of a file, from the configuration's folder or from the root

1 error
"#,
    );
}

#[test]
fn numbers_and_addresses_out_of_bounds() {
    check(
        r#"[wireguard.gw]
private-key-file = "gw.key"
listen-port = 0
local = ["192.0.2.1", "192.0.2.2", "::"]
mtu = 100
max-peers = 262145
dscp = 64
"#,
        r#"error: `wireguard.gw.listen-port` cannot be 0
 --> w.toml:3:15
  |
3 | listen-port = 0
  |               ^
  = expected: a number from 1 to 65535

error: `wireguard.gw.local` has 3 entries
 --> w.toml:4:9
  |
4 | local = ["192.0.2.1", "192.0.2.2", "::"]
  |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = expected: a list of 0 to 2, each an IP address like "192.0.2.1" or "2001:db8::1"

error: `wireguard.gw.local`: 192.0.2.1 and 192.0.2.2 are of one family
 --> w.toml:4:23
  |
4 | local = ["192.0.2.1", "192.0.2.2", "::"]
  |                       ^^^^^^^^^^^
  = expected: one address of each family at most
  = help: [] takes all of the host's own

error: `wireguard.gw.mtu` cannot be 100
 --> w.toml:5:7
  |
5 | mtu = 100
  |       ^^^
  = expected: a number from 576 to 9000

error: `wireguard.gw.max-peers` cannot be 262145
 --> w.toml:6:13
  |
6 | max-peers = 262145
  |             ^^^^^^
  = expected: "auto", or a number from 1 to 262144

error: `wireguard.gw.dscp` cannot be 64
 --> w.toml:7:8
  |
7 | dscp = 64
  |        ^^
  = expected: "inner", or a number from 0 to 63

6 errors
"#,
    );
}

#[test]
fn two_addresses_of_one_family_and_one_of_no_station() {
    check(
        r#"[wireguard.gw]
private-key-file = "gw.key"
local = ["192.0.2.1", "192.0.2.2"]
[wireguard.other]
private-key-file = "o"
local = ["224.0.0.1"]
listen-port = 7
"#,
        r#"error: `wireguard.gw.local`: 192.0.2.1 and 192.0.2.2 are of one family
 --> w.toml:3:23
  |
3 | local = ["192.0.2.1", "192.0.2.2"]
  |                       ^^^^^^^^^^^
  = expected: one address of each family at most
  = help: [] takes all of the host's own

error: `wireguard.other.local`: 224.0.0.1 is the address of no station
 --> w.toml:6:10
  |
6 | local = ["224.0.0.1"]
  |          ^^^^^^^^^^^
  = expected: an address of this host; [] for all of its own

2 errors
"#,
    );
}

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

#[test]
fn memory_for_fewer_peers_than_there_are() {
    check(
        r#"[wireguard.gw]
private-key-file = "gw.key"
max-peers = 1
peers = [{ public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", allowed-ips = ["10.0.0.0/8"] }, { public-key = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=", allowed-ips = ["10.1.0.0/16"] }]
"#,
        r#"error: `wireguard.gw.max-peers`: there are 2 peers
 --> w.toml:3:13
  |
3 | max-peers = 1
  |             ^
  = expected: "auto", or at least 2

1 error
"#,
    );
}

#[test]
fn a_secret_in_place_of_a_file_is_not_shown() {
    check(
        r#"[wireguard.gw]
private-key-file = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
[wireguard.b]
private-key = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
[wireguard.c]
private-key-file = "c"
listen-port = 7
peers = [{ public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", allowed-ips = ["10.0.0.0/8"], preshared-key = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=" }]
"#,
        r#"error: `wireguard.gw.private-key-file` is a key, not the path of a file with the key in it
 --> w.toml:2:20
  = expected: the path of a file, from the configuration's folder or from the root
  = help: write it into a file that only root may read; who could read it here knows it: make another one

error: [wireguard.b] has no `private-key-file`
 --> w.toml:3:12
  |
3 | [wireguard.b]
  |            ^
  = expected: the path of a file, from the configuration's folder or from the root

error: [wireguard.b] and [wireguard.gw] both listen at UDP port 51820
 --> w.toml:3:12
  |
3 | [wireguard.b]
  |            ^ the other is in line 1
  = help: give each its own `listen-port`, or `local` addresses of its own

error: unknown key `private-key` in [wireguard.b]
 --> w.toml:4:1
  = expected: one of `private-key-file`, `listen-port`, `local`, `mtu`, `max-peers`, `dscp`, `peers`
  = help: a secret key stands in a file of its own, which root alone may read

error: unknown key `preshared-key` in [wireguard.c.peers]
 --> w.toml:8:103
  = expected: one of `public-key`, `preshared-key-file`, `endpoint`, `allowed-ips`, `keepalive`
  = help: a secret key stands in a file of its own, which root alone may read

5 errors
"#,
    );
}

#[test]
fn two_ends_at_one_port() {
    check(
        r#"[wireguard.gw]
private-key-file = "gw.key"
local = ["192.0.2.1"]
[wireguard.b]
private-key-file = "b"
local = ["2001:db8::1"]
[wireguard.c]
private-key-file = "c"
local = ["192.0.2.1"]
[wireguard.d]
private-key-file = "d"
"#,
        r#"error: [wireguard.c] and [wireguard.gw] both listen at UDP port 51820
 --> w.toml:7:12
  |
7 | [wireguard.c]
  |            ^ the other is in line 1
  = help: give each its own `listen-port`, or `local` addresses of its own

error: [wireguard.d] and [wireguard.gw] both listen at UDP port 51820
  --> w.toml:10:12
   |
10 | [wireguard.d]
   |            ^ the other is in line 1
   = help: give each its own `listen-port`, or `local` addresses of its own

2 errors
"#,
    );
}

#[test]
fn half_a_gateway() {
    check_all(
        r#"[wireguard.a]
private-key-file = "a"
[wireguard.b]
private-key-file = "b"
listen-port = 7
[wireguard.c]
private-key-file = "c"
listen-port = 8
[port.a]
netdev = "a"
[pipeline.p]
input = ["a"]
stages = ["wireguard-open.a", "wireguard-seal.b", "route"]
"#,
        r#"warning: [wireguard.a] is opened and never sealed
 --> w.toml:1:12
  |
1 | [wireguard.a]
  |            ^ nothing is sent to its peers
  = help: name "wireguard-seal.a" in the pipeline of such packets, ahead of `route`

warning: [wireguard.b] is sealed and never opened
 --> w.toml:3:12
  |
3 | [wireguard.b]
  |            ^ nothing that comes from its peers is understood
  = help: name "wireguard-open.b" in the pipeline of such packets, ahead of `route`

warning: no pipeline uses [wireguard.c]
 --> w.toml:6:12
  |
6 | [wireguard.c]
  |            ^

3 warnings
"#,
    );
}

#[test]
fn stages_and_tables_that_there_are_not() {
    check_all(
        r#"[wireguard.a]
private-key-file = "a"
[wireguard-open.b]
[port.a]
netdev = "a"
[port.b]
netdev = "b"
[pipeline.p]
input = ["a"]
stages = ["wireguard-open.a", "wireguard-seal.b", "wireguard.a", "wireguard-open", "route"]
"#,
        r#"error: unknown section `wireguard-open`
 --> w.toml:3:2
  |
3 | [wireguard-open.b]
  |  ^^^^^^^^^^^^^^
  = expected: [wireguard.NAME], which the stage "wireguard-open.NAME" is told by

error: there is no table [wireguard.b]
  --> w.toml:10:31
   |
10 | stages = ["wireguard-open.a", "wireguard-seal.b", "wireguard.a", "wireguard-open", "route"]
   |                               ^^^^^^^^^^^^^^^^^^
   = help: did you mean "wireguard-seal.a"?

error: there is no stage "wireguard.a"
  --> w.toml:10:51
   |
10 | stages = ["wireguard-open.a", "wireguard-seal.b", "wireguard.a", "wireguard-open", "route"]
   |                                                   ^^^^^^^^^^^^^
   = expected: "wireguard-open.a" or "wireguard-seal.a"
   = help: both are told by [wireguard.a]

error: the stage "wireguard-open" needs a table
  --> w.toml:10:66
   |
10 | stages = ["wireguard-open.a", "wireguard-seal.b", "wireguard.a", "wireguard-open", "route"]
   |                                                                  ^^^^^^^^^^^^^^^^
   = help: did you mean "wireguard-open.a"?

4 errors
"#,
    );
}

#[test]
fn frames_are_not_opened() {
    check(
        r#"[wireguard.gw]
private-key-file = "gw.key"
[pipeline.q]
input = ["b"]
stages = ["wireguard-open.gw", "patch.w"]
[patch.w]
pairs = { b = "a" }
[port.b]
netdev = "b"
"#,
        r#"error: [wireguard-open.gw] carries IP packets, and a patch frames
 --> w.toml:5:11
  |
5 | stages = ["wireguard-open.gw", "patch.w"]
  |           ^^^^^^^^^^^^^^^^^^^
  = help: route instead of `patch`

1 error
"#,
    );
}
