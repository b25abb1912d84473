//! Trials over veth pairs: nothing lost without being counted, faults of a device counted exactly, on one host and on two.

mod common;

use common::{Device, Fate, here, in_namespace, port, what};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use zsync_bench_xsk::{Options, clock};
use zsync_ends::counter::{Counter, Marks};
use zsync_ends::order::{Phase, Rate};
use zsync_ends::pair::{Blind, Pair};
use zsync_ends::reader::{Manner, Reader};
use zsync_ends::remote::{Remote, lend};
use zsync_ends::sender::Senders;
use zsync_ends::source::What;
use zsync_search::mlr::{Goal, search};
use zsync_search::run::{Limits, Watch};
use zsync_traffic::pace::Shape;
use zsync_traffic::replay::Timing;
use zsync_traffic::stream::{Class, classify};

const MANNER: Manner =
    Manner { marks: Marks::Probes, stamped: true, options: Options { ring: 8192, burst: 64 } };

fn senders(ports: &[zsync_ends::Port]) -> Senders {
    Senders::open(ports, &Options::default(), &here()).unwrap()
}

fn steady(rate: u64, milliseconds: u64) -> Vec<Phase> {
    let duration = Duration::from_millis(milliseconds);
    vec![Phase { rate: Rate::Shaped(rate, Shape::Constant), duration }]
}

#[test]
fn every_packet_of_every_flow_and_both_queues_is_read_once_with_its_latency() {
    in_namespace(|| {
        let senders = senders(&[port("va", 0), port("va", 1)]);
        let reader = Reader::new(vec![port("vb", 0), port("vb", 1)], MANNER, &here()).unwrap();
        let what = what("sport=1024..1123 flows=100 size=imix");
        let mut pair = Pair::new(&senders, reader, what, Shape::Constant, &Blind);
        pair.patience = None;
        let (sent, seen) = pair.run(steady(20_000, 500), None, None).unwrap();
        assert_eq!((sent.asked(), sent.packets(), sent.skipped, sent.refused), (10_000, 10_000, 0, 0));
        assert_eq!(sent.flows, [100; 100]);
        assert_eq!((seen.received, seen.foreign, seen.dropped_here), (10_000, 0, 0), "{}", seen.text);
        assert_eq!(seen.verdicts, [""; 0]);
        let latency = seen.latency.unwrap();
        assert!(0 < latency.min && latency.min <= latency.p50 && latency.p50 <= latency.max, "{latency:?}");
        assert!(seen.curve.len() > 20 && seen.curve.is_sorted());
        // The next trial does not see the last one's packets.
        let (sent, seen) = pair.run(steady(1000, 100), Some(50), None).unwrap();
        assert_eq!((sent.packets(), seen.received, seen.foreign), (50, 50, 0));
    });
}

#[test]
fn the_faults_of_a_device_are_counted_to_the_packet() {
    in_namespace(|| {
        const PACKETS: u64 = 3000;
        let device = Device::start(|number, _| match number % 100 {
            7 => Fate::Drop,
            20 => Fate::Twice,
            40 => Fate::Late,
            60 => Fate::Spoilt,
            _ => Fate::Pass,
        });
        let senders = senders(&[port("va", 0)]);
        let reader = Reader::new(vec![port("vd", 0), port("vd", 1)], MANNER, &here()).unwrap();
        let mut pair = Pair::new(&senders, reader, what("size=128"), Shape::Constant, &Blind);
        pair.patience = None;
        let (sent, seen) = pair.run(steady(5000, 10_000), Some(PACKETS), None).unwrap();
        assert_eq!((sent.packets(), device.end()), (PACKETS, PACKETS));
        let hundreds = PACKETS / 100;
        assert_eq!(seen.received, PACKETS - 2 * hundreds, "{}", seen.text);
        for (what, count) in
            [("lost", 2 * hundreds), ("duplicated", hundreds), ("reordered", hundreds), ("corrupt", hundreds)]
        {
            let line = seen.text.lines().find(|line| line.trim_start().starts_with(what)).unwrap();
            assert_eq!(line.split_whitespace().nth(1), Some(count.to_string().as_str()), "{line}");
        }
        // The last hundred lost its last packet with number 60, which the next one's arrival tells.
        assert!(seen.last_lost_ns.is_some_and(|time| time > sent.phases[0].from_ns));
    });
}

