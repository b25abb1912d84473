//! Stages that do not go together.

use super::check;

#[test]
fn unknown_stages() {
    check(
        r#"[port.wan]
netdev = "eth1"
[port.lan]
netdev = "eth2"
[pipeline.p]
input = ["wan"]
stages = ["rout.main"]
[pipeline.q]
input = ["lan"]
stages = ["wash.x"]
[route.main]
"#,
        r#"error: there is no stage "rout.main"
 --> r.toml:7:11
  |
7 | stages = ["rout.main"]
  |           ^^^^^^^^^^^
  = expected: a stage whose kind is one of {kinds}
  = help: did you mean "route.main"?

error: there is no stage "wash.x"
  --> r.toml:10:11
   |
10 | stages = ["wash.x"]
   |           ^^^^^^^^
   = expected: a stage whose kind is one of {kinds}

2 errors
"#,
    );
}

#[test]
fn a_stage_without_its_table() {
    check(
        r#"[port.wan]
netdev = "eth1"
[port.lan]
netdev = "eth2"
[pipeline.p]
input = ["wan"]
stages = ["route.main"]
[pipeline.q]
input = ["lan"]
stages = ["patch"]
"#,
        r#"error: there is no table [route.main]
 --> r.toml:7:11
  |
7 | stages = ["route.main"]
  |           ^^^^^^^^^^^^
  = help: add a table [route.main]

error: the stage "patch" needs a table
  --> r.toml:10:11
   |
10 | stages = ["patch"]
   |           ^^^^^^^
   = help: add a table [patch.NAME]

2 errors
"#,
    );
}

#[test]
fn a_stage_near_one_that_is() {
    check(
        r#"[port.wan]
netdev = "eth1"
[port.lan]
netdev = "eth2"
[pipeline.p]
input = ["wan"]
stages = ["route.mian"]
[route.main]
"#,
        r#"error: there is no table [route.mian]
 --> r.toml:7:11
  |
7 | stages = ["route.mian"]
  |           ^^^^^^^^^^^^
  = help: did you mean "route.main"?

1 error
"#,
    );
}

#[test]
fn a_stage_that_has_no_tables() {
    check(
        r#"[port.wan]
netdev = "eth1"
[port.lan]
netdev = "eth2"
[pipeline.p]
input = ["wan"]
stages = ["drop.all"]
"#,
        r#"error: the stage "drop" has no tables
 --> r.toml:7:11
  |
7 | stages = ["drop.all"]
  |           ^^^^^^^^^^
  = help: did you mean "drop"?

1 error
"#,
    );
}

#[test]
fn stages_that_nothing_reaches() {
    check(
        r#"[port.wan]
netdev = "eth1"
[port.lan]
netdev = "eth2"
[pipeline.p]
input = ["wan", "lan"]
stages = ["route", "drop", "punt"]
"#,
        r#"error: no packet reaches "drop"
 --> r.toml:7:20
  |
7 | stages = ["route", "drop", "punt"]
  |                    ^^^^^^ never reached
  = help: "route" decides about every packet: it must be the last stage

error: no packet reaches "punt"
 --> r.toml:7:28
  |
7 | stages = ["route", "drop", "punt"]
  |                            ^^^^^^ never reached
  = help: "route" decides about every packet: it must be the last stage

2 errors
"#,
    );
}

#[test]
fn a_last_stage_that_does_not_decide() {
    check(
        r#"[port.wan]
netdev = "eth1"
[pipeline.p]
input = ["wan"]
stages = ["macswap"]
"#,
        r#"error: pipeline "p" does not say where packets go
 --> r.toml:5:11
  |
5 | stages = ["macswap"]
  |           ^^^^^^^^^ the last stage
  = expected: a last stage whose kind is one of `patch`, `route`, `drop`, `punt`

1 error
"#,
    );
}

#[test]
fn a_patch_without_an_output() {
    check(
        r#"[port.wan]
netdev = "eth1"
[port.lan]
netdev = "eth2"
[pipeline.p]
input = ["wan", "lan"]
stages = ["patch.p"]
[patch.p]
pairs = { wan = "lan" }
"#,
        r#"error: [patch.p] has no output for port "lan"
 --> r.toml:7:11
  |
7 | stages = ["patch.p"]
  |           ^^^^^^^^^
  = help: add it to the pairs of [patch.p], or take it out of `input`

1 error
"#,
    );
}

#[test]
fn a_patch_with_two_outputs() {
    check(
        r#"[port.wan]
netdev = "eth1"
[port.lan]
netdev = "eth2"
[pipeline.p]
input = ["wan", "lan"]
stages = ["patch.p"]
[port.dmz]
netdev = "eth3"
[patch.p]
pairs = [["wan", "lan"], ["dmz", "wan"]]
"#,
        r#"error: `patch.p` sends port "wan" to both "lan" and "dmz"
  --> r.toml:11:26
   |
11 | pairs = [["wan", "lan"], ["dmz", "wan"]]
   |                          ^^^^^^^^^^^^^^ a second output for "wan"
   = help: give each input one output

1 error
"#,
    );
}

#[test]
fn pairs_that_are_none() {
    check(
        r#"[port.wan]
netdev = "eth1"
[port.lan]
netdev = "eth2"
[pipeline.p]
input = ["wan", "lan"]
stages = ["patch.p"]
[patch.p]
pairs = [["wan"], ["wan", "wan"], ["lan", "lam"]]
[patch.q]
pairs = { wna = "lan" }
"#,
        r#"error: `patch.p.pairs` has 1 entry
 --> r.toml:9:10
  |
9 | pairs = [["wan"], ["wan", "wan"], ["lan", "lam"]]
  |          ^^^^^^^
  = expected: a list of 2, each the name of a port

error: `patch.p.pairs` has "wan" twice
 --> r.toml:9:27
  |
9 | pairs = [["wan"], ["wan", "wan"], ["lan", "lam"]]
  |                           ^^^^^ also in line 9

error: there is no port "lam"
 --> r.toml:9:43
  |
9 | pairs = [["wan"], ["wan", "wan"], ["lan", "lam"]]
  |                                           ^^^^^
  = expected: "lan" or "wan"
  = help: did you mean "lan"?

error: there is no port "wna"
  --> r.toml:11:11
   |
11 | pairs = { wna = "lan" }
   |           ^^^
   = expected: "lan" or "wan"
   = help: did you mean `wan`?

4 errors
"#,
    );
}
