//! What is legal, but probably not meant.

use super::check;

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
