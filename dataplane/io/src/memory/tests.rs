use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;
use zsync_packet::burst::BURST;
use zsync_packet::frame::{Frame, FrameSize, HEADROOM};

/// An end of a pair with the worker that serves it.
struct Side {
    device: Memory,
    pool: Pool,
    burst: Burst,
    out: Vec<Packet>,
}

impl Side {
    fn new(device: Memory, pool: Pool) -> Self {
        let burst = Burst::new(pool.arena().clone());
        Self { device, pool, burst, out: Vec::new() }
    }

    /// Puts a packet in line to be sent; false when the pool is empty.
    fn queue(&mut self, bytes: &[u8]) -> bool {
        let Some(mut frame) = self.pool.alloc() else { return false };
        let len = bytes.len() as u16;
        self.pool.arena().bytes_mut(&mut frame, HEADROOM as u16, len).copy_from_slice(bytes);
        self.out.push(Packet { frame, start: HEADROOM as u16, len, port: PortId(9) });
        true
    }

    fn send(&mut self) -> usize {
        self.device.tx_burst(&mut self.pool, &mut self.out)
    }

    fn receive(&mut self) -> Vec<Vec<u8>> {
        let came = self.device.rx_burst(&mut self.pool, &mut self.burst);
        assert_eq!(came, self.burst.len());
        let packets = (0..came).map(|i| self.burst.bytes(i).to_vec()).collect();
        self.burst.drain(|packet, _, _| self.pool.free(packet.frame));
        packets
    }

    fn settle(&mut self) -> Vec<Vec<u8>> {
        self.device.flush(0, true);
        self.device.complete(&mut self.pool);
        self.receive()
    }

    fn drop_queue(&mut self) {
        self.out.drain(..).for_each(|packet| self.pool.free(packet.frame));
    }

    fn check_ledger(&self, frames: u32) {
        let audit = self.pool.audit(self.out.len() as u32, 0);
        assert_eq!((audit.leaked, audit.total()), (0, frames));
        // Complaints of the ledger are those that the device counted, less the addresses that it did not pass on.
        let injected = self.device.injected();
        let counters = self.device.counters();
        let complaints = counters.bad_descriptors + counters.double_completed;
        assert!(audit.misplaced <= complaints);
        assert!(counters.bad_descriptors <= injected.bad_descriptors());
    }
}

fn sides(frames: u32, config: Config) -> (Side, Side) {
    let mut pools = Pool::heap(FrameSize::K2, 2 * frames, 2).unwrap();
    let (a, b) = pair([PortId(0), PortId(1)], config);
    let theirs = pools.remove(1);
    (Side::new(a, pools.remove(0)), Side::new(b, theirs))
}

/// Lets both ends run until nothing is on the way; what `b` received meanwhile.
fn settle(a: &mut Side, b: &mut Side) -> Vec<Vec<u8>> {
    let mut received = Vec::new();
    for _ in 0..200 {
        a.settle();
        received.extend(b.settle());
    }
    assert_eq!((a.device.on_the_way(), b.device.on_the_way()), (0, 0));
    assert_eq!((a.device.arrived().rx, b.device.arrived().rx), (0, 0));
    a.settle();
    received.extend(b.settle());
    received
}

fn check_balance(from: &Side, to: &Side) {
    let (wire, kernel) = (from.device.injected(), to.device.injected());
    let lost = wire.lost + kernel.too_long + to.device.counters().rx_refused;
    assert_eq!(to.device.received() + lost, from.device.sent() + wire.duplicated);
    let counters = to.device.counters();
    assert_eq!(counters.bad_descriptors, kernel.bad_descriptors());
    assert_eq!(counters.double_completed, kernel.double_completed());
    assert_eq!(to.pool.audit(to.out.len() as u32, 0).tx, 0, "everything that was sent is complete");
    // The ledger was asked for frames alone, not for addresses in no arena, and it gave the frame of a wrong length.
    let misplaced = kernel.unsent_completions + kernel.repeated_completions + kernel.repeated_descriptors;
    assert_eq!(to.pool.audit(to.out.len() as u32, 0).misplaced, misplaced);
}

fn numbered(n: u32) -> Vec<u8> {
    let mut bytes = vec![0xa5; 60 + n as usize % 400];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    bytes
}

