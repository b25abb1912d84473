//! A channel with known faults: the sink's counts are the channel's books, and its quantiles the channel's delays.

use proptest::prelude::*;
use std::collections::BTreeSet;
use zsync_sink::live::Interval;
use zsync_sink::sequence::{OFFSET_CLASSES, Window};
use zsync_sink::totals::Stray;
use zsync_sink::{Arrival, Expect, Sink, Source, Summary, Told};

/// SplitMix64: small, seeded, and good enough to throw dice with.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

#[derive(Clone, Copy, Debug)]
struct Faults {
    drop: f64,
    duplicate: f64,
    corrupt: f64,
    foreign: f64,
    reorder: f64,
    /// By how many packets of all flows one may be displaced.
    displacement: u64,
}

enum Event {
    Packet(Arrival),
    Corrupt(u32),
    Foreign(u32),
}

/// What the channel did.
#[derive(Debug, Default, PartialEq)]
struct Books {
    sent: Vec<u64>,
    received: Vec<u64>,
    lost: Vec<u64>,
    duplicated: Vec<u64>,
    reordered: Vec<u64>,
    offsets: [u64; OFFSET_CLASSES],
    corrupt: u64,
    foreign: u64,
}

const RUN: u32 = 77;

fn channel(seed: u64, flows: u32, packets: u64, faults: Faults) -> (Vec<Event>, Books) {
    let mut dice = Dice(seed);
    let zeros = || vec![0; flows as usize];
    let mut books = Books {
        sent: zeros(),
        received: zeros(),
        lost: zeros(),
        duplicated: zeros(),
        reordered: zeros(),
        ..Books::default()
    };
    let mut events = Vec::new();
    for at in 0..packets {
        let flow = dice.below(u64::from(flows)) as u32;
        let index = flow as usize;
        let sequence = books.sent[index];
        books.sent[index] += 1;
        if dice.share() < faults.foreign {
            books.foreign += 1;
            events.push((at, Event::Foreign(1_500)));
        }
        if dice.share() < faults.drop {
            books.lost[index] += 1;
            continue;
        }
        if dice.share() < faults.corrupt {
            books.lost[index] += 1;
            books.corrupt += 1;
            events.push((at, Event::Corrupt(64)));
            continue;
        }
        books.received[index] += 1;
        let copies = if dice.share() < faults.duplicate { 1 + dice.below(3) } else { 0 };
        books.duplicated[index] += copies;
        for _ in 0..=copies {
            let moved = if dice.share() < faults.reorder { dice.below(faults.displacement + 1) } else { 0 };
            let departed_ns = at * 1_000;
            let arrival = Arrival {
                run: RUN,
                flow,
                sequence,
                departed_ns,
                sent_ns: departed_ns + dice.below(300),
                arrived_ns: 0,
                source: Source::Kernel,
                bytes: 64,
            };
            events.push((at + moved, Event::Packet(arrival)));
        }
    }
    events.sort_by_key(|&(at, _)| at);
    let mut arrived = vec![BTreeSet::new(); flows as usize];
    let events = events.into_iter().map(|(at, event)| match event {
        Event::Packet(arrival) => {
            let before = &mut arrived[arrival.flow as usize];
            let greater = before.range(arrival.sequence + 1..).count();
            if before.insert(arrival.sequence) && greater > 0 {
                books.reordered[arrival.flow as usize] += 1;
                books.offsets[greater.ilog2() as usize] += 1;
            }
            Event::Packet(Arrival { arrived_ns: at * 1_000 + 20_000 + dice.below(5_000), ..arrival })
        }
        other => other,
    });
    (events.collect(), books)
}

fn sink(flows: u32) -> Sink {
    Sink::new(Expect { run: RUN, flows, window: Window::Wide }).unwrap()
}

fn feed(sink: &mut Sink, event: &Event) {
    match event {
        Event::Packet(arrival) => assert!(sink.arrive(arrival).is_some()),
        Event::Corrupt(bytes) => sink.corrupt(*bytes),
        Event::Foreign(bytes) => sink.foreign(*bytes),
    }
}

fn finish(sink: &Sink, sent: &[u64]) -> Summary {
    let asked = sent.iter().sum();
    let told = Told { asked, sent, duration_ns: asked * 1_000, ..Told::default() };
    sink.finish(&told).unwrap()
}

