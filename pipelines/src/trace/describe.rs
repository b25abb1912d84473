//! What a frame is, in the words of a [`PacketText`](super::text::PacketText).
//!
//! Owns nothing. Keeps true: says something of any bytes; what a text says of a frame of its own is said again.

use super::text::{SIZE, flags};
use std::fmt::Write as _;
use std::net::IpAddr;
use zsync_packet::flow::FlowKey;
use zsync_packet::header::{Ethernet, HeaderError, Icmp, Icmpv6, Ipv4, Ipv6, Tcp, Udp, ether_type, protocol};

/// Says what a frame is.
#[must_use]
pub fn describe(frame: &[u8]) -> String {
    let ethernet = match Ethernet::parse(frame) {
        Ok(ethernet) => ethernet,
        Err(error) => return format!("{} bytes that are no frame: {error}", frame.len()),
    };
    let mut text = match ethernet.ether_type() {
        ether_type::IPV4 => v4(ethernet.payload()),
        ether_type::IPV6 => v6(ethernet.payload()),
        ether_type::ARP => "ARP".to_owned(),
        other => format!("EtherType {other:#06x}, {} bytes", frame.len()),
    };
    let tags: Vec<String> = [ethernet.outer_tag(), ethernet.inner_tag()]
        .into_iter()
        .flatten()
        .map(|tag| {
            let provider = if tag.tpid == ether_type::QINQ { "802.1ad:" } else { "" };
            let priority = if tag.priority() == 0 { String::new() } else { format!("/{}", tag.priority()) };
            format!("{provider}{}{priority}", tag.id())
        })
        .collect();
    if !tags.is_empty() {
        // What an error is about stands last.
        let at = text.find(" about ").unwrap_or(text.len());
        text.insert_str(at, &format!(" vlan={}", tags.join(",")));
    }
    text
}

/// What the headers of both families say alike.
struct Ip<'p> {
    ends: (IpAddr, IpAddr),
    protocol: u8,
    ttl: u8,
    dscp: u8,
    ecn: u8,
    id: u32,
    dont_fragment: bool,
    /// Whether it is a fragment; where it lies, and whether more follows.
    fragment: Option<(u16, bool)>,
    payload: &'p [u8],
}

fn v4(packet: &[u8]) -> String {
    match Ipv4::parse(packet) {
        Ok(ip) => words(&of_v4(&ip), false, true),
        Err(error) => format!("IPv4, {} bytes: {error}", packet.len()),
    }
}

fn of_v4<'p>(ip: &Ipv4<'p>) -> Ip<'p> {
    let offset = ip.fragment_offset();
    let fragment = (offset != 0 || ip.more_fragments()).then(|| (offset, ip.more_fragments()));
    Ip {
        ends: (ip.source().into(), ip.destination().into()),
        protocol: ip.protocol(),
        ttl: ip.ttl(),
        dscp: ip.dscp(),
        ecn: ip.ecn(),
        id: ip.identification().into(),
        dont_fragment: ip.dont_fragment(),
        fragment,
        payload: ip.payload(),
    }
}

fn v6(packet: &[u8]) -> String {
    let ip = match Ipv6::parse(packet) {
        Ok(ip) => ip,
        Err(error) => return format!("IPv6, {} bytes: {error}", packet.len()),
    };
    match of_v6(&ip) {
        Ok(ip) => words(&ip, false, true),
        Err(error) => format!("IPv6 {} -> {}: {error}", ip.source(), ip.destination()),
    }
}

fn of_v6<'p>(ip: &Ipv6<'p>) -> Result<Ip<'p>, HeaderError> {
    let upper = ip.upper()?;
    Ok(Ip {
        ends: (ip.source().into(), ip.destination().into()),
        protocol: upper.protocol(),
        ttl: ip.hop_limit(),
        dscp: ip.dscp(),
        ecn: ip.ecn(),
        id: upper.identification().unwrap_or(0),
        dont_fragment: false,
        fragment: upper.is_fragment().then(|| (upper.fragment_offset(), upper.more_fragments())),
        payload: upper.payload(),
    })
}

/// The packet that an ICMP error quotes; none when it cannot be told.
fn quoted(bytes: &[u8], is_v4: bool) -> Option<String> {
    let (ip, cut) = if is_v4 {
        let ip = Ipv4::parse_quoted(bytes).ok()?;
        (of_v4(&ip), Ipv4::parse(bytes).is_err())
    } else {
        let ip = Ipv6::parse_quoted(bytes).ok()?;
        (of_v6(&ip).ok()?, Ipv6::parse(bytes).is_err())
    };
    Some(words(&ip, cut, false))
}

