//! UDP, TCP and ICMP beside etherparse's.

use crate::Seen;
use etherparse as theirs;
use zsync_packet::checksum::Sum;
use zsync_packet::header::tcp::TcpOption;
use zsync_packet::header::{HeaderError, Icmp, Icmpv6, Tcp, Udp};

/// A length of zero means a jumbogram to etherparse, all the bytes; we refuse it, as Linux does over IPv4.
pub fn udp(bytes: &[u8], seen: &mut Seen) {
    let ours = Udp::parse(bytes);
    let theirs = theirs::UdpSlice::from_slice(bytes);
    if bytes.len() >= 8 && bytes[4..6] == [0, 0] {
        seen.udp_zero_length += 1;
        assert_eq!(ours.unwrap_err(), HeaderError::BadTotalLength);
        assert!(theirs.is_ok());
        return;
    }
    if seen.agree("udp", ours.is_ok(), theirs.is_ok(), bytes) {
        let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
        assert_eq!(
            (ours.source_port(), ours.destination_port()),
            (theirs.source_port(), theirs.destination_port())
        );
        assert_eq!((ours.length(), ours.checksum()), (theirs.length(), theirs.checksum()));
        assert_eq!(ours.payload(), theirs.payload());
        let (source, destination) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let sum = Sum::addresses_v4(source.into(), destination.into());
        let computed =
            theirs.to_header().calc_checksum_ipv4_raw(source, destination, theirs.payload()).unwrap();
        let valid = ours.checksum() == 0 || ours.checksum() == computed;
        assert_eq!(ours.verify_checksum(sum).is_ok(), valid, "{bytes:02x?}");
    }
}

pub fn tcp(bytes: &[u8], seen: &mut Seen) {
    let ours = Tcp::parse(bytes);
    let theirs = theirs::TcpSlice::from_slice(bytes);
    if !seen.agree("tcp", ours.is_ok(), theirs.is_ok(), bytes) {
        return;
    }
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    assert_eq!(
        (ours.source_port(), ours.destination_port()),
        (theirs.source_port(), theirs.destination_port())
    );
    assert_eq!(
        (ours.sequence(), ours.acknowledgement()),
        (theirs.sequence_number(), theirs.acknowledgment_number())
    );
    let flags = [
        theirs.fin(),
        theirs.syn(),
        theirs.rst(),
        theirs.psh(),
        theirs.ack(),
        theirs.urg(),
        theirs.ece(),
        theirs.cwr(),
    ];
    let flags = flags.iter().rev().fold(0, |all, &flag| all << 1 | u8::from(flag));
    assert_eq!(ours.flags().0, flags);
    assert_eq!(
        (ours.window(), ours.checksum(), ours.urgent()),
        (theirs.window_size(), theirs.checksum(), theirs.urgent_pointer())
    );
    assert_eq!((ours.header_len(), ours.payload()), (theirs.header_len(), theirs.payload()));
    let (source, destination) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let sum = Sum::addresses_v4(source.into(), destination.into());
    let computed = theirs.calc_checksum_ipv4(source, destination).unwrap();
    let same = theirs.checksum() == computed || (theirs.checksum() == 0xffff && computed == 0);
    assert_eq!(ours.verify_checksum(sum).is_ok(), same, "{bytes:02x?}");
    options(&ours, &theirs, seen);
}

