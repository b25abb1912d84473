//! Books: what one queue's thread writes down of the packets that it reads, and what that comes to.
//!
//! Keeps true: no allocation per packet. A packet of another run, or of nobody's, is in no result.

use crate::far::{Latency, Seen};
use crate::order::Sent;
use anyhow::Result;
use zsync_bench_xsk::Arrival;
use zsync_sink::clock::{Relation, Step};
use zsync_sink::sequence::{Seen as Place, Window};
use zsync_sink::{Expect, Sink, Source, Told};
use zsync_traffic::stream::{Class, classify};

/// Flows above which a flow's memory is a cache line, not three.
const MANY_FLOWS: u32 = 1_000_000;
/// Points of a curve for each factor of ten of its tail.
const POINTS: u32 = 12;
/// Arrivals that are written down at most: a gibibyte of them.
const LONGEST_LOG: u64 = 1 << 26;

/// What one queue's thread writes into.
pub(crate) struct Books {
    pub sink: Sink,
    run: u32,
    /// The sender's clock less this host's, for probes that tell the end of their time only.
    pub ahead_ns: i64,
    pub last_lost_ns: Option<u64>,
    pub log: Option<Vec<(u64, u64)>>,
}

impl Books {
    /// Empty ones.
    pub(crate) fn new(run: u32, flows: u32, relation: Relation, log: Option<u64>) -> Result<Self> {
        let window = if flows > MANY_FLOWS { Window::Narrow } else { Window::Wide };
        let mut sink = Sink::new(Expect { run, flows: flows.max(1), window })?;
        sink.set_clock(relation);
        let log = log.map(|most| -> Result<_> {
            let mut log = Vec::new();
            log.try_reserve_exact(most.min(LONGEST_LOG) as usize)?;
            Ok(log)
        });
        let log = log.transpose()?;
        Ok(Self { sink, run, ahead_ns: relation.ahead_ns, last_lost_ns: None, log })
    }

    /// A packet came.
    pub(crate) fn take(&mut self, packet: &[u8], arrival: Arrival) {
        let (arrived_ns, source) = match arrival {
            Arrival::Kernel(time) => (time, Source::Kernel),
            Arrival::Read(time) => (time, Source::User),
        };
        let bytes = packet.len() as u32;
        let probe = match classify(packet, arrived_ns.saturating_add_signed(self.ahead_ns)) {
            Class::Probe(probe) if probe.is_of(self.run) => probe,
            Class::Probe(_) | Class::Foreign => return self.sink.foreign(bytes),
            Class::Corrupt(_) => return self.sink.corrupt(bytes),
        };
        let known = self.sink.flow(probe.flow).map_or(0, |(counts, _)| counts.known);
        let arrival = zsync_sink::Arrival {
            run: self.run,
            flow: probe.flow,
            sequence: probe.sequence_near(known),
            departed_ns: probe.intended,
            sent_ns: probe.departed,
            arrived_ns,
            source,
            bytes,
        };
        if let Some(Place::First { skipped: 1.. }) = self.sink.arrive(&arrival) {
            self.last_lost_ns = Some(probe.departed);
        }
        // Never grows: it was made for all that are to come.
        if let Some(log) = self.log.as_mut().filter(|log| log.len() < log.capacity()) {
            log.push((arrival.sequence, arrived_ns));
        }
    }

    /// What they say; without word of the sender what was known to have been sent is what was sent. `dropped_here` packets
    /// were lost by this host.
    pub(crate) fn close(self, sent: Option<&Sent>, steps: &[Step], dropped_here: u64) -> Result<Seen> {
        let Self { sink, last_lost_ns, log, .. } = self;
        let known: Vec<u64>;
        let told = match sent {
            Some(sent) => Told {
                asked: sent.asked(),
                sent: &sent.flows,
                duration_ns: sent.duration().as_nanos() as u64,
                dropped_here,
                steps,
            },
            None => {
                let flows = (0..).map_while(|flow| sink.flow(flow));
                known = flows.map(|(counts, _)| counts.known).collect();
                let asked = known.iter().copied().fold(0, u64::saturating_add);
                Told { asked, sent: &known, duration_ns: sink.span_ns(), dropped_here, steps }
            }
        };
        let summary = sink.finish(&told)?;
        let timed = summary.latency_valid() && summary.intended.count > 0;
        let p = summary.intended;
        let latency = Latency { min: p.min, p50: p.p50, p90: p.p90, p99: p.p99, p999: p.p99_9, max: p.max };
        Ok(Seen {
            received: summary.books.counts.received,
            foreign: summary.foreign.packets,
            dropped_here,
            latency: timed.then_some(latency),
            curve: if timed { curve(sink.intended()) } else { vec![] },
            last_lost_ns,
            arrivals: log.unwrap_or_default(),
            verdicts: summary.verdicts.iter().map(ToString::to_string).collect(),
            counts_valid: summary.counts_valid(),
            text: summary.to_string(),
            load: 0,
        })
    }
}

/// Points of the latency curve: more of them the nearer to the slowest packet, down to the last one.
fn curve(latency: &zsync_sink::latency::Latency) -> Vec<(f64, u64)> {
    let last = 1.0 / latency.count().max(1) as f64;
    let parts = (0..).map(|step| 10f64.powf(-f64::from(step) / f64::from(POINTS)));
    let inner = parts.take_while(|left| *left > last).map(|left| 1.0 - left);
    inner.chain([1.0]).map(|part| (part, latency.quantile_ns(part))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_rises_from_the_least_to_the_greatest_with_a_point_for_the_slowest_packet() {
        let mut latency = zsync_sink::latency::Latency::new().unwrap();
        (1..=1000).for_each(|took| assert!(latency.record(0, took * 1000)));
        let curve = curve(&latency);
        assert!(curve.is_sorted());
        assert_eq!(curve.len() as u32, 3 * POINTS + 1);
        let (first, last) = (curve[0], curve[curve.len() - 1]);
        assert!(first.0 == 0.0 && first.1.abs_diff(1000) <= 10, "{first:?}");
        assert!(last.0 == 1.0 && last.1.abs_diff(1_000_000) <= 1_000, "{last:?}");
    }
}
