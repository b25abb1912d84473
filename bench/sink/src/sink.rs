//! The sink: takes arrivals, keeps the counts of all the nouns, and closes the books.
//!
//! Owns: the flows, both latency histograms, and totals. Refuses: packets of another run or flow; they are counted apart
//! and are in no result. A corrupt packet belongs to no flow, because its words cannot be trusted, so in its flow it is
//! lost. Keeps true: no allocation per packet. One sink is one core's; a flow must reach one core only, as a NIC's
//! receive hash sees to, because the order of two cores' packets is known to nobody.

use crate::arrival::{Arrival, Expect};
use crate::clock::Relation;
use crate::latency::Latency;
use crate::live::Interval;
use crate::sequence::{BooksError, Counts, OFFSET_CLASSES, Seen, Tracks};
use crate::summary::{Summary, Told};
use crate::totals::{Span, Totals};
use crate::variation::Variation;
use hdrhistogram::CreationError;
use thiserror::Error;

/// Why a sink cannot be made, or two cannot be one.
#[derive(Debug, Error)]
pub enum SinkError {
    /// No memory.
    #[error("no memory for {flows} flows of {bytes_each} bytes: ask for fewer, or for the narrow window")]
    NoRoom {
        /// Flows that were asked for.
        flows: u32,
        /// What each takes.
        bytes_each: usize,
    },
    /// A histogram could not be made.
    #[error("latency histogram: {0}")]
    Histogram(#[from] CreationError),
    /// They are of different runs.
    #[error("two sinks of different runs cannot be merged: {ours:?} and {theirs:?}")]
    OtherRun {
        /// What this one expects.
        ours: Expect,
        /// What the other expects.
        theirs: Expect,
    },
    /// A flow reached two cores, so its order is unknown.
    #[error("flow {flow} reached two cores, so its order is unknown: steer each flow to one queue")]
    SplitFlow {
        /// The first such flow.
        flow: u32,
    },
}

/// Flows whose memory is asked for at once: more misses than that no core has under way.
const AHEAD: usize = 32;

/// One core's counts of a run.
#[derive(Debug)]
pub struct Sink {
    pub(crate) expect: Expect,
    pub(crate) tracks: Tracks,
    pub(crate) totals: Totals,
    pub(crate) intended: Latency,
    pub(crate) actual: Latency,
    pub(crate) variation: Variation,
    clock: Relation,
    former_error_ns: u64,
    pub(crate) interval: Interval,
}

impl Sink {
    /// A sink for a run. Takes all memory that it will ever use.
    ///
    /// # Errors
    /// [`SinkError::NoRoom`].
    pub fn new(expect: Expect) -> Result<Self, SinkError> {
        let no_room =
            || SinkError::NoRoom { flows: expect.flows, bytes_each: expect.window.bytes_per_flow() };
        Ok(Self {
            expect,
            tracks: Tracks::new(expect.window, expect.flows).ok_or_else(no_room)?,
            totals: Totals::NONE,
            intended: Latency::new()?,
            actual: Latency::new()?,
            variation: Variation::new()?,
            clock: Relation::SAME,
            former_error_ns: 0,
            interval: Interval::new()?,
        })
    }

    /// From here on the sender's clock relates to this host's like this; before the first call they are the same.
    pub fn set_clock(&mut self, clock: Relation) {
        self.former_error_ns = self.clock_error_ns();
        self.clock = clock;
    }

    /// A packet arrived. Says what it was to its flow, or `None` where it is of another run or flow.
    pub fn arrive(&mut self, arrival: &Arrival) -> Option<Seen> {
        if arrival.run != self.expect.run {
            self.foreign(arrival.bytes);
            return None;
        }
        let transit_ns = arrival.arrived_ns.wrapping_sub(arrival.sent_ns) as i64;
        let seen = self.tracks.note(arrival.flow, arrival.sequence, transit_ns, &mut self.variation);
        let Some(seen) = seen else {
            self.foreign(arrival.bytes);
            return None;
        };
        let counts = &mut self.totals.counts;
        match seen {
            Seen::First { skipped } => {
                counts.received += 1;
                counts.known = counts.known.saturating_add(skipped).saturating_add(1);
            }
            Seen::Late { offset } => {
                counts.received += 1;
                counts.reordered += 1;
                let class = offset.checked_ilog2().unwrap_or(0) as usize;
                self.totals.offsets[class.min(OFFSET_CLASSES - 1)] += 1;
            }
            Seen::Duplicate => counts.duplicated += 1,
            Seen::TooOld => counts.too_old += 1,
        }
        if matches!(seen, Seen::First { .. } | Seen::Late { .. }) {
            self.time(arrival);
        }
        Some(seen)
    }

