use super::*;
use proptest::prelude::*;

fn pools(workers: usize) -> Vec<Pool> {
    Pool::heap(FrameSize::K2, 64, workers).unwrap()
}

fn total(pools: &[Pool], in_hand: &[u32]) -> u32 {
    pools.iter().zip(in_hand).map(|(pool, &n)| pool.audit(n, 0).total()).sum()
}

#[test]
fn every_frame_is_allocated_once() {
    let mut pool = pools(1).remove(0);
    let frames: Vec<Frame> = std::iter::from_fn(|| pool.alloc()).collect();
    let mut addresses: Vec<u64> = frames.iter().map(|f| pool.arena().address(f)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 64);
    assert_eq!(pool.audit(64, 0), Audit { burst: 64, ..Audit::default() });
    frames.into_iter().for_each(|f| pool.free(f));
    assert_eq!(pool.audit(0, 0), Audit { pool: 64, ..Audit::default() });
}

#[test]
fn a_completion_that_comes_twice_is_counted_and_not_used() {
    let mut pool = pools(1).remove(0);
    let frame = pool.alloc().unwrap();
    let number = frame.number();
    pool.give(frame, Owner::Tx);
    let frame = pool.take(number, Owner::Tx).unwrap();
    pool.free(frame);
    assert!(pool.take(number, Owner::Tx).is_err());
    assert!(pool.take(9999, Owner::Tx).is_err());
    assert_eq!(pool.audit(0, 0), Audit { pool: 64, misplaced: 2, ..Audit::default() });
}

#[test]
fn frames_given_together_are_with_the_kernel_one_by_one() {
    let mut pool = pools(1).remove(0);
    let frames: Vec<Frame> = std::iter::from_fn(|| pool.alloc()).take(5).collect();
    let numbers: Vec<u32> = frames.iter().map(Frame::number).collect();
    pool.give_many(frames.into_iter(), Owner::Fill);
    assert_eq!(pool.given(Owner::Fill), 5);
    assert_eq!(pool.audit(0, 0), Audit { pool: 59, fill: 5, ..Audit::default() });
    for number in numbers {
        let frame = pool.take(number, Owner::Fill).unwrap();
        pool.free(frame);
    }
    assert_eq!(pool.audit(0, 0), Audit { pool: 64, ..Audit::default() });
}

#[test]
fn a_lost_frame_shows_in_the_audit() {
    let mut pool = pools(1).remove(0);
    let _ = pool.alloc().unwrap().into_raw();
    assert_eq!(pool.audit(0, 0).leaked, 1);
}

#[test]
fn another_workers_frame_goes_home_over_its_ring() {
    let mut pools = pools(2);
    let frame = pools[1].alloc().unwrap();
    pools[1].hand_over(&frame, 0);
    pools[0].adopt(&frame);
    pools[0].free(frame);
    assert_eq!(pools[1].audit(0, 0).remote, 1);
    pools[1].collect_returns();
    assert_eq!((pools[0].available(), pools[1].available()), (32, 32));
    assert_eq!(total(&pools, &[0, 0]), 64);
}

#[test]
fn a_successor_finds_what_the_dead_held_and_what_the_kernel_has() {
    let memory = Region::heap(64 * 2048);
    let ledger = Region::heap(ledger_bytes(64));
    // SAFETY: the first set of pools is forgotten before the second is opened.
    let open = |takeover| unsafe {
        Pool::open(memory.clone(), ledger.clone(), FrameSize::K2, 64, 1, takeover).unwrap().remove(0)
    };
    let mut dead = open(false);
    for owner in [Owner::Fill, Owner::Fill, Owner::Tx] {
        let frame = dead.alloc().unwrap();
        dead.give(frame, owner);
    }
    let in_hand = dead.alloc().unwrap().into_raw() & 0xff_ffff;
    let in_rx_ring = {
        let frame = dead.alloc().unwrap();
        frame.into_raw() & 0xff_ffff
    };
    drop(dead);

    let mut heir = open(true);
    heir.found(in_rx_ring, Owner::Fill);
    assert_eq!(Pool::recover(std::slice::from_mut(&mut heir)), [Recovered { freed: 1, with_kernel: 4 }]);
    assert_eq!(heir.audit(0, 0), Audit { pool: 60, fill: 3, tx: 1, ..Audit::default() });
    let frame = heir.take(in_rx_ring, Owner::Fill).unwrap();
    heir.free(frame);
    assert!(heir.take(in_hand, Owner::Fill).is_err());
}

