//! Values of a wrong type, words that are none, numbers and lists.

use super::{GOOD, check};

#[test]
fn a_wrong_type() {
    check(
        r#"[engine]
user = 5
frames = 1.5
idle = []
[port.wan]
netdev = "eth1"
[port.lan]
netdev = "eth2"
[pipeline.forward]
input  = ["wan", "lan"]
stages = ["route"]
[route.x]
table = 2024-01-01
"#,
        r#"error: `engine.user` cannot be a number
 --> r.toml:2:8
  |
2 | user = 5
  |        ^
  = expected: the name of an account: small letters, digits, `-` and `_`, at most 32

error: `engine.frames` cannot be a number with a fraction
 --> r.toml:3:10
  |
3 | frames = 1.5
  |          ^^^
  = expected: "auto", or a number from 1024 to 4194304

error: `engine.idle` cannot be a list
 --> r.toml:4:8
  |
4 | idle = []
  |        ^^
  = expected: one of "spin", "adaptive", "block"

error: `route.x.table` cannot be a date or time
  --> r.toml:13:9
   |
13 | table = 2024-01-01
   |         ^^^^^^^^^^
   = expected: a number from 1 to 4294967295

4 errors
"#,
    );
}

#[test]
fn an_unknown_word() {
    check(
        r#"[port.wan]
netdev = "eth1"
failover = "opne"
mode = "fast"
[pipeline.p]
input = ["wan"]
stages = ["punt"]
"#,
        r#"error: `port.wan.failover` cannot be "opne"
 --> r.toml:3:12
  |
3 | failover = "opne"
  |            ^^^^^^
  = expected: "open" or "closed"
  = help: did you mean "open"?

error: `port.wan.mode` cannot be "fast"
 --> r.toml:4:8
  |
4 | mode = "fast"
  |        ^^^^^^
  = expected: one of "auto", "zero-copy", "copy", "generic"

2 errors
"#,
    );
}

#[test]
fn an_unknown_word_among_other_forms() {
    check(
        &format!(
            "{}{GOOD}",
            r#"[engine]
workers = "atuo"
"#
        ),
        r#"error: `engine.workers` cannot be "atuo"
 --> r.toml:2:11
  |
2 | workers = "atuo"
  |           ^^^^^^
  = expected: "auto", or a number from 1 to 32, or a list of 1 to 32, each a number from 0 to 8191
  = help: did you mean "auto"?

1 error
"#,
    );
}

#[test]
fn numbers_out_of_range() {
    check(
        r#"[port.wan]
netdev = "eth1"
queues = 65
[pipeline.p]
input = ["wan"]
stages = ["punt"]
[engine]
workers = 0
frames = -1
[route.x]
table = 99999999999999999999
"#,
        r#"error: `port.wan.queues` cannot be 65
 --> r.toml:3:10
  |
3 | queues = 65
  |          ^^
  = expected: "auto", or a number from 1 to 64

error: `engine.workers` cannot be 0
 --> r.toml:8:11
  |
8 | workers = 0
  |           ^
  = expected: "auto", or a number from 1 to 32, or a list of 1 to 32, each a number from 0 to 8191

error: `engine.frames` cannot be -1
 --> r.toml:9:10
  |
9 | frames = -1
  |          ^^
  = expected: "auto", or a number from 1024 to 4194304

error: `route.x.table` cannot be 99999999999999999999
  --> r.toml:11:9
   |
11 | table = 99999999999999999999
   |         ^^^^^^^^^^^^^^^^^^^^
   = expected: a number from 1 to 4294967295

4 errors
"#,
    );
}

#[test]
fn tables_by_mark() {
    check(
        &format!(
            "{}{}",
            GOOD.replace("route", "route.x"),
            r#"[route.x]
by-mark = { 7 = 100, wan = 1, 0x7 = 2, 4294967296 = 3, 8 = "main", "+9" = 1, 10 = 0 }
"#
        ),
        r#"error: `route.x.by-mark` has the key "wan"
 --> r.toml:9:22
  |
9 | by-mark = { 7 = 100, wan = 1, 0x7 = 2, 4294967296 = 3, 8 = "main", "+9" = 1, 10 = 0 }
  |                      ^^^
  = expected: a table whose keys are numbers from 0 to 4294967295, and each value a number from 1 to 4294967295

error: `route.x.by-mark` has 7 twice
 --> r.toml:9:31
  |
9 | by-mark = { 7 = 100, wan = 1, 0x7 = 2, 4294967296 = 3, 8 = "main", "+9" = 1, 10 = 0 }
  |                               ^^^ also in line 9

error: `route.x.by-mark` has the key "4294967296"
 --> r.toml:9:40
  |
9 | by-mark = { 7 = 100, wan = 1, 0x7 = 2, 4294967296 = 3, 8 = "main", "+9" = 1, 10 = 0 }
  |                                        ^^^^^^^^^^
  = expected: a table whose keys are numbers from 0 to 4294967295, and each value a number from 1 to 4294967295

error: `route.x.by-mark.8` cannot be text
 --> r.toml:9:60
  |
9 | by-mark = { 7 = 100, wan = 1, 0x7 = 2, 4294967296 = 3, 8 = "main", "+9" = 1, 10 = 0 }
  |                                                            ^^^^^^
  = expected: a number from 1 to 4294967295

error: `route.x.by-mark` has the key "+9"
 --> r.toml:9:68
  |
9 | by-mark = { 7 = 100, wan = 1, 0x7 = 2, 4294967296 = 3, 8 = "main", "+9" = 1, 10 = 0 }
  |                                                                    ^^^^
  = expected: a table whose keys are numbers from 0 to 4294967295, and each value a number from 1 to 4294967295

error: `route.x.by-mark.10` cannot be 0
 --> r.toml:9:83
  |
9 | by-mark = { 7 = 100, wan = 1, 0x7 = 2, 4294967296 = 3, 8 = "main", "+9" = 1, 10 = 0 }
  |                                                                                   ^
  = expected: a number from 1 to 4294967295

6 errors
"#,
    );
}

#[test]
fn a_list_of_cores() {
    check(
        &format!(
            "{}{GOOD}",
            r#"[engine]
workers = [2, 3, 2, 9000]
"#
        ),
        r#"error: `engine.workers` has 2 twice
 --> r.toml:2:18
  |
2 | workers = [2, 3, 2, 9000]
  |                  ^ also in line 2

error: `engine.workers` cannot be 9000
 --> r.toml:2:21
  |
2 | workers = [2, 3, 2, 9000]
  |                     ^^^^
  = expected: a number from 0 to 8191

2 errors
"#,
    );
}

#[test]
fn too_many_cores() {
    check(
        &format!(
            "{}{GOOD}",
            r#"[engine]
workers = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32]
"#
        ),
        r#"error: `engine.workers` has 33 entries
 --> r.toml:2:11
  |
2 | workers = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,…
  |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = expected: "auto", or a number from 1 to 32, or a list of 1 to 32, each a number from 0 to 8191

1 error
"#,
    );
}

#[test]
fn an_empty_list() {
    check(
        r#"[port.wan]
netdev = "eth1"
[port.lan]
netdev = "eth2"
[pipeline.p]
input = []
stages = []
"#,
        r#"error: `pipeline.p.input` is empty
 --> r.toml:6:9
  |
6 | input = []
  |         ^^
  = expected: a list of 1 to 64, each the name of a port

error: `pipeline.p.stages` is empty
 --> r.toml:7:10
  |
7 | stages = []
  |          ^^
  = expected: a list of 1 to 16, each the name of a stage, like "route.main" or "drop"

2 errors
"#,
    );
}