#[test]
fn what_one_sends_the_other_receives_in_order_and_bytes() {
    let (mut a, mut b) = sides(256, Config { fill: 64, rx: 64, tx: 64, completion: 64, ..Config::default() });
    b.receive();
    for n in 0..40 {
        assert!(a.queue(&numbered(n)));
    }
    assert_eq!(a.send(), 40);
    assert!(a.device.unflushed());
    assert_eq!(a.pool.audit(0, 0).tx, 40);
    assert_eq!(b.receive(), Vec::<Vec<u8>>::new(), "nothing leaves before a flush");
    a.device.flush(0, true);
    assert!(!a.device.unflushed());
    assert_eq!(a.device.arrived().completion, 40);
    assert_eq!(b.device.arrived().rx, 40);
    assert_eq!(b.receive(), (0..40).map(numbered).collect::<Vec<_>>());
    assert_eq!(a.device.complete(&mut a.pool), 40);
    assert_eq!(a.pool.available(), 256);
    check_balance(&a, &b);
}

#[test]
fn a_flush_waits_for_company_or_for_the_time() {
    let (mut a, _b) = sides(256, Config::default());
    a.queue(&numbered(1));
    a.send();
    a.device.flush(1000, false);
    a.device.flush(1000 + KICK_AFTER - 1, false);
    assert!(a.device.unflushed());
    a.device.flush(1000 + KICK_AFTER, false);
    assert!(!a.device.unflushed());
    (0..KICK_AT as u32).for_each(|n| assert!(a.queue(&numbered(n))));
    a.send();
    a.device.flush(50_000, false);
    assert_eq!((a.device.unflushed(), a.device.counters().kicks), (false, 2));
}

#[test]
fn full_rings_refuse_and_lose_nothing() {
    let (mut a, mut b) = sides(256, Config { fill: 8, rx: 4, tx: 8, completion: 6, ..Config::default() });
    b.receive();
    (0..64).for_each(|n| assert!(a.queue(&numbered(n))));
    assert_eq!(a.send(), 8, "the TX ring has 8 entries");
    a.device.flush(0, true);
    assert_eq!(a.device.on_the_way(), 8, "the wire holds 4, the other 4 wait in the TX ring");
    assert_eq!(a.send(), 4);
    let mut received = Vec::new();
    while a.device.on_the_way() != 0 || !a.out.is_empty() {
        a.device.flush(0, true);
        received.extend(b.receive());
        a.device.complete(&mut a.pool);
        a.send();
    }
    received.extend(b.receive());
    assert_eq!(received, (0..64).map(numbered).collect::<Vec<_>>());
    assert_eq!(b.device.received(), 64);
    check_balance(&a, &b);
}

#[test]
fn an_empty_pool_starves_the_fill_ring_until_frames_come() {
    let (mut a, mut b) = sides(16, Config { fill: 8, ..Config::default() });
    let hoard: Vec<Frame> = std::iter::from_fn(|| b.pool.alloc()).collect();
    assert!(b.receive().is_empty());
    assert_eq!(b.device.counters().fill_starved, 1);
    a.queue(&numbered(7));
    a.send();
    a.device.flush(0, true);
    assert!(b.receive().is_empty());
    hoard.into_iter().for_each(|frame| b.pool.free(frame));
    assert!(b.receive().is_empty());
    assert_eq!(b.receive(), [numbered(7)]);
}

#[test]
fn a_packet_that_no_frame_of_the_receiver_holds_is_counted() {
    let mut long = Pool::heap(FrameSize::K4, 64, 1).unwrap();
    let mut short = Pool::heap(FrameSize::K2, 64, 1).unwrap();
    let config = Config { fill: 16, ..Config::default() };
    let (a, b) = pair([PortId(0), PortId(1)], config);
    let (mut a, mut b) = (Side::new(a, long.remove(0)), Side::new(b, short.remove(0)));
    b.receive();
    a.queue(&[1; 1792]);
    a.queue(&[2; 1793]);
    a.send();
    assert_eq!(settle(&mut a, &mut b), [vec![1; 1792]]);
    assert_eq!(b.device.counters().rx_refused, 1);
    check_balance(&a, &b);
}