#[test]
fn a_frame_that_is_put_aside_is_held_and_free_again_after_a_crash() {
    let memory = Region::heap(64 * 2048);
    let ledger = Region::heap(ledger_bytes(64));
    // SAFETY: the first set of pools is forgotten before the second is opened.
    let open = |takeover| unsafe {
        Pool::open(memory.clone(), ledger.clone(), FrameSize::K2, 64, 1, takeover).unwrap().remove(0)
    };
    let mut dead = open(false);
    let (kept, back) = (dead.alloc().unwrap(), dead.alloc().unwrap());
    dead.hold(&kept);
    dead.hold(&back);
    assert_eq!(dead.audit(0, 2), Audit { pool: 62, held: 2, ..Audit::default() });
    dead.adopt(&back);
    assert_eq!(dead.audit(1, 1), Audit { pool: 62, burst: 1, held: 1, ..Audit::default() });
    let _ = (kept.into_raw(), back.into_raw());
    drop(dead);

    let mut heir = open(true);
    assert_eq!(Pool::recover(std::slice::from_mut(&mut heir)), [Recovered { freed: 2, with_kernel: 0 }]);
    assert_eq!(heir.audit(0, 0), Audit { pool: 64, ..Audit::default() });
}

#[derive(Clone, Debug)]
enum Op {
    Alloc(usize),
    AllocMany(usize, usize),
    Free(usize),
    FreeMany(usize, usize),
    Give(usize, bool),
    Take(usize),
    HandOver(usize),
    Collect(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = (0..8u8, 0..2usize, any::<bool>(), 0..40usize).prop_map(|(kind, worker, tx, many)| match kind {
        0 => Op::Alloc(worker),
        1 => Op::Free(worker),
        2 => Op::Give(worker, tx),
        3 => Op::Take(worker),
        4 => Op::HandOver(worker),
        5 => Op::AllocMany(worker, many),
        6 => Op::FreeMany(worker, many),
        _ => Op::Collect(worker),
    });
    proptest::collection::vec(op, 0..400)
}

proptest! {
    /// Whatever two workers do, each frame has one owner, and each worker's books agree with the ledger.
    #[test]
    fn no_sequence_of_hand_overs_loses_or_doubles_a_frame(ops in ops()) {
        let mut pools = pools(2);
        let mut hands: [Vec<Frame>; 2] = [Vec::new(), Vec::new()];
        let mut kernel: [Vec<(u32, Owner)>; 2] = [Vec::new(), Vec::new()];
        for op in ops {
            match op {
                Op::Alloc(w) => hands[w].extend(pools[w].alloc()),
                Op::AllocMany(w, many) => {
                    let want = pools[w].available().min(many);
                    let before = hands[w].len();
                    let came = pools[w].alloc_many(many, |frame| hands[w].push(frame));
                    prop_assert!((want..=many).contains(&came));
                    prop_assert_eq!(hands[w].len() - before, came);
                }
                // Some of them may be the other's.
                Op::FreeMany(w, many) => {
                    let from = hands[w].len().saturating_sub(many);
                    pools[w].free_many(hands[w].drain(from..));
                }
                Op::Free(w) => if let Some(frame) = hands[w].pop() { pools[w].free(frame) },
                Op::Give(w, tx) => if let Some(frame) = hands[w].pop() {
                    let owner = if tx { Owner::Tx } else { Owner::Fill };
                    kernel[w].push((frame.number(), owner));
                    pools[w].give(frame, owner);
                },
                Op::Take(w) => if let Some((number, owner)) = kernel[w].pop() {
                    hands[w].push(pools[w].take(number, owner).unwrap());
                },
                Op::HandOver(w) => if let Some(frame) = hands[w].pop() {
                    pools[w].hand_over(&frame, 1 - w as u8);
                    pools[1 - w].adopt(&frame);
                    hands[1 - w].push(frame);
                },
                Op::Collect(w) => pools[w].collect_returns(),
            }
            for w in 0..2 {
                prop_assert_eq!(pools[w].audit(hands[w].len() as u32, 0).leaked, 0);
            }
            prop_assert_eq!(total(&pools, &[hands[0].len() as u32, hands[1].len() as u32]), 64);
        }
        for (w, hand) in hands.iter_mut().enumerate() {
            hand.drain(..).for_each(|frame| pools[w].free(frame));
        }
    }
}
