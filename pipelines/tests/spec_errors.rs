//! What bad configurations get: the exact text, for every kind of mistake.

use zsync_pipelines::spec::{Style, json_schema, parse, report};

/// Two ports and a pipeline, to which a case adds its mistake.
const GOOD: &str = r#"[port.wan]
netdev = "eth1"
[port.lan]
netdev = "eth2"
[pipeline.forward]
input  = ["wan", "lan"]
stages = ["route"]
"#;

fn told(source: &str) -> String {
    match parse(source, "r.toml") {
        Ok(parsed) => report(&parsed.warnings, source, Style::Plain),
        Err(errors) => report(&errors, source, Style::Plain),
    }
}

#[track_caller]
fn check(source: &str, expected: &str) {
    // What there is grows with every kind of stage; it is the schema's list.
    let schema = json_schema();
    let names: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
    let told = told(source);
    let mut expected = expected.to_owned();
    for (place, begins, quote) in [("{sections}", "one of [engine]", "["), ("{kinds}", "one of `patch`", "`")]
    {
        if expected.contains(place) {
            let list = told.lines().find_map(|line| line.split_once(begins)).map(|(_, rest)| rest).unwrap();
            let of_schema =
                |name: &&&String| list.contains(&format!("{quote}{name}")) || begins.contains(name.as_str());
            let stages = names
                .iter()
                .filter(|name| !["engine", "control", "port", "pipeline", "set"].contains(&name.as_str()));
            assert!(stages.clone().all(|name| of_schema(&name)), "{list}");
            expected = expected.replace(place, &format!("{}{list}", begins.trim_start_matches("one of ")));
        }
    }
    assert_eq!(told, expected, "\n{told}");
}

// TOML itself.