#[test]
fn each_fault_alone_is_seen_for_what_it_is() {
    const ALWAYS: u32 = Faults::ALWAYS;
    let run = |faults: Faults| {
        let (mut a, mut b) = sides(256, Config { faults, ..Config { fill: 64, ..Config::default() } });
        b.receive();
        (0..20).for_each(|n| assert!(a.queue(&numbered(n))));
        let sent = a.send();
        let received = settle(&mut a, &mut b);
        check_balance(&a, &b);
        check_balance(&b, &a);
        a.drop_queue();
        assert_eq!(a.pool.audit(0, 0).leaked + b.pool.audit(0, 0).leaked, 0);
        (sent, received, *a.device.injected(), *b.device.injected())
    };
    let plain: Vec<_> = (0..20).map(numbered).collect();
    let none = Faults::default();
    let (sent, received, ..) = run(Faults { tx_full: ALWAYS, ..none });
    assert_eq!((sent, received.len()), (0, 0));
    let (_, received, wire, _) = run(Faults { loss: ALWAYS, ..none });
    assert_eq!((received.len(), wire.lost), (0, 20));
    let (_, received, wire, _) = run(Faults { duplicate: ALWAYS, ..none });
    assert_eq!((received.len(), wire.duplicated), (40, 20));
    let (_, received, wire, _) = run(Faults { reorder: ALWAYS, ..none });
    assert_eq!(wire.reordered, 19);
    assert_ne!(received, plain);
    let mut sorted = received;
    sorted.sort();
    assert_eq!(sorted, plain);
    let (_, received, wire, _) = run(Faults { corrupt: ALWAYS, ..none });
    assert_eq!(wire.corrupted, 20);
    for (got, sent) in received.iter().zip(&plain) {
        let flipped: u32 = got.iter().zip(sent).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((got.len(), flipped), (sent.len(), 1));
    }
    let (_, received, wire, _) = run(Faults { truncate: ALWAYS, ..none });
    assert_eq!(wire.truncated, 20);
    assert!(received.iter().zip(&plain).all(|(got, sent)| got.len() < sent.len() && sent.starts_with(got)));
    for faults in [
        Faults { foreign_completion: ALWAYS, ..none },
        Faults { repeated_completion: ALWAYS, ..none },
        Faults { foreign_descriptor: ALWAYS, ..none },
        Faults { repeated_descriptor: ALWAYS, ..none },
    ] {
        let (_, received, a, b) = run(faults);
        assert_eq!(received, plain);
        let seen = a.bad_descriptors() + a.double_completed() + b.bad_descriptors();
        assert_eq!(seen, 20, "{faults:?}");
    }
    let (_, received, _, kernel) = run(Faults { too_long: ALWAYS, ..none });
    assert_eq!((received.len(), kernel.too_long), (0, 20));
}

#[test]
fn a_repeated_descriptor_is_refused_also_where_reads_are_short() {
    for seed in 0..50 {
        let none = Faults::default();
        let faults = Faults { seed, repeated_descriptor: Faults::ALWAYS, short_read: 700_000, ..none };
        let (mut a, mut b) = sides(256, Config { fill: 64, faults, ..Config::default() });
        let mut received = b.receive();
        for n in 0..40 {
            a.queue(&numbered(n));
            a.send();
            a.device.flush(0, true);
            received.extend(b.receive());
        }
        received.extend(settle(&mut a, &mut b));
        assert_eq!(received, (0..40).map(numbered).collect::<Vec<_>>());
        assert!(b.device.injected().short_read > 10);
        check_balance(&a, &b);
    }
}

#[test]
fn completions_of_frames_in_the_fill_ring_are_refused() {
    let faults = Faults { unsent_completion: Faults::ALWAYS, ..Faults::default() };
    let (mut a, mut b) = sides(256, Config { fill: 32, faults, ..Config::default() });
    a.receive();
    b.receive();
    (0..20).for_each(|n| assert!(a.queue(&numbered(n))));
    a.send();
    assert_eq!(settle(&mut a, &mut b).len(), 20);
    assert_eq!(a.device.counters().double_completed, 20);
    assert_eq!(a.pool.audit(0, 0).fill, 32);
    check_balance(&b, &a);
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Queue(u16),
    Send,
    Flush(u32, bool),
    Complete,
    Receive,
}

fn ops() -> impl Strategy<Value = Vec<(bool, Op)>> {
    let op = prop_oneof![
        4 => (0u16..1500).prop_map(Op::Queue),
        2 => Just(Op::Send),
        2 => (0u32..30_000, any::<bool>()).prop_map(|(later, force)| Op::Flush(later, force)),
        1 => Just(Op::Complete),
        2 => Just(Op::Receive),
    ];
    prop::collection::vec((any::<bool>(), op), 0..400)
}

fn configs(faults: impl Strategy<Value = Faults>) -> impl Strategy<Value = Config> {
    (1u32..20, 1u32..20, 1u32..20, 1u32..20, faults).prop_map(|(fill, rx, tx, completion, faults)| Config {
        fill,
        rx,
        tx,
        completion,
        faults,
    })
}