/// etherparse ends at a kind that it does not know; we go on, for its length says where the next one is. Up to
/// there, and up to the first error, both read the same.
fn options(ours: &Tcp<'_>, theirs: &theirs::TcpSlice<'_>, seen: &mut Seen) {
    use theirs::TcpOptionElement as Theirs;
    let mut ours = ours.options();
    for theirs in theirs.options_iterator().filter(|option| *option != Ok(Theirs::Noop)) {
        let ours = ours.next();
        match (ours, theirs) {
            (Some(Ok(TcpOption::Other { kind, .. })), Err(theirs::TcpOptionReadError::UnknownId(id))) => {
                seen.tcp_option += 1;
                assert_eq!(kind, id);
                return;
            }
            // A kind that neither knows, whose length is wrong: it has no name, and we say what is wrong.
            (Some(Err(HeaderError::BadOption)), Err(_)) => return,
            (Some(Ok(TcpOption::MaxSegmentSize(a))), Ok(Theirs::MaximumSegmentSize(b))) => assert_eq!(a, b),
            (Some(Ok(TcpOption::WindowScale(a))), Ok(Theirs::WindowScale(b))) => assert_eq!(a, b),
            (Some(Ok(TcpOption::SackPermitted)), Ok(Theirs::SelectiveAcknowledgementPermitted)) => {}
            (Some(Ok(TcpOption::Sack(blocks))), Ok(Theirs::SelectiveAcknowledgement(first, rest))) => {
                let expected: Vec<u8> = [Some(first)]
                    .into_iter()
                    .chain(rest)
                    .flatten()
                    .flat_map(|(from, to)| [from.to_be_bytes(), to.to_be_bytes()].concat())
                    .collect();
                assert_eq!(blocks, expected);
            }
            (Some(Ok(TcpOption::Timestamps { value, echo })), Ok(Theirs::Timestamp(a, b))) => {
                assert_eq!((value, echo), (a, b));
            }
            (ours, theirs) => panic!("ours {ours:?}, theirs {theirs:?}"),
        }
    }
    assert_eq!(ours.next(), None);
}

/// etherparse holds an ICMP timestamp to its exact length; we look at no type's insides in `parse`.
pub fn icmp(bytes: &[u8], seen: &mut Seen) {
    let ours = Icmp::parse(bytes);
    let theirs = theirs::Icmpv4Slice::from_slice(bytes);
    if let [13 | 14, 0, ..] = bytes
        && bytes.len() >= 8
        && bytes.len() != 20
    {
        seen.icmp_timestamp += 1;
        assert!(ours.is_ok() && theirs.is_err());
        return;
    }
    if seen.agree("icmp", ours.is_ok(), theirs.is_ok(), bytes) {
        let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
        assert_eq!(
            (ours.kind(), ours.code(), ours.checksum()),
            (theirs.type_u8(), theirs.code_u8(), theirs.checksum())
        );
        if let theirs::Icmpv4Type::EchoRequest(echo) | theirs::Icmpv4Type::EchoReply(echo) =
            theirs.icmp_type()
        {
            assert_eq!((ours.echo_id(), ours.echo_sequence()), (Some(echo.id), Some(echo.seq)));
        }
    }
}

pub fn icmpv6(bytes: &[u8], seen: &mut Seen) {
    let ours = Icmpv6::parse(bytes);
    let theirs = theirs::Icmpv6Slice::from_slice(bytes);
    if seen.agree("icmpv6", ours.is_ok(), theirs.is_ok(), bytes) {
        let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
        assert_eq!(
            (ours.kind(), ours.code(), ours.checksum()),
            (theirs.type_u8(), theirs.code_u8(), theirs.checksum())
        );
        let addresses = Sum::addresses_v6([1; 16].into(), [2; 16].into());
        let same = theirs.is_checksum_valid([1; 16], [2; 16]);
        let other_zero = theirs.checksum() == 0xffff;
        assert!(other_zero || ours.verify_checksum(addresses).is_ok() == same);
        match theirs.icmp_type() {
            theirs::Icmpv6Type::EchoRequest(echo) | theirs::Icmpv6Type::EchoReply(echo) => {
                assert_eq!((ours.echo_id(), ours.echo_sequence()), (Some(echo.id), Some(echo.seq)));
            }
            theirs::Icmpv6Type::PacketTooBig { mtu } => assert_eq!(ours.mtu(), Some(mtu)),
            _ => {}
        }
    }
}
