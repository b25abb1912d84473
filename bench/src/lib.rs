//! Traffic generator and measurements.
//!
//! ```text
//!   machine, tsc     what it is measured on, and in which clocks
//!   report           samples, their spread, ratios pair by pair; a table or JSON
//!   traffic          the packets, and the tables that they are routed by
//!   memory           the engine's own worker between two null devices
//!   testpmd          DPDK's forwarder, in the same run
//! ```
//!
//! Every comparison alternates: A B A B, in one run, and what is reported of it is the ratio of each pair. On a machine that
//! does other things besides, nothing else means much.
#![deny(unsafe_code)]

pub mod machine;
pub mod memory;
pub mod report;
pub mod testpmd;
pub mod traffic;
pub mod tsc;
