//! An order: what one trial sends, in phases of a rate each.

use crate::source::What;
use std::time::Duration;
use zsync_traffic::pace::Shape;

/// How a phase's packets lie in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// As many as go.
    Full,
    /// Packets per second, of all senders together, in that shape.
    Shaped(u64, Shape),
}

/// A time with one rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Its rate.
    pub rate: Rate,
    /// How long it lasts.
    pub duration: Duration,
}

/// What one trial sends.
#[derive(Clone, Debug)]
pub struct Order {
    /// The packets.
    pub what: What,
    /// The trial's number, which its packets carry.
    pub run: u32,
    /// One after the other, without a gap.
    pub phases: Vec<Phase>,
    /// The trial ends after as many packets, of all senders together.
    pub packets: Option<u64>,
    /// Whether the arrivals of a single flow are written down, packet by packet: 16 bytes each.
    pub log: bool,
    /// At most that many packets a second have to be readable; the others may be only load, where the sender can tell them
    /// apart. `None`: all have to be.
    pub readable: Option<u64>,
    /// How late a packet may leave. Those that would leave later are left out: a sender that was held up does not make up
    /// for it with a storm. Without it every packet leaves, as late as it may be, and its latency counts from when it
    /// was to leave.
    pub patience: Option<Duration>,
}

impl Order {
    /// How long it takes, packets permitting.
    pub fn duration(&self) -> Duration {
        self.phases.iter().map(|phase| phase.duration).sum()
    }

    /// At most as many packets will be sent; at full rate nobody knows.
    pub fn most(&self) -> u64 {
        let of = |phase: &Phase| match phase.rate {
            Rate::Full => u64::MAX,
            Rate::Shaped(rate, shape) => {
                let peak = if let Shape::Ramp { to, .. } = shape { to.max(rate) } else { rate };
                // Poisson's packets are more than their mean at times.
                (peak as f64 * phase.duration.as_secs_f64() * 1.1) as u64 + 1000
            }
        };
        let phases = self.phases.iter().map(of).fold(0, u64::saturating_add);
        phases.min(self.packets.unwrap_or(u64::MAX))
    }
}

/// One phase, as it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Went {
    /// Packets that were to leave.
    pub asked: u64,
    /// Packets that were handed to the device.
    pub packets: u64,
    /// When it began, in nanoseconds of `CLOCK_MONOTONIC`.
    pub from_ns: u64,
    /// When it ended.
    pub to_ns: u64,
}

impl Went {
    /// Packets per second that were reached.
    pub fn rate(&self) -> f64 {
        let time = self.to_ns.saturating_sub(self.from_ns);
        if time == 0 { 0.0 } else { self.packets as f64 * 1e9 / time as f64 }
    }

    /// Takes in another sender's share of the phase.
    fn join(&mut self, other: &Self) {
        self.asked += other.asked;
        self.packets += other.packets;
        self.from_ns = self.from_ns.min(other.from_ns);
        self.to_ns = self.to_ns.max(other.to_ns);
    }
}

/// An order, as it went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Phase by phase.
    pub phases: Vec<Went>,
    /// Packets of each flow; empty for a capture, which has none.
    pub flows: Vec<u64>,
    /// Packets besides those, which are only load: they are counted at the far end, and not read.
    pub load: u64,
    /// Packets that were left out, as they were too late.
    pub skipped: u64,
    /// Packets that the device refused. They are among the sent ones of the phases, and of their flows.
    pub refused: u64,
    /// The latest that a packet was behind its time, in nanoseconds.
    pub late_ns: u64,
    /// Packets that the kernel had not returned a second after the end: on their way still, or lost with their device.
    pub pending: u64,
}

impl Sent {
    /// Packets that were to leave.
    pub fn asked(&self) -> u64 {
        self.phases.iter().map(|phase| phase.asked).fold(0, u64::saturating_add)
    }

    /// Packets that were handed to the device.
    pub fn packets(&self) -> u64 {
        self.phases.iter().map(|phase| phase.packets).fold(0, u64::saturating_add)
    }

    /// Packets that were handed to the device, load among them.
    pub fn all(&self) -> u64 {
        self.packets().saturating_add(self.load)
    }

    /// From the first phase's begin to the last one's end.
    pub fn duration(&self) -> Duration {
        let ends = self.phases.first().zip(self.phases.last());
        Duration::from_nanos(ends.map_or(0, |(first, last)| last.to_ns.saturating_sub(first.from_ns)))
    }

    /// Packets per second that were reached, over all phases.
    pub fn rate(&self) -> f64 {
        let seconds = self.duration().as_secs_f64();
        if seconds > 0.0 { self.all() as f64 / seconds } else { 0.0 }
    }

    /// Takes in what another sender did of the same order.
    pub(crate) fn join(&mut self, other: Self) {
        self.phases.iter_mut().zip(&other.phases).for_each(|(ours, theirs)| ours.join(theirs));
        self.flows.iter_mut().zip(other.flows).for_each(|(ours, theirs)| *ours += theirs);
        self.load += other.load;
        self.skipped += other.skipped;
        self.refused += other.refused;
        self.pending += other.pending;
        self.late_ns = self.late_ns.max(other.late_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_add_up_and_phases_last_from_the_first_to_begin_to_the_last_to_end() {
        let went = |packets, from_ns, to_ns| Went { asked: packets + 1, packets, from_ns, to_ns };
        let share = |flows: [u64; 2], a, b| Sent {
            phases: vec![a, b],
            flows: flows.to_vec(),
            late_ns: flows[0],
            ..Sent::default()
        };
        let second = 1_000_000_000;
        let mut sent = share([7, 0], went(4, 0, second), went(3, second, 2 * second));
        sent.join(share([0, 5], went(4, 10, second + 10), went(1, second + 10, 4 * second)));
        assert_eq!((sent.asked(), sent.packets(), sent.flows.clone(), sent.late_ns), (16, 12, vec![7, 5], 7));
        assert_eq!((sent.duration(), sent.rate()), (Duration::from_secs(4), 3.0));
        assert_eq!(sent.phases[1].rate(), 4.0 / 3.0);
        assert_eq!((Sent::default().rate(), Went::default().rate()), (0.0, 0.0));
    }
}
