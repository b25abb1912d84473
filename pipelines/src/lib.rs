//! Stages, tables, the configuration and its compiler.
//!
//! ```text
//!   TOML ──spec──▶ Spec ──compile──▶ Snapshot ──▶ a worker runs bursts through it
//!                                       ▲
//!                      tables (the FIB) ┘
//! ```
//!
//! Nothing here does I/O, and nothing needs `unsafe`.

#![forbid(unsafe_code)]

pub mod compile;
pub mod plan;
pub mod snapshot;
pub mod spec;
pub mod stage;
pub mod stages;
pub mod state;
pub mod tables;
pub mod trace;
