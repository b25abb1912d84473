//! The summary: everything that a run told, with the verdicts on it.
//!
//! Owns: the closed books of all flows and the figures beside them. Refuses: to close books that contradict each other.
//! Keeps true: `sent = received + lost`, and no latency is shown as valid beside a verdict that spoils it.

use crate::arrival::{Expect, Source};
use crate::clock::Step;
use crate::latency::Percentiles;
use crate::live::{Nanos, Percent, Rate};
use crate::sequence::{Books, BooksError, OFFSET_CLASSES};
use crate::sink::Sink;
use crate::totals::Stray;
use crate::verdict::{Spoils, Verdict};
use std::fmt;

/// What the sink cannot know by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told<'a> {
    /// Packets that the run asked for: rate by time.
    pub asked: u64,
    /// Packets that the sender sent, for each flow.
    pub sent: &'a [u64],
    /// How long the sender sent, in nanoseconds.
    pub duration_ns: u64,
    /// Packets that this host's device, kernel or rings dropped before the sink saw them.
    pub dropped_here: u64,
    /// Steps of either host's clock during the run.
    pub steps: &'a [Step],
}

/// Variation of the times on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Jitter {
    /// RFC 3550's smoothed jitter at the end: the mean over the flows that received, in nanoseconds.
    pub mean_ns: f64,
    /// The greatest of any flow.
    pub max_ns: f64,
    /// Pairs of neighbours that RFC 3393's variation is of.
    pub pairs: u64,
    /// Of the pairs, how many were longer and how many shorter on the way than the packet before.
    pub longer_shorter: (u64, u64),
    /// Half of the pairs vary by no more, without sign.
    pub ipdv_p50_ns: u64,
    /// 99 % vary by no more.
    pub ipdv_p99_ns: u64,
    /// The greatest, to three digits.
    pub ipdv_max_ns: u64,
}

/// A run's result.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// What was expected.
    pub expect: Expect,
    /// All flows' books.
    pub books: Books,
    /// Flows that lost packets.
    pub flows_with_loss: u32,
    /// Flows that were sent and of which nothing arrived.
    pub silent_flows: u32,
    /// The flow that lost most.
    pub worst: Option<(u32, Books)>,
    /// Reordered packets by offset: 1, 2 to 3, 4 to 7, and so on.
    pub offsets: [u64; OFFSET_CLASSES],
    /// Bytes received, copies not counted.
    pub bytes: u64,
    /// Corrupt packets; in their flows they are lost.
    pub corrupt: Stray,
    /// Others' packets.
    pub foreign: Stray,
    /// Arrivals stamped by hardware, kernel and program.
    pub sources: [u64; 3],
    /// Packets asked for.
    pub asked: u64,
    /// How long was sent, in nanoseconds.
    pub duration_ns: u64,
    /// From the first arrival to the last, in nanoseconds.
    pub received_ns: u64,
    /// Latency from the intended departure.
    pub intended: Percentiles,
    /// Latency from the actual departure.
    pub actual: Percentiles,
    /// How far both may be wrong because of the clocks.
    pub clock_error_ns: u64,
    /// Variation.
    pub jitter: Jitter,
    /// Why this is no measurement; empty where it is one.
    pub verdicts: Vec<Verdict>,
}