    /// Packets arrived, up to a burst of them: as [`Sink::arrive`] for each, in order, and `each` is told what it was.
    /// With many flows this is the quicker way: their misses in the caches do not wait for each other.
    pub fn arrive_all(&mut self, arrivals: &[Arrival], mut each: impl FnMut(&Arrival, Option<Seen>)) {
        for arrivals in arrivals.chunks(AHEAD) {
            self.tracks.touch(arrivals.iter().map(|arrival| (arrival.flow, arrival.sequence)));
            for arrival in arrivals {
                let seen = self.arrive(arrival);
                each(arrival, seen);
            }
        }
    }

    fn time(&mut self, arrival: &Arrival) {
        self.totals.bytes += u64::from(arrival.bytes);
        self.totals.sources[arrival.source as usize] += 1;
        self.totals.departures.cover(Span { first: arrival.sent_ns, last: arrival.sent_ns });
        self.totals.arrivals.cover(Span { first: arrival.arrived_ns, last: arrival.arrived_ns });
        let departed_ns = self.clock.here_ns(arrival.departed_ns);
        self.intended.record(departed_ns, arrival.arrived_ns);
        self.actual.record(self.clock.here_ns(arrival.sent_ns), arrival.arrived_ns);
        self.interval.arrived(departed_ns, arrival.arrived_ns);
    }

    /// A packet arrived whose checksum or marks are wrong.
    pub const fn corrupt(&mut self, bytes: u32) {
        self.totals.corrupt.count(bytes);
        self.interval.corrupt += 1;
    }

    /// A packet arrived that is not of this run.
    pub const fn foreign(&mut self, bytes: u32) {
        self.totals.foreign.count(bytes);
        self.interval.foreign += 1;
    }

    /// A flow's counts so far, and its jitter (RFC 3550) in nanoseconds.
    pub fn flow(&self, flow: u32) -> Option<(Counts, f32)> {
        self.tracks.flow(flow as usize)
    }

    /// Packets of the run so far, copies not counted.
    pub const fn received(&self) -> u64 {
        self.totals.counts.received
    }

    /// From the first arrival to the last, in nanoseconds.
    pub const fn span_ns(&self) -> u64 {
        self.totals.arrivals.length_ns()
    }

    /// The histogram from the intended departure.
    pub const fn intended(&self) -> &Latency {
        &self.intended
    }

    /// The histogram from the actual departure.
    pub const fn actual(&self) -> &Latency {
        &self.actual
    }

    /// The variation of the packets' times on the way.
    pub const fn variation(&self) -> &Variation {
        &self.variation
    }

    /// How far the relation of the clocks may have been wrong for any packet so far.
    pub(crate) fn clock_error_ns(&self) -> u64 {
        let Span { first, last } = self.totals.departures;
        if first > last {
            return self.former_error_ns;
        }
        self.former_error_ns.max(self.clock.error_at_ns(first)).max(self.clock.error_at_ns(last))
    }

    /// Takes over another core's counts of the same run.
    ///
    /// # Errors
    /// [`SinkError::OtherRun`] and [`SinkError::SplitFlow`]; this sink is as before then.
    pub fn merge(&mut self, other: &Self) -> Result<(), SinkError> {
        if self.expect != other.expect {
            return Err(SinkError::OtherRun { ours: self.expect, theirs: other.expect });
        }
        if let Some(flow) = self.tracks.shared(&other.tracks) {
            return Err(SinkError::SplitFlow { flow: flow as u32 });
        }
        self.former_error_ns = self.clock_error_ns().max(other.clock_error_ns());
        self.tracks.take_over(&other.tracks);
        self.totals.add(&other.totals);
        self.intended.merge(&other.intended);
        self.actual.merge(&other.actual);
        self.variation.merge(&other.variation);
        self.interval.merge(&other.interval);
        Ok(())
    }

