use super::*;
use crate::stages::fixture::{IN, Seen, on_v4, on_v6, ports, run_and_make};
use crate::stages::parse::Parse;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;
use zsync_packet::checksum::Sum;
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec};

const SECOND: u64 = 1_000_000_000;
const SPEC: ReassembleSpec = ReassembleSpec { datagrams: 256, timeout: Duration::from_secs(30) };

fn state() -> State {
    State::heap(Reassemble::size(&SPEC), 2)
}

fn on(state: &State) -> Reassemble {
    let mut stage = Reassemble::new(&SPEC, state.clone(), HashKey::from_seed(3));
    stage.assign(1);
    stage
}

fn stage() -> Reassemble {
    on(&state())
}

fn waiting(stage: &Reassemble) -> usize {
    stage.tables.as_ref().unwrap().parked.len()
}

fn live(stage: &Reassemble) -> usize {
    stage.tables.as_ref().unwrap().fragments.live(SECOND)
}

fn ip4(id: u16) -> Ipv4Spec {
    Ipv4Spec { identification: id, ..Ipv4Spec::new([10, 1, 0, 2].into(), [10, 2, 0, 2].into(), 17) }
}

fn ip6() -> Ipv6Spec {
    Ipv6Spec::new("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap(), protocol::FRAGMENT)
}

/// A UDP datagram from port 4000 to port 53 of `len` bytes in all.
fn datagram(len: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..len - 8).map(|i| (i / 8) as u8).collect();
    build::udp(Sum::ZERO, 4000, 53, &payload)
}

/// `bytes[from..to]` of datagram `id` in a packet of either family.
fn fragment(v6: bool, id: u16, bytes: &[u8], from: usize, to: usize) -> Vec<u8> {
    let (part, more) = (&bytes[from..to], to < bytes.len());
    if v6 {
        let header = build::fragment(17, from as u16, more, 0x5555_0000 | u32::from(id));
        return on_v6(&ip6(), &[&header[..], part].concat());
    }
    on_v4(&Ipv4Spec { fragment_offset: from as u16, more_fragments: more, ..ip4(id) }, part)
}

/// The datagram in fragments of `step` bytes.
fn fragments(v6: bool, id: u16, bytes: &[u8], step: usize) -> Vec<Vec<u8>> {
    (0..bytes.len())
        .step_by(step)
        .map(|from| fragment(v6, id, bytes, from, bytes.len().min(from + step)))
        .collect()
}

/// Runs the packets as one burst; what waited comes behind them.
fn send(stage: &mut Reassemble, packets: &[Vec<u8>], now: u64) -> Vec<Seen> {
    let (seen, made) = run_and_make(&mut [&mut Parse::new(ports(), true), stage], IN, packets, now);
    assert!(made.iter().all(|made| made.verdict == Verdict::Drop(DropReason::FragmentTimeout)));
    seen.into_iter().chain(made).collect()
}

fn verdicts(seen: &[Seen]) -> Vec<Verdict> {
    seen.iter().map(|seen| seen.verdict).collect()
}

fn flow(seen: &Seen) -> (u16, u16, u8, u8) {
    let key = &seen.key;
    (key.source_port(), key.destination_port(), key.protocol(), seen.facts.protocol)
}

#[test]
fn every_fragment_has_the_ports_of_the_first() {
    for v6 in [false, true] {
        let mut stage = stage();
        let packets = fragments(v6, 7, &datagram(3000), 1000);
        let seen = send(&mut stage, &packets, SECOND);
        assert_eq!(seen.len(), 3);
        for (seen, packet) in seen.iter().zip(&packets) {
            assert_eq!((seen.verdict, &seen.bytes), (Verdict::Next, packet));
            assert_eq!(flow(seen), (4000, 53, 17, 17));
            assert_eq!(seen.key.version(), if v6 { 6 } else { 4 });
        }
        assert_eq!(live(&stage), 0);
    }
}

#[test]
fn what_comes_ahead_of_the_first_goes_on_behind_it() {
    for v6 in [false, true] {
        let mut stage = stage();
        let bytes = datagram(3000);
        let packets = fragments(v6, 7, &bytes, 1000);
        let early = send(&mut stage, &[packets[2].clone(), packets[1].clone()], SECOND);
        assert_eq!(verdicts(&early), [Verdict::Consume; 2]);
        assert_eq!(waiting(&stage), 2);
        let seen = send(&mut stage, &packets[..1], 2 * SECOND);
        assert_eq!(verdicts(&seen), [Verdict::Next; 3]);
        let order: Vec<&Vec<u8>> = seen.iter().map(|seen| &seen.bytes).collect();
        assert_eq!(order, [&packets[0], &packets[2], &packets[1]]);
        for seen in &seen {
            assert_eq!(flow(seen), (4000, 53, 17, 17));
            assert_eq!((seen.facts.l3, seen.facts.version), (14, if v6 { 6 } else { 4 }));
        }
        assert_eq!((waiting(&stage), live(&stage)), (0, 0));
    }
}

