//! Tables that stages look things up in.

#![forbid(unsafe_code)]

pub mod backends;
pub mod connections;
pub mod fib;
pub mod flow;
pub mod index;
pub mod maglev;
pub mod nat;
pub mod records;
