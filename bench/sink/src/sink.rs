//! The sink: takes arrivals, keeps the counts of all the nouns, and closes the books.
//!
//! Owns: the flows, both latency histograms, and totals. Refuses: packets of another run or flow; they are counted apart
//! and are in no result. A corrupt packet belongs to no flow, because its words cannot be trusted, so in its flow it is
//! lost. Keeps true: no allocation per packet. One sink is one core's; a flow must reach one core only, as a NIC's
//! receive hash sees to, because the order of two cores' packets is known to nobody.

use crate::clock::Relation;
use crate::latency::Latency;
use crate::live::Interval;
use crate::sequence::{BooksError, Counts, OFFSET_CLASSES, Seen, Tracks, Window};
use crate::summary::{Summary, Told};
use crate::variation::Variation;
use hdrhistogram::CreationError;
use thiserror::Error;

/// What a run sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expect {
    /// The run's number, which its packets carry.
    pub run: u32,
    /// Flows, numbered from 0.
    pub flows: u32,
    /// How much of each flow is remembered; see [`Window::bytes_per_flow`].
    pub window: Window,
}

/// Who wrote down when a packet arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Source {
    /// The device. Its clock is not the system's: the caller converts.
    Hardware = 0,
    /// The kernel, when it took the packet from the driver.
    Kernel = 1,
    /// The program, when it saw the packet.
    User = 2,
}

impl Source {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Hardware, Self::Kernel, Self::User];

    /// As a report calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::Kernel => "kernel",
            Self::User => "user",
        }
    }
}

/// A packet that arrived whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The run that it says it belongs to.
    pub run: u32,
    /// Its flow.
    pub flow: u32,
    /// Its number in the flow, from 0 to `u64::MAX - 1`.
    pub sequence: u64,
    /// When the schedule wanted it to depart, by the sender's clock.
    pub departed_ns: u64,
    /// When it did depart, by the sender's clock.
    pub sent_ns: u64,
    /// When it arrived, by this host's clock.
    pub arrived_ns: u64,
    /// Who says so.
    pub source: Source,
    /// Its length.
    pub bytes: u32,
}

/// Packets outside the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stray {
    /// How many.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Stray {
    const fn count(&mut self, bytes: u32) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }

    const fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// Least and greatest of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    first: u64,
    last: u64,
}

impl Span {
    const NONE: Self = Self { first: u64::MAX, last: 0 };

    fn cover(&mut self, other: Self) {
        *self = Self { first: self.first.min(other.first), last: self.last.max(other.last) };
    }

    /// Nanoseconds between them.
    pub(crate) const fn length_ns(self) -> u64 {
        self.last.saturating_sub(self.first)
    }
}

/// Totals over the flows of one or more sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) counts: Counts,
    pub(crate) bytes: u64,
    pub(crate) corrupt: Stray,
    pub(crate) foreign: Stray,
    pub(crate) sources: [u64; 3],
    pub(crate) offsets: [u64; OFFSET_CLASSES],
    pub(crate) departures: Span,
    pub(crate) arrivals: Span,
}

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
            totals: Totals {
                counts: Counts::default(),
                bytes: 0,
                corrupt: Stray::default(),
                foreign: Stray::default(),
                sources: [0; 3],
                offsets: [0; OFFSET_CLASSES],
                departures: Span::NONE,
                arrivals: Span::NONE,
            },
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
        let (ours, theirs) = (&mut self.totals, &other.totals);
        ours.counts.add(&theirs.counts);
        ours.bytes += theirs.bytes;
        ours.corrupt.add(theirs.corrupt);
        ours.foreign.add(theirs.foreign);
        ours.sources.iter_mut().zip(theirs.sources).for_each(|(ours, theirs)| *ours += theirs);
        ours.offsets.iter_mut().zip(theirs.offsets).for_each(|(ours, theirs)| *ours += theirs);
        ours.departures.cover(theirs.departures);
        ours.arrivals.cover(theirs.arrivals);
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
