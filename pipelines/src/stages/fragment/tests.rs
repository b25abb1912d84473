//! Parts put together by another crate's reassembly, and their headers against RFC 791.

use super::*;
use crate::stage::{Extra, Stage};
use crate::stages::fixture::{IN, MAC_IN, OUT, Seen, on_v4, run_and_make};
use etherparse as theirs;
use proptest::prelude::*;
use zsync_packet::burst::{Facts, Packet};
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::header::build::Ipv4Spec;
use zsync_packet::header::{Ethernet, corpus};
use zsync_packet::pool::Pool;

/// Fragments every packet.
struct Fragmenter {
    mtu: usize,
}

impl Stage for Fragmenter {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        for i in burst.undecided() {
            *burst.facts_mut(i) = Facts { l3: 14, version: 4, delay: 77, ..Facts::default() };
            let verdict = match fragment(burst, i, self.mtu, OUT, cx) {
                Ok(()) => Verdict::Transmit(OUT),
                Err(reason) => Verdict::Drop(reason),
            };
            burst.decide(i, verdict);
        }
    }
}

fn see(packet: &[u8], mtu: usize) -> (Seen, Vec<Seen>) {
    let (mut seen, made) = run_and_make(&mut [&mut Fragmenter { mtu }], IN, &[packet], 0);
    (seen.remove(0), made)
}

/// All parts of a packet, in order.
fn parts(packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    let (first, made) = see(packet, mtu);
    let all: Vec<Seen> = [vec![first], made].concat();
    assert!(all.iter().all(|part| part.verdict == Verdict::Transmit(OUT) && part.facts.delay == 77));
    all.into_iter().map(|part| part.bytes).collect()
}

fn spec() -> Ipv4Spec {
    Ipv4Spec {
        ttl: 9,
        tos: 0x2e,
        identification: 0xbeef,
        ..Ipv4Spec::new([10, 1, 0, 2].into(), [10, 2, 0, 9].into(), 17)
    }
}

/// Router alert (copied), record route (not), timestamp (not), stream identifier (copied); RFC 791 §3.1.
const OPTIONS: [u8; 24] =
    [0x94, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 1, 0x44, 6, 5, 0, 0, 0, 1, 0x88, 4, 0x12, 0x34, 0];

#[test]
fn three_parts_to_the_byte() {
    let payload: Vec<u8> = (0..100).collect();
    let packet = on_v4(&spec(), &payload);
    let part = |range: std::ops::Range<usize>, more_fragments| {
        let spec = Ipv4Spec { more_fragments, fragment_offset: range.start as u16, ..spec() };
        on_v4(&spec, &payload[range])
    };
    assert_eq!(parts(&packet, 68), [part(0..48, true), part(48..96, true), part(96..100, false)]);
    // 71 bytes have room for no more: offsets count by eight.
    assert_eq!(parts(&packet, 71), parts(&packet, 68));
    // A part that is taken apart again keeps its place, and is not the last one.
    let middle = Ipv4Spec { more_fragments: true, fragment_offset: 480, ..spec() };
    let placed = |range: std::ops::Range<usize>, at| {
        let spec = Ipv4Spec { more_fragments: true, fragment_offset: at, ..spec() };
        on_v4(&spec, &payload[range])
    };
    assert_eq!(parts(&on_v4(&middle, &payload[..96]), 68), [placed(0..48, 480), placed(48..96, 528)]);
}

#[test]
fn later_parts_have_the_options_that_are_copied() {
    let packet = on_v4(&Ipv4Spec { options: OPTIONS.to_vec(), ..spec() }, &[7; 100]);
    let parts = parts(&packet, 84);
    assert_eq!(parts[0][34..58], OPTIONS);
    assert_eq!(parts[0][14..16], [0x4b, 0x2e]);
    for part in &parts[1..] {
        assert_eq!((part[14], &part[34..42]), (0x47, &[0x94, 4, 0, 0, 0x88, 4, 0x12, 0x34][..]));
    }
    let lens: Vec<usize> = parts.iter().map(Vec::len).collect();
    assert_eq!(lens, [14 + 44 + 40, 14 + 28 + 56, 14 + 28 + 4]);
}

