//! Lies of a header, and what the kernel may say besides. That pieces are right is held by merging them again, beside the table of runs.

use super::*;
use proptest::prelude::*;
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec, TcpSpec};

/// A packet that stands for several, as the kernel gives it, and its header.
fn whole(is_v6: bool, is_tcp: bool, body: usize) -> (Header, Vec<u8>) {
    let payload: Vec<u8> = (0..body).map(|n| n as u8).collect();
    let upper = |sum: Sum| match is_tcp {
        true => TcpSpec { sequence: u32::MAX, ..TcpSpec::new(1, 2, TcpFlags(0x99)) }.segment(sum, &payload),
        false => build::udp(sum, 1, 2, &payload),
    };
    let number = if is_tcp { protocol::TCP } else { protocol::UDP };
    let (mut packet, start, addresses) = if is_v6 {
        let spec = Ipv6Spec::new("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap(), number);
        (spec.packet(&upper(spec.address_sum())), 40, spec.address_sum())
    } else {
        let mut spec = Ipv4Spec::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), number);
        spec.identification = u16::MAX;
        (spec.packet(&upper(spec.address_sum())), 20, spec.address_sum())
    };
    let offset = if is_tcp { 16 } else { 6 };
    let partial = !addresses.with_u16(number.into()).with_u16((packet.len() - start) as u16).finish();
    packet[start + offset..start + offset + 2].copy_from_slice(&partial.to_be_bytes());
    let gso = match (is_tcp, is_v6) {
        (true, false) => GSO_TCP_V4 | GSO_ECN,
        (true, true) => GSO_TCP_V6 | GSO_ECN,
        _ => GSO_UDP,
    };
    let headers = (packet.len() - body) as u16;
    let (start, offset) = (start as u16, offset as u16);
    (Header { flags: NEEDS_CHECKSUM, gso, headers, size: 100, start, offset }, packet)
}

fn cut(header: &Header, packet: &[u8]) -> Result<Vec<Vec<u8>>, SplitError> {
    let mut cut = Cut::new(header, packet, 1500)?;
    let mut room = [0; 1500];
    let mut pieces = Vec::new();
    while let Some(len) = cut.next(packet, &mut room) {
        pieces.push(room[..len].to_vec());
    }
    Ok(pieces)
}

#[test]
fn each_piece_is_a_packet_of_its_own() {
    for is_v6 in [false, true] {
        let (header, packet) = whole(is_v6, true, 250);
        let pieces = cut(&header, &packet).unwrap();
        let seen: Vec<_> = pieces
            .iter()
            .map(|piece| {
                let (_, segment, addresses) = upper(piece, is_v6).unwrap();
                let tcp = Tcp::parse(segment).unwrap();
                tcp.verify_checksum(addresses).unwrap();
                (tcp.sequence(), tcp.flags().0, tcp.payload().len())
            })
            .collect();
        assert_eq!(seen, [(u32::MAX, 0x90, 100), (99, 0x10, 100), (199, 0x19, 50)]);
        let (header, packet) = whole(is_v6, false, 250);
        for (piece, len) in cut(&header, &packet).unwrap().iter().zip([108, 108, 58]) {
            let (_, segment, addresses) = upper(piece, is_v6).unwrap();
            let udp = Udp::parse(segment).unwrap();
            assert_eq!((udp.verify_checksum(addresses), usize::from(udp.length())), (Ok(()), len));
        }
    }
    let (header, packet) = whole(false, true, 250);
    let numbers: Vec<_> =
        cut(&header, &packet).unwrap().iter().map(|p| Ipv4::parse(p).unwrap().identification()).collect();
    assert_eq!(numbers, [u16::MAX, 0, 1]);
}

#[test]
fn a_missing_checksum_is_filled_in() {
    for is_v6 in [false, true] {
        for is_tcp in [false, true] {
            let (header, packet) = whole(is_v6, is_tcp, 11);
            let single = Header { gso: GSO_NONE, size: 0, ..header };
            let pieces = cut(&single, &packet).unwrap();
            let (_, segment, addresses) = upper(&pieces[0], is_v6).unwrap();
            let right = match is_tcp {
                true => Tcp::parse(segment).unwrap().verify_checksum(addresses),
                false => Udp::parse(segment).unwrap().verify_checksum(addresses),
            };
            assert_eq!((right, pieces.len()), (Ok(()), 1));
            // Nothing said, nothing done.
            assert_eq!(cut(&Header::default(), &packet), Ok(vec![packet]));
        }
    }
}