/// `cut`: the payload is not all there. `quotes`: what an error is about is said, too.
fn words(ip: &Ip<'_>, cut: bool, quotes: bool) -> String {
    let later = ip.fragment.is_some_and(|(offset, _)| offset != 0);
    let is_v4 = ip.ends.0.is_ipv4();
    let mut more = String::new();
    // What is left behind the transport header, and how much of that there usually is.
    let (mut rest, mut usual) = (ip.payload.len(), SIZE);
    let mut ports = None;
    let mut about = None;
    let kind = match ip.protocol {
        protocol::TCP => "tcp".to_owned(),
        protocol::UDP => "udp".to_owned(),
        protocol::ICMP if is_v4 => "icmp".to_owned(),
        protocol::ICMPV6 if !is_v4 => "icmp".to_owned(),
        other => other.to_string(),
    };
    match ip.protocol {
        _ if later => {}
        protocol::TCP => {
            if let Ok(tcp) = Tcp::parse(ip.payload) {
                ports = Some((tcp.source_port(), tcp.destination_port()));
                let _ = write!(more, " flags={}", flags(tcp.flags()));
                said(&mut more, "seq", tcp.sequence(), 0);
                said(&mut more, "ack", tcp.acknowledgement(), 0);
                (rest, usual) = (tcp.payload().len(), 0);
            }
        }
        protocol::UDP => {
            if let Ok(udp) = Udp::parse_partial(ip.payload) {
                ports = Some((udp.source_port(), udp.destination_port()));
                rest = ip.payload.len() - 8;
            }
        }
        protocol::ICMP if is_v4 => {
            if let Ok(icmp) = Icmp::parse(ip.payload) {
                rest = ip.payload.len().saturating_sub(8);
                icmp_words(&mut more, (icmp.kind(), icmp.code()), (8, 0), icmp.echo_id());
                about = icmp.quoted().filter(|_| quotes).and_then(|bytes| quoted(bytes, true));
            }
        }
        protocol::ICMPV6 if !is_v4 => {
            if let Ok(icmp) = Icmpv6::parse(ip.payload) {
                rest = ip.payload.len().saturating_sub(8);
                icmp_words(&mut more, (icmp.kind(), icmp.code()), (128, 0), icmp.echo_id());
                about = icmp.quoted().filter(|_| quotes).and_then(|bytes| quoted(bytes, false));
            }
        }
        _ => {}
    }
    let end = |address: IpAddr, port: Option<u16>| match (address, port) {
        (IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
        (address, Some(port)) => format!("{address}:{port}"),
        (address, None) => address.to_string(),
    };
    let mut text = format!(
        "{kind} {} -> {}{more}",
        end(ip.ends.0, ports.map(|ports| ports.0)),
        end(ip.ends.1, ports.map(|ports| ports.1))
    );
    said(&mut text, "ttl", ip.ttl.into(), 64);
    said(&mut text, "dscp", ip.dscp.into(), 0);
    said(&mut text, "ecn", ip.ecn.into(), 0);
    if let Some((offset, more)) = ip.fragment {
        let _ = write!(text, " frag={offset}{}", if more { "+" } else { "" });
    }
    said(&mut text, "id", ip.id, 0);
    if ip.dont_fragment {
        text.push_str(" df");
    }
    match about {
        Some(about) => {
            let _ = write!(text, " about {about}");
        }
        None if rest != usual && !cut => {
            let _ = write!(text, " size={rest}");
        }
        None => {}
    }
    text
}

fn icmp_words(text: &mut String, is: (u8, u8), usual: (u8, u8), echo: Option<u16>) {
    if is != usual {
        let _ = write!(text, " type={}/{}", is.0, is.1);
    }
    if let Some(echo) = echo {
        said(text, "echo-id", echo.into(), 1);
    }
}

/// A number that is not the usual one.
fn said(text: &mut String, key: &str, number: u32, usual: u32) {
    if number != usual {
        let _ = write!(text, " {key}={number}");
    }
}

/// A flow's key in the same words.
#[must_use]
pub fn flow(key: &FlowKey) -> String {
    let kind = match key.protocol() {
        protocol::TCP => "tcp".to_owned(),
        protocol::UDP => "udp".to_owned(),
        protocol::ICMP | protocol::ICMPV6 => "icmp".to_owned(),
        other => other.to_string(),
    };
    let end = |address: IpAddr, port: u16| match address {
        IpAddr::V4(address) => format!("{address}:{port}"),
        IpAddr::V6(address) => format!("[{address}]:{port}"),
    };
    format!(
        "{kind} {} -> {}",
        end(key.source(), key.source_port()),
        end(key.destination(), key.destination_port())
    )
}
