//! What bad tables of WireGuard get: the exact text.

use zsync_pipelines::spec::{Style, parse, report};

mod gateway;
mod peers;

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
  = expected: one of `private-key-file`, `listen-port`, `local`, `to`, `mtu`, `max-peers`, `dscp`, `peers`
  = help: a secret key stands in a file of its own, which root alone may read

error: unknown key `preshared-key` in [wireguard.c.peers]
 --> w.toml:8:103
  = expected: one of `public-key`, `preshared-key-file`, `endpoint`, `allowed-ips`, `keepalive`
  = help: a secret key stands in a file of its own, which root alone may read

5 errors
"#,
    );
}
