//! The control process: configuration, eBPF, descriptors, supervision.

pub mod api;
mod calendar;
pub mod ctl;
pub mod daemon;
pub mod explain;
pub mod health;
pub mod keys;
pub mod lists;
pub mod log;
pub mod netlink;
pub mod programs;
pub mod raw;
pub mod uapi;
pub mod xdp;