    /// Closes the books, once nothing can arrive any more.
    ///
    /// # Errors
    /// What arrived and what was sent contradict each other.
    pub fn finish(&self, told: &Told<'_>) -> Result<Summary, BooksError> {
        Summary::new(self, told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrival::Source;
    use crate::sequence::Window;
    use crate::totals::Stray;

    const EXPECT: Expect = Expect { run: 9, flows: 2, window: Window::Narrow };
    const ARRIVAL: Arrival = Arrival {
        run: 9,
        flow: 0,
        sequence: 0,
        departed_ns: 100,
        sent_ns: 150,
        arrived_ns: 1_150,
        source: Source::Kernel,
        bytes: 60,
    };

    #[test]
    fn packets_of_another_run_or_flow_are_foreign_and_in_no_result() {
        let mut sink = Sink::new(EXPECT).unwrap();
        assert_eq!(sink.arrive(&Arrival { run: 8, ..ARRIVAL }), None);
        assert_eq!(sink.arrive(&Arrival { flow: 2, ..ARRIVAL }), None);
        assert_eq!(sink.arrive(&Arrival { sequence: u64::MAX, ..ARRIVAL }), None);
        sink.foreign(1_500);
        sink.corrupt(60);
        assert_eq!(sink.totals.foreign, Stray { packets: 4, bytes: 1_680 });
        assert_eq!(sink.totals.corrupt, Stray { packets: 1, bytes: 60 });
        assert_eq!((sink.totals.counts, sink.intended.count()), (Counts::default(), 0));
    }

    #[test]
    fn a_copy_and_a_packet_too_old_have_no_latency() {
        let mut sink = Sink::new(EXPECT).unwrap();
        let first = |skipped| Seen::First { skipped };
        for (sequence, seen) in [(0, first(0)), (0, Seen::Duplicate), (200, first(199)), (1, Seen::TooOld)] {
            assert_eq!(sink.arrive(&Arrival { sequence, ..ARRIVAL }), Some(seen));
        }
        assert_eq!((sink.intended.count(), sink.actual.count(), sink.totals.bytes), (2, 2, 120));
    }

    #[test]
    fn packets_together_are_counted_as_one_by_one() {
        let of = |n: u64| Arrival {
            flow: (n % 3) as u32,
            sequence: n / 3 % 29,
            arrived_ns: 1_000 + 7 * n,
            ..ARRIVAL
        };
        let arrivals: Vec<_> = (0..100).map(of).collect();
        let [mut alone, mut together] = [(); 2].map(|()| Sink::new(EXPECT).unwrap());
        let expected: Vec<_> = arrivals.iter().map(|arrival| (*arrival, alone.arrive(arrival))).collect();
        let mut told = Vec::new();
        together.arrive_all(&arrivals, |arrival, seen| told.push((*arrival, seen)));
        assert_eq!(told, expected);
        assert_eq!((together.totals, together.flow(1)), (alone.totals, alone.flow(1)));
        assert_eq!(together.intended.percentiles(), alone.intended.percentiles());
    }

    #[test]
    fn the_sender_s_clock_is_brought_to_this_host_s() {
        let mut sink = Sink::new(EXPECT).unwrap();
        sink.set_clock(Relation { ahead_ns: 1_000_000, ..Relation::SAME });
        let late = Arrival { departed_ns: 1_000_100, sent_ns: 1_000_150, ..ARRIVAL };
        sink.arrive(&late);
        assert_eq!(sink.actual.percentiles().max, 1_000);
        assert_eq!(sink.intended.percentiles().max, 1_050);
        sink.arrive(&Arrival { sequence: 1, ..late });
        sink.set_clock(Relation::SAME);
        sink.arrive(&Arrival { sequence: 2, ..late });
        assert_eq!((sink.actual.negative(), sink.actual.count()), (1, 2));
    }

    #[test]
    fn a_flow_of_two_cores_is_refused_and_nothing_changes() {
        let [mut a, mut b] = [(); 2].map(|()| Sink::new(EXPECT).unwrap());
        a.arrive(&ARRIVAL);
        b.arrive(&Arrival { sequence: 1, ..ARRIVAL });
        let before = a.totals;
        assert!(matches!(a.merge(&b), Err(SinkError::SplitFlow { flow: 0 })));
        assert_eq!(a.totals, before);
        let other = Sink::new(Expect { run: 10, ..EXPECT }).unwrap();
        assert!(matches!(a.merge(&other), Err(SinkError::OtherRun { .. })));
    }
}