impl Summary {
    pub(crate) fn new(sink: &Sink, told: &Told<'_>) -> Result<Self, BooksError> {
        let flows = sink.tracks.len();
        if told.sent.len() != flows {
            return Err(BooksError::Flows { told: told.sent.len(), flows });
        }
        let (mut books, mut worst, mut jitter) = (Books::default(), None::<(u32, Books)>, Jitter::default());
        let (mut flows_with_loss, mut silent_flows, mut heard) = (0, 0, 0u32);
        for (flow, &sent) in (0..).zip(told.sent) {
            let (counts, jitter_ns) = sink.flow(flow).unwrap_or_default();
            let closed = counts.close(flow, sent)?;
            books.add(&closed);
            flows_with_loss += u32::from(closed.lost > 0);
            silent_flows += u32::from(sent > 0 && counts.received == 0);
            if closed.lost > worst.map_or(0, |(_, worst)| worst.lost) {
                worst = Some((flow, closed));
            }
            if counts.received > 0 {
                heard += 1;
                jitter.mean_ns += f64::from(jitter_ns);
                jitter.max_ns = jitter.max_ns.max(f64::from(jitter_ns));
            }
        }
        jitter.mean_ns /= f64::from(heard.max(1));
        let variation = &sink.variation;
        jitter.pairs = variation.pairs();
        jitter.longer_shorter = (variation.longer(), variation.shorter());
        jitter.ipdv_p50_ns = variation.quantile_ns(0.5);
        jitter.ipdv_p99_ns = variation.quantile_ns(0.99);
        jitter.ipdv_max_ns = variation.quantile_ns(1.0);
        let mut summary = Self {
            expect: sink.expect,
            books,
            flows_with_loss,
            silent_flows,
            worst,
            offsets: sink.totals.offsets,
            bytes: sink.totals.bytes,
            corrupt: sink.totals.corrupt,
            foreign: sink.totals.foreign,
            sources: sink.totals.sources,
            asked: told.asked,
            duration_ns: told.duration_ns,
            received_ns: sink.totals.arrivals.length_ns(),
            intended: sink.intended.percentiles(),
            actual: sink.actual.percentiles(),
            clock_error_ns: sink.clock_error_ns(),
            jitter,
            verdicts: Vec::new(),
        };
        summary.verdicts = summary.judge(sink, told);
        Ok(summary)
    }

    fn judge(&self, sink: &Sink, told: &Told<'_>) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let mut say = |when: bool, verdict: Verdict| verdicts.extend(when.then_some(verdict));
        let (asked, offered) = (told.asked, self.books.sent);
        say(self.books.counts.received == 0, Verdict::NoPackets);
        // Less than 99 in 100, in numbers that cannot overflow.
        let slow = u128::from(offered) * 100 < u128::from(asked) * 99;
        say(slow, Verdict::GeneratorTooSlow { asked, offered });
        say(told.dropped_here > 0, Verdict::SinkDropped { packets: told.dropped_here });
        say(self.foreign.packets > 0, Verdict::Foreign { packets: self.foreign.packets });
        let too_old = self.books.counts.too_old;
        say(too_old > 0, Verdict::TooOld { packets: too_old });
        told.steps.iter().for_each(|&step| say(true, Verdict::ClockStepped { step }));
        let (intended, actual) = (sink.intended(), sink.actual());
        let packets = intended.negative().max(actual.negative());
        say(packets > 0, Verdict::Negative { packets });
        let packets = intended.saturated().max(actual.saturated());
        say(packets > 0, Verdict::Saturated { packets });
        let (error_ns, p50_ns) = (self.clock_error_ns, self.actual.p50);
        let uncertain = self.actual.count > 0 && error_ns > p50_ns / 2;
        say(uncertain, Verdict::ClockUncertain { error_ns, p50_ns });
        let mixed = self.sources.iter().filter(|&&packets| packets > 0).count() > 1;
        say(mixed, Verdict::MixedSources);
        verdicts
    }

    /// Whether nothing speaks against the result.
    pub const fn is_measurement(&self) -> bool {
        self.verdicts.is_empty()
    }

