//! What a traffic generator sends, and when.
//!
//! No clock, no sockets, no threads: time comes in as nanoseconds, packets go out as bytes in memory that the caller has.
//! The one thing read is a capture that the caller opened. All that looks random comes from a seed, so a run can be had
//! again, packet for packet.

#![forbid(unsafe_code)]

pub mod flows;
pub mod pace;
pub mod probe;
pub mod profile;
pub mod random;
pub mod replay;
pub mod share;
pub mod size;
pub mod stream;
pub mod sweep;
pub mod template;
mod turns;
mod zipf;
