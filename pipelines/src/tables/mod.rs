//! Tables that stages look things up in.

#![forbid(unsafe_code)]

pub mod backends;
pub mod capture_ring;
pub mod classify;
pub mod connections;
pub mod cryptokey;
pub mod fib;
pub mod flow;
pub mod fragments;
pub mod index;
pub mod maglev;
pub mod meter;
pub mod nat;
pub mod parked;
pub mod records;
