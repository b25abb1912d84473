//! Configurations and packets of the cases.
//!
//! Keeps true: what is drawn comes from a seed, so every run has the same rules, flows and packets.

use crate::acl::Rule;
use crate::edge::case::{Case, Packets};
use crate::traffic::Family::{self, V4};
use crate::traffic::{Seeded, Table};
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec, TcpSpec};
use zsync_packet::header::{TcpFlags, ether_type, protocol};

/// Bytes of a packet, where its headers leave room.
const PACKET: usize = 64;
/// Where packets come in, and where answers do.
pub(crate) const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const SENDER: [u8; 6] = [2, 0, 0, 9, 9, 9];
/// The balanced address, and those behind it.
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
const BACKENDS: u8 = 100;
/// Rules that a filter has besides those for connections.
const RULES: usize = 100;

/// Both ends of a flow.
pub(crate) type Ends = (SocketAddr, SocketAddr);

/// The configuration of a case.
pub(crate) fn configuration(case: &Case) -> String {
    let mut text = format!(
        "[port.left]\nnetdev = \"left\"\n[port.right]\nnetdev = \"right\"\n[route.it]\ntable = 254\n\
         [pipeline.it]\ninput = [\"left\", \"right\"]\nstages = [{}]\n",
        case.stages
    );
    // A stage that no pipeline has is a mistake.
    let mut add = |label: &str, settings: String| {
        if case.stages.contains(label) {
            let _ = writeln!(text, "[{label}]\n{settings}");
        }
    };
    let flows = match case.packets {
        Packets::Tcp(flows) | Packets::Udp(flows) | Packets::Translated(flows) | Packets::Balanced(flows) => {
            flows
        }
        _ => 0,
    };
    let room = flows + flows / 16;
    let translations = if matches!(case.packets, Packets::Translated(_)) { room } else { 1 };
    add("track.it", format!("capacity = {}\ntranslations = {translations}", room.max(1)));
    add("filter.it", filter(case));
    add(
        "nat.it",
        format!("snat = [{{ to = [\"203.0.112.0/22\", \"2001:db8:1::/118\"] }}]\nmappings = {room}"),
    );
    add(
        "police.it",
        match case.packets {
            Packets::Sources(sources) if sources > 1 => {
                format!("rate = \"100Mbit\"\nburst = \"1MiB\"\nper = \"source\"\nsubjects = {}", 2 * sources)
            }
            _ => "rate = \"100Gbit\"\nburst = \"1MiB\"".to_owned(),
        },
    );
    let backends: Vec<String> =
        (1..=BACKENDS).map(|n| format!("{{ address = \"{}\" }}", backend(n))).collect();
    add(
        "balance.it",
        format!(
            "vip = [\"{VIP}\"]\nservice = [\"tcp/443\"]\nforward = \"direct\"\ntable = 100\nconnections = {room}\nbackends = [{}]",
            backends.join(", ")
        ),
    );
    text
}

/// The backends' addresses.
pub(crate) fn backends() -> impl Iterator<Item = Ipv4Addr> {
    (1..=BACKENDS).map(backend)
}

fn backend(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, n)
}

/// The rules of a filter: as many as the case says, or a firewall's of ordinary size behind one for connections.
fn filter(case: &Case) -> String {
    let (count, connections) = match case.packets {
        Packets::Ruled(rules) => (rules, false),
        _ => (RULES, true),
    };
    let mut rules = Vec::with_capacity(count + 2);
    if connections {
        rules.push("{ accept = true, state = [\"established\", \"related\"] }".to_owned());
    }
    rules.extend(acl(count).iter().map(Rule::setting));
    if connections {
        rules.push("{ accept = true, input = \"left\" }".to_owned());
    }
    format!("default = \"drop\"\nrules = [\n{}\n]", rules.join(",\n"))
}

fn acl(count: usize) -> Vec<Rule> {
    let mut seeded = Seeded::new(11);
    (0..count).map(|_| Rule::random(&mut seeded)).collect()
}

