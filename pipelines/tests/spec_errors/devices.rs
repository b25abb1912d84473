//! What ports are told of devices, steering and programs, and the engine of accounts.

use super::check;

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
