//! The sink of the place as the far end of trials: its device's own counter, as in the rounds at full rate.
//!
//! Refuses: to read packets. Keeps true: nothing but the trial's packets is on the wire, which the place sees to.

use crate::place::Part;
use anyhow::Result;
use std::time::Duration;
use zsync_ends::far::{FarEnd, Seen};
use zsync_ends::order::{Order, Sent};
use zsync_sink::clock::Step;

/// Counts what the sink's device receives. See the module.
#[derive(Debug, Default)]
pub struct Tally {
    before: u64,
    last: u64,
}

impl FarEnd for Tally {
    fn begin(&mut self, _: &Order) -> Result<()> {
        (self.before, self.last) = (Part::Sink.received("eth0")?, 0);
        Ok(())
    }

    fn counted(&mut self) -> Result<u64> {
        Ok(Part::Sink.received("eth0")?.saturating_sub(self.before))
    }

    fn line(&mut self, took: Duration) -> Result<String> {
        let counted = self.counted()?;
        let rate = (counted - self.last) as f64 / took.as_secs_f64();
        self.last = counted;
        Ok(format!("{}  received {counted}", zsync_sink::live::Rate(rate)))
    }

    fn end(&mut self, _: &Sent, _: &[Step]) -> Result<Seen> {
        Ok(Seen { received: self.counted()?, counts_valid: true, ..Seen::default() })
    }
}
