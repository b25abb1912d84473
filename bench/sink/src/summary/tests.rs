use super::*;
use crate::arrival::Arrival;
use crate::clock::{Host, Relation};
use crate::sequence::Window;

const ARRIVAL: Arrival = Arrival {
    run: 5,
    flow: 0,
    sequence: 0,
    departed_ns: 1_000,
    sent_ns: 1_200,
    arrived_ns: 21_000,
    source: Source::Kernel,
    bytes: 60,
};

fn sink() -> Sink {
    Sink::new(Expect { run: 5, flows: 2, window: Window::Narrow }).unwrap()
}

/// A run of which nothing speaks against the result: four packets of each flow.
fn good() -> Sink {
    let mut sink = sink();
    for (flow, sequence) in [(0, 0), (0, 1), (0, 3), (0, 2), (1, 0), (1, 1), (1, 3)] {
        sink.arrive(&Arrival { flow, sequence, ..ARRIVAL });
    }
    sink
}

const TOLD: Told<'_> =
    Told { asked: 8, sent: &[4, 4], duration_ns: 1_000_000_000, dropped_here: 0, steps: &[] };

#[test]
fn a_good_run_has_no_verdict_and_its_table_says_all() {
    let summary = good().finish(&TOLD).unwrap();
    assert!(summary.is_measurement() && summary.counts_valid() && summary.latency_valid());
    assert_eq!(summary.worst.map(|(flow, books)| (flow, books.lost)), Some((1, 1)));
    let expected = "\
run 5, 2 flows, 1.000 s
  asked                      8  8 pps
  sent                       8  8 pps
  received                   7  7 pps
  lost                       1  12.5000 %
                                in 1 flows; 0 flows silent
                                flow 1 lost most: 1 of 4
  duplicated                 0
  reordered                  1  14.2857 %
                             1  overtaken by 1 to 1
  too old                    0
  corrupt                    0  lost in their flows
  foreign                    0
latency, ± 0 ns of the clocks
               from schedule    from departure
  min               20.00 µs          19.80 µs
  mean              20.00 µs          19.80 µs
  p50               20.00 µs          19.80 µs
  p90               20.00 µs          19.80 µs
  p99               20.00 µs          19.80 µs
  p99.9             20.00 µs          19.80 µs
  p99.99            20.00 µs          19.80 µs
  max               20.00 µs          19.80 µs
  jitter (RFC 3550): mean 0 ns, worst flow 0 ns
  variation (RFC 3393): p50 0 ns, p99 0 ns, max 0 ns of 2 pairs
  7 arrivals stamped by kernel
";
    assert_eq!(summary.to_string(), expected);
}

#[test]
fn a_generator_one_percent_short_passes_and_less_is_named() {
    let told = |asked| Told { asked, sent: &[99_000, 0], ..TOLD };
    assert!(good().finish(&told(100_000)).is_err(), "flow 1 had packets");
    let mut sink = sink();
    sink.arrive(&ARRIVAL);
    assert!(sink.finish(&told(100_000)).unwrap().is_measurement());
    let verdicts = sink.finish(&told(100_001)).unwrap().verdicts;
    assert_eq!(verdicts, [Verdict::GeneratorTooSlow { asked: 100_001, offered: 99_000 }]);
}

#[test]
fn a_clock_step_leaves_the_counts_and_marks_the_latency() {
    let step = Step { host: Host::Sink, at_ns: 1, by_ns: 9 };
    let summary = good().finish(&Told { steps: &[step], ..TOLD }).unwrap();
    assert!(summary.counts_valid() && !summary.latency_valid());
    let text = summary.to_string();
    assert!(text.contains("latency, INVALID") && text.contains("NO MEASUREMENT of latency:"), "{text}");
}

#[test]
fn each_reason_has_its_verdict() {
    let one = |spoil: fn(&mut Sink), told: &Told<'_>| {
        let mut sink = good();
        spoil(&mut sink);
        let summary = sink.finish(told).unwrap();
        assert!(!summary.latency_valid());
        assert_eq!(summary.verdicts.len(), 1, "{:?}", summary.verdicts);
        summary.verdicts[0]
    };
    assert_eq!(one(|sink| sink.foreign(60), &TOLD), Verdict::Foreign { packets: 1 });
    assert_eq!(one(|_| {}, &Told { dropped_here: 3, ..TOLD }), Verdict::SinkDropped { packets: 3 });
    let more = Told { sent: &[9, 400], asked: 409, ..TOLD };
    let old = |sink: &mut Sink| {
        for sequence in [300, 2] {
            sink.arrive(&Arrival { flow: 1, sequence, ..ARRIVAL });
        }
    };
    assert_eq!(one(old, &more), Verdict::TooOld { packets: 1 });
    let early = |sink: &mut Sink| {
        sink.arrive(&Arrival { sequence: 8, arrived_ns: 1_100, ..ARRIVAL });
    };
    assert_eq!(one(early, &more), Verdict::Negative { packets: 1 });
    let late = |sink: &mut Sink| {
        sink.arrive(&Arrival { sequence: 8, arrived_ns: 1 << 60, ..ARRIVAL });
    };
    assert_eq!(one(late, &more), Verdict::Saturated { packets: 1 });
    let other = |sink: &mut Sink| {
        sink.arrive(&Arrival { sequence: 8, source: Source::User, ..ARRIVAL });
    };
    assert_eq!(one(other, &more), Verdict::MixedSources);
    let unsure = |sink: &mut Sink| sink.set_clock(Relation { error_ns: 9_905, ..Relation::SAME });
    assert!(matches!(one(unsure, &TOLD), Verdict::ClockUncertain { error_ns: 9_905, .. }));
}

#[test]
fn the_error_of_a_former_relation_of_the_clocks_is_not_forgotten() {
    let mut sink = sink();
    sink.set_clock(Relation { error_ns: 700, ..Relation::SAME });
    sink.arrive(&ARRIVAL);
    sink.set_clock(Relation::SAME);
    sink.arrive(&Arrival { sequence: 1, ..ARRIVAL });
    assert_eq!(sink.finish(&TOLD).unwrap().clock_error_ns, 700);
}

#[test]
fn nothing_received_is_no_measurement_and_everything_is_lost() {
    let summary = sink().finish(&TOLD).unwrap();
    assert_eq!(summary.verdicts, [Verdict::NoPackets]);
    assert_eq!((summary.books.lost, summary.silent_flows, summary.flows_with_loss), (8, 2, 2));
    assert!(summary.to_string().ends_with(
        "NO MEASUREMENT:\n  - no packet arrived: look at the link, the filters and the addresses\n"
    ));
}

#[test]
fn counts_for_another_number_of_flows_are_refused() {
    let error = sink().finish(&Told { sent: &[1], ..TOLD }).unwrap_err();
    assert_eq!(error, BooksError::Flows { told: 1, flows: 2 });
}
