use super::super::pace::Rate;
use super::super::{Colour, SKEW};
use super::*;
use proptest::prelude::*;
use std::array::from_fn;
use std::thread;

const SECOND: u64 = 1_000_000_000;
/// A byte a microsecond, so that all spans are whole and nothing is rounded but the last bit.
const RATE: u64 = 8_000_000;

fn pace(rate: u64) -> Pace {
    Pace::new(Rate::Bits(rate), 0).unwrap()
}

fn state() -> [AtomicU64; 2] {
    from_fn(|_| AtomicU64::new(0))
}

/// RFC 2697 §3 as it is written: Tc and Te in thousandths of a byte.
struct Rfc2697 {
    cbs: u64,
    ebs: u64,
    tc: u64,
    te: u64,
    at: u64,
}

impl Rfc2697 {
    fn colour(&mut self, now: u64, bytes: u64, came: Colour) -> Colour {
        // A thousandth of a byte a nanosecond: first to C, what is too much to E.
        let room = self.cbs - self.tc;
        let new = now - self.at;
        self.at = now;
        self.tc += new.min(room);
        self.te = (self.te + new.saturating_sub(room)).min(self.ebs);
        let cost = bytes * 1000;
        if came == Colour::Green && self.tc >= cost {
            self.tc -= cost;
            Colour::Green
        } else if came != Colour::Red && self.te >= cost {
            self.te -= cost;
            Colour::Yellow
        } else {
            Colour::Red
        }
    }
}

/// RFC 2698 §3: Tc and Tp.
struct Rfc2698 {
    cbs: u64,
    pbs: u64,
    tc: u64,
    tp: u64,
    at: u64,
}

impl Rfc2698 {
    fn colour(&mut self, now: u64, bytes: u64, came: Colour) -> Colour {
        let new = now - self.at;
        self.at = now;
        self.tc = (self.tc + new).min(self.cbs);
        self.tp = (self.tp + 4 * new).min(self.pbs);
        let cost = bytes * 1000;
        if came == Colour::Red || self.tp < cost {
            return Colour::Red;
        }
        self.tp -= cost;
        if came == Colour::Yellow || self.tc < cost {
            return Colour::Yellow;
        }
        self.tc -= cost;
        Colour::Green
    }
}

fn colour() -> impl Strategy<Value = Colour> {
    prop_oneof![4 => Just(Colour::Green), 1 => Just(Colour::Yellow), 1 => Just(Colour::Red)]
}

/// Steps in microseconds, packets, and the colours that they came with.
fn arrivals() -> impl Strategy<Value = Vec<(u64, u64, Colour)>> {
    let step = prop_oneof![3 => Just(0), 5 => 1..3000u64, 1 => Just(100_000)];
    prop::collection::vec((step, 1..1600u64, colour()), 1..500)
}

fn writers() -> impl Strategy<Value = Writers> {
    prop_oneof![Just(Writers::One), Just(Writers::Many)]
}

proptest! {
    /// Sequence by sequence as the RFC says. Each decision rounds up by less than a thousandth of a byte, so bursts are a
    /// byte off all packet sizes' sums: no sum comes out even.
    #[test]
    fn srtcm_colours_as_rfc_2697_says(
        cbs in 0..20_000u64, ebs in 0..20_000u64, writers in writers(), aware in any::<bool>(), arrivals in arrivals(),
    ) {
        let meter = SrTcm::new(pace(RATE), cbs * 2 + 1, ebs * 2 + 1).unwrap();
        let (state, mut now) = (state(), SECOND);
        let (cbs, ebs) = ((cbs * 2 + 1) * 1000, (ebs * 2 + 1) * 1000);
        let mut rfc = Rfc2697 { cbs, ebs, tc: cbs, te: ebs, at: now };
        for (step, bytes, came) in arrivals {
            // Even packets, odd bursts, whole microseconds that are even: never exactly enough.
            (now, _) = (now + step * 2000, ());
            let came = if aware { came } else { Colour::Green };
            let expected = rfc.colour(now, bytes * 2, came);
            prop_assert_eq!(meter.take(&state, now, bytes * 2, came, writers), expected);
        }
    }

    #[test]
    fn trtcm_colours_as_rfc_2698_says(
        cbs in 0..20_000u64, pbs in 0..20_000u64, writers in writers(), aware in any::<bool>(), arrivals in arrivals(),
    ) {
        let meter = TrTcm::new(pace(RATE), cbs * 2 + 1, pace(4 * RATE), pbs * 2 + 1).unwrap();
        let (state, mut now) = (state(), SECOND);
        let (cbs, pbs) = ((cbs * 2 + 1) * 1000, (pbs * 2 + 1) * 1000);
        let mut rfc = Rfc2698 { cbs, pbs, tc: cbs, tp: pbs, at: now };
        for (step, bytes, came) in arrivals {
            now += step * 2000;
            let came = if aware { came } else { Colour::Green };
            let expected = rfc.colour(now, bytes * 2, came);
            prop_assert_eq!(meter.take(&state, now, bytes * 2, came, writers), expected);
        }
    }

    /// What is taken together is what would be taken one by one, and the state after it is the same.
    #[test]
    fn packets_taken_together_leave_the_same_state(sizes in prop::collection::vec(1..1500u64, 1..64), writers in writers()) {
        let total: u64 = sizes.iter().sum();
        let (sr, tr) = (
            SrTcm::new(pace(RATE), 30_000, 10_000).unwrap(),
            TrTcm::new(pace(RATE), 30_000, pace(2 * RATE), 40_000).unwrap(),
        );
        let close = |one: &[AtomicU64; 2], other: &[AtomicU64; 2]| {
            one.iter().zip(other).all(|(a, b)| a.load(SeqCst).abs_diff(b.load(SeqCst)) <= 64)
        };
        let (together, single) = (state(), state());
        if sr.take_all(&together, SECOND, total, writers) {
            for &bytes in &sizes {
                prop_assert_eq!(sr.take(&single, SECOND, bytes, Colour::Green, writers), Colour::Green);
            }
            prop_assert!(close(&together, &single));
        }
        let (together, single) = (state(), state());
        if tr.take_all(&together, SECOND, total, writers) {
            for &bytes in &sizes {
                prop_assert_eq!(tr.take(&single, SECOND, bytes, Colour::Green, writers), Colour::Green);
            }
            prop_assert!(close(&together, &single));
        } else {
            prop_assert!(total * 2 > 29_000, "{}", total);
        }
    }
}

