//! Keys and sections that are unknown, missing or of another kind.

use super::{GOOD, check};

#[test]
fn an_unknown_key() {
    check(
        r#"[port.wan]
netdev = "eth1"
netdevice = "x"
ring_size = 64
[pipeline.p]
input = ["wan"]
stages = ["punt"]
"#,
        r#"error: unknown key `netdevice` in [port.wan]
 --> r.toml:3:1
  |
3 | netdevice = "x"
  | ^^^^^^^^^
  = expected: one of `netdev`, `device`, `mtu`, `addresses`, `listen`, `io-uring`, `queues`, `steer`, `block`, `xdp`, `failover`, `grace`, `mode`, `ring-size`, `busy-poll`, `replace`, `promiscuous`, `vlans`
  = help: did you mean `netdev`?

error: unknown key `ring_size` in [port.wan]
 --> r.toml:4:1
  |
4 | ring_size = 64
  | ^^^^^^^^^
  = expected: one of `netdev`, `device`, `mtu`, `addresses`, `listen`, `io-uring`, `queues`, `steer`, `block`, `xdp`, `failover`, `grace`, `mode`, `ring-size`, `busy-poll`, `replace`, `promiscuous`, `vlans`
  = help: did you mean `ring-size`?

2 errors
"#,
    );
}

#[test]
fn an_unknown_section() {
    check(
        &format!(
            "{}{GOOD}",
            r#"[pipelin.x]
input = []
"#
        ),
        r#"error: unknown section `pipelin`
 --> r.toml:1:2
  |
1 | [pipelin.x]
  |  ^^^^^^^
  = expected: one of {sections}
  = help: did you mean `pipeline`?

1 error
"#,
    );
}

#[test]
fn a_section_for_a_stage_without_settings() {
    check(
        &format!(
            "{}{GOOD}",
            r#"[drop.all]
"#
        ),
        r#"error: unknown section `drop`
 --> r.toml:1:2
  |
1 | [drop.all]
  |  ^^^^
  = help: the stage "drop" has no settings: name it in `stages`, without a table

1 error
"#,
    );
}

#[test]
fn a_missing_key() {
    check(
        r#"[port.wan]
queues = 1
[pipeline.p]
"#,
        r#"error: [port.wan] has no `netdev`
 --> r.toml:1:7
  |
1 | [port.wan]
  |       ^^^
  = expected: the name of a network device, like "eth1"

error: [pipeline.p] has no `input`
 --> r.toml:3:11
  |
3 | [pipeline.p]
  |           ^
  = expected: a list of 1 to 64, each the name of a port

error: [pipeline.p] has no `stages`
 --> r.toml:3:11
  |
3 | [pipeline.p]
  |           ^
  = expected: a list of 1 to 16, each the name of a stage, like "route.main" or "drop"

3 errors
"#,
    );
}

#[test]
fn a_section_that_is_no_table() {
    check(
        r#"engine = 5
port = "eth0"
"#,
        r#"error: `engine` cannot be a number
 --> r.toml:1:1
  |
1 | engine = 5
  | ^^^^^^
  = expected: a table [engine]

error: `port` cannot be text
 --> r.toml:2:1
  |
2 | port = "eth0"
  | ^^^^
  = expected: a table [port.NAME]

2 errors
"#,
    );
}

#[test]
fn a_port_without_a_name() {
    check(
        r#"[port]
netdev = "eth1"
"#,
        r#"error: `netdev` is not in a table of its own
 --> r.toml:2:1
  |
2 | netdev = "eth1"
  | ^^^^^^
  = expected: a table [port.NAME]
  = help: give the port a name: [port.NAME]

1 error
"#,
    );
}

#[test]
fn tables_in_a_list() {
    check(
        r#"[[port]]
netdev = "eth1"
"#,
        r#"error: `port` cannot be a list
 --> r.toml:1:3
  |
1 | [[port]]
  |   ^^^^
  = expected: a table [port.NAME]

1 error
"#,
    );
}

#[test]
fn names_that_cannot_be() {
    check(
        &format!(
            "{GOOD}{}",
            r#"[port.DMZ]
netdev = "eth3"
[route."main table"]
[port."xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"]
netdev="eth4"
"#
        ),
        r#"error: "DMZ" cannot name a port
 --> r.toml:8:7
  |
8 | [port.DMZ]
  |       ^^^
  = expected: a small letter, then at most 31 small letters, digits, `-` and `_`
  = help: did you mean `dmz`?

error: "main table" cannot name a route
  --> r.toml:10:8
   |
10 | [route."main table"]
   |        ^^^^^^^^^^^^
   = expected: a small letter, then at most 31 small letters, digits, `-` and `_`

error: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" cannot name a port
  --> r.toml:11:7
   |
11 | [port."xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"]
   |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
   = expected: a small letter, then at most 31 small letters, digits, `-` and `_`

3 errors
"#,
    );
}