#[test]
fn an_unclosed_header() {
    check(
        r#"[port.wan
netdev = "eth1"
"#,
        r#"error: not valid TOML: unclosed table
 --> r.toml:1:10
  |
1 | [port.wan
  |          ^
  = expected: `]`

1 error
"#,
    );
}

#[test]
fn every_syntax_error_is_told() {
    check(
        r#"[engine]
workers = 
idle = "spin
[port.wan]
netdev = "eth1" "eth2"
grace == "1s"
"#,
        r#"error: a key without a value
 --> r.toml:2:11
  |
2 | workers =
  |           ^
  = expected: a value

error: not valid TOML: invalid basic string
 --> r.toml:3:13
  |
3 | idle = "spin
  |             ^
  = expected: `"`

error: not valid TOML: unexpected key or value
 --> r.toml:5:17
  |
5 | netdev = "eth1" "eth2"
  |                 ^
  = expected: newline, `#`

error: not valid TOML: extra `=`
 --> r.toml:6:8
  |
6 | grace == "1s"
  |        ^

4 errors
"#,
    );
}

#[test]
fn text_without_quotes() {
    check(
        r#"[port.wan]
netdev = "eth1"
mode = zero-copy
[pipeline.p]
input = ["wan"]
stages = ["punt"]
"#,
        r#"error: text needs quotes: zero-copy
 --> r.toml:3:8
  |
3 | mode = zero-copy
  |        ^^^^^^^^^
  = help: did you mean "zero-copy"?

1 error
"#,
    );
}

#[test]
fn a_key_set_twice() {
    check(
        r#"[port.wan]
netdev = "eth1"
netdev = "eth2"
[pipeline.p]
input = ["wan"]
stages = ["punt"]
"#,
        r#"error: `netdev` is set twice
 --> r.toml:3:1
  |
3 | netdev = "eth2"
  | ^^^^^^ again here

1 error
"#,
    );
}

#[test]
fn a_table_twice() {
    check(
        &format!(
            "{}{GOOD}",
            r#"[engine]
[engine]
"#
        ),
        r#"error: `engine` is set twice
 --> r.toml:2:2
  |
2 | [engine]
  |  ^^^^^^ again here

1 error
"#,
    );
}

#[test]
fn other_mistakes_are_told_beside_broken_syntax() {
    check(
        r#"[engine]
idle = "spinn"
[port.wan
netdev = "eth1"
[pipeline.p]
input = ["wan"]
stagez = ["punt"]
"#,
        r#"error: `engine.idle` cannot be "spinn"
 --> r.toml:2:8
  |
2 | idle = "spinn"
  |        ^^^^^^^
  = expected: one of "spin", "adaptive", "block"
  = help: did you mean "spin"?

error: not valid TOML: unclosed table
 --> r.toml:3:10
  |
3 | [port.wan
  |          ^
  = expected: `]`

error: unknown key `stagez` in [pipeline.p]
 --> r.toml:7:1
  |
7 | stagez = ["punt"]
  | ^^^^^^
  = expected: `input` or `stages`
  = help: did you mean `stages`?

3 errors
"#,
    );
}

// Keys and sections.

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
  = expected: one of `netdev`, `device`, `mtu`, `addresses`, `queues`, `steer`, `block`, `xdp`, `failover`, `grace`, `mode`, `ring-size`, `busy-poll`, `replace`, `promiscuous`, `vlans`
  = help: did you mean `netdev`?

error: unknown key `ring_size` in [port.wan]
 --> r.toml:4:1
  |
4 | ring_size = 64
  | ^^^^^^^^^
  = expected: one of `netdev`, `device`, `mtu`, `addresses`, `queues`, `steer`, `block`, `xdp`, `failover`, `grace`, `mode`, `ring-size`, `busy-poll`, `replace`, `promiscuous`, `vlans`
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

// Values.

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

#[test]
fn sizes() {
    check(
        r#"[engine]
frame-size = "2kB"
[port.wan]
netdev = "eth1"
[port.lan]
netdev = "eth2"
[pipeline.forward]
input  = ["wan", "lan"]
stages = ["route"]
[port.x]
netdev = "x"
ring-size = 1000
[port.y]
netdev = "y"
ring-size = 65536
"#,
        r#"error: `engine.frame-size`: "2kB" is not a size: unknown unit `kB`: write B, KiB, MiB or GiB
 --> r.toml:2:14
  |
2 | frame-size = "2kB"
  |              ^^^^^
  = expected: 2048 or 4096 bytes

error: `port.x.ring-size` cannot be 1000
  --> r.toml:12:13
   |
12 | ring-size = 1000
   |             ^^^^
   = expected: a power of two from 64 to 32768
   = help: did you mean `1024`?

error: `port.y.ring-size` cannot be 65536
  --> r.toml:15:13
   |
15 | ring-size = 65536
   |             ^^^^^
   = expected: a power of two from 64 to 32768

3 errors
"#,
    );
}

#[test]
fn a_size_that_frames_do_not_have() {
    check(
        &format!(
            "{}{GOOD}",
            r#"[engine]
frame-size = 1500
"#
        ),
        r#"error: `engine.frame-size` cannot be 1500
 --> r.toml:2:14
  |
2 | frame-size = 1500
  |              ^^^^
  = expected: 2048 or 4096 bytes

1 error
"#,
    );
}

#[test]
fn durations() {
    check(
        r#"[port.wan]
netdev = "eth1"
grace = "250"
[pipeline.p]
input = ["wan"]
stages = ["punt"]
[port.a]
netdev = "a"
grace = "5ms"
[port.b]
netdev = "b"
grace = "2min"
[port.c]
netdev = "c"
grace = "61s"
[port.d]
netdev = "d"
grace = 250
"#,
        r#"error: `port.wan.grace`: "250" is not a duration: no unit: write ms, s, m, h or d
 --> r.toml:3:9
  |
3 | grace = "250"
  |         ^^^^^
  = expected: a duration from 10ms to 60s, like "250ms"

error: `port.a.grace`: "5ms" is too short
 --> r.toml:9:9
  |
9 | grace = "5ms"
  |         ^^^^^
  = expected: a duration from 10ms to 60s, like "250ms"

error: `port.b.grace`: "2min" is not a duration: unknown unit `min`: write ms, s, m, h or d
  --> r.toml:12:9
   |
12 | grace = "2min"
   |         ^^^^^^
   = expected: a duration from 10ms to 60s, like "250ms"

error: `port.c.grace`: "61s" is too long
  --> r.toml:15:9
   |
15 | grace = "61s"
   |         ^^^^^
   = expected: a duration from 10ms to 60s, like "250ms"

error: `port.d.grace` cannot be a number
  --> r.toml:18:9
   |
18 | grace = 250
   |         ^^^
   = expected: a duration from 10ms to 60s, like "250ms"

5 errors
"#,
    );
}

#[test]
fn prefixes() {
    check(
        r#"[port.wan]
netdev = "eth1"
block = [
  "192.0.2.1/24",
  "2001:db8::1/32",
  "10.0.0.0/33",
  "10.0.0.1",
  "ten/8",
  "::/0", "::/0",
]
[pipeline.p]
input = ["wan"]
stages = ["punt"]
"#,
        r#"error: `port.wan.block`: "192.0.2.1/24" has bits set past its 24 leading bits
 --> r.toml:4:3
  |
4 |   "192.0.2.1/24",
  |   ^^^^^^^^^^^^^^
  = expected: an IP prefix like "192.0.2.0/24" or "2001:db8::/32"
  = help: did you mean "192.0.2.0/24"?

error: `port.wan.block`: "2001:db8::1/32" has bits set past its 32 leading bits
 --> r.toml:5:3
  |
5 |   "2001:db8::1/32",
  |   ^^^^^^^^^^^^^^^^
  = expected: an IP prefix like "192.0.2.0/24" or "2001:db8::/32"
  = help: did you mean "2001:db8::/32"?

error: `port.wan.block`: "10.0.0.0/33" is not a prefix: a length must be a number from 0 to 32
 --> r.toml:6:3
  |
6 |   "10.0.0.0/33",
  |   ^^^^^^^^^^^^^
  = expected: an IP prefix like "192.0.2.0/24" or "2001:db8::/32"

error: `port.wan.block`: "10.0.0.1" has no length
 --> r.toml:7:3
  |
7 |   "10.0.0.1",
  |   ^^^^^^^^^^
  = expected: an IP prefix like "192.0.2.0/24" or "2001:db8::/32"
  = help: did you mean "10.0.0.1/32"?

error: `port.wan.block`: "ten/8" is not a prefix: not an IP address
 --> r.toml:8:3
  |
8 |   "ten/8",
  |   ^^^^^^^
  = expected: an IP prefix like "192.0.2.0/24" or "2001:db8::/32"

error: `port.wan.block` has "::/0" twice
 --> r.toml:9:11
  |
9 |   "::/0", "::/0",
  |           ^^^^^^ also in line 9

6 errors
"#,
    );
}

#[test]
fn xdp_programs() {
    check(
        r#"[port.wan]
netdev = "eth1"
xdp = [
  "ddos.o",
  ":scrub",
  7,
  { object = "a.o", program = "b", params = { limit = -1, "a b" = 1, on = true } },
  { object = "a.o", porgram = "b" },
  "a.o:b",
  "a.o:b",
]
[pipeline.p]
input = ["wan"]
stages = ["punt"]
"#,
        r#"error: `port.wan.xdp`: "ddos.o" names no program in the file
 --> r.toml:4:3
  |
4 |   "ddos.o",
  |   ^^^^^^^^
  = expected: a file and a program in it, like "ddos.o:scrub", or a table with keys out of `object`, `program`, `params`

error: `port.wan.xdp`: ":scrub" does not name a file and a program in it
 --> r.toml:5:3
  |
5 |   ":scrub",
  |   ^^^^^^^^
  = expected: a file and a program in it, like "ddos.o:scrub", or a table with keys out of `object`, `program`, `params`

error: `port.wan.xdp` cannot be a number
 --> r.toml:6:3
  |
6 |   7,
  |   ^
  = expected: a file and a program in it, like "ddos.o:scrub", or a table with keys out of `object`, `program`, `params`

error: `port.wan.xdp.params.limit` cannot be -1
 --> r.toml:7:55
  |
7 |   { object = "a.o", program = "b", params = { limit = -1, "a b" = 1, on = true } },
  |                                                       ^^
  = expected: true or false, or a number from 0 to 9223372036854775807

error: `port.wan.xdp.params`: "a b" cannot name a variable
 --> r.toml:7:59
  |
7 |   { object = "a.o", program = "b", params = { limit = -1, "a b" = 1, on = true } },
  |                                                           ^^^^^
  = expected: letters, digits and `_`, and no digit first

error: [port.wan.xdp] has no `program`
 --> r.toml:8:3
  |
8 |   { object = "a.o", porgram = "b" },
  |   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = expected: the name of a function in the file

error: unknown key `porgram` in [port.wan.xdp]
 --> r.toml:8:21
  |
8 |   { object = "a.o", porgram = "b" },
  |                     ^^^^^^^
  = expected: one of `object`, `program`, `params`
  = help: did you mean `program`?

error: `port.wan.xdp` has "a.o:b" twice
  --> r.toml:10:3
   |
10 |   "a.o:b",
   |   ^^^^^^^ also in line 9

8 errors
"#,
    );
}

#[test]
fn steering() {
    check(
        r#"[port.wan]
netdev = "eth1"
steer = "some"
[pipeline.p]
input = ["wan"]
stages = ["punt"]
[port.a]
netdev = "a"
steer = { prefix = ["10.0.0.0/8"] }
[port.b]
netdev = "b"
steer = { prefixes = ["10.0.0.0/8"], ports = ["udp/1"] }
[port.c]
netdev = "c"
steer = {}
[port.d]
netdev = "d"
steer = { ports = ["udp/0", "sctp/5"] }
[port.e]
netdev = "e"
steer = { prefixes = [] }
"#,
        r#"error: `port.wan.steer` cannot be "some"
 --> r.toml:3:9
  |
3 | steer = "some"
  |         ^^^^^^
  = expected: "all", or { prefixes = … } or { ports = … }

error: unknown key `prefix` in `port.a.steer`
 --> r.toml:9:11
  |
9 | steer = { prefix = ["10.0.0.0/8"] }
  |           ^^^^^^
  = expected: "all", or { prefixes = … } or { ports = … }
  = help: did you mean `prefixes`?

error: `port.b.steer` takes one of these keys, not several
  --> r.toml:12:9
   |
12 | steer = { prefixes = ["10.0.0.0/8"], ports = ["udp/1"] }
   |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
   = expected: "all", or { prefixes = … } or { ports = … }

error: `port.c.steer` is empty
  --> r.toml:15:9
   |
15 | steer = {}
   |         ^^
   = expected: "all", or { prefixes = … } or { ports = … }

error: `port.d.steer.ports`: "udp/0" is not a service: the port must be a number from 1 to 65535
  --> r.toml:18:20
   |
18 | steer = { ports = ["udp/0", "sctp/5"] }
   |                    ^^^^^^^
   = expected: a service like "udp/53" or "tcp/443"

error: `port.d.steer.ports`: "sctp/5" is not a service: the protocol must be tcp or udp
  --> r.toml:18:29
   |
18 | steer = { ports = ["udp/0", "sctp/5"] }
   |                             ^^^^^^^^
   = expected: a service like "udp/53" or "tcp/443"

error: `port.e.steer.prefixes` is empty
  --> r.toml:21:22
   |
21 | steer = { prefixes = [] }
   |                      ^^
   = expected: a list of 1 to 4096, each an IP prefix like "192.0.2.0/24" or "2001:db8::/32"

7 errors
"#,
    );
}

#[test]
fn device_names() {
    check(
        r#"[port.a]
netdev = ""
[port.b]
netdev = "a-name-of-16-byt"
[port.c]
netdev = "eth 0"
[port.d]
netdev = ".."
"#,
        r#"error: `port.a.netdev`: "" names no device
 --> r.toml:2:10
  |
2 | netdev = ""
  |          ^^
  = expected: the name of a network device, like "eth1"

error: `port.b.netdev`: "a-name-of-16-byt" is too long for a device: the kernel's limit is 15 bytes
 --> r.toml:4:10
  |
4 | netdev = "a-name-of-16-byt"
  |          ^^^^^^^^^^^^^^^^^^
  = expected: the name of a network device, like "eth1"

error: `port.c.netdev`: "eth 0" has a character that no device name has
 --> r.toml:6:10
  |
6 | netdev = "eth 0"
  |          ^^^^^^^
  = expected: the name of a network device, like "eth1"

error: `port.d.netdev`: ".." cannot name a device
 --> r.toml:8:10
  |
8 | netdev = ".."
  |          ^^^^
  = expected: the name of a network device, like "eth1"

4 errors
"#,
    );
}

#[test]
fn accounts() {
    check(
        r#"[engine]
user = "root"
[port.wan]
netdev = "eth1"
[port.lan]
netdev = "eth2"
[pipeline.forward]
input  = ["wan", "lan"]
stages = ["route"]
[control]
admin-group = "The Admins"
"#,
        r#"error: the data plane never runs as root
 --> r.toml:2:8
  |
2 | user = "root"
  |        ^^^^^^
  = expected: an account without privileges
  = help: "nobody", or an account made for zsync

error: `control.admin-group`: "The Admins" is not an account name
  --> r.toml:11:15
   |
11 | admin-group = "The Admins"
   |               ^^^^^^^^^^^^
   = expected: the name of an account: small letters, digits, `-` and `_`, at most 32

2 errors
"#,
    );
}

// Ports, pipelines and stages together.

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

// What is legal, but probably not meant.

#[test]
fn an_empty_file() {
    check(
        r#""#,
        r#"warning: there is no port, so there is nothing to do
 --> r.toml:1:1
  |
1 |
  | ^
  = help: add a table [port.NAME]

1 warning
"#,
    );
}

#[test]
fn what_nothing_uses() {
    check(
        r#"[port.wan]
netdev = "eth1"
[port.lan]
netdev = "eth2"
[pipeline.p]
input = ["wan"]
stages = ["drop"]
[route.main]
"#,
        r#"warning: port "lan" is the input of no pipeline
 --> r.toml:3:7
  |
3 | [port.lan]
  |       ^^^ its packets all go to the kernel

warning: no pipeline uses [route.main]
 --> r.toml:8:8
  |
8 | [route.main]
  |        ^^^^

2 warnings
"#,
    );
}
