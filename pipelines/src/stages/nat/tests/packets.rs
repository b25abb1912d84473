//! Packets by their ends, computed anew each time: what a translation must come to.

use std::net::IpAddr;

use crate::stages::fixture::{on_v4, on_v6};
use zsync_packet::checksum::Sum;
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec, TcpSpec};
use zsync_packet::header::{TcpFlags, icmp, icmpv6, protocol};

/// An address, and a port or the identifier of an echo.
pub(super) type End = (IpAddr, u16);

fn ip(protocol: u8, from: IpAddr, to: IpAddr, payload: impl FnOnce(Sum) -> Vec<u8>) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let spec = Ipv4Spec::new(from, to, protocol);
            on_v4(&spec, &payload(spec.address_sum()))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let spec = Ipv6Spec::new(from, to, protocol);
            on_v6(&spec, &payload(spec.address_sum()))
        }
        _ => panic!("two families"),
    }
}

/// TCP, UDP, an echo request (`ICMP`) or its answer (`ICMP_REPLY`), of either family.
pub(super) fn packet(kind: u8, from: End, to: End) -> Vec<u8> {
    let echo = |request: bool| {
        let [a, b] = if request { from.1 } else { to.1 }.to_be_bytes();
        let word = [a, b, 0, 7];
        if from.0.is_ipv4() {
            let kind = if request { icmp::ECHO_REQUEST } else { icmp::ECHO_REPLY };
            ip(protocol::ICMP, from.0, to.0, |_| build::icmp(kind, 0, word, b"ping"))
        } else {
            let kind = if request { icmpv6::ECHO_REQUEST } else { icmpv6::ECHO_REPLY };
            ip(protocol::ICMPV6, from.0, to.0, |sum| build::icmpv6(sum, kind, 0, word, b"ping"))
        }
    };
    match kind {
        protocol::TCP => {
            ip(kind, from.0, to.0, |sum| TcpSpec::new(from.1, to.1, TcpFlags::SYN).segment(sum, b"segment"))
        }
        protocol::UDP => ip(kind, from.0, to.0, |sum| build::udp(sum, from.1, to.1, b"datagram")),
        protocol::ICMP => echo(true),
        ICMP_REPLY => echo(false),
        other => ip(other, from.0, to.0, |_| vec![0xab; 24]),
    }
}

/// Stands for an echo's answer.
pub(super) const ICMP_REPLY: u8 = 255;

pub(super) fn udp(from: End, to: End) -> Vec<u8> {
    packet(protocol::UDP, from, to)
}

/// An ICMP error from `reporter` to the sender of `about`, a packet on Ethernet, which it quotes in part.
pub(super) fn error(reporter: &str, about: &[u8]) -> Vec<u8> {
    let quoted = &about[14..];
    let reporter: IpAddr = reporter.parse().unwrap();
    if reporter.is_ipv4() {
        let to = [quoted[12], quoted[13], quoted[14], quoted[15]].into();
        ip(protocol::ICMP, reporter, to, |_| build::icmp(icmp::UNREACHABLE, 3, [0; 4], &quoted[..28]))
    } else {
        let to: [u8; 16] = quoted[8..24].try_into().unwrap();
        ip(protocol::ICMPV6, reporter, to.into(), |sum| build::icmpv6(sum, 1, 4, [0; 4], &quoted[..48]))
    }
}
