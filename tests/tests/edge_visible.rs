//! What an operator sees of the edge: who had which port when.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use zsync_tests::{Control, Lab, Namespace, Shape, in_lab, wait_for};

/// Inside shares the addresses of "wan", in blocks of 64 ports, IPv4 and IPv6 alike.
const EDGE: &str = r#"
[port.lan]
netdev = "eth1"
[port.wan]
netdev = "eth2"

[pipeline.edge]
input  = ["wan", "lan"]
stages = ["filter.edge", "track.flows", "nat.out", "route.main"]

[filter.edge]
default = "drop"
rules = [
  { accept = true, state = ["established", "related"], count = "answers" },
  { accept = true, state = "untracked" },
  { count = "asks", protocol = "udp", to-port = 7001 },
  { accept = true, input = "lan", from = ["10.1.0.0/24", "fd01::/64"] },
  { drop = true, protocol = "udp", to-port = 9, count = "discard" },
]

[track.flows]
udp = "2s"

[nat.out]
masquerade = { output = "wan", from = ["10.1.0.0/24", "fd01::/64"] }
block      = 64
ports      = "1024-32767"

[route.main]
"#;

/// Longer than a flow lives, and two rounds through all of them.
const GONE: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_secs(3);

fn bound(at: &Namespace, address: impl Into<SocketAddr>) -> Result<UdpSocket> {
    let address = address.into();
    let socket = at.run(|| UdpSocket::bind(address).context("binding"))?;
    socket.set_read_timeout(Some(SOON))?;
    Ok(socket)
}

/// Asks the server once, which answers; as whom it saw the client.
fn ask(lab: &Lab, client: SocketAddr, server: IpAddr) -> Result<SocketAddr> {
    let (client, server) = (bound(&lab.client, client)?, bound(&lab.server, (server, 7001))?);
    client.send_to(b"ask", server.local_addr()?)?;
    let (_, peer) = server.recv_from(&mut [0; 4])?;
    server.send_to(b"told", peer)?;
    let (_, from) = client.recv_from(&mut [0; 4])?;
    ensure!(from == server.local_addr()?, "{from} answers");
    Ok(peer)
}

/// The lines of the log that say `what` of this client.
fn lines(control: &Control<'_>, what: &str, client: &str) -> Vec<String> {
    let client = format!("client={client} ");
    let all = control.log();
    all.lines().filter(|line| line.contains(what) && line.contains(&client)).map(str::to_owned).collect()
}

fn field<T: std::str::FromStr>(line: &str, name: &str) -> Result<T> {
    let value = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value
        .and_then(|value| value.trim_matches('"').parse().ok())
        .with_context(|| format!("no {name} in {line}"))
}

#[test]
fn who_had_which_port_when_is_in_the_log_and_a_new_control_process_goes_on_with_it() {
    in_lab(Shape::router(), |lab| {
        lab.client.ip("addr add 10.1.0.80/24 dev eth0")?;
        let mut control = Control::start(lab, EDGE)?;
        let said = |line: &str, peer: SocketAddr| -> Result<()> {
            ensure!(line.contains("INFO") && field::<String>(line, "at")?.ends_with('Z'), "{line}");
            let (pipeline, stage): (String, String) = (field(line, "pipeline")?, field(line, "stage")?);
            ensure!((pipeline.as_str(), stage.as_str()) == ("edge", "nat.out"), "{line}");
            let (first, last): (u16, u16) = (field(line, "first")?, field(line, "last")?);
            ensure!(first % 64 == 0 && last == first + 63, "{line}");
            ensure!((first..=last).contains(&peer.port()), "{line} and {peer}");
            ensure!(field::<IpAddr>(line, "address")? == peer.ip(), "{line} and {peer}");
            Ok(())
        };
        let mut seen = Vec::new();
        for (client, server) in lab.client_addresses.into_iter().zip(lab.server_addresses) {
            let peer = ask(lab, (client, 5000).into(), server)?;
            ensure!(peer.ip() != client, "{client} is not translated");
            let client = client.to_string();
            let line =
                wait_for("the block's line", SOON, || lines(&control, "port block taken", &client).pop())?;
            said(&line, peer)?;
            seen.push((client, peer));
        }

        control.kill9()?;
        let peer = ask(lab, ([10, 1, 0, 80], 5000).into(), lab.server_addresses[0])?;
        control.revive()?;
        control.wait_ready()?;
        seen.push(("10.1.0.80".to_owned(), peer));
        let line = wait_for("the line of what happened meanwhile", SOON, || {
            lines(&control, "port block taken", "10.1.0.80").pop()
        })?;
        said(&line, peer)?;

        for (client, peer) in &seen {
            let line = wait_for("the block's return", GONE, || {
                lines(&control, "port block returned", client).pop()
            })?;
            said(&line, *peer)?;
            for what in ["port block taken", "port block returned"] {
                let lines = lines(&control, what, client);
                ensure!(lines.len() == 1, "{lines:#?}");
            }
        }
        control.balanced()?;
        Ok(())
    });
}
