use super::*;
use crate::frame::FrameSize;
use crate::pool::Pool;
use crate::verdict::DropReason;

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
