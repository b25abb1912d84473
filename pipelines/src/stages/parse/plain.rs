//! Plain packets, which nearly all are: found valid at a first look, by few comparisons.
//!
//! Plain is: untagged, for the port's own address, from and to addresses of no special block; IPv4 without options, whole, its
//! checksum right; IPv6, of which the transport follows at once if somebody asks for it. Refuses nothing: what is not plain is
//! for [`super::examine`] to judge. Keeps true: of a plain packet both say the same.

use crate::stages::found::Found;
use std::net::{Ipv4Addr, Ipv6Addr};
use zsync_packet::burst::Fragment;
use zsync_packet::flow::{self, FlowKey};
use zsync_packet::header::{Mac, ether_type, ethernet, ipv4, ipv6, protocol};

const V4: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN;
const V6: usize = ethernet::HEADER_LEN + ipv6::HEADER_LEN;

/// First octets of IPv4 addresses that are not special as a whole block: not this network, loopback, link-local (all of
/// 169), multicast or reserved.
static USUAL: [bool; 256] = {
    let mut usual = [true; 256];
    let mut octet = 224;
    (usual[0], usual[127], usual[169]) = (false, false, false);
    while octet < 256 {
        usual[octet] = false;
        octet += 1;
    }
    usual
};

/// What is known of a plain packet; `None` for any other. The key is made if the parser is `DEEP`.
#[inline(always)]
pub(super) fn find<const DEEP: bool>(bytes: &[u8], mac: Mac) -> Option<Found> {
    let head: &[u8; V4] = bytes.first_chunk()?;
    if head[..6] != mac || head[0] & 1 != 0 {
        return None;
    }
    match u16::from_be_bytes([head[12], head[13]]) {
        ether_type::IPV4 => find_v4::<DEEP>(head, bytes),
        ether_type::IPV6 => find_v6::<DEEP>(bytes.first_chunk()?, bytes),
        _ => None,
    }
}

#[inline(always)]
fn find_v4<const DEEP: bool>(head: &[u8; V4], bytes: &[u8]) -> Option<Found> {
    let end = ethernet::HEADER_LEN + usize::from(u16::from_be_bytes([head[16], head[17]]));
    let fragment = u16::from_be_bytes([head[20], head[21]]) & 0x3fff;
    let usual = USUAL[usize::from(head[26])] & USUAL[usize::from(head[30])];
    if head[14] != 0x45 || fragment != 0 || !usual || !is_summed(head) {
        return None;
    }
    // In no other case is the total length shorter than the header, or longer than the frame.
    let payload = bytes.get(V4..end)?;
    let mut key = FlowKey::NONE;
    if DEEP {
        let from = Ipv4Addr::new(head[26], head[27], head[28], head[29]);
        let to = Ipv4Addr::new(head[30], head[31], head[32], head[33]);
        let ports = ports(head[23], payload, 4);
        key = FlowKey::v4((from, ports.0), (to, ports.1), head[23]);
    }
    let (l3, l4) = (ethernet::HEADER_LEN as u16, V4 as u16);
    Some(Found { l3, l4, version: 4, protocol: head[23], fragment: Fragment::Whole, key })
}

/// Whether the header's checksum is right (RFC 1071): summed up in the order of the bytes that the machine has.
#[inline(always)]
fn is_summed(head: &[u8; V4]) -> bool {
    let mut sum = 0u64;
    for word in head[ethernet::HEADER_LEN..].as_chunks::<4>().0 {
        sum += u64::from(u32::from_ne_bytes(*word));
    }
    // Five words have carries of three bits at most; then one more may come of adding them.
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum == 0xffff
}

#[inline(always)]
fn find_v6<const DEEP: bool>(head: &[u8; V6], bytes: &[u8]) -> Option<Found> {
    let end = V6 + usize::from(u16::from_be_bytes([head[18], head[19]]));
    let is_usual = |octet: u8| !matches!(octet, 0 | 0xfe | 0xff);
    if head[14] >> 4 != 6 || end == V6 || !is_usual(head[22]) || !is_usual(head[38]) {
        return None;
    }
    let payload = bytes.get(V6..end)?;
    let l3 = ethernet::HEADER_LEN as u16;
    let (version, protocol, fragment) = (6, head[20], Fragment::Whole);
    if !DEEP {
        return Some(Found { l3, l4: 0, version, protocol, fragment, key: FlowKey::NONE });
    }
    if !matches!(protocol, protocol::TCP | protocol::UDP | protocol::ICMPV6) {
        return None;
    }
    let ports = ports(protocol, payload, 6);
    let address = |octets: &[u8; V6], at: usize| -> Option<Ipv6Addr> {
        Some(Ipv6Addr::from(*octets.get(at..at + 16)?.first_chunk::<16>()?))
    };
    let key = FlowKey::v6((address(head, 22)?, ports.0), (address(head, 38)?, ports.1), protocol);
    Some(Found { l3, l4: V6 as u16, version, protocol, fragment, key })
}

#[inline(always)]
fn ports(protocol: u8, payload: &[u8], version: u8) -> (u16, u16) {
    match (protocol, payload) {
        (protocol::TCP | protocol::UDP, &[a, b, c, d, ..]) => {
            (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
        }
        _ => flow::ports(protocol, payload, version),
    }
}

#[cfg(test)]
mod tests {
    use super::super::examine;
    use super::*;
    use crate::snapshot::PortFacts;
    use crate::stages::fixture::{IN, ports};
    use proptest::prelude::*;
    use zsync_packet::header::corpus;

    fn agree<const DEEP: bool>(packet: &[u8], port: &PortFacts) -> bool {
        let Some(plain) = find::<DEEP>(packet, port.mac) else { return false };
        let found = examine::<DEEP>(packet, port).unwrap_or_else(|_| panic!("refused: {packet:02x?}"));
        assert_eq!(plain, found, "{packet:02x?}");
        true
    }

    #[test]
    fn of_the_corpus_most_that_is_valid_is_plain_and_judged_alike() {
        let port = &ports()[usize::from(IN.0)];
        let packets = || corpus::all().filter(|packet| packet.starts_with(&port.mac));
        let plain =
            packets().filter(|packet| agree::<true>(packet, port) & agree::<false>(packet, port)).count();
        assert!(plain > 100, "{plain} of {}", packets().count());
    }

    proptest! {
        #[test]
        fn changed_packets_are_judged_alike(
            n in any::<prop::sample::Index>(),
            changes in prop::collection::vec((0..70usize, any::<u8>()), 0..3),
            len in 0..200usize,
            summed in any::<bool>(),
        ) {
            let port = &ports()[usize::from(IN.0)];
            let valid = corpus::valid();
            let mut packet = n.get(&valid).bytes.clone();
            packet.truncate(len);
            for (at, value) in changes {
                if let Some(byte) = packet.get_mut(at) {
                    *byte = value;
                }
            }
            if let (true, Some(header)) = (summed, packet.get_mut(14..34)) {
                header[10..12].fill(0);
                let sum = zsync_packet::checksum::of(header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            agree::<true>(&packet, port);
            agree::<false>(&packet, port);
        }

        #[test]
        fn the_sum_is_the_one_of_the_header(mut header in prop::collection::vec(any::<u8>(), 20)) {
            let check = |header: &[u8]| {
                let mut head = [0; V4];
                head[14..].copy_from_slice(header);
                is_summed(&head)
            };
            prop_assert_eq!(check(&header), zsync_packet::checksum::of(&header) == 0);
            header[10..12].fill(0);
            let sum = zsync_packet::checksum::of(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            prop_assert!(check(&header) || header.iter().all(|byte| *byte == 0));
        }
    }
}
