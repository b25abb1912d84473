//! The receiver of a benchmark: what arrived, what was lost, how late it was, and whether that is a measurement.
//!
//! No input or output, no clock: whoever receives says what arrived and when, in nanoseconds. Depends on no other crate
//! of the workspace. One [`Sink`] counts for one core, without allocation or locks; sinks of several cores are merged.

#![forbid(unsafe_code)]

pub mod arrival;
pub mod clock;
pub mod latency;
pub mod live;
pub mod sequence;
pub mod sink;
pub mod summary;
pub mod totals;
pub mod variation;
pub mod verdict;

pub use arrival::{Arrival, Expect, Source};
pub use sink::{Sink, SinkError};
pub use summary::{Summary, Told};
pub use verdict::Verdict;