#[test]
fn a_search_over_real_packets_finds_the_capacity_of_a_device_within_one_percent() {
    in_namespace(|| {
        // It goes by the times that the packets were to leave at, so that no machine is too slow for it.
        let device = Device::start({
            const CAPACITY: u64 = 3000;
            let (mut free_at, mut run) = (0, None);
            move |_, packet| {
                let Class::Probe(probe) = classify(packet, clock::now()) else { return Fate::Drop };
                if run.replace(probe.run) != Some(probe.run) {
                    free_at = 0;
                }
                // Room for two packets in front of the one that is on its way.
                if free_at > probe.intended + 2_000_000_000 / CAPACITY {
                    return Fate::Drop;
                }
                free_at = free_at.max(probe.intended) + 1_000_000_000 / CAPACITY;
                Fate::Pass
            }
        });
        let senders = senders(&[port("va", 0)]);
        let counter = Counter::new("vd", Marks::Probes, &here());
        let mut pair = Pair::new(&senders, counter, what("size=64"), Shape::Constant, &Blind);
        pair.patience = None;
        let trial = Duration::from_millis(500);
        let goal = Goal { initial: trial, last: trial, sum: trial, width: 0.01, ..Goal::ndr() };
        let limits = Limits { minimum: 100.0, maximum: 8000.0, time: Duration::from_secs(30) };
        let result = search(&mut pair, &[goal], limits, Watch::NONE).unwrap();
        let found = result.goals[0].lower.unwrap();
        // Half a second of 3,000 a second, and what its room holds: 1,503 packets pass.
        assert!((2940.0..=3030.0).contains(&found), "{result}");
        assert!(result.goals[0].is_regular(), "{result}");
        assert!(device.end() > 0);
    });
}

#[test]
fn a_captures_packets_are_counted_byte_for_byte() {
    in_namespace(|| {
        let folder = tempfile();
        let path = folder.join("three.pcap");
        std::fs::write(&path, capture(3)).unwrap();
        let senders = senders(&[port("va", 0)]);
        let counter = Counter::new("vb", Marks::Probes, &here());
        let what = What::Capture { path, timing: Timing::Scaled(10.0), rounds: 4 };
        let mut pair = Pair::new(&senders, counter, what, Shape::Constant, &Blind);
        pair.patience = None;
        let (sent, seen) = pair.run(steady(1, 60_000), None, None).unwrap();
        std::fs::remove_dir_all(folder).unwrap();
        assert_eq!((sent.packets(), seen.received), (12, 12), "{}", seen.text);
    });
}

fn tempfile() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("zsync-ends-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A capture (pcap, microseconds) of packets of 60 bytes, 10 ms apart.
fn capture(packets: u32) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut bytes = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1]);
    for packet in 0..packets {
        bytes.extend(words(&[0, packet * 10_000, 60, 60]));
        bytes.extend([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
        bytes.extend([packet as u8; 46]);
    }
    bytes
}

#[test]
fn a_far_end_on_another_host_tells_the_same_and_the_time_within_its_bound() {
    in_namespace(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let ports = [port("vb", 0), port("vb", 1)];
            let _ = lend(&listener, &ports, MANNER, &here(), &|line| println!("{line}"));
        });
        let senders = senders(&[port("va", 0)]);
        // As if on another host: then the clocks are related by exchanges, whose bound is said.
        for clock in [None, Some("another host's")] {
            let remote = match clock {
                None => Remote::reach(address, Marks::Probes, true),
                Some(clock) => Remote::reach_with(address, Marks::Probes, true, clock.to_owned()),
            };
            let what = what("sport=1..10 flows=10");
            let mut pair = Pair::new(&senders, remote.unwrap(), what, Shape::Poisson, &Blind);
            pair.patience = None;
            let phases = vec![Phase {
                rate: Rate::Shaped(5000, Shape::Poisson),
                duration: Duration::from_millis(400),
            }];
            let (sent, seen) = pair.run(phases, None, None).unwrap();
            assert_eq!(sent.packets(), seen.received, "{}", seen.text);
            assert!(seen.counts_valid, "{:?}", seen.verdicts);
            let bound = seen.text.lines().find(|line| line.starts_with("latency")).unwrap();
            assert_eq!(bound.contains("± 0 ns"), clock.is_none(), "{bound}");
        }
        let counting = Remote::reach(address, Marks::Probes, false).unwrap();
        let mut pair = Pair::new(&senders, counting, what("size=64"), Shape::Constant, &Blind);
        pair.patience = None;
        let (sent, seen) = pair.run(steady(1000, 100), None, None).unwrap();
        assert_eq!((sent.packets(), seen.received), (100, 100), "{}", seen.text);
    });
}

