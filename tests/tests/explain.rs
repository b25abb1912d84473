//! `zsyncctl explain` beside real traffic: what it says of a packet is what becomes of it, with the state that the workers have.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use zsync_pipelines::trace::text::PacketText;
use zsync_tests::binary::binary;
use zsync_tests::wireguard::{BEHIND, Pair, config_of, peer_of};
use zsync_tests::{Control, Shape, in_lab, ping};

/// Who is inside may begin, and shares the address of "wan" by IPv4.
const EDGE: &str = r#"
[port.lan]
netdev = "eth1"
[port.wan]
netdev = "eth2"
[pipeline.edge]
input  = ["lan", "wan"]
stages = ["filter.edge", "nat.edge", "route"]
[filter.edge]
default = "drop"
rules = [{ accept = true, state = ["established", "related"] }, { accept = true, input = "lan" }]
[nat.edge]
masquerade = [{ output = "wan" }]
"#;

/// All that was said of a packet.
fn said(packet: &Value) -> String {
    let steps = packet["steps"].as_array().map_or(&[][..], Vec::as_slice);
    let lines = steps.iter().flat_map(|step| {
        let lists = ["matched", "changed"].map(|list| step[list].as_array().cloned().unwrap_or_default());
        lists.concat()
    });
    lines.filter_map(|line| line.as_str().map(str::to_owned)).collect::<Vec<_>>().join("\n")
}

