//! Sockets over veth pairs: nothing lost, nothing twice, every packet on the account, and somebody else's device left alone.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use common::{MAGIC, MAGIC_AT, SIZE, in_namespace, received, sequence, write};
use zsync_bench_xsk::{
    Action, Arrival, Forwarder, Match, Options, Rate, Receiver, Side, Sink, Transmitter, Until, XskError,
    clock, spawn_pinned,
};

const OURS: Match = Match::Bytes { at: MAGIC_AT as u8, mask: [0xff; 8], value: MAGIC, load: None };

/// Receives until `packets` came or nothing came for two seconds: their sequence numbers, and the times.
fn collect(receiver: &mut Receiver, packets: usize) -> (Vec<u64>, Vec<Arrival>) {
    let (mut numbers, mut times) = (Vec::with_capacity(packets), Vec::with_capacity(packets));
    while numbers.len() < packets {
        let count = receiver.wait(Duration::from_secs(2), |packet, arrival| {
            assert_eq!(packet.len(), SIZE);
            numbers.push(sequence(packet));
            times.push(arrival);
        });
        if count.unwrap() == 0 {
            break;
        }
    }
    (numbers, times)
}

fn numbered() -> impl FnMut(&mut [u8]) -> usize {
    let mut next = 0;
    move |frame| {
        next += 1;
        write(frame, next - 1)
    }
}

#[test]
fn paced_packets_arrive_once_and_in_order_with_the_kernels_time() {
    in_namespace(|| {
        const PACKETS: u64 = 200_000;
        let mut sink = Sink::attach("vb", Action::ReceiveStamped, OURS).unwrap();
        let mut receiver =
            Receiver::open(&mut sink, 0, &Options { ring: 8192, ..Options::default() }).unwrap();
        let before = clock::now();
        let sender = thread::spawn(|| {
            let mut transmitter = Transmitter::open("va", 0, &Options::default()).unwrap();
            let sent = transmitter.send_until(Rate::PerSecond(50_000.0), Until::packets(PACKETS), numbered());
            (sent.unwrap(), transmitter.handed())
        });
        let (numbers, times) = collect(&mut receiver, PACKETS as usize);
        let (sent, handed) = sender.join().unwrap();

        assert_eq!((sent.packets, sent.refused), (PACKETS, 0));
        assert_eq!((handed.handed, handed.completed, handed.refused), (PACKETS, PACKETS, 0));
        assert!(
            numbers.iter().copied().eq(0..PACKETS),
            "{} came, missed {}",
            numbers.len(),
            receiver.missed()
        );
        assert_eq!((receiver.received(), receiver.missed()), (PACKETS, 0));
        let counts = sink.counts().unwrap();
        assert_eq!((counts.matched, counts.bytes, counts.lost), (PACKETS, PACKETS * SIZE as u64, 0));

        assert!(times.iter().all(|t| matches!(t, Arrival::Kernel(_))));
        assert!(times.windows(2).all(|t| t[0].nanoseconds() <= t[1].nanoseconds()));
        assert!(times[0].nanoseconds() > before && times[times.len() - 1].nanoseconds() < clock::now());
        let rate = sent.rate().unwrap();
        println!(
            "asked for 50000 packets/s, sent {rate:.1}: one per {:.2} ns",
            sent.mean_interval().unwrap()
        );
        // Never faster than asked; how much slower is the business of the machine and of who else runs on it.
        assert!(rate < 50_500.0, "{rate}");
    });
}

#[test]
fn at_full_rate_every_packet_is_either_counted_at_the_far_end_or_refused() {
    in_namespace(|| {
        const PACKETS: u64 = 300_000;
        let sink = Sink::attach("vb", Action::Count, OURS).unwrap();
        let mut transmitter = Transmitter::open("va", 0, &Options::default()).unwrap();
        println!("zero-copy: {}, native: {}", transmitter.is_zero_copy(), sink.is_native());
        let sent = transmitter.send_until(Rate::Full, Until::packets(PACKETS), numbered()).unwrap();
        let handed = transmitter.handed();
        println!("{:.0} packets/s, {handed:?}", sent.rate().unwrap());
        assert_eq!((sent.packets, handed.handed, handed.completed), (PACKETS, PACKETS, PACKETS));
        let counts = sink.counts().unwrap();
        assert_eq!((counts.matched + handed.refused, counts.lost), (PACKETS, 0), "{counts:?}");
        assert_eq!(received("vb").0, counts.matched + counts.foreign);
    });
}

#[test]
fn a_run_ends_when_the_writer_has_no_more_and_foreign_packets_are_the_kernels() {
    in_namespace(|| {
        let sink = Sink::attach("vb", Action::Count, OURS).unwrap();
        let mut transmitter = Transmitter::open("va", 0, &Options::default()).unwrap();
        let mut next = 0;
        let sent = transmitter.send_until(Rate::Full, Until::packets(u64::MAX), |frame| {
            next += 1;
            let length = write(frame, next);
            if next % 4 == 0 {
                frame[MAGIC_AT] ^= 1;
            }
            if next > 1000 { 0 } else { length }
        });
        assert_eq!(sent.unwrap().packets, 1000);
        let counts = sink.counts().unwrap();
        assert_eq!((counts.matched, counts.bytes, counts.foreign), (750, 45_000, 250));
    });
}

