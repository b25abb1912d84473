//! Which ICMP and ICMPv6 messages are queries, answers, errors, or none of tracking's business.
//!
//! As nf_conntrack_proto_icmp.c and nf_conntrack_proto_icmpv6.c sort them (Linux 6.1).

use zsync_packet::header::protocol;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// It asks: it may begin a flow.
    Query,
    /// It answers.
    Answer,
    /// It is about another packet, which it quotes behind its first 8 bytes.
    Error,
    /// It stays on its link, and belongs to no flow: neighbour discovery, multicast listeners.
    Link,
    /// None of these.
    Other,
}

/// What an ICMP message of this type is.
pub(super) fn v4(kind: u8) -> Message {
    match kind {
        8 | 13 | 15 | 17 => Message::Query,
        0 | 14 | 16 | 18 => Message::Answer,
        3 | 4 | 5 | 11 | 12 => Message::Error,
        _ => Message::Other,
    }
}

/// What an ICMPv6 message of this type is.
pub(super) fn v6(kind: u8) -> Message {
    match kind {
        128 | 139 => Message::Query,
        129 | 140 => Message::Answer,
        130..=137 | 143 => Message::Link,
        0..=127 => Message::Error,
        _ => Message::Other,
    }
}

/// Whether what an error quotes may have gone that way in its flow: with the flow only queries go, and against it answers.
/// The kernel's flows have the type in their keys, so it finds none for others. Other protocols may go either way.
pub(super) fn may_go(protocol: u8, version: u8, quoted: &[u8], against: bool) -> bool {
    let message = match (protocol, version, quoted.first()) {
        (protocol::ICMP, 4, Some(kind)) => v4(*kind),
        (protocol::ICMPV6, 6, Some(kind)) => v6(*kind),
        (protocol::ICMP, 4, None) | (protocol::ICMPV6, 6, None) => return false,
        _ => return true,
    };
    message == if against { Message::Answer } else { Message::Query }
}
