//! A gateway as a whole: its ends, its stages, what they stand behind.

use super::*;

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
