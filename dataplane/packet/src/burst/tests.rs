use super::*;
use crate::frame::FrameSize;
use crate::pool::Pool;
use crate::verdict::DropReason;
use proptest::prelude::*;

fn pool() -> Pool {
    Pool::heap(FrameSize::K2, 128, 1).unwrap().remove(0)
}

fn packet(pool: &mut Pool, len: u16) -> Packet {
    Packet { frame: pool.alloc().unwrap(), start: 256, len, port: PortId(1) }
}

#[test]
fn takes_64_packets_and_hands_the_next_one_back() {
    let mut pool = pool();
    let mut burst = Burst::new(pool.arena().clone());
    for _ in 0..64 {
        burst.push(packet(&mut pool, 60)).unwrap();
    }
    let refused = burst.push(packet(&mut pool, 60)).unwrap_err();
    pool.free(refused.frame);
    assert_eq!(burst.live(), u64::MAX);
    burst.drain(|packet, _, _| pool.free(packet.frame));
    assert_eq!(pool.available(), 128);
    assert_eq!(pool.audit(0, 0).leaked, 0);
}

#[test]
fn refuses_frames_of_another_arena_and_ranges_that_leave_the_frame() {
    let (mut ours, mut theirs) = (pool(), pool());
    let mut burst = Burst::new(ours.arena().clone());
    let refused = burst.push(packet(&mut theirs, 60)).unwrap_err();
    theirs.free(refused.frame);
    let refused = burst.push(packet(&mut ours, 1793)).unwrap_err();
    ours.free(refused.frame);
}

#[test]
fn packets_agree_when_every_one_has_the_same_verdict() {
    let mut pool = pool();
    let mut burst = Burst::new(pool.arena().clone());
    burst.agree();
    assert_eq!(burst.unanimous(), None, "nobody is there to agree");
    for i in 0..3 {
        burst.push(packet(&mut pool, 60)).unwrap();
        burst.decide(i, Verdict::Transmit(PortId(2)));
    }
    assert_eq!(burst.unanimous(), None, "decided one by one");
    burst.agree();
    assert_eq!(burst.unanimous(), Some(Verdict::Transmit(PortId(2))));
    burst.decide(1, Verdict::Transmit(PortId(3)));
    burst.agree();
    assert_eq!(burst.unanimous(), None, "to another port");
    (0..3).for_each(|i| burst.decide(i, Verdict::Next));
    burst.agree();
    assert_eq!((burst.unanimous(), burst.live()), (None, 0b111), "undecided is no verdict");
    burst.free_into(&mut pool);
}

#[test]
fn verdicts_steer_which_packets_the_next_stage_sees() {
    let mut pool = pool();
    let mut burst = Burst::new(pool.arena().clone());
    for i in 0..4 {
        burst.push(packet(&mut pool, 60 + i)).unwrap();
    }
    burst.decide(1, Verdict::Drop(DropReason::NoRoute));
    assert_eq!(burst.undecided().collect::<Vec<_>>(), [0, 2, 3]);
    burst.narrow(0b0100);
    burst.decide_all(Verdict::Punt);
    burst.widen();
    assert_eq!(burst.undecided().collect::<Vec<_>>(), [0, 3]);
    burst.bytes_mut(3)[0] = 7;
    assert_eq!((burst.bytes(3)[0], burst.bytes(3).len(), burst.bytes(4).len()), (7, 63, 0));
    let mut verdicts = Vec::new();
    burst.drain(|packet, verdict, _| {
        verdicts.push(verdict);
        pool.free(packet.frame);
    });
    assert_eq!(verdicts, [Verdict::Next, Verdict::Drop(DropReason::NoRoute), Verdict::Punt, Verdict::Next]);
}

