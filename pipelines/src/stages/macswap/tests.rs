use super::*;
use crate::stages::fixture::{IN, OUT, run, run_one};
use crate::stages::patch::Patch;
use proptest::prelude::*;
use zsync_packet::frame::FrameSize;
use zsync_packet::header::{VlanTag, build, corpus, ether_type};
use zsync_packet::pool::Pool;

/// What it should do, a byte at a time.
fn swapped(packet: &[u8]) -> Vec<u8> {
    let mut swapped = packet.to_vec();
    (0..6).for_each(|i| swapped.swap(i, i + 6));
    swapped
}

#[test]
fn the_addresses_change_places_and_nothing_else_does() {
    let packet: Vec<u8> = (0..60).collect();
    let seen = run_one(&mut [&mut MacSwap], &packet);
    assert_eq!(seen.verdict, Verdict::Next, "where it goes is for the next stage to say");
    assert_eq!(seen.bytes[..14], [6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 12, 13]);
    assert_eq!(seen.bytes[14..], packet[14..]);
    // Twice is not at all.
    assert_eq!(run_one(&mut [&mut MacSwap, &mut MacSwap], &packet).bytes, packet);
}

#[test]
fn packets_of_every_shape_come_out_with_their_addresses_swapped() {
    let mut packets: Vec<Vec<u8>> = corpus::valid().into_iter().map(|sample| sample.bytes).collect();
    let tagged = [VlanTag::provider(7), VlanTag::new(4094)];
    packets.extend((1..=2).map(|tags| {
        build::ethernet(corpus::MACS.1, corpus::MACS.0, &tagged[..tags], ether_type::ARP, &[0x5a; 46])
    }));
    for (seen, was) in run(&mut [&mut MacSwap], IN, &packets, 0).iter().zip(&packets) {
        assert_eq!((seen.verdict, &seen.bytes), (Verdict::Next, &swapped(was)));
    }
}

#[test]
fn what_is_shorter_than_a_header_is_dropped_untouched() {
    let packets: Vec<Vec<u8>> = (0..=15).map(|len| (0..len).collect()).collect();
    for (seen, was) in run(&mut [&mut MacSwap], IN, &packets, 0).iter().zip(&packets) {
        if was.len() < 14 {
            let truncated = Verdict::Drop(DropReason::EthernetTruncated);
            assert_eq!((seen.verdict, &seen.bytes), (truncated, was));
        } else {
            assert_eq!((seen.verdict, &seen.bytes), (Verdict::Next, &swapped(was)));
        }
    }
}

#[test]
fn with_a_patch_to_itself_a_port_reflects() {
    let mut patch = Patch::new([Some(IN), None]);
    let seen = run_one(&mut [&mut MacSwap, &mut patch], &corpus::valid()[0].bytes);
    assert_eq!((seen.verdict, seen.bytes), (Verdict::Transmit(IN), swapped(&corpus::valid()[0].bytes)));
}

#[test]
fn packets_that_are_decided_already_keep_their_addresses() {
    let mut pool = Pool::heap(FrameSize::K2, 8, 1).unwrap().remove(0);
    let mut burst = Burst::new(pool.arena().clone());
    assert_eq!(burst.extend_from(&mut pool, 3, IN, 256, 60), 3);
    let packet: Vec<u8> = (0..60).collect();
    (0..3).for_each(|i| burst.bytes_mut(i).copy_from_slice(&packet));
    burst.decide(1, Verdict::Transmit(OUT));
    MacSwap.process(&mut burst, &mut Cx::at(0));
    assert_eq!(burst.bytes(0), swapped(&packet));
    assert_eq!(burst.bytes(1), packet);
    assert_eq!(burst.bytes(2), swapped(&packet));
    assert_eq!(burst.live(), 0b101);
    burst.free_into(&mut pool);
}

proptest! {
    #[test]
    fn any_bytes_are_swapped_as_a_byte_at_a_time_would(packet in prop::collection::vec(any::<u8>(), 14..100)) {
        prop_assert_eq!(run_one(&mut [&mut MacSwap], &packet).bytes, swapped(&packet));
    }
}
