//! Verdicts: what makes a result no measurement.
//!
//! Owns: the list of reasons and their words. Refuses: to mend a result. It stands as counted, with the reasons beside it,
//! and whoever reads it runs again.

use crate::clock::Step;
use crate::live::Nanos;
use crate::sequence::ratio;
use std::fmt;

/// What a verdict takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoils {
    /// Nothing in the result measures the device under test.
    All,
    /// The counts stand; the latencies do not.
    Latency,
}

/// A reason why a result is no measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing arrived.
    NoPackets,
    /// The generator sent more than 1 % less than was asked of it, so it was the bottleneck.
    GeneratorTooSlow {
        /// Packets that the run asked for.
        asked: u64,
        /// Packets that were sent.
        offered: u64,
    },
    /// The sink's host dropped packets itself, so they are no loss of the device under test.
    SinkDropped {
        /// How many.
        packets: u64,
    },
    /// Others' packets shared the way.
    Foreign {
        /// How many.
        packets: u64,
    },
    /// Packets came from before the window, so loss and copies cannot be told apart.
    TooOld {
        /// How many.
        packets: u64,
    },
    /// A clock was set during the run.
    ClockStepped {
        /// When, and by how much.
        step: Step,
    },
    /// Packets arrived before they departed: the clocks' relation is wrong.
    Negative {
        /// How many.
        packets: u64,
    },
    /// Latencies were too great to be told apart.
    Saturated {
        /// How many.
        packets: u64,
    },
    /// The clocks' relation may be wrong by more than half of the median latency.
    ClockUncertain {
        /// By how much it may be wrong.
        error_ns: u64,
        /// The median from the actual departure.
        p50_ns: u64,
    },
    /// Arrivals were stamped in more than one place, so that latencies compare different ways.
    MixedSources,
}

impl Verdict {
    /// What it takes away.
    pub const fn spoils(&self) -> Spoils {
        match self {
            Self::NoPackets
            | Self::GeneratorTooSlow { .. }
            | Self::SinkDropped { .. }
            | Self::Foreign { .. }
            | Self::TooOld { .. } => Spoils::All,
            Self::ClockStepped { .. }
            | Self::Negative { .. }
            | Self::Saturated { .. }
            | Self::ClockUncertain { .. }
            | Self::MixedSources => Spoils::Latency,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoPackets => {
                write!(f, "no packet arrived: look at the link, the filters and the addresses")
            }
            Self::GeneratorTooSlow { asked, offered } => write!(
                f,
                "the generator was the bottleneck: it offered {offered} packets, {:.2} % of the {asked} asked of it; \
                 ask for less, or give it more cores",
                ratio(offered, asked) * 100.0
            ),
            Self::SinkDropped { packets } => write!(
                f,
                "the sink dropped {packets} packets of its own: give it more cores or a longer ring, or offer less"
            ),
            Self::Foreign { packets } => {
                write!(f, "{packets} packets of others shared the way: run where there is no other traffic")
            }
            Self::TooOld { packets } => write!(
                f,
                "{packets} packets came from before the window: the loss may be less by as many; take a wider window"
            ),
            Self::ClockStepped { step } => write!(f, "{step}: stop what sets it while a run goes on"),
            Self::Negative { packets } => {
                write!(f, "{packets} packets arrived before they departed: relate the clocks, and more often")
            }
            Self::Saturated { packets } => {
                write!(f, "{packets} latencies above 100 s, the limit: look at the clocks before the network")
            }
            Self::ClockUncertain { error_ns, p50_ns } => write!(
                f,
                "the clocks may differ by {}, more than half of the median latency of {}: exchange times over a quieter way, \
                 or measure round trips",
                Nanos(error_ns as f64),
                Nanos(p50_ns as f64)
            ),
            Self::MixedSources => {
                write!(
                    f,
                    "arrivals were stamped in more than one place: take hardware, kernel or user stamps alone"
                )
            }
        }
    }
}
