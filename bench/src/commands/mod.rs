//! The program's commands, a file for each group: what it takes from the command line, and what is done with it.
//!
//! Refuses: to measure anything itself; that is the library's.

pub mod benchmarks;
pub mod connections;
pub mod ends;
pub mod gate;
pub mod generate;
pub mod peers;
pub mod receive;
pub mod report;
pub mod run;
pub mod search;
pub mod traffic;
