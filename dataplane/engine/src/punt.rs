//! The way to the kernel: punted packets are written to a TUN device, one system call each.
//!
//! It is the slow path, and kept slow: at most [`PUNTS`] a second, so that a flood of packets for the kernel does not take
//! the worker's time. Refuses: more than that, what the kernel itself has received for a socket of ours, and what the kernel has no room for (the caller counts both). TUN carries
//! IP, so the Ethernet header stays behind; who hands over frames hands them from their IP header on.

use rustix::fd::OwnedFd;
use std::sync::Arc;
use zsync_packet::verdict::{DropReason, PortId};
use zsync_pipelines::stage::Allowance;

/// Packets a second that one worker gives to the kernel. Each costs the worker about 2 µs and the kernel as much again,
/// so this is 4 % of two cores; what a kernel has to answer or resolve on a healthy network is far less.
pub const PUNTS: u32 = 20_000;

/// A worker's way to the kernel.
#[derive(Clone, Debug)]
pub struct Punt {
    tun: Arc<OwnedFd>,
    /// Ports that are sockets of the kernel's.
    sockets: Arc<[PortId]>,
    allowance: Allowance,
}

impl Punt {
    /// By this TUN device's descriptor, opened without packet information (`IFF_NO_PI`), non-blocking. What comes by `sockets` is the
    /// kernel's already: given to it, it would come by them again.
    pub fn new(tun: Arc<OwnedFd>, sockets: Arc<[PortId]>) -> Self {
        Self { tun, sockets, allowance: Allowance::per_second(PUNTS) }
    }

    /// Whether the kernel has had this frame, which came in at `port`. What came out of a tunnel is from no station.
    pub fn is_from_kernel(&self, port: PortId, frame: &[u8]) -> bool {
        self.sockets.contains(&port) && frame.get(6..12) != Some(&[0; 6])
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