/// The books as the sink has them.
fn counted(sink: &Sink, summary: &Summary, sent: &[u64]) -> Books {
    let flows = || (0..).zip(sent).map(|(flow, &sent)| sink.flow(flow).unwrap().0.close(flow, sent).unwrap());
    assert!(flows().all(|books| books.sent == books.counts.received + books.lost));
    assert_eq!(summary.books.lost, flows().map(|books| books.lost).sum::<u64>());
    Books {
        sent: flows().map(|books| books.sent).collect(),
        received: flows().map(|books| books.counts.received).collect(),
        lost: flows().map(|books| books.lost).collect(),
        duplicated: flows().map(|books| books.counts.duplicated).collect(),
        reordered: flows().map(|books| books.counts.reordered).collect(),
        offsets: summary.offsets,
        corrupt: summary.corrupt.packets,
        foreign: summary.foreign.packets,
    }
}

fn faults() -> impl Strategy<Value = Faults> {
    let rate = || prop_oneof![Just(0.0), 0.0..0.02, 0.0..0.6];
    let rates = (rate(), rate(), rate(), rate(), rate(), 0u64..900);
    rates.prop_map(|(drop, duplicate, corrupt, foreign, reorder, displacement)| Faults {
        drop,
        duplicate,
        corrupt,
        foreign,
        reorder,
        displacement,
    })
}

proptest! {
    #[test]
    fn the_sink_s_counts_are_the_channel_s_books(
        seed in any::<u64>(), flows in 1u32..20, packets in 0u64..3_000, faults in faults(),
    ) {
        let (events, books) = channel(seed, flows, packets, faults);
        let (foreign, corrupt) = (books.foreign, books.corrupt);
        let mut sink = sink(flows);
        events.iter().for_each(|event| feed(&mut sink, event));
        let summary = finish(&sink, &books.sent);
        prop_assert_eq!(counted(&sink, &summary, &books.sent), books);
        prop_assert_eq!(summary.books.counts.too_old, 0);
        let mut interval = Interval::new().unwrap();
        interval.take(&mut sink);
        let line = interval.line(1_000_000);
        let counts = summary.books.counts;
        prop_assert_eq!((line.received, line.missing), (counts.received, counts.missing()));
        prop_assert_eq!((line.foreign, line.corrupt), (foreign, corrupt));
        prop_assert_eq!(summary.intended.count, summary.books.counts.received);
    }

    #[test]
    fn two_cores_merged_are_one(
        seed in any::<u64>(), flows in 1u32..20, packets in 0u64..3_000, faults in faults(),
    ) {
        let (events, books) = channel(seed, flows, packets, faults);
        let (mut one, mut cores) = (sink(flows), [sink(flows), sink(flows)]);
        for (nth, event) in events.iter().enumerate() {
            feed(&mut one, event);
            // A flow keeps to its core; what has no flow arrives anywhere.
            let core = if let Event::Packet(arrival) = event { arrival.flow as usize } else { nth };
            feed(&mut cores[core % 2], event);
        }
        let [mut merged, other] = cores;
        merged.merge(&other).unwrap();
        prop_assert_eq!(finish(&merged, &books.sent), finish(&one, &books.sent));
        prop_assert!(merged.intended().buckets().eq(one.intended().buckets()));
    }
}

#[test]
fn beyond_the_window_the_doubt_is_counted_and_bounds_the_loss() {
    let faults =
        Faults { drop: 0.01, duplicate: 0.3, corrupt: 0.0, foreign: 0.0, reorder: 0.3, displacement: 900 };
    let (events, books) = channel(11, 1, 20_000, faults);
    let mut sink = Sink::new(Expect { run: RUN, flows: 1, window: Window::Narrow }).unwrap();
    events.iter().for_each(|event| feed(&mut sink, event));
    let summary = finish(&sink, &books.sent);
    let (all, counts) = (&summary.books, &summary.books.counts);
    assert!(counts.too_old > 1_000, "{counts:?}");
    assert_eq!(all.sent, counts.received + all.lost);
    assert!((all.lost - counts.too_old.min(all.lost)..=all.lost).contains(&books.lost[0]));
    assert!(counts.duplicated <= books.duplicated[0], "what is in doubt is never called a copy");
    let arrivals = counts.received + counts.duplicated + counts.too_old;
    assert_eq!(arrivals, books.received[0] + books.duplicated[0], "every arrival is counted once");
    assert!(!summary.is_measurement());
}