#[test]
fn the_excess_burst_fills_from_what_the_committed_one_has_too_much() {
    let (meter, state) = (SrTcm::new(pace(RATE), 2_001, 3_001).unwrap(), state());
    let take = |now| meter.take(&state, now, 1000, Colour::Green, Writers::One);
    let drained: Vec<_> = (0..6).map(|_| take(SECOND)).collect();
    let (green, yellow, red) = (Colour::Green, Colour::Yellow, Colour::Red);
    assert_eq!(drained, [green, green, yellow, yellow, yellow, red]);
    // 3 ms: two of them fill C, the third goes to E.
    let later = SECOND + 3_000_000;
    assert_eq!([take(later), take(later), take(later), take(later)], [green, green, yellow, red]);
}

#[test]
fn after_a_clock_that_goes_back_the_buckets_fill_from_empty() {
    let sr = SrTcm::new(pace(RATE), 2_001, 3_001).unwrap();
    let tr = TrTcm::new(pace(RATE), 2_001, pace(RATE * 2), 5_001).unwrap();
    let (sr_state, tr_state) = (state(), state());
    let flood = |now: u64| {
        let sr = (0..20).map(|_| sr.take(&sr_state, now, 1000, Colour::Green, Writers::Many));
        let sr: Vec<_> = sr.filter(|&c| c != Colour::Red).collect();
        let tr = (0..20).map(|_| tr.take(&tr_state, now, 1000, Colour::Green, Writers::Many));
        (sr.len(), tr.filter(|&c| c != Colour::Red).count())
    };
    assert_eq!(flood(5_000 * SECOND), (5, 5));
    assert_eq!(flood(4_000 * SECOND), (0, 0));
    assert_eq!(flood(4_000 * SECOND + 1_100_000), (1, 2));
    assert_eq!(flood(4_000 * SECOND - SKEW / 2), (0, 0));
    assert_eq!(flood(4_010 * SECOND), (5, 5));
}

#[test]
fn refuses_bursts_of_nothing_and_of_hours() {
    assert_eq!(SrTcm::new(pace(RATE), 0, 0), None);
    assert!(SrTcm::new(pace(RATE), 0, 1).is_some());
    assert_eq!(SrTcm::new(pace(1_000), 1 << 30, 0), None);
    assert_eq!(TrTcm::new(pace(1_000), 1 << 30, pace(RATE), 1), None);
}

/// Green, and green or yellow, of what four workers pass at once, in bytes: each sends ten times the rate for 100 ms.
fn four_workers(take: impl Fn(u64) -> Colour + Sync) -> (u64, u64) {
    thread::scope(|scope| {
        let worker = |_| {
            scope.spawn(|| {
                let colours = (0..10_000u64).map(|n| take(SECOND + n * 10_000));
                colours.fold((0, 0), |(green, both), colour| match colour {
                    Colour::Green => (green + 100, both + 100),
                    Colour::Yellow => (green, both + 100),
                    Colour::Red => (green, both),
                })
            })
        };
        let workers: Vec<_> = (0..4).map(worker).collect();
        workers.into_iter().map(|w| w.join().unwrap()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    })
}

#[test]
fn several_workers_together_never_get_more_than_one_would() {
    let (sr, sr_state) = (SrTcm::new(pace(RATE), 5_000, 7_000).unwrap(), state());
    let (green, both) = four_workers(|now| sr.take(&sr_state, now, 100, Colour::Green, Writers::Many));
    assert!(green <= 105_000 && green > 90_000, "{green}");
    assert!(both <= 112_000 && both > 95_000, "{both}");
    let (tr, tr_state) = (TrTcm::new(pace(RATE), 5_000, pace(2 * RATE), 7_000).unwrap(), state());
    let (green, both) = four_workers(|now| tr.take(&tr_state, now, 100, Colour::Green, Writers::Many));
    assert!(green <= 105_000 && green > 90_000, "{green}");
    assert!(both <= 207_000 && both > 190_000, "{both}");
}