#[test]
fn extends_from_a_pool_as_far_as_both_reach() {
    let mut pool = pool();
    let mut burst = Burst::new(pool.arena().clone());
    burst.push(packet(&mut pool, 90)).unwrap();
    // What an earlier packet left in the same place.
    burst.facts_mut(1).l3 = 14;
    assert_eq!(burst.extend_from(&mut pool, 3, PortId(2), 256, 60), 3);
    assert_eq!((burst.len(), burst.live(), burst.total_bytes()), (4, 0b1111, 270));
    assert_eq!((burst.port(0), burst.port(3), *burst.facts(1)), (PortId(1), PortId(2), Facts::default()));
    assert_eq!((burst.bytes(3).len(), burst.common_port()), (60, None));
    assert_eq!(burst.extend_from(&mut pool, 1000, PortId(2), 256, 60), 60);
    assert_eq!((burst.room(), burst.live()), (0, u64::MAX));
    assert_eq!(burst.extend_from(&mut pool, 1, PortId(2), 256, 60), 0);
    assert_eq!(pool.audit(64, 0).leaked, 0);

    let mut second = Burst::new(pool.arena().clone());
    while pool.available() > 10 {
        let frame = pool.alloc().unwrap();
        second.push(Packet { frame, start: 256, len: 60, port: PortId(1) }).unwrap();
    }
    second.free_into(&mut pool);
    let mut out = Vec::new();
    burst.drain_into(&mut out);
    assert_eq!((out.len(), out[0].len, out[63].len, out[63].port), (64, 90, 60, PortId(2)));
    pool.free_many(out.into_iter().map(|packet| packet.frame));
    assert_eq!((pool.available(), pool.audit(0, 0).leaked), (128, 0));
}

#[test]
fn extends_by_nothing_that_it_could_not_hold() {
    let (mut ours, mut theirs) = (pool(), pool());
    let mut burst = Burst::new(ours.arena().clone());
    assert_eq!(burst.extend_from(&mut theirs, 1, PortId(1), 256, 60), 0);
    assert_eq!(burst.extend_from(&mut ours, 1, PortId(1), 256, 1793), 0);
    assert_eq!(burst.extend_from(&mut ours, 1, PortId(1), u16::MAX, u16::MAX), 0);
    assert_eq!((ours.available(), theirs.available(), burst.live()), (128, 128, 0));
}

#[test]
fn an_empty_pool_extends_by_what_it_had() {
    let mut pool = Pool::heap(FrameSize::K2, 5, 1).unwrap().remove(0);
    let mut burst = Burst::new(pool.arena().clone());
    assert_eq!(burst.extend_from(&mut pool, 64, PortId(1), 256, 60), 5);
    assert_eq!((burst.len(), burst.live()), (5, 0b1_1111));
    burst.free_into(&mut pool);
    assert!(burst.is_empty());
    assert_eq!((pool.available(), pool.audit(0, 0).leaked), (5, 0));
}

#[derive(Clone, Debug)]
enum Op {
    Push,
    Extend(usize),
    Decide(usize, Verdict),
    All(Verdict),
    Narrow(u64),
    Widen,
    Empty,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let verdict = (0..5u8).prop_map(|kind| match kind {
        0 => Verdict::Next,
        1 => Verdict::Transmit(PortId(3)),
        2 => Verdict::Drop(DropReason::NoRoute),
        3 => Verdict::Drop(DropReason::Configured),
        _ => Verdict::Punt,
    });
    let op = (0..7u8, 0..70usize, any::<u64>(), verdict).prop_map(|(kind, n, mask, verdict)| match kind {
        0 => Op::Push,
        1 => Op::Extend(n),
        2 => Op::Decide(n, verdict),
        3 => Op::All(verdict),
        4 => Op::Narrow(mask),
        5 => Op::Widen,
        _ => Op::Empty,
    });
    proptest::collection::vec(op, 0..60)
}