#[test]
fn a_port_in_use_and_packets_that_do_not_fit_are_named() {
    in_namespace(|| {
        let holder =
            zsync_bench_xsk::Sink::attach("vb", zsync_bench_xsk::Action::Count, zsync_bench_xsk::Match::All);
        let senders = senders(&[port("va", 0)]);
        let counter = Counter::new("vb", Marks::Probes, &here());
        let mut pair = Pair::new(&senders, counter, what("size=64"), Shape::Constant, &Blind);
        let error = format!("{:#}", pair.run(steady(1000, 10), None, None).unwrap_err());
        assert!(error.contains("vb already has an XDP program"), "{error}");
        drop(holder);
        pair.run(steady(1000, 10), None, None).unwrap();
        drop(pair);
        let counter = Counter::new("vb", Marks::Probes, &here());
        let mut pair = Pair::new(&senders, counter, what("size=3000"), Shape::Constant, &Blind);
        let error = format!("{:#}", pair.run(steady(1000, 10), None, None).unwrap_err());
        assert!(error.contains("va takes frames of at most 1522 bytes"), "{error}");
        let taken = Senders::open(&[port("va", 0)], &Options::default(), &here()).err().unwrap();
        assert!(format!("{taken:#}").contains("queue 0 of va has an AF_XDP socket already"), "{taken:#}");
        assert!(Senders::open(&[port("nowhere", 0)], &Options::default(), &here()).is_err());
    });
}

#[test]
fn an_overload_is_over_when_the_last_lost_packet_was_sent() {
    in_namespace(|| {
        use zsync_search::recovery::Overload;
        // Loses each third packet of the first 2,000.
        let device =
            Device::start(|number, _| if number < 2000 && number % 3 == 0 { Fate::Drop } else { Fate::Pass });
        let senders = senders(&[port("va", 0)]);
        let reader = Reader::new(vec![port("vd", 0), port("vd", 1)], MANNER, &here()).unwrap();
        let mut pair = Pair::new(&senders, reader, what("size=128"), Shape::Constant, &Blind);
        pair.patience = None;
        let relieved = Overload::run(&mut pair, 4000.0, 1000.0, Duration::from_millis(250)).unwrap();
        assert_eq!((relieved.lost, relieved.cut_at), (667, Duration::from_millis(250)));
        // 1,000 packets were sent by then; the other 1,000 take a second.
        let last = relieved.last_lost_at.unwrap();
        assert!(last >= Duration::from_millis(1240) && last < Duration::from_millis(3000), "{last:?}");
        assert!(device.end() > 2000);
    });
}

#[test]
fn a_reset_is_told_by_loss_and_by_time() {
    in_namespace(|| {
        let device =
            Device::start(|number, _| if (500..1000).contains(&number) { Fate::Drop } else { Fate::Pass });
        let senders = senders(&[port("va", 0)]);
        let reader = Reader::new(vec![port("vd", 0), port("vd", 1)], MANNER, &here()).unwrap();
        let mut pair = Pair::new(&senders, reader, what("size=64"), Shape::Constant, &Blind);
        pair.patience = None;
        let mut acted = false;
        let reset = pair.reset(2000.0, Duration::from_millis(900), &mut || {
            acted = true;
            Ok(())
        });
        let reset = reset.unwrap();
        assert!(acted);
        assert_eq!((reset.lost, reset.lost_elsewhere, reset.by_loss), (500, 0, Duration::from_millis(250)));
        assert!(reset.by_time >= Duration::from_millis(200), "{reset}");
        drop(Arc::new(device));
    });
}
