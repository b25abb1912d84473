//! Ports and pipelines that do not go together.

use super::{GOOD, check};

#[test]
fn one_device_twice() {
    check(
        r#"[port.wan]
netdev = "eth1"
[port.lan]
netdev = "eth1"
"#,
        r#"error: device "eth1" is port "wan" already
 --> r.toml:4:10
  |
4 | netdev = "eth1"
  |          ^^^^^^ also in line 2

1 error
"#,
    );
}

#[test]
fn an_unknown_port() {
    check(
        r#"[port.wan]
netdev = "eth1"
[port.lan]
netdev = "eth2"
[pipeline.p]
input = ["wan", "lna"]
stages = ["drop"]
"#,
        r#"error: there is no port "lna"
 --> r.toml:6:17
  |
6 | input = ["wan", "lna"]
  |                 ^^^^^
  = expected: "lan" or "wan"
  = help: did you mean "lan"?

1 error
"#,
    );
}

#[test]
fn an_unknown_port_when_there_are_none() {
    check(
        r#"[pipeline.p]
input = ["wan"]
stages = ["drop"]
"#,
        r#"error: there is no port "wan"
 --> r.toml:2:10
  |
2 | input = ["wan"]
  |          ^^^^^
  = help: add a table [port.wan]

1 error
"#,
    );
}

#[test]
fn a_port_in_two_pipelines() {
    check(
        &format!(
            "{GOOD}{}",
            r#"[pipeline.second]
input = ["lan"]
stages = ["drop"]
"#
        ),
        r#"error: port "lan" enters pipeline "forward" already
 --> r.toml:9:10
  |
9 | input = ["lan"]
  |          ^^^^^ also in line 6
  = help: a port's packets enter one pipeline

1 error
"#,
    );
}

#[test]
fn a_port_twice_in_one_pipeline() {
    check(
        r#"[port.wan]
netdev = "eth1"
[port.lan]
netdev = "eth2"
[pipeline.p]
input = ["wan", "lan", "wan"]
stages = ["drop"]
"#,
        r#"error: `pipeline.p.input` has "wan" twice
 --> r.toml:6:24
  |
6 | input = ["wan", "lan", "wan"]
  |                        ^^^^^ also in line 6

1 error
"#,
    );
}
