//! AF_PACKET: a socket that frames of a netdev come by and go by, where AF_XDP cannot be had.
//!
//! Owns: a socket that somebody else (the control process) opened, bound to a netdev and gave a filter, with a
//! [header of the kernel's](crate::virtio) ahead of each frame and the VLAN tag beside it; and what one call brought until all of it
//! is packets. The kernel leaves checksums and segmentation to who reads: sums are filled in, what stands for several packets
//! comes out as these, a tag that was taken off is put back. Refuses: frames whose header does not fit them or that no frame of ours
//! holds (counted); what the kernel does not send (stays with the caller, as [unfit](Device::unfit)). Keeps true: it never holds a frame
//! between two calls; frames come out in the order in which they came.
//!
//! The kernel copies, and a call carries up to 32 frames in and 64 out. An empty socket is not asked again for a few passes, as with
//! TUN. What a killed process had taken and not yet made packets of, one call's frames at most, is lost like what it had in its hands; what
//! waits in the socket is not.

mod held;
mod message;

use crate::device::{Device, DeviceCounters};
use held::Held;
use message::Sent;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use zsync_packet::burst::{BURST, Burst, Packet};
use zsync_packet::frame::HEADROOM;
use zsync_packet::pool::Pool;
use zsync_packet::verdict::PortId;

/// Passes that an empty socket is left alone for: a call that brings nothing costs some 200 ns.
const REST: u32 = 8;

/// Most calls for one burst: of frames that are refused there may be as many as somebody likes to send.
const READS: usize = 8;

/// A socket. See the module.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
    port: PortId,
    held: Held,
    resting: u32,
    unfit: usize,
    counters: DeviceCounters,
}

impl PacketSocket {
    /// By a socket that is bound to the netdev of `port`, non-blocking, with `PACKET_VNET_HDR` and `PACKET_AUXDATA`.
    pub fn new(socket: OwnedFd, port: PortId) -> Self {
        let counters = DeviceCounters::default();
        Self { socket, port, held: Held::new(), resting: 0, unfit: 0, counters }
    }

    /// Makes packets of what is held, as far as there is room; whether all of it is packets now.
    fn unpack(&mut self, pool: &mut Pool, burst: &mut Burst) -> bool {
        let longest = pool.arena().frame_size().longest_packet() as u16;
        while !self.held.is_empty() {
            if burst.room() == 0 {
                return false;
            }
            let Some(mut frame) = pool.alloc() else {
                self.counters.fill_starved += 1;
                return false;
            };
            let start = HEADROOM as u16;
            let written = self.held.write(pool.arena().bytes_mut(&mut frame, start, longest));
            let Some(len) = written else {
                self.counters.rx_refused += 1;
                pool.free(frame);
                continue;
            };
            if let Err(packet) = burst.push(Packet { frame, start, len: len as u16, port: self.port }) {
                pool.free(packet.frame);
            }
        }
        true
    }
}

impl Device for PacketSocket {
    fn rx_burst(&mut self, pool: &mut Pool, burst: &mut Burst) -> usize {
        if self.resting > 0 {
            self.resting -= 1;
            return 0;
        }
        let before = burst.len();
        let mut more = true;
        for _ in 0..READS {
            if !self.unpack(pool, burst) || burst.room() == 0 || !more {
                break;
            }
            match self.held.fill(self.socket.as_fd(), burst.room()) {
                Ok(full) => more = full,
                // The kernel has no header for what was there, and has dropped it (`packet_rcv_vnet`).
                Err(Errno::INVAL) => self.counters.rx_refused += 1,
                Err(Errno::INTR) => {}
                // Nothing is there, or the netdev is down: it has nothing until it is up.
                Err(_) => break,
            }
        }
        self.counters.split += self.held.take_split();
        let came = burst.len() - before;
        if came == 0 && self.held.is_empty() {
            self.resting = REST;
        }
        came
    }

    fn tx_burst(&mut self, pool: &mut Pool, packets: &mut Vec<Packet>) -> usize {
        let (mut unfit, mut at) = (0, 0);
        while let Some(rest) = packets.get(at..).filter(|rest| !rest.is_empty()) {
            let frames = rest.iter().map(|packet| bytes(pool, packet));
            let Sent { done, refused, unreadable, calls } = message::send(self.socket.as_fd(), frames);
            let is_full = done < rest.len().min(BURST);
            self.counters.kicks += calls;
            self.counters.rx_refused += unreadable;
            // Nobody waits behind what is refused.
            for n in (0..done).filter(|n| refused >> n & 1 == 1) {
                packets.swap(unfit, at + n);
                unfit += 1;
            }
            at += done;
            if is_full {
                break;
            }
        }
        self.unfit = unfit;
        pool.free_many(packets.drain(unfit..at).map(|packet| packet.frame));
        at - unfit
    }

    fn unfit(&self) -> usize {
        self.unfit
    }

    fn pending(&self) -> bool {
        !self.held.is_empty()
    }

    fn waitable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn counters(&self) -> &DeviceCounters {
        &self.counters
    }
}

fn bytes<'p>(pool: &'p Pool, packet: &'p Packet) -> &'p [u8] {
    pool.arena().bytes(&packet.frame, packet.start, packet.len)
}

#[cfg(test)]
mod tests;