#[test]
fn a_successor_carries_on_with_what_waits() {
    let state = state();
    // As with a reload: the next one is made while this one still works.
    let (mut old, mut new) = (on(&state), on(&state));
    let packets = fragments(false, 7, &datagram(300), 200);
    assert_eq!(verdicts(&send(&mut old, &packets[1..], SECOND)), [Verdict::Consume]);
    assert_eq!(verdicts(&send(&mut new, &packets[..1], SECOND)), [Verdict::Next; 2]);
    assert_eq!(waiting(&new), 0);
}

#[test]
fn a_full_burst_takes_what_waits_next_time() {
    let mut stage = stage();
    let packets = fragments(false, 7, &datagram(300), 200);
    send(&mut stage, &packets[1..], SECOND);
    let whole = on_v4(&ip4(1), &datagram(20));
    let mut full = vec![whole.clone(); 64];
    full[10] = packets[0].clone();
    assert_eq!(verdicts(&send(&mut stage, &full, SECOND)), [Verdict::Next; 64]);
    let seen = send(&mut stage, &[whole], SECOND);
    assert_eq!((seen.len(), &seen[1].bytes), (2, &packets[1]));
    assert_eq!(flow(&seen[1]), (4000, 53, 17, 17));
}

#[test]
fn what_waits_in_vain_is_dropped_and_so_is_what_must_make_room() {
    let mut stage = stage();
    let late = |id| fragments(false, id, &datagram(300), 200).remove(1);
    assert_eq!(verdicts(&send(&mut stage, &[late(1)], SECOND)), [Verdict::Consume]);
    let timeout = Verdict::Drop(DropReason::FragmentTimeout);
    let seen = send(&mut stage, &[late(2)], 40 * SECOND);
    assert_eq!(verdicts(&seen), [Verdict::Consume, timeout]);
    // One more than may wait, all of different datagrams.
    for id in 0..HOLD as u16 - 1 {
        assert_eq!(verdicts(&send(&mut stage, &[late(100 + id)], 41 * SECOND)), [Verdict::Consume]);
    }
    assert_eq!(verdicts(&send(&mut stage, &[late(999)], 42 * SECOND)), [Verdict::Consume, timeout]);
    assert_eq!(waiting(&stage), HOLD);
}

#[test]
fn whole_packets_and_atomic_fragments_are_left_alone() {
    let mut stage = stage();
    let atomic = on_v6(&ip6(), &[&build::fragment(17, 0, false, 9)[..], &datagram(100)].concat());
    let seen = send(&mut stage, &[on_v4(&ip4(1), &datagram(100)), atomic], SECOND);
    assert_eq!(verdicts(&seen), [Verdict::Next; 2]);
    assert!(seen.iter().all(|seen| flow(seen) == (4000, 53, 17, 17)));
    assert_eq!(live(&stage), 0);
}

#[test]
fn what_cannot_be_a_fragment_is_refused() {
    let malformed = Verdict::Drop(DropReason::FragmentMalformed);
    let bytes = datagram(800);
    let tcp = |len: usize| {
        let first = Ipv4Spec { more_fragments: true, protocol: 6, ..ip4(1) };
        on_v4(&first, &vec![0; len])
    };
    let at = |offset: u16, more: bool, len: usize| {
        on_v4(&Ipv4Spec { fragment_offset: offset, more_fragments: more, ..ip4(1) }, &vec![0; len])
    };
    let at6 = |offset: u16, more: bool, len: usize| {
        on_v6(&ip6(), &[&build::fragment(17, offset, more, 1)[..], &vec![0; len]].concat())
    };
    for (what, packet) in [
        ("v4: not a multiple of 8", at(0, true, 1001)),
        ("v6: not a multiple of 8", at6(8, true, 1001)),
        ("v4: empty", at(8, true, 0)),
        ("v6: empty", at6(8, false, 0)),
        ("v4: the ping of death", at(65_528, false, 200)),
        ("v6: the ping of death", at6(65_528, false, 200)),
        ("v4: 65,535 bytes and a header", at(65_528, false, 7)),
        ("RFC 1858: a tiny first fragment", tcp(16)),
        ("RFC 7112: no transport header", at6(0, true, 0)),
    ] {
        assert_eq!(verdicts(&send(&mut stage(), &[packet], SECOND)), [malformed], "{what}");
    }
    assert_eq!(verdicts(&send(&mut stage(), &[tcp(24)], SECOND)), [Verdict::Next]);
    // The longest there is: 65,535 bytes with its header.
    let first = fragment(false, 1, &bytes, 0, 400);
    assert_eq!(verdicts(&send(&mut stage(), &[first, at(65_512, false, 3)], SECOND)), [Verdict::Next; 2]);
}

