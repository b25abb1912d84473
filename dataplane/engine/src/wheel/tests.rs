use super::*;
use proptest::prelude::*;
use zsync_packet::frame::{FrameSize, HEADROOM};

const FRAMES: u32 = 256;

struct Bench {
    pool: Pool,
    wheel: Wheel,
    sent: u16,
}

impl Bench {
    fn new(capacity: usize) -> Self {
        Self {
            pool: Pool::heap(FrameSize::K2, FRAMES, 1).unwrap().remove(0),
            wheel: Wheel::new(capacity),
            sent: 0,
        }
    }

    /// Holds a packet whose length is its number. False when there was no room.
    fn hold(&mut self, now: u64, delay: u64) -> bool {
        let frame = self.pool.alloc().unwrap();
        let packet = Packet { frame, start: HEADROOM as u16, len: self.sent, port: PortId(0) };
        match self.wheel.hold(&self.pool, packet, PortId(self.sent % 7), now, delay) {
            Ok(()) => {
                self.sent += 1;
                true
            }
            Err(packet) => {
                self.pool.free(packet.frame);
                false
            }
        }
    }

    /// What comes out at `now`, by number.
    fn release(&mut self, now: u64) -> Vec<u16> {
        let mut out = Vec::new();
        while let Some((packet, output)) = self.wheel.release(&self.pool, now) {
            assert_eq!(output, PortId(packet.len % 7));
            out.push(packet.len);
            self.pool.free(packet.frame);
        }
        let audit = self.pool.audit(0, self.wheel.len() as u32);
        assert_eq!((audit.leaked, audit.misplaced, audit.total()), (0, 0, FRAMES));
        out
    }

    /// Takes out what is left; how many they were.
    fn end(&mut self) -> usize {
        let mut left = 0;
        while let Some((packet, _)) = self.wheel.flush(&self.pool) {
            self.pool.free(packet.frame);
            left += 1;
        }
        left
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.end();
    }
}

#[derive(Clone, Debug)]
enum Op {
    Hold(u64),
    Pass(u64),
    Back(u64),
}

fn op() -> impl Strategy<Value = Op> {
    // Each level of the wheel, and beyond it.
    let span = || prop_oneof![0..3 * TICK, 0..300 * TICK, 0..70_000 * TICK, 0..=u64::from(u32::MAX)];
    prop_oneof![
        5 => span().prop_map(Op::Hold),
        3 => span().prop_map(Op::Pass),
        1 => span().prop_map(Op::Back),
    ]
}

proptest! {
    /// Against a list that is sorted by time, and by the order of coming within a tick.
    #[test]
    fn a_wheel_is_a_sorted_list(start in 0..1u64 << 50, ops in prop::collection::vec(op(), 1..200)) {
        let mut bench = Bench::new(FRAMES as usize / 2);
        let mut list: Vec<(u64, u16)> = Vec::new();
        // The wheel's own time does not go back.
        let (mut now, mut latest) = (start, 0);
        for op in ops {
            match op {
                Op::Hold(delay) => {
                    let number = bench.sent;
                    let tick = (now + delay).div_ceil(TICK).max(latest);
                    prop_assert_eq!(bench.hold(now, delay), list.len() < FRAMES as usize / 2);
                    if bench.sent > number {
                        if list.is_empty() {
                            latest = latest.max(now / TICK);
                        }
                        list.push((tick.max(latest), number));
                        list.sort_by_key(|(tick, _)| *tick);
                    }
                }
                Op::Pass(_) | Op::Back(_) => {
                    now = match op {
                        Op::Pass(time) => now + time,
                        Op::Back(time) => now.saturating_sub(time),
                        Op::Hold(_) => now,
                    };
                    let next = bench.wheel.next_time();
                    prop_assert_eq!(next.is_some(), !list.is_empty());
                    if let (Some(next), Some((tick, _))) = (next, list.first()) {
                        prop_assert!(next <= tick * TICK, "slept too long");
                    }
                    let due = list.partition_point(|(tick, _)| *tick <= now / TICK);
                    let out: Vec<(u64, u16)> = list.drain(..due).collect();
                    let expected: Vec<u16> = out.iter().map(|(_, number)| *number).collect();
                    prop_assert_eq!(bench.release(now), expected);
                    // An empty wheel does not look at the time.
                    let come_to = if list.is_empty() { out.last().map(|(tick, _)| *tick) } else { Some(now / TICK) };
                    latest = latest.max(come_to.unwrap_or(0));
                }
            }
        }
        prop_assert_eq!(bench.end(), list.len());
    }
}

#[test]
fn a_full_wheel_gives_the_packet_back() {
    let mut bench = Bench::new(2);
    assert!(bench.hold(0, 5000) && bench.hold(0, 5000));
    assert!(!bench.hold(0, 5000));
    assert_eq!(bench.release(6000), [0, 1]);
    assert!(bench.hold(6000, 0));
    assert_eq!(bench.end(), 1);
    assert!(!Bench::new(0).hold(0, 1));
}

#[test]
fn nothing_comes_out_before_its_time_and_all_of_it_then() {
    for delay in [1, TICK, TICK + 1, 256 * TICK, 65_536 * TICK + 3, u64::from(u32::MAX)] {
        for start in [0, 999, 255 * TICK, 65_535 * TICK, (1 << 24) * TICK - 1, 1 << 60] {
            let mut bench = Bench::new(4);
            assert!(bench.hold(start, delay));
            assert_eq!(bench.release(start + delay - 1), [0u16; 0], "{start} {delay}");
            assert_eq!(bench.release(start + delay + TICK), [0], "{start} {delay}");
        }
    }
}

#[test]
fn a_time_far_away_is_the_farthest_that_there_is() {
    let mut bench = Bench::new(4);
    assert!(bench.hold(7, u64::MAX));
    let next = bench.wheel.next_time().unwrap();
    assert!((16_000_000_000..18_000_000_000).contains(&next));
    assert_eq!(bench.release(next + 256 * TICK), [0]);
}

#[test]
fn looking_again_at_the_time_it_names_comes_to_every_packet_in_a_few_looks() {
    let mut bench = Bench::new(64);
    for n in 0..64u64 {
        assert!(bench.hold(123_456, n * n * 997_331));
    }
    let (mut out, mut looks) = (0, 0);
    while let Some(next) = bench.wheel.next_time() {
        looks += 1;
        out += bench.release(next).len();
    }
    // Two pourings and its own time for each.
    assert!(out == 64 && looks <= 3 * 64, "{looks}");
}
