//! Writes the seeds of every fuzz target into `corpus/TARGET/`, from the packets that the tests use. Run it in this folder.

#[path = "../../entry/edge.rs"]
#[allow(dead_code)]
mod edge;
#[path = "../../entry/lab.rs"]
#[allow(dead_code)]
mod lab;
#[path = "../../entry/packet_text.rs"]
#[allow(dead_code)]
mod packet_text;
#[path = "../../entry/pipeline.rs"]
#[allow(dead_code)]
mod pipeline;
#[path = "../../entry/uapi.rs"]
#[allow(dead_code)]
mod uapi;
#[path = "../../entry/wg_quick.rs"]
#[allow(dead_code)]
mod wg_quick;
#[path = "../../entry/wireguard.rs"]
#[allow(dead_code)]
mod wireguard;

use lab::{A, B, C};
use std::io::Result;
use std::path::Path;
use zsync_io::virtio::merge::{HEADERS, Runs};
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec, TcpSpec};
use zsync_packet::header::{TcpFlags, corpus, protocol};
use zsync_protocol::message::{ToDataplane, encode};

fn main() -> Result<()> {
    let samples = corpus::valid();
    for (number, sample) in samples.iter().enumerate() {
        seed("headers", number, &sample.bytes)?;
        seed("pipeline", number, &pipeline::encode(A, &[&sample.bytes]))?;
    }
    let all: Vec<&[u8]> = samples.iter().map(|sample| &sample.bytes[..sample.bytes.len().min(200)]).collect();
    for port in [A, B, C] {
        seed("pipeline", 100 + usize::from(port.0), &pipeline::encode(port, &all))?;
    }
    for (number, file) in [
        include_str!("../../../../pipelines/examples/router.toml"),
        include_str!("../../../../pipelines/examples/patch.toml"),
        include_str!("../../../../pipelines/examples/edge-nat.toml"),
        include_str!("../../../../pipelines/examples/inline-filter.toml"),
        include_str!("../../../../pipelines/examples/load-balancer.toml"),
        include_str!("../../../../pipelines/examples/policer.toml"),
        include_str!("../../../../pipelines/examples/vxlan-gateway.toml"),
        include_str!("../../../../pipelines/examples/wireguard-gateway.toml"),
    ]
    .iter()
    .enumerate()
    {
        seed("config", number, file.as_bytes())?;
    }
    for (scene, target) in [
        (edge::Scene::Tunnels, "tunnels"),
        (edge::Scene::Fragments, "fragments"),
        (edge::Scene::Flows, "flows"),
    ] {
        for (number, input) in edge::seeds(scene).iter().enumerate() {
            seed(target, number, input)?;
        }
    }
    for (direction, target) in
        [(wireguard::Direction::Open, "wireguard_open"), (wireguard::Direction::Seal, "wireguard_seal")]
    {
        for (number, input) in wireguard::seeds(direction).iter().enumerate() {
            seed(target, number, input)?;
        }
    }
    for (number, text) in packet_text::SEEDS.iter().enumerate() {
        seed("packet_text", number, text.as_bytes())?;
    }
    for (number, text) in uapi::SEEDS.iter().enumerate() {
        seed("uapi", number, text.as_bytes())?;
    }
    for (number, text) in wg_quick::SEEDS.iter().enumerate() {
        seed("wg_quick", number, text.as_bytes())?;
    }
    let messages = [
        ToDataplane::Port {
            id: 1,
            name: "eth1".into(),
            ifindex: 3,
            mac: [2; 6],
            mtu: 1500,
            partial_checksums: false,
            v4: Some([192, 0, 2, 1].into()),
            v6: None,
        },
        ToDataplane::Queue {
            port: 1,
            queue: 0,
            worker: 0,
            rx: 1024,
            tx: 1024,
            fill: 2048,
            completion: 1024,
            zero_copy: false,
            busy_poll: true,
        },
        ToDataplane::Fib { epoch: 1, table: 254, len: 1 << 20 },
        ToDataplane::Snapshot { epoch: 1, len: 100 },
        ToDataplane::Audit { id: 7 },
        ToDataplane::Stop,
    ];
    for (number, message) in messages.iter().enumerate() {
        let mut bytes = Vec::new();
        if encode(message, &mut bytes).is_ok() {
            seed("message", number, &[&[0][..], &bytes].concat())?;
        }
    }
    for (number, input) in merged().iter().enumerate() {
        seed("tun_split", number, input)?;
    }
    seed("pcap", 0, &capture(&all))
}

/// Two packets of a flow as a TUN device has them, behind one header: TCP and UDP, IPv4 and IPv6.
fn merged() -> Vec<Vec<u8>> {
    let (a4, b4) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
    let (a6, b6) = ("2001:db8::1".parse().expect("an address"), "2001:db8::2".parse().expect("an address"));
    let body = |number: u8| vec![number; 100];
    let upper = |kind, sum, number: u8| match kind {
        protocol::TCP => {
            let sequence = 100 * u32::from(number);
            TcpSpec { sequence, ..TcpSpec::new(1024, 80, TcpFlags::ACK) }.segment(sum, &body(number))
        }
        _ => build::udp(sum, 1024, 80, &body(number)),
    };
    let mut inputs = Vec::new();
    for kind in [protocol::TCP, protocol::UDP] {
        let v4 = [0, 1].map(|number| {
            let mut spec = Ipv4Spec::new(a4, b4, kind);
            spec.identification = number.into();
            spec.packet(&upper(kind, spec.address_sum(), number))
        });
        let v6 = [0, 1].map(|number| {
            let spec = Ipv6Spec::new(a6, b6, kind);
            spec.packet(&upper(kind, spec.address_sum(), number))
        });
        for packets in [v4, v6] {
            let all = packets.each_ref().map(Vec::as_slice);
            let mut runs = Runs::new(true);
            runs.find(&all);
            let mut room = [0; HEADERS];
            let run = runs.iter().next().expect("a run of both");
            let (header, len) = run.write_headers(all[0], &mut room).expect("two packets");
            inputs.push([&header.to_bytes()[..], &room[..len], &body(0), &body(1)].concat());
        }
    }
    inputs
}

/// A classic capture of these packets, little endian, in microseconds.
fn capture(packets: &[&[u8]]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 65535, 1] {
        file.extend(word.to_le_bytes());
    }
    for (second, packet) in packets.iter().enumerate() {
        for word in [second as u32, 0, packet.len() as u32, packet.len() as u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend(*packet);
    }
    file
}

fn seed(target: &str, number: usize, bytes: &[u8]) -> Result<()> {
    let folder = Path::new("corpus").join(target);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(format!("seed-{number:03}")), bytes)
}