#[test]
fn an_overlap_ends_its_datagram_in_both_families_and_no_other() {
    let overlap = Verdict::Drop(DropReason::FragmentOverlap);
    for v6 in [false, true] {
        let bytes = datagram(800);
        let packets = [
            fragment(v6, 1, &bytes, 0, 400),
            fragment(v6, 2, &bytes, 0, 400),
            fragment(v6, 1, &bytes, 392, 800),
            fragment(v6, 1, &bytes, 400, 800),
            fragment(v6, 2, &bytes, 400, 800),
        ];
        let seen = send(&mut stage(), &packets, SECOND);
        assert_eq!(verdicts(&seen), [Verdict::Next, Verdict::Next, overlap, overlap, Verdict::Next]);
    }
}

#[test]
fn the_protocol_behind_destination_options_counts() {
    let bytes = [&build::extension(protocol::UDP, 0)[..], &datagram(800)].concat();
    let part = |from: usize, to: usize| {
        let header = build::fragment(protocol::DESTINATION_OPTIONS, from as u16, to < bytes.len(), 1);
        on_v6(&ip6(), &[&header[..], &bytes[from..to]].concat())
    };
    let seen = send(&mut stage(), &[part(0, 400), part(400, 808)], SECOND);
    assert!(seen.iter().all(|seen| flow(seen) == (4000, 53, 17, 17)), "{seen:?}");
}

#[test]
fn a_flood_of_fragments_costs_whole_packets_nothing() {
    let mut stage = stage();
    let (bytes, whole) = (datagram(300), on_v4(&ip4(1), &datagram(100)));
    for round in 0..1000u16 {
        let mut burst: Vec<Vec<u8>> = (0..32)
            .map(|i| {
                let at = if i % 2 == 0 { (0, 200) } else { (200, 300) };
                fragment(i % 3 == 0, round.wrapping_mul(32) + i * 2, &bytes, at.0, at.1)
            })
            .collect();
        burst.push(whole.clone());
        let seen = send(&mut stage, &burst, SECOND + u64::from(round) * 1_000_000);
        assert_eq!(seen[32].verdict, Verdict::Next);
        assert!(waiting(&stage) <= HOLD);
    }
    // And a datagram whose parts follow each other is let through in the middle of it.
    let seen = send(&mut stage, &fragments(true, 40_000, &bytes, 200), 3 * SECOND);
    assert_eq!(verdicts(&seen)[..2], [Verdict::Next; 2]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Datagrams cut anywhere and mixed in any order, in bursts: every byte of each comes out once, under the right flow, and
    /// none ahead of the first fragment.
    #[test]
    fn every_datagram_passes_whatever_the_order(
        steps in prop::collection::vec((any::<bool>(), 3usize..40), 1..4), burst in 1usize..20, seed: u64,
    ) {
        let mut sent: Vec<(usize, Vec<u8>)> = Vec::new();
        let mut lengths = BTreeMap::new();
        for (id, (v6, step)) in steps.iter().enumerate() {
            let bytes = datagram(600 + id);
            lengths.insert(id, bytes.len());
            sent.extend(fragments(*v6, id as u16, &bytes, step * 8).into_iter().map(|packet| (id, packet)));
        }
        prop_assume!(sent.len() <= HOLD);
        let mut state = seed;
        for i in (1..sent.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            sent.swap(i, (state >> 33) as usize % (i + 1));
        }
        let mut stage = stage();
        let mut passed: BTreeMap<usize, usize> = BTreeMap::new();
        for packets in sent.chunks(burst) {
            let bytes: Vec<Vec<u8>> = packets.iter().map(|(_, packet)| packet.clone()).collect();
            for seen in send(&mut stage, &bytes, SECOND) {
                if seen.verdict == Verdict::Consume {
                    continue;
                }
                let part = Part::read(&seen.bytes, &seen.facts).unwrap();
                prop_assert!(matches!(seen.verdict, Verdict::Next), "{:?} {:?}", seen.verdict, part.piece);
                prop_assert_eq!(flow(&seen), (4000, 53, 17, 17));
                let id = sent.iter().find(|(_, packet)| *packet == seen.bytes).unwrap().0;
                let before = passed.entry(id).or_default();
                prop_assert!(*before > 0 || part.piece.offset == 0, "ahead of the first");
                *before += usize::from(part.piece.len);
            }
        }
        prop_assert_eq!(passed, lengths);
        prop_assert_eq!((waiting(&stage), live(&stage)), (0, 0));
    }
}