proptest! {
    /// What a burst says of all its packets at once is what it says of each.
    #[test]
    fn the_summaries_agree_with_the_packets(ops in ops()) {
        let mut pool = pool();
        let mut burst = Burst::new(pool.arena().clone());
        let mut model: Vec<(Verdict, bool)> = Vec::new();
        for op in ops {
            match op {
                Op::Push if burst.room() > 0 => {
                    burst.push(packet(&mut pool, 60)).unwrap();
                    model.push((Verdict::Next, true));
                }
                Op::Push => {}
                Op::Extend(n) => {
                    let came = burst.extend_from(&mut pool, n, PortId(2), 256, 60);
                    model.extend((0..came).map(|_| (Verdict::Next, true)));
                }
                Op::Decide(i, verdict) => {
                    burst.decide(i, verdict);
                    if let Some(packet) = model.get_mut(i) {
                        *packet = (verdict, verdict == Verdict::Next);
                    }
                }
                Op::All(verdict) => {
                    burst.decide_all(verdict);
                    for packet in model.iter_mut().filter(|(_, live)| *live) {
                        *packet = (verdict, verdict == Verdict::Next);
                    }
                }
                Op::Narrow(mask) => {
                    burst.narrow(mask);
                    model.iter_mut().enumerate().for_each(|(i, packet)| packet.1 &= mask >> i & 1 == 1);
                }
                Op::Widen => {
                    burst.widen();
                    model.iter_mut().for_each(|(verdict, live)| *live = *verdict == Verdict::Next);
                }
                Op::Empty => {
                    burst.free_into(&mut pool);
                    model.clear();
                }
            }
            let live = model.iter().enumerate().fold(0, |mask, (i, packet)| mask | u64::from(packet.1) << i);
            prop_assert_eq!((burst.len(), burst.live()), (model.len(), live));
            for (i, (verdict, _)) in model.iter().enumerate() {
                prop_assert_eq!(burst.verdict(i), *verdict);
            }
            if let Some(all) = burst.unanimous() {
                prop_assert!(model.iter().all(|(verdict, _)| *verdict == all));
            }
            let drops = model.iter().filter(|(verdict, _)| matches!(verdict, Verdict::Drop(_))).count();
            prop_assert_eq!(burst.drops(u64::MAX), drops as u32);
            prop_assert_eq!(pool.audit(burst.len() as u32, 0).leaked, 0);
        }
        burst.free_into(&mut pool);
        prop_assert_eq!(pool.available(), 128);
    }
}

#[test]
fn one_answer_for_all_is_known_as_such() {
    let mut pool = pool();
    let mut burst = Burst::new(pool.arena().clone());
    burst.extend_from(&mut pool, 64, PortId(1), 256, 60);
    assert_eq!((burst.unanimous(), burst.common_port()), (None, Some(PortId(1))));
    burst.decide_all(Verdict::Punt);
    assert_eq!((burst.unanimous(), burst.live()), (Some(Verdict::Punt), 0));
    // Nobody is left to be asked, so nothing changes.
    burst.decide_all(Verdict::Drop(DropReason::Undecided));
    assert_eq!(burst.unanimous(), Some(Verdict::Punt));
    burst.free_into(&mut pool);
}

#[test]
fn many_packets_are_changed_at_once() {
    let mut pool = Pool::heap(FrameSize::K2, 8, 1).unwrap().remove(0);
    let mut burst = Burst::new(pool.arena().clone());
    for len in 1..=5 {
        let frame = pool.alloc().unwrap();
        burst.push(Packet { frame, start: 256, len, port: PortId(0) }).unwrap();
    }
    let mut all: Vec<_> = burst.each_mut(0b1_0110 | 1 << 60).collect();
    assert_eq!(all.iter().map(|(i, bytes)| (*i, bytes.len())).collect::<Vec<_>>(), [(1, 2), (2, 3), (4, 5)]);
    for (i, bytes) in &mut all {
        bytes.fill(*i as u8);
    }
    assert_eq!((burst.bytes(1), burst.bytes(4)), (&[1; 2][..], &[4; 5][..]));
    burst.free_into(&mut pool);
}
