use super::*;
use crate::stages::fixture::{IN, OUT, run_and_make, v4};
use crate::tables::capture_ring::Captured;

fn to_port(one_in: u32) -> MirrorSpec {
    MirrorSpec { to: MirrorTo::Port(crate::spec::PortId(1)), one_in, mark: None, snap: 65_535, ring: 1 << 16 }
}

#[test]
fn every_packet_goes_on_and_its_copy_leaves_by_the_port() {
    let packets = [v4([10, 1, 0, 2], [10, 2, 0, 2]), v4([10, 1, 0, 3], [10, 2, 0, 3])];
    let (seen, made) = run_and_make(&mut [&mut Mirror::new(&to_port(1), None, 1)], IN, &packets, 0);
    for ((seen, made), packet) in seen.iter().zip(&made).zip(&packets) {
        assert_eq!((seen.verdict, &seen.bytes), (Verdict::Next, packet));
        assert_eq!((made.verdict, &made.bytes), (Verdict::Transmit(OUT), packet));
    }
    assert_eq!(made.len(), 2);
    let short = MirrorSpec { snap: 20, ..to_port(1) };
    let (_, made) = run_and_make(&mut [&mut Mirror::new(&short, None, 1)], IN, &packets, 0);
    assert_eq!(made[0].bytes, packets[0][..20]);
}

#[test]
fn one_in_so_many_is_copied_and_any_place_of_a_burst_is_as_likely() {
    let packets: Vec<Vec<u8>> = (0..64u8).map(|n| v4([10, 1, 0, 2], [10, 2, 0, n])).collect();
    for one_in in [2u32, 10, 100] {
        let mut mirror = Mirror::new(&to_port(one_in), None, 42);
        let mut places = [0u32; 64];
        let rounds = 40 * one_in;
        for _ in 0..rounds {
            let (_, made) = run_and_make(&mut [&mut mirror], IN, &packets, 0);
            made.iter().for_each(|made| places[usize::from(made.bytes[33])] += 1);
        }
        let copied: u32 = places.iter().sum();
        // 2,560 are expected; four standard deviations are 203 at the most.
        assert!((2357..=2763).contains(&copied), "one in {one_in}: {copied}");
        // Forty are expected at each place; six standard deviations.
        assert!(places.iter().all(|count| (2..=78).contains(count)), "one in {one_in}: {places:?}");
    }
}

#[test]
fn a_mark_says_which() {
    struct Marks;
    impl Stage for Marks {
        fn process(&mut self, burst: &mut Burst, _: &mut Cx<'_>) {
            burst.undecided().for_each(|i| burst.facts_mut(i).mark = i as u32 % 3);
        }
    }
    let packets: Vec<Vec<u8>> = (0..30u8).map(|n| v4([10, 1, 0, 2], [10, 2, 0, n])).collect();
    let spec = MirrorSpec { mark: Some(2), ..to_port(1) };
    let (_, made) = run_and_make(&mut [&mut Marks, &mut Mirror::new(&spec, None, 1)], IN, &packets, 0);
    let copied: Vec<u8> = made.iter().map(|made| made.bytes[33]).collect();
    assert_eq!(copied, (0..10).map(|n| n * 3 + 2).collect::<Vec<u8>>());
}

#[test]
fn copies_into_a_file_wait_in_its_ring() {
    let spec = MirrorSpec { to: MirrorTo::File("/tmp/x.pcap".to_owned()), snap: 30, ..to_port(1) };
    let state = State::heap(Mirror::size(&spec).unwrap(), 2);
    let ring = CaptureRing::open(state.shard(1).unwrap(), spec.ring as usize).unwrap();
    let mut mirror = Mirror::new(&spec, Some(state), 1);
    let packet = v4([10, 1, 0, 2], [10, 2, 0, 2]);
    assert!(run_and_make(&mut [&mut mirror], IN, &[&packet], 7).1.is_empty(), "no worker's yet");
    mirror.assign(1);
    let (seen, made) = run_and_make(&mut [&mut mirror], IN, &[&packet], 7);
    assert_eq!((seen[0].verdict, &seen[0].bytes, made.len()), (Verdict::Next, &packet, 0));
    let mut bytes = Vec::new();
    assert_eq!(ring.take(&mut bytes), Some(Captured { time: 7, port: IN, wire_len: packet.len() }));
    assert_eq!(bytes, packet[..30]);
}
