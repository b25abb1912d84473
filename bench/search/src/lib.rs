//! Searches for what a device can carry: throughput, bursts, recovery, connections.
//!
//! Owns the choice of the next trial and the judgement of the last one. Does no input or output and reads no clock: trials
//! are the caller's, and time is the sum of their durations.
//!
//! Keeps true: a trial in which the generator fell short of what it was asked for is no measurement of the device. No bound
//! lies above what was offered, and a search that the generator ended says so.

#![forbid(unsafe_code)]

pub mod back_to_back;
pub mod connections;
pub mod latency;
pub mod mlr;
pub mod mrr;
pub mod recovery;
pub mod reset;
pub mod rfc2544;
pub mod run;
pub mod simulated;
pub mod trial;
