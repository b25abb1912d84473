//! Tables that stages look things up in.

#![forbid(unsafe_code)]

pub mod classify;
pub mod fib;
pub mod flow;
pub mod index;
pub mod meter;
pub mod nat;
pub mod records;
