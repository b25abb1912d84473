//! The way to the kernel: punted packets are written to a TUN device, one system call each.
//!
//! It is the slow path, and kept slow: at most [`PUNTS`] a second, so that a flood of packets for the kernel does not take
//! the worker's time. Refuses: more than that, and what the kernel has no room for (the caller counts both). TUN carries
//! IP, so the Ethernet header stays behind; who hands over frames hands them from their IP header on.

use rustix::fd::OwnedFd;
use std::sync::Arc;
use zsync_packet::verdict::DropReason;
use zsync_pipelines::stage::Allowance;

/// Packets a second that one worker gives to the kernel. Each costs the worker about 2 µs and the kernel as much again,
/// so this is 4 % of two cores; what a kernel has to answer or resolve on a healthy network is far less.
pub const PUNTS: u32 = 20_000;

/// A worker's way to the kernel.
#[derive(Clone, Debug)]
pub struct Punt {
    tun: Arc<OwnedFd>,
    allowance: Allowance,
}

impl Punt {
    /// By this TUN device's descriptor, opened without packet information (`IFF_NO_PI`), non-blocking.
    pub fn new(tun: Arc<OwnedFd>) -> Self {
        Self { tun, allowance: Allowance::per_second(PUNTS) }
    }

    /// Gives the kernel the IP packet that `packet` starts with.
    ///
    /// # Errors
    /// Why it was not given.
    pub fn give(&mut self, packet: &[u8], now: u64) -> Result<(), DropReason> {
        if packet.is_empty() {
            return Err(DropReason::PuntFailed);
        }
        if !self.allowance.take(now) {
            return Err(DropReason::PuntLimited);
        }
        match rustix::io::write(&*self.tun, packet) {
            Ok(_) => Ok(()),
            Err(_) => Err(DropReason::PuntFailed),
        }
    }
}