/// The sink's quantiles of 200,000 packets with delays drawn from `draw`, against the sorted delays and the distribution.
fn agrees(draw: impl Fn(&mut Dice) -> f64, quantile_of: impl Fn(f64) -> f64) {
    let (mut dice, mut sink) = (Dice(2_024), sink(1));
    let mut delays: Vec<u64> = (0..200_000).map(|_| draw(&mut dice).round() as u64).collect();
    for (sequence, &delay) in (0..).zip(&delays) {
        let departed_ns = 1_000_000_000 + sequence * 10_000;
        let arrived_ns = departed_ns + delay;
        let (source, bytes) = (Source::Hardware, 64);
        let arrival = Arrival {
            run: RUN,
            flow: 0,
            sequence,
            departed_ns,
            sent_ns: departed_ns,
            arrived_ns,
            source,
            bytes,
        };
        sink.arrive(&arrival);
    }
    let mean = delays.iter().sum::<u64>() as f64 / delays.len() as f64;
    delays.sort_unstable();
    let told = sink.intended().percentiles();
    assert_eq!((told.min, told.max), (delays[0], delays[199_999]));
    assert!((told.mean - mean).abs() < 1e-6 * mean);
    for (quantile, told) in [(0.5, told.p50), (0.9, told.p90), (0.99, told.p99), (0.999, told.p99_9)] {
        let sorted = delays[(quantile * 200_000.0_f64).ceil() as usize - 1];
        let off = told.abs_diff(sorted) as f64;
        assert!(off <= sorted as f64 / 1_000.0, "{quantile}: {told} and {sorted} of the delays themselves");
        let law = quantile_of(quantile);
        assert!((told as f64 - law).abs() < 0.04 * law, "{quantile}: {told} and {law} by the distribution");
    }
    assert_eq!(sink.actual().percentiles(), told.to_owned());
}

#[test]
fn uniform_delays_come_out_as_they_went_in() {
    agrees(|dice| 10_000.0 + 90_000.0 * dice.share(), |q| 10_000.0 + 90_000.0 * q);
}

#[test]
fn exponential_delays_come_out_as_they_went_in() {
    agrees(|dice| -50_000.0 * (1.0 - dice.share()).ln(), |q| -50_000.0 * (1.0 - q).ln());
}

#[test]
fn bimodal_delays_come_out_as_they_went_in() {
    // 95 in 100 within 8 to 10 µs, the others within 2 to 3 ms.
    let of = |q: f64| {
        if q < 0.95 { 8_000.0 + 2_000.0 * q / 0.95 } else { 2e6 + 1e6 * (q - 0.95) / 0.05 }
    };
    agrees(|dice| of(dice.share()), of);
}

#[test]
fn a_stalled_sender_shows_from_the_schedule_and_not_from_the_departure() {
    let mut sink = sink(1);
    let mut free_ns = 0;
    for sequence in 0..10_000 {
        let departed_ns = sequence * 1_000;
        if sequence == 5_000 {
            free_ns = departed_ns + 1_000_000;
        }
        // After the stall it sends as fast as it can, 100 ns apart, until it is on schedule again.
        let sent_ns = departed_ns.max(free_ns);
        free_ns = sent_ns + 100;
        let (source, bytes) = (Source::Kernel, 64);
        let arrived_ns = sent_ns + 10_000;
        sink.arrive(&Arrival {
            run: RUN,
            flow: 0,
            sequence,
            departed_ns,
            sent_ns,
            arrived_ns,
            source,
            bytes,
        });
    }
    let summary = finish(&sink, &[10_000]);
    assert_eq!((summary.actual.min, summary.actual.max), (10_000, 10_000));
    assert_eq!((summary.intended.min, summary.intended.max), (10_000, 1_010_000));
    // Of 1,112 packets that waited, the hundred that waited longest did so for 910 µs or more.
    assert!(summary.intended.p50 <= 10_010 && summary.intended.p99 > 910_000, "{:?}", summary.intended);
    assert_eq!(summary.jitter.ipdv_max_ns, 0, "the way itself was even");
    assert!(summary.is_measurement(), "it sent all that was asked");
}

#[test]
fn corrupt_and_foreign_packets_have_their_bytes_counted_apart() {
    let mut sink = sink(1);
    sink.corrupt(1_000);
    sink.corrupt(9);
    sink.foreign(60);
    let summary = finish(&sink, &[2]);
    assert_eq!(summary.corrupt, Stray { packets: 2, bytes: 1_009 });
    assert_eq!(summary.foreign, Stray { packets: 1, bytes: 60 });
    assert_eq!((summary.bytes, summary.books.lost), (0, 2));
}
