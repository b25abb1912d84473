//! What comes out of a frame, whatever was said of it. That the pieces themselves are right is held where they are cut.

use super::*;
use crate::virtio::{GSO_NONE, NEEDS_CHECKSUM};
use proptest::prelude::*;
use zsync_packet::header::build::{Ipv4Spec, TcpSpec};
use zsync_packet::header::{Ethernet, Ipv4, Tcp, TcpFlags, protocol};

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

/// All packets of one frame, as long as none is refused.
fn packets(header: Header, frame: &[u8], tag: Option<[u8; 4]>, longest: usize) -> Vec<Vec<u8>> {
    let mut held = Held::new();
    let slot = [&header.to_bytes()[..], frame].concat();
    held.bytes[..slot.len()].copy_from_slice(&slot);
    held.came[0] = Came { len: slot.len(), tag };
    held.count = 1;
    let mut packets = Vec::new();
    while !held.is_empty() {
        let mut place = vec![0xee; longest];
        let Some(len) = held.write(&mut place) else { break };
        assert!(place[len..].iter().all(|byte| *byte == 0xee));
        place.truncate(len);
        packets.push(place);
    }
    assert!(held.is_empty());
    packets
}

/// A segment of `body` bytes with the checksum left to who reads, behind `link`; and its header.
fn partial(link: &[u8], body: usize, size: u16) -> (Header, Vec<u8>) {
    let spec = Ipv4Spec::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), protocol::TCP);
    let payload: Vec<u8> = (0..body).map(|n| (n / 3) as u8).collect();
    let mut segment = TcpSpec::new(1, 2, TcpFlags::ACK).segment(spec.address_sum(), &payload);
    let sum = spec.address_sum().with_u16(6).with_u16(segment.len() as u16);
    segment[16..18].copy_from_slice(&(!sum.finish()).to_be_bytes());
    let start = (link.len() + 20) as u16;
    let gso = if size == 0 { GSO_NONE } else { crate::virtio::GSO_TCP_V4 };
    let header = Header { flags: NEEDS_CHECKSUM, gso, headers: start + 20, size, start, offset: 16 };
    (header, [link, &spec.packet(&segment)].concat())
}

fn is_right(ip: &[u8]) -> bool {
    let ip = Ipv4::parse(ip).unwrap();
    let tcp = Tcp::parse(ip.payload()).unwrap();
    ip.verify_checksum().is_ok() && tcp.verify_checksum(ip.address_sum()).is_ok()
}

#[test]
fn a_frame_comes_out_as_it_was_with_its_tag() {
    let frame = [&MACS[..], &[0x08, 0x06], &[7; 46]].concat();
    assert_eq!(packets(Header::default(), &frame, None, 1500), std::slice::from_ref(&frame));
    let tagged = packets(Header::default(), &frame, Some([0x81, 0, 0x20, 0x64]), 1500);
    assert_eq!(tagged, [[&MACS[..], &[0x81, 0, 0x20, 0x64, 0x08, 0x06], &[7; 46]].concat()]);
    assert_eq!(packets(Header::default(), &frame, None, 60).len(), 1);
    assert_eq!(
        packets(Header::default(), &frame, Some([0x81, 0, 0, 1]), 63),
        [[0; 0]; 0],
        "no room for the tag"
    );
    assert_eq!(packets(Header::default(), &frame[..13], None, 1500), [[0; 0]; 0], "no Ethernet header");
}

#[test]
fn a_checksum_that_was_left_out_is_filled_in() {
    let link = [&MACS[..], &[0x08, 0x00]].concat();
    let (header, frame) = partial(&link, 100, 0);
    assert!(!is_right(&frame[14..]));
    let whole = packets(header, &frame, None, 1500).remove(0);
    assert!(is_right(&whole[14..]));
    assert_eq!(Ethernet::parse(&whole).unwrap().destination(), MACS[..6]);
    for start in [frame.len() as u16 - 17, u16::MAX] {
        assert_eq!(packets(Header { start, ..header }, &frame, None, 1500), [[0; 0]; 0], "{start}");
    }
}

#[test]
fn what_stands_for_several_is_cut_behind_any_tags() {
    for inner in [&[][..], &[0x81, 0, 0, 7], &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 8]] {
        for tag in [None, Some([0x88, 0xa8, 0, 9])] {
            let link = [&MACS[..], inner, &[0x08, 0x00]].concat();
            let (header, frame) = partial(&link, 3500, 1000);
            let pieces = packets(header, &frame, tag, 1700);
            let ahead = [&MACS[..], tag.as_ref().map_or(&[], |tag| &tag[..]), inner, &[0x08, 0x00]].concat();
            assert_eq!(
                pieces.iter().map(|p| p.len() - ahead.len()).collect::<Vec<_>>(),
                [1040, 1040, 1040, 540]
            );
            assert!(
                pieces.iter().all(|piece| piece[..ahead.len()] == ahead && is_right(&piece[ahead.len()..]))
            );
        }
    }
    // Three tags are one more than is looked behind.
    let link = [&MACS[..], &[0x81, 0, 0, 1].repeat(3), &[0x08, 0x00]].concat();
    let (header, frame) = partial(&link, 3500, 1000);
    assert_eq!(packets(header, &frame, None, 1700), [[0; 0]; 0]);
}

proptest! {
    #[test]
    fn whatever_is_said_of_a_frame_what_comes_out_fits(
        flags in any::<u8>(), gso in any::<u8>(), headers in 0..100_u16, size in 0..3000_u16, start in 0..80_u16,
        offset in 0..40_u16, len in 0..3000_usize, seed in any::<u8>(), tagged in any::<bool>(), longest in 0..1700_usize,
    ) {
        let mut frame: Vec<u8> = (0..len).map(|n| (n as u8).wrapping_mul(seed)).collect();
        if let Some(front) = frame.get_mut(12..15) {
            front.copy_from_slice(&[8, 0, 0x45]);
        }
        let header = Header { flags, gso, headers, size, start, offset };
        let out = packets(header, &frame, tagged.then_some([0x81, 0, 0, 1]), longest);
        prop_assert!(out.iter().all(|packet| packet.len() <= longest));
    }
}
