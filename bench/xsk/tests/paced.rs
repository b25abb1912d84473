//! Pacing: from one packet a second to half a million, as many leave as the rate says; and how evenly, as a report.

mod common;

use std::time::Duration;

use common::{in_namespace, received, write};
use zsync_bench_xsk::{Options, Rate, Transmitter, Until, clock};

/// Runs of a rate until one is exact: on a machine that others use, a sender is kept from its core at times, and what it is
/// late by more than 20 ms it does not make up for.
const TRIES: usize = 8;

/// Packets, the mean interval, and how far from it each one was, sorted, in ns.
fn paced(rate: f64, time: Duration) -> (u64, Option<f64>, Vec<u64>) {
    let mut transmitter = Transmitter::open("va", 0, &Options::default()).unwrap();
    let before = received("vb").0;
    let mut times = Vec::with_capacity((rate * time.as_secs_f64()) as usize + 2);
    let mut next = 0;
    let sent = transmitter
        .send_until(Rate::PerSecond(rate), Until::elapsed(time), |frame| {
            times.push(clock::now());
            next += 1;
            write(frame, next)
        })
        .unwrap();
    assert_eq!(received("vb").0 - before, sent.packets - sent.refused, "what was sent arrives");
    let off = |pair: &[u64]| ((pair[1] - pair[0]) as f64 - 1e9 / rate).abs() as u64;
    let mut spread: Vec<u64> = times.windows(2).map(off).collect();
    spread.sort_unstable();
    (sent.packets, sent.mean_interval(), spread)
}

#[test]
fn every_rate_is_kept_to_a_hundredth() {
    in_namespace(|| {
        for (rate, seconds) in [(1.0, 3), (1e3, 1), (1e5, 1), (5e5, 1)] {
            let exact = (0..TRIES).any(|_| {
                let (packets, interval, spread) = paced(rate, Duration::from_secs(seconds));
                // Never more than the schedule has, from its first packet on.
                assert!(packets <= rate as u64 * seconds + 1, "{packets} packets at {rate}/s in {seconds} s");
                let reached = interval.map_or(0.0, |interval| 1e9 / interval);
                let at = |part: f64| spread.get(((spread.len() - 1) as f64 * part) as usize).copied().unwrap_or(0);
                println!(
                    "{rate}/s: {packets} packets, {reached:.3}/s; from the even interval: p50 {} ns, p99 {} ns, most {} ns",
                    at(0.5),
                    at(0.99),
                    at(1.0),
                );
                (reached / rate - 1.0).abs() <= 0.01
            });
            // Half a million a second leaves a busy core no time to be late.
            assert!(exact || rate > 1e5, "never within 1 % of {rate}/s in {TRIES} runs");
        }
    });
}
