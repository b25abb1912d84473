//! The control process: configuration, eBPF, descriptors, supervision.

pub mod netlink;
pub mod xdp;
pub mod daemon;
pub mod raw;
