//! The live line: what a reader sees while a run goes on.
//!
//! Owns: counts since the last line, with a coarser histogram (two digits, 30 KiB), since the line is read at a glance.
//! Refuses: to call missing packets lost; they may still come. Formatting only: who asks says what time it is, and prints.

use crate::latency::LIMIT_NS;
use crate::sequence::{Counts, ratio};
use crate::sink::Sink;
use hdrhistogram::{CreationError, Histogram};
use std::fmt;

/// Counts since the last line, of one core or several.
#[derive(Debug)]
pub struct Interval {
    latencies: Histogram<u64>,
    received: u64,
    pub(crate) corrupt: u64,
    pub(crate) foreign: u64,
    so_far: Counts,
}

impl Interval {
    /// Nothing arrived yet.
    ///
    /// # Errors
    /// None with the bounds that this crate has; the histogram's constructor checks them.
    pub fn new() -> Result<Self, CreationError> {
        let latencies = Histogram::new_with_bounds(1, LIMIT_NS, 2)?;
        Ok(Self { latencies, received: 0, corrupt: 0, foreign: 0, so_far: Counts::default() })
    }

    /// Negative latencies are left to the summary.
    pub(crate) fn arrived(&mut self, departed_ns: u64, arrived_ns: u64) {
        self.received += 1;
        if let Some(took) = arrived_ns.checked_sub(departed_ns) {
            self.latencies.saturating_record(took.min(LIMIT_NS));
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        // Both have the same bounds, so this cannot fail.
        let _ = self.latencies.add(&other.latencies);
        self.received += other.received;
        self.corrupt += other.corrupt;
        self.foreign += other.foreign;
        self.so_far.add(&other.so_far);
    }

    fn clear(&mut self) {
        self.latencies.reset();
        (self.received, self.corrupt, self.foreign, self.so_far) = (0, 0, 0, Counts::default());
    }

    /// Takes what a sink counted since it was last taken from; several sinks' add up.
    pub fn take(&mut self, sink: &mut Sink) {
        self.merge(&sink.interval);
        self.so_far.add(&sink.totals.counts);
        sink.interval.clear();
    }

    /// The line for the `took_ns` since the last one, and an empty interval.
    pub fn line(&mut self, took_ns: u64) -> Line {
        let line = Line {
            packets_per_second: if took_ns == 0 { 0.0 } else { self.received as f64 * 1e9 / took_ns as f64 },
            received: self.so_far.received,
            missing: self.so_far.missing(),
            missing_ratio: ratio(self.so_far.missing(), self.so_far.known),
            p50_ns: self.latencies.value_at_quantile(0.5),
            p99_ns: self.latencies.value_at_quantile(0.99),
            foreign: self.foreign,
            corrupt: self.corrupt,
        };
        self.clear();
        line
    }
}

/// One line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Received in the interval, copies not counted, per second.
    pub packets_per_second: f64,
    /// Received since the run began.
    pub received: u64,
    /// Not arrived so far, of those below each flow's highest sequence.
    pub missing: u64,
    /// `missing` of the packets known to have been sent, 0 to 1.
    pub missing_ratio: f64,
    /// Median latency from the intended departure, in the interval.
    pub p50_ns: u64,
    /// 99 % of the latencies do not exceed this, in the interval.
    pub p99_ns: u64,
    /// Packets of others, in the interval.
    pub foreign: u64,
    /// Corrupt packets, in the interval.
    pub corrupt: u64,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}  received {}  missing {} ({})  latency p50 {} p99 {}",
            Rate(self.packets_per_second),
            self.received,
            self.missing,
            Percent(self.missing_ratio),
            Nanos(self.p50_ns as f64),
            Nanos(self.p99_ns as f64),
        )?;
        if self.foreign > 0 {
            write!(f, "  FOREIGN {}", self.foreign)?;
        }
        if self.corrupt > 0 {
            write!(f, "  corrupt {}", self.corrupt)?;
        }
        Ok(())
    }
}

/// Nanoseconds in the unit that suits them.
pub struct Nanos(pub f64);

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            ns if ns < 999.5 => format!("{ns:.0} ns"),
            ns if ns < 999_995.0 => format!("{:.2} µs", ns / 1e3),
            ns if ns < 999_995_000.0 => format!("{:.2} ms", ns / 1e6),
            ns => format!("{:.2} s", ns / 1e9),
        };
        f.pad(&text)
    }
}

/// Packets per second in the unit that suits them.
pub struct Rate(pub f64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            rate if rate < 999.5 => format!("{rate:.0} pps"),
            rate if rate < 999_995.0 => format!("{:.2} kpps", rate / 1e3),
            rate => format!("{:.2} Mpps", rate / 1e6),
        };
        f.pad(&text)
    }
}

/// A share with enough digits that one packet in a million shows, and never rounded down to none.
pub struct Percent(pub f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 0.0 && self.0 < 0.000_000_5 {
            return f.pad("< 0.0001 %");
        }
        f.pad(&format!("{:.4} %", self.0 * 100.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrival::{Arrival, Expect, Source};
    use crate::sequence::Window;

    fn arrival(sequence: u64, took_ns: u64) -> Arrival {
        let (departed_ns, bytes) = (sequence * 1_000, 60);
        let arrived_ns = departed_ns + took_ns;
        let source = Source::Kernel;
        Arrival { run: 1, flow: 0, sequence, departed_ns, sent_ns: departed_ns, arrived_ns, source, bytes }
    }

    #[test]
    fn a_line_tells_the_interval_s_rate_and_latency_and_the_run_s_losses() {
        let mut sink = Sink::new(Expect { run: 1, flows: 1, window: Window::Wide }).unwrap();
        let mut interval = Interval::new().unwrap();
        for sequence in (0..1_000).filter(|sequence| sequence % 10 != 5) {
            sink.arrive(&arrival(sequence, 50_000));
        }
        sink.foreign(60);
        interval.take(&mut sink);
        let line = interval.line(1_000_000);
        assert_eq!(
            line.to_string(),
            "900.00 kpps  received 900  missing 100 (10.0000 %)  latency p50 50.17 µs p99 50.17 µs  FOREIGN 1"
        );
        for sequence in [995, 1_000] {
            sink.arrive(&arrival(sequence, 800));
        }
        interval.take(&mut sink);
        let line = interval.line(1_000_000);
        assert_eq!(
            (line.packets_per_second, line.received, line.missing, line.foreign),
            (2_000.0, 902, 99, 0)
        );
        assert!((800..=808).contains(&line.p99_ns), "only the interval's: {}", line.p99_ns);
    }

    #[test]
    fn two_cores_add_up_in_one_line() {
        let mut interval = Interval::new().unwrap();
        for flow in 0..2 {
            let mut sink = Sink::new(Expect { run: 1, flows: 2, window: Window::Wide }).unwrap();
            sink.arrive(&Arrival { flow, ..arrival(3, 10) });
            sink.corrupt(60);
            interval.take(&mut sink);
        }
        let line = interval.line(0);
        assert_eq!((line.received, line.missing, line.corrupt, line.packets_per_second), (2, 6, 2, 0.0));
    }

    #[test]
    fn the_smallest_loss_does_not_show_as_none() {
        assert_eq!(Percent(1e-12).to_string(), "< 0.0001 %");
        assert_eq!(Percent(0.0).to_string(), "0.0000 %");
        assert_eq!(Nanos(999.7).to_string(), "1.00 µs");
    }
}
