//! Sizes, durations and prefixes.

use super::{GOOD, check};

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
