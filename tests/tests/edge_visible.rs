//! What an operator sees of the edge: who had which port when, connections, translations, and what rules have counted.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
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

/// The rows of an answer.
fn rows<'a>(answer: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    answer[name].as_array().with_context(|| format!("no {name} in {answer}"))
}

/// The connections to a port of the server.
fn flows_to(control: &Control<'_>, to: &SocketAddr) -> Result<Vec<Value>> {
    let answer =
        control.ctl(&["show", "flows", "--stage", "track.flows", "--match", &to.ip().to_string()])?;
    Ok(rows(&answer, "flows")?.iter().filter(|row| row["to"] == to.to_string()).cloned().collect())
}

#[test]
fn a_connection_appears_with_its_translation_and_goes_away() {
    in_lab(Shape::router(), |lab| {
        let control = Control::start(lab, EDGE)?;
        let nobody = control.ctl(&["show", "flows", "--match", "192.0.2.1"])?;
        ensure!(nobody["matched"] == 0 && rows(&nobody, "flows")?.is_empty(), "{nobody}");
        for (client, server) in lab.client_addresses.into_iter().zip(lab.server_addresses) {
            let at = SocketAddr::new(server, 7000);
            let listener = lab.server.run(|| TcpListener::bind(at).context("listening"))?;
            let mut stream = lab.client.run(|| TcpStream::connect(at).context("connecting"))?;
            let (mut other, peer) = listener.accept()?;
            let mut word = [0; 4];
            stream.write_all(b"ping")?;
            other.read_exact(&mut word)?;
            let from = stream.local_addr()?;
            ensure!(from.ip() == client && peer.ip() != client, "{from} {peer}");

            let flows = flows_to(&control, &at)?;
            let [flow] = flows.as_slice() else { anyhow::bail!("{flows:#?}") };
            for (key, wanted) in [
                ("protocol", "tcp"),
                ("state", "established"),
                ("translated", "source"),
                ("from", &from.to_string()),
                ("reply-from", &at.to_string()),
                ("reply-to", &peer.to_string()),
            ] {
                ensure!(flow[key] == wanted, "{key} is not {wanted}: {flow:#}");
            }
            // Five days, and what is left of them.
            let left = flow["expires-ms"].as_u64().context("expires-ms")?;
            ensure!((431_000_000..=432_000_000).contains(&left), "{flow:#}");

            let answer = control.ctl(&["show", "mappings", "--match", &client.to_string()])?;
            let mapping = rows(&answer, "mappings")?.iter().find(|row| row["internal"] == from.to_string());
            let mapping = mapping.with_context(|| format!("no mapping of {from} in {answer:#}"))?;
            ensure!(mapping["external"] == peer.to_string() && mapping["protocol"] == "tcp", "{mapping:#}");
            let [address] = rows(&answer, "addresses")?.as_slice() else { anyhow::bail!("{answer:#}") };
            ensure!(address["address"] == peer.ip().to_string(), "{address:#}");
            ensure!(address["blocks"] == 1 && address["blocks-limit"] == 512, "{address:#}");

            // A reset ends it within its timeout; what the other end saw last ends it sooner.
            drop(other);
            drop(stream);
            wait_for("the connection to be on its way out", SOON, || {
                let flows = flows_to(&control, &at).ok()?;
                flows.iter().all(|flow| flow["state"] != "established").then_some(())
            })?;
            // Of UDP it is gone after two seconds, and its mapping after two rounds.
            let asked = SocketAddr::new(server, 7001);
            let peer = ask(lab, (client, 5000).into(), server)?;
            let flows = flows_to(&control, &asked)?;
            let [flow] = flows.as_slice() else { anyhow::bail!("{flows:#?}") };
            ensure!(flow["state"] == "answered" && flow["reply-to"] == peer.to_string(), "{flow:#}");
            ensure!(flow["age-ms"].as_u64().is_some_and(|age| age < 2_000), "{flow:#}");
            wait_for("the connection's end", GONE, || {
                flows_to(&control, &asked).ok()?.is_empty().then_some(())
            })?;
            let mapped = || control.ctl(&["show", "mappings", "--match", &client.to_string()]);
            let is_gone = |answer: &Value| {
                let mut all = answer["mappings"].as_array().into_iter().flatten();
                all.all(|row| row["protocol"] != "udp" || row["external"] != peer.to_string())
            };
            let gone = wait_for("the mapping's end", GONE, || mapped().ok().filter(is_gone).map(drop));
            gone.with_context(|| format!("{:#}", mapped().unwrap_or_default()))?;
        }
        let refused = control.ctl(&["show", "flows", "--stage", "track.flow"]);
        let said = refused.err().context("there is no such stage")?.to_string();
        ensure!(said.contains("track.flows"), "{said}");
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn rules_count_exactly_the_packets_that_meet_them() {
    in_lab(Shape::router(), |lab| {
        let control = Control::start(lab, EDGE)?;
        for (client, server) in lab.client_addresses.into_iter().zip(lab.server_addresses) {
            ask(lab, (client, 5000).into(), server)?;
        }
        let any: [IpAddr; 2] = ["0.0.0.0".parse()?, "::".parse()?];
        for ((client, server), any) in lab.client_addresses.into_iter().zip(lab.server_addresses).zip(any) {
            let (inside, outside) = (bound(&lab.client, (client, 5001))?, bound(&lab.server, (any, 5002))?);
            for _ in 0..25 {
                inside.send_to(&[7; 100], (server, 7001))?;
            }
            for _ in 0..40 {
                outside.send_to(&[9; 100], (client, 9))?;
            }
        }
        // Two asks and 2 x 25 packets; one answer to each ask; 2 x 40 that nobody wanted.
        let frame = |head: u64, data: u64| 14 + head + 8 + data;
        let expected = [
            ("asks", 52, frame(20, 3) + frame(40, 3) + 25 * (frame(20, 100) + frame(40, 100))),
            ("discard", 80, 40 * (frame(20, 100) + frame(40, 100))),
        ];
        let filters = || control.ctl(&["show", "filters", "--stage", "filter.edge"]);
        let count = |answer: &Value, name: &str, key: &str| {
            let row = answer["rules"].as_array()?.iter().find(|row| row["count"] == name)?;
            row[key].as_u64()
        };
        let answer = wait_for("all packets to be counted", SOON, || {
            let answer = filters().ok()?;
            let all =
                |(name, packets, _): &(&str, u64, u64)| count(&answer, name, "packets") >= Some(*packets);
            expected.iter().all(all).then_some(answer)
        })
        .or_else(|_| filters())?;
        for (name, packets, bytes) in expected {
            let counted = (count(&answer, name, "packets"), count(&answer, name, "bytes"));
            ensure!(counted == (Some(packets), Some(bytes)), "{name}: {counted:?} of {answer:#}");
        }
        ensure!(count(&answer, "answers", "packets") >= Some(2), "{answer:#}");
        let rules = rows(&answer, "rules")?;
        let places: Vec<_> = rules.iter().map(|row| row["rule"].as_u64().unwrap_or(0)).collect();
        ensure!(places == [1, 2, 3, 4, 5] && answer["matched"] == 5, "{answer:#}");
        ensure!(rules[1].get("packets").is_none(), "{answer:#}");
        let text = rules[4]["text"].as_str().unwrap_or_default();
        ensure!(text.starts_with("{ drop = true, count = \"discard\""), "{answer:#}");
        let [stage] = rows(&answer, "stages")?.as_slice() else { anyhow::bail!("{answer:#}") };
        ensure!(stage["pipeline"] == "edge" && stage["default"] == "drop", "{answer:#}");
        ensure!(stage["drops"].as_u64() >= Some(80), "{answer:#}");
        // As much is dropped as is said to be.
        let books = control.balanced()?;
        let answer = filters()?;
        ensure!(answer["stages"][0]["drops"] == books.counts.dropped("filtered"), "{answer:#} {books:?}");

        // What is cut is said, and rules that count come first.
        let cut = control.ctl(&["show", "filters", "--limit", "2"])?;
        let places: Vec<_> = rows(&cut, "rules")?.iter().map(|row| row["rule"].as_u64()).collect();
        ensure!(places == [Some(1), Some(3)] && cut["matched"] == 5, "{cut:#}");
        Ok(())
    });
}