/// A capture as tcpdump writes it.
fn capture(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 65535, 1] {
        file.extend(word.to_le_bytes());
    }
    for frame in frames {
        for word in [0, 0, frame.len() as u32, frame.len() as u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

#[test]
fn a_packet_of_a_live_connection_is_explained_by_its_state() {
    in_lab(Shape::router(), |lab| {
        let control = Control::start(lab, EDGE)?;
        for target in lab.server_addresses {
            let target = SocketAddr::new(target, 7000);
            let listener = lab.server.run(|| TcpListener::bind(target).context("listening"))?;
            let mut client = lab
                .client
                .run(|| TcpStream::connect_timeout(&target, Duration::from_secs(2)).context("connecting"))?;
            let (mut server, shared) = listener.accept()?;
            let mut word = [0; 4];
            client.write_all(b"ping")?;
            server.read_exact(&mut word)?;
            let from = client.local_addr()?;

            let ask =
                |input: &str, packet: &str| control.ctl(&["explain", "--packet", packet, "--input", input]);
            let there = ask("lan", &format!("tcp {from} -> {target}"))?;
            let text = said(&there[0]);
            ensure!(there[0]["verdict"] == "transmit by wan", "{there:#}");
            ensure!(text.contains("established, answered, assured; this is of who began it"), "{text}");
            ensure!(text.contains(": as its flow goes on") && text.contains("rule 1: "), "{text}");
            // What outside answers to, and a stranger's packet to the same place.
            let back = ask("wan", &format!("tcp {target} -> {shared}"))?;
            let text = said(&back[0]);
            ensure!(back[0]["verdict"] == "transmit by lan", "{back:#}");
            ensure!(
                text.contains("this is an answer") && text.contains(&format!("tcp {target} -> {from}")),
                "{text}"
            );
            let stranger = SocketAddr::new(target.ip(), 7001);
            let other = ask("wan", &format!("tcp {stranger} -> {shared}"))?;
            ensure!(other[0]["verdict"] == "drop: filtered", "{other:#}");

            // To be asked changes nothing: the connection goes on.
            server.write_all(b"pong")?;
            client.read_exact(&mut word)?;
            ensure!(&word == b"pong");
        }
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn captures_and_configurations_that_are_not_in_force_are_explained() {
    in_lab(Shape::router(), |lab| {
        let control = Control::start(lab, EDGE)?;
        let mac = lab.router.mac("eth1")?;
        let frame =
            |text: &str| PacketText::parse(text).map(|text| text.frame(mac)).map_err(anyhow::Error::msg);
        let server = lab.server_addresses[0];
        // So that the kernel knows the neighbours.
        ensure!(ping(&lab.client, server, 2)?.all(), "no way");
        let frames = [
            frame(&format!("udp 10.1.0.2:4000 -> {server}:53"))?,
            frame(&format!("udp 10.1.0.2:4000 -> {server}:53 vlan=7"))?,
        ];
        let file = lab.folder().join("two.pcap");
        std::fs::write(&file, capture(&frames))?;
        let file = file.to_str().context("a path")?;
        let answer = control.ctl(&["explain", "--pcap", file, "--input", "lan"])?;
        ensure!(answer[0]["verdict"] == "transmit by wan", "{answer:#}");
        ensure!(answer[1]["verdict"] == "drop: vlan-tagged", "{answer:#}");

        // With another configuration, the kernel's routes of now, and no daemon asked.
        let next = EDGE.replace(r#"netdev = "eth1""#, "netdev = \"eth1\"\nvlans = { office = { id = 7 } }");
        let next = next
            .replace(r#""wan"]"#, r#""wan", "office"]"#)
            .replace(r#"input = "lan""#, r#"input = ["lan", "office"]"#);
        let config = lab.folder().join("other.toml");
        std::fs::write(&config, next)?;
        let mut command = Command::new(binary("zsyncctl")?);
        command.args(["--json", "explain", "--pcap", file, "--input", "lan", "--config"]).arg(&config);
        let text = lab.router.output(command.arg("--socket").arg("/nowhere"))?;
        let answer: Value = serde_json::from_str(&text).context(text)?;
        for (n, input) in ["lan", "office"].into_iter().enumerate() {
            let packet = &answer["explained"][n];
            ensure!(packet["verdict"] == "transmit by wan" && packet["input"] == input, "{answer:#}");
        }
        Ok(())
    });
}

#[test]
fn a_tunnel_is_explained_before_it_has_ever_run() {
    in_lab(Shape::router(), |lab| {
        let peers = [
            peer_of("xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", Some("10.2.0.2:51821"), BEHIND, ""),
            peer_of(
                "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=",
                None,
                "\"10.9.0.0/24\", \"fd09::/64\"",
                "",
            ),
        ];
        let nobody = Pair { file: "/nowhere/own.key".into(), public: String::new() };
        let config = lab.folder().join("tunnel.toml");
        std::fs::write(&config, config_of(&nobody, "", &peers))?;
        let ask = |packet: &str| -> Result<(String, String)> {
            let mut command = Command::new(binary("zsyncctl")?);
            command.args(["--json", "explain", "--packet", packet, "--config"]).arg(&config);
            let text = lab.router.output(command.args(["--socket", "/nowhere"]))?;
            let answer: Value = serde_json::from_str(&text).context(text)?;
            let packet = &answer["explained"][0];
            Ok((said(packet), packet["verdict"].as_str().context("a verdict")?.to_owned()))
        };
        for packet in ["udp 10.1.0.2:1 -> 10.8.0.2:2", "udp [fd01::2]:1 -> [fd08::2]:2"] {
            let (text, verdict) = ask(packet)?;
            ensure!(
                text.contains("for the peer xTIBA5rboUvnH4ht") && verdict == "consumed",
                "{text}: {verdict}"
            );
            ensure!(text.contains("the peer is at 10.2.0.2:51821, as configured"), "{text}");
        }
        for packet in ["udp 10.1.0.2:1 -> 10.9.0.2:2", "udp [fd01::2]:1 -> [fd09::2]:2"] {
            let (text, verdict) = ask(packet)?;
            ensure!(text.contains("for the peer TrMvSoP4jYQlY6RI"), "{text}");
            ensure!(
                text.contains("nobody knows where the peer is") && verdict != "consumed",
                "{text}: {verdict}"
            );
        }
        Ok(())
    });
}
