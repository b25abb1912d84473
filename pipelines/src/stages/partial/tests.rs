use super::complete;
use etherparse::{IpNumber, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader};
use proptest::prelude::*;

/// An IP packet as etherparse writes it, its transport's checksum right; and where that checksum is.
#[derive(Clone, Debug)]
struct Whole {
    bytes: Vec<u8>,
    field: usize,
    /// The pseudo-header's sum, folded: what a stack leaves in the field.
    pseudo: u16,
}

/// RFC 1071, word by word, over a pseudo-header that is written out.
fn pseudo_sum(addresses: &[u8], protocol: u8, len: usize) -> u16 {
    let words = addresses.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum = words.sum::<u32>() + u32::from(protocol) + len as u32;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn whole(v6: bool, tcp: bool, addresses: [u8; 32], ports: (u16, u16), payload: &[u8]) -> Whole {
    let (protocol, header_len) = if tcp { (6, 20) } else { (17, 8) };
    let len = header_len + payload.len();
    let (source, destination) = addresses.split_at(if v6 { 16 } else { 4 });
    let mut bytes = Vec::new();
    let mut transport = Vec::new();
    let used;
    if v6 {
        let ip = Ipv6Header {
            payload_length: len as u16,
            next_header: IpNumber(protocol),
            hop_limit: 64,
            source: source.try_into().unwrap(),
            destination: destination[..16].try_into().unwrap(),
            ..Ipv6Header::default()
        };
        ip.write(&mut bytes).unwrap();
        used = [ip.source, ip.destination].concat();
        if tcp {
            let mut header = TcpHeader::new(ports.0, ports.1, 7, 1000);
            header.checksum = header.calc_checksum_ipv6(&ip, payload).unwrap();
            header.write(&mut transport).unwrap();
        } else {
            UdpHeader::with_ipv6_checksum(ports.0, ports.1, &ip, payload)
                .unwrap()
                .write(&mut transport)
                .unwrap();
        }
    } else {
        let (source, destination) = (source.try_into().unwrap(), destination[..4].try_into().unwrap());
        let ip = Ipv4Header::new(len as u16, 64, IpNumber(protocol), source, destination).unwrap();
        ip.write(&mut bytes).unwrap();
        used = [ip.source, ip.destination].concat();
        if tcp {
            let mut header = TcpHeader::new(ports.0, ports.1, 7, 1000);
            header.checksum = header.calc_checksum_ipv4(&ip, payload).unwrap();
            header.write(&mut transport).unwrap();
        } else {
            UdpHeader::with_ipv4_checksum(ports.0, ports.1, &ip, payload)
                .unwrap()
                .write(&mut transport)
                .unwrap();
        }
    }
    let field = bytes.len() + if tcp { 16 } else { 6 };
    bytes.extend(transport);
    bytes.extend(payload);
    Whole { bytes, field, pseudo: pseudo_sum(&used, protocol, len) }
}

fn packets() -> impl Strategy<Value = Whole> {
    let payload = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..200),
        1 => prop::collection::vec(any::<u8>(), 1400..1480),
        1 => prop::collection::vec(Just(0u8), 0..40),
    ];
    (any::<bool>(), any::<bool>(), any::<[u8; 32]>(), any::<(u16, u16)>(), payload)
        .prop_map(|(v6, tcp, addresses, ports, payload)| whole(v6, tcp, addresses, ports, &payload))
}

fn completed(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    complete(&mut packet);
    packet
}

