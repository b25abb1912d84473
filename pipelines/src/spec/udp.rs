//! A port that is a UDP socket: what comes to its address comes by it, and the kernel carries what leaves by it.
//!
//! Owns: its settings, and what a port of this kind cannot have. Refuses: what belongs to a network device, with the key at fault;
//! addresses that no socket of this host can have; two ports that want the same datagrams.

use super::datum::{Fields, Placed};
use super::decode::Document;
use super::findings::Findings;
use super::keys::{ABSENT, Key, Reach};
use super::kind::{Kind, Text};
use super::tun::given;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// The settings of a UDP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpSpec {
    /// Its address and port. The unspecified address of IPv6 means all of both families, that of IPv4 all of its own.
    pub listen: SocketAddr,
    /// It goes by io_uring, where the kernel has that.
    pub io_uring: bool,
}

pub(crate) const LISTEN: Key = Key {
    name: "listen",
    kind: Kind::Text(Text::Socket),
    default: ABSENT,
    reach: Reach::Sockets,
    about: "The address and port of a UDP socket: \"[::]:51820\" for all addresses of both families, \"0.0.0.0:51820\" for \
            those of IPv4.",
};

pub(crate) const IO_URING: Key = Key {
    name: "io-uring",
    kind: Kind::Switch,
    default: Some("false"),
    reach: Reach::Sockets,
    about: "Whether a UDP socket is read and written by io_uring, where the kernel has it, and not by system calls.",
};

/// Keys that say something of a network device.
const FOREIGN: [&str; 13] = [
    "netdev",
    "mtu",
    "addresses",
    "steer",
    "block",
    "xdp",
    "failover",
    "mode",
    "ring-size",
    "busy-poll",
    "replace",
    "promiscuous",
    "vlans",
];

/// The UDP socket of a port's section, if it has one. All other ports have a network device.
pub(crate) fn udp(name: &Placed<String>, fields: &Fields, out: &mut Findings<'_>) -> Option<UdpSpec> {
    let listen = fields.at("listen");
    let lacks = |key: &str| format!("[port.{}] has no `{key}`", name.value);
    if fields.text("device") != "udp" {
        if let Some(listen) = listen {
            let message = format!("port \"{}\" is a network device, which has no `listen`", name.value);
            out.error(&listen.span, message)
                .help("leave it out, or let the port be a UDP socket: device = \"udp\"");
        } else if !fields.has("netdev") {
            out.missing(&name.span, lacks("netdev"), Kind::Text(Text::Netdev).expected());
        }
        for (key, given) in given(fields, &[IO_URING.name]) {
            let message = format!("port \"{}\" is a network device, which has no `{key}`", name.value);
            out.error(&given.span, message)
                .help("leave it out, or let the port be a UDP socket: device = \"udp\"");
        }
        return None;
    }
    for (key, given) in given(fields, &FOREIGN) {
        let message = format!("port \"{}\" is a UDP socket, which has no `{key}`", name.value);
        out.error(&given.span, message).help("leave it out");
    }
    let Some(listen) = listen else {
        if fields.has("listen") {
            return None;
        }
        out.missing(&name.span, lacks("listen"), LISTEN.kind.expected());
        return None;
    };
    let socket: SocketAddr = listen.value.text().parse().ok()?;
    if let Some(problem) = problem(socket) {
        out.error(&listen.span, format!("port \"{}\" cannot listen at {socket}: {problem}", name.value))
            .expected("an address of this host, or \"[::]\" or \"0.0.0.0\" for all of them");
    }
    Some(UdpSpec { listen: socket, io_uring: fields.switch(IO_URING.name) })
}

fn problem(socket: SocketAddr) -> Option<&'static str> {
    match socket.ip() {
        ip if ip.is_multicast() || ip == IpAddr::from([255; 4]) => Some("that is the address of no station"),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
            Some("write it as the address of IPv4 that it stands for")
        }
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            Some("packets do not say which link an address of one link is of")
        }
        _ => None,
    }
}

/// Whether two sockets would get the same datagrams.
fn meet(one: SocketAddr, other: SocketAddr) -> bool {
    let all = |one: IpAddr, other: IpAddr| one.is_unspecified() && (one.is_ipv6() || other.is_ipv4());
    let (a, b) = (one.ip(), other.ip());
    one.port() == other.port() && (a == b || all(a, b) || all(b, a))
}

/// Refuses two ports that want the same datagrams.
pub(crate) fn no_two_at_one(document: &Document, out: &mut Findings<'_>) {
    let mut sockets: Vec<(SocketAddr, &str, usize)> = Vec::new();
    for entry in document.entries("port").filter(|entry| entry.fields.text("device") == "udp") {
        let Some(listen) = entry.fields.at("listen") else { continue };
        let Ok(socket) = listen.value.text().parse() else { continue };
        if let Some((at, other, place)) = sockets.iter().find(|(other, ..)| meet(socket, *other)) {
            let line = out.line(*place);
            out.error(&listen.span, format!("port \"{other}\" listens at {at} already"))
                .label(format!("also in line {line}"))
                .help("give each its own UDP port, or addresses of its own");
        }
        sockets.push((socket, &entry.name.value, listen.span.start));
    }
}
