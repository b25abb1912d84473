//! ICMP echo, asked and answered over a raw socket (CAP_NET_RAW; ping sockets may be forbidden to every group).
//!
//! Refuses: answers of other stations, to other questions, or with other bytes. Keeps true: no socket outlives its question.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with};
use tokio::net::UdpSocket;
use zsync_packet::checksum;

const REQUEST: [u8; 2] = [8, 128];
const REPLY: [u8; 2] = [0, 129];
/// Header and payload.
const LEN: usize = 24;

/// Asks `address`, and waits until it has answered. `nonce` tells this question from others.
pub async fn echo(address: IpAddr, nonce: u64) -> io::Result<()> {
    let (family, protocol) = match address {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::RAW, flags, Some(protocol))?;
    // From now on the kernel passes on what comes from that address alone.
    connect(&socket, &SocketAddr::new(address, 0))?;
    // For its send and receive alone: tokio knows no raw sockets.
    let socket = UdpSocket::from_std(socket.into())?;
    let question = question(address, nonce);
    socket.send(&question).await?;
    let mut buffer = [0; 256];
    loop {
        let len = socket.recv(&mut buffer).await?;
        if buffer.get(..len).is_some_and(|bytes| answers(address, &question, bytes)) {
            return Ok(());
        }
    }
}

fn question(address: IpAddr, nonce: u64) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[0] = REQUEST[usize::from(address.is_ipv6())];
    let [a, b, c, d, ..] = nonce.to_be_bytes();
    bytes[4..8].copy_from_slice(&[a, b, c, d]);
    bytes[8..16].copy_from_slice(&nonce.to_be_bytes());
    bytes[16..].copy_from_slice(b"zsync up");
    // The kernel fills in that of ICMPv6, which is over the addresses, too (RFC 3542 §3.1).
    if address.is_ipv4() {
        let sum = checksum::of(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

/// Whether what a raw socket gave is the answer to the question; with IPv4 the header comes along.
fn answers(address: IpAddr, question: &[u8; LEN], bytes: &[u8]) -> bool {
    let header = match (address, bytes.first()) {
        (IpAddr::V4(_), Some(first)) => usize::from(first & 0xf) * 4,
        _ => 0,
    };
    let Some(message) = bytes.get(header..) else { return false };
    message.first() == Some(&REPLY[usize::from(address.is_ipv6())])
        && message.get(1) == Some(&0)
        && message.get(4..LEN) == Some(&question[4..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_all_else() {
        for address in ["192.0.2.1", "2001:db8::1"].map(|text| text.parse::<IpAddr>().unwrap()) {
            let question = question(address, 0x0123_4567_89ab_cdef);
            let mut reply =
                if address.is_ipv4() { [&[0x45; 20][..], &question].concat() } else { question.to_vec() };
            let at = reply.len() - LEN;
            assert!(!answers(address, &question, &reply), "the question itself");
            reply[at] = REPLY[usize::from(address.is_ipv6())];
            assert!(answers(address, &question, &reply));
            for byte in [1, 4, 6, 8, 23] {
                let mut other = reply.clone();
                other[at + byte] ^= 1;
                assert!(!answers(address, &question, &other), "byte {byte}");
            }
            assert!((0..reply.len()).all(|len| !answers(address, &question, &reply[..len])));
        }
    }

    #[test]
    fn a_question_of_icmp_sums_up() {
        assert_eq!(checksum::of(&question([192, 0, 2, 1].into(), 77)), 0);
    }
}