/// Its field is twice as long, and may be cut off where that of another sum would not be.
#[test]
fn the_checksum_of_sctp_is_another_one() {
    let datagram = [&[0, 1, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0][..], &[1, 2, 3, 4, 5]].concat();
    let spec = Ipv4Spec::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), protocol::SCTP);
    let packet = spec.packet(&datagram);
    let header = Header { flags: NEEDS_CHECKSUM, start: 20, offset: 8, ..Header::default() };
    let piece = cut(&header, &packet).unwrap().remove(0);
    // Bit by bit (RFC 9260 appendix A), over a field that is zero.
    let crc = !datagram.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    });
    assert_eq!((&piece[..28], &piece[32..]), (&packet[..28], &packet[32..]));
    assert_eq!(piece[28..32], crc.to_le_bytes());
    // What the field had does not matter.
    let mut other = packet.clone();
    other[29] = 7;
    assert_eq!(cut(&header, &other), Ok(vec![piece]));
    assert_eq!(cut(&header, &packet[..31]), Ok(vec![]));
}

#[test]
fn what_does_not_fit_is_refused() {
    for is_v6 in [false, true] {
        for is_tcp in [false, true] {
            let (header, packet) = whole(is_v6, is_tcp, 3000);
            assert_eq!(cut(&header, &packet).map(|pieces| pieces.len()), Ok(30));
            // A hint that the kernel gives as it likes, up to all of the packet; the flag that stands for a checksum that was looked at.
            assert!(cut(&Header { headers: 3000, ..header }, &packet).is_ok());
            assert!(cut(&Header { flags: DATA_VALID, start: 0, offset: 0, ..header }, &packet).is_ok());
            let one = Header { gso: GSO_NONE, ..header };
            for (wrong, error) in [
                (Header { size: 0, ..header }, SplitError::Size),
                (Header { size: 1500, ..header }, SplitError::Size),
                (Header { size: u16::MAX, ..header }, SplitError::Size),
                (Header { headers: u16::MAX, ..header }, SplitError::Packet),
                (Header { start: header.start + 1, ..header }, SplitError::Checksum),
                (Header { offset: 0, ..header }, SplitError::Checksum),
                (Header { flags: 0, ..header }, SplitError::Checksum),
                (Header { gso: 3, ..header }, SplitError::Kind),
                (Header { gso: if is_tcp { GSO_UDP } else { GSO_TCP_V4 }, ..header }, SplitError::Kind),
                (Header { gso: if is_v6 { GSO_TCP_V4 } else { GSO_TCP_V6 }, ..header }, SplitError::Kind),
                (one, SplitError::Size),
            ] {
                assert_eq!(cut(&wrong, &packet), Err(error), "{wrong:?}");
            }
            let (_, short) = whole(is_v6, is_tcp, 100);
            let beyond = Header { gso: GSO_NONE, start: short.len() as u16 - 17, ..header };
            let beyond = Header { offset: 16, ..beyond };
            assert_eq!(cut(&beyond, &short), Err(SplitError::Checksum));
            // A field that has no pseudo-header's sum; a length that is not the packet's; nothing to cut.
            let mut other = packet.clone();
            other[usize::from(header.start + header.offset)] ^= 1;
            assert_eq!(cut(&header, &other), Err(SplitError::Checksum));
            assert_eq!(cut(&header, &packet[..2000]), Err(SplitError::Packet));
            let (bare, nothing) = whole(is_v6, is_tcp, 0);
            assert_eq!(cut(&bare, &nothing), Err(SplitError::Size));
        }
    }
    let (header, mut fragment) = whole(false, false, 3000);
    fragment[6] = 0x20;
    assert_eq!(cut(&header, &fragment), Err(SplitError::Kind));
    let (header, mut opening) = whole(false, true, 3000);
    opening[33] = 0x12;
    assert_eq!(cut(&header, &opening), Err(SplitError::Kind));
    assert_eq!(cut(&header, &[]), Err(SplitError::Packet));
}

proptest! {
    /// Whatever a header says of whatever packet: pieces within the limit, or a refusal.
    #[test]
    fn any_header_and_any_packet(
        kind in (any::<bool>(), any::<bool>(), 0..2000_usize),
        changes in prop::collection::vec((0..80_usize, any::<u8>()), 0..4),
        lie: [u8; 10], told in any::<[bool; 10]>(), longest in 0..1500_usize,
    ) {
        let (header, mut packet) = whole(kind.0, kind.1, kind.2);
        let mut bytes = header.to_bytes();
        bytes.iter_mut().zip(lie).zip(told).filter(|(_, told)| *told).for_each(|((byte, lie), _)| *byte = lie);
        for (at, value) in changes {
            if let Some(byte) = packet.get_mut(at) {
                *byte = value;
            }
        }
        if let Ok(mut cut) = Cut::new(&Header::parse(&bytes), &packet, longest) {
            let mut room = vec![0; longest];
            let mut left = 65_600 / usize::from(Header::parse(&bytes).size.max(1)) + 1;
            while let Some(len) = cut.next(&packet, &mut room) {
                prop_assert!(len <= longest && left > 0);
                left -= 1;
            }
            prop_assert!(cut.is_done());
        }
    }
}
