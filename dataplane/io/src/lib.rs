//! Devices: where packets come from and go to.
//!
//! One trait, [`device::Device`], and what implements it: AF_XDP sockets, packet sockets, TUN devices, UDP sockets, capture files, memory.

pub mod device;
mod mapping;
pub mod memory;
pub mod packet;
pub mod pcap;
pub mod ring;
pub mod tun;
pub mod udp;
pub mod uring;
pub mod virtio;
pub mod xsk;