proptest! {
    #[test]
    fn a_partial_checksum_becomes_the_right_one(whole in packets(), padding in 0usize..40) {
        let mut partial = whole.bytes.clone();
        partial[whole.field..whole.field + 2].copy_from_slice(&whole.pseudo.to_be_bytes());
        partial.extend(vec![0xee; padding]);
        let mut expected = whole.bytes.clone();
        expected.extend(vec![0xee; padding]);
        prop_assert_eq!(completed(&partial), expected);
    }

    #[test]
    fn a_finished_checksum_stays(whole in packets()) {
        prop_assert_eq!(completed(&whole.bytes), whole.bytes);
    }

    #[test]
    fn a_wrong_checksum_stays_wrong(whole in packets(), stored: u16) {
        prop_assume!(stored != whole.pseudo);
        let mut wrong = whole.bytes.clone();
        wrong[whole.field..whole.field + 2].copy_from_slice(&stored.to_be_bytes());
        prop_assert_eq!(completed(&wrong), wrong);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..100), first in prop::option::of(0x40u8..0x70)) {
        let mut bytes = bytes;
        if let (Some(first), Some(byte)) = (first, bytes.first_mut()) {
            *byte = first;
        }
        complete(&mut bytes);
    }
}

#[test]
fn a_finished_checksum_that_looks_partial_stays() {
    // The word in the payload is chosen so that the whole sums to the pseudo-header alone.
    let payload = |word: u16| [word.to_be_bytes(), [0; 2]].concat();
    let hit = (0..=u16::MAX)
        .map(|word| whole(false, true, [9; 32], (1, 2), &payload(word)))
        .find(|whole| whole.bytes[whole.field..whole.field + 2] == whole.pseudo.to_be_bytes());
    let whole = hit.expect("one word in 65,536 does it");
    assert_eq!(completed(&whole.bytes), whole.bytes);
}

#[test]
fn a_udp_checksum_of_zero_goes_as_all_ones() {
    for v6 in [false, true] {
        let of = |word: u16| whole(v6, false, [9; 32], (1, 2), &word.to_be_bytes());
        let hit = (0..=u16::MAX).map(of).find(|whole| whole.bytes[whole.field..whole.field + 2] == [0xff; 2]);
        let whole = hit.expect("one word in 65,535 does it");
        let mut partial = whole.bytes.clone();
        partial[whole.field..whole.field + 2].copy_from_slice(&whole.pseudo.to_be_bytes());
        assert_eq!(completed(&partial), whole.bytes);
    }
}

#[test]
fn fragments_and_datagrams_without_a_checksum_stay() {
    let whole = whole(false, false, [9; 32], (1, 2), b"half of it");
    let mut none = whole.bytes.clone();
    none[whole.field..whole.field + 2].fill(0);
    assert_eq!(completed(&none), none, "no checksum is no partial one");
    let mut partial = whole.bytes.clone();
    partial[whole.field..whole.field + 2].copy_from_slice(&whole.pseudo.to_be_bytes());
    for fragment in [[0x20, 0], [0, 1], [0x20, 7]] {
        let mut partial = partial.clone();
        partial[6..8].copy_from_slice(&fragment);
        assert_eq!(completed(&partial), partial);
    }
    assert_ne!(completed(&partial), partial, "it is the fragment bits that do it");
}

#[test]
fn behind_extension_headers_of_ipv6() {
    let plain = whole(true, false, [0x20; 32], (1, 2), b"behind options");
    let mut partial = plain.bytes.clone();
    partial[plain.field..plain.field + 2].copy_from_slice(&plain.pseudo.to_be_bytes());
    let behind = |packet: &[u8], kind: u8, extension: [u8; 8]| {
        let mut packet = packet.to_vec();
        let len = u16::from_be_bytes([packet[4], packet[5]]) + 8;
        packet[4..6].copy_from_slice(&len.to_be_bytes());
        packet[6] = kind;
        packet.splice(40..40, extension);
        packet
    };
    let options = [17, 0, 1, 4, 0, 0, 0, 0];
    for kind in [0, 60] {
        assert_eq!(completed(&behind(&partial, kind, options)), behind(&plain.bytes, kind, options));
    }
    let atomic = [17, 0, 0, 0, 0, 0, 0, 9];
    assert_eq!(completed(&behind(&partial, 44, atomic)), behind(&plain.bytes, 44, atomic));
    for fragment in [[17, 0, 0, 1, 0, 0, 0, 9], [17, 0, 0, 8, 0, 0, 0, 9]] {
        let packet = behind(&partial, 44, fragment);
        assert_eq!(completed(&packet), packet);
    }
}