#[test]
fn a_run_ends_at_its_time_and_when_it_is_stopped() {
    in_namespace(|| {
        let mut transmitter = Transmitter::open("va", 0, &Options::default()).unwrap();
        let until = Until::elapsed(Duration::from_millis(50));
        let sent = transmitter.send_until(Rate::PerSecond(1.0), until, numbered()).unwrap();
        assert_eq!((sent.packets, sent.rate()), (1, None));
        let stop = AtomicBool::new(true);
        let until = Until { packets: 9, time: u64::MAX, stop: Some(&stop) };
        assert_eq!(transmitter.send_until(Rate::Full, until, numbered()).unwrap().packets, 0);
    });
}

#[test]
fn what_somebody_else_has_is_refused_by_name() {
    in_namespace(|| {
        let mut sink = Sink::attach("vb", Action::Receive, Match::All).unwrap();
        let Err(error) = Sink::attach("vb", Action::Count, Match::All) else { panic!("two programs") };
        assert!(error.to_string().contains("\"zsync_sink\""), "{error}");
        assert!(matches!(error, XskError::Occupied { program: Some(_), .. }));

        let first = Receiver::open(&mut sink, 0, &Options::default()).unwrap();
        let Err(error) = Transmitter::open("vb", 0, &Options::default()) else { panic!("two sockets") };
        assert!(matches!(&error, XskError::QueueTaken { queue: 0, program: Some(_), .. }), "{error}");
        drop((first, sink));
        // Both are free again.
        Sink::attach("vb", Action::Count, Match::All).unwrap();
        Transmitter::open("vb", 0, &Options::default()).unwrap();

        let Err(error) = Transmitter::open("vb", 7, &Options::default()) else { panic!("queue 7") };
        assert!(matches!(&error, XskError::Socket { queue: 7, .. }), "{error}");
        let Err(error) = Transmitter::open("nowhere", 0, &Options::default()) else { panic!("nowhere") };
        assert!(matches!(&error, XskError::NoDevice { .. }), "{error}");
        let Err(error) = Sink::attach("nowhere", Action::Count, Match::All) else { panic!("nowhere") };
        assert!(matches!(&error, XskError::NoDevice { .. }), "{error}");
        for options in [Options { ring: 100, burst: 64 }, Options { ring: 2048, burst: 65 }] {
            let Err(error) = Transmitter::open("va", 0, &options) else { panic!("{options:?}") };
            assert!(matches!(error, XskError::Option { .. }), "{error}");
        }
    });
}

#[test]
fn the_forwarder_routes_both_ways_and_loses_nothing() {
    in_namespace(|| {
        const PACKETS: u64 = 20_000;
        let [mac_b, mac_c, next_a, next_d] = [[2, 0, 0, 0, 0, 0xb], [2, 0, 0, 0, 0, 0xc], [2; 6], [4; 6]];
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (ready, is_ready) = mpsc::channel();
        let forwarder = spawn_pinned(0, move || {
            let sides = [
                Side { device: "vb".into(), queue: 0, source: mac_b, destination: next_a },
                Side { device: "vc".into(), queue: 0, source: mac_c, destination: next_d },
            ];
            let mut forwarder = Forwarder::open(sides, &Options::default())?;
            ready.send(()).unwrap();
            while !stopped.load(Ordering::Relaxed) {
                if forwarder.turn()? == 0 {
                    // A spinning forwarder beside other tests would starve them.
                    thread::yield_now();
                }
            }
            Ok(forwarder.counts())
        });
        is_ready.recv().unwrap();
        for (from, to, source, destination) in [("va", "vd", mac_c, next_d), ("vd", "va", mac_b, next_a)] {
            let mut sink = Sink::attach(to, Action::Receive, OURS).unwrap();
            let mut receiver = Receiver::open(&mut sink, 0, &Options::default()).unwrap();
            let sender = thread::spawn(move || {
                let mut transmitter = Transmitter::open(from, 0, &Options::default()).unwrap();
                transmitter
                    .send_until(Rate::PerSecond(20_000.0), Until::packets(PACKETS), numbered())
                    .unwrap()
            });
            let mut next = 0;
            while next < PACKETS {
                let count = receiver.wait(Duration::from_secs(2), |packet, arrival| {
                    assert_eq!((sequence(packet), packet[22]), (next, 63));
                    assert_eq!((&packet[..6], &packet[6..12]), (&destination[..], &source[..]));
                    assert!(matches!(arrival, Arrival::Read(_)));
                    next += 1;
                });
                assert!(count.unwrap() > 0 || next == PACKETS, "{next} of {PACKETS} from {from} to {to}");
            }
            assert_eq!(sender.join().unwrap().packets, PACKETS);
        }
        stop.store(true, Ordering::Relaxed);
        let counts = forwarder.join().unwrap().unwrap();
        assert_eq!((counts.received, counts.sent, counts.refused), (2 * PACKETS, 2 * PACKETS, 0));
    });
}
