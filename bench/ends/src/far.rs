//! The far end of a trial, wherever it is and whatever it makes of the packets.

use crate::order::{Order, Sent};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use zsync_sink::clock::Step;

/// What counts, or reads, what comes out of the device under test.
pub trait FarEnd {
    /// Forgets what was before, and is ready for this order's packets when it returns.
    ///
    /// # Errors
    /// It cannot expect such packets; another host cannot be reached.
    fn begin(&mut self, order: &Order) -> Result<()>;

    /// Packets of the order that have come so far; copies may be among them.
    ///
    /// # Errors
    /// They cannot be counted; another host cannot be reached.
    fn counted(&mut self) -> Result<u64>;

    /// Called some 20 times a second during a trial: keeps two hosts' clocks related.
    ///
    /// # Errors
    /// Another host cannot be reached.
    fn keep(&mut self) -> Result<()> {
        Ok(())
    }

    /// What is to be seen meanwhile, for the time since the last line.
    ///
    /// # Errors
    /// As of [`Self::counted`].
    fn line(&mut self, took: Duration) -> Result<String>;

    /// Closes the books: nothing can arrive any more.
    ///
    /// # Errors
    /// What arrived and what was sent contradict each other; another host cannot be reached.
    fn end(&mut self, sent: &Sent, steps: &[Step]) -> Result<Seen>;
}

impl<F: FarEnd + ?Sized> FarEnd for Box<F> {
    fn begin(&mut self, order: &Order) -> Result<()> {
        (**self).begin(order)
    }

    fn counted(&mut self) -> Result<u64> {
        (**self).counted()
    }

    fn keep(&mut self) -> Result<()> {
        (**self).keep()
    }

    fn line(&mut self, took: Duration) -> Result<String> {
        (**self).line(took)
    }

    fn end(&mut self, sent: &Sent, steps: &[Step]) -> Result<Seen> {
        (**self).end(sent, steps)
    }
}

/// Quantiles of a trial's latency, in nanoseconds from when each packet was to leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// The least.
    pub min: u64,
    /// The median.
    pub p50: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The 99.9th percentile.
    pub p999: u64,
    /// The greatest.
    pub max: u64,
}

impl From<Latency> for zsync_search::trial::Latency {
    fn from(Latency { min, p50, p90, p99, p999, max }: Latency) -> Self {
        Self { min, p50, p90, p99, p999, max }
    }
}

/// What the far end saw of one trial.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Packets that came, copies not counted where they can be told apart.
    pub received: u64,
    /// Packets that were only load and came.
    pub load: u64,
    /// Packets of others, which the order's were among.
    pub foreign: u64,
    /// Packets that this end's own host lost.
    pub dropped_here: u64,
    /// Of the packets that came; `None` where they were only counted, or the times cannot be trusted.
    pub latency: Option<Latency>,
    /// Part of the packets, from 0 to 1, and the nanoseconds within which they came; by rising part.
    pub curve: Vec<(f64, u64)>,
    /// When the last lost packet of which a later one came was sent, by the sender's clock, to the packet before or after.
    pub last_lost_ns: Option<u64>,
    /// Number and time of each packet that came, by this host's clock, where the order has one flow and asked for it.
    pub arrivals: Vec<(u64, u64)>,
    /// Why this is no measurement; empty where it is one.
    pub verdicts: Vec<String>,
    /// Whether what was counted is a measurement, whatever the times are.
    pub counts_valid: bool,
    /// Everything, for a reader.
    pub text: String,
}