/// What comes in at the first port, in the order of flows. An address that is no station's is left out by the parser.
pub(crate) fn packets(case: &Case, table: &Table) -> Result<Vec<Vec<u8>>> {
    let mut seeded = Seeded::new(3);
    match case.packets {
        Packets::Routed => (0..1 << 16)
            .map(|_| {
                let to = SocketAddr::new(table.destination(&mut seeded), 9);
                udp((SocketAddr::new(host(case.family), 1024), to), 0)
            })
            .collect(),
        Packets::Ruled(rules) => {
            let rules = acl(rules);
            let aimed = |_| {
                let rule = &rules[seeded.below(rules.len() as u64) as usize];
                let aim = rule.aim(&mut seeded);
                let ends = (aim.source, aim.destination);
                if aim.protocol == protocol::TCP { tcp(ends, 0, false, TcpFlags::ACK) } else { udp(ends, 0) }
            };
            (0..1 << 16).map(aimed).collect()
        }
        Packets::Sources(sources) => (0..sources.max(1 << 12))
            .map(|n| {
                let from = Ipv4Addr::from_bits(0x0a00_0000 + n % sources);
                udp((SocketAddr::new(from.into(), 1024), (Ipv4Addr::new(198, 51, 100, 1), 9).into()), 0)
            })
            .collect(),
        Packets::Balanced(flows) => (0..flows)
            .map(|n| {
                let from = Ipv4Addr::from_bits(0x0a10_0000 + n / 16);
                tcp(((from, 1024 + (n % 16) as u16).into(), (VIP, 443).into()), 0, false, TcpFlags::SYN)
            })
            .collect(),
        Packets::Tcp(_) | Packets::Udp(_) | Packets::Translated(_) => Ok(Vec::new()),
    }
}

/// The ends of each flow: clients and servers are where routes lead, and seven flows are of one client.
pub(crate) fn flows(case: &Case, count: u32, table: &Table) -> Vec<Ends> {
    let mut seeded = Seeded::new(5);
    let mut client = host(case.family);
    let end = |n: u32| {
        if n.is_multiple_of(7) {
            client = table.destination(&mut seeded);
        }
        let port = 2000 + (n % 7) as u16;
        (SocketAddr::new(client, port), SocketAddr::new(table.destination(&mut seeded), 443))
    };
    (0..count).map(end).collect()
}

fn host(family: Family) -> IpAddr {
    if family == V4 {
        Ipv4Addr::new(192, 0, 2, 1).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()
    }
}

/// A UDP packet that comes in at this port.
pub(crate) fn udp(ends: Ends, port: usize) -> Result<Vec<u8>> {
    let headers = if ends.0.is_ipv4() { 14 + 20 + 8 } else { 14 + 40 + 8 };
    let payload = vec![0; PACKET.saturating_sub(headers)];
    let packet = build::udp_packet(ends.0, ends.1, &payload).context("ends of two families")?;
    let kind = if ends.0.is_ipv4() { ether_type::IPV4 } else { ether_type::IPV6 };
    Ok(build::ethernet(MACS[port], SENDER, &[], kind, &packet))
}

/// A TCP packet that comes in at this port, of a connection that both sides begin at 100 and 500.
pub(crate) fn tcp(ends: Ends, port: usize, reply: bool, flags: TcpFlags) -> Result<Vec<u8>> {
    let opens = flags.contains(TcpFlags::SYN);
    let (sequence, acknowledgement) = match (reply, opens) {
        (false, true) => (100, 0),
        (false, false) => (101, 501),
        (true, true) => (500, 101),
        (true, false) => (501, 101),
    };
    let spec = TcpSpec { sequence, acknowledgement, ..TcpSpec::new(ends.0.port(), ends.1.port(), flags) };
    let (kind, packet) = match (ends.0.ip(), ends.1.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let ip = Ipv4Spec { dont_fragment: true, ..Ipv4Spec::new(from, to, protocol::TCP) };
            (ether_type::IPV4, ip.packet(&spec.segment(ip.address_sum(), &[0; PACKET - 54])))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let ip = Ipv6Spec::new(from, to, protocol::TCP);
            (ether_type::IPV6, ip.packet(&spec.segment(ip.address_sum(), &[])))
        }
        _ => anyhow::bail!("ends of two families"),
    };
    Ok(build::ethernet(MACS[port], SENDER, &[], kind, &packet))
}
