//! UDP: a socket whose datagrams are packets, where the kernel does what is below: IP, routes, neighbours, any device.
//!
//! Owns: a socket that somebody else (the control process) opened and bound, and what one message brought until all of it is
//! packets. A datagram comes behind headers that the device writes, so that pipelines see what they see elsewhere; of a frame that
//! leaves, the headers say where it goes, and the kernel writes its own. Refuses: frames that are no whole UDP from the socket's
//! port, and what the kernel refuses (both stay with the caller, and are [unfit](Device::unfit)). Keeps true: it never holds a frame between
//! two calls; what the kernel meets with one message stops no other.
//!
//! A call carries many: the kernel joins datagrams of one sender (`UDP_GRO`) and takes runs of them apart (`UDP_SEGMENT`), so the
//! way through it is paid once for up to 64. An empty socket is not asked again for a few passes, as with TUN.
//!
//! A frame's flow label and its "don't fragment" are not the datagram's: the kernel has its own. What a killed process had taken and
//! not yet made packets of, 64 KiB at most, is lost like what it had in its hands.

mod held;
mod message;
mod run;
mod sender;

use crate::device::{Device, DeviceCounters};
use held::Held;
use message::Way;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use sender::Sender;
use std::io::IoSlice;
use std::net::SocketAddr;
use zsync_packet::burst::{BURST, Burst, Packet};
use zsync_packet::frame::HEADROOM;
use zsync_packet::pool::Pool;
use zsync_packet::verdict::PortId;

/// Most messages for one burst: of those that are refused there may be as many as somebody likes to send.
const READS: usize = BURST;

/// Passes that an empty socket is left alone for: a call that brings nothing costs some 200 ns.
const REST: u32 = 8;
/// Packets with which a pass has enough to do: another call could bring more than there is room for.
const ENOUGH: usize = BURST / 2;

/// A socket. See the module.
#[derive(Debug)]
pub struct Udp {
    socket: OwnedFd,
    /// What it is bound to.
    local: SocketAddr,
    port: PortId,
    mac: [u8; 6],
    held: Held,
    resting: u32,
    sender: Sender,
    counters: DeviceCounters,
}

impl Udp {
    /// By a socket that is bound to `local`. Datagrams look as if a station had sent them to `mac`, the port's address.
    pub fn new(socket: OwnedFd, local: SocketAddr, port: PortId, mac: [u8; 6]) -> Self {
        let (held, sender) = (Held::new(), Sender::new(local.port()));
        Self { socket, local, port, mac, held, resting: 0, sender, counters: DeviceCounters::default() }
    }

    /// Takes a message from the kernel; whether there was one.
    fn receive(&mut self) -> bool {
        // An error says that there is nothing, or what an earlier message has met; in a later pass there may be more.
        let came = message::receive(self.socket.as_fd(), self.held.buffer());
        came.map(|message| self.held.fill(message)).is_ok()
    }

    /// Makes packets of what is held, as far as there is room; whether all of it is packets now.
    fn unpack(&mut self, pool: &mut Pool, burst: &mut Burst) -> bool {
        let longest = pool.arena().frame_size().longest_packet();
        while !self.held.is_empty() {
            let len = self.held.next_len();
            if len > longest {
                self.counters.rx_refused += 1;
                self.held.skip();
                continue;
            }
            if burst.room() == 0 {
                return false;
            }
            let Some(mut frame) = pool.alloc() else {
                self.counters.fill_starved += 1;
                return false;
            };
            let (start, len) = (HEADROOM as u16, len as u16);
            let place = pool.arena().bytes_mut(&mut frame, start, len);
            if !self.held.write(place, self.mac, self.local.port()) {
                self.counters.rx_refused += 1;
                pool.free(frame);
                continue;
            }
            if let Err(packet) = burst.push(Packet { frame, start, len, port: self.port }) {
                pool.free(packet.frame);
            }
        }
        true
    }
}

impl Device for Udp {
    fn rx_burst(&mut self, pool: &mut Pool, burst: &mut Burst) -> usize {
        if self.resting > 0 {
            self.resting -= 1;
            return 0;
        }
        let before = burst.len();
        for _ in 0..READS {
            let more = self.unpack(pool, burst) && burst.room() > 0 && burst.len() < before + ENOUGH;
            if !more || !self.receive() {
                break;
            }
        }
        let came = burst.len() - before;
        if came == 0 && self.held.is_empty() {
            self.resting = REST;
        }
        came
    }

    fn tx_burst(&mut self, pool: &mut Pool, packets: &mut Vec<Packet>) -> usize {
        let Self { socket, local, sender, counters, .. } = self;
        let kernel = |way: &Way, parts: &[IoSlice<'_>], segment| {
            message::send(socket.as_fd(), local.is_ipv6(), way, parts, segment)
        };
        sender.transmit(pool, packets, counters, kernel)
    }

    fn pending(&self) -> bool {
        !self.held.is_empty()
    }

    fn unfit(&self) -> usize {
        self.sender.unfit()
    }

    fn waitable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn counters(&self) -> &DeviceCounters {
        &self.counters
    }
}

#[cfg(test)]
mod tests;