#[test]
fn all_parts_or_none() {
    let packet = on_v4(&spec(), &[7; 1000]);
    assert_eq!(see(&packet, 27).0.verdict, Verdict::Drop(DropReason::TooBig));
    let (seen, made) = see(&on_v4(&spec(), &[7; 1100]), 28);
    assert_eq!(
        (seen.verdict, made.len()),
        (Verdict::Drop(DropReason::NoFrame), 0),
        "more than a burst may make"
    );
    // Frames for all but one.
    let mut pool = Pool::heap(FrameSize::K2, 21, 1).unwrap().remove(0);
    let mut burst = Burst::new(pool.arena().clone());
    let mut frame = pool.alloc().unwrap();
    let len = packet.len() as u16;
    pool.arena().bytes_mut(&mut frame, HEADROOM as u16, len).copy_from_slice(&packet);
    burst.push(Packet { frame, start: HEADROOM as u16, len, port: IN }).unwrap();
    burst.facts_mut(0).l3 = 14;
    let mut extra = Extra::new();
    let mut cx = Cx::new(0, &mut pool, &mut extra);
    assert_eq!(fragment(&mut burst, 0, 68, OUT, &mut cx), Ok(()), "20 more");
    assert_eq!(extra.drain().map(|spawned| pool.free(spawned.packet.frame)).count(), 20);
    let kept = pool.alloc().unwrap();
    let mut burst_too = Burst::new(pool.arena().clone());
    burst_too.push(Packet { frame: kept, start: 0, len: 1, port: IN }).unwrap();
    burst.set_len(0, packet.len());
    burst.bytes_mut(0).copy_from_slice(&packet);
    let mut cx = Cx::new(0, &mut pool, &mut extra);
    assert_eq!(fragment(&mut burst, 0, 68, OUT, &mut cx), Err(DropReason::NoFrame));
    assert_eq!((burst.bytes(0), extra.is_empty()), (&packet[..], true));
    assert_eq!(fragment(&mut burst, 0, 68, OUT, &mut Cx::at(0)), Err(DropReason::NoFrame));
    burst.free_into(&mut pool);
    burst_too.free_into(&mut pool);
}

#[test]
fn what_fits_stays_as_it_is() {
    let packet = on_v4(&spec(), &[7; 100]);
    assert_eq!(parts(&packet, 120), std::slice::from_ref(&packet));
    assert_eq!(parts(&packet, 119).len(), 2);
    // The last part may be as long as its packet has room, not only to a multiple of eight.
    let lens = |len: usize, mtu| {
        parts(&on_v4(&spec(), &vec![7; len]), mtu).iter().map(|part| part.len() - 34).collect::<Vec<_>>()
    };
    assert_eq!(lens(148, 120), [96, 52]);
    assert_eq!((lens(196, 120), lens(197, 120)), (vec![96, 100], vec![96, 96, 5]));
    let (seen, _) = see(&packet[..40], 68);
    assert_eq!(seen.verdict, Verdict::Drop(DropReason::IpTruncated));
}

/// Options of every kind, some not to their end.
fn options() -> impl Strategy<Value = Vec<u8>> {
    let one = prop_oneof![
        Just(vec![1u8]),
        (any::<u8>(), 0usize..8)
            .prop_map(|(kind, len)| [vec![kind | 2, 2 + len as u8], vec![9; len]].concat()),
        prop::collection::vec(any::<u8>(), 1..5),
    ];
    prop_oneof![
        Just(Vec::new()),
        Just(OPTIONS.to_vec()),
        prop::collection::vec(one, 0..6).prop_map(|all| {
            let mut all = all.concat();
            all.truncate(40);
            all
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn parts_make_the_packet_again(
        payload in prop::collection::vec(any::<u8>(), 1..1600),
        mtu in prop_oneof![68usize..200, 200usize..1500],
        again in 68usize..1500,
        order in any::<u64>(),
        options in options(),
        padding in 0usize..20,
    ) {
        let packet = [on_v4(&Ipv4Spec { options: options.clone(), ..spec() }, &payload), vec![0xee; padding]].concat();
        let once = parts(&packet, mtu);
        let mut all: Vec<Vec<u8>> = once.iter().flat_map(|part| parts(part, again)).collect();
        for part in &all {
            let ip = theirs::Ipv4HeaderSlice::from_slice(&part[14..]).unwrap().to_header();
            prop_assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            prop_assert!(usize::from(ip.total_len) <= mtu.min(again));
            prop_assert_eq!(usize::from(ip.total_len), if all.len() > 1 { part.len() - 14 } else { packet.len() - 14 - padding });
            prop_assert_eq!((ip.identification, ip.time_to_live, ip.dscp.value()), (0xbeef, 9, 0x2e >> 2));
            let link = Ethernet::parse(part).unwrap();
            prop_assert_eq!((link.destination(), link.source()), (MAC_IN, corpus::MACS.0));
        }
        if all.len() == 1 {
            prop_assert_eq!(&all[0], &packet);
            return Ok(());
        }
        // In any order.
        all.sort_by_key(|part| (u64::from(part[20]) << 8 | u64::from(part[21])).wrapping_mul(order | 1));
        let mut pool = theirs::defrag::IpDefragPool::<(), ()>::new();
        let mut whole = None;
        for part in &all {
            let sliced = theirs::SlicedPacket::from_ethernet(part).unwrap();
            let done = pool.process_sliced_packet(&sliced, (), ()).unwrap();
            prop_assert!(whole.is_none(), "complete before the last part");
            whole = done;
        }
        prop_assert_eq!(whole.map(|whole| whole.payload), Some(payload));
    }
}
