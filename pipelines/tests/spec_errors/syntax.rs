//! Mistakes of TOML itself.

use super::{GOOD, check};

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
