//! A sender's share of an order, packet by packet, whatever wire it goes out by.
//!
//! Keeps true: no packet leaves before its time; one that leaves later than the order's patience permits is left out and
//! counted.

use crate::order::{Order, Phase, Sent, Went};
use crate::source::Source;
use anyhow::Result;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use zsync_bench_xsk::{BURST, Duplex, Handed, Transmitter, clock};

/// How long the kernel is given to send what it has taken.
const DRAIN: Duration = Duration::from_secs(1);
/// A wait is never longer, so that a stop is seen.
const LOOK_NS: u64 = 20_000_000;
/// For how long after its end a phase may send what was to leave before.
const GRACE_NS: u64 = 100_000_000;

/// What packets are handed to.
pub(crate) trait Wire {
    /// As [`Transmitter::send`].
    fn send(&mut self, most: usize, fill: impl FnMut(&mut [u8]) -> usize) -> Result<usize>;
    /// As [`Transmitter::handed`].
    fn handed(&self) -> Handed;
    /// Waits until everything has left, but not for ever.
    fn drain(&mut self) -> Result<()>;
}

impl Wire for Transmitter {
    fn send(&mut self, most: usize, fill: impl FnMut(&mut [u8]) -> usize) -> Result<usize> {
        Ok(Self::send(self, most, fill)?)
    }

    fn handed(&self) -> Handed {
        Self::handed(self)
    }

    fn drain(&mut self) -> Result<()> {
        Self::drain(self, DRAIN)?;
        Ok(())
    }
}

impl Wire for Duplex {
    fn send(&mut self, most: usize, fill: impl FnMut(&mut [u8]) -> usize) -> Result<usize> {
        Ok(Self::send(self, most, fill)?)
    }

    fn handed(&self) -> Handed {
        Self::handed(self)
    }

    fn drain(&mut self) -> Result<()> {
        Self::drain(self, DRAIN)?;
        Ok(())
    }
}

/// One sender's part of an order.
pub(crate) struct Share<'a> {
    pub order: &'a Order,
    pub part: (u32, u32),
    pub stop: &'a AtomicBool,
    pub sent: &'a AtomicU64,
}

impl Share<'_> {
    /// Packets that this part may send.
    fn most(&self) -> u64 {
        let (part, of) = (u64::from(self.part.0), u64::from(self.part.1));
        self.order.packets.map_or(u64::MAX, |all| all / of + u64::from(part < all % of))
    }

    pub(crate) fn send(&self, wire: &mut impl Wire, source: &mut Source, start: u64) -> Result<Sent> {
        let before = wire.handed();
        let mut sent = Sent::default();
        let mut left = self.most();
        let mut from = start;
        for phase in &self.order.phases {
            source.phase(phase.rate)?;
            let went = self.phase(wire, source, phase, from, &mut left, &mut sent)?;
            sent.phases.push(went);
            // The next one begins when this one was to end, even if it is late: phases have no gap.
            from = went.to_ns;
        }
        wire.drain()?;
        let after = wire.handed();
        sent.refused = after.refused - before.refused;
        sent.pending = after.handed - after.completed;
        sent.flows = source.written(self.order.what.flows());
        Ok(sent)
    }

    fn phase(
        &self,
        wire: &mut impl Wire,
        source: &mut Source,
        phase: &Phase,
        start: u64,
        left: &mut u64,
        sent: &mut Sent,
    ) -> Result<Went> {
        let length = phase.duration.as_nanos() as u64;
        let end = start.saturating_add(length);
        let patience = self.order.patience.map_or(u64::MAX, |time| time.as_nanos() as u64);
        let mut went = Went { from_ns: start, ..Went::default() };
        let skipped = sent.skipped;
        let is_full = source.is_full();
        clock::wait_until(start);
        while *left > 0 && !self.stop.load(Ordering::Relaxed) {
            let now = clock::now();
            let elapsed = now.saturating_sub(start);
            let Some(next) = source.next() else { break };
            // What was to leave in time may leave a little late.
            if next >= length || now >= if is_full { end } else { end.saturating_add(GRACE_NS) } {
                break;
            }
            if !is_full && elapsed.saturating_sub(next) > patience {
                while source.next().is_some_and(|next| elapsed.saturating_sub(next) > patience) {
                    source.skip();
                    sent.skipped += 1;
                }
                continue;
            }
            let due = source.due(elapsed.min(length.saturating_sub(1)));
            if due == 0 {
                clock::wait_until((start + next).min(end).min(now + LOOK_NS));
                continue;
            }
            if !is_full {
                sent.late_ns = sent.late_ns.max(elapsed - next.min(elapsed));
            }
            let most = due.min(BURST).min(usize::try_from(*left).unwrap_or(usize::MAX));
            let count = wire.send(most, |frame| source.write(start, now, frame))? as u64;
            went.packets += count;
            *left -= count;
            self.sent.fetch_add(count, Ordering::Relaxed);
        }
        let now = clock::now();
        // A phase ends when it was to, unless something else ended it, or it ran over.
        let early = *left == 0 || self.stop.load(Ordering::Relaxed) || source.next().is_none();
        went.to_ns = if early { now } else { now.max(end) };
        let is_short = !is_full && *left > 0;
        let missed = if is_short { missed(source, length.min(went.to_ns.saturating_sub(start))) } else { 0 };
        went.asked = went.packets + (sent.skipped - skipped) + missed;
        Ok(went)
    }
}

/// Packets that were to leave before `elapsed` and did not; they are taken from the source.
fn missed(source: &mut Source, elapsed: u64) -> u64 {
    let mut missed = 0;
    while source.next().is_some_and(|next| next < elapsed) {
        source.skip();
        missed += 1;
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Rate;

    #[test]
    fn parts_share_the_packets_to_the_last_one() {
        let order = Order {
            what: crate::source::What::Capture {
                path: "".into(),
                timing: zsync_traffic::replay::Timing::Original,
                rounds: 1,
            },
            run: 1,
            phases: vec![Phase { rate: Rate::Full, duration: Duration::from_secs(1) }],
            packets: Some(11),
            log: false,
            readable: None,
            patience: None,
        };
        let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        let most = |part| Share { order: &order, part: (part, 4), stop: &stop, sent: &sent }.most();
        assert_eq!([0, 1, 2, 3].map(most), [3, 3, 3, 2]);
    }
}