/// Runs the operations; `received` gets what each end received.
fn run(
    sides: &mut [Side; 2],
    ops: &[(bool, Op)],
    received: &mut [VecDeque<Vec<u8>>; 2],
) -> [Vec<Vec<u8>>; 2] {
    let mut sent = [Vec::new(), Vec::new()];
    let mut queued = [VecDeque::new(), VecDeque::new()];
    let mut now = 0;
    for (n, &(second, op)) in ops.iter().enumerate() {
        let which = usize::from(second);
        let side = &mut sides[which];
        match op {
            Op::Queue(len) => {
                let mut bytes = vec![n as u8; usize::from(len)];
                bytes.extend((n as u32).to_be_bytes());
                if side.queue(&bytes) {
                    queued[which].push_back(bytes);
                }
            }
            Op::Send => {
                let taken = side.send();
                sent[which].extend(queued[which].drain(..taken));
                assert_eq!(side.out.len(), queued[which].len());
            }
            Op::Flush(later, force) => {
                now += u64::from(later);
                side.device.flush(now, force);
            }
            Op::Complete => {
                side.device.complete(&mut side.pool);
            }
            Op::Receive => received[which].extend(side.receive()),
        }
        side.check_ledger(64);
    }
    // Nobody sends what is still in line, and where it has all the frames, nothing can be received.
    sides.iter_mut().for_each(Side::drop_queue);
    for _ in 0..500 {
        for which in [0, 1] {
            received[which].extend(sides[which].settle());
        }
    }
    sent
}

proptest! {
    #[test]
    fn without_faults_a_pair_is_two_queues(ops in ops(), config in configs(Just(Faults::default()))) {
        let (a, b) = sides(64, config);
        let mut sides = [a, b];
        let mut received = [VecDeque::new(), VecDeque::new()];
        let sent = run(&mut sides, &ops, &mut received);
        prop_assert_eq!(&received[1], &sent[0]);
        prop_assert_eq!(&received[0], &sent[1]);
        let [a, b] = sides;
        check_balance(&a, &b);
        check_balance(&b, &a);
        // At rest, every frame is free or in the fill ring.
        for side in [&a, &b] {
            let audit = side.pool.audit(0, 0);
            prop_assert_eq!((audit.pool + audit.fill, audit.misplaced), (64, 0));
            prop_assert_eq!(audit.fill, config.fill.min(64));
        }
    }

    #[test]
    fn with_faults_every_packet_and_every_frame_is_accounted_for(
        ops in ops(),
        config in configs((any::<u64>(), 0u32..300_000).prop_map(|(seed, rate)| Faults::all(seed, rate))),
    ) {
        let (a, b) = sides(64, config);
        let mut sides = [a, b];
        let mut received = [VecDeque::new(), VecDeque::new()];
        run(&mut sides, &ops, &mut received);
        let [a, b] = sides;
        check_balance(&a, &b);
        check_balance(&b, &a);
        for side in [&a, &b] {
            let audit = side.pool.audit(0, 0);
            prop_assert_eq!((audit.pool + audit.fill, audit.leaked), (64, 0));
        }
    }
}

#[test]
fn a_million_packets_between_two_threads_with_all_faults() {
    const PACKETS: u64 = 1_000_000;
    let (mut a, mut b) = sides(1024, Config { faults: Faults::all(3, 2000), ..Config::default() });
    let sender = std::thread::spawn(move || {
        let packet = [0x5a; 64];
        while a.device.sent() < PACKETS {
            while a.out.len() < BURST && a.queue(&packet) {}
            a.send();
            a.device.flush(0, true);
            a.device.complete(&mut a.pool);
            a.receive();
            if a.device.on_the_way() > 200 {
                std::thread::yield_now();
            }
        }
        a
    });
    while !sender.is_finished() {
        if b.settle().is_empty() {
            std::thread::yield_now();
        }
    }
    let mut a = sender.join().unwrap();
    a.drop_queue();
    settle(&mut a, &mut b);
    check_balance(&a, &b);
    check_balance(&b, &a);
    let frames = [&a, &b].map(|side| {
        let audit = side.pool.audit(0, 0);
        assert_eq!(audit.leaked, 0);
        audit.pool + audit.fill
    });
    assert_eq!(frames, [1024, 1024]);
    assert!(b.device.received() > PACKETS * 99 / 100);
    assert!(b.device.injected().too_long > 0 && a.device.injected().repeated_completions > 0);
}