    /// Whether the counts (loss, copies, order, rates) measure the device under test.
    pub fn counts_valid(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.spoils() != Spoils::All)
    }

    /// Whether the latencies measure the device under test.
    pub const fn latency_valid(&self) -> bool {
        self.is_measurement()
    }

    fn per_second(&self, packets: u64) -> Rate {
        let seconds = self.duration_ns as f64 / 1e9;
        Rate(if seconds > 0.0 { packets as f64 / seconds } else { 0.0 })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (books, counts) = (&self.books, &self.books.counts);
        let row = |f: &mut fmt::Formatter<'_>, name: &str, packets: u64, rest: &dyn fmt::Display| {
            writeln!(f, "{}", format!("  {name:<12}{packets:>16}  {rest}").trim_end())
        };
        let flows = self.expect.flows;
        let seconds = self.duration_ns as f64 / 1e9;
        writeln!(f, "run {}, {flows} flows, {seconds:.3} s", self.expect.run)?;
        row(f, "asked", self.asked, &self.per_second(self.asked))?;
        row(f, "sent", books.sent, &self.per_second(books.sent))?;
        row(f, "received", counts.received, &self.per_second(counts.received))?;
        row(f, "lost", books.lost, &Percent(books.loss_ratio()))?;
        let of_flows = format!("in {} flows; {} flows silent", self.flows_with_loss, self.silent_flows);
        writeln!(f, "  {:<12}{:>16}  {of_flows}", "", "")?;
        if let Some((flow, worst)) = &self.worst {
            let text = format!("flow {flow} lost most: {} of {}", worst.lost, worst.sent);
            writeln!(f, "  {:<12}{:>16}  {text}", "", "")?;
        }
        row(f, "duplicated", counts.duplicated, &"")?;
        row(f, "reordered", counts.reordered, &Percent(books.reordered_ratio()))?;
        for (class, &packets) in self.offsets.iter().enumerate().filter(|(_, packets)| **packets > 0) {
            row(f, "", packets, &format!("overtaken by {} to {}", 1 << class, (2u32 << class) - 1))?;
        }
        row(f, "too old", counts.too_old, &"")?;
        row(f, "corrupt", self.corrupt.packets, &"lost in their flows")?;
        row(f, "foreign", self.foreign.packets, &"")?;
        let valid = if self.latency_valid() { "" } else { ", INVALID" };
        writeln!(f, "latency{valid}, ± {} of the clocks", Nanos(self.clock_error_ns as f64))?;
        writeln!(f, "  {:<8}{:>18}{:>18}", "", "from schedule", "from departure")?;
        let (a, b) = (&self.intended, &self.actual);
        let rows = [("min", a.min as f64, b.min as f64), ("mean", a.mean, b.mean)].into_iter();
        let rows =
            rows.chain([("p50", a.p50, b.p50), ("p90", a.p90, b.p90), ("p99", a.p99, b.p99)].map(wide));
        let rows = rows.chain(
            [("p99.9", a.p99_9, b.p99_9), ("p99.99", a.p99_99, b.p99_99), ("max", a.max, b.max)].map(wide),
        );
        for (name, intended, actual) in rows {
            writeln!(f, "  {name:<8}{:>18}{:>18}", Nanos(intended), Nanos(actual))?;
        }
        let jitter = &self.jitter;
        let (mean, max) = (Nanos(jitter.mean_ns), Nanos(jitter.max_ns));
        writeln!(f, "  jitter (RFC 3550): mean {mean}, worst flow {max}")?;
        let [p50, p99, max] =
            [jitter.ipdv_p50_ns, jitter.ipdv_p99_ns, jitter.ipdv_max_ns].map(|ns| Nanos(ns as f64));
        writeln!(f, "  variation (RFC 3393): p50 {p50}, p99 {p99}, max {max} of {} pairs", jitter.pairs)?;
        for (source, packets) in Source::ALL.into_iter().zip(self.sources).filter(|(_, packets)| *packets > 0)
        {
            writeln!(f, "  {packets} arrivals stamped by {}", source.name())?;
        }
        if self.is_measurement() {
            return Ok(());
        }
        writeln!(f, "NO MEASUREMENT{}:", if self.counts_valid() { " of latency" } else { "" })?;
        self.verdicts.iter().try_for_each(|verdict| writeln!(f, "  - {verdict}"))
    }
}

fn wide((name, intended, actual): (&'static str, u64, u64)) -> (&'static str, f64, f64) {
    (name, intended as f64, actual as f64)
}

#[cfg(test)]
mod tests;
