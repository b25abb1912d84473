//! Packet memory and packet headers: frames, pools, bursts, header views.
//!
//! What a packet is, where it lies and who owns it; nothing here makes a system call.

pub mod burst;
pub mod checksum;
pub mod crc;
pub mod facts;
pub mod flow;
pub mod frame;
pub mod header;
pub mod ledger;
pub mod pool;
pub mod region;
pub mod rewrite;
pub mod verdict;
